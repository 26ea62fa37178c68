//! `standby` of a region: for whom it stands in, and whether it takes their writes over.

use policy::health::Check;
use policy::region::{Region, Role, Standby, TakesWrites};

use crate::endpoint::Upstream;
use crate::field::{Field, Section};

/// Reads what makes a region a standby.
pub(super) fn standby(field: &Field<'_>, role: Role) -> Option<Standby> {
    if role == Role::Active {
        field
            .error("an active region is no standby: give it role = \"warm\" or \"cold\", or leave this out".to_owned());
    }
    let section = field.section(KEYS)?;
    let writes = takes_writes(&section);
    let after = section.required("promote_after", "say for how long it must be wanted: promote_after = \"120s\"");
    let of = section.field("of");
    if let Some(of) = of.as_ref().filter(|of| of.is_empty_list()) {
        of.error("the list is empty: leave it out for the active regions of its own jurisdictions".to_owned());
    }
    let of = of.and_then(|field| field.list()).unwrap_or_default();
    let of = of.iter().filter_map(|member| member.text().map(str::to_owned)).collect();
    let after = after?;
    let promote_after = after.duration_or_zero()?;
    let is_long_enough = promote_after >= TakesWrites::LEAST_PROMOTE_AFTER;
    if writes.is_some() && !is_long_enough {
        after.error(format!(
            "too short for a fleet to agree on who takes writes: the least is \"{}s\"",
            TakesWrites::LEAST_PROMOTE_AFTER.as_secs()
        ));
    }
    Some(Standby { of, promote_after, writes: writes.filter(|_| is_long_enough) })
}

fn takes_writes(section: &Section<'_>) -> Option<TakesWrites> {
    let writes = section.field("writes");
    let Some(writes) = writes else {
        for key in ["max_replication_lag", "voters"] {
            if let Some(field) = section.field(key) {
                field.error("it is for a standby that takes writes over: add writes = \"when_primary\"".to_owned());
            }
        }
        return None;
    };
    writes.choice(&[("when_primary", ())])?;
    let remedy = "say how much of what was written may be lost: max_replication_lag = \"60s\"";
    let max_lag = section.required("max_replication_lag", remedy);
    let voters = section.field("voters").and_then(|field| field.integer(1..=MOST_VOTERS)).unwrap_or(VOTERS);
    Some(TakesWrites { max_lag: max_lag?.duration_or_zero()?, voters })
}

/// Checks that a standby stands in for other regions of the table, and takes writes from one that has them, once all are
/// known.
pub(super) fn check(regions_section: &Section<'_>, field: &Field<'_>, regions: &[(Region, Upstream)]) {
    let standby = field.peek_section().and_then(|region| region.field("standby")?.peek_section());
    for member in standby.as_ref().and_then(|standby| standby.field("of")?.peek_list()).unwrap_or_default() {
        match member.peek_text() {
            Some(name) if name == field.key() => member.error("a region is no standby of itself".to_owned()),
            Some(name) if !regions.iter().any(|(region, _)| region.name == name) => {
                member.unknown("region", name, regions.iter().map(|(region, _)| region.name.as_str()));
            }
            _ => {}
        }
    }
    let own = regions.iter().find(|(region, _)| region.name == field.key());
    let Some((own, upstream)) = own.filter(|(region, _)| takes_over(region)) else { return };
    let Some(writes) = standby.and_then(|standby| standby.field("writes")) else { return };
    pair(regions_section, &writes, (own, upstream), regions);
}

fn takes_over(region: &Region) -> bool {
    region.standby.as_ref().is_some_and(|standby| standby.writes.is_some())
}

fn pair(
    regions_section: &Section<'_>,
    writes: &Field<'_>,
    (own, upstream): (&Region, &Upstream),
    regions: &[(Region, Upstream)],
) {
    let of = own.standby.as_ref().map_or(&[][..], |standby| &standby.of);
    let [of] = of else {
        return writes.error("writes are taken over from one region: name it, of = [\"us-east-1\"]".to_owned());
    };
    let Some((primary, primary_upstream)) = regions.iter().find(|(region, _)| region.name == *of) else { return };
    if !primary.capabilities.write || primary.standby.is_some() {
        writes.error(format!(
            "{of} has no writes to take over: it must serve writes (capabilities), and be no standby itself"
        ));
    }
    if own.capabilities.write {
        writes.error(
            "this region serves writes whoever is primary: leave \"write\" out of its capabilities, \
             capabilities = [\"read\"]"
                .to_owned(),
        );
    }
    for (region, upstream) in [(own, upstream), (primary, primary_upstream)] {
        if !matches!(upstream.health.check, Check::Http(_)) {
            writes.error(format!(
                "only answers to probes of kind = \"http\" say whether a region is primary: give {} such a health check",
                region.name
            ));
        }
    }
    if let Some(takes) = own.standby.as_ref().and_then(|standby| standby.writes) {
        if takes.voters < VOTERS {
            writes.warning(format!(
                "voters is {}: a fleet that loses one of them may have no majority, or may have taken one node for all",
                takes.voters
            ));
        }
        let interval = upstream.health.interval;
        if takes.max_lag <= interval {
            writes.warning(format!(
                "{} is probed each {interval:?}, and what it says of its lag may be as old: with a max_replication_lag of \
                 {:?} it may never take the writes over",
                own.name, takes.max_lag
            ));
        }
    }
    let taken = |other: &&(Region, Upstream)| {
        takes_over(&other.0) && other.0.standby.as_ref().is_some_and(|standby| standby.of == [of.clone()])
    };
    // Reported at the later one alone.
    if let Some((first, _)) = regions.iter().find(taken).filter(|(first, _)| first.name < own.name) {
        writes.error(format!("{} takes the writes of {of} over already: a region has one such standby", first.name));
    }
    let others = regions.iter().map(|(region, _)| region);
    for other in others.filter(|other| other.capabilities.write && other.name != *of && other.name != own.name) {
        if let Some(field) = regions_section.field(&other.name) {
            field.warning(format!(
                "serves writes whoever is primary of {of} and {}: while neither is, writes go here; if its data is \
                 theirs, leave \"write\" out of its capabilities",
                own.name
            ));
        }
    }
}

const KEYS: &[&str] = &["promote_after", "of", "writes", "max_replication_lag", "voters"];

/// The smallest fleet that can lose a node and still have a majority.
const VOTERS: u32 = 3;

/// As many nodes as are ever kept.
const MOST_VOTERS: u32 = 4096;
