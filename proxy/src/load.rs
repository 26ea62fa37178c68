//! Load reports: what this node tells the others of the load of regions, and what it takes from them.
//!
//! ```text
//! counts of endpoints --meter.rs, each second--> LoadReports: one message --> whoever carries it, and signs it
//!
//! a message that came --Inbox::receive--> FleetLoad --Inbox::settle, the watch's tick--> health/reported_load.rs --> decisions
//! ```
//!
//! The node hears its own reports as it hears the others', over the bus: so the sum has its own part
//! exactly when it has the others', and a node that the bus has lost falls back to what it knows.

pub(crate) mod meter;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::LoadReport;
use policy::health::{HeardLag, Holder, LagWord, Word, Writer};
use policy::load::FleetLoad;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::clock::{self, uptime};
use crate::peers::messages::MessageRefusal;
use crate::routing::Routing;
use crate::telemetry::metrics::Metrics;

/// All that a node reports in one second: of its own region, and of the others that it dials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadReports {
    /// When, by the node's wall clock: Unix milliseconds. Each message of a node is later than the one before.
    pub(crate) at: u64,
    /// By the region that they are about; all by the same node.
    pub(crate) reports: BTreeMap<String, LoadReport>,
    /// What the node finds of each standby that takes writes over, and of its primary, by the standby's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) writers: BTreeMap<String, WriterWord>,
}

/// What a node says of a primary and its standby: by this a fleet agrees who has the writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WriterWord {
    /// The primary's name: under another table the standby may stand in for another region.
    pub(crate) primary: String,
    /// See [`Word::primary_lost`].
    pub(crate) primary_lost: bool,
    /// See [`Word::standby_lost`].
    pub(crate) standby_lost: bool,
    /// See [`Word::term`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) term: Option<u64>,
    /// See [`Word::has_spoken`].
    #[serde(default)]
    pub(crate) has_spoken: bool,
    /// How far behind the one without the writes was, as the node has heard itself, and nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lag: Option<LagTold>,
}

/// How far behind one of the two said that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LagTold {
    /// Whether it is the standby; else the primary.
    pub(crate) is_standby: bool,
    /// How far, in milliseconds.
    pub(crate) behind_ms: u64,
    /// How long before the message it was asked, in milliseconds.
    pub(crate) age_ms: u64,
}

impl LoadReports {
    /// The length of its JSON in bytes, at most: a report on each region that a table can have would be longer, but
    /// nobody dials them all.
    pub(crate) const MAX_BYTES: usize = 256 * 1024;

    /// Returns the node that all of them are by, and its region; `None` where they are of several, or none.
    pub(crate) fn node(&self) -> Option<(&str, &str)> {
        let mut by = self.reports.values().map(|report| (report.node.as_str(), report.region.as_str()));
        let first = by.next()?;
        by.all(|other| other == first).then_some(first)
    }
}

/// Takes a message that has come on a subject, and counts the outcome. `own` is this node's name; `is_known` says whether
/// a node of this name, in a region of that, is one of the fleet, and `is_its` whether it has sent this. Returns whether it
/// is this node's own that has come back.
pub(crate) fn receive(
    (inbox, routing, metrics): (&Inbox, &Routing, &Metrics),
    own: &str,
    payload: &[u8],
    is_known: impl FnOnce(&str, &str) -> bool,
    is_its: impl FnOnce(&str) -> Result<(), MessageRefusal>,
) -> bool {
    let mut is_own = false;
    let is_known = |node: &str, region: &str| {
        is_own = node == own;
        is_known(node, region)
    };
    let outcome = inbox.receive((routing, own), payload, is_known, is_its, (uptime(), clock::since_1970()));
    metrics.load_reports.with_label_values(&[outcome.name()]).inc();
    is_own && outcome == ReportOutcome::Taken
}

/// Returns the subject on which nodes of a region report.
pub(crate) fn subject(region: &str) -> String {
    format!("{PREFIX}{region}")
}

