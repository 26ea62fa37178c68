//! One request, from its head to the end of its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::header::{CONNECTION, HeaderName, HeaderValue, SET_COOKIE};
use http::request::Parts;
use http::{Method as HttpMethod, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use policy::concurrency::admits;
use policy::route::RouteSpec;
use policy::{Facts, Method, Permits, RegionId, RouteId, Verdict};

use crate::body::{Body, Returning};
use crate::client::Client;
use crate::facts::{Known, Witnesses, new_pin};
use crate::finish::Finish;
use crate::headers::{Outgoing, Sender, is_request_id, names, strip_hop_by_hop};
use crate::health::traffic::Dialled;
use crate::ingress::connection::Connection;
use crate::node::{Drain, InFlight, Node, Worker};
use crate::respond::Answer;
use crate::routing::Routing;
use crate::target::{Target, target};
use crate::tunnel::{self, Tunnel};
use crate::upstream::body::RequestBody;
use crate::upstream::forward::{Answered, End, Failure, Forward, forward};

/// Serves one request. Every request gets an answer, and every answer is counted and logged once,
/// when its body has been sent or given up.
pub async fn serve(worker: Arc<Worker>, connection: Arc<Connection>, request: Request<Incoming>) -> Response<Body> {
    let http1 = request.version() < Version::HTTP_2;
    let mut finish = Box::new(Finish::begin(worker, connection, &request));
    let mut response = match answer(&mut finish, request).await {
        Ok(response) => response,
        Err(refused) => {
            finish.reason = Some(refused.reason);
            finish.attempts = refused.attempts;
            finish.worker.node.metrics.errors.with_label_values(&[refused.region.as_str(), refused.reason]).inc();
            let (attempts, unsent) = (refused.attempts, refused.unsent && finish.from_a_node);
            let mut response = refused.into_response();
            if attempts > 1 {
                response.headers_mut().insert(names::ATTEMPTS, HeaderValue::from(attempts));
            }
            if unsent {
                response.headers_mut().insert(names::UNSENT, HeaderValue::from_static("1"));
            }
            response
        }
    };
    finish.status = response.status();
    let headers = response.headers_mut();
    headers.insert(names::REQUEST_ID, finish.request_id.clone());
    // What of a body is still to come must not be taken for a request.
    let close = finish.close || finish.unread_body || finish.worker.node.draining() >= Drain::Announced;
    if http1 && close && finish.status != StatusCode::SWITCHING_PROTOCOLS {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(tunnel) = finish.tunnel.take() {
        tokio::spawn(tunnel.run(finish));
        return response;
    }
    response.map(|body| body.finishing(finish))
}

/// The story of a request: what it asks for, who asks, which regions may and should serve it, and
/// the attempts to have one of them do it.
async fn answer(finish: &mut Finish, request: Request<Incoming>) -> Result<Response<Body>, Answer> {
    let (worker, connection) = (finish.worker.clone(), finish.connection.clone());
    let node = &worker.node;
    let (mut parts, incoming) = take_apart(request, finish.upgrade);
    finish.unread_body = !hyper::body::Body::is_end_stream(&incoming);
    if let Some(why) = connection.activity.take_head_fault(&parts.headers) {
        // Where this request ends is in doubt, and so is what comes after it.
        finish.close = true;
        return Err(Answer::bad_request(&format!("The request is refused because {why}.")));
    }
    if is_too_long(&parts, &finish.limits) {
        finish.close = true;
        return Err(Answer::head_too_large());
    }
    if parts.method == HttpMethod::CONNECT {
        return Err(Answer::bad_request("CONNECT is not served here."));
    }

    let target = target(parts.version, &parts.uri, &parts.headers)
        .map_err(|why| Answer::bad_request(&format!("The request is refused because {why}.")))?;
    if let Some(port) = connection.redirects_to {
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
        return Ok(Answer::redirect(&format!("https://{host}{port}{path}")));
    }

    let client = connection.client(&parts.headers, &node.geo.load(), &worker.places);
    finish.client = Some(client.clone());
    worker.recent.note(client.address);
    // Another region's node names the gateway, not the host that it carries.
    let from_a_node = client.peer_trusted && parts.headers.contains_key(names::CHOSEN);
    finish.from_a_node = from_a_node;
    if !from_a_node && !connection.may_serve(&target.host) {
        return Err(Answer::misdirected());
    }
    if client.peer_trusted
        && let Some(id) = parts.headers.get(names::REQUEST_ID).filter(|id| is_request_id(id))
    {
        finish.request_id = id.clone();
    }

    let routing = finish.routing.clone();
    if from_a_node && parts.headers.contains_key(names::PROBE) {
        // A question of another node, not a request of anybody's: it is neither decided nor logged.
        finish.is_probe = true;
        let cell = routing.region(routing.here);
        let here = routing.table().region(routing.here).name.as_bytes();
        if parts.headers.get(names::CHOSEN).map(HeaderValue::as_bytes) != Some(here) {
            return Err(Answer::wrong_gateway());
        }
        return Ok(Answer::probe(cell.is_up() && node.draining() == Drain::Serving, cell.lag()));
    }
    let (method, upgrade) = (finish.method, finish.upgrade);
    finish.note_target(&target, &parts);
    let found = find_route(&routing, &target, method, &parts, &client);
    let id = found.map_err(|(answer, route)| {
        finish.route = route;
        answer
    })?;
    finish.route = Some(id);
    let route = &routing.table().route(id).spec;
    let witnesses = Witnesses { geo: &node.geo.load(), tokens: &node.tokens.load() };
    let known = Known::of(&routing.document, route, &client, &parts.headers, witnesses)
        .map_err(|why| Answer::bad_request(&format!("The request is refused because {why}.")))?;
    finish.known = Some(known.clone());
    let facts = Facts {
        host: &target.host,
        path: &target.path.path,
        method,
        upgrade,
        origin: known.origin,
        declared: &known.declared,
        consent: known.consent,
        client_key: client.key,
        from: routing.here,
        // Where another node has already chosen, its choice stands: also of a region that drains.
        pinned: if from_a_node { Some(routing.here) } else { known.pinned },
        only: from_a_node.then_some(routing.here),
    };
    let permits = permitted(&worker, &routing, id, &facts)?;

    let limits = &finish.limits;
    if !admits(route.criticality, node.in_flight.load(Ordering::Relaxed).saturating_sub(1), limits.requests_in_flight) {
        let criticality = criticality_name(route.criticality);
        node.metrics.shed.with_label_values(&[criticality, "node_full"]).inc();
        return Err(Answer::overloaded());
    }
    // Before its origin hears of it. A tunnel that comes to nothing gives its place back.
    let place = if upgrade { Some(admitted(node, route, limits)?) } else { None };
    if content_length(&parts).zip(limits.body_bytes).is_some_and(|(length, most)| length > most) {
        return Err(Answer::too_large());
    }

    let https_before_us = client.peer_trusted
        && parts
            .headers
            .get(names::FORWARDED_PROTO)
            .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
    let scheme = if https_before_us { "https" } else { connection.scheme() };
    let repeatable = !upgrade && (method.is_idempotent() || parts.headers.contains_key("idempotency-key"));
    let keep = if route.retry.attempts > 1 { route.retry.body_bytes } else { 0 };
    let body = RequestBody::new(incoming, keep, limits.body_bytes.unwrap_or(u64::MAX));
    let for_gateways = if routing.has_gateways {
        known.for_gateways(routing.table(), route, &parts.headers)
    } else {
        Default::default()
    };
    let outgoing = Outgoing::new(
        parts.method.clone(),
        &parts.uri,
        std::mem::take(&mut parts.headers),
        Sender {
            client: &client,
            peer: connection.peer.ip(),
            scheme: connection.scheme(),
            authority: &target.authority,
            request_id: &finish.request_id,
            vouched: &[
                route.consent_header.as_deref(),
                route.jurisdiction_header.as_deref(),
                witnesses.geo.country_header.as_ref().map(HeaderName::as_str),
            ],
            passed: &route.pass_request_headers,
            upgrade,
            for_gateways,
        },
    );
    let head = |routing: &Routing, region: RegionId| outgoing.head(routing.chosen_for_gateway(region));
    let plan = Forward {
        worker: &worker,
        pinned: &routing,
        facts: &facts,
        permits: &permits,
        head: &head,
        body: &body,
        repeatable,
        upgrade,
        started: finish.started,
    };
    let result = forward(&plan).await;
    finish.unread_body = body.is_unread();
    let answered = result.map_err(|failure| {
        if matches!(failure, Failure::Overloaded) {
            let criticality = criticality_name(route.criticality);
            node.metrics.shed.with_label_values(&[criticality, "region_full"]).inc();
        }
        Answer::failed(failure)
    })?;
    if answered.response.status() == StatusCode::SWITCHING_PROTOCOLS && !upgrade {
        let region = routing.table().region(answered.region).name.clone();
        return Err(Answer::failed(Failure::Failed {
            region,
            attempts: answered.attempts,
            timed_out: false,
            unsent: false,
            end: End::Exhausted,
        }));
    }
    let served = &answered.routing.table().region(answered.region).name;
    // Nobody is kept where it failed.
    let keep = !from_a_node && !answered.response.status().is_server_error();
    let pin = new_pin(&routing.document, route, known.pinned, served, scheme).filter(|_| keep);
    let Target { host, .. } = target;
    finish.asked = Some((host, std::mem::take(&mut parts.uri)));
    let client_side = parts.extensions.remove::<OnUpgrade>().zip(place);
    let mut response = pass_on(finish, answered, body, client_side, route.timeout);
    if let Some(pin) = pin {
        response.headers_mut().append(SET_COOKIE, pin);
    }
    Ok(response)
}

/// Splits a request, with the client's side of a protocol upgrade kept among its extensions.
fn take_apart(mut request: Request<Incoming>, asks_upgrade: bool) -> (Parts, Incoming) {
    let upgrade = asks_upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, incoming) = request.into_parts();
    if let Some(upgrade) = upgrade {
        parts.extensions.insert(upgrade);
    }
    (parts, incoming)
}

/// The route of a request; or the refusal, with the route if there is one.
fn find_route(
    routing: &Routing,
    target: &Target<'_>,
    method: Method,
    parts: &Parts,
    client: &Client,
) -> Result<RouteId, (Answer, Option<RouteId>)> {
    let table = routing.table();
    let route = match target.route(table, method) {
        Ok(Some(route)) => route,
        Ok(None) => {
            let refusal = policy::Refusal { reason: policy::Reason::NoRoute, route: None, page: None };
            return Err((Answer::refused(&refusal), None));
        }
        Err(why) => return Err((Answer::bad_request(&format!("The request is refused because {why}.")), None)),
    };
    if let Some(chosen) = parts.headers.get(names::CHOSEN)
        && (!client.peer_trusted || chosen.as_bytes() != table.region(routing.here).name.as_bytes())
    {
        // Deciding anew would take the sending node for the client.
        return Err((Answer::wrong_gateway(), Some(route)));
    }
    Ok(route)
}

/// Decides, and measures one decision in 64.
fn permitted(worker: &Worker, routing: &Routing, id: RouteId, facts: &Facts<'_>) -> Result<Permits, Answer> {
    let sampled = worker.decisions.fetch_add(1, Ordering::Relaxed).is_multiple_of(64).then(Instant::now);
    let verdict = policy::decide::decide_on_route(routing.table(), id, facts, routing);
    if let Some(started) = sampled {
        worker.node.metrics.decision_seconds.observe(started.elapsed().as_secs_f64());
    }
    match verdict {
        Verdict::Forward(permits) => Ok(permits),
        Verdict::Refuse(refusal) => Err(Answer::refused(&refusal)),
    }
}

/// A place for one more tunnel.
fn admitted(node: &Node, route: &RouteSpec, limits: &config::Limits) -> Result<InFlight, Answer> {
    tunnel::admit(node, limits.tunnels).ok_or_else(|| {
        node.metrics.shed.with_label_values(&[criticality_name(route.criticality), "tunnels"]).inc();
        Answer::overloaded()
    })
}

/// Turns an origin's answer into ours.
fn pass_on(
    finish: &mut Finish,
    answered: Answered,
    request: RequestBody,
    client_side: Option<(OnUpgrade, InFlight)>,
    idle_timeout: std::time::Duration,
) -> Response<Body> {
    let Answered { mut response, connection, endpoint, region, routing, attempts, safeguarded, in_flight } = answered;
    let served = &routing.table().region(region).name;
    // The region is one of the pinned table's: its permits say so.
    finish.region = finish.routing.table().region_named(served);
    finish.attempts = attempts;
    finish.safeguarded = safeguarded;
    let upgraded = (response.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| hyper::upgrade::on(&mut response));
    let (mut parts, incoming) = response.into_parts();
    let protocol = parts.headers.get(http::header::UPGRADE).cloned();
    strip_hop_by_hop(&mut parts.headers);
    if let Ok(name) = HeaderValue::from_str(served) {
        parts.headers.insert(names::REGION, name);
    }
    parts.headers.remove(names::ATTEMPTS);
    parts.headers.remove(names::UNSENT);
    if attempts > 1 {
        parts.headers.insert(names::ATTEMPTS, HeaderValue::from(attempts));
    }
    if let (Some(upstream), Some((client, place))) = (upgraded, client_side) {
        if let Some(protocol) = protocol {
            parts.headers.insert(http::header::UPGRADE, protocol);
        }
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        Dialled { node: &finish.worker.node, routing: &routing, region, endpoint: &endpoint }.completed();
        drop(in_flight);
        finish.tunnel = Some(Box::new(Tunnel { client, upstream, connection, region: served.clone(), place }));
        return Response::from_parts(parts, Body::empty());
    }
    if request.is_unread() {
        // It may go up for as long as the answer comes down, and longer.
        request.revocable(finish.worker.clone(), &finish.routing, finish.grant());
    }
    let worker = finish.worker.clone();
    let is_good = !parts.status.is_server_error();
    let returning = Returning { worker, endpoint, routing, region, is_good, request, connection, in_flight };
    Response::from_parts(parts, Body::relay(incoming, returning, idle_timeout))
}

/// Whether a head is past its limits. The parser's own are twice as wide, so that what is a little
/// too long gets an answer that says so.
fn is_too_long(parts: &Parts, limits: &config::Limits) -> bool {
    let target = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD);
    let request_line = parts.method.as_str().len() + target + REQUEST_LINE_OVERHEAD;
    parts.headers.len() > limits.headers || request_line + fields.sum::<usize>() > limits.header_bytes
}

/// A colon, a space, and the line's end.
const FIELD_OVERHEAD: usize = 4;
/// Two spaces, the version, the line's end, and the empty line after the head.
const REQUEST_LINE_OVERHEAD: usize = 14;

fn content_length(parts: &Parts) -> Option<u64> {
    parts.headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn criticality_name(criticality: policy::route::Criticality) -> &'static str {
    match criticality {
        policy::route::Criticality::Sheddable => "sheddable",
        policy::route::Criticality::Default => "default",
        policy::route::Criticality::Critical => "critical",
    }
}
