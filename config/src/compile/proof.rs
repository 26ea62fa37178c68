//! Reports what the policy's proof finds in a compiled table, at its place in the file.

use std::path::Path;

use policy::jurisdiction::ClassId;
use policy::proof::{Case, Cause, Finding, Gap, Idle, Proof, Severity, prove as prove_table};
use policy::residency::Source;
use policy::{Method, RouteId, Table};

use crate::field::{Field, Section};

/// Proves the table and reports the findings. Notes, which the table intends, are in the proof alone.
/// `file` is for the commands that explain the findings.
pub(super) fn prove(root: &Section<'_>, table: &Table, file: &Path) -> Proof {
    let list = |key| root.field(key).and_then(|field| field.peek_list()).unwrap_or_default();
    let places = Places { root, table, routes: list("routes"), rules: list("residency") };
    let proof = prove_table(table);
    let file = file.display().to_string();
    for finding in &proof.findings {
        if finding.severity() == Severity::Note || places.is_reported(finding) {
            continue;
        }
        let sentence = finding.describe(table.spec());
        let message = match finding.case() {
            Some(case) => format!("{sentence}; see: {}", case.command(&file)),
            None => sentence,
        };
        match (places.of(finding), finding.severity()) {
            (Some(field), Severity::Error) => field.error(message),
            (Some(field), _) => field.warning(message),
            // Every warning has a place.
            (None, _) => root.error(message),
        }
    }
    proof
}

/// Proves the table as it will be from each of its next boundaries on, so that none of them brings a fault.
pub(super) fn prove_later(root: &Section<'_>, table: &Table) {
    let now = table.spec().at.latest();
    let soon = now.plus_seconds(HORIZON);
    let boundaries =
        table.spec().boundaries().into_iter().filter(|moment| (now.plus_seconds(1)..=soon).contains(moment));
    for moment in boundaries.take(MOST_BOUNDARIES) {
        let Ok(then) = table.at(moment.into()) else { continue };
        for finding in prove_table(&then).findings {
            match finding {
                Finding::Leak { .. } | Finding::Misjudged { .. } => {
                    root.error(format!("from {moment} on: {}", finding.describe(then.spec())));
                }
                Finding::ServesNobody => root.warning(format!(
                    "from {moment} on no route has a region for anybody, and every request is refused: see \
                     meridian check --horizon"
                )),
                _ => {}
            }
        }
    }
}

/// How far ahead a table is proved, in seconds: a year and a month, so that what ends at a year's end is seen
/// at its beginning.
const HORIZON: i64 = 400 * 86_400;

/// The most boundaries that are proved: a proof of the largest tables takes seconds.
const MOST_BOUNDARIES: usize = 8;

/// The places in the file of what findings are about.
struct Places<'a, 't> {
    root: &'a Section<'t>,
    table: &'a Table,
    routes: Vec<Field<'t>>,
    rules: Vec<Field<'t>>,
}

impl<'t> Places<'_, 't> {
    /// Returns the place of a finding; `None` for the table as a whole.
    fn of(&self, finding: &Finding) -> Option<Field<'t>> {
        match finding {
            Finding::ServesNobody => None,
            Finding::Leak { case, .. } | Finding::Misjudged { case, .. } => self.route(self.asked(case)?),
            Finding::RoutesServeNobody { routes, .. } => self.route(*routes.first.first()?),
            Finding::RouteUnreachable { route, .. } => self.route(*route),
            Finding::RuleWithoutEffect { rule, .. } => self.rules.get(*rule).cloned(),
            Finding::RuleSelectsNothing { rule, .. } => self.rules.get(*rule)?.peek_section()?.field("allow"),
            Finding::Unserved(gap) => self.cause(gap).or_else(|| self.route(*gap.routes.first.first()?)),
        }
    }

    /// Returns the place of a gap's cause, where that is not the route.
    fn cause(&self, gap: &Gap) -> Option<Field<'t>> {
        match &gap.cause {
            Cause::Strictest => {
                let defaults = self.root.field("residency_defaults")?;
                defaults.peek_section()?.field("unknown_origin").or(Some(defaults))
            }
            Cause::Contradiction(sources) => {
                // The last of the rules is likely the one that was just written.
                let rules = sources.iter().rev().filter_map(|source| match source {
                    Source::Rule(rule) => self.rules.get(*rule).cloned(),
                    _ => None,
                });
                rules.max_by_key(Field::line)
            }
            Cause::Rule(rule) => self.rules.get(*rule).cloned(),
            Cause::Border | Cause::SuperRegion | Cause::NoSuperRegion => self.class(gap.class),
            _ => None,
        }
    }

    /// Returns a declared data class.
    fn class(&self, id: ClassId) -> Option<Field<'t>> {
        let name = &self.table.spec().data_classes.get(id.0)?.name;
        self.root.field("data_classes")?.peek_section()?.field(name)
    }

    fn route(&self, id: RouteId) -> Option<Field<'t>> {
        self.routes.get(id.0 as usize).cloned()
    }

    fn asked(&self, case: &Case) -> Option<RouteId> {
        let host = case.host.as_deref().unwrap_or("any");
        self.table.find_route(host, &case.path, Method::from_name(case.method))
    }

    /// Returns whether the finding was reported already: data classes that only rules name were, when they were
    /// collected.
    fn is_reported(&self, finding: &Finding) -> bool {
        let Finding::RuleWithoutEffect { rule, why: Idle::Uncarried } = finding else { return false };
        let rule = self.table.spec().rules.get(*rule);
        rule.is_some_and(|rule| rule.data_classes.iter().any(|class| self.class(*class).is_none()))
    }
}
