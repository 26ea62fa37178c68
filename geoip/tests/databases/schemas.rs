use geoip::{GeoDatabases, Place};
use serde::Serialize;
use serde_json::{Value, json};

use crate::sample::Sample;

/// What is read of one record.
#[derive(Debug, PartialEq)]
struct Answer {
    country: Option<String>,
    region: Option<String>,
    city: Option<String>,
    asn: Option<u32>,
    organization: Option<String>,
    anonymous: bool,
}

impl From<Place<'_>> for Answer {
    fn from(place: Place<'_>) -> Self {
        Self {
            country: place.country.map(|country| country.to_string()),
            region: place.region.map(Into::into),
            city: place.city.map(Into::into),
            asn: place.asn,
            organization: place.organization.map(Into::into),
            anonymous: place.anonymous,
        }
    }
}

const NOTHING: Answer =
    Answer { country: None, region: None, city: None, asn: None, organization: None, anonymous: false };

/// The degrees that are read of a record in Germany.
fn degrees(record: serde_json::Value) -> Option<(f64, f64)> {
    let sample = Sample::new("Sample").with("81.2.69.0/24", record).with("9.9.9.9/32", json!({"country": "US"}));
    let databases: GeoDatabases = [sample.open()].into_iter().collect();
    databases.lookup("81.2.69.142".parse().unwrap()).coordinates.map(|at| at.degrees())
}

#[test]
fn coordinates() {
    let munich = Some((48.1, 11.6));
    let nested = |location: serde_json::Value| json!({"country": {"iso_code": "DE"}, "location": location});
    for (record, expected) in [
        (nested(json!({"latitude": 48.1374, "longitude": 11.5755, "accuracy_radius": 20, "time_zone": "x"})), munich),
        (nested(json!({"latitude": 48.1374, "longitude": 11.5755})), munich),
        (nested(json!({"latitude": 48.1374, "longitude": 11.5755, "accuracy_radius": 1000})), None),
        (nested(json!({"latitude": 48.1374})), None),
        (nested(json!({"latitude": 148.1, "longitude": 11.5})), None),
        (nested(json!({"latitude": [1], "longitude": {"a": 1}})), None),
        (nested(json!("Munich")), None),
        (nested(json!([48.1, 11.6])), None),
        (nested(json!(48.1)), None),
        (json!({"country": "DE", "lat": "48.13743", "lng": "11.57549"}), munich),
        (json!({"country_code": "DE", "latitude": 48.1374, "longitude": 11.5755}), munich),
        (json!({"country_code": "DE", "latitude": 0.0, "longitude": 0.0}), None),
        (json!({"country": "DE", "loc": "48.1374,11.5755"}), munich),
        (json!({"country": "DE", "loc": "48.1374 11.5755"}), None),
        (json!({"country": "DE", "loc": 48}), None),
        (json!({"country": "DE", "latitude": "-33.92", "longitude": 18}), Some((-33.9, 18.0))),
        (json!({"country": "DE"}), None),
        // Of a place in no country nothing is known.
        (json!({"location": {"latitude": 48.1374, "longitude": 11.5755}, "asn": "AS64500"}), None),
    ] {
        assert_eq!(degrees(record.clone()), expected, "{record}");
    }
}

/// The answer for the only record of a database; a second record keeps the database relevant.
fn read(record: impl Serialize) -> Answer {
    let sample = Sample::new("Sample").with("81.2.69.0/24", record).with("9.9.9.9/32", json!({"country": "US"}));
    let databases: GeoDatabases = [sample.open()].into_iter().collect();
    databases.lookup("81.2.69.142".parse().unwrap()).into()
}

fn country(code: &str) -> Answer {
    Answer { country: Some(code.into()), ..NOTHING }
}

