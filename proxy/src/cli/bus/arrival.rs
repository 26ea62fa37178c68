//! Waits for nodes to take a table: which have it in force, which refuse it, and which have not decided yet.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use config::Problem;
use config::bus::{Bus, BusError, NodeReport, NodeState, PRUNED_AFTER, Place};
use serde::Serialize;

use super::console::{Console, ago};
use super::view::{Published, Reports, Revision, is_silent};

use crate::clock;

/// The result of a wait.
#[derive(Clone, Debug)]
pub(super) struct Waited {
    /// The nodes' state at the end.
    pub(super) arrival: Arrival,
    /// How long the wait took.
    pub(super) took: Duration,
}

/// Waits until every node has decided, or the time is up. A node that refuses a staged table ends the
/// wait at once. `what` starts each line of progress.
///
/// # Errors
/// When the bus does not answer at the end.
pub(super) async fn wait(
    bus: &Bus,
    goal: &Goal,
    what: &str,
    patience: Duration,
    console: &mut Console,
) -> Result<Waited, BusError> {
    let started = clock::now();
    let mut goal = goal.clone();
    loop {
        let is_last = started.elapsed() >= patience;
        match look(bus, &mut goal).await {
            Ok(reports) => {
                let arrival = Arrival::of(&goal, &reports);
                if arrival.nodes() > 0 {
                    console.progress(&format!("{what}: {arrival}"));
                }
                let is_refused = matches!(goal, Goal::Staged(..)) && !arrival.rejected.is_empty();
                if is_last || is_refused || arrival.is_complete() {
                    return Ok(Waited { arrival, took: started.elapsed() });
                }
            }
            Err(error) if is_last => return Err(error),
            Err(error) => console.progress(&format!("{what}: {error}; it goes on once the bus answers")),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Reads the present reports. Where a node has a later table, updates the goal's live revision.
async fn look(bus: &Bus, goal: &mut Goal) -> Result<Reports, BusError> {
    let mut reports = bus.reports_within(PRUNED_AFTER).await?;
    let now = clock::system_time();
    reports.retain(|(report, reported_at)| goal.waits_for(&report.node) || !is_silent(*reported_at, now));
    if goal.is_behind(&reports)
        && let (Goal::Live { newest, .. }, Some(live)) = (goal, bus.live(Place::Table).await?.and_then(Published::of))
    {
        *newest = live.order().max(*newest);
    }
    Ok(reports)
}

/// What is waited for.
#[derive(Clone, Debug)]
pub(super) enum Goal {
    /// Every node that reports, and those that did when it was published, has decided on the table of this
    /// revision, or on a later one.
    Live {
        /// The nodes that reported when it was published.
        nodes: BTreeSet<String>,
        /// The table's.
        revision: Revision,
        /// The live table's: a later revision is not of this bucket.
        newest: Revision,
    },
    /// These nodes have the staged table of this revision.
    Staged(BTreeSet<String>, Revision),
    /// These nodes no longer have a staged table.
    Withdrawn(BTreeSet<String>),
}

/// Which nodes have reached the goal, at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::cli) struct Arrival {
    /// The nodes that have reached the goal.
    pub(super) applied: Vec<String>,
    /// The nodes that refuse the table.
    pub(super) rejected: Vec<Rejection>,
    /// The nodes that have not decided.
    pub(super) to_come: Vec<Late>,
}

/// A node that refuses the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rejection {
    pub(super) node: String,
    pub(super) problems: Vec<Problem>,
}

/// A node that is waited for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Late {
    pub(super) node: String,
    /// The revision that the node has in force.
    pub(super) revision: Option<u64>,
    /// When the bus stored the node's last report.
    #[serde(skip)]
    pub(super) reported_at: Option<SystemTime>,
}

