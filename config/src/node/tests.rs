use std::path::Path;
use std::time::Duration;

use super::*;
use crate::bus::Credentials;
use crate::problem::Severity;

fn read(text: &str) -> Result<NodeConfig, Problems> {
    NodeConfig::from_text(Path::new("/etc/meridian/node.toml"), text)
}

/// A good file with a place for more on line 7.
const BASE: &str = "\
[node]
region = 'a'
[routing]
file = 'routes.toml'
[[listeners]]
address = '127.0.0.1:8080'
#more";

fn base_with(snippet: &str) -> String {
    BASE.replace("#more", snippet)
}

fn good(text: &str) -> NodeConfig {
    read(text).unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
}

/// Checks that a text has exactly one problem, with this severity, line, path, and part of the message.
fn expect(text: &str, severity: Severity, line: u32, path: &str, fragment: &str) {
    let problems = read(text).map_or_else(|problems| problems.0, |config| config.warnings);
    let [problem] = problems.as_slice() else {
        panic!("{} problems: {problems:#?}\nin\n{text}", problems.len());
    };
    let found = (problem.severity, problem.line, problem.path.as_str());
    assert_eq!(found, (severity, line, path), "{}\nin\n{text}", problem.message);
    assert!(problem.message.contains(fragment), "{}\nhas not: {fragment}\nin\n{text}", problem.message);
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = good(BASE);
    assert_eq!(config.warnings, []);
    assert_eq!((config.region.as_str(), config.threads), ("a", None));
    assert!(!config.name.is_empty());
    assert_eq!(config.admin, Some("127.0.0.1:9900".parse().unwrap()));
    assert_eq!(config.routing, Routing::File("/etc/meridian/routes.toml".into()));
    assert_eq!(config.geoip, Geoip::default());
    assert_eq!(config.geoip.max_change, Some(0.1));
    assert_eq!(good(&format!("{BASE}\n[geoip]\nmax_change = 'off'")).geoip.max_change, None);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.upstream, UpstreamTls::default());
    assert_eq!(config.log.client_addresses, ClientAddresses::Truncated);
    let listener = Listener {
        address: "127.0.0.1:8080".parse().unwrap(),
        tls: None,
        redirect_to_https: false,
        redirect_port: 443,
        proxy_protocol: ProxyProtocol::Off,
        health_path: Some("/.meridian/health".into()),
    };
    assert_eq!(config.listeners, [listener]);
}

