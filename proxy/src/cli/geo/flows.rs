//! Amounts that move from one place to another, the largest first.

use ipnet::IpNet;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::amount::{AmountReport, Requests};
use crate::databases::survey::{Amount, Combination, keep_largest};

/// What moves, in total and by its way.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Flows {
    #[serde(flatten)]
    pub(super) total: AmountReport,
    pub(super) flows: Vec<Flow>,
}

/// What moves one way.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Flow {
    pub(super) from: Vec<String>,
    pub(super) to: Vec<String>,
    /// The regions gained or lost, where that is the question.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) regions: Vec<String>,
    #[serde(flatten)]
    pub(super) amount: AmountReport,
    /// The largest networks that move.
    pub(super) examples: Vec<String>,
}

/// A way: from, to, and the regions gained or lost.
pub(super) type Way = (Vec<String>, Vec<String>, Vec<String>);

/// Flows that are being added up.
#[derive(Debug, Default)]
pub(super) struct Adding {
    total: Amount,
    ways: FxHashMap<Way, (Amount, Vec<IpNet>)>,
}

impl Adding {
    /// Adds the amount of one combination of answers.
    pub(super) fn add(&mut self, way: Way, what: &Combination) {
        self.total.add(&what.amount);
        let (amount, examples) = self.ways.entry(way).or_default();
        amount.add(&what.amount);
        keep_largest(examples, what.examples.iter().copied());
    }

    /// Returns the flows as parts of a whole, the largest first.
    pub(super) fn report(self, whole: &Amount, requests: Requests) -> Flows {
        let flow = |((from, to, regions), (amount, examples)): (Way, (Amount, Vec<IpNet>))| Flow {
            from,
            to,
            regions,
            amount: AmountReport::of(&amount, whole, requests),
            examples: examples.iter().map(ToString::to_string).collect(),
        };
        let mut flows: Vec<Flow> = self.ways.into_iter().map(flow).collect();
        let way = |flow: &Flow| (flow.from.clone(), flow.to.clone(), flow.regions.clone());
        flows.sort_by(|a, b| {
            let larger = b.amount.greatest_share().total_cmp(&a.amount.greatest_share());
            larger.then_with(|| way(a).cmp(&way(b)))
        });
        Flows { total: AmountReport::of(&self.total, whole, requests), flows }
    }
}
