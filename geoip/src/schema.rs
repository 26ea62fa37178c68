//! What one record of an mmdb says, in whichever schema it is written.
//!
//! Told per record and per field, tolerant of mixtures:
//! - MaxMind and DB-IP: `country.iso_code`, `registered_country.iso_code`, `subdivisions[0]`,
//!   `city.names.en`, and `traits` with the fields of the next two;
//! - MaxMind ASN: `autonomous_system_number`, `autonomous_system_organization`;
//! - MaxMind Anonymous IP: `is_anonymous`, `is_anonymous_vpn`, `is_tor_exit_node` and the like;
//! - IPinfo and other flat ones: `country` (a code, or a name beside `country_code`), `region`,
//!   `city`, `asn` (`AS64500`), `as_name`, and `vpn`, `proxy`, `tor`, `relay`, `hosting`.

use std::fmt;

use policy::country::Country;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::value::{Reading, Value};

/// What one record says of its network; every field as [`crate::Place`] explains it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Record<'db> {
    pub(crate) country: Option<Country>,
    pub(crate) region: Option<&'db str>,
    pub(crate) city: Option<&'db str>,
    pub(crate) asn: Option<u32>,
    pub(crate) organization: Option<&'db str>,
    pub(crate) anonymous: bool,
}

impl Record<'_> {
    /// Whether the record says anything on which a request's treatment may depend.
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
    country: Value<'de>,
    country_code: Value<'de>,
    registered_country: Value<'de>,
    subdivision: Value<'de>,
    region: Value<'de>,
    city: Value<'de>,
    asn: Value<'de>,
    organization: Value<'de>,
    anonymous: bool,
}

impl<'de> Fields<'de> {
    fn record(&self) -> Record<'de> {
        Record {
            country: self.country(),
            region: self.subdivision.text().or(self.region.text()),
            city: self.city.text(),
            asn: self.asn.number(),
            organization: self.organization.text(),
            anonymous: self.anonymous,
        }
    }

    /// The country where the address is used, or where it is registered if the record has no
    /// such field. `EU`, `AP`, `A1` and other codes that are no country are none.
    fn country(&self) -> Option<Country> {
        let located = [&self.country_code, &self.country];
        if located.iter().all(|value| matches!(value, Value::Absent)) {
            return self.registered_country.text()?.parse().ok();
        }
        located.iter().find_map(|value| value.text()?.parse().ok())
    }
}

/// The names of fields that are read, at the top of a record and in its `traits`.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Country,
    CountryCode,
    RegisteredCountry,
    Subdivisions,
    Region,
    City,
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

/// Collects the fields of a record, or of its `traits`. The reader's verification has refused
/// data nested deeper than 128, which bounds the recursion.
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
                Field::Country => fields.country = map.next_value_seed(Reading::Code)?,
                Field::CountryCode => fields.country_code = map.next_value_seed(Reading::Scalar)?,
                Field::RegisteredCountry => fields.registered_country = map.next_value_seed(Reading::Code)?,
                Field::Subdivisions => fields.subdivision = map.next_value_seed(Reading::CodeOrName)?,
                Field::Region => fields.region = map.next_value_seed(Reading::Scalar)?,
                Field::City => fields.city = map.next_value_seed(Reading::Name)?,
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

impl<'de> DeserializeSeed<'de> for FieldsVisitor<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}
