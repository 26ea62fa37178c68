//! The admin listener: what operators and their tools ask a node.

mod answer_io;
mod caller;
mod places;

use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};

use crate::admin::answer_io::AnswerIo;
use crate::admin::caller::Caller;
use crate::admin::places::{Place, Places};
use crate::bus_state::BusState;
use crate::capacity::{losses_now, unmeasured};
use crate::client::Client;
use crate::clock;
use crate::clock::seconds_until;
use crate::databases::release::NotAccepted;
use crate::explain::{Question, answer};
use crate::local_error::LocalError;
use crate::node::Node;
use crate::occupancy::Drain;
use crate::request_context::TrustSources;
use crate::status::{EmergencyStatus, Status, certificates};
use crate::telemetry::log_limiter::LogLimiter;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{count_process, log};

/// Serves the admin endpoints on a bound socket.
pub(crate) struct Admin {
    node: Arc<Node>,
    socket: StdListener,
}

type AdminResponse = Response<Full<Bytes>>;

impl Admin {
    /// Serves this node's state.
    pub(crate) fn new(node: Arc<Node>, socket: StdListener) -> Self {
        Self { node, socket }
    }
}

/// Answers what can be answered before there is a routing table. Each connection has one answer: the next
/// one may find the whole node. Without a socket there is nobody to tell.
pub(crate) async fn serve_while_waiting(socket: Option<StdListener>, hosts: &[String], bus: Arc<BusState>) {
    match socket.map(TcpListener::from_std) {
        Some(Ok(socket)) => {
            let (hosts, metrics): (Arc<[String]>, _) = (hosts.into(), bus.metrics.clone());
            let answer = move |request: &_| foreign(request, &hosts).unwrap_or_else(|| waiting(&bus, request));
            accept(socket, false, &metrics, answer).await;
        }
        Some(Err(error)) => tracing::error!(%error, "the admin socket is unusable"),
        None => {}
    }
    std::future::pending::<()>().await;
}

async fn accept(
    socket: TcpListener,
    keep_alive: bool,
    metrics: &Metrics,
    answer: impl Fn(&Request<Incoming>) -> AdminResponse + Clone + Send + Sync + 'static,
) {
    let (places, mut errors) = (Places::default(), LogLimiter::default());
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                metrics.local_errors.with_label_values(&[LocalError::name_of(&error)]).inc();
                if let Some(unsaid) = errors.may(|| error.to_string()) {
                    tracing::warn!(%error, unsaid, listener = "admin", "accept failed");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Closed at once when there are too many: whoever is connected goes within seconds.
        let Some(place) = places.take() else { continue };
        tokio::spawn(serve(stream, place, keep_alive, answer.clone()));
    }
}

/// The life of one connection.
async fn serve(
    stream: TcpStream,
    place: Place,
    keep_alive: bool,
    answer: impl Fn(&Request<Incoming>) -> AdminResponse + Sync,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let may_ask = place.may_ask(request.uri().path());
        let answer = if may_ask { answer(&request) } else { text(StatusCode::SERVICE_UNAVAILABLE, CROWDED) };
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(place.head_timeout())
        .max_header_size(MAX_HEAD)
        .keep_alive(keep_alive && place.is_kept());
    let connection = http.serve_connection(TokioIo::new(AnswerIo::new(stream)), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "admin connection ended");
    }
}

#[async_trait]
impl BackgroundService for Admin {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        // A copy: one that is started again has the socket still.
        let socket = match self.socket.try_clone().and_then(TcpListener::from_std) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "the admin socket is unusable");
                return;
            }
        };
        let node = self.node.clone();
        let answer = move |request: &_| {
            foreign(request, &node.config.load().admin_hosts).unwrap_or_else(|| route(&node, request))
        };
        tokio::select! {
            () = accept(socket, true, &self.node.telemetry.metrics, answer) => {}
            _ = shutdown.changed() => {}
        }
    }
}

