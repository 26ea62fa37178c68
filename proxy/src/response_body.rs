//! The response's body on its way down: our own bytes, or an origin's stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use policy::Revoked;
use policy::route::RouteSpec;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body_budget::{BodyShare, LITTLE};
use crate::client_connection::WriteProgress;
use crate::clock;
use crate::grpc::{self, CallEnd, Code};
use crate::headers::filter_answer_trailers;
use crate::health::limiter::Held;
use crate::node::Worker;
use crate::origin_load;
use crate::request_body::{BodyFault, RequestBody};
use crate::request_log::{REVOKED, RequestLog};
use crate::revocation::LOOK;
use crate::routing::EndpointRef;
use crate::upstream::answer_error::AnswerError;
use crate::upstream::evidence::Evidence;
use crate::upstream::origin_connection::OriginConnection;

/// The body of a response. It is polled on the worker's thread of its connection.
pub(crate) struct ResponseBody {
    source: ResponseSource,
    /// Whether the client takes it.
    progress: Option<WriteProgress>,
    /// Counts and logs the request when the body is done or dropped.
    log: Option<Box<RequestLog>>,
    /// Whether trailers say so when it ends early: to a gRPC call's client that understands them at any point, over
    /// HTTP/2. A status other than OK says that what has come of a message is not all.
    ends_with_status: bool,
}

#[allow(clippy::large_enum_variant, reason = "one a response; a box would allocate for each")]
enum ResponseSource {
    Full(Option<Bytes>),
    ProxiedBody(ProxiedBody),
}

/// An origin's body, and the connection that it comes from, which it holds until its end.
pub(crate) struct ProxiedBody {
    /// Where it comes from. Goes back to the pool at the body's end; dropped, and so closed, if the body is not read
    /// to its end.
    pool_return: Option<PoolReturn>,
    /// Its end has come.
    ended: bool,
    /// It does not say how long it is.
    is_stream: bool,
    idle_timeout: Duration,
    /// When the client gives the call up.
    call_deadline: Option<std::time::Instant>,
    /// It has broken off, and what came before is on its way down.
    broken: Option<AnswerError>,
    /// Only while the origin makes us wait.
    waiting: Option<OriginWait>,
    /// Its latest piece, which its client has yet to take; none before the first large one.
    piece: Option<BodyShare>,
}

/// A wait for the origin, which wakes up now and then to look whether it may go on.
struct OriginWait {
    since: Instant,
    wake: Pin<Box<Sleep>>,
}

/// Gives a connection back to the pool after its answer, with the answer's evidence.
pub(crate) struct PoolReturn {
    /// The worker with the pool.
    pub(crate) worker: Arc<Worker>,
    /// How many idle connections to an endpoint it keeps.
    pub(crate) most_idle: usize,
    /// Who answers.
    pub(crate) endpoint: EndpointRef,
    /// Whose request it is.
    pub(crate) client_key: u64,
    /// When its answer began, in milliseconds of [`clock::coarse_ms`].
    pub(crate) begun_ms: u64,
    /// Whether the answer is no error.
    pub(crate) is_good: bool,
    /// Whether it answers a gRPC call, and so ends with a status.
    pub(crate) is_call: bool,
    /// The status of HTTP that says what that says, where the call has failed.
    pub(crate) late_failure: Option<StatusCode>,
    /// The request's body, which may still be on its way up.
    pub(crate) request: RequestBody,
    /// The connection.
    pub(crate) connection: OriginConnection,
    /// Its place among the region's requests in flight.
    pub(crate) in_flight: Held,
}

impl PoolReturn {
    /// Returns how long ago the answer began.
    fn age(&self) -> Duration {
        Duration::from_millis(clock::coarse_ms().saturating_sub(self.begun_ms))
    }

    fn evidence(&self) -> Evidence<'_> {
        let Self { worker, endpoint, client_key, .. } = self;
        Evidence { metrics: &worker.node.telemetry.metrics, endpoint, client_key: *client_key }
    }

    /// Takes how a call has ended, and what the origin says of its load, from the answer's trailers.
    fn note_trailers(&mut self, trailers: &HeaderMap) {
        origin_load::reported(trailers).into_iter().for_each(|load| self.endpoint.note_load(load));
        if self.is_call {
            self.late_failure = Code::of(trailers).and_then(Code::server_error);
            self.is_good &= self.late_failure.is_none();
        }
    }
}

