//! The signals that end a node.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a node. They are caught once for each process.
pub(crate) struct Signals {
    /// SIGTERM: drain, then end.
    pub(crate) terminate: Signal,
    /// SIGINT: end.
    pub(crate) interrupt: Signal,
}

impl Signals {
    /// Catches the signals from now on; any runtime of the process may then deliver them.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub(crate) fn catch(runtime: &tokio::runtime::Runtime) -> std::io::Result<Self> {
        let _context = runtime.enter();
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for either signal, and returns its name.
    pub(crate) async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
