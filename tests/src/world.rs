//! An origin for every endpoint of a routing table.

use std::collections::BTreeMap;

use loadtest::origin::{Behaviour, Origin, OriginConfig, Received};

use crate::bespoke::PROBE;
use crate::table::{SmallTable, regions_of, rewritten, shipped};

/// The origins of a table's regions, and the table that names them. Each origin is named after its region.
pub struct World {
    origins: BTreeMap<String, Vec<Origin>>,
    table: String,
}

impl World {
    /// The world of a shipped table.
    ///
    /// # Panics
    /// When the table cannot be read.
    pub async fn of_example(name: &str) -> World {
        let shipped = shipped(name);
        let mut origins = BTreeMap::new();
        for (region, endpoints) in regions_of(&shipped) {
            origins.insert(region.clone(), start(&region, endpoints).await);
        }
        let addresses = origins.iter().map(|(region, origins)| (region.clone(), addresses(origins))).collect();
        World { table: rewritten(&shipped, &addresses), origins }
    }

    /// A world with an origin for each of these regions (name, country), preferred in this order. `rest` is the rest
    /// of the table.
    pub async fn of_regions(regions: &[(&str, &str)], rest: &str) -> World {
        World::of(regions, SmallTable::new(rest)).await
    }

    /// The same with probes several times a second.
    pub async fn probed_often(regions: &[(&str, &str)], rest: &str) -> World {
        World::of(regions, SmallTable::new(rest).probed_often()).await
    }

    async fn of(regions: &[(&str, &str)], mut table: SmallTable) -> World {
        let mut origins = BTreeMap::new();
        for (region, country) in regions {
            let started = start(region, 1).await;
            table = table.region(region, country, &addresses(&started));
            origins.insert((*region).to_owned(), started);
        }
        World { table: table.text(), origins }
    }

    /// The table's text.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The first origin of a region.
    ///
    /// # Panics
    /// When there is no such region.
    pub fn origin(&self, region: &str) -> &Origin {
        self.region(region).first().expect("an origin")
    }

    /// All origins of a region.
    ///
    /// # Panics
    /// When there is no such region.
    pub fn region(&self, region: &str) -> &[Origin] {
        self.origins.get(region).unwrap_or_else(|| panic!("no region {region}"))
    }

    /// The names of the regions.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        self.origins.keys().map(String::as_str)
    }

    /// Lets every origin of a region behave like this towards all but health probes.
    pub fn behave(&self, region: &str, behaviour: &Behaviour) {
        for origin in self.region(region) {
            let behaviour = behaviour.clone();
            origin.behave(move |received| if is_probe(received) { Behaviour::Normal } else { behaviour.clone() });
        }
    }

    /// All origins of a region die: their ports refuse connections when this returns.
    pub async fn kill(&self, region: &str) {
        for origin in self.region(region) {
            origin.kill().await;
        }
    }

    /// They live again.
    ///
    /// # Panics
    /// When a port is gone.
    pub async fn revive(&self, region: &str) {
        for origin in self.region(region) {
            origin.revive().await.expect("the port is still ours");
        }
    }

    /// What a region has received of clients, health probes left out.
    ///
    /// # Panics
    /// When it has received more than it remembers.
    pub fn received(&self, region: &str) -> Vec<Received> {
        let mut all = Vec::new();
        for origin in self.region(region) {
            // Counted first: a probe may come in between.
            let requests = origin.requests();
            let received = origin.received();
            assert!(received.len() as u64 >= requests, "{region} remembers all that it has received");
            all.extend(received.into_iter().filter(|received| !is_probe(received)));
        }
        all
    }

    /// What all regions but these have received of clients.
    pub fn received_outside(&self, regions: &[&str]) -> Vec<(String, Received)> {
        let others = self.regions().filter(|region| !regions.contains(region));
        others.flat_map(|name| self.received(name).into_iter().map(|received| (name.to_owned(), received))).collect()
    }

    /// Asserts that no origin but those of these regions has received anything of a client.
    ///
    /// # Panics
    /// When one has.
    #[track_caller]
    pub fn assert_nothing_outside(&self, regions: &[&str]) {
        let strays = self.received_outside(regions);
        assert!(strays.is_empty(), "outside {regions:?}: {strays:#?}");
    }
}

/// Whether this is a node's own question. It carries nothing of any client, which is checked here, for every probe of
/// every test; one that comes by a gateway has the fields that the gateway adds, about the node that asks.
pub fn is_probe(received: &Received) -> bool {
    let probe = received.header("user-agent") == Some(PROBE) && received.path.ends_with("/health");
    if probe {
        let theirs = |name: &&str| !["host", "user-agent", "connection"].contains(name);
        let others: Vec<&str> = received.headers.keys().map(http::HeaderName::as_str).filter(theirs).collect();
        let hops = received.header("x-forwarded-for").unwrap_or_default();
        let by_gateway = hops.split(", ").all(|hop| hop == "127.0.0.1");
        let gateways = |name: &&str| ["traceparent", "x-request-id"].contains(name) || name.starts_with("x-forwarded-");
        assert!(others.is_empty() || by_gateway && others.iter().all(gateways), "{received:?}");
        assert_eq!(received.body_length, 0, "{received:?}");
    }
    probe
}

async fn start(region: &str, count: usize) -> Vec<Origin> {
    let mut origins = Vec::new();
    for _ in 0..count {
        let config = OriginConfig { kept: KEPT, ..OriginConfig::named(region) };
        origins.push(Origin::start(config).await.expect("a free port"));
    }
    origins
}

fn addresses(origins: &[Origin]) -> Vec<std::net::SocketAddr> {
    origins.iter().map(Origin::address).collect()
}

/// More than any origin of a test receives.
const KEPT: usize = 100_000;
