//! Lists of countries and of built-in groups of them.

use policy::country::{GROUPS, group};
use policy::{Country, CountrySet};

use crate::field::Field;
use crate::quote::quote;
use crate::suggest::did_you_mean;

/// One country.
pub(super) fn country(field: &Field<'_>) -> Option<Country> {
    let text = field.text()?;
    let country = text.parse().ok();
    if country.is_none() {
        field.error(unknown(text));
    }
    country
}

/// A list of countries and groups, which must not be empty.
pub(super) fn countries(field: &Field<'_>) -> Option<CountrySet> {
    let list = field.list()?;
    if list.is_empty() {
        field.error("the list is empty: name at least one country, as in [\"FR\", \"@EFTA\"]".to_owned());
    }
    let mut countries = CountrySet::default();
    for member in list {
        match member.peek_text().and_then(|text| group(&text.to_ascii_uppercase())) {
            Some(members) => countries.extend(&members),
            None => countries.extend(&country(&member).into_iter().collect()),
        }
    }
    Some(countries)
}

fn unknown(text: &str) -> String {
    let shown = quote(text);
    let as_group = format!("@{}", text.trim_start_matches('@').to_ascii_uppercase());
    if group(&as_group).is_some() {
        return format!("{shown} is a group of countries, not a country: \"{as_group}\", where groups can stand");
    }
    if text.starts_with('@') {
        let groups = GROUPS.join(", ");
        return format!("unknown group {shown}{}; known: {groups}", did_you_mean(text, GROUPS.iter().copied()));
    }
    format!("{shown} is not an ISO 3166-1 alpha-2 country code such as \"DE\"")
}
