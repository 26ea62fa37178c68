//! One of the run's connections, open or yet to be opened.

use tokio::sync::Mutex;

use crate::Reuse;
use crate::dial::{Dialer, Sender, Sight};
use crate::failure::Failure;

/// Holds one connection. Requests acquire it, one at a time on HTTP/1.1, several on HTTP/2. It lives as long as the run.
pub(crate) struct ConnectionSlot {
    reuse: Reuse,
    kept: Mutex<Option<Sender>>,
}

/// A connection on which a request may be sent now.
pub(crate) struct Acquired {
    pub(crate) sender: Sender,
    pub(crate) age: Age,
}

/// Whether a connection has been used before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Just dialled for this request.
    Fresh,
    /// Dialled just now, since the peer had closed the one that was kept.
    Replaced,
    /// It has stood idle, or carries other requests.
    Kept,
}

impl ConnectionSlot {
    pub(crate) fn new(reuse: Reuse) -> ConnectionSlot {
        ConnectionSlot { reuse, kept: Mutex::new(None) }
    }

    /// Returns the kept connection if it still stands, else a fresh one. Requests that arrive together share one
    /// dial.
    pub(crate) async fn acquire(&self, dialer: &Dialer) -> Result<Acquired, Failure> {
        if self.reuse == Reuse::NewConnection {
            return Ok(Acquired { sender: dialer.dial().await?, age: Age::Fresh });
        }
        let mut kept = self.kept.lock().await;
        let mut age = Age::Fresh;
        if let Some(mut sender) = kept.take() {
            if sender.ready().await {
                *kept = sender.share();
                return Ok(Acquired { sender, age: Age::Kept });
            }
            age = Age::Replaced;
        }
        let sender = dialer.dial().await?;
        *kept = sender.share();
        Ok(Acquired { sender, age })
    }

    /// Keeps a connection for later, after the answer on it has been read to its end.
    pub(crate) async fn keep(&self, sender: Sender) {
        if self.reuse == Reuse::KeepAlive && matches!(sender, Sender::Http1(..)) {
            *self.kept.lock().await = Some(sender);
        }
    }
}

impl Sender {
    /// Waits until a request can be sent; false if the connection is closed, or is an idle HTTP/1.1 one on which the
    /// peer talks out of turn.
    async fn ready(&mut self) -> bool {
        match self {
            Sender::Http1(sender, probe) => sender.ready().await.is_ok() && probe.look() == Sight::Nothing,
            Sender::Http2(sender, probe) => sender.ready().await.is_ok() && probe.look() != Sight::Closed,
        }
    }

    /// Returns what others may use beside this one: the same connection on HTTP/2, nothing on HTTP/1.1.
    fn share(&self) -> Option<Sender> {
        match self {
            Sender::Http1(..) => None,
            Sender::Http2(sender, probe) => Some(Sender::Http2(sender.clone(), probe.clone())),
        }
    }
}
