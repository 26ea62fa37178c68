//! The request's body on its way up: streamed at once, and kept as far as it may be needed again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::body_budget::{BodyShare, WorkerBodies};
use crate::client_content::ClientContent;
use crate::clock;
use crate::framing::TrailerRules;
use crate::upload_pace::UploadPace;

/// One request's body, from which each attempt takes its own [`AttemptBody`]. A copy shares it; its attempts and their
/// connections, which hold their parts of it, are all on one worker's thread.
#[derive(Clone, Debug)]
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// It streams from the client; the first `keep` bytes are kept for another attempt.
    Streaming(Arc<Mutex<SharedBody>>),
}

/// What is wrong with a request's body: the client's fault, never the origin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It broke off, or its framing is malformed.
    Broken,
    /// The client stopped sending it.
    Stalled,
    /// The client sends it below the least rate.
    TooSlow,
    /// It is longer than the node takes.
    TooLarge,
    /// The region that it goes to may no longer serve it. (Nobody's fault.)
    Revoked,
}

/// Whose turn it is while a body goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    /// There is no body.
    None,
    /// The origin's: all of the body has come, or it takes no more for now.
    Taken {
        /// Since when.
        since: Instant,
        /// For how long the client may pause when it is its turn.
        pause: Duration,
    },
    /// The client's: the origin would take more.
    Awaited {
        /// When it will have taken too long.
        late_at: Instant,
    },
}

/// Says whether what an upload goes to may no longer get it. Asked before each piece of an upload that goes on
/// beside its answer.
type Revoked = Box<dyn FnMut() -> bool + Send>;

/// The state that the attempts of one request share.
pub(crate) struct SharedBody {
    source: ClientContent,
    /// The client waits to be told to send it, and nobody has read any of it.
    awaits_continue: bool,
    /// All that has come, while it may be kept.
    kept: BytesMut,
    keep: usize,
    /// What is kept of it, among what the node holds.
    share: BodyShare,
    /// More has come than may be kept, or than the node has room for: there is no second attempt with this body.
    overflown: bool,
    received: u64,
    most: u64,
    trailers: Option<HeaderMap>,
    /// What of them goes up.
    rules: TrailerRules,
    ended: bool,
    fault: Option<BodyFault>,
    /// The attempt that may read; an earlier one, whose connection still holds its body, may not.
    attempt: u32,
    last_progress: Instant,
    /// How long the client takes.
    pace: UploadPace,
    /// Says whether its region may no longer get it, once the answer has begun before its end.
    revoked: Option<Revoked>,
}

impl RequestBody {
    /// Wraps a request's body. `keep` bytes are kept for another attempt, while `budget` has room for them; more than `most`
    /// in all is a fault. `rules` says what of its trailers goes up.
    pub(crate) fn new(
        source: ClientContent,
        (keep, budget): (usize, &Arc<WorkerBodies>),
        most: u64,
        pace: UploadPace,
        rules: impl FnOnce() -> TrailerRules,
    ) -> Self {
        if source.is_end_stream() {
            return RequestBody::Empty;
        }
        RequestBody::Streaming(Arc::new(Mutex::new(SharedBody {
            source,
            awaits_continue: false,
            kept: BytesMut::new(),
            keep,
            share: BodyShare::of(budget),
            overflown: false,
            received: 0,
            most,
            trailers: None,
            rules: rules(),
            ended: false,
            fault: None,
            attempt: 0,
            last_progress: clock::now(),
            pace,
            revoked: None,
        })))
    }

    /// The same, of a client that waits to be told to send it (RFC 9110, 10.1.1), if it does.
    #[must_use]
    pub(crate) fn awaiting_continue(self, awaits: bool) -> Self {
        if let RequestBody::Streaming(shared) = &self {
            lock(shared).awaits_continue = awaits;
        }
        self
    }

    /// Lets the client pause for so long where it does not say how much it sends: that is a stream.
    pub(crate) fn may_stream(&self, pause: Duration) {
        self.unless_its_length_is_known(|pace| pace.stream(pause));
    }

    /// The same for the attempt that is being made.
    pub(crate) fn may_stream_in_attempt(&self, pause: Duration) {
        self.unless_its_length_is_known(|pace| pace.stream_in_attempt(pause));
    }

    fn unless_its_length_is_known(&self, change: impl FnOnce(&mut UploadPace)) {
        if let RequestBody::Streaming(shared) = self {
            let mut state = lock(shared);
            if state.source.size_hint().exact().is_none() {
                change(&mut state.pace);
            }
        }
    }

    /// Returns the body for a new attempt, from its first byte; earlier attempts' bodies end here. `None` when it
    /// cannot be had again.
    pub(crate) fn attempt(&self) -> Option<AttemptBody> {
        match self {
            RequestBody::Empty => Some(AttemptBody(BodySource::Empty)),
            RequestBody::Streaming(shared) => {
                let mut state = lock(shared);
                if state.overflown || state.fault.is_some() {
                    return None;
                }
                state.attempt += 1;
                state.pace.begin_attempt();
                Some(AttemptBody(BodySource::Shared { shared: shared.clone(), attempt: state.attempt, position: 0 }))
            }
        }
    }

