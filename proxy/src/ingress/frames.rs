//! Where a client is in its HTTP/2 frames: for how long it is amid its preface or a request's head, the watchdog bounds;
//! between frames a connection is idle, as after the preface of a browser that connects ahead of its need.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client_connection::Activity;

/// A client's stream that notes where its frames are. It belongs to its connection's task.
pub(crate) struct FrameWatch<S> {
    stream: S,
    activity: Arc<Activity>,
    position: Position,
}

/// Where the bytes of an HTTP/2 connection are (RFC 9113, 3.4 and 4.1).
#[derive(Debug)]
struct Position {
    /// Bytes of the preface, or of a frame's payload, that are to come.
    to_skip: usize,
    /// What has come of the next frame's header.
    header: [u8; HEADER],
    has: usize,
    /// Whether a field block has begun and not ended (RFC 9113, 4.3), or the preface.
    is_amid_head: bool,
    /// Whether it ends with the payload that is being skipped.
    ends_head: bool,
}

impl<S> FrameWatch<S> {
    /// Watches a stream from the preface on.
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, position: Position::at_preface() }
    }
}

impl Position {
    fn at_preface() -> Self {
        Self { to_skip: PREFACE, header: [0; HEADER], has: 0, is_amid_head: true, ends_head: true }
    }

    /// Goes on over bytes that have come, and returns whether the client is amid a head after them.
    fn advance(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let skipped = self.to_skip.min(bytes.len());
            self.to_skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if self.to_skip == 0 && self.ends_head {
                self.is_amid_head = false;
                self.ends_head = false;
            }
            let Some((byte, rest)) = bytes.split_first() else { return self.is_amid_head };
            if let Some(place) = self.header.get_mut(self.has) {
                *place = *byte;
            }
            self.has += 1;
            bytes = rest;
            if self.has == HEADER {
                self.begin_frame();
            }
        }
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.has = 0;
        self.to_skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_amid_head = true;
            self.ends_head = flags & END_HEADERS != 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameWatch<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let bytes = buf.filled().get(before..).unwrap_or_default();
        if !bytes.is_empty() {
            match this.position.advance(bytes) {
                true => this.activity.received(),
                false => this.activity.rest(),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameWatch<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// `PRI * HTTP/2.0`, with its empty lines and `SM`.
const PREFACE: usize = 24;
/// A frame's length, type, flags and stream.
const HEADER: usize = 9;
/// RFC 9113, 6.2 and 6.10.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![b'x'; payload]].concat()
    }

    /// For each byte, whether the client is amid a head after it.
    #[test]
    fn a_head_lasts_from_its_frame_s_header_to_its_end_wherever_it_is_cut() {
        const SETTINGS: u8 = 4;
        let preface = vec![b'P'; PREFACE];
        let parts = [
            (preface, [true, false]),
            (frame(SETTINGS, 0, 0), [false, false]),
            (frame(SETTINGS, 0, 6), [false, false]),
            (frame(HEADERS, END_HEADERS, 5), [true, false]),
            (frame(0, END_HEADERS, 300), [false, false]),
            (frame(HEADERS, 0, 5), [true, true]),
            (frame(CONTINUATION, 0, 0), [true, true]),
            (frame(CONTINUATION, END_HEADERS, 70_000), [true, false]),
            (frame(HEADERS, END_HEADERS, 0), [false, false]),
        ];
        let all: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut ends = Vec::new();
        let mut end = 0;
        for (bytes, expected) in &parts {
            ends.push((end, end + bytes.len(), *expected));
            end += bytes.len();
        }
        let mut position = Position::at_preface();
        let seen: Vec<bool> = all.iter().map(|byte| position.advance(&[*byte])).collect();
        for (begin, end, [amid, after]) in ends {
            // The header of a frame says what it is with its last byte.
            let told = if begin == 0 { 0 } else { begin + HEADER - 1 };
            assert!(seen[told..end - 1].iter().all(|seen| *seen == amid), "{begin} to {end}");
            assert_eq!(seen[end - 1], after, "the end at {end}");
        }
        for cut in (0..1000).chain([all.len()]) {
            let mut position = Position::at_preface();
            let (first, second) = all.split_at(cut);
            position.advance(first);
            assert!(!position.advance(second), "cut at {cut}");
        }
    }
}
