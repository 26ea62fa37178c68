//! How an origin treats a request.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::sync::watch;

use super::Received;

/// What becomes of one request, once it has arrived whole.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// 200 with the origin's body.
    Normal,
    /// This status with an empty body.
    Status(StatusCode),
    /// This very answer, plus `x-origin`. Content-Length is set from the body.
    Answer(Response<Bytes>),
    /// 200 with the origin's body as a message of gRPC, and after it `grpc-status: 0` as a trailer.
    Grpc,
    /// The normal answer, this much later.
    Slow(Duration),
    /// No answer, until another behaviour is set.
    Stall,
    /// The connection is closed before the answer's head; on HTTP/2 the stream is reset.
    CloseBeforeHead,
    /// A head that announces the whole body, half of the body, and then the same.
    CutBody,
    /// The connection is reset (RST) before the answer's head.
    ResetBeforeHead,
    /// A head that announces the whole body, and then the same.
    ResetAfterHead,
    /// A head that announces the whole body, half of the body, and then the same.
    ResetInBody,
}

/// What was read is no behaviour.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no behaviour: give normal, grpc, status=CODE, slow=DURATION, stall, close, cut, reset, reset-after-head or reset-in-body"
)]
pub struct BehaviourError(String);

impl FromStr for Behaviour {
    type Err = BehaviourError;

    fn from_str(text: &str) -> Result<Behaviour, BehaviourError> {
        let (word, value) = text.split_once('=').unwrap_or((text, ""));
        let behaviour = match (word, value) {
            ("normal", "") => Some(Behaviour::Normal),
            ("grpc", "") => Some(Behaviour::Grpc),
            ("stall", "") => Some(Behaviour::Stall),
            ("close", "") => Some(Behaviour::CloseBeforeHead),
            ("cut", "") => Some(Behaviour::CutBody),
            ("reset", "") => Some(Behaviour::ResetBeforeHead),
            ("reset-after-head", "") => Some(Behaviour::ResetAfterHead),
            ("reset-in-body", "") => Some(Behaviour::ResetInBody),
            ("status", code) => code.parse().ok().map(Behaviour::Status),
            ("slow", delay) => humantime::parse_duration(delay).ok().map(Behaviour::Slow),
            _ => None,
        };
        behaviour.ok_or_else(|| BehaviourError(text.to_owned()))
    }
}

/// Chooses the behaviour for a request.
pub(super) type Choose = Arc<dyn Fn(&Received) -> Behaviour + Send + Sync>;

/// The choice in force.
pub(super) struct Conduct(watch::Sender<Choose>);

impl Conduct {
    pub(super) fn set(&self, choose: Choose) {
        self.0.send_replace(choose);
    }

    /// Returns the behaviour for this request, anything but [`Behaviour::Stall`]: that one is waited out.
    pub(super) async fn towards(&self, received: &Received) -> Behaviour {
        let mut choice = self.0.subscribe();
        loop {
            let choose = Arc::clone(&choice.borrow_and_update());
            let behaviour = choose(received);
            if !matches!(behaviour, Behaviour::Stall) {
                return behaviour;
            }
            if choice.changed().await.is_err() {
                // The origin is gone, and this connection with it.
                return Behaviour::CloseBeforeHead;
            }
        }
    }
}

impl Default for Conduct {
    fn default() -> Conduct {
        Conduct(watch::Sender::new(Arc::new(|_: &Received| Behaviour::Normal)))
    }
}
