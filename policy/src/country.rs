//! Countries: ISO 3166-1 alpha-2 codes, sets of them, and the built-in groups.

mod group;

use std::fmt;
use std::str::FromStr;

use rust_iso3166::from_alpha2;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

pub use group::{GROUPS, Group, group};

/// One country, as an ISO 3166-1 alpha-2 code that is on the official list.
///
/// Two bytes, `Copy`, and usable as an index below [`Country::SLOTS`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

/// A text that is no assigned ISO 3166-1 alpha-2 code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an ISO 3166-1 alpha-2 country code")]
pub struct UnknownCountry(pub String);

impl Country {
    /// The number of distinct values of [`Country::slot`].
    pub const SLOTS: usize = 26 * 26;

    /// Returns a dense index for tables over countries, `0..SLOTS`.
    pub fn slot(self) -> usize {
        usize::from(self.0[0] - b'A') * 26 + usize::from(self.0[1] - b'A')
    }

    /// Returns the country of a slot, when its two letters are an assigned code.
    fn from_slot(slot: usize) -> Option<Self> {
        let letter = |n: usize| u8::try_from(n).ok().map(|n| b'A' + n);
        let pair = [letter(slot / 26)?, letter(slot % 26)?];
        ISO_3166.contains(&pair).then_some(Self(pair))
    }

    /// Returns the code, two upper-case letters.
    pub fn code(&self) -> &str {
        // Two ASCII letters by construction.
        std::str::from_utf8(&self.0).unwrap_or("")
    }

    /// Returns the English short name of ISO 3166-1.
    pub fn name(self) -> &'static str {
        // The one code here that is not ISO's own.
        if &self.0 == b"XK" { "Kosovo" } else { from_alpha2(self.code()).map_or("", |country| country.name) }
    }

    /// Returns every assigned country, in alphabetical order.
    pub fn all() -> impl Iterator<Item = Country> {
        ISO_3166.iter().map(|pair| Country(*pair))
    }
}

impl FromStr for Country {
    type Err = UnknownCountry;

    /// Accepts either case, and `UK` for `GB` (reserved for it, and in common use).
    fn from_str(text: &str) -> Result<Self, UnknownCountry> {
        let unknown = || UnknownCountry(text.chars().take(16).collect());
        let pair: [u8; 2] = text.as_bytes().try_into().map_err(|_| unknown())?;
        let mut pair = pair.map(|b| b.to_ascii_uppercase());
        if &pair == b"UK" {
            pair = *b"GB";
        }
        ISO_3166.binary_search(&pair).map(|_| Self(pair)).map_err(|_| unknown())
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A set of countries: 676 bits, no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CountrySet([u64; Country::SLOTS.div_ceil(64)]);

impl CountrySet {
    /// Adds a country.
    pub fn insert(&mut self, country: Country) {
        let slot = country.slot();
        self.0[slot / 64] |= 1 << (slot % 64);
    }

    /// Returns whether the country is in the set.
    pub fn contains(&self, country: Country) -> bool {
        let slot = country.slot();
        self.0[slot / 64] & (1 << (slot % 64)) != 0
    }

    /// Returns whether no country is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Returns whether every country of this set is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(word, more)| word & !more == 0)
    }

    /// Returns how many countries are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Adds all countries of another set.
    pub fn extend(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    /// Returns the members in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = Country> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    index * 64 + bit
                })
            })
            .filter_map(Country::from_slot)
        })
    }
}

impl FromIterator<Country> for CountrySet {
    fn from_iter<I: IntoIterator<Item = Country>>(countries: I) -> Self {
        let mut set = Self::default();
        countries.into_iter().for_each(|country| set.insert(country));
        set
    }
}

