//! Step 3 of the contract: which regions are allowed.

use std::collections::BTreeMap;

use policy::Country;
use policy::Method;
use policy::Payload;
use policy::jurisdiction::{Scope, Transfer};
use policy::region::Access;
use policy::route::RouteSpec;
use policy::table::{UnknownOrigin, UnlistedJurisdiction};

use super::book::{Book, Names, Request, Rule};

/// How a region stands to the law that holds for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Forbidden,
    /// Every restriction has it inside.
    Own,
    /// Some restriction opens it, on conditions that all hold.
    Opened {
        safeguards: bool,
    },
}

/// The law for one request.
#[derive(Clone, Debug)]
pub struct Law {
    pub standings: BTreeMap<String, Standing>,
    /// Maintenance pages of the rules that hold.
    pub pages: Names,
}

impl Law {
    pub fn allowed(&self) -> Names {
        let allowed = self.standings.iter().filter(|(_, standing)| **standing != Standing::Forbidden);
        allowed.map(|(name, _)| name.clone()).collect()
    }

    pub fn is_opened(&self, region: &str) -> bool {
        matches!(self.standings[region], Standing::Opened { .. })
    }

    pub fn is_safeguarded(&self, region: &str) -> bool {
        self.standings[region] == Standing::Opened { safeguards: true }
    }
}

/// These regions, and others only when all of `beyond` agree.
#[derive(Default)]
struct Restriction {
    inside: Names,
    beyond: Vec<Transfer>,
    /// Never these, inside or not.
    denied: Names,
    page: Option<String>,
}

/// The law for a request on a route.
pub fn law(book: &Book<'_>, route: &RouteSpec, request: &Request) -> Law {
    law_in_every_condition(book, route, request, request.consent, reads(route, request))
}

/// The law for a request, were it to carry consent or to read.
pub fn law_in_every_condition(
    book: &Book<'_>,
    route: &RouteSpec,
    request: &Request,
    consent: bool,
    reads: bool,
) -> Law {
    let restrictions = restrictions(book, route, request);
    let mut standings = BTreeMap::new();
    for region in &book.spec.regions {
        let mut standing = Standing::Own;
        for restriction in &restrictions {
            if restriction.denied.contains(&region.name) {
                standing = Standing::Forbidden;
            }
            if restriction.inside.contains(&region.name) || standing == Standing::Forbidden {
                continue;
            }
            for transfer in &restriction.beyond {
                let safeguards = standing == Standing::Opened { safeguards: true };
                let holds = match transfer {
                    Transfer::Prohibited => false,
                    Transfer::WithConsent => consent,
                    Transfer::RequiresLocalCopy => reads,
                    Transfer::WithSafeguards | Transfer::Allowed => true,
                };
                if !holds {
                    standing = Standing::Forbidden;
                    break;
                }
                standing = Standing::Opened { safeguards: safeguards || *transfer == Transfer::WithSafeguards };
            }
        }
        standings.insert(region.name.clone(), standing);
    }
    Law { standings, pages: restrictions.into_iter().filter_map(|restriction| restriction.page).collect() }
}

/// Whether the law keeps a route's data from some region: for a client of some country or of none
/// that is known, under some declared jurisdiction, without consent or with it, to read or to write.
pub fn is_restricted(book: &Book<'_>, route: &RouteSpec, request: &Request) -> bool {
    // One country of each that belong to the same: the law knows no more of them.
    let belongs = |country: &Country| -> Vec<bool> {
        let sets = book.protected.values().chain(&book.super_regions);
        sets.map(|set| set.contains(country.code())).collect()
    };
    let countries: BTreeMap<Vec<bool>, Country> = Country::all().map(|country| (belongs(&country), country)).collect();
    let of = |countries: Option<Names>, declared: Names| Request { countries, declared, ..request.clone() };
    let in_country = |country: &Country| Some(Names::from([country.code().to_owned()]));
    let mut possible = vec![of(None, Names::new())];
    possible.extend(countries.values().map(|country| of(in_country(country), Names::new())));
    for jurisdiction in book.jurisdictions.keys() {
        possible.extend(countries.values().map(|country| of(in_country(country), [jurisdiction.clone()].into())));
    }
    possible.iter().any(|request| {
        let conditions = [(false, false), (false, true), (true, false), (true, true)];
        conditions.into_iter().any(|(consent, reads)| {
            let law = law_in_every_condition(book, route, request, consent, reads);
            law.allowed().len() < book.spec.regions.len()
        })
    })
}

pub(super) fn reads(route: &RouteSpec, request: &Request) -> bool {
    match route.access {
        Some(access) => access == Access::Read,
        None => ["GET", "HEAD", "OPTIONS"].contains(&request.method.name()) && request.payload == Payload::Nothing,
    }
}

fn restrictions(book: &Book<'_>, route: &RouteSpec, request: &Request) -> Vec<Restriction> {
    let class = &book.spec.data_classes[route.data_class.0];
    if class.scope == Scope::Global {
        return Vec::new();
    }
    let mut holding = Vec::new();
    match &request.countries {
        Some(countries) => {
            for country in countries {
                of_country(book, &class.name, country, &mut holding);
            }
        }
        None => of_unknown(book, &class.name, &mut holding),
    }
    let of_the_route = route.jurisdictions.iter().map(|id| book.spec.jurisdictions[id.0].name.clone());
    for jurisdiction in request.declared.iter().cloned().chain(of_the_route) {
        of_jurisdiction(book, &class.name, &jurisdiction, &mut holding);
    }
    holding
}

