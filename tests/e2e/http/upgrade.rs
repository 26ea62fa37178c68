//! WebSocket: once the origin has agreed, bytes flow both ways until either side ends it.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use meridian_tests::bespoke::Bespoke;
use meridian_tests::{
    Authority, Client, Node, RawConnection, Setup, SmallTable, bespoke, empty, eventually, full, get,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::EVERYTHING;

#[tokio::test]
async fn bytes_flow_both_ways() {
    let (origin, authority, node) = start().await;
    converse(RawConnection::open(node.http()).await).await;
    converse(RawConnection::open_tls(node.https(), &authority, "api.example.com", b"http/1.1").await).await;
    let both = || async {
        let tunnels = node.status().await["tunnels"].clone();
        if tunnels == 0 { Ok(()) } else { Err(tunnels.to_string()) }
    };
    eventually("both tunnels are gone", async || both().await).await;
    drop(origin);
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut client: RawConnection<S>) {
    client.write(UPGRADE).await;
    let head = client.read_until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for field in ["upgrade: websocket", "connection: upgrade", "sec-websocket-accept: yes", "x-meridian-region: here"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field}: {head}");
    }
    for number in 0..10 {
        client.write(format!("message {number};")).await;
        assert_eq!(client.read_until(";").await, format!("message {number};"));
    }
    let long = format!("{};", "x".repeat(300_000));
    client.write(&long).await;
    assert_eq!(client.read_until(";").await.len(), long.len());
    client.write("bye;").await;
    assert_eq!(client.read_until(";").await, "bye;");
    let (rest, _) = client.read_to_end().await;
    assert!(rest.is_empty(), "the origin has hung up");
}

#[tokio::test]
async fn a_client_that_hangs_up_is_missed_at_once() {
    let (_origin, _, node) = start().await;
    let mut client = RawConnection::open(node.http()).await;
    client.write(UPGRADE).await;
    client.read_until("\r\n\r\n").await;
    assert_eq!(node.status().await["tunnels"], 1, "a tunnel counts");
    drop(client);
    eventually("the tunnel is gone", async || {
        let tunnels = node.status().await["tunnels"].clone();
        if tunnels == 0 { Ok(()) } else { Err(tunnels.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn an_origin_that_does_not_agree_answers_as_ever() {
    let (_origin, _, node) = start().await;
    let request = UPGRADE.replacen("/socket", "/plain", 1).replacen("upgrade\r\n", "upgrade, close\r\n", 1);
    let answer = RawConnection::open(node.http()).await.exchange(request).await;
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    assert!(answer.ends_with("no socket here"), "{answer}");
    // Nor does an ordinary request become an upgrade.
    assert_eq!(Client::http1(node.http()).send(&get("/socket")).await.status, 426);
    assert_eq!(Client::http2(node.http()).send(&get("/socket")).await.status, 426);
}

/// A tunnel of HTTP/2 would take its requests past every rule: other protocols than WebSocket are not passed on.
/// It would be read as the first bytes of the tunnel.
#[tokio::test]
async fn an_upgrade_with_content_is_refused() {
    let (_origin, _, node) = start().await;
    for content in ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
        let request = UPGRADE.replace("\r\n\r\n", &format!("\r\n{content}"));
        let answer = RawConnection::open(node.http()).await.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("content"), "{answer}");
    }
}

#[tokio::test]
async fn no_tunnel_leads_past_the_rules() {
    let origin = bespoke::tcp(|mut visit| async move {
        let asked = visit.head.to_ascii_lowercase().contains("upgrade:");
        let answer = if asked {
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\ntunnel"
        } else {
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
        };
        visit.connection.write(answer).await;
        visit.connection.read_to_end().await;
    })
    .await;
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]).text();
    let node = Setup::new("here", &table).start().await;
    let request = "GET / HTTP/1.1\r\nhost: api.example.com\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
        http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let mut connection = RawConnection::open(node.http()).await;
    connection.write(request).await;
    let head = connection.read_until("\r\n\r\n").await;
    assert!(!head.starts_with("HTTP/1.1 101"), "{head}");
}

/// An origin that switches though nobody asked it to.
#[tokio::test]
async fn an_upgrade_that_nobody_wanted_is_a_failure() {
    let origin = bespoke::tcp(|mut visit| async move {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
        visit.connection.write(answer).await;
        visit.connection.read_to_end().await;
    })
    .await;
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]).text();
    let node = Setup::new("here", &table).start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let answer = client.send(&get("/")).await;
        assert_eq!(answer.status, 502, "{answer:?}");
    }
}

async fn start() -> (Bespoke, Authority, Node) {
    let origin = bespoke::http(|mut request: Request<Incoming>| async move {
        let field = |name: &str| request.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned());
        let asked = field("upgrade").as_deref() == Some("websocket")
            && field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade"))
            && field("sec-websocket-key").as_deref() == Some("dGhlIHNhbXBsZSBub25jZQ==");
        if !asked || request.uri().path() != "/socket" {
            let mut refusal = Response::new(full("no socket here"));
            *refusal.status_mut() = StatusCode::UPGRADE_REQUIRED;
            return Ok(refusal);
        }
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(stream) = upgrade.await {
                echo(TokioIo::new(stream)).await;
            }
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("upgrade", "websocket")
            .header("connection", "upgrade")
            .header("sec-websocket-accept", "yes");
        Ok(response.body(empty()).expect("an answer"))
    })
    .await;
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]).text();
    let node = Setup::new("here", &table).plain().tls(&[&certificate]).start().await;
    (origin, authority, node)
}

/// Sends back what comes, until a message says bye.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 16_384];
    loop {
        let Ok(read @ 1..) = stream.read(&mut buffer).await else { return };
        let data = &buffer[..read];
        if stream.write_all(data).await.is_err() || data.ends_with(b"bye;") {
            // The other side may be gone already.
            let _ = stream.shutdown().await;
            return;
        }
    }
}

const UPGRADE: &str = "GET /socket HTTP/1.1\r\nhost: api.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
