//! How much capacity a new table takes away: from the whole fleet, and from each jurisdiction that
//! keeps data to some regions.
//!
//! A table can be sound, serve everybody, and still leave a country's clients one small region where
//! there were eight. So before it is published, what may serve is counted before and after: the law's
//! own regions, not those that it opens on consent or as a later level, since nobody plans for them.
//!
//! A region counts with its `capacity_rps` where every region of both tables gives one, and else as
//! one region; one that takes no new clients (not serving, weight 0, no reads) counts as nothing.
//!
//! For a jurisdiction every country that both tables have in it is looked at, under all the rules that
//! hold for a client there, and beside them the jurisdiction's own rules alone, as they hold for a
//! tenant that declares it. What loses the largest share is told. A jurisdiction, a class or a country
//! in it that the new table does not have is none of that: its law is gone, which is a widening
//! ([`crate::diff`]).

use std::fmt;

use serde::Serialize;

use crate::country::Country;
use crate::jurisdiction::{self, ClassId, JurisdictionId};
use crate::origin::Origin;
use crate::region::{Access, AdminState, Region, RegionSet};
use crate::residency::{Opening, Subject};
use crate::table::Table;

/// Returns what has less capacity under the new table: the fleet first, then the jurisdictions in the order of the
/// old table.
pub fn shrinkage(old: &Table, new: &Table) -> Vec<Shrinkage> {
    let all = || old.regions().chain(new.regions());
    let unit = if all().all(|(_, region)| region.capacity_rps.is_some()) { Unit::Rps } else { Unit::Regions };
    let (before, after) = (Capacity::new(old, unit), Capacity::new(new, unit));
    let shrinkage = |scope, change: Change| Shrinkage { scope, before: change.before, after: change.after, unit };
    let whole = Change { before: before.of(&old.regions), after: after.of(&new.regions) };
    let fleet = whole.is_less().then(|| shrinkage(Scope::Fleet, whole));

    let classes = shared_classes(&before, &after);
    let jurisdictions = old.spec().jurisdictions.iter().enumerate().filter_map(|(index, jurisdiction)| {
        let ids = (JurisdictionId(index), new.jurisdiction_named(&jurisdiction.name)?);
        let changes = classes.iter().filter_map(|class| Some((class, class.change(&before, &after, ids)?)));
        let changes: Vec<_> = changes.filter(|(_, change)| change.is_less()).collect();
        let worst = changes.iter().map(|(_, change)| *change).reduce(Change::worse)?;
        let alike = changes.iter().filter(|(_, change)| *change == worst);
        let classes = alike.map(|(class, _)| class.name.to_owned()).collect();
        Some(shrinkage(Scope::Jurisdiction { name: jurisdiction.name.clone(), classes }, worst))
    });
    fleet.into_iter().chain(jurisdictions).collect()
}

/// Capacity that a new table takes away.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shrinkage {
    /// From whom.
    pub scope: Scope,
    /// The capacity under the old table, in `unit`.
    pub before: f64,
    /// Under the new one: less.
    pub after: f64,
    /// What capacity is counted in.
    pub unit: Unit,
}

/// Whose capacity is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All regions.
    Fleet,
    /// The regions that may serve a jurisdiction's clients.
    Jurisdiction {
        /// Its name.
        name: String,
        /// The data classes that lose this much, the most that any class loses.
        classes: Vec<String>,
    },
}

/// What capacity is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Requests per second.
    Rps,
    /// Regions: some region gives no `capacity_rps`.
    Regions,
}

impl Shrinkage {
    /// Returns the share that is lost, `0..=1`.
    pub fn lost(&self) -> f64 {
        Change { before: self.before, after: self.after }.lost()
    }

    /// Returns the name by which a publication allows it: `fleet`, or the jurisdiction's.
    pub fn name(&self) -> &str {
        match &self.scope {
            Scope::Fleet => "fleet",
            Scope::Jurisdiction { name, .. } => name,
        }
    }
}

impl fmt::Display for Shrinkage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Fleet => write!(f, "fleet")?,
            Scope::Jurisdiction { name, classes } => write!(f, "jurisdiction {name} ({})", classes.join(", "))?,
        }
        let unit = match self.unit {
            Unit::Rps => "rps",
            Unit::Regions => "regions",
        };
        let percent = self.lost() * 100.0;
        write!(f, ": {:.0} to {:.0} {unit}, {percent:.0} % less", self.before, self.after)
    }
}