impl Arrival {
    /// Returns the nodes' state by these reports.
    pub(super) fn of(goal: &Goal, reports: &Reports) -> Self {
        let mut arrival = Self::default();
        for (report, reported_at) in reports.iter().filter(|(report, _)| goal.concerns(&report.node)) {
            let node = report.node.clone();
            if goal.is_reached(report) {
                arrival.applied.push(node);
            } else if goal.is_refused(report) {
                arrival.rejected.push(Rejection { node, problems: report.problems.clone() });
            } else {
                arrival.to_come.push(Late { node, revision: Some(report.revision), reported_at: Some(*reported_at) });
            }
        }
        let reporting = |node: &&String| reports.iter().any(|(report, _)| report.node == **node);
        let gone = goal.named().into_iter().flatten().filter(|node| !reporting(node));
        arrival.to_come.extend(gone.map(|node| Late { node: node.clone(), revision: None, reported_at: None }));
        arrival
    }

    /// Returns whether every node has decided.
    pub(super) fn is_complete(&self) -> bool {
        self.to_come.is_empty()
    }

    /// Returns the number of all nodes.
    pub(super) fn nodes(&self) -> usize {
        self.applied.len() + self.rejected.len() + self.to_come.len()
    }

    /// Returns each rejecting node's first problems, a line each.
    pub(super) fn rejections(&self) -> String {
        let texts = self.rejected.iter().map(|Rejection { node, problems }| {
            let first = problems.iter().take(MOST_PROBLEMS).map(|problem| format!("  {problem}\n"));
            let more = problems.len().saturating_sub(MOST_PROBLEMS);
            let more = if more > 0 { format!("  and {more} more\n") } else { String::new() };
            format!("{node} rejects it:\n{}{more}", first.collect::<String>())
        });
        texts.collect()
    }

    /// Returns the nodes that have not decided, each with the age of its last report.
    pub(super) fn missing(&self, now: SystemTime) -> String {
        let text = |late: &Late| match (late.reported_at, late.revision) {
            (Some(reported_at), Some(revision)) => {
                format!("{} (on revision {revision}, last report {} ago)", late.node, ago(reported_at, now))
            }
            _ => format!("{} (which reports no longer)", late.node),
        };
        some(self.to_come.iter().map(text))
    }
}

/// Writes `18 of 20 nodes applied, 1 rejected, 1 to come (use1-b)`.
impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} applied", self.applied.len(), nodes(self.nodes()))?;
        if !self.rejected.is_empty() {
            write!(f, ", {} rejected", self.rejected.len())?;
        }
        if !self.to_come.is_empty() {
            let names = some(self.to_come.iter().map(|late| late.node.clone()));
            write!(f, ", {} to come ({names})", self.to_come.len())?;
        }
        Ok(())
    }
}

impl Goal {
    /// Returns whether some node has a later table than the goal's live one.
    pub(super) fn is_behind(&self, reports: &Reports) -> bool {
        let fleet = reports.iter().map(|(report, _)| (report.epoch, report.revision)).max();
        matches!(self, Goal::Live { newest, .. } if fleet.is_some_and(|fleet| fleet > *newest))
    }

    /// Returns whether a silent node is waited for: it may still serve, with an old table.
    pub(super) fn waits_for(&self, node: &str) -> bool {
        match self {
            Goal::Live { nodes, .. } | Goal::Staged(nodes, _) => nodes.contains(node),
            // A node that has ended no longer has a table.
            Goal::Withdrawn(_) => false,
        }
    }

    /// Returns the nodes that the goal names, and that must report.
    fn named(&self) -> Option<&BTreeSet<String>> {
        match self {
            Goal::Staged(nodes, _) => Some(nodes),
            // A node that has left in order serves no requests.
            Goal::Live { .. } | Goal::Withdrawn(_) => None,
        }
    }

    fn concerns(&self, node: &str) -> bool {
        match self {
            Goal::Live { .. } => true,
            Goal::Staged(nodes, _) | Goal::Withdrawn(nodes) => nodes.contains(node),
        }
    }

    fn is_reached(&self, report: &NodeReport) -> bool {
        let in_force = (report.epoch, report.revision);
        match self {
            Goal::Live { revision, newest, .. } => (*revision..=*newest).contains(&in_force),
            Goal::Staged(_, revision) => in_force == *revision,
            Goal::Withdrawn(_) => !report.staged,
        }
    }

