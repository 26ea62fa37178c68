//! A probe that only connects: TCP, and TLS where the endpoint speaks it.

use config::Endpoint;

use super::Found;
use crate::upstream::connect::{Connector, Speak};

/// Connects, and closes. `None` when that fails.
pub(super) async fn ask(connector: &Connector, endpoint: &Endpoint) -> Option<Found> {
    connector.connect_for_probe(endpoint, Speak::Nothing).await.ok()?;
    Some(Found::answered(true, None))
}
