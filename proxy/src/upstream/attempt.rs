//! The attempts of one request: try, fail over, give up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use pingora::time::fast_timeout::fast_timeout;
use policy::attempt::is_lawful_in_both;
use policy::concurrency::admits;
use policy::view::WithDown;
use policy::{Facts, Permits, Refusal, RegionId, RegionSet, Seen, Verdict};
use smallvec::SmallVec;
use tokio::time::timeout;

use crate::health::endpoint::EndpointState;
use crate::node::{InFlight, Node, Worker};
use crate::routing::{Destination, Routing, Wish};
use crate::upstream::body::{AttemptBody, BodyFault, RequestBody, Upload};
use crate::upstream::connect::{Connection, SendError};

/// What there is to forward, and how often.
pub struct Forward<'a> {
    /// The worker that forwards, with its pool.
    pub worker: &'a Arc<Worker>,
    /// The routing that the request was decided under.
    pub pinned: &'a Arc<Routing>,
    /// What the decision knew.
    pub facts: &'a Facts<'a>,
    /// What it permits.
    pub permits: &'a Permits,
    /// Builds the upstream head for a region of a routing.
    pub head: &'a (dyn Fn(&Routing, RegionId) -> Request<()> + Sync),
    /// The request's body.
    pub body: &'a RequestBody,
    /// Whether the request may be repeated though an origin may have acted on it.
    pub repeatable: bool,
    /// Whether the request upgrades the protocol.
    pub upgrade: bool,
    /// When the request arrived.
    pub started: Instant,
}

/// An upstream's answer, with what it holds.
pub struct Answered {
    /// The answer.
    pub response: Response<Incoming>,
    /// The connection it comes from; it goes back to the pool after the body's end.
    pub connection: Connection,
    /// The pool's key of the endpoint.
    pub endpoint: u64,
    /// The region that answered, in the ids of `routing`.
    pub region: RegionId,
    /// The routing that was current at that attempt.
    pub routing: Arc<Routing>,
    /// How many attempts it took.
    pub attempts: u32,
    /// Whether the law opened the region with safeguards only.
    pub safeguarded: bool,
    /// The region's count of requests in flight.
    pub in_flight: InFlight,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The client's body is at fault.
    Body(BodyFault),
    /// Every region that could have served is full.
    Overloaded,
    /// Every permitted region turned out unreachable: the decision again, without them.
    Refused {
        /// That decision.
        refusal: Refusal,
        /// How many attempts were made.
        attempts: u32,
    },
    /// An origin was tried and failed.
    Failed {
        /// The region last tried.
        region: String,
        /// How many attempts were made.
        attempts: u32,
        /// Whether the last of them ran out of time.
        timed_out: bool,
    },
}

/// What went wrong in one attempt.
enum Fault {
    /// Nothing was sent: no connection, or the request came back whole.
    Unsent,
    /// The connection broke after something was sent.
    Broken,
    /// No answer's head in time.
    TimedOut,
}

impl Fault {
    fn outcome(&self) -> &'static str {
        match self {
            Fault::Unsent => "unreachable",
            Fault::Broken => "broken",
            Fault::TimedOut => "timeout",
        }
    }
}

