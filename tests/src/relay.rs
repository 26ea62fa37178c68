//! A relay that makes the way to an origin longer, as a network would: what it passes on, it passes on later.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// A relay before one origin. It takes TCP connections itself, so that a handshake with it is short, however far it
/// makes the origin.
pub struct Relay {
    address: SocketAddr,
    /// There and back, in milliseconds.
    round_trip_ms: Arc<AtomicU64>,
    /// What it does ends with it.
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Stands before an origin, so far from it.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn before(origin: SocketAddr, round_trip: Duration) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let round_trip_ms = Arc::new(AtomicU64::new(round_trip.as_millis() as u64));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, origin, round_trip_ms.clone()));
        Relay { address, round_trip_ms, _tasks: tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the origin so far from now on.
    pub fn set_round_trip(&self, round_trip: Duration) {
        self.round_trip_ms.store(round_trip.as_millis() as u64, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, origin: SocketAddr, round_trip_ms: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect(origin).await else { continue };
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        connections.spawn(pass_on(near_read, far_write, round_trip_ms.clone()));
        connections.spawn(pass_on(far_read, near_write, round_trip_ms.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, round_trip_ms: Arc<AtomicU64>) {
    let mut piece = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        sleep(Duration::from_millis(round_trip_ms.load(Ordering::Relaxed)) / 2).await;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
