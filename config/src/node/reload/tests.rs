use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::super::{NodeConfig, Routing};

/// A node file in which everything is said.
const ALL: &str = "\
[node]
name = 'one'
region = 'a'
threads = 2
[admin]
address = '127.0.0.1:9900'
hosts = ['one.example.com']
[[listeners]]
address = '127.0.0.1:8080'
proxy_protocol = 'off'
redirect_to_https = false
redirect_port = 443
health_path = '/health'
[[listeners]]
address = '127.0.0.1:8443'
tls = { certificates = [{ certificate = 'a.pem', key = 'a-key.pem' }] }
[geoip]
databases = ['a.mmdb']
trusted_proxies = ['10.0.0.0/8']
country_header = 'x-a'
anonymous_asns = [1]
max_change = '1%'
[tokens]
keys = [{ file = 'a.pem', algorithm = 'ES256' }]
issuer = 'a'
audience = 'a'
[peers]
certificate_authorities = ['a.pem']
names = ['a.example.com']
certificate = { certificate = 'a.pem', key = 'a-key.pem' }
secret_file = 'a.key'
rollover = true
[limits]
requests_in_flight = 11
requests_in_flight_per_region = 12
connections = 13
connections_per_client = 18
requests_in_flight_per_client = 19
tunnels = 14
header_bytes = 2000
headers = 16
header_timeout = '11s'
keep_alive = '12s'
body_bytes = 17
body_timeout = '13s'
body_rate = 500
tunnel_idle_timeout = '14s'
memory = '80%'
body_memory = '20%'
[drain]
announce = '6s'
[upstream]
certificate_authorities = ['a-ca.pem']
nameservers = ['10.0.0.1']
connect_timeout = '15s'
idle_timeout = '16s'
idle_connections = 18
via = true
absence_grace = '17s'
[log]
client_addresses = 'full'
[routing]
max_age = '1h'
bus.servers = ['nats://a']
bus.bucket = 'a'
bus.token_file = 'a'
bus.certificate_authorities = ['a.pem']
bus.client_certificate = { certificate = 'a.pem', key = 'a-key.pem' }
bus.snapshot = 'a.toml'
bus.minimum_issued = '2026-01-01T00:00:00Z'
bus.trusted_keys = ['a.pem']
bus.max_shrink = 0.1
";

