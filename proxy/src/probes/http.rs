//! A probe over HTTP: one GET, or several that must all pass.

use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ::http::header::{HOST, USER_AGENT};
use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use policy::health::{Claim, HttpCheck};
use policy::round_trip::Answer;

use super::{MAX_BODY, NoAnswer, ProbeReport};
use crate::clock;
use crate::fields::{REPLICATION_LAG, REPLICATION_ROLE};
use crate::framing;
use crate::headers::RequestHead;
use crate::health::endpoint::EndpointState;
use crate::origin_load;
use crate::peers::Peers;
use crate::peers::headers::{Answerer, take_answer, write_probe};
use crate::peers::signature::Nonce;
use crate::request_body::{AttemptBody, RequestBody};
use crate::upstream::connect::Connector;
use crate::upstream::link::{ConnectError, SendError, Speak};
use crate::upstream::origin_connection::OriginConnection;

/// What a gateway is asked for, and by whom.
#[derive(Clone, Copy)]
pub(super) struct Gateway<'a> {
    /// The region.
    pub(super) region: &'a HeaderValue,
    /// What this node is.
    pub(super) peers: &'a Peers,
}

/// Asks for each path, on one connection while it stays open; the first that fails ends it. An
/// error when there is no connection or no answer.
pub(super) async fn ask(
    connector: &Connector,
    endpoint: &EndpointState,
    check: &HttpCheck,
    gateway: Option<Gateway<'_>>,
) -> Result<ProbeReport, NoAnswer> {
    let host = check.host.clone().unwrap_or_else(|| endpoint.endpoint.authority());
    let host = HeaderValue::try_from(host).map_err(::http::Error::from)?;
    let mut open: Option<OriginConnection> = None;
    let (mut lag, mut claim, mut has_odd_role, mut takes_tunnels) = (None, Claim::Unsaid, false, None);
    for path in &check.paths {
        let (mut response, mut connection, nonce) = get(connector, endpoint, path, &host, gateway, open.take()).await?;
        takes_tunnels = connection.takes_tunnels();
        if let Some(Gateway { peers, .. }) = gateway {
            let from = Answerer::Gateway { counterpart: connection.counterpart(), nonce, peers };
            if !take_answer(&mut response, from).is_peers {
                return Ok(ProbeReport::failed(&no_peer(response.status()), None));
            }
        }
        lag = lag.max(lag_ms(response.headers()));
        let said = claimed(response.headers());
        (claim, has_odd_role) = (claim.and(said.0), has_odd_role || said.1);
        origin_load::reported(response.headers()).into_iter().for_each(|load| endpoint.note_load(load));
        let status = response.status().as_u16();
        if !check.statuses.iter().any(|range| range.contains(&status)) {
            return Ok(ProbeReport::failed(&wrong_status(path, status, check, gateway.is_some()), lag));
        }
        let (body, ended) = read(&mut connection).await;
        let is_missing = |wanted: &&str| memchr::memmem::find(&body, wanted.as_bytes()).is_none();
        if let Some(wanted) = check.body.as_deref().filter(is_missing) {
            return Ok(ProbeReport::failed(&format!("the body of {path} does not contain {}", quoted(wanted)), lag));
        }
        open = Some(connection).filter(|_| ended);
    }
    Ok(ProbeReport { takes_tunnels, claim, has_odd_role, ..ProbeReport::passed(lag) })
}

/// Returns why an answer is none of a node's.
fn no_peer(status: StatusCode) -> String {
    if status == StatusCode::MISDIRECTED_REQUEST {
        return format!(
            "the gateway answered {}: it does not take this node for one (see its node's [peers], and its log)",
            status.as_u16()
        );
    }
    format!("the answer {} is signed by no node that shares peers.secret_file", status.as_u16())
}

fn wrong_status(path: &str, status: u16, check: &HttpCheck, is_gateway: bool) -> String {
    if is_gateway && status == StatusCode::MISDIRECTED_REQUEST {
        return format!("the gateway answered {status}: it is another region's, or does not take this node for one");
    }
    let word = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (one, same) if one == same => one.to_string(),
        (from, to) => format!("{from}-{to}"),
    };
    let statuses: Vec<String> = check.statuses.iter().map(word).collect();
    let whose = if is_gateway { "the gateway" } else { path };
    format!("{whose} answered {status}, not {}", statuses.join(", "))
}