/// Tries the permitted regions in order until one answers.
///
/// An attempt that never reached an origin may always be repeated; one that may have, only when the
/// request is repeatable. One attempt is kept in hand for every permitted region not yet tried, and
/// what is over goes to further endpoints of the same region.
///
/// # Errors
/// See [`Failure`].
pub async fn forward(plan: &Forward<'_>) -> Result<Answered, Failure> {
    let table = plan.pinned.table();
    let route = &table.route(plan.permits.route()).spec;
    let node = &plan.worker.node;
    let deadline = plan.started + route.timeout;

    let wish = Wish { client_key: plan.facts.client_key, upgrade: plan.upgrade };
    let mut done_with = RegionSet::EMPTY;
    let mut unreachable = RegionSet::EMPTY;
    let mut tried: SmallVec<[Arc<EndpointState>; 4]> = SmallVec::new();
    let mut attempts = 0;
    let mut overloaded = false;
    let mut last: Option<(RegionId, Fault)> = None;
    let mut unwanted: Option<Answered> = None;

    while attempts < route.retry.attempts {
        // The first attempt follows the decision without a pause, and is of its moment.
        let routing = if last.is_none() { plan.pinned.clone() } else { node.routing.load_full() };
        let seen = Seen { table: routing.table(), view: &*routing };
        let Some(permit) = plan.permits.next(table, plan.facts, &done_with, &seen) else { break };
        let region = permit.region();
        let Some(pinned_region) = table.region_named(&routing.table().region(region).name) else { break };
        if !is_lawful_in_both(table, plan.facts, routing.table(), region) {
            // Never true: the permit says otherwise. It is checked on its own all the same.
            node.metrics.residency_violations.inc();
            tracing::error!(
                region = routing.table().region(region).name,
                "a permit for an unlawful region; not dialled"
            );
            done_with.insert(pinned_region);
            continue;
        }
        let cell = routing.region(region);
        if !admits(route.criticality, cell.state.in_flight.load(std::sync::atomic::Ordering::Relaxed), cell.cap()) {
            overloaded = true;
            done_with.insert(pinned_region);
            continue;
        }
        let safeguarded = permit.is_safeguarded();
        let Some(destination) = routing.destination(permit, &tried, wish) else {
            done_with.insert(pinned_region);
            continue;
        };
        if plan.body.is_unread() {
            // An answer that came while its request was still being sent ends with its attempt.
            unwanted = None;
        }
        let Some(body) = plan.body.attempt() else { break };
        if let Some((from, _)) = last.as_ref().filter(|(from, _)| *from != pinned_region) {
            let names = [table.region(*from).name.as_str(), table.region(pinned_region).name.as_str()];
            node.metrics.failovers.with_label_values(&names).inc();
        }
        attempts += 1;
        let in_flight = InFlight::enter(&cell.state.in_flight);
        let request = (plan.head)(&routing, region).map(|()| body);
        let started = Instant::now();
        let limit = route.retry.per_try_timeout.map_or(deadline, |limit| deadline.min(started + limit));
        let result = {
            let _waiting = node.metrics.waiting();
            attempt(plan, &destination, request, limit).await
        };
        tried.push(destination.endpoint().clone());
        let fault = match result {
            Ok((response, connection)) => {
                destination.endpoint().on_answer(response.status().is_server_error(), false);
                let unwelcome = plan.repeatable && route.retry.statuses.contains(&response.status().as_u16());
                if region != routing.here {
                    let names = [routing.here, region].map(|id| routing.table().region(id).name.as_str());
                    let waited = started.elapsed().as_secs_f64();
                    node.metrics.cross_region_latency.with_label_values(&names).observe(waited);
                }
                let answered = Answered {
                    response,
                    connection,
                    endpoint: destination.endpoint().id,
                    region,
                    routing: routing.clone(),
                    attempts,
                    safeguarded,
                    in_flight,
                };
                if !unwelcome {
                    return Ok(answered);
                }
                count(node, &routing, region, "status");
                // Kept as the answer in case nobody has a better one.
                unwanted = Some(answered);
                Fault::Broken
            }
            Err(fault) => {
                if let Some(fault) = plan.body.fault() {
                    return Err(Failure::Body(fault));
                }
                count(node, &routing, region, fault.outcome());
                if matches!(fault, Fault::Unsent) {
                    unreachable.insert(pinned_region);
                } else if !plan.repeatable {
                    last = Some((pinned_region, fault));
                    break;
                }
                fault
            }
        };
        last = Some((pinned_region, fault));
        let others =
            plan.permits.eligible().iter().filter(|id| !done_with.contains(*id) && *id != pinned_region).count();
        let spare = (route.retry.attempts - attempts) as usize;
        if spare <= others || routing.untried(region, &tried) == 0 {
            done_with.insert(pinned_region);
        }
        if Instant::now() >= deadline {
            break;
        }
    }

    if let Some(answered) = unwanted {
        return Ok(Answered { attempts, ..answered });
    }
    match &last {
        Some((_, fault)) if !matches!(fault, Fault::Unsent) => Err(failed(plan, &last, attempts)),
        _ => {
            let view = WithDown { view: &**plan.pinned, down: unreachable };
            match policy::decide::decide_on_route(table, plan.permits.route(), plan.facts, &view) {
                Verdict::Refuse(refusal) => Err(Failure::Refused { refusal, attempts }),
                Verdict::Forward(_) if overloaded => Err(Failure::Overloaded),
                Verdict::Forward(_) => Err(failed(plan, &last, attempts)),
            }
        }
    }
}

