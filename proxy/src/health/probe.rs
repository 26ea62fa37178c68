//! Active probes: each endpoint that this node dials is asked, now and then, whether it serves.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use policy::health::ProbePlan;
use policy::pressure::{OVERLOAD_MARK, Pressure};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::headers::names::{CHOSEN, PROBE};
use crate::health::endpoint::EndpointState;
use crate::node::Node;
use crate::routing::now;
use crate::upstream::body::RequestBody;

/// Probes every endpoint by its region's plan, and keeps the regions' health and gauges current.
pub struct Prober {
    node: Arc<Node>,
    /// Endpoints that are being probed: one probe at a time each.
    busy: Arc<Mutex<HashSet<u64>>>,
}

/// How often due probes are looked for, and ended ejections.
const TICK: Duration = Duration::from_millis(100);

impl Prober {
    /// Probes for this node.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, busy: Arc::default() }
    }

    /// Starts the probes that are due. `due` holds the next time of each endpoint.
    fn start_due(&self, due: &mut HashMap<u64, Duration>) {
        let routing = self.node.routing.load_full();
        let mut seen = HashSet::new();
        for (id, region, cell) in routing.regions() {
            let gateway = routing.chosen_for_gateway(id).and_then(|name| HeaderValue::from_str(name).ok());
            for endpoint in &cell.endpoints {
                seen.insert(endpoint.id);
                if due.get(&endpoint.id).is_some_and(|next| now() < *next) {
                    continue;
                }
                // A tenth of jitter, so that a fleet does not ask in step.
                due.insert(endpoint.id, now() + cell.probe.interval.mul_f64(0.9 + 0.2 * fastrand::f64()));
                if lock(&self.busy).insert(endpoint.id) {
                    let (node, endpoint, plan) = (self.node.clone(), endpoint.clone(), cell.probe.clone());
                    let (busy, region, gateway) = (self.busy.clone(), region.name.clone(), gateway.clone());
                    tokio::spawn(async move {
                        let answer = probe(&node, &endpoint, &plan, gateway.as_ref()).await;
                        let passed = answer.is_some();
                        if let Some(answer) = answer {
                            endpoint.report_lag(answer.lag_ms);
                        }
                        if endpoint.on_probe(passed, &plan) {
                            let state = if passed { "up" } else { "down" };
                            tracing::warn!(region, endpoint = %endpoint.endpoint, state, "probe changed an endpoint");
                            node.routing.load().refresh_health();
                        }
                        lock(&busy).remove(&endpoint.id);
                    });
                }
            }
        }
        due.retain(|id, _| seen.contains(id));
    }

    /// Lets ejections end, follows the regions' load, and shows their state in the metrics.
    fn refresh(&self, shown: &mut HashMap<String, Shown>, since: Duration) {
        let routing = self.node.routing.load_full();
        for (_, region, cell) in routing.regions() {
            for endpoint in cell.endpoints.iter().filter(|endpoint| endpoint.on_tick()) {
                tracing::info!(region = region.name, endpoint = %endpoint.endpoint, "ejection ended");
            }
            cell.refresh(routing.table().spec().failover.threshold);
            let up = cell.is_up();
            let known = shown.entry(region.name.clone()).or_insert(Shown { up, pressure: Pressure::default() });
            if std::mem::replace(&mut known.up, up) != up {
                tracing::warn!(region = region.name, state = if up { "up" } else { "down" }, "region changed");
            }
            known.pressure.observe(cell.utilisation(), since);
            let spills = |pressure: f32| pressure > OVERLOAD_MARK;
            if spills(cell.pressure()) != spills(known.pressure.level()) {
                let state =
                    if spills(known.pressure.level()) { "overloaded: spilling" } else { "no longer overloaded" };
                tracing::warn!(region = region.name, state, "region's load changed");
            }
            cell.set_pressure(known.pressure.level());
            let metrics = &self.node.metrics;
            metrics.region_health.with_label_values(&[&region.name]).set(if up { 1.0 } else { 0.0 });
            metrics.region_utilisation.with_label_values(&[&region.name]).set(f64::from(cell.utilisation()));
        }
        shown.retain(|name, _| routing.table().region_named(name).is_some());
    }
}

#[async_trait]
impl BackgroundService for Prober {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut due, mut shown) = (HashMap::new(), HashMap::new());
        let mut last = now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.start_due(&mut due);
                    let before = std::mem::replace(&mut last, now());
                    self.refresh(&mut shown, last.saturating_sub(before));
                }
                _ = shutdown.changed() => return,
            }
        }
    }
}

/// What is remembered of a region from tick to tick.
struct Shown {
    up: bool,
    pressure: Pressure,
}

/// What an endpoint that passed its probe says of itself.
struct Passed {
    /// From [`LAG`], in milliseconds.
    lag_ms: Option<u64>,
}

/// The header of a probe's answer in which a replica says by how many seconds it lags.
pub const LAG: HeaderName = HeaderName::from_static("x-replication-lag");

/// Asks once; 200 to 399 passes. A gateway is told the region, and that a node asks: it answers for
/// the region itself, and refuses (421) a node that it does not trust.
async fn probe(
    node: &Node,
    endpoint: &EndpointState,
    plan: &ProbePlan,
    gateway: Option<&HeaderValue>,
) -> Option<Passed> {
    let asked = timeout(plan.timeout, async {
        let mut connection = node.connector.load_full().connect_for_probe(&endpoint.endpoint).await.ok()?;
        let mut request = Request::get(&plan.path).body(RequestBody::Empty.attempt()?).ok()?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&endpoint.endpoint.authority()).ok()?);
        headers.insert(USER_AGENT, HeaderValue::from_static("meridian-health"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if let Some(region) = gateway {
            headers.insert(CHOSEN, region.clone());
            headers.insert(PROBE, HeaderValue::from_static("1"));
        }
        let response = connection.sender.try_send_request(request).await.ok()?;
        Some(response)
    });
    let response = asked.await.ok()??;
    let seconds = response.headers().get(LAG).and_then(|lag| lag.to_str().ok()?.trim().parse::<f64>().ok());
    // What cannot be read is no lag at all: the endpoint does not say.
    let lag_ms = seconds.filter(|lag| lag.is_finite() && *lag >= 0.0).map(|lag| (lag * 1000.0) as u64);
    (200..=399).contains(&response.status().as_u16()).then_some(Passed { lag_ms })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
