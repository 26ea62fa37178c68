//! Formats the results for people.

use super::amount::AmountReport;
use super::disagreement::{Disagreement, Price};
use super::flows::{Flow, Flows};
use super::logged::LogReport;
use super::movement::{Class, Movement};

/// Formats what changes from one database to another.
pub(super) fn movement(movement: &Movement) -> String {
    let mut out = Text::of(&movement.assigned);
    out.line(&format!("old     {}", movement.old.in_words()));
    out.line(&format!("new     {}", movement.new.in_words()));
    for database in &movement.beside {
        out.line(&format!("beside  {}", database.in_words()));
    }
    out.log(movement.log.as_ref());
    out.head();
    out.row("assigned in any", &movement.assigned);
    let countries = &movement.countries;
    out.row("  the same", &countries.same);
    out.row("  another country", &countries.changed.total);
    out.row("  no longer known", &countries.lost.total);
    out.row("  newly known", &countries.gained.total);
    let union = &movement.union;
    out.row("leaves the Union", &union.leaves.total);
    out.row("joins the Union", &union.joins.total);
    out.row("was in the Union, unknown now", &union.lost.total);
    out.flows("other countries", &countries.changed);
    out.flows("no longer known", &countries.lost);
    out.flows("leaves the Union", &union.leaves);
    if let (Some(law), Some(table)) = (&movement.law, &movement.table) {
        out.line(&format!("under {}, version {:?}", table.file, table.version));
        out.row("  other jurisdictions", &law.jurisdictions.total);
        out.ways("    ", &law.jurisdictions);
        law.classes.iter().for_each(|class| out.class(class));
    }
    out.text
}

/// Formats what several databases know, and where they disagree.
pub(super) fn disagreement(found: &Disagreement) -> String {
    let mut out = Text::of(&found.assigned);
    for (source, number) in found.sources.iter().zip(1..) {
        out.line(&format!("{number}  {}", source.database.in_words()));
        out.line(&format!("   tells {}; {} countries", source.tells.join(", "), source.countries));
    }
    out.log(found.log.as_ref());
    out.head();
    out.row("assigned in any", &found.assigned);
    for (source, number) in found.sources.iter().zip(1..) {
        out.row(&format!("  country known to {number}"), &source.known);
    }
    out.row("  known to any", &found.known);
    if found.sources.len() > 1 {
        out.row("  of that: they disagree", &found.disputed);
    }
    out.row("in the Union for any", &found.union.any);
    if found.sources.len() > 1 {
        out.row("  of that: not for another", &found.union.disputed);
        out.line("of what both know");
    }
    for pair in &found.pairs {
        let [a, b] = pair.sources.map(|source| source + 1);
        out.row(&format!("  {a} and {b}: another country"), &pair.other_country);
        out.row(&format!("  {a} and {b}: in the Union or not"), &pair.other_side_of_union);
    }
    if let (Some(prices), Some(table)) = (&found.price, &found.table) {
        out.line(&format!("under {}, version {:?}", table.file, table.version));
        prices.iter().for_each(|price| out.price(price));
    }
    out.text
}

/// Text in columns: IPv4, IPv6 and requests, as far as there are any.
struct Text {
    text: String,
    columns: [bool; 3],
}

