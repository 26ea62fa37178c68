//! What reads and what writes: a WebSocket carries bytes both ways, and so is a write unless its route says otherwise.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use meridian_tests::bespoke::{self, Bespoke};
use meridian_tests::streams::StreamClient;
use meridian_tests::{
    Authority, Client, Node, RawConnection, Setup, SmallTable, empty, eventually, full, geo, get, post, request, run,
};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;

/// An origin, and the first lines of what it has received of clients.
struct Listening {
    origin: Bespoke,
    received: Arc<Mutex<Vec<String>>>,
    /// Keeps the port of the region at home from everybody else.
    home: Option<TcpSocket>,
}

impl Listening {
    async fn start() -> Listening {
        let received = Arc::new(Mutex::new(Vec::new()));
        let record = received.clone();
        let origin = bespoke::http(move |request: Request<Incoming>| {
            let upgrade = if request.headers().contains_key("upgrade") { " upgrade" } else { "" };
            let line = format!("{} {}{upgrade}", request.method(), request.uri().path());
            record.lock().expect("no panic").push(line);
            async move {
                let mut answer = Response::new(full("served"));
                if !upgrade.is_empty() {
                    *answer.status_mut() = StatusCode::UPGRADE_REQUIRED;
                }
                Ok(answer)
            }
        })
        .await;
        Listening { origin, received, home: None }
    }

    /// What has come since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.received.lock().expect("no panic"))
    }
}

