//! Answers of HTTP/2 origins whose last frame comes together with the end of their connection: whole where the origin has ended
//! them (END_STREAM), also where their request is still on its way up, and visibly cut where it has not.

use http::Request;
use meridian_tests::bespoke::{self, Bespoke};
use meridian_tests::frames::{Frame, reason};
use meridian_tests::streams::{Stream, StreamClient};
use meridian_tests::{Frames, Node, RawConnection, Setup, SmallTable, patiently};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::EVERYTHING;

/// What an origin sends at one time before its connection ends, and what is left of it.
#[derive(Clone, Copy)]
struct Last {
    what: &'static str,
    /// Its frames: type, flags, payload.
    frames: &'static [(u8, u8, &'static [u8])],
}

const HEAD: (u8, u8, &[u8]) = (HEADERS, END_HEADERS, &[STATUS_200]);

const WHOLE: &[Last] = &[
    Last { what: "one frame", frames: &[HEAD, (DATA, END_STREAM, b"whole")] },
    Last { what: "two", frames: &[HEAD, (DATA, 0, b"wh"), (DATA, END_STREAM, b"ole")] },
    Last { what: "an empty one", frames: &[HEAD, (DATA, 0, b"whole"), (DATA, END_STREAM, b"")] },
    Last { what: "trailers", frames: &[HEAD, (DATA, 0, b"whole"), (HEADERS, END_STREAM | END_HEADERS, TRAILER)] },
    Last {
        what: "trailers in two frames",
        frames: &[HEAD, (DATA, 0, b"whole"), (HEADERS, END_STREAM, TRAILER), (CONTINUATION, END_HEADERS, TRAILER)],
    },
    Last { what: "a reset of the rest", frames: &[HEAD, (DATA, END_STREAM, b"whole"), (RST_STREAM, 0, &[0; 4])] },
];

const CUT: &[Last] = &[
    Last { what: "no end", frames: &[HEAD, (DATA, 0, b"whole")] },
    Last { what: "disowned", frames: &[HEAD, (DATA, 0, b"whole"), (GOAWAY, 0, &[0; 8]), (DATA, END_STREAM, b"!")] },
];

/// As an HTTP/2 client and as one of HTTP/1.1, with the request sent and with the rest of it still to come.
#[tokio::test]
async fn what_has_ended_is_whole() {
    for last in WHOLE {
        for goes in [false, true] {
            let (node, _origin, mut closed) = before(*last, goes).await;
            for is_upload in [false, true] {
                let what = format!("{}, GOAWAY {goes}, upload {is_upload}", last.what);
                let mut client = StreamClient::connect(node.http()).await;
                let (_, mut stream) = begin(&mut client, is_upload).await;
                assert_eq!(stream.read_to_end().await, ("whole".to_owned(), None), "{what}");
                let trailers = patiently("trailers", stream.receiving.trailers()).await.expect("trailers");
                let status = trailers.and_then(|trailers| trailers.get("grpc-status").cloned());
                assert_eq!(status.is_some(), last.what.starts_with("trailers"), "{what}: {status:?}");
                is_closed(&mut closed).await;
                let mut raw = RawConnection::open(node.http()).await;
                raw.write(if is_upload { UPLOAD } else { GET }).await;
                let answer = raw.read_until_or_close("\r\n0\r\n").await.unwrap_or_default();
                assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n0\r\n"), "{what}: {answer}");
                is_closed(&mut closed).await;
            }
            assert_eq!(node.metrics().await.sum("http_errors_total", &[]).unwrap_or(0.0), 0.0, "{}", last.what);
        }
    }
}

/// An answer that is a head and nothing else.
#[tokio::test]
async fn a_head_that_ends_is_whole() {
    const ALONE: Last = Last { what: "a head", frames: &[(HEADERS, END_HEADERS | END_STREAM, &[STATUS_200])] };
    for goes in [false, true] {
        let (node, _origin, mut closed) = before(ALONE, goes).await;
        for is_upload in [false, true] {
            let mut client = StreamClient::connect(node.http()).await;
            let (_, mut stream) = begin(&mut client, is_upload).await;
            assert_eq!(stream.read_to_end().await, (String::new(), None), "{goes} {is_upload}");
            is_closed(&mut closed).await;
            let mut raw = RawConnection::open(node.http()).await;
            raw.write(if is_upload { UPLOAD } else { GET }).await;
            let head = raw.read_until("\r\n\r\n").await;
            if !head.contains("\r\ncontent-length: 0\r\n") {
                assert_eq!(raw.read_until("\r\n\r\n").await, "0\r\n\r\n", "{goes} {is_upload}: {head}");
            }
            is_closed(&mut closed).await;
        }
    }
}

/// And what has not, or only by frames that count no more, is cut.
#[tokio::test]
async fn what_has_not_ended_is_cut() {
    for last in CUT {
        let (node, _origin, mut closed) = before(*last, false).await;
        for is_upload in [false, true] {
            let what = format!("{}, upload {is_upload}", last.what);
            let mut client = StreamClient::connect(node.http()).await;
            let (_, mut stream) = begin(&mut client, is_upload).await;
            let (text, end) = stream.read_to_end().await;
            assert!("whole".starts_with(&text) && end.is_some(), "{what}: {text} {end:?}");
            is_closed(&mut closed).await;
            let mut raw = RawConnection::open(node.http()).await;
            raw.write(if is_upload { UPLOAD } else { GET }).await;
            let (answer, _) = raw.read_to_end().await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("\r\n0\r\n"), "{what}: {answer}");
            is_closed(&mut closed).await;
        }
    }
}

