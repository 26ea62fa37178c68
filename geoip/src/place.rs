//! The place of an address, merged from all databases.

use std::sync::LazyLock;

use policy::country::{Country, CountrySet, group};
use policy::globe::Coordinates;

use crate::Continent;
use crate::schema::Record;

/// Where an address is, and what network it belongs to. The default is an unknown place.
///
/// Strings borrow from the database, so that a look-up allocates nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place<'db> {
    /// The country, according to the first database that names one.
    pub country: Option<Country>,
    /// Every country that some database names.
    named: CountrySet,
    /// Countries that are possible beside those.
    possible: CountrySet,
    /// Whether a database contradicts itself so that no country can be excluded.
    anywhere: bool,
    /// The continents, by their place in [`Continent::ALL`], of records that name no country.
    continents: [bool; Continent::ALL.len()],
    /// The first-level subdivision: its ISO 3166-2 code without the country (`BY`) where the
    /// database has one, else its English name. From a database that names `country`.
    pub region: Option<&'db str>,
    /// The city in English. From the same database as `region`.
    pub city: Option<&'db str>,
    /// Where that is, to a tenth of a degree, by the first database that agrees on `country` and says so. It has no say in which
    /// countries are possible.
    pub coordinates: Option<Coordinates>,
    /// The number of the autonomous system that announces the network.
    pub asn: Option<u32>,
    /// The organization behind `asn`, from the same database.
    pub organization: Option<&'db str>,
    /// Whether some database lists the address as anonymous: a VPN, an open proxy, Tor, a hosting
    /// provider. `country` is then that of the exit, not that of the user.
    pub anonymous: bool,
}

impl<'db> Place<'db> {
    /// Returns every country in which the address may be: more than one when databases disagree, none when the
    /// country is unknown.
    ///
    /// Only a `country` places an address: registrations, continents, bases and flags alone do not. Beside a `country`
    /// more are possible: a base's own country; the whole Union, where a country outside the Union is flagged as inside;
    /// a continent, where a database knows no more and another names a country elsewhere. A member of the Union that is
    /// flagged as outside may be anywhere.
    pub fn countries(&self) -> CountrySet {
        if self.anywhere || self.named.is_empty() {
            return CountrySet::default();
        }
        let mut countries = self.named;
        countries.extend(&self.possible);
        for (continent, _) in Continent::ALL.into_iter().zip(self.continents).filter(|(_, is_named)| *is_named) {
            let around = continent.countries();
            if !self.named.is_subset(&around) {
                countries.extend(&around);
            }
        }
        countries
    }

    /// Merges the record of one more database; the databases come in their order of preference.
    pub(crate) fn learn(&mut self, record: &Record<'db>) {
        if let Some(country) = record.country {
            self.named.insert(country);
            let agreed = *self.country.get_or_insert(country) == country;
            if agreed && self.coordinates.is_none() {
                self.coordinates = record.coordinates;
            }
            if agreed && self.region.is_none() && self.city.is_none() {
                self.region = record.region;
                self.city = record.city;
            }
        }
        self.possible.extend(&record.represented.into_iter().collect());
        match record.flag() {
            Some(Flag::Inside) => self.possible.extend(&UNION),
            Some(Flag::Outside) => self.anywhere = true,
            None => {}
        }
        if let (None, Some(continent)) = (record.country, record.continent) {
            let named = Continent::ALL.into_iter().zip(&mut self.continents);
            named.filter(|(known, _)| *known == continent).for_each(|(_, is_named)| *is_named = true);
        }
        if self.asn.is_none() && record.asn.is_some() {
            self.asn = record.asn;
            self.organization = record.organization;
        }
        self.anonymous |= record.anonymous;
    }
}

/// How a record's flag of the European Union contradicts its country, or stands without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// The flag says that the address is in the Union, and the country does not, or there is none.
    Inside,
    /// The flag says that the address is outside the Union, and the country is a member.
    Outside,
}

impl Record<'_> {
    /// Returns how the flag of the European Union contradicts the country; `None` where they agree, or there is no
    /// flag.
    pub fn flag(&self) -> Option<Flag> {
        let member = self.country.map(|country| UNION.contains(country));
        match (self.in_union, member) {
            (Some(true), Some(false) | None) => Some(Flag::Inside),
            (Some(false), Some(true)) => Some(Flag::Outside),
            _ => None,
        }
    }
}

/// The territory of the European Union.
static UNION: LazyLock<CountrySet> = LazyLock::new(|| group("@EU").unwrap_or_default());

#[cfg(test)]
mod tests {
    use super::*;

