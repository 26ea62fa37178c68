//! What all databases together say of an address.

use policy::country::{Country, CountrySet};

use crate::schema::Record;

/// Where an address is, and what network it belongs to. The default is an unknown place.
///
/// Strings borrow from the database, so that a look-up allocates nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place<'db> {
    /// The country, according to the first database that names one.
    pub country: Option<Country>,
    /// Every country that some database names: empty when the country is unknown, more than one
    /// when they disagree.
    pub countries: CountrySet,
    /// The first-level subdivision: its ISO 3166-2 code without the country (`BY`) where the
    /// database has one, else its English name. From a database that names `country`.
    pub region: Option<&'db str>,
    /// The city in English. From the same database as `region`.
    pub city: Option<&'db str>,
    /// The number of the autonomous system that announces the network.
    pub asn: Option<u32>,
    /// The organization behind `asn`, from the same database.
    pub organization: Option<&'db str>,
    /// Whether some database says that the user hides behind the address: a VPN, an open proxy,
    /// Tor, a hosting provider. `country` is then that of the exit, not that of the user.
    pub anonymous: bool,
}

impl<'db> Place<'db> {
    /// Adds what one more database says; the databases come in their order of preference.
    pub(crate) fn learn(&mut self, record: &Record<'db>) {
        if let Some(country) = record.country {
            self.countries.insert(country);
            let agreed = *self.country.get_or_insert(country) == country;
            if agreed && self.region.is_none() && self.city.is_none() {
                self.region = record.region;
                self.city = record.city;
            }
        }
        if self.asn.is_none() && record.asn.is_some() {
            self.asn = record.asn;
            self.organization = record.organization;
        }
        self.anonymous |= record.anonymous;
    }
}

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
        place.countries.iter().map(|country| country.to_string()).collect()
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
