use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use geoip::{Database, GeoDatabases, Place, Space, Walk, WalkError, embedded};
use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::json;

use crate::sample::Sample;

/// What the walk says of an address: of the first database, of the others, and of all; and whether they have a record.
type Told = (Vec<String>, Vec<String>, Vec<String>, bool);

fn codes(place: &Place<'_>) -> Vec<String> {
    place.countries().iter().map(|country| country.to_string()).collect()
}

/// The whole walk, and that it is one: in order, without overlaps.
fn walked(databases: &[Database]) -> Vec<(IpNet, Told)> {
    let mut walk = Walk::over(databases);
    let mut steps: Vec<(IpNet, Told)> = Vec::new();
    while let Some(step) = walk.step().unwrap() {
        if let Some((before, _)) = steps.last() {
            assert!(before.broadcast() < step.network.network(), "{before} {}", step.network);
        }
        let told = (
            codes(&step.place([0])),
            codes(&step.place(step.databases().skip(1))),
            codes(&step.place(step.databases())),
            step.is_assigned(),
        );
        steps.push((step.network, told));
    }
    let (steps_made, of) = walk.progress();
    assert!(steps_made as usize == steps.len() && of >= steps_made);
    steps
}

#[test]
fn each_network_is_the_largest_with_one_answer() {
    let old =
        Sample::new("Old").with("81.2.0.0/16", json!({"country": "GB"})).with("2a02::/32", json!({"country": "DE"}));
    let new = Sample::ipv4_only("New")
        .with("81.2.0.0/17", json!({"country": "GB"}))
        .with("81.2.128.0/17", json!({"country": "IE"}))
        .with("9.0.0.0/8", json!({"asn": "AS64500"}));
    let steps = walked(&[old.open(), new.open()]);
    let listed: Vec<String> = steps
        .iter()
        .filter(|(_, (_, _, _, assigned))| *assigned)
        .map(|(network, (old, new, all, _))| format!("{network} {old:?} {new:?} {all:?}").replace('"', ""))
        .collect();
    assert_eq!(
        listed,
        [
            "9.0.0.0/8 [] [] []",
            "81.2.0.0/17 [GB] [GB] [GB]",
            "81.2.128.0/17 [GB] [IE] [GB, IE]",
            "2a02::/32 [DE] [] [DE]",
        ]
    );
    let mut space = Space::default();
    steps.iter().for_each(|(network, _)| space.add(Space::of(*network)));
    assert_eq!(space.slash24s(), 65536.0 * 256.0);
}

#[test]
fn a_record_of_everything_is_one_step_a_stretch() {
    let all = Sample::new("All").with("::/1", json!({"country": "DE"})).with("8000::/1", json!({"country": "FR"}));
    let steps = walked(&[all.open()]);
    assert!(steps.len() < 400, "{}", steps.len());
    let databases: GeoDatabases = [all.open()].into_iter().collect();
    for (network, (first, ..)) in steps {
        assert_eq!(first, codes(&databases.lookup(network.network())), "{network}");
    }
}