#[test]
fn nested_city() {
    let record = json!({
        "city": {"geoname_id": 2643743, "names": {"de": "London", "en": "London", "fr": "Londres"}},
        "continent": {"code": "EU", "geoname_id": 6255148, "names": {"en": "Europe"}},
        "country": {"geoname_id": 2635167, "iso_code": "GB", "names": {"en": "United Kingdom"}},
        "location": {"accuracy_radius": 10, "latitude": 51.5142, "longitude": -0.0931},
        "postal": {"code": "EC1A"},
        "registered_country": {"geoname_id": 6252001, "iso_code": "US", "names": {"en": "United States"}},
        "subdivisions": [
            {"geoname_id": 6269131, "iso_code": "ENG", "names": {"en": "England"}},
            {"iso_code": "LND", "names": {"en": "London"}},
        ],
        "traits": {"is_anonymous_proxy": false},
    });
    let expected = Answer { region: Some("ENG".into()), city: Some("London".into()), ..country("GB") };
    assert_eq!(read(record), expected);
}

#[test]
fn nested_city_without_subdivision_codes() {
    let record = json!({
        "country": {"iso_code": "DE", "is_in_european_union": true, "names": {"en": "Germany"}},
        "city": {"names": {"en": "Munich (Altstadt)"}},
        "subdivisions": [{"names": {"en": "Bavaria"}}],
    });
    let expected = Answer { region: Some("Bavaria".into()), city: Some("Munich (Altstadt)".into()), ..country("DE") };
    assert_eq!(read(record), expected);
}

#[test]
fn flat() {
    let record = json!({"country": "DE", "region": "Bavaria", "city": "Munich", "postal": "80331", "lat": "48.1"});
    let expected = Answer { region: Some("Bavaria".into()), city: Some("Munich".into()), ..country("DE") };
    assert_eq!(read(record), expected);

    let record = json!({
        "asn": "AS64500", "as_name": "Example", "as_domain": "example.net", "continent": "North America",
        "continent_code": "NA", "country": "Canada", "country_code": "CA",
    });
    let expected = Answer { asn: Some(64500), organization: Some("Example".into()), ..country("CA") };
    assert_eq!(read(record), expected);
}

#[test]
fn countries() {
    for (record, expected) in [
        // where it is used; where it is registered is no place
        (json!({"country": {"iso_code": "DE"}, "registered_country": {"iso_code": "US"}}), country("DE")),
        (json!({"registered_country": {"iso_code": "US"}}), NOTHING),
        (json!({"registered_country": {"iso_code": "US"}, "continent": {"code": "EU"}}), NOTHING),
        (json!({"represented_country": {"iso_code": "US", "type": "military"}}), NOTHING),
        (json!({"continent": {"code": "EU"}}), NOTHING),
        (json!({"continent_code": "EU", "continent": "Europe"}), NOTHING),
        (json!({"country": {"is_in_european_union": true}}), NOTHING),
        (json!({"country": {"names": {"en": "?"}}, "registered_country": {"iso_code": "US"}}), NOTHING),
        (json!({"country": {"iso_code": "EU"}, "registered_country": {"iso_code": "US"}}), NOTHING),
        (json!({"country": "", "registered_country": {"iso_code": "US"}}), NOTHING),
        // codes that are no country
        (json!({"country": {"iso_code": "EU"}}), NOTHING),
        (json!({"country": {"iso_code": "AP"}}), NOTHING),
        (json!({"country": {"iso_code": "A1"}}), NOTHING),
        (json!({"country": "ZZ"}), NOTHING),
        (json!({"country": "XX"}), NOTHING),
        (json!({"country": "QM"}), NOTHING),
        (json!({"country_code": "XA", "country": "OO"}), NOTHING),
        (json!({"country": "Germany"}), NOTHING),
        (json!({"country": {"iso_code": "XK"}}), country("XK")),
        // notations
        (json!({"country": "de"}), country("DE")),
        (json!({"country_code": "DE"}), country("DE")),
        (json!({"country_code": "", "country": "DE"}), country("DE")),
        (json!({"country": "DE", "country_code": "AT"}), country("AT")),
        // types that nobody expects
        (json!({"country": 49}), NOTHING),
        (json!({"country": {"iso_code": 49}}), NOTHING),
        (json!({"country": [{"iso_code": "DE"}]}), country("DE")),
        (json!({"country": {"iso_code": "DE"}, "city": 1.5, "subdivisions": {}, "asn": []}), country("DE")),
        (json!({"country": {"iso_code": "DE"}, "subdivisions": []}), country("DE")),
        (json!({}), NOTHING),
        (json!("DE"), NOTHING),
        (json!(["DE"]), NOTHING),
    ] {
        assert_eq!(read(&record), expected, "{record}");
    }
}

