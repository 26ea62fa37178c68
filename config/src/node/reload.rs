//! Decides which settings of a newer node file a running node takes over, and which need a restart.
//!
//! Every struct is destructured exhaustively: a new field does not compile until it is classified.

use std::net::SocketAddr;

use super::{
    BusSource, CertificateFiles, Drain, Geoip, Limits, Listener, Log, NodeConfig, Peers, Routing, Tls, TokenKey,
    Tokens, UpstreamTls,
};
use crate::bus::{BusAccess, Credentials};

/// Takes over every field of a struct; an unlisted field does not compile.
macro_rules! live {
    ($type:ident { $($field:ident),* $(,)? } of $newer:expr) => {{
        let $type { $($field),* } = $newer;
        $type { $($field),* }
    }};
}

/// A newer node file, as a running node can use it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReload {
    /// The settings in force from now on: the newer file's where they are live, the running node's where they are
    /// fixed.
    pub config: NodeConfig,
    /// The keys that differ and need a restart, such as `node.region`.
    pub needs_restart: Vec<String>,
}

/// Identifies a listener across versions of a node file: by its address and, since several may have port 0, by how
/// many of the same address come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId {
    address: SocketAddr,
    nth: usize,
}

impl NodeConfig {
    /// Merges a newer node file into the settings that this node runs with.
    pub fn reload(&self, newer: Self) -> NodeReload {
        let mut fixed = Fixed::default();
        let Self {
            // The path that the node was started with.
            file: _,
            name,
            region,
            threads,
            listeners,
            admin,
            admin_hosts,
            geoip,
            tokens,
            peers,
            routing,
            limits,
            drain,
            upstream,
            log,
            warnings,
        } = newer;
        let config = Self {
            file: self.file.clone(),
            name: fixed.keep("node.name", &self.name, &name),
            region: fixed.keep("node.region", &self.region, &region),
            threads: fixed.keep("node.threads", &self.threads, &threads),
            listeners: merge_listeners(&mut fixed, &self.listeners, listeners),
            admin: fixed.keep("admin.address", &self.admin, &admin),
            admin_hosts,
            geoip: live!(Geoip { databases, trusted_proxies, country_header, anonymous_asns, max_change } of geoip),
            tokens: take_tokens(tokens),
            peers: peers.map(take_peers),
            routing: keep_routing(&mut fixed, &self.routing, &routing),
            limits: live!(Limits {
                requests_in_flight,
                requests_in_flight_per_region,
                connections,
                connections_per_client,
                requests_in_flight_per_client,
                tunnels,
                header_bytes,
                headers,
                header_timeout,
                keep_alive,
                body_bytes,
                body_timeout,
                body_rate,
                tunnel_idle_timeout,
                memory,
                body_memory,
            } of limits),
            drain: live!(Drain { announce } of drain),
            upstream: live!(UpstreamTls {
                certificate_authorities,
                nameservers,
                connect_timeout,
                idle_timeout,
                idle_connections,
                via,
                absence_grace,
            } of upstream),
            log: live!(Log { client_addresses } of log),
            warnings,
        };
        NodeReload { config, needs_restart: fixed.changed }
    }

    /// Returns the listeners, each with its identity.
    pub fn listeners_by_id(&self) -> impl Iterator<Item = (ListenerId, &Listener)> {
        by_id(&self.listeners)
    }

    /// Returns the listener of this identity.
    pub fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.iter().filter(|listener| listener.address == id.address).nth(id.nth)
    }
}

/// Collects the fixed settings in which a newer file differs.
#[derive(Debug, Default)]
struct Fixed {
    changed: Vec<String>,
}

impl Fixed {
    /// Keeps the running node's value of a key, and notes it if the newer one differs.
    fn keep<T: PartialEq + Clone>(&mut self, key: &str, running: &T, newer: &T) -> T {
        if running != newer {
            self.changed.push(key.to_owned());
        }
        running.clone()
    }
}

fn take_tokens(newer: Tokens) -> Tokens {
    let Tokens { keys, issuer, audience } = newer;
    let keys = keys.into_iter().map(|key| live!(TokenKey { file, algorithm } of key)).collect();
    Tokens { keys, issuer, audience }
}

fn take_peers(newer: Peers) -> Peers {
    let Peers { certificate_authorities, names, certificate, secret_file, rollover } = newer;
    let certificate = certificate.map(take_files);
    Peers { certificate_authorities, names, certificate, secret_file, rollover }
}

fn take_files(newer: CertificateFiles) -> CertificateFiles {
    live!(CertificateFiles { certificate, key } of newer)
}

