//! Load balancers that ask a node for its health on the port that clients use, as each of them does.

use meridian_tests::{Authority, Client, Node, RawConnection, Setup, World, eventually, get, head, request};

use super::EVERYTHING;

/// Questions of balancers that know no host, and whether the answer has them keep the connection.
const QUESTIONS: [&str; 7] = [
    "OPTIONS / HTTP/1.0\r\n\r\n",
    "GET /.meridian/health HTTP/1.0\r\n\r\n",
    "HEAD /.meridian/health HTTP/1.0\r\n\r\n",
    "OPTIONS /.meridian/health HTTP/1.0\r\n\r\n",
    "GET /.meridian/health HTTP/1.1\r\nconnection: close\r\n\r\n",
    "GET /.meridian/health?x=1 HTTP/1.1\r\nhost: no.such.host\r\nconnection: close\r\n\r\n",
    "GET /.meridian/health HTTP/1.1\r\nhost: 10.0.0.1:8080\r\nconnection: close\r\n\r\n",
];

#[tokio::test]
async fn a_balancer_learns_whether_the_node_takes_traffic() {
    let (world, authority, mut node) = start().await;
    let secure = Client::http2(node.https()).over_tls(&authority, "api.example.com");
    let ask_all = async |status: &str| {
        for address in [node.http(), redirecting(&node)] {
            for question in QUESTIONS {
                let answer = RawConnection::open(address).await.exchange(question).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{question}: {answer}");
                assert!(answer.ends_with("\r\n\r\n"), "no content: {answer}");
            }
        }
        for sent in [get("/.meridian/health"), head("/.meridian/health"), request("OPTIONS", "/.meridian/health")] {
            for client in [&secure, &Client::http2(node.http())] {
                let answer = client.send(&sent.clone().host("no.such.host")).await;
                assert_eq!(answer.status.as_str(), status, "{sent:?}");
                assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
            }
        }
    };
    ask_all("200").await;
    node.ask(&request("POST", "/drain")).await;
    ask_all("503").await;
    assert_eq!(world.received("here").len(), 0, "no origin has heard of it");
    assert_eq!(node.metrics().await.sum("http_requests_total", &[]).unwrap_or(0.0), 0.0);
    Client::http1(node.http()).send(&get("/seen")).await.assert_served_by("here");
    node.access_log().find("a request's line", |line| line.contains("/seen")).await;
    assert!(!node.access_log().all().iter().any(|line| line.contains("health") || line.contains("OPTIONS")));
    node.signal("TERM");
    node.exited().await;
}

#[tokio::test]
async fn what_is_no_question_for_health_is_a_request() {
    let (world, _, node) = start().await;
    for (what, line, status) in [
        ("another method", "POST /.meridian/health HTTP/1.1\r\nhost: a.example\r\n", "200"),
        ("another path", "GET /.meridian/health/ HTTP/1.1\r\nhost: a.example\r\n", "200"),
        ("OPTIONS with a host", "OPTIONS / HTTP/1.0\r\nhost: a.example\r\n", "200"),
        ("no host", "OPTIONS / HTTP/1.1\r\n", "400"),
        ("no host", "GET / HTTP/1.0\r\n", "400"),
        ("another path without a host", "OPTIONS /x HTTP/1.0\r\n", "400"),
    ] {
        let answer = RawConnection::open(node.http()).await.exchange(format!("{line}connection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    }
    assert_eq!(world.received("here").len(), 3);
}

#[tokio::test]
async fn the_path_can_be_another_or_none() {
    let (world, _, node) = start().await;
    for (setting, path, options) in [("\"/up\"", "/up", "200"), ("\"off\"", "", "400")] {
        let file = setup(&world, &Authority::default()).node_file();
        let file = file.replacen("[[listeners]]\n", &format!("[[listeners]]\nhealth_path = {setting}\n"), 1);
        node.replace("node.toml", file);
        eventually("the new path", async || {
            let answer = RawConnection::open(node.http()).await.exchange("OPTIONS / HTTP/1.0\r\n\r\n").await;
            let health = RawConnection::open(node.http()).await.exchange(QUESTIONS[1]).await;
            let found = (answer.starts_with(&format!("HTTP/1.1 {options}")), health.starts_with("HTTP/1.1 400"));
            if found == (true, true) { Ok(()) } else { Err(format!("{answer}{health}")) }
        })
        .await;
        let before = world.received("here").len();
        let mut passed = vec!["/.meridian/health"];
        if path.is_empty() {
            passed.push("/up");
        } else {
            let answer = RawConnection::open(node.http()).await.exchange(format!("GET {path} HTTP/1.0\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        for path in &passed {
            Client::http1(node.http()).send(&get(path)).await.assert_served_by("here");
        }
        assert_eq!(world.received("here").len(), before + passed.len());
    }
}

/// RFC 9110, 9.3.7.
#[tokio::test]
async fn options_of_all_asks_for_the_node_itself() {
    let (world, _, node) = start().await;
    for address in [node.http(), redirecting(&node)] {
        let mut connection = RawConnection::open(address).await;
        for _ in 0..2 {
            connection.write("OPTIONS * HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
            let (head, _) = connection.read_answer().await;
            assert!(head.starts_with("HTTP/1.1 204 ") && !head.contains("content-length"), "{head}");
        }
    }
    for refused in ["OPTIONS * HTTP/1.1\r\n", "GET * HTTP/1.1\r\nhost: a.example\r\n"] {
        let answer =
            RawConnection::open(node.http()).await.exchange(format!("{refused}connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{refused}: {answer}");
    }
    assert_eq!(world.received("here").len(), 0);
}

fn redirecting(node: &Node) -> std::net::SocketAddr {
    node.listeners().iter().filter(|(kind, _)| kind == "http").map(|(_, address)| *address).nth(1).expect("a listener")
}

fn setup(world: &World, authority: &Authority) -> Setup {
    let certificate = authority.certify(&["api.example.com"]);
    Setup::new("here", world.table()).plain().redirecting().tls(&[&certificate])
}

async fn start() -> (World, Authority, Node) {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let node = setup(&world, &authority).start().await;
    (world, authority, node)
}
