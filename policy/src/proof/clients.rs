//! Groups of clients, named as a table names them.

use crate::country::{Country, CountrySet};
use crate::table::TableSpec;

/// Clients whom the same befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Clients {
    /// Those of these countries.
    pub countries: CountrySet,
    /// And those of whom nothing is known.
    pub unknown: bool,
}

impl Clients {
    /// The clients of a country, or the unknown.
    pub(super) fn add(&mut self, countries: &CountrySet) {
        self.countries.extend(countries);
        self.unknown |= countries.is_empty();
    }

    /// Their names: jurisdictions that are wholly among them, the largest first where they overlap;
    /// the unlisted countries; then single countries.
    pub fn describe(&self, spec: &TableSpec) -> String {
        let every: CountrySet = Country::all().collect();
        if every.is_subset(&self.countries) {
            return if self.unknown { "everybody" } else { "everybody whose country is known" }.to_owned();
        }
        let mut jurisdictions: Vec<_> =
            spec.jurisdictions.iter().filter(|one| one.countries.so_far().is_subset(&self.countries)).collect();
        jurisdictions.sort_by_key(|one| std::cmp::Reverse(one.countries.so_far().iter().count()));
        let mut covered = CountrySet::default();
        let mut names: Vec<String> = Vec::new();
        for one in jurisdictions {
            if !one.countries.so_far().is_subset(&covered) {
                covered.extend(one.countries.so_far());
                names.push(one.name.clone());
            }
        }
        names.sort_unstable();
        let listed = |country: &Country| spec.jurisdictions.iter().any(|one| one.countries.so_far().contains(*country));
        let unlisted: CountrySet = Country::all().filter(|country| !listed(country)).collect();
        if !unlisted.is_empty() && unlisted.is_subset(&self.countries) {
            covered.extend(&unlisted);
            names.push("unlisted countries".to_owned());
        }
        let single = self.countries.iter().filter(|country| !covered.contains(*country));
        names.extend(single.map(|country| country.code().to_owned()));
        if names.len() > NAMED + 1 {
            let more = names.len() - NAMED;
            names.truncate(NAMED);
            names.push(format!("{more} more"));
        }
        if self.unknown {
            names.push("unknown clients".to_owned());
        }
        names.join(", ")
    }
}

/// So many of them are named.
const NAMED: usize = 8;