/// Merges the listeners: the sockets stay, and the newer file's settings of those that both have are live. The result
/// is in the newer file's order, since the first TLS listener is the target of redirects.
fn merge_listeners(fixed: &mut Fixed, running: &[Listener], newer: Vec<Listener>) -> Vec<Listener> {
    let ids: Vec<ListenerId> = by_id(&newer).map(|(id, _)| id).collect();
    let mut merged = Vec::new();
    for (index, (id, listener)) in ids.iter().zip(newer).enumerate() {
        match by_id(running).find(|(running, _)| running == id) {
            Some((_, running)) => merged.push(merge_listener(fixed, index, running, listener)),
            None => fixed.changed.push(format!("listeners[{index}].address")),
        }
    }
    for (id, running) in by_id(running) {
        if !ids.contains(&id) {
            fixed.changed.push(format!("listeners (without {})", running.address));
            merged.push(running.clone());
        }
    }
    merged
}

fn merge_listener(fixed: &mut Fixed, index: usize, running: &Listener, newer: Listener) -> Listener {
    let Listener { address, tls, redirect_to_https, redirect_port, proxy_protocol, health_path } = newer;
    let is_of_one_kind = running.tls.is_some() == tls.is_some();
    if !is_of_one_kind {
        fixed.changed.push(format!("listeners[{index}].tls"));
    }
    Listener {
        address,
        tls: if is_of_one_kind { tls.map(take_tls) } else { running.tls.clone() },
        redirect_to_https: match is_of_one_kind {
            true => redirect_to_https,
            // With TLS there is nothing to redirect.
            false => {
                let key = format!("listeners[{index}].redirect_to_https");
                fixed.keep(&key, &running.redirect_to_https, &redirect_to_https)
            }
        },
        redirect_port,
        proxy_protocol,
        health_path,
    }
}

fn take_tls(newer: Tls) -> Tls {
    let Tls { certificates } = newer;
    Tls { certificates: certificates.into_iter().map(take_files).collect() }
}

fn by_id(listeners: &[Listener]) -> impl Iterator<Item = (ListenerId, &Listener)> {
    listeners.iter().enumerate().map(|(index, listener)| {
        let before = listeners.iter().take(index);
        let nth = before.filter(|earlier| earlier.address == listener.address).count();
        (ListenerId { address: listener.address, nth }, listener)
    })
}

/// Keeps the running source of tables, by whose rules the table in force was accepted, and notes where the newer one
/// differs.
fn keep_routing(fixed: &mut Fixed, running: &Routing, newer: &Routing) -> Routing {
    match (running, newer) {
        (Routing::File(running), Routing::File(newer)) => _ = fixed.keep("routing.file", running, newer),
        (Routing::Bus(running), Routing::Bus(newer)) => keep_bus(fixed, running, newer),
        (Routing::File(_), Routing::Bus(_)) => fixed.changed.push("routing.bus".to_owned()),
        (Routing::Bus(_), Routing::File(_)) => fixed.changed.push("routing.file".to_owned()),
    }
    running.clone()
}

fn keep_bus(fixed: &mut Fixed, running: &BusSource, newer: &BusSource) {
    let BusSource { access, snapshot, max_age, minimum_issued_ms, trusted_keys, max_shrink } = newer;
    let BusAccess { servers, bucket, credentials, certificate_authorities, client_certificate } = access;
    let known = &running.access;
    fixed.keep("routing.bus.servers", &known.servers, servers);
    fixed.keep("routing.bus.bucket", &known.bucket, bucket);
    let key = match if *credentials == Credentials::None { &known.credentials } else { credentials } {
        Credentials::None => "credentials",
        Credentials::Password { user: _, password: _ } => "user and password_file",
        Credentials::Token(_) => "token_file",
        Credentials::Nkey(_) => "nkey_file",
        Credentials::Creds(_) => "credentials",
    };
    fixed.keep(&format!("routing.bus.{key}"), &known.credentials, credentials);
    fixed.keep("routing.bus.certificate_authorities", &known.certificate_authorities, certificate_authorities);
    fixed.keep("routing.bus.client_certificate", &known.client_certificate, client_certificate);
    fixed.keep("routing.bus.snapshot", &running.snapshot, snapshot);
    fixed.keep("routing.max_age", &running.max_age, max_age);
    fixed.keep("routing.bus.minimum_issued", &running.minimum_issued_ms, minimum_issued_ms);
    fixed.keep("routing.bus.trusted_keys", &running.trusted_keys, trusted_keys);
    fixed.keep("routing.bus.max_shrink", &running.max_shrink, max_shrink);
}

#[cfg(test)]
mod tests;