#[test]
fn values_arrive_where_they_belong() {
    let config = good(
        "\
[node]
name = 'use1-a'
region = 'us-east-1'
threads = 2
[[listeners]]
address = '[::]:443'
proxy_protocol = 'trusted'
tls = { certificates = [{ certificate = 'certs/api.pem', key = '/keys/api.pem' }] }
[[listeners]]
address = '[::]:80'
redirect_to_https = true
[admin]
address = 'off'
[geoip]
databases = ['city.mmdb', '/geo/asn.mmdb']
trusted_proxies = ['127.0.0.0/8', '10.0.0.1', '2001:db8::/32']
country_header = 'CF-IPCountry'
anonymous_asns = [9009]
max_change = '0.5%'
[tokens]
keys = [{ file = 'issuer.pem', algorithm = 'EdDSA' }]
issuer = 'https://id'
[routing]
file = '../routes.toml'
[limits]
requests_in_flight = 1
requests_in_flight_per_region = 2
connections = 3
connections_per_client = 4
requests_in_flight_per_client = 0
header_bytes = 4096
headers = 5
header_timeout = '6s'
keep_alive = '7s'
body_bytes = 8
body_timeout = '9s'
body_rate = 11
tunnels = 0
tunnel_idle_timeout = '10s'
memory = '64MiB'
body_memory = 0
[upstream]
certificate_authorities = ['ca.pem']
nameservers = ['10.0.0.2', '127.0.0.1:5353', '::1', '[::1]:54']
connect_timeout = '10s'
idle_timeout = '11s'
idle_connections = 12
via = false
absence_grace = '13s'
[log]
client_addresses = 'none'
",
    );
    assert_eq!(config.warnings, []);
    assert_eq!((config.name.as_str(), config.region.as_str(), config.threads), ("use1-a", "us-east-1", Some(2)));
    assert_eq!(config.admin, None);
    let files = CertificateFiles { certificate: "/etc/meridian/certs/api.pem".into(), key: "/keys/api.pem".into() };
    assert_eq!(config.listeners[0].tls, Some(Tls { certificates: vec![files] }));
    assert_eq!(config.listeners[0].proxy_protocol, ProxyProtocol::Trusted);
    assert!(config.listeners[1].redirect_to_https);
    assert_eq!(config.geoip.databases, [Path::new("/etc/meridian/city.mmdb"), Path::new("/geo/asn.mmdb")]);
    assert_eq!(config.geoip.country_header.as_deref(), Some("cf-ipcountry"));
    assert_eq!(config.geoip.anonymous_asns, [9009]);
    assert_eq!(config.geoip.max_change, Some(0.005));
    let key = TokenKey { file: "/etc/meridian/issuer.pem".into(), algorithm: TokenAlgorithm::EdDsa };
    assert_eq!(config.tokens, Tokens { keys: vec![key], issuer: Some("https://id".into()), audience: None });
    let networks: Vec<String> = config.geoip.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["127.0.0.0/8", "10.0.0.1/32", "2001:db8::/32"]);
    assert_eq!(config.routing, Routing::File("/etc/meridian/../routes.toml".into()));
    let seconds = Duration::from_secs;
    let limits = Limits {
        requests_in_flight: 1,
        requests_in_flight_per_region: 2,
        connections: 3,
        connections_per_client: Some(4),
        requests_in_flight_per_client: None,
        header_bytes: 4096,
        headers: 5,
        header_timeout: seconds(6),
        keep_alive: seconds(7),
        body_bytes: Some(8),
        body_timeout: seconds(9),
        body_rate: Some(11),
        tunnels: 0,
        tunnel_idle_timeout: seconds(10),
        memory: Some(Memory::Bytes(64 << 20)),
        body_memory: None,
    };
    assert_eq!(config.limits, limits);
    let upstream = UpstreamTls {
        certificate_authorities: vec!["/etc/meridian/ca.pem".into()],
        nameservers: ["10.0.0.2:53", "127.0.0.1:5353", "[::1]:53", "[::1]:54"]
            .map(|server| server.parse().unwrap())
            .into(),
        connect_timeout: seconds(10),
        idle_timeout: seconds(11),
        idle_connections: 12,
        via: false,
        absence_grace: seconds(13),
    };
    assert_eq!(config.upstream, upstream);
    assert_eq!(config.log.client_addresses, ClientAddresses::None);
    assert_eq!(good(&base_with("[limits]\nbody_bytes = 0")).limits.body_bytes, None);
}

