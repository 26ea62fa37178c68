//! The names of the law: jurisdictions, super-regions, data classes, rules.

use std::sync::Arc;

use serde::Serialize;

use crate::country::CountrySet;
use crate::list::Countries;
use crate::moment::Period;
use crate::region::{Region, RegionId, RegionSet, Tier};

/// A named set of countries under one set of residency rules.
#[derive(Clone, Debug)]
pub struct Jurisdiction {
    /// The name, unique in the table.
    pub name: String,
    /// Its countries. A country in several jurisdictions obeys all. Its rules protect the clients of
    /// all that it has had so far; a region is in it as long as its country is.
    pub countries: Countries,
}

/// An index into the table's jurisdictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JurisdictionId(pub usize);

/// A named set of countries that data of scope [`Scope::SuperRegion`] stays in.
#[derive(Clone, Debug)]
pub struct SuperRegion {
    /// The name, unique in the table.
    pub name: String,
    /// Its countries.
    pub countries: CountrySet,
}

/// What kind of data a route carries.
#[derive(Clone, Debug)]
pub struct DataClass {
    /// The name, unique in the table.
    pub name: String,
    /// Whether it may leave its jurisdiction where the rules would let it.
    pub cross_border: Transfer,
    /// How far residency rules apply to it.
    pub scope: Scope,
}

/// An index into the table's data classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub usize);

/// How far residency rules apply to a data class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The rules of the client's jurisdictions apply.
    Jurisdiction,
    /// They apply, and the data also stays in the client's super-region.
    SuperRegion,
    /// No rule applies.
    Global,
}

/// When data may go to regions outside those that a rule selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transfer {
    /// Never.
    Prohibited,
    /// When the request carries consent from a trusted source.
    WithConsent,
    /// Always, and the decision is marked for the audit.
    WithSafeguards,
    /// For reads only: the copy that counts stays.
    RequiresLocalCopy,
    /// Always.
    Allowed,
}

/// One residency rule: for this jurisdiction and these classes, keep to these regions.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whose clients it protects.
    pub jurisdiction: JurisdictionId,
    /// The data it protects.
    pub data_classes: Vec<ClassId>,
    /// The regions it allows: any of the selectors; an empty list allows no region. `None` is a rule that
    /// only denies, and leaves all else as it is.
    pub allow: Option<Vec<Selector>>,
    /// The regions that it never lets serve, whatever opens them.
    pub deny: Option<Denial>,
    /// When the rest opens.
    pub transfer: Transfer,
    /// When it is in force: see [`mod@crate::standing`].
    pub period: Period,
    /// What to answer while none of the allowed regions is up.
    pub when_unavailable: WhenUnavailable,
    /// The URL of whoever wants the data kept away, for answers that no region may give (RFC 7725).
    pub blocked_by: Option<Arc<str>>,
    /// The law's name, for explanations and the audit.
    pub regulation: String,
    /// The line of the table that declares it, from 1.
    pub line: u32,
}

/// What a client is answered while the lawful regions are down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// A refusal with its reason.
    Reject,
    /// This HTML page, with status 503.
    Maintenance(Arc<str>),
}

/// A choice of regions. Every part that is given must hold; an empty selector is refused.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// These regions.
    pub regions: Option<RegionSet>,
    /// Regions in these countries.
    pub countries: Option<Countries>,
    /// Regions in a country of one of these jurisdictions.
    pub jurisdictions: Option<Vec<JurisdictionId>>,
    /// Regions whose operator is known to be of one of these countries.
    pub operator_countries: Option<Countries>,
    /// Regions whose operator is known to have one of these levels of assurance.
    pub assurance: Option<Vec<String>>,
    /// Regions that hold all of these frameworks.
    pub compliance: Option<Vec<String>>,
    /// Regions of one of these tiers.
    pub tiers: Option<Vec<Tier>>,
}

impl Selector {
    /// Returns whether nothing is asked, which would select everything by accident.
    pub fn is_empty(&self) -> bool {
        let Self { regions, countries, jurisdictions, operator_countries, assurance, compliance, tiers } = self;
        regions.is_none()
            && countries.is_none()
            && jurisdictions.is_none()
            && operator_countries.is_none()
            && assurance.is_none()
            && compliance.is_none()
            && tiers.is_none()
    }

