//! Adds up the results of a log's requests, in memory that does not grow with the log.

use std::collections::BTreeMap;
use std::path::Path;

use policy::diff::Laws;
use policy::replay::{Again, Asked, ReplayOutcome, ReplaySide, residency_change};
use policy::{Country, Origin, RegionId, Table};

use super::line::Line;
use super::rate::Rates;
use super::report::{Capacity, Example, Latencies, Latency, Report};

/// The tables and laws that the requests of one period are decided and compared with.
pub(super) struct Era<'a> {
    pub(super) before: Option<ReplaySide<'a>>,
    pub(super) after: ReplaySide<'a>,
    /// The laws of both tables, where there is a table before.
    pub(super) laws: Option<Laws<'a>>,
}

/// The sum so far. Lives as long as the command.
pub(super) struct Tally<'a> {
    before: Option<ReplaySide<'a>>,
    after: ReplaySide<'a>,
    /// The laws of both tables, where there is a table before.
    laws: Option<Laws<'a>>,
    /// The new table's file, for commands.
    file: String,
    report: Report,
    /// The names of regions, whose positions are their numbers in the rates.
    names: Vec<String>,
    rates: [Rates; 2],
    latencies: [Distribution; 2],
}

/// A request's result before.
enum PriorResult {
    Served(String),
    Refused(u16, String),
    /// The request failed for a cause outside the table.
    Failed,
}

