//! A table and a request, by names.

use std::collections::{BTreeMap, BTreeSet};

use policy::country::CountrySet;
use policy::jurisdiction::{Denial, Selector, Transfer, WhenUnavailable};
use policy::list::Countries;
use policy::region::{Operator, Region};
use policy::route::Criticality;
use policy::table::TableSpec;
use policy::{Facts, Method, Origin, Payload, RegionId};

pub type Names = BTreeSet<String>;

/// A table's specification, its ids told by names.
pub struct Book<'a> {
    pub spec: &'a TableSpec,
    /// Name, and the countries that regions of its own are in.
    pub jurisdictions: BTreeMap<String, Names>,
    /// Name, and the countries whose clients its rules protect.
    pub protected: BTreeMap<String, Names>,
    /// The countries of each.
    pub super_regions: Vec<Names>,
    pub rules: Vec<Rule>,
}

/// A residency rule.
pub struct Rule {
    pub jurisdiction: String,
    pub regulation: String,
    pub data_classes: Names,
    /// The regions that one of its selectors selects; `None` for a rule that only denies.
    pub selected: Option<Names>,
    /// Whether it denies anything.
    pub denies: bool,
    /// The regions that must never serve.
    pub denied: Names,
    pub transfer: Transfer,
    pub page: Option<String>,
    /// Unix seconds.
    pub from: Option<i64>,
    pub until: Option<i64>,
}

impl<'a> Book<'a> {
    pub fn new(spec: &'a TableSpec) -> Self {
        let mut book = Self {
            spec,
            jurisdictions: BTreeMap::new(),
            protected: BTreeMap::new(),
            super_regions: Vec::new(),
            rules: Vec::new(),
        };
        for jurisdiction in &spec.jurisdictions {
            let (now, so_far) = book.members(&jurisdiction.countries);
            book.jurisdictions.insert(jurisdiction.name.clone(), now);
            book.protected.insert(jurisdiction.name.clone(), so_far);
        }
        for super_region in &spec.super_regions {
            book.super_regions.push(codes(&super_region.countries));
        }
        for rule in &spec.rules {
            let (mut selected, mut denied) = (Names::new(), Names::new());
            for (index, region) in spec.regions.iter().enumerate() {
                if rule.allow.iter().flatten().any(|selector| book.selects(selector, index, region)) {
                    selected.insert(region.name.clone());
                }
                if rule.deny.as_ref().is_some_and(|denial| book.denies(denial, index, region)) {
                    denied.insert(region.name.clone());
                }
            }
            book.rules.push(Rule {
                jurisdiction: spec.jurisdictions[rule.jurisdiction.0].name.clone(),
                data_classes: rule.data_classes.iter().map(|id| spec.data_classes[id.0].name.clone()).collect(),
                selected: rule.allow.is_some().then_some(selected),
                denies: rule.deny.is_some(),
                denied,
                regulation: rule.regulation.clone(),
                from: rule.period.from.map(|moment| moment.unix_seconds()),
                until: rule.period.until.map(|moment| moment.unix_seconds()),
                transfer: rule.transfer,
                page: match &rule.when_unavailable {
                    WhenUnavailable::Reject => None,
                    WhenUnavailable::Maintenance(page) => Some(page.to_string()),
                },
            });
        }
        book
    }

    /// "All given must hold."
    fn selects(&self, selector: &Selector, index: usize, region: &Region) -> bool {
        let country = region.country.code();
        if let Some(regions) = &selector.regions
            && !regions.iter().any(|id| id.index() == index)
        {
            return false;
        }
        if let Some(countries) = &selector.countries
            && !self.members(countries).0.contains(country)
        {
            return false;
        }
        if let Some(countries) = &selector.operator_countries {
            let of = |operator: &Operator| self.members(countries).0.contains(operator.country.code());
            if !region.operator.as_ref().is_some_and(of) {
                return false;
            }
        }
        if let Some(levels) = &selector.assurance {
            let level = region.operator.as_ref().and_then(|operator| operator.assurance.clone());
            if !level.is_some_and(|level| levels.contains(&level)) {
                return false;
            }
        }
        if let Some(jurisdictions) = &selector.jurisdictions {
            let names = jurisdictions.iter().map(|id| &self.spec.jurisdictions[id.0].name);
            if !names.into_iter().any(|name| self.jurisdictions[name].contains(country)) {
                return false;
            }
        }
        if let Some(frameworks) = &selector.compliance {
            for framework in frameworks {
                if !region.compliance.iter().any(|held| held == framework) {
                    return false;
                }
            }
        }
        if let Some(tiers) = &selector.tiers
            && !tiers.contains(&region.tier)
        {
            return false;
        }
        true
    }

