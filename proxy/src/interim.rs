//! Interim answers (RFC 9110, 15.2) on their way to a client.

use http::{Response, StatusCode};

/// Takes interim answers down. It is shared by a client's connection, or its stream, and the request that is being served on
/// it.
pub(crate) trait Interim: Send + Sync {
    /// Has the head of an interim answer sent, if the client takes it. 101 is none: what follows it is no HTTP.
    fn tell(&self, head: &Response<()>);
}

/// Returns whether it is the head of an interim answer.
pub(crate) fn is_interim(head: &Response<()>) -> bool {
    head.status().is_informational() && head.status() != StatusCode::SWITCHING_PROTOCOLS
}

/// Makes the answer that has a client send the content which it has announced (RFC 9110, 15.2.1).
pub(crate) fn go_on() -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::CONTINUE;
    head
}

/// What of interim answers one request is sent at most, where nothing of them is taken.
pub(crate) const MOST_BYTES: usize = 64 * 1024;
