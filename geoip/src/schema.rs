//! Reads one record of an mmdb file, whatever its schema.
//!
//! The schema is recognized per record and per field, mixtures included:
//! - MaxMind and DB-IP: `country.iso_code` and `country.is_in_european_union`, `represented_country.iso_code`,
//!   `registered_country.iso_code` and `continent.code` (which never place), `subdivisions[0]`, `city.names.en`, and
//!   `traits` with the fields of the next two;
//! - MaxMind ASN: `autonomous_system_number`, `autonomous_system_organization`;
//! - MaxMind Anonymous IP: `is_anonymous`, `is_anonymous_vpn`, `is_tor_exit_node` and the like;
//! - `@ip-location-db`: `country_code`;
//! - where it is, for distances only: `location.latitude`, `location.longitude` and `location.accuracy_radius` of MaxMind and
//!   DB-IP; `latitude` and `longitude`, `lat` and `lng` or `lon`, or `loc` (`"52.5,13.4"`) of flat ones, as numbers or text;
//! - IPinfo and other flat ones: `country` (a code, or a name beside `country_code`), `region`,
//!   `city`, `asn` (`AS64500`), `as_name`, and `vpn`, `proxy`, `tor`, `relay`, `hosting`.

use std::fmt;

use policy::country::Country;
use policy::globe::Coordinates;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::Continent;
use crate::value::{CountryValue, Location, Reading, Value};

/// One record of a network. Text borrows from the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record<'db> {
    /// The country where the address is used. `EU`, `AP`, `ZZ` and other codes that are no country are none.
    pub country: Option<Country>,
    /// The field that names the country.
    pub country_field: &'static str,
    /// Whether the record says that the country is in the European Union. MaxMind writes the flag only where it is
    /// true.
    pub in_union: Option<bool>,
    /// The country whose base or embassy this is, abroad.
    pub represented: Option<Country>,
    /// The country where the address is registered: not its place, and shown in explanations only.
    pub registered: Option<Country>,
    /// The continent: does not place the address, but may contradict another database's country.
    pub continent: Option<Continent>,
    /// As [`crate::Place`] has it.
    pub region: Option<&'db str>,
    /// As [`crate::Place`] has it.
    pub city: Option<&'db str>,
    /// As [`crate::Place`] has it.
    pub coordinates: Option<Coordinates>,
    /// As [`crate::Place`] has it.
    pub asn: Option<u32>,
    /// As [`crate::Place`] has it.
    pub organization: Option<&'db str>,
    /// As [`crate::Place`] has it.
    pub anonymous: bool,
}

impl Record<'_> {
    /// Returns whether the record says anything on which a request's treatment may depend.
    pub(crate) fn is_relevant(&self) -> bool {
        self.country.is_some() || self.asn.is_some() || self.anonymous
    }
}

impl<'de: 'db, 'db> Deserialize<'de> for Record<'db> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Fields::default();
        FieldsVisitor(&mut fields).deserialize(deserializer)?;
        Ok(fields.record())
    }
}

/// The fields as found, before it is known which of them count.
#[derive(Default)]
struct Fields<'de> {
    country: CountryValue<'de>,
    country_code: Value<'de>,
    in_union: Value<'de>,
    represented_country: Value<'de>,
    registered_country: Value<'de>,
    continent: Value<'de>,
    continent_code: Value<'de>,
    subdivision: Value<'de>,
    region: Value<'de>,
    city: Value<'de>,
    latitude: Value<'de>,
    longitude: Value<'de>,
    accuracy_radius: Value<'de>,
    both: Value<'de>,
    asn: Value<'de>,
    organization: Value<'de>,
    anonymous: bool,
}

impl<'de> Fields<'de> {
    fn record(&self) -> Record<'de> {
        let country = |value: &Value<'de>| value.text()?.parse().ok();
        let continent = |value: &Value<'de>| value.text()?.parse().ok();
        let (placed, country_field) = match (country(&self.country_code), country(&self.country.code)) {
            (Some(code), _) => (Some(code), "country_code"),
            (None, Some(code)) => (Some(code), if self.country.nested { "country.iso_code" } else { "country" }),
            (None, None) => (None, ""),
        };
        Record {
            country: placed,
            country_field,
            in_union: self.country.in_union.flag().or(self.in_union.flag()),
            represented: country(&self.represented_country),
            registered: country(&self.registered_country),
            continent: continent(&self.continent_code).or(continent(&self.continent)),
            region: self.subdivision.text().or(self.region.text()),
            city: self.city.text(),
            coordinates: self.coordinates(),
            asn: self.asn.number(),
            organization: self.organization.text(),
            anonymous: self.anonymous,
        }
    }
}

