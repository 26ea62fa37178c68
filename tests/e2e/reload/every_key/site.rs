//! A node file in which every key can be tried, and what is around the node.

use std::net::{Ipv4Addr, SocketAddr};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use loadtest::origin::{Behaviour, Origin, OriginConfig};
use meridian_tests::bespoke::{self, Bespoke};
use meridian_tests::dns::Dns;
use meridian_tests::{Authority, Certificate, Node, Setup, geo};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::net::TcpListener;

use super::looks::GERMANS;

pub(super) struct Site {
    pub(super) node: Node,
    /// The node file of the start.
    pub(super) file: String,
    /// Of the American region, and what stalls there stalls until it is told otherwise.
    pub(super) us: Origin,
    pub(super) clients: Authority,
    /// Certificates by the names of their files.
    pub(super) certificates: Vec<(&'static str, Certificate)>,
    /// Shown by nodes: of the authority that is trusted from the start, and of the other.
    pub(super) nodes: Authority,
    pub(super) others: Authority,
    pub(super) token: String,
    pub(super) dns: Dns,
    pub(super) other_dns: Dns,
    _origins: Vec<Origin>,
    _silent: TcpListener,
    _tunnels: Bespoke,
    _gateway: Node,
}

pub(super) const HOST: &str = "api.example.com";

impl Site {
    pub(super) async fn start() -> Site {
        let (clients, nodes, others) = (Authority::default(), Authority::default(), Authority::default());
        let (us, de) = (origin("us").await, origin("de").await);
        us.behave(|received| if received.path == "/stall" { Behaviour::Stall } else { Behaviour::Normal });
        let tls = Some(clients.certify(&["127.0.0.1"]).server_config());
        let tls = Origin::start(OriginConfig { tls, ..OriginConfig::named("tls") }).await.expect("a port");
        let (one, two) = pair().await;
        let (dns, other_dns) = (Dns::start().await, Dns::start().await);
        dns.point("origin.test", &[ONE]);
        other_dns.point("origin.test", &[TWO]);
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let behind = origin("gateway").await;
        let tunnels = bespoke::tcp(|mut visit| async move {
            let answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
            visit.connection.write(answer).await;
            visit.connection.read_to_end().await;
        })
        .await;
        let table = table(&[
            ("us", "US", us.address().to_string()),
            ("de", "DE", de.address().to_string()),
            ("tls", "US", format!("https://{}", tls.address())),
            ("named", "US", format!("http://origin.test:{}", one.address().port())),
            ("silent", "US", format!("h2c://{}", silent.local_addr().expect("an address"))),
            ("tunnel", "US", tunnels.address.to_string()),
            ("gateway", "US", behind.address().to_string()),
        ]);
        let gateway = Setup::new("gateway", &table).secret(OTHER_SECRET).start().await;
        let through = format!("[regions.gateway]\ngateway = \"http://{}\"\n", gateway.http());
        let table = table.replacen("[regions.gateway]\n", &through, 1);

        let (issuer, other_issuer) = (key(), key());
        let certificates = vec![
            ("first", clients.certify(&[HOST])),
            ("other", clients.certify(&[HOST])),
            ("node", nodes.certify(&["us.nodes.example.com"])),
            ("other-node", nodes.certify(&["us.nodes.example.com"])),
        ];
        let [(_, first), (_, other), (_, own), (_, other_own)] = &certificates[..] else { panic!("four") };
        // Of one thread, which has one pool of connections: a look finds what the one before has left.
        let setup = Setup::new("us", &table)
            .threads(1)
            .plain()
            .tls(&[first])
            .at("127.0.0.2:0")
            .peer(&nodes, own)
            .secret(SECRET)
            .database_file("asn.mmdb")
            .geoip("max_change = \"1%\"")
            .section("tokens", TOKENS)
            .section("limits", LIMITS)
            .section("upstream", &format!("nameservers = [\"{}\"]\n{UPSTREAM}", dns.address))
            .section("log", "client_addresses = \"truncated\"")
            .file("asn.mmdb", geo::asn_database())
            .file("moved.mmdb", geo::database_with(&[(GERMANS, "BR")], 1_767_225_600))
            .file("other-routes.toml", table.replacen("version = \"1\"", "version = \"other\"", 1))
            .file("other.pem", other.certificate_pem.as_str())
            .file("other-key.pem", other.key_pem.as_str())
            .file("other-node.pem", other_own.certificate_pem.as_str())
            .file("other-node-key.pem", other_own.key_pem.as_str())
            .file("both-ca.pem", nodes.pem() + &others.pem())
            .file("other-peers.key", OTHER_SECRET)
            .file("ca.pem", clients.pem())
            .file("other-ca.pem", others.pem())
            .file("issuer.pem", issuer.public_key_pem())
            .file("other-issuer.pem", other_issuer.public_key_pem());
        let file = setup.node_file();
        Site {
            node: setup.start().await,
            file,
            us,
            clients,
            certificates,
            nodes,
            others,
            token: token(&issuer),
            dns,
            other_dns,
            _origins: vec![de, tls, one, two, behind],
            _silent: silent,
            _tunnels: tunnels,
            _gateway: gateway,
        }
    }