impl Text {
    fn of(whole: &AmountReport) -> Self {
        let columns = [whole.ipv4_share.is_some(), whole.ipv6_share.is_some(), whole.requests_share.is_some()];
        Self { text: String::new(), columns }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn log(&mut self, log: Option<&LogReport>) {
        let Some(log) = log else { return };
        self.line(&format!("log     {}: {} requests", log.file.display(), grouped(log.requests as f64)));
        for (count, what) in [
            (log.unassigned, "from addresses that no database has"),
            (log.without_address, "left out: the log does not have the client's address"),
            (log.left_out, "left out: of more clients than are counted apart"),
            (log.unreadable, "left out: lines that cannot be read"),
        ] {
            if count > 0 {
                self.line(&format!("        {} {what}", grouped(count as f64)));
            }
        }
    }

    fn head(&mut self) {
        let titles = ["IPv4 /24s", "IPv6 /48s", "requests"];
        let shown = titles.iter().zip(self.columns).filter(|(_, shown)| *shown);
        let titles: String = shown.map(|(title, _)| format!(" {title:>15}         ")).collect();
        self.line(&format!("{:LABEL$}{titles}", ""));
    }

    fn row(&mut self, label: &str, report: &AmountReport) {
        let cells = self.cells(report);
        let label =
            if label.chars().count() < LABEL { format!("{label:LABEL$}") } else { format!("{label}\n{:LABEL$}", "") };
        self.line(&format!("{label}{cells}"));
    }

    fn cells(&self, report: &AmountReport) -> String {
        let cells = [
            (report.ipv4_slash24s, report.ipv4_share),
            (report.ipv6_slash48s, report.ipv6_share),
            (report.requests as f64, report.requests_share),
        ];
        let shown = cells.into_iter().zip(self.columns).filter(|(_, shown)| *shown);
        shown
            .map(|((count, share), _)| format!(" {:>15} {:>8}", grouped(count), percent(share.unwrap_or(0.0))))
            .collect()
    }

    fn flows(&mut self, title: &str, flows: &Flows) {
        if !flows.flows.is_empty() {
            self.line(title);
            self.ways("  ", flows);
        }
    }

    fn ways(&mut self, indent: &str, flows: &Flows) {
        for flow in flows.flows.iter().take(MOST) {
            self.row(&format!("{indent}{}", way(flow)), &flow.amount);
            self.line(&format!("{indent}  e.g. {}", flow.examples.join(", ")));
        }
        if flows.flows.len() > MOST {
            self.line(&format!("{indent}and {} more: --format json has them all", flows.flows.len() - MOST));
        }
    }

    fn class(&mut self, class: &Class) {
        let kinds = [
            ("WIDER: may go to more regions", &class.widened, " gain "),
            ("narrower: may go to fewer regions", &class.narrowed, " lose "),
            ("REFUSED: no region any more", &class.refused, ""),
            ("served: had no region", &class.served, ""),
        ];
        let routes = class.routes.join(", ");
        if kinds.iter().all(|(_, flows, _)| flows.total.is_nothing()) {
            self.line(&format!("  data class {} ({routes}): nothing changes", class.name));
            return;
        }
        self.line(&format!("  data class {} ({routes})", class.name));
        for (title, flows, verb) in kinds.into_iter().filter(|(_, flows, _)| !flows.total.is_nothing()) {
            self.row(&format!("    {title}"), &flows.total);
            for flow in flows.flows.iter().take(FEW) {
                let regions =
                    if flow.regions.is_empty() { String::new() } else { format!("{verb}{}", few(&flow.regions)) };
                self.row(&format!("      {}", way(flow)), &flow.amount);
                self.line(&format!("       {regions}  e.g. {}", flow.examples.join(", ")));
            }
            if flows.flows.len() > FEW {
                self.line(&format!("      and {} more: --format json has them all", flows.flows.len() - FEW));
            }
        }
    }

    fn price(&mut self, price: &Price) {
        let routes = price.routes.join(", ");
        let refused = price.refused_alone.iter().chain([&price.refused_first, &price.refused_all]);
        if refused.chain([&price.narrowed.total, &price.refused.total]).all(AmountReport::is_nothing) {
            self.line(&format!(
                "  data class {} ({routes}): nobody is refused, and disagreement costs nothing",
                price.class
            ));
            return;
        }
        self.line(&format!("  data class {} ({routes})", price.class));
        for (refused, number) in price.refused_alone.iter().zip(1..) {
            self.row(&format!("    refused with {number} alone"), refused);
        }
        if price.refused_alone.len() < 2 {
            return;
        }
        self.row("    refused by the first that knows", &price.refused_first);
        self.row("    refused with all, as a node does", &price.refused_all);
        for (title, flows, verb) in [
            ("    by disagreement: fewer regions", &price.narrowed, " lose "),
            ("    by disagreement: REFUSED", &price.refused, ""),
        ] {
            self.row(title, &flows.total);
            for flow in flows.flows.iter().take(FEW) {
                let regions =
                    if flow.regions.is_empty() { String::new() } else { format!("{verb}{}", few(&flow.regions)) };
                self.row(&format!("      {}", way(flow)), &flow.amount);
                self.line(&format!("       {regions}  e.g. {}", flow.examples.join(", ")));
            }
            if flows.flows.len() > FEW {
                self.line(&format!("      and {} more: --format json has them all", flows.flows.len() - FEW));
            }
        }
    }
}

/// The width of the labels before the columns.
const LABEL: usize = 38;

/// How many flows of one kind are shown, and how many of each data class: more are not read.
const MOST: usize = 10;
const FEW: usize = 5;

fn way(flow: &Flow) -> String {
    format!("{} → {}", flow.from.join(" "), flow.to.join(" "))
}

fn few(names: &[String]) -> String {
    match names.split_at_checked(6) {
        Some((shown, more)) if !more.is_empty() => format!("{} and {} more", shown.join(", "), more.len()),
        _ => names.join(", "),
    }
}

/// Formats a share in percent: never 0 for something, nor 100 for less than all.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.01 => "<0.01 %".to_owned(),
        percent if percent < 100.0 && percent > 99.99 => "99.99 %".to_owned(),
        percent => format!("{percent:.2} %"),
    }
}

/// Formats a count with its thousands separated; a fraction is `<1`.
fn grouped(count: f64) -> String {
    if count > 0.0 && count < 1.0 {
        return "<1".to_owned();
    }
    let digits = format!("{count:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_counts_are_readable() {
        for (share, expected) in
            [(0.0, "0 %"), (0.000_000_1, "<0.01 %"), (0.0234, "2.34 %"), (0.999_999, "99.99 %"), (1.0, "100.00 %")]
        {
            assert_eq!(percent(share), expected);
        }
        for (count, expected) in
            [(0.0, "0"), (0.004, "<1"), (1.0, "1"), (999.0, "999"), (1000.0, "1,000"), (12_345_678.4, "12,345,678")]
        {
            assert_eq!(grouped(count), expected);
        }
    }
}
