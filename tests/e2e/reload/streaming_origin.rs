//! An origin that streams, listens, waits and echoes: what is under way when a table changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use meridian_tests::bespoke::{self, Bespoke};
use meridian_tests::{Pieces, empty, eventually, full, streamed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An origin that does what the second segment of a path says.
#[derive(Clone)]
pub(super) struct Origin {
    origin: Arc<Bespoke>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The requests that came, in order.
    requests: Vec<String>,
    /// Bytes of each upload, by its path.
    uploads: BTreeMap<String, u64>,
    ended: BTreeMap<String, Instant>,
    /// The sending ends of streams, by their paths.
    streams: BTreeMap<String, Pieces>,
}

impl Origin {
    /// Starts one; `wait` is answered unless its name is `here`.
    pub(super) async fn start(name: &'static str) -> Origin {
        let state = Arc::new(Mutex::new(State::default()));
        let its_state = state.clone();
        let origin = bespoke::http(move |request| answer(name, its_state.clone(), request)).await;
        Origin { origin: Arc::new(origin), state }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.origin.address
    }

    /// The requests that have come since the last time, in order.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("no panic").requests)
    }

    /// The bytes of an upload that have come.
    pub(super) fn got(&self, path: &str) -> u64 {
        self.state.lock().expect("no panic").uploads.get(path).copied().unwrap_or_default()
    }

    /// Waits until so many have.
    pub(super) async fn has_got(&self, path: &str, bytes: u64) {
        eventually("the origin gets it", async || {
            let got = self.state.lock().expect("no panic").uploads.get(path).copied();
            if got >= Some(bytes) { Ok(()) } else { Err(format!("{got:?} bytes of {path}")) }
        })
        .await;
    }

    /// The sending end of a stream's answer.
    pub(super) async fn pieces(&self, path: &str) -> Pieces {
        eventually("the stream at the origin", async || {
            self.state.lock().expect("no panic").streams.remove(path).ok_or_else(|| path.to_owned())
        })
        .await
    }

    /// Waits until an upload has ended; when it did.
    pub(super) async fn upload_ended(&self, path: &str) -> Instant {
        eventually("the end of an upload at the origin", async || {
            self.state.lock().expect("no panic").ended.get(path).copied().ok_or_else(|| path.to_owned())
        })
        .await
    }
}

async fn answer(
    name: &'static str,
    state: Arc<Mutex<State>>,
    mut request: Request<Incoming>,
) -> std::io::Result<Response<meridian_tests::Body>> {
    let path = request.uri().path().to_owned();
    let change = |change: &dyn Fn(&mut State)| change(&mut state.lock().expect("no panic"));
    change(&|state| {
        state.requests.push(format!("{} {path}", request.method()));
        state.uploads.insert(path.clone(), 0);
    });
    match path.split('/').nth(2) {
        Some("stream") => {
            let (pieces, body) = streamed();
            pieces.send("first;").await;
            state.lock().expect("no panic").streams.insert(path, pieces);
            Ok(Response::new(body))
        }
        Some("upload") => {
            let read = read(&state, &path, request.into_body()).await;
            state.lock().expect("no panic").ended.insert(path, Instant::now());
            read.map(|()| Response::new(full("read")))
        }
        // Answers at once, with more than anybody takes who does not read.
        Some("both") => {
            let (pieces, body) = streamed();
            tokio::spawn(async move { while pieces.send(vec![b'x'; 65_536]).await {} });
            tokio::spawn(async move {
                // That it breaks off is the point.
                let _ = read(&state, &path, request.into_body()).await;
                state.lock().expect("no panic").ended.insert(path, Instant::now());
            });
            Ok(Response::new(body))
        }
        Some("wait") if name == "here" => std::future::pending().await,
        Some("socket") => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.expect("an upgrade"));
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            });
            let response =
                Response::builder().status(101).header("upgrade", "websocket").header("connection", "upgrade");
            Ok(response.body(empty()).expect("an answer"))
        }
        _ => Ok(Response::new(full(name))),
    }
}

async fn read(state: &Mutex<State>, path: &str, mut body: Incoming) -> std::io::Result<()> {
    while let Some(frame) = body.frame().await {
        let bytes = frame.map_err(std::io::Error::other)?.data_ref().map_or(0, |data| data.len() as u64);
        *state.lock().expect("no panic").uploads.entry(path.to_owned()).or_default() += bytes;
    }
    Ok(())
}