/// Returns the beginning of a text, which may be long.
fn quoted(text: &str) -> String {
    let beginning: String = text.chars().take(64).collect();
    if beginning.len() < text.len() { format!("{beginning:?}…") } else { format!("{beginning:?}") }
}

/// One GET, on the open connection if it is still good for it.
async fn get(
    connector: &Connector,
    endpoint: &EndpointState,
    path: &str,
    host: &HeaderValue,
    gateway: Option<Gateway<'_>>,
    open: Option<OriginConnection>,
) -> Result<(Response<()>, OriginConnection, Option<Nonce>), NoAnswer> {
    let empty = || RequestBody::Empty.attempt().unwrap_or_else(|| AttemptBody::full(Bytes::new()));
    let mut request = Request::get(path).body(())?;
    let headers = request.headers_mut();
    headers.insert(HOST, host.clone());
    headers.insert(USER_AGENT, super::USER_AGENT);
    if let Some(Gateway { region, peers }) = gateway {
        write_probe(&mut request, region, peers);
    }
    let head = RequestHead::Own(Box::new(request));
    let nonce = head.nonce();
    if let Some(mut connection) = open.and_then(OriginConnection::idle) {
        match connection.send(&head, empty(), None).await {
            Ok(response) => return Ok((response, connection, nonce)),
            // Closed after the answer before, as it may be.
            Err(SendError::Unsent(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // What is asked for must be what is proved: some servers refuse anything else.
    let server_name = host.to_str().ok().filter(|_| gateway.is_none()).and_then(|host| framing::host(host).ok());
    let server_name = server_name.filter(|name| *name != endpoint.endpoint.host).map(Arc::from);
    let opened = connector.connect_for_probe(endpoint, server_name.as_ref(), Speak::with(&endpoint.endpoint)).await?;
    let mut connection = opened.ok_or(ConnectError::NoHttp2)?;
    let asked = clock::now();
    let response = connection.send(&head, empty(), None).await.map_err(|error| match error {
        // In TLS 1.3 it looks at the client's certificate after the client's handshake.
        SendError::Unprocessed if gateway.is_some() && !endpoint.endpoint.http2 => NoAnswer::NotAccepted,
        error => error.into(),
    })?;
    endpoint.round_trips.answered(Answer::Reply, asked.elapsed());
    Ok((response, connection, nonce))
}

/// Returns the beginning of a body, and whether that is all of it.
async fn read(connection: &mut OriginConnection) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(frame) = poll_fn(|cx| connection.poll_frame(cx)).await {
        let Ok(frame) = frame else { return (body, false) };
        let Some(data) = frame.data_ref() else { continue };
        let room = MAX_BODY - body.len();
        body.extend(data.iter().take(room));
        if data.len() >= room {
            return (body, false);
        }
    }
    (body, true)
}

/// By how much a replica lags; what cannot be read is no lag at all: the endpoint does not say.
fn lag_ms(headers: &HeaderMap) -> Option<u64> {
    let seconds = headers.get(REPLICATION_LAG)?.to_str().ok()?.trim().parse::<f64>().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1000.0) as u64)
}

/// What an endpoint says that its data is, and whether a field held something else: that says nothing. Several fields that
/// differ contradict each other; a gateway says so of its region in one.
fn claimed(headers: &HeaderMap) -> (Claim, bool) {
    let word = |value: &HeaderValue| {
        let word = value.to_str().map_or("", str::trim);
        let claims = [Claim::Primary, Claim::Replica, Claim::Mixed];
        claims.into_iter().find(|claim| word.eq_ignore_ascii_case(claim.name()))
    };
    let words = || headers.get_all(REPLICATION_ROLE).iter().map(word);
    (words().flatten().fold(Claim::Unsaid, Claim::and), words().any(|word| word.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_one_of_two_words_and_anything_else_says_nothing() {
        for (fields, found) in [
            (&[][..], (Claim::Unsaid, false)),
            (&["primary"], (Claim::Primary, false)),
            (&[" Replica "], (Claim::Replica, false)),
            (&["mixed"], (Claim::Mixed, false)),
            (&["primary", "replica"], (Claim::Mixed, false)),
            (&["master"], (Claim::Unsaid, true)),
            (&["PRIMARY", ""], (Claim::Primary, true)),
        ] {
            let field = |value: &&str| (REPLICATION_ROLE, HeaderValue::from_str(value).unwrap());
            assert_eq!(claimed(&fields.iter().map(field).collect()), found, "{fields:?}");
        }
    }
}
