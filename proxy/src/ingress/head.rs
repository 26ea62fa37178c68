//! A look at HTTP/1 heads as they arrive, for what the parser forgives and a proxy must not.
//!
//! hyper takes bare line feeds, and drops a Content-Length beside a Transfer-Encoding without a word.
//! It frames what it forwards anew, so that nothing is smuggled through; but a proxy in front of us
//! may have read the same bytes otherwise, and what it takes for a body would be a request here. Such
//! heads are refused (RFC 9112, 6.1 and 11.2).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use memchr::{memchr_iter, memmem};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ingress::connection::Activity;

/// A client's stream, whose heads are looked at on their way to the parser.
///
/// A head that arrives while a request is being served (pipelined) is not seen; see
/// [`Activity::take_head_fault`].
pub struct Inspected<S> {
    stream: S,
    activity: Arc<Activity>,
    /// The beginning of a head that is not complete yet; `None` between heads.
    head: Option<Vec<u8>>,
    /// Longer heads are refused by the parser.
    longest: usize,
}

impl<S> Inspected<S> {
    /// Looks at a new connection's heads, of at most `longest` bytes.
    pub fn new(stream: S, activity: Arc<Activity>, longest: usize) -> Self {
        Self { stream, activity, head: Some(Vec::new()), longest }
    }

    fn received(&mut self, bytes: &[u8]) {
        if self.activity.received() {
            self.head = Some(Vec::new());
        }
        let Some(begun) = &mut self.head else { return };
        let found = if begun.is_empty() {
            // The usual case: all of it at once, looked at where it is.
            whole(bytes).map(fault)
        } else {
            begun.extend_from_slice(bytes);
            whole(begun).map(fault)
        };
        match found {
            Some(fault) => {
                self.head = None;
                self.activity.set_head_fault(fault);
            }
            None if begun.len() > self.longest => self.head = None,
            None if begun.is_empty() => begun.extend_from_slice(bytes),
            None => {}
        }
    }
}

/// The head at the start of these bytes, without empty lines before it and with the one after it.
/// `None` while its end is not in sight.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let bytes = bytes.get(start..)?;
    let crlf = memmem::find(bytes, b"\n\r\n").map(|at| at + 3);
    let bare = memmem::find(bytes, b"\n\n").map(|at| at + 2);
    let end = crlf.into_iter().chain(bare).min()?;
    bytes.get(..end)
}

/// What is wrong with a head, if anything.
fn fault(head: &[u8]) -> Option<&'static str> {
    let mut lengths = 0;
    let mut codings = 0;
    let mut start = 0;
    for end in memchr_iter(b'\n', head) {
        let line = head.get(start..end).unwrap_or_default();
        let Some(line) = line.strip_suffix(b"\r") else { return Some("a line ends without a carriage return") };
        if memchr::memchr(b'\r', line).is_some() {
            return Some("a carriage return stands inside a line");
        }
        start = end + 1;
        // Only these two names begin so, among the usual: the rest is passed over quickly.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            continue;
        }
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            codings += 1;
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Some("its Transfer-Encoding is other than chunked");
            }
        }
    }
    let version_1_0 = memchr::memchr(b'\r', head).and_then(|end| head.get(..end)).is_some_and(|l| l.ends_with(b"/1.0"));
    match (lengths, codings) {
        (0 | 1, 0) | (0, 1) if codings == 0 || !version_1_0 => None,
        (_, 0) => Some("there are two Content-Lengths"),
        (0, 1) => Some("HTTP/1.0 has no Transfer-Encoding"),
        (0, _) => Some("there are two Transfer-Encodings"),
        _ => Some("there are both a Content-Length and a Transfer-Encoding"),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inspected<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = &polled
            && let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty())
        {
            self.received(bytes);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inspected<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_that_could_be_read_in_two_ways() {
        for (head, good) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", true),
            ("POST / HTTP/1.1\r\ntransfer-encoding:  Chunked \r\n\r\n", true),
            ("\r\nGET / HTTP/1.1\r\nCookie: a\r\nTE: trailers\r\n\r\n", true),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\n\n", false),
            ("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 3\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\n", true),
        ] {
            let head = whole(head.as_bytes()).map(fault);
            assert_eq!(head, Some(head.flatten()), "{head:?}");
            assert_eq!(head.flatten().is_none(), good, "{head:?}");
        }
    }

    #[test]
    fn a_head_in_pieces_is_seen_whole() {
        let text = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        for cut in 1..text.len() {
            let activity = Arc::new(Activity::default());
            let mut inspected = Inspected::new((), activity.clone(), 1024);
            inspected.received(&text[..cut]);
            inspected.received(&text[cut..]);
            assert!(activity.take_head_fault(&http::HeaderMap::new()).is_some(), "cut at {cut}");
        }
    }

    #[test]
    fn a_head_without_end_is_not_kept() {
        let mut inspected = Inspected::new((), Arc::new(Activity::default()), 64);
        for _ in 0..100 {
            inspected.received(b"GET / HTTP/1.1 ");
        }
        assert!(inspected.head.is_none());
    }
}
