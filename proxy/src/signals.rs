//! The signals that a node heeds.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a node heeds. They are caught once for each process.
pub(crate) struct Signals {
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// SIGUSR1 and SIGUSR2, which end no node: what sends them takes it for something else.
    _ignored: [Signal; 2],
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGTERM, or SIGQUIT: drain, then end.
    Leave,
    /// SIGINT: end.
    End,
    /// SIGHUP: look at all files, and open the logs anew.
    Look,
}

impl Signals {
    /// Catches the signals from now on; any runtime of the process may then deliver them.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub(crate) fn catch(runtime: &tokio::runtime::Runtime) -> std::io::Result<Self> {
        let _context = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _ignored: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// Waits for a signal.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Leave,
            _ = self.quit.recv() => Asked::Leave,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Look,
        }
    }
}
