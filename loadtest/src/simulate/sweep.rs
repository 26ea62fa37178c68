//! What a fleet does as one thing is varied: the argument for a constant, as a table and as a picture.

use std::fmt::Write as _;

use serde::Serialize;

use super::measure::Measures;
use super::plot::{COLOURS, LEFT, Panel, RIGHT, STYLE, WIDTH, label, legend};
use super::table::columns;

/// The runs of some scenarios with each of some values of a knob.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sweep {
    /// What was varied.
    pub knob: &'static str,
    /// By value: what each scenario came to, the same scenarios in the same order.
    pub runs: Vec<(f64, Vec<Measures>)>,
}

/// The height of what is at most shown of an oscillation, in points.
const MOST: f64 = 100.0;

/// What a scenario may swing by, where it promises that.
const GOAL: f64 = 5.0;

/// Returns a table with a line for each value: by how many points each scenario swings, and how long it takes to settle.
pub fn sweep_text(sweep: &Sweep) -> String {
    let head = std::iter::once(sweep.knob.to_owned()).chain(names(sweep).map(str::to_owned)).collect();
    let cell = |measures: &Measures| {
        let settled = measures.converged_s.map_or(String::new(), |seconds| format!("; {seconds} s"));
        let shed = measures.critical.shed + measures.critical.lost;
        let shed = if shed > 0.0 { format!("; {shed:.2} % of the critical shed") } else { String::new() };
        format!("{:.1}{settled}{shed}", measures.oscillation)
    };
    let row = |(value, runs): &(f64, Vec<Measures>)| {
        std::iter::once(format!("{value}")).chain(runs.iter().map(cell)).collect::<Vec<_>>()
    };
    columns(&std::iter::once(head).chain(sweep.runs.iter().map(row)).collect::<Vec<_>>())
}

/// Draws a line for each scenario: how many points it swings by with each value.
pub fn sweep_svg(sweep: &Sweep) -> String {
    let points = || sweep.runs.iter().flat_map(|(_, runs)| runs).map(|measures| measures.oscillation);
    let highest = points().fold(GOAL * 2.0, f64::max).min(MOST);
    let panel = Panel { top: 64.0, height: 220.0, most: (highest / 10.0).ceil() * 10.0 };
    let (height, right) = (340.0, WIDTH - RIGHT);
    let mut text = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img'>\n\
         <title>{name}</title>\n<style>{STYLE}</style>\n<rect class='back' width='{WIDTH}' height='{height}'/>\n",
        name = sweep.knob
    );
    label(&mut text, "title", LEFT, 24.0, "start", sweep.knob);
    label(&mut text, "note", LEFT, 58.0, "start", "oscillation, points");
    for step in 0..=5 {
        let value = panel.most * f64::from(step) / 5.0;
        let y = panel.y(value);
        let _ = writeln!(text, "<line class='grid' x1='{LEFT}' x2='{right:.0}' y1='{y:.1}' y2='{y:.1}'/>");
        label(&mut text, "note", LEFT - 8.0, y + 4.0, "end", &format!("{value:.0}"));
    }
    let y = panel.y(GOAL);
    let _ = writeln!(text, "<line class='mark' x1='{LEFT}' x2='{right:.0}' y1='{y:.1}' y2='{y:.1}'/>");
    let x = |index: usize| LEFT + (right - LEFT) * (index as f64 + 0.5) / sweep.runs.len().max(1) as f64;
    for (index, (value, _)) in sweep.runs.iter().enumerate() {
        label(&mut text, "note", x(index), panel.top + panel.height + 18.0, "middle", &format!("{value}"));
    }
    for (scenario, name) in names(sweep).enumerate() {
        let colour = COLOURS[scenario % COLOURS.len()];
        let dashes = if scenario < COLOURS.len() { "" } else { " stroke-dasharray='4 3'" };
        let style = format!("stroke='{colour}'{dashes}");
        let mut line = String::new();
        for (index, (_, runs)) in sweep.runs.iter().enumerate() {
            let Some(measures) = runs.get(scenario) else { continue };
            let start = if index == 0 { "M" } else { "L" };
            let _ = write!(line, "{start}{:.1} {:.1}", x(index), panel.y(measures.oscillation));
        }
        let _ = writeln!(text, "<path {style} d='{line}'/>");
        legend(&mut text, panel, scenario, &style, name);
    }
    text.push_str("</svg>\n");
    text
}

fn names(sweep: &Sweep) -> impl Iterator<Item = &'static str> {
    sweep.runs.first().into_iter().flat_map(|(_, runs)| runs).map(|measures| measures.scenario)
}

#[cfg(test)]
mod tests {
    use super::super::{Knob, Scenario, Size, simulate};
    use super::*;

    #[test]
    fn a_sweep_has_a_line_for_each_value_and_each_scenario() {
        let size = Size { nodes: 3, regions: 3, seconds: Size::LEAST_SECONDS, seed: 1 };
        let knob = Knob::named("demand").expect("a knob");
        let runs = |value: f64| {
            let tuning = knob.at(value).expect("within bounds");
            let run =
                |name| simulate(Scenario::named(name).expect("a scenario"), &size, &tuning).expect("a size").measures;
            (value, vec![run("steady"), run("overload")])
        };
        let sweep = Sweep { knob: knob.name, runs: vec![runs(0.5), runs(1.4)] };
        let highest = |at: usize| sweep.runs[at].1[0].highest;
        assert!(highest(1) > highest(0) * 2.0, "{sweep:#?}");
        let (table, picture) = (sweep_text(&sweep), sweep_svg(&sweep));
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.lines().nth(2).is_some_and(|line| line.starts_with("| 0.5 ")), "{table}");
        // A line and its legend for each scenario.
        assert_eq!(picture.matches("<path").count(), 4, "{picture}");
        assert!(picture.ends_with("</svg>\n") && !picture.contains("NaN"));
    }
}