/// Every such subject. A region's name may have dots in it.
pub(crate) const SUBJECTS: &str = "meridian.load.>";

const PREFIX: &str = "meridian.load.";

/// What the nodes of the fleet have reported of the load of regions. One for each node; the bus' thread fills it, and
/// the watch over upstreams reads it.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<Received>);

#[derive(Debug, Default)]
struct Received {
    fleet: FleetLoad,
    /// The last message of each node: one that comes again is none.
    latest: FxHashMap<String, Latest>,
    /// What each other node said last of standbys that take writes over, and when, as far as can be told: it is as old as its
    /// own time says, or if that is ahead, as its receipt.
    writers: FxHashMap<String, (Duration, BTreeMap<String, WriterWord>)>,
    /// The nodes whose clocks are too far from this one's, at most [`MOST_SKEWED`].
    skewed: BTreeMap<String, Skew>,
}

/// The last message of a node that counted.
#[derive(Clone, Copy, Debug)]
struct Latest {
    /// The time that it says: Unix milliseconds.
    said: u64,
    /// When it came.
    heard: Duration,
    /// How many in a row came so late that its word on writers hardly counts.
    late: u8,
}

/// A node whose clock is off, and when that was noticed.
#[derive(Clone, Copy, Debug)]
struct Skew {
    skewed: Skewed,
    /// `None` once it is right again.
    heard: Option<Duration>,
    logged: Duration,
}

/// By how much a node's clock is off, as its last message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Skewed {
    /// Milliseconds ahead of this node's clock, or if negative behind it.
    pub(crate) ahead_ms: i64,
    /// What of its messages does not count for that.
    pub(crate) drops: Drops,
}

/// What of a node's messages does not count for its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Drops {
    /// All: it is more than [`MOST_SKEW`] off.
    Reports,
    /// What it says of writers: it is more than [`MOST_AHEAD`] ahead, or more than [`MOST_BEHIND`] behind.
    Writers,
}

/// How old a message may be, and how far ahead: the clocks of a fleet differ.
const MOST_SKEW: Duration = Duration::from_secs(30);

/// Nodes whose clocks are off and that are named, at most: where more are, it is this one's.
const MOST_SKEWED: usize = 64;

/// A clock that is off is logged once in this time.
const SKEW_LOGGED_EACH: Duration = Duration::from_secs(600);

/// For how long a node that reports no more is said to have a clock that is off.
const SKEW_KEPT: Duration = Duration::from_secs(60);

/// How far ahead the clock may be of a node whose word on writers counts: so much later than it was sent could it come, and
/// pass for new.
const MOST_AHEAD: Duration = Duration::from_secs(2);

/// How far behind it may be: a word counts for [`Writer::WORD_AGE`] from the time that it says, and comes once a second.
const MOST_BEHIND: Duration = Duration::from_secs(2);

/// So many messages in a row must be late: one alone may have been held up.
const LATE_IN_A_ROW: u8 = 3;

/// A message that is older than the last of its node, which came within this time, is a repeated one. Where the last is
/// longer ago, the node's clock has been set back.
const REPEATED: Duration = Duration::from_secs(10);

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportOutcome {
    /// It counts.
    Taken,
    /// It is longer than [`LoadReports::MAX_BYTES`].
    TooLarge,
    /// The table has none of its regions.
    UnknownRegion,
    /// It is no list of one node's reports.
    Malformed,
    /// The node is none of the fleet's, or is not where it says.
    UnknownNode,
    /// It is not proved to be that node's.
    Refused(MessageRefusal),
    /// It is no later than the node's last: repeated, held up, or of a clock that was set back a little.
    Stale,
    /// It is of so many milliseconds ahead of this node's clock, or if negative behind it, and more than [`MOST_SKEW`]: the
    /// node's clock is off, or this one's, or it is an old one that comes again.
    ClockSkew(i64),
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
            Self::Refused(MessageRefusal::Unsigned) => "unsigned",
            Self::Refused(MessageRefusal::UnknownCertificate) => "unknown_certificate",
            Self::Refused(MessageRefusal::NoNode) => "no_node",
            Self::Refused(MessageRefusal::Misnamed) => "misnamed",
            Self::Refused(MessageRefusal::Wrong) => "signature_wrong",
            Self::Stale => "stale",
            Self::ClockSkew(_) => "clock_skew",
            Self::Full => "full",
        }
    }
}

