//! What can be seen of a key from outside.

use std::time::{Duration, Instant};

use meridian_tests::{Client, RawConnection, Sent, eventually, geo, get, post};
use tokio::time::timeout;

use super::site::{HOST, Site};

pub(super) enum Look {
    /// A value of `/status`, by its JSON pointer.
    Status(&'static str),
    /// How many worker threads there are.
    Workers,
    /// The admin listener's address.
    Admin,
    /// The status of a request to it by a name.
    AdminHost,
    /// The addresses that the node says it listens on.
    Listeners,
    /// Whether the first listener speaks without TLS.
    FirstListenerIsPlain,
    /// Which certificate there is for this name.
    Certificate(&'static str),
    /// The answer to a German client.
    Get(&'static str),
    /// Where a request is redirected to.
    Location,
    /// Whether an origin is told through whom a request has come.
    Via,
    /// The same by the origin that gives it.
    Origin(&'static str),
    /// The answer to a connection that begins with a PROXY header.
    ProxyHeader,
    /// The country that an origin is told of a German.
    Country,
    /// The answer to an American on a route that the law confines.
    American,
    /// The same where a proxy says that the country is Germany.
    SaidToBeGerman,
    /// Whether a token's consent counts.
    Consents,
    /// What becomes of a database that moves the Germans.
    NewDatabase,
    /// Whether somebody with a certificate of this authority for this name may open a connection.
    NodeOf(&'static str, &'static str),
    /// The answer while another request waits for its origin.
    WhileOneStalls,
    /// The region's utilisation while one request waits, in percent.
    UtilisationOfOne,
    /// The answer while another connection is open.
    SecondConnection,
    /// The same of an address that is no trusted proxy's.
    SecondConnectionOfAStranger,
    Tunnel,
    LongHead,
    ManyFields,
    Post,
    /// Whether it is ended within a second: a head that stops, an idle connection, a body that stops, a tunnel.
    SlowHead,
    IdleConnection,
    SlowBody,
    /// The same of a body that goes on, slowly.
    TricklingBody,
    IdleTunnel,
    /// Whether an origin that takes connections and says nothing is given up within a second.
    SilentOrigin,
    /// Whether the next request uses the connection of the one before.
    Pooled,
    /// The client in the access log.
    LoggedClient,
    /// The status of a balancer's question for the node's health.
    Health,
    /// The answer of an origin whose name is gone.
    AbsentName,
}

impl Look {
    pub(super) async fn at(&self, site: &Site) -> String {
        let node = &site.node;
        match self {
            Look::Status(pointer) => {
                let status = node.status().await;
                let value = status.pointer(pointer).expect("a value");
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            }
            Look::Workers => {
                let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).expect("threads");
                let name =
                    |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                tasks.flatten().map(name).filter(|name| name.starts_with("worker-")).count().to_string()
            }
            Look::Admin => {
                assert!(node.ask(&get("/live")).await.status.is_success());
                node.admin().ip().to_string()
            }
            Look::AdminHost => {
                let answer = Client::http1(node.admin()).send(&get("/live").host("ops.test")).await;
                answer.status.as_str().to_owned()
            }
            Look::Listeners => {
                let status = node.status().await;
                let listeners = status["listeners"].as_array().expect("a list").iter();
                let addresses =
                    listeners.map(|address| address.as_str().expect("an address").rsplit_once(':').expect("a port").0);
                addresses.collect::<Vec<_>>().join(", ")
            }
            Look::FirstListenerIsPlain => exchange(site, "").await.starts_with("HTTP/1.1 ").to_string(),
            Look::Certificate(name) => {
                let authority = if *name == HOST { &site.clients } else { &site.nodes };
                let client = Client::http1(site.listeners()[1]).over_tls(authority, name);
                let connection = client.connect().await.expect("a connection");
                let shown =
                    connection.tls.as_ref().and_then(|session| session.certificate.clone()).expect("a certificate");
                let known = site.certificates.iter().find(|(_, certificate)| certificate.der == shown);
                known.expect("a certificate of this test").0.to_owned()
            }
            Look::Get(path) => answer(site, &get(path).from("DE")).await,
            Look::Location => {
                client(site).send(&get("/")).await.header("location").unwrap_or_else(|| "none".to_owned())
            }
            Look::Via => {
                client(site).send(&get("/").from("DE")).await.assert_served_by("us");
                site.us.received().pop().expect("a request").header("via").is_some().to_string()
            }
            Look::Origin(path) => {
                let answer = client(site).send(&get(path).from("DE")).await;
                answer.header("x-origin").unwrap_or_else(|| answer.status.to_string())
            }
            Look::ProxyHeader => {
                let header = format!("PROXY TCP4 {} 127.0.0.1 56324 443\r\n", geo::address("DE", 1));
                if exchange(site, &header).await.starts_with("HTTP/1.1 200") { "200" } else { "refused" }.to_owned()
            }
            Look::Country => {
                client(site).send(&get("/").from("DE")).await.assert_served_by("us");
                let received = site.us.received().pop().expect("a request");
                received.header("x-client-country").unwrap_or("none").to_owned()
            }
            Look::American => answer(site, &get("/bound").from("US")).await,
            Look::SaidToBeGerman => answer(site, &get("/bound").from("US").header("cf-ipcountry", "DE")).await,
            Look::Consents => {
                let authorization = format!("Bearer {}", site.token);
                let sent = get("/consented").from("DE").header("authorization", &authorization);
                client(site).send(&sent).await.status.is_success().to_string()
            }
            Look::NewDatabase => new_database(site).await,
            Look::NodeOf(authority, name) => {
                let authority = if *authority == "nodes" { &site.nodes } else { &site.others };
                let client =
                    Client::http1(site.listeners()[1]).as_node(&site.clients, HOST, &authority.certify(&[name]));
                if client.try_send(&get("/").from("DE")).await.is_ok() { "taken" } else { "refused" }.to_owned()
            }
            Look::WhileOneStalls => {
                let (client, sent) = (client(site), get("/stall").from("DE"));
                let mut stalled = Box::pin(client.try_send(&sent));
                tokio::select! {
                    // Where there is room for none.
                    refused = &mut stalled => shown(&refused.expect("an answer")),
                    () = in_flight(site) => answer(site, &get("/").from("DE")).await,
                }
            }
            Look::UtilisationOfOne => {
                let (client, sent) = (client(site), get("/stall").from("DE"));
                tokio::select! {
                    answer = client.try_send(&sent) => panic!("{answer:?}"),
                    found = utilisation(site) => found,
                }
            }
            Look::SecondConnection => second_connection(site, &client(site)).await,
            Look::SecondConnectionOfAStranger => second_connection(site, &client(site).from(geo::loopback("DE"))).await,
            Look::Tunnel => tunnel(site).await.1,
            Look::LongHead => {
                status(&client(site).send(&get("/").from("DE").header("x-long", &"x".repeat(2000))).await)
            }
            Look::ManyFields => {
                let sent = (0..6).fold(get("/").from("DE"), |sent, number| sent.header(&format!("x-{number}"), "1"));
                status(&client(site).send(&sent).await)
            }
            Look::Post => status(&client(site).send(&post("/", "ten bytes.").from("DE")).await),
            Look::SlowHead => {
                let mut connection = RawConnection::open(site.listeners()[0]).await;
                connection.write("GET / HTTP/1.1\r\n").await;
                ended_soon(connection).await
            }
            Look::IdleConnection => {
                let mut connection = RawConnection::open(site.listeners()[0]).await;
                connection.write(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n")).await;
                connection.read_answer().await;
                ended_soon(connection).await
            }
            Look::SlowBody => {
                let mut connection = RawConnection::open(site.listeners()[0]).await;
                connection.write(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 10\r\n\r\nfive.")).await;
                ended_soon(connection).await
            }
            Look::TricklingBody => {
                let mut connection = RawConnection::open(site.listeners()[0]).await;
                connection.write(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 900\r\n\r\n")).await;
                let started = Instant::now();
                let mut ended = false;
                while started.elapsed() < SOON && !ended && connection.try_write("x").await.is_ok() {
                    ended = timeout(SOON / 20, connection.read_until_or_close("\r\n\r\n")).await.is_ok();
                }
                if ended { "ended" } else { "waits" }.to_owned()
            }
            Look::IdleTunnel => {
                let (connection, status) = tunnel(site).await;
                assert_eq!(status, "101");
                ended_soon(connection).await
            }
            Look::SilentOrigin => {
                let started = Instant::now();
                client(site).send(&get("/silent").from("DE")).await;
                if started.elapsed() < SOON { "soon" } else { "late" }.to_owned()
            }
            Look::Pooled => {
                let mut connection = client(site).connect().await.expect("a connection");
                connection.send(&get("/").from("DE")).await.assert_served_by("us");
                let before = site.us.connections();
                for _ in 0..5 {
                    connection.send(&get("/").from("DE")).await.assert_served_by("us");
                }
                if site.us.connections() == before { "kept" } else { "opened anew" }.to_owned()
            }
            Look::Health => {
                let question = "OPTIONS / HTTP/1.0\r\n\r\n";
                let answer = RawConnection::open(site.listeners()[0]).await.exchange(question).await;
                answer.split(' ').nth(1).expect("a status").to_owned()
            }
            Look::AbsentName => {
                let named = get("/named").from("DE");
                let is_back = async || match answer(site, &named).await {
                    found if found == "200 named" => Ok(()),
                    other => Err(other),
                };
                eventually("the name is known", is_back).await;
                site.dns.remove("origin.test");
                let asked = site.dns.questions();
                let look_ups = async || if site.dns.questions() >= asked + 3 { Ok(()) } else { Err(String::new()) };
                eventually("it is looked up", look_ups).await;
                let found = answer(site, &named).await;
                site.dns.point("origin.test", &[super::site::ONE]);
                eventually("the name is known again", is_back).await;
                found
            }
            Look::LoggedClient => {
                let log = node.access_log();
                let skipped = log.count();
                client(site).send(&get("/").from("DE")).await.assert_served_by("us");
                let line = log.find_after(skipped, "the request's line", |line| line.contains("\"client\"")).await;
                let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                line["client"].as_str().expect("a client").to_owned()
            }
        }
    }
}

fn client(site: &Site) -> Client {
    Client::http1(site.listeners()[0])
}

/// The status, and the region if one has answered; all failures of an origin are one.
async fn answer(site: &Site, sent: &Sent) -> String {
    shown(&client(site).send(sent).await)
}

fn shown(answer: &meridian_tests::Answer) -> String {
    match (answer.status.as_u16(), answer.region()) {
        (200, Some(region)) => format!("200 {region}"),
        (502 | 503, _) => "5xx".to_owned(),
        (status, _) => status.to_string(),
    }
}

fn status(answer: &meridian_tests::Answer) -> String {
    answer.status.as_str().to_owned()
}

/// The answer while another connection of the same client is open.
async fn second_connection(site: &Site, client: &Client) -> String {
    none_connected(site).await;
    let mut first = client.connect().await.expect("a connection");
    first.send(&get("/").from("DE")).await.assert_served_by("us");
    match client.try_send(&get("/").from("DE")).await {
        Ok(answer) => shown(&answer),
        Err(_) => "closed".to_owned(),
    }
}

/// What comes back on the first listener, until the node closes.
async fn exchange(site: &Site, before: &str) -> String {
    let request = format!("{before}GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    RawConnection::open(site.listeners()[0]).await.exchange(request).await
}

/// A tunnel, or the status of its refusal.
async fn tunnel(site: &Site) -> (RawConnection, String) {
    let mut connection = RawConnection::open(site.listeners()[0]).await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    connection.write(format!("GET /tunnel HTTP/1.1\r\nhost: {HOST}\r\n{upgrade}\r\n\r\n")).await;
    let head = connection.read_until("\r\n\r\n").await;
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    (connection, status)
}

async fn ended_soon(mut connection: RawConnection) -> String {
    let ended = timeout(SOON, connection.read_to_end()).await.is_ok();
    if ended { "ended" } else { "waits" }.to_owned()
}

async fn in_flight(site: &Site) {
    eventually("a request in flight", async || {
        let count = site.node.status().await["requests_in_flight"].clone();
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
}

async fn none_connected(site: &Site) {
    eventually("no connection", async || {
        let count = site.node.status().await["connections"].clone();
        if count == 0 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
}

/// The utilisation that one request in flight amounts to, in percent.
async fn utilisation(site: &Site) -> String {
    in_flight(site).await;
    let status = site.node.status().await;
    let regions = status["regions"].as_array().expect("a list");
    let region = regions.iter().find(|region| region["name"] == "us").expect("the region");
    format!("{:.0} %", region["utilisation"].as_f64().expect("a number") * 100.0)
}

/// Puts a database that moves the Germans in place of the one in force, tells what becomes of it, and takes it away.
async fn new_database(site: &Site) -> String {
    const OLD: u64 = 1_767_225_600;
    let state = async || {
        let status = site.node.status().await;
        (!status["geoip_held"].is_null(), status["geoip"][0]["build_epoch"].as_u64().expect("an epoch"))
    };
    site.node.replace("countries.mmdb", geo::database_with(&[(GERMANS, "BR")], OLD + 1));
    let found = eventually("the new database", async || match state().await {
        (true, OLD) => Ok("held"),
        (false, epoch) if epoch > OLD => Ok("in force"),
        other => Err(format!("{other:?}")),
    })
    .await;
    site.node.replace("countries.mmdb", geo::database());
    eventually("the old database", async || match state().await {
        (false, OLD) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    found.to_owned()
}

/// Where the Germans of [`geo`] are.
pub(super) const GERMANS: &str = "192.0.2.16/28";
/// Far more than 100 ms, and far less than what is patient.
const SOON: Duration = Duration::from_secs(1);
