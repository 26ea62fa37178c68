//! One active probe: an endpoint is asked whether it serves.

mod grpc;
mod http;
mod tcp;

use ::http::{HeaderName, HeaderValue};
use policy::health::{Check, HttpCheck, Probe, ProbePlan};
use tokio::time::timeout;

use crate::health::endpoint::EndpointState;
use crate::node::Node;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Whether the endpoint serves.
    pub result: Probe,
    /// From [`LAG`], in milliseconds.
    pub lag_ms: Option<u64>,
}

impl Found {
    const UNANSWERED: Self = Self { result: Probe::Unanswered, lag_ms: None };

    /// An answer, right or wrong.
    fn answered(passed: bool, lag_ms: Option<u64>) -> Self {
        Self { result: if passed { Probe::Passed } else { Probe::Failed }, lag_ms }
    }
}

/// The header of a probe's answer in which a replica says by how many seconds it lags.
pub const LAG: HeaderName = HeaderName::from_static("x-replication-lag");

/// Asks once, on a connection of the probe's own. A gateway is asked over HTTP whatever the plan, and
/// told the region, and that a node asks: it answers for the region itself, and refuses (421) a node
/// that it does not trust.
pub async fn probe(node: &Node, endpoint: &EndpointState, plan: &ProbePlan, gateway: Option<&HeaderValue>) -> Found {
    let connector = node.connector.load_full();
    let endpoint = &endpoint.endpoint;
    let asked = async {
        match (&plan.check, gateway) {
            (_, Some(region)) => http::ask(&connector, endpoint, &HttpCheck::default(), Some(region)).await,
            (Check::Http(check), None) => http::ask(&connector, endpoint, check, None).await,
            (Check::Tcp, None) => tcp::ask(&connector, endpoint).await,
            (Check::Grpc { service }, None) => grpc::ask(&connector, endpoint, service).await,
        }
    };
    timeout(plan.timeout, asked).await.ok().flatten().unwrap_or(Found::UNANSWERED)
}

/// The user agent of probes.
const USER_AGENT: HeaderValue = HeaderValue::from_static("meridian-health");
/// What is read of an answer's body at most.
const MAX_BODY: usize = 64 * 1024;
