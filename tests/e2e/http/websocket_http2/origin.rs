//! Origins of WebSockets, over HTTP/1.1 and over HTTP/2.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::Reason;
use h2::ext::Protocol;
use http::{Request, Response};
use meridian_tests::bespoke::{self, Bespoke};
use meridian_tests::streams::{Stream, accept_of};

/// An origin that agrees to tunnels at `/socket`, and sends back what comes; at the end of it it says how much that was. At
/// `bye;` it hangs up, and at `reset;` it resets, over HTTP/1.1 after a `last;` word. At `over;` one of HTTP/2 says that it
/// has no more to say and wants to hear no more (RFC 9113, 8.1), and at `leave;` it resets at the next message, having said all.
pub(super) struct Origin {
    bespoke: Bespoke,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// What was asked for.
    heads: Mutex<Vec<String>>,
    /// How the tunnels ended from the client's side, in order: by a reset with this reason, if by any.
    ends: Mutex<Vec<Option<u32>>>,
}

impl Origin {
    pub(super) fn address(&self) -> std::net::SocketAddr {
        self.bespoke.address
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().expect("no panic").clone()
    }

    pub(super) fn ended(&self) -> usize {
        self.seen.ends.lock().expect("no panic").len()
    }

    pub(super) fn resets(&self) -> Vec<u32> {
        self.seen.ends.lock().expect("no panic").iter().copied().flatten().collect()
    }

    pub(super) async fn of_http1() -> Origin {
        let seen = Arc::<Seen>::default();
        let shared = seen.clone();
        let bespoke = bespoke::tcp(move |visit| serve_http1(visit, shared.clone())).await;
        Origin { bespoke, seen }
    }

    pub(super) async fn of_http2(announces: bool) -> Origin {
        let seen = Arc::<Seen>::default();
        let shared = seen.clone();
        let bespoke =
            bespoke::streams(announces, move |request, respond| serve_http2(request, respond, shared.clone()));
        Origin { bespoke: bespoke.await, seen }
    }
}

async fn serve_http1(mut visit: bespoke::Visit, seen: Arc<Seen>) {
    let head = visit.head;
    let path = head.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap_or_default();
    let accept = match path.as_str() {
        "/forged" => accept_of("another key"),
        _ => accept_of(key),
    };
    let plain = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n";
    let offer = if head.contains("sec-websocket-protocol") { "sec-websocket-protocol: chat\r\n" } else { "" };
    let answer = match path.as_str() {
        "/plain" => plain("200 OK", "plain"),
        "/refused" => plain("403 Forbidden", "not for you"),
        "/silent" => format!("{agreed}\r\n"),
        _ => format!("{agreed}{offer}sec-websocket-accept: {accept}\r\n\r\n"),
    };
    visit.connection.write(answer).await;
    if path != "/socket" {
        return;
    }
    seen.heads.lock().expect("no panic").push(head);
    let mut heard = 0;
    while let Some(message) = visit.connection.read_until_or_close(";").await {
        heard += message.len();
        if message == "reset;" {
            let _ = visit.connection.try_write("last;").await;
            visit.connection.reset();
            return;
        }
        // The client may be gone.
        let _ = visit.connection.try_write(&message).await;
        if message == "hush;" {
            return std::future::pending().await;
        }
        if message == "bye;" {
            return;
        }
    }
    seen.ends.lock().expect("no panic").push(None);
    let _ = visit.connection.try_write(format!("{heard} bytes;")).await;
}

async fn serve_http2(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>, seen: Arc<Seen>) {
    let (head, receiving) = request.into_parts();
    if head.uri.path() == "/plain" {
        let mut sending = respond.send_response(Response::new(()), false).expect("an open stream");
        sending.send_data("plain".into(), true).expect("an open stream");
        return;
    }
    if head.uri.path() == "/refused" {
        let answer = Response::builder().status(403).body(()).expect("an answer");
        let mut sending = respond.send_response(answer, false).expect("an open stream");
        sending.send_data("not for you".into(), true).expect("an open stream");
        return;
    }
    let protocol = head.extensions.get::<Protocol>().map_or("none", Protocol::as_str);
    let version = head.headers["sec-websocket-version"].to_str().expect("text");
    assert!(!head.headers.contains_key("sec-websocket-key"), "{head:?}");
    let line = format!("{} {protocol} {} version {version}", head.method, head.uri);
    seen.heads.lock().expect("no panic").push(line);
    let answer = Response::builder().header("x-from", "origin").body(()).expect("an answer");
    let mut stream = Stream::new(respond.send_response(answer, false).expect("an open stream"), receiving);
    let mut heard = 0;
    let end = loop {
        match stream.try_read_until(";").await {
            Ok(message) if message == "reset;" => {
                stream.sending.send_reset(Reason::CANCEL);
                break None;
            }
            Ok(message) if message == "over;" => {
                assert!(stream.try_write(&message).await, "an open stream");
                stream.finish();
                // The library resets what is dropped like this, with NO_ERROR.
                return;
            }
            Ok(message) if message == "leave;" => {
                assert!(stream.try_write(&message).await, "an open stream");
                stream.finish();
                let _ = stream.try_read_until(";").await;
                stream.sending.send_reset(Reason::CANCEL);
                break None;
            }
            Ok(message) if message == "many;" => {
                let message = format!("{};", "x".repeat(99));
                for _ in 0..MANY {
                    assert!(stream.try_write(&message).await, "an open stream");
                }
            }
            Ok(message) => {
                heard += message.len();
                if !stream.try_write(&message).await {
                    break None;
                }
            }
            Err(None) => {
                if stream.try_write(format!("{heard} bytes;")).await {
                    stream.finish();
                }
                break None;
            }
            Err(Some(reason)) => break Some(u32::from(reason)),
        }
    };
    seen.ends.lock().expect("no panic").push(end);
}

/// Messages of 100 bytes that are sent at `many;`: more than the sockets on the way take.
pub(super) const MANY: usize = 100_000;