/// Why a response's body ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponseBodyError {
    /// The origin broke off.
    #[error("the origin's answer broke off: {0}")]
    Upstream(#[from] AnswerError),
    /// The origin stopped sending.
    #[error("the origin sent nothing for {0:?}")]
    Stalled(Duration),
    /// A stream was silent for longer than its route allows.
    #[error("the stream was silent for {0:?}")]
    Silent(Duration),
    /// The origin's region may no longer serve it.
    #[error("the region may no longer serve it: {}", .0.name())]
    Revoked(Revoked),
    /// The client sends the rest of its request too slowly.
    #[error("the client sends its request too slowly")]
    SlowClient,
    /// The client's deadline for the call has come.
    #[error("the client's deadline came first")]
    OutOfTime,
}

impl ResponseBodyError {
    /// Returns the trailers that say it to the client of a gRPC call.
    fn trailers(&self) -> HeaderMap {
        match self {
            Self::Upstream(_) => {
                grpc::trailers(Code::UNAVAILABLE, "upstream_broke_off: The service's answer broke off.")
            }
            Self::Stalled(_) => grpc::trailers(Code::UNAVAILABLE, "upstream_broke_off: The service stopped answering."),
            Self::Silent(_) => grpc::trailers(Code::UNAVAILABLE, "stream_idle: The stream was silent for too long."),
            Self::Revoked(_) => {
                grpc::trailers(Code::UNAVAILABLE, "revoked: The region that was answering may no longer do so.")
            }
            Self::SlowClient => {
                grpc::trailers(Code::DEADLINE_EXCEEDED, "bad_request: The client sends its request too slowly.")
            }
            Self::OutOfTime => {
                grpc::trailers(Code::DEADLINE_EXCEEDED, "upstream_timeout: The service did not answer in time.")
            }
        }
    }
}

impl ResponseBodyError {
    /// Returns the word for log and metrics.
    fn reason(&self) -> &'static str {
        match self {
            ResponseBodyError::Upstream(error) if error.is_malformed() => "upstream_malformed",
            ResponseBodyError::Upstream(_) | ResponseBodyError::Stalled(_) => "upstream_broke_off",
            ResponseBodyError::Silent(_) => "stream_idle",
            ResponseBodyError::SlowClient => "bad_request",
            ResponseBodyError::OutOfTime => "upstream_timeout",
            ResponseBodyError::Revoked(_) => REVOKED,
        }
    }
}

impl ResponseBody {
    /// Makes an empty body.
    pub(crate) fn empty() -> Self {
        Self::of(ResponseSource::Full(None))
    }

    fn of(source: ResponseSource) -> Self {
        Self { source, progress: None, log: None, ends_with_status: false }
    }

    /// These bytes.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::of(ResponseSource::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// Leaves out what an answer of this node's own would say, and returns its length in bytes: an answer to HEAD has the
    /// fields of one to GET, and no content (RFC 9110, 9.3.2).
    pub(crate) fn leave_out(&mut self) -> Option<u64> {
        match &mut self.source {
            ResponseSource::Full(bytes) => bytes.take().map(|bytes| bytes.len() as u64),
            ResponseSource::ProxiedBody(_) => None,
        }
    }

    /// Passes an origin's body on; an error once it has been silent for longer than its route allows.
    pub(crate) fn proxied(pool_return: PoolReturn, route: &RouteSpec) -> Self {
        let is_stream = pool_return.connection.size_hint().exact().is_none();
        let idle_timeout = if is_stream { route.stream_idle_timeout } else { route.timeout };
        let is_empty = pool_return.connection.is_end_stream();
        let mut proxied = ProxiedBody {
            pool_return: Some(pool_return),
            ended: false,
            is_stream,
            idle_timeout,
            call_deadline: None,
            broken: None,
            waiting: None,
            piece: None,
        };
        if is_empty {
            proxied.give_back();
        }
        Self::of(ResponseSource::ProxiedBody(proxied))
    }

