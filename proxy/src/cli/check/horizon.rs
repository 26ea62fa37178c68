//! Formats what a table's dates change by themselves.

use policy::Moment;
use policy::diff::{Dated, LawChange};

use super::words;

/// Formats the dates up to one, each with a line for each change.
pub(super) fn text(until: Moment, dated: &[Dated]) -> String {
    let mut out = String::new();
    if dated.is_empty() {
        out.push_str(&format!("  until {until} no date of this table changes where anybody's requests may go\n"));
    }
    for Dated { at, law } in dated {
        out.push_str(&format!("  {at}\n"));
        for change in law.iter().take(MOST_LINES) {
            out.push_str(&format!("    {:<9} {}: {}\n", mark(change), words::subject(change), effects(change)));
        }
        if law.len() > MOST_LINES {
            out.push_str(&format!("    and {} more: --format json has them all\n", law.len() - MOST_LINES));
        }
    }
    out
}

fn mark(change: &LawChange) -> &'static str {
    match (change.widens(), change.shrinks()) {
        (true, true) => "MOVES",
        (true, false) => "GAINS",
        (false, true) if change.refused_with.is_some() => "REFUSED",
        (false, true) => "loses",
        (false, false) => "order",
    }
}

fn effects(change: &LawChange) -> String {
    let mut effects = Vec::new();
    if change.anywhere {
        effects.push("may go everywhere".to_owned());
    } else if !change.gained.is_empty() {
        let gained: Vec<String> = change.gained.iter().map(|gain| gain.region.clone()).collect();
        effects.push(format!("may go to {}", words::names(&gained)));
    }
    if !change.unguarded.is_empty() {
        effects.push(format!("{} without safeguards", words::names(&change.unguarded)));
    }
    if change.was_anywhere {
        effects.push(format!("no longer everywhere: not to {}", words::names(&change.lost)));
    } else if !change.lost.is_empty() {
        effects.push(format!("no longer to {}", words::names(&change.lost)));
    }
    if !change.guarded.is_empty() {
        effects.push(format!("{} with safeguards only", words::names(&change.guarded)));
    }
    if let Some(preference) = &change.preference {
        effects.push(format!("first {}, before {}", words::names(&preference.new), words::names(&preference.old)));
    }
    if let Some(status) = change.refused_with {
        effects.push(format!("no region is left: answered {status}"));
    }
    effects.join("; ")
}

/// The most lines that are shown for one date: more are not read.
const MOST_LINES: usize = 20;
