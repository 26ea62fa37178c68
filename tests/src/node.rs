//! A running node: the real binary, in a process of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::signal::signal;
use crate::{Answer, Client, Lines, Metrics, Sent, Usage, eventually, get, meridian};

/// A running node. It is killed when it is dropped.
pub struct Node {
    // Dropped before its directory is.
    life: Life,
    directory: TempDir,
    outside: Outside,
}

/// What a node's process is given from outside of its directory.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(crate) stdout: Stdout,
    pub(crate) stderr: Stderr,
    pub(crate) environment: Vec<(String, String)>,
    /// Its limit on open files, unless it is this process's own.
    pub(crate) open_files: Option<u32>,
}

/// What becomes of a node's stderr once it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stderr {
    Read,
    Unread,
    Closed,
}

/// From one start of the process to its death.
struct Life {
    process: Child,
    log: Lines,
    access_log: Option<Lines>,
    /// Kept open, and never read.
    unread: Option<ChildStdout>,
    _unread_log: Option<ChildStderr>,
    listeners: Vec<(String, SocketAddr)>,
}

/// What becomes of a node's stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdout {
    Read,
    Unread,
    Closed,
    Silenced,
    /// `access.log` in its directory.
    File,
}

impl Node {
    pub(crate) async fn start_waiting(directory: TempDir, outside: Outside) -> Node {
        let life = Life::start(directory.path(), &outside).await;
        Node { life, directory, outside }
    }

    /// Waits until it serves: it has a routing table, and its listeners are known.
    ///
    /// # Panics
    /// When it does not.
    pub async fn serves(&mut self) {
        let life = &mut self.life;
        life.log.find("the node's start", |line| message(line).as_deref() == Some("meridian serves")).await;
        life.learn_listeners();
    }

    /// Ends it by a signal, such as `KILL` or `TERM`, and starts it again in the same directory. It returns as
    /// [`Setup::start_waiting`](crate::Setup::start_waiting) does; logs and ports are those of the new life.
    ///
    /// # Panics
    /// When it does not end, or does not start.
    pub async fn restart(&mut self, signal: &str) {
        self.signal(signal);
        self.exited().await;
        self.life = Life::start(self.directory.path(), &self.outside).await;
    }

    /// The address of the first plain listener.
    pub fn http(&self) -> SocketAddr {
        self.listener("http")
    }

    /// The address of the first TLS listener.
    pub fn https(&self) -> SocketAddr {
        self.listener("https")
    }

    /// The address of the admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.listener("admin")
    }

    /// Kind (`http`, `https`, `admin`) and address of every listener of this life, in the order of their log lines.
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        &self.life.listeners
    }

    /// The address of the first listener of a kind.
    fn listener(&self, wanted: &str) -> SocketAddr {
        let found = self.life.listeners.iter().find(|(kind, _)| kind == wanted);
        found.unwrap_or_else(|| panic!("no {wanted} listener among {:?}", self.life.listeners)).1
    }

    /// Sends a request to the admin listener.
    pub async fn ask(&self, sent: &Sent) -> Answer {
        Client::http1(self.admin()).send(&sent.clone().host(&self.admin().to_string())).await
    }

    /// `/status`.
    pub async fn status(&self) -> Value {
        self.ask(&get("/status")).await.json()
    }

    /// Waits until every region has passed its probes, cold ones too, and who has the writes of a pair has been asked.
    pub async fn all_up(&self) {
        eventually("every region up", async || {
            let status = self.status().await;
            let regions = status["regions"].as_array().expect("regions");
            match regions.iter().find(|region| region["health"] != "up" || region["writes"] == "starting") {
                None => Ok(()),
                Some(region) => Err(region.to_string()),
            }
        })
        .await;
    }

    /// `/metrics`.
    pub async fn metrics(&self) -> Metrics {
        Metrics::new(self.ask(&get("/metrics")).await.text().to_owned())
    }

    /// Its own log, JSON lines.
    pub fn log(&self) -> &Lines {
        &self.life.log
    }

    /// Its access log.
    ///
    /// # Panics
    /// When it is not read.
    pub fn access_log(&self) -> &Lines {
        self.life.access_log.as_ref().expect("an access log that is read")
    }

    /// Reads its access log from now on, which nobody has read.
    ///
    /// # Panics
    /// When somebody has.
    pub fn read_access_log(&mut self) {
        let pipe = self.life.unread.take().expect("an access log that is not read");
        self.life.access_log = Some(Lines::of(pipe));
    }

    /// Waits for an event of its own log past the first `skipped` lines.
    pub async fn logged_after(&self, skipped: usize, wanted: &str) -> Value {
        let line =
            self.life.log.find_after(skipped, wanted, |line| message(line).is_some_and(|m| m.starts_with(wanted)));
        serde_json::from_str(&line.await).expect("a log line in JSON")
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces a file of its directory at once: written beside it, and renamed over it.
    ///
    /// # Panics
    /// When that fails.
    pub fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        let beside = self.path(&format!(".{name}.new"));
        std::fs::write(&beside, content).expect("a file");
        std::fs::rename(&beside, self.path(name)).expect("a renamed file");
    }

    /// Writes a file of its directory in place.
    ///
    /// # Panics
    /// When that fails.
    pub fn overwrite(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("a file");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.life.process.id()
    }

    /// Sends it a signal, such as `TERM`.
    ///
    /// # Panics
    /// When that fails.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not.
    pub async fn exited(&mut self) -> ExitStatus {
        self.life.log.to_end().await;
        self.life.process.wait().expect("its exit status")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.life.process.try_wait().expect("its exit status").is_none()
    }

    /// Its resident memory in bytes, without the code that is mapped from the binary.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resident_bytes(&self) -> u64 {
        self.usage().resident_bytes
    }

    /// What it takes of the machine.
    ///
    /// # Panics
    /// When it does not run.
    pub fn usage(&self) -> Usage {
        Usage::of(self.pid())
    }
}

