//! Every metric of the node, declared in one place, in a registry of its own.
//!
//! Label values come from closed sets: the table's names, fixed words, and HTTP statuses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use policy::round_trip::Measured;
use policy::{Origin, Table};
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder, core::Collector,
};
use rustc_hash::FxHashSet;

use super::sums::summed;

/// The node's metrics. A clone counts in the same series; so does what [`Metrics::of_worker`] returns. They live as long
/// as the process, and any thread counts in them.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub(crate) struct Metrics {
    registry: Registry,
    workers: Arc<Mutex<Vec<Metrics>>>,
    pub(crate) requests: IntCounterVec,
    pub(crate) grpc_requests: IntCounterVec,
    pub(crate) duration: HistogramVec,
    pub(crate) head: HistogramVec,
    pub(crate) errors: IntCounterVec,
    pub(crate) active_connections: IntGaugeVec,
    pub(crate) resting_connections: IntGauge,
    pub(crate) queue_depth: IntGaugeVec,
    awaiting_heads: IntGauge,
    pub(crate) concurrency_limit: IntGaugeVec,
    pub(crate) class_places: IntGaugeVec,
    pub(crate) decisions: IntCounterVec,
    pub(crate) decision_seconds: Histogram,
    pub(crate) region_health: GaugeVec,
    pub(crate) region_utilisation: GaugeVec,
    pub(crate) region_wanted: IntGaugeVec,
    pub(crate) region_writer: IntGaugeVec,
    pub(crate) split_brain: IntGaugeVec,
    pub(crate) region_latency: GaugeVec,
    client_round_trip: HistogramVec,
    pub(crate) region_latency_sla: GaugeVec,
    pub(crate) cross_region_latency: HistogramVec,
    pub(crate) cross_region_bytes: IntCounterVec,
    pub(crate) attempts: IntCounterVec,
    pub(crate) failovers: IntCounterVec,
    pub(crate) ejections: IntCounterVec,
    pub(crate) suspicions: IntCounterVec,
    pub(crate) retries: IntCounterVec,
    pub(crate) hedges: IntCounterVec,
    pub(crate) local_errors: IntCounterVec,
    pub(crate) shed: IntCounterVec,
    pub(crate) pressure: GaugeVec,
    pub(crate) body_bytes: IntGauge,
    pub(crate) revoked: IntCounterVec,
    pub(crate) tunnels: IntGaugeVec,
    pub(crate) tunnel_bytes: IntCounterVec,
    pub(crate) tunnel_seconds: HistogramVec,
    pub(crate) tunnels_ended: IntCounterVec,
    pub(crate) load_reports: IntCounterVec,
    pub(crate) canary_share: GaugeVec,
    pub(crate) canary_requests: IntCounterVec,
    pub(crate) canary_decisions: IntCounterVec,
    pub(crate) residency_violations: IntCounter,
    pub(crate) peer_refusals: IntCounterVec,
    pub(crate) proxy_header_refusals: IntCounterVec,
    pub(crate) client_abuse: IntCounterVec,
    pub(crate) token_verifications: IntCounterVec,
    pub(crate) table_info: IntGaugeVec,
    pub(crate) table_reloads: IntCounterVec,
    pub(crate) table_age: IntGauge,
    pub(crate) law_boundary: Gauge,
    pub(crate) law_clock_doubt: IntGauge,
    pub(crate) table_expired: IntGauge,
    pub(crate) emergency: IntGaugeVec,
    pub(crate) bus_connected: IntGauge,
    pub(crate) bus_silence: Gauge,
    pub(crate) bus_signed_age: GaugeVec,
    pub(crate) table_expiry: GaugeVec,
    pub(crate) bus_nodes: IntGauge,
    pub(crate) bus_events: IntCounterVec,
    pub(crate) geoip_build_epoch: IntGauge,
    pub(crate) geoip_held: IntGaugeVec,
    pub(crate) certificate_expiry: IntGaugeVec,
    pub(crate) access_log_dropped: IntCounter,
    pub(crate) log_lost: IntCounter,
    pub(crate) panics: IntCounter,
    pub(crate) task_ends: IntCounterVec,
}

/// Seconds: from the same town to the other side of the earth by satellite.
const ROUND_TRIP_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8];

/// Seconds: from a cached answer to the slowest that anybody waits for.
const REQUEST_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Seconds: from a page that is left at once to a day.
const TUNNEL_BUCKETS: &[f64] = &[1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0];

