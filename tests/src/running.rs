//! A run of the binary that the test follows.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::signal::signal;
use crate::{Ended, Lines, meridian};

/// A run of the binary that is under way. It is killed when this is dropped.
pub struct Running {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    /// Starts the binary, with nobody at its terminal.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(arguments: &[&str]) -> Running {
        let mut command = Command::new(meridian());
        command.args(arguments).stdin(Stdio::null());
        Running::spawn(command)
    }

    /// Starts the binary, of which nobody hears: the readers of what it writes are gone.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn unheard(arguments: &[&str]) -> Running {
        let mut command = Command::new(meridian());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the binary starts");
        drop((process.stdout.take(), process.stderr.take()));
        Running { stdin: None, process, stdout: Lines::of(std::io::empty()), stderr: Lines::of(std::io::empty()) }
    }

    /// Starts the binary on a terminal, at which somebody may [`answer`](Running::answer). All that it writes is in
    /// [`stdout`](Running::stdout).
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn on_terminal(arguments: &[&str]) -> Running {
        let words = [meridian().to_str().expect("a path in UTF-8")].into_iter().chain(arguments.iter().copied());
        let quoted: Vec<String> = words.map(|word| format!("'{word}'")).collect();
        // script(1) of util-linux: who opens a terminal otherwise needs unsafe code.
        let mut command = Command::new("script");
        command.args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &format!("exec {}", quoted.join(" ")),
            "/dev/null",
        ]);
        command.stdin(Stdio::piped());
        Running::spawn(command)
    }

    fn spawn(mut command: Command) -> Running {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let stdout = Lines::of(process.stdout.take().expect("a pipe"));
        let stderr = Lines::of(process.stderr.take().expect("a pipe"));
        Running { stdin: process.stdin.take(), process, stdout, stderr }
    }

    /// What it writes to stdout.
    pub fn stdout(&self) -> &Lines {
        &self.stdout
    }

    /// What it writes to stderr.
    pub fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// Types a line at its terminal.
    ///
    /// # Panics
    /// When it has none.
    pub fn answer(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("a terminal"), "{line}").expect("a process that listens");
    }

    /// Sends it a signal, such as `INT`.
    ///
    /// # Panics
    /// When that fails.
    pub fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ended(&mut self) -> Ended {
        let text = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect();
        let (stdout, stderr) = (text(self.stdout.to_end().await), text(self.stderr.to_end().await));
        Ended { code: self.process.wait().expect("its exit status").code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