impl Life {
    /// Starts the binary, and returns when its admin listener is known.
    async fn start(directory: &Path, outside: &Outside) -> Life {
        let Outside { stdout, stderr, environment, open_files } = outside;
        let mut command = match open_files {
            None => Command::new(meridian()),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(meridian());
                shell
            }
        };
        command.args(["run", "--log-format", "json", "--config"]).arg(directory.join("node.toml"));
        if *stdout == Stdout::Silenced {
            command.arg("--no-access-log");
        }
        for (name, value) in environment {
            command.env(name, value);
        }
        let output = match stdout {
            Stdout::File => std::fs::File::create(directory.join("access.log")).expect("a file").into(),
            _ => Stdio::piped(),
        };
        let process = command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped()).spawn();
        let mut process = process.expect("the binary starts");
        let pipe = process.stderr.take().expect("a pipe");
        let serves = |line: &str| message(line).as_deref() == Some("meridian serves");
        let (log, unread_log) = match stderr {
            Stderr::Read => (Lines::of(pipe), None),
            Stderr::Unread => {
                let (log, pipe) = Lines::up_to(pipe, serves);
                (log, Some(pipe))
            }
            Stderr::Closed => (Lines::up_to(pipe, serves).0, None),
        };
        let (access_log, unread) = match (stdout, process.stdout.take()) {
            (Stdout::Read | Stdout::Silenced, Some(pipe)) => (Some(Lines::of(pipe)), None),
            (Stdout::Unread, pipe) => (None, pipe),
            _ => (None, None),
        };
        let mut life = Life { process, log, access_log, unread, _unread_log: unread_log, listeners: Vec::new() };
        let is_admin = |line: &str| listener(line).is_some_and(|(kind, _)| kind == "admin");
        life.log.find("the node's admin listener", is_admin).await;
        life.learn_listeners();
        life
    }

    fn learn_listeners(&mut self) {
        self.listeners = self.log.all().iter().filter_map(|line| listener(line)).collect();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log: Vec<String> = self.log.all().into_iter().filter(|line| !line.contains(": warning: ")).collect();
            let last = log.len().saturating_sub(SHOWN);
            eprintln!("the node's log, at most {SHOWN} lines:\n{}", log[last..].join("\n"));
        }
    }
}

/// The message of a log line.
fn message(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    event.get("message")?.as_str().map(str::to_owned)
}

/// Kind and address of a `listening` event.
fn listener(line: &str) -> Option<(String, SocketAddr)> {
    let event: Value = serde_json::from_str(line).ok()?;
    if event.get("message")? != "listening" {
        return None;
    }
    Some((event.get("kind")?.as_str()?.to_owned(), event.get("address")?.as_str()?.parse().ok()?))
}

/// Lines of a node's log that a failed test shows.
const SHOWN: usize = 40;
