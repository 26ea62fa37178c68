//! Where a client may be: the input of every residency rule.

use crate::country::{Country, CountrySet};

/// What is known of where the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// One country, certain.
    Country(Country),
    /// Any of these countries: sources disagree. The rules of all of them hold at once.
    Countries(CountrySet),
    /// Anywhere: no source knows, or the client hides (an anonymous network).
    Unknown,
}

impl Origin {
    /// Makes the origin of a set of possible countries; none at all is unknown.
    pub fn of(countries: CountrySet) -> Self {
        let mut members = countries.iter();
        match (members.next(), members.next()) {
            (None, _) => Origin::Unknown,
            (Some(country), None) => Origin::Country(country),
            (Some(_), Some(_)) => Origin::Countries(countries),
        }
    }

    /// Returns whether exactly one country is possible.
    pub(crate) fn is_certain(&self) -> bool {
        matches!(self, Origin::Country(_))
    }

    /// Returns the possible countries, in alphabetical order; none when unknown.
    pub fn countries(&self) -> CountrySet {
        match self {
            Origin::Country(country) => [*country].into_iter().collect(),
            Origin::Countries(countries) => *countries,
            Origin::Unknown => CountrySet::default(),
        }
    }
}
