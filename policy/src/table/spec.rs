//! What a table says, before it is compiled: names are resolved to indices, and nothing is known to be true yet.

use std::time::Duration;

use crate::concurrency::TrafficClass;
use crate::emergency::EmergencySpec;
use crate::failover::Failover;
use crate::jurisdiction::{DataClass, Jurisdiction, Rule, SuperRegion, UnknownOrigin, UnlistedJurisdiction};
use crate::list::{Countries, List};
use crate::moment::{LawTime, Moment};
use crate::region::{Region, RegionId};
use crate::route::RouteSpec;
use crate::score::ScoringSpec;

/// Everything a table says, names resolved to indices. [`Table::new`](super::Table::new)(crate::Table::new) checks and compiles it.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Free text, shown everywhere.
    pub version: String,
    /// The time at which the law is read: which rules are in force, and which entries of lists count.
    pub at: LawTime,
    /// The regions, at most [`RegionSet::CAPACITY`](crate::RegionSet::CAPACITY)(crate::RegionSet::CAPACITY); a [`RegionId`](crate::RegionId) is a position here.
    pub regions: Vec<Region>,
    /// Prior round trips: (from, to, milliseconds).
    pub latency_ms: Vec<(RegionId, RegionId, f64)>,
    /// For how long a measured round trip counts in full ([`crate::round_trip`]); zero leaves the prior alone.
    pub latency_window: Duration,
    /// What the round trips of pairs are to be at most, by their P95: (from, to, milliseconds).
    pub latency_sla_ms: Vec<(RegionId, RegionId, f64)>,
    /// Lists of countries with dates, which jurisdictions and rules name.
    pub lists: Vec<List>,
    /// The jurisdictions.
    pub jurisdictions: Vec<Jurisdiction>,
    /// The super-regions.
    pub super_regions: Vec<SuperRegion>,
    /// The data classes.
    pub data_classes: Vec<DataClass>,
    /// The residency rules.
    pub rules: Vec<Rule>,
    /// What an uncertain origin means.
    pub unknown_origin: UnknownOrigin,
    /// What a country without a jurisdiction means.
    pub unlisted_jurisdiction: UnlistedJurisdiction,
    /// The scorings, with at most [`Table::MAX_CURVES`](super::Table::MAX_CURVES)(crate::Table::MAX_CURVES) different latency curves.
    pub scorings: Vec<ScoringSpec>,
    /// The routes, at most [`Table::MAX_ROUTES`](super::Table::MAX_ROUTES)(crate::Table::MAX_ROUTES).
    pub routes: Vec<RouteSpec>,
    /// The fleet-wide failover settings.
    pub failover: Failover,
    /// Whether requests may be less critical than their routes, by a trusted proxy's word.
    pub lowers_criticality: bool,
    /// The traffic classes, at most [`MOST_CLASSES`](crate::concurrency::MOST_CLASSES).
    pub traffic_classes: Vec<TrafficClass>,
    /// What is switched off, in an incident.
    pub emergency: Option<EmergencySpec>,
}

impl TableSpec {
    /// Returns every moment at which a rule or an entry of a list begins or ends, or an emergency, in order, each once.
    pub fn boundaries(&self) -> Vec<Moment> {
        let rules = self.rules.iter().flat_map(|rule| rule.period.boundaries());
        let emergency = self.emergency.iter().filter_map(|emergency| emergency.until);
        let mut all: Vec<Moment> = rules.chain(self.lists.iter().flat_map(List::boundaries)).chain(emergency).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Works out which entries of lists count.
    pub(super) fn resolve(&mut self) {
        let (lists, at) = (std::mem::take(&mut self.lists), self.at);
        self.each_countries(|countries| countries.resolve(&lists, at));
        self.lists = lists;
    }

    /// Every set of countries that may name lists.
    fn each_countries(&mut self, mut visit: impl FnMut(&mut Countries)) {
        self.jurisdictions.iter_mut().for_each(|jurisdiction| visit(&mut jurisdiction.countries));
        for rule in &mut self.rules {
            for selector in rule.allow.iter_mut().flatten() {
                selector.countries.iter_mut().chain(&mut selector.operator_countries).for_each(&mut visit);
            }
            if let Some(deny) = &mut rule.deny {
                deny.countries.iter_mut().chain(&mut deny.operator_countries).for_each(&mut visit);
            }
        }
    }
}
