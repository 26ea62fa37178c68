//! Several nats-servers that are one cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use loadtest::origin::reserve;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::nats_server;
use crate::{Lines, eventually};

/// Nats-servers with JetStream, as one cluster. Their processes are killed, and their stores deleted, when this is
/// dropped.
pub struct BusCluster {
    members: Vec<Member>,
    _directory: TempDir,
}

struct Member {
    clients: SocketAddr,
    process: Child,
    log: Lines,
    /// Bound here too, as that of a single server is: nobody else gets them.
    _ports: [TcpSocket; 2],
}

impl BusCluster {
    /// Starts so many, and returns when they have a leader.
    ///
    /// # Panics
    /// When they do not start, or elect none.
    pub async fn start(size: usize) -> BusCluster {
        let directory = tempfile::tempdir().expect("a directory");
        let ports: Vec<[TcpSocket; 2]> = (0..size).map(|_| [port(), port()]).collect();
        let routes: Vec<String> = ports.iter().map(|[_, routes]| format!("\"nats://{}\"", address(routes))).collect();
        let start = |(number, ports): (usize, [TcpSocket; 2])| {
            let (clients, own) = (address(&ports[0]), address(&ports[1]));
            let configuration = directory.path().join(format!("{number}.conf"));
            let store = directory.path().join(number.to_string());
            let text = format!(
                "server_name: n{number}\nlisten: \"{clients}\"\njetstream {{ store_dir: {store:?} }}\n\
                 cluster {{ name: tests, listen: \"{own}\", routes: [{}] }}\n",
                routes.join(", ")
            );
            std::fs::write(&configuration, text).expect("a configuration file");
            let mut command = Command::new(nats_server());
            command.arg("--config").arg(configuration).stdin(Stdio::null()).stderr(Stdio::piped());
            let mut process = command.spawn().expect("nats-server, which is installed");
            let log = Lines::of(process.stderr.take().expect("a pipe"));
            Member { clients, process, log, _ports: ports }
        };
        let cluster = BusCluster { members: ports.into_iter().enumerate().map(start).collect(), _directory: directory };
        for member in &cluster.members {
            member.log.find("a nats-server that serves", |line| line.ends_with("Server is ready")).await;
        }
        for url in cluster.urls() {
            let client = async_nats::connect(&url).await.expect("a member that listens");
            // The leader answers that, by way of each member that knows it.
            eventually("a cluster with a leader", async || {
                let asked = client.request("$JS.API.STREAM.NAMES", "{}".into());
                let answer = timeout(Duration::from_secs(1), asked).await.map_err(|_| "no answer".to_owned())?;
                let answer = answer.map_err(|error| error.to_string())?;
                let text = String::from_utf8_lossy(&answer.payload).into_owned();
                if text.contains("\"error\"") { Err(text) } else { Ok(()) }
            })
            .await;
        }
        cluster
    }

    /// Where they listen, as clients are told.
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("nats://{}", member.clients)).collect()
    }
}

impl Drop for BusCluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended already.
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

fn port() -> TcpSocket {
    reserve((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port")
}

fn address(port: &TcpSocket) -> SocketAddr {
    port.local_addr().expect("an address")
}