    /// The addresses of the listeners, plain and TLS, in the order of the node file of the start.
    pub(super) fn listeners(&self) -> Vec<SocketAddr> {
        let listeners = self.node.listeners().iter().filter(|(kind, _)| kind != "admin");
        listeners.map(|(_, address)| *address).collect()
    }
}

async fn origin(name: &str) -> Origin {
    Origin::start(OriginConfig::named(name)).await.expect("a port")
}

/// Two origins at one port of two addresses.
async fn pair() -> (Origin, Origin) {
    loop {
        let at = |name: &str, address: SocketAddr| Origin::start(OriginConfig { address, ..OriginConfig::named(name) });
        let one = at("one", (ONE, 0).into()).await.expect("a port");
        // Somebody may have it at the other address.
        if let Ok(two) = at("two", (TWO, one.address().port()).into()).await {
            return (one, two);
        }
    }
}

/// Regions (name, country, endpoint), most of them with a route that goes nowhere else.
fn table(regions: &[(&str, &str, String)]) -> String {
    let health = "health = { kind = \"tcp\", interval = \"1h\", unhealthy_interval = \"100ms\", successes = 1 }";
    let region = |(name, country, endpoint): &(&str, &str, String)| {
        format!(
            "[regions.{name}]\ncountry = \"{country}\"\ncompliance = [\"{name}\"]\nendpoints = [\"{endpoint}\"]\n{health}\n"
        )
    };
    let routes = ["tls", "named", "silent", "tunnel", "gateway"]
        .map(|name| format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\ndata_class = \"public\"\nrequire_compliance = [\"{name}\"]\n"));
    let regions: String = regions.iter().map(region).collect();
    format!("version = \"1\"\n{regions}{LAW}{}{REST}", routes.concat())
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn token(key: &KeyPair) -> String {
    let claims =
        serde_json::json!({ "iss": "https://id", "aud": "api", "exp": 4_102_444_800_u64, "data_consent": true });
    let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key");
    encode(&Header::new(Algorithm::ES256), &claims, &key).expect("a token")
}

const LAW: &str = "[failover]\nfailback_delay = \"0s\"\nramp = [100]\noutlier = { consecutive_errors = 1000 }\n\
    [residency_defaults]\nunlisted_jurisdiction = \"allow\"\nunknown_origin = \"refuse\"\n\
    [jurisdictions.de]\ncountries = [\"DE\"]\n[jurisdictions.us]\ncountries = [\"US\"]\n[data_classes.bound]\n\
    [[residency]]\njurisdiction = \"de\"\ndata_classes = [\"bound\"]\nallow = { countries = [\"DE\"] }\n\
    transfer = \"with_consent\"\n\
    [[residency]]\njurisdiction = \"us\"\ndata_classes = [\"bound\"]\nallow = { countries = [\"DE\", \"US\"] }\n";
const REST: &str = "[[routes]]\nname = \"bound\"\npath = \"/bound\"\ndata_class = \"bound\"\n\
    [[routes]]\nname = \"consented\"\npath = \"/consented\"\ndata_class = \"bound\"\n\
    consent_claim = \"data_consent\"\nrequire_compliance = [\"us\"]\n\
    [[routes]]\nname = \"all\"\ndata_class = \"public\"\nrequire_compliance = [\"us\"]\n";
const TOKENS: &str =
    "keys = [{ file = \"issuer.pem\", algorithm = \"ES256\" }]\nissuer = \"https://id\"\naudience = \"api\"";
const LIMITS: &str = "requests_in_flight = 100\nrequests_in_flight_per_region = 50\nconnections = 100\nconnections_per_client = 0\nrequests_in_flight_per_client = 0\ntunnels = 100\n\
    header_bytes = 65536\nheaders = 100\nheader_timeout = \"60s\"\nkeep_alive = \"60s\"\nbody_bytes = 1000\n\
    body_rate = 0\nbody_timeout = \"60s\"\ntunnel_idle_timeout = \"60s\"\nmemory = 0\nbody_memory = \"1GiB\"";
const UPSTREAM: &str = "certificate_authorities = [\"ca.pem\"]\nconnect_timeout = \"2s\"\nidle_timeout = \"60s\"\n\
    idle_connections = 100\nabsence_grace = \"1h\"";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &str = "fedcba9876543210fedcba9876543210";
pub(super) const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
