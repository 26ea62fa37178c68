//! What `/status` tells: the node, its table, its regions, its files.

use std::sync::PoisonError;
use std::time::SystemTime;

use serde::Serialize;

use crate::node::{Drain, Node, Rejected, unix_seconds};

/// The state of a node. Times are Unix seconds.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Status {
    pub node: String,
    pub region: String,
    pub version: &'static str,
    pub started: u64,
    pub state: &'static str,
    pub listeners: Vec<String>,
    pub connections: usize,
    pub requests_in_flight: usize,
    pub table: TableStatus,
    pub regions: Vec<RegionStatus>,
    pub geoip: Vec<DatabaseStatus>,
    pub certificates: Vec<CertificateStatus>,
    /// Reloads that were refused; the state before them is in force.
    pub rejected: Vec<Rejected>,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct TableStatus {
    pub version: String,
    /// Counts the tables that this node has had since its start.
    pub revision: u64,
    pub age_seconds: u64,
    pub regions: usize,
    pub routes: usize,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct RegionStatus {
    pub name: String,
    pub country: policy::Country,
    pub state: policy::region::RegionState,
    pub health: &'static str,
    pub healthy_percent: u8,
    pub endpoints: Vec<EndpointStatus>,
    pub requests_in_flight: usize,
    pub utilisation: f32,
    /// The table's prior from this node's region.
    pub latency_ms: f32,
    /// Measured; null until something is.
    pub rtt_ms: Option<f32>,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct EndpointStatus {
    pub address: String,
    pub up: bool,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct DatabaseStatus {
    pub file: String,
    pub kind: String,
    pub build_epoch: u64,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct CertificateStatus {
    pub listener: String,
    pub file: String,
    pub names: String,
    pub expires: i64,
    pub expires_in_seconds: i64,
}

impl Status {
    /// The state of a node now.
    pub fn of(node: &Node) -> Self {
        let config = node.config.load();
        let routing = node.routing.load_full();
        let spec = routing.table().spec();
        Self {
            node: config.name.clone(),
            region: config.region.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started: unix_seconds(node.started),
            state: match node.draining() {
                Drain::Serving => "serving",
                Drain::Announced | Drain::Stopping | Drain::Closing => "draining",
            },
            listeners: node.addresses.iter().map(ToString::to_string).collect(),
            connections: node.connections.load(std::sync::atomic::Ordering::Relaxed),
            requests_in_flight: node.in_flight.load(std::sync::atomic::Ordering::Relaxed),
            table: TableStatus {
                version: spec.version.clone(),
                revision: routing.generation,
                age_seconds: routing.loaded.elapsed().as_secs(),
                regions: spec.regions.len(),
                routes: spec.routes.len(),
            },
            regions: routing
                .regions()
                .map(|(id, region, cell)| RegionStatus {
                    name: region.name.clone(),
                    country: region.country,
                    state: region.state,
                    health: crate::health::traffic::phase_name(cell.state.phase()),
                    healthy_percent: cell.healthy_percent(),
                    endpoints: cell
                        .endpoints
                        .iter()
                        .map(|state| EndpointStatus { address: state.endpoint.to_string(), up: state.is_up() })
                        .collect(),
                    requests_in_flight: cell.state.in_flight.load(std::sync::atomic::Ordering::Relaxed),
                    utilisation: cell.utilisation(),
                    latency_ms: routing.table().prior_latency_ms(routing.here, id),
                    rtt_ms: None,
                })
                .collect(),
            geoip: node
                .geo
                .load()
                .databases
                .databases()
                .map(|database| DatabaseStatus {
                    file: database.path().display().to_string(),
                    kind: database.kind().to_owned(),
                    build_epoch: database.build_epoch(),
                })
                .collect(),
            certificates: certificates(node),
            rejected: node.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// The certificates in force, listener by listener.
pub fn certificates(node: &Node) -> Vec<CertificateStatus> {
    let now = unix_seconds(SystemTime::now()) as i64;
    let listeners = node.addresses.iter().zip(&node.certificates);
    let mut found = Vec::new();
    for (address, set) in
        listeners.filter_map(|(address, certificates)| Some((address, certificates.as_ref()?.current())))
    {
        found.extend(set.entries().iter().map(|entry| CertificateStatus {
            listener: address.to_string(),
            file: entry.file.display().to_string(),
            names: entry.names.to_string(),
            expires: entry.not_after,
            expires_in_seconds: entry.not_after - now,
        }));
    }
    found
}
