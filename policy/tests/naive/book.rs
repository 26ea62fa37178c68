//! A table and a request, by names.

use std::collections::{BTreeMap, BTreeSet};

use policy::country::CountrySet;
use policy::jurisdiction::{Selector, Transfer, WhenUnavailable};
use policy::region::Region;
use policy::table::TableSpec;
use policy::{Facts, Method, Origin, RegionId};

pub type Names = BTreeSet<String>;

/// A table's specification, its ids told by names.
pub struct Book<'a> {
    pub spec: &'a TableSpec,
    /// Name and countries.
    pub jurisdictions: BTreeMap<String, Names>,
    /// The countries of each.
    pub super_regions: Vec<Names>,
    pub rules: Vec<Rule>,
}

/// A residency rule.
pub struct Rule {
    pub jurisdiction: String,
    pub data_classes: Names,
    /// The regions that one of its selectors selects.
    pub selected: Names,
    pub transfer: Transfer,
    pub page: Option<String>,
}

impl<'a> Book<'a> {
    pub fn new(spec: &'a TableSpec) -> Self {
        let mut book = Self { spec, jurisdictions: BTreeMap::new(), super_regions: Vec::new(), rules: Vec::new() };
        for jurisdiction in &spec.jurisdictions {
            book.jurisdictions.insert(jurisdiction.name.clone(), codes(&jurisdiction.countries));
        }
        for super_region in &spec.super_regions {
            book.super_regions.push(codes(&super_region.countries));
        }
        for rule in &spec.rules {
            let mut selected = Names::new();
            for (index, region) in spec.regions.iter().enumerate() {
                if rule.allow.iter().any(|selector| book.selects(selector, index, region)) {
                    selected.insert(region.name.clone());
                }
            }
            book.rules.push(Rule {
                jurisdiction: spec.jurisdictions[rule.jurisdiction.0].name.clone(),
                data_classes: rule.data_classes.iter().map(|id| spec.data_classes[id.0].name.clone()).collect(),
                selected,
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
            && !codes(countries).contains(country)
        {
            return false;
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
    pub upgrade: bool,
    /// `None` is unknown.
    pub countries: Option<Names>,
    pub declared: Names,
    pub consent: bool,
    pub client_key: u64,
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
            upgrade: facts.upgrade,
            countries: match &facts.origin {
                Origin::Unknown => None,
                Origin::Country(country) => Some(Names::from([country.code().to_owned()])),
                Origin::Countries(countries) => Some(codes(countries)).filter(|codes| !codes.is_empty()),
            },
            declared: facts.declared.iter().map(|id| spec.jurisdictions[id.0].name.clone()).collect(),
            consent: facts.consent,
            client_key: facts.client_key,
            from: name(facts.from),
            pinned: facts.pinned.map(name),
            only: facts.only.map(name),
        }
    }
}

fn codes(countries: &CountrySet) -> Names {
    countries.iter().map(|country| country.code().to_owned()).collect()
}
