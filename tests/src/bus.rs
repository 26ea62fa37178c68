//! The config bus: a real nats-server with JetStream, which can be killed, stopped and emptied.

mod cluster;
mod operator;
mod options;
mod probe;
mod publisher;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use loadtest::origin::reserve;
use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::{Lines, Usage, signal};

pub use cluster::BusCluster;
pub use operator::BusOperator;
pub use options::{BusOptions, nkey_seed};
pub use probe::{BusProbe, Heard};
pub use publisher::{BusPublisher, Propagation, Published};

/// A nats-server in a process of its own. The process is killed, and its store deleted, when this is dropped.
///
/// Its port is bound here too, without listening: while the process is dead it refuses connections, and belongs to
/// nobody else.
pub struct BusServer {
    options: BusOptions,
    address: SocketAddr,
    _port: TcpSocket,
    directory: TempDir,
    life: Option<Life>,
}

/// From one start of the process to its death.
struct Life {
    process: Child,
    log: Lines,
}

impl BusServer {
    /// Starts one that lets everybody in, and returns when it serves.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> BusServer {
        BusServer::with().start().await
    }

    /// One that is told apart from the default before it starts.
    pub fn with() -> BusOptions {
        BusOptions::default()
    }

    async fn start_with(options: BusOptions) -> BusServer {
        let port = reserve((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = port.local_addr().expect("an address");
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = BusServer { options, address, _port: port, directory, life: None };
        server.revive().await;
        server
    }

    /// Where it listens. It stays the same for all its lives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as clients are told: `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Connects to it as one who may do everything.
    ///
    /// # Panics
    /// When it does not let the probe in.
    pub async fn probe(&self) -> BusProbe {
        let probe = BusProbe::connect(&self.url(), self.options.entry()).await;
        probe.expect("a server that lets the probe in")
    }

    /// Kills it (SIGKILL). When this returns, its port refuses connections. Nothing, if it is dead.
    ///
    /// # Panics
    /// When that fails.
    pub fn kill(&mut self) {
        if let Some(mut life) = self.life.take() {
            life.process.kill().expect("a process of ours");
            life.process.wait().expect("its exit status");
        }
    }

    /// Starts it again after a death, on what its store holds, and returns when it serves. Nothing, if it lives.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn revive(&mut self) {
        if self.life.is_some() {
            return;
        }
        let configuration = self.directory.path().join("nats.conf");
        let text = self.options.configuration(self.address, self.directory.path());
        std::fs::write(&configuration, text).expect("a configuration file");
        let mut command = Command::new(nats_server());
        command.arg("--config").arg(configuration).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("nats-server, which is installed");
        let log = Lines::of(process.stderr.take().expect("a pipe"));
        let life = self.life.insert(Life { process, log });
        // It says so after it has recovered its store and listens.
        life.log.find("a nats-server that serves", |line| line.ends_with("Server is ready")).await;
    }

    /// Kills it, and deletes its store: the next life starts empty, and its sequences start over.
    ///
    /// # Panics
    /// When that fails.
    pub fn wipe(&mut self) {
        self.kill();
        match std::fs::remove_dir_all(self.store()) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("the store stays: {error}"),
            _ => {}
        }
    }

    /// Copies its store, while it is dead, to be [restored](BusServer::restore) later.
    ///
    /// # Panics
    /// When it lives, or that fails.
    pub fn back_up(&self) -> TempDir {
        assert!(self.life.is_none(), "a store is copied while nobody writes to it");
        let copy = tempfile::tempdir().expect("a directory");
        let status = Command::new("cp").arg("-a").arg(self.store()).arg(copy.path().join("store")).status();
        assert!(status.expect("cp").success());
        copy
    }

    /// Puts a copy of its store in place of the store: the next life goes back to that state.
    ///
    /// # Panics
    /// When that fails.
    pub fn restore(&mut self, copy: &TempDir) {
        self.wipe();
        let status = Command::new("cp").arg("-a").arg(copy.path().join("store")).arg(self.store()).status();
        assert!(status.expect("cp").success());
    }

    /// Stops it (SIGSTOP). When this returns, the kernel still takes connections and bytes for it, and nobody answers.
    ///
    /// # Panics
    /// When it is dead.
    pub fn stop(&self) {
        signal::stop(self.pid());
    }

    /// Lets it go on after a [`stop`](BusServer::stop).
    ///
    /// # Panics
    /// When it is dead.
    pub fn go_on(&self) {
        signal::signal(self.pid(), "CONT");
    }

    /// What it takes of the machine.
    ///
    /// # Panics
    /// When it is dead.
    pub fn usage(&self) -> Usage {
        Usage::of(self.pid())
    }

    fn pid(&self) -> u32 {
        self.life.as_ref().expect("a nats-server that lives").process.id()
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join(options::STORE)
    }
}

/// The server's program: that of the variable `MERIDIAN_NATS_SERVER`, or else the machine's own.
fn nats_server() -> PathBuf {
    std::env::var_os("MERIDIAN_NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from)
}

impl Drop for BusServer {
    fn drop(&mut self) {
        if let Some(life) = &mut self.life {
            // It may have ended already.
            let _ = life.process.kill();
            let _ = life.process.wait();
        }
    }
}
