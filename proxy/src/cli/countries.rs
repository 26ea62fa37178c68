//! Formats lists of countries, for people and for machines.

use policy::CountrySet;
use policy::country::GROUPS;

/// Formats the countries by name and code, a paragraph for each continent.
pub(super) fn countries_in_words(countries: &CountrySet, indent: &str) -> String {
    let mut out = String::new();
    for continent in GROUPS.iter().filter(|group| CONTINENTS.contains(&group.name)) {
        let members = continent.members();
        let mut names: Vec<String> = countries
            .iter()
            .filter(|country| members.contains(*country))
            .map(|country| format!("{} {country}", country.name()))
            .collect();
        if names.is_empty() {
            continue;
        }
        names.sort_unstable();
        let mut line = format!("{indent}{} ({}):", continent.title, names.len());
        for (index, name) in names.iter().enumerate() {
            let comma = if index + 1 < names.len() { "," } else { "" };
            if line.chars().count() + name.chars().count() + 2 > WIDTH {
                out.push_str(&line);
                out.push('\n');
                line = format!("{indent}   ");
            }
            line.push_str(&format!(" {name}{comma}"));
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// Returns the countries as `[{"code": "DE", "name": "Germany"}]`.
pub(super) fn countries_as_json(countries: &CountrySet) -> serde_json::Value {
    countries.iter().map(|country| serde_json::json!({ "code": country, "name": country.name() })).collect()
}

const CONTINENTS: [&str; 7] =
    ["@AFRICA", "@ASIA", "@EUROPE", "@NORTH_AMERICA", "@SOUTH_AMERICA", "@OCEANIA", "@ANTARCTICA"];

/// The width of a line, in columns.
const WIDTH: usize = 110;
