//! A new connection to a destination.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use config::{Endpoint, EndpointRole};
use policy::round_trip::Answer;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::body_budget::BodyBudget;
use crate::clock;
use crate::descriptors::unless_past_origins;
use crate::health::endpoint::EndpointState;
use crate::peers::Peers;
use crate::peers::gateway::{Counterpart, GatewayRefusal, GatewayTls};
use crate::peers::identity::CertificateRefusal;
use crate::upstream::balance::Destination;
use crate::upstream::endpoint_connections::{ConnectPermit, PoolKey};
use crate::upstream::http1::{Http1, OriginStream};
use crate::upstream::http2::Http2;
use crate::upstream::http2_tunnel::Http2Tunnel;
use crate::upstream::link::{ConnectError, Link, Speak};
use crate::upstream::origin_connection::OriginConnection;
use crate::upstream::pool::Pool;
use crate::upstream::resolve::{ResolvedAddress, Resolver};
use crate::upstream::socket::{keep_alive, round_trip};

/// How to connect, for every destination of a node. A reload replaces it; any thread uses it.
#[derive(Clone)]
pub(crate) struct Connector {
    /// For each version of HTTP, since ALPN differs.
    http1_tls: Arc<rustls::ClientConfig>,
    http2_tls: Arc<rustls::ClientConfig>,
    gateways: GatewayTls,
    resolver: Resolver,
    timeout: Duration,
    /// How many connectors before it connected otherwise.
    generation: u64,
    roots: Arc<RootCertStore>,
    peers: Arc<Peers>,
    /// Where what origins send counts. A connector has that of the one before.
    bodies: Arc<BodyBudget>,
}

/// A connection that nothing has been sent on.
enum Fresh {
    Silent,
    Http1(Box<Http1>),
    Http2(Http2),
    Tunnel(Box<Http2Tunnel>),
}

