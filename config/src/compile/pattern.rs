//! `path` and `host` of a route: which requests it is for.

use policy::route::{HostPattern, PathPattern};

use crate::field::Field;
use crate::host::parse_host;
use crate::quote::quote;

/// Reads an exact host, or `*.` and a name for every host below it.
pub(super) fn host_pattern(field: &Field<'_>) -> Option<HostPattern> {
    let text = field.text()?;
    let parsed = match text.strip_prefix("*.") {
        Some(parent) => parse_host(parent).map(HostPattern::Below),
        None => parse_host(text).map(HostPattern::Exact),
    };
    let remedy = match text {
        "*" => "leave host out for every host",
        _ if text.contains("://") => "write the host without scheme",
        _ if text.contains(':') && !text.contains('[') => "write the host without port",
        _ if text.contains('*') => "a * can only stand first, as in *.example.com",
        _ => "write a host such as api.example.com or *.example.com",
    };
    parsed.map_err(|problem| field.error(format!("{} {problem}: {remedy}", quote(text)))).ok()
}

/// Reads a prefix of whole segments such as `/v3/`, or `=` and the exact path.
pub(super) fn path_pattern(field: &Field<'_>) -> Option<PathPattern> {
    let text = field.text()?;
    let (exact, path) = match text.strip_prefix('=') {
        Some(path) => (true, path),
        None => (false, text),
    };
    if let Some(problem) = path_problem(path) {
        field.error(format!("{} {problem}", quote(text)));
        return None;
    }
    let path = match policy::path::canonical(path) {
        Ok(canonical) => canonical.path,
        Err(problem) => {
            field.error(format!("{} cannot be a route's: {problem}", quote(text)));
            return None;
        }
    };
    Some(if exact {
        PathPattern::Exact(path.into_owned())
    } else {
        PathPattern::Prefix(path.strip_suffix('/').unwrap_or(&path).to_owned())
    })
}

/// Returns why no request can have this path in its canonical form; `None` if one can.
fn path_problem(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("is not a path: it starts with \"/\", or with \"=/\" for exactly this path");
    }
    if path.contains(['?', '#']) {
        return Some("has a query or a fragment: routes are chosen by path alone");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Some("has letters that never stand in a request's path: percent-encode them, as in /caf%C3%A9");
    }
    if path.contains("//") {
        return Some("has two slashes in a row, which requests never have here: they are merged");
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Some("has a dot segment, which requests never have here: they are resolved");
    }
    if path.ends_with("/*") {
        return Some("ends in \"*\": a prefix such as \"/v3/\" covers everything below it already");
    }
    let mut escapes = path.split('%');
    escapes.next();
    for escape in escapes {
        let digits = escape.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            None => return Some("has a \"%\" without two hexadecimal digits"),
            Some(b) if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => {
                return Some("has an escape for a letter that needs none, and that requests have decoded: decode it");
            }
            Some(_) => {}
        }
    }
    None
}
