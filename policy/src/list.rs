//! Lists of countries with dates, and the sets of countries that name them.
//!
//! A list is what some authority has decided of one country after another: each entry has its own
//! beginning, end, scope and source. Adequacy decisions are one.

use crate::country::{Country, CountrySet};
use crate::moment::{LawTime, Moment, Period};

/// A named list of countries, each with its dates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The name, unique in the table.
    pub name: String,
    /// What it holds; a country may stand there for several periods.
    pub entries: Vec<Entry>,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The country; none where the entry is about something that has no code, and is there to be read.
    pub country: Option<Country>,
    /// When it counts.
    pub period: Period,
    /// What it covers, in words; may be empty.
    pub scope: String,
    /// Where it is written; may be empty.
    pub source: String,
    /// Whether it covers only a part of what happens in the country, such as certified companies. Such an
    /// entry opens nothing by the country: a region whose operator it covers is to be named.
    pub partial: bool,
}

/// An index into the table's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListId(pub usize);

/// A set of countries as a table writes it: by code and group, and by list, whose entries have dates.
///
/// The end of an entry must not let data go anywhere: so an entry that is over no longer counts where
/// the set opens, and goes on counting where it protects. Nor does one that covers a part of a country
/// open all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Countries {
    written: CountrySet,
    lists: Vec<ListId>,
    now: CountrySet,
    so_far: CountrySet,
    listed: CountrySet,
}

impl Countries {
    /// Makes the set of these countries and of the entries of these lists. Of the lists nothing counts before
    /// `Countries::resolve`.
    pub fn new(written: CountrySet, lists: Vec<ListId>) -> Self {
        Self { written, lists, now: written, so_far: written, listed: written }
    }

    /// Returns the countries that count now: for what opens.
    pub fn now(&self) -> &CountrySet {
        &self.now
    }

    /// Returns the countries that count now or did before: for what protects and what denies.
    pub fn so_far(&self) -> &CountrySet {
        &self.so_far
    }

    /// Returns the countries that certainly count now or did before: for what refuses those that do not. Only while
    /// the time is in doubt is that another set than [`Countries::so_far`].
    pub fn listed(&self) -> &CountrySet {
        &self.listed
    }

    /// Returns the countries that it names by code and group.
    pub fn written(&self) -> &CountrySet {
        &self.written
    }

    /// Returns the lists that it names.
    pub fn lists(&self) -> &[ListId] {
        &self.lists
    }

    /// Works out which entries count at a time.
    pub(crate) fn resolve(&mut self, lists: &[List], at: LawTime) {
        (self.now, self.so_far, self.listed) = (self.written, self.written, self.written);
        let entries = self.lists.iter().filter_map(|id| lists.get(id.0)).flat_map(|list| &list.entries);
        for (country, entry) in entries.filter_map(|entry| Some((entry.country?, entry))) {
            if entry.period.has_begun(at) && !entry.period.may_have_ended(at) && !entry.partial {
                self.now.insert(country);
            }
            if entry.period.may_have_begun(at) {
                self.so_far.insert(country);
            }
            if entry.period.has_begun(at) {
                self.listed.insert(country);
            }
        }
    }
}

impl From<CountrySet> for Countries {
    fn from(countries: CountrySet) -> Self {
        Self::new(countries, Vec::new())
    }
}

impl FromIterator<Country> for Countries {
    fn from_iter<I: IntoIterator<Item = Country>>(countries: I) -> Self {
        countries.into_iter().collect::<CountrySet>().into()
    }
}

impl List {
    /// Returns the moments at which an entry begins or ends to count.
    pub fn boundaries(&self) -> impl Iterator<Item = Moment> {
        self.entries.iter().filter(|entry| entry.country.is_some()).flat_map(|entry| entry.period.boundaries())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_over_opens_nothing_and_still_protects() {
        let country = |code: &str| code.parse::<Country>().unwrap();
        let entry = |code, from: &str, until: &str| Entry {
            country: Some(country(code)),
            period: Period { from: from.parse().ok(), until: until.parse().ok() },
            scope: String::new(),
            source: String::new(),
            partial: false,
        };
        let entries =
            vec![entry("GB", "2021-06-28", "2031-12-27"), entry("BR", "2026-01-26", ""), entry("JP", "", "2020-01-01")];
        let lists = [List { name: "adequacy".into(), entries }];
        let mut set = Countries::new([country("DE")].into_iter().collect(), vec![ListId(0)]);
        assert_eq!((set.lists(), set.written().iter().collect()), (&[ListId(0)][..], vec![country("DE")]));
        let written: Countries = [country("DE"), country("FR")].into_iter().collect();
        assert_eq!((written.lists(), written.now().len()), (&[][..], 2));
        let mut at = |time: &str| {
            set.resolve(&lists, time.parse::<Moment>().unwrap().into());
            [set.now(), set.so_far()].map(|set| set.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(at("2019-01-01"), ["DE JP", "DE JP"]);
        assert_eq!(at("2021-06-27"), ["DE", "DE JP"]);
        assert_eq!(at("2026-01-26"), ["BR DE GB", "BR DE GB JP"]);
        assert_eq!(at("2031-12-27"), ["BR DE", "BR DE GB JP"]);
        set.resolve(&lists, LawTime::between("2020-01-01".parse().unwrap(), "2032-01-01".parse().unwrap()));
        let codes = |set: &CountrySet| set.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!((codes(set.now()), codes(set.so_far())), ("DE".into(), "BR DE GB JP".into()));
    }
}
