//! What origins may send, whole and cut at every byte, and what goes up meanwhile.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::response_head::take_head;
use super::*;
use crate::peers::gateway::Counterpart;
use crate::request_body::RequestBody;

/// What came of an answer: its status, content, trailers, and whether another request may follow.
type Read = (u16, Vec<u8>, Option<HeaderMap>, bool);

/// Reads an answer that arrives in these pieces and then ends; an error's words if it is refused or cut off.
fn read(pieces: &[&[u8]], to_head: bool) -> Result<Read, String> {
    let mut input = BytesMut::new();
    let (mut head, mut decoder) = (None, Decoder::Ended);
    let (mut content, mut trailers) = (Vec::new(), None);
    for piece in pieces {
        input.extend_from_slice(piece);
        while head.is_none() {
            let Some(found) = take_head(&mut input, to_head).map_err(|error| error.to_string())? else { break };
            if found.response.status().is_informational() {
                continue;
            }
            decoder = Decoder::new(found.content);
            head = Some(found);
        }
        if head.is_none() {
            continue;
        }
        while let Some(frame) = decoder.decode(&mut input).map_err(|error| error.to_string())? {
            match frame.into_data() {
                Ok(data) => content.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
    }
    let head = head.ok_or("no head")?;
    decoder.close().map_err(|error| error.to_string())?;
    Ok((head.response.status().as_u16(), content, trailers, head.keeps_alive && input.is_empty()))
}

#[test]
fn answers_are_read_wherever_they_are_cut() {
    const LEGAL: &[(&str, &str, u16, &str, bool)] = &[
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true),
        (
            "the same length twice",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\nhello",
            200,
            "hello",
            true,
        ),
        ("no content", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true),
        ("a length that 304 only tells of", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, "", true),
        ("no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, "", true),
        ("not even a space", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, "", true),
        ("an unknown status", "HTTP/1.1 799 Odd\r\nContent-Length: 1\r\n\r\nx", 799, "x", true),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n",
            200,
            "hello",
            true,
        ),
        (
            "a coding in capitals",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            200,
            "x",
            true,
        ),
        ("the connection's end", "HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello", false),
        (
            "no coding, in the words of RFC 2616",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
            200,
            "hello",
            false,
        ),
        (
            "both, of which chunks count",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            200,
            "x",
            false,
        ),
        ("close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 200, "x", false),
        (
            "close among others",
            "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 1\r\n\r\nx",
            200,
            "x",
            false,
        ),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x", false),
        (
            "HTTP/1.0 that stays",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
            200,
            "x",
            true,
        ),
        (
            "an interim answer",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            200,
            "x",
            true,
        ),
        ("an empty line before", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x", true),
        ("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 1\n\nx", 200, "x", true),
        ("more than was said", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200", 200, "x", false),
    ];
    for (name, answer, status, content, reusable) in LEGAL {
        let answer = answer.as_bytes();
        for cut in 0..=answer.len() {
            let read = read(&[&answer[..cut], &answer[cut..]], false);
            let expected = Ok((*status, content.as_bytes().to_vec(), None, *reusable));
            assert_eq!(read, expected, "{name}, cut at {cut}");
        }
        let bytes: Vec<&[u8]> = answer.chunks(1).collect();
        assert_eq!(read(&bytes, false).map(|read| read.1), Ok(content.as_bytes().to_vec()), "{name}, byte by byte");
    }
}

#[test]
fn the_answer_to_head_has_no_content() {
    for framing in ["Content-Length: 5", "Transfer-Encoding: chunked", "X-None: 1"] {
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
        assert_eq!(read(&[answer.as_bytes()], true), Ok((200, Vec::new(), None, true)), "{framing}");
    }
}

/// However many bytes one read brings: what is a fault in pieces is one at once.
#[test]
fn what_is_too_long_is_refused_when_it_is_whole_too() {
    let long = "a".repeat(300 * 1024);
    let head = format!("HTTP/1.1 200 OK\r\nA: {long}\r\nContent-Length: 0\r\n\r\n");
    let many =
        format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", format!("A: {}\r\n", &long[..4096]).repeat(70));
    let trailers = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: {long}\r\n\r\n");
    for answer in [head, many, trailers].map(String::into_bytes) {
        assert!(read(&[&answer], false).is_err());
        assert!(read(&[&answer[..answer.len() - 1], &answer[answer.len() - 1..]], false).is_err());
    }
}

#[test]
fn trailers_come_last() {
    let answer =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nGrpc-Status: 0\r\nX-Sum: a\r\n\r\n";
    for cut in 0..answer.len() {
        let (_, content, trailers, reusable) = read(&[&answer[..cut], &answer[cut..]], false).unwrap();
        let trailers = trailers.unwrap();
        assert_eq!((content.as_slice(), trailers.len(), reusable), (&b"x"[..], 2, true));
        assert_eq!(trailers["grpc-status"], "0");
    }
}

#[test]
fn what_is_ambiguous_or_cut_is_refused() {
    let many: String = (0..1025).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(257 * 1024));
    let long_after_many = format!("HTTP/1.1 200 OK\r\n{}{}", "a: 1\r\n".repeat(70), long.get(17..).unwrap());
    for (name, answer) in [
        ("cut in its content", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"),
        ("cut in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        ("cut before the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"),
        ("cut in the last line", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"),
        ("cut in its head", "HTTP/1.1 200 OK\r\nContent-"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        ("a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
        ("an empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello"),
        ("a length past all", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello"),
        ("one before chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("chunks twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ("chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a chunk without its end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n"),
        ("a line without a size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n\r\n\r\n"),
        (
            "an extension with a line feed",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n",
        ),
        ("a size that is none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n"),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n"),
        ("HTTP/2", "HTTP/2 200\r\n\r\n"),
        ("too many fields", &format!("HTTP/1.1 200 OK\r\n{many}\r\n")),
        ("a head without end", &long),
        ("a head of many fields without end", &long_after_many),
    ] {
        assert!(read(&[answer.as_bytes()], false).is_err(), "{name}");
    }
}

#[test]
fn a_length_goes_down_once() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\n";
    let head = take_head(&mut BytesMut::from(&answer[..]), false).unwrap().unwrap();
    let lengths: Vec<_> = head.response.headers().get_all("content-length").iter().collect();
    assert_eq!(lengths, ["5"]);
}

#[test]
fn an_unusual_reason_is_passed_on() {
    let reason = |answer: &[u8]| {
        let head = take_head(&mut BytesMut::from(answer), false).unwrap().unwrap();
        head.response.extensions().get::<hyper::ext::ReasonPhrase>().map(|reason| reason.as_bytes().to_vec())
    };
    assert_eq!(reason(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    assert_eq!(reason(b"HTTP/1.1 200 Fine\r\n\r\n"), Some(b"Fine".to_vec()));
}

/// Returns a new connection, and its other end.
async fn connect() -> (Box<Http1>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (origin, _) = listener.accept().await.unwrap();
    let link = Link { place: None, counterpart: Counterpart::Unproven, generation: 0, server_name: None };
    (Box::new(Http1::new(OriginStream::Plain(stream), link)), origin)
}

fn get() -> RequestHead<'static> {
    RequestHead::Own(Box::new(Request::get("/a?b").header("host", "h").header("content-length", "0").body(()).unwrap()))
}

fn post() -> RequestHead<'static> {
    RequestHead::Own(Box::new(Request::post("/").body(()).unwrap()))
}

fn empty() -> AttemptBody {
    RequestBody::Empty.attempt().unwrap()
}

/// Reads until what was received ends with `end`.
async fn receive(origin: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut received = Vec::new();
    while !received.ends_with(end) {
        assert_ne!(origin.read_buf(&mut received).await.unwrap(), 0, "closed after {received:?}");
    }
    received
}

async fn content(connection: &mut Http1) -> Result<Vec<u8>, AnswerError> {
    let mut content = Vec::new();
    while let Some(frame) = poll_fn(|cx| connection.poll_frame(cx)).await {
        content.extend_from_slice(&frame?.into_data().unwrap_or_default());
    }
    Ok(content)
}

#[tokio::test]
async fn a_connection_takes_one_request_after_another() {
    let (mut connection, mut origin) = connect().await;
    for round in 0..3 {
        let answering = async {
            let received = receive(&mut origin, b"\r\n\r\n").await;
            assert_eq!(received, b"GET /a?b HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
            origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        };
        let (request, empty) = (get(), empty());
        let (answer, ()) = tokio::join!(connection.send(&request, empty, None), answering);
        assert_eq!(answer.unwrap().status(), 200);
        assert_eq!(content(&mut connection).await.unwrap(), b"ok");
        connection = connection.idle().unwrap();
        assert!(connection.is_quiet(false) && connection.is_quiet(true), "after {round}");
    }
}

#[tokio::test]
async fn what_comes_unasked_ends_an_idle_connection() {
    for unasked in [&b"HTTP/1.1 408 Request Timeout\r\n\r\n"[..], b""] {
        let (connection, mut origin) = connect().await;
        let mut connection = connection.idle().unwrap();
        origin.write_all(unasked).await.unwrap();
        drop(origin);
        let Io::Whole(stream) = &connection.io else { panic!("divided") };
        stream.tcp().readable().await.unwrap();
        assert!(!connection.is_quiet(false) && !connection.is_quiet(true), "{unasked:?}");
    }
}

#[tokio::test]
async fn a_body_goes_up_in_its_framing() {
    let large = vec![b'x'; 100_000];
    for body in [&b"hello"[..], &large] {
        let (mut connection, mut origin) = connect().await;
        let expected = [format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
        let answering = async {
            let mut received = vec![0; expected.len()];
            origin.read_exact(&mut received).await.unwrap();
            origin.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            received
        };
        let request = post();
        let sending = connection.send(&request, AttemptBody::full(Bytes::copy_from_slice(body)), None);
        let (answer, received) = tokio::join!(sending, answering);
        assert_eq!(answer.unwrap().status(), 204);
        assert!(received == expected);
        assert!(connection.is_end_stream() && connection.idle().is_some());
    }
}

#[tokio::test]
async fn an_early_answer_is_heard_while_the_request_goes_on() {
    let (mut connection, mut origin) = connect().await;
    // Far more than the sockets take while nobody reads.
    let body = vec![b'x'; 16 << 20];
    let length = body.len();
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    let answer = connection.send(&post(), AttemptBody::full(body.into()), None).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(content(&mut connection).await.unwrap(), b"ok");
    assert!(connection.idle().is_none(), "its request is not written yet");
    let mut received = Vec::new();
    origin.read_to_end(&mut received).await.unwrap();
    assert!(received.len() > length, "all of it arrives");
}

#[tokio::test]
async fn an_origin_that_closes_unanswered_may_have_acted() {
    let (mut connection, mut origin) = connect().await;
    let closing = async {
        receive(&mut origin, b"\r\n\r\n").await;
        drop(origin);
    };
    let (request, empty) = (get(), empty());
    let (answer, ()) = tokio::join!(connection.send(&request, empty, None), closing);
    assert!(matches!(answer, Err(Unanswered::Broken(AnswerError::Closed))));
}

#[tokio::test]
async fn what_follows_an_upgrade_belongs_to_the_new_protocol() {
    let (mut connection, mut origin) = connect().await;
    let upgrading = async {
        receive(&mut origin, b"\r\n\r\n").await;
        origin.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nfirst").await.unwrap();
    };
    let (request, empty) = (get(), empty());
    let (answer, ()) = tokio::join!(connection.send(&request, empty, None), upgrading);
    assert_eq!(answer.unwrap().status(), 101);
    let mut upgraded = connection.take_upgraded().unwrap();
    drop(origin);
    let mut rest = String::new();
    upgraded.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "first");
}