/// A line of [`ALL`], what it becomes, and the key that a running node cannot change; empty where it can. Every line
/// but the headings and the addresses of listeners.
const CHANGES: &[(&str, &str, &str)] = &[
    ("name = 'one'", "name = 'two'", "node.name"),
    ("region = 'a'", "region = 'b'", "node.region"),
    ("threads = 2", "threads = 3", "node.threads"),
    ("address = '127.0.0.1:9900'", "address = '127.0.0.1:9901'", "admin.address"),
    ("hosts = ['one.example.com']", "hosts = ['two.example.com']", ""),
    ("proxy_protocol = 'off'", "proxy_protocol = 'trusted'", ""),
    ("redirect_to_https = false", "redirect_to_https = true", ""),
    ("redirect_port = 443", "redirect_port = 8443", ""),
    ("health_path = '/health'", "health_path = '/other'", ""),
    (
        "tls = { certificates = [{ certificate = 'a.pem', key = 'a-key.pem' }] }",
        "tls = { certificates = [{ certificate = 'b.pem', key = 'b-key.pem' }] }",
        "",
    ),
    ("databases = ['a.mmdb']", "databases = ['b.mmdb']", ""),
    ("trusted_proxies = ['10.0.0.0/8']", "trusted_proxies = ['10.0.0.0/9']", ""),
    ("country_header = 'x-a'", "country_header = 'x-b'", ""),
    ("anonymous_asns = [1]", "anonymous_asns = [2]", ""),
    ("max_change = '1%'", "max_change = '2%'", ""),
    ("keys = [{ file = 'a.pem', algorithm = 'ES256' }]", "keys = [{ file = 'b.pem', algorithm = 'ES384' }]", ""),
    ("issuer = 'a'", "issuer = 'b'", ""),
    ("audience = 'a'", "audience = 'b'", ""),
    ("certificate_authorities = ['a.pem']", "certificate_authorities = ['b.pem']", ""),
    ("names = ['a.example.com']", "names = ['b.example.com']", ""),
    (
        "certificate = { certificate = 'a.pem', key = 'a-key.pem' }",
        "certificate = { certificate = 'b.pem', key = 'b-key.pem' }",
        "",
    ),
    ("secret_file = 'a.key'", "secret_file = 'b.key'", ""),
    ("rollover = true", "rollover = false", ""),
    ("requests_in_flight = 11", "requests_in_flight = 21", ""),
    ("requests_in_flight_per_region = 12", "requests_in_flight_per_region = 22", ""),
    ("connections = 13", "connections = 23", ""),
    ("connections_per_client = 18", "connections_per_client = 28", ""),
    ("requests_in_flight_per_client = 19", "requests_in_flight_per_client = 29", ""),
    ("tunnels = 14", "tunnels = 24", ""),
    ("header_bytes = 2000", "header_bytes = 3000", ""),
    ("headers = 16", "headers = 26", ""),
    ("header_timeout = '11s'", "header_timeout = '21s'", ""),
    ("keep_alive = '12s'", "keep_alive = '22s'", ""),
    ("body_bytes = 17", "body_bytes = 27", ""),
    ("body_timeout = '13s'", "body_timeout = '23s'", ""),
    ("body_rate = 500", "body_rate = 600", ""),
    ("tunnel_idle_timeout = '14s'", "tunnel_idle_timeout = '24s'", ""),
    ("memory = '80%'", "memory = '2GiB'", ""),
    ("body_memory = '20%'", "body_memory = '64MiB'", ""),
    ("announce = '6s'", "announce = '0s'", ""),
    ("certificate_authorities = ['a-ca.pem']", "certificate_authorities = ['b-ca.pem']", ""),
    ("nameservers = ['10.0.0.1']", "nameservers = ['10.0.0.2']", ""),
    ("connect_timeout = '15s'", "connect_timeout = '25s'", ""),
    ("idle_timeout = '16s'", "idle_timeout = '26s'", ""),
    ("idle_connections = 18", "idle_connections = 28", ""),
    ("via = true", "via = false", ""),
    ("absence_grace = '17s'", "absence_grace = '27s'", ""),
    ("client_addresses = 'full'", "client_addresses = 'none'", ""),
    ("max_age = '1h'", "max_age = '2h'", "routing.max_age"),
    ("bus.servers = ['nats://a']", "bus.servers = ['nats://b']", "routing.bus.servers"),
    ("bus.bucket = 'a'", "bus.bucket = 'b'", "routing.bus.bucket"),
    ("bus.token_file = 'a'", "bus.nkey_file = 'b'", "routing.bus.nkey_file"),
    (
        "bus.certificate_authorities = ['a.pem']",
        "bus.certificate_authorities = ['b.pem']",
        "routing.bus.certificate_authorities",
    ),
    (
        "bus.client_certificate = { certificate = 'a.pem', key = 'a-key.pem' }",
        "bus.client_certificate = { certificate = 'b.pem', key = 'b-key.pem' }",
        "routing.bus.client_certificate",
    ),
    ("bus.snapshot = 'a.toml'", "bus.snapshot = 'b.toml'", "routing.bus.snapshot"),
    (
        "bus.minimum_issued = '2026-01-01T00:00:00Z'",
        "bus.minimum_issued = '2026-01-02T00:00:00Z'",
        "routing.bus.minimum_issued",
    ),
    ("bus.trusted_keys = ['a.pem']", "bus.trusted_keys = ['b.pem']", "routing.bus.trusted_keys"),
    ("bus.max_shrink = 0.1", "bus.max_shrink = 0.2", "routing.bus.max_shrink"),
];

