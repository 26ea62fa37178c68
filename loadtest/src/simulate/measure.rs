//! What a run comes to in numbers.

use serde::Serialize;

use super::geography::PLACES;
use super::node::Fate;
use super::recording::Recording;
use super::scenario::{Scenario, Size, Story};

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measures {
    /// Its scenario.
    pub scenario: &'static str,
    /// The size of the fleet.
    pub nodes: usize,
    /// Likewise.
    pub regions: usize,
    /// Virtual time.
    pub seconds: u64,
    /// What it was made of.
    pub seed: u64,
    /// The most that the utilisation of a region rose and fell within [`WINDOW_S`] seconds while nothing happened, beside
    /// its trend, in points.
    pub oscillation: f64,
    /// Which region that was.
    pub oscillating: &'static str,
    /// From which second on.
    pub oscillating_at_s: u64,
    /// From the first event until every region is, and stays, within 5 points of where it ends up, in seconds; `None`
    /// where nothing happens all at once.
    pub converged_s: Option<u64>,
    /// The highest utilisation of a region over a second.
    pub highest: f64,
    /// Which region that was.
    pub highest_at: &'static str,
    /// The longest that a request took at an origin, in seconds.
    pub slowest_s: f64,
    /// What became of the requests of each criticality, from the first to be shed to the last.
    pub sheddable: CriticalityShares,
    /// Likewise.
    pub default: CriticalityShares,
    /// Likewise.
    pub critical: CriticalityShares,
    /// Load reports that came to a node and for which it had no room.
    pub reports_turned_away: u64,
    /// What the scenario promises and was not so; nothing when all was.
    pub broken: Vec<String>,
}

/// Shares of the requests of one criticality, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CriticalityShares {
    pub spilled: f64,
    pub shed: f64,
    pub refused: f64,
    pub lost: f64,
}

/// For how long after something has happened a region may move, in seconds: three times what the reports are averaged
/// over.
const SETTLING_S: f64 = 90.0;

/// In how many seconds a rise and fall counts: a slower one is a trend.
pub const WINDOW_S: usize = 60;

/// Where a region is within as many points of its end, it has arrived.
const ARRIVED: f64 = 5.0;

/// Over how many seconds the end is averaged, and a utilisation that is compared with it.
const END_S: usize = 30;
const BRIEF_S: usize = 5;

/// Works out what a run came to.
pub(super) fn measure(scenario: &Scenario, size: &Size, story: &Story, recording: &Recording) -> Measures {
    let series: Vec<Vec<f64>> = (0..size.regions)
        .map(|region| recording.seconds.iter().map(|second| f64::from(second.utilisation[region]) * 100.0).collect())
        .collect();
    let steady = steady_phases(size, story);
    let (oscillation, oscillating, at) = series
        .iter()
        .zip(PLACES)
        .flat_map(|(series, place)| {
            steady.iter().map(move |(from, to)| {
                let (points, at) = oscillation(&series[*from..*to]);
                (points, place.name, from + at)
            })
        })
        .fold((0.0, PLACES[0].name, 0), |most, each| if each.0 > most.0 { each } else { most });
    let (highest, highest_at) = series
        .iter()
        .zip(PLACES)
        .map(|(series, place)| (series.iter().skip(WARM_UP_S).copied().fold(0.0, f64::max), place.name))
        .fold((0.0, PLACES[0].name), |most, each| if each.0 > most.0 { each } else { most });
    let slowest_s = recording.seconds.iter().map(|second| f64::from(second.slowest_s)).fold(0.0, f64::max);
    let [sheddable, default, critical] = [0, 1, 2].map(|index| shares(recording, index));
    let mut broken = Vec::new();
    if let Some(most) = scenario.most_oscillation.filter(|most| oscillation > *most) {
        broken.push(format!("{oscillating} rises and falls by {oscillation:.1} points, and may by {most}"));
    }
    if critical.shed > scenario.most_critical_shed {
        broken.push(format!(
            "{:.2} % of what is critical is shed, and {} % may be",
            critical.shed, scenario.most_critical_shed
        ));
    }
    Measures {
        scenario: scenario.name,
        nodes: size.nodes,
        regions: size.regions,
        seconds: size.seconds,
        seed: size.seed,
        oscillation: rounded(oscillation, 1),
        oscillating,
        oscillating_at_s: at as u64,
        converged_s: converged(story, &series),
        highest: rounded(highest / 100.0, 3),
        highest_at,
        slowest_s: rounded(slowest_s, 3),
        sheddable,
        default,
        critical,
        reports_turned_away: recording.turned_away,
        broken,
    }
}