/// Seconds: a decision takes well under a microsecond, and an outlier is a scheduling accident.
const DECISION_BUCKETS: &[f64] = &[1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 1e-4, 1e-3];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Declares everything.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let counters = |name, help, labels| registered(&registry, IntCounterVec::new(Opts::new(name, help), labels));
        let counter = |name, help| registered(&registry, IntCounter::new(name, help));
        let gauge = |name, help| registered(&registry, IntGauge::new(name, help));
        let gauges = |name, help, labels| registered(&registry, IntGaugeVec::new(Opts::new(name, help), labels));
        let shares = |name, help, labels| registered(&registry, GaugeVec::new(Opts::new(name, help), labels));
        let histograms = |name: &str, help: &str, labels: &[&str]| {
            let opts = HistogramOpts::new(name, help).buckets(REQUEST_BUCKETS.to_vec());
            registered(&registry, HistogramVec::new(opts, labels))
        };
        let queue_depth = gauges(
            "queue_depth",
            "Requests that wait: in the queue of a region for a place (stage place), or for the head of an upstream's answer (stage answer, of all regions)",
            &["region", "stage"],
        );
        Self {
            requests: counters(
                "http_requests_total",
                "Requests answered, by the region that served them (empty: this node itself), route, method and status",
                &["region", "route", "method", "status"],
            ),
            grpc_requests: counters(
                "meridian_grpc_requests_total",
                "gRPC calls answered, by region (empty: this node itself), route and status code (none: the answer ended without one)",
                &["region", "route", "grpc_status"],
            ),
            duration: histograms(
                "http_request_duration_seconds",
                "From a request's head to the end of its answer",
                &["region", "route"],
            ),
            head: histograms(
                "http_response_head_seconds",
                "From a request's head to that of its answer, by the region that served it (empty: this node itself, to the answer's end)",
                &["region", "route"],
            ),
            errors: counters(
                "http_errors_total",
                "Answers that Meridian gave itself, by reason, and the region last tried",
                &["region", "reason"],
            ),
            active_connections: gauges("active_connections", "Client connections open", &["listener"]),
            resting_connections: gauge(
                "meridian_resting_connections",
                "HTTP/1.1 client connections that idle and have given their buffers back",
            ),
            awaiting_heads: awaiting_heads(&queue_depth),
            queue_depth,
            class_places: gauges(
                "meridian_class_places",
                "Places of a region's limit that a traffic class has taken on this node",
                &["region", "class"],
            ),
            concurrency_limit: gauges(
                "meridian_concurrency_limit",
                "The limit of a region on this node, where it has one (concurrency.mode)",
                &["region"],
            ),
            decisions: counters(
                "meridian_decisions_total",
                "Decisions by the client's jurisdiction (none: unlisted, unknown: uncertain origin) and outcome",
                &["jurisdiction", "outcome"],
            ),
            decision_seconds: registered(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new("meridian_decision_seconds", "Time of one decision in 64, sampled")
                        .buckets(DECISION_BUCKETS.to_vec()),
                ),
            ),
            region_health: shares("meridian_region_health", "0 down, 1 up, between: ramping", &["region"]),
            region_utilisation: shares(
                "meridian_region_utilisation",
                "Share of the region's capacity in use, as decisions weigh it: this node's part, or what the fleet reports",
                &["region"],
            ),
            region_wanted: gauges(
                "meridian_region_wanted",
                "1 while the regions that a standby stands in for cannot carry their load: start it, or keep it",
                &["region"],
            ),
            region_writer: gauges(
                "meridian_region_writer",
                "Of a primary and the standby that takes writes over: 1 for the one that writes go to, as this node decides",
                &["region"],
            ),
            split_brain: gauges(
                "meridian_region_split_brain",
                "Of a standby that takes writes over: 1 while it and its primary both say that they are the primary",
                &["region"],
            ),
            cross_region_latency: histograms(
                "meridian_cross_region_latency_seconds",
                "From an attempt's start to its answer's head, from this node's region to the one that served",
                &["source_region", "target_region"],
            ),
            cross_region_bytes: counters(
                "meridian_cross_region_bytes_total",
                "Response body bytes from another region",
                &["source_region", "target_region"],
            ),
            attempts: counters(
                "meridian_attempts_total",
                "Upstream attempts by outcome: answered (and passed on), status and grpc_status (an unwelcome one), unreachable, broken, timeout",
                &["region", "outcome"],
            ),
            failovers: counters(
                "meridian_failovers_total",
                "Requests that failed in one region and went to the next",
                &["from_region", "to_region"],
            ),
            ejections: counters(
                "meridian_ejections_total",
                "Endpoints that real traffic took out of rotation, by cause",
                &["region", "cause"],
            ),
            suspicions: counters(
                "meridian_suspicions_total",
                "Times that real traffic made a whole region the last resort, by cause",
                &["region", "cause"],
            ),
            retries: counters(
                "meridian_retries_total",
                "Attempts after the first, by the region that failed before: sent, or refused by its retry budget",
                &["region", "outcome"],
            ),
            hedges: counters(
                "meridian_hedges_total",
                "Attempts beside a late one: won, or lost to it after all",
                &["region", "outcome"],
            ),
            local_errors: counters(
                "meridian_local_errors_total",
                "What this machine had no means for: connections of clients and to origins, and probes",
                &["kind"],
            ),
            shed: counters("meridian_shed_total", "Requests refused for load", &["criticality", "reason"]),
            body_bytes: gauge(
                "meridian_body_bytes",
                "Bytes of bodies that the node holds: kept to be sent again, sent over HTTP/2 and not read yet, and answers that clients have yet to take",
            ),
            pressure: shares(
                "meridian_pressure",
                "Share in use of what the node may have of a resource (memory, descriptors, connections, lag), as it acts on it: up at once, down slowly",
                &["resource"],
            ),
            revoked: counters(
                "meridian_revoked_total",
                "What was under way and was ended, since its region may no longer serve it, by kind (request: its answer was awaited, answer, tunnel) and cause (removed, residency, expired, disabled, unable)",
                &["region", "kind", "cause"],
            ),
            tunnels: gauges("meridian_tunnels", "Tunnels (WebSockets) open", &["region"]),
            tunnel_bytes: counters(
                "meridian_tunnel_bytes_total",
                "Bytes through tunnels, up (from the client to the origin) and down",
                &["region", "direction"],
            ),
            tunnel_seconds: registered(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new("meridian_tunnel_seconds", "From a tunnel's start to its end")
                        .buckets(TUNNEL_BUCKETS.to_vec()),
                    &["region"],
                ),
            ),
            tunnels_ended: counters(
                "meridian_tunnels_ended_total",
                "Tunnels that ended: closed (by either side), broken, idle, revoked",
                &["region", "cause"],
            ),
            client_round_trip: registered(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "meridian_client_round_trip_seconds",
                        "The kernel's round trip to clients that connect here themselves, one a connection, by their country (none: unknown, several)",
                    )
                    .buckets(ROUND_TRIP_BUCKETS.to_vec()),
                    &["country"],
                ),
            ),
            region_latency: shares(
                "meridian_region_latency_seconds",
                "Round trip between two regions as this node measures it, by quantile (0.5, 0.95)",
                &["from", "to", "quantile"],
            ),
            region_latency_sla: shares(
                "meridian_region_latency_sla_seconds",
                "What that is to be at most (latency_sla_ms)",
                &["from", "to"],
            ),
            load_reports: counters(
                "meridian_load_reports_total",
                "Load reports that came from nodes: taken, or why not",
                &["outcome"],
            ),
            canary_share: shares(
                "meridian_canary_share",
                "Share of the clients that get the version on trial",
                &["version"],
            ),
            canary_requests: counters(
                "meridian_canary_requests_total",
                "Attempts where a version is on trial, by track (canary: at that version, stable: at others) and outcome (ok, error)",
                &["version", "track", "outcome"],
            ),
            canary_decisions: counters(
                "meridian_canary_decisions_total",
                "What became of the version on trial: advanced, promoted, ended",
                &["version", "decision"],
            ),
            peer_refusals: counters(
                "meridian_peer_refusals_total",
                "Connections and requests of those who claim to be nodes and are none, or are not known as one: clients of this node, or gateways",
                &["side", "cause"],
            ),
            proxy_header_refusals: counters(
                "meridian_proxy_header_refusals_total",
                "Connections of trusted proxies whose PROXY header was refused: malformed, overrun (a field past its end), checksum, cut_off",
                &["cause"],
            ),
            client_abuse: counters(
                "meridian_client_abuse_total",
                "HTTP/2 connections that were cut since their client floods them, by kind of frame (rejected: requests that are no sound ones), and uploads that were ended below limits.body_rate (slow_body)",
                &["kind"],
            ),
            token_verifications: counters(
                "meridian_token_verifications_total",
                "Bearer tokens whose signature was looked into, by outcome (verified, refused); one that was verified is remembered until its exp",
                &["outcome"],
            ),
            residency_violations: counter(
                "data_residency_violations_total",
                "Attempts that reached a region outside the allowed set: an invariant, always 0",
            ),
            table_info: gauges("meridian_table_info", "The routing table in force", &["version", "revision"]),
            table_reloads: counters("meridian_table_reloads_total", "Routing table reloads", &["outcome"]),
            table_age: gauge("meridian_table_age_seconds", "Since the table in force was loaded"),
            law_boundary: registered(
                &registry,
                Gauge::new(
                    "meridian_law_boundary_seconds",
                    "Until the law of the table in force changes by date; +Inf for never",
                ),
            ),
            law_clock_doubt: gauge(
                "meridian_law_clock_doubt_seconds",
                "How far the clock has leapt ahead of what can be believed; 0 is no doubt",
            ),
            table_expired: gauge(
                "meridian_table_expired",
                "1 while the table may no longer be used (max_age, valid_until), so that restricted routes are refused",
            ),
            emergency: gauges("meridian_emergency", "1 while the table's emergency refuses so", &["measure"]),
            table_expiry: registered(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "meridian_table_expiry_seconds",
                        "Until the table may no longer be used, as things are; negative once it may not",
                    ),
                    &[],
                ),
            ),
            bus_connected: gauge("meridian_bus_connected", "1 while the config bus is connected"),
            bus_silence: registered(
                &registry,
                Gauge::new("meridian_bus_silence_seconds", "Since the config bus last confirmed the table in force"),
            ),
            bus_signed_age: registered(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "meridian_bus_signed_age_seconds",
                        "Since a trusted key last signed anything about the table in force (trusted_keys)",
                    ),
                    &[],
                ),
            ),
            bus_nodes: gauge("meridian_bus_nodes", "Nodes that report on the config bus, this one included"),
            bus_events: counters(
                "meridian_bus_events_total",
                "What happened with the config bus: connected, disconnected; tables applied, staged, returned (from a staged one), rejected, quarantined (refused before), ignored; heartbeat, heartbeat_refused; snapshot_taken, snapshot_failed, report_failed; gap (the watch left something out, and the bus was asked)",
                &["event"],
            ),
            geoip_build_epoch: gauge(
                "meridian_geoip_build_epoch",
                "Build time of the oldest geo database, Unix seconds",
            ),
            geoip_held: gauges(
                "meridian_geoip_held",
                "1 for a geo database's file that would move too many clients and waits for POST /geoip/accept",
                &["name"],
            ),
            certificate_expiry: gauges(
                "meridian_certificate_expiry_seconds",
                "Until the certificate expires, of several for these names the first; negative once it has",
                &["name"],
            ),
            access_log_dropped: counter(
                "meridian_access_log_dropped_total",
                "Access log lines dropped because stdout did not take them in time",
            ),
            log_lost: counter(
                "meridian_log_lost_total",
                "Lines of the node's own log that are lost because stderr did not take them in time",
            ),
            panics: counter(
                "meridian_panics_total",
                "Panics: mistakes in Meridian, each of which ended what it was in",
            ),
            task_ends: counters(
                "meridian_task_ends_total",
                "Tasks and threads of the node that ended without being asked to; they are started again, or the node ends",
                &["task"],
            ),
            workers: Arc::default(),
            registry,
        }
    }

    /// Returns metrics for one more worker, with a copy of its own of each series that every request counts in: no two
    /// threads write to the same place. [`Metrics::render`] adds them up.
    pub(crate) fn of_worker(&self) -> Self {
        let registry = Registry::new();
        let counters = |like: &IntCounterVec| {
            let (opts, labels) = declaration(like);
            registered(&registry, IntCounterVec::new(opts, &labels))
        };
        let histograms = |like: &HistogramVec| {
            let (common_opts, labels) = declaration(like);
            let opts = HistogramOpts { common_opts, buckets: REQUEST_BUCKETS.to_vec() };
            registered(&registry, HistogramVec::new(opts, &labels))
        };
        let (opts, labels) = declaration(&self.queue_depth);
        let queue_depth = registered(&registry, IntGaugeVec::new(opts, &labels));
        let own = Self {
            requests: counters(&self.requests),
            grpc_requests: counters(&self.grpc_requests),
            duration: histograms(&self.duration),
            head: histograms(&self.head),
            decisions: counters(&self.decisions),
            attempts: counters(&self.attempts),
            cross_region_bytes: counters(&self.cross_region_bytes),
            cross_region_latency: histograms(&self.cross_region_latency),
            awaiting_heads: awaiting_heads(&queue_depth),
            queue_depth,
            workers: Arc::default(),
            registry: registry.clone(),
            ..self.clone()
        };
        self.workers().push(own.clone());
        own
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, Vec<Metrics>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts how far a client is that has connected here.
    pub(crate) fn client_came(&self, origin: &Origin, took: Duration) {
        let country = if let Origin::Country(country) = origin { country.code() } else { "none" };
        self.client_round_trip.with_label_values(&[country]).observe(took.as_secs_f64());
    }

    /// Counts a request as waiting for an upstream, for as long as the guard lives.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        self.awaiting_heads.inc();
        Waiting(&self.awaiting_heads)
    }

    /// Returns the exposition in Prometheus' text format.
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let workers: Vec<Metrics> = self.workers().clone();
        let all = std::iter::once(self).chain(&workers).map(|metrics| metrics.registry.gather());
        if let Err(error) = TextEncoder::new().encode(&summed(all), &mut text) {
            tracing::error!(%error, "metrics do not encode");
        }
        text
    }

    /// Shows what is measured of the way between two regions, and what it is to be at most, in milliseconds; what is not
    /// known has no series.
    pub(crate) fn show_latency(&self, from: &str, to: &str, measured: Option<Measured>, sla_ms: Option<f64>) {
        for (quantile, ms) in [("0.5", measured.map(|seen| seen.median_ms)), ("0.95", measured.map(|seen| seen.p95_ms))]
        {
            show(&self.region_latency, &[from, to, quantile], ms.map(|ms| f64::from(ms) / 1000.0));
        }
        show(&self.region_latency_sla, &[from, to], sla_ms.map(|ms| ms / 1000.0));
    }

    /// Drops the series of routes and regions that a new table no longer has, and of versions other
    /// than the one on trial, so that their number stays bounded by the table.
    pub(crate) fn forget_absent(&self, table: &Table, version_on_trial: Option<&str>) {
        let region = |name: &str| name.is_empty() || table.region_named(name).is_some();
        let routes: FxHashSet<&str> =
            table.spec().routes.iter().map(|route| route.name.as_str()).chain(["", "none"]).collect();
        let keep = |label: &str, value: &str| match label {
            "region" | "source_region" | "target_region" | "from_region" | "to_region" | "from" | "to" => region(value),
            "route" => routes.contains(value),
            "version" => version_on_trial == Some(value),
            "class" => table.spec().traffic_classes.iter().any(|class| class.name == value),
            "jurisdiction" => {
                ["none", "unknown", "several"].contains(&value)
                    || table.spec().jurisdictions.iter().any(|jurisdiction| jurisdiction.name == value)
            }
            _ => true,
        };
        for metrics in std::iter::once(self).chain(&*self.workers()) {
            metrics.forget_requests(keep);
        }
        forget(&self.errors, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.region_health, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.region_utilisation, keep, |vec, values| vec.remove_label_values(values).is_ok());
        let standby =
            |_: &str, name: &str| table.region_named(name).is_some_and(|id| table.region(id).standby.is_some());
        forget(&self.region_wanted, standby, |vec, values| vec.remove_label_values(values).is_ok());
        let pairs: Vec<_> = table.write_pairs().collect();
        let of_pair = |_: &str, name: &str| {
            let id = table.region_named(name);
            pairs.iter().any(|pair| [Some(pair.primary), Some(pair.standby)].contains(&id))
        };
        forget(&self.region_writer, of_pair, |vec, values| vec.remove_label_values(values).is_ok());
        let taking = |_: &str, name: &str| {
            let id = table.region_named(name);
            pairs.iter().any(|pair| Some(pair.standby) == id)
        };
        forget(&self.split_brain, taking, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.region_latency, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.region_latency_sla, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.queue_depth, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.class_places, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.concurrency_limit, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.failovers, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.ejections, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.suspicions, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.revoked, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.tunnels, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.tunnel_bytes, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.tunnel_seconds, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.tunnels_ended, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.retries, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.hedges, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.canary_share, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.canary_requests, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.canary_decisions, keep, |vec, values| vec.remove_label_values(values).is_ok());
    }

    /// Drops those of the series that every request counts in.
    fn forget_requests(&self, keep: impl Fn(&str, &str) -> bool + Copy) {
        forget(&self.grpc_requests, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.requests, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.duration, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.head, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.decisions, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.cross_region_latency, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.cross_region_bytes, keep, |vec, values| vec.remove_label_values(values).is_ok());
        forget(&self.attempts, keep, |vec, values| vec.remove_label_values(values).is_ok());
    }
}