fn read(text: &str) -> NodeConfig {
    let read = NodeConfig::from_text(Path::new("/etc/meridian/node.toml"), text);
    let config = read.unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"));
    NodeConfig { warnings: Vec::new(), ..config }
}

/// Returns [`ALL`] with those changes of which `is_made` is true, by their number.
fn changed(is_made: impl Fn(usize) -> bool) -> String {
    let line = |line: &str| {
        let change = CHANGES.iter().enumerate().find(|(number, (from, ..))| *from == line && is_made(*number));
        change.map_or(line, |(_, (_, to, _))| to).to_owned() + "\n"
    };
    ALL.lines().map(line).collect()
}

fn is_live(number: usize) -> bool {
    CHANGES[number].2.is_empty()
}

#[test]
fn every_field_of_a_node_file_is_among_the_changes() {
    for line in ALL.lines().filter(|line| line.contains('=') && !line.contains(":8080") && !line.contains(":8443")) {
        assert!(CHANGES.iter().any(|(from, ..)| *from == line), "no change of {line}");
    }
    // Debug shows every field there is, each leaf on a line of its own.
    let (all, changed) = (format!("{:#?}", read(ALL)), format!("{:#?}", read(&changed(|_| true))));
    assert_eq!(all.lines().count(), changed.lines().count());
    let same: Vec<&str> = all.lines().zip(changed.lines()).filter(|(a, b)| a == b).map(|(a, _)| a.trim()).collect();
    let is_leaf = |line: &&&str| !line.ends_with(['{', '(', '[']) && !line.starts_with(['}', ')', ']']);
    let leaves: Vec<&str> = same.iter().filter(is_leaf).copied().collect();
    let expected = [
        "file: \"/etc/meridian/node.toml\",",
        "address: 127.0.0.1:8080,",
        "tls: None,",
        "address: 127.0.0.1:8443,",
        "redirect_to_https: false,",
        "redirect_port: 443,",
        "proxy_protocol: Off,",
        "\"/.meridian/health\",",
        "warnings: [],",
    ];
    assert_eq!(leaves, expected, "fields that no change touches");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Checks that what is in force after any changes is what a node whose file differs in live keys only starts with,
    /// and that each other change is named.
    #[test]
    fn a_reload_is_a_restart_without_what_it_names(made in proptest::collection::vec(any::<bool>(), CHANGES.len())) {
        let running = read(ALL);
        let reload = running.reload(read(&changed(|number| made[number])));
        prop_assert_eq!(&reload.config, &read(&changed(|number| made[number] && is_live(number))));
        let fixed = (0..CHANGES.len()).filter(|number| made[*number] && !is_live(*number));
        let expected: BTreeSet<&str> = fixed.map(|number| CHANGES[number].2).collect();
        prop_assert_eq!(reload.needs_restart.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected);
        // And the way back.
        let back = reload.config.reload(read(ALL));
        prop_assert_eq!(&back.config, &running);
        prop_assert!(back.needs_restart.is_empty());
    }
}

#[test]
fn each_field_alone() {
    for (number, (from, to, key)) in CHANGES.iter().enumerate() {
        let newer = read(&changed(|made| made == number));
        let reload = read(ALL).reload(newer.clone());
        match key.is_empty() {
            true => assert_eq!((&reload.config, reload.needs_restart.len()), (&newer, 0), "{from} to {to}"),
            false => {
                assert_eq!((&reload.config, reload.needs_restart), (&read(ALL), vec![(*key).to_owned()]), "{to}");
            }
        }
    }
}

fn listeners(lines: &[&str]) -> NodeConfig {
    let listeners: String = lines.iter().map(|line| format!("[[listeners]]\n{line}\n")).collect();
    read(&format!("[node]\nname = 'n'\nregion = 'a'\n[routing]\nfile = 'r.toml'\n{listeners}"))
}

