//! One node, as its report shows it.

use std::fmt;
use std::time::SystemTime;

use config::Problem;
use config::bus::{Entry, NodeReport, NodeState};
use serde::Serialize;

use crate::cli::bus::console::{long, utc, utc_seconds};
use crate::cli::bus::view::is_silent;

/// A node.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) node: String,
    pub(super) region: String,
    /// The table that the node has in force.
    pub(super) epoch: u64,
    pub(super) revision: u64,
    pub(super) version: String,
    pub(super) sha256: String,
    /// The node's states, the most important first.
    pub(super) state: Vec<State>,
    pub(super) lag: Option<Lag>,
    /// UTC, by the node's clock.
    pub(super) since: String,
    /// When a trusted key last signed the node's table or a heartbeat about it, UTC; null where it trusts no keys.
    pub(super) signed: Option<String>,
    /// When the node's table expires, as far as is known now, UTC.
    pub(super) expires: Option<String>,
    /// UTC, by the bus's clock.
    pub(super) heard: String,
    /// The revision that the node refuses.
    pub(super) refused: Option<u64>,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<String>,
    pub(super) meridian: String,
    pub(super) instance: String,
}

/// A state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// The node's last report is older than two report intervals.
    Silent,
    /// The node refuses the newest table.
    Rejected,
    /// The node's table has expired: it refuses restricted routes.
    Expired,
    /// The node has no table yet.
    Waiting,
    /// The node has a staged table in force.
    Staged,
    /// The node has a table of all nodes in force.
    Applied,
    /// The node's table is later than the live one, which it ignores: it knows another bucket.
    Ahead,
    /// The node drains.
    Draining,
}

/// How far a node is behind the live table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Lag {
    /// The number of tables published since the node's own.
    pub(super) publications: usize,
    /// The seconds since the first of them.
    pub(super) seconds: u64,
}

impl Row {
    /// Returns the row of a report, compared with what was published.
    pub(super) fn of(report: NodeReport, heard: SystemTime, history: &[Entry], now: SystemTime) -> Self {
        Self {
            state: states(&report, heard, history, now),
            lag: Lag::of(&report, history, now),
            since: utc_seconds(report.since),
            signed: report.signed.map(utc_seconds),
            expires: report.expires.map(utc_seconds),
            heard: utc(heard),
            refused: report.refused.as_ref().filter(|_| report.state == NodeState::Rejected).map(|r| r.revision),
            node: report.node,
            region: report.region,
            epoch: report.epoch,
            revision: report.revision,
            version: report.version,
            sha256: report.sha256,
            problems: report.problems,
            notes: report.notes,
            meridian: report.meridian,
            instance: report.instance,
        }
    }

    /// Returns whether the node is in this state.
    pub(super) fn is(&self, state: State) -> bool {
        self.state.contains(&state)
    }
}

fn states(report: &NodeReport, heard: SystemTime, history: &[Entry], now: SystemTime) -> Vec<State> {
    let state = match report.state {
        NodeState::Applied if report.staged => State::Staged,
        NodeState::Applied => State::Applied,
        NodeState::Rejected => State::Rejected,
        NodeState::Waiting => State::Waiting,
    };
    let all = [
        is_silent(heard, now).then_some(State::Silent),
        Some(state),
        is_ahead(report, history).then_some(State::Ahead),
        report.expired.then_some(State::Expired),
        report.draining.then_some(State::Draining),
    ];
    all.into_iter().flatten().collect()
}

fn is_ahead(report: &NodeReport, history: &[Entry]) -> bool {
    let live = history.last().and_then(|live| Some((live.publication.as_ref()?.epoch, live.revision)));
    !report.staged && live.is_some_and(|live| (report.epoch, report.revision) > live)
}

impl Lag {
    /// Returns a node's lag; `None` when nothing was published since its table.
    fn of(report: &NodeReport, history: &[Entry], now: SystemTime) -> Option<Self> {
        let is_missed = |entry: &&Entry| {
            let epoch = entry.publication.as_ref().map(|publication| publication.epoch);
            epoch.is_some_and(|epoch| (epoch, entry.revision) > (report.epoch, report.revision))
        };
        let mut missed = history.iter().filter(is_missed);
        let first = missed.next()?;
        let behind = now.duration_since(first.created).unwrap_or_default();
        Some(Self { publications: 1 + missed.count(), seconds: behind.as_secs() })
    }
}

/// Writes `2 (5m 3s)`.
impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.publications, long(std::time::Duration::from_secs(self.seconds)))
    }
}

impl State {
    /// Returns the state's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Silent => "silent",
            State::Rejected => "rejected",
            State::Expired => "expired",
            State::Waiting => "waiting",
            State::Staged => "staged",
            State::Applied => "applied",
            State::Ahead => "ahead",
            State::Draining => "draining",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use config::bus::Publication;

    use super::*;
    use crate::cli::bus::view::samples::report;

    #[test]
    fn a_nodes_state_says_what_counts_first() {
        let base = || report("a", "r", (1, 1));
        let at = SystemTime::UNIX_EPOCH;
        for (report, silence, expected) in [
            (base(), 10, "applied"),
            (base(), 11, "silent, applied"),
            (NodeReport { staged: true, ..base() }, 0, "staged"),
            (NodeReport { state: NodeState::Rejected, ..base() }, 0, "rejected"),
            (NodeReport { state: NodeState::Waiting, expired: true, ..base() }, 0, "waiting, expired"),
            (NodeReport { draining: true, ..base() }, 0, "applied, draining"),
        ] {
            let states = states(&report, at, &[], at + Duration::from_secs(silence));
            assert_eq!(states.into_iter().map(State::name).collect::<Vec<_>>().join(", "), expected);
        }
    }

    #[test]
    fn lag_counts_publications_since_the_nodes_own() {
        let entry = |(epoch, revision): (u64, u64), seconds| Entry {
            revision,
            created: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            publication: Some(Publication::new("a", epoch, 0, "me")),
            unreadable: None,
        };
        let deleted = Entry { publication: None, ..entry((1, 8), 15) };
        let history = [entry((1, 3), 0), entry((1, 7), 10), deleted, entry((1, 9), 20)];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(30);
        let lag = |mark| Lag::of(&report("a", "r", mark), &history, now).map(|lag| lag.to_string());
        assert_eq!(lag((1, 9)), None);
        assert_eq!(lag((1, 12)), None);
        assert_eq!(lag((2, 1)), None);
        assert_eq!(lag((1, 7)).as_deref(), Some("1 (10s)"));
        assert_eq!(lag((1, 3)).as_deref(), Some("2 (20s)"));
        assert_eq!(lag((0, 0)).as_deref(), Some("3 (30s)"));
    }
}