/// Returns the series of those that wait for an answer's head.
fn awaiting_heads(queue_depth: &IntGaugeVec) -> IntGauge {
    queue_depth.with_label_values(&["", "answer"])
}

/// Returns how a metric is declared: its name and help, and its labels.
fn declaration(metric: &impl Collector) -> (Opts, Vec<&str>) {
    let Some(desc) = metric.desc().first().copied() else { return (Opts::new("", ""), Vec::new()) };
    let labels = desc.variable_labels.iter().map(String::as_str).collect();
    (Opts::new(&desc.fq_name, &desc.help), labels)
}

/// Counts one waiting request.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a IntGauge);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Registers a metric. The names and labels are the constants above, so that an error is a mistake
/// in this file, which every start of the node would show.
fn registered<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    #[allow(clippy::expect_used, reason = "constants of this file")]
    let metric = metric.expect("a well-formed metric");
    #[allow(clippy::expect_used, reason = "constants of this file")]
    registry.register(Box::new(metric.clone())).expect("a metric registered once");
    metric
}

/// Sets a gauge, or drops its series where there is nothing to show.
fn show(gauges: &GaugeVec, labels: &[&str], value: Option<f64>) {
    match value {
        Some(value) => gauges.with_label_values(labels).set(value),
        // It may be that there is none, which is what is wanted.
        None => drop(gauges.remove_label_values(labels)),
    }
}

