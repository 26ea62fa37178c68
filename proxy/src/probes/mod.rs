//! One active probe: an endpoint is asked whether it serves.

mod grpc;
mod http;
mod tcp;
pub(crate) mod watch;
mod writers;

use std::error::Error;
use std::sync::Arc;

use ::http::HeaderValue;
use policy::health::{Check, Claim, HttpCheck, Probe, ProbePlan};
use tokio::time::timeout;

use crate::health::endpoint::EndpointState;
use crate::local_error::LocalError;
use crate::node::Node;
use crate::upstream::answer_error::AnswerError;
use crate::upstream::link::{ConnectError, SendError};

/// What a probe found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProbeReport {
    /// Whether the endpoint serves.
    pub(crate) result: Probe,
    /// From [`crate::fields::REPLICATION_LAG`], in milliseconds.
    pub(crate) lag_ms: Option<u64>,
    /// From [`crate::fields::REPLICATION_ROLE`].
    pub(crate) claim: Claim,
    /// Whether that field held something that is no word for a role.
    pub(crate) has_odd_role: bool,
    /// Why it did not pass, for operators; `None` when it did.
    pub(crate) why: Option<Arc<str>>,
    /// What this node lacked to ask: then it has found out nothing.
    pub(crate) lack: Option<LocalError>,
    /// Whether the endpoint takes WebSockets over HTTP/2, where it was asked over that.
    pub(crate) takes_tunnels: Option<bool>,
}

impl ProbeReport {
    fn passed(lag_ms: Option<u64>) -> Self {
        Self {
            result: Probe::Passed,
            lag_ms,
            why: None,
            lack: None,
            takes_tunnels: None,
            claim: Claim::Unsaid,
            has_odd_role: false,
        }
    }

    /// Reports a wrong answer.
    fn failed(why: &str, lag_ms: Option<u64>) -> Self {
        Self {
            result: Probe::Failed,
            lag_ms,
            why: Some(why.into()),
            lack: None,
            takes_tunnels: None,
            claim: Claim::Unsaid,
            has_odd_role: false,
        }
    }

    fn unanswered(why: &str) -> Self {
        Self {
            result: Probe::Unanswered,
            lag_ms: None,
            why: Some(why.into()),
            lack: None,
            takes_tunnels: None,
            claim: Claim::Unsaid,
            has_odd_role: false,
        }
    }
}

/// Why there is no connection, or no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("{}", in_words(.0))]
    Connect(#[from] ConnectError),
    #[error("the connection closed before the request was sent")]
    Unsent,
    #[error("the endpoint refused the request's stream")]
    Refused,
    #[error("the gateway does not accept this node's certificate (peers.certificate): see its node's [peers], and log")]
    NotAccepted,
    #[error("no answer: {}", root(.0))]
    Broken(AnswerError),
    #[error("the probe's request cannot be made: {0}")]
    Request(#[from] ::http::Error),
}

impl From<SendError> for NoAnswer {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Unsent(_) => Self::Unsent,
            SendError::Unprocessed => Self::Refused,
            SendError::Broken(error) => Self::Broken(error),
        }
    }
}

/// Returns an error in words: what TLS has against an endpoint comes as an error of the socket.
fn in_words(error: &ConnectError) -> String {
    match error {
        ConnectError::Io(of_tls) if error.is_of_tls() => format!("TLS: {of_tls}"),
        _ => error.to_string(),
    }
}

/// Returns the last of an error's causes: what those before it say is less.
fn root(error: &AnswerError) -> String {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Asks once, on a connection of the probe's own. A gateway is asked over HTTP whatever the plan, and
/// given the region, and that a node asks, with the same proof as of any request: it answers for the
/// region itself, and refuses whom it does not take for a node.
pub(crate) async fn probe(
    node: &Node,
    endpoint: &EndpointState,
    plan: &ProbePlan,
    gateway: Option<&HeaderValue>,
) -> ProbeReport {
    let (connector, peers) = (node.connector.load_full(), node.peers.load_full());
    let asked = async {
        match (&plan.check, gateway) {
            (_, Some(region)) => {
                let gateway = http::Gateway { region, peers: &peers };
                http::ask(&connector, endpoint, &HttpCheck::default(), Some(gateway)).await
            }
            (Check::Http(check), None) => http::ask(&connector, endpoint, check, None).await,
            (Check::Tcp, None) => tcp::ask(&connector, endpoint).await,
            (Check::Grpc { service }, None) => grpc::ask(&connector, endpoint, service).await,
        }
    };
    match timeout(plan.timeout, asked).await {
        Ok(Ok(found)) => found,
        Ok(Err(no_answer)) => {
            if let NoAnswer::Connect(ConnectError::Gateway(refusal)) = &no_answer {
                node.peers.refusals.of_gateway(&node.telemetry.metrics, refusal.cause(), refusal);
            }
            let lack = match &no_answer {
                NoAnswer::Connect(error) => error.local(),
                _ => None,
            };
            ProbeReport { lack, ..ProbeReport::unanswered(&no_answer.to_string()) }
        }
        Err(_) => ProbeReport::unanswered(&format!("no answer within {:?}", plan.timeout)),
    }
}

/// The user agent of probes.
const USER_AGENT: HeaderValue = HeaderValue::from_static("meridian-health");
/// What is read of an answer's body at most.
const MAX_BODY: usize = 64 * 1024;
