//! The trial of a publication: whether the nodes that have a staged table do worse by it.
//!
//! # Worse than what?
//! Than the same nodes before, if they had [`LEAST_REQUESTS`] requests then: their clients, their
//! region and their machines are the same, and only the table is not. A trouble that began meanwhile
//! looks the same, so a finding tells whether the other nodes became worse as well ([`Elsewhere`]).
//! Nodes that have done too little before are compared with the others in the same time, if those had
//! as many requests; and if nobody has, the operator's [`Marks`] alone count.
//!
//! # When is it worse?
//! When the difference is more than chance ([`crate::chance`]), of [`LEAST_CASES`] cases at least; and
//! then errors must also be past the operator's mark, since a harmless few are no reason to stop, and
//! a P95 longer by a quarter, since with many requests the smallest difference is beyond chance. What
//! nodes shed or refuse has no mark: it is the first that a wrong table changes, and from nothing.

mod observed;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chance::{Cases, LEAST_CASES, LEAST_REQUESTS, NOTABLY_LONGER};
use crate::quantile;

pub use observed::Observed;

/// Returns what there is against a staged table: nothing, as long as the list is empty. `others` are the nodes that
/// do not have it.
pub fn judge(staged: &Nodes, others: &Nodes, marks: &Marks) -> Vec<Finding> {
    Signal::ALL.into_iter().filter_map(|signal| find(signal, staged, others, marks)).collect()
}

/// What a group of nodes did before a table was staged on some of them, and since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// In all, before.
    pub before: Observed,
    /// Since.
    pub since: Observed,
}

/// What the operator takes for harmless.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marks {
    /// This share of errors, `0..=1`.
    pub error_rate: f64,
}

impl Default for Marks {
    fn default() -> Self {
        Self { error_rate: 0.01 }
    }
}

/// What became worse with a staged table, and than what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What became worse.
    pub signal: Signal,
    /// With the staged table.
    pub staged: Figure,
    /// Without it.
    pub baseline: Baseline,
}

/// What a trial looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Answers with a status from 500 on.
    Errors,
    /// The P95 of the time to the answer's head.
    Latency,
    /// Requests shed for overload.
    Shed,
    /// Requests refused because of the law.
    Refused,
}

/// What the staged table's nodes are compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// The same nodes, before they had it.
    Before {
        /// What they did.
        figure: Figure,
        /// What became of the other nodes meanwhile.
        elsewhere: Elsewhere,
    },
    /// The other nodes, in the same time.
    Others(Figure),
    /// Nobody: the operator's mark, a share `0..=1`.
    Mark(f64),
}

/// What became of the nodes that do not have the staged table, by the same signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Elsewhere {
    /// They had too few requests, before or since, to tell.
    Unknown,
    /// They are no worse than before.
    NoWorse,
    /// They became worse too: it may not be the table.
    Worse {
        /// Before.
        before: Figure,
        /// Since.
        since: Figure,
    },
}

/// The numbers of one signal for one group of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The requests that count against them. For [`Signal::Latency`]: those that took longer than the
    /// P95 they are compared with.
    pub cases: Cases,
    /// The P95 in milliseconds, within 13 %; of [`Signal::Latency`] only.
    pub p95_ms: Option<f64>,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 4] = [Signal::Errors, Signal::Latency, Signal::Shed, Signal::Refused];

    /// Returns the word for logs, metrics and `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Errors => "errors",
            Signal::Latency => "latency",
            Signal::Shed => "shed",
            Signal::Refused => "refused",
        }
    }
}