#[test]
fn what_a_database_alone_says_is_told_with_its_field() {
    let record = json!({
        "country": {"iso_code": "GB", "is_in_european_union": true},
        "registered_country": {"iso_code": "US", "is_in_european_union": true},
        "represented_country": {"iso_code": "US", "is_in_european_union": false},
        "continent": {"code": "EU"},
    });
    for (record, field, flag) in [
        (record, "country.iso_code", Some(true)),
        (json!({"country": {"iso_code": "GB"}}), "country.iso_code", None),
        (json!({"country": "GB", "is_in_european_union": "false"}), "country", Some(false)),
        (json!({"country_code": "GB", "country": "United Kingdom"}), "country_code", None),
    ] {
        let database = Sample::new("Sample").with("81.2.69.0/24", &record).open();
        let told = database.lookup("81.2.69.142".parse().unwrap()).unwrap();
        assert_eq!((told.country_field, told.in_union), (field, flag), "{record}");
        assert_eq!(told.country.map(|country| country.to_string()), Some("GB".into()));
        assert!(database.lookup("9.9.9.9".parse().unwrap()).is_none());
    }
}

#[test]
fn anonymous_networks() {
    for flag in [
        "is_anonymous",
        "is_anonymous_proxy",
        "is_anonymous_vpn",
        "is_hosting_provider",
        "is_public_proxy",
        "is_residential_proxy",
        "is_tor_exit_node",
        "vpn",
        "proxy",
        "tor",
        "relay",
        "hosting",
    ] {
        let hidden = |value: Value| {
            let top = read(json!({flag: value})).anonymous;
            assert_eq!(read(json!({"traits": {flag: value}})).anonymous, top, "{flag} in traits");
            top
        };
        assert!(hidden(json!(true)), "{flag}");
        assert!(hidden(json!("true")), "{flag}");
        assert!(hidden(json!(1.0)), "{flag}");
        assert!(hidden(json!(-1)), "{flag}");
        assert!(!hidden(json!(0.0)), "{flag}");
        assert!(!hidden(json!(false)), "{flag}");
        assert!(!hidden(json!("")), "{flag}");
    }
    let mixed = json!({"is_anonymous": true, "is_tor_exit_node": false, "country": {"iso_code": "DE"}});
    assert_eq!(read(mixed), Answer { anonymous: true, ..country("DE") });
}

#[test]
fn autonomous_systems() {
    #[derive(Serialize)]
    struct Asn {
        autonomous_system_number: u32,
        autonomous_system_organization: &'static str,
    }
    let system = Asn { autonomous_system_number: 64500, autonomous_system_organization: "Example" };
    let expected = Answer { asn: Some(64500), organization: Some("Example".into()), ..NOTHING };
    assert_eq!(read(&system), expected);
    assert_eq!(read(json!({"traits": {"autonomous_system_number": 64500, "isp": "?"}})).asn, Some(64500));
    assert_eq!(read(json!({"asn": "AS64500"})).asn, Some(64500));
    assert_eq!(read(json!({"asn": "AS0"})).asn, None);
    assert_eq!(read(json!({"asn": "unknown"})).asn, None);
}

/// Publishers write a country once and point to it from each record; the sample writer cannot, so
/// the text `\u{1}` is patched into a pointer to the first value of the data section.
#[test]
fn a_pointer_is_followed() {
    let sample = Sample::new("Sample")
        .with("9.9.9.9/32", json!({"iso_code": "DE"}))
        .with("81.2.69.0/24", json!({"country": "\u{1}", "is_anonymous": true}));
    let mut bytes = sample.bytes();
    let field = b"country\x41\x01";
    let value = bytes.windows(field.len()).position(|window| window == field).unwrap() + field.len() - 2;
    bytes[value..value + 2].copy_from_slice(b"\x20\x00");
    let database = geoip::Database::from_bytes("sample.mmdb".into(), bytes).unwrap();
    let databases: GeoDatabases = [database].into_iter().collect();
    let answer = Answer::from(databases.lookup("81.2.69.142".parse().unwrap()));
    assert_eq!(answer, Answer { anonymous: true, ..country("DE") });
}
