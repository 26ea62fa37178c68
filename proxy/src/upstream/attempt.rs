//! Makes one attempt: a request goes to one endpoint, and its answer's head comes back, or not.

use std::time::{Duration, Instant};

use config::EndpointRole;
use http::{Response, StatusCode};
use policy::health::Symptom;
use policy::{Reason, RegionId, Revoked};
use tokio::time::timeout;

use crate::clock;
use crate::grpc::{self, Code};
use crate::headers::RequestHead;
use crate::health::limiter::Held;
use crate::local_error::LocalError;
use crate::peers::headers::{Answerer, PeersRefusal, Unsent, take_answer};
use crate::request_body::{AttemptBody, RequestBody, Upload};
use crate::revocation::{self, RevocationCheck};
use crate::routing::{Routing, WorkerRouting};
use crate::upstream::balance::Destination;
use crate::upstream::evidence::{Contested, Evidence, is_refusal};
use crate::upstream::link::{ConnectError, SendError};
use crate::upstream::origin_connection::OriginConnection;
use crate::upstream::plan::{ForwardPlan, Upstream};
use crate::upstream::timers::Timer;

/// Where an attempt goes, and how long it may take. It lives as long as the attempt.
pub(crate) struct AttemptTarget {
    /// The region in the ids of the routing that the request was decided under.
    pub(crate) pinned_region: RegionId,
    /// Whether the law opened the region with safeguards only.
    pub(crate) safeguarded: bool,
    /// Whom to dial, of the routing that was current when it was chosen.
    pub(crate) destination: Destination,
    /// When it begins.
    pub(crate) started: Instant,
    /// When it is to be over.
    pub(crate) limit: Instant,
    /// Its place among the region's requests in flight.
    pub(crate) in_flight: Held,
}

impl AttemptTarget {
    /// Returns the routing that was current when it was chosen.
    pub(crate) fn routing(&self) -> &WorkerRouting {
        self.destination.endpoint().routing()
    }

    /// Returns the region, in its ids.
    pub(crate) fn region(&self) -> RegionId {
        self.destination.endpoint().region()
    }

    /// Returns the region's name.
    pub(crate) fn region_name(&self) -> &str {
        self.destination.endpoint().region_name()
    }
}

/// An attempt about to be made.
pub(crate) struct Attempt<'a> {
    /// Where it goes.
    pub(crate) target: AttemptTarget,
    /// What to send.
    pub(crate) head: RequestHead<'a>,
    /// And after it.
    pub(crate) body: AttemptBody,
}

/// The result of an attempt that is over.
pub(crate) struct AttemptResult {
    /// Where it went.
    pub(crate) target: AttemptTarget,
    /// Why no origin has seen the request, where another region's node answered so.
    pub(crate) unsent: Option<Unsent>,
    /// Whether another region's node answered, and no origin.
    pub(crate) is_nodes_own: bool,
    /// The reason of an emergency for which that node refuses.
    pub(crate) refused: Option<Reason>,
    /// Whether it refuses for one that this node's newer table does not have any more.
    pub(crate) is_overruled: bool,
    /// The status of a gRPC call whose answer is nothing else (trailers only).
    pub(crate) call_status: Option<Code>,
    /// Whether its connection was made for it: what breaks then is no connection that rested for too long.
    pub(crate) is_fresh: bool,
    /// What came of it.
    pub(crate) result: Result<(Response<()>, OriginConnection), Fault>,
}

/// What went wrong in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There was no connection: nothing was sent.
    Unreachable,
    /// There was none within what was left of the request's time: nothing was sent.
    CutShort,
    /// The origin has not acted on it: it came back whole, or the origin says so.
    Unprocessed,
    /// Another region's node has no room for it: no origin has seen it.
    Full,
    /// The connection broke after something was sent.
    Broken,
    /// The connection broke that another request has already reported.
    BrokenToo,
    /// There was no connection, as another request has already reported.
    UnreachableToo,
    /// No answer's head came in time.
    TimedOut,
    /// Its endpoint turned out to be gone while it waited.
    Gone,
    /// It asks for a WebSocket, and its endpoint speaks HTTP/2, and takes none by it: nothing was sent.
    NoTunnels,
    /// Its region may no longer serve it: another table has come in force while it waited.
    Revoked(Revoked),
    /// This node lacks what a connection takes: nothing was sent, and it is nobody else's fault.
    Local(LocalError),
    /// An answer came that cannot be passed on: it is malformed, or past every limit. That is about this answer.
    Malformed,
    /// An answer came, with a status that its route counts as a failure.
    Status,
    /// The answer to a gRPC call was nothing but such a status.
    CallStatus(Code),
}

