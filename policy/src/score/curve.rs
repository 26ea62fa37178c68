//! The latency curve: how many points, 0 to 100, a round trip is worth.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A curve from round trips to points. It never rises: what is further away is never worth more.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyCurve {
    shape: CurveShape,
    knots: Vec<(f64, f64)>,
    /// What a decision reads: one for each knot.
    segments: Vec<Segment>,
}

/// What holds between two knots of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CurveShape {
    /// A straight line.
    Line,
    /// The points of the knot before.
    Steps,
}

/// A piece of a curve, up to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    from_ms: f32,
    points: f32,
    /// Points per millisecond.
    slope: f32,
}

/// Why knots make no curve.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[allow(missing_docs)]
pub enum CurveError {
    #[error("{0} knots; a curve has 1 to {max}", max = LatencyCurve::MAX_KNOTS)]
    Count(usize),
    #[error("[{0}, {1}] is no knot: milliseconds are 0 to 1000000, points 0 to 100")]
    Knot(f64, f64),
    #[error("{1} ms comes after {0} ms: the knots stand in the order of their milliseconds, each once")]
    Order(f64, f64),
    #[error("{1} points come after {0}: what is further away cannot be worth more")]
    Rises(f64, f64),
    #[error("the first step begins at {0} ms: say what is nearer worth, with a step at 0")]
    Begins(f64),
}

impl LatencyCurve {
    /// The most knots of a curve: a decision walks through them for each measured round trip.
    pub const MAX_KNOTS: usize = 32;

    /// The names that [`LatencyCurve::built_in`] knows.
    pub const BUILT_IN: &'static [&'static str] = &["line", "steps", "point_per_10ms", "point_per_ms"];

    /// Returns the curve that a name stands for.
    pub fn built_in(name: &str) -> Option<Self> {
        let (shape, knots): (_, &[(f64, f64)]) = match name {
            "line" => (CurveShape::Line, &[(20.0, 100.0), (50.0, 90.0), (100.0, 70.0), (150.0, 50.0), (300.0, 20.0)]),
            "steps" => (CurveShape::Steps, &[(0.0, 100.0), (20.0, 90.0), (50.0, 70.0), (100.0, 50.0), (150.0, 20.0)]),
            "point_per_10ms" => (CurveShape::Line, &[(0.0, 100.0), (1000.0, 0.0)]),
            "point_per_ms" => (CurveShape::Line, &[(0.0, 100.0), (100.0, 0.0)]),
            _ => return None,
        };
        Self::new(shape, knots.to_vec()).ok()
    }

    /// Makes a curve of knots: milliseconds, and the points that a round trip of so many is worth. A line is flat
    /// before its first knot and after its last; steps begin at 0 ms.
    ///
    /// # Errors
    /// The first thing that makes them no curve.
    pub fn new(shape: CurveShape, knots: Vec<(f64, f64)>) -> Result<Self, CurveError> {
        let (Some(first), true) = (knots.first(), knots.len() <= Self::MAX_KNOTS) else {
            return Err(CurveError::Count(knots.len()));
        };
        if shape == CurveShape::Steps && first.0 != 0.0 {
            return Err(CurveError::Begins(first.0));
        }
        let is_good = |(ms, points): &&(f64, f64)| (0.0..=1e6).contains(ms) && (0.0..=100.0).contains(points);
        if let Some((ms, points)) = knots.iter().find(|knot| !is_good(knot)) {
            return Err(CurveError::Knot(*ms, *points));
        }
        for (left, right) in knots.iter().zip(&knots[1..]) {
            // Single precision must tell them apart too, or a slope would be infinite.
            if left.0 as f32 >= right.0 as f32 {
                return Err(CurveError::Order(left.0, right.0));
            }
            if left.1 < right.1 {
                return Err(CurveError::Rises(left.1, right.1));
            }
        }
        let next = knots.iter().skip(1).map(Some).chain([None]);
        let segment = |(knot, next): (&(f64, f64), Option<&(f64, f64)>)| {
            let (from_ms, points) = (knot.0 as f32, knot.1 as f32);
            let slope = match next.filter(|_| shape == CurveShape::Line) {
                Some(next) => (next.1 as f32 - points) / (next.0 as f32 - from_ms),
                None => 0.0,
            };
            Segment { from_ms, points, slope }
        };
        let segments = knots.iter().zip(next).map(segment).collect();
        Ok(Self { shape, knots, segments })
    }

    /// Returns the points for a round trip in milliseconds, 0 to 100.
    pub fn points(&self, ms: f32) -> f32 {
        let reached = self.segments.iter().take_while(|segment| segment.from_ms <= ms).last();
        let Some(segment) = reached.or(self.segments.first()) else { return 0.0 };
        let past = ms - segment.from_ms;
        // Nearer than the first knot is as the first knot. Where a slope falls there is a next knot, so `past` is finite.
        if past > 0.0 && segment.slope < 0.0 { segment.points + past * segment.slope } else { segment.points }
    }

    /// Returns the name, if it is a built-in curve.
    pub fn name(&self) -> Option<&'static str> {
        Self::BUILT_IN.iter().copied().find(|name| Self::built_in(name).as_ref() == Some(self))
    }

    /// Returns what holds between two knots.
    pub fn shape(&self) -> CurveShape {
        self.shape
    }

    /// Returns the knots: milliseconds and points.
    pub fn knots(&self) -> &[(f64, f64)] {
        &self.knots
    }
}

