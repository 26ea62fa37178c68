//! An address from which nothing comes back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::listener;

/// An address where connections hang while they are made: its queue of connections that wait to be accepted is full, so
/// that the kernel drops what else knocks. Dropping it ends that: the address then refuses, or belongs to who binds it.
#[derive(Debug)]
pub struct Blackhole {
    address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Blackhole {
    /// Opens one at an address; port 0 takes a free one. The address may be bound elsewhere, as long as nobody listens
    /// there and both allow it (`SO_REUSEADDR`).
    pub async fn open(address: SocketAddr) -> io::Result<Blackhole> {
        let listener = listener::bind(address)?.listen(0)?;
        let address = listener.local_addr()?;
        let mut queue = Vec::new();
        // A queue of no length holds one connection on Linux. Whoever does not get in has found it full.
        while let Ok(connected) = timeout(KNOCK, TcpStream::connect(address)).await {
            queue.push(connected?);
            if queue.len() > MOST {
                return Err(io::Error::other(format!("{address} takes more connections than it was asked to")));
            }
        }
        Ok(Blackhole { address, _listener: listener, _queue: queue })
    }

    /// Returns where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// How long a connection to loopback would take at most, if it were accepted.
const KNOCK: Duration = Duration::from_millis(250);
const MOST: usize = 16;