fn forget<C: Collector>(vec: &C, keep: impl Fn(&str, &str) -> bool, remove: impl Fn(&C, &[&str]) -> bool) {
    let order: Vec<String> = vec.desc().first().map(|desc| desc.variable_labels.clone()).unwrap_or_default();
    for family in vec.collect() {
        for metric in family.get_metric() {
            let labels = metric.get_label();
            if labels.iter().all(|label| keep(label.name(), label.value())) {
                continue;
            }
            let value =
                |name: &String| labels.iter().find(|label| label.name() == name).map_or("", |label| label.value());
            let values: Vec<&str> = order.iter().map(value).collect();
            if !remove(vec, &values) {
                tracing::debug!(?values, "a stale series is already gone");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_registers_and_renders() {
        let metrics = Metrics::new();
        metrics.queue_depth.with_label_values(&["a", "place"]).set(3);
        let text = String::from_utf8(metrics.render()).unwrap_or_default();
        assert!(text.contains("queue_depth{region=\"a\",stage=\"place\"} 3"), "{text}");
        assert!(text.contains("data_residency_violations_total 0"), "{text}");
    }

    #[test]
    fn what_workers_count_is_added_up() {
        let metrics = Metrics::new();
        let workers = [metrics.of_worker(), metrics.of_worker()];
        metrics.attempts.with_label_values(&["a", "answered"]).inc();
        for (number, worker) in workers.iter().enumerate() {
            worker.attempts.with_label_values(&["a", "answered"]).inc_by(10);
            worker.attempts.with_label_values(&["b", "answered"]).inc_by(number as u64);
            worker.duration.with_label_values(&["a", "r"]).observe(0.004 + number as f64);
            worker.region_health.with_label_values(&["a"]).set(0.5);
        }
        let waiting = workers[1].waiting();
        let text = String::from_utf8(metrics.render()).unwrap();
        for line in [
            "meridian_attempts_total{outcome=\"answered\",region=\"a\"} 21",
            "meridian_attempts_total{outcome=\"answered\",region=\"b\"} 1",
            "http_request_duration_seconds_bucket{region=\"a\",route=\"r\",le=\"0.0025\"} 0",
            "http_request_duration_seconds_bucket{region=\"a\",route=\"r\",le=\"0.005\"} 1",
            "http_request_duration_seconds_bucket{region=\"a\",route=\"r\",le=\"+Inf\"} 2",
            "http_request_duration_seconds_count{region=\"a\",route=\"r\"} 2",
            "http_request_duration_seconds_sum{region=\"a\",route=\"r\"} 1.008",
            "meridian_region_health{region=\"a\"} 0.5",
            "queue_depth{region=\"\",stage=\"answer\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert_eq!(text.matches("# TYPE meridian_attempts_total ").count(), 1);
        drop(waiting);
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains("\nqueue_depth{region=\"\",stage=\"answer\"} 0\n"), "{text}");
    }
}
