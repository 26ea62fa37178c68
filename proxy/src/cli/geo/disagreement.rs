//! Compares geo databases with each other: what each knows, where they disagree, and what that costs.

use policy::country::group;
use policy::relocation::{Relocations, RoutedClass};
use policy::{CountrySet, Origin};
use serde::Serialize;

use super::amount::{AmountReport, Requests};
use super::flows::{Adding, Flows};
use super::logged::LogReport;
use super::movement::{is_known, owned, touches};
use super::sources::{SourceReport, TableReport};
use super::surveyed::Surveyed;
use crate::databases::survey::{Amount, Clients, Survey, Tells};

/// What several sources know, where they disagree, and what that costs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Disagreement {
    pub(super) sources: Vec<Source>,
    pub(super) table: Option<TableReport>,
    pub(super) log: Option<LogReport>,
    /// Networks that were compared.
    pub(super) networks: u64,
    /// The space for which any database has a record: the whole of the shares, where no other is named.
    pub(super) assigned: AmountReport,
    /// The part of it whose country some source knows.
    pub(super) known: AmountReport,
    /// The part of `known` where two sources name different countries.
    pub(super) disputed: AmountReport,
    pub(super) union: Union,
    /// Each two sources, compared where both know the country.
    pub(super) pairs: Vec<Pair>,
    /// The cost for each data class under the table, if there is one.
    pub(super) price: Option<Vec<Price>>,
}

/// One source.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Source {
    #[serde(flatten)]
    pub(super) database: SourceReport,
    /// The part of the assigned space whose country the source knows.
    pub(super) known: AmountReport,
    /// How many countries the source names.
    pub(super) countries: usize,
    /// What its records have: `country`, `region`, `city`, `asn`, `anonymous`.
    pub(super) tells: Vec<&'static str>,
}

/// Disagreement about the European Union.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Union {
    /// The part of the assigned space that any source places in the Union.
    pub(super) any: AmountReport,
    /// The part of `any` that another source places elsewhere.
    pub(super) disputed: AmountReport,
}

/// Two sources, by their positions.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pair {
    pub(super) sources: [usize; 2],
    /// The part of the assigned space whose country both know.
    pub(super) both: AmountReport,
    /// The part of `both` where they name different countries.
    pub(super) other_country: AmountReport,
    /// The part of `both` where one names a country of the Union, and the other one outside it.
    pub(super) other_side_of_union: AmountReport,
}

/// What the choice of sources costs one data class. Shares are of the assigned space, and of this class's requests.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Price {
    pub(super) class: String,
    pub(super) routes: Vec<String>,
    /// Refused with each source alone, source by source.
    pub(super) refused_alone: Vec<AmountReport>,
    /// Refused if the first source that knows a country decided.
    pub(super) refused_first: AmountReport,
    /// Refused as a node with all of them does: every country that a source names counts.
    pub(super) refused_all: AmountReport,
    /// Clients whose requests may, by disagreement, go to fewer regions than by the first source that knows.
    pub(super) narrowed: Flows,
    /// Clients who by disagreement have no region, and have one by the first source that knows.
    pub(super) refused: Flows,
}

