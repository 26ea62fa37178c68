//! What is to be forwarded, and what comes of it: an answer, or why there is none.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use config::NodeConfig;
use http::{Request, Response};
use hyper::body::Incoming;
use policy::{Facts, Permits, Refusal, RegionId, Revoked};

use crate::health::endpoint::EndpointState;
use crate::occupancy::InFlight;
use crate::peers::CurrentPeers;
use crate::request_body::{BodyFault, RequestBody};
use crate::routing::{CurrentRouting, Routing};
use crate::telemetry::metrics::Metrics;
use crate::upstream::connect::Connector;
use crate::upstream::origin_connection::OriginConnection;
use crate::upstream::pool::Pool;

/// What attempts need of their node and worker. It lives as long as one request is forwarded.
#[derive(Clone, Copy)]
pub struct Upstream<'a> {
    /// The worker's connections.
    pub pool: &'a Pool,
    /// How to open others.
    pub connector: &'a ArcSwap<Connector>,
    /// The routing in force.
    pub routing: &'a CurrentRouting,
    /// Which other processes are nodes.
    pub peers: &'a CurrentPeers,
    /// The metrics.
    pub metrics: &'a Metrics,
    /// The settings in force.
    pub config: &'a ArcSwap<NodeConfig>,
}

/// One request to forward. It borrows all that it needs from the worker and the exchange, for as long as the
/// request is forwarded.
pub struct ForwardPlan<'a> {
    /// What the attempts need of the node.
    pub upstream: Upstream<'a>,
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

/// An origin's answer, with what it holds.
pub struct OriginAnswer {
    /// The answer.
    pub response: Response<Incoming>,
    /// The connection it comes from; it goes back to the pool after the body's end.
    pub connection: OriginConnection,
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
pub enum ForwardError {
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
        end: NoRetry,
    },
}

/// Why no further attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRetry {
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