impl Default for LatencyCurve {
    /// Makes the line.
    fn default() -> Self {
        Self::built_in("line").expect("it is built in")
    }
}

impl fmt::Display for LatencyCurve {
    /// Writes it as a table would: its name, or its shape with its knots.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(name);
        }
        let shape = match self.shape {
            CurveShape::Line => "line",
            CurveShape::Steps => "steps",
        };
        let knots: Vec<String> = self.knots.iter().map(|(ms, points)| format!("[{ms}, {points}]")).collect();
        write!(f, "{shape} [{}]", knots.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in(name: &str) -> LatencyCurve {
        LatencyCurve::built_in(name).unwrap()
    }

    #[test]
    fn built_in_curves_have_the_points_of_their_definitions() {
        for ms in [0.0_f32, 0.5, 5.0, 19.9, 20.0, 35.0, 49.0, 50.0, 99.0, 100.0, 125.0, 149.0, 150.0, 225.0, 300.0, 9e9]
        {
            // The runbook's own words.
            let steps = match ms {
                ms if ms < 20.0 => 100.0,
                ms if ms < 50.0 => 90.0,
                ms if ms < 100.0 => 70.0,
                ms if ms < 150.0 => 50.0,
                _ => 20.0,
            };
            assert_eq!(built_in("steps").points(ms), steps, "{ms} ms");
            let near = |name, expected: f32| {
                let points = built_in(name).points(ms);
                assert!((points - expected.max(0.0)).abs() < 1e-4, "{name}: {points} at {ms} ms");
            };
            near("point_per_10ms", 100.0 - ms / 10.0);
            near("point_per_ms", 100.0 - ms);
        }
        for (ms, points) in
            [(0.0, 100.0), (20.0, 100.0), (35.0, 95.0), (100.0, 70.0), (125.0, 60.0), (300.0, 20.0), (9e9, 20.0)]
        {
            assert_eq!(built_in("line").points(ms), points, "{ms} ms");
        }
    }

    #[test]
    fn no_round_trip_has_points_that_are_none() {
        for name in LatencyCurve::BUILT_IN {
            for ms in [-1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE] {
                assert!((0.0..=100.0).contains(&built_in(name).points(ms)), "{name} at {ms}");
            }
        }
    }

    #[test]
    fn knots_that_are_no_curve_are_refused() {
        use CurveShape::{Line, Steps};
        let broken = |shape, knots: &[(f64, f64)]| LatencyCurve::new(shape, knots.to_vec()).unwrap_err();
        assert_eq!(broken(Line, &[]), CurveError::Count(0));
        let many: Vec<(f64, f64)> = (0..33).map(|ms| (f64::from(ms), 1.0)).collect();
        assert_eq!(broken(Line, &many), CurveError::Count(33));
        assert!(LatencyCurve::new(Line, many[..32].to_vec()).is_ok());
        assert_eq!(broken(Line, &[(-1.0, 5.0)]), CurveError::Knot(-1.0, 5.0));
        assert_eq!(broken(Line, &[(1.0, 101.0)]), CurveError::Knot(1.0, 101.0));
        assert!(matches!(broken(Line, &[(1.0, f64::NAN)]), CurveError::Knot(..)));
        assert_eq!(broken(Line, &[(5.0, 9.0), (5.0, 8.0)]), CurveError::Order(5.0, 5.0));
        assert_eq!(broken(Line, &[(5.0, 8.0), (6.0, 9.0)]), CurveError::Rises(8.0, 9.0));
        assert_eq!(broken(Steps, &[(5.0, 8.0)]), CurveError::Begins(5.0));
        // Neighbours that only double precision tells apart.
        assert!(matches!(broken(Line, &[(999_999.0, 9.0), (999_999.000_1, 8.0)]), CurveError::Order(..)));
    }

    #[test]
    fn a_curve_is_told_as_it_is_written() {
        for name in LatencyCurve::BUILT_IN {
            assert_eq!((built_in(name).to_string().as_str(), built_in(name).name()), (*name, Some(*name)));
        }
        let own = LatencyCurve::new(CurveShape::Steps, vec![(0.0, 100.0), (7.5, 10.0)]).unwrap();
        assert_eq!((own.to_string().as_str(), own.name()), ("steps [[0, 100], [7.5, 10]]", None));
        assert_eq!((own.points(7.4), own.points(7.5)), (100.0, 10.0));
    }
}