    /// Returns what is wrong with it, if anything.
    pub(crate) fn fault(&self) -> Option<BodyFault> {
        match self {
            RequestBody::Empty => None,
            RequestBody::Streaming(shared) => lock(shared).fault,
        }
    }

    /// Returns whether there could be another attempt with it.
    pub(crate) fn can_be_had_again(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Streaming(shared) => {
                let state = lock(shared);
                !state.overflown && state.fault.is_none()
            }
        }
    }

    /// Since when an attempt that began at `started` waits for the origin alone: the client's upload is
    /// none of its time. `None` while the body is not complete.
    pub(crate) fn origins_turn(&self, started: Instant) -> Option<Instant> {
        match self {
            RequestBody::Empty => Some(started),
            RequestBody::Streaming(shared) => {
                let state = lock(shared);
                state.ended.then(|| state.last_progress.max(started))
            }
        }
    }

    /// Returns how the upload stands: a slow upload is not a slow origin.
    pub(crate) fn upload(&self) -> Upload {
        match self {
            RequestBody::Empty => Upload::None,
            RequestBody::Streaming(shared) => {
                let state = lock(shared);
                match state.pace.late_at() {
                    Some(late_at) => Upload::Awaited { late_at },
                    None => Upload::Taken { since: state.last_progress, pause: state.pace.pause() },
                }
            }
        }
    }

    /// Returns whether all of it is here and can be sent again.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Streaming(shared) => {
                let state = lock(shared);
                state.ended && !state.overflown && state.fault.is_none()
            }
        }
    }

    /// Ends it: the client is late.
    pub(crate) fn end_late(&self, now: Instant) {
        if let RequestBody::Streaming(shared) = self {
            let mut state = lock(shared);
            if state.fault.is_none() {
                let fault = if state.pace.has_paused(now) { BodyFault::Stalled } else { BodyFault::TooSlow };
                state.fail(fault);
            }
        }
    }

    /// Has an upload that goes on beside its answer end once `revoked` says so.
    pub(crate) fn end_when(&self, revoked: impl FnOnce() -> Option<Revoked>) {
        if let RequestBody::Streaming(shared) = self
            && let Some(revoked) = revoked()
        {
            lock(shared).revoked = Some(revoked);
        }
    }

    /// Ends it: its region may no longer get it.
    pub(crate) fn revoke(&self) {
        if let RequestBody::Streaming(shared) = self {
            lock(shared).fault.get_or_insert(BodyFault::Revoked);
        }
    }

    /// Returns whether the client still has bytes to send, which HTTP/1 must read or close before it goes on.
    pub(crate) fn is_unread(&self) -> bool {
        match self {
            RequestBody::Empty => false,
            RequestBody::Streaming(shared) => !lock(shared).ended,
        }
    }
}

/// The body of one attempt.
#[derive(Debug)]
pub(crate) struct AttemptBody(BodySource);

#[derive(Debug)]
enum BodySource {
    Empty,
    /// Our own bytes.
    Full(Bytes),
    Shared {
        shared: Arc<Mutex<SharedBody>>,
        attempt: u32,
        position: usize,
    },
}

impl AttemptBody {
    /// Makes a body of the node's own, such as a probe's.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self(BodySource::Full(bytes))
    }

    /// Returns whether the client waits to be told to send it, which reading it does.
    pub(crate) fn awaits_continue(&self) -> bool {
        match &self.0 {
            BodySource::Empty | BodySource::Full(_) => false,
            BodySource::Shared { shared, .. } => lock(shared).awaits_continue,
        }
    }

    /// Notes that what has come of it is not taken: then its client is not awaited.
    pub(crate) fn is_not_taken(&self) {
        if let BodySource::Shared { shared, attempt, .. } = &self.0 {
            let mut state = lock(shared);
            if state.attempt == *attempt {
                state.pace.not_awaited();
            }
        }
    }

    /// Returns whether it waits for its client, who may still take its time.
    pub(crate) fn awaits_client(&self) -> bool {
        match &self.0 {
            BodySource::Empty | BodySource::Full(_) => false,
            BodySource::Shared { shared, attempt, .. } => {
                let state = lock(shared);
                state.attempt == *attempt && state.pace.late_at().is_some_and(|late| clock::now() < late)
            }
        }
    }

    /// Returns the same body from its first byte, of which nothing was sent; `None` when that is gone.
    pub(crate) fn rewound(mut self) -> Option<Self> {
        if let BodySource::Shared { shared, position, .. } = &mut self.0 {
            let state = lock(shared);
            if state.overflown {
                return None;
            }
            *position = 0;
        }
        Some(self)
    }
}