fn of_country(book: &Book<'_>, class: &str, country: &str, holding: &mut Vec<Restriction>) {
    let mut listed = false;
    for (jurisdiction, countries) in &book.protected {
        if countries.contains(country) {
            listed = true;
            of_jurisdiction(book, class, jurisdiction, holding);
        }
    }
    if !listed && book.spec.unlisted_jurisdiction == UnlistedJurisdiction::Refuse {
        holding.push(nowhere());
    }
    if scope_of(book, class) == Scope::SuperRegion {
        let mut around = Names::new();
        for super_region in book.super_regions.iter().filter(|countries| countries.contains(country)) {
            around.extend(regions_in(book, super_region));
        }
        holding.push(Restriction { inside: around, beyond: vec![Transfer::Prohibited], ..Restriction::default() });
    }
}

/// The intersection over all jurisdictions that restrict the class; and over what else a client of
/// some country would be told.
fn of_unknown(book: &Book<'_>, class: &str, holding: &mut Vec<Restriction>) {
    if book.spec.unknown_origin == UnknownOrigin::Refuse {
        holding.push(nowhere());
        return;
    }
    if let UnknownOrigin::Like(like) = &book.spec.unknown_origin {
        let names: Vec<&str> = like.iter().map(|id| book.spec.jurisdictions[id.0].name.as_str()).collect();
        for name in &names {
            of_jurisdiction(book, class, name, holding);
        }
        // Wherever in these jurisdictions: every country's super-regions bound it.
        if scope_of(book, class) == Scope::SuperRegion {
            let countries: Names = names.iter().flat_map(|name| book.protected[*name].clone()).collect();
            if countries.is_empty() {
                holding.push(nowhere());
            }
            for country in &countries {
                let mut inside = Names::new();
                for super_region in book.super_regions.iter().filter(|countries| countries.contains(country)) {
                    inside.extend(regions_in(book, super_region));
                }
                holding.push(Restriction { inside, beyond: vec![Transfer::Prohibited], ..Restriction::default() });
            }
        }
        return;
    }
    for jurisdiction in book.jurisdictions.keys() {
        of_jurisdiction(book, class, jurisdiction, holding);
    }
    // The client may be in a country that no jurisdiction lists, even where the table lists all that have a code.
    if book.spec.unlisted_jurisdiction == UnlistedJurisdiction::Refuse {
        holding.push(nowhere());
    }
    if scope_of(book, class) == Scope::SuperRegion {
        for super_region in &book.super_regions {
            let inside = regions_in(book, super_region);
            holding.push(Restriction { inside, beyond: vec![Transfer::Prohibited], ..Restriction::default() });
        }
        if Country::all().any(|country| !book.super_regions.iter().any(|set| set.contains(country.code()))) {
            holding.push(nowhere());
        }
    }
}

fn of_jurisdiction(book: &Book<'_>, class: &str, jurisdiction: &str, holding: &mut Vec<Restriction>) {
    let border = book.spec.data_classes.iter().find(|known| known.name == class).expect("a class").cross_border;
    let own = regions_in(book, &book.jurisdictions[jurisdiction]);
    let mut ruled = false;
    // "As if it did not stand there" before it begins.
    let begun = |rule: &&Rule| rule.from.is_none_or(|from| from <= book.now());
    let of_this = |rule: &&Rule| rule.jurisdiction == jurisdiction && rule.data_classes.contains(class);
    let rules: Vec<&Rule> = book.rules.iter().filter(of_this).filter(begun).collect();
    for rule in &rules {
        ruled |= rule.selected.is_some();
        let over = rule.until.is_some_and(|until| until <= book.now());
        let later = |other: &&&Rule| {
            other.regulation == rule.regulation && other.from.unwrap_or(i64::MIN) > rule.from.unwrap_or(i64::MIN)
        };
        let stands_for_it =
            |other: &&Rule| (rule.selected.is_none() || other.selected.is_some()) && (!rule.denies || other.denies);
        if over && rules.iter().filter(later).any(stands_for_it) {
            continue;
        }
        let everything = || book.spec.regions.iter().map(|region| region.name.clone()).collect();
        let (inside, beyond): (Names, Vec<Transfer>) = match &rule.selected {
            None => (everything(), Vec::new()),
            Some(selected) if over => (selected.intersection(&own).cloned().collect(), vec![Transfer::Prohibited]),
            Some(selected) => (selected.clone(), vec![rule.transfer, border]),
        };
        holding.push(Restriction { inside, beyond, denied: rule.denied.clone(), page: rule.page.clone() });
    }
    if !ruled && border != Transfer::Allowed {
        holding.push(Restriction { inside: own, beyond: vec![border], ..Restriction::default() });
    }
}

fn scope_of(book: &Book<'_>, class: &str) -> Scope {
    book.spec.data_classes.iter().find(|known| known.name == class).expect("a class").scope
}

fn regions_in(book: &Book<'_>, countries: &Names) -> Names {
    let inside = book.spec.regions.iter().filter(|region| countries.contains(region.country.code()));
    inside.map(|region| region.name.clone()).collect()
}

fn nowhere() -> Restriction {
    Restriction { beyond: vec![Transfer::Prohibited], ..Restriction::default() }
}