/// Each node's branches lead both to the next node: 120 nodes, 2^120 networks.
#[test]
fn a_tree_that_leads_into_itself_is_given_up() {
    let honest = Sample::new("Honest").with("2a02::1/128", json!({"country": "DE"})).bytes();
    let nodes = u32::try_from(Database::from_bytes("honest.mmdb".into(), honest.clone()).unwrap().nodes()).unwrap();
    let mut shared = honest;
    // Records of 24 bits, as the writer makes small trees. Below the prefix both branches lead the same way.
    let branch = |bytes: &[u8], at: usize| u32::from_be_bytes([0, bytes[at], bytes[at + 1], bytes[at + 2]]);
    for node in 20..nodes as usize {
        let (left, right) = (branch(&shared, node * 6), branch(&shared, node * 6 + 3));
        let deeper = if left == nodes { right } else { left };
        let bytes = deeper.to_be_bytes();
        shared[node * 6..node * 6 + 3].copy_from_slice(&bytes[1..]);
        shared[node * 6 + 3..node * 6 + 6].copy_from_slice(&bytes[1..]);
    }
    // Where it is not even opened, so much the better.
    let Ok(shared) = Database::from_bytes("shared.mmdb".into(), shared) else { return };
    let mut walk = Walk::over([&shared]);
    let error = loop {
        match walk.step() {
            Ok(step) => assert!(step.is_some(), "it has an end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WalkError::Endless(_)), "{error}");
}

const COUNTRIES: [&str; 5] = ["DE", "FR", "US", "GB", "EU"];

/// Networks near each other, so that those of several databases meet and nest.
fn network() -> impl Strategy<Value = String> {
    let v4 = (0_u32..1 << 10, 20_u8..=32, 0_u32..256).prop_map(|(high, prefix, low)| {
        let address = Ipv4Addr::from(0x5102_0000 | high << 8 | low);
        IpNet::new_assert(address.into(), prefix).trunc().to_string()
    });
    let v6 = (0_u128..1 << 10, 30_u8..=128, any::<u64>()).prop_map(|(high, prefix, low)| {
        let address = Ipv6Addr::from(0x2a02_0000_u128 << 96 | high << 90 | u128::from(low));
        IpNet::new_assert(address.into(), prefix).trunc().to_string()
    });
    // Some that reach to the end of what is walked at a time.
    let vast = prop::sample::select(vec!["128.0.0.0/1", "224.0.0.0/3", "::/1", "8000::/1"]).prop_map(str::to_owned);
    prop_oneof![4 => v4, 4 => v6, 1 => vast]
}

fn database() -> impl Strategy<Value = (bool, Vec<(String, usize)>)> {
    (any::<bool>(), prop::collection::vec((network(), 0..COUNTRIES.len()), 1..12))
}

fn open((ipv4_only, networks): &(bool, Vec<(String, usize)>)) -> Database {
    let mut sample = if *ipv4_only { Sample::ipv4_only("Sample") } else { Sample::new("Sample") };
    // The larger first: a database's more specific networks are written into the others.
    let mut networks = networks.clone();
    networks.sort_by_key(|(network, _)| network.parse::<IpNet>().unwrap().prefix_len());
    for (network, country) in networks {
        if !(*ipv4_only && network.contains(':')) {
            sample = sample.with(&network, json!({"country": COUNTRIES[country]}));
        }
    }
    // Every database tells something: last, since a larger network takes the place of those that it holds.
    sample.with("9.9.9.9/32", json!({"country": "US"})).open()
}

proptest! {
    /// The walk's answer for a network is the look-up's for each of its addresses.
    #[test]
    fn a_step_is_what_a_look_up_says(databases in prop::collection::vec(database(), 1..4), noise in any::<[u32; 8]>()) {
        let opened: Vec<Database> = databases.iter().map(open).collect();
        let steps = walked(&opened);
        let first: GeoDatabases = databases.iter().take(1).map(open).collect();
        let others: GeoDatabases = databases.iter().skip(1).map(open).collect();
        let all: GeoDatabases = databases.iter().map(open).collect();
        // The ends of every network of every database, and of every step; and some addresses between.
        let mut asked: Vec<IpAddr> = Vec::new();
        let written = databases.iter().flat_map(|(_, networks)| networks).map(|(network, _)| network.parse().unwrap());
        for network in written.chain(steps.iter().map(|(network, _)| *network)) {
            asked.extend([network.network(), network.broadcast()]);
        }
        asked.extend(noise.map(|low| IpAddr::V4(Ipv4Addr::from(0x5102_0000 | low & 0x3_ffff))));
        asked.extend(noise.map(|low| IpAddr::V6(Ipv6Addr::from(0x2a02_0000_u128 << 96 | u128::from(low) << 68))));
        asked.extend(noise.map(|low| IpAddr::V6(Ipv6Addr::from(0x2002_u128 << 112 | u128::from(0x5102_0000 | low & 0x3_ffff) << 80))));
        for address in asked {
            let looked_up = embedded(address);
            // ::/96 is where a database keeps IPv4: the walk goes through it as IPv4, and no client has such an address.
            if matches!(looked_up, IpAddr::V6(v6) if v6.to_bits() >> 32 == 0) {
                continue;
            }
            let at = steps.partition_point(|(network, _)| network.broadcast() < looked_up);
            let (network, told) = &steps[at];
            prop_assert!(network.contains(&looked_up), "{} {}", network, address);
            prop_assert_eq!(&told.0, &codes(&first.lookup(address)), "{} {}", network, address);
            prop_assert_eq!(&told.1, &codes(&others.lookup(address)), "{} {}", network, address);
            prop_assert_eq!(&told.2, &codes(&all.lookup(address)), "{} {}", network, address);
        }
    }
}