    /// "Each key denies by itself, and what nobody has named is denied."
    fn denies(&self, denial: &Denial, index: usize, region: &Region) -> bool {
        let country = region.country.code();
        let named = denial.regions.iter().any(|regions| regions.iter().any(|id| id.index() == index));
        let placed = denial.countries.iter().any(|countries| self.members(countries).1.contains(country));
        let of_jurisdiction = denial.jurisdictions.iter().flatten().any(|id| {
            let (_, so_far) = self.members(&self.spec.jurisdictions[id.0].countries);
            so_far.contains(country)
        });
        let operated = denial.operator_countries.iter().any(|countries| match &region.operator {
            Some(operator) => self.members(countries).1.contains(operator.country.code()),
            None => true,
        });
        let assured = denial.assurance.iter().any(|levels| {
            match region.operator.as_ref().and_then(|operator| operator.assurance.as_ref()) {
                Some(level) => levels.iter().any(|denied| denied == level),
                None => true,
            }
        });
        let of_tier = denial.tiers.iter().any(|tiers| tiers.contains(&region.tier));
        named || placed || of_jurisdiction || operated || assured || of_tier
    }

    /// The time of the law, in Unix seconds.
    pub fn now(&self) -> i64 {
        assert_eq!(self.spec.at.earliest(), self.spec.at.latest(), "one time");
        self.spec.at.latest().unix_seconds()
    }

    /// The codes of a set: what counts now, and what has counted so far.
    fn members(&self, countries: &Countries) -> (Names, Names) {
        let (mut now, mut so_far) = (codes(countries.written()), codes(countries.written()));
        for list in countries.lists() {
            for entry in &self.spec.lists[list.0].entries {
                let Some(country) = entry.country else { continue };
                let begun = entry.period.from.is_none_or(|from| from.unix_seconds() <= self.now());
                let over = entry.period.until.is_some_and(|until| until.unix_seconds() <= self.now());
                if begun {
                    so_far.insert(country.code().to_owned());
                }
                if begun && !over && !entry.partial {
                    now.insert(country.code().to_owned());
                }
            }
        }
        (now, so_far)
    }

    pub fn region(&self, name: &str) -> &Region {
        self.spec.regions.iter().find(|region| region.name == name).expect("a region of the book")
    }

    pub fn name(&self, id: RegionId) -> &str {
        &self.spec.regions[id.index()].name
    }
}

/// The facts of a request, by names.
#[derive(Clone, Debug)]
pub struct Request {
    pub host: String,
    pub path: String,
    pub method: Method,
    pub payload: Payload,
    /// `None` is unknown.
    pub countries: Option<Names>,
    pub declared: Names,
    pub consent: bool,
    pub client_key: u64,
    /// What a trusted source says.
    pub criticality: Option<Criticality>,
    /// Latitude and longitude in degrees, and the excess of its country's ways at each region.
    pub client_at: Option<((f64, f64), Vec<f32>)>,
    pub from: String,
    pub pinned: Option<String>,
    pub only: Option<String>,
}

impl Request {
    pub fn new(spec: &TableSpec, facts: &Facts<'_>) -> Self {
        let name = |id: RegionId| spec.regions[id.index()].name.clone();
        Self {
            host: facts.host.into(),
            path: facts.path.into(),
            method: facts.method,
            payload: facts.payload,
            countries: match &facts.origin {
                Origin::Unknown => None,
                Origin::Country(country) => Some(Names::from([country.code().to_owned()])),
                Origin::Countries(countries) => Some(codes(countries)).filter(|codes| !codes.is_empty()),
            },
            declared: facts.declared.iter().map(|id| spec.jurisdictions[id.0].name.clone()).collect(),
            consent: facts.consent,
            client_key: facts.client_key,
            criticality: facts.criticality,
            client_at: facts.client_at.map(|at| (at.coordinates.degrees(), at.excess_ms.to_vec())),
            from: name(facts.from),
            pinned: facts.pinned.map(name),
            only: facts.only.map(name),
        }
    }
}

fn codes(countries: &CountrySet) -> Names {
    countries.iter().map(|country| country.code().to_owned()).collect()
}