fn failed(plan: &Forward<'_>, last: &Option<(RegionId, Fault)>, attempts: u32) -> Failure {
    let region = last.as_ref().map(|(id, _)| plan.pinned.table().region(*id).name.clone()).unwrap_or_default();
    Failure::Failed { region, attempts, timed_out: matches!(last, Some((_, Fault::TimedOut))) }
}

/// Counts a failed attempt; one whose answer is passed on is counted with the answer.
fn count(node: &Node, routing: &Routing, region: RegionId, outcome: &str) {
    node.metrics.attempts.with_label_values(&[routing.table().region(region).name.as_str(), outcome]).inc();
}

/// One attempt at one endpoint: a pooled connection if there is a sound one, else a new one. A
/// pooled connection that closed before anything was sent costs nothing but the connect.
async fn attempt(
    plan: &Forward<'_>,
    destination: &Destination,
    mut request: Request<AttemptBody>,
    limit: Instant,
) -> Result<(Response<Incoming>, Connection), Fault> {
    let take = || plan.worker.pool.take(destination, plan.worker.node.config.load().upstream.idle_timeout);
    let mut pooled = take();
    for _ in 0..=MAX_STALE {
        let reused = pooled.is_some();
        let mut connection = match pooled.take() {
            Some(connection) => connection,
            None => connect(plan, destination, limit).await?,
        };
        let pause = plan.worker.node.config.load().limits.body_timeout;
        match until(plan.body, limit, pause, connection.send(request)).await {
            Some(Ok(response)) => return Ok((response, connection)),
            Some(Err(SendError::Unsent(unsent))) if reused => {
                request = *unsent;
                pooled = take();
            }
            Some(Err(SendError::Unsent(_) | SendError::Unprocessed)) => return Err(Fault::Unsent),
            Some(Err(SendError::Broken(error))) => {
                tracing::debug!(%error, endpoint = %destination.endpoint().endpoint, "attempt broken");
                return Err(Fault::Broken);
            }
            None => return Err(Fault::TimedOut),
        }
    }
    Err(Fault::Unsent)
}

/// Stale pooled connections that one attempt may meet before it gives up on its endpoint.
const MAX_STALE: usize = 8;

async fn connect(plan: &Forward<'_>, destination: &Destination, limit: Instant) -> Result<Connection, Fault> {
    let left = limit.saturating_duration_since(Instant::now());
    let connector = plan.worker.node.connector.load_full();
    match timeout(left, connector.connect(destination, &plan.worker.pool)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            tracing::debug!(%error, endpoint = %destination.endpoint().endpoint, "no connection");
            Err(Fault::Unsent)
        }
        Err(_) => Err(Fault::Unsent),
    }
}

/// Waits for an answer's head until `limit`. An upload stops the clock, which starts anew at the
/// body's last byte; a client that pauses for `pause` in it is at fault itself. `None` when the time
/// is up.
async fn until<F: Future>(body: &RequestBody, limit: Instant, pause: Duration, answer: F) -> Option<F::Output> {
    let started = Instant::now();
    let allowance = limit.saturating_duration_since(started);
    let mut answer = std::pin::pin!(answer);
    loop {
        let wait = match body.upload() {
            Upload::None => allowance.checked_sub(started.elapsed()),
            // Looked at again before a pause can have lasted too long.
            Upload::Taken(since) => allowance.checked_sub(since.max(started).elapsed()).map(|left| left.min(pause)),
            Upload::Awaited(since) => {
                let left = pause.checked_sub(since.elapsed()).filter(|left| !left.is_zero());
                if left.is_none() {
                    body.stalled();
                }
                left
            }
        };
        let wait = wait.filter(|left| !left.is_zero())?;
        // pingora's timers are shared and coarse (10 ms), which is enough here, and made to be cheap.
        if let Ok(output) = fast_timeout(wait, &mut answer).await {
            return Some(output);
        }
    }
}