impl Connector {
    /// Connects with this TLS configuration, which verifies by `roots`, and to gateways as one of these
    /// peers, giving up after `timeout` (name look-up, TCP, TLS and HTTP/2's SETTINGS together). ALPN is
    /// set here.
    pub(crate) fn new(
        tls: &rustls::ClientConfig,
        roots: Arc<RootCertStore>,
        peers: Arc<Peers>,
        resolver: Resolver,
        timeout: Duration,
    ) -> Self {
        let with_alpn = |protocol: &[u8]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(tls)
        };
        let gateways = GatewayTls::new(tls, peers.clone(), &roots);
        let (http1_tls, http2_tls) = (with_alpn(b"http/1.1"), with_alpn(b"h2"));
        Self { http1_tls, http2_tls, gateways, resolver, timeout, generation: 0, roots, peers, bodies: Arc::default() }
    }

    /// The same, in place of an earlier one. It is of the same generation, and keeps what that knows of names, if it
    /// connects as that does: by the same authorities, as the same node, asking the same name servers.
    #[must_use]
    pub(crate) fn succeeding(self, earlier: &Self) -> Self {
        let asks_the_same = self.resolver.asks_as(&earlier.resolver);
        let trusts_the_same = self.roots.roots == earlier.roots.roots && self.peers.is_same(&earlier.peers);
        let resolver = if asks_the_same { earlier.resolver.with_grace_of(&self.resolver) } else { self.resolver };
        let generation = earlier.generation + u64::from(!(asks_the_same && trusts_the_same));
        Self { resolver, generation, bodies: earlier.bodies.clone(), ..self }
    }

    /// Returns where what origins send counts.
    pub(crate) fn bodies(&self) -> &Arc<BodyBudget> {
        &self.bodies
    }

    /// Returns whom endpoints are verified by.
    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        self.roots.clone()
    }

    /// Reads anew what the system says of names, and has every name looked up; see [`Resolver::read_system`].
    pub(crate) fn read_system_names(&self) -> bool {
        self.resolver.read_system()
    }

    /// Tells connections that were opened otherwise from this connector's own.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Connects to a destination. The permit inside it is the proof that policy allows it. A
    /// connection that requests can share goes to the pool at once, and those that ask for one
    /// meanwhile wait for it, instead of opening one each.
    ///
    /// # Errors
    /// When there is no connection in time; nothing of the request has been sent.
    pub(crate) async fn connect(
        &self,
        destination: &Destination,
        pool: &Pool,
    ) -> Result<OriginConnection, ConnectError> {
        let state = destination.endpoint();
        let speak = destination.speak();
        if speak != Speak::Http2 {
            let opened = self.open(state, destination.server_name(), speak).await;
            if speak == Speak::Tunnel && matches!(opened, Ok(_) | Err(ConnectError::NoTunnels)) {
                state.note_tunnels(opened.is_ok());
            }
            return match opened? {
                Fresh::Http1(connection) => Ok(OriginConnection::Http1(connection)),
                Fresh::Tunnel(connection) => Ok(OriginConnection::Tunnel(connection)),
                Fresh::Http2(_) | Fresh::Silent => Err(ConnectError::NoHttp2),
            };
        }
        let server_name = destination.server_name().cloned();
        let key = PoolKey { endpoint: state.id, generation: self.generation, server_name };
        loop {
            match pool.shared.permit(key.clone()) {
                ConnectPermit::Ready(stream) => return Ok(OriginConnection::Http2(stream)),
                ConnectPermit::Wait(mut failure) => {
                    if let Ok(failure) = failure.wait_for(Option::is_some).await {
                        return Err(ConnectError::Another(failure.clone().unwrap_or_default()));
                    }
                }
                ConnectPermit::Open(single_flight) => {
                    match self.open(state, destination.server_name(), Speak::Http2).await {
                        Ok(Fresh::Http2(connection)) => {
                            state.note_tunnels(connection.takes_tunnels());
                            let stream = single_flight.succeeded(connection).ok_or(ConnectError::NoSettings)?;
                            return Ok(OriginConnection::Http2(stream));
                        }
                        Ok(Fresh::Http1(_) | Fresh::Tunnel(_) | Fresh::Silent) => return Err(ConnectError::NoHttp2),
                        Err(error) => {
                            single_flight.failed((&error).into());
                            return Err(error);
                        }
                    }
                }
            }
        }
    }

    /// Connects to an endpoint for a health probe, which carries nothing of any client, and shares
    /// no connection with any. `None` when nothing is to be spoken, and the endpoint is there.
    ///
    /// # Errors
    /// As for [`Connector::connect`].
    pub(crate) async fn connect_for_probe(
        &self,
        endpoint: &EndpointState,
        server_name: Option<&Arc<str>>,
        speak: Speak,
    ) -> Result<Option<OriginConnection>, ConnectError> {
        Ok(match self.open(endpoint, server_name, speak).await? {
            Fresh::Silent => None,
            Fresh::Http1(connection) => Some(OriginConnection::Http1(connection)),
            Fresh::Tunnel(connection) => Some(OriginConnection::Tunnel(connection)),
            Fresh::Http2(connection) => {
                Some(OriginConnection::Http2(Arc::new(connection).stream().ok_or(ConnectError::NoSettings)?))
            }
        })
    }

    async fn open(
        &self,
        endpoint: &EndpointState,
        server_name: Option<&Arc<str>>,
        speak: Speak,
    ) -> Result<Fresh, ConnectError> {
        // Boxed: most requests find a connection, and their futures need no room for this.
        Box::pin(self.open_in_time(endpoint, server_name, speak)).await
    }

    /// Tries the endpoint's addresses in turn. Each gets an equal share of the time that is left, so
    /// that one where nobody is costs only a part of it.
    async fn open_in_time(
        &self,
        endpoint: &EndpointState,
        server_name: Option<&Arc<str>>,
        speak: Speak,
    ) -> Result<Fresh, ConnectError> {
        let late = |_| ConnectError::Timeout(self.timeout);
        let host = &endpoint.endpoint.host;
        if let Ok(address) = host.parse() {
            let opening = self.open_at(endpoint, server_name, (address, None), speak);
            return timeout(self.timeout, opening).await.map_err(late)?;
        }
        let deadline = clock::timer_now() + self.timeout;
        let looking_up = self.resolver.look_up(host);
        let places = timeout(self.timeout, looking_up).await.map_err(late)??;
        let mut to_try = places.len().min(MAX_ADDRESSES) as u32;
        let mut last = ConnectError::Timeout(self.timeout);
        for place in places.into_iter().take(MAX_ADDRESSES) {
            let share = deadline.saturating_duration_since(clock::timer_now()) / to_try.max(1);
            to_try = to_try.saturating_sub(1);
            match timeout(share, self.open_at(endpoint, server_name, (place.address, Some(place)), speak)).await {
                Ok(Ok(fresh)) => return Ok(fresh),
                // Somebody is there, and says so: no other address of the name is to be found wanting for it.
                Ok(Err(error @ ConnectError::NoTunnels)) => return Err(error),
                // That somebody is there, and no gateway, says more than that nobody is at the next address.
                _ if matches!(last, ConnectError::Gateway(_)) => {}
                Ok(Err(error)) => last = error,
                Err(_) => last = ConnectError::Timeout(share),
            }
        }
        Err(last)
    }

    async fn open_at(
        &self,
        state: &EndpointState,
        server_name: Option<&Arc<str>>,
        (address, place): (IpAddr, Option<ResolvedAddress>),
        speak: Speak,
    ) -> Result<Fresh, ConnectError> {
        let endpoint = &state.endpoint;
        let dialled = clock::now();
        let stream = unless_past_origins(TcpStream::connect((address, endpoint.port)).await?)?;
        state.round_trips.handshake(round_trip(&stream, dialled.elapsed()));
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        let is_gateway = endpoint.role == EndpointRole::Gateway;
        if !endpoint.tls {
            if is_gateway && !self.gateways.signs() {
                return Err(GatewayRefusal::Plain(endpoint.to_string()).into());
            }
            let (counterpart, generation) = (Counterpart::Unproven, self.generation);
            let link = Link { place, counterpart, generation, server_name: None };
            return begin(OriginStream::Plain(stream), link, speak, (state, &self.bodies)).await;
        }
        let asked = server_name.map_or(endpoint.host.as_str(), |name| name);
        let name = ServerName::try_from(asked.to_owned()).map_err(|_| ConnectError::ServerName(asked.to_owned()))?;
        let greeted = clock::now();
        let is_http2 = matches!(speak, Speak::Http2 | Speak::Tunnel) || speak == Speak::Nothing && endpoint.http2;
        let (stream, counterpart) = if is_gateway {
            let (tls, proof) = self.gateways.handshake(if is_http2 { b"h2" } else { b"http/1.1" });
            let stream =
                TlsConnector::from(tls).connect(name, stream).await.map_err(|error| gateway_error(endpoint, error))?;
            (stream, self.gateways.counterpart(&proof, &endpoint.to_string())?)
        } else {
            let tls = if is_http2 { &self.http2_tls } else { &self.http1_tls };
            (TlsConnector::from(tls.clone()).connect(name, stream).await?, Counterpart::Unproven)
        };
        state.round_trips.answered(Answer::Greeting, greeted.elapsed());
        if matches!(speak, Speak::Http2 | Speak::Tunnel) && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectError::NoHttp2);
        }
        let server_name = server_name.cloned();
        let link = Link { place, counterpart, generation: self.generation, server_name };
        begin(OriginStream::Tls(Box::new(stream)), link, speak, (state, &self.bodies)).await.map_err(
            |error| match error {
                // In TLS 1.3 a server looks at the client's certificate after the client's handshake.
                ConnectError::Http2(_) | ConnectError::NoSettings if is_gateway => {
                    GatewayRefusal::NotAccepted { gateway: endpoint.to_string(), why: error_text(&error) }.into()
                }
                error => error,
            },
        )
    }
}