/// A capacity under both tables.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Change {
    before: f64,
    after: f64,
}

impl Change {
    fn is_less(&self) -> bool {
        self.after < self.before
    }

    fn lost(&self) -> f64 {
        if self.is_less() { 1.0 - self.after / self.before } else { 0.0 }
    }

    /// Returns the one that loses the larger share; of equal shares, the one that loses more.
    fn worse(self, other: Self) -> Self {
        let key = |change: &Self| (change.lost(), change.before);
        if key(&other) > key(&self) { other } else { self }
    }
}

/// What each region of a table can take.
struct Capacity<'a> {
    table: &'a Table,
    of_regions: Vec<f64>,
}

impl<'a> Capacity<'a> {
    fn new(table: &'a Table, unit: Unit) -> Self {
        let takes = |region: &Region| {
            region.state == AdminState::Serving && region.weight > 0 && region.capabilities.serves(Access::Read)
        };
        let size = |region: &Region| match unit {
            Unit::Rps => region.capacity_rps.unwrap_or(0.0),
            Unit::Regions => 1.0,
        };
        let of = |region| if takes(region) { size(region) } else { 0.0 };
        Self { table, of_regions: table.regions().map(|(_, region)| of(region)).collect() }
    }

    fn of(&self, regions: &RegionSet) -> f64 {
        // Not a sum, which of nothing is -0.
        regions.iter().fold(0.0, |sum, id| sum + self.of_regions[id.index()])
    }

    /// Of the law's own regions for a client of a country.
    fn of_country(&self, country: Country, class: ClassId) -> f64 {
        let opening = Opening { consent: false, access: Access::Read };
        let subject = Subject { origin: &Origin::Country(country), declared: [&[], &[]], class, opening };
        self.of(&self.table.residency().allowed(subject, &mut None).home)
    }
}

/// A data class of both tables.
struct SharedClass<'a> {
    name: &'a str,
    ids: (ClassId, ClassId),
    /// By [`Country::slot`]: worked out once, however many jurisdictions a country is in.
    of_countries: Vec<Change>,
}

/// Returns the classes that both tables have, by name.
fn shared_classes<'a>(before: &Capacity<'a>, after: &Capacity<'_>) -> Vec<SharedClass<'a>> {
    let classes = before.table.spec().data_classes.iter().enumerate();
    let shared = classes.filter_map(|(index, class)| {
        let now = after.table.spec().data_classes.iter().position(|other| other.name == class.name)?;
        let ids = (ClassId(index), ClassId(now));
        let mut of_countries = vec![Change { before: 0.0, after: 0.0 }; Country::SLOTS];
        for country in Country::all() {
            let (before, after) = (before.of_country(country, ids.0), after.of_country(country, ids.1));
            of_countries[country.slot()] = Change { before, after };
        }
        Some(SharedClass { name: &class.name, ids, of_countries })
    });
    shared.collect()
}

impl SharedClass<'_> {
    /// Returns what a jurisdiction of both tables loses most; `None` where the old one does not restrict the class
    /// for its clients.
    fn change(
        &self,
        before: &Capacity<'_>,
        after: &Capacity<'_>,
        (old, new): (JurisdictionId, JurisdictionId),
    ) -> Option<Change> {
        let (then, now) = (before.table, after.table);
        let declared = then.residency().home_of(old, self.ids.0).map(|home| Change {
            before: before.of(home),
            after: after.of(now.residency().home_of(new, self.ids.1).unwrap_or(&now.regions)),
        });
        if declared.is_none() && then.spec().data_classes[self.ids.0.0].scope != jurisdiction::Scope::SuperRegion {
            return None;
        }
        let stayed = now.spec().jurisdictions[new.0].countries.so_far();
        let countries = *then.spec().jurisdictions[old.0].countries.so_far();
        let shared = countries.iter().filter(|country| stayed.contains(*country));
        declared.into_iter().chain(shared.map(|country| self.of_countries[country.slot()])).reduce(Change::worse)
    }
}