#[test]
fn bad_values() {
    for (snippet, line, path, fragment) in [
        ("[nod]", 7, "nod", "unknown key \"nod\" (did you mean \"node\"?)"),
        ("proxy_protocol = 'v2'", 7, "listeners[0].proxy_protocol", "known: off, trusted"),
        ("adress = '1'", 7, "listeners[0].adress", "did you mean \"address\"?"),
        ("tls = {}", 7, "listeners[0].tls.certificates", "missing: name its files"),
        ("tls = { certificates = [] }", 7, "listeners[0].tls.certificates", "the list is empty"),
        ("tls = { certificates = [{ key = 'k' }] }", 7, "listeners[0].tls.certificates[0].certificate", "missing"),
        ("tls = { certificates = [{ certificate = 'c' }] }", 7, "listeners[0].tls.certificates[0].key", "missing"),
        (
            "tls = { certificates = [{ certificate = '', key = 'k' }] }",
            7,
            "listeners[0].tls.certificates[0].certificate",
            "cannot be the name of a file",
        ),
        (
            "redirect_to_https = true\ntls.certificates = [{ certificate = 'c', key = 'k' }]",
            7,
            "listeners[0].redirect_to_https",
            "has nothing to redirect",
        ),
        ("redirect_to_https = 'yes'", 7, "listeners[0].redirect_to_https", "expected true or false"),
        ("[[listeners]]", 7, "listeners[1].address", "missing: say what to bind"),
        ("[[listeners]]\naddress = 'localhost:80'", 8, "listeners[1].address", "such as \"0.0.0.0:443\""),
        ("[[listeners]]\naddress = '127.0.0.1:8080'", 8, "listeners[1].address", "taken: listeners[0].address has"),
        ("[[listeners]]\naddress = '0.0.0.0:8080'", 8, "listeners[1].address", "taken: listeners[0].address has"),
        ("[[listeners]]\naddress = '127.0.0.1:9900'", 8, "listeners[1].address", "the admin interface, by default"),
        ("[admin]\naddress = '127.0.0.1:8080'", 6, "listeners[0].address", "taken: admin.address has"),
        ("[admin]\naddress = ':9900'", 8, "admin.address", "is not an address and a port"),
        ("[admin]\nadress = 'off'", 8, "admin.adress", "did you mean \"address\"?"),
        ("[geoip]\ndatabase = ['x']", 8, "geoip.database", "did you mean \"databases\"?"),
        ("[geoip]\ndatabases = 'x'", 8, "geoip.databases", "expected a list"),
        ("[geoip]\ntrusted_proxies = ['proxy']", 8, "geoip.trusted_proxies[0]", "is not a network such as"),
        ("[geoip]\nmax_change = 0.02", 8, "geoip.max_change", "a share such as \"2%\""),
        ("[geoip]\nmax_change = '200%'", 8, "geoip.max_change", "a share such as \"2%\""),
        ("[geoip]\ncountry_header = 'cf ipcountry'", 8, "geoip.country_header", "is not a header name"),
        ("[geoip]\nanonymous_asns = ['AS9009']", 8, "geoip.anonymous_asns[0]", "expected a whole number"),
        ("[tokens]\nissuer = 'x'", 7, "tokens.keys", "missing: name the keys"),
        ("[tokens]\nkeys = [{ algorithm = 'ES256' }]", 8, "tokens.keys[0].file", "missing"),
        ("[tokens]\nkeys = [{ file = 'k' }]", 8, "tokens.keys[0].algorithm", "missing"),
        ("[tokens]\nkeys = [{ file = 'k', algorithm = 'HS256' }]", 8, "tokens.keys[0].algorithm", "known: ES256"),
        ("[limits]\nconnections = 0", 8, "limits.connections", "1 to 10000000"),
        ("[limits]\nheader_bytes = 100", 8, "limits.header_bytes", "1024 to 1048576"),
        ("[limits]\nheader_timeout = '0s'", 8, "limits.header_timeout", "too short"),
        ("[limits]\nbody_bytes = -1", 8, "limits.body_bytes", "out of range"),
        ("[upstream]\ncertificate_authorities = []", 8, "upstream.certificate_authorities", "leave it out"),
        (
            "[upstream]\nnameservers = '10.0.0.2'",
            8,
            "upstream.nameservers",
            "expected a list such as [\"10.0.0.2\", \"10.0.0.3:5353\"], found the string \"10.0.0.2\"",
        ),
        ("[upstream]\nnameservers = [53]", 8, "upstream.nameservers[0]", "expected an address such as \"10.0.0.2\""),
        ("[upstream]\nnameservers = []", 8, "upstream.nameservers", "leave it out"),
        ("[upstream]\nnameservers = ['dns.example']", 8, "upstream.nameservers[0]", "is not an address"),
        ("[upstream]\nnameservers = ['10.0.0.2:0']", 8, "upstream.nameservers[0]", "is not an address"),
        ("[upstream]\nconnect_timeout = 1", 8, "upstream.connect_timeout", "expected a duration"),
        ("[log]\nclient_addresses = 'some'", 8, "log.client_addresses", "known: truncated, full, none"),
    ] {
        expect(&base_with(snippet), Severity::Error, line, path, fragment);
    }
    for (from, to, line, path, fragment) in [
        ("[node]\nregion = 'a'", "", 0, "node", "missing: a node is in a region"),
        ("region = 'a'", "", 1, "node.region", "missing: name the region"),
        ("region = 'a'", "region = 'a'\nname = 'a b'", 3, "node.name", "cannot be a name"),
        ("region = 'a'", "region = 'a'\nthreads = 0", 3, "node.threads", "1 to 1024"),
        ("[routing]\nfile = 'routes.toml'", "", 0, "routing", "missing: say where the routing table is"),
        ("file = 'routes.toml'", "", 3, "routing.file", "missing"),
        ("file = 'routes.toml'", "file = 3", 4, "routing.file", "expected a string"),
        ("file = 'routes.toml'", "fiel = 'routes.toml'", 4, "routing.fiel", "did you mean \"file\"?"),
        ("[[listeners]]\naddress = '127.0.0.1:8080'", "", 0, "listeners", "missing: a node has at least one"),
        ("[[listeners]]\naddress = '127.0.0.1:8080'", "[listeners]", 5, "listeners", "expected a list"),
        ("[node]", "listeners = []\n[node]", 1, "listeners", "the list is empty"),
    ] {
        let mut text = BASE.replace(from, to);
        if to.starts_with("listeners") {
            text = text.replace("[[listeners]]\naddress = '127.0.0.1:8080'", "");
        }
        expect(&text, Severity::Error, line, path, fragment);
    }
}

