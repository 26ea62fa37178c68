//! When the user wants an end.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at SIGINT or SIGTERM; never, where they cannot be caught (they then end the process themselves).
pub(super) async fn stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
