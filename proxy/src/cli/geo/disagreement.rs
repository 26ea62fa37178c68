//! What several geo databases know, where they disagree, and what that costs.

use policy::country::group;
use policy::relocation::{Relocations, RoutedClass};
use policy::{CountrySet, Origin};
use serde::Serialize;

use super::amount::{Requests, Told};
use super::flows::{Adding, Flows};
use super::logged::LogTold;
use super::movement::{is_known, owned, touches};
use super::sources::{SourceTold, TableTold};
use super::surveyed::Surveyed;
use crate::databases::survey::{Amount, Clients, Survey, Tells};

/// What several sources know, where they disagree, and what that costs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Disagreement {
    pub(super) sources: Vec<Source>,
    pub(super) table: Option<TableTold>,
    pub(super) log: Option<LogTold>,
    /// Networks that were compared.
    pub(super) networks: u64,
    /// What any has a record for: the whole of shares that are of no other.
    pub(super) assigned: Told,
    /// Of it, what some source knows the country of.
    pub(super) known: Told,
    /// Of what is known: where two sources name different countries.
    pub(super) disputed: Told,
    pub(super) union: Union,
    /// Each two sources, of what both know.
    pub(super) pairs: Vec<Pair>,
    /// Under the table, if there is one.
    pub(super) price: Option<Vec<Price>>,
}

/// One source.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Source {
    #[serde(flatten)]
    pub(super) database: SourceTold,
    /// Of the assigned space, what it knows the country of.
    pub(super) known: Told,
    /// How many countries it names.
    pub(super) countries: usize,
    /// What its records tell: `country`, `region`, `city`, `asn`, `anonymous`.
    pub(super) tells: Vec<&'static str>,
}

/// What is said of the Union.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Union {
    /// What any source places in it, of the assigned space.
    pub(super) any: Told,
    /// Of that: what another source places elsewhere.
    pub(super) disputed: Told,
}

/// Two sources, by their positions.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pair {
    pub(super) sources: [usize; 2],
    /// What both know, of the assigned space.
    pub(super) both: Told,
    /// Of that: where they name different countries.
    pub(super) other_country: Told,
    /// Of that: where one names a country of the Union, and the other one that is not.
    pub(super) other_side_of_union: Told,
}

/// What the choice of sources costs one data class. Shares are of the assigned space, and of this class's requests.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Price {
    pub(super) class: String,
    pub(super) routes: Vec<String>,
    /// Refused if this were the only source, source by source.
    pub(super) refused_alone: Vec<Told>,
    /// Refused if the first source that knows a country were believed.
    pub(super) refused_first: Told,
    /// Refused as a node with all of them does: every country that a source names counts.
    pub(super) refused_all: Told,
    /// Because of disagreement: those whose requests may go to fewer regions than by the first source that knows.
    pub(super) narrowed: Flows,
    /// Because of disagreement: those who have no region, and have one by the first source that knows.
    pub(super) refused: Flows,
}

impl Disagreement {
    /// Reads it from a survey of each database as a source, and last of all of them as one.
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
        let told = |amount: &Amount, whole: &Amount| Told::of(amount, whole, Requests::All);
        let sources = surveyed.databases.iter().zip(&known).zip(&survey.tells);
        let price = surveyed.relocations().map(|relocations| prices(survey, count, &relocations, surveyed.clients()));
        Self {
            sources: sources
                .map(|((database, known), tells)| Source::of(database.clone(), told(known, whole), tells))
                .collect(),
            table: surveyed.table_told(),
            log: surveyed.log_told(),
            networks: survey.networks,
            assigned: told(whole, whole),
            known: told(&by_any, whole),
            disputed: told(&disputed, &by_any),
            union: Union { any: told(&in_union, whole), disputed: told(&union_disputed, &in_union) },
            pairs: pairs
                .iter()
                .map(|(sources, [both, country, side])| Pair {
                    sources: *sources,
                    both: told(both, whole),
                    other_country: told(country, both),
                    other_side_of_union: told(side, both),
                })
                .collect(),
            price,
        }
    }
}

impl Source {
    fn of(database: SourceTold, known: Told, tells: &Tells) -> Self {
        let Tells { countries, regions, cities, systems, anonymous } = tells;
        let told = [
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
            tells: told.into_iter().filter(|(tells, _)| *tells).map(|(_, what)| what).collect(),
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
    let told = |amount: &Amount| Told::of(amount, whole, requests);
    Price {
        class: class.name.to_owned(),
        routes: owned(class.routes.clone()),
        refused_alone: refused_alone.iter().map(told).collect(),
        refused_first: told(&refused_first),
        refused_all: told(&refused_all),
        narrowed: narrowed.told(whole, requests),
        refused: refused.told(whole, requests),
    }
}

fn add_if(condition: bool, sum: &mut Amount, amount: &Amount) {
    if condition {
        sum.add(amount);
    }
}
