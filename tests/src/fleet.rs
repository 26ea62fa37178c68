//! A process for every endpoint of a routing table.

use std::collections::BTreeMap;

use crate::table::{SmallTable, regions_of, rewritten, shipped};
use crate::{Arrival, OriginProcess};

/// The [`OriginProcess`]es of a table's regions, and the table that names them: a [`World`](crate::World) for faults
/// that only processes have. Each origin is named after its region.
pub struct Fleet {
    origins: BTreeMap<String, Vec<OriginProcess>>,
    table: String,
}

impl Fleet {
    /// The fleet of a shipped table, with `failover` as its `[failover]` section, which must come last in it.
    ///
    /// # Panics
    /// When the table cannot be read, or has no such section.
    pub async fn of_example(name: &str, failover: &str) -> Fleet {
        let shipped = shipped(name);
        let mut origins = BTreeMap::new();
        for (region, endpoints) in regions_of(&shipped) {
            origins.insert(region.clone(), start(&region, endpoints).await);
        }
        let addresses = origins.iter().map(|(region, origins)| (region.clone(), addresses(origins))).collect();
        let table = rewritten(&shipped, &addresses);
        let (rest, _) = table.split_once("\n[failover]").expect("a section [failover]");
        Fleet { table: format!("{rest}\n[failover]\n{failover}\n"), origins }
    }

    /// A fleet with so many endpoints for each of these regions (name, country), preferred in this order. `table` says
    /// the rest.
    pub async fn of_regions(regions: &[(&str, &str, usize)], mut table: SmallTable) -> Fleet {
        let mut origins = BTreeMap::new();
        for (region, country, count) in regions {
            let started = start(region, *count).await;
            table = table.region(region, country, &addresses(&started));
            origins.insert((*region).to_owned(), started);
        }
        Fleet { table: table.text(), origins }
    }

    /// The table's text.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The origins of a region.
    ///
    /// # Panics
    /// When there is no such region.
    pub fn region(&mut self, region: &str) -> &mut [OriginProcess] {
        self.origins.get_mut(region).unwrap_or_else(|| panic!("no region {region}"))
    }

    /// The first origin of a region.
    ///
    /// # Panics
    /// When there is no such region.
    pub fn origin(&mut self, region: &str) -> &mut OriginProcess {
        self.region(region).first_mut().expect("an origin")
    }

    /// Kills all origins of a region.
    pub fn kill(&mut self, region: &str) {
        self.region(region).iter_mut().for_each(OriginProcess::kill);
    }

    /// Starts them again, and returns when they listen.
    pub async fn revive(&mut self, region: &str) {
        for origin in self.region(region) {
            origin.revive().await;
        }
    }

    /// Lets all of them treat clients like this.
    pub async fn behave(&mut self, region: &str, behaviour: &str) {
        for origin in self.region(region) {
            origin.behave(behaviour).await;
        }
    }

    /// What a region has received of clients.
    pub async fn received(&mut self, region: &str) -> Vec<Arrival> {
        let mut all = Vec::new();
        for origin in self.region(region) {
            all.extend(origin.received().await);
        }
        all
    }

    /// What all regions but these have received of clients, by region.
    pub async fn received_outside(&mut self, regions: &[&str]) -> Vec<(String, Arrival)> {
        let names: Vec<String> = self.origins.keys().cloned().collect();
        let mut all = Vec::new();
        for name in names.iter().filter(|name| !regions.contains(&name.as_str())) {
            all.extend(self.received(name).await.into_iter().map(|arrival| (name.clone(), arrival)));
        }
        all
    }

    /// Asserts that no origin but those of these regions has received anything of a client.
    ///
    /// # Panics
    /// When one has.
    pub async fn assert_nothing_outside(&mut self, regions: &[&str]) {
        let strays = self.received_outside(regions).await;
        assert!(strays.is_empty(), "outside {regions:?}: {strays:#?}");
    }
}

async fn start(region: &str, count: usize) -> Vec<OriginProcess> {
    let mut origins = Vec::new();
    for _ in 0..count {
        origins.push(OriginProcess::start(region).await);
    }
    origins
}

fn addresses(origins: &[OriginProcess]) -> Vec<std::net::SocketAddr> {
    origins.iter().map(OriginProcess::address).collect()
}
