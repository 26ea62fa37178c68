//! One active probe: an endpoint is asked whether it serves.

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request};
use policy::health::{Check, Probe, ProbePlan};
use tokio::time::timeout;

use crate::headers::names::{CHOSEN, PROBE};
use crate::health::endpoint::EndpointState;
use crate::node::Node;
use crate::upstream::body::RequestBody;
use crate::upstream::connect::Speak;

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
}

/// The header of a probe's answer in which a replica says by how many seconds it lags.
pub const LAG: HeaderName = HeaderName::from_static("x-replication-lag");

/// Asks once. A gateway is asked over HTTP whatever the plan, and told the region, and that a node
/// asks: it answers for the region itself, and refuses (421) a node that it does not trust.
pub async fn probe(node: &Node, endpoint: &EndpointState, plan: &ProbePlan, gateway: Option<&HeaderValue>) -> Found {
    let asked = timeout(plan.timeout, ask(node, endpoint, plan, gateway));
    asked.await.ok().flatten().unwrap_or(Found::UNANSWERED)
}

async fn ask(node: &Node, endpoint: &EndpointState, plan: &ProbePlan, gateway: Option<&HeaderValue>) -> Option<Found> {
    let Check::Http(check) = &plan.check else { return None };
    let mut connection = node.connector.load_full().connect_for_probe(&endpoint.endpoint, Speak::with(&endpoint.endpoint)).await.ok()?;
    let path = check.paths.first()?;
    let mut request = Request::get(path).body(RequestBody::Empty.attempt()?).ok()?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&endpoint.endpoint.authority()).ok()?);
    headers.insert(USER_AGENT, HeaderValue::from_static("meridian-health"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(region) = gateway {
        headers.insert(CHOSEN, region.clone());
        headers.insert(PROBE, HeaderValue::from_static("1"));
    }
    let response = connection.send(request).await.ok()?;
    let seconds = response.headers().get(LAG).and_then(|lag| lag.to_str().ok()?.trim().parse::<f64>().ok());
    // What cannot be read is no lag at all: the endpoint does not say.
    let lag_ms = seconds.filter(|lag| lag.is_finite() && *lag >= 0.0).map(|lag| (lag * 1000.0) as u64);
    let status = response.status().as_u16();
    let passed = check.statuses.iter().any(|range| range.contains(&status));
    Some(Found { result: if passed { Probe::Passed } else { Probe::Failed }, lag_ms })
}
