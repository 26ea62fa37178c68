//! `allow = …`: a choice of regions.

use policy::RegionSet;
use policy::jurisdiction::Selector;

use super::countries::destinations;
use super::frameworks::Frameworks;
use super::names::Names;
use super::region::TIERS;
use crate::field::Field;

/// One selector, or a list of them of which any may hold; the empty list is no region at all.
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
    let section = field.section(&["regions", "countries", "jurisdictions", "compliance", "tier"])?;
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
        countries: part("countries").and_then(|field| destinations(&field)),
        jurisdictions: part("jurisdictions").and_then(|field| names.jurisdictions.resolve_all(&field)),
        compliance: part("compliance").map(|field| {
            let wanted = frameworks.wanted(&field);
            if field.is_empty_list() {
                field.error("the list is empty, which every region would satisfy: name a framework".to_owned());
            }
            wanted
        }),
        tiers: part("tier").map(|field| {
            if field.is_empty_list() {
                field.error("the list is empty: name at least one tier".to_owned());
            }
            let members = field.peek_list();
            members.unwrap_or_else(|| vec![field]).iter().filter_map(|member| member.choice(TIERS)).collect()
        }),
    })
}

const MAX_SELECTORS: usize = 256;
