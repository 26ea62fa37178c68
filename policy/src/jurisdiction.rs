//! The names of the law: jurisdictions, super-regions, data classes, rules.

use std::sync::Arc;

use serde::Serialize;

use crate::country::CountrySet;
use crate::region::{Region, RegionId, RegionSet, Tier};

/// A named set of countries under one set of residency rules.
#[derive(Clone, Debug)]
pub struct Jurisdiction {
    /// The name, unique in the table.
    pub name: String,
    /// Its countries. A country in several jurisdictions obeys all.
    pub countries: CountrySet,
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
    /// The regions it allows: any of the selectors. None at all allows no region.
    pub allow: Vec<Selector>,
    /// When the rest opens.
    pub transfer: Transfer,
    /// What to answer while none of the allowed regions is up.
    pub when_unavailable: WhenUnavailable,
    /// The law's name, for explanations and the audit.
    pub regulation: String,
    /// The line of the table that declares it, from 1.
    pub line: u32,
}

/// What a client is told while the lawful regions are down.
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
    pub countries: Option<CountrySet>,
    /// Regions in a country of one of these jurisdictions.
    pub jurisdictions: Option<Vec<JurisdictionId>>,
    /// Regions that hold all of these frameworks.
    pub compliance: Option<Vec<String>>,
    /// Regions of one of these tiers.
    pub tiers: Option<Vec<Tier>>,
}

impl Selector {
    /// Whether nothing is asked, which would select everything by accident.
    pub fn is_empty(&self) -> bool {
        self.regions.is_none()
            && self.countries.is_none()
            && self.jurisdictions.is_none()
            && self.compliance.is_none()
            && self.tiers.is_none()
    }

    /// Whether the region satisfies every part.
    pub fn selects(&self, id: RegionId, region: &Region, jurisdictions: &[Jurisdiction]) -> bool {
        let in_jurisdiction = |id: &JurisdictionId| {
            jurisdictions.get(id.0).is_some_and(|jurisdiction| jurisdiction.countries.contains(region.country))
        };
        self.regions.as_ref().is_none_or(|set| set.contains(id))
            && self.countries.as_ref().is_none_or(|set| set.contains(region.country))
            && self.jurisdictions.as_ref().is_none_or(|list| list.iter().any(in_jurisdiction))
            && self.compliance.as_ref().is_none_or(|list| list.iter().all(|name| region.compliance.contains(name)))
            && self.tiers.as_ref().is_none_or(|list| list.contains(&region.tier))
    }
}
