//! The node's watch over its upstreams: probes when they are due, and what real traffic has shown.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use policy::health::{Counts, Phase, Primary, Probe, ProbePlan, Sliding, is_needed};
use policy::pressure::{OVERLOAD_MARK, Pressure};
use policy::region::AdminState;
use policy::{Health, RegionId, Table};
use tokio::time::{MissedTickBehavior, interval};

use super::probe;
use super::writers::{KeptTerms, follow_writers};
use crate::clock::uptime;
use crate::health::endpoint::EndpointState;
use crate::node::Node;
use crate::routing::{Region, Routing};
use crate::upstream::evidence::{eject, gauge, refresh, suspect};

/// Probes every endpoint by its region's plan, follows what real traffic shows, and keeps the regions' health and
/// gauges current. One for each node, on a thread of pingora's.
pub(crate) struct Watch {
    node: Arc<Node>,
    /// How many probes of an endpoint are under way: one at a time, but while something is wrong as
    /// many as it takes to be sure, so that those that wait in vain do not hold up the next.
    busy: Arc<Mutex<HashMap<u64, u32>>>,
}

/// What is said of an endpoint whose role is no word for one.
const ODD_ROLE: &str = "x-replication-role is neither primary nor replica: it says nothing";

/// How often due probes are looked for, and what traffic has shown.
const TICK: Duration = Duration::from_millis(100);

