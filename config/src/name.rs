//! Checks the names of regions, routes, nodes and the like.

use crate::field::Field;
use crate::quote::quote;

/// Reads a name; any other text is reported.
pub(crate) fn name<'t>(field: &Field<'t>) -> Option<&'t str> {
    field.text_that(is_name, PROBLEM)
}

/// Reads the name of a header field, in lower case; any other text is reported.
pub(crate) fn header_name(field: &Field<'_>) -> Option<String> {
    // RFC 9110, 5.6.2: a token.
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let is_token = |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(letter);
    field.text_that(is_token, "is not a header name such as \"x-data-consent\"").map(str::to_ascii_lowercase)
}

/// Reads the version of an endpoint's software; any other text is reported.
pub(crate) fn version<'t>(field: &Field<'t>) -> Option<&'t str> {
    let is_version = |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    field.text_that(is_version, "is not a version such as \"3.1.0\": use 1 to 64 ASCII letters without spaces")
}

/// Reports a key that is no name.
pub(crate) fn check_key(field: &Field<'_>) {
    if !is_name(field.key()) {
        field.error(format!("{} {PROBLEM}", quote(field.key())));
    }
}

/// Returns whether a header, a metric's label and a bus's subject can all hold the text unescaped.
fn is_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(letter)
}

const PROBLEM: &str = "cannot be a name: use 1 to 64 of a-z A-Z 0-9 - _ .";