    fn merged<'db>(records: &[Record<'db>]) -> Place<'db> {
        let mut place = Place::default();
        records.iter().for_each(|record| place.learn(record));
        place
    }

    fn located<'db>(country: &str, region: Option<&'db str>, city: Option<&'db str>) -> Record<'db> {
        Record { country: country.parse().ok(), region, city, ..Record::default() }
    }

    fn codes(place: &Place<'_>) -> Vec<String> {
        place.countries().iter().map(|country| country.to_string()).collect()
    }

    #[test]
    fn the_first_country_wins_and_all_are_kept() {
        let place = merged(&[Record::default(), located("FR", None, None), located("DE", None, None)]);
        assert_eq!(place.country.map(|country| country.to_string()), Some("FR".into()));
        assert_eq!(codes(&place), ["DE", "FR"]);
    }

    #[test]
    fn agreement_is_one_country() {
        let place = merged(&[located("FR", None, None), located("FR", None, None)]);
        assert_eq!(codes(&place), ["FR"]);
    }

    fn nowhere<'db>() -> Record<'db> {
        Record::default()
    }

    #[test]
    fn only_a_country_places() {
        let code = |code: &str| code.parse().ok();
        for record in [
            Record { registered: code("US"), ..nowhere() },
            Record { registered: code("US"), continent: Some(Continent::Europe), ..nowhere() },
            Record { represented: code("US"), ..nowhere() },
            Record { continent: Some(Continent::Europe), ..nowhere() },
            Record { in_union: Some(true), ..nowhere() },
            Record { in_union: Some(false), ..nowhere() },
        ] {
            assert_eq!(codes(&merged(&[record])), [""; 0], "{record:?}");
        }
    }

    #[test]
    fn what_does_not_place_makes_more_possible_beside_what_does() {
        let code = |code: &str| code.parse().ok();
        let union = || codes(&merged(&[Record { in_union: Some(true), ..located("US", None, None) }]));
        assert_eq!(union().len(), 35);
        for (records, expected) in [
            // A base abroad is one more country, whichever database names it.
            (vec![Record { represented: code("US"), ..located("DE", None, None) }], "DE US"),
            (vec![Record { represented: code("US"), ..nowhere() }, located("DE", None, None)], "DE US"),
            // A registration does not count.
            (vec![Record { registered: code("US"), ..located("DE", None, None) }], "DE"),
            (vec![Record { registered: code("US"), ..nowhere() }, located("DE", None, None)], "DE"),
            // A flag that agrees, or says no more than the country.
            (vec![Record { in_union: Some(true), ..located("DE", None, None) }], "DE"),
            (vec![Record { in_union: Some(true), ..located("RE", None, None) }], "RE"),
            (vec![Record { in_union: Some(false), ..located("US", None, None) }], "US"),
            (vec![Record { in_union: Some(false), ..nowhere() }, located("DE", None, None)], "DE"),
            // A member that is flagged as outside may be anywhere, whatever others say.
            (vec![Record { in_union: Some(false), ..located("DE", None, None) }], ""),
            (vec![located("FR", None, None), Record { in_union: Some(false), ..located("DE", None, None) }], ""),
            // A continent that agrees says no more; a record's own country goes before its continent.
            (vec![Record { continent: Some(Continent::Europe), ..nowhere() }, located("DE", None, None)], "DE"),
            (vec![Record { continent: Some(Continent::Asia), ..nowhere() }, located("CY", None, None)], "CY"),
            (vec![Record { continent: Some(Continent::Asia), ..located("DE", None, None) }], "DE"),
        ] {
            let mut reversed = records.clone();
            reversed.reverse();
            for records in [records, reversed] {
                assert_eq!(codes(&merged(&records)).join(" "), expected, "{records:?}");
            }
        }
        // In Europe, one says; in the United States, the other.
        let europe = Record { continent: Some(Continent::Europe), ..nowhere() };
        let told = codes(&merged(&[europe, located("US", None, None)]));
        assert!(told.len() == Continent::Europe.countries().len() + 1 && told.contains(&"FR".to_owned()), "{told:?}");
        // Inside the Union, one says without a country; in the United States, the other.
        let flagged = Record { in_union: Some(true), ..nowhere() };
        assert_eq!(codes(&merged(&[flagged, located("US", None, None)])), union());
    }

    #[test]
    fn details_come_from_one_database_that_agrees_on_the_country() {
        let coarse = located("DE", None, None);
        let elsewhere = located("FR", Some("IDF"), Some("Paris"));
        let fine = located("DE", Some("BE"), None);
        let finer = located("DE", Some("BY"), Some("Munich"));
        let place = merged(&[coarse, elsewhere, fine, finer]);
        assert_eq!((place.region, place.city), (Some("BE"), None));
    }

    #[test]
    fn details_without_a_country_are_not_believed() {
        let homeless = Record { city: Some("Paris"), ..Record::default() };
        assert_eq!(merged(&[homeless, located("DE", None, None)]).city, None);
    }

    #[test]
    fn the_network_comes_from_any_database() {
        let network = Record { asn: Some(64500), organization: Some("Example"), ..Record::default() };
        let later = Record { asn: Some(64501), organization: Some("Other"), ..Record::default() };
        let hiding = Record { anonymous: true, ..Record::default() };
        let place = merged(&[located("DE", None, None), network, later, hiding]);
        assert_eq!((place.asn, place.organization, place.anonymous), (Some(64500), Some("Example"), true));
        assert_eq!(codes(&place), ["DE"]);
    }
}
