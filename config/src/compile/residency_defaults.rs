//! `[residency_defaults]`: what holds for clients of unknown country, and of countries in no jurisdiction.

use policy::jurisdiction::{DataClass, Jurisdiction, Rule, Scope, Transfer};
use policy::table::{UnknownOrigin, UnlistedJurisdiction};

use super::names::Names;
use crate::field::{Field, Section};

/// What holds where no rule applies.
pub(super) struct Defaults {
    pub(super) unknown_origin: UnknownOrigin,
    pub(super) unlisted_jurisdiction: UnlistedJurisdiction,
}

/// The table's law without its defaults.
pub(super) struct LawSoFar<'a> {
    pub(super) jurisdictions: &'a [Jurisdiction],
    pub(super) classes: &'a [DataClass],
    pub(super) rules: &'a [Rule],
}

/// Reads the defaults. A table that keeps some data from some region must say what the countries in no jurisdiction
/// mean, since forgetting a country would let its clients' data go anywhere.
pub(super) fn defaults(root: &Section<'_>, names: &Names<'_>, law: &LawSoFar<'_>) -> Defaults {
    let field = root.field("residency_defaults");
    let section = field.as_ref().and_then(|field| field.section(&["unknown_origin", "unlisted_jurisdiction"]));
    let value = |key| section.as_ref().and_then(|section| section.field(key));
    let unlisted = value("unlisted_jurisdiction");
    if unlisted.is_none() && law.restricts() && (field.is_none() || section.is_some()) {
        let remedy = "with rules that restrict, say what they mean for clients of a country that no jurisdiction \
            lists: \"refuse\" (no region for any class but those of scope \"global\"), or \"allow\" (no rule applies, \
            their data may go anywhere)";
        match &section {
            Some(section) => section.missing("unlisted_jurisdiction", remedy),
            None => root.missing("residency_defaults.unlisted_jurisdiction", remedy),
        }
    }
    Defaults {
        unknown_origin: value("unknown_origin")
            .and_then(|field| unknown_origin(&field, names))
            .unwrap_or(UnknownOrigin::Strictest),
        unlisted_jurisdiction: unlisted
            .and_then(|field| field.choice(UNLISTED_JURISDICTION))
            .unwrap_or(UnlistedJurisdiction::Allow),
    }
}

impl LawSoFar<'_> {
    /// Returns whether some data is kept from some region: by a rule, now or once it is over, or by a class's own
    /// border.
    fn restricts(&self) -> bool {
        let keeps = |class: &DataClass| class.scope != Scope::Global && class.cross_border != Transfer::Allowed;
        let binds =
            |rule: &Rule| rule.transfer != Transfer::Allowed || rule.deny.is_some() || rule.period.until.is_some();
        !self.jurisdictions.is_empty() && (self.rules.iter().any(binds) || self.classes.iter().any(keeps))
    }
}

fn unknown_origin(field: &Field<'_>, names: &Names<'_>) -> Option<UnknownOrigin> {
    if field.peek_section().is_none() {
        return match field.peek_text() {
            Some("strictest") => Some(UnknownOrigin::Strictest),
            Some("refuse") => Some(UnknownOrigin::Refuse),
            Some(other) => {
                field.unknown("value", other, ["strictest", "refuse", "{ like = [JURISDICTION, …] }"].into_iter());
                None
            }
            None => field.wrong("\"strictest\", \"refuse\" or { like = [\"eu\"] }"),
        };
    }
    let like =
        field.section(&["like"])?.required("like", "name the jurisdictions that stand for an unknown client's")?;
    let ids = names.jurisdictions.resolve_all(&like)?;
    (!ids.is_empty()).then_some(UnknownOrigin::Like(ids))
}

const UNLISTED_JURISDICTION: &[(&str, UnlistedJurisdiction)] =
    &[("allow", UnlistedJurisdiction::Allow), ("refuse", UnlistedJurisdiction::Refuse)];
