//! Formats the report of a replayed log.

use std::path::Path;

use super::report::{Affected, Example, Moves, RefusalTally, Report};

/// Formats the whole report for people.
pub(super) fn text(report: &Report, log: &Path, new: &Path, old: Option<&Path>) -> String {
    let mut out = Text::default();
    let lines = &report.lines;
    out.line(&format!(
        "{}: {} requests, {} decided again; before is {}, after is {}",
        log.display(),
        lines.readable,
        lines.decided,
        old.map_or("what the log says".to_owned(), |old| format!("{} with all regions up and idle", old.display())),
        new.display(),
    ));
    let mut aside = |count: u64, what: &str, first: Option<&String>| {
        if count > 0 {
            let first = first.map_or(String::new(), |first| format!(" ({first})"));
            out.line(&format!("  left out  {count} {what}{first}"));
        }
    };
    aside(lines.unreadable, "that cannot be read", report.unreadable.as_ref());
    aside(
        lines.never_decided,
        "decided nowhere, or by the node before: redirected, malformed, misdirected, at a gateway",
        None,
    );
    aside(lines.undecidable, "of a node whose region is not in the table", report.undecidable.as_ref());
    aside(report.failed_otherwise, "that failed for another cause: overload, limits, the origin", None);
    if report.without_coordinates > 0 {
        out.line(&format!(
            "  unknown   {} of {} on routes that go by how far clients are have no coordinates, and were decided by the node",
            report.without_coordinates, report.by_client
        ));
    }
    let share = |requests: u64| 100.0 * requests as f64 / (lines.decided.max(1)) as f64;
    let mut total = |what: &str, requests: u64| {
        out.line(&format!("  {what:<18} {requests:>10}  {:>5.1} %", share(requests)));
    };
    total("unchanged", report.unchanged);
    total("moved", report.moved.requests);
    total("refused now", report.refused.requests);
    total("served now", report.served.requests);
    total("refused otherwise", report.refused_otherwise.requests);
    out.moves("moved", &report.moved, share);
    out.refusals("refused now", &report.refused, share);
    out.moves("served now, and refused before", &report.served, share);
    out.refusals("refused otherwise", &report.refused_otherwise, share);
    out.latency(report);
    out.capacity(report);
    let residency = &report.residency;
    out.line("residency");
    if old.is_some() {
        out.affected("WIDER", "may go where the old table does not let them", &residency.widened);
        out.affected("narrower", "may no longer go where the old table lets them", &residency.narrowed);
    }
    out.affected("FORBIDDEN", "were served where the new table does not let them", &residency.forbidden);
    if lines.decided == 0 {
        out.line("  nothing was decided, so nothing is known");
    } else if [&residency.widened, &residency.narrowed, &residency.forbidden]
        .iter()
        .all(|affected| affected.requests == 0)
    {
        let what = if old.is_some() { "no request's residency changes, and " } else { "" };
        out.line(&format!("  {what}none was served where the new table does not let it"));
    }
    out.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn example(&mut self, example: Option<&Example>) {
        if let Some(Example { line, what, explain }) = example {
            self.line(&format!("            line {line}: {what}"));
            self.line(&format!("            {explain}"));
        }
    }

    fn more(&mut self, all: usize) {
        if all > MOST {
            self.line(&format!("  and {} more: --format json has them all", all - MOST));
        }
    }

    fn moves(&mut self, title: &str, moves: &Moves, share: impl Fn(u64) -> f64) {
        if moves.requests == 0 {
            return;
        }
        self.line(title);
        for each in moves.by.iter().take(MOST) {
            let way = format!("{} → {}", each.from, each.to);
            self.line(&format!("  {way:<44} {:>10}  {:>5.1} %", each.requests, share(each.requests)));
        }
        self.more(moves.by.len());
        self.example(moves.by.first().and_then(|each| each.example.as_ref()));
    }

    fn refusals(&mut self, title: &str, refusals: &RefusalTally, share: impl Fn(u64) -> f64) {
        if refusals.requests == 0 {
            return;
        }
        self.line(title);
        for each in &refusals.by {
            let why = format!("{} {}", each.status, each.reason);
            self.line(&format!("  {why:<44} {:>10}  {:>5.1} %", each.requests, share(each.requests)));
            self.example(each.example.as_ref());
        }
    }

    fn latency(&mut self, report: &Report) {
        let Some(latencies) = &report.latency_ms else { return };
        let (before, after) = (&latencies.before, &latencies.after);
        self.line(&format!(
            "expected latency, by the tables, of {} requests served before and after",
            latencies.requests
        ));
        for (what, before, after) in
            [("mean", before.mean, after.mean), ("p50", before.p50, after.p50), ("p95", before.p95, after.p95)]
        {
            self.line(&format!("  {what:<5} {before:>8.1} → {after:>8.1} ms  ({:+.1})", after - before));
        }
    }

    fn capacity(&mut self, report: &Report) {
        if report.capacity.is_empty() {
            return;
        }
        self.line("capacity: the busiest second of this log, in requests");
        for each in &report.capacity {
            let built = each.capacity_rps.map_or("unknown".to_owned(), |known| known.to_string());
            let mark = if each.exceeded { "  EXCEEDED" } else { "" };
            let (before, after) = (each.peak_before, each.peak_after);
            self.line(&format!("  {:<22} {before:>8} → {after:>8}  of {built}{mark}", each.region));
        }
        if report.capacity_uncounted > 0 {
            self.line(&format!(
                "  without {} requests, whose time is unknown or too far apart",
                report.capacity_uncounted
            ));
        }
    }

    fn affected(&mut self, mark: &str, what: &str, affected: &Affected) {
        if affected.requests == 0 {
            return;
        }
        self.line(&format!("  {mark:<9} {} requests {what}", affected.requests));
        for each in affected.by.iter().take(MOST) {
            self.line(&format!("            {:>10}  {}: {}", each.requests, each.jurisdictions, each.data_class));
        }
        self.more(affected.by.len());
        self.example(affected.by.first().and_then(|each| each.example.as_ref()));
    }
}

/// The most lines of one kind that are shown: more are not read.
const MOST: usize = 20;