impl Skew {
    fn is_heard(&self, now: Duration) -> bool {
        self.heard.is_some_and(|heard| now.saturating_sub(heard) < SKEW_KEPT)
    }
}

impl Received {
    /// Notes that a node's clock is off, and says so from time to time.
    fn note_skew(&mut self, node: &str, skewed: Skewed, now: Duration) {
        let known = self.skewed.get(node).map(|known| known.logged);
        if known.is_none() && self.skewed.len() == MOST_SKEWED {
            return;
        }
        let lately = known.filter(|logged| now.saturating_sub(*logged) < SKEW_LOGGED_EACH);
        if lately.is_none() {
            let ahead_ms = skewed.ahead_ms;
            let what = match skewed.drops {
                Drops::Reports => "load reports do not count: their time is more than 30 s from this node's",
                Drops::Writers if ahead_ms < 0 => {
                    "what it says of writers hardly counts: its time is more than 2 s behind this node's"
                }
                Drops::Writers => {
                    "what it says of writers does not count: its time is more than 2 s ahead of this node's"
                }
            };
            tracing::warn!(
                node,
                ahead_ms,
                "{what}; set that node's clock, or this one's, unless old messages come again"
            );
        }
        self.skewed.insert(node.to_owned(), Skew { skewed, heard: Some(now), logged: lately.unwrap_or(now) });
    }
}

impl Inbox {
    /// Takes what a node reports. Decisions see it after the next [`Inbox::settle`]: so that however many come, each
    /// costs no more than to be read. `now` is the uptime, and the time since 1970.
    fn receive(
        &self,
        (routing, own): (&Routing, &str),
        payload: &[u8],
        is_known: impl FnOnce(&str, &str) -> bool,
        is_its: impl FnOnce(&str) -> Result<(), MessageRefusal>,
        (now, wall): (Duration, Duration),
    ) -> ReportOutcome {
        if payload.len() > LoadReports::MAX_BYTES {
            return ReportOutcome::TooLarge;
        }
        let Ok(mut message) = serde_json::from_slice::<LoadReports>(payload) else { return ReportOutcome::Malformed };
        let Some((node, region)) = message.node() else { return ReportOutcome::Malformed };
        if !is_known(node, region) {
            return ReportOutcome::UnknownNode;
        }
        let said = Duration::from_millis(message.at);
        let is_far = said.abs_diff(wall) > MOST_SKEW;
        // Before its signature, which costs more to look into.
        let latest = self.lock().latest.get(node).copied();
        let is_set_back = |latest: &Latest| is_far && now.saturating_sub(latest.heard) >= REPEATED;
        if latest.is_some_and(|latest| message.at <= latest.said && !is_set_back(&latest)) {
            return ReportOutcome::Stale;
        }
        if let Err(refusal) = is_its(node) {
            return ReportOutcome::Refused(refusal);
        }
        let mut received = self.lock();
        // After its signature: so nobody else makes a node's clock be doubted, but by an old message of its own.
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let ahead_ms = millis(said).saturating_sub(millis(wall));
        if is_far {
            received.note_skew(node, Skewed { ahead_ms, drops: Drops::Reports }, now);
            return ReportOutcome::ClockSkew(ahead_ms);
        }
        let speaks = !message.writers.is_empty() && node != own;
        let is_ahead = speaks && said > wall + MOST_AHEAD;
        let is_late = speaks && wall > said + MOST_BEHIND;
        let late = if is_late { latest.map_or(0, |latest| latest.late).saturating_add(1) } else { 0 };
        if is_ahead || late >= LATE_IN_A_ROW {
            received.note_skew(node, Skewed { ahead_ms, drops: Drops::Writers }, now);
        } else if let Some(skew) = received.skewed.get_mut(node) {
            skew.heard = None;
        }
        let is_here = region == routing.table().region(routing.here).name;
        let known = || message.reports.iter().filter(|(about, _)| routing.table().region_named(about).is_some());
        if known().next().is_none() {
            return ReportOutcome::UnknownRegion;
        }
        let mut outcome = ReportOutcome::Taken;
        for (about, report) in known() {
            // Of its own region alone: so each node has one word on each way.
            if is_here && about == region && node != own {
                note_round_trips(routing, node, report);
            }
            if about == region && node != own && !report.client_excess_ms.is_empty() {
                routing.client_ways.report(region, node, &report.client_excess_ms);
            }
            if received.fleet.take(about, report, now).is_err() {
                outcome = ReportOutcome::Full;
            }
        }
        received.latest.insert(node.to_owned(), Latest { said: message.at, heard: now, late });
        if node != own {
            let node = node.to_owned();
            message.writers.retain(|standby, _| routing.table().region_named(standby).is_some());
            if said > wall + MOST_AHEAD {
                // How old it is cannot be told.
                message.writers.clear();
            }
            let age = wall.saturating_sub(said);
            // What is older than this process counts no more.
            let at = now.checked_sub(age);
            match at {
                Some(at) => drop(received.writers.insert(node, (at, message.writers))),
                None => drop(received.writers.remove(&node)),
            }
        }
        outcome
    }