impl Fault {
    /// Returns whether the origin has certainly not acted on the request.
    pub(crate) fn is_unsent(self) -> bool {
        matches!(
            self,
            Fault::Unreachable
                | Fault::UnreachableToo
                | Fault::CutShort
                | Fault::Unprocessed
                | Fault::Full
                | Fault::NoTunnels
                | Fault::Local(_)
        )
    }

    /// Returns whether there may be another attempt whatever the request is: the origin has not acted on it, or says so
    /// of a call (UNAVAILABLE, without a message).
    pub(crate) fn lets_all_repeat(self) -> bool {
        self.is_unsent() || self == Fault::CallStatus(Code::UNAVAILABLE)
    }

    /// Returns whether another attempt costs the region's retry budget nothing: no origin was troubled, or this
    /// node left the region for the law's sake. What one region has no room for costs it where the next has none either.
    pub(crate) fn is_free(self) -> bool {
        self.is_unsent() && self != Fault::Full || matches!(self, Fault::Revoked(_))
    }

    /// Returns whether no other attempt would do any better: whoever is asked, this node lacks the same, an emergency
    /// refuses it, and what the origin has to say cannot be passed on.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Fault::Local(_) | Fault::Malformed | Fault::Revoked(Revoked::Emergency))
    }

    /// Returns whether there was no connection.
    pub(crate) fn is_unreachable(self) -> bool {
        matches!(self, Fault::Unreachable | Fault::UnreachableToo | Fault::CutShort)
    }

    /// Returns the word for the metrics.
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Fault::Unreachable | Fault::UnreachableToo | Fault::CutShort => "unreachable",
            Fault::Unprocessed => "unprocessed",
            Fault::Full => "full",
            Fault::Broken | Fault::BrokenToo => "broken",
            Fault::TimedOut => "timeout",
            Fault::Gone => "gone",
            Fault::NoTunnels => "no_tunnels",
            Fault::Revoked(_) => "revoked",
            Fault::Local(_) => "local",
            Fault::Malformed => "malformed",
            Fault::Status => "status",
            Fault::CallStatus(_) => "grpc_status",
        }
    }
}

/// Makes an attempt. What is dropped before its end is cancelled: the connection is closed, or on
/// HTTP/2 the stream reset.
pub(crate) async fn make(plan: &ForwardPlan<'_>, attempt: Attempt<'_>) -> AttemptResult {
    let Attempt { mut target, mut head, body } = attempt;
    if target.in_flight.limiter().is_some() && plan.body.is_whole() {
        target.in_flight.awaits_head(target.started);
    }
    let upstream = plan.upstream;
    if let Some(deadline) = plan.call_deadline {
        head.set_call_timeout(grpc::timeout_value(deadline.saturating_duration_since(clock::now())));
    }
    let is_gateway = target.destination.endpoint().endpoint.role == EndpointRole::Gateway;
    let nonce = head.nonce();
    let mut is_fresh = false;
    let mut result = {
        let _waiting = upstream.metrics.waiting();
        send(plan, &target, &head, body, &mut is_fresh).await
    };
    if let Err(Fault::Revoked(why)) = &result {
        let region = target.region_name();
        upstream.metrics.revoked.with_label_values(&[region, "request", why.name()]).inc();
    }
    let (mut unsent, mut is_nodes_own, mut refused, mut call_status) = (None, false, None, None);
    let mut is_overruled = false;
    if let Ok((response, connection)) = &mut result {
        let peers = upstream.peers.load();
        let from = match is_gateway {
            true => Answerer::Gateway { counterpart: connection.counterpart(), nonce, peers: &peers },
            false => Answerer::Origin,
        };
        let answered = take_answer(response, from);
        is_nodes_own = answered.is_peers && !answered.is_origins;
        refused = answered.refused.filter(|it| it.binds(target.routing().published)).map(|it| it.reason);
        if let Some(PeersRefusal { reason, .. }) = answered.refused.filter(|_| refused.is_none()) {
            is_overruled = true;
            let gateway = &target.destination.endpoint().endpoint;
            let why = format!("{gateway} refuses for {}, by an older table than this node's", reason.name());
            upstream.peers.refusals.of_gateway(upstream.metrics, "older_table", &why);
        }
        unsent = answered.unsent_by(refused);
        let is_call_end = plan.is_call && response.status() == StatusCode::OK && connection.is_end_stream();
        call_status = if is_call_end { Code::of(response.headers()) } else { None };
        if is_gateway
            && !answered.is_origins
            && unsent.is_none()
            && response.status() == StatusCode::MISDIRECTED_REQUEST
        {
            let gateway = &target.destination.endpoint().endpoint;
            let why = format!("{gateway} answered 421: its node does not know this one (see its [peers])");
            upstream.peers.refusals.of_gateway(upstream.metrics, "not_accepted", &why);
            result = Err(Fault::Broken);
        }
    }
    AttemptResult { target, unsent, is_nodes_own, refused, is_overruled, call_status, is_fresh, result }
}

