//! The live picture: who goes where, at which rate, and why.

use std::time::Duration;

use crate::admin::NotUp;
use crate::clients::GROUPS;
use crate::ledger::{Fate, Ledger, Traffic};
use crate::origins::Origins;
use crate::phases::PHASES;
use crate::rates::Rates;
use crate::reasons::{ORDER, Reason, Reasons};
use crate::regions::{REGIONS, Region};
use crate::report::{self, WIDTH, clipped, names};
use screen::{Ink, Tone};

/// What the picture is of.
pub(crate) struct Scene<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) rates: &'a Rates,
    pub(crate) origins: &'a Origins,
    /// The regions that the ingress does not take for up.
    pub(crate) not_up: &'a [NotUp],
    pub(crate) reasons: &'a Reasons,
    pub(crate) elapsed: Duration,
}

impl Scene<'_> {
    /// Its lines, from the top, at most [`WIDTH`] wide.
    pub(crate) fn lines(&self, ink: Ink) -> Vec<String> {
        let mut lines = vec![self.title(ink)];
        lines.extend((0..PHASES.len()).map(|index| self.phase(index, ink)));
        lines.push(String::new());
        lines.extend(self.head(ink));
        lines.extend(GROUPS.iter().map(|group| {
            let label = format!("{} {:>4} clients", group.code, group.number);
            self.traffic(&label, Traffic::Personal(group.code), ink)
        }));
        lines.push(self.traffic("public data, all", Traffic::Public, ink));
        lines.push(String::new());
        lines.push(ink.paint(Tone::Head, "Why, by the ingress's own /explain (lines are those of routes.toml)"));
        lines.extend(self.reasons.0.iter().map(reason));
        lines
    }

    fn title(&self, ink: Ink) -> String {
        let outside = self.origins.confined(false);
        let leaks = format!("EU personal data outside the EU: {outside}");
        let tone = if outside == 0 { Tone::Good } else { Tone::Bad };
        let (left, heads) = (format!("meridian demo  {:>5.1} s    ", self.elapsed.as_secs_f64()), report::heads());
        let leaks = format!("{leaks:<width$}", width = WIDTH.saturating_sub(left.len() + heads.len()));
        format!("{}{}{}", ink.paint(Tone::Head, &left), ink.paint(tone, &leaks), ink.paint(Tone::Quiet, &heads))
    }

    fn phase(&self, index: usize, ink: Ink) -> String {
        let tone = if index == self.ledger.phase() { Tone::Head } else { Tone::Normal };
        match self.ledger.phases().get(index) {
            Some(counts) => report::row(index, counts, ink, tone),
            None => ink.paint(Tone::Quiet, &report::title(index)),
        }
    }

    /// The regions: their names, places and states.
    fn head(&self, ink: Ink) -> [String; 3] {
        let row = |label: &str, cell: &dyn Fn(&Region, usize) -> String| {
            let cells = REGIONS.iter().map(|region| cell(region, column(region))).collect::<String>();
            format!("{label:<LABEL$}{cells}")
        };
        let names = row("", &|region, width| format!("{:>width$}", region.name));
        [
            ink.paint(Tone::Head, &format!("{names}{:>LAST$}", "refused")),
            ink.paint(Tone::Quiet, &row("requests/s", &|region, width| format!("{:>width$}", region.place))),
            row("", &|region, width| {
                let (state, tone) = self.state(region.name);
                ink.paint(tone, &format!("{state:>width$}"))
            }),
        ]
    }

    fn state(&self, region: &str) -> (&str, Tone) {
        match (self.origins.is_killed(region), self.not_up.iter().find(|not_up| not_up.region == region)) {
            (true, _) => ("killed", Tone::Bad),
            (false, Some(not_up)) => (&not_up.state, Tone::Changed),
            (false, None) => ("up", Tone::Good),
        }
    }

    fn traffic(&self, label: &str, traffic: Traffic, ink: Ink) -> String {
        // Where most of it went while all was well is where it is at home.
        let first = self.ledger.phases().first();
        let home = REGIONS.iter().max_by_key(|region| {
            first.map_or(0, |counts| counts.count(|of, fate| of == traffic && fate == Fate::Served(region.name)))
        });
        let cell = |width: usize, rate: f64, tone: Tone| match rate {
            0.0 => ink.paint(Tone::Quiet, &format!("{:>width$}", "·")),
            rate => ink.paint(tone, &format!("{:>width$.0}", rate.max(1.0))),
        };
        let cells = REGIONS.iter().map(|region| {
            let rate = self.rates.per_second(traffic, |fate| fate == Fate::Served(region.name));
            let is_home = home.is_some_and(|home| home.name == region.name);
            cell(column(region), rate, if is_home { Tone::Good } else { Tone::Changed })
        });
        let refused = self.rates.per_second(traffic, |fate| fate == Fate::Refused);
        format!("{label:<LABEL$}{}{}", cells.collect::<String>(), cell(LAST, refused, Tone::Changed))
    }
}

fn reason(reason: &Reason) -> String {
    clipped(format!("{:<11} {:<ORDER$} {}", names(&reason.of), reason.order, reason.because))
}

fn column(region: &Region) -> usize {
    region.name.len() + 1
}

const LABEL: usize = 17;
const LAST: usize = 9;
