//! How much a request may be.

use meridian_tests::{Answer, Client, RawConnection, Setup, World, get, post, streamed};

use super::EVERYTHING;

#[tokio::test]
async fn a_body_past_the_limit_is_refused() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).section("limits", "body_bytes = 1000").start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let mut connection = client.connect().await.expect("a connection");
        connection.send(&post("/", "x".repeat(1000))).await.assert_served_by("here");

        // Without a length it shows on the way.
        let mut connection = client.connect().await.expect("a connection");
        let (pieces, body) = streamed();
        let message = connection.message(&post("/", "")).map(|_| body);
        let sending = async {
            for _ in 0..3 {
                pieces.send(vec![b'x'; 400]).await;
            }
        };
        let (answer, ()) = tokio::join!(connection.head(message), sending);
        let answer = Answer::read(answer.expect("an answer")).await.expect("a whole answer");
        answer.assert_refused(413, "too_large");
    }
    // Its length gives it away before a byte of it has been sent.
    let arrived = world.received("here").len();
    let mut connection = RawConnection::open(node.http()).await;
    connection.write("POST / HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 1001\r\n\r\n").await;
    let (head, body) = connection.read_answer().await;
    assert!(head.starts_with("HTTP/1.1 413") && body.contains("too_large"), "{head}{body}");
    assert_eq!(world.received("here").len(), arrived);
    assert!(world.received("here").iter().all(|received| received.body_length <= 1000));
}

/// RFC 9112, 9.6: a server that closes at once resets the connection under the answer.
#[tokio::test]
async fn a_client_that_is_still_sending_can_read_its_refusal() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).section("limits", "body_bytes = 1000").start().await;
    for length in [1_001, 10_000, 100_000] {
        for _ in 0..10 {
            let head = format!("POST / HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: {length}\r\n\r\n");
            let answer = RawConnection::open(node.http()).await.exchange(head + &"x".repeat(length)).await;
            assert!(answer.starts_with("HTTP/1.1 413"), "{length} bytes: {answer:?}");
        }
    }
    world.assert_nothing_outside(&[]);
}

#[tokio::test]
async fn a_head_past_the_limits_is_refused() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let limits = "header_bytes = 4096\nheaders = 20";
    let node = Setup::new("here", world.table()).section("limits", limits).start().await;
    let raw = |more: &str| format!("GET / HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n{more}\r\n");
    let fields = |count: usize| (0..count).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    for (what, request, status) in [
        ("a long field", raw(&format!("x-long: {}\r\n", "x".repeat(5000))), "431"),
        (
            "many long fields",
            raw(&(0..10).map(|n| format!("x-{n}: {}\r\n", "x".repeat(500))).collect::<String>()),
            "431",
        ),
        ("many fields", raw(&fields(19)), "431"),
        ("a field that never ends", raw(&format!("x-long: {}", "x".repeat(100_000))), "431"),
        ("as many fields as there may be", raw(&fields(18)), "200"),
        ("as long as it may be", raw(&format!("x-long: {}\r\n", "x".repeat(3900))), "200"),
    ] {
        let answer = RawConnection::open(node.http()).await.exchange(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
    }
    let arrived = world.received("here").len();
    assert_eq!(arrived, 2);

    let client = Client::http2(node.http());
    for sent in [
        get("/").header("x-long", &"x".repeat(5000)),
        (0..30).fold(get("/"), |sent, number| sent.header(&format!("x-{number}"), "1")),
    ] {
        // h2 refuses a head that it has not decoded by itself: with 431, or by resetting its stream.
        if let Ok(answer) = client.try_send(&sent).await {
            assert_eq!(answer.status, 431, "{answer:?}");
        }
    }
    assert_eq!(world.received("here").len(), arrived);
    client.send(&get("/")).await.assert_served_by("here");
}

#[tokio::test]
async fn connections_past_the_limit_are_closed() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).section("limits", "connections = 5").start().await;
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
        connection.send(&get("/")).await.assert_served_by("here");
        open.push(connection);
    }
    let (answer, _) = RawConnection::open(node.http()).await.read_to_end().await;
    assert!(answer.is_empty(), "{answer:?}");
    let shed = node.metrics().await.sum("meridian_shed_total", &[("reason", "connections")]);
    assert_eq!(shed, Some(1.0), "the admin listener is not counted");
    drop(open);
    meridian_tests::eventually("room again", async || {
        let answer = Client::http1(node.http()).try_send(&get("/")).await;
        answer.map(drop).map_err(|error| error.to_string())
    })
    .await;
}