impl AttemptResult {
    /// Returns the status of its answer.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.result.as_ref().ok().map(|(response, _)| response.status())
    }

    /// Returns the status by which its answer counts for or against whoever gave it: HTTP's, or that of a call that
    /// failed.
    pub(crate) fn judged_status(&self) -> Option<StatusCode> {
        self.call_status.and_then(Code::server_error).or(self.status())
    }

    /// Returns what went wrong with it; [`Fault::Status`] or [`Fault::CallStatus`] of any answer of an origin.
    pub(crate) fn fault(&self) -> Fault {
        match self.unsent {
            // There it is the region's endpoints that could not be reached.
            Some(Unsent::Unserved) => return Fault::Unreachable,
            Some(Unsent::Full) => return Fault::Full,
            None => {}
        }
        let answered = self.call_status.map_or(Fault::Status, Fault::CallStatus);
        self.result.as_ref().err().copied().unwrap_or(answered)
    }

    /// Reports how it went, as evidence for or against its endpoint and region. `fair` is the time that an attempt has where
    /// none went before it: silence that was cut short says little. Returns what only another attempt can tell: whether
    /// it failed by its endpoint's fault, or by its request's.
    pub(crate) fn report(&self, plan: &ForwardPlan<'_>, fair: Duration) -> Option<Contested> {
        let AttemptTarget { destination, started, limit, .. } = &self.target;
        let (endpoint, client_key) = (destination.endpoint(), plan.facts.client_key);
        let evidence = Evidence { metrics: plan.upstream.metrics, endpoint, client_key };
        let took = plan.body.origins_turn(*started).map(|since| since.elapsed());
        let waited = took.unwrap_or_default();
        let had_its_time = limit.saturating_duration_since(*started) >= fair / 2;
        self.tell_limit(took, had_its_time, client_key);
        let symptom = match &self.result {
            _ if self.fault() == Fault::Full => {
                evidence.full();
                return None;
            }
            // Why another node refuses is about the request, or about what it has said to probes.
            Ok(_) if self.unsent.is_some() || self.refused.is_some() || self.is_overruled => return None,
            Ok((response, _)) => match self.judged_status().unwrap_or(response.status()) {
                status if is_refusal(status) => Symptom::Refused,
                status => {
                    evidence.answered(status, took);
                    return None;
                }
            },
            Err(Fault::Unreachable) => {
                evidence.failed(Symptom::Unreachable, waited);
                return None;
            }
            Err(Fault::CutShort) if had_its_time => {
                evidence.failed(Symptom::Unreachable, waited);
                return None;
            }
            Err(Fault::Broken) => Symptom::Broken,
            Err(Fault::TimedOut) if had_its_time => Symptom::Silent,
            Err(
                Fault::TimedOut
                | Fault::CutShort
                | Fault::BrokenToo
                | Fault::UnreachableToo
                | Fault::Unprocessed
                | Fault::Full
                | Fault::Gone
                | Fault::NoTunnels
                | Fault::Revoked(_)
                | Fault::Local(_)
                | Fault::Malformed
                | Fault::Status
                | Fault::CallStatus(_),
            ) => return None,
        };
        Some(Contested { endpoint: endpoint.clone(), symptom, took: waited })
    }
}

