//! A table that no longer lets a region serve ends what is under way there, within five seconds: tunnels, uploads, and
//! answers that stream or are awaited, busy or idle. What it leaves alone goes on.

use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use meridian_tests::{
    Authority, Client, Connection, Node, Pieces, Protocol, RawConnection, Setup, SmallTable, get, put, request,
    streamed, within,
};

use super::streaming_origin::Origin;

/// The law leaves the region: its streams end, others' go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_law_that_forbids_a_region_ends_what_it_serves() {
    let world = Streaming::start().await;
    let mut forbidden = world.under_way("/personal").await;
    let mut allowed = world.under_way("/public").await;
    let reloaded = world.reload(&table(&world, "allow = { regions = [\"there\"] }", "")).await;
    forbidden.end_within_five_seconds(reloaded).await;
    // All that was looked at has been looked at by now.
    allowed.go_on().await;
    let mut moved = world.there.take();
    moved.sort();
    assert_eq!(moved, ["GET /personal/wait/h1", "GET /personal/wait/h2"], "what may be repeated moved");

    let metrics = world.node.metrics().await;
    for (kind, count) in [("answer", 6.0), ("request", 4.0), ("tunnel", 2.0)] {
        let labels = [("region", "here"), ("kind", kind), ("cause", "residency")];
        assert_eq!(metrics.sum("meridian_revoked_total", &labels), Some(count), "{kind}");
    }
    assert_eq!(metrics.sum("data_residency_violations_total", &[]), Some(0.0));
    assert_eq!(metrics.sum("meridian_ejections_total", &[]), None, "no fault of the origin's");
    let find = |what: &str| {
        let path = format!("\"path\":\"/personal/{what}");
        let line = world.node.access_log().find("its line", move |line| line.contains(&path));
        async move { serde_json::from_str::<serde_json::Value>(&line.await).expect("JSON") }
    };
    for what in ["stream/h1-idle", "stream/h2-busy", "upload/h1", "socket"] {
        let line = find(what).await;
        assert_eq!(line["reason"], "revoked", "{line}");
        // The upload got an answer of the node's own.
        let of_the_region = what != "upload/h1";
        assert_eq!((line["region"] == "here", line["complete"] == false), (of_the_region, of_the_region), "{line}");
    }
    assert_eq!(find("socket").await["tunnel"]["ended"], "revoked");
}

/// An operator disables the region: everything there ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_region_serves_nothing_that_is_under_way() {
    let world = Streaming::start().await;
    let mut personal = world.under_way("/personal").await;
    let mut public = world.under_way("/public").await;
    let reloaded = world.reload(&table(&world, EVERYWHERE, "state = \"disabled\"")).await;
    personal.end_within_five_seconds(reloaded).await;
    public.end_within_five_seconds(reloaded).await;
    let revoked = world.node.metrics().await.sum("meridian_revoked_total", &[("cause", "disabled")]);
    assert_eq!(revoked, Some(24.0));
}

/// An emergency switches a route off, or lets its clients read only: what is under way there ends, and moves nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_ends_what_it_would_refuse() {
    let world = Streaming::start().await;
    let mut off = world.under_way("/personal").await;
    let mut public = world.under_way("/public").await;
    let emergency = "[emergency]\nroutes_off = [\"personal\"]\nshed = \"default\"\n";
    let reloaded = world.reload(&(table(&world, EVERYWHERE, "") + emergency)).await;
    off.end_and_move(reloaded, None, "emergency_route_off").await;
    // What is merely shed goes on to its end.
    public.go_on().await;
    assert_eq!(world.there.take(), [""; 0], "nobody else is asked");
    let revoked = world.node.metrics().await.sum("meridian_revoked_total", &[("cause", "emergency")]);
    assert_eq!(revoked, Some(12.0));
}

