//! A run as a picture: SVG, for light and dark pages.

use std::fmt::Write as _;

use super::geography::PLACES;
use super::run::Outcome;
use super::scenario::Scenario;

/// Pixels.
pub(super) const WIDTH: f64 = 960.0;
pub(super) const LEFT: f64 = 64.0;
pub(super) const RIGHT: f64 = 150.0;

/// A panel: where its top is, and how high it is, in pixels.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub(super) top: f64,
    pub(super) height: f64,
    /// What its top stands for, in percent.
    pub(super) most: f64,
}

/// At most so many points make a line: more cannot be seen.
const POINTS: usize = 300;

/// The regions that get a name and a colour of their own; the others are grey.
const NAMED: usize = 6;

/// Colours that differ for most eyes on white and on black (Okabe, Ito: "Color Universal Design", 2008).
pub(super) const COLOURS: [&str; NAMED] = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"];

pub(super) const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:15px;font-weight:600}\
    .note{fill:#666}.grid{stroke:#ddd}.mark{stroke:#999;stroke-dasharray:4 3}.other{stroke:#bbb}\
    path{fill:none;stroke-width:1.5}.back{fill:#fff}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}.note{fill:#aaa}.grid{stroke:#333}.mark{stroke:#777}\
    .other{stroke:#555}.back{fill:#16181c}}";

/// Draws a run: the utilisation of each region over time, and below it what is spilled and shed, by criticality.
pub fn svg(outcome: &Outcome) -> String {
    let (measures, seconds) = (&outcome.measures, &outcome.recording.seconds);
    let height = 520.0;
    let highest = measures.highest.max(1.0) * 100.0;
    let above = Panel { top: 64.0, height: 240.0, most: (highest / 20.0).ceil() * 20.0 };
    let of = |requests: f64, offered: f64| 100.0 * requests / offered.max(1e-9);
    let mut lines: Vec<(String, String, Vec<f64>)> = Vec::new();
    for (index, (name, colour)) in ["sheddable", "default", "critical"].into_iter().zip(COLOURS).enumerate() {
        let fates = || seconds.iter().map(move |second| &second.fates[index]);
        let spilled = fates().map(|fate| of(fate.spilled, fate.offered)).collect();
        let shed = fates().map(|fate| of(fate.shed + fate.refused + fate.lost, fate.offered)).collect();
        lines.push((format!("{name}, spilled"), format!("stroke='{colour}'"), spilled));
        lines.push((format!("{name}, refused"), format!("stroke='{colour}' stroke-dasharray='2 3'"), shed));
    }
    let most = lines.iter().flat_map(|(_, _, values)| values).copied().fold(5.0, f64::max);
    let below = Panel { top: 360.0, height: 110.0, most: (most / 10.0).ceil() * 10.0 };
    let mut text = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img'>\n\
         <title>{name}</title>\n<style>{STYLE}</style>\n<rect class='back' width='{WIDTH}' height='{height}'/>\n",
        name = measures.scenario
    );
    label(&mut text, "title", LEFT, 24.0, "start", measures.scenario);
    let what = Scenario::named(measures.scenario).map_or("", |scenario| scenario.what);
    let note = format!("{what} ({} nodes, {} regions)", measures.nodes, measures.regions);
    label(&mut text, "note", LEFT, 42.0, "start", &note);
    axes(&mut text, above, seconds.len(), "utilisation, %");
    axes(&mut text, below, seconds.len(), "requests, %");
    for points in [85.0, 100.0] {
        let y = above.y(points);
        let _ = writeln!(text, "<line class='mark' x1='{LEFT}' x2='{:.0}' y1='{y:.1}' y2='{y:.1}'/>", WIDTH - RIGHT);
    }
    let mut regions: Vec<(usize, f64)> = (0..measures.regions)
        .map(|region| {
            let values = || seconds.iter().map(|second| f64::from(second.utilisation[region]));
            (region, values().fold(f64::MIN, f64::max) - values().fold(f64::MAX, f64::min))
        })
        .collect();
    // Those that move most are named.
    regions.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    for (rank, (region, _)) in regions.iter().enumerate().rev() {
        let values: Vec<f64> = seconds.iter().map(|second| f64::from(second.utilisation[*region]) * 100.0).collect();
        let style = COLOURS.get(rank).map_or("class='other'".to_owned(), |colour| format!("stroke='{colour}'"));
        path(&mut text, above, &values, &style);
        if rank < NAMED {
            legend(&mut text, above, rank, &style, PLACES[*region].name);
        }
    }
    if regions.len() > NAMED {
        legend(&mut text, above, NAMED, "class='other'", &format!("{} others", regions.len() - NAMED));
    }
    for (index, (name, style, values)) in lines.iter().enumerate() {
        path(&mut text, below, values, style);
        legend(&mut text, below, index, style, name);
    }
    text.push_str("</svg>\n");
    text
}

impl Panel {
    pub(super) fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - value.clamp(0.0, self.most) / self.most)
    }
}

