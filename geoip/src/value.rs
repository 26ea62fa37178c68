//! One field of a record, whatever type a publisher gave it.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field's value; text borrows from the database.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Value<'de> {
    /// The record has no such field.
    #[default]
    Absent,
    Text(&'de str),
    Number(u64),
    Flag(bool),
    /// A number that is negative, broken or too large for the others.
    Real(f64),
    /// The field is there, but holds nothing that was asked for.
    Other,
}

impl<'de> Value<'de> {
    /// Returns the text, unless it is empty, as flat schemas write an unknown value.
    pub(crate) fn text(&self) -> Option<&'de str> {
        match self {
            Value::Text(text) => Some(*text).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// Returns a positive number, also from text such as `AS64500`.
    pub(crate) fn number(&self) -> Option<u32> {
        let number = match self {
            Value::Number(number) => u32::try_from(*number).ok(),
            Value::Text(text) => text.strip_prefix("AS").unwrap_or(text).parse().ok(),
            _ => None,
        };
        number.filter(|number| *number != 0)
    }

    /// Returns a number, of either sign and with a fraction, also from text such as `-33.9`.
    pub(crate) fn real(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number as f64),
            Value::Real(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Absent | Value::Flag(_) | Value::Other => None,
        }
    }

    /// Returns the value of a flag, as [`Value::is_true`]; `None` for what is no flag.
    pub(crate) fn flag(&self) -> Option<bool> {
        match self {
            Value::Flag(_) | Value::Number(_) | Value::Real(_) => Some(self.is_true()),
            Value::Text(text) if text.eq_ignore_ascii_case("false") || *text == "0" => Some(false),
            Value::Text(_) => self.is_true().then_some(true),
            Value::Absent | Value::Other => None,
        }
    }

    /// Returns whether a flag is set: `true`, any number but zero (some writers make doubles of all flags), or the
    /// text `true` or `1`.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Value::Flag(flag) => *flag,
            Value::Number(number) => *number != 0,
            Value::Real(number) => *number != 0.0,
            Value::Text(text) => text.eq_ignore_ascii_case("true") || *text == "1",
            Value::Absent | Value::Other => false,
        }
    }
}

/// The value of a `country` field: a map with a code and a flag, or a code alone.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CountryValue<'de> {
    pub(crate) code: Value<'de>,
    pub(crate) in_union: Value<'de>,
    /// Whether the field is a map.
    pub(crate) nested: bool,
}

impl<'de> Deserialize<'de> for CountryValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountryVisitor)
    }
}

struct CountryVisitor;

impl CountryVisitor {
    fn scalar<E>(code: Result<Value<'_>, E>) -> Result<CountryValue<'_>, E> {
        Ok(CountryValue { code: code?, ..CountryValue::default() })
    }
}

impl<'de> Visitor<'de> for CountryVisitor {
    type Value = CountryValue<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a country")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<CountryValue<'de>, E> {
        Self::scalar(Reading::Code.visit_borrowed_str(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<CountryValue<'de>, E> {
        Self::scalar(Ok(Value::Other))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<CountryValue<'de>, E> {
        Self::scalar(Ok(Value::Other))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<CountryValue<'de>, E> {
        Self::scalar(Ok(Value::Other))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<CountryValue<'de>, E> {
        Self::scalar(Ok(Value::Other))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<CountryValue<'de>, E> {
        Self::scalar(Ok(Value::Other))
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<CountryValue<'de>, E> {
        Self::scalar(Ok(Value::Other))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<CountryValue<'de>, A::Error> {
        let first = elements.next_element()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        first.map_or_else(|| Self::scalar(Ok(Value::Other)), Ok)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CountryValue<'de>, A::Error> {
        let mut country = CountryValue { code: Value::Other, in_union: Value::Absent, nested: true };
        while let Some(key) = map.next_key()? {
            match key {
                Key::IsoCode => country.code = map.next_value_seed(Reading::Scalar)?,
                Key::IsInEuropeanUnion => country.in_union = map.next_value_seed(Reading::Scalar)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(country)
    }
}

/// The value of a `location` field.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Location<'de> {
    pub(crate) latitude: Value<'de>,
    pub(crate) longitude: Value<'de>,
    /// In kilometres.
    pub(crate) accuracy_radius: Value<'de>,
}

impl<'de> Deserialize<'de> for Location<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LocationVisitor)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum LocationKey {
    Latitude,
    Longitude,
    AccuracyRadius,
    #[serde(other)]
    Other,
}

struct LocationVisitor;

impl<'de> Visitor<'de> for LocationVisitor {
    type Value = Location<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a location")
    }

