//! The ingress: a node in a process of its own, as in earnest.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// A running ingress. It ends when this is dropped, and also when this process ends in a way that
/// drops nothing.
pub(crate) struct Ingress {
    process: Child,
    /// Where it takes HTTPS.
    pub(crate) https: SocketAddr,
    /// Where it takes HTTP, to redirect it.
    pub(crate) http: SocketAddr,
    /// Where it answers questions.
    pub(crate) admin: SocketAddr,
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Ingress {
    /// Starts the ingress, and returns once it serves.
    pub(crate) async fn start(node_file: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program is not known")?;
        let mut process = Command::new(program)
            // Stdin ends however the demo ends, be it by SIGKILL: it alone holds the pipe's other end.
            .args(["run", "--until-stdin-ends", "--no-access-log", "--log-format", "json", "--config"])
            .arg(node_file)
            // The demo waits for lines that a filter might hide.
            .env_remove("MERIDIAN_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for the demo, which then ends the ingress.
            .process_group(0)
            .spawn()
            .context("cannot start the ingress")?;
        let stderr = process.stderr.take();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        // From here on an early return ends the process.
        let mut ingress = Self { process, https: nowhere, http: nowhere, admin: nowhere, tail: Arc::default() };
        let stderr = stderr.context("the ingress has no stderr")?;
        let (sender, receiver) = unbounded_channel();
        let tail = ingress.tail.clone();
        std::thread::Builder::new().name("ingress-log".into()).spawn(move || read_log(stderr, &tail, &sender))?;
        let found = timeout(PATIENCE, listening(receiver)).await.ok().flatten();
        let addresses = found.ok_or_else(|| anyhow!("the ingress does not serve; {}", ingress.last_words()))?;
        let address = |kind| addresses.get(kind).copied().ok_or_else(|| anyhow!("the ingress has no {kind} listener"));
        (ingress.https, ingress.http, ingress.admin) = (address("https")?, address("http")?, address("admin")?);
        Ok(ingress)
    }

    /// An error with the ingress's last words, if it has ended: then that is why.
    pub(crate) fn blamed_for(&mut self, error: anyhow::Error) -> anyhow::Error {
        match self.process.try_wait() {
            Ok(Some(status)) => error.context(format!("the ingress ended ({status}); {}", self.last_words())),
            _ => error,
        }
    }

    fn last_words(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: String = tail.iter().map(|line| format!("\n  {line}")).collect();
        format!("its log ends with{lines}")
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end or to wait for.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What a line of the log tells.
enum Event {
    Listening { kind: String, address: SocketAddr },
    Serves,
}

/// Collects addresses until the node serves; `None` when its log ends before that.
async fn listening(mut events: UnboundedReceiver<Event>) -> Option<HashMap<String, SocketAddr>> {
    let mut addresses = HashMap::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Listening { kind, address } => drop(addresses.insert(kind, address)),
            Event::Serves => return Some(addresses),
        }
    }
    None
}

/// Reads the log to its end, so that the ingress never waits for a reader, and keeps its last lines.
fn read_log(stderr: ChildStderr, tail: &Mutex<VecDeque<String>>, events: &UnboundedSender<Event>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some(event) = event(&line) {
            // Nobody listens any more once it serves.
            drop(events.send(event));
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}

fn event(line: &str) -> Option<Event> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let word = |key: &str| line.get(key)?.as_str();
    match word("message")? {
        "listening" => {
            Some(Event::Listening { kind: word("kind")?.to_owned(), address: word("address")?.parse().ok()? })
        }
        "meridian serves" => Some(Event::Serves),
        _ => None,
    }
}

/// A node takes a fraction of a second; a machine under test may be busy.
const PATIENCE: Duration = Duration::from_secs(20);
const TAIL: usize = 20;
