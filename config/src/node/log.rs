//! `[log]`: what the node writes to its logs.

use super::{ClientAddresses, Log};
use crate::field::Section;

/// Returns the settings; client addresses are truncated by default.
pub(super) fn log(root: &Section<'_>) -> Log {
    let section = root.field("log").and_then(|field| field.section(&["client_addresses"]));
    let addresses = section.and_then(|section| section.field("client_addresses"));
    let addresses = addresses.and_then(|field| field.choice(CLIENT_ADDRESSES));
    Log { client_addresses: addresses.unwrap_or(ClientAddresses::Truncated) }
}

const CLIENT_ADDRESSES: &[(&str, ClientAddresses)] =
    &[("truncated", ClientAddresses::Truncated), ("full", ClientAddresses::Full), ("none", ClientAddresses::None)];
