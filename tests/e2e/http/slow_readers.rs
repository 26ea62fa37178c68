//! Clients that do not read their answers: what the node holds of these is counted, and little for each once it is much.

use http::Request;
use meridian_tests::bespoke;
use meridian_tests::frames::Frame;
use meridian_tests::streams::{Stream, StreamClient};
use meridian_tests::{Client, Frames, Node, Setup, SmallTable, eventually, get, patiently};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::EVERYTHING;

/// An origin of HTTP/2 may send 512 KiB on each stream before its client takes it, until all have half of what the node may
/// hold; then 16 KiB, also on those that are under way. Quick answers beside them go on, nothing is lost of the slow ones, and
/// when they are read the origin may send as much as before.
#[tokio::test]
async fn origins_of_http2_may_send_little_while_much_is_held() {
    let (sender, mut windows) = unbounded_channel();
    let origin = bespoke::frames(&[], move |frames, _| serve(frames, sender.clone())).await;
    let table = SmallTable::new(EVERYTHING).region_at("here", "US", &format!("h2c://{}", origin.address)).text();
    let setup = Setup::new("here", &table).threads(1).section("limits", "body_memory = \"2MiB\"");
    let node = setup.start().await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut client = StreamClient::connect(node.http()).await;
        let request = Request::get("http://api.example.com/").body(()).expect("a request");
        let (answer, mut sending) = client.begin(request).await;
        sending.send_data("".into(), true).expect("an open stream");
        let receiving = patiently("an answer", answer).await.expect("an answer").into_body();
        slow.push((client, Stream::new(sending, receiving)));
    }
    assert_eq!(window(&mut windows).await, WIDE);
    assert_eq!(window(&mut windows).await, 16 * 1024);
    assert!(held(&node).await >= 1 << 20, "{}", held(&node).await);
    for _ in 0..QUICK {
        assert_eq!(Client::http1(node.http()).send(&get("/")).await.text(), "quick");
    }
    for (_client, mut stream) in slow {
        let (text, end) = stream.read_to_end().await;
        assert_eq!((text.len(), end), (WIDE as usize, None));
    }
    eventually("all is given back", async || match held(&node).await {
        0 => Ok(()),
        bytes => Err(bytes.to_string()),
    })
    .await;
    assert_eq!(Client::http1(node.http()).send(&get("/")).await.text(), "quick");
    assert_eq!(window(&mut windows).await, WIDE);
}

/// Answers the first requests with as much as it may send, and ends these answers once it has answered some others at once.
/// Tells of each window that it is given for streams.
async fn serve(mut frames: Frames, windows: UnboundedSender<u32>) {
    let mut quick = 0;
    while let Some(frame) = frames.read().await {
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => {
                for setting in frame.payload.chunks_exact(6) {
                    let [high, low, value @ ..] = setting else { return };
                    if u16::from_be_bytes([*high, *low]) == INITIAL_WINDOW_SIZE {
                        let _ = windows.send(u32::from_be_bytes(value.try_into().expect("four bytes")));
                    }
                }
                frames.write(SETTINGS, ACK, 0, &[]).await;
            }
            PING if frame.flags & ACK == 0 => frames.write(PING, ACK, 0, &frame.payload).await,
            HEADERS if (frame.stream as usize) < 2 * SLOW => {
                let data = Frame::bytes(DATA, 0, frame.stream, &[b'x'; 16 * 1024]).repeat(WIDE as usize / (16 * 1024));
                let head = Frame::bytes(HEADERS, END_HEADERS, frame.stream, &[STATUS_200]);
                frames.write_all(&[head, data].concat()).await;
            }
            HEADERS => {
                frames.answer(frame.stream, "quick").await;
                quick += 1;
                if quick == QUICK {
                    for slow in (1..).step_by(2).take(SLOW) {
                        frames.write(DATA, END_STREAM, slow, b"").await;
                    }
                }
            }
            _ => {}
        }
    }
}

async fn window(windows: &mut UnboundedReceiver<u32>) -> u32 {
    patiently("a window", windows.recv()).await.expect("an origin")
}

/// What the node says that it holds, in bytes.
async fn held(node: &Node) -> u64 {
    node.status().await["overload"]["body_bytes"].as_u64().expect("a number")
}

/// Clients that do not read.
const SLOW: usize = 3;
/// Requests that are answered before the others' answers end.
const QUICK: usize = 3;
/// What an origin may send on one stream in rest, in bytes.
const WIDE: u32 = 512 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 9113, 6.5.2.
const INITIAL_WINDOW_SIZE: u16 = 4;
/// In HPACK's static table.
const STATUS_200: u8 = 0x88;
