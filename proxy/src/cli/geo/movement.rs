//! Compares a geo database with its successor.

use policy::country::group;
use policy::relocation::{ClassChange, Relocations};
use policy::{CountrySet, Origin};
use serde::Serialize;

use super::amount::{AmountReport, Requests};
use super::flows::{Adding, Flows, Way};
use super::logged::LogReport;
use super::sources::{SourceReport, TableReport};
use super::surveyed::Surveyed;
use crate::databases::survey::{Amount, Clients, Survey};

/// What changes from one geo database to another.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Movement {
    pub(super) old: SourceReport,
    pub(super) new: SourceReport,
    /// Databases that are used with both.
    pub(super) beside: Vec<SourceReport>,
    pub(super) table: Option<TableReport>,
    pub(super) log: Option<LogReport>,
    /// Networks that were compared.
    pub(super) networks: u64,
    /// The space for which either has a record: the whole of all shares.
    pub(super) assigned: AmountReport,
    pub(super) countries: Countries,
    pub(super) union: Union,
    /// The changes under the table, if there is one.
    pub(super) law: Option<Law>,
}

/// Changes of countries.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Countries {
    /// Both name the same country, or neither knows one.
    pub(super) same: AmountReport,
    /// They name different countries.
    pub(super) changed: Flows,
    /// Only the old one names a country.
    pub(super) lost: Flows,
    /// Only the new one names a country.
    pub(super) gained: Flows,
}

/// Changes of whether any possible country is in the European Union.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Union {
    /// In the Union before, elsewhere now.
    pub(super) leaves: Flows,
    /// Elsewhere before, in the Union now.
    pub(super) joins: Flows,
    /// In the Union before, unknown now.
    pub(super) lost: Flows,
}

/// The changes under a table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Law {
    /// Clients who come under the law of other jurisdictions.
    pub(super) jurisdictions: Flows,
    pub(super) classes: Vec<Class>,
}

/// The changes for one data class. Shares of requests are of this class's.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) routes: Vec<String>,
    /// Clients whose requests may go to more regions, or without safeguards: to which.
    pub(super) widened: Flows,
    /// Clients whose requests may no longer go to some region: to which.
    pub(super) narrowed: Flows,
    /// Clients who no longer have a region.
    pub(super) refused: Flows,
    /// Clients who had no region before.
    pub(super) served: Flows,
}

impl Movement {
    /// Computes the comparison from a survey of two sources: the old one and the new one, each with the databases
    /// beside it. `None` for fewer than two databases.
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
        let report = |flows: Adding| flows.report(whole, Requests::All);
        let law = surveyed.relocations().map(|relocations| Law::of(survey, &relocations, surveyed.clients()));
        Some(Self {
            old: old.clone(),
            new: new.clone(),
            beside: beside.to_vec(),
            table: surveyed.table_report(),
            log: surveyed.log_report(),
            networks: survey.networks,
            assigned: AmountReport::of(whole, whole, Requests::All),
            countries: Countries {
                same: AmountReport::of(&same, whole, Requests::All),
                changed: report(changed),
                lost: report(lost),
                gained: report(gained),
            },
            union: Union { leaves: report(leaves), joins: report(joins), lost: report(vanished) },
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
        let report =
            |(class, [widened, narrowed, refused, served]): (&policy::relocation::RoutedClass<'_>, [Adding; 4])| {
                let requests = Requests::OfKind(clients.position(class.name));
                Class {
                    name: class.name.to_owned(),
                    routes: class.routes.iter().map(ToString::to_string).collect(),
                    widened: widened.report(whole, requests),
                    narrowed: narrowed.report(whole, requests),
                    refused: refused.report(whole, requests),
                    served: served.report(whole, requests),
                }
            };
        Self {
            jurisdictions: moved.report(whole, Requests::All),
            classes: relocations.classes().iter().zip(classes).map(report).collect(),
        }
    }
}

/// Returns whether any country is named.
pub(super) fn is_known(origin: &Origin) -> bool {
    *origin != Origin::Unknown
}

/// Returns whether some possible country is one of these.
pub(super) fn touches(origin: &Origin, countries: &CountrySet) -> bool {
    origin.countries().iter().any(|country| countries.contains(country))
}

/// Returns the codes of the possible countries; `unknown` for none.
pub(super) fn codes(origin: &Origin) -> Vec<String> {
    if !is_known(origin) {
        return vec!["unknown".to_owned()];
    }
    origin.countries().iter().map(|country| country.to_string()).collect()
}

pub(super) fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}