    /// Returns whether the region satisfies every part, by what the lists say now.
    pub fn selects(&self, id: RegionId, region: &Region, jurisdictions: &[Jurisdiction]) -> bool {
        let in_jurisdiction = |id: &JurisdictionId| {
            jurisdictions.get(id.0).is_some_and(|jurisdiction| jurisdiction.countries.now().contains(region.country))
        };
        let operator = region.operator.as_ref();
        let assured = |levels: &Vec<String>| {
            operator.and_then(|one| one.assurance.as_ref()).is_some_and(|level| levels.contains(level))
        };
        self.regions.as_ref().is_none_or(|set| set.contains(id))
            && self.countries.as_ref().is_none_or(|set| set.now().contains(region.country))
            && self.jurisdictions.as_ref().is_none_or(|list| list.iter().any(in_jurisdiction))
            && self
                .operator_countries
                .as_ref()
                .is_none_or(|set| operator.is_some_and(|one| set.now().contains(one.country)))
            && self.assurance.as_ref().is_none_or(assured)
            && self.compliance.as_ref().is_none_or(|list| list.iter().all(|name| region.compliance.contains(name)))
            && self.tiers.as_ref().is_none_or(|list| list.contains(&region.tier))
    }
}

/// A choice of regions that must never serve. Each part that is given denies by itself.
///
/// What is not known of a region is taken for what is denied: where operators are denied, a region whose
/// operator nobody has named is denied too.
#[derive(Clone, Debug, Default)]
pub struct Denial {
    /// These regions.
    pub regions: Option<RegionSet>,
    /// Regions in these countries.
    pub countries: Option<Countries>,
    /// Regions in a country of one of these jurisdictions.
    pub jurisdictions: Option<Vec<JurisdictionId>>,
    /// Regions whose operator is of one of these countries, or not known.
    pub operator_countries: Option<Countries>,
    /// Regions whose operator has one of these levels of assurance, or none that is known.
    pub assurance: Option<Vec<String>>,
    /// Regions of one of these tiers.
    pub tiers: Option<Vec<Tier>>,
}

impl Denial {
    /// Returns whether nothing is denied.
    pub fn is_empty(&self) -> bool {
        let Self { regions, countries, jurisdictions, operator_countries, assurance, tiers } = self;
        regions.is_none()
            && countries.is_none()
            && jurisdictions.is_none()
            && operator_countries.is_none()
            && assurance.is_none()
            && tiers.is_none()
    }

    /// Returns whether the region must never serve, by what the lists have said so far.
    pub fn denies(&self, id: RegionId, region: &Region, jurisdictions: &[Jurisdiction]) -> bool {
        self.ground(id, region, jurisdictions).is_some()
    }

    /// Returns why the region must never serve, in words; `None` where nothing denies it.
    pub fn ground(&self, id: RegionId, region: &Region, jurisdictions: &[Jurisdiction]) -> Option<String> {
        let country = region.country;
        let holds = |set: &Option<Countries>, country| set.as_ref().is_some_and(|set| set.so_far().contains(country));
        if self.regions.as_ref().is_some_and(|set| set.contains(id)) {
            return Some("it is named".to_owned());
        }
        if holds(&self.countries, country) {
            return Some(format!("it is in {country}"));
        }
        let of =
            |id: &&JurisdictionId| jurisdictions.get(id.0).is_some_and(|one| one.countries.so_far().contains(country));
        if let Some(found) = self.jurisdictions.iter().flatten().find(of).and_then(|id| jurisdictions.get(id.0)) {
            return Some(format!("it is in {country}, of {}", found.name));
        }
        match (&region.operator, &self.operator_countries) {
            (None, Some(_)) => return Some("nobody has named its operator".to_owned()),
            (Some(operator), countries) if holds(countries, operator.country) => {
                return Some(format!("its operator {} is of {}", operator.name, operator.country));
            }
            _ => {}
        }
        match (region.operator.as_ref().and_then(|operator| operator.assurance.as_ref()), &self.assurance) {
            (None, Some(_)) => return Some("its operator's assurance is not known".to_owned()),
            (Some(level), Some(levels)) if levels.contains(level) => {
                return Some(format!("its operator's assurance is {level}"));
            }
            _ => {}
        }
        self.tiers.as_ref().is_some_and(|list| list.contains(&region.tier)).then(|| "of its tier".to_owned())
    }
}

/// What an unknown origin means for a class that some jurisdiction restricts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownOrigin {
    /// All restricting jurisdictions' rules at once.
    Strictest,
    /// The rules of these jurisdictions at once, as for a client who may be in any of their countries. Never empty.
    Like(Vec<JurisdictionId>),
    /// No region at all.
    Refuse,
}

/// What a country that no jurisdiction lists means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlistedJurisdiction {
    /// No rule applies.
    Allow,
    /// No region at all.
    Refuse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_its_parts_denies() {
        assert!(Denial::default().is_empty());
        for denial in [
            Denial { regions: Some(RegionSet::default()), ..Denial::default() },
            Denial { countries: Some(Countries::default()), ..Denial::default() },
            Denial { jurisdictions: Some(Vec::new()), ..Denial::default() },
            Denial { operator_countries: Some(Countries::default()), ..Denial::default() },
            Denial { assurance: Some(Vec::new()), ..Denial::default() },
            Denial { tiers: Some(Vec::new()), ..Denial::default() },
        ] {
            assert!(!denial.is_empty(), "{denial:?}");
        }
    }
}
