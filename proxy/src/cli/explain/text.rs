//! Formats an explanation for people: first the verdict, then its reasons, then what happens on failures.

use std::fmt::Write;

use policy::explain::{
    CurveExplained, DormantRule, FailureStep, Ground, LatencySource, Outcome, RegionExplained, ReportedExplained,
    RuleExplained, Ruling, ScoringExplained, Shares, Why,
};
use policy::score::{CurveShape, LatencyFrom};
use policy::{Access, Explanation, Period, Reason, Reported};

use super::page::{GLUE, Page};

/// Formats the whole explanation.
pub(super) fn text(explanation: &Explanation) -> String {
    let mut page = Page::default();
    headline(&mut page, explanation);
    page.line("");
    request(&mut page, explanation);
    client(&mut page, explanation);
    law(&mut page, explanation);
    order(&mut page, explanation);
    out(&mut page, explanation);
    if_it_fails(&mut page, explanation);
    page.0
}

fn headline(page: &mut Page, explanation: &Explanation) {
    let first = explanation.order.first().and_then(|name| explanation.regions.iter().find(|r| r.name == *name));
    match (explanation.verdict, first) {
        (Outcome::Forward, Some(first)) => {
            let opened = if first.opened { format!(" ({})", opened_by(first)) } else { String::new() };
            page.wrapped("", 2, &format!("FORWARD to {}{opened}", first.name));
        }
        _ => {
            let reason = explanation.reason.map_or("", |reason| reason.name());
            let words = explanation.detail.as_deref().map_or(String::new(), |words| format!(": {words}"));
            page.wrapped("", 2, &format!("REFUSE {} {reason}{words}", explanation.status));
            if explanation.page {
                let is_emergency = explanation.reason.is_some_and(Reason::is_emergency);
                let whose = if is_emergency { "emergency's" } else { "rule's maintenance" };
                page.line(&format!("  The client is shown the {whose} page."));
            }
        }
    }
}

fn request(page: &mut Page, explanation: &Explanation) {
    let asked = &explanation.request;
    let mut parts = vec![format!("{} {}", asked.method, asked.path), format!("host {}", asked.host)];
    parts.extend(asked.upgrade.then(|| "upgrade to a WebSocket".to_owned()));
    parts.extend(asked.content.then(|| "with content".to_owned()));
    parts.extend(asked.consent.then(|| "with consent".to_owned()));
    parts.extend((!asked.declared.is_empty()).then(|| format!("declares {}", asked.declared.join(", "))));
    parts.extend(asked.pinned.iter().map(|region| format!("pinned to {region}")));
    parts.extend(asked.only.iter().map(|region| format!("sent on for {region} only")));
    page.entry("request", &parts.join(", "));
    let Some(route) = &explanation.route else {
        let hint = if asked.host == "any" { "; with no host named, only routes for every host match" } else { "" };
        page.entry("route", &format!("none matches{hint}"));
        return;
    };
    let class = explanation.data_class.as_deref().unwrap_or("unknown");
    let access = explanation.access.map_or("", |access| match access {
        Access::Read => ", a read",
        Access::Write if asked.upgrade => ", a write, as a tunnel is",
        Access::Write if asked.content => ", a write, as all is that has content",
        Access::Write => ", a write",
    });
    let (line, rest) = explanation.route_terms.as_ref().map_or_else(Default::default, |terms| {
        let kept = match terms.affinity.as_str() {
            "client_ip" => ", clients kept by address",
            "cookie" => ", clients kept by cookie",
            _ => "",
        };
        let scope = match terms.failover.as_str() {
            "region" => ", never fails over",
            "jurisdiction" => ", fails over within the jurisdiction of the first choice",
            _ => "",
        };
        let class = terms.traffic_class.as_ref().map(|class| format!(", traffic class {class}")).unwrap_or_default();
        (format!(" (line {})", terms.line), format!(", criticality {}{class}{kept}{scope}", terms.criticality))
    });
    page.entry("route", &format!("{route}{line}: data class {class}{access}{rest}"));
}

