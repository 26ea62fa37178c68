#!/usr/bin/env bash
# Expected: an answer whose last frame has END_STREAM is complete (RFC 9113, section 8.1: a server may end it before the
#   request has ended), whatever then becomes of the connection.
# Happens: a client on h2 0.4.20 that reads the answer's end and the connection's in one go forgets the first, if its own
#   request is not all sent yet: its content ends with an error, where a request that was all sent has a complete answer.
# Seen 2026-12-01 with h2 0.4.20.
# Matters: an origin that refuses an upload early, answers in full and closes (as many do after an error) looks as if it had
#   cut its answer, but only where both arrive together. A proxy then cuts a whole answer, drops its gRPC status, or counts
#   a fault against the origin. Whoever needs to know must follow END_STREAM by the frames.
source "$(dirname "$0")/lib/lab.sh"

mkdir -p "$work/ends/src"
cat >"$work/ends/Cargo.toml" <<'TOML'
[package]
name = "ends"
edition = "2021"
[dependencies]
h2 = "=0.4.20"
bytes = "1"
http = "1"
tokio = { version = "=1.54.1", features = ["full"] }
TOML
cat >"$work/ends/src/main.rs" <<'RUST'
use std::io::{Read, Write};
use std::net::TcpListener;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream][..], payload].concat()
}

/// Answers one request with status 200 and "whole" in one write, and closes.
fn origin(listener: TcpListener, ends: bool) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        match head[3] {
            4 if head[4] == 0 => stream.write_all(&frame(4, 1, 0, &[])).unwrap(),
            // HPACK's static table has ":status: 200" at 8.
            1 => return stream.write_all(&[frame(1, 4, 1, &[0x88]), frame(0, u8::from(ends), 1, b"whole")].concat()).unwrap(),
            _ => {}
        }
    }
}

async fn ask(is_sent: bool, ends: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let origin = std::thread::spawn(move || origin(listener, ends));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let mut client = client.ready().await.unwrap();
    let (answer, _upload) = client.send_request(http::Request::post("http://origin/").body(()).unwrap(), is_sent).unwrap();
    // The request's head is on its way before the connection reads: then the answer and the close are there together.
    let connection = tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        let mut turns = 0;
        std::future::poll_fn(|cx| {
            turns += 1;
            let polled = std::future::Future::poll(connection.as_mut(), cx);
            std::thread::sleep(std::time::Duration::from_millis(200));
            polled
        })
        .await
        .is_ok()
    });
    let _ = connection.await;
    origin.join().unwrap();
    let Ok(answer) = answer.await else { return "no answer".to_owned() };
    let mut content = answer.into_body();
    let mut text = String::new();
    while let Some(piece) = content.data().await {
        match piece {
            Ok(piece) => text += std::str::from_utf8(&piece).unwrap(),
            Err(_) => return format!("{text:?}, then an error"),
        }
    }
    format!("{text:?}, complete")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("all of the request sent, answer ended: {}", ask(true, true).await);
    println!("all of the request sent, answer cut: {}", ask(true, false).await);
    println!("more of the request to come, answer ended: {}", ask(false, true).await);
    println!("more of the request to come, answer cut: {}", ask(false, false).await);
}
RUST
CARGO_TARGET_DIR=$work/target cargo run --quiet --manifest-path "$work/ends/Cargo.toml" >"$work/seen"
unchanged <<'END'
all of the request sent, answer ended: "whole", complete
all of the request sent, answer cut: "whole", then an error
more of the request to come, answer ended: "whole", then an error
more of the request to come, answer cut: "whole", then an error
END
