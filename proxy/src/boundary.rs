//! The law's dates: the table in force is read anew at each moment at which a rule, or an entry of a list, begins
//! or ends. What is read for the next moment is ready before it comes, so that the swap takes no time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use config::RoutingTable;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use policy::{LawTime, Moment};
use tokio::time::sleep;

use crate::clock::seconds_until;
use crate::node::Node;
use crate::reload;

/// Swaps the table in force at the law's boundaries.
pub(crate) struct Boundaries {
    node: Arc<Node>,
}

impl Boundaries {
    /// Of this node.
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[async_trait]
impl BackgroundService for Boundaries {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = follow(&self.node) => {}
            _ = shutdown.changed() => {}
        }
    }
}

/// The table in force, read for its next boundary.
struct Ahead {
    generation: u64,
    document: RoutingTable,
}

/// Looks at the clock, and swaps when the law reads differently now.
async fn follow(node: &Arc<Node>) {
    let mut ahead: Option<Ahead> = None;
    loop {
        let (routing, now) = (node.routing.load_full(), node.routing.law.now());
        if !routing.table().holds_at(now) {
            cross(node, ahead.take(), now).await;
            continue;
        }
        let next = routing.table().next_boundary();
        let is_read = ahead.as_ref().is_some_and(|ahead| ahead.generation == routing.generation);
        if let Some(next) = next.filter(|next| !is_read && seconds_until(*next, now) <= AHEAD) {
            let document = routing.document.clone();
            let read = tokio::task::spawn_blocking(move || document.at(next.into())).await;
            // What cannot be read ahead is read when its time comes, which tells why.
            let generation = routing.generation;
            ahead = read.ok().and_then(Result::ok).map(|document| Ahead { generation, document });
        }
        sleep(pause(next, now)).await;
    }
}

/// A boundary has come: the law as it reads now goes in force.
async fn cross(node: &Arc<Node>, ahead: Option<Ahead>, now: LawTime) {
    let before = node.routing.load_full();
    let read = ahead.filter(|ahead| ahead.generation == before.generation && ahead.document.table.holds_at(now));
    let crossing = node.clone();
    let crossed =
        tokio::task::spawn_blocking(move || reload::read_anew(&crossing, read.map(|read| read.document))).await;
    match crossed {
        Ok(Ok(routing)) => {
            let table = routing.table();
            let passed: Vec<String> = table
                .spec()
                .boundaries()
                .into_iter()
                .filter(|moment| {
                    let (was, is) = (before.table().spec().at, table.spec().at);
                    was.may_have_reached(*moment) != is.may_have_reached(*moment)
                        || was.has_reached(*moment) != is.has_reached(*moment)
                })
                .map(|moment| moment.to_string())
                .collect();
            let next = table.next_boundary().map(|moment| moment.to_string());
            node.telemetry.metrics.table_reloads.with_label_values(&["boundary"]).inc();
            let (version, revision) = (table.spec().version.as_str(), routing.revision);
            tracing::info!(version, revision, ?passed, next, "the law has changed by date: its table is in force");
            for finding in routing.document.proof.findings.iter() {
                if finding.severity() == policy::proof::Severity::Error {
                    tracing::error!("since {}: {}", table.spec().at.latest(), finding.describe(table.spec()));
                }
            }
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the law of this date cannot be put in force");
            sleep(LONGEST_PAUSE).await;
        }
        Err(error) => {
            tracing::error!(%error, "reading the law of this date has failed");
            sleep(LONGEST_PAUSE).await;
        }
    }
}

/// Returns for how long nothing can change; never long, since a clock may be set.
fn pause(next: Option<Moment>, now: LawTime) -> Duration {
    let until = next.map_or(i64::MAX, |next| seconds_until(next, now));
    // The clock counts whole seconds: in its last one it is looked at often.
    if until <= 1 { SHORTEST_PAUSE } else { LONGEST_PAUSE }
}