fn client(page: &mut Page, explanation: &Explanation) {
    let origin = &explanation.origin;
    let countries: Vec<&str> = origin.countries.iter().map(|country| country.code()).collect();
    let place = match (countries.is_empty(), origin.certain) {
        (true, _) if !origin.like.is_empty() => {
            format!("in an unknown country: treated like the clients of {}", origin.like.join(", "))
        }
        (true, _) => "in an unknown country: the strictest rules hold".to_owned(),
        (false, true) => format!("in {}", countries.join(", ")),
        (false, false) => format!("in one of {}: the rules of all hold", countries.join(", ")),
    };
    page.entry("client", &place);
    origin.sources.iter().for_each(|source| page.entry("", source));
    page.entry("node", &format!("in {}, table {}", explanation.from, explanation.table_version));
}

fn law(page: &mut Page, explanation: &Explanation) {
    let Some(class) = &explanation.data_class else { return };
    let whose = match explanation.jurisdictions.join(", ") {
        none if none.is_empty() => "of no jurisdiction".to_owned(),
        names => format!("of {names}"),
    };
    if explanation.rules.is_empty() {
        page.entry("law", &format!("{whose}: no rule restricts data class {class}"));
    } else {
        page.entry("law", &format!("{whose}, for data class {class}:"));
        let regions = explanation.regions.len();
        explanation.rules.iter().for_each(|rule| page.entry("", &in_words(rule, regions)));
    }
    explanation.not_in_force.iter().for_each(|rule| page.entry("", &dormant_in_words(rule)));
    if let (Some(at), Some(next)) = (explanation.at, explanation.next_boundary) {
        page.entry("", &format!("as of {at}; the next date of this table is {next}"));
    }
}

/// Formats a rule, in a table of `regions` regions.
fn in_words(rule: &RuleExplained, regions: usize) -> String {
    let selects = match rule.selects.as_slice() {
        [] => "no region".to_owned(),
        all if all.len() <= NAMED => all.join(", "),
        all => format!("{} and {} more", all.get(..NAMED).unwrap_or_default().join(", "), all.len() - NAMED),
    };
    let keeps = match rule.elsewhere.as_str() {
        "never" if rule.selects.is_empty() => "no region at all".to_owned(),
        "never" => format!("only {selects}"),
        "always" if rule.selects.len() + rule.denies.len() == regions => "anywhere".to_owned(),
        "always" => format!("first {selects}; others are allowed"),
        needs => format!("first {selects}; any other {needs}"),
    };
    let of = rule.regulation.as_ref().and(rule.jurisdiction.as_ref());
    let jurisdiction = of.map_or(String::new(), |name| format!("{name}: "));
    let ground = match rule.ground {
        Ground::Client | Ground::Unknown => "",
        Ground::Route => " (the route declares it)",
        Ground::Request => " (declared for the request)",
    };
    let denies = match rule.denies.as_slice() {
        [] => String::new(),
        denied => format!("; never {}", denied.join(", ")),
    };
    let period = Period { from: rule.valid_from, until: rule.valid_until };
    let dates = match period {
        Period::ALWAYS => String::new(),
        Period { until: Some(until), .. } if rule.is_over => {
            format!(" (OVER since {until}: it opens nothing, and goes on restricting)")
        }
        period => format!(" ({period})"),
    };
    format!("{jurisdiction}{}{ground}{dates}: {keeps}{denies}", place(&rule.rule, rule.line))
}

fn dormant_in_words(rule: &DormantRule) -> String {
    let why = match (rule.succeeded_by, rule.valid_from, rule.valid_until) {
        (Some(line), _, Some(until)) => format!("over since {until}, when line {line} took its place"),
        (_, Some(from), _) => format!("not in force before {from}"),
        _ => "not in force".to_owned(),
    };
    format!("{}: {}: {why}", rule.jurisdiction, place(&rule.rule, Some(rule.line)))
}