/// Tables that change other things, and drain the region, end nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_new_table_allows_goes_on() {
    let world = Streaming::start().await;
    let mut all = world.under_way("/personal").await;
    let mut doomed = world.under_way("/doomed").await;
    let other = table(&world, EVERYWHERE, "").replacen("version = \"1\"", "version = \"2\"", 1);
    world.reload(&format!("{other}\n[[routes]]\nname = \"more\"\npath = \"/more\"\ndata_class = \"public\"\n")).await;
    // One that came under the table in force and one that came before are asked in the same way.
    let mut later = world.under_way("/public").await;
    world
        .reload(&table(&world, EVERYWHERE, "state = \"draining\"").replace("version = \"1\"", "version = \"3\""))
        .await;
    let forbidden = table(&world, "allow = { regions = [\"there\"] }", "");
    let forbidden =
        forbidden.replace("\"/personal\"", "\"/personal/none\"").replace("version = \"1\"", "version = \"4\"");
    let reloaded = world.reload(&forbidden).await;
    // Once all of these are gone, the others have been asked as well.
    doomed.end_within_five_seconds(reloaded).await;
    all.go_on().await;
    later.go_on().await;
    assert_eq!(world.node.metrics().await.sum("meridian_revoked_total", &[]), Some(12.0));
}

/// An upload that may be repeated, and is kept, goes to another region as a whole.
#[tokio::test]
async fn an_upload_that_may_be_repeated_moves() {
    let world = Streaming::start().await;
    for (name, client) in [("h1", Client::http1(world.node.http())), ("h2", Client::http2(world.node.http()))] {
        world.reload(&table(&world, EVERYWHERE, "")).await;
        let path = format!("/personal/upload/{name}");
        let mut connection = client.connect().await.expect("a connection");
        let (pieces, body) = streamed();
        let message = connection.message(&put(&path, "").from("US")).map(|_| body);
        let answer = tokio::spawn(async move { connection.head(message).await });
        assert!(pieces.send("first;").await);
        world.here.has_got(&path, 6).await;
        world.reload(&table(&world, "allow = { regions = [\"there\"] }", "")).await;
        world.there.has_got(&path, 6).await;
        assert!(pieces.send("second;").await);
        drop(pieces);
        let answer = within(Duration::from_secs(10), "the answer", answer).await.expect("no panic").expect("an answer");
        assert_eq!(
            (answer.status(), answer.headers()["x-meridian-region"].as_bytes()),
            (StatusCode::OK, &b"there"[..])
        );
        assert_eq!((world.here.got(&path), world.there.got(&path)), (6, 13), "no byte more where it may not be");
    }
}

/// A client that sends on and takes nothing of its answer: its upload ends all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_beside_an_answer_that_is_not_taken_ends() {
    let world = Streaming::start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        world.reload(&table(&world, EVERYWHERE, "")).await;
        let path = format!("/personal/both/{protocol:?}");
        let mut connection = Client::http1(world.node.http()).speaking(protocol).connect().await.expect("a connection");
        let (pieces, body) = streamed();
        let message = connection.message(&request("POST", &path).from("US")).map(|_| body);
        let answer = connection.head(message).await.expect("an answer's head, and nothing more is read");
        assert!(pieces.send("first;").await);
        world.here.has_got(&path, 6).await;
        let feeding = tokio::spawn(feed(pieces));
        world.here.has_got(&path, 200).await;
        let reloaded = world.reload(&table(&world, "allow = { regions = [\"there\"] }", "")).await;
        in_time(stands_still(|| world.here.got(&path)).await, reloaded);
        drop(answer);
        feeding.abort();
    }
}

/// A node, and an origin in each of its two regions; requests go here unless the law says otherwise.
struct Streaming {
    here: Origin,
    there: Origin,
    authority: Authority,
    node: Node,
}

/// Everything that was begun under one path.
struct UnderWay {
    path: &'static str,
    idle: Vec<Incoming>,
    busy: Vec<(Incoming, tokio::task::JoinHandle<()>)>,
    /// The ends at the origin of what idles.
    idle_pieces: Vec<Pieces>,
    uploads: Vec<Upload>,
    waiting: Vec<tokio::task::JoinHandle<std::io::Result<Response<Incoming>>>>,
    socket: RawConnection,
    tls_socket: meridian_tests::RawTls,
    here: Origin,
    _connections: Vec<Connection>,
}

struct Upload {
    path: String,
    pieces: Option<Pieces>,
    answer: tokio::task::JoinHandle<std::io::Result<Response<Incoming>>>,
}

impl Streaming {
    async fn start() -> Streaming {
        let (here, there) = (Origin::start("here").await, Origin::start("there").await);
        let authority = Authority::default();
        let certificate = authority.certify(&["api.example.com"]);
        let text = text(&here, &there, EVERYWHERE, "");
        let node = Setup::new("there", &text).plain().tls(&[&certificate]).start().await;
        Streaming { here, there, authority, node }
    }

