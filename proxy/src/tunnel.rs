//! A tunnel: what is left of a request once its protocol was upgraded. Bytes go both ways until either
//! side ends it, it idles for too long, or its region may no longer serve it.
//!
//! It is no request in flight of its node or its region, since it may rest for hours: it has a limit of
//! its own, which it is admitted by before its origin is dialled.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::sleep;

use crate::clock;
use crate::clock::coarse_ms;
use crate::node::Worker;
use crate::occupancy::{InFlight, Occupancy};
use crate::request_log::RequestLog;
use crate::revocation::LOOK;
use crate::telemetry::access_log::line::{TunnelEnd, TunnelSummary};
use crate::tunnel_stream::TunnelStream;

/// Waits for the client's side of a tunnel, which is there once the answer's head was written. An error when its connection
/// has ended before.
pub(crate) type ClientSide = Pin<Box<dyn Future<Output = io::Result<Box<dyn TunnelStream>>> + Send>>;

/// A tunnel that both sides have agreed on. It runs in a task of its own, on its worker's thread.
pub(crate) struct Tunnel {
    /// The client's side.
    pub(crate) client: ClientSide,
    /// The origin's side.
    pub(crate) upstream: Box<dyn TunnelStream>,
    /// The name of its region.
    pub(crate) region: String,
    /// Its place among the node's tunnels.
    pub(crate) place: InFlight,
}

/// Takes a place among the node's tunnels; `None` when they are all taken.
pub(crate) fn admit(occupancy: &Occupancy, most: usize) -> Option<InFlight> {
    let place = InFlight::enter(&occupancy.tunnels);
    (occupancy.tunnels.load(Ordering::Relaxed) <= most).then_some(place)
}

impl Tunnel {
    /// Carries bytes both ways to the tunnel's end, with which its exchange ends.
    pub(crate) async fn run(self, mut log: Box<RequestLog>) {
        let Self { client, upstream, region, place: _place } = self;
        log.leave_flight();
        let worker = log.worker.clone();
        let metrics = &worker.node.telemetry.metrics;
        let counter = |direction| metrics.tunnel_bytes.with_label_values(&[region.as_str(), direction]);
        let traffic = Arc::new(TunnelTraffic::new(counter("up"), counter("down")));
        let _open = OpenTunnel::new(&worker, metrics.tunnels.with_label_values(&[&region]));
        let began = clock::now();
        // A client that does not even take the answer's head has no tunnel.
        let patience = worker.node.config.load().limits.header_timeout;
        let mut upstream = CountedStream { inner: upstream, traffic: traffic.clone() };
        let ended = match tokio::time::timeout(patience, client).await {
            Ok(Ok(mut client)) => {
                let (is_cut_below, is_cut_above) = (client.is_cut(), upstream.inner.is_cut());
                let ended = tokio::select! {
                    // What came before the end has yet to be carried.
                    biased;
                    copied = copy_bidirectional(&mut client, &mut upstream) => match copied {
                        Ok(_) => TunnelEnd::Closed,
                        Err(error) => {
                            tracing::debug!(%error, region, "tunnel broken");
                            TunnelEnd::Broken
                        }
                    },
                    () = is_cut_below => TunnelEnd::Broken,
                    () = is_cut_above => TunnelEnd::Broken,
                    ended = must_end(&mut log, &traffic) => ended,
                };
                if ended == TunnelEnd::Broken {
                    // What came before it broke has yet to pass the tasks that write to sockets.
                    for _ in 0..TURNS_TO_WRITE {
                        tokio::task::yield_now().await;
                    }
                }
                if ended != TunnelEnd::Closed {
                    client.cut();
                }
                ended
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, region, "tunnel not opened");
                TunnelEnd::Broken
            }
            Err(_) => TunnelEnd::Broken,
        };
        if ended != TunnelEnd::Closed {
            upstream.inner.cut();
        }
        metrics.tunnel_seconds.with_label_values(&[&region]).observe(began.elapsed().as_secs_f64());
        metrics.tunnels_ended.with_label_values(&[region.as_str(), ended.name()]).inc();
        let (bytes_up, bytes_down) = (traffic.up.load(Ordering::Relaxed), traffic.down.load(Ordering::Relaxed));
        log.tunnelled(TunnelSummary { bytes_up, bytes_down, ended });
    }
}

/// Over HTTP/2 the connection's task writes to the socket; and one turn to spare.
const TURNS_TO_WRITE: usize = 2;

/// Waits until a tunnel must end by the node's will.
async fn must_end(log: &mut RequestLog, traffic: &TunnelTraffic) -> TunnelEnd {
    loop {
        if let Some(why) = log.revoked() {
            log.end_revoked("tunnel", why);
            return TunnelEnd::Revoked;
        }
        let most = log.worker.node.config.load().limits.tunnel_idle_timeout;
        let Some(left) = most.checked_sub(traffic.idle()).filter(|left| !left.is_zero()) else {
            return TunnelEnd::Idle;
        };
        let ends = log.ends_at().map_or(LOOK, |at| at.saturating_duration_since(clock::now()));
        sleep(left.min(LOOK).min(ends)).await;
    }
}

/// Counts a tunnel as open, for as long as it lives: on its worker as well, which it keeps as busy as
/// a connection does.
struct OpenTunnel<'a> {
    worker: &'a Worker,
    gauge: IntGauge,
}

impl<'a> OpenTunnel<'a> {
    fn new(worker: &'a Worker, gauge: IntGauge) -> Self {
        worker.connections.fetch_add(1, Ordering::Relaxed);
        gauge.inc();
        Self { worker, gauge }
    }
}

impl Drop for OpenTunnel<'_> {
    fn drop(&mut self) {
        self.gauge.dec();
        self.worker.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What has gone through a tunnel, and when it last did.
struct TunnelTraffic {
    up: AtomicU64,
    down: AtomicU64,
    up_total: IntCounter,
    down_total: IntCounter,
    /// Milliseconds of [`coarse_ms`].
    last: AtomicU64,
}

impl TunnelTraffic {
    fn new(up_total: IntCounter, down_total: IntCounter) -> Self {
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { up, down, up_total, down_total, last: AtomicU64::new(coarse_ms()) }
    }

    fn count(&self, count: &AtomicU64, total: &IntCounter, bytes: usize) {
        if bytes > 0 {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
            total.inc_by(bytes as u64);
            self.last.store(coarse_ms(), Ordering::Relaxed);
        }
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(coarse_ms().saturating_sub(self.last.load(Ordering::Relaxed)))
    }
}

/// The origin's side of a tunnel, on which all of its bytes are counted.
struct CountedStream {
    inner: Box<dyn TunnelStream>,
    traffic: Arc<TunnelTraffic>,
}

impl AsyncRead for CountedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let TunnelTraffic { down, down_total, .. } = &*self.traffic;
        self.traffic.count(down, down_total, buffer.filled().len().saturating_sub(before));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        let TunnelTraffic { up, up_total, .. } = &*self.traffic;
        self.traffic.count(up, up_total, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
