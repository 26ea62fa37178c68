//! What runs came to, as a table in Markdown, which people can read as it is.

use std::fmt::Write as _;

use super::measure::{CriticalityShares, Measures};

/// Returns a table with a line for each run.
pub fn text(runs: &[Measures]) -> String {
    let head = [
        "scenario",
        "nodes x regions, s",
        "oscillation",
        "converged",
        "highest",
        "slowest",
        "spilled",
        "shed",
        "refused",
        "lost",
    ];
    let of_each = |measures: &Measures, of: fn(&CriticalityShares) -> f64| {
        [&measures.sheddable, &measures.default, &measures.critical].map(|each| percent(of(each))).join(" / ")
    };
    let row = |measures: &Measures| {
        let mark = if measures.broken.is_empty() { "" } else { " !" };
        [
            measures.scenario.to_owned(),
            format!("{} x {}, {}", measures.nodes, measures.regions, measures.seconds),
            format!("{:.1} points{mark}", measures.oscillation),
            measures.converged_s.map_or("-".to_owned(), |seconds| format!("{seconds} s")),
            format!("{:.0} %", measures.highest * 100.0),
            format!("{:.0} ms", measures.slowest_s * 1000.0),
            of_each(measures, |shares| shares.spilled),
            of_each(measures, |shares| shares.shed),
            of_each(measures, |shares| shares.refused),
            of_each(measures, |shares| shares.lost),
        ]
    };
    let rows = std::iter::once(head.map(str::to_owned)).chain(runs.iter().map(row));
    let mut text = columns(&rows.map(Vec::from).collect::<Vec<_>>());
    for measures in runs {
        for broken in &measures.broken {
            let _ = writeln!(text, "\n{}: {broken}", measures.scenario);
        }
    }
    text
}

/// Returns rows, of which the first is the head, as a table with columns as wide as they must be.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..count)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            // A string takes whatever is written.
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            widths.iter().for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

/// Returns a share in percent as briefly as it says something.
fn percent(share: f64) -> String {
    if share == 0.0 {
        "0".to_owned()
    } else if share < 0.01 {
        "<0.01".to_owned()
    } else if share < 10.0 {
        format!("{share:.2}")
    } else {
        format!("{share:.1}")
    }
}
