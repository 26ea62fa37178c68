#!/usr/bin/env bash
# Expected: what a client may send is bounded by HTTP/2's flow control; a server that reads late makes it wait.
# Happens: a server on h2 0.4.20 (as hyper 1.12.0, with its defaults) also charges each DATA frame for what it is short of
#   a size, until it is read. Some thousands of small frames that wait on one stream, far within both windows, end the
#   whole connection with ENHANCE_YOUR_CALM ("too_many_data_frames"), and the calls on its other streams with it.
# Seen 2026-11-30 with hyper 1.12.0, h2 0.4.20.
# Matters: a gRPC client that streams small messages (grpcio writes a frame each) to a handler that is slow to begin
#   loses every call of its channel, now and then. Neither hyper's nor tonic's server has a setting for it: read streams
#   as soon as they open, or have small messages batched.
source "$(dirname "$0")/lib/lab.sh"

mkdir -p "$work/late/src"
cat >"$work/late/Cargo.toml" <<'TOML'
[package]
name = "late"
edition = "2021"
[dependencies]
hyper = { version = "=1.12.0", features = ["http2", "server"] }
h2 = "=0.4.20"
hyper-util = { version = "=0.1.21", features = ["tokio"] }
http-body-util = "=0.1.5"
bytes = "1"
http = "1"
tokio = { version = "=1.54.1", features = ["full"] }
TOML
cat >"$work/late/src/main.rs" <<'RUST'
use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http2, service::service_fn, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

/// Reads each request's content, but only after a second.
async fn late(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _ = request.into_body().collect().await;
    Ok(Response::new(Empty::new()))
}

/// Sends so many messages of ten bytes on one stream, beside a stream that sends nothing; the answers to both, and how the connection ends.
async fn send(messages: usize) -> [String; 3] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(late)).await
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = || http::Request::post("http://origin/").body(()).unwrap();
    let (quiet, _) = client.send_request(request(), true).unwrap();
    let (busy, mut upload) = client.send_request(request(), false).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..messages {
        let _ = upload.send_data(Bytes::from_static(b"ten bytes."), false);
    }
    let _ = upload.send_data(Bytes::new(), true);
    let told = |answer: Result<http::Response<h2::RecvStream>, h2::Error>| match answer {
        Ok(answer) => answer.status().as_str().to_owned(),
        // By a GOAWAY, or by the connection's end after it, whichever is seen first.
        Err(_) => "none".to_owned(),
    };
    let answers = [told(busy.await), told(quiet.await)];
    drop((upload, client));
    let ended = match server.await.unwrap() {
        Ok(()) => "well".to_owned(),
        Err(error) => format!("{:?}", std::error::Error::source(&error).unwrap().downcast_ref::<h2::Error>().unwrap().reason()),
    };
    let [busy, quiet] = answers;
    [busy, quiet, ended]
}

#[tokio::main]
async fn main() {
    for messages in [1_000, 6_000] {
        let [busy, quiet, ended] = send(messages).await;
        println!("{messages} messages, {} KB: answers {busy}, {quiet}; the connection ended: {ended}", messages / 100);
    }
}
RUST
CARGO_TARGET_DIR=$work/target cargo run --quiet --manifest-path "$work/late/Cargo.toml" >"$work/seen"
unchanged <<'END'
1000 messages, 10 KB: answers 200, 200; the connection ended: well
6000 messages, 60 KB: answers none, none; the connection ended: Some(ENHANCE_YOUR_CALM)
END