impl Watch {
    /// Makes a watch over this node's upstreams.
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, busy: Arc::default() }
    }

    /// Starts the probes that are due. `last` holds the start of each endpoint's last one, and by how
    /// much its interval is to vary.
    fn start_due(&self, last: &mut HashMap<u64, (Duration, f64)>) {
        let routing = self.node.routing.load_full();
        let window = routing.table().spec().latency_window;
        let mut seen = HashSet::new();
        for (id, region, cell) in routing.regions() {
            let gateway = routing.chosen_for_gateway(id).and_then(|name| HeaderValue::from_str(name).ok());
            for endpoint in &cell.endpoints {
                seen.insert(endpoint.id);
                let due = last.get(&endpoint.id).is_none_or(|(before, vary)| {
                    uptime() >= *before + pace(&cell.probe, endpoint.is_in_doubt(), window).mul_f64(*vary)
                });
                let most = if endpoint.is_in_doubt() { cell.probe.failures } else { 1 };
                let Some(busy) = due.then(|| Busy::begin(&self.busy, endpoint.id, most)).flatten() else { continue };
                let vary = 1.0 + cell.probe.jitter * (2.0 * fastrand::f64() - 1.0);
                last.insert(endpoint.id, (uptime(), vary));
                let (node, endpoint, plan) = (self.node.clone(), endpoint.clone(), cell.probe.clone());
                let (region, gateway) = (region.name.clone(), gateway.clone());
                tokio::spawn(async move {
                    let _busy = busy;
                    let asked = uptime();
                    let found = probe(&node, &endpoint, &plan, gateway.as_ref()).await;
                    if let Some(lack) = found.lack {
                        node.telemetry.metrics.local_errors.with_label_values(&[lack.name()]).inc();
                        if lack.is_of_all() {
                            return;
                        }
                    }
                    if found.result == Probe::Passed {
                        let (lag_ms, claim, is_odd) = (found.lag_ms, found.claim, found.has_odd_role);
                        if endpoint.report_replication(lag_ms, claim, is_odd, asked) {
                            tracing::warn!(region, endpoint = %endpoint.endpoint, "{ODD_ROLE}");
                        }
                    }
                    if let Some(takes) = found.takes_tunnels {
                        endpoint.note_tunnels(takes);
                    }
                    let why = found.why.as_deref();
                    if let Some(why) = why {
                        tracing::debug!(region, endpoint = %endpoint.endpoint, why, "probe failed");
                    }
                    endpoint.note_probe(found.why.clone());
                    if endpoint.on_probe(found.result, &plan) {
                        if endpoint.is_up() {
                            tracing::info!(region, endpoint = %endpoint.endpoint, state = "up", "probe changed an endpoint");
                        } else {
                            let state = "down";
                            tracing::warn!(region, endpoint = %endpoint.endpoint, state, why, "probe changed an endpoint");
                        }
                        let routing = node.routing.load_full();
                        if let Some(id) = routing.table().region_named(&region) {
                            refresh(
                                &node.telemetry.metrics,
                                &region,
                                routing.region(id),
                                &routing.table().spec().failover,
                            );
                        }
                    }
                });
            }
        }
        last.retain(|id, _| seen.contains(id));
    }

    /// Lets the time pass for every region.
    fn tick(&self, memory: &mut TickState, since: Duration) {
        let routing = self.node.routing.load_full();
        let failover = &routing.table().spec().failover;
        self.node.inbox.settle(&routing, uptime());
        for (_, region, cell) in routing.regions() {
            for endpoint in &cell.endpoints {
                if endpoint.on_tick(&failover.outlier) {
                    tracing::info!(region = region.name, endpoint = %endpoint.endpoint, "ejection ended");
                }
                // What was counted before this watch began, by one that has ended, is not of the last while.
                let seen = memory.endpoints.entry(endpoint.id).or_insert_with(|| EndpointTraffic::since(endpoint));
                let fresh = endpoint.counts().since(&seen.counts);
                seen.counts = seen.counts.plus(&fresh);
                seen.window.add(uptime(), failover.outlier.interval, &fresh);
            }
            let lately = |memory: &TickState, endpoint: &EndpointState| {
                memory.endpoints.get(&endpoint.id).map(|seen| seen.window.sum()).unwrap_or_default()
            };
            let in_rotation = |memory: &TickState| {
                let up = cell.endpoints.iter().filter(|endpoint| endpoint.is_up());
                up.fold(Counts::default(), |sum, endpoint| sum.plus(&lately(memory, endpoint)))
            };
            let all = in_rotation(memory);
            for endpoint in cell.endpoints.iter().filter(|endpoint| endpoint.is_up()) {
                let its = lately(memory, endpoint);
                if let Some(cause) = its.verdict_among(&all.since(&its), failover) {
                    eject(&self.node.telemetry.metrics, &region.name, cell, endpoint, cause, failover);
                }
            }
            // What endpoints out of rotation have shown is answered by their being out, and so it is with
            // a region's.
            let is_suspected = cell.state.phase() == Phase::Suspected;
            for endpoint in cell.endpoints.iter().filter(|endpoint| is_suspected || !endpoint.is_up()) {
                memory.endpoints.entry(endpoint.id).or_default().window.clear();
            }
            let in_rotation = if is_suspected { Counts::default() } else { in_rotation(memory) };
            if let Some(cause) = cell.state.observe(&in_rotation, failover) {
                suspect(&self.node.telemetry.metrics, &region.name, cell, cause, failover);
            }
            cell.state.limits.tick();
            refresh(&self.node.telemetry.metrics, &region.name, cell, failover);
            memory.regions.entry(region.name.clone()).or_default().observe(&region.name, cell, since);
            show(&self.node, routing.table(), region, cell);
        }
        follow_standbys(&self.node, &routing);
        follow_writers(&self.node, &routing, &mut memory.kept);
        for route in routing.latencies() {
            route.on_tick();
        }
        memory.since_measured += since;
        if memory.since_measured >= MEASURED_EACH {
            memory.since_measured = Duration::ZERO;
            measure(&self.node, &routing, &mut memory.late);
        }
        if let Some(bus) = &self.node.bus {
            bus.freshness.look();
        }
        if let Some(canary) = &routing.canary {
            canary.on_tick(uptime(), &self.node.telemetry.metrics);
        }
        if std::mem::replace(&mut memory.generation, routing.generation) != routing.generation {
            // Here, since it is here that most of the gauges are set: nothing brings them back.
            let version_on_trial = routing.canary.as_ref().map(|canary| canary.spec.version.as_str());
            self.node.telemetry.metrics.forget_absent(routing.table(), version_on_trial);
            memory.regions.retain(|name, _| routing.table().region_named(name).is_some());
            memory.late.retain(|name| routing.table().region_named(name).is_some());
            let endpoints = routing.regions().flat_map(|(_, _, cell)| &cell.endpoints);
            let known: HashSet<u64> = endpoints.map(|endpoint| endpoint.id).collect();
            memory.endpoints.retain(|id, _| known.contains(id));
        }
    }
}