impl AttemptResult {
    /// Tells the limit that it has a place of how it went: how long its answer took, or that it failed as it does at who
    /// has too much to do. Other errors, which may be quick, say nothing of that, nor does that its client gave it no time.
    fn tell_limit(&self, took: Option<Duration>, had_its_time: bool, client_key: u64) {
        let Some(limiter) = self.target.in_flight.limiter() else { return };
        match &self.result {
            Ok(_) if self.refused.is_some() || self.is_overruled => {}
            Ok((response, _)) => match self.judged_status().unwrap_or(response.status()) {
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => limiter.overloaded(client_key),
                status if status.is_client_error() || status.is_server_error() => {}
                _ => took.into_iter().for_each(|took| limiter.answered(took)),
            },
            Err(Fault::Unreachable) => limiter.overloaded(client_key),
            Err(Fault::Broken) if self.is_fresh => limiter.overloaded(client_key),
            Err(Fault::CutShort | Fault::TimedOut) if had_its_time => limiter.overloaded(client_key),
            Err(_) => {}
        }
    }
}

/// Sends on a pooled connection if there is a sound one, else on a new one. A pooled connection that
/// closed before anything was sent costs nothing but the connect. `is_fresh` becomes whether the last one was new.
async fn send(
    plan: &ForwardPlan<'_>,
    target: &AttemptTarget,
    head: &RequestHead<'_>,
    mut sent: AttemptBody,
    is_fresh: &mut bool,
) -> Result<(Response<()>, OriginConnection), Fault> {
    let ForwardPlan { upstream, body, repeatable, pinned, facts, .. } = *plan;
    let AttemptTarget { destination, limit, pinned_region, .. } = target;
    let mut check = RevocationCheck::new(target.routing());
    let idle_timeout = upstream.config.upstream.idle_timeout;
    let take = || upstream.pool.take(destination, upstream.connector.load().generation(), idle_timeout);
    let mut pooled = take();
    for _ in 0..=MAX_STALE {
        let reused = pooled.is_some();
        *is_fresh = !reused;
        let (mut connection, started) = match pooled.take() {
            Some(connection) => (connection, target.started),
            // Boxed, since it is rare, and large.
            None => (Box::pin(connect(upstream, destination, *limit)).await?, clock::now()),
        };
        let look = |waited: Duration| {
            let endpoint = destination.endpoint();
            if waited >= SUSPICIOUS {
                endpoint.on_wait();
            }
            let ask = |current: &Routing| revocation::revoked(pinned, facts, *pinned_region, current);
            if let Some(why) = check.look(upstream.routing, ask) {
                return Err(Fault::Revoked(why));
            }
            if repeatable && endpoint.is_gone() { Err(Fault::Gone) } else { Ok(check.next_look()) }
        };
        if let Some(pause) = plan.call_pause.filter(|_| connection.is_http2()) {
            body.may_stream_in_attempt(pause);
        }
        let deadline = Deadline { body, started, limit: *limit, call: plan.call_deadline };
        match until(deadline, upstream.pool.timers.timer(), look, connection.send(head, sent, plan.interim)).await? {
            Ok(response) => return Ok((response, connection)),
            Err(SendError::Unsent(unsent)) if reused => {
                sent = unsent.rewound().ok_or(Fault::Unprocessed)?;
                pooled = take();
            }
            Err(SendError::Unsent(_) | SendError::Unprocessed) => return Err(Fault::Unprocessed),
            Err(SendError::Broken(error)) => {
                tracing::debug!(%error, endpoint = %destination.endpoint().endpoint, "attempt broken");
                if error.is_malformed() {
                    return Err(Fault::Malformed);
                }
                return Err(if connection.is_first_to_break() { Fault::Broken } else { Fault::BrokenToo });
            }
        }
    }
    Err(Fault::Unprocessed)
}