/// Writes the regions that would be tried, one line each, in columns.
fn order(page: &mut Page, explanation: &Explanation) {
    let tried: Vec<&RegionExplained> =
        explanation.order.iter().filter_map(|name| explanation.regions.iter().find(|r| r.name == *name)).collect();
    if tried.is_empty() {
        return;
    }
    page.line("");
    let columns = Columns::of(explanation, &tried);
    page.wrapped("", 2, &format!("order{}", explanation.scoring.as_ref().map_or(String::new(), scored_by)));
    page.line(&columns.head());
    let mut above = String::new();
    for (index, region) in tried.iter().enumerate() {
        let heading = group(explanation, region);
        if heading != above {
            page.wrapped("  ", 4, &heading);
            above = heading;
        }
        page.line(&columns.row(index + 1, region));
        region.reported.iter().for_each(|reported| page.wrapped("        ", 10, &fleet_load(reported)));
        let moved = region.why.iter().filter(|why| matches!(why.verdict, Ruling::Moves | Ruling::Notes));
        moved.for_each(|why| page.wrapped("        ", 10, &format!("{}: {}", place(&why.rule, why.line), why.effect)));
    }
    if tried.iter().any(|region| region.tied && region.share.is_none()) {
        page.line("  * within 5 points of the best left: this client's hash draws, by free capacity");
    }
    if tried.iter().any(|region| region.tied && region.share.is_some()) {
        page.line("  * of equal standing, whatever the score: this client's hash draws, by share");
    }
}

fn scored_by(scoring: &ScoringExplained) -> String {
    let knots = |curve: &CurveExplained| {
        let knots: Vec<String> = curve.knots.iter().map(|knot| format!("{} ms {}", knot.ms, knot.points)).collect();
        let shape = match curve.shape {
            CurveShape::Line => "a line through",
            CurveShape::Steps => "steps from",
        };
        format!("{shape} {}", knots.join(", "))
    };
    let curve = scoring.latency_curve.as_ref().map_or(String::new(), |curve| {
        format!("; latency curve: {}", curve.name.clone().unwrap_or_else(|| knots(curve)))
    });
    let from = if scoring.latency_from == LatencyFrom::Client { "; latency from the client" } else { "" };
    format!(", scored by {}{curve}{from}", scoring.name)
}

/// Returns the heading of a region's group in the order.
fn group(explanation: &Explanation, region: &RegionExplained) -> String {
    if explanation.request.pinned.as_ref() == Some(&region.name) {
        return "pinned".to_owned();
    }
    let level = region.level.map_or(String::new(), |level| format!("level {level}"));
    let whose = match (region.opened, explanation.rules.is_empty()) {
        (true, _) => format!(", {}", opened_by(region)),
        (false, false) => ", selected by the law".to_owned(),
        (false, true) => String::new(),
    };
    let moved = match (region.weight.moved_off, region.spill.spilled) {
        (true, _) => ", last resort by weight",
        (false, true) => ", later by overload",
        (false, false) => "",
    };
    format!("{level}{whose}{moved}")
}

