//! A probe over HTTP: one GET, or several that must all pass.

use ::http::header::{HOST, USER_AGENT};
use ::http::{HeaderMap, HeaderValue, Request, Response};
use config::Endpoint;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use policy::health::HttpCheck;

use super::{Found, LAG, MAX_BODY};
use crate::headers::names::{CHOSEN, PROBE};
use crate::upstream::body::RequestBody;
use crate::upstream::connect::{Connection, Connector, SendError, Speak};

/// Asks for each path, on one connection while it stays open; the first that fails ends it. `None`
/// when there is no connection or no answer.
pub(super) async fn ask(
    connector: &Connector,
    endpoint: &Endpoint,
    check: &HttpCheck,
    gateway: Option<&HeaderValue>,
) -> Option<Found> {
    let host = check.host.clone().unwrap_or_else(|| endpoint.authority());
    let host = HeaderValue::try_from(host).ok()?;
    let mut open: Option<Connection> = None;
    let mut lag = None;
    for path in &check.paths {
        let (response, connection) = get(connector, endpoint, path, &host, gateway, open.take()).await?;
        lag = lag.max(lag_ms(response.headers()));
        let status = response.status().as_u16();
        if !check.statuses.iter().any(|range| range.contains(&status)) {
            return Some(Found::answered(false, lag));
        }
        let (body, ended) = read(response).await;
        let wanted = check.body.as_deref();
        if wanted.is_some_and(|wanted| memchr::memmem::find(&body, wanted.as_bytes()).is_none()) {
            return Some(Found::answered(false, lag));
        }
        open = Some(connection).filter(|_| ended);
    }
    Some(Found::answered(true, lag))
}

/// One GET, on the open connection if it is still good for it.
async fn get(
    connector: &Connector,
    endpoint: &Endpoint,
    path: &str,
    host: &HeaderValue,
    gateway: Option<&HeaderValue>,
    open: Option<Connection>,
) -> Option<(Response<Incoming>, Connection)> {
    let mut request = Request::get(path).body(RequestBody::Empty.attempt()?).ok()?;
    let headers = request.headers_mut();
    headers.insert(HOST, host.clone());
    headers.insert(USER_AGENT, super::USER_AGENT);
    if let Some(region) = gateway {
        headers.insert(CHOSEN, region.clone());
        headers.insert(PROBE, HeaderValue::from_static("1"));
    }
    if let Some(mut connection) = open {
        match connection.send(request).await {
            Ok(response) => return Some((response, connection)),
            // Closed after the answer before, as it may be.
            Err(SendError::Unsent(unsent)) => request = *unsent,
            Err(SendError::Unprocessed | SendError::Broken(_)) => return None,
        }
    }
    let mut connection = connector.connect_for_probe(endpoint, Speak::with(endpoint)).await.ok()??;
    let response = connection.send(request).await.ok()?;
    Some((response, connection))
}

/// The beginning of a body, and whether that is all of it.
async fn read(response: Response<Incoming>) -> (Vec<u8>, bool) {
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
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
    let seconds = headers.get(LAG)?.to_str().ok()?.trim().parse::<f64>().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1000.0) as u64)
}