/// Stale pooled connections that one attempt may meet before it gives up on its endpoint.
const MAX_STALE: usize = 8;

async fn connect(upstream: Upstream<'_>, destination: &Destination, limit: Instant) -> Result<OriginConnection, Fault> {
    let left = limit.saturating_duration_since(clock::now());
    let connector = upstream.connector.load_full();
    match timeout(left, connector.connect(destination, upstream.pool)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            tracing::debug!(%error, endpoint = %destination.endpoint().endpoint, "no connection");
            if matches!(error, ConnectError::NoTunnels) {
                return Err(Fault::NoTunnels);
            }
            if let ConnectError::Gateway(refusal) = &error {
                upstream.peers.refusals.of_gateway(upstream.metrics, refusal.cause(), refusal);
            }
            let lack = error.local();
            if let Some(lack) = lack {
                upstream.metrics.local_errors.with_label_values(&[lack.name()]).inc();
                if lack.is_of_all() {
                    return Err(Fault::Local(lack));
                }
            }
            // A client that chooses the name that is to be proved can choose one that is not; and what this machine lacks for
            // the way there is the probes' to find out.
            let is_no_evidence = lack.is_some() || destination.has_clients_name() && !error.is_of_the_way();
            Err(if is_no_evidence || matches!(error, ConnectError::Another(_)) {
                Fault::UnreachableToo
            } else {
                Fault::Unreachable
            })
        }
        Err(_) => Err(Fault::CutShort),
    }
}

/// When an attempt must have its answer's head.
struct Deadline<'a> {
    /// What it sends: an upload stops the clock, which starts anew at the body's last byte.
    body: &'a RequestBody,
    /// When it began to be sent.
    started: Instant,
    /// When its time is over.
    limit: Instant,
    /// When the client gives the call up, whatever it still uploads.
    call: Option<Instant>,
}

/// Waits for an answer's head until the deadline, or until a `look`, which gets how long it has waited, finds a fault;
/// else it says when to look again at the latest.
async fn until<F: Future>(
    deadline: Deadline<'_>,
    mut timer: Timer<'_>,
    mut look: impl FnMut(Duration) -> Result<Instant, Fault>,
    answer: F,
) -> Result<F::Output, Fault> {
    let Deadline { body, started, limit, call } = deadline;
    let allowance = limit.saturating_duration_since(started);
    let mut answer = std::pin::pin!(answer);
    let mut interval = FIRST_LOOK;
    let mut latest = started + FIRST_LOOK;
    let mut now = started;
    loop {
        let since = |earlier: Instant| now.saturating_duration_since(earlier);
        let wait = match body.upload() {
            Upload::None => allowance.checked_sub(since(started)),
            // Looked at again before a pause can have lasted too long.
            Upload::Taken { since: taken, pause } => {
                allowance.checked_sub(since(taken.max(started))).map(|left| left.min(pause))
            }
            Upload::Awaited { late_at } => {
                let left = late_at.checked_duration_since(now).filter(|left| !left.is_zero());
                if left.is_none() {
                    body.end_late(now);
                }
                left
            }
        };
        let wait = call.map_or(wait, |call| wait.map(|wait| wait.min(call.saturating_duration_since(now))));
        let wait = wait.filter(|left| !left.is_zero()).ok_or(Fault::TimedOut)?.min(interval);
        let wait = wait.min(latest.saturating_duration_since(now)).max(SHORTEST_WAIT);
        if let Some(output) = timer.wait(now + wait, &mut answer).await {
            return Ok(output);
        }
        now = clock::now();
        latest = look(now.saturating_duration_since(started))?;
        interval = (interval * 2).min(LONGEST_LOOK);
    }
}

/// A request that has waited for so long has the probes ask whether anybody is there.
const SUSPICIOUS: Duration = Duration::from_millis(1500);

/// After how long a request that waits looks whether its endpoint is still there; then after twice as
/// long each time, since many may wait for long.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_millis(1600);

/// Nobody waits for less: a look that is due again at once would keep its thread busy.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