impl<'a> Tally<'a> {
    /// Returns an empty sum, whose first requests are of `era`.
    pub(super) fn new(era: Era<'a>, file: &Path) -> Self {
        let Era { before, after, laws } = era;
        let names_of = |table: &Table| table.regions().map(|(_, region)| region.name.clone()).collect::<Vec<_>>();
        let mut names = names_of(after.table);
        for name in before.iter().flat_map(|before| names_of(before.table)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let file = file.display().to_string();
        Self {
            before,
            after,
            laws,
            file,
            names,
            report: Report::default(),
            rates: Default::default(),
            latencies: Default::default(),
        }
    }

    /// Decides by another era's law of the same tables from now on; returns the era before.
    pub(super) fn go_on_with(&mut self, era: Era<'a>) -> Era<'a> {
        Era {
            before: std::mem::replace(&mut self.before, era.before),
            after: std::mem::replace(&mut self.after, era.after),
            laws: std::mem::replace(&mut self.laws, era.laws),
        }
    }

    /// Adds a line that cannot be read.
    pub(super) fn unreadable(&mut self, number: u64, why: &str) {
        self.report.lines.unreadable += 1;
        self.report.unreadable.get_or_insert_with(|| format!("line {number}: {why}"));
    }

    /// Adds a request.
    pub(super) fn add(&mut self, number: u64, line: &Line) {
        self.report.lines.readable += 1;
        if !line.was_decided() {
            self.report.lines.never_decided += 1;
            return;
        }
        let from = line.from.as_deref().unwrap_or_default();
        let asked = Asked {
            host: &line.host,
            path: &line.path,
            method: line.method(),
            payload: line.payload(),
            origin: line.origin(),
            consent: line.consent,
            declared: &line.declared,
            client_key: line.client_key(),
            client_at: line.client_at(),
            from,
            pinned: line.pinned.as_deref(),
            criticality: line.criticality(),
        };
        let old = self.before.as_ref().map(|before| before.decide(&asked, None));
        let new = self.after.decide(&asked, self.before.as_ref().map(|before| before.table));
        let Some(new) = new else { return self.undecidable(number, from, "new") };
        let old = match old {
            None => None,
            Some(Some(old)) => Some(old),
            Some(None) => return self.undecidable(number, from, "old"),
        };
        self.report.lines.decided += 1;
        if new.route.is_some_and(|route| self.after.table.is_by_client(route)) {
            self.report.by_client += 1;
            self.report.without_coordinates += u64::from(asked.client_at.is_none());
        }
        let then = match (&self.before, &old) {
            (Some(before), Some(old)) => match old.outcome {
                ReplayOutcome::Served(region) => PriorResult::Served(before.table.region(region).name.clone()),
                ReplayOutcome::Refused(refused) => PriorResult::Refused(refused.status, refused.reason.to_owned()),
            },
            _ => prior_result(line),
        };
        self.add_residency(number, line, &asked, old.as_ref(), &new);
        self.add_rates(line, &then, &new);
        self.add_outcome(number, line, from, &then, &new);
    }

    fn undecidable(&mut self, number: u64, from: &str, which: &str) {
        self.report.lines.undecidable += 1;
        let why = || format!("line {number}: it was decided in {from:?}, which the {which} table does not have");
        self.report.undecidable.get_or_insert_with(why);
    }

    fn add_outcome(&mut self, number: u64, line: &Line, from: &str, then: &PriorResult, new: &Again) {
        let example = |what: String| Example { line: number, what, explain: line.explain(&self.file) };
        let report = &mut self.report;
        let name = |region: RegionId| self.after.table.region(region).name.clone();
        match (then, new.outcome) {
            (PriorResult::Failed, _) => report.failed_otherwise += 1,
            (PriorResult::Served(was), ReplayOutcome::Served(is)) => {
                let is_name = name(is);
                let table = self.before.as_ref().map_or(self.after.table, |before| before.table);
                let place = table.region_named(was);
                let was_ms = place.zip(table.region_named(from)).map(|(to, from)| table.prior_latency_ms(from, to));
                if let Some((was_ms, is_ms)) = was_ms.zip(self.after.latency_ms(from, is)) {
                    let [before, after] = &mut self.latencies;
                    before.add(was_ms);
                    after.add(is_ms);
                }
                if *was == is_name {
                    report.unchanged += 1;
                } else {
                    report.moved.add(was, &is_name, || example(format!("{was} → {is_name}")));
                }
            }
            (PriorResult::Served(was), ReplayOutcome::Refused(refused)) => {
                report.refused.add((refused.status, refused.reason), || example(format!("was served in {was}")));
            }
            (PriorResult::Refused(status, reason), ReplayOutcome::Served(is)) => {
                let (was, is) = (format!("{status} {reason}"), name(is));
                report.served.add(&was, &is, || example(format!("{was} → {is}")));
            }
            (PriorResult::Refused(status, reason), ReplayOutcome::Refused(refused)) => {
                if *status == refused.status && *reason == refused.reason {
                    report.unchanged += 1;
                } else {
                    let what = || example(format!("was refused with {status} {reason}"));
                    report.refused_otherwise.add((refused.status, refused.reason), what);
                }
            }
        }
    }

    fn add_rates(&mut self, line: &Line, then: &PriorResult, new: &Again) {
        let Some(second) = line.second() else {
            self.report.capacity_uncounted += 1;
            return;
        };
        let [before, after] = &mut self.rates;
        if let PriorResult::Served(was) = then
            && let Some(region) = self.names.iter().position(|name| name == was)
        {
            before.count(region, second);
        }
        if let ReplayOutcome::Served(is) = new.outcome {
            after.count(is.index(), second);
        }
    }

    fn add_residency(&mut self, number: u64, line: &Line, asked: &Asked<'_>, old: Option<&Again>, new: &Again) {
        let Some(route) = new.route else { return };
        let table = self.after.table;
        let spec = table.spec();
        let class = spec.data_classes.get(table.route(route).spec.data_class.0).map_or("", |class| &class.name);
        let whose = || (jurisdictions(table, &asked.origin, asked.declared), class.to_owned());
        let example = |what: String| Example { line: number, what, explain: line.explain(&self.file) };
        let difference = match (&self.laws, &self.before, old) {
            (Some(laws), Some(before), Some(old)) => residency_change(laws, asked, (before.table, old), (table, new)),
            _ => None,
        };
        let residency = &mut self.report.residency;
        if let Some(difference) = difference {
            let mut what: Vec<String> = Vec::new();
            what.extend(difference.gained.iter().map(|gain| format!("also {}", gain.region)));
            what.extend(difference.unguarded.iter().map(|region| format!("{region} without safeguards")));
            what.extend(difference.lost.iter().map(|region| format!("no longer {region}")));
            what.extend(difference.guarded.iter().map(|region| format!("{region} with safeguards only")));
            let to = if difference.widens() { &mut residency.widened } else { &mut residency.narrowed };
            to.add(whose(), || example(what.join(", ")));
        }
        if let Some(region) = line.region.as_deref().and_then(|name| table.region_named(name))
            && new.lawful.is_some_and(|lawful| !lawful.contains(region))
        {
            let name = &table.region(region).name;
            residency.forbidden.add(whose(), || example(format!("was served in {name}")));
        }
    }

    /// Returns the report.
    pub(super) fn report(self) -> Report {
        let Self { before, after, mut report, names, rates, latencies, .. } = self;
        let [rates_before, rates_after] = &rates;
        for (index, name) in names.iter().enumerate() {
            let (peak_before, peak_after) = (rates_before.peak(index), rates_after.peak(index));
            let of = |table: &Table| Some(table.region(table.region_named(name)?).capacity_rps);
            let known = of(after.table).or_else(|| of(before.as_ref()?.table)).flatten();
            if peak_before > 0 || peak_after > 0 {
                report.capacity.push(Capacity {
                    region: name.clone(),
                    peak_before,
                    peak_after,
                    capacity_rps: known,
                    exceeded: known.is_some_and(|known| f64::from(peak_after) > known),
                });
            }
        }
        report.capacity_uncounted += rates_before.uncounted.max(rates_after.uncounted);
        let [latency_before, latency_after] = &latencies;
        report.latency_ms = latency_before.summary().zip(latency_after.summary()).map(|(before, after)| Latencies {
            requests: latency_before.requests,
            before,
            after,
        });
        for moves in [&mut report.moved, &mut report.served] {
            moves.finish();
        }
        for refusals in [&mut report.refused, &mut report.refused_otherwise] {
            refusals.finish();
        }
        let residency = &mut report.residency;
        for affected in [&mut residency.widened, &mut residency.narrowed, &mut residency.forbidden] {
            affected.finish();
        }
        report
    }
}

/// Returns a request's result by the log.
fn prior_result(line: &Line) -> PriorResult {
    match (&line.region, line.reason.as_deref()) {
        (Some(region), _) => PriorResult::Served(region.clone()),
        (
            None,
            Some(
                reason @ ("no_route"
                | "residency_prohibited"
                | "residency_unavailable"
                | "unavailable"
                | "emergency_route_off"
                | "emergency_read_only"
                | "emergency_shed"),
            ),
        ) => PriorResult::Refused(line.status, reason.to_owned()),
        (None, _) => PriorResult::Failed,
    }
}

/// Returns the jurisdictions of a request, in words.
fn jurisdictions(table: &Table, origin: &Origin, declared: &[String]) -> String {
    let mut ids: Vec<_> = origin
        .countries()
        .iter()
        .flat_map(|country: Country| table.residency().jurisdictions(country).to_vec())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let names = ids.iter().filter_map(|id| Some(table.spec().jurisdictions.get(id.0)?.name.clone()));
    let mut words: Vec<String> = names.collect();
    if *origin == Origin::Unknown {
        words.push("unknown country".to_owned());
    } else if words.is_empty() {
        words.push("no jurisdiction".to_owned());
    }
    words.extend(declared.iter().take(4).map(|name| format!("tenant under {name}")));
    words.join(", ")
}

/// How often each round trip occurs. Bounded by the pairs of regions in the tables.
#[derive(Default)]
struct Distribution {
    /// The counts by tenths of a millisecond.
    counts: BTreeMap<u64, u64>,
    requests: u64,
    sum: f64,
}

impl Distribution {
    fn add(&mut self, ms: f32) {
        *self.counts.entry((f64::from(ms) * 10.0).round() as u64).or_default() += 1;
        self.requests += 1;
        self.sum += f64::from(ms);
    }

    fn summary(&self) -> Option<Latency> {
        let requests = self.requests as f64;
        (self.requests > 0).then(|| Latency {
            mean: (self.sum / requests * 10.0).round() / 10.0,
            p50: self.quantile(0.5),
            p95: self.quantile(0.95),
        })
    }

    fn quantile(&self, share: f64) -> f64 {
        let rank = ((self.requests as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        let reached = self.counts.iter().find(|(_, count)| {
            below += **count;
            below >= rank
        });
        reached.map_or(0.0, |(tenths, _)| *tenths as f64 / 10.0)
    }
}
