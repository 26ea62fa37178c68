use std::net::IpAddr;

use geoip::{Database, GeoDatabases};
use serde_json::json;

use crate::sample::Sample;

const ADDRESSES: [&str; 6] = ["81.2.69.142", "81.2.69.1", "9.9.9.9", "2a02:8100::1", "::", "255.255.255.255"];

fn intact() -> Vec<u8> {
    let city = json!({
        "country": {"geoname_id": 2635167, "iso_code": "GB", "names": {"en": "United Kingdom"}},
        "subdivisions": [{"iso_code": "ENG", "names": {"de": "England", "en": "England"}}],
        "city": {"names": {"en": "London"}},
        "location": {"latitude": 51.5, "time_zone": "Europe/London"},
        "traits": {"is_anonymous_proxy": true, "autonomous_system_number": 64500},
    });
    Sample::new("Sample")
        .with("81.2.69.128/25", city)
        .with("81.2.69.0/26", json!({"country": "DE", "asn": "AS64500", "vpn": "true"}))
        .with("2a02:8100::/29", json!({"registered_country": {"iso_code": "FR"}}))
        .bytes()
}

/// Opens the bytes and asks about every address: it must refuse or answer, but not panic.
fn survives(bytes: Vec<u8>) -> bool {
    let Ok(database) = Database::from_bytes("damaged.mmdb".into(), bytes) else { return false };
    let databases: GeoDatabases = [database].into_iter().collect();
    for address in ADDRESSES {
        let address: IpAddr = address.parse().unwrap();
        let place = databases.lookup(address);
        assert!(place.countries().iter().count() <= 1);
    }
    true
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let intact = intact();
    assert!(survives(intact.clone()));
    for length in 0..intact.len() {
        assert!(!survives(intact[..length].to_vec()), "{length} of {} bytes", intact.len());
    }
}

#[test]
fn changed_bytes_are_survived() {
    let intact = intact();
    let mut refused = 0;
    for offset in 0..intact.len() {
        for pattern in [0x01, 0x20, 0x80, 0xff] {
            let mut bytes = intact.clone();
            bytes[offset] ^= pattern;
            refused += usize::from(!survives(bytes));
        }
    }
    // Most of the tree, of the control bytes and of the metadata; text may change unnoticed.
    assert!(refused > intact.len(), "{refused} refused of {}", 4 * intact.len());
}

#[test]
fn many_changed_bytes_are_survived() {
    let intact = intact();
    // Numerical Recipes' linear congruential generator: the same files every time.
    let mut state: u64 = 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..3000 {
        let mut bytes = intact.clone();
        for _ in 0..=random(4) {
            let offset = random(bytes.len());
            bytes[offset] = u8::try_from(random(256)).unwrap();
        }
        survives(bytes);
    }
}