/// The law lets reads of a European's data go abroad where a copy is kept at home, and the region at home is down.
#[tokio::test]
async fn a_websocket_does_not_go_where_only_reads_may() {
    let (abroad, authority, node) = start("", "").await;
    let client = Client::http1(node.http());
    client.send(&get("/socket").from("DE")).await.assert_served_by("abroad");
    assert_eq!(abroad.take(), ["GET /socket"]);
    client.send(&post("/socket", "x").from("DE")).await.assert_refused(503, "residency_unavailable");

    let refused = "http/1.1 503 ";
    let tls = || RawConnection::open_tls(node.https(), &authority, "api.example.com", b"http/1.1");
    assert!(upgrade(RawConnection::open(node.http()).await, "/socket", "DE").await.starts_with(refused));
    assert!(upgrade(tls().await, "/socket", "DE").await.starts_with(refused));
    assert_eq!(abroad.take(), Vec::<String>::new(), "no byte of it went abroad");

    // Whoever the law does not restrict is served as before, and so is a route that says that its sockets only read.
    assert!(upgrade(RawConnection::open(node.http()).await, "/socket", "US").await.starts_with("http/1.1 426 "));
    assert_eq!(abroad.take(), ["GET /socket upgrade"]);
    assert!(upgrade(tls().await, "/ticker", "DE").await.starts_with("http/1.1 426 "));
    assert_eq!(abroad.take(), ["GET /ticker upgrade"]);

    // Over HTTP/2 it is an extended CONNECT.
    let mut streams = StreamClient::connect(node.http()).await;
    assert_eq!(streams.ask("websocket", "/socket", "DE").await.0.status(), 503);
    assert_eq!(abroad.take(), Vec::<String>::new(), "no byte of it went abroad");
    for (path, country) in [("/socket", "US"), ("/ticker", "DE")] {
        assert_eq!(streams.ask("websocket", path, country).await.0.status(), 426);
        assert_eq!(abroad.take(), [format!("GET {path} upgrade")]);
    }

    // What is no upgrade is none: this node passes none on with another method, or to another protocol.
    for (method, protocol) in [("HEAD", "websocket"), ("GET", "h2c"), ("GET", "websocket, h2c")] {
        let request = format!(
            "{method} /socket HTTP/1.1\r\nhost: api.example.com\r\nx-forwarded-for: {}\r\nconnection: upgrade, close\r\n\
             upgrade: {protocol}\r\n\r\n",
            geo::address("DE", 1)
        );
        let answer = RawConnection::open(node.http()).await.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(abroad.take(), [format!("{method} /socket")]);
    }
    let connect = "CONNECT api.example.com:443 HTTP/1.1\r\nhost: api.example.com:443\r\n\r\n";
    let mut connection = RawConnection::open(node.http()).await;
    connection.write(connect).await;
    assert!(connection.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let connect = Request::connect("api.example.com:443").body(empty()).expect("a request");
    let mut connection = Client::http2(node.http()).connect().await.expect("a connection");
    assert_eq!(connection.head(connect).await.expect("an answer").status(), 400);
    assert_eq!(abroad.take(), Vec::<String>::new());
}

/// A GET may have content as a POST may: whatever carries data up is a write.
#[tokio::test]
async fn a_get_with_content_does_not_go_where_only_reads_may() {
    let (abroad, authority, node) = start("", "").await;
    let clients = [
        Client::http1(node.http()),
        Client::http2(node.http()),
        Client::http2(node.https()).over_tls(&authority, "api.example.com"),
    ];
    for client in clients {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let with_content = request(method, "/search").from("DE").body("a name, an address");
            let answer = client.send(&with_content).await;
            assert_eq!(answer.status, 503, "{method}: {answer:?}");
            assert_eq!(abroad.take(), Vec::<String>::new(), "no byte of it went abroad");
            client.send(&request(method, "/search").from("DE")).await.assert_served_by("abroad");
            client.send(&request(method, "/ticker").from("DE").body("x")).await.assert_served_by("abroad");
            assert_eq!(abroad.take(), [format!("{method} /search"), format!("{method} /ticker")]);
        }
    }
    // Neither does it in chunks, whose length nobody knows before.
    let mut connection = RawConnection::open(node.http()).await;
    let head = format!(
        "GET /search HTTP/1.1\r\nhost: api.example.com\r\nx-forwarded-for: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        geo::address("DE", 1)
    );
    connection.write(head).await;
    assert!(connection.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 503 "));
    assert_eq!(abroad.take(), Vec::<String>::new());

    let table = node.path("routes.toml");
    let question = ["--from", "abroad", "--country", "DE", "--path", "/search", "--down", "home", "--content"];
    let question = [&["explain", "--table", table.to_str().expect("UTF-8")], &question[..]].concat();
    let page = run(&question).stdout;
    assert!(page.starts_with("REFUSE 503 residency_unavailable"), "{page}");
    let live = node.ask(&get("/explain?country=DE&path=/search&content=true")).await.json();
    assert_eq!((&live["verdict"], &live["request"]["content"]), (&"refuse".into(), &true.into()), "{live:#}");
    assert_eq!(node.ask(&get("/explain?content=some")).await.status, 400);
    node.access_log().find("the line", |line| line.contains("\"content\":true")).await;
}

#[tokio::test]
async fn a_region_that_only_reads_gets_no_websocket() {
    let reader = Listening::start().await;
    let writer = Listening::start().await;
    let table = SmallTable::new(super::EVERYTHING)
        .region_with("reader", "US", &[reader.origin.address], "capabilities = [\"read\"]")
        .region("writer", "US", &[writer.origin.address]);
    let node = Setup::new("reader", &table.text()).start().await;
    Client::http1(node.http()).send(&get("/")).await.assert_served_by("reader");
    assert!(upgrade(RawConnection::open(node.http()).await, "/", "US").await.starts_with("http/1.1 426 "));
    assert_eq!((reader.take(), writer.take()), (vec!["GET /".to_owned()], vec!["GET / upgrade".to_owned()]));
}

/// What explains, logs and replays decisions decides as the node does.
#[tokio::test]
async fn explanations_and_replays_know_of_upgrades() {
    let (_abroad, _, node) = start("", "").await;
    let table = node.path("routes.toml");
    let table = table.to_str().expect("UTF-8");
    let question = ["explain", "--table", table, "--from", "abroad", "--country", "DE", "--path", "/socket"];
    let explained = |more: &[&str]| run(&[&question[..], &["--down", "home"], more].concat()).stdout;
    assert!(explained(&[]).starts_with("FORWARD to abroad"), "{}", explained(&[]));
    let page = explained(&["--upgrade"]);
    assert!(page.starts_with("REFUSE 503 residency_unavailable"), "{page}");
    assert!(page.contains("upgrade to a WebSocket") && page.contains("a write, as a tunnel is"), "{page}");
    let read = node.ask(&get("/explain?country=DE&path=/socket")).await.json();
    let upgrade_of_it = node.ask(&get("/explain?country=DE&path=/socket&upgrade=websocket")).await.json();
    let live = [read, upgrade_of_it];
    assert_eq!((&live[0]["verdict"], &live[1]["verdict"]), (&"forward".into(), &"refuse".into()), "{live:#?}");
    assert_eq!((&live[0]["request"]["upgrade"], &live[1]["request"]["upgrade"]), (&false.into(), &true.into()));
    assert_eq!(node.ask(&get("/explain?upgrade=h2c")).await.status, 400);

    assert!(upgrade(RawConnection::open(node.http()).await, "/socket", "DE").await.starts_with("http/1.1 503 "));
    assert!(upgrade(RawConnection::open(node.http()).await, "/socket", "US").await.starts_with("http/1.1 426 "));
    let line = node.access_log().find("the upgrade's line", |line| line.contains("\"status\":426")).await;
    assert!(line.contains("\"upgrade\":true"), "{line}");
    let home = line.replace("[\"US\"]", "[\"DE\"]").replace("\"region\":\"abroad\"", "\"region\":\"home\"");
    std::fs::write(node.path("upgrade.jsonl"), format!("{home}\n")).expect("a file");
    std::fs::write(node.path("read.jsonl"), home.replace("\"upgrade\":true", "\"upgrade\":false")).expect("a file");
    // In a table where home no longer writes, reads go on and upgrades have no region.
    let read_only = std::fs::read_to_string(table).expect("the table");
    let read_only = read_only.replacen("country = \"DE\"", "country = \"DE\"\ncapabilities = [\"read\"]", 1);
    std::fs::write(node.path("new.toml"), read_only).expect("a file");
    for (log, refused) in [("upgrade.jsonl", 1), ("read.jsonl", 0)] {
        let path = |name: &str| node.path(name).to_str().expect("UTF-8").to_owned();
        let ended = run(&["replay", "--log", &path(log), "--table", &path("new.toml"), "--format", "json"]);
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
        assert_eq!(report["refused"]["requests"], refused, "{log}: {report:#}");
    }
}

/// A node in a region abroad; the region at home refuses connections.
async fn start(home: &str, more: &str) -> (Listening, Authority, Node) {
    let mut abroad = Listening::start().await;
    // Bound, so that nobody else gets it, and not listening.
    let home_port = TcpSocket::new_v4().expect("a socket");
    home_port.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let closed = home_port.local_addr().expect("its address");
    abroad.home = Some(home_port);
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let table = SmallTable::new(&format!("{LAW}{more}")).region_with("home", "DE", &[closed], home).region(
        "abroad",
        "US",
        &[abroad.origin.address],
    );
    let node = Setup::new("abroad", &table.text()).plain().tls(&[&certificate]).start().await;
    eventually("home is known to be down", async || {
        let status = node.status().await;
        let mut regions = status["regions"].as_array().expect("regions").iter();
        let home = regions.find(|region| region["name"] == "home").expect("home");
        if home["health"] == "down" { Ok(()) } else { Err(home.to_string()) }
    })
    .await;
    (abroad, authority, node)
}

/// Asks for a WebSocket on behalf of a client in a country; the answer's head in lower case.
async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(mut client: RawConnection<S>, path: &str, country: &str) -> String {
    let address = geo::address(country, 1);
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: api.example.com\r\nx-forwarded-for: {address}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    client.write(request).await;
    client.read_until("\r\n\r\n").await.to_ascii_lowercase()
}

const LAW: &str = "[residency_defaults]\nunlisted_jurisdiction = \"allow\"\n\
    [jurisdictions.eu]\ncountries = [\"@EU\"]\n\
    [[residency]]\njurisdiction = \"eu\"\ndata_classes = [\"personal\"]\nallow = { countries = [\"@EU\"] }\n\
    transfer = \"requires_local_copy\"\n\
    [[routes]]\nname = \"all\"\ndata_class = \"personal\"\n\
    [[routes]]\nname = \"ticker\"\npath = \"/ticker\"\ndata_class = \"personal\"\naccess = \"read\"\n";
