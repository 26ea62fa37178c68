//! What is to be forwarded, and what comes of it: an answer, or why there is none.

use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use config::NodeConfig;
use http::Response;
use policy::pressure::Criticality;
use policy::{Facts, Permits, Reason, Refusal, RegionId, Revoked};

use crate::grpc::Code;
use crate::headers::RequestHead;
use crate::health::limiter::Held;
use crate::interim::Interim;
use crate::local_error::LocalError;
use crate::peers::CurrentPeers;
use crate::request_body::{BodyFault, RequestBody};
use crate::routing::{CurrentRouting, EndpointRef, LatestRouting, Routing, WorkerRouting};
use crate::telemetry::metrics::Metrics;
use crate::upstream::connect::Connector;
use crate::upstream::origin_connection::OriginConnection;
use crate::upstream::pool::Pool;

/// What attempts need of their node and worker. It lives as long as one request is forwarded.
#[derive(Clone, Copy)]
pub(crate) struct Upstream<'a> {
    /// The worker's connections.
    pub(crate) pool: &'a Pool,
    /// How to open others.
    pub(crate) connector: &'a ArcSwap<Connector>,
    /// The routing in force.
    pub(crate) routing: &'a CurrentRouting,
    /// The same, as the worker last took it.
    pub(crate) latest: &'a LatestRouting,
    /// Which other processes are nodes.
    pub(crate) peers: &'a CurrentPeers,
    /// The metrics.
    pub(crate) metrics: &'a Metrics,
    /// The settings that were in force when the request began.
    pub(crate) config: &'a NodeConfig,
}

/// One request to forward. It borrows all that it needs from the worker and the exchange, for as long as the
/// request is forwarded.
pub(crate) struct ForwardPlan<'a> {
    /// What the attempts need of the node.
    pub(crate) upstream: Upstream<'a>,
    /// The routing that the request was decided under.
    pub(crate) pinned: &'a WorkerRouting,
    /// What the decision knew.
    pub(crate) facts: &'a Facts<'a>,
    /// What it permits.
    pub(crate) permits: &'a Permits,
    /// Builds the upstream head for a region of a routing.
    pub(crate) head: &'a (dyn Fn(&Routing, RegionId) -> RequestHead<'a> + Sync),
    /// The request's body.
    pub(crate) body: &'a RequestBody,
    /// Takes interim answers down, where the client's protocol lets them through.
    pub(crate) interim: Option<&'a dyn Interim>,
    /// Whether the request may be repeated though an origin may have acted on it.
    pub(crate) repeatable: bool,
    /// Whether the request upgrades the protocol.
    pub(crate) upgrade: bool,
    /// When there must be an answer's head, by the route's time and the client's.
    pub(crate) deadline: Instant,
    /// Whether the request is a gRPC call.
    pub(crate) is_call: bool,
    /// For how long the client of a call over HTTP/2 may pause in it, if the call goes on over HTTP/2.
    pub(crate) call_pause: Option<Duration>,
    /// How late it is shed.
    pub(crate) criticality: Criticality,
    /// When the client gives the call up, by its grpc-timeout.
    pub(crate) call_deadline: Option<Instant>,
}

/// An origin's answer, with what it holds.
pub(crate) struct OriginAnswer {
    /// The answer's head.
    pub(crate) response: Response<()>,
    /// When it came.
    pub(crate) head_at: Instant,
    /// The status of a call whose answer is nothing else.
    pub(crate) call_status: Option<Code>,
    /// Whether another region's node gave the answer itself.
    pub(crate) is_nodes_own: bool,
    /// The reason of an emergency for which that node refuses.
    pub(crate) refused: Option<Reason>,
    /// The connection that its body comes from; it goes back to the pool after the body's end.
    pub(crate) connection: OriginConnection,
    /// Who answered.
    pub(crate) endpoint: EndpointRef,
    /// How many attempts it took.
    pub(crate) attempts: u32,
    /// Whether the law opened the region with safeguards only.
    pub(crate) safeguarded: bool,
    /// Its place among the region's requests in flight.
    pub(crate) in_flight: Held,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum ForwardError {
    /// The client's body is at fault.
    Body(BodyFault),
    /// Every region that could have served is full.
    Overloaded {
        /// Why it was not waited for, or no longer.
        why: Shed,
        /// How many attempts were made: other regions' nodes may have said so.
        attempts: u32,
        /// How full the least full of them is: 1 is just full.
        load: f32,
    },
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
    /// This node lacks what a connection to an origin takes.
    Local {
        /// The region that was to be tried.
        region: String,
        /// How many attempts were made.
        attempts: u32,
        /// What it lacks.
        lack: LocalError,
    },
    /// An origin has answered, and its answer cannot be passed on.
    Malformed {
        /// Its region.
        region: String,
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
        /// Whether it is certain that no origin has acted on it.
        unsent: bool,
        /// Why there was no other.
        end: NoRetry,
    },
}

/// Why a request found no place in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    /// As many are in flight there as the node lets there be.
    RegionFull,
    /// All places are taken, and so is the queue, or there is none.
    QueueFull,
    /// It has waited for as long as it may.
    QueueTimeout,
}

impl Shed {
    /// Returns the word for the metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Shed::RegionFull => "region_full",
            Shed::QueueFull => "queue_full",
            Shed::QueueTimeout => "queue_timeout",
        }
    }
}

/// Why no further attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRetry {
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
