//! What is in a message, and what is not: chunks, trailers, and answers without a body.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use loadtest::origin::Behaviour;
use meridian_tests::{
    Client, Node, RawConnection, Setup, SmallTable, World, bespoke, full, get, head, patiently, post, streamed,
};

use super::EVERYTHING;

#[tokio::test]
async fn bodies_arrive_whole_in_either_framing() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        // More than the origin's record keeps, so that the length tells.
        client.send(&post("/", "0123456789".repeat(200_000))).await.assert_served_by("here");
        assert_eq!(world.received("here").pop().map(|received| received.body_length), Some(2_000_000));

        let mut connection = client.connect().await.expect("a connection");
        let (pieces, body) = streamed();
        let message = connection.message(&post("/", "")).map(|_| body);
        let sending = async move {
            for number in 0..100 {
                assert!(pieces.send(format!("piece {number};")).await);
            }
        };
        let (answer, ()) = tokio::join!(connection.head(message), sending);
        assert_eq!(answer.expect("an answer").status(), 200);
        let received = world.received("here").pop().expect("a request");
        let expected: String = (0..100).map(|number| format!("piece {number};")).collect();
        assert_eq!(std::str::from_utf8(&received.body), Ok(expected.as_str()));
    }
}

#[tokio::test]
async fn an_answer_comes_as_it_is_written() {
    // The origin sends its second piece only after the client has read the first.
    let (go, ready) = tokio::sync::watch::channel(0);
    let origin = bespoke::http(move |_: Request<Incoming>| {
        let mut ready = ready.clone();
        async move {
            let (pieces, body) = streamed();
            tokio::spawn(async move {
                for number in 0..5 {
                    if ready.wait_for(|so_far| *so_far >= number).await.is_err() || !pieces.send(piece(number)).await {
                        return;
                    }
                }
            });
            Ok(Response::builder().header("content-type", "text/event-stream").body(body).expect("an answer"))
        }
    })
    .await;
    let node = start(&origin).await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        go.send_replace(0);
        let mut connection = client.connect().await.expect("a connection");
        let message = connection.message(&get("/"));
        let mut answer = connection.head(message).await.expect("an answer");
        for number in 0..5 {
            let frame = patiently("the next piece", answer.frame()).await.expect("a frame").expect("no error");
            assert_eq!(frame.into_data().expect("data"), piece(number));
            go.send_replace(number + 1);
        }
        assert!(answer.frame().await.is_none_or(|frame| frame.is_ok_and(|frame| frame.is_data())));
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        world.behave("here", &Behaviour::Normal);
        let mut connection = client.connect().await.expect("a connection");
        let answer = connection.send(&head("/")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-length").as_deref()), (200, Some("2")));
        assert!(answer.body.is_empty());
        for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
            let mut bare = Response::new(Bytes::new());
            *bare.status_mut() = status;
            bare.headers_mut().insert("etag", HeaderValue::from_static("\"1\""));
            world.behave("here", &Behaviour::Answer(bare));
            let answer = connection.send(&get("/")).await;
            assert_eq!((answer.status, answer.header("etag").as_deref()), (status, Some("\"1\"")));
            assert!(answer.body.is_empty());
            assert_eq!(answer.region().as_deref(), Some("here"));
        }
        world.behave("here", &Behaviour::Normal);
        assert_eq!(connection.send(&get("/")).await.text(), "ok", "the connection is in order");
    }
}

#[tokio::test]
async fn a_client_that_expects_continue_gets_it_when_its_body_is_wanted() {
    let routes = "[[routes]]\nname = \"some\"\npath = \"/some\"\n";
    let world = World::of_regions(&[("here", "US")], routes).await;
    let node = Setup::new("here", world.table()).section("limits", "body_bytes = 100").start().await;
    let head = |path: &str, length: usize| {
        format!(
            "PUT {path} HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        )
    };
    let mut connection = RawConnection::open(node.http()).await;
    connection.write(head("/some", 5)).await;
    assert_eq!(connection.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    connection.write("hello").await;
    let (answer, _) = connection.read_answer().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = world.received("here").pop().expect("a request");
    assert_eq!(&received.body[..], b"hello");
    assert_eq!(received.header("expect"), Some("100-continue"), "it is the origin's to answer");

    for (path, length, status) in [("/other", 5, 404), ("/some", 101, 413)] {
        let mut connection = RawConnection::open(node.http()).await;
        connection.write(head(path, length)).await;
        let (answer, _) = connection.read_answer().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "no 100 before it: {answer}");
    }
    assert_eq!(world.received("here").len(), 1);
}

#[tokio::test]
async fn interim_answers_do_not_end_a_request() {
    let origin = bespoke::tcp(|mut visit| async move {
        visit
            .connection
            .write("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
            .await;
        visit.connection.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlast").await;
    })
    .await;
    let node = start(&origin).await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let answer = client.send(&get("/")).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "last"));
    }
}

