//! `operator = …`: who runs a region, and the levels of assurance that rules ask of operators.

use policy::region::Operator;

use super::countries::country;
use crate::field::Field;

/// Reads the operator of a region.
pub(super) fn operator(field: &Field<'_>) -> Option<Operator> {
    let section = field.section(&["name", "country", "assurance"])?;
    let name = section.required("name", "say who runs it: name = \"Example Cloud GmbH\"");
    let is_line = |text: &str| !text.contains(char::is_control) && (1..=128).contains(&text.chars().count());
    let name = name.and_then(|field| field.text_that(is_line, "is not a single line of 1 to 128 letters"));
    let home = section.required("country", "say whose law binds it: country = \"DE\"");
    let assurance = section.field("assurance").and_then(|field| level(&field));
    Some(Operator { name: name?.to_owned(), assurance, country: home.and_then(|field| country(&field))? })
}

/// Reads the levels of assurance of which an operator's must be one.
pub(super) fn levels(field: &Field<'_>) -> Vec<String> {
    if field.is_empty_list() {
        field.error("the list is empty: name at least one level, as in [\"seal-3\"]".to_owned());
    }
    let mut levels: Vec<String> = field.list().unwrap_or_default().iter().filter_map(level).collect();
    levels.sort_unstable();
    levels.dedup();
    levels
}

/// Reads one level, in lower case.
fn level(field: &Field<'_>) -> Option<String> {
    let is_odd = |c: char| c.is_control() || c.is_whitespace();
    let is_word = |name: &str| (1..=64).contains(&name.len()) && !name.contains(is_odd);
    field.text_that(is_word, "cannot name a level of assurance: it is one word").map(str::to_lowercase)
}