/// However long after the connection's end its client reads it.
#[tokio::test]
async fn what_has_ended_is_whole_for_whoever_reads_it_later() {
    const PIECE: &[u8] = &[b'x'; 16_384];
    const LONG: Last = Last {
        what: "much",
        frames: &[
            HEAD,
            (DATA, 0, PIECE),
            (DATA, 0, PIECE),
            (DATA, 0, PIECE),
            (DATA, 0, PIECE),
            (DATA, 0, PIECE),
            (DATA, 0, PIECE),
            (DATA, 0, PIECE),
            (DATA, 0, PIECE),
            (DATA, 0, PIECE),
            (DATA, END_STREAM, PIECE),
        ],
    };
    let (node, _origin, mut closed) = before(LONG, false).await;
    for is_upload in [false, true] {
        let mut client = StreamClient::connect(node.http()).await;
        let (_, mut stream) = begin(&mut client, is_upload).await;
        is_closed(&mut closed).await;
        let (text, end) = stream.read_to_end().await;
        assert_eq!((text.len(), end), (10 * PIECE.len(), None), "{is_upload}");
    }
}

/// A WebSocket's last words, and an answer that is none.
#[tokio::test]
async fn a_tunnel_that_has_ended_is_not_broken() {
    for (status, what) in [(STATUS_200, "a tunnel"), (STATUS_404, "a refusal")] {
        let head: &'static [u8] = vec![status].leak();
        let frames: &'static [_] = vec![(HEADERS, END_HEADERS, head), (DATA, END_STREAM, &b"whole"[..])].leak();
        let (node, _origin, _) = before(Last { what, frames }, false).await;
        let mut client = StreamClient::connect(node.http()).await;
        let (_, mut stream) = client.ask("websocket", "/", "US").await;
        assert_eq!(stream.read_to_end().await, ("whole".to_owned(), None), "{what}");
    }
}

/// A client that has said GOAWAY gets the answer to a request that it has ended.
#[tokio::test]
async fn a_client_that_goes_away_is_answered() {
    const ANSWER: Last = Last { what: "an answer", frames: &[HEAD, (DATA, END_STREAM, b"whole")] };
    let (node, _origin, _) = before(ANSWER, false).await;
    let mut frames = Frames::connect(node.http()).await;
    let stream = frames.post("api.example.com", "/").await;
    let rest = [Frame::bytes(DATA, END_STREAM, stream, b"x"), Frame::bytes(GOAWAY, 0, 0, &[0; 8])].concat();
    frames.write_all(&rest).await;
    let mut content = Vec::new();
    loop {
        let frame = frames.read().await.expect("an answer");
        if frame.kind == DATA {
            content.extend(frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
        assert_ne!(frame.kind, RST_STREAM);
    }
    assert_eq!(content, b"whole");
}

/// A node before an origin that answers the first request of each connection so, says GOAWAY if it `goes`, and ends the
/// connection: all at one time. The origin tells of each connection that has ended.
async fn before(last: Last, goes: bool) -> (Node, Bespoke, UnboundedReceiver<()>) {
    let (sender, closed) = unbounded_channel();
    let origin = bespoke::frames(&[(ENABLE_CONNECT_PROTOCOL, 1)], move |mut frames: Frames, _| {
        let sender = sender.clone();
        async move {
            let stream = loop {
                let Some(frame) = frames.read().await else { return };
                match frame.kind {
                    HEADERS => break frame.stream,
                    // Until then it lets be sent less.
                    SETTINGS if frame.flags & ACK == 0 => frames.write(SETTINGS, ACK, 0, &[]).await,
                    _ => {}
                }
            };
            let mut bytes: Vec<u8> = last
                .frames
                .iter()
                .flat_map(|(kind, flags, payload)| {
                    Frame::bytes(*kind, *flags, if *kind == GOAWAY { 0 } else { stream }, payload)
                })
                .collect();
            if goes {
                bytes.extend(Frame::bytes(
                    GOAWAY,
                    0,
                    0,
                    &[stream.to_be_bytes(), reason::NO_ERROR.to_be_bytes()].concat(),
                ));
            }
            frames.write_all(&bytes).await;
            frames.finish().await;
            let _ = sender.send(());
        }
    })
    .await;
    let table = SmallTable::new(EVERYTHING).region_at("here", "US", &format!("h2c://{}", origin.address)).text();
    (Setup::new("here", &table).threads(1).start().await, origin, closed)
}

/// Waits until the node has seen the end of the origin's connection: the next request is not sent there.
async fn is_closed(closed: &mut UnboundedReceiver<()>) {
    patiently("the end of the origin's connection", closed.recv()).await.expect("an origin");
}

/// Sends a gRPC call's head as far as trailers are concerned, and its end, unless more is to come.
async fn begin(client: &mut StreamClient, is_upload: bool) -> (http::Response<()>, Stream) {
    let request = Request::post("http://api.example.com/").header("te", "trailers").body(()).expect("a request");
    let (answer, mut sending) = client.begin(request).await;
    sending.send_data("x".into(), !is_upload).expect("an open stream");
    let (head, receiving) = patiently("an answer", answer).await.expect("an answer").into_parts();
    (http::Response::from_parts(head, ()), Stream::new(sending, receiving))
}

const GET: &str = "GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nhost: api.example.com\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 8441, 3.
const ENABLE_CONNECT_PROTOCOL: u16 = 8;
/// In HPACK's static table.
const STATUS_200: u8 = 0x88;
const STATUS_404: u8 = 0x8d;
/// As it is, in no table.
const TRAILER: &[u8] = b"\0\x0bgrpc-status\x010";
