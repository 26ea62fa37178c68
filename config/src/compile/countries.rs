//! Lists of countries and of built-in groups of them.

use policy::country::{GROUPS, group};
use policy::list::{Countries, ListId};
use policy::{Country, CountrySet};

use super::names::NamesOf;
use crate::field::Field;
use crate::quote::quote;
use crate::suggest::did_you_mean;

/// Reads one country.
pub(super) fn country(field: &Field<'_>) -> Option<Country> {
    let text = field.text()?;
    let country = text.parse().ok();
    if country.is_none() {
        field.error(unknown(text));
    }
    country
}

/// Reads a list of countries, groups and dated lists, which must not be empty.
pub(super) fn dated_countries(field: &Field<'_>, lists: &NamesOf<'_, ListId>) -> Option<Countries> {
    let (dated, plain): (Vec<Field<'_>>, Vec<Field<'_>>) =
        members(field)?.into_iter().partition(|member| list_name(member).is_some());
    let named = |member: &Field<'_>| lists.resolve_named(member, list_name(member)?);
    let mut ids: Vec<ListId> = dated.iter().filter_map(named).collect();
    ids.sort_unstable();
    ids.dedup();
    Some(Countries::new(union(plain), ids))
}

/// Reads a list of places where data may go, as [`dated_countries`]; warns of `@UK`, which covers more than its name
/// says.
pub(super) fn dated_destinations(field: &Field<'_>, lists: &NamesOf<'_, ListId>) -> Option<Countries> {
    for member in field.peek_list().unwrap_or_default() {
        if member.peek_text().is_some_and(|text| text.eq_ignore_ascii_case("@UK")) {
            let message = "@UK is wide, for clients: as a place for data it opens GG, GI, IM and JE too, which are not \
                in the United Kingdom and for which other decisions hold, or none; write \"GB\", and those that are \
                meant";
            member.warning(message.to_owned());
        }
    }
    dated_countries(field, lists)
}

/// Reads a list of countries and groups, which must not be empty.
pub(super) fn countries(field: &Field<'_>) -> Option<CountrySet> {
    let members = members(field)?;
    for member in members.iter().filter(|member| list_name(member).is_some()) {
        member.error("a list with dates cannot stand here: name the countries".to_owned());
    }
    Some(union(members.into_iter().filter(|member| list_name(member).is_none()).collect()))
}

/// Returns `NAME` of a member `list:NAME`.
fn list_name<'t>(member: &Field<'t>) -> Option<&'t str> {
    member.peek_text()?.strip_prefix("list:")
}

fn members<'t>(field: &Field<'t>) -> Option<Vec<Field<'t>>> {
    let list = field.list()?;
    if list.is_empty() {
        field.error("the list is empty: name at least one country, as in [\"FR\", \"@EFTA\"]".to_owned());
    }
    Some(list)
}

fn union(members: Vec<Field<'_>>) -> CountrySet {
    let mut countries = CountrySet::default();
    for member in members {
        match member.peek_text().and_then(|text| group(&text.to_ascii_uppercase())) {
            Some(members) => countries.extend(&members),
            None => countries.extend(&country(&member).into_iter().collect()),
        }
    }
    countries
}

fn unknown(text: &str) -> String {
    let shown = quote(text);
    let as_group = format!("@{}", text.trim_start_matches('@').to_ascii_uppercase());
    if group(&as_group).is_some() {
        return format!("{shown} is a group of countries, not a country: \"{as_group}\", where groups can stand");
    }
    if text.starts_with('@') {
        let names = || GROUPS.iter().map(|group| group.name);
        let known: Vec<&str> = names().collect();
        return format!("unknown group {shown}{}; known: {}", did_you_mean(text, names()), known.join(", "));
    }
    format!("{shown} is not an ISO 3166-1 alpha-2 country code such as \"DE\"")
}