/// Why an attempt's body ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestBodyError {
    /// Another attempt has taken over.
    #[error("another attempt has taken the request body over")]
    Superseded,
    /// The client's body is at fault.
    #[error("the client's request body is {0:?}")]
    Fault(BodyFault),
}

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let BodySource::Shared { shared, attempt, position } = &mut self.0 else {
            let BodySource::Full(bytes) = std::mem::replace(&mut self.0, BodySource::Empty) else {
                return Poll::Ready(None);
            };
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        };
        let mut state = lock(shared);
        // What is here is everybody's; what is still to come, the latest attempt's.
        if state.attempt != *attempt && (!state.ended || state.overflown) {
            return Poll::Ready(Some(Err(RequestBodyError::Superseded)));
        }
        if let Some(kept) = state.kept.get(*position..).filter(|kept| !kept.is_empty()) {
            let kept = Bytes::copy_from_slice(kept);
            *position += kept.len();
            return Poll::Ready(Some(Ok(Frame::data(kept))));
        }
        if let Some(fault) = state.fault {
            return Poll::Ready(Some(Err(RequestBodyError::Fault(fault))));
        }
        if state.ended {
            let trailers = state.trailers.clone().filter(|_| *position != usize::MAX);
            *position = usize::MAX;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if state.is_revoked() {
            return Poll::Ready(Some(Err(state.fail(BodyFault::Revoked))));
        }
        state.awaits_continue = false;
        let polled = Pin::new(&mut state.source).poll_frame(cx);
        if polled.is_pending() {
            state.pace.awaits(clock::now);
        }
        let frame = ready!(polled);
        let now = clock::now();
        state.last_progress = now;
        let piece = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map(Bytes::len);
        let is_late = state.pace.came(piece, now);
        Poll::Ready(match frame {
            None => {
                state.ended = true;
                None
            }
            Some(Err(_)) => Some(Err(state.fail(BodyFault::Broken))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    state.received += data.len() as u64;
                    if state.received > state.most {
                        return Poll::Ready(Some(Err(state.fail(BodyFault::TooLarge))));
                    }
                    if state.keep(&data) {
                        *position += data.len();
                    }
                    // With a length, nobody asks for what comes after the last byte.
                    state.ended = state.source.is_end_stream();
                    if is_late && !state.ended {
                        return Poll::Ready(Some(Err(state.fail(BodyFault::TooSlow))));
                    }
                    Some(Ok(Frame::data(data)))
                }
                Err(frame) => {
                    state.ended = true;
                    let rules = &state.rules;
                    state.trailers = frame.into_trailers().ok().and_then(|trailers| rules.passed_on(trailers));
                    *position = usize::MAX;
                    state.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers)))
                }
            },
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            BodySource::Empty => true,
            BodySource::Full(_) => false,
            BodySource::Shared { shared, position, .. } => {
                let state = lock(shared);
                state.ended && state.trailers.is_none() && *position >= state.kept.len()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodySource::Empty => SizeHint::with_exact(0),
            BodySource::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            BodySource::Shared { shared, .. } => {
                // Before the first byte the source knows; a replay starts from what was kept.
                let state = lock(shared);
                let kept = state.kept.len() as u64;
                let rest = state.source.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(kept + rest.lower());
                if let Some(upper) = rest.upper() {
                    hint.set_upper(kept + upper);
                }
                hint
            }
        }
    }
}

impl std::fmt::Debug for SharedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedBody")
            .field("received", &self.received)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl SharedBody {
    /// Keeps a piece for another attempt, if all of the body so far fits.
    fn keep(&mut self, data: &Bytes) -> bool {
        let length = self.kept.len() + data.len();
        if self.overflown || length > self.keep || !self.has_room_for(length) {
            self.overflown = true;
            self.kept = BytesMut::new();
            self.share.clear();
            return false;
        }
        // Copied into one: a client that sends byte by byte shall not cost more than its bytes.
        self.kept.extend_from_slice(data);
        true
    }

    /// Makes room for so many bytes, if the node has it: for twice as many as before, at most, as a buffer grows.
    fn has_room_for(&mut self, length: usize) -> bool {
        if length <= self.kept.capacity() {
            return true;
        }
        let capacity = length.max(self.kept.capacity() * 2).min(self.keep);
        if !self.share.try_grow_to(capacity) {
            return false;
        }
        self.kept.reserve(capacity - self.kept.len());
        true
    }

    fn is_revoked(&mut self) -> bool {
        self.revoked.as_mut().is_some_and(|revoked| revoked())
    }

    fn fail(&mut self, fault: BodyFault) -> RequestBodyError {
        self.fault = Some(fault);
        if fault == BodyFault::TooSlow {
            self.pace.count();
        }
        RequestBodyError::Fault(fault)
    }
}

fn lock(shared: &Mutex<SharedBody>) -> MutexGuard<'_, SharedBody> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
