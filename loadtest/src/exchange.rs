//! Sends one request and reads its answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use crate::connection_slot::{Age, ConnectionSlot};
use crate::dial::{Dialer, Sender};
use crate::failure::Failure;
use crate::{FailureKind, Observation, Outcome, RequestSpec};

/// A request that has its place in the schedule.
pub(crate) struct Flight {
    pub(crate) request: RequestSpec,
    pub(crate) sequence: u64,
    pub(crate) intended: Instant,
    pub(crate) timeout: Duration,
}

impl Flight {
    /// Returns the whole exchange over the connection of one slot; it ends, whatever happens, by the timeout.
    pub(crate) async fn fly(self, slot: &ConnectionSlot, dialer: &Dialer) -> Observation {
        let Flight { request, sequence, intended, timeout } = self;
        let tag = request.tag;
        let mut progress = Progress::default();
        let deadline = (intended + timeout).into();
        let ended = tokio::time::timeout_at(deadline, exchange(request, slot, dialer, &mut progress)).await;
        let outcome = ended.unwrap_or_else(|_elapsed| {
            let what = if progress.sent.is_some() { "no whole answer" } else { "no connection" };
            Err(Failure::late(FailureKind::Timeout, what, timeout))
        });
        let latency = intended.elapsed();
        Observation {
            tag,
            sequence,
            intended,
            wait: progress.sent.map_or(latency, |sent| sent.saturating_duration_since(intended)),
            latency,
            reconnected: progress.reconnected,
            outcome: outcome.unwrap_or_else(Failure::into_outcome),
        }
    }

    /// Returns the end of a request that found no connection in time.
    pub(crate) fn miss(self) -> Observation {
        let Flight { request, sequence, intended, timeout } = self;
        let latency = intended.elapsed();
        Observation {
            tag: request.tag,
            sequence,
            intended,
            wait: latency,
            latency,
            reconnected: false,
            outcome: Failure::late(FailureKind::NotStarted, "no connection was free", timeout).into_outcome(),
        }
    }
}

/// How far an exchange has come, for those who ask after it was cut off.
#[derive(Default)]
struct Progress {
    sent: Option<Instant>,
    reconnected: bool,
}

async fn exchange(
    request: RequestSpec,
    slot: &ConnectionSlot,
    dialer: &Dialer,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    let target = dialer.target();
    let message = request.message(target.protocol, target.scheme());
    let mut message = message.map_err(|e| Failure::new(FailureKind::InvalidRequest, "building the request", &e))?;
    let mut connections = 0;
    loop {
        let mut acquired = slot.acquire(dialer).await?;
        connections += 1;
        progress.reconnected |= acquired.age == Age::Replaced;
        progress.sent = Some(Instant::now());
        let mut error = match acquired.sender.send(message).await {
            Ok(head) => {
                let answered = read(head).await?;
                slot.keep(acquired.sender).await;
                return Ok(answered);
            }
            Err(error) => error,
        };
        match error.take_message() {
            // A kept connection that the peer had closed gives the request back unsent. Sending it on another is no
            // retry, since nothing has been tried. A fresh connection has no such excuse.
            Some(unsent) if acquired.age == Age::Kept && connections < MAX_CONNECTIONS => {
                message = unsent;
                progress.reconnected = true;
            }
            _ => {
                let error = error.into_error();
                let kind = if error.is_parse() { FailureKind::Protocol } else { FailureKind::Reset };
                return Err(Failure::new(kind, "no answer", &error));
            }
        }
    }
}

/// Reads an answer to its end.
async fn read(head: Response<Incoming>) -> Result<Outcome, Failure> {
    let (parts, mut body) = head.into_parts();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failure::new(FailureKind::BodyCut, format!("after {bytes} bytes"), &e))?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    let text = |name| text(&parts.headers, name);
    Ok(Outcome::Answered {
        status: parts.status.as_u16(),
        region: text("x-meridian-region").map(str::to_owned),
        attempts: text("x-meridian-attempts").and_then(|count| count.parse().ok()).unwrap_or(1),
        bytes,
        headers: parts.headers,
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

impl Sender {
    async fn send(
        &mut self,
        message: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        match self {
            Sender::Http1(sender, _) => sender.try_send_request(message).await,
            Sender::Http2(sender, _) => sender.try_send_request(message).await,
        }
    }
}

/// Connections that one request may find closed. More than one only when others replace an HTTP/2 connection first.
const MAX_CONNECTIONS: u32 = 4;
