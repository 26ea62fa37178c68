//! A canary: which nodes get a table first, and the objections to it from all nodes' reports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use config::bus::{NodeReport, NodeState};
use policy::hash::client_key;
use policy::quantile;
use policy::trial::{Finding, Marks, Nodes, Observed, judge};
use serde::Serialize;

use super::view::{Reports, Revision, is_silent};

/// Selects the nodes of a canary: `NODE`, `REGION` or `10%`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Selector {
    /// The node or the region of this name.
    Name(String),
    /// This share of the nodes, `0 < share <= 1`: at least one.
    Share(f64),
}

impl Selector {
    /// Parses a selector.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(percent) = text.strip_suffix('%') else {
            let is_name = !text.is_empty() && !text.contains(char::is_whitespace);
            let wrong = || "name a node, a region, or a share such as 10%".to_owned();
            return is_name.then(|| Selector::Name(text.to_owned())).ok_or_else(wrong);
        };
        match percent.trim().parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Selector::Share(percent / 100.0)),
            _ => Err("a share is more than 0% and at most 100%".to_owned()),
        }
    }
}

/// Resolves selectors to nodes that report. `salt` varies the nodes of a share from table to table.
///
/// # Errors
/// When no node reports, or nothing has such a name, with the nearest name.
pub(super) fn resolve(
    selectors: &[Selector],
    reports: &Reports,
    salt: &str,
    now: SystemTime,
) -> Result<BTreeSet<String>, String> {
    if reports.is_empty() {
        return Err("no node reports to the bus, so none can be the canary: publish without --canary".to_owned());
    }
    let mut found = BTreeSet::new();
    for selector in selectors {
        match selector {
            Selector::Share(share) => found.extend(spread(*share, reports, salt, now)),
            Selector::Name(name) => {
                let named = reports.iter().map(|(report, _)| report);
                let named = named.filter(|report| report.node == *name || report.region == *name);
                let mut nodes = named.map(|report| report.node.clone()).peekable();
                if nodes.peek().is_none() {
                    return Err(unknown(name, reports));
                }
                found.extend(nodes);
            }
        }
    }
    Ok(found)
}

/// Returns a share of the nodes that are not silent, at least one.
fn spread(share: f64, reports: &Reports, salt: &str, now: SystemTime) -> Vec<String> {
    let reporting = reports.iter().filter(|(_, reported_at)| !is_silent(*reported_at, now));
    let mut nodes: Vec<&str> = reporting.map(|(report, _)| report.node.as_str()).collect();
    nodes.sort_by_cached_key(|node| client_key(format!("{salt}/{node}").as_bytes()));
    let wanted = ((nodes.len() as f64 * share).round() as usize).max(1);
    nodes.into_iter().take(wanted).map(str::to_owned).collect()
}

fn unknown(name: &str, reports: &Reports) -> String {
    let known = || reports.iter().flat_map(|(report, _)| [report.node.as_str(), report.region.as_str()]);
    let hint = match config::nearest(name, known()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => {
            let known: BTreeSet<&str> = known().collect();
            format!("there are {}", known.into_iter().collect::<Vec<_>>().join(", "))
        }
    };
    format!("no node that reports is {name:?}, or in a region of that name; {hint}")
}

/// A staged table on trial: its nodes, and all nodes' counts when the trial began. Lives as long as the trial.
#[derive(Clone, Debug)]
pub(super) struct CanaryTrial {
    staged: BTreeMap<String, Start>,
    others: BTreeMap<String, Start>,
    revision: Revision,
    marks: Marks,
}

/// A node at the beginning of the trial.
#[derive(Clone, Debug)]
struct Start {
    instance: String,
    /// The node's recent counts before the trial.
    before: Observed,
    /// The node's counts since its own start, when the trial began.
    begun: Observed,
}

/// The state of a trial.
#[derive(Clone, Debug)]
pub(super) struct CanaryStats {
    /// The objections to the table; none while it is good.
    pub(super) against: Vec<Objection>,
    /// The counts of the nodes with the staged table.
    pub(super) staged: Nodes,
    /// The counts of the other nodes.
    pub(super) others: Nodes,
    /// When the bus stored the last report of each node with the staged table.
    pub(super) reported_at: BTreeMap<String, SystemTime>,
}

/// Why a staged table must not go further.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Objection {
    /// A node refuses the table; its first problem.
    Rejected { node: String, problem: String },
    /// A node no longer has the staged table.
    Dropped { node: String, revision: u64 },
    /// A node has restarted.
    Restarted { node: String },
    /// A node no longer reports.
    Vanished { node: String },
    /// The canary's nodes do worse than the others.
    Worse { finding: Box<Finding>, words: String },
}

