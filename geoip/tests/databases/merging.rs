use geoip::{GeoDatabases, Place};
use serde_json::json;

use crate::sample::Sample;

fn databases(samples: &[Sample]) -> GeoDatabases {
    samples.iter().map(Sample::open).collect()
}

fn ask<'db>(databases: &'db GeoDatabases, address: &str) -> Place<'db> {
    databases.lookup(address.parse().unwrap())
}

fn codes(place: &Place<'_>) -> Vec<String> {
    place.countries().iter().map(|country| country.to_string()).collect()
}

fn in_country(network: &str, code: &str) -> Sample {
    Sample::new("Sample").with(network, json!({"country": {"iso_code": code}}))
}

#[test]
fn no_database_knows_no_place() {
    assert_eq!(ask(&GeoDatabases::default(), "81.2.69.142"), Place::default());
}

#[test]
fn addresses_that_are_not_listed_are_unknown() {
    let databases = databases(&[in_country("81.2.69.0/24", "GB")]);
    for address in ["10.0.0.1", "127.0.0.1", "81.2.70.1", "::1", "fe80::1", "2001:db8::1", "0.0.0.0", "::"] {
        assert_eq!(ask(&databases, address), Place::default(), "{address}");
    }
}

#[test]
fn ipv4_and_its_wrappings_are_one_address() {
    let databases = databases(&[in_country("81.2.69.0/24", "GB").with("2a02:8100::/32", json!({"country": "DE"}))]);
    for (address, expected) in [
        ("81.2.69.142", vec!["GB"]),
        ("::ffff:81.2.69.142", vec!["GB"]),
        ("2002:5102:458e::1", vec!["GB"]),
        ("2001:0:4136:e378:8000:63bf:aefd:ba71", vec!["GB"]),
        ("2a02:8100::1", vec!["DE"]),
        ("2a02:8101::1", vec![]),
    ] {
        assert_eq!(codes(&ask(&databases, address)), expected, "{address}");
    }
}

#[test]
fn an_ipv4_only_database_has_no_say_on_ipv6() {
    let old = Sample::ipv4_only("Sample").with("81.2.69.0/24", json!({"country": "GB"}));
    let databases = databases(&[old, in_country("2a02:8100::/32", "DE")]);
    assert_eq!(codes(&ask(&databases, "81.2.69.142")), ["GB"]);
    assert_eq!(codes(&ask(&databases, "2002:5102:458e::1")), ["GB"]);
    assert_eq!(codes(&ask(&databases, "2a02:8100::1")), ["DE"]);
}

#[test]
fn disagreement_is_told() {
    let databases = databases(&[
        in_country("81.2.69.0/24", "GB"),
        in_country("81.2.69.128/25", "IE"),
        in_country("81.2.69.142/32", "EU").with("9.9.9.9/32", json!({"country": "US"})),
        in_country("81.2.69.142/32", "FR"),
    ]);
    let place = ask(&databases, "81.2.69.142");
    assert_eq!(place.country.map(|country| country.to_string()), Some("GB".into()));
    assert_eq!(codes(&place), ["FR", "GB", "IE"]);
    assert_eq!(codes(&ask(&databases, "81.2.69.200")), ["GB", "IE"]);
    assert_eq!(codes(&ask(&databases, "81.2.69.1")), ["GB"]);
}

#[test]
fn each_database_adds_what_it_knows() {
    let databases = databases(&[
        in_country("81.2.69.0/24", "GB"),
        Sample::new("ASN").with("81.2.0.0/16", json!({"autonomous_system_number": 64500})),
        Sample::new("Anonymous").with("81.2.69.142/32", json!({"is_tor_exit_node": true})),
        Sample::new("City").with("81.2.69.0/24", json!({"country": "GB", "region": "England", "city": "London"})),
    ]);
    let place = ask(&databases, "81.2.69.142");
    assert_eq!(codes(&place), ["GB"]);
    assert_eq!((place.region, place.city, place.asn), (Some("England"), Some("London"), Some(64500)));
    assert!(place.anonymous);
    assert!(!ask(&databases, "81.2.69.1").anonymous);
}
