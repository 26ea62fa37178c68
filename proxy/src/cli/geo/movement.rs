//! What changes from one geo database to another.

use policy::country::group;
use policy::relocation::{ClassChange, Relocations};
use policy::{CountrySet, Origin};
use serde::Serialize;

use super::amount::{Requests, Told};
use super::flows::{Adding, Flows, Way};
use super::logged::LogTold;
use super::sources::{SourceTold, TableTold};
use super::surveyed::Surveyed;
use crate::databases::survey::{Amount, Clients, Survey};

/// What changes from one geo database to another.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Movement {
    pub(super) old: SourceTold,
    pub(super) new: SourceTold,
    /// Databases that stand beside both.
    pub(super) beside: Vec<SourceTold>,
    pub(super) table: Option<TableTold>,
    pub(super) log: Option<LogTold>,
    /// Networks that were compared.
    pub(super) networks: u64,
    /// What either has a record for: the whole of all shares.
    pub(super) assigned: Told,
    pub(super) countries: Countries,
    pub(super) union: Union,
    /// Under the table, if there is one.
    pub(super) law: Option<Law>,
}

/// What is said of countries.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Countries {
    /// The same, or neither knows.
    pub(super) same: Told,
    /// Both know, and say another.
    pub(super) changed: Flows,
    /// Only the old one knows.
    pub(super) lost: Flows,
    /// Only the new one knows.
    pub(super) gained: Flows,
}

/// What is said of the Union: whether any country that is possible is of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Union {
    /// In the Union before, elsewhere now.
    pub(super) leaves: Flows,
    /// Elsewhere before, in the Union now.
    pub(super) joins: Flows,
    /// In the Union before, unknown now.
    pub(super) lost: Flows,
}

/// What the table makes of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Law {
    /// Those who come under the law of other jurisdictions.
    pub(super) jurisdictions: Flows,
    pub(super) classes: Vec<Class>,
}

/// What it means for one data class. Shares of requests are of this class's.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) routes: Vec<String>,
    /// Those whose requests may go to more regions, or without safeguards: to which.
    pub(super) widened: Flows,
    /// Those whose requests may no longer go to some region: to which.
    pub(super) narrowed: Flows,
    /// Those who have no region any more.
    pub(super) refused: Flows,
    /// Those who had none before.
    pub(super) served: Flows,
}

impl Movement {
    /// Reads it from a survey of two sources: the old one and the new one, each with what stands beside. Of fewer than
    /// two databases there is none.
    pub(super) fn of(surveyed: &Surveyed) -> Option<Self> {
        let [old, new, beside @ ..] = surveyed.databases.as_slice() else { return None };
        let survey = &surveyed.survey;
        let whole = &survey.assigned;
        let union = group("@EU").unwrap_or_default();
        let mut same = Amount::default();
        let [mut changed, mut lost, mut gained, mut leaves, mut joins, mut vanished] = <[Adding; 6]>::default();
        for (answers, what) in survey.combinations() {
            let [before, after] = answers.as_slice() else { continue };
            let way = || (codes(before), codes(after), Vec::new());
            if before == after {
                same.add(&what.amount);
                continue;
            }
            match (is_known(before), is_known(after)) {
                (true, false) => lost.add(way(), what),
                (false, true) => gained.add(way(), what),
                (true, true) | (false, false) => changed.add(way(), what),
            }
            match (touches(before, &union), touches(after, &union)) {
                (true, false) if is_known(after) => leaves.add(way(), what),
                (true, false) => vanished.add(way(), what),
                (false, true) if is_known(before) => joins.add(way(), what),
                _ => {}
            }
        }
        let told = |flows: Adding| flows.told(whole, Requests::All);
        let law = surveyed.relocations().map(|relocations| Law::of(survey, &relocations, surveyed.clients()));
        Some(Self {
            old: old.clone(),
            new: new.clone(),
            beside: beside.to_vec(),
            table: surveyed.table_told(),
            log: surveyed.log_told(),
            networks: survey.networks,
            assigned: Told::of(whole, whole, Requests::All),
            countries: Countries {
                same: Told::of(&same, whole, Requests::All),
                changed: told(changed),
                lost: told(lost),
                gained: told(gained),
            },
            union: Union { leaves: told(leaves), joins: told(joins), lost: told(vanished) },
            law,
        })
    }
}

impl Law {
    fn of(survey: &Survey, relocations: &Relocations<'_>, clients: &Clients) -> Self {
        let whole = &survey.assigned;
        let names = |origin: &Origin| owned(relocations.names(&relocations.jurisdictions(origin)));
        let mut moved = Adding::default();
        let mut classes: Vec<[Adding; 4]> = relocations.classes().iter().map(|_| Default::default()).collect();
        for (answers, what) in survey.combinations() {
            let [before, after] = answers.as_slice() else { continue };
            if before == after {
                continue;
            }
            if relocations.jurisdictions(before) != relocations.jurisdictions(after) {
                moved.add((names(before), names(after), Vec::new()), what);
            }
            for (index, adding) in classes.iter_mut().enumerate() {
                let change = relocations.change(index, before, after);
                if change == ClassChange::NONE {
                    continue;
                }
                let way = |regions| -> Way { (names(before), names(after), regions) };
                let [widened, narrowed, refused, served] = adding;
                if change.widens() {
                    let regions = relocations.regions(&change.gained.or(&change.unguarded));
                    widened.add(way(owned(regions)), what);
                }
                if change.narrows() {
                    narrowed.add(way(owned(relocations.regions(&change.lost))), what);
                }
                if change.refused {
                    refused.add(way(Vec::new()), what);
                }
                if change.served {
                    served.add(way(Vec::new()), what);
                }
            }
        }
        let told =
            |(class, [widened, narrowed, refused, served]): (&policy::relocation::RoutedClass<'_>, [Adding; 4])| {
                let requests = Requests::OfKind(clients.position(class.name));
                Class {
                    name: class.name.to_owned(),
                    routes: class.routes.iter().map(ToString::to_string).collect(),
                    widened: widened.told(whole, requests),
                    narrowed: narrowed.told(whole, requests),
                    refused: refused.told(whole, requests),
                    served: served.told(whole, requests),
                }
            };
        Self {
            jurisdictions: moved.told(whole, Requests::All),
            classes: relocations.classes().iter().zip(classes).map(told).collect(),
        }
    }
}

/// Whether any country is named.
pub(super) fn is_known(origin: &Origin) -> bool {
    *origin != Origin::Unknown
}

/// Whether some possible country is one of these.
pub(super) fn touches(origin: &Origin, countries: &CountrySet) -> bool {
    origin.countries().iter().any(|country| countries.contains(country))
}

/// The codes of the possible countries; `unknown` for none.
pub(super) fn codes(origin: &Origin) -> Vec<String> {
    if !is_known(origin) {
        return vec!["unknown".to_owned()];
    }
    origin.countries().iter().map(|country| country.to_string()).collect()
}

pub(super) fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}
