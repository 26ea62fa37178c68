//! Origins in processes of their own, which can be killed and stopped as nothing within a process can.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use loadtest::origin::{Blackhole, reserve};
use serde_json::Value;
use tokio::net::TcpSocket;

use crate::{Lines, patiently, signal};

/// An origin in a process of its own. The process is killed when this is dropped.
///
/// Its port is bound here too, without listening: while the process is dead it refuses connections, and belongs to
/// nobody else.
pub struct OriginProcess {
    name: String,
    address: SocketAddr,
    _port: TcpSocket,
    life: Option<Life>,
    past: Vec<Lines>,
    blackhole: Option<Blackhole>,
}

/// From one start of the process to its death.
struct Life {
    process: Child,
    commands: ChildStdin,
    commanded: usize,
    output: Lines,
    stopped: bool,
}

/// A client's request whose head has arrived at an [`OriginProcess`].
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    headers: Value,
}

impl Arrival {
    /// The value of a header field, if it came.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers[name].as_str()
    }
}

impl OriginProcess {
    /// Starts one on a free port of loopback, and returns when it listens. `name` is its `x-origin`.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(name: &str) -> OriginProcess {
        let port = reserve((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = port.local_addr().expect("an address");
        let (name, past) = (name.to_owned(), Vec::new());
        let mut origin = OriginProcess { name, address, _port: port, life: None, past, blackhole: None };
        origin.revive().await;
        origin
    }

    /// Where it listens. It stays the same for all its lives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it (SIGKILL). When this returns, its port refuses connections. Nothing, if it is dead.
    ///
    /// # Panics
    /// When that fails.
    pub fn kill(&mut self) {
        if let Some(mut life) = self.life.take() {
            life.process.kill().expect("a process of ours");
            life.process.wait().expect("its exit status");
            self.past.push(life.output);
        }
    }

    /// Starts it again after a death, or takes it out of the [`blackhole`](OriginProcess::vanish), and returns when it
    /// listens. Nothing, if it lives. Behaviours are forgotten.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn revive(&mut self) {
        self.blackhole = None;
        if self.life.is_some() {
            return;
        }
        let mut process = Command::new(executable())
            .args([&self.address.to_string(), &self.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the origin's executable, which cargo builds beside this test");
        let commands = process.stdin.take().expect("a pipe");
        let output = Lines::of(process.stdout.take().expect("a pipe"));
        output.find("an origin that listens", |line| line.starts_with("listening ")).await;
        self.life = Some(Life { process, commands, commanded: 0, output, stopped: false });
    }

    /// Kills it, and lets its address swallow connections: they hang while they are made.
    ///
    /// # Panics
    /// When that cannot be arranged.
    pub async fn vanish(&mut self) {
        self.kill();
        self.blackhole = Some(Blackhole::open(self.address).await.expect("an address that is ours"));
    }

    /// Stops it (SIGSTOP): the kernel still takes connections and bytes for it, and nobody answers.
    ///
    /// # Panics
    /// When it is dead.
    pub fn stop(&mut self) {
        let life = self.alive();
        life.stopped = true;
        signal::stop(life.process.id());
    }

    /// Lets it go on after a [`stop`](OriginProcess::stop).
    ///
    /// # Panics
    /// When it is dead.
    pub fn go_on(&mut self) {
        let life = self.alive();
        life.stopped = false;
        signal::signal(life.process.id(), "CONT");
    }

    /// How it treats clients from now on, and those that it now stalls, in the words of
    /// [`loadtest::origin::Behaviour`]. It stands when this returns.
    ///
    /// # Panics
    /// When it is dead.
    pub async fn behave(&mut self, behaviour: &str) {
        self.alive().command(&format!("behave {behaviour}")).await;
    }

    /// The same for health probes.
    ///
    /// # Panics
    /// When it is dead.
    pub async fn treat_probes(&mut self, behaviour: &str) {
        self.alive().command(&format!("probes {behaviour}")).await;
    }

    /// What it reports to health probes as its replication lag, in seconds.
    ///
    /// # Panics
    /// When it is dead.
    pub async fn lag(&mut self, seconds: &str) {
        self.alive().command(&format!("lag {seconds}")).await;
    }

    /// Every request of clients whose head has arrived, over all its lives.
    ///
    /// # Panics
    /// When it is stopped, and cannot tell.
    pub async fn received(&mut self) -> Vec<Arrival> {
        if let Some(life) = &mut self.life {
            assert!(!life.stopped, "{} is stopped", self.name);
            // What it wrote before its answer to this has been read before it.
            life.command("tell").await;
        }
        for life in &self.past {
            life.to_end().await;
        }
        let lives = self.past.iter().chain(self.life.as_ref().map(|life| &life.output));
        lives.flat_map(Lines::all).filter_map(|line| arrival(&line)).collect()
    }

    fn alive(&mut self) -> &mut Life {
        self.life.as_mut().unwrap_or_else(|| panic!("{} is dead", self.name))
    }
}

impl Drop for OriginProcess {
    fn drop(&mut self) {
        if let Some(life) = &mut self.life {
            // It may have ended already.
            let _ = life.process.kill();
            let _ = life.process.wait();
        }
    }
}

impl Life {
    async fn command(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("an origin that listens to us");
        self.commanded += 1;
        let done = format!("done {}", self.commanded);
        patiently(&done, self.output.find(&done, |line| line == done)).await;
    }
}

/// A line of its output, if it is about a client's request.
fn arrival(line: &str) -> Option<Arrival> {
    let mut line: Value = serde_json::from_str(line).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (method, path) = (text(&line["method"])?, text(&line["path"])?);
    let is_client = line["probe"] == false;
    is_client.then(|| Arrival { method, path, headers: line["headers"].take() })
}

/// Cargo builds it for the suite, one level above the suite's own executable.
fn executable() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this test");
    let profile = this.parent().and_then(|deps| deps.parent()).expect("a test below TARGET/PROFILE/deps");
    profile.join("meridian-tests-origin")
}
