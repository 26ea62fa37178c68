//! One request, from its head to the end of its answer.

mod admission;
mod pass_on;
mod this_hop;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SET_COOKIE};
use http::{HeaderMap, Method as HttpMethod, Request, Response, StatusCode, Version};
use http_body::Body;
use policy::decide::switched_off;
use policy::pressure::Criticality;
use policy::route::RouteSpec;
use policy::stripped::Stripped;
use policy::{Access, Facts, Method, Origin, Payload, Permits, Reason, Refusal, RegionId, RouteId, Verdict, emergency};

use self::admission::{Admitted, admitted};
use self::pass_on::pass_on;
use self::this_hop::answered_here;
use crate::affinity_cookie::new_pin;
use crate::client_connection::ClientConnection;
use crate::client_content::ClientContent;
use crate::clock;
use crate::fields::{self, is_request_id};
use crate::framing::{HeadFault, HeadSize, Known, TrailerRules, authority, content_length};
use crate::grpc::{self, CallEnd};
use crate::headers::{Outgoing, Provenance};
use crate::interim::Interim;
use crate::node::{Settings, Worker};
use crate::occupancy::Drain;
use crate::peers::Sender;
use crate::peers::headers::{Asks, Claim, Claims, OwnWord, PeersRefusal, Vouching, admit, tell_client, tell_peer};
use crate::peers::signature::BodyClaim;
use crate::request_body::RequestBody;
use crate::request_context::{RequestContext, TrustSources};
use crate::request_log::RequestLog;
use crate::respond::OwnAnswer;
use crate::response_body::ResponseBody;
use crate::routing::{ClientOnMap, Routing};
use crate::target::{Target, asks_health, target};
use crate::tunnel::{ClientSide, Tunnel};
use crate::upstream::forward::forward;
use crate::upstream::plan::{ForwardError, ForwardPlan, NoRetry};
use crate::websocket;

/// A request as it was received. It lives as long as the request is served.
pub(crate) struct Received {
    /// The request.
    pub(crate) request: Request<ClientContent>,
    /// What is wrong with its head: then it is refused, and its connection is not used again.
    pub(crate) fault: Option<HeadFault>,
    /// Takes interim answers down, where the protocol lets them through.
    pub(crate) interim: Option<Arc<dyn Interim>>,
    /// Whether the client waits to be told to send the content, which reading it does.
    pub(crate) expects_continue: bool,
    /// The client's side of the tunnel that it asks for.
    pub(crate) client_side: Option<ClientSide>,
}

