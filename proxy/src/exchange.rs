//! One request, from its head to the end of its answer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::header::{CONNECTION, HeaderName, HeaderValue, SET_COOKIE};
use http::request::Parts;
use http::{Method as HttpMethod, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use policy::concurrency::admits;
use policy::route::RouteSpec;
use policy::{Facts, Method, Payload, Permits, RegionId, RouteId, Verdict};

use crate::body::{Body, Returning};
use crate::facts::{Known, Witnesses, drop_pins, new_pin};
use crate::finish::Finish;
use crate::headers::{Outgoing, Provenance, TrailerRules, is_request_id, names, strip_hop_by_hop};
use crate::health::traffic::Dialled;
use crate::ingress::connection::Connection;
use crate::node::{Drain, InFlight, Node, Worker};
use crate::peers::Sender;
use crate::peers::headers::{Asks, Claim, Claims, Vouching, admit, is_reserved, tell_client, tell_peer};
use crate::peers::signature::BodyClaim;
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
    let mut unsent = false;
    let mut response = match answer(&mut finish, request).await {
        Ok(response) => response,
        Err(refused) => {
            finish.reason = Some(refused.reason);
            finish.attempts = refused.attempts;
            finish.worker.node.metrics.errors.with_label_values(&[refused.region.as_str(), refused.reason]).inc();
            unsent = refused.unsent;
            let attempts = refused.attempts;
            let mut response = refused.into_response();
            tell_client(response.headers_mut(), None, attempts);
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
    if let Some(answering) = &finish.peer {
        tell_peer(headers, finish.status.as_u16(), unsent, answering);
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
    let (mut parts, incoming) = take_apart(request, finish.payload == Payload::Tunnel);
    finish.unread_body = !hyper::body::Body::is_end_stream(&incoming);
    if let Some(why) = connection.activity.take_head_fault(&parts.headers) {
        // Where this request ends is in doubt, and so is what comes after it.
        finish.close = true;
        return Err(Answer::bad_request(&format!("The request is refused because {why}.")));
    }
    let head = HeadFacts::of(&parts);
    if head.is_too_long(&finish.limits) {
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

    // The door: from here on there is no field left that only nodes may write.
    let claims = Claims {
        session: connection.node(),
        has_reserved: head.has_reserved,
        method: &parts.method,
        uri: &parts.uri,
        authority: &target.authority,
        is_at_end: !finish.unread_body,
    };
    let from_peer = admit(&node.peers.load(), &mut parts.headers, claims).map_err(|why| {
        node.peer_refusals.of_client(&node.metrics, why.cause(), connection.peer, &why);
        // A certificate speaks for its connection, a signature for one request only.
        finish.close = connection.node().is_some();
        Answer::no_peer(&why.to_string())
    })?;
    let vouched = from_peer.as_ref().and_then(|peer| match &peer.asks {
        Asks::Serve(vouched) => Some(vouched),
        Asks::Probe => None,
    });
    let client = match vouched {
        Some(vouched) => worker.places.named(vouched.address, vouched.is_named, &node.geo.load()),
        None => connection.client(&parts.headers, &node.geo.load(), &worker.places),
    };
    finish.client = Some(client.clone());
    let their_id = match (vouched, client.peer_trusted) {
        (Some(vouched), _) => Some(&vouched.request_id),
        (None, true) => parts.headers.get(names::REQUEST_ID).filter(|id| is_request_id(id)),
        (None, false) => None,
    };
    if let Some(id) = their_id {
        finish.request_id = id.clone();
    }
    let vouched_scheme = vouched.map(|vouched| vouched.scheme);
    let sender = match from_peer {
        Some(peer) => Sender::Peer(peer),
        None if client.peer_trusted => Sender::TrustedProxy,
        None => Sender::Stranger,
    };

    let routing = finish.routing.clone();
    let from_a_node = sender.peer().is_some();
    if let Some(peer) = sender.peer() {
        finish.peer = Some(peer.answering.clone());
        // A question of another node, not a request of anybody's: it is neither decided nor logged.
        finish.is_probe = matches!(peer.asks, Asks::Probe);
        let here = routing.table().region(routing.here).name.as_bytes();
        if peer.chosen.as_bytes() != here {
            // Deciding anew would take the sending node for the client.
            return Err(Answer::wrong_gateway());
        }
        if finish.is_probe {
            let cell = routing.region(routing.here);
            return Ok(Answer::probe(cell.is_up() && node.draining() == Drain::Serving, cell.lag()));
        }
    } else if !connection.may_serve(&target.host) {
        // Another region's node names the gateway, not the host that it carries.
        return Err(Answer::misdirected());
    }
    if client.is_named {
        worker.recent.note(client.address);
    }
    let (method, payload) = (finish.method, finish.payload);
    let upgrade = payload == Payload::Tunnel;
    finish.note_target(&target, &parts);
    let id = find_route(&routing, &target, method)?;
    finish.route = Some(id);
    let route = &routing.table().route(id).spec;
    let witnesses = Witnesses { geo: &node.geo.load(), tokens: &node.tokens.load() };
    let known = Known::of(&routing.document, route, (&client, &sender), &parts.headers, witnesses)
        .map_err(|why| Answer::bad_request(&format!("The request is refused because {why}.")))?;
    finish.known = Some(known.clone());
    let facts = Facts {
        host: &target.host,
        path: &target.path.path,
        method,
        payload,
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

    let https_before_us = matches!(sender, Sender::TrustedProxy)
        && parts
            .headers
            .get(names::FORWARDED_PROTO)
            .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
    let own_scheme = vouched_scheme.unwrap_or(connection.scheme());
    let scheme = if https_before_us { "https" } else { own_scheme };
    let repeatable = !upgrade && (method.is_idempotent() || parts.headers.contains_key("idempotency-key"));
    let keep = if route.retry.attempts > 1 { route.retry.body_bytes } else { 0 };
    let vouched_names = [
        route.consent_header.as_deref(),
        route.jurisdiction_header.as_deref(),
        witnesses.geo.country_header.as_ref().map(HeaderName::as_str),
    ];
    let trailers = || TrailerRules::new(&vouched_names);
    let body = RequestBody::new(incoming, keep, limits.body_bytes.unwrap_or(u64::MAX), trailers);
    let consent = known.consent_through(route, &sender, &parts.headers);
    let body_claim = BodyClaim::of(&parts.headers, matches!(body, RequestBody::Empty));
    let request_id = finish.request_id.clone();
    let outgoing = Outgoing::new(
        parts.method.clone(),
        &parts.uri,
        std::mem::take(&mut parts.headers),
        Provenance {
            client: &client,
            sender: &sender,
            peer: connection.peer.ip(),
            scheme: own_scheme,
            authority: &target.authority,
            request_id: &request_id,
            vouched: &vouched_names,
            passed: &route.pass_request_headers,
            upgrade,
        },
    );
    // Few requests go to a gateway: what it is told is put together for the first attempt there.
    let vouching = OnceLock::new();
    let vouch = || {
        let claim = Claim {
            address: client.address,
            is_named: client.is_named,
            scheme,
            request_id: &request_id,
            origin: &known.origin,
            consent,
            tenant: &known.declared,
            body: body_claim,
        };
        Vouching::of(&claim, routing.table(), node.peers.load_full())
    };
    let head = |current: &Routing, region: RegionId| {
        let gateway = current.chosen_for_gateway(region);
        outgoing.head(gateway.map(|chosen| (chosen, vouching.get_or_init(vouch))))
    };
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

/// The route of a request; or the refusal.
fn find_route(routing: &Routing, target: &Target<'_>, method: Method) -> Result<RouteId, Answer> {
    match target.route(routing.table(), method) {
        Ok(Some(route)) => Ok(route),
        Ok(None) => Err(Answer::refused(&policy::Refusal { reason: policy::Reason::NoRoute, route: None, page: None })),
        Err(why) => Err(Answer::bad_request(&format!("The request is refused because {why}."))),
    }
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
    drop_pins(&mut parts.headers);
    tell_client(&mut parts.headers, Some(served), attempts);
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

/// What one look at a request's head finds out.
struct HeadFacts {
    fields: usize,
    bytes: usize,
    /// Whether there are fields that only nodes may write. They count for no limit of a client's.
    has_reserved: bool,
}

impl HeadFacts {
    fn of(parts: &Parts) -> Self {
        let target = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
        let bytes = parts.method.as_str().len() + target + REQUEST_LINE_OVERHEAD;
        let mut facts = Self { fields: 0, bytes, has_reserved: false };
        for (name, value) in &parts.headers {
            if is_reserved(name) {
                facts.has_reserved = true;
                continue;
            }
            facts.fields += 1;
            facts.bytes += name.as_str().len() + value.len() + FIELD_OVERHEAD;
        }
        facts
    }

    /// Whether it is past its limits. The parser's own are twice as wide, so that what is a little too
    /// long gets an answer that says so.
    fn is_too_long(&self, limits: &config::Limits) -> bool {
        self.fields > limits.headers || self.bytes > limits.header_bytes
    }
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
