//! Tables on their way to a fleet: published as `meridian publish` does it, and what the nodes report of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::Subscriber;
use config::bus::{Bus, BusAccess, Credentials, NodeReport, NodeState, Publication};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::BusServer;
use super::probe::BUCKET;

/// A publisher who hears every report of the nodes. Every method panics when the bus does not do its part.
pub struct BusPublisher {
    bus: Bus,
    reports: Subscriber,
    /// The revision of its last table; 0 before the first.
    revision: u64,
}

/// A table that was published.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its revision.
    pub revision: u64,
    /// The hash of its text, in hexadecimal.
    pub sha256: String,
    /// The moment before the bus was asked to take it.
    began: Instant,
}

/// How a table has travelled.
#[derive(Clone, Debug, Default)]
pub struct Propagation {
    /// From the moment before the bus was asked to take it until the node's report was read that says that the table is
    /// in force: a little more than it took.
    pub applied: BTreeMap<String, Duration>,
    /// Those that have not reported so, and what they have reported last meanwhile.
    pub missing: BTreeMap<String, Option<NodeReport>>,
}

impl BusPublisher {
    /// Connects to a server that lets everybody in, and makes the bucket unless it is there.
    pub async fn connect(server: &BusServer) -> BusPublisher {
        let access = BusAccess {
            servers: vec![server.url()],
            bucket: BUCKET.to_owned(),
            credentials: Credentials::None,
            certificate_authorities: Vec::new(),
            client_certificate: None,
        };
        let bus = Bus::connect(&access, "meridian tests").await.expect("a connection");
        bus.create_bucket(None).await.expect("a bucket");
        let live = bus.live(config::bus::Place::Table).await.expect("an answer");
        let reports = bus.client().subscribe(format!("$KV.{BUCKET}.nodes.>")).await.expect("a subscription");
        bus.client().flush().await.expect("a connection");
        BusPublisher { bus, reports, revision: live.map_or(0, |entry| entry.revision) }
    }

    /// The connection underneath.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Publishes a table for all nodes, by compare-and-set on its last.
    pub async fn publish(&mut self, text: &str) -> Published {
        let issued_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis() as u64;
        let publication = Publication::new(text.to_owned(), 1, issued_ms, "tests");
        let began = Instant::now();
        self.revision = self.bus.publish(&publication, self.revision).await.expect("an acknowledgement");
        Published { revision: self.revision, sha256: publication.sha256(), began }
    }

    /// Waits until all these nodes have reported that this table is in force, or no longer than this after it was
    /// published.
    pub async fn propagation(
        &mut self,
        published: &Published,
        nodes: &BTreeSet<String>,
        patience: Duration,
    ) -> Propagation {
        let mut applied = BTreeMap::new();
        let mut missing: BTreeMap<String, Option<NodeReport>> = nodes.iter().map(|node| (node.clone(), None)).collect();
        while !missing.is_empty() {
            let Ok(message) = timeout_at(published.began + patience, self.reports.next()).await else { break };
            let message = message.expect("a connection");
            let read = published.began.elapsed();
            // A report that was taken away has no text.
            let Ok(report) = serde_json::from_slice::<NodeReport>(&message.payload) else { continue };
            let Some(last) = missing.get_mut(&report.node) else { continue };
            let is_it = (report.revision, &report.sha256) == (published.revision, &published.sha256);
            if report.state == NodeState::Applied && is_it {
                missing.remove(&report.node);
                applied.insert(report.node, read);
            } else {
                *last = Some(report);
            }
        }
        Propagation { applied, missing }
    }
}