impl fmt::Debug for CountrySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The 249 assigned ISO 3166-1 alpha-2 codes (as of 2026-01), and XK, the user-assigned code that
/// geo databases use for Kosovo. Sorted.
#[rustfmt::skip]
const ISO_3166: &[[u8; 2]] = &[
    *b"AD", *b"AE", *b"AF", *b"AG", *b"AI", *b"AL", *b"AM", *b"AO", *b"AQ", *b"AR", *b"AS", *b"AT", *b"AU", *b"AW",
    *b"AX", *b"AZ", *b"BA", *b"BB", *b"BD", *b"BE", *b"BF", *b"BG", *b"BH", *b"BI", *b"BJ", *b"BL", *b"BM", *b"BN",
    *b"BO", *b"BQ", *b"BR", *b"BS", *b"BT", *b"BV", *b"BW", *b"BY", *b"BZ", *b"CA", *b"CC", *b"CD", *b"CF", *b"CG",
    *b"CH", *b"CI", *b"CK", *b"CL", *b"CM", *b"CN", *b"CO", *b"CR", *b"CU", *b"CV", *b"CW", *b"CX", *b"CY", *b"CZ",
    *b"DE", *b"DJ", *b"DK", *b"DM", *b"DO", *b"DZ", *b"EC", *b"EE", *b"EG", *b"EH", *b"ER", *b"ES", *b"ET", *b"FI",
    *b"FJ", *b"FK", *b"FM", *b"FO", *b"FR", *b"GA", *b"GB", *b"GD", *b"GE", *b"GF", *b"GG", *b"GH", *b"GI", *b"GL",
    *b"GM", *b"GN", *b"GP", *b"GQ", *b"GR", *b"GS", *b"GT", *b"GU", *b"GW", *b"GY", *b"HK", *b"HM", *b"HN", *b"HR",
    *b"HT", *b"HU", *b"ID", *b"IE", *b"IL", *b"IM", *b"IN", *b"IO", *b"IQ", *b"IR", *b"IS", *b"IT", *b"JE", *b"JM",
    *b"JO", *b"JP", *b"KE", *b"KG", *b"KH", *b"KI", *b"KM", *b"KN", *b"KP", *b"KR", *b"KW", *b"KY", *b"KZ", *b"LA",
    *b"LB", *b"LC", *b"LI", *b"LK", *b"LR", *b"LS", *b"LT", *b"LU", *b"LV", *b"LY", *b"MA", *b"MC", *b"MD", *b"ME",
    *b"MF", *b"MG", *b"MH", *b"MK", *b"ML", *b"MM", *b"MN", *b"MO", *b"MP", *b"MQ", *b"MR", *b"MS", *b"MT", *b"MU",
    *b"MV", *b"MW", *b"MX", *b"MY", *b"MZ", *b"NA", *b"NC", *b"NE", *b"NF", *b"NG", *b"NI", *b"NL", *b"NO", *b"NP",
    *b"NR", *b"NU", *b"NZ", *b"OM", *b"PA", *b"PE", *b"PF", *b"PG", *b"PH", *b"PK", *b"PL", *b"PM", *b"PN", *b"PR",
    *b"PS", *b"PT", *b"PW", *b"PY", *b"QA", *b"RE", *b"RO", *b"RS", *b"RU", *b"RW", *b"SA", *b"SB", *b"SC", *b"SD",
    *b"SE", *b"SG", *b"SH", *b"SI", *b"SJ", *b"SK", *b"SL", *b"SM", *b"SN", *b"SO", *b"SR", *b"SS", *b"ST", *b"SV",
    *b"SX", *b"SY", *b"SZ", *b"TC", *b"TD", *b"TF", *b"TG", *b"TH", *b"TJ", *b"TK", *b"TL", *b"TM", *b"TN", *b"TO",
    *b"TR", *b"TT", *b"TV", *b"TW", *b"TZ", *b"UA", *b"UG", *b"UM", *b"US", *b"UY", *b"UZ", *b"VA", *b"VC", *b"VE",
    *b"VG", *b"VI", *b"VN", *b"VU", *b"WF", *b"WS", *b"XK", *b"YE", *b"YT", *b"ZA", *b"ZM", *b"ZW",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_complete() {
        assert!(ISO_3166.is_sorted());
        assert_eq!(ISO_3166.len(), 250);
    }

    #[test]
    fn the_list_is_that_of_iso_3166_and_everybody_has_a_name() {
        let mut iso: Vec<&str> = rust_iso3166::ALL.iter().map(|country| country.alpha2).chain(["XK"]).collect();
        iso.sort_unstable();
        assert_eq!(Country::all().map(|country| country.to_string()).collect::<Vec<_>>(), iso);
        assert!(Country::all().all(|country| !country.name().is_empty()));
        assert_eq!("RE".parse::<Country>().map(Country::name), Ok("Réunion"));
    }

    #[test]
    fn parsing_accepts_either_case_and_refuses_the_unassigned() {
        assert_eq!("de".parse::<Country>().map(|c| c.to_string()), Ok("DE".into()));
        assert_eq!("uk".parse::<Country>().map(|c| c.to_string()), Ok("GB".into()));
        for bad in ["", "D", "DEU", "ZZ", "1A", "é"] {
            assert!(bad.parse::<Country>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sets_iterate_in_order() {
        let set: CountrySet = ["US", "DE", "ZW", "AD"].iter().filter_map(|c| c.parse().ok()).collect();
        assert_eq!(set.iter().map(|c| c.to_string()).collect::<Vec<_>>(), ["AD", "DE", "US", "ZW"]);
    }
}
