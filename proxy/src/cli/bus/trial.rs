//! What the reports of all nodes say against a staged table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use config::bus::{NodeReport, NodeState};
use policy::quantile;
use policy::trial::{Finding, Marks, Nodes, Observed, judge};
use serde::Serialize;

use super::scene::{Mark, Reports, is_silent};

/// A staged table on trial: who has it, and what everybody had done when it began.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    staged: BTreeMap<String, Start>,
    others: BTreeMap<String, Start>,
    mark: Mark,
    marks: Marks,
}

/// A node when the trial began.
#[derive(Clone, Debug)]
struct Start {
    instance: String,
    /// What it had done lately.
    before: Observed,
    /// What it had done since its own start.
    begun: Observed,
}

/// How a trial stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// What speaks against the table; nothing, while it is good.
    pub(super) against: Vec<Objection>,
    /// What the nodes that have it did.
    pub(super) staged: Nodes,
    /// What the others did.
    pub(super) others: Nodes,
    /// When the bus took the last report of each node that has it.
    pub(super) heard: BTreeMap<String, SystemTime>,
}

/// Why a staged table must not go further.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Objection {
    /// A node refuses it, for this reason first.
    Rejected { node: String, problem: String },
    /// A node that had it has it no longer.
    Dropped { node: String, revision: u64 },
    /// A node has started anew.
    Restarted { node: String },
    /// A node reports no longer.
    Vanished { node: String },
    /// Its nodes do worse.
    Worse { finding: Box<Finding>, words: String },
}

impl Trial {
    /// Of what the nodes had done before.
    pub(super) fn new(nodes: &BTreeSet<String>, reports: &Reports, mark: Mark, marks: Marks) -> Self {
        let start = |report: &NodeReport| {
            let (before, begun) = (report.lately.clone(), report.observed.clone());
            (report.node.clone(), Start { instance: report.instance.clone(), before, begun })
        };
        let (staged, others) =
            reports.iter().map(|(report, _)| report).partition::<Vec<_>, _>(|report| nodes.contains(&report.node));
        let starts = |reports: Vec<&NodeReport>| reports.into_iter().map(start).collect();
        Self { staged: starts(staged), others: starts(others), mark, marks }
    }

    /// All nodes that have it say so in these reports: what counts is what they do from now on.
    pub(super) fn begin(&mut self, reports: &Reports) {
        for (report, _) in reports {
            let start = self.staged.get_mut(&report.node).or_else(|| self.others.get_mut(&report.node));
            if let Some(start) = start.filter(|start| start.instance == report.instance) {
                start.begun = report.observed.clone();
            }
        }
    }

    /// How it stands by these reports. `silence_counts` is false while it may be the bus that nobody
    /// was heard through.
    pub(super) fn standing(&self, reports: &Reports, now: SystemTime, silence_counts: bool) -> Standing {
        let found = |node: &str| reports.iter().find(|(report, _)| report.node == node);
        let mut against = Vec::new();
        for (node, start) in &self.staged {
            let silent = found(node).is_none_or(|(_, heard)| is_silent(*heard, now));
            match found(node) {
                _ if silent && silence_counts => against.push(Objection::Vanished { node: node.clone() }),
                Some((report, _)) => against.extend(self.objection(report, start)),
                None => {}
            }
        }
        let (staged, others) = (sum(&self.staged, reports), sum(&self.others, reports));
        against.extend(judge(&staged, &others, &self.marks).into_iter().map(|finding| {
            let words = finding.to_string();
            Objection::Worse { finding: Box::new(finding), words }
        }));
        let heard = self.staged.keys().filter_map(|node| found(node).map(|(_, heard)| (node.clone(), *heard)));
        Standing { against, staged, others, heard: heard.collect() }
    }

    fn objection(&self, report: &NodeReport, start: &Start) -> Option<Objection> {
        let node = report.node.clone();
        let refused = report.refused.as_ref().map(|refused| (refused.epoch, refused.revision));
        if report.state == NodeState::Rejected && refused == Some(self.mark) {
            let problem = report.problems.first().map_or_else(|| "it does not say why".to_owned(), |p| p.to_string());
            return Some(Objection::Rejected { node, problem });
        }
        if report.instance != start.instance {
            return Some(Objection::Restarted { node });
        }
        let has_it = (report.epoch, report.revision) == self.mark;
        (!has_it).then_some(Objection::Dropped { node, revision: report.revision })
    }
}

