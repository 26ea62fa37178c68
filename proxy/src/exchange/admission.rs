//! What the node takes on, before an origin hears of a request, and before its client can have it cost more than a few
//! comparisons.

use std::num::NonZeroU32;

use config::Limits;
use policy::Payload;
use policy::concurrency::admits;
use policy::pressure::Criticality;

use crate::client::Client;
use crate::client_counts::ClientNetwork;
use crate::clock;
use crate::occupancy::InFlight;
use crate::request_log::RequestLog;
use crate::respond::OwnAnswer;
use crate::telemetry::client_abuse::Abuse;
use crate::tunnel;
use crate::upload_pace::{LeastRate, UploadPace};

/// What a request was admitted with.
pub(super) struct Admitted {
    /// Its place among the node's tunnels, if it asks for one. A tunnel that comes to nothing gives it back.
    pub(super) tunnel: Option<InFlight>,
    /// The most that its body may have.
    pub(super) body_bytes: u64,
    /// How slowly that may come.
    pub(super) pace: UploadPace,
}

/// Admits a request, or refuses it: for what the node lacks, what it has in flight, what its client has, or the `length` that
/// it states.
pub(super) fn admitted(
    log: &mut RequestLog,
    limits: &Limits,
    criticality: Criticality,
    client: &Client,
    length: Option<u64>,
) -> Result<Admitted, OwnAnswer> {
    let node = &log.worker.node;
    let shed = |reason| node.telemetry.metrics.shed.with_label_values(&[criticality.name(), reason]).inc();
    if let Some(lacking) = node.overload.refuses(criticality) {
        shed(lacking.name());
        return Err(OwnAnswer::exhausted());
    }
    let may = |others| admits(criticality, others, limits.requests_in_flight, client.key, clock::since_1970);
    if let Err(others) = log.worker.requests.admits(log.turn, may) {
        shed("node_full");
        return Err(OwnAnswer::overloaded(others as f32 / limits.requests_in_flight.max(1) as f32));
    }
    // What another node sends it has counted itself, and a proxy that names nobody stands for many.
    if let Some(most) = limits.requests_in_flight_per_client.filter(|_| client.is_named && log.peer.is_none()) {
        let place = log.worker.requests_by_client.enter(ClientNetwork::of(client.address), most);
        if place.is_none() {
            shed("client_limit");
            return Err(OwnAnswer::client_full());
        }
        log.client_place = place;
    }
    let tunnel = match log.payload {
        Payload::Tunnel => Some(tunnel::admit(&node.occupancy, limits.tunnels).ok_or_else(|| {
            shed("tunnels");
            OwnAnswer::overloaded(1.0)
        })?),
        Payload::Nothing | Payload::Content => None,
    };
    let body_bytes = limits.body_bytes.unwrap_or(u64::MAX);
    if length.is_some_and(|length| length > body_bytes) {
        return Err(OwnAnswer::too_large());
    }
    let rate = limits.body_rate.and_then(NonZeroU32::new).filter(|_| log.payload == Payload::Content);
    let rate = rate.map(|bytes| {
        let too_slow = node.telemetry.metrics.client_abuse.with_label_values(&[Abuse::SlowBody.name()]);
        LeastRate { bytes, too_slow }
    });
    let pause = node.overload.actions().shortened(limits.body_timeout);
    Ok(Admitted { tunnel, body_bytes, pace: UploadPace::new(pause).at_least(rate) })
}
