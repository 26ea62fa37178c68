//! What a command that runs for long prints to stdout: like a node's logs, it holds up nobody.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::output::{Queue, Standard, start};

/// Lines on their way to stdout. Lives as long as its command.
pub(crate) struct Printed(Arc<Queue>);

impl Printed {
    /// Starts the thread that writes them.
    ///
    /// # Errors
    /// When it cannot be started, or there is no stdout.
    pub(crate) fn start() -> io::Result<Self> {
        let lines = Arc::new(Queue::new(MOST_BYTES));
        start("stdout", lines.clone(), Standard::stdout()?, |_| {})?;
        Ok(Self(lines))
    }

    /// Prints a line, which is lost where nobody takes it.
    pub(crate) fn print(&self, line: &str) {
        self.0.push(line.as_bytes());
    }

    /// Has everything written, for `within` at most.
    pub(crate) fn finish(&self, within: Duration) {
        self.0.finish(within);
    }
}

/// Bytes that wait for stdout's reader: of a heartbeat each minute, some days.
const MOST_BYTES: usize = 1024 * 1024;