/// A place that is known no better, in kilometres, is none: publishers then give the middle of a country or a continent.
const MOST_RADIUS_KM: f64 = 500.0;

impl Fields<'_> {
    /// Returns where the record says that it is. The origin of the coordinates, in the Gulf of Guinea, is how flat schemas
    /// write an unknown place.
    fn coordinates(&self) -> Option<Coordinates> {
        if self.accuracy_radius.real().is_some_and(|km| km > MOST_RADIUS_KM) {
            return None;
        }
        let (latitude, longitude) = match (self.latitude.real(), self.longitude.real(), self.both.text()) {
            (Some(latitude), Some(longitude), _) => (latitude, longitude),
            (_, _, Some(both)) => {
                let (latitude, longitude) = both.split_once(',')?;
                (latitude.trim().parse().ok()?, longitude.trim().parse().ok()?)
            }
            _ => return None,
        };
        Coordinates::new(latitude, longitude).filter(|_| (latitude, longitude) != (0.0, 0.0))
    }
}

/// The names of fields that are read, at the top of a record and in its `traits`.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Country,
    CountryCode,
    IsInEuropeanUnion,
    RepresentedCountry,
    RegisteredCountry,
    Continent,
    ContinentCode,
    Subdivisions,
    Region,
    City,
    Location,
    #[serde(alias = "lat")]
    Latitude,
    #[serde(alias = "lng", alias = "lon")]
    Longitude,
    AccuracyRadius,
    Loc,
    Traits,
    #[serde(alias = "asn")]
    AutonomousSystemNumber,
    #[serde(alias = "as_name")]
    AutonomousSystemOrganization,
    #[serde(
        alias = "is_anonymous_proxy",
        alias = "is_anonymous_vpn",
        alias = "is_hosting_provider",
        alias = "is_public_proxy",
        alias = "is_residential_proxy",
        alias = "is_tor_exit_node",
        alias = "vpn",
        alias = "proxy",
        alias = "tor",
        alias = "relay",
        alias = "hosting"
    )]
    IsAnonymous,
    #[serde(other)]
    Other,
}

/// Collects the fields of a record, or of its `traits`. The verification has refused data nested
/// deeper than 64, which bounds the recursion.
struct FieldsVisitor<'a, 'de>(&'a mut Fields<'de>);

impl<'de> Visitor<'de> for FieldsVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(fields) = self;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Country => fields.country = map.next_value()?,
                Field::CountryCode => fields.country_code = map.next_value_seed(Reading::Scalar)?,
                Field::IsInEuropeanUnion => fields.in_union = map.next_value_seed(Reading::Scalar)?,
                Field::RepresentedCountry => fields.represented_country = map.next_value_seed(Reading::Code)?,
                Field::RegisteredCountry => fields.registered_country = map.next_value_seed(Reading::Code)?,
                Field::Continent => fields.continent = map.next_value_seed(Reading::Code)?,
                Field::ContinentCode => fields.continent_code = map.next_value_seed(Reading::Scalar)?,
                Field::Subdivisions => fields.subdivision = map.next_value_seed(Reading::CodeOrName)?,
                Field::Region => fields.region = map.next_value_seed(Reading::Scalar)?,
                Field::City => fields.city = map.next_value_seed(Reading::Name)?,
                Field::Location => map.next_value_seed(LocationVisitor(fields))?,
                Field::Latitude => fields.latitude = map.next_value_seed(Reading::Scalar)?,
                Field::Longitude => fields.longitude = map.next_value_seed(Reading::Scalar)?,
                Field::AccuracyRadius => fields.accuracy_radius = map.next_value_seed(Reading::Scalar)?,
                Field::Loc => fields.both = map.next_value_seed(Reading::Scalar)?,
                Field::Traits => map.next_value_seed(FieldsVisitor(fields))?,
                Field::AutonomousSystemNumber => fields.asn = map.next_value_seed(Reading::Scalar)?,
                Field::AutonomousSystemOrganization => fields.organization = map.next_value_seed(Reading::Scalar)?,
                Field::IsAnonymous => fields.anonymous |= map.next_value_seed(Reading::Scalar)?.is_true(),
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Collects the fields of a record's `location`: a map, or in some flat schemas a text, which says nothing here.
struct LocationVisitor<'a, 'de>(&'a mut Fields<'de>);

impl<'de> DeserializeSeed<'de> for LocationVisitor<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self(fields) = self;
        let Location { latitude, longitude, accuracy_radius } = Location::deserialize(deserializer)?;
        if !matches!(latitude, Value::Absent) {
            (fields.latitude, fields.longitude, fields.accuracy_radius) = (latitude, longitude, accuracy_radius);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for FieldsVisitor<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}
