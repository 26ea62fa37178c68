//! How an origin treats a request.

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
    /// The normal answer, this much later.
    Slow(Duration),
    /// No answer, until another behaviour is set.
    Stall,
    /// The connection is closed before the answer's head; on HTTP/2 the stream is reset.
    CloseBeforeHead,
    /// A head that announces the whole body, half of the body, and then the same.
    CutBody,
}

/// Chooses the behaviour for a request.
pub(super) type Choose = Arc<dyn Fn(&Received) -> Behaviour + Send + Sync>;

/// The choice in force.
pub(super) struct Conduct(watch::Sender<Choose>);

impl Conduct {
    pub(super) fn set(&self, choose: Choose) {
        self.0.send_replace(choose);
    }

    /// The behaviour for this request, anything but [`Behaviour::Stall`]: that one is waited out.
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
