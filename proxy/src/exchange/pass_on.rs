//! What becomes of an origin's answer: our own answer to the client, or a tunnel.

use config::UpstreamTls;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_ACCEPT, VIA};
use http::{Response, StatusCode};
use policy::route::RouteSpec;

use crate::clock::coarse_ms;
use crate::grpc::{self, CallEnd, Code};
use crate::headers::filter_answer;
use crate::occupancy::InFlight;
use crate::peers::headers::tell_client;
use crate::request_body::RequestBody;
use crate::request_log::RequestLog;
use crate::response_body::{PoolReturn, ResponseBody};
use crate::revocation::RevocationCheck;
use crate::tunnel::{ClientSide, Tunnel};
use crate::upstream::evidence::Evidence;
use crate::upstream::plan::OriginAnswer;

/// Turns an origin's answer into ours.
pub(super) fn pass_on(
    log: &mut RequestLog,
    tunnel: &mut Option<Box<Tunnel>>,
    answered: OriginAnswer,
    request: RequestBody,
    client_side: Option<(ClientSide, InFlight)>,
    route: &RouteSpec,
    upstream: &UpstreamTls,
) -> Response<ResponseBody> {
    let OriginAnswer { response, call_status, connection, endpoint, attempts, .. } = answered;
    let (safeguarded, in_flight) = (answered.safeguarded, answered.in_flight);
    let served = endpoint.region_name();
    // The region is one of the pinned table's: its permits say so.
    log.region = log.routing.table().region_named(served).filter(|_| answered.refused.is_none());
    log.attempts = attempts;
    log.head_after = Some(answered.head_at.saturating_duration_since(log.started));
    log.safeguarded = safeguarded;
    let client_key = log.client.as_ref().map_or(0, |client| client.key);
    let (mut parts, ()) = response.into_parts();
    if let Some(code) = Code::of(&parts.headers).filter(|_| log.form.is_call()) {
        log.call_end = CallEnd::Status(code);
    }
    log.is_nodes_refusal = log.form.is_call() && answered.is_nodes_own && parts.headers.contains_key(grpc::STATUS);
    let protocol = parts.headers.get(http::header::UPGRADE).cloned();
    filter_answer(&mut parts.headers).into_iter().for_each(|load| endpoint.note_load(load));
    // What an emergency refuses was served by nobody.
    let by = Some(served).filter(|_| answered.refused.is_none());
    tell_client(&mut parts.headers, by, attempts);
    if upstream.via {
        parts.headers.append(VIA, log.worker.node.via.received_in(parts.version).clone());
    }
    if let Some((client, place)) = client_side.filter(|_| parts.status == StatusCode::SWITCHING_PROTOCOLS) {
        if log.is_http2() {
            // RFC 8441, 5: the stream is the tunnel.
            parts.status = StatusCode::OK;
            parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
            parts.headers.remove(CONTENT_LENGTH);
        } else {
            if let Some(protocol) = protocol {
                parts.headers.insert(http::header::UPGRADE, protocol);
            }
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        let metrics = &log.worker.node.telemetry.metrics;
        Evidence { metrics, endpoint: &endpoint, client_key }.completed();
        drop(in_flight);
        *tunnel = connection
            .into_tunnel()
            .map(|upstream| Box::new(Tunnel { client, upstream, region: served.to_owned(), place }));
        return Response::from_parts(parts, ResponseBody::empty());
    }
    // It may go up for as long as the answer comes down, and longer.
    let request = if request.is_unread() { request } else { RequestBody::Empty };
    request.end_when(|| upload_revoked(log));
    let worker = log.worker.clone();
    let is_good = !parts.status.is_server_error() && call_status.and_then(Code::server_error).is_none();
    let pool_return = PoolReturn {
        worker,
        most_idle: upstream.idle_connections,
        endpoint,
        client_key,
        begun_ms: coarse_ms(),
        is_good,
        is_call: log.form.is_call(),
        late_failure: None,
        request,
        connection,
        in_flight,
    };
    Response::from_parts(parts, ResponseBody::proxied(pool_return, route))
}

/// Says whether the region of an upload may no longer get it, for an upload that goes on beside its answer.
fn upload_revoked(log: &RequestLog) -> Option<Box<dyn FnMut() -> bool + Send>> {
    let (worker, grant, mut check) = (log.worker.clone(), log.grant()?, RevocationCheck::new(&log.routing));
    Some(Box::new(move || check.look(&worker.node.routing, |current| grant.revoked(current)).is_some()))
}