fn route(node: &Arc<Node>, request: &Request<Incoming>) -> AdminResponse {
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/metrics" if get => metrics(node),
        "/live" if get => text(StatusCode::OK, "live\n"),
        "/ready" if get => ready(node),
        "/status" if get => json(StatusCode::OK, &Status::of(node)),
        "/table" if get => table(node),
        "/capacity" if get => capacity(node),
        "/explain" if get => explain(node, request.uri().query().unwrap_or_default()),
        "/drain" if *request.method() == Method::POST => drain(node),
        "/geoip/accept" if *request.method() == Method::POST => accept_geoip(node, request),
        "/metrics" | "/live" | "/ready" | "/status" | "/table" | "/capacity" | "/explain" => not_allowed("GET, HEAD"),
        "/drain" | "/geoip/accept" => not_allowed("POST"),
        _ => text(
            StatusCode::NOT_FOUND,
            "not found; there are /metrics /live /ready /status /table /capacity /explain, POST /drain and POST /geoip/accept\n",
        ),
    }
}

/// Answers before there is a table: a node that has none has no regions, routes or decisions to tell of.
fn waiting(bus: &BusState, request: &Request<Incoming>) -> AdminResponse {
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/live" if get => text(StatusCode::OK, "live\n"),
        "/metrics" if get => {
            count_process(&bus.metrics);
            exposition(&bus.metrics)
        }
        "/ready" if get => unready(&[bus.why_waiting()]),
        "/status" if get => {
            let (node, region, bus) = (&bus.node, &bus.region, bus.status());
            let version = env!("CARGO_PKG_VERSION");
            let status = serde_json::json!({
                "node": node, "region": region, "version": version, "state": "waiting", "table": null, "bus": bus,
                "log": log::health(),
            });
            json(StatusCode::OK, &status)
        }
        _ => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no routing table yet; there are /metrics /live /ready /status\n",
        ),
    }
}

fn metrics(node: &Node) -> AdminResponse {
    let routing = node.routing.load();
    let metrics = &node.telemetry.metrics;
    node.telemetry.count_elsewhere();
    let version = routing.table().spec().version.as_str();
    metrics.table_info.reset();
    metrics.table_info.with_label_values(&[version, &routing.revision.to_string()]).set(1);
    metrics.table_age.set(routing.loaded.elapsed().as_secs() as i64);
    let (now, next) = (node.routing.law.now(), routing.table().next_boundary());
    metrics.law_boundary.set(next.map_or(f64::INFINITY, |next| seconds_until(next, now) as f64));
    metrics.law_clock_doubt.set(now.latest().unix_seconds() - now.earliest().unix_seconds());
    let oldest = node.databases.load().databases.databases().map(geoip::Database::build_epoch).min();
    metrics.geoip_build_epoch.set(oldest.unwrap_or(0) as i64);
    metrics.geoip_held.reset();
    for database in node.databases.load().databases.databases() {
        metrics.geoip_held.with_label_values(&[&database.path().display().to_string()]).set(0);
    }
    for database in node.databases.held.status().iter().flat_map(|held| &held.databases) {
        metrics.geoip_held.with_label_values(&[&database.file]).set(1);
    }
    metrics.certificate_expiry.reset();
    // Of several for the same names, the first to expire stays.
    let mut of_node = certificates(node);
    of_node.sort_unstable_by_key(|certificate| std::cmp::Reverse(certificate.expires_in_seconds));
    for certificate in of_node {
        metrics.certificate_expiry.with_label_values(&[&certificate.names]).set(certificate.expires_in_seconds);
    }
    let emergency = EmergencyStatus::of(routing.table());
    for (measure, is_taken) in [
        ("shed", emergency.as_ref().is_some_and(|one| one.shed.is_some())),
        ("read_only", emergency.as_ref().is_some_and(|one| one.read_only.is_some())),
        ("routes_off", emergency.as_ref().is_some_and(|one| !one.routes_off.is_empty())),
    ] {
        metrics.emergency.with_label_values(&[measure]).set(i64::from(is_taken));
    }
    if let Some(bus) = &node.bus {
        metrics.bus_silence.set(bus.freshness.silence().as_secs_f64());
        if let Some(age) = bus.freshness.signed_age() {
            metrics.bus_signed_age.with_label_values(&[] as &[&str]).set(age.as_secs_f64());
        }
        if let Some(judgement) = bus.freshness.judge() {
            metrics.table_expiry.with_label_values(&[] as &[&str]).set(judgement.seconds_left() as f64);
        }
        metrics.table_expired.set(i64::from(bus.freshness.is_expired()));
        metrics.bus_nodes.set(bus.members.count(clock::uptime()) as i64);
    }
    exposition(metrics)
}