    /// The same of a gRPC call: it ends at the client's deadline, and where it ends early with a status, if the client
    /// can be told one.
    #[must_use]
    pub(crate) fn of_call(mut self, deadline: Option<std::time::Instant>, ends_with_status: bool) -> Self {
        if let ResponseSource::ProxiedBody(proxied) = &mut self.source {
            proxied.call_deadline = deadline;
        }
        self.ends_with_status = ends_with_status;
        self
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let proxied = match &mut self.source {
            ResponseSource::Full(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            ResponseSource::ProxiedBody(proxied) => proxied,
        };
        let mut ends_at = None;
        if let Some(log) = self.log.as_mut().filter(|_| !proxied.ended) {
            if let Some(why) = log.revoked() {
                proxied.cut();
                return Poll::Ready(Some(Err(ResponseBodyError::Revoked(why))));
            }
            ends_at = log.ends_at();
        }
        if let Some(deadline) = proxied.call_deadline.filter(|_| !proxied.ended) {
            if clock::now() >= deadline {
                proxied.cut();
                return Poll::Ready(Some(Err(ResponseBodyError::OutOfTime)));
            }
            ends_at = Some(ends_at.map_or(deadline, |at| at.min(deadline)));
        }
        proxied.poll_frame(cx, ends_at)
    }

    /// Has the request counted and logged at the end of this body.
    #[must_use]
    pub(crate) fn logged(mut self, log: Box<RequestLog>) -> Self {
        self.progress = Some(WriteProgress::new(log.connection.activity.clone()));
        self.log = Some(log);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = this.poll_source(cx) else {
            this.progress.as_mut().into_iter().for_each(|progress| progress.asked(false));
            return Poll::Pending;
        };
        if let Some(progress) = &mut this.progress {
            progress.asked(matches!(frame, Some(Ok(_))));
        }
        if let Some(log) = &mut this.log {
            match &frame {
                Some(Ok(frame)) => log.sent(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(ResponseBodyError::Revoked(why))) => log.end_revoked("answer", *why),
                Some(Err(ResponseBodyError::OutOfTime)) => log.out_of_time(),
                Some(Err(error)) => log.broke(error.reason(), error),
                None => log.completed(),
            }
        }
        let frame = match frame {
            Some(Err(error)) if this.ends_with_status => Some(Ok(Frame::trailers(error.trailers()))),
            frame => frame,
        };
        if let (Some(log), Some(Ok(frame))) = (&mut this.log, &frame)
            && let Some(code) = frame.trailers_ref().and_then(Code::of)
        {
            log.call_end = CallEnd::Status(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            ResponseSource::Full(bytes) => bytes.is_none(),
            ResponseSource::ProxiedBody(proxied) => proxied.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            ResponseSource::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            ResponseSource::ProxiedBody(proxied) => proxied.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body that says it is at its end is not polled.
        if let Some(log) = &mut self.log
            && self.source.is_at_end()
        {
            log.completed();
        }
    }
}

impl OriginWait {
    fn begin(timeout: Duration) -> Self {
        let since = clock::timer_now();
        Self { since, wake: Box::pin(sleep_until(since + timeout.min(LOOK))) }
    }

    /// Returns whether it has lasted for `timeout`. Otherwise the task is woken by then, by the next look, and by
    /// `ends_at`.
    fn is_over(&mut self, cx: &mut Context<'_>, timeout: Duration, ends_at: Option<std::time::Instant>) -> bool {
        let deadline = self.since + timeout;
        let ends_at = ends_at.map(Instant::from_std);
        if let Some(at) = ends_at.filter(|at| *at < self.wake.deadline()) {
            self.wake.as_mut().reset(at);
        }
        while self.wake.as_mut().poll(cx).is_ready() {
            let now = clock::timer_now();
            if now >= deadline {
                return true;
            }
            // What is over by now is seen when this is polled next.
            let look = ends_at.map_or(now + LOOK, |at| at.clamp(now + TICK, now + LOOK));
            self.wake.as_mut().reset(look.min(deadline));
        }
        false
    }
}

/// The runtime's own.
const TICK: Duration = Duration::from_millis(1);

impl ResponseSource {
    fn is_at_end(&self) -> bool {
        match self {
            ResponseSource::Full(bytes) => bytes.is_none(),
            ResponseSource::ProxiedBody(proxied) => proxied.ended,
        }
    }
}

/// Returns a piece of an answer as it goes down: its trailers without what must not.
fn passed_on(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            filter_answer_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

impl ProxiedBody {
    /// `ends_at` is when it is cut, if it must be.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        ends_at: Option<std::time::Instant>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error.into())));
        }
        let Some(pool_return) = &mut self.pool_return else {
            self.piece = None;
            return Poll::Ready(None);
        };
        if pool_return.request.fault() == Some(BodyFault::TooSlow) {
            self.pool_return = None;
            return Poll::Ready(Some(Err(ResponseBodyError::SlowClient)));
        }
        let bodies = &pool_return.worker.node.bodies;
        if bodies.is_tight() {
            pool_return.connection.read_little();
        }
        match pool_return.connection.poll_frame(cx) {
            Poll::Ready(frame) => {
                self.waiting = None;
                let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
                if length > LITTLE || self.piece.is_some() {
                    self.piece.get_or_insert_with(|| BodyShare::of(&pool_return.worker.bodies)).hold(length);
                }
                if let Some(Ok(frame)) = &frame
                    && let Some(trailers) = frame.trailers_ref()
                {
                    pool_return.note_trailers(trailers);
                }
                if frame.is_none() || (matches!(frame, Some(Ok(_))) && self.is_end_stream()) {
                    self.give_back();
                }
                match frame {
                    Some(Err(error)) => {
                        if error.is_malformed() {
                            // One page's shape says nothing of its origin.
                            self.pool_return = None;
                        } else {
                            self.broke_off();
                        }
                        // A stream that is reset loses what is not written yet: the client gets that first, and so sees an
                        // answer that is cut off, and not none.
                        self.broken = Some(error);
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    Some(Ok(frame)) => Poll::Ready(Some(Ok(passed_on(frame)))),
                    None => Poll::Ready(None),
                }
            }
            Poll::Pending => {
                self.piece = None;
                let timeout = self.idle_timeout;
                if self.waiting.get_or_insert_with(|| OriginWait::begin(timeout)).is_over(cx, timeout, ends_at) {
                    self.waiting = None;
                    if self.is_stream {
                        // That it is quiet is nobody's failure.
                        self.pool_return = None;
                        return Poll::Ready(Some(Err(ResponseBodyError::Silent(timeout))));
                    }
                    self.broke_off();
                    return Poll::Ready(Some(Err(ResponseBodyError::Stalled(timeout))));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pool_return.as_ref().is_none_or(|pool_return| pool_return.connection.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.pool_return.as_ref().map(|pool_return| pool_return.connection.size_hint());
        left.unwrap_or(SizeHint::with_exact(0))
    }

    /// Ends it, and what of the request is still on its way up: the connection is closed, or on HTTP/2
    /// the stream reset. That is no fault of the origin's.
    fn cut(&mut self) {
        if let Some(pool_return) = self.pool_return.take() {
            pool_return.request.revoke();
        }
    }

    /// The origin failed in the middle of its answer. That counts against it, unless the client did so
    /// in the middle of its request.
    fn broke_off(&mut self) {
        if let Some(pool_return) = self.pool_return.take().filter(|pool_return| pool_return.request.fault().is_none()) {
            pool_return.evidence().broke_off(pool_return.age());
        }
    }

    fn give_back(&mut self) {
        self.ended = true;
        if let Some(pool_return) = self.pool_return.take() {
            if pool_return.is_good {
                pool_return.evidence().completed();
            } else if let Some(status) = pool_return.late_failure {
                pool_return.evidence().call_failed(status, pool_return.age());
            }
            let PoolReturn { worker, most_idle, endpoint, connection, in_flight, .. } = pool_return;
            worker.pool.give(endpoint.id, connection, worker.node.connector.load().generation(), most_idle);
            drop(in_flight);
        }
    }
}
