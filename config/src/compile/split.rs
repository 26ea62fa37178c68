//! How clients are split between regions of one priority: by shares.

use std::collections::BTreeMap;

use policy::region::{Region, Role};

use crate::field::Section;

/// Reports regions without a share among others with one.
pub(super) fn check<'r>(section: &Section<'_>, regions: impl Iterator<Item = &'r Region>) {
    let mut groups: BTreeMap<(u16, bool), Vec<&Region>> = BTreeMap::new();
    for region in regions {
        groups.entry((region.priority, region.role == Role::Cold)).or_default().push(region);
    }
    for group in groups.values() {
        if let Some(with) = group.iter().find(|region| region.share.is_some()) {
            all_have_shares(section, with, group);
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