/// From one probe's start to the next. While round trips are measured, an endpoint that nobody connects to is asked at
/// least twice in a window, of so long or zero.
fn pace(plan: &ProbePlan, in_doubt: bool, window: Duration) -> Duration {
    match (in_doubt, window.is_zero()) {
        (true, _) => plan.unhealthy_interval,
        (false, true) => plan.interval,
        (false, false) => plan.interval.min((window / 2).div_f64(1.0 + plan.jitter)),
    }
}

/// Works out how far each region is, shows it, and says where it begins and ends to be farther than its SLA.
fn measure(node: &Node, routing: &Routing, late: &mut HashSet<String>) {
    let (table, here) = (routing.table(), routing.here);
    let window = table.spec().latency_window;
    let from = &table.region(here).name;
    routing.settle_client_ways();
    for (id, region, cell) in routing.regions() {
        cell.state.answers.on_tick();
        let endpoints = cell.endpoints.iter().map(|endpoint| &*endpoint.round_trips);
        let measured = cell.state.round_trip.settle(endpoints, table.prior_latency_ms(here, id), window);
        let to = &region.name;
        node.telemetry.metrics.show_latency(from, to, measured, table.latency_sla_ms(here, id));
        let Some((measured, sla_ms)) = measured.zip(table.latency_sla_ms(here, id)) else {
            late.remove(to);
            continue;
        };
        let p95_ms = f64::from(measured.p95_ms);
        if measured.samples < ENOUGH_FOR_SLA {
            continue;
        }
        if p95_ms > sla_ms && late.insert(to.clone()) {
            tracing::warn!(from, to, p95_ms, sla_ms, "round trips are longer than their SLA (latency_sla_ms)");
        } else if p95_ms <= WITHIN_SLA * sla_ms && late.remove(to) {
            tracing::info!(from, to, p95_ms, sla_ms, "round trips are within their SLA again");
        }
    }
}

/// The P95 of fewer round trips is the longest of them: one slow connection.
const ENOUGH_FOR_SLA: usize = 4;

/// A round trip is within its SLA again below this share of it, so that one at its edge is not told each minute.
const WITHIN_SLA: f64 = 0.9;

/// How often it is worked out how far regions are.
const MEASURED_EACH: Duration = Duration::from_secs(1);

/// Finds out which standbys are wanted, shows it, and says where that changes.
fn follow_standbys(node: &Node, routing: &Routing) {
    let table = routing.table();
    let failover = &table.spec().failover;
    for (id, region, cell) in routing.regions() {
        let primaries = table.stands_in_for(id).unwrap_or_default();
        let relief = if cell.state.is_promoted() { cell.fleet_load() * table.capacity_rps(id) } else { 0.0 };
        let needed = is_needed(primaries.iter().map(|primary| seen(routing, primary)), relief);
        if let Some(want) = cell.state.observe_want(region.standby.as_ref(), needed, failover) {
            let stands_in_for: Vec<&str> = primaries.iter().map(|id| table.region(id).name.as_str()).collect();
            let (region, state, stands_in_for) = (&region.name, want.name(), stands_in_for.join(", "));
            tracing::warn!(region, state, stands_in_for, "standby changed");
        }
        if region.standby.is_some() {
            let wanted = i64::from(cell.state.want().is_wanted());
            node.telemetry.metrics.region_wanted.with_label_values(&[&region.name]).set(wanted);
        }
    }
}

