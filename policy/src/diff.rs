//! What changes for whom between two tables.
//!
//! Everything is compared by name, and the law by what it allows: for each group of countries that
//! both tables treat alike, for each pair of routes (before, after) that some request falls under,
//! for reads and writes, with consent and without. So a rule that is written anew and says the same
//! is no change, and a route that takes another's requests under a laxer class is one.
//!
//! ```text
//! space     every pair of routes (before, after) that some request falls under
//! law       what each of them may reach, before and after ---grouped---> LawChange
//! routes    routes added, removed, renamed, changed; requests that another route takes
//! settings  everything else a table says
//! ```
//!
//! A region is the same *place* in both tables when its name and its country are. A new place is a
//! widening, except for requests that no rule bounded: what may go anywhere may go there too.

mod horizon;
mod law;
mod routes;
mod settings;
mod space;
mod who;

use serde::Serialize;
use thiserror::Error;

use crate::country::{Country, CountrySet};
use crate::region::RegionSet;
use crate::table::Table;

pub use horizon::{Dated, horizon};
pub use law::{Consent, Difference, Gain, Heard, LawChange, Laws, Passage, Preference, Requests};
pub use routes::{RouteChange, RouteFate, Takeover};
pub use settings::{Setting, countries_in_words};
pub use who::{Group, GroupKind, Who};

/// What changes between two tables.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The version of the table before.
    pub old_version: String,
    /// The version of the table after.
    pub new_version: String,
    /// Where requests may go at the time of both laws, the widenings first.
    pub law: Vec<LawChange>,
    /// Where they may go from later dates of either table on, where that is another difference than before.
    pub later: Vec<Dated>,
    /// Regions of countries in which the old table has none: where no rule sets bounds, data may go
    /// there.
    pub new_places: Vec<NewPlace>,
    /// Routes added, removed, renamed and changed.
    pub routes: Vec<RouteChange>,
    /// Requests of a route of both tables that another route takes now.
    pub takeovers: Vec<Takeover>,
    /// Everything else that the tables say differently, by key.
    pub settings: Vec<Setting>,
}

/// A region of a country in which the table before has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewPlace {
    /// The region's name.
    pub region: String,
    /// Its country.
    pub country: Country,
}

/// Why two tables cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DiffError {
    /// Their different regions are more than a set can hold.
    #[error("the two tables together have {0} different regions; at most {max} can be compared", max = RegionSet::CAPACITY)]
    TooManyRegions(usize),
}

impl Diff {
    /// Compares two tables, whose laws are read at the same time; and as they will be from their next dates on.
    ///
    /// # Errors
    /// When they have too many different regions together.
    pub fn between(old: &Table, new: &Table) -> Result<Self, DiffError> {
        let space = space::pairs(old, new);
        let law = law::changes(old, new, &space.list)?;
        Ok(Self {
            old_version: old.spec().version.clone(),
            new_version: new.spec().version.clone(),
            later: horizon::later(old, new, &space.list, &law)?,
            law,
            new_places: new_places(old, new),
            routes: routes::changes(old, new, &space),
            takeovers: routes::takeovers(old, new, &space),
            settings: settings::changes(old.spec(), new.spec()),
        })
    }

    /// Returns whether nothing but the version changes.
    pub fn is_empty(&self) -> bool {
        self.law.is_empty()
            && self.later.is_empty()
            && self.new_places.is_empty()
            && self.routes.is_empty()
            && self.takeovers.is_empty()
            && self.settings.is_empty()
    }

    /// Returns whether some request may go, now or from some date on, where the old table does not let it, or to a
    /// country that the old table does not reach. A request that fell under no route of the old table is not one of
    /// them.
    pub fn widens(&self) -> bool {
        !self.new_places.is_empty() || self.all_law().any(LawChange::widens)
    }

    /// Returns whether some request may no longer go, now or from some date on, where the old table lets it.
    pub fn shrinks(&self) -> bool {
        self.all_law().any(LawChange::shrinks)
    }

    fn all_law(&self) -> impl Iterator<Item = &LawChange> {
        self.law.iter().chain(self.later.iter().flat_map(|dated| &dated.law))
    }
}

fn new_places(old: &Table, new: &Table) -> Vec<NewPlace> {
    let reached: CountrySet = old.regions().map(|(_, region)| region.country).collect();
    let new = new.regions().filter(|(_, region)| !reached.contains(region.country));
    new.map(|(_, region)| NewPlace { region: region.name.clone(), country: region.country }).collect()
}

/// Returns the codes of countries, for messages.
fn codes(countries: impl IntoIterator<Item = Country>) -> Vec<String> {
    countries.into_iter().map(|country| country.to_string()).collect()
}
