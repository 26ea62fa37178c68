//! Parses a host: a DNS name or an IP address.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Parses a host; returns it in lower case, without a final dot. IPv6 addresses are written in brackets, and returned
/// without, in their canonical form.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that starts with the host.
pub(crate) fn parse_host(text: &str) -> Result<String, &'static str> {
    if let Some(inside) = text.strip_prefix('[') {
        let address = inside.strip_suffix(']').and_then(|inside| inside.parse::<Ipv6Addr>().ok());
        return address.map(|address| address.to_string()).ok_or("is not an IPv6 address in brackets");
    }
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if host.is_empty() {
        return Err("is empty");
    }
    if !host.is_ascii() {
        return Err("is not ASCII: write an international name in its xn-- form");
    }
    if host.len() > 253 || host.split('.').any(|label| label.len() > 63) {
        return Err("is too long for a DNS name: at most 253 letters, 63 between two dots");
    }
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(letter) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !host.split('.').all(label) {
        return Err("is not a host name");
    }
    // RFC 1123, 2.1: a name whose last label is a number would be taken for an address.
    let last_is_number = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if last_is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err("is not an IPv4 address");
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_normalised_or_refused() {
        for (text, expected) in [
            ("API.Example.com.", Some("api.example.com")),
            ("localhost", Some("localhost")),
            ("a_b.example", Some("a_b.example")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("[2001:DB8:0::1]", Some("2001:db8::1")),
            ("10.0.0.256", None),
            ("2001:db8::1", None),
            ("[10.0.0.1]", None),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a.b", None),
            ("bücher.example", None),
            ("a b", None),
            ("user@host", None),
        ] {
            assert_eq!(parse_host(text).ok().as_deref(), expected, "{text}");
        }
        assert!(parse_host(&"a".repeat(64)).is_err());
        assert!(parse_host(&["a"; 127].join(".")).is_ok());
        assert!(parse_host(&["a"; 128].join(".")).is_err());
    }
}