/// The seconds of a run's beginning: nodes that know of no load, and settle.
const WARM_UP_S: usize = 60;

/// Returns the phases, in seconds from and to, in which nothing happens and what has happened has settled.
fn steady_phases(size: &Size, story: &Story) -> Vec<(usize, usize)> {
    let starts =
        std::iter::once(WARM_UP_S).chain(story.events.iter().map(|event| (event.at + SETTLING_S).ceil() as usize));
    let ends = story.events.iter().map(|event| event.at as usize).chain([size.seconds as usize]);
    let mut phases: Vec<(usize, usize)> = starts.zip(ends).collect();
    phases.retain(|(from, to)| *to <= size.seconds as usize && to.saturating_sub(*from) >= 10);
    phases
}

/// Returns the most that a series rises and falls within a window beside its trend, and where.
fn oscillation(series: &[f64]) -> (f64, usize) {
    let residual = without_trend(series);
    let window = WINDOW_S.min(residual.len());
    let spans = residual.windows(window.max(1)).enumerate().map(|(at, window)| {
        let (low, high) = window.iter().fold((f64::MAX, f64::MIN), |(low, high), each| (each.min(low), each.max(high)));
        (high - low, at)
    });
    spans.fold((0.0, 0), |most, each| if each.0 > most.0 { each } else { most })
}

/// Returns what is left of a series without the straight line that fits each window best.
fn without_trend(series: &[f64]) -> Vec<f64> {
    let half = WINDOW_S / 2;
    (0..series.len())
        .map(|at| {
            let (from, to) = (at.saturating_sub(half), (at + half + 1).min(series.len()));
            let window = &series[from..to];
            let count = window.len() as f64;
            let middle = (from + to - 1) as f64 / 2.0;
            let mean = window.iter().sum::<f64>() / count;
            let (mut along, mut squares) = (0.0, 0.0);
            for (index, each) in window.iter().enumerate() {
                let from_middle = (from + index) as f64 - middle;
                along += from_middle * (each - mean);
                squares += from_middle * from_middle;
            }
            let slope = if squares > 0.0 { along / squares } else { 0.0 };
            series[at] - (mean + slope * (at as f64 - middle))
        })
        .collect()
}

/// Returns how long after the first event every region has arrived where it is before the next.
fn converged(story: &Story, series: &[Vec<f64>]) -> Option<u64> {
    let from = story.events.first()?.at as usize;
    if story.swing > 0.0 {
        return None;
    }
    let length = series.first()?.len();
    let to = story.events.get(1).map_or(length, |next| next.at as usize).min(length);
    let arrived = |series: &Vec<f64>| {
        let end = mean(&series[to.saturating_sub(END_S).max(from)..to]);
        let away = (from..to).rev().find(|at| {
            let brief = &series[(at + 1).saturating_sub(BRIEF_S).max(from)..=*at];
            (mean(brief) - end).abs() > ARRIVED
        });
        away.map_or(0, |away| away + 1 - from)
    };
    series.iter().map(arrived).max().map(|seconds| seconds as u64)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn shares(recording: &Recording, criticality: usize) -> CriticalityShares {
    let sum = |of: fn(&Fate) -> f64| recording.seconds.iter().map(|second| of(&second.fates[criticality])).sum::<f64>();
    let offered = sum(|fate| fate.offered).max(1.0);
    let share = |of: fn(&Fate) -> f64| rounded(sum(of) / offered * 100.0, 3);
    CriticalityShares {
        spilled: share(|fate| fate.spilled),
        shed: share(|fate| fate.shed),
        refused: share(|fate| fate.refused),
        lost: share(|fate| fate.lost),
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_measured_and_a_trend_is_not() {
        let wave = |amplitude: f64| -> Vec<f64> {
            (0..300).map(|at| 40.0 + f64::from(at) * 0.1 + amplitude * (f64::from(at) * 0.6).sin()).collect()
        };
        assert!(oscillation(&wave(0.0)).0 < 1e-9);
        let (points, _) = oscillation(&wave(3.0));
        assert!((5.8..6.5).contains(&points), "{points}");
    }
}