    fn visit_borrowed_str<E: Error>(self, _: &'de str) -> Result<Location<'de>, E> {
        Ok(Location::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Location<'de>, E> {
        Ok(Location::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Location<'de>, E> {
        Ok(Location::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Location<'de>, E> {
        Ok(Location::default())
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Location<'de>, E> {
        Ok(Location::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Location<'de>, E> {
        Ok(Location::default())
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Location<'de>, E> {
        Ok(Location::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Location<'de>, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Location::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Location<'de>, A::Error> {
        let mut location = Location::default();
        while let Some(key) = map.next_key()? {
            match key {
                LocationKey::Latitude => location.latitude = map.next_value_seed(Reading::Scalar)?,
                LocationKey::Longitude => location.longitude = map.next_value_seed(Reading::Scalar)?,
                LocationKey::AccuracyRadius => location.accuracy_radius = map.next_value_seed(Reading::Scalar)?,
                LocationKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(location)
    }
}

/// How to read a [`Value`]: text, numbers and flags as they are, an array as its first element,
/// and a map as the one text in it that matters.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reading {
    /// Of a map, nothing.
    Scalar,
    /// Of a map, `iso_code`, or `code`.
    Code,
    /// Of a map, `names.en`.
    Name,
    /// Of a map, `iso_code`, or else `names.en`.
    CodeOrName,
    /// Of a map, `en`.
    English,
}

impl<'de> DeserializeSeed<'de> for Reading {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    #[serde(alias = "code")]
    IsoCode,
    IsInEuropeanUnion,
    Names,
    En,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for Reading {
    type Value = Value<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value<'de>, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(u64::try_from(number).map_or(Value::Real(number as f64), Value::Number))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Value<'de>, E> {
        Ok(Value::Real(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Real(number))
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value<'de>, A::Error> {
        let first = elements.next_element_seed(self)?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first.unwrap_or(Value::Other))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        let (mut code, mut name) = (Value::Other, Value::Other);
        while let Some(key) = map.next_key()? {
            match (key, self) {
                (Key::IsoCode, Self::Code | Self::CodeOrName) => code = map.next_value_seed(Self::Scalar)?,
                (Key::Names, Self::Name | Self::CodeOrName) => name = map.next_value_seed(Self::English)?,
                (Key::En, Self::English) => name = map.next_value_seed(Self::Scalar)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(if code.text().is_some() { code } else { name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reading: Reading, json: &'static str) -> Value<'static> {
        reading.deserialize(&mut serde_json::Deserializer::from_str(json)).unwrap()
    }

    #[test]
    fn readings() {
        const NESTED: &str = r#"{"geoname_id": 1, "iso_code": "BY", "names": {"de": "Bayern", "en": "Bavaria"}}"#;
        for (reading, json, expected) in [
            (Reading::Scalar, r#""DE""#, Value::Text("DE")),
            (Reading::Scalar, "7", Value::Number(7)),
            (Reading::Scalar, "-7", Value::Real(-7.0)),
            (Reading::Scalar, "7.5", Value::Real(7.5)),
            (Reading::Scalar, "true", Value::Flag(true)),
            (Reading::Scalar, "[]", Value::Other),
            (Reading::Scalar, r#"["a", {"b": [1]}]"#, Value::Text("a")),
            (Reading::Scalar, NESTED, Value::Other),
            (Reading::Code, NESTED, Value::Text("BY")),
            (Reading::Code, r#""DE""#, Value::Text("DE")),
            (Reading::Code, "{}", Value::Other),
            (Reading::Code, r#"{"names": {"en": "Bavaria"}}"#, Value::Other),
            (Reading::Name, NESTED, Value::Text("Bavaria")),
            (Reading::Name, r#"{"names": {"de": "Bayern"}}"#, Value::Other),
            (Reading::Name, r#"{"names": "Bavaria"}"#, Value::Text("Bavaria")),
            (Reading::CodeOrName, NESTED, Value::Text("BY")),
            (Reading::CodeOrName, r#"[{"names": {"en": "Bavaria"}}, {"iso_code": "X"}]"#, Value::Text("Bavaria")),
            (Reading::CodeOrName, r#"{"iso_code": {"en": 1}, "names": [[]]}"#, Value::Other),
        ] {
            assert_eq!(read(reading, json), expected, "{reading:?} {json}");
        }
    }

    /// A country of a type that no schema has is some other value, and what is around it is read on.
    #[test]
    fn a_country_of_any_type() {
        use serde::de::value::{BytesDeserializer, Error, U128Deserializer};

        let other = CountryValue { code: Value::Other, ..CountryValue::default() };
        for json in ["true", "7", "-7", "7.5", "[]"] {
            assert_eq!(serde_json::from_str::<CountryValue<'_>>(json).unwrap(), other, "{json}");
        }
        let wide = CountryValue::deserialize(U128Deserializer::<Error>::new(1 << 100));
        assert_eq!(wide.unwrap(), other);
        let bytes = CountryValue::deserialize(BytesDeserializer::<Error>::new(b"DE"));
        assert_eq!(bytes.unwrap(), other);
        assert_eq!(Reading::Scalar.deserialize(BytesDeserializer::<Error>::new(b"DE")).unwrap(), Value::Other);
        assert_eq!(Reading::Scalar.deserialize(U128Deserializer::<Error>::new(1 << 70)).unwrap().text(), None);
        let said = serde_json::from_str::<CountryValue<'_>>("null").unwrap_err().to_string();
        assert!(said.contains("expected a country"), "{said}");
        let said =
            Reading::Scalar.deserialize(&mut serde_json::Deserializer::from_str("null")).unwrap_err().to_string();
        assert!(said.contains("expected any value"), "{said}");
    }

    #[test]
    fn texts_numbers_and_flags() {
        let facts = [
            (Value::Absent, None, None, false),
            (Value::Other, None, None, false),
            (Value::Text(""), None, None, false),
            (Value::Text("AS64500"), Some("AS64500"), Some(64500), false),
            (Value::Text("64500"), Some("64500"), Some(64500), false),
            (Value::Text("ASN"), Some("ASN"), None, false),
            (Value::Text("True"), Some("True"), None, true),
            (Value::Text("1"), Some("1"), Some(1), true),
            (Value::Number(64500), None, Some(64500), true),
            (Value::Number(0), None, None, false),
            (Value::Number(1 << 32), None, None, true),
            (Value::Flag(true), None, None, true),
            (Value::Flag(false), None, None, false),
            (Value::Real(1.0), None, None, true),
            (Value::Real(-1.0), None, None, true),
            (Value::Real(0.0), None, None, false),
        ];
        for (value, text, number, flag) in facts {
            assert_eq!((value.text(), value.number(), value.is_true()), (text, number, flag), "{value:?}");
        }
    }
}