#[tokio::test]
async fn trailers_reach_those_who_take_them() {
    let origin = bespoke::http(|request: Request<Incoming>| async move {
        // RFC 9110, 6.5.1: an HTTP/1.1 server sends trailers to those who ask for them.
        let asked = request.headers().get("te").is_some_and(|te| te == "trailers");
        let (pieces, body) = streamed();
        tokio::spawn(async move {
            let trailers =
                HeaderMap::from_iter([("x-checksum".parse().expect("a name"), HeaderValue::from_static("7"))]);
            if pieces.send("body").await {
                pieces.end_with(trailers).await;
            }
        });
        let response = Response::builder().header("trailer", "x-checksum").header("x-asked", asked.to_string());
        Ok(response.body(body).expect("an answer"))
    })
    .await;
    let node = start(&origin).await;
    let checksum =
        |trailers: &HeaderMap| trailers.get("x-checksum").map(|value| value.to_str().expect("ASCII").to_owned());

    let answer = Client::http2(node.http()).send(&get("/").header("te", "trailers")).await;
    assert_eq!(answer.text(), "body");
    assert_eq!(answer.header("x-asked").as_deref(), Some("true"));
    assert_eq!(checksum(&answer.trailers).as_deref(), Some("7"), "HTTP/2");

    let sent = get("/").header("te", "trailers").header("connection", "te");
    let answer = Client::http1(node.http()).send(&sent).await;
    assert_eq!(checksum(&answer.trailers).as_deref(), Some("7"), "HTTP/1.1");

    // Nobody is confused who did not ask.
    let answer = Client::http1(node.http()).send(&get("/")).await;
    assert_eq!((answer.text(), checksum(&answer.trailers)), ("body", None));
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_chunks() {
    let origin = bespoke::http(|_: Request<Incoming>| async {
        let (pieces, body) = streamed();
        tokio::spawn(async move {
            for number in 0..3 {
                pieces.send(piece(number)).await;
            }
        });
        Ok(Response::new(body))
    })
    .await;
    let node = start(&origin).await;
    let answer =
        RawConnection::open(node.http()).await.exchange("GET / HTTP/1.0\r\nhost: api.example.com\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(body, "piece 0;piece 1;piece 2;");
}

#[tokio::test]
async fn an_origin_that_answers_before_the_upload_is_done_is_heard() {
    let origin = bespoke::http(|request: Request<Incoming>| async move {
        let (parts, mut body) = request.into_parts();
        let answer = |status, text: &'static str| {
            let mut answer = Response::new(full(text));
            *answer.status_mut() = status;
            answer
        };
        if parts.uri.path() == "/polite" {
            // It reads on, so that nobody's connection is reset.
            tokio::spawn(async move { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} });
            return Ok(answer(StatusCode::FORBIDDEN, "too much"));
        }
        if parts.method == "POST" { Ok(answer(StatusCode::FORBIDDEN, "no")) } else { Ok(answer(StatusCode::OK, "")) }
    })
    .await;
    let node = start(&origin).await;
    for (path, statuses) in [("/polite", &[403][..]), ("/rude", &[403, 502])] {
        for client in [Client::http1(node.http()), Client::http2(node.http())] {
            let mut connection = client.connect().await.expect("a connection");
            let (pieces, body) = streamed();
            let message = connection.message(&post(path, "")).map(|_| body);
            // The client waits with the rest until it hears something.
            let sending = async {
                for _ in 0..3 {
                    pieces.send(vec![b'x'; 16_384]).await;
                }
            };
            let (answer, ()) = tokio::join!(connection.head(message), sending);
            let answer = answer.expect("an answer");
            assert!(statuses.contains(&answer.status().as_u16()), "{path}: {answer:?}");
            drop((answer, connection));
            // What is left of the upload must not be taken for the next request.
            assert_eq!(client.send(&get("/")).await.status, 200);
        }
    }
}

fn piece(number: usize) -> Bytes {
    format!("piece {number};").into()
}

async fn start(origin: &bespoke::Bespoke) -> Node {
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]);
    Setup::new("here", &table.text()).start().await
}