/// Serves one request. Every request gets an answer, and every answer is counted and logged once,
/// when its body has been sent or given up.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    connection: Arc<ClientConnection>,
    received: Received,
) -> Response<ResponseBody> {
    let http1 = received.request.version() < Version::HTTP_2;
    // Not for longer than until there is an answer: a tunnel must not keep databases that were replaced.
    let settings = worker.settings();
    let mut log = Box::new(RequestLog::begin(worker, connection, settings.routing.clone(), &received.request));
    let mut own = OwnWord::default();
    let mut tunnel = None;
    // Boxed, since it is large: what it is awaited by would be so too, and is moved more than once.
    let mut response = match Box::pin(answer(&mut log, &mut tunnel, &settings, received)).await {
        Ok(mut response) => {
            log.status = response.status();
            if log.is_nodes_refusal && log.peer.is_none() {
                *response.status_mut() = StatusCode::OK;
            }
            response
        }
        Err(refused) => {
            log.status = refused.status;
            log.reason = Some(refused.reason);
            if log.form.is_call() {
                log.call_end = CallEnd::Status(refused.code());
            }
            log.attempts = refused.attempts;
            log.worker.node.telemetry.metrics.errors.with_label_values(&[&refused.region, refused.reason]).inc();
            let emergency = Reason::named(refused.reason).filter(|reason| reason.is_emergency());
            let emergency = emergency.map(|reason| PeersRefusal { reason, table: log.refusing_table });
            own = OwnWord { unsent: refused.why_unsent(), refused: emergency };
            let attempts = refused.attempts;
            let mut response = refused.into_response(log.form, &log.request_id, log.peer.is_some());
            tell_client(response.headers_mut(), None, attempts);
            response
        }
    };
    let length = if log.method == Method::Head { response.body_mut().leave_out() } else { None };
    let headers = response.headers_mut();
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.insert(fields::REQUEST_ID, log.request_id.clone());
    // What of a body is still to come must not be taken for a request.
    let node = &log.worker.node;
    let closes = || node.occupancy.draining() >= Drain::Announced || node.overload.actions().closes;
    if http1 && (log.close || log.unread_body || closes()) && log.status != StatusCode::SWITCHING_PROTOCOLS {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(answering) = &log.peer {
        tell_peer(headers, log.status.as_u16(), own, answering);
    }
    if let Some(tunnel) = tunnel {
        tokio::spawn(tunnel.run(log));
        return response;
    }
    response.map(|body| body.logged(log))
}

/// Answers a request, as one story: what it asks for, who asks, which regions may and should serve it, and the
/// attempts to have one of them do it.
async fn answer(
    log: &mut RequestLog,
    tunnel: &mut Option<Box<Tunnel>>,
    settings: &Settings,
    received: Received,
) -> Result<Response<ResponseBody>, OwnAnswer> {
    let (worker, connection) = (log.worker.clone(), log.connection.clone());
    let node = &worker.node;
    let Received { request, fault, interim, expects_continue, client_side } = received;
    let (mut parts, content) = request.into_parts();
    let http1 = parts.version < Version::HTTP_2;
    log.unread_body = !content.is_end_stream();
    if let Some(fault) = fault {
        // Where this request ends is in doubt, and so is what comes after it.
        log.close = true;
        return Err(OwnAnswer::bad_head(fault));
    }
    let head = HeadSize::of(&parts);
    if head.is_too_long(&settings.config.limits) {
        log.close = true;
        return Err(OwnAnswer::head_too_large());
    }
    if parts.method == HttpMethod::CONNECT {
        return Err(match parts.extensions.get::<Protocol>() {
            Some(_) => OwnAnswer::unknown_protocol(),
            None => OwnAnswer::bad_request("CONNECT is not served here."),
        });
    }

    if log.payload != Payload::Tunnel && asks_health(&parts, connection.settings.health_path.as_deref()) {
        // A balancer's question, not a request of anybody's: it is neither decided nor logged.
        log.is_probe = true;
        return Ok(OwnAnswer::health(node.occupancy.draining() == Drain::Serving));
    }

    let ambiguous = |why| OwnAnswer::bad_request(&format!("The request is refused because {why}."));
    let authority = authority(parts.version, &parts.uri, &parts.headers).map_err(ambiguous)?;
    if parts.method == HttpMethod::OPTIONS && parts.uri.path() == "*" {
        return Ok(OwnAnswer::options_of_all());
    }
    let target = target(&authority, &parts.uri).map_err(ambiguous)?;
    if let Some(port) = connection.settings.redirects_to {
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.to_string() };
        return Ok(OwnAnswer::redirect(&format!("https://{host}{port}{path}")));
    }

    // The door: from here on there is no field left that only nodes may write.
    let claims = Claims {
        session: connection.node(),
        has_reserved: head.has_reserved,
        method: &parts.method,
        uri: &parts.uri,
        authority: &authority,
        is_at_end: !log.unread_body,
    };
    let from_peer = admit(&node.peers.load(), &mut parts.headers, claims).map_err(|why| {
        node.peers.refusals.of_client(&node.telemetry.metrics, why.cause(), connection.peer, &why);
        // A certificate speaks for its connection, a signature for one request only.
        // And a new connection is asked for the one that this one was not.
        let would_be_asked = connection.never_asked() && node.peers.load().authorities.is_some();
        log.close = connection.node().is_some() || (why.is_no_secret() && would_be_asked);
        OwnAnswer::no_peer(&why.to_string())
    })?;
    let vouched = from_peer.as_ref().and_then(|peer| match &peer.asks {
        Asks::Serve(vouched) => Some(vouched),
        Asks::Probe => None,
    });
    if head.known.has(Known::Via) && node.via.is_in(&parts.headers) {
        return Err(OwnAnswer::in_a_loop());
    }
    let client = match vouched {
        Some(vouched) => worker.places.named(vouched.address, vouched.is_named, &settings.geo),
        None => connection.client(&parts.headers, &settings.geo, &worker.places),
    };
    log.client = Some(client.clone());
    if let Some(took) = connection.take_round_trip()
        && client.is_named
        && !client.peer_trusted
        && from_peer.is_none()
    {
        worker.metrics.client_came(&client.origin, took);
        if let (Origin::Country(country), Some(at)) = (client.origin, client.coordinates) {
            log.routing.client_came(country, client.key, at, took);
        }
    }
    let their_id = match (vouched, client.peer_trusted) {
        (Some(vouched), _) => Some(&vouched.request_id),
        (None, true) if !head.known.has(Known::RequestId) => None,
        (None, true) => parts.headers.get(fields::REQUEST_ID).filter(|id| is_request_id(id)),
        (None, false) => None,
    };
    if let Some(id) = their_id {
        log.request_id = id.clone();
    }
    let vouched_scheme = vouched.map(|vouched| vouched.scheme);
    let sender = match from_peer {
        Some(peer) => Sender::Peer(peer),
        None if client.peer_trusted => Sender::TrustedProxy,
        None => Sender::Stranger,
    };

    let routing = log.routing.clone();
    let from_a_node = sender.peer().is_some();
    if let Some(peer) = sender.peer() {
        log.peer = Some(peer.answering.clone());
        connection.leave_place();
        if peer.answering.is_signed() && connection.never_asked() && node.peers.load().authorities.is_some() {
            // Both may have certificates by now.
            connection.make_anew();
            log.close = true;
        }
        // A question of another node, not a request of anybody's: it is neither decided nor logged.
        log.is_probe = matches!(peer.asks, Asks::Probe);
        let here = routing.table().region(routing.here).name.as_bytes();
        if peer.chosen.as_bytes() != here {
            // Deciding anew would take the sending node for the client.
            return Err(OwnAnswer::wrong_gateway());
        }
        if log.is_probe {
            let cell = routing.region(routing.here);
            let serves = cell.is_up() && node.occupancy.draining() == Drain::Serving;
            return Ok(OwnAnswer::probe(serves, cell.lag(), cell.claim()));
        }
    } else if !connection.may_serve(&target.host) {
        // Another region's node names the gateway, not the host that it carries.
        return Err(OwnAnswer::misdirected());
    }
    if client.is_named {
        worker.recent.note(client.address);
    }
    let (method, payload) = (log.method, log.payload);
    let upgrade = payload == Payload::Tunnel;
    log.authority = Some(authority.clone());
    let id = find_route(&routing, &target, method)?;
    log.route = Some(id);
    let route = &routing.table().route(id).spec;
    if matches!(method, Method::Trace | Method::Options)
        && let Some(answer) = answered_here(method, route, &mut parts.headers)?
    {
        return Ok(answer);
    }
    if upgrade && http1 && log.unread_body {
        // It would be read as the first bytes of the tunnel.
        log.close = true;
        return Err(ambiguous("it asks for another protocol and has content in this one"));
    }
    let sources = TrustSources {
        geo: &settings.geo,
        tokens: &settings.tokens,
        verifications: Some(&node.telemetry.metrics.token_verifications),
    };
    let mut context = RequestContext::stated(&routing.document, route, (&client, &sender), &parts.headers, sources.geo)
        .map_err(ambiguous)?;
    let criticality = routing.table().route(id).criticality(context.criticality);
    if let Some(refusal) = switched_off(routing.table(), id, || emergency::Asks {
        access: access_in_emergency(routing.table().route(id).access(method, payload), route, &parts.headers),
        origin: &context.origin,
        declared: [&route.jurisdictions, &context.declared],
        criticality,
    }) {
        log.context = Some(context);
        log.refusing_table = routing.published;
        return Err(refused_in_emergency(log, &refusal, criticality, &parts.headers));
    }
    // Before what a client can have cost more: the signatures of its token and its cookies.
    let length = if head.known.has(Known::ContentLength) { content_length(&parts) } else { None };
    let Admitted { tunnel: place, body_bytes, pace } =
        match admitted(log, &settings.config.limits, criticality, &client, length) {
            Ok(admitted) => admitted,
            Err(refused) => {
                log.context = Some(context);
                return Err(refused);
            }
        };
    context.prove(&routing.document, route, &parts.headers, sources);
    log.context = Some(context.clone());
    // Another node's choice needs no distances.
    let at = client.coordinates.filter(|_| !from_a_node);
    let ways = routing.ways_of(id, &client.origin, at);
    let facts = Facts {
        host: &target.host,
        path: &target.path.path,
        method,
        payload,
        origin: context.origin,
        declared: &context.declared,
        consent: context.consent,
        client_at: ways.as_ref().map(ClientOnMap::at),
        client_key: client.key,
        from: routing.here,
        // Where another node has already chosen, its choice stands: also of a region that drains.
        pinned: if from_a_node { Some(routing.here) } else { context.pinned },
        only: from_a_node.then_some(routing.here),
        criticality: context.criticality,
    };
    let permits = permitted(&worker, &routing, id, &facts)?;

    // HTTP/2 has no key, and what a client may have sent for one is none (RFC 8441, 5).
    let own_key = (upgrade && !http1).then(websocket::new_key);
    if let Some(key) = &own_key {
        parts.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
    }
    let call_timeout = match log.form.is_call() {
        true => grpc::take_timeout(&mut parts.headers).map_err(ambiguous)?,
        false => None,
    };
    let https_before_us = matches!(sender, Sender::TrustedProxy)
        && head.known.has(Known::ForwardedProto)
        && parts
            .headers
            .get(fields::FORWARDED_PROTO)
            .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
    let own_scheme = vouched_scheme.unwrap_or(connection.scheme());
    let scheme = if https_before_us { "https" } else { own_scheme };
    let repeatable = !upgrade && (method.is_idempotent() || parts.headers.contains_key("idempotency-key"));
    let keep = if route.retry.attempts > 1 { route.retry.body_bytes } else { 0 };
    let vouched_names = [
        route.consent_header.as_deref(),
        route.jurisdiction_header.as_deref(),
        sources.geo.country_header.as_ref().map(HeaderName::as_str),
        routing.document.criticality_header.as_deref(),
    ];
    let trailers = || TrailerRules::new(&vouched_names);
    let body = RequestBody::new(content, (keep, &worker.bodies), body_bytes, pace, trailers)
        .awaiting_continue(expects_continue);
    if route.streams_uploads {
        body.may_stream(route.stream_idle_timeout);
    }
    let consent = context.consent_through(route, &sender, &parts.headers);
    let body_claim = BodyClaim::of(&parts.headers, matches!(body, RequestBody::Empty));
    let request_id = log.request_id.clone();
    let outgoing = Outgoing::new(
        parts.method.clone(),
        &parts.uri,
        std::mem::take(&mut parts.headers),
        Provenance {
            client: &client,
            sender: &sender,
            peer: connection.peer.ip(),
            scheme: own_scheme,
            authority: &authority,
            request_id: &request_id,
            vouched: &vouched_names,
            passed: &route.pass_request_headers,
            upgrade,
            via: settings.config.upstream.via.then(|| node.via.received_in(parts.version)),
            known: head.known,
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
            origin: &context.origin,
            consent,
            tenant: &context.declared,
            criticality: Some(criticality).filter(|criticality| *criticality < route.criticality),
            body: body_claim,
        };
        Vouching::of(&claim, routing.table(), node.peers.load_full())
    };
    let head = |current: &Routing, region: RegionId| {
        let gateway = current.chosen_for_gateway(region);
        outgoing.head(gateway.map(|chosen| (chosen, vouching.get_or_init(vouch))))
    };
    let call_deadline = call_timeout.and_then(|timeout| log.started.checked_add(timeout));
    let plan = ForwardPlan {
        upstream: worker.upstream(settings),
        pinned: &routing,
        facts: &facts,
        permits: &permits,
        head: &head,
        body: &body,
        // grpcio takes the first head for the answer, and ends the call.
        interim: interim.as_deref().filter(|_| !log.form.is_call()),
        repeatable,
        upgrade,
        deadline: log.started + call_timeout.map_or(route.timeout, |call| call.min(route.timeout)),
        is_call: log.form.is_call(),
        criticality,
        call_pause: (log.form.is_call() && !http1).then_some(route.stream_idle_timeout),
        call_deadline,
    };
    let result = Box::pin(forward(&plan)).await;
    log.unread_body = body.is_unread();
    let answered = result.map_err(|failure| match failure {
        ForwardError::Refused { refusal, attempts } if refusal.reason.is_emergency() => {
            let mut answer = refused_in_emergency(log, &refusal, criticality, outgoing.received());
            // An origin may have acted on one that was under way.
            log.refusing_table = node.routing.load().published.filter(|_| attempts == 0);
            answer.attempts = attempts;
            answer
        }
        ForwardError::Overloaded { why, .. } => {
            node.telemetry.metrics.shed.with_label_values(&[criticality.name(), why.reason()]).inc();
            OwnAnswer::failed(failure)
        }
        failure => OwnAnswer::failed(failure),
    })?;
    if let Some(reason) = answered.refused {
        log.reason = Some(reason.name());
        node.telemetry.metrics.errors.with_label_values(&["", reason.name()]).inc();
    }
    let agrees = match answered.response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            let accepts = |key| websocket::is_accepted(key, answered.response.headers());
            upgrade && answered.connection.may_switch() && own_key.as_ref().is_none_or(accepts)
        }
        // Over HTTP/2 the client would take it for the tunnel.
        status => own_key.is_none() || !status.is_success(),
    };
    if !agrees {
        let region = answered.endpoint.region_name().to_owned();
        return Err(OwnAnswer::failed(ForwardError::Failed {
            region,
            attempts: answered.attempts,
            timed_out: false,
            unsent: false,
            end: NoRetry::Exhausted,
        }));
    }
    let served = answered.endpoint.region_name();
    // Nobody is kept where it failed.
    let failed_call = answered
        .call_status
        .is_some_and(|code| code.server_error().is_some() || route.retry.grpc_statuses.contains(&code.number()));
    let keep = !from_a_node && !answered.response.status().is_server_error() && !failed_call;
    let pin = keep.then(|| new_pin(&routing.document, route, context.pinned, served, scheme)).flatten();
    let client_side = client_side.zip(place);
    let mut response = pass_on(log, tunnel, answered, body, client_side, route, &settings.config.upstream);
    if log.form.is_call() {
        let takes_status = !http1 && !response.headers().contains_key(CONTENT_LENGTH);
        response = response.map(|body| body.of_call(call_deadline, takes_status));
    }
    if let Some(pin) = pin {
        response.headers_mut().append(SET_COOKIE, pin);
    }
    Ok(response)
}

