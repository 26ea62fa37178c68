//! Listeners while the node runs: the sockets stay, whatever the file says, and each keeps what is its own.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use meridian_tests::{Authority, Certificate, Client, Node, RawConnection, Setup, World, eventually, geo, get};
use serde_json::json;

/// Two TLS listeners for different hosts, at addresses that tell them apart.
struct Site {
    world: World,
    authority: Authority,
    certificates: [Certificate; 2],
    node: Node,
    file: String,
}

impl Site {
    async fn start() -> Site {
        let world = World::of_regions(&[("here", "US")], ROUTES).await;
        let authority = Authority::default();
        let certificates = HOSTS.map(|host| authority.certify(&[host]));
        let [first, second] = &certificates;
        let setup = Setup::new("here", world.table()).tls(&[first]).tls(&[second]).at("127.0.0.2:0");
        let file = setup.node_file();
        Site { node: setup.start().await, world, authority, certificates, file }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let https = self.node.listeners().iter().filter(|(kind, _)| kind == "https");
        https.map(|(_, address)| *address).collect()
    }

    /// The node file with these listeners, each a block of its own.
    fn with_listeners(&self, listeners: &[&str]) -> String {
        let (head, rest) = self.file.split_once("\n[[listeners]]").expect("listeners");
        let (_, rest) = rest.split_once("\n[admin]").expect("what comes after them");
        let listeners: String = listeners.iter().map(|block| format!("\n[[listeners]]\n{block}\n")).collect();
        format!("{head}{listeners}\n[admin]{rest}")
    }

    async fn apply(&self, file: &str) {
        let skipped = self.node.log().count();
        self.node.replace("node.toml", file);
        self.node.logged_after(skipped, "node file applied").await;
    }

    /// Each address has its own certificate, and serves its own host and not the other's.
    async fn assert_each_serves_its_own(&self, what: &str) {
        for (index, address) in self.addresses().into_iter().enumerate() {
            let client = Client::http1(address).over_tls(&self.authority, HOSTS[index]);
            let mut connection = client.connect().await.unwrap_or_else(|error| panic!("{what}, {address}: {error}"));
            let shown = connection.tls.as_ref().and_then(|session| session.certificate.clone());
            assert_eq!(shown, Some(self.certificates[index].der.clone()), "{what}, {address}");
            connection.send(&get("/").host(HOSTS[index])).await.assert_served_by("here");
            assert_eq!(connection.send(&get("/").host(HOSTS[1 - index])).await.status, 421, "{what}, {address}");
        }
        assert_eq!(self.world.received_outside(&["here"]).len(), 0);
    }
}

#[tokio::test]
async fn certificates_stay_with_their_listener() {
    let mut site = Site::start().await;
    site.assert_each_serves_its_own("at the start").await;
    site.apply(&site.with_listeners(&[SECOND, FIRST])).await;
    site.assert_each_serves_its_own("in another order").await;
    assert_eq!(site.node.status().await["needs_restart"], json!([]));

    // As many listeners as before, one of them at an address that it does not have yet.
    let elsewhere = FIRST.replace("127.0.0.1:0", "127.0.0.3:0");
    site.apply(&site.with_listeners(&[SECOND, &elsewhere])).await;
    site.assert_each_serves_its_own("with one that is still to come").await;
    let expected = json!(["listeners[1].address", "listeners (without 127.0.0.1:0)"]);
    assert_eq!(site.node.status().await["needs_restart"], expected);

    // One that the file has no more keeps what it has, and does not keep the other from a new one.
    site.apply(&site.with_listeners(&[SECOND])).await;
    std::fs::remove_file(site.node.path("tls-0.pem")).expect("the file");
    let next = site.authority.certify(&[HOSTS[1]]);
    let skipped = site.node.log().count();
    next.write(site.node.directory(), "tls-1");
    site.node.logged_after(skipped, "certificates applied").await;
    site.certificates[1] = next;
    site.assert_each_serves_its_own("without one").await;
    let status = site.node.status().await;
    assert_eq!(status["needs_restart"], json!(["listeners (without 127.0.0.1:0)"]));
    assert_eq!(status["rejected"], json!([]));
}

#[tokio::test]
async fn a_bad_certificate_of_a_listener_that_is_still_to_come_is_told_at_once() {
    let site = Site::start().await;
    let skipped = site.node.log().count();
    let bad = "address = \"127.0.0.3:0\"\ntls = { certificates = [{ certificate = \"none.pem\", key = \"none\" }] }";
    site.node.replace("node.toml", site.with_listeners(&[FIRST, SECOND, bad]));
    site.node.logged_after(skipped, "node file rejected").await;
    eventually("the rejection", async || {
        let rejected = site.node.status().await["rejected"].to_string();
        if rejected.contains("listeners[2].tls.certificates") { Ok(()) } else { Err(rejected) }
    })
    .await;
    site.assert_each_serves_its_own("after a refused file").await;
}