impl CanaryTrial {
    /// Returns a trial that starts from these reports.
    pub(super) fn new(nodes: &BTreeSet<String>, reports: &Reports, revision: Revision, marks: Marks) -> Self {
        let start = |report: &NodeReport| {
            let (before, begun) = (report.lately.clone(), report.observed.clone());
            (report.node.clone(), Start { instance: report.instance.clone(), before, begun })
        };
        let (staged, others) =
            reports.iter().map(|(report, _)| report).partition::<Vec<_>, _>(|report| nodes.contains(&report.node));
        let starts = |reports: Vec<&NodeReport>| reports.into_iter().map(start).collect();
        Self { staged: starts(staged), others: starts(others), revision, marks }
    }

    /// Begins to count, once all nodes of the canary report that they have the table.
    pub(super) fn begin(&mut self, reports: &Reports) {
        for (report, _) in reports {
            let start = self.staged.get_mut(&report.node).or_else(|| self.others.get_mut(&report.node));
            if let Some(start) = start.filter(|start| start.instance == report.instance) {
                start.begun = report.observed.clone();
            }
        }
    }

    /// Returns the state of the trial by these reports. `silence_counts` is false while missing reports may be the
    /// fault of the bus.
    pub(super) fn stats(&self, reports: &Reports, now: SystemTime, silence_counts: bool) -> CanaryStats {
        let found = |node: &str| reports.iter().find(|(report, _)| report.node == node);
        let mut against = Vec::new();
        for (node, start) in &self.staged {
            let silent = found(node).is_none_or(|(_, reported_at)| is_silent(*reported_at, now));
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
        let reported_at =
            self.staged.keys().filter_map(|node| found(node).map(|(_, reported_at)| (node.clone(), *reported_at)));
        CanaryStats { against, staged, others, reported_at: reported_at.collect() }
    }

    fn objection(&self, report: &NodeReport, start: &Start) -> Option<Objection> {
        let node = report.node.clone();
        let refused = report.refused.as_ref().map(|refused| (refused.epoch, refused.revision));
        if report.state == NodeState::Rejected && refused == Some(self.revision) {
            let problem = report.problems.first().map_or_else(|| "it does not say why".to_owned(), |p| p.to_string());
            return Some(Objection::Rejected { node, problem });
        }
        if report.instance != start.instance {
            return Some(Objection::Restarted { node });
        }
        let has_it = (report.epoch, report.revision) == self.revision;
        (!has_it).then_some(Objection::Dropped { node, revision: report.revision })
    }
}

/// Sums the counts of these nodes, before the trial and since, without nodes that have restarted.
fn sum(starts: &BTreeMap<String, Start>, reports: &Reports) -> Nodes {
    let mut nodes = Nodes::default();
    for (report, _) in reports {
        let Some(start) = starts.get(&report.node).filter(|start| start.instance == report.instance) else { continue };
        nodes.before = nodes.before.plus(&start.before);
        nodes.since = nodes.since.plus(&report.observed.since(&start.begun));
    }
    nodes
}

/// Writes `canary 1200 requests, 3 errors, P95 48 ms; others 10800 requests, 20 errors, P95 45 ms`.
impl fmt::Display for CanaryStats {
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
            Objection::Restarted { node } => write!(f, "{node} restarted with it"),
            Objection::Vanished { node } => write!(f, "{node} no longer reports"),
            Objection::Worse { words, .. } => f.write_str(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use config::bus::Refused;

    use super::super::view::samples::report;
    use super::*;

    fn fleet(count: usize) -> Reports {
        let node = |number| {
            (report(&format!("n{number}"), if number < 2 { "us" } else { "eu-west" }, (1, 1)), SystemTime::UNIX_EPOCH)
        };
        (0..count).map(node).collect()
    }

    fn resolved(selectors: &[&str], count: usize, salt: &str) -> Result<BTreeSet<String>, String> {
        let selectors: Vec<Selector> = selectors.iter().map(|text| Selector::parse(text).unwrap()).collect();
        resolve(&selectors, &fleet(count), salt, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn selectors_are_names_or_shares() {
        for (text, expected) in [
            ("use1-a", Ok(Selector::Name("use1-a".to_owned()))),
            ("10%", Ok(Selector::Share(0.1))),
            ("0.5%", Ok(Selector::Share(0.005))),
            ("0%", Err(())),
            ("101%", Err(())),
            ("NaN%", Err(())),
            ("-1%", Err(())),
            ("", Err(())),
            ("a b", Err(())),
        ] {
            assert_eq!(Selector::parse(text).map_err(drop), expected, "{text}");
        }
    }

    #[test]
    fn names_are_nodes_or_regions() {
        let names = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(resolved(&["n3"], 5, ""), names(&["n3"]));
        assert_eq!(resolved(&["us"], 5, ""), names(&["n0", "n1"]));
        assert_eq!(resolved(&["us", "n1", "n4"], 5, ""), names(&["n0", "n1", "n4"]));
        assert!(resolved(&["eu-wset"], 5, "").unwrap_err().contains("did you mean \"eu-west\"?"));
        assert!(resolved(&["mars"], 3, "").unwrap_err().contains("there are eu-west, n0, n1, n2, us"));
        assert!(resolved(&["us"], 0, "").unwrap_err().contains("publish without --canary"));
    }

    #[test]
    fn shares_are_spread_by_the_table_and_at_least_one() {
        for (share, count, expected) in [("10%", 20, 2), ("1%", 20, 1), ("100%", 20, 20), ("50%", 1, 1)] {
            assert_eq!(resolved(&[share], count, "t").unwrap().len(), expected, "{share} of {count}");
        }
        assert_eq!(resolved(&["20%"], 20, "t"), resolved(&["20%"], 20, "t"));
        assert!((0..20).any(|salt| resolved(&["20%"], 20, &salt.to_string()) != resolved(&["20%"], 20, "t")));
        // The silent are no canaries, unless they are named.
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(11);
        let share = [Selector::parse("100%").unwrap()];
        let mut reports = fleet(3);
        reports[1].1 = now;
        assert_eq!(resolve(&share, &reports, "t", now), Ok(["n1".to_owned()].into()));
    }

    const STAGED: Revision = (1, 20);

    fn busy(node: &str, revision: Revision, requests: u64, errors: u64) -> NodeReport {
        let observed = Observed { requests, errors, ..Observed::default() };
        NodeReport { staged: revision == STAGED, lately: observed.clone(), observed, ..report(node, "r", revision) }
    }

    fn reported(reports: Vec<NodeReport>) -> Reports {
        reports.into_iter().map(|report| (report, SystemTime::UNIX_EPOCH)).collect()
    }

    fn trial() -> CanaryTrial {
        let before = reported(vec![busy("a", (1, 12), 10_000, 10), busy("b", (1, 12), 10_000, 10)]);
        CanaryTrial::new(&["a".to_owned()].into(), &before, STAGED, Marks::default())
    }

    fn against(reports: Vec<NodeReport>, seconds: u64, silence_counts: bool) -> Vec<String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let stats = trial().stats(&reported(reports), now, silence_counts);
        stats.against.iter().map(Objection::to_string).collect()
    }

    #[test]
    fn a_canary_that_does_as_before_is_good() {
        let reports = vec![busy("a", STAGED, 11_000, 12), busy("b", (1, 12), 11_000, 11)];
        assert!(against(reports.clone(), 5, true).is_empty());
        let stats = trial().stats(&reported(reports), SystemTime::UNIX_EPOCH, true);
        assert_eq!((stats.staged.since.requests, stats.others.since.requests), (1_000, 1_000));
        assert_eq!(
            stats.to_string(),
            "canary 1000 requests, 2 errors, 0 shed, 0 refused; others 1000 requests, 1 errors, 0 shed, 0 refused"
        );
    }

    #[test]
    fn whatever_befalls_a_canary_speaks_against_its_table() {
        let other = || busy("b", (1, 12), 11_000, 11);
        let good = || busy("a", STAGED, 11_000, 11);
        let refused = Some(Refused { epoch: 1, revision: 20, sha256: String::new(), at: 0 });
        let rejecting = NodeReport { state: NodeState::Rejected, refused, ..report("a", "r", (1, 12)) };
        for (reports, seconds, silence_counts, expected) in [
            (vec![good(), other()], 11, true, "a no longer reports"),
            (vec![good(), other()], 11, false, ""),
            (vec![other()], 1, true, "a no longer reports"),
            (vec![good()], 1, true, ""),
            (vec![rejecting, other()], 1, true, "a rejects it: it does not say why"),
            (vec![busy("a", (1, 12), 11_000, 11), other()], 1, true, "a has it no longer: it is on revision 12"),
            (vec![NodeReport { instance: "a-2".to_owned(), ..good() }, other()], 1, true, "a restarted with it"),
        ] {
            assert_eq!(against(reports, seconds, silence_counts).join("; "), expected);
        }
        let worse = against(vec![busy("a", STAGED, 11_000, 110), other()], 1, true);
        assert!(worse.join("").starts_with("errors: 100 of 1000 (10.0 %) with the staged table"), "{worse:?}");
    }
}