pub(super) fn label(text: &mut String, class: &str, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(text, "<text class='{class}' x='{x:.0}' y='{y:.0}' text-anchor='{anchor}'>{words}</text>");
}

fn axes(text: &mut String, panel: Panel, seconds: usize, unit: &str) {
    let (right, bottom) = (WIDTH - RIGHT, panel.top + panel.height);
    label(text, "note", LEFT, panel.top - 6.0, "start", unit);
    let twenties = (panel.most / 20.0) as u32;
    let steps = if panel.height < 200.0 { 2 } else { twenties.clamp(1, 8) };
    for step in 0..=steps {
        let value = panel.most * f64::from(step) / f64::from(steps);
        let y = panel.y(value);
        let _ = writeln!(text, "<line class='grid' x1='{LEFT}' x2='{right:.0}' y1='{y:.1}' y2='{y:.1}'/>");
        label(text, "note", LEFT - 8.0, y + 4.0, "end", &format!("{value:.0}"));
    }
    for step in 0..=6 {
        let x = LEFT + (right - LEFT) * f64::from(step) / 6.0;
        let minutes = seconds as f64 * f64::from(step) / 360.0;
        let minutes = if minutes.fract() < 0.05 { format!("{minutes:.0}") } else { format!("{minutes:.1}") };
        label(text, "note", x, bottom + 18.0, "middle", &format!("{minutes} min"));
    }
}

pub(super) fn legend(text: &mut String, panel: Panel, row: usize, style: &str, name: &str) {
    let (x, y) = (WIDTH - RIGHT + 12.0, panel.top + 8.0 + row as f64 * 18.0);
    let _ = writeln!(text, "<path {style} d='M{x:.0} {y:.0}h18'/>");
    label(text, "", x + 24.0, y + 4.0, "start", name);
}

/// Draws a line through averages over as many seconds as make few enough points.
fn path(text: &mut String, panel: Panel, values: &[f64], style: &str) {
    let each = values.len().div_ceil(POINTS).max(1);
    let right = WIDTH - RIGHT;
    let mut line = String::new();
    for (index, chunk) in values.chunks(each).enumerate() {
        let mean = chunk.iter().sum::<f64>() / chunk.len() as f64;
        let at = (index * each) as f64 + chunk.len() as f64 / 2.0;
        let x = LEFT + (right - LEFT) * at / values.len() as f64;
        let _ = write!(line, "{}{x:.1} {:.1}", if index == 0 { "M" } else { "L" }, panel.y(mean));
    }
    let _ = writeln!(text, "<path {style} d='{line}'/>");
}

#[cfg(test)]
mod tests {
    use super::super::{SCENARIOS, Size, Tuning, simulate};
    use super::*;

    #[test]
    fn a_picture_has_a_line_for_each_region_and_fate() {
        let size = Size { nodes: 8, regions: 8, seconds: Size::LEAST_SECONDS, seed: 1 };
        let picture = svg(&simulate(&SCENARIOS[0], &size, &Tuning::default()).expect("a size"));
        // 8 regions and 6 fates; as many legends of fates, of 6 regions, and of the others.
        assert_eq!(picture.matches("<path").count(), 8 + 6 + 6 + 6 + 1, "{picture}");
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n") && !picture.contains("NaN"));
    }
}