/// Whoever turns trust off believes that it is off.
#[tokio::test]
async fn the_proxy_header_is_believed_as_long_as_the_file_says_so() {
    let site = Site::start().await;
    let trusting = SECOND.replacen('\n', "\nproxy_protocol = \"trusted\"\n", 1);
    let (off, on) = (site.with_listeners(&[FIRST, SECOND]), site.with_listeners(&[FIRST, &trusting]));
    for round in 0..2 {
        assert!(!site.takes_proxy_header(1).await, "round {round}: off");
        site.apply(&on).await;
        assert!(site.takes_proxy_header(1).await, "round {round}: on");
        assert!(!site.takes_proxy_header(0).await, "round {round}: of the other listener nothing is said");
        site.assert_each_serves_its_own("with and without a header").await;
        site.apply(&off).await;
    }
    assert_eq!(site.node.status().await["needs_restart"], json!([]));
}

impl Site {
    async fn takes_proxy_header(&self, listener: usize) -> bool {
        let mut connection = RawConnection::open(self.addresses()[listener]).await;
        let source = geo::address("DE", 1);
        connection.write(format!("PROXY TCP4 {source} 127.0.0.1 56324 443\r\n")).await;
        let Ok(mut connection) = connection.try_secure(&self.authority, HOSTS[listener], b"http/1.1").await else {
            return false;
        };
        connection.write(format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", HOSTS[listener])).await;
        let (head, _) = connection.read_answer().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let country = self.world.received("here").pop().expect("a request");
        assert_eq!(country.header("x-client-country"), Some("DE"));
        true
    }
}

/// Where plain requests are sent to is decided by the file in force, too.
#[tokio::test]
async fn a_redirect_begins_moves_and_ends() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let authority = Authority::default();
    let [first, second] = HOSTS.map(|host| authority.certify(&[host]));
    let setup = Setup::new("here", world.table()).tls(&[&first]).tls(&[&second]).at("127.0.0.2:0").plain();
    let file = setup.node_file();
    let site = Site { node: setup.start().await, world, authority, certificates: [first, second], file };
    let client = Client::http1(site.node.http());
    client.send(&get("/")).await.assert_served_by("here");
    let plain = "address = \"127.0.0.1:0\"";
    for (port, authority) in [("", "api.example.com"), ("\nredirect_port = 8443", "api.example.com:8443")] {
        // 127.0.0.1:0 stands for two listeners, which their order tells apart.
        let redirecting = format!("{plain}\nredirect_to_https = true{port}");
        site.apply(&site.with_listeners(&[FIRST, SECOND, &redirecting])).await;
        let answer = client.send(&get("/a")).await;
        let location = format!("https://{authority}/a");
        assert_eq!((answer.status.as_u16(), answer.header("location")), (308, Some(location)));
    }
    site.apply(&site.with_listeners(&[FIRST, SECOND, plain])).await;
    client.send(&get("/")).await.assert_served_by("here");
}

const HOSTS: [&str; 2] = ["first.example.com", "second.example.com"];
const FIRST: &str =
    "address = \"127.0.0.1:0\"\ntls = { certificates = [{ certificate = \"tls-0.pem\", key = \"tls-0-key.pem\" }] }";
const SECOND: &str =
    "address = \"127.0.0.2:0\"\ntls = { certificates = [{ certificate = \"tls-1.pem\", key = \"tls-1-key.pem\" }] }";
const ROUTES: &str = "[[routes]]\nname = \"all\"\n";

/// `0.0.0.0` and `[::]` at one port are two sockets; `[::]` alone is both.
#[tokio::test]
async fn a_port_of_both_families_is_two_listeners() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    // Held while nobody listens on it, and shared with the node.
    let held = loadtest::origin::reserve((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let port = held.local_addr().expect("an address").port();
    let (v4, v6): (SocketAddr, SocketAddr) = ((Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into());
    let both = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    let asks = async |address: SocketAddr| {
        let mut connection = std::net::TcpStream::connect(address)?;
        std::io::Write::write_all(&mut connection, b"OPTIONS / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut connection, &mut answer)?;
        std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    for order in [[0, 1], [1, 0]] {
        let setup = Setup::new("here", world.table()).plain().at(&both[order[0]]).plain().at(&both[order[1]]);
        let mut node = setup.start().await;
        for address in [v4, v6] {
            assert!(asks(address).await.expect("a connection"), "{address}");
        }
        node.signal("INT");
        node.exited().await;
    }
    let node = Setup::new("here", world.table()).plain().at(&both[1]).start().await;
    for address in [v4, v6] {
        assert!(asks(address).await.expect("a connection"), "{address}");
    }
    drop(node);
}
