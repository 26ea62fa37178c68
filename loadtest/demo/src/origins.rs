//! The service itself, in small: an origin for each region, and what reached it.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use loadtest::origin::{Behaviour, Origin, OriginConfig, Received};

use crate::clients;
use crate::fleet::PERSONAL;
use crate::regions::{REGIONS, Region};

/// The origins of all regions. They stop when this is dropped.
pub(crate) struct Origins(Vec<Site>);

struct Site {
    region: &'static Region,
    origin: Origin,
    /// Personal requests of confined clients that came here.
    confined: Arc<AtomicU64>,
    killed: Cell<bool>,
}

impl Origins {
    /// Starts one for each region, on a free loopback port.
    pub(crate) async fn start() -> io::Result<Self> {
        let clients = clients::all().into_iter().filter(|client| client.group.confined);
        let confined: Arc<HashSet<IpAddr>> = Arc::new(clients.map(|client| client.address).collect());
        let mut sites = Vec::new();
        for region in &REGIONS {
            let origin = Origin::start(OriginConfig { kept: 0, ..OriginConfig::named(region.name) }).await?;
            let site = Site { region, origin, confined: Arc::default(), killed: Cell::new(false) };
            let (confined, count) = (confined.clone(), site.confined.clone());
            site.origin.behave(move |received| {
                if received.path.starts_with(PERSONAL) && client(received).is_some_and(|ip| confined.contains(&ip)) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                answer(region, received)
            });
            sites.push(site);
        }
        Ok(Self(sites))
    }

    /// Each region's name with its origin's address.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.0.iter().map(|site| (site.region.name, site.origin.address()))
    }

    /// Ends a region as the death of its processes would: connections break, new ones are refused.
    pub(crate) async fn kill(&self, region: &str) {
        for site in self.0.iter().filter(|site| site.region.name == region) {
            site.killed.set(true);
            site.origin.kill().await;
        }
    }

    /// Brings all regions back.
    pub(crate) async fn revive(&self) -> io::Result<()> {
        for site in &self.0 {
            site.origin.revive().await?;
            site.killed.set(false);
        }
        Ok(())
    }

    /// Whether a region is killed.
    pub(crate) fn is_killed(&self, region: &str) -> bool {
        self.0.iter().any(|site| site.region.name == region && site.killed.get())
    }

    /// Personal requests of confined clients that came to origins inside (`true`) or outside the EU.
    pub(crate) fn confined(&self, in_eu: bool) -> u64 {
        let sites = self.0.iter().filter(|site| site.region.in_eu == in_eu);
        sites.map(|site| site.confined.load(Ordering::Relaxed)).sum()
    }
}

/// Who a request is from, by the fleet's own word: what the node made of it is not asked here.
fn client(received: &Received) -> Option<IpAddr> {
    received.header("x-forwarded-for")?.split(',').next()?.trim().parse().ok()
}

fn answer(region: &Region, received: &Received) -> Behaviour {
    let Region { name, place, .. } = region;
    let country = received.header("x-client-country").unwrap_or("an unknown country");
    let mut response = Response::new(Bytes::from(format!("{name} ({place}) served a client in {country}\n")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Behaviour::Answer(response)
}
