//! The signals that end a node.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a node. They are caught once for each process.
pub struct Signals {
    /// SIGTERM: drain, then end.
    pub terminate: Signal,
    /// SIGINT: end.
    pub interrupt: Signal,
}

impl Signals {
    /// Catches the signals from now on; any runtime of the process may then deliver them.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn catch(runtime: &tokio::runtime::Runtime) -> std::io::Result<Self> {
        let _context = runtime.enter();
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for either signal, and returns its name.
    pub async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