fn find(signal: Signal, staged: &Nodes, others: &Nodes, marks: &Marks) -> Option<Finding> {
    let errors = Cases::new(staged.since.errors, staged.since.requests);
    if signal == Signal::Errors && !errors.is_past(marks.error_rate) {
        return None;
    }
    let (figure, baseline) = if is_enough(&staged.before) {
        let (before, since) = worse(signal, &staged.before, &staged.since)?;
        (since, Baseline::Before { figure: before, elsewhere: elsewhere(signal, others) })
    } else if is_enough(&others.since) {
        let (others, staged) = worse(signal, &others.since, &staged.since)?;
        (staged, Baseline::Others(others))
    } else if signal == Signal::Errors && errors.count() >= LEAST_CASES {
        (Figure { cases: errors, p95_ms: None }, Baseline::Mark(marks.error_rate))
    } else {
        return None;
    };
    Some(Finding { signal, staged: figure, baseline })
}

fn elsewhere(signal: Signal, others: &Nodes) -> Elsewhere {
    if !is_enough(&others.before) || !is_enough(&others.since) {
        return Elsewhere::Unknown;
    }
    match worse(signal, &others.before, &others.since) {
        Some((before, since)) => Elsewhere::Worse { before, since },
        None => Elsewhere::NoWorse,
    }
}

fn is_enough(observed: &Observed) -> bool {
    observed.requests >= LEAST_REQUESTS
}

/// Returns the figures of both, if the second is worse than the first beyond chance.
fn worse(signal: Signal, base: &Observed, seen: &Observed) -> Option<(Figure, Figure)> {
    let counted = |count: fn(&Observed) -> u64| {
        let figure = |observed| Figure { cases: Cases::new(count(observed), observed.requests), p95_ms: None };
        (figure(base), figure(seen))
    };
    let (base, seen) = match signal {
        Signal::Errors => counted(|observed| observed.errors),
        Signal::Shed => counted(|observed| observed.shed),
        Signal::Refused => counted(|observed| observed.refused),
        Signal::Latency => slower(base, seen)?,
    };
    (seen.cases.count() >= LEAST_CASES && seen.cases.is_worse_than(&base.cases)).then_some((base, seen))
}

/// Returns how many took longer than the P95 of the first, if the P95 of the second is notably longer.
fn slower(base: &Observed, seen: &Observed) -> Option<(Figure, Figure)> {
    let p95 = |observed: &Observed| quantile::quantile(observed.times, 0.95);
    let (mark, now) = (p95(base)?, p95(seen)?);
    if base.timed() < LEAST_REQUESTS || seen.timed() < LEAST_REQUESTS || now <= mark.mul_f64(NOTABLY_LONGER) {
        return None;
    }
    let figure = |observed: &Observed, p95: Duration| Figure {
        cases: Cases::new(observed.longer_than(mark), observed.timed()),
        p95_ms: Some(p95.as_secs_f64() * 1_000.0),
    };
    Some((figure(base, mark), figure(seen, now)))
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signal, staged, baseline } = self;
        write!(f, "{}: {staged} with the staged table, ", signal.name())?;
        match baseline {
            Baseline::Before { figure, elsewhere } => {
                write!(f, "{figure} on the same nodes before{}{}", self.longer_than(figure), elsewhere.clause())
            }
            Baseline::Others(figure) => {
                write!(f, "{figure} on the other nodes meanwhile{}", self.longer_than(figure))
            }
            Baseline::Mark(share) => {
                write!(f, "more than {:.1} %, and nothing to compare it with", share * 100.0)
            }
        }
    }
}

impl Finding {
    /// Returns how many took longer than a P95; nothing for what has none.
    fn longer_than(&self, usual: &Figure) -> String {
        usual.p95_ms.map_or_else(String::new, |p95_ms| {
            let share = usual.cases.share() * 100.0;
            format!(" (longer than {p95_ms:.0} ms took {}, instead of {share:.1} %)", self.staged.cases)
        })
    }
}

impl Elsewhere {
    fn clause(&self) -> String {
        match self {
            Elsewhere::Unknown => String::new(),
            Elsewhere::NoWorse => "; the other nodes are no worse than before".to_owned(),
            Elsewhere::Worse { before, since } => {
                format!("; the other nodes became worse too ({before} before, {since} since): it may not be the table")
            }
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.p95_ms {
            Some(p95_ms) => write!(f, "P95 {p95_ms:.0} ms"),
            None => self.cases.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