/// Returns what a standby sees of a region that it stands in for.
fn seen(routing: &Routing, id: RegionId) -> Primary {
    let (region, cell) = (routing.table().region(id), routing.region(id));
    let health = match region.state {
        AdminState::Serving => cell.state.health(),
        AdminState::Draining | AdminState::Disabled => Health::Down,
    };
    Primary { health, pressure: cell.state.pressure(), capacity: routing.table().capacity_rps(id) }
}

fn show(node: &Node, table: &Table, region: &policy::region::Region, cell: &Region) {
    let (admin, region) = (region.state, &region.name);
    // What the table keeps clients from gets none of them, however healthy it is.
    let health = if admin == AdminState::Serving { gauge(cell) } else { 0.0 };
    node.telemetry.metrics.region_health.with_label_values(&[region]).set(health);
    let metrics = &node.telemetry.metrics;
    metrics.region_utilisation.with_label_values(&[region]).set(f64::from(cell.utilisation()));
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let now = cell.limit();
    metrics.queue_depth.with_label_values(&[region, "place"]).set(number(now.map_or(0, |now| now.waiting)));
    match now {
        Some(now) => {
            metrics.concurrency_limit.with_label_values(&[region]).set(number(now.limit));
            for (class, taken, _) in cell.classes(table) {
                metrics.class_places.with_label_values(&[region, class]).set(number(taken));
            }
        }
        // It has none to remove, or no longer.
        None => {
            let _had = metrics.concurrency_limit.remove_label_values(&[region]);
            for class in &table.spec().traffic_classes {
                let _had = metrics.class_places.remove_label_values(&[region, &class.name]);
            }
        }
    }
}

#[async_trait]
impl BackgroundService for Watch {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = HashMap::new();
        let mut memory = TickState { kept: kept_terms(&self.node), ..TickState::default() };
        let mut latest = uptime();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.start_due(&mut last);
                    let before = std::mem::replace(&mut latest, uptime());
                    self.tick(&mut memory, latest.saturating_sub(before));
                }
                _ = shutdown.changed() => return,
            }
        }
    }
}

/// One probe under way. However it ends, it ends the count.
struct Busy(Arc<Mutex<HashMap<u64, u32>>>, u64);

impl Busy {
    fn begin(all: &Arc<Mutex<HashMap<u64, u32>>>, endpoint: u64, most: u32) -> Option<Self> {
        let mut counts = lock(all);
        let count = counts.entry(endpoint).or_default();
        (*count < most).then(|| {
            *count += 1;
            Self(all.clone(), endpoint)
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut counts = lock(&self.0);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

/// What is remembered from tick to tick.
#[derive(Default)]
struct TickState {
    /// Of the routing seen last.
    generation: u64,
    regions: HashMap<String, RegionPressure>,
    /// The regions whose round trip is past its SLA.
    late: HashSet<String>,
    since_measured: Duration,
    endpoints: HashMap<u64, EndpointTraffic>,
    /// By which decisions the node goes, on disk.
    kept: KeptTerms,
}

/// Reads by which decisions the node went when it was last here.
fn kept_terms(node: &Node) -> KeptTerms {
    match &node.config.load().routing {
        config::Routing::Bus(source) => KeptTerms::beside(source.snapshot.as_deref()),
        config::Routing::File(_) => KeptTerms::default(),
    }
}

/// What an endpoint's traffic has shown.
#[derive(Default)]
struct EndpointTraffic {
    counts: Counts,
    window: Sliding,
}

impl EndpointTraffic {
    fn since(endpoint: &EndpointState) -> Self {
        Self { counts: endpoint.counts(), window: Sliding::default() }
    }
}

/// A region's load.
#[derive(Default)]
struct RegionPressure(Pressure);

impl RegionPressure {
    fn observe(&mut self, region: &str, cell: &Region, since: Duration) {
        self.0.observe(cell.fleet_load(), since);
        let spills = |pressure: f32| pressure > OVERLOAD_MARK;
        if spills(cell.state.pressure()) != spills(self.0.level()) {
            let state = if spills(self.0.level()) { "overloaded: spilling" } else { "no longer overloaded" };
            tracing::warn!(region, state, "region's load changed");
        }
        cell.state.set_pressure(self.0.level());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