#[test]
fn warnings_leave_a_file_usable() {
    for (snippet, line, path, fragment) in [
        ("proxy_protocol = 'trusted'", 7, "listeners[0].proxy_protocol", "nobody is trusted to send it"),
        ("[geoip]\ntrusted_proxies = ['10.0.0.1/8']", 8, "geoip.trusted_proxies[0]", "it is 10.0.0.0/8"),
        ("[geoip]\ntrusted_proxies = ['::/0']", 8, "geoip.trusted_proxies[0]", "is everybody"),
    ] {
        expect(&base_with(snippet), Severity::Warning, line, path, fragment);
    }
    let text = BASE.replace("file =", "max_age = '1h'\nfile =");
    expect(&text, Severity::Warning, 4, "routing.max_age", "only with a bus");
}

#[test]
fn listeners_may_share_what_is_not_one_socket() {
    for address in ["127.0.0.1:8081", "127.0.0.2:8080", "[::1]:8080", "[::]:8080"] {
        good(&base_with(&format!("[[listeners]]\naddress = '{address}'")));
    }
    let zero = "[[listeners]]\naddress = '127.0.0.1:0'\n[[listeners]]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'";
    assert_eq!(good(&base_with(zero)).listeners.len(), 3);
}

#[test]
fn the_bus_is_read_and_checked() {
    let with = |routing: &str| BASE.replace("file = 'routes.toml'", routing);
    let bus = |keys: &str| with(&format!("bus = {{ servers = ['nats://a:1'], {keys} }}"));
    let read_bus = |text: &str| match good(text).routing {
        Routing::Bus(bus) => bus,
        Routing::File(_) => panic!("a file"),
    };
    let least = read_bus(&with("bus = { servers = ['nats://a:1', 'tls://b'] }\nmax_age = '1h'"));
    assert_eq!(least.access.servers, ["nats://a:1", "tls://b"]);
    assert_eq!((least.access.bucket.as_str(), least.access.credentials.clone()), ("meridian", Credentials::None));
    assert_eq!((least.snapshot, least.max_age, least.max_shrink), (None, Some(Duration::from_secs(3600)), 0.5));
    let signed = |keys: &str| bus(&format!("{keys}trusted_keys = ['k.pem']")).replace("bus =", "max_age = '1h'\nbus =");
    expect(&signed(""), Severity::Warning, 5, "routing.bus", "cannot start while the bus is away");
    let unsigned = bus("snapshot = 's.toml'");
    expect(&unsigned, Severity::Warning, 4, "routing.bus", "whoever may write the bucket decides");
    let unsaid = bus("snapshot = 's.toml', trusted_keys = ['k.pem']");
    expect(&unsaid, Severity::Warning, 4, "routing.bus", "`meridian heartbeat --sign KEY`");
    let least = read_bus(&signed("minimum_issued = '1970-01-02T00:00:00Z', "));
    assert_eq!((least.minimum_issued_ms, least.witness()), (Some(86_400_000), crate::bus::Witness::Keys));
    let all = "bucket = 'b', snapshot = 's.toml', user = 'u', password_file = 'p', max_shrink = 0.2, \
               certificate_authorities = ['ca.pem'], trusted_keys = ['k.pem'], \
               client_certificate = { certificate = 'c.pem', key = 'k' }";
    let all = read_bus(&bus(all));
    let (user, password) = ("u".to_owned(), PathBuf::from("/etc/meridian/p"));
    assert_eq!(all.access.credentials, Credentials::Password { user, password });
    assert_eq!((all.access.bucket.as_str(), all.max_shrink), ("b", 0.2));
    assert_eq!(all.trusted_keys, [PathBuf::from("/etc/meridian/k.pem")]);
    for (keys, credentials) in [
        ("token_file = 't'", Credentials::Token("/etc/meridian/t".into())),
        ("nkey_file = 'n'", Credentials::Nkey("/etc/meridian/n".into())),
        ("credentials = 'c'", Credentials::Creds("/etc/meridian/c".into())),
    ] {
        assert_eq!(read_bus(&bus(keys)).access.credentials, credentials);
    }
    expect(&with("file = 'f'\nbus = { servers = ['nats://a'] }"), Severity::Error, 5, "routing.bus", "not from both");
    for (text, path, fragment) in [
        (with("bus = {}"), "routing.bus.servers", "missing"),
        (with("bus = { servers = [] }"), "routing.bus.servers", "empty"),
        (with("bus = { servers = ['http://a'] }"), "routing.bus.servers[0]", "not a server"),
        (bus("bucket = 'a b'"), "routing.bus.bucket", "cannot be a name"),
        (bus("bucket = 'a.b'"), "routing.bus.bucket", "dot"),
        (bus("buckt = 'a'"), "routing.bus.buckt", "did you mean \"bucket\"?"),
        (bus("user = 'u'"), "routing.bus.password_file", "missing"),
        (bus("password_file = 'u'"), "routing.bus.password_file", "whose?"),
        (bus("token_file = 'u', nkey_file = 'n'"), "routing.bus.nkey_file", "in one way"),
        (bus("max_shrink = 2"), "routing.bus.max_shrink", "0"),
        (bus("").replace("bus =", "max_age = '900ms'\nbus ="), "routing.max_age", "at least 1s"),
        (bus("trusted_keys = []"), "routing.bus.trusted_keys", "empty"),
        (bus("minimum_issued = 'monday'"), "routing.bus.minimum_issued", "is no time such as"),
        (bus("minimum_issued = '1969-01-01T00:00:00Z'"), "routing.bus.minimum_issued", "is no time such as"),
        (bus("").replace("[node]", "[node]\nname = 'a..b'"), "node.name", "on the bus"),
    ] {
        let problems = read(&text).unwrap_err().0;
        let found = problems.iter().any(|problem| problem.path == path && problem.message.contains(fragment));
        assert!(found, "{text}: {problems:#?}");
    }
}

