//! A small real HTTP server that answers, counts and misbehaves on command: the upstream in benches, tests and demos.

mod behaviour;
mod blackhole;
mod body;
mod connection;
mod listener;
mod record;
mod reset;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::net::TcpSocket;

use self::behaviour::Conduct;
pub use self::behaviour::{Behaviour, BehaviourError};
pub use self::blackhole::Blackhole;
use self::listener::Listener;
pub use self::listener::reserve;
pub use self::record::Received;
use self::record::Record;
use crate::Protocol;

/// A running origin. It stops when it is dropped.
pub struct Origin {
    address: SocketAddr,
    site: Arc<Site>,
    listener: Mutex<Option<Listener>>,
    /// Bound but not listening: while the origin is killed its port refuses connections, and belongs to nobody else.
    _port: TcpSocket,
}

/// What an origin serves, and where.
#[derive(Clone, Debug)]
pub struct OriginConfig {
    /// The address to bind; port 0 takes a free one.
    pub address: SocketAddr,
    /// The value of the response header `x-origin`.
    pub name: String,
    /// The body of a normal answer.
    pub body: Bytes,
    /// The HTTP version it speaks; HTTP/2 without TLS needs prior knowledge (h2c).
    pub protocol: Protocol,
    /// Its TLS, plain without. The protocol to negotiate by ALPN is set by `protocol`.
    pub tls: Option<rustls::ServerConfig>,
    /// How many of the latest requests it keeps; 0 is the fastest.
    pub kept: usize,
    /// Called with each request as soon as its head has arrived.
    pub witness: Option<fn(&Received)>,
}

/// What all connections of an origin share; it outlives a kill.
struct Site {
    name: http::HeaderValue,
    body: Bytes,
    protocol: Protocol,
    tls: Option<tokio_rustls::TlsAcceptor>,
    conduct: Conduct,
    record: Record,
    witness: Option<fn(&Received)>,
}

impl Default for OriginConfig {
    /// Plain HTTP/1.1 on a free loopback port, `ok` as the body, the last 1,024 requests kept.
    fn default() -> OriginConfig {
        OriginConfig {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            name: "origin".to_owned(),
            body: Bytes::from_static(b"ok"),
            protocol: Protocol::Http1,
            tls: None,
            kept: 1_024,
            witness: None,
        }
    }
}

impl OriginConfig {
    /// Returns the default under another name.
    pub fn named(name: impl Into<String>) -> OriginConfig {
        OriginConfig { name: name.into(), ..OriginConfig::default() }
    }
}

impl Origin {
    /// Binds and serves, in tasks of the current runtime.
    pub async fn start(config: OriginConfig) -> io::Result<Origin> {
        let name = http::HeaderValue::try_from(&config.name).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("no header can carry {:?}", config.name))
        })?;
        let tls = config.tls.map(|mut tls| {
            tls.alpn_protocols = vec![config.protocol.alpn().to_vec()];
            Arc::new(tls).into()
        });
        let port = reserve(config.address)?;
        let origin = Origin {
            address: port.local_addr()?,
            site: Arc::new(Site {
                name,
                body: config.body,
                protocol: config.protocol,
                tls,
                conduct: Conduct::default(),
                record: Record::new(config.kept),
                witness: config.witness,
            }),
            listener: Mutex::new(None),
            _port: port,
        };
        origin.revive().await?;
        Ok(origin)
    }

    /// Returns where it listens. It stays the same for life.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far. An origin with none has not been sent a byte.
    pub fn connections(&self) -> u64 {
        self.site.record.connections()
    }

    /// Requests whose head has arrived so far.
    pub fn requests(&self) -> u64 {
        self.site.record.requests()
    }

    /// Returns the latest requests, oldest first, at most `kept` of them.
    pub fn received(&self) -> Vec<Received> {
        self.site.record.received()
    }

    /// Resolves once `count` requests have arrived whole since the start; at once if they have.
    pub async fn arrived(&self, count: u64) {
        self.site.record.arrived(count).await;
    }

    /// How it treats every request from now on, and those that it now stalls.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.behave(move |_| behaviour.clone());
    }

    /// Decides request by request, for instance by path, from now on and for those that it now stalls.
    pub fn behave(&self, choose: impl Fn(&Received) -> Behaviour + Send + Sync + 'static) {
        self.site.conduct.set(Arc::new(choose));
    }

    /// Closes the listener and every connection, as the death of the process would. When this returns, the port
    /// refuses connections. Counts, record and behaviour stay.
    pub async fn kill(&self) {
        let listener = self.lock().take();
        if let Some(listener) = listener {
            listener.close().await;
        }
    }

    /// Listens again on the same address after a [`kill`](Origin::kill); otherwise does nothing.
    ///
    /// # Errors
    /// When it cannot. Linux now and then says for a moment that the address is in use though nobody listens there.
    pub async fn revive(&self) -> io::Result<()> {
        for _ in 0..MOST_TRIES {
            match self.listen() {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => tokio::time::sleep(PAUSE).await,
                result => return result,
            }
        }
        self.listen()
    }

    fn listen(&self) -> io::Result<()> {
        let mut listener = self.lock();
        if listener.is_none() {
            *listener = Some(Listener::open(self.address, Arc::clone(&self.site))?);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Together half a minute, as long as the tests wait for anything.
const MOST_TRIES: u32 = 300;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
