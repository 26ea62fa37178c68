//! How clients are split between regions of one priority: by shares, and not by weights.

use std::collections::BTreeMap;

use policy::region::{AdminState, Region, Role};

use crate::field::Section;

/// Reports regions without a share among others with one, and warns of weights that were meant as shares.
pub(super) fn check<'r>(section: &Section<'_>, regions: impl Iterator<Item = &'r Region>) {
    let mut groups: BTreeMap<(u16, bool), Vec<&Region>> = BTreeMap::new();
    let regions: Vec<&Region> = regions.collect();
    // A standby is cold now, and now it is not: what it meets either way is one group.
    let standby_meets =
        |other: &&Region| regions.iter().any(|one| one.standby.is_some() && one.priority == other.priority);
    for region in &regions {
        let cold = region.role == Role::Cold && !standby_meets(region);
        groups.entry((region.priority, cold)).or_default().push(region);
    }
    for group in groups.values() {
        match group.iter().find(|region| region.share.is_some()) {
            Some(with) => all_have_shares(section, with, group),
            None => no_weight_is_meant_as_share(section, group),
        }
    }
}

fn all_have_shares(section: &Section<'_>, with: &Region, group: &[&Region]) {
    for without in group.iter().filter(|region| region.share.is_none()) {
        let Some(field) = section.field(&without.name) else { continue };
        // A share that is no number has been reported.
        if field.peek_section().is_some_and(|region| region.field("share").is_none()) {
            field.error(format!(
                "{} has a share and this region, of the same priority, has none: give it one too, share = 10 (weight = 0 \
                 keeps clients away from it), or another priority",
                with.name
            ));
        }
    }
}

/// Percentages of the traffic add up to a hundred, or nearly, when they are thirds. Weights of a region's own clients
/// have no cause to.
fn no_weight_is_meant_as_share(section: &Section<'_>, group: &[&Region]) {
    let serving: Vec<&Region> = group.iter().copied().filter(|region| region.state != AdminState::Disabled).collect();
    let sum: u32 = serving.iter().map(|region| u32::from(region.weight)).sum();
    let [first, _, ..] = serving.as_slice() else { return };
    if !(99..=101).contains(&sum) || serving.iter().any(|region| region.weight == 0 || region.weight == 100) {
        return;
    }
    let told = serving.iter().take(NAMED).map(|region| format!("{} {}", region.name, region.weight));
    let mut told = told.collect::<Vec<_>>().join(", ");
    if serving.len() > NAMED {
        told.push_str(&format!(" and {} more", serving.len() - NAMED));
    }
    let Some(field) = section.field(&first.name).and_then(|field| field.peek_section()?.field("weight")) else {
        return;
    };
    field.warning(format!(
        "the weights of this priority add up to {sum} ({told}), as shares of the traffic do, and are none: of the clients \
         that would choose {}, {} % stay, the others move on to the next best region. To split the traffic in these \
         proportions write share = {} in place of weight, and so for the others",
        first.name, first.weight, first.weight
    ));
}

/// How many regions a message names.
const NAMED: usize = 6;