#[test]
fn peers_are_named_by_authorities_or_share_a_secret() {
    assert_eq!(good(BASE).peers, None);
    let all = "[peers]\ncertificate_authorities = ['peers-ca.pem']\nnames = ['*.nodes.example.com', 'spiffe://e/n/a']\n\
               certificate = { certificate = 'node.pem', key = 'node-key.pem' }\nsecret_file = 'peers.key'";
    let config = good(&base_with(all));
    assert_eq!(config.warnings, []);
    let directory = Path::new("/etc/meridian");
    assert_eq!(
        config.peers,
        Some(Peers {
            certificate_authorities: vec![directory.join("peers-ca.pem")],
            names: vec![PeerName::DnsBelow("nodes.example.com".into()), PeerName::Uri("spiffe://e/n/a".into())],
            certificate: Some(CertificateFiles {
                certificate: directory.join("node.pem"),
                key: directory.join("node-key.pem")
            }),
            secret_file: Some(directory.join("peers.key")),
            rollover: false,
        })
    );
    good(&base_with("[peers]\nsecret_file = 'peers.key'"));
    assert!(good(&base_with(&format!("{all}\nrollover = true"))).peers.is_some_and(|peers| peers.rollover));
    let with = |keys: &str| base_with(&format!("[peers]\n{keys}"));
    for (keys, path, fragment) in [
        ("", "peers", "names nobody"),
        ("secret_file = 'k'\nnames = ['a.example']", "peers.names", "without certificate_authorities"),
        (
            "secret_file = 'k'\ncertificate = { certificate = 'c', key = 'k' }",
            "peers.certificate",
            "without certificate_authorities",
        ),
        ("secret_file = 'k'\ncertificate_authorities = []", "peers.certificate_authorities", "the list is empty"),
        (
            "certificate_authorities = ['a']\ncertificate = { certificate = 'c' }",
            "peers.certificate.key",
            "name the PEM",
        ),
        ("certificate_authorities = ['a']\nnames = ['10.0.0.1']", "peers.names[0]", "is not a name"),
        ("secret_file = 'k'\nrollover = true", "peers.rollover", "nothing to change from or to"),
        ("secret_file = 'k'\nrollover = 'yes'", "peers.rollover", ""),
        ("secret_fil = 'k'", "peers.secret_fil", "did you mean \"secret_file\"?"),
    ] {
        let problems = read(&with(keys)).unwrap_err().0;
        let found = problems.iter().any(|problem| problem.path == path && problem.message.contains(fragment));
        assert!(found, "{keys}: {problems:#?}");
    }
    let alone = with("certificate_authorities = ['a']");
    expect(&alone, Severity::Warning, 7, "peers", "will not take this node for one");
}

#[test]
fn admin_hosts_are_names() {
    assert_eq!(good(&base_with("[admin]\nhosts = ['Node-1.example.com']")).admin_hosts, ["node-1.example.com"]);
    expect(&base_with("[admin]\nhosts = ['a b']"), Severity::Error, 8, "admin.hosts[0]", "is not a host name");
}
