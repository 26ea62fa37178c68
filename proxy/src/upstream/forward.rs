//! Forwarding one request: attempts until one has an answer.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use policy::{Facts, Permits, Refusal, RegionId, Revoked};

use crate::health::endpoint::EndpointState;
use crate::node::{InFlight, Worker};
use crate::routing::Routing;
use crate::upstream::attempt;
use crate::upstream::body::{BodyFault, RequestBody};
use crate::upstream::connect::Connection;
use crate::upstream::course::Course;

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
    /// Who answered.
    pub endpoint: Arc<EndpointState>,
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
    /// A table that came in force while the answer was awaited revoked the region's permission, and there
    /// was no other region, or the request must not be repeated.
    Revoked {
        /// That region.
        region: String,
        /// How many attempts were made.
        attempts: u32,
        /// Why.
        why: Revoked,
    },
    /// An origin was tried and failed.
    Failed {
        /// The region last tried.
        region: String,
        /// How many attempts were made.
        attempts: u32,
        /// Whether the last of them ran out of time.
        timed_out: bool,
        /// Whether it is certain that no origin has acted on it.
        unsent: bool,
        /// Why there was no other.
        end: End,
    },
}

/// Why no further attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All that the route allows were made, or nobody else is left.
    Exhausted,
    /// The route's time is over.
    OutOfTime,
    /// The origin may have acted on the request, which must not be repeated.
    NotRepeatable,
    /// The request's body is not kept, so that it cannot be sent again.
    BodyGone,
    /// The region's retry budget is spent.
    OverBudget,
}

/// Tries the permitted regions in order until one answers.
///
/// An attempt that never reached an origin may always be repeated; one that may have, only when the
/// request is repeatable, and within the region's retry budget. One attempt is kept in hand for every
/// permitted region not yet tried, and what is over goes to further endpoints of the same region.
///
/// # Errors
/// See [`Failure`].
pub async fn forward(plan: &Forward<'_>) -> Result<Answered, Failure> {
    let mut course = Course::new(plan);
    // An unwelcome answer is kept in case nobody has a better one.
    let mut unwanted: Option<Answered> = None;
    while let Some(mut next) = course.next() {
        if course.has_failed() && plan.body.is_unread() {
            // An answer that came while its request was still being sent ends with its attempt.
            unwanted = None;
        }
        if !course.pause(&mut next).await {
            continue;
        }
        let over = match course.hedge_after(&next) {
            None => attempt::make(plan, next).await,
            // Boxed, since few routes hedge, and two attempts are large.
            Some(late) => Box::pin(course.hedged(next, late)).await,
        };
        if let Some(fault) = plan.body.fault() {
            return Err(Failure::Body(fault));
        }
        over.tell(&plan.worker.node, plan.body, course.fair());
        let welcome = course.is_welcome(&over);
        match course.settle(over) {
            Some(answered) if welcome => return Ok(answered),
            Some(answered) => unwanted = Some(answered),
            None => {}
        }
    }
    match unwanted {
        Some(answered) => Ok(Answered { attempts: course.attempts(), ..answered }),
        None => Err(course.failure()),
    }
}
