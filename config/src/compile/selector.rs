//! `allow = …` and `deny = …`: choices of regions.

use policy::RegionSet;
use policy::jurisdiction::{Denial, Selector};
use policy::region::Tier;

use super::countries::{dated_countries, dated_destinations};
use super::frameworks::Frameworks;
use super::names::Names;
use super::operator::levels;
use super::region::TIERS;
use crate::field::Field;

/// Reads one selector, or a list of alternatives; the empty list selects no region.
pub(super) fn selectors(field: &Field<'_>, names: &Names<'_>, frameworks: &Frameworks) -> Vec<Selector> {
    if let Some(list) = field.peek_list() {
        if list.len() > MAX_SELECTORS {
            field.error(format!("{} selectors; a rule can have at most {MAX_SELECTORS}", list.len()));
            return Vec::new();
        }
        return list.iter().filter_map(|member| selector(member, names, frameworks)).collect();
    }
    selector(field, names, frameworks).into_iter().collect()
}

fn selector(field: &Field<'_>, names: &Names<'_>, frameworks: &Frameworks) -> Option<Selector> {
    let section = field.section(ALLOW)?;
    if section.is_empty() {
        let message = "an empty selector would allow every region: write allow = [] for none, or say which, as in \
            { countries = [\"@EU\"] }";
        field.error(message.to_owned());
    }
    let part = |key| section.field(key);
    Some(Selector {
        regions: part("regions")
            .and_then(|field| names.regions.resolve_all(&field))
            .map(|regions| regions.into_iter().collect::<RegionSet>()),
        countries: part("countries").and_then(|field| dated_destinations(&field, &names.lists)),
        jurisdictions: part("jurisdictions").and_then(|field| names.jurisdictions.resolve_all(&field)),
        operator_countries: part("operator_countries").and_then(|field| dated_countries(&field, &names.lists)),
        assurance: part("assurance").map(|field| levels(&field)),
        compliance: part("compliance").map(|field| {
            let wanted = frameworks.wanted(&field);
            if field.is_empty_list() {
                field.error("the list is empty, which every region would satisfy: name a framework".to_owned());
            }
            wanted
        }),
        tiers: part("tier").map(tiers),
    })
}

/// Reads which regions must never serve: each key denies by itself.
pub(super) fn denial(field: &Field<'_>, names: &Names<'_>) -> Option<Denial> {
    let section = field.section(DENY)?;
    if section.is_empty() {
        field.error("this denies nothing: say what, as in { countries = [\"CN\"] }, or take it out".to_owned());
    }
    let part = |key| section.field(key);
    Some(Denial {
        regions: part("regions")
            .and_then(|field| names.regions.resolve_all(&field))
            .map(|regions| regions.into_iter().collect::<RegionSet>()),
        countries: part("countries").and_then(|field| dated_countries(&field, &names.lists)),
        jurisdictions: part("jurisdictions").and_then(|field| names.jurisdictions.resolve_all(&field)),
        operator_countries: part("operator_countries").and_then(|field| dated_countries(&field, &names.lists)),
        assurance: part("assurance").map(|field| levels(&field)),
        tiers: part("tier").map(tiers),
    })
}

fn tiers(field: Field<'_>) -> Vec<Tier> {
    if field.is_empty_list() {
        field.error("the list is empty: name at least one tier".to_owned());
    }
    let members = field.peek_list();
    members.unwrap_or_else(|| vec![field]).iter().filter_map(|member| member.choice(TIERS)).collect()
}

const ALLOW: &[&str] =
    &["regions", "countries", "jurisdictions", "operator_countries", "assurance", "compliance", "tier"];

const DENY: &[&str] = &["regions", "countries", "jurisdictions", "operator_countries", "assurance", "tier"];

const MAX_SELECTORS: usize = 256;