    fn is_refused(&self, report: &NodeReport) -> bool {
        let refused = report.refused.as_ref().map(|refused| (refused.epoch, refused.revision));
        let refused = refused.filter(|_| report.state == NodeState::Rejected);
        match self {
            Goal::Live { revision, newest, .. } => {
                refused.is_some_and(|refused| (*revision..=*newest).contains(&refused))
            }
            Goal::Staged(_, revision) => refused == Some(*revision),
            Goal::Withdrawn(_) => false,
        }
    }
}

/// Returns `1 node`, `20 nodes`.
pub(super) fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

/// Returns the first of many names, and how many more there are.
pub(super) fn some(names: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = names.collect();
    let shown = all.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    let more = all.len().saturating_sub(MOST_NAMES);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

const MOST_NAMES: usize = 5;

const MOST_PROBLEMS: usize = 3;

/// How often the reports are read while they are waited for.
const POLL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use config::bus::Refused;

    use super::super::view::samples::report;
    use super::*;

    fn refusing(node: &str, in_force: Revision, (epoch, revision): Revision) -> NodeReport {
        let refused = Some(Refused { epoch, revision, sha256: String::new(), at: 0 });
        NodeReport { state: NodeState::Rejected, refused, ..report(node, "r", in_force) }
    }

    fn reported(reports: Vec<NodeReport>) -> Reports {
        reports.into_iter().map(|report| (report, SystemTime::UNIX_EPOCH)).collect()
    }

    #[test]
    fn a_node_has_taken_it_refuses_it_or_is_to_come() {
        let live = Goal::Live { nodes: BTreeSet::new(), revision: (1, 14), newest: (1, 15) };
        for (report, expected) in [
            (report("a", "r", (1, 14)), "1 of 1 node applied"),
            (report("a", "r", (1, 15)), "1 of 1 node applied"),
            // What was live in another bucket.
            (report("a", "r", (1, 16)), "0 of 1 node applied, 1 to come (a)"),
            (report("a", "r", (2, 1)), "0 of 1 node applied, 1 to come (a)"),
            (report("a", "r", (1, 12)), "0 of 1 node applied, 1 to come (a)"),
            (refusing("a", (1, 12), (1, 14)), "0 of 1 node applied, 1 rejected"),
            (refusing("a", (1, 12), (1, 15)), "0 of 1 node applied, 1 rejected"),
            // An earlier refusal says nothing of this one.
            (refusing("a", (1, 12), (1, 13)), "0 of 1 node applied, 1 to come (a)"),
        ] {
            assert_eq!(Arrival::of(&live, &reported(vec![report.clone()])).to_string(), expected, "{report:?}");
        }
        assert_eq!(Arrival::of(&live, &Vec::new()).nodes(), 0);
        // Who reported when it was published is waited for, though silent: it may serve with an old table.
        let live = Goal::Live { nodes: ["a".to_owned()].into(), revision: (1, 14), newest: (1, 14) };
        assert!(live.waits_for("a") && !live.waits_for("b"));
    }

    #[test]
    fn staged_tables_concern_their_nodes_alone() {
        let named: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
        let staged = |node, revision| NodeReport { staged: true, ..report(node, "r", (1, revision)) };
        let reports = reported(vec![staged("a", 20), report("c", "r", (1, 12))]);
        let goal = Goal::Staged(named.clone(), (1, 20));
        // Nobody can say of a node that is gone that it has it.
        let arrival = Arrival::of(&goal, &reports);
        assert_eq!(arrival.to_string(), "1 of 2 nodes applied, 1 to come (b)");
        assert_eq!(arrival.missing(SystemTime::UNIX_EPOCH), "b (which reports no longer)");
        let goal = Goal::Withdrawn(named);
        assert_eq!(Arrival::of(&goal, &reports).to_string(), "0 of 1 node applied, 1 to come (a)");
        let back = reported(vec![refusing("a", (1, 12), (1, 20))]);
        assert!(Arrival::of(&goal, &back).is_complete());
    }

    #[test]
    fn many_names_are_cut_short() {
        assert_eq!(some((0..7).map(|number| number.to_string())), "0, 1, 2, 3, 4 and 2 more");
    }
}
