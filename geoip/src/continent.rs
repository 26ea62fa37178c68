//! Continents, as geo databases name them.

use std::str::FromStr;

use policy::country::{CountrySet, group};

/// A continent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Continent {
    Africa,
    Antarctica,
    Asia,
    Europe,
    NorthAmerica,
    Oceania,
    SouthAmerica,
}

impl Continent {
    /// Every continent.
    pub const ALL: [Self; 7] = [
        Self::Africa,
        Self::Antarctica,
        Self::Asia,
        Self::Europe,
        Self::NorthAmerica,
        Self::Oceania,
        Self::SouthAmerica,
    ];

    /// Returns the continent's two-letter code in geo databases.
    pub fn code(self) -> &'static str {
        match self {
            Self::Africa => "AF",
            Self::Antarctica => "AN",
            Self::Asia => "AS",
            Self::Europe => "EU",
            Self::NorthAmerica => "NA",
            Self::Oceania => "OC",
            Self::SouthAmerica => "SA",
        }
    }

    /// Returns the continent's countries: those by UN M49, and where GeoNames differs, whose assignment the databases
    /// follow, those by GeoNames, too.
    pub fn countries(self) -> CountrySet {
        let (m49, more) = match self {
            Self::Africa => ("@AFRICA", ""),
            Self::Antarctica => ("@ANTARCTICA", "BV GS HM TF"),
            Self::Asia => ("@ASIA", "CC CX IO"),
            Self::Europe => ("@EUROPE", "CY"),
            Self::NorthAmerica => ("@NORTH_AMERICA", ""),
            Self::Oceania => ("@OCEANIA", "TL"),
            Self::SouthAmerica => ("@SOUTH_AMERICA", ""),
        };
        let mut countries = group(m49).unwrap_or_default();
        countries.extend(&more.split(' ').filter_map(|code| code.parse().ok()).collect());
        countries
    }
}

/// A text that names no continent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownContinent;

impl FromStr for Continent {
    type Err = UnknownContinent;

    /// Parses the two-letter code, in either case.
    fn from_str(text: &str) -> Result<Self, UnknownContinent> {
        let named = |continent: &Self| text.eq_ignore_ascii_case(continent.code());
        Self::ALL.into_iter().find(named).ok_or(UnknownContinent)
    }
}

#[cfg(test)]
mod tests {
    use policy::country::Country;

    use super::*;

    #[test]
    fn every_country_is_on_one_continent_or_on_two_that_disagree() {
        for country in Country::all() {
            let homes = Continent::ALL.iter().filter(|continent| continent.countries().contains(country)).count();
            let disputed = "BV CC CX CY GS HM IO TF TL".contains(country.code());
            assert_eq!(homes, if disputed { 2 } else { 1 }, "{country}");
        }
    }

    #[test]
    fn codes() {
        assert!(Continent::ALL.iter().all(|continent| continent.code().parse() == Ok(*continent)));
        assert_eq!("eu".parse(), Ok(Continent::Europe));
        assert_eq!("Europe".parse::<Continent>(), Err(UnknownContinent));
    }
}