/// Returns whether a request reads or writes for an emergency: one with a field that its route passes, and that may have its
/// origin take it for another, writes unless all of the route's requests read.
fn access_in_emergency(access: Access, route: &RouteSpec, headers: &HeaderMap) -> Access {
    let is_there =
        |name: &String| Stripped::of(name) == Some(Stripped::Override) && headers.contains_key(name.as_str());
    if route.access.is_none() && route.pass_request_headers.iter().any(is_there) { Access::Write } else { access }
}

/// Answers with an emergency's refusal, at whatever point of a request, and counts it if it is shed by it.
fn refused_in_emergency(
    log: &mut RequestLog,
    refusal: &Refusal,
    criticality: Criticality,
    headers: &HeaderMap,
) -> OwnAnswer {
    if refusal.reason == Reason::EmergencyShed {
        log.worker.node.telemetry.metrics.shed.with_label_values(&[criticality.name(), "emergency"]).inc();
    }
    log.form = log.form.in_emergency(headers);
    OwnAnswer::refused(refusal)
}

/// Returns the route of a request, or the refusal.
fn find_route(routing: &Routing, target: &Target<'_>, method: Method) -> Result<RouteId, OwnAnswer> {
    match target.route(routing.table(), method) {
        Ok(Some(route)) => Ok(route),
        Ok(None) => {
            Err(OwnAnswer::refused(&Refusal { reason: Reason::NoRoute, route: None, page: None, blocked_by: None }))
        }
        Err(why) => Err(OwnAnswer::bad_request(&format!("The request is refused because {why}."))),
    }
}

/// Decides, and measures one decision in 64.
fn permitted(worker: &Worker, routing: &Routing, id: RouteId, facts: &Facts<'_>) -> Result<Permits, OwnAnswer> {
    let sampled = worker.decisions.fetch_add(1, Ordering::Relaxed).is_multiple_of(64).then(clock::now);
    let verdict = policy::decide::decide_on_route(routing.table(), id, facts, routing);
    if let Some(started) = sampled {
        worker.node.telemetry.metrics.decision_seconds.observe(started.elapsed().as_secs_f64());
    }
    match verdict {
        Verdict::Forward(permits) => Ok(permits),
        Verdict::Refuse(refusal) => Err(OwnAnswer::refused(&refusal)),
    }
}
