//! Picks the endpoint that an attempt goes to.

use std::sync::Arc;

use config::{Endpoint, EndpointRole};
use policy::{Permit, RegionId};

use crate::health::endpoint::EndpointState;
use crate::routing::{EndpointRef, Routing, WorkerRouting};
use crate::upstream::link::Speak;

/// What a request asks of the endpoint that it goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PickRequest {
    /// The client's hash, which chooses the version while one is on trial.
    pub(crate) client_key: u64,
    /// Whether it asks for a tunnel.
    pub(crate) upgrade: bool,
}

/// An endpoint with the permit to dial it. Only [`destination`] makes one, and the dialer
/// and the pool take nothing else.
#[derive(Debug)]
pub(crate) struct Destination {
    endpoint: EndpointRef,
    /// Whether the request asks for a tunnel.
    upgrade: bool,
    /// The name that it must prove, where that is not its own.
    server_name: Option<Arc<str>>,
    /// Whether that is what its client has asked for.
    is_clients_name: bool,
    /// Spent: it must not be used for another dial.
    _permit: Permit,
}

impl Destination {
    /// Returns the endpoint to dial.
    pub(crate) fn endpoint(&self) -> &EndpointRef {
        &self.endpoint
    }

    /// Returns it without the permit, which is spent.
    pub(crate) fn into_endpoint(self) -> EndpointRef {
        self.endpoint
    }

    /// Returns the name that it must prove by TLS, where that is not its own.
    pub(crate) fn server_name(&self) -> Option<&Arc<str>> {
        self.server_name.as_ref()
    }

    /// Returns whether its client has chosen the name that it must prove, and so can choose one that it cannot.
    pub(crate) fn has_clients_name(&self) -> bool {
        self.is_clients_name && self.server_name.is_some()
    }

    /// Returns what is to be spoken there. A gateway speaks HTTP/1.1 too, by which a tunnel is opened through it.
    pub(crate) fn speak(&self) -> Speak {
        let Endpoint { http2, role, .. } = self.endpoint.endpoint;
        match (http2, self.upgrade) {
            (false, _) => Speak::Http1,
            (true, false) => Speak::Http2,
            (true, true) if role == EndpointRole::Gateway => Speak::Http1,
            (true, true) => Speak::Tunnel,
        }
    }
}

/// Spends a permit on an endpoint of its region, in the worker's hands: of the client's version if one is on trial,
/// healthy ones in turn, then suspect ones, never one that this request has tried. `None` when the
/// region has no other left. `server_name` is asked for what a TLS origin is to prove, where that is not its own name.
pub(crate) fn destination(
    routing: &WorkerRouting,
    permit: Permit,
    tried: &[u64],
    request: PickRequest,
    (server_name, is_clients_name): (impl FnOnce() -> Option<Arc<str>>, bool),
) -> Option<Destination> {
    let endpoint = pick(routing, permit.region(), tried, request)?;
    let is_origins = endpoint.endpoint.tls && endpoint.endpoint.role == EndpointRole::Origin;
    let server_name = is_origins.then(server_name).flatten();
    Some(Destination { endpoint, upgrade: request.upgrade, server_name, is_clients_name, _permit: permit })
}

/// Counts the endpoints of a region that this request could still try: those that the probes have nothing
/// against, ejected or not.
pub(crate) fn untried(routing: &Routing, region: RegionId, tried: &[u64]) -> usize {
    let endpoints = routing.region(region).endpoints.iter();
    endpoints.filter(|endpoint| endpoint.is_probed_up() && !is_in(tried, endpoint)).count()
}

fn pick(routing: &WorkerRouting, region: RegionId, tried: &[u64], request: PickRequest) -> Option<EndpointRef> {
    let endpoints = &routing.region(region).endpoints;
    let canary = routing.canary_in(routing.region(region));
    // What the version on trial has failed, the stable one repairs.
    let wanted = canary.map(|canary| (canary, tried.is_empty() && canary.takes(request.client_key)));
    let against = |endpoint: &EndpointState| {
        if is_in(tried, endpoint) || (request.upgrade && endpoint.has_no_tunnels()) {
            return None;
        }
        let other_version = wanted.is_some_and(|(canary, wanted)| canary.is_canary(&endpoint.endpoint) != wanted);
        // What real traffic has ejected is still better than what nobody can connect to, and what is
        // down than nothing: the evidence may be passing.
        let rank = match (endpoint.is_up(), endpoint.is_probed_up()) {
            (true, _) if !endpoint.is_suspect() => 0,
            (false, true) if !endpoint.is_gone() => 2,
            (true, _) => 1 + 2 * u8::from(endpoint.errors_in_a_row() >= SEVERAL),
            (false, true) => 4,
            (false, false) => 5,
        };
        Some((rank >= 2, other_version, rank))
    };
    let turn = routing.own(region).turn(endpoints.len());
    if against(endpoints.get(turn)?) == Some((false, false, 0)) {
        return routing.endpoint(region, turn);
    }
    // Any of the best, so that the neighbour of one that is out does not have its share too.
    let least = endpoints.iter().filter_map(|endpoint| against(endpoint)).min()?;
    let as_good = || (0..).zip(endpoints).filter(|(_, endpoint)| against(endpoint) == Some(least));
    let (index, _) = as_good().nth(fastrand::usize(..as_good().count().max(1)))?;
    routing.endpoint(region, index)
}

fn is_in(tried: &[u64], endpoint: &EndpointState) -> bool {
    tried.contains(&endpoint.id)
}

/// Connects that failed in a row, after which an endpoint is worse than one that was ejected for its
/// answers.
const SEVERAL: u32 = 2;
