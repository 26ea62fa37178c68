//! What a stream's client is told before and with its answer: interim heads (RFC 9110, 15.2), the answer's head, or a reset.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{Response, StatusCode};

use crate::client_connection::StreamProgress;
use crate::headers::filter_interim;
use crate::interim::{Interim, MOST_BYTES, is_interim};

/// A stream's way back. Its task has it, the request that it serves, and for a look now and then the watchdog, all on the
/// worker's thread, so that its lock is always free.
pub(crate) struct Reply {
    state: Mutex<State>,
    /// Whether the client takes its answer.
    pub(super) progress: StreamProgress,
}

struct State {
    stream: SendResponse<Bytes>,
    /// What may still be sent of interim answers, in bytes; none once the answer has begun.
    interim_left: usize,
    /// Of the stream's task, which is told of a reset.
    waker: Option<Waker>,
}

impl Reply {
    /// Takes what the library has of a stream that has begun.
    pub(super) fn new(stream: SendResponse<Bytes>) -> Self {
        let state = State { stream, interim_left: MOST_BYTES, waker: None };
        Self { state: Mutex::new(state), progress: StreamProgress::default() }
    }

    /// Waits until the client resets the stream, or the connection ends, before there is an answer.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.waker.is_none() {
            state.waker = Some(cx.waker().clone());
        }
        state.stream.poll_reset(cx).map(|_| ())
    }

    /// Sends the answer's head, after which there are no interim ones; with it the stream may end.
    ///
    /// # Errors
    /// When the stream has ended.
    pub(super) fn begin_answer(&self, head: Response<()>, ends: bool) -> Result<SendStream<Bytes>, h2::Error> {
        let mut state = self.lock();
        state.interim_left = 0;
        state.stream.send_response(head, ends).inspect_err(|_| state.stream.send_reset(Reason::INTERNAL_ERROR))
    }

    /// Resets the stream if its client has not taken its answer for so long. Its task hears of it.
    pub(super) fn end_if_stalled(&self, longest: Duration) {
        if self.progress.stalled().is_some_and(|lasted| lasted > longest) {
            self.lock().stream.send_reset(Reason::CANCEL);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interim for Reply {
    fn tell(&self, head: &Response<()>) {
        if !is_interim(head) {
            return;
        }
        let mut state = self.lock();
        let State { stream, interim_left, waker } = &mut *state;
        let mut interim = Response::new(());
        *interim.status_mut() = head.status();
        *interim.headers_mut() = head.headers().clone();
        filter_interim(interim.headers_mut());
        let sizes = interim.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
        // A client that waits for its word gets it, whatever came before; there is one in each request.
        let size = if head.status() == StatusCode::CONTINUE { 0 } else { FRAME + sizes.sum::<usize>() };
        let Some(left) = interim_left.checked_sub(size) else { return };
        // The library would send it on a stream that was reset, too.
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        if stream.poll_reset(&mut cx).is_pending() {
            *interim_left = left;
            if let Err(error) = stream.send_informational(interim) {
                tracing::debug!(%error, "an interim answer does not go down");
            }
        }
    }
}

/// A frame's header, and a status.
const FRAME: usize = 16;
/// What a field takes beside its name and value.
const FIELD: usize = 4;