/// In seconds: how long before a boundary the table is read for it. The largest tables take seconds.
const AHEAD: i64 = 60;

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arc_swap::ArcSwap;
    use policy::{Facts, Method, Origin, Payload};

    use super::*;
    use crate::cancellations::Cancellations;
    use crate::clock::{self, LawClock, VirtualTime};
    use crate::databases::CurrentDatabases;
    use crate::in_force::InForce;
    use crate::load::Inbox;
    use crate::node::RefusedReloads;
    use crate::occupancy::Occupancy;
    use crate::peers::CurrentPeers;
    use crate::prepare::Components;
    use crate::routing::{CurrentRouting, Edition, PersistedState, Routing};
    use crate::telemetry::Telemetry;
    use crate::telemetry::access_log::AccessLog;
    use crate::telemetry::metrics::Metrics;
    use crate::via::Via;

    /// The Union's data may go to London until 2031-12-27, and from the day after on again.
    const TABLE: &str = "\
[regions.eu]
country = 'DE'
endpoints = ['127.0.0.1:1']
[regions.gb]
country = 'GB'
endpoints = ['127.0.0.1:2']
[jurisdictions.eu]
countries = ['@EU']
[[residency]]
jurisdiction = 'eu'
data_classes = ['personal']
allow = { countries = ['@EU', 'GB'] }
valid_until = '2031-12-27'
[[residency]]
jurisdiction = 'eu'
data_classes = ['personal']
allow = { countries = ['@EU', 'GB'] }
valid_from = '2031-12-28T01:00:00+01:00'
[residency_defaults]
unlisted_jurisdiction = 'allow'
[[routes]]
name = 'r'
data_class = 'personal'
";

    fn node(directory: &Path, time: &Arc<VirtualTime>) -> Arc<Node> {
        let text = "[node]\nname = 'me'\nregion = 'eu'\n[[listeners]]\naddress = '127.0.0.1:0'\n[routing]\nfile = 'routes.toml'\n";
        let config = config::NodeConfig::from_text(&directory.join("node.toml"), text).unwrap();
        std::fs::write(directory.join("routes.toml"), TABLE).unwrap();
        let law = Arc::new(LawClock::of_test(time));
        let document = RoutingTable::load(&directory.join("routes.toml"), law.now()).unwrap();
        let (components, persisted) = (Components::load(&config).unwrap(), PersistedState::default());
        let edition = Edition { generation: 1, published: None };
        let routing = Routing::new(document, "eu", 100, edition, &persisted).unwrap();
        Arc::new(Node {
            routing: CurrentRouting::new(routing, persisted, law),
            databases: CurrentDatabases::new(components.geo),
            tokens: InForce::new(components.tokens),
            peers: CurrentPeers::default(),
            connector: ArcSwap::from_pointee(components.identity.connector),
            listeners: Vec::new(),
            occupancy: Occupancy::default(),
            overload: Default::default(),
            bodies: Default::default(),
            cancellations: Cancellations::default(),
            telemetry: Telemetry { metrics: Metrics::new(), access_log: AccessLog::off(), abuse: Default::default() },
            inbox: Inbox::default(),
            reloads: RefusedReloads::default(),
            bus: None,
            started: clock::unix_seconds(),
            via: Via::new(),
            written: ArcSwap::from_pointee(config.clone()),
            config: InForce::new(config),
        })
    }

    /// Returns where a German's data may go now, and how often the law has changed.
    fn lawful(node: &Node) -> (String, u64) {
        let routing = node.routing.load();
        let table = routing.table();
        let facts = Facts {
            host: "any",
            path: "/",
            method: Method::Get,
            payload: Payload::Nothing,
            origin: Origin::Country("DE".parse().unwrap()),
            declared: &[],
            consent: true,
            client_at: None,
            client_key: 0,
            from: routing.here,
            pinned: None,
            only: None,
            criticality: None,
        };
        let regions = table.regions().filter(|(id, _)| policy::decide::is_lawful(table, &facts, *id));
        let names: Vec<&str> = regions.map(|(_, region)| region.name.as_str()).collect();
        (names.join(" "), node.telemetry.metrics.table_reloads.with_label_values(&["boundary"]).get())
    }

    /// Lets that time pass, and the law's task have what it needs of it.
    async fn pass(seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
        sleep(Duration::from_millis(50)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_in_force_changes_at_each_boundary_and_a_clock_set_back_reopens_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let time = VirtualTime::starting("2031-12-26T23:58:00Z".parse().unwrap());
        let node = node(directory.path(), &time);
        let following = tokio::spawn({
            let node = node.clone();
            async move { follow(&node).await }
        });
        pass(119).await;
        assert_eq!(lawful(&node), ("eu gb".into(), 0), "a second before");
        pass(1).await;
        assert_eq!(lawful(&node), ("eu".into(), 1), "at the boundary");

        time.set_ahead_by(-3600);
        pass(60).await;
        assert_eq!(lawful(&node), ("eu".into(), 1), "the clock was set back");
        reload::reload_table(&node);
        std::fs::write(directory.path().join("routes.toml"), format!("{TABLE}# anew\n")).unwrap();
        reload::reload_table(&node);
        assert_eq!(lawful(&node), ("eu".into(), 1), "a table that is loaded then is read at the law's time");
        time.set_ahead_by(3600);

        pass(86_400).await;
        assert_eq!(lawful(&node), ("eu gb".into(), 2), "the next rule has begun");
        assert!(node.routing.load().table().next_boundary().is_none());
        assert!(!following.is_finished());
        following.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_leap_ahead_closes_what_may_be_over_and_opens_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let time = VirtualTime::starting("2026-11-29".parse().unwrap());
        let node = node(directory.path(), &time);
        let following = tokio::spawn({
            let node = node.clone();
            async move { follow(&node).await }
        });
        pass(5).await;
        assert_eq!(lawful(&node), ("eu gb".into(), 0));
        // To 2034, when the second rule would be in force.
        time.set_ahead_by(86_400 * 365 * 7 + 86_400 * 100);
        pass(2).await;
        assert_eq!(lawful(&node), ("eu".into(), 1), "London may be over, and its return may not have begun");
        time.set_ahead_by(-86_400 * 365 * 7 - 86_400 * 100);
        pass(2).await;
        assert_eq!(lawful(&node), ("eu".into(), 1), "until a restart");
        following.abort();
    }
}