impl Disagreement {
    /// Computes the report from a survey of each database as a source, and last of all of them as one.
    pub(super) fn of(surveyed: &Surveyed) -> Self {
        let survey = &surveyed.survey;
        let whole = &survey.assigned;
        let union = group("@EU").unwrap_or_default();
        let count = surveyed.databases.len();
        let mut known = vec![Amount::default(); count];
        let mut pairs: Vec<([usize; 2], [Amount; 3])> =
            (0..count).flat_map(|a| (a + 1..count).map(move |b| ([a, b], Default::default()))).collect();
        let [mut by_any, mut disputed, mut in_union, mut union_disputed] = <[Amount; 4]>::default();
        for (answers, what) in survey.combinations() {
            let alone = answers.get(..count).unwrap_or_default();
            for (known, answer) in known.iter_mut().zip(alone) {
                if is_known(answer) {
                    known.add(&what.amount);
                }
            }
            let knowing: Vec<&Origin> = alone.iter().filter(|answer| is_known(answer)).collect();
            let sides: Vec<bool> = knowing.iter().map(|answer| touches(answer, &union)).collect();
            add_if(!knowing.is_empty(), &mut by_any, &what.amount);
            add_if(knowing.windows(2).any(|two| two.first() != two.last()), &mut disputed, &what.amount);
            add_if(sides.contains(&true), &mut in_union, &what.amount);
            add_if(sides.contains(&true) && sides.contains(&false), &mut union_disputed, &what.amount);
            for ([a, b], [both, country, side]) in &mut pairs {
                let (Some(a), Some(b)) = (alone.get(*a), alone.get(*b)) else { continue };
                if is_known(a) && is_known(b) {
                    both.add(&what.amount);
                    add_if(a != b, country, &what.amount);
                    add_if(touches(a, &union) != touches(b, &union), side, &what.amount);
                }
            }
        }
        let report = |amount: &Amount, whole: &Amount| AmountReport::of(amount, whole, Requests::All);
        let sources = surveyed.databases.iter().zip(&known).zip(&survey.tells);
        let price = surveyed.relocations().map(|relocations| prices(survey, count, &relocations, surveyed.clients()));
        Self {
            sources: sources
                .map(|((database, known), tells)| Source::of(database.clone(), report(known, whole), tells))
                .collect(),
            table: surveyed.table_report(),
            log: surveyed.log_report(),
            networks: survey.networks,
            assigned: report(whole, whole),
            known: report(&by_any, whole),
            disputed: report(&disputed, &by_any),
            union: Union { any: report(&in_union, whole), disputed: report(&union_disputed, &in_union) },
            pairs: pairs
                .iter()
                .map(|(sources, [both, country, side])| Pair {
                    sources: *sources,
                    both: report(both, whole),
                    other_country: report(country, both),
                    other_side_of_union: report(side, both),
                })
                .collect(),
            price,
        }
    }
}

impl Source {
    fn of(database: SourceReport, known: AmountReport, tells: &Tells) -> Self {
        let Tells { countries, regions, cities, systems, anonymous } = tells;
        let kinds = [
            (!countries.is_empty(), "country"),
            (*regions, "region"),
            (*cities, "city"),
            (*systems, "asn"),
            (*anonymous, "anonymous"),
        ];
        Self {
            database,
            known,
            countries: countries.iter().count(),
            tells: kinds.into_iter().filter(|(tells, _)| *tells).map(|(_, what)| what).collect(),
        }
    }
}

fn prices(survey: &Survey, count: usize, relocations: &Relocations<'_>, clients: &Clients) -> Vec<Price> {
    let classes = relocations.classes().iter().enumerate();
    classes.map(|(index, class)| price(survey, count, relocations, (index, class), clients)).collect()
}

fn price(
    survey: &Survey,
    count: usize,
    relocations: &Relocations<'_>,
    (index, class): (usize, &RoutedClass<'_>),
    clients: &Clients,
) -> Price {
    let whole = &survey.assigned;
    let names = |countries: &CountrySet| {
        let origin = Origin::of(*countries);
        owned(relocations.names(&relocations.jurisdictions(&origin)))
    };
    let mut refused_alone = vec![Amount::default(); count];
    let [mut refused_first, mut refused_all] = <[Amount; 2]>::default();
    let [mut narrowed, mut refused] = <[Adding; 2]>::default();
    for (answers, what) in survey.combinations() {
        let (Some(alone), Some(all)) = (answers.get(..count), answers.get(count)) else { continue };
        for (refused, answer) in refused_alone.iter_mut().zip(alone) {
            add_if(relocations.refuses(index, answer), refused, &what.amount);
        }
        let first = alone.iter().find(|answer| is_known(answer)).unwrap_or(&Origin::Unknown);
        add_if(relocations.refuses(index, first), &mut refused_first, &what.amount);
        add_if(relocations.refuses(index, all), &mut refused_all, &what.amount);
        // An anonymous network is no disagreement, and costs the same whatever the sources.
        if first == all || !is_known(all) {
            continue;
        }
        let change = relocations.change(index, first, all);
        let way = |regions| (names(&first.countries()), names(&all.countries()), regions);
        if change.narrows() {
            narrowed.add(way(owned(relocations.regions(&change.lost))), what);
        }
        if change.refused {
            refused.add(way(Vec::new()), what);
        }
    }
    let requests = Requests::OfKind(clients.position(class.name));
    let report = |amount: &Amount| AmountReport::of(amount, whole, requests);
    Price {
        class: class.name.to_owned(),
        routes: owned(class.routes.clone()),
        refused_alone: refused_alone.iter().map(report).collect(),
        refused_first: report(&refused_first),
        refused_all: report(&refused_all),
        narrowed: narrowed.report(whole, requests),
        refused: refused.report(whole, requests),
    }
}

fn add_if(condition: bool, sum: &mut Amount, amount: &Amount) {
    if condition {
        sum.add(amount);
    }
}