    /// Shows decisions what the reports come to, and forgets the old ones.
    pub(crate) fn settle(&self, routing: &Routing, now: Duration) {
        let Received { fleet, latest, writers, skewed } = &mut *self.lock();
        writers.retain(|_, (at, _)| now.saturating_sub(*at) <= Writer::WORD_AGE);
        fleet.forget(now, |region| routing.table().region_named(region).is_some());
        if latest.len() > FleetLoad::MOST {
            // Of nodes that are no more. Who is believed again within the skew has only its own old words repeated.
            latest.clear();
        }
        // One that was logged is known until it may be logged again.
        skewed.retain(|_, skew| now.saturating_sub(skew.logged) < SKEW_LOGGED_EACH || skew.is_heard(now));
        for (_, region, cell) in routing.regions() {
            cell.state.reported.set(fleet.reported(&region.name, region.capacity_rps, now), now);
        }
    }

    /// Returns the nodes whose clocks are off.
    pub(crate) fn skewed(&self, now: Duration) -> BTreeMap<String, Skewed> {
        let received = self.lock();
        let of_late = received.skewed.iter().filter(|(_, skew)| skew.is_heard(now));
        of_late.map(|(node, skew)| (node.clone(), skew.skewed)).collect()
    }

    /// Returns what the other nodes say of a standby and this primary.
    pub(crate) fn writer_words(&self, primary: &str, standby: &str, now: Duration) -> Vec<Word> {
        let received = self.lock();
        let fresh = received.writers.values().filter(|(at, _)| now.saturating_sub(*at) <= Writer::WORD_AGE);
        let words = fresh.filter_map(|(at, words)| Some((at, words.get(standby)?)));
        let words = words.filter(|(_, word)| word.primary == primary);
        let word = |(at, word): (&Duration, &WriterWord)| {
            let heard = |told: LagTold| {
                let age = now.saturating_sub(*at).saturating_add(Duration::from_millis(told.age_ms));
                let of = if told.is_standby { Holder::Standby } else { Holder::Primary };
                HeardLag { of, lag: LagWord::of_age(Duration::from_millis(told.behind_ms), age, now) }
            };
            Word {
                primary_lost: word.primary_lost,
                standby_lost: word.standby_lost,
                term: word.term,
                has_spoken: word.has_spoken,
                lag: word.lag.map(heard),
            }
        };
        words.map(word).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what another node of this node's own region measures: it is as far from all the others.
fn note_round_trips(routing: &Routing, node: &str, report: &LoadReport) {
    for (to, ms) in &report.round_trips {
        if let Some(id) = routing.table().region_named(to) {
            routing.region(id).state.round_trip.report(node, *ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::region::RegionState;
    use crate::health::traffic::TrafficSource;
    use crate::in_flight::Counted;
    use crate::load::meter::LoadMeter;
    use crate::routing::PersistedState;
    use policy::health::{Pair, Side};
    use policy::{RegionId, View, Writes};

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
        let edition = crate::routing::Edition { generation: 1, published: None };
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
        (0..times).for_each(|_| endpoint.on_answer(&endpoint.attempts_of(0), source, false, false));
    }

    /// Has requests under way, as a worker does that keeps no place for others.
    fn under_way(region: &RegionState, requests: usize) -> Vec<Counted> {
        region.in_flight.set_limit(0);
        let worker = region.in_flight.of_worker(0);
        (0..requests).map(|_| worker.enter()).collect()
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

    const REPORT: &str = r#"{"node":"n2","region":"b","requests_in_flight":5,"cap":10,"rps":1}"#;

    /// A message with this report on each of the regions, sent when so many seconds had passed since 1970.
    fn message(at: u64, regions: &[&str], report: &str) -> String {
        let reports: Vec<String> = regions.iter().map(|region| format!("\"{region}\":{report}")).collect();
        format!("{{\"at\":{},\"reports\":{{{}}}}}", at * 1000, reports.join(","))
    }

    #[test]
    fn what_comes_is_taken_or_refused_for_one_reason() {
        let (routing, inbox) = (routing(TABLE, &PersistedState::default()), Inbox::default());
        let known = |node: &str, region: &str| (node, region) == ("n2", "b");
        let long = format!("{}{}", message(103, &["b"], REPORT), " ".repeat(LoadReports::MAX_BYTES));
        let two = format!("{REPORT},\"a\":{}", REPORT.replace("n2", "n3"));
        for (payload, outcome) in [
            (message(100, &["b"], REPORT), ReportOutcome::Taken),
            (message(100, &["b"], REPORT), ReportOutcome::Stale),
            (message(99, &["b"], REPORT), ReportOutcome::Stale),
            (message(101, &["a", "b", "x"], REPORT), ReportOutcome::Taken),
            (message(102, &["x"], REPORT), ReportOutcome::UnknownRegion),
            (message(131, &["b"], REPORT), ReportOutcome::ClockSkew(31_000)),
            (long, ReportOutcome::TooLarge),
            (REPORT.to_owned(), ReportOutcome::Malformed),
            (message(103, &[], REPORT), ReportOutcome::Malformed),
            (message(103, &["b"], &two), ReportOutcome::Malformed),
            (message(103, &["b"], &REPORT.replace(":10", ":0")), ReportOutcome::Malformed),
            (message(103, &["b"], &REPORT.replace("n2", "n3")), ReportOutcome::UnknownNode),
            (message(103, &["b"], &REPORT.replace("\"b\"", "\"a\"")), ReportOutcome::UnknownNode),
            (message(103, &["b"], REPORT), ReportOutcome::Taken),
        ] {
            let found = inbox.receive((&routing, "n1"), payload.as_bytes(), known, |_| Ok(()), (secs(1), secs(100)));
            assert_eq!(found, outcome, "{payload}");
        }
        let refused = |_: &str| Err(MessageRefusal::Wrong);
        let forged = message(105, &["b"], REPORT);
        let found = inbox.receive((&routing, "n1"), forged.as_bytes(), known, refused, (secs(1), secs(100)));
        assert_eq!(found, ReportOutcome::Refused(MessageRefusal::Wrong));
        assert_eq!(
            take(&routing, &inbox, 1, &message(105, &["b"], REPORT)),
            ReportOutcome::Taken,
            "it says nothing of when"
        );
        for node in 1..FleetLoad::MOST_ON_A_REGION {
            let report = REPORT.replace("n2", &format!("n2-{node}"));
            assert_eq!(take(&routing, &inbox, 1, &message(105, &["b"], &report)), ReportOutcome::Taken);
        }
        let another = message(105, &["b"], &REPORT.replace("n2", "another"));
        assert_eq!(take(&routing, &inbox, 1, &another), ReportOutcome::Full);
    }

    #[test]
    fn a_node_whose_clock_is_off_is_named_until_it_is_right_or_silent() {
        let (routing, inbox) = (routing(TABLE, &PersistedState::default()), Inbox::default());
        let named = |now: u64| {
            let skewed = inbox.skewed(secs(now)).into_iter();
            skewed.map(|(node, skewed)| (node, skewed.ahead_ms, skewed.drops)).collect::<Vec<_>>()
        };
        let n2 = |ahead_ms, drops| vec![("n2".to_owned(), ahead_ms, drops)];
        // This node's clock stands at 100.
        assert_eq!(take(&routing, &inbox, 1, &message(69, &["b"], REPORT)), ReportOutcome::ClockSkew(-31_000));
        assert_eq!(named(60), n2(-31_000, Drops::Reports));
        assert_eq!(take(&routing, &inbox, 2, &message(131, &["b"], REPORT)), ReportOutcome::ClockSkew(31_000));
        assert_eq!((named(61), named(62)), (n2(31_000, Drops::Reports), Vec::new()));
        assert_eq!(
            take(&routing, &inbox, 3, &message(130, &["b"], REPORT)),
            ReportOutcome::Taken,
            "30 s are tolerated"
        );
        assert_eq!(named(3), Vec::new());
        let word = r#""writers":{"b":{"primary":"a","primary_lost":true,"standby_lost":false}}"#;
        let ahead = message(131, &["b"], REPORT).replace("131000", "130500").replacen('{', &format!("{{{word},"), 1);
        assert_eq!(take(&routing, &inbox, 4, &ahead), ReportOutcome::ClockSkew(30_500));
        let ahead = ahead.replace("130500", "130000");
        assert_eq!(take(&routing, &inbox, 5, &ahead), ReportOutcome::Stale, "no later than the last that counted");
        let other = message(103, &["b"], &REPORT.replace("n2", "n3")).replacen('{', &format!("{{{word},"), 1);
        assert_eq!(take(&routing, &inbox, 5, &other), ReportOutcome::Taken);
        assert_eq!(named(5)[1], ("n3".to_owned(), 3_000, Drops::Writers));
        assert_eq!(inbox.writer_words("a", "b", secs(5)), Vec::new());
        // Its word comes too late, each time: once may be the bus.
        for (at, is_named) in [(91, false), (92, false), (93, true)] {
            let late = message(at, &["b"], &REPORT.replace("n2", "n4")).replacen('{', &format!("{{{word},"), 1);
            assert_eq!(take(&routing, &inbox, 5, &late), ReportOutcome::Taken);
            let n4 = named(5).into_iter().find(|(node, ..)| node == "n4");
            assert_eq!(n4, is_named.then(|| ("n4".to_owned(), -7_000, Drops::Writers)), "{at}");
        }
        // Set back under way: an old message is nobody's clock while newer ones come, and the clock's once none do.
        let set_back = message(40, &["b"], &REPORT.replace("n2", "n4"));
        assert_eq!(take(&routing, &inbox, 14, &set_back), ReportOutcome::Stale);
        assert_eq!(take(&routing, &inbox, 15, &set_back), ReportOutcome::ClockSkew(-60_000));
        assert!(named(15).contains(&("n4".to_owned(), -60_000, Drops::Reports)));
        let refused = |_: &str| Err(MessageRefusal::Wrong);
        let at = (secs(15), secs(100));
        let forged = inbox.receive((&routing, "n1"), set_back.as_bytes(), |_, _| true, refused, at);
        assert_eq!(forged, ReportOutcome::Refused(MessageRefusal::Wrong));
        for node in 0..200 {
            take(&routing, &inbox, 6, &message(1, &["b"], &REPORT.replace("n2", &format!("m{node}"))));
        }
        assert_eq!(named(6).len(), MOST_SKEWED);
    }

    /// Takes a message of any node.
    fn take(routing: &Routing, inbox: &Inbox, now: u64, payload: &str) -> ReportOutcome {
        inbox.receive((routing, "n1"), payload.as_bytes(), |_, _| true, |_| Ok(()), (secs(now), secs(100)))
    }

    #[test]
    fn what_is_reported_raises_the_load_and_fades_to_the_own() {
        let (routing, inbox) = (routing(TABLE, &PersistedState::default()), Inbox::default());
        let cell = &routing.region(id(&routing, "b")).state;
        let own: Vec<Counted> = under_way(cell, 32);
        assert_eq!((utilisation(&routing, "b"), View::reported(&routing, id(&routing, "b"))), (0.25, None));
        take(&routing, &inbox, 100, &message(100, &["b"], &REPORT.replace("\"rps\":1", "\"rps\":900")));
        inbox.settle(&routing, secs(101));
        let seen =
            |at_ms: u64| cell.reported.read(at_ms).map(|reported| (reported.utilisation, reported.age, reported.nodes));
        assert_eq!(seen(103_000), Some((0.9, secs(3), 1)));
        for (at_ms, over) in [(100_000, 0.9), (110_000, 0.9), (115_000, 0.575), (120_000, 0.25), (200_000, 0.25)] {
            let found = cell.reported.over_at(0.25, at_ms);
            assert!((found - over).abs() < 1e-6, "at {at_ms} ms: {found}, not {over}");
        }
        // The clock of decisions stands still in this test, at the start.
        assert_eq!((utilisation(&routing, "b"), routing.region(id(&routing, "b")).fleet_load()), (0.9, 0.9));
        assert_eq!(utilisation(&routing, "a"), 0.0);
        inbox.settle(&routing, secs(120));
        assert_eq!((seen(120_000), utilisation(&routing, "b")), (None, 0.25));
        drop(own);
    }

    #[test]
    fn a_word_on_writers_is_of_its_pair_and_as_old_as_its_own_time() {
        let (routing, inbox) = (routing(TABLE, &PersistedState::default()), Inbox::default());
        let say = |at: u64, primary: &str| {
            let lag = r#"{"is_standby":true,"behind_ms":2000,"age_ms":4000}"#;
            let word =
                format!(r#"{{"primary":"{primary}","primary_lost":true,"standby_lost":false,"term":0,"lag":{lag}}}"#);
            let message = message(at, &["b"], REPORT);
            let message = format!("{},\"writers\":{{\"c\":{word}}}}}", &message[..message.len() - 1]);
            assert_eq!(take(&routing, &inbox, 50, &message), ReportOutcome::Taken);
        };
        let words = |primary: &str, now: u64| inbox.writer_words(primary, "c", secs(now));
        say(96, "a");
        assert_eq!(words("a", 50), [], "it was under way for four seconds");
        say(98, "a");
        assert_eq!((words("a", 50).len(), words("a", 51).len(), words("a", 52)), (1, 1, vec![]));
        let lag = LagWord { told: secs(44), behind: secs(2) };
        assert_eq!(words("a", 50)[0].lag, Some(HeardLag { of: Holder::Standby, lag }));
        assert_eq!(words("b", 50), [], "it is of another primary");
        say(103, "a");
        assert_eq!(words("a", 50), [], "its clock is too far ahead to tell its age");
        say(104, "b");
        assert_eq!(words("a", 50), []);
    }

    #[test]
    fn until_somebody_has_looked_writes_go_to_neither_of_a_pair() {
        let pair = |table: &str| {
            let standby = "role = 'warm'\ncapabilities = ['read']\nstandby = { promote_after = '10s', of = ['a'], \
                           writes = 'when_primary', max_replication_lag = '9s' }\n";
            let table = table.replace("country = 'FR'\n", &format!("country = 'FR'\n{standby}"));
            table.replace("[regions.c]\n", "[regions.c]\ncapabilities = ['read']\n")
        };
        let persisted = PersistedState::default();
        let seen = |routing: &Routing| ["a", "b"].map(|name| View::region(routing, id(routing, name)).writes);
        let starting = Writes::Withheld(policy::Withheld::Starting);
        assert_eq!(seen(&routing(TABLE, &persisted)), [Writes::AsDeclared; 2]);
        let first = routing(&pair(TABLE), &persisted);
        assert_eq!(seen(&first), [starting; 2], "the pair is new");
        let settings = first.table().write_pairs().next().unwrap();
        let cell = |name: &str| &first.region(id(&first, name)).state;
        let side = Side { is_down: false, is_asked: true, claim: None, claimed_at: secs(0), lag: None, votes: 0 };
        cell("b").observe_writer("a", Pair { primary: side, standby: side, fleet: None }, &settings, None, |_| true);
        cell("a").set_writes(Writes::Granted);
        cell("b").set_writes(Writes::Withheld(policy::Withheld::Elsewhere));
        let kept = [Writes::Granted, Writes::Withheld(policy::Withheld::Elsewhere)];
        assert_eq!(seen(&routing(&pair(TABLE), &persisted)), kept, "a reload keeps them");
        let moved = pair(TABLE).replace("10.0.1.1", "10.0.1.9");
        assert_eq!(seen(&routing(&moved, &persisted)), [starting; 2], "nothing is known of the new standby");
    }

    #[test]
    fn a_limit_counts_beside_the_cap_and_goes_with_its_region() {
        let persisted = PersistedState::default();
        let with_limit = |table: &str| format!("{table}[concurrency]\nmode = 'fixed'\nlimit = 4\n");
        let first = routing(&with_limit(TABLE), &persisted);
        let cell = first.region(id(&first, "b"));
        let in_use = || (cell.load(), cell.in_use().0, cell.in_use().1.cap());
        let limiter = cell.state.limits.of(false);
        let places: Vec<_> =
            (0..3).map(|_| limiter.enter(None, policy::route::Criticality::Default).unwrap()).collect();
        assert_eq!(in_use(), (0.75, 3, 4), "of the limit");
        let _under_way = under_way(&cell.state, 112);
        assert_eq!(in_use(), (0.875, 112, 128), "of the cap");
        let _last = limiter.enter(None, policy::route::Criticality::Default).unwrap();
        assert!(limiter.enter(None, policy::route::Criticality::Default).is_err());
        drop(places);
        let (before, after) = TABLE.split_once("[regions.b]").unwrap();
        let without = format!("{before}{}", &after[after.find("[regions.c]").unwrap()..]);
        routing(&with_limit(&without), &persisted);
        assert!(
            limiter.enter(None, policy::route::Criticality::Default).unwrap().is_none(),
            "who waits there goes on, since there is no limit"
        );
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
        let sent = under_way(&first.region(id(&first, "a")).state, 1);
        assert_eq!(told(&mut meter, &first, 3), ["a: 1 of 128, 20", "b: 0 of 128, 3"]);
        drop(sent);
        // What an endpoint was sent before it left counts, and what a new one is sent.
        send(&first, "a", 0, 4);
        let second = routing(&TABLE.replace("'10.0.0.1:80'", "'10.0.0.9:80'"), &persisted);
        send(&second, "a", 0, 3);
        send(&second, "a", 1, 2);
        assert_eq!(told(&mut meter, &second, 4), ["a: 0 of 128, 9", "b: 0 of 128, 0"]);
        // Of another region it tells until the others have forgotten what it said.
        assert_eq!(told(&mut meter, &second, 22), ["a: 0 of 128, 0", "b: 0 of 128, 0"]);
        assert_eq!(told(&mut meter, &second, 23), ["a: 0 of 128, 0"]);
        let _under_way = under_way(&second.region(id(&second, "b")).state, 1);
        assert_eq!(told(&mut meter, &second, 24), ["a: 0 of 128, 0", "b: 1 of 128, 0"]);
    }
}
