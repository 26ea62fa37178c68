//! HTTP/2 frame by frame, for origins that end connections and streams exactly as a test wants it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::patiently;

/// A connection whose preface has been read, and whose SETTINGS have been sent.
pub struct Frames {
    stream: TcpStream,
}

/// A frame (RFC 9113, 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The stream that it belongs to; 0 is the connection.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

/// The reasons of RST_STREAM and GOAWAY (RFC 9113, 7).
pub mod reason {
    #![allow(missing_docs)]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

impl Frame {
    /// Its bytes.
    pub fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }
}

impl Frames {
    /// Reads the preface, and sends these settings (identifier, value). `None` when the other end does not speak
    /// HTTP/2, such as a probe that only connects.
    pub(crate) async fn accept(mut stream: TcpStream, settings: &[(u16, u32)]) -> Option<Frames> {
        let mut preface = [0; PREFACE.len()];
        patiently("a preface", stream.read_exact(&mut preface)).await.ok()?;
        if preface != *PREFACE {
            return None;
        }
        let mut frames = Frames { stream };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        frames.write(SETTINGS, 0, 0, &payload).await;
        Some(frames)
    }

    /// Opens a connection as a client.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn connect(address: SocketAddr) -> Frames {
        let stream = patiently("a connection", TcpStream::connect(address)).await.expect("a connection");
        let mut frames = Frames { stream };
        frames.stream.write_all(PREFACE).await.expect("a preface");
        frames.write(SETTINGS, 0, 0, &[]).await;
        frames
    }

    /// Begins a POST, as a client: the first stream of the connection.
    pub async fn post(&mut self, host: &str, path: &str) -> u32 {
        // Of HPACK's static table: POST, http; then names with values as they are.
        let mut head = vec![0x83, 0x86];
        for (name, value) in [(0x04, path), (0x01, host)] {
            head.extend([name, u8::try_from(value.len()).expect("a short value")]);
            head.extend(value.bytes());
        }
        self.write(HEADERS, END_HEADERS, 1, &head).await;
        1
    }

    /// Reads to the end of the next request's head and body, and gives the number of its stream. SETTINGS and PING are
    /// answered meanwhile. `None` when the connection ends.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.read().await?;
            match frame.kind {
                HEADERS | DATA if frame.flags & END_STREAM != 0 => return Some(frame.stream),
                SETTINGS if frame.flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await,
                PING if frame.flags & ACK == 0 => self.write(PING, ACK, 0, &frame.payload).await,
                _ => {}
            }
        }
    }

    /// The next frame; `None` when the connection ends.
    pub async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        patiently("a frame", self.stream.read_exact(&mut head)).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        patiently("a frame's payload", self.stream.read_exact(&mut payload)).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Answers 200 with this body.
    pub async fn answer(&mut self, stream: u32, body: &str) {
        self.write(HEADERS, END_HEADERS, stream, &[STATUS_200]).await;
        self.write(DATA, END_STREAM, stream, body.as_bytes()).await;
    }

    /// RST_STREAM.
    pub async fn reset(&mut self, stream: u32, reason: u32) {
        self.write(RST_STREAM, 0, stream, &reason.to_be_bytes()).await;
    }

    /// GOAWAY with the last stream that may have been acted on.
    pub async fn go_away(&mut self, last: u32, reason: u32) {
        self.write(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat()).await;
    }

    /// Returns once the other end has read all that was sent to it before.
    pub async fn ping(&mut self) {
        self.write(PING, 0, 0, &[0; 8]).await;
        while self.read().await.is_some_and(|frame| frame.kind != PING || frame.flags & ACK == 0) {}
    }

    /// Writes a frame; a connection that is gone takes it, too.
    pub async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        // The other end of it is what a test asserts on.
        let _ = self.stream.write_all(&Frame::bytes(kind, flags, stream, payload)).await;
    }

    /// Writes frames that are made already, at one time; a connection that is gone takes them, too.
    pub async fn write_all(&mut self, frames: &[u8]) {
        let _ = self.stream.write_all(frames).await;
    }

    /// Reads up to the reason of a GOAWAY; `None` when the connection ends without.
    pub async fn read_to_goaway(&mut self) -> Option<u32> {
        loop {
            let frame = self.read().await?;
            if frame.kind == GOAWAY {
                return Some(u32::from_be_bytes(frame.payload.get(4..8)?.try_into().ok()?));
            }
        }
    }

    /// Sends no more, and waits until the other end closes.
    pub async fn finish(mut self) {
        let _ = self.stream.shutdown().await;
        self.closed().await;
    }

    /// Waits until the other end closes.
    pub async fn closed(mut self) {
        while self.read().await.is_some() {}
    }
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` in HPACK's static table.
const STATUS_200: u8 = 0x88;
