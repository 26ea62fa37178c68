//! Checks that a table says of its regions what its rules deny and open by.

use policy::RegionId;
use policy::jurisdiction::{Rule, Selector};
use policy::list::{Countries, Entry};
use policy::region::{AdminState, Region};
use policy::table::TableSpec;

use crate::field::{Field, Section};

/// Reports regions without an operator where operators are denied, since such regions are denied, too; and regions
/// in countries that a list covers only in part, which the list does not open. `spec` is resolved; its rules are
/// those of the file.
pub(super) fn check(root: &Section<'_>, spec: &TableSpec) {
    let fields = root.field("residency").and_then(|field| field.peek_list()).unwrap_or_default();
    for (field, rule) in fields.iter().zip(&spec.rules) {
        let Some(section) = field.peek_section() else { continue };
        if let Some(deny) = section.field("deny") {
            check_operators(&deny, rule, spec);
        }
        if let Some(allow) = section.field("allow") {
            check_partial(&allow, rule, spec);
        }
    }
}

fn check_operators(field: &Field<'_>, rule: &Rule, spec: &TableSpec) {
    let Some(deny) = &rule.deny else { return };
    let used = || spec.regions.iter().filter(|region| region.state != AdminState::Disabled);
    let names = |lacks: &dyn Fn(&Region) -> bool| -> Vec<&str> {
        used().filter(|region| lacks(region)).map(|region| region.name.as_str()).collect()
    };
    let nameless = names(&|region| region.operator.is_none());
    let unassured = names(&|region| region.operator.as_ref().is_none_or(|operator| operator.assurance.is_none()));
    if deny.operator_countries.is_some() && !nameless.is_empty() {
        field.error(format!(
            "operators are denied here, and none is named for {}, which would be denied, too: name it, operator = \
             {{ name = \"…\", country = \"…\" }} in [regions.{}]",
            some(&nameless),
            nameless.first().unwrap_or(&"NAME")
        ));
    } else if deny.assurance.is_some() && !unassured.is_empty() {
        field.error(format!(
            "levels of assurance are denied here, and that of {} is not known, so that it would be denied; name it, \
             assurance = \"…\" in its operator",
            some(&unassured)
        ));
    }
}

/// Warns of a region whose country a list covers only in part, and which no selector opens or denies: its author may
/// take it for open.
fn check_partial(field: &Field<'_>, rule: &Rule, spec: &TableSpec) {
    let jurisdictions = &spec.jurisdictions;
    for (index, region) in spec.regions.iter().enumerate() {
        let Some(id) = RegionId::new(index) else { continue };
        let selected = rule.allow.iter().flatten().any(|selector| selector.selects(id, region, jurisdictions));
        let denied = rule.deny.as_ref().is_some_and(|deny| deny.denies(id, region, jurisdictions));
        if selected || denied {
            continue;
        }
        if let Some((list, entry)) = rule.allow.iter().flatten().find_map(|one| covered_in_part(one, id, spec)) {
            let scope = if entry.scope.is_empty() { "" } else { &entry.scope };
            field.warning(format!(
                "list {list} covers {} only in part ({scope}) and does not open {}: if its operator is covered, name \
                 it, {{ regions = [\"{}\"] }}; if it is not, deny it",
                region.country, region.name, region.name
            ));
        }
    }
}

/// Returns the list of a selector, and its entry, that covers a part of a region's country and may count now or
/// later.
fn covered_in_part<'a>(selector: &Selector, id: RegionId, spec: &'a TableSpec) -> Option<(&'a str, &'a Entry)> {
    let region = spec.regions.get(id.index())?;
    let rest = Selector { countries: None, operator_countries: None, ..selector.clone() };
    if !rest.selects(id, region, &spec.jurisdictions) {
        return None;
    }
    let of = |set: &Option<Countries>, country| {
        let lists = set.iter().flat_map(Countries::lists).filter_map(|id| spec.lists.get(id.0));
        let mut entries = lists.flat_map(|list| list.entries.iter().map(|entry| (list.name.as_str(), entry)));
        let is_part =
            |entry: &Entry| entry.partial && entry.country == Some(country) && !entry.period.may_have_ended(spec.at);
        entries.find(|(_, entry)| is_part(entry))
    };
    let operator = region.operator.as_ref().map(|operator| operator.country);
    of(&selector.countries, region.country)
        .or_else(|| operator.and_then(|country| of(&selector.operator_countries, country)))
}

/// Returns the first few of many names.
fn some(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(5).copied().collect();
    let more = names.len() - shown.len();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
