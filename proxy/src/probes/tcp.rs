//! A probe that only connects: TCP, and TLS where the endpoint speaks it.

use super::{NoAnswer, ProbeReport};
use crate::health::endpoint::EndpointState;
use crate::upstream::connect::Connector;
use crate::upstream::link::Speak;

/// Connects, and closes; an error when that fails.
pub(super) async fn ask(connector: &Connector, endpoint: &EndpointState) -> Result<ProbeReport, NoAnswer> {
    connector.connect_for_probe(endpoint, None, Speak::Nothing).await?;
    Ok(ProbeReport::passed(None))
}