    /// Puts a table in force; the time by which it was.
    async fn reload(&self, table: &str) -> Instant {
        let skipped = self.node.log().count();
        let before = std::fs::read_to_string(self.node.path("routes.toml")).expect("the table");
        if before != table {
            self.node.replace("routes.toml", table);
            self.node.logged_after(skipped, "routing table applied").await;
        }
        Instant::now()
    }

    /// Begins one of each kind, by each protocol.
    async fn under_way(&self, path: &'static str) -> UnderWay {
        let (mut idle, mut idle_pieces, mut busy, mut uploads) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut waiting, mut connections) = (Vec::new(), Vec::new());
        let secure = Client::http2(self.node.https()).over_tls(&self.authority, "api.example.com");
        let clients = [Client::http1(self.node.http()), Client::http2(self.node.http()), secure];
        for (name, client) in ["h1", "h2", "tls"].iter().zip(clients) {
            for kind in ["idle", "busy"] {
                let stream = format!("{path}/stream/{name}-{kind}");
                let mut connection = client.connect().await.expect("a connection");
                let mut answer =
                    connection.head(connection.message(&get(&stream).from("US"))).await.expect("an answer").into_body();
                let first = answer.frame().await.expect("a piece").expect("no error").into_data().expect("data");
                assert_eq!(first, "first;");
                let pieces = self.here.pieces(&stream).await;
                match kind {
                    "idle" => {
                        idle.push(answer);
                        idle_pieces.push(pieces);
                    }
                    _ => busy.push((answer, tokio::spawn(feed(pieces)))),
                }
                connections.push(connection);
            }
            if *name == "tls" {
                continue;
            }
            let upload = format!("{path}/upload/{name}");
            let mut connection = client.connect().await.expect("a connection");
            let (pieces, body) = streamed();
            let message = connection.message(&request("POST", &upload).from("US")).map(|_| body);
            let answer = tokio::spawn(async move { connection.head(message).await });
            assert!(pieces.send("first;").await);
            self.here.has_got(&upload, 6).await;
            uploads.push(Upload { path: upload, pieces: Some(pieces), answer });

            let wait = format!("{path}/wait/{name}");
            let mut connection = client.connect().await.expect("a connection");
            let message = connection.message(&get(&wait).from("US"));
            waiting.push(tokio::spawn(async move { connection.head(message).await }));
            self.here.has_got(&wait, 0).await;
        }
        let mut socket = RawConnection::open(self.node.http()).await;
        let mut tls_socket =
            RawConnection::open_tls(self.node.https(), &self.authority, "api.example.com", b"http/1.1").await;
        let ask = upgrade(path);
        socket.write(&ask).await;
        tls_socket.write(&ask).await;
        assert!(socket.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101"));
        assert!(tls_socket.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101"));
        let here = self.here.clone();
        UnderWay {
            path,
            idle,
            busy,
            idle_pieces,
            uploads,
            waiting,
            socket,
            tls_socket,
            here,
            _connections: connections,
        }
    }
}

impl UnderWay {
    /// All of it has ended by five seconds from then, and shows that it was cut.
    async fn end_within_five_seconds(&mut self, reloaded: Instant) {
        self.end_and_move(reloaded, Some("there"), "revoked").await;
    }

    /// The same, where what may be repeated is served by this region, or is refused.
    async fn end_and_move(&mut self, reloaded: Instant, moves_to: Option<&str>, reason: &str) {
        let all = async {
            for answer in self.idle.drain(..).chain(self.busy.drain(..).map(|(answer, _)| answer)) {
                cut(answer).await;
            }
            for mut upload in self.uploads.drain(..) {
                // It may be a moment until a client that only sends hears of it.
                let pieces = upload.pieces.take().expect("its pieces");
                let sending = tokio::spawn(feed(pieces));
                // Or all that it hears is a reset.
                if let Ok(answer) = upload.answer.await.expect("no panic") {
                    assert_eq!(answer.status(), 503);
                    // A client that goes on sending may lose the rest of the answer to one.
                    if let Ok(problem) = answer.into_body().collect().await {
                        let problem = String::from_utf8(problem.to_bytes().to_vec()).expect("text");
                        assert!(problem.contains(&format!("\"reason\":\"{reason}\"")), "{problem}");
                    }
                }
                in_time(self.here.upload_ended(&upload.path).await, reloaded);
                sending.abort();
            }
            for waiting in self.waiting.drain(..) {
                let answer = waiting.await.expect("no panic").expect("an answer");
                let region = answer.headers().get("x-meridian-region").map(|region| region.to_str().expect("a name"));
                let status = if moves_to.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                assert_eq!((answer.status(), region), (status, moves_to));
            }
            assert_eq!(self.socket.read_to_end().await.0, b"");
            assert_eq!(self.tls_socket.read_to_end().await.0, b"");
        };
        within(PATIENCE, self.path, all).await;
        // Looked at here, so that what has not ended at all is told from what was late.
        in_time(Instant::now(), reloaded);
    }