fn exposition(metrics: &Metrics) -> AdminResponse {
    typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.render())
}

fn ready(node: &Node) -> AdminResponse {
    let reasons = node.unready();
    if !reasons.is_empty() {
        return unready(&reasons);
    }
    let warnings = match &node.bus {
        Some(bus) => bus.warnings(),
        None => node.databases.held.warning().into_iter().collect(),
    };
    let lines: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    text(StatusCode::OK, &format!("ready\n{lines}"))
}

fn unready(reasons: &[String]) -> AdminResponse {
    json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "ready": false, "reasons": reasons }))
}

fn table(node: &Node) -> AdminResponse {
    let text = node.routing.load().document.redacted();
    typed(StatusCode::OK, "application/toml; charset=utf-8", text.into_bytes())
}

fn capacity(node: &Node) -> AdminResponse {
    let routing = node.routing.load_full();
    let version = &routing.table().spec().version;
    json(
        StatusCode::OK,
        &serde_json::json!({ "table_version": version, "losses": losses_now(&routing), "without_capacity_rps": unmeasured(routing.table()) }),
    )
}

fn explain(node: &Node, query: &str) -> AdminResponse {
    match Question::from_query(query) {
        Ok(question) => {
            let routing = node.routing.load_full();
            let trust = TrustSources { geo: &node.databases.load(), tokens: &node.tokens.load(), verifications: None };
            let ways = |id, client: &Client| routing.ways_of(id, &client.origin, client.coordinates);
            match answer(&question, &routing.document, routing.here, &*routing, trust, ways) {
                Ok(explanation) => json(StatusCode::OK, &explanation),
                Err(error) => text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
            }
        }
        Err(error) => text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
    }
}

/// Takes the node out of service: `/ready` says so, and each answer asks its client to close. The
/// process goes on until SIGTERM.
fn drain(node: &Node) -> AdminResponse {
    node.occupancy.drain_to(Drain::Announced);
    tracing::warn!("drain requested");
    json(StatusCode::ACCEPTED, &serde_json::json!({ "draining": true, "since": clock::unix_seconds() }))
}

/// Returns the refusal of a request that a page in somebody's browser has made, or may have: nothing here is for
/// pages, and what they can reach is what their reader can.
fn foreign(request: &Request<Incoming>, hosts: &[String]) -> Option<AdminResponse> {
    let caller = Caller::of(request.uri(), request.headers());
    caller.problem(hosts).map(|problem| text(StatusCode::FORBIDDEN, &format!("{problem}\n")))
}

/// Puts held geo databases in force: an operator's word.
fn accept_geoip(node: &Node, request: &Request<Incoming>) -> AdminResponse {
    let build_epoch = match request.uri().query().map(|query| query.strip_prefix("build_epoch=").map(str::parse)) {
        None => None,
        Some(Some(Ok(epoch))) => Some(epoch),
        Some(_) => return text(StatusCode::BAD_REQUEST, "there is one parameter, build_epoch=SECONDS\n"),
    };
    let accepted = node.databases.accept(build_epoch);
    if accepted.is_ok() {
        node.report_held_databases();
    }
    match accepted {
        Ok(held) => json(StatusCode::OK, &serde_json::json!({ "accepted": held.databases, "change": held.change })),
        Err(NotAccepted::NoneHeld) => text(StatusCode::CONFLICT, "no geo database is held\n"),
        Err(NotAccepted::Others) => {
            text(StatusCode::CONFLICT, "the geo databases that are held are others by now; see geoip_held in /status\n")
        }
    }
}

fn not_allowed(methods: &'static str) -> AdminResponse {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static(methods));
    response
}

fn text(status: StatusCode, body: &str) -> AdminResponse {
    typed(status, "text/plain; charset=utf-8", body.as_bytes().to_vec())
}

fn json(status: StatusCode, value: &impl Serialize) -> AdminResponse {
    let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
    body.push(b'\n');
    typed(status, "application/json", body)
}

fn typed(status: StatusCode, kind: &'static str, body: Vec<u8>) -> AdminResponse {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// What those hear who come when there is only room for probes.
const CROWDED: &str = "there are too many connections to the admin listener: only /live and /ready are answered\n";
/// Of a head, a long `/explain` included.
const MAX_HEAD: usize = 32 * 1024;