const PLAIN: &str = "address = '127.0.0.1:80'";
const TLS: &str = "address = '127.0.0.1:443'\ntls = { certificates = [{ certificate = 'a', key = 'a-key' }] }";
const OTHER: &str = "address = '127.0.0.2:443'\ntls = { certificates = [{ certificate = 'b', key = 'b-key' }] }";
const ANY: &str = "address = '127.0.0.1:0'";

#[test]
fn a_listener_is_known_by_its_address() {
    let reordered = listeners(&[OTHER, PLAIN, TLS]);
    let reload = listeners(&[PLAIN, TLS, OTHER]).reload(reordered.clone());
    assert_eq!((reload.config, reload.needs_restart), (reordered, vec![]));

    // One address instead of another, and its certificates of no other.
    let reload = listeners(&[TLS, OTHER]).reload(listeners(&[OTHER, PLAIN]));
    assert_eq!(reload.config, listeners(&[OTHER, TLS]));
    assert_eq!(reload.needs_restart, ["listeners[1].address", "listeners (without 127.0.0.1:443)"]);
}

#[test]
fn port_0_is_told_apart_by_order() {
    let trusted = format!("{ANY}\nproxy_protocol = 'trusted'");
    let reload = listeners(&[ANY, PLAIN, ANY]).reload(listeners(&[ANY, &trusted, PLAIN]));
    assert_eq!((reload.config, reload.needs_restart), (listeners(&[ANY, &trusted, PLAIN]), vec![]));
    let reload = listeners(&[ANY]).reload(listeners(&[&trusted, ANY]));
    assert_eq!(reload.config, listeners(&[&trusted]));
    assert_eq!(reload.needs_restart, ["listeners[1].address"]);
    let reload = listeners(&[ANY, &trusted]).reload(listeners(&[ANY]));
    assert_eq!(reload.config, listeners(&[ANY, &trusted]));
    let ids: Vec<_> = reload.config.listeners_by_id().map(|(id, _)| id).collect();
    assert!(ids[0] != ids[1] && reload.config.listener(ids[1]) == Some(&reload.config.listeners[1]));
}

#[test]
fn a_listener_stays_of_its_kind() {
    let no_tls = "address = '127.0.0.1:443'\nredirect_to_https = true\nproxy_protocol = 'trusted'";
    let reload = listeners(&[TLS]).reload(listeners(&[no_tls]));
    assert_eq!(reload.config, listeners(&[&format!("{TLS}\nproxy_protocol = 'trusted'")]));
    assert_eq!(reload.needs_restart, ["listeners[0].tls", "listeners[0].redirect_to_https"]);
    let reload = listeners(&[no_tls]).reload(listeners(&[TLS]));
    assert_eq!(reload.config, listeners(&["address = '127.0.0.1:443'\nredirect_to_https = true"]));
    assert_eq!(reload.needs_restart, ["listeners[0].tls", "listeners[0].redirect_to_https"]);
}

#[test]
fn the_source_of_tables_is_fixed() {
    let file = |routing: &str| read(&format!("[node]\nname = 'n'\nregion = 'a'\n[[listeners]]\n{PLAIN}\n{routing}"));
    let (a, b) = (file("[routing]\nfile = 'a.toml'"), file("[routing]\nfile = 'b.toml'"));
    let bus = file("[routing]\nbus = { servers = ['nats://a'] }");
    for (running, newer, key) in
        [(&a, &b, "routing.file"), (&a, &bus, "routing.bus"), (&bus, &a, "routing.file"), (&a, &a, "")]
    {
        let reload = running.reload(newer.clone());
        let expected: Vec<&str> = Some(key).into_iter().filter(|key| !key.is_empty()).collect();
        assert_eq!(
            (&reload.config, reload.needs_restart),
            (running, expected.iter().map(|k| (*k).to_owned()).collect())
        );
    }
    assert!(matches!(bus.routing, Routing::Bus(_)));
}