    /// All of it goes on: bytes arrive, both ways.
    async fn go_on(&mut self) {
        for (answer, pieces) in self.idle.iter_mut().zip(&self.idle_pieces) {
            assert!(pieces.send("more;").await, "the origin's connection is there");
            assert_eq!(answer.frame().await.expect("a piece").expect("no error").into_data().expect("data"), "more;");
        }
        for (answer, _) in &mut self.busy {
            answer.frame().await.expect("a piece").expect("no error");
        }
        for upload in &self.uploads {
            let before = self.here.got(&upload.path);
            assert!(upload.pieces.as_ref().expect("its pieces").send("more;").await);
            self.here.has_got(&upload.path, before + 5).await;
        }
        assert!(self.waiting.iter().all(|waiting| !waiting.is_finished()));
        self.socket.write("ping;").await;
        assert_eq!(self.socket.read_until(";").await, "ping;");
        self.tls_socket.write("ping;").await;
        assert_eq!(self.tls_socket.read_until(";").await, "ping;");
    }
}

/// Reads an answer until it breaks off, which must show.
async fn cut(mut answer: Incoming) {
    loop {
        match answer.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return,
            None => panic!("it looks whole"),
        }
    }
}

#[track_caller]
fn in_time(ended: Instant, reloaded: Instant) {
    let took = ended.saturating_duration_since(reloaded);
    assert!(took < AT_MOST, "{took:?}");
}

/// Waits until a count has stood still for a second, though it is fed; since when it has.
async fn stands_still(count: impl Fn() -> u64) -> Instant {
    let standing = async {
        let mut last = (count(), Instant::now());
        while last.1.elapsed() < Duration::from_secs(1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if count() != last.0 {
                last = (count(), Instant::now());
            }
        }
        last.1
    };
    within(PATIENCE, "an end of what is fed", standing).await
}

/// Sends piece after piece until nobody takes any more.
async fn feed(pieces: Pieces) {
    while pieces.send("more;").await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn table(world: &Streaming, allow: &str, here: &str) -> String {
    text(&world.here, &world.there, allow, here)
}

fn text(here_origin: &Origin, there: &Origin, allow: &str, here: &str) -> String {
    let law = format!(
        "[residency_defaults]\nunlisted_jurisdiction = \"allow\"\n[jurisdictions.us]\ncountries = [\"US\"]\n\
         [[residency]]\njurisdiction = \"us\"\ndata_classes = [\"personal\"]\n{allow}\n\
         [[routes]]\nname = \"personal\"\npath = \"/personal\"\ndata_class = \"personal\"\ntimeout = \"120s\"\n\
         [[routes]]\nname = \"doomed\"\npath = \"/doomed\"\ndata_class = \"personal\"\ntimeout = \"120s\"\n\
         [[routes]]\nname = \"public\"\ndata_class = \"public\"\ntimeout = \"120s\"\n\
         [affinity]\nsecret = \"0123456789abcdef0123456789abcdef\"\n"
    );
    SmallTable::new(&law)
        .region_with("here", "US", &[here_origin.address()], here)
        .region("there", "US", &[there.address()])
        .text()
}

fn upgrade(path: &str) -> String {
    let client = meridian_tests::geo::address("US", 1);
    format!(
        "GET {path}/socket HTTP/1.1\r\nhost: api.example.com\r\nx-forwarded-for: {client}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

const EVERYWHERE: &str = "allow = { regions = [\"here\", \"there\"] }";

/// Five seconds, and what a busy machine may be late by.
const AT_MOST: Duration = Duration::from_millis(7500);

const PATIENCE: Duration = Duration::from_secs(30);
