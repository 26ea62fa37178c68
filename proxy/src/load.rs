//! Load reports: what this node tells the others of the load of regions, and what it takes from them.
//!
//! ```text
//! counts of endpoints --meter.rs, each second--> LoadReport --> whoever carries it
//!
//! a report that came --Inbox::receive--> FleetLoad --Inbox::settle, the watch's tick--> health/reported_load.rs --> decisions
//! ```
//!
//! The node hears its own reports as it hears the others', over the bus: so the sum has its own part
//! exactly when it has the others', and a node that the bus has lost falls back to what it knows.

pub(crate) mod meter;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::LoadReport;
use policy::load::FleetLoad;

use crate::clock::uptime;
use crate::routing::Routing;
use crate::telemetry::metrics::Metrics;

/// Takes a report that has come for a region, and counts the outcome. `is_known` says whether a
/// node of this name, in a region of that, is one of the fleet.
pub(crate) fn receive(
    (inbox, routing, metrics): (&Inbox, &Routing, &Metrics),
    region: &str,
    payload: &[u8],
    is_known: impl FnOnce(&str, &str) -> bool,
) -> ReportOutcome {
    let outcome = inbox.receive(routing, region, payload, is_known, uptime());
    metrics.load_reports.with_label_values(&[outcome.name()]).inc();
    outcome
}

/// Returns the subject on which a region's load is reported.
pub(crate) fn subject(region: &str) -> String {
    format!("{PREFIX}{region}")
}

/// Returns the region whose load is reported on a subject of [`SUBJECTS`].
pub(crate) fn region_of(subject: &str) -> Option<&str> {
    subject.strip_prefix(PREFIX)
}

/// Every such subject. A region's name may have dots in it.
pub(crate) const SUBJECTS: &str = "meridian.load.>";

const PREFIX: &str = "meridian.load.";

/// What the nodes of the fleet have reported of the load of regions. One for each node; the bus' thread fills it, and
/// the watch over upstreams reads it.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<FleetLoad>);

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportOutcome {
    /// It counts.
    Taken,
    /// It is longer than [`LoadReport::MAX_BYTES`].
    TooLarge,
    /// The table has no such region.
    UnknownRegion,
    /// It is no report.
    Malformed,
    /// The node is none of the fleet's, or is not where it says.
    UnknownNode,
    /// So many nodes report already that there is no place for another.
    Full,
}

impl ReportOutcome {
    /// Returns its word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::TooLarge => "too_large",
            Self::UnknownRegion => "unknown_region",
            Self::Malformed => "malformed",
            Self::UnknownNode => "unknown_node",
            Self::Full => "full",
        }
    }
}

impl Inbox {
    /// Takes a report on `region`. Decisions see it after the next [`Inbox::settle`]: so that however
    /// many come, each costs no more than to be read.
    pub(crate) fn receive(
        &self,
        routing: &Routing,
        region: &str,
        payload: &[u8],
        is_known: impl FnOnce(&str, &str) -> bool,
        now: Duration,
    ) -> ReportOutcome {
        if payload.len() > LoadReport::MAX_BYTES {
            return ReportOutcome::TooLarge;
        }
        if routing.table().region_named(region).is_none() {
            return ReportOutcome::UnknownRegion;
        }
        let Ok(report) = serde_json::from_slice::<LoadReport>(payload) else { return ReportOutcome::Malformed };
        if !is_known(&report.node, &report.region) {
            return ReportOutcome::UnknownNode;
        }
        if report.region == routing.table().region(routing.here).name {
            self.note_round_trips(routing, &report);
        }
        self.lock().take(region, &report, now).map_or(ReportOutcome::Full, |()| ReportOutcome::Taken)
    }

    /// Shows decisions what the reports come to, and forgets the old ones.
    pub(crate) fn settle(&self, routing: &Routing, now: Duration) {
        let mut fleet = self.lock();
        fleet.forget(now, |region| routing.table().region_named(region).is_some());
        for (_, region, cell) in routing.regions() {
            cell.state.reported.set(fleet.reported(&region.name, region.capacity_rps, now), now);
        }
    }

