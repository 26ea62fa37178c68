//! Endpoints that are names: a change of their addresses is followed, and a name server's trouble is nobody else's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use loadtest::Protocol;
use loadtest::origin::{Origin, OriginConfig};
use meridian_tests::dns::{Dns, Says};
use meridian_tests::{Client, Node, Setup, eventually, get, post};

#[tokio::test]
async fn a_changed_address_is_followed_though_the_old_one_lives() {
    for (scheme, protocol) in [("http", Protocol::Http1), ("h2c", Protocol::Http2)] {
        let (old, new) = pair(protocol).await;
        let dns = Dns::start().await;
        dns.point(NAME, &[OLD]);
        let node = start(&dns, scheme, old.address().port()).await;
        let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
        assert_eq!(connection.send(&post("/", "x")).await.header("x-origin").as_deref(), Some("old"));
        dns.point(NAME, &[NEW]);
        eventually("the new address", async || {
            match connection.send(&post("/", "x")).await.header("x-origin").as_deref() {
                Some("new") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let received = old.requests();
        for _ in 0..20 {
            assert_eq!(connection.send(&post("/", "x")).await.header("x-origin").as_deref(), Some("new"));
        }
        assert_eq!(old.requests(), received);
        assert!(new.requests() >= 20);
        // An address more: the connections to those that stay are used on.
        let connections = new.connections();
        let asked = dns.questions();
        dns.point(NAME, &[NEW, Ipv4Addr::new(127, 0, 0, 3)]);
        eventually("two look-ups", async || if dns.questions() >= asked + 2 { Ok(()) } else { Err(String::new()) })
            .await;
        assert_eq!(connection.send(&get("/")).await.status, 200);
        assert_eq!(new.connections(), connections);
    }
}

#[tokio::test]
async fn a_name_server_in_trouble_changes_nothing() {
    for trouble in [Says::Failure, Says::Nothing] {
        let (old, _new) = pair(Protocol::Http1).await;
        let dns = Dns::start().await;
        dns.point(NAME, &[OLD]);
        let node = start(&dns, "http", old.address().port()).await;
        assert_eq!(Client::http1(node.http()).send(&get("/")).await.status, 200);
        dns.set(NAME, trouble);
        node.logged_after(0, "no name server answers").await;
        // With connections that were open, and new ones.
        for _ in 0..3 {
            assert_eq!(Client::http1(node.http()).send(&get("/")).await.status, 200);
            old.kill().await;
            old.revive().await.expect("its port");
        }
        let warnings = node.log().all().iter().filter(|line| line.contains("no name server answers")).count();
        assert_eq!(warnings, 1);
        dns.point(NAME, &[OLD]);
        node.logged_after(0, "the name server answers again").await;
    }
}

/// A registry that restarts, or whose service is deployed anew, knows a name for some seconds not.
#[tokio::test]
async fn a_name_that_is_absent_for_a_moment_stays_an_endpoint() {
    let (old, _new) = pair(Protocol::Http1).await;
    let dns = Dns::start().await;
    dns.point(NAME, &[OLD]);
    let node = start(&dns, "http", old.address().port()).await;
    assert_eq!(Client::http1(node.http()).send(&get("/")).await.status, 200);
    for _ in 0..2 {
        let skipped = node.log().count();
        dns.remove(NAME);
        node.logged_after(skipped, "a name is said not to exist").await;
        let asked = dns.questions();
        // Asked again and again, to be found soon when it is back.
        eventually("two look-ups", async || if dns.questions() >= asked + 4 { Ok(()) } else { Err(String::new()) })
            .await;
        // With connections that were open, and new ones.
        for _ in 0..2 {
            assert_eq!(Client::http1(node.http()).send(&get("/")).await.status, 200);
            old.kill().await;
            old.revive().await.expect("its port");
        }
        dns.point(NAME, &[OLD]);
        node.logged_after(skipped, "a name exists again").await;
    }
}

/// A container's `resolv.conf` is written anew when its network changes, and `hosts` by whoever edits it.
#[tokio::test]
async fn what_the_system_says_of_names_is_watched() {
    let (old, new) = pair(Protocol::Http1).await;
    let etc = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(etc.path().join(name), text).expect("a file");
    // The hosts have all names, and nobody listens at the name server for what they have not.
    let resolv_conf = |search: &str| format!("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n{search}");
    write("resolv.conf", &resolv_conf("search a.test\n"));
    write("hosts", "127.0.0.1 origin.a.test\n127.0.0.2 origin.b.test\n");
    let table = table("http", "origin", old.address().port());
    let setup = Setup::new("here", &table).threads(1).section("upstream", "connect_timeout = \"3s\"");
    let node = setup.environment("MERIDIAN_TEST_ETC", etc.path().to_str().expect("UTF-8")).start().await;
    let client = Client::http1(node.http());
    let goes_to = async |name: &str| {
        eventually(&format!("goes to {name}"), async || {
            match client.send(&get("/")).await.header("x-origin").as_deref() {
                Some(found) if found == name => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    };
    goes_to("old").await;
    write("resolv.conf", &resolv_conf("search b.test\n"));
    goes_to("new").await;
    write("hosts", "127.0.0.2 origin.a.test\n127.0.0.1 origin.b.test\n");
    goes_to("old").await;
    // One without a name server changes nothing.
    write("resolv.conf", "search a.test\n");
    node.logged_after(0, "the system's name servers or hosts cannot be read").await;
    let received = new.requests();
    goes_to("old").await;
    assert_eq!(new.requests(), received);
}

#[tokio::test]
async fn a_name_that_is_gone_is_an_endpoint_that_is_gone() {
    let (old, _new) = pair(Protocol::Http1).await;
    let dns = Dns::start().await;
    dns.point(NAME, &[OLD]);
    let nameservers = format!("nameservers = [\"{}\"]\nabsence_grace = \"100ms\"", dns.address);
    let table = table("http", NAME, old.address().port());
    let node = Setup::new("here", &table).threads(1).section("upstream", &nameservers).start().await;
    assert_eq!(Client::http1(node.http()).send(&get("/")).await.status, 200);
    dns.remove(NAME);
    node.logged_after(0, "a name has no address any more").await;
    let received = old.requests();
    assert_eq!(Client::http1(node.http()).send(&get("/")).await.status, 503);
    assert_eq!(old.requests(), received, "whose address it is now nobody knows");
    dns.point(NAME, &[OLD]);
    eventually("it is back", async || match Client::http1(node.http()).send(&get("/")).await.status.as_u16() {
        200 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
}

#[tokio::test]
async fn a_name_that_nobody_knows_fails_at_once_and_is_asked_for_once() {
    let dns = Dns::start().await;
    let node = start(&dns, "http", 9).await;
    let many: Vec<_> = (0..50)
        .map(|_| {
            let client = Client::http1(node.http());
            tokio::spawn(async move { client.send(&get("/")).await.status.as_u16() })
        })
        .collect();
    for answered in many {
        assert_eq!(answered.await.expect("an answer"), 503);
    }
    // A look-up asks twice at the most: itself, and to be sure.
    assert!(dns.questions() <= 4, "{}", dns.questions());
}

#[tokio::test]
async fn a_dead_address_costs_a_part_of_the_time_only() {
    let (old, _new) = pair(Protocol::Http1).await;
    let dns = Dns::start().await;
    // Nobody listens there: a refusal. And nothing at all answers at the last one (RFC 5737).
    dns.point(NAME, &[Ipv4Addr::new(127, 0, 0, 9), OLD, Ipv4Addr::new(192, 0, 2, 1)]);
    let node = start(&dns, "http", old.address().port()).await;
    for _ in 0..6 {
        let started = Instant::now();
        let answer = Client::http1(node.http()).send(&post("/", "order").header("connection", "close")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.attempts(), 1);
        assert!(started.elapsed() < Duration::from_secs(5));
        // A new connection each time, beginning with another address.
        old.kill().await;
        old.revive().await.expect("its port");
    }
}

#[tokio::test]
async fn a_silent_address_leaves_time_for_the_next() {
    let (origin, silent) = loop {
        let origin = named("old", (OLD, 0).into(), Protocol::Http2).await.expect("a free port");
        if let Ok(silent) = tokio::net::TcpListener::bind((NEW, origin.address().port())).await {
            break (origin, silent);
        }
    };
    let dns = Dns::start().await;
    dns.point(NAME, &[NEW, OLD]);
    let node = start(&dns, "h2c", origin.address().port()).await;
    // A new connection each time, beginning with the other address: the kernel accepts, and nobody speaks.
    for _ in 0..3 {
        let answer = Client::http1(node.http()).send(&post("/", "order")).await;
        assert_eq!((answer.status.as_u16(), answer.attempts()), (200, 1));
        origin.kill().await;
        origin.revive().await.expect("its port");
    }
    drop(silent);
}

#[tokio::test]
async fn what_is_known_survives_a_reload() {
    let (old, _new) = pair(Protocol::Http1).await;
    let dns = Dns::start().await;
    dns.point(NAME, &[OLD]);
    let setup = setup(&dns, "http", old.address().port());
    let node = setup.clone().start().await;
    assert_eq!(Client::http1(node.http()).send(&get("/")).await.status, 200);
    dns.set(NAME, Says::Nothing);
    node.replace("node.toml", setup.section("log", "client_addresses = \"full\"").node_file());
    node.logged_after(0, "node file applied").await;
    old.kill().await;
    old.revive().await.expect("its port");
    assert_eq!(Client::http1(node.http()).send(&get("/")).await.status, 200);
}

/// Two origins at the same port of two addresses.
async fn pair(protocol: Protocol) -> (Origin, Origin) {
    loop {
        let old = named("old", (OLD, 0).into(), protocol).await.expect("a free port");
        // Somebody may have it at the other address.
        if let Ok(new) = named("new", (NEW, old.address().port()).into(), protocol).await {
            return (old, new);
        }
    }
}

async fn named(name: &str, address: SocketAddr, protocol: Protocol) -> io::Result<Origin> {
    Origin::start(OriginConfig { address, protocol, ..OriginConfig::named(name) }).await
}

async fn start(dns: &Dns, scheme: &str, port: u16) -> Node {
    setup(dns, scheme, port).start().await
}

fn setup(dns: &Dns, scheme: &str, port: u16) -> Setup {
    let table = table(scheme, NAME, port);
    let section = format!("nameservers = [\"{}\"]\nconnect_timeout = \"3s\"", dns.address);
    Setup::new("here", &table).threads(1).section("upstream", &section)
}

fn table(scheme: &str, host: &str, port: u16) -> String {
    format!(
        "version = \"1\"\n[regions.here]\ncountry = \"US\"\nendpoints = [\"{scheme}://{host}:{port}\"]\n\
         health = {{ kind = \"tcp\", interval = \"1h\", failures = 1000 }}\n[[routes]]\nname = \"all\"\n\
         [failover]\noutlier = {{ consecutive_errors = 1000 }}\n"
    )
}

const NAME: &str = "origin.test";
const OLD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const NEW: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
