//! The phases in plain text, for those who see no live picture, and for afterwards.

use std::collections::BTreeMap;

use crate::ledger::{Counts, Fate, Traffic};
use crate::phases::PHASES;
use crate::reasons::Reasons;
use screen::{Ink, Tone};

/// What happened in a phase to whom, and why; `note` is about its beginning.
pub(crate) fn block(index: usize, counts: &Counts, reasons: &Reasons, note: &str) -> String {
    let (requests, failed, refused) = (counts.requests(), counts.failed(), counts.refused());
    let retried = counts.failovers;
    let mut text = format!("{}\n{note}", title(index));
    text.push_str(&format!("  {requests} requests, {failed} failed, {refused} refused, {retried} retried elsewhere\n"));
    for reason in &reasons.0 {
        let went = went(counts, &reason.of);
        text.push_str(&clipped(format!("  {:<11} {went:<19} {}", names(&reason.of), reason.because)));
        text.push('\n');
    }
    text
}

/// The heads of the columns of [`row`].
pub(crate) fn heads() -> String {
    format!("{:>9}{:>8}{:>9}{:>8}", "requests", "failed", "refused", "retried")
}

/// A phase and its counts in one row, at most [`WIDTH`] wide.
pub(crate) fn row(index: usize, counts: &Counts, ink: Ink, tone: Tone) -> String {
    let title = ink.paint(tone, &format!("{:<width$}", title(index), width = WIDTH - heads().len()));
    let failed = if counts.failed() == 0 { Tone::Good } else { Tone::Bad };
    let failed = ink.paint(failed, &format!("{:>8}", counts.failed()));
    format!("{title}{:>9}{failed}{:>9}{:>8}", counts.requests(), counts.refused(), counts.failovers)
}

/// A phase's number and title.
pub(crate) fn title(index: usize) -> String {
    format!("{} {}", index + 1, PHASES.get(index).map_or("", |phase| phase.title))
}

/// Whose traffic it is.
pub(crate) fn names(traffic: &[Traffic]) -> String {
    let name = |traffic: &Traffic| match traffic {
        Traffic::Personal(code) => *code,
        Traffic::Public => "public",
    };
    traffic.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// The text as far as the line goes.
pub(crate) fn clipped(text: String) -> String {
    match text.char_indices().nth(WIDTH) {
        None => text,
        Some(_) => text.chars().take(WIDTH - 1).chain(['…']).collect(),
    }
}

/// Where some traffic went: the most first.
fn went(counts: &Counts, traffic: &[Traffic]) -> String {
    let mut fates: BTreeMap<Fate, u64> = BTreeMap::new();
    for (_, fate, count) in counts.all().filter(|(of, _, _)| traffic.contains(of)) {
        *fates.entry(fate).or_default() += count;
    }
    let mut fates: Vec<(Fate, u64)> = fates.into_iter().collect();
    fates.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let word = |(fate, count): &(Fate, u64)| match fate {
        Fate::Served(region) => format!("{region} {count}"),
        Fate::Refused => format!("refused {count}"),
        Fate::CutOff => format!("cut off {count}"),
        Fate::Failed => format!("FAILED {count}"),
    };
    fates.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// The widest line.
pub(crate) const WIDTH: usize = 100;
