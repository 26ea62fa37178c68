//! What a region is worth to a client: 0 to 100 points, from four terms.

mod curve;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use curve::{CurveError, CurveShape, LatencyCurve};

/// How a route may score regions, as a table says it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoringSpec {
    /// The name, unique in the table.
    pub name: String,
    /// What each term counts.
    pub weights: Weights,
    /// The points of the latency term.
    pub latency_curve: LatencyCurve,
    /// Whose round trip those are of.
    pub latency_from: LatencyFrom,
    /// Whether the shares of regions decide before scores do, where regions have them.
    pub shares: bool,
}

impl ScoringSpec {
    /// Returns the scoring that a name stands for without a declaration.
    pub fn built_in(name: &str) -> Option<Self> {
        let weights = Weights::built_in(name)?;
        Some(Self {
            name: name.to_owned(),
            weights,
            latency_curve: LatencyCurve::default(),
            latency_from: LatencyFrom::Node,
            shares: true,
        })
    }
}

/// From where the latency of a score is reckoned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LatencyFrom {
    /// From the node that has the request: the way that the request goes on.
    #[default]
    Node,
    /// From the client, where its coordinates are known: the same choice at every node.
    Client,
}

impl LatencyFrom {
    /// Returns its name, as tables have it.
    pub fn name(self) -> &'static str {
        match self {
            LatencyFrom::Node => "node",
            LatencyFrom::Client => "client",
        }
    }
}

/// The weights of the four terms; only their proportions matter.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Weights {
    pub latency: f64,
    pub load: f64,
    pub compliance: f64,
    pub cost: f64,
}

impl Weights {
    /// Returns the weights that a name stands for without a declaration.
    pub fn built_in(name: &str) -> Option<Self> {
        let (latency, load, compliance, cost) = match name {
            "balanced" => (0.5, 0.3, 0.2, 0.0),
            "capacity_first" => (0.3, 0.4, 0.2, 0.1),
            "latency_sensitive" => (0.7, 0.3, 0.0, 0.0),
            "throughput" => (0.3, 0.7, 0.0, 0.0),
            _ => return None,
        };
        Some(Self { latency, load, compliance, cost })
    }

    /// The names that [`Weights::built_in`] knows.
    pub const BUILT_IN: &'static [&'static str] = &["balanced", "capacity_first", "latency_sensitive", "throughput"];

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.latency + self.load + self.compliance + self.cost
    }

    /// Returns whether they can weigh anything: finite, none negative, not all zero.
    pub fn is_usable(&self) -> bool {
        [self.latency, self.load, self.compliance, self.cost].iter().all(|w| w.is_finite() && *w >= 0.0)
            && self.sum() > 0.0
    }
}

/// The four terms of a score, each 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Terms {
    pub latency: f32,
    pub load: f32,
    pub compliance: f32,
    pub cost: f32,
}

/// A route's scoring, with the terms that never change between table and table already summed:
/// the score is `latency·l + load·u + fixed[region]`.
#[derive(Clone, Debug)]
pub(crate) struct Scoring {
    pub(crate) curve: Arc<CompiledCurve>,
    /// See [`ScoringSpec::shares`].
    pub(crate) shares: bool,
    /// See [`ScoringSpec::latency_from`].
    pub(crate) latency_from: LatencyFrom,
    pub(crate) latency: f32,
    pub(crate) load: f32,
    pub(crate) fixed: Box<[f32]>,
    pub(crate) compliance: Box<[f32]>,
    pub(crate) cost: Box<[f32]>,
}

impl Scoring {
    /// Sums the constant terms of every region; `compliance` and `cost` hold points by region.
    pub(crate) fn new(spec: &ScoringSpec, curve: Arc<CompiledCurve>, compliance: Box<[f32]>, cost: Box<[f32]>) -> Self {
        let ScoringSpec { weights, shares, latency_from, .. } = spec;
        let share = |weight: f64| (weight / weights.sum()) as f32;
        let fixed = compliance
            .iter()
            .zip(&cost)
            .map(|(compliance, cost)| share(weights.compliance) * compliance + share(weights.cost) * cost)
            .collect();
        Self {
            curve,
            shares: *shares,
            latency_from: *latency_from,
            latency: share(weights.latency),
            load: share(weights.load),
            fixed,
            compliance,
            cost,
        }
    }

    /// Returns the score of the region at `index`, 0 to 100, from its latency's points and its utilisation.
    pub(crate) fn score(&self, index: usize, latency: f32, utilisation: f32) -> f32 {
        self.latency * latency + self.load * load_points(utilisation) + self.fixed[index]
    }

    /// Returns the terms behind that score.
    pub(crate) fn terms(&self, index: usize, latency_ms: f32, utilisation: f32) -> Terms {
        Terms {
            latency: self.curve.points(latency_ms),
            load: load_points(utilisation),
            compliance: self.compliance.get(index).copied().unwrap_or(0.0),
            cost: self.cost.get(index).copied().unwrap_or(0.0),
        }
    }
}

/// A latency curve, with the points for the table's own round trips already found. Shared by the scorings that have
/// the same curve.
#[derive(Clone, Debug)]
pub(crate) struct CompiledCurve {
    curve: LatencyCurve,
    /// `from * regions + to`.
    prior: Box<[f32]>,
    regions: usize,
}

impl CompiledCurve {
    /// Finds the points for `latency_ms`, which holds `regions` times `regions` round trips.
    pub(crate) fn new(curve: &LatencyCurve, latency_ms: &[f32], regions: usize) -> Self {
        Self { prior: latency_ms.iter().map(|ms| curve.points(*ms)).collect(), curve: curve.clone(), regions }
    }

    /// Returns the points for the table's own round trips from a region, by the index of the region they go to.
    pub(crate) fn prior(&self, from: usize) -> &[f32] {
        &self.prior[from * self.regions..(from + 1) * self.regions]
    }

    /// Returns the points for a round trip in milliseconds.
    pub(crate) fn points(&self, ms: f32) -> f32 {
        self.curve.points(ms)
    }
}

/// Points for a utilisation, 0 (idle) to 1 (full).
pub(crate) fn load_points(utilisation: f32) -> f32 {
    100.0 * (1.0 - utilisation.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_weights_are_usable() {
        for name in Weights::BUILT_IN {
            assert!(Weights::built_in(name).is_some_and(|w| w.is_usable() && (w.sum() - 1.0).abs() < 1e-9), "{name}");
        }
        assert!(!Weights { latency: 0.0, load: 0.0, compliance: 0.0, cost: 0.0 }.is_usable());
        assert!(!Weights { latency: f64::NAN, load: 1.0, compliance: 0.0, cost: 0.0 }.is_usable());
    }
}