    /// Takes what a node of this node's own region measures: it is as far from all the others. A node hears its own
    /// reports too, which do not change what they are made of.
    fn note_round_trips(&self, routing: &Routing, report: &LoadReport) {
        for (to, ms) in &report.round_trips {
            if let Some(id) = routing.table().region_named(to) {
                routing.region(id).state.round_trip.report(*ms);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, FleetLoad> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::traffic::TrafficSource;
    use crate::load::meter::LoadMeter;
    use crate::occupancy::InFlight;
    use crate::routing::PersistedState;
    use policy::{RegionId, View};

    /// A node in `a`, which dials `b` itself and `c` by its gateway.
    const TABLE: &str = "\
[regions.a]
country = 'DE'
endpoints = ['10.0.0.1:80', '10.0.0.2:80']
[regions.b]
country = 'FR'
capacity_rps = 1000
endpoints = ['10.0.1.1:80']
[regions.c]
country = 'IE'
endpoints = ['10.0.2.1:80']
gateway = 'c.example:443'
[[routes]]
name = 'r'
";

    fn routing(text: &str, persisted: &PersistedState) -> Routing {
        let document = config::RoutingTable::from_text(std::path::Path::new("routes.toml"), text, crate::clock::wall())
            .unwrap_or_else(|problems| panic!("{problems}"));
        let edition = crate::routing::Edition { generation: 1, revision: 1 };
        Routing::new(document, "a", 128, edition, persisted).unwrap()
    }

    fn id(routing: &Routing, name: &str) -> RegionId {
        routing.table().region_named(name).unwrap()
    }

    fn utilisation(routing: &Routing, name: &str) -> f32 {
        View::region(routing, id(routing, name)).utilisation
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn send(routing: &Routing, region: &str, endpoint: usize, times: usize) {
        let endpoint = &routing.region(id(routing, region)).endpoints[endpoint];
        let source = TrafficSource { client_key: 1, interval: secs(10) };
        (0..times).for_each(|_| endpoint.on_answer(source, false, false));
    }

    /// `region: in flight of cap, rps`
    fn told(meter: &mut LoadMeter, routing: &Routing, at: u64) -> Vec<String> {
        let reports = meter.reports("n1", routing, secs(at)).into_iter();
        let line = |(region, report): (String, LoadReport)| {
            assert_eq!((report.node.as_str(), report.region.as_str()), ("n1", "a"));
            format!("{region}: {} of {}, {}", report.requests_in_flight, report.cap, report.rps)
        };
        reports.map(line).collect()
    }

    #[test]
    fn what_comes_is_taken_or_refused_for_one_reason() {
        let (routing, inbox) = (routing(TABLE, &PersistedState::default()), Inbox::default());
        let good = r#"{"node":"n2","region":"b","requests_in_flight":5,"cap":10,"rps":1}"#;
        let long = format!("{good}{}", " ".repeat(LoadReport::MAX_BYTES));
        let known = |node: &str, region: &str| (node, region) == ("n2", "b");
        for (region, payload, outcome) in [
            ("b", good, ReportOutcome::Taken),
            ("a", good, ReportOutcome::Taken),
            ("x", good, ReportOutcome::UnknownRegion),
            ("b", &long, ReportOutcome::TooLarge),
            ("b", "{", ReportOutcome::Malformed),
            ("b", &good.replace(":10", ":0"), ReportOutcome::Malformed),
            ("b", &good.replace("n2", "n3"), ReportOutcome::UnknownNode),
            ("b", &good.replace("\"b\"", "\"a\""), ReportOutcome::UnknownNode),
        ] {
            let found = inbox.receive(&routing, region, payload.as_bytes(), known, secs(1));
            assert_eq!(found, outcome, "{region} {payload}");
        }
        for node in 1..FleetLoad::MOST_ON_A_REGION {
            let report = good.replace("n2", &format!("n2-{node}"));
            assert_eq!(inbox.receive(&routing, "b", report.as_bytes(), |_, _| true, secs(1)), ReportOutcome::Taken);
        }
        let another = good.replace("n2", "another");
        assert_eq!(inbox.receive(&routing, "b", another.as_bytes(), |_, _| true, secs(1)), ReportOutcome::Full);
    }

    #[test]
    fn what_is_reported_raises_the_load_and_fades_to_the_own() {
        let (routing, inbox) = (routing(TABLE, &PersistedState::default()), Inbox::default());
        let cell = &routing.region(id(&routing, "b")).state;
        let own: Vec<InFlight> = (0..32).map(|_| InFlight::enter(&cell.in_flight)).collect();
        assert_eq!((utilisation(&routing, "b"), View::reported(&routing, id(&routing, "b"))), (0.25, None));
        let report = r#"{"node":"n2","region":"b","requests_in_flight":5,"cap":10,"rps":900}"#;
        inbox.receive(&routing, "b", report.as_bytes(), |_, _| true, secs(100));
        inbox.settle(&routing, secs(101));
        let seen =
            |at_ms: u64| cell.reported.read(at_ms).map(|reported| (reported.utilisation, reported.age, reported.nodes));
        assert_eq!(seen(103_000), Some((0.9, secs(3), 1)));
        for (at_ms, over) in [(100_000, 0.9), (105_000, 0.9), (107_500, 0.575), (110_000, 0.25), (200_000, 0.25)] {
            let found = cell.reported.over_at(0.25, at_ms);
            assert!((found - over).abs() < 1e-6, "at {at_ms} ms: {found}, not {over}");
        }
        // The clock of decisions stands still in this test, at the start.
        assert_eq!((utilisation(&routing, "b"), routing.region(id(&routing, "b")).fleet_load()), (0.9, 0.9));
        assert_eq!(utilisation(&routing, "a"), 0.0);
        inbox.settle(&routing, secs(110));
        assert_eq!((seen(110_000), utilisation(&routing, "b")), (None, 0.25));
        drop(own);
    }

    #[test]
    fn a_node_tells_of_its_own_region_and_of_those_that_it_dials() {
        let persisted = PersistedState::default();
        let first = routing(TABLE, &persisted);
        let mut meter = LoadMeter::default();
        assert_eq!(told(&mut meter, &first, 1), ["a: 0 of 128, 0"]);
        send(&first, "a", 0, 30);
        send(&first, "a", 1, 10);
        send(&first, "b", 0, 6);
        send(&first, "c", 0, 50);
        let under_way = InFlight::enter(&first.region(id(&first, "a")).state.in_flight);
        assert_eq!(told(&mut meter, &first, 3), ["a: 1 of 128, 20", "b: 0 of 128, 3"]);
        drop(under_way);
        // What an endpoint was sent before it left counts, and what a new one is sent.
        send(&first, "a", 0, 4);
        let second = routing(&TABLE.replace("'10.0.0.1:80'", "'10.0.0.9:80'"), &persisted);
        send(&second, "a", 0, 3);
        send(&second, "a", 1, 2);
        assert_eq!(told(&mut meter, &second, 4), ["a: 0 of 128, 9", "b: 0 of 128, 0"]);
        // Of another region it tells until the others have forgotten what it said.
        assert_eq!(told(&mut meter, &second, 12), ["a: 0 of 128, 0", "b: 0 of 128, 0"]);
        assert_eq!(told(&mut meter, &second, 13), ["a: 0 of 128, 0"]);
        let _under_way = InFlight::enter(&second.region(id(&second, "b")).state.in_flight);
        assert_eq!(told(&mut meter, &second, 14), ["a: 0 of 128, 0", "b: 1 of 128, 0"]);
    }

    #[test]
    fn subjects_name_regions() {
        assert_eq!(region_of(&subject("us-east-1.a")), Some("us-east-1.a"));
        assert_eq!(region_of("meridian.other.a"), None);
    }
}
