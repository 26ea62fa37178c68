//! What it costs to find a client and its place.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use geoip::{Database, GeoDatabases, TrustedProxies, client_ip};
use ipnet::IpNet;
use maxminddb_writer::paths::IpAddrWithMask;
use serde_json::{Value, json};

use sample::Sample;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/databases/sample.rs"]
mod sample;

const NETWORKS: u32 = 50_000;
const COUNTRIES: [&str; 8] = ["DE", "FR", "GB", "US", "BR", "JP", "IN", "ZA"];

/// The nth of [`NETWORKS`] /24 networks, spread over the whole IPv4 space.
fn network(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(n.wrapping_mul(0x9e37_79b1) & 0xffff_ff00)
}

fn country(n: u32) -> Value {
    let code = COUNTRIES[n as usize % COUNTRIES.len()];
    let names = json!({"de": "Land", "en": "Country", "es": "Pais", "fr": "Pays", "ja": "国", "ru": "Страна"});
    json!({"geoname_id": 2_921_044, "is_in_european_union": true, "iso_code": code, "names": names})
}

/// Records with all the fields of a GeoLite2-City.
fn city(n: u32) -> Value {
    let names = json!({"de": "Stadt", "en": format!("City {n}"), "fr": "Ville", "ja": "市", "ru": "Город"});
    json!({
        "city": {"geoname_id": n, "names": names},
        "continent": {"code": "EU", "geoname_id": 6_255_148, "names": names},
        "country": country(n),
        "location": {"accuracy_radius": 20, "latitude": 48.1, "longitude": 11.5, "time_zone": "Europe/Berlin"},
        "postal": {"code": "80331"},
        "registered_country": country(n),
        "subdivisions": [{"geoname_id": 2_951_839, "iso_code": "BY", "names": names}],
    })
}

fn database(kind: &str, record: impl Fn(u32) -> Value) -> Sample {
    let mut sample = Sample::new(kind);
    for n in 0..NETWORKS {
        sample.insert(IpAddrWithMask::new(network(n).into(), 24), record(n));
        let site = u128::from(Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 0)) | u128::from(n) << 80;
        if n % 4 == 0 {
            sample.insert(IpAddrWithMask::new(Ipv6Addr::from(site).into(), 48), record(n));
        }
    }
    sample
}

/// One address of every network, in no order, so that the tree is walked with cold caches.
fn addresses() -> Vec<IpAddr> {
    let address = |n| IpAddr::V4(Ipv4Addr::from(u32::from(network(n)) | 7));
    // 7919 is coprime to the number of networks: each comes once.
    (0..NETWORKS).map(|n| address(n * 7919 % NETWORKS)).collect()
}

fn lookup(criterion: &mut Criterion) {
    let city = database("City", city);
    let merged: GeoDatabases = [
        city.open(),
        database("Country", |n| json!({"country": country(n + n % 2)})).open(),
        database("ASN", |n| json!({"autonomous_system_number": n, "autonomous_system_organization": "AS"})).open(),
    ]
    .into_iter()
    .collect();
    let flat = database("Flat", |n| json!({"country": COUNTRIES[n as usize % COUNTRIES.len()], "asn": "AS64500"}));
    let flat: GeoDatabases = [flat.open()].into_iter().collect();
    let bytes = city.bytes();
    let city: GeoDatabases = [city.open()].into_iter().collect();

    let addresses = addresses();
    for (name, databases) in [("flat", flat), ("city", city), ("city, country and asn", merged)] {
        let mut addresses = addresses.iter().cycle();
        criterion.bench_function(&format!("lookup/{name}"), |bencher| {
            bencher.iter(|| addresses.next().map(|address| black_box(databases.lookup(*address)).country));
        });
        criterion.bench_function(&format!("lookup/{name}, not listed"), |bencher| {
            bencher.iter(|| databases.lookup(black_box(IpAddr::V4(Ipv4Addr::LOCALHOST))).country);
        });
    }
    let mut open = criterion.benchmark_group("open");
    open.sample_size(10).bench_function(format!("city of {} MiB", bytes.len() >> 20), |bencher| {
        bencher.iter(|| Database::from_bytes("city.mmdb".into(), bytes.clone()).map(|database| database.build_epoch()));
    });
    open.finish();
}

fn client(criterion: &mut Criterion) {
    // As many networks as a large CDN publishes.
    let networks = (0..24).map(|n| format!("{}.0.0.0/20", 100 + n)).chain(["10.0.0.0/8".into(), "fd00::/8".into()]);
    let networks: Vec<IpNet> = networks.filter_map(|network| network.parse().ok()).collect();
    let trusted = TrustedProxies::from(networks);
    let stranger = IpAddr::from([198, 51, 100, 1]);
    let proxy = IpAddr::from([10, 0, 0, 1]);
    let facts: [(&str, IpAddr, &[&[u8]]); 3] = [
        ("untrusted peer", stranger, &[b"203.0.113.7"]),
        ("one hop", proxy, &[b"203.0.113.7"]),
        ("three hops", proxy, &[b"203.0.113.7, 100.0.1.1", b"[fd00::7]:443"]),
    ];
    for (name, peer, lines) in facts {
        criterion.bench_function(&format!("client_ip/{name}"), |bencher| {
            bencher.iter(|| client_ip(black_box(peer), black_box(lines).iter().copied(), &trusted));
        });
    }
}

criterion_group!(benches, lookup, client);
criterion_main!(benches);