/// Returns the rules that open a region, and how.
fn opened_by(region: &RegionExplained) -> String {
    let opens = region.why.iter().filter(|why| why.verdict == Ruling::Opens);
    let texts = opens.map(|why| {
        let how = why.effect.strip_prefix("opened as a later level").unwrap_or(&why.effect);
        format!("opened by {}{how}", place(&why.rule, why.line))
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// The columns of the order.
struct Columns {
    name: usize,
    weights: Shares,
}

impl Columns {
    fn of(explanation: &Explanation, tried: &[&RegionExplained]) -> Self {
        let equal = Shares { latency: 1.0, load: 1.0, compliance: 1.0, cost: 1.0 };
        Self {
            name: tried.iter().map(|region| region.name.chars().count()).max().unwrap_or_default().max(6),
            weights: explanation.scoring.as_ref().map_or(equal, |scoring| scoring.weights),
        }
    }

    fn head(&self) -> String {
        let mut head = format!("      {:<width$}  score ", "region", width = self.name);
        for (name, weight, width) in self.terms() {
            let titled = format!("{name} x{}", (weight * 100.0).round() / 100.0);
            let _ = write!(head, "  {titled:<width$}");
        }
        head.trim_end().to_owned()
    }

    fn row(&self, place: usize, region: &RegionExplained) -> String {
        let tie = if region.tied { '*' } else { ' ' };
        let mut row = format!("{place:>4}  {:<width$}  {:>5.1}{tie}", region.name, region.score, width = self.name);
        for (name, _, width) in self.terms() {
            let cell = match name {
                "latency" => {
                    let source = source(region.latency_source);
                    format!("{:>3.0} ({:.0} ms, {source})", region.terms.latency, region.latency_ms)
                }
                "load" => format!("{:>3.0} ({:.0} %)", region.terms.load, region.utilisation * 100.0),
                "compliance" => format!("{:>3.0}", region.terms.compliance),
                _ => format!("{:>3.0}", region.terms.cost),
            };
            let _ = write!(row, "  {cell:<width$}");
        }
        row.trim_end().to_owned()
    }

    /// Returns the terms with a weight: name, weight, width.
    fn terms(&self) -> impl Iterator<Item = (&'static str, f32, usize)> {
        let Shares { latency, load, compliance, cost } = self.weights;
        let all = [("latency", latency, 22), ("load", load, 11), ("compliance", compliance, 15), ("cost", cost, 9)];
        all.into_iter().filter(|(_, weight, _)| *weight > 0.0)
    }
}

/// Formats the load that nodes report, and how long ago.
fn fleet_load(reported: &ReportedExplained) -> String {
    let ReportedExplained { utilisation, age_seconds, nodes } = reported;
    let (share, s) = (utilisation * 100.0, if *nodes == 1 { "" } else { "s" });
    let fading = if *age_seconds > Reported::FRESH.as_secs_f32() { ": it fades" } else { "" };
    format!("load: {share:.0} % by what {nodes} node{s} reported {age_seconds:.1} s ago{fading}")
}

fn source(source: LatencySource) -> &'static str {
    match source {
        LatencySource::Measured => "measured",
        LatencySource::Table => "table",
        LatencySource::Local => "here",
        LatencySource::GreatCircle => "distance",
        LatencySource::ClientDistance => "client, distance",
        LatencySource::ClientMeasured => "client, measured",
        LatencySource::Unknown => "assumed",
    }
}

/// Writes the regions that are not tried, grouped by the reason that decides.
fn out(page: &mut Page, explanation: &Explanation) {
    let out = || explanation.regions.iter().filter(|region| !explanation.order.contains(&region.name));
    for (title, lawful) in [("may serve, but cannot now", true), ("must not serve", false)] {
        let mut groups: Vec<Excluded<'_>> = Vec::new();
        for region in out().filter(|region| region.allowed == lawful) {
            let why = region.why.iter().find(|why| refuses(why));
            match groups.iter_mut().find(|group| group.is_for(why)) {
                Some(group) => group.regions.push((region, why)),
                None => groups.push(Excluded { regions: vec![(region, why)] }),
            }
        }
        if !groups.is_empty() {
            page.line("");
            page.line(title);
        }
        for group in groups {
            page.wrapped("  ", 4, &group.reason());
            page.wrapped("      ", 6, &group.names());
        }
    }
}

/// Regions that are excluded for one reason; never empty.
struct Excluded<'a> {
    regions: Vec<(&'a RegionExplained, Option<&'a Why>)>,
}

impl<'a> Excluded<'a> {
    fn first(&self) -> Option<&'a Why> {
        self.regions.first().and_then(|(_, why)| *why)
    }

    /// Returns whether a reason is this group's. A law's line distinguishes it from others of its name; a
    /// region's own entry has another line in each region.
    fn is_for(&self, why: Option<&Why>) -> bool {
        let key = |why: &Why| (why.rule.clone(), why.effect.clone(), why.regulation.as_ref().and(why.line));
        self.first().map(key) == why.map(key)
    }

    fn has_one_line(&self) -> bool {
        self.regions.iter().all(|(_, why)| why.and_then(|why| why.line) == self.first().and_then(|why| why.line))
    }

    fn reason(&self) -> String {
        self.first().map_or_else(
            || "no reason given".to_owned(),
            |why| {
                let effect = why.effect.strip_prefix("refused: ").unwrap_or(&why.effect);
                format!("{}: {effect}", place(&why.rule, why.line.filter(|_| self.has_one_line())))
            },
        )
    }

    fn names(&self) -> String {
        let names = self.regions.iter().map(|(region, why)| {
            let far = why.is_some_and(|why| why.rule == "max_latency");
            match why.and_then(|why| why.line) {
                _ if far => glued(
                    &region.name,
                    &format!("{:.0} ms", region.reach_ms.or(region.rtt_ms).unwrap_or(region.latency_ms)),
                ),
                Some(line) if !self.has_one_line() => glued(&region.name, &format!("line {line}")),
                _ => region.name.clone(),
            }
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

/// Returns whether a reason refuses: by its verdict, or by its effect in the answer of an older node.
fn refuses(why: &Why) -> bool {
    why.verdict == Ruling::Refuses || why.effect.starts_with("refused")
}

fn if_it_fails(page: &mut Page, explanation: &Explanation) {
    if explanation.if_down.is_empty() {
        return;
    }
    page.line("");
    let attempts = explanation.route_terms.as_ref().map_or(String::new(), |terms| match terms.attempts {
        1 => " (one request makes 1 attempt)".to_owned(),
        attempts => format!(" (one request makes at most {attempts} attempts)"),
    });
    page.line(&format!("if it fails{attempts}"));
    let counts = std::iter::once(0).chain(explanation.if_down.iter().map(|step| step.down.len()));
    let downs: Vec<String> = counts.zip(&explanation.if_down).map(|(before, step)| newly_down(before, step)).collect();
    let width = downs.iter().map(|down| down.chars().count()).max().unwrap_or_default();
    for (down, step) in downs.iter().zip(&explanation.if_down) {
        page.line(&format!("  {down:<width$}  {}", outcome(step)));
    }
}

/// Returns which regions a step takes as down beside the `before` of the step before it.
fn newly_down(before: usize, step: &FailureStep) -> String {
    let and = if before == 0 { "" } else { "and " };
    match (step.down.len().saturating_sub(before), step.down.last()) {
        (1, Some(last)) => format!("{and}{last} down"),
        (more, _) => format!("{and}the other {more} down"),
    }
}

fn outcome(step: &FailureStep) -> String {
    let reason = step.reason.map_or("", |reason| reason.name());
    let page = if step.page { ", with the maintenance page" } else { "" };
    match &step.serves {
        Some(region) => format!("{region} serves"),
        None => format!("REFUSE {} {reason}{page}", step.status),
    }
}

/// Formats a rule or a key, and its line.
fn place(rule: &str, line: Option<u32>) -> String {
    line.map_or_else(|| rule.to_owned(), |line| format!("{rule} (line {line})"))
}

/// Formats a name with a remark, which stay on one line.
fn glued(name: &str, remark: &str) -> String {
    format!("{name} ({remark})").replace(' ', GLUE)
}

/// How many of a rule's regions are named: about a line's.
const NAMED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fleet_reports_is_told_with_its_age() {
        for (utilisation, age_seconds, nodes, told) in [
            (0.314, 0.84, 12, "load: 31 % by what 12 nodes reported 0.8 s ago"),
            (1.5, 10.0, 1, "load: 150 % by what 1 node reported 10.0 s ago"),
            (0.0, 12.25, 2, "load: 0 % by what 2 nodes reported 12.2 s ago: it fades"),
        ] {
            assert_eq!(fleet_load(&ReportedExplained { utilisation, age_seconds, nodes }), told);
        }
    }
}