/// What these nodes did before and since, those that have started anew left out.
fn sum(starts: &BTreeMap<String, Start>, reports: &Reports) -> Nodes {
    let mut nodes = Nodes::default();
    for (report, _) in reports {
        let Some(start) = starts.get(&report.node).filter(|start| start.instance == report.instance) else { continue };
        nodes.before = nodes.before.plus(&start.before);
        nodes.since = nodes.since.plus(&report.observed.since(&start.begun));
    }
    nodes
}

/// `canary 1200 requests, 3 errors, P95 48 ms; others 10800 requests, 20 errors, P95 45 ms`.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "canary {}; others {}", figures(&self.staged.since), figures(&self.others.since))
    }
}

fn figures(observed: &Observed) -> String {
    let p95 = quantile::quantile(observed.times, 0.95);
    let p95 = p95.map_or_else(String::new, |p95| format!(", P95 {:.0} ms", p95.as_secs_f64() * 1_000.0));
    let Observed { requests, errors, shed, refused, .. } = observed;
    format!("{requests} requests, {errors} errors, {shed} shed, {refused} refused{p95}")
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objection::Rejected { node, problem } => write!(f, "{node} rejects it: {problem}"),
            Objection::Dropped { node, revision } => {
                write!(f, "{node} has it no longer: it is on revision {revision}")
            }
            Objection::Restarted { node } => write!(f, "{node} started anew with it"),
            Objection::Vanished { node } => write!(f, "{node} is not heard from any more"),
            Objection::Worse { words, .. } => f.write_str(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use config::bus::Refused;

    use super::super::scene::samples::report;
    use super::*;

    const MARK: Mark = (1, 20);

    fn busy(node: &str, mark: Mark, requests: u64, errors: u64) -> NodeReport {
        let observed = Observed { requests, errors, ..Observed::default() };
        NodeReport { staged: mark == MARK, lately: observed.clone(), observed, ..report(node, "r", mark) }
    }

    fn heard(reports: Vec<NodeReport>) -> Reports {
        reports.into_iter().map(|report| (report, SystemTime::UNIX_EPOCH)).collect()
    }

    fn trial() -> Trial {
        let before = heard(vec![busy("a", (1, 12), 10_000, 10), busy("b", (1, 12), 10_000, 10)]);
        Trial::new(&["a".to_owned()].into(), &before, MARK, Marks::default())
    }

    fn against(reports: Vec<NodeReport>, seconds: u64, silence_counts: bool) -> Vec<String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let standing = trial().standing(&heard(reports), now, silence_counts);
        standing.against.iter().map(Objection::to_string).collect()
    }

    #[test]
    fn a_canary_that_does_as_before_is_good() {
        let reports = vec![busy("a", MARK, 11_000, 12), busy("b", (1, 12), 11_000, 11)];
        assert!(against(reports.clone(), 5, true).is_empty());
        let standing = trial().standing(&heard(reports), SystemTime::UNIX_EPOCH, true);
        assert_eq!((standing.staged.since.requests, standing.others.since.requests), (1_000, 1_000));
        assert_eq!(
            standing.to_string(),
            "canary 1000 requests, 2 errors, 0 shed, 0 refused; others 1000 requests, 1 errors, 0 shed, 0 refused"
        );
    }

    #[test]
    fn whatever_befalls_a_canary_speaks_against_its_table() {
        let other = || busy("b", (1, 12), 11_000, 11);
        let good = || busy("a", MARK, 11_000, 11);
        let refused = Some(Refused { epoch: 1, revision: 20, sha256: String::new(), at: 0 });
        let rejecting = NodeReport { state: NodeState::Rejected, refused, ..report("a", "r", (1, 12)) };
        for (reports, seconds, silence_counts, expected) in [
            (vec![good(), other()], 11, true, "a is not heard from any more"),
            (vec![good(), other()], 11, false, ""),
            (vec![other()], 1, true, "a is not heard from any more"),
            (vec![good()], 1, true, ""),
            (vec![rejecting, other()], 1, true, "a rejects it: it does not say why"),
            (vec![busy("a", (1, 12), 11_000, 11), other()], 1, true, "a has it no longer: it is on revision 12"),
            (vec![NodeReport { instance: "a-2".to_owned(), ..good() }, other()], 1, true, "a started anew with it"),
        ] {
            assert_eq!(against(reports, seconds, silence_counts).join("; "), expected);
        }
        let worse = against(vec![busy("a", MARK, 11_000, 110), other()], 1, true);
        assert!(worse.join("").starts_with("errors: 100 of 1000 (10.0 %) with the staged table"), "{worse:?}");
    }
}