/// Returns what TLS has against a gateway, or a gateway against this node.
fn gateway_error(endpoint: &Endpoint, error: io::Error) -> ConnectError {
    let gateway = endpoint.to_string();
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(refusal) = of_tls.and_then(CertificateRefusal::of) {
        return GatewayRefusal::NoNode { gateway, why: refusal.to_string() }.into();
    }
    match of_tls {
        Some(rustls::Error::General(why)) => GatewayRefusal::NoNode { gateway, why: why.clone() }.into(),
        Some(alert @ rustls::Error::AlertReceived(_)) => {
            GatewayRefusal::NotAccepted { gateway, why: alert.to_string() }.into()
        }
        _ => error.into(),
    }
}

/// Returns an error with all its causes.
pub(crate) fn error_text(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Begins HTTP on an open stream.
async fn begin(
    stream: OriginStream,
    link: Link,
    speak: Speak,
    (endpoint, bodies): (&EndpointState, &Arc<BodyBudget>),
) -> Result<Fresh, ConnectError> {
    match speak {
        Speak::Nothing => Ok(Fresh::Silent),
        Speak::Http1 => Ok(Fresh::Http1(Box::new(Http1::new(stream, link)))),
        Speak::Http2 => Http2::open(stream, link, endpoint.round_trips.clone(), bodies).await.map(Fresh::Http2),
        Speak::Tunnel => Http2Tunnel::open(stream, link, bodies).await.map(|tunnel| Fresh::Tunnel(Box::new(tunnel))),
    }
}

/// Of one name, for one connection.
const MAX_ADDRESSES: usize = 4;

/// Returns the TLS configuration for upstreams: TLS 1.2 and 1.3, verified against `roots`.
///
/// # Errors
/// When the provider offers no such versions, which is a mistake in the build.
pub(crate) fn tls_config(roots: &Arc<RootCertStore>) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    Ok(config)
}
