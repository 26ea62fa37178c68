//! What a request asks for: its host and path, normalised; what could be read in two ways is refused.

use std::borrow::Cow;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Uri, Version};

/// What a request asks for, in the form that routes are matched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// In lower case, without port, final dot, or an IPv6 address's brackets.
    pub host: String,
    /// The host as the client wrote it, with its port: what the origin sees.
    pub authority: HeaderValue,
    /// Without query; percent-encoded unreserved characters decoded, slashes merged.
    pub path: Cow<'a, str>,
    /// The path as an origin may read it that takes `%2F` for a slash; equal to `path` without any.
    pub path_decoded: Option<String>,
}

/// Why a request is refused before any decision: what it says is ambiguous, so that an origin might
/// read it otherwise than the rules did.
pub type Ambiguity = &'static str;

/// Reads what a request asks for.
///
/// # Errors
/// When it could be read in two ways.
pub fn target<'a>(version: Version, uri: &'a Uri, headers: &HeaderMap) -> Result<Target<'a>, Ambiguity> {
    let authority = authority(version, uri, headers)?;
    let host = host(authority.to_str().map_err(|_| "the Host header is not text")?)?;
    let (path, path_decoded) = path(uri.path())?;
    Ok(Target { host, authority, path, path_decoded })
}

/// The authority asked for: `:authority`, the absolute form's, or Host; two that differ are refused.
fn authority(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<HeaderValue, Ambiguity> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("there are two Host headers");
    }
    let asked = uri.authority().map(http::uri::Authority::as_str);
    match (asked, host) {
        (None, None) if version == Version::HTTP_10 => Err("an HTTP/1.0 request without Host cannot be routed"),
        (None, None) => Err("there is no Host"),
        (Some(asked), Some(host)) if !asked.as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err("Host and the request target's authority differ")
        }
        (_, Some(host)) => Ok(host.clone()),
        (Some(asked), None) => HeaderValue::from_str(asked).map_err(|_| "the authority is not text"),
    }
}

/// The host of an authority, normalised.
fn host(authority: &str) -> Result<String, Ambiguity> {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            if port.parse::<u16>().is_err() {
                return Err("the Host has a port that is no number");
            }
            name
        }
        _ => authority,
    };
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let valid = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')),
    };
    let name = bracketed.unwrap_or(name);
    let name = name.strip_suffix('.').unwrap_or(name);
    if !valid || name.is_empty() || name.len() > 253 || name.starts_with('.') || name.contains("..") {
        return Err("the Host is not a host name");
    }
    Ok(name.to_ascii_lowercase())
}

/// A path in the form that routes are matched with, and the form in which `%2F` counts as a slash.
fn path(raw: &str) -> Result<(Cow<'_, str>, Option<String>), Ambiguity> {
    if !raw.starts_with('/') {
        return Err("the request target is not a path");
    }
    let plain = |bytes: &[u8]| !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\' | b';' | b'#' | 0..=0x20 | 0x7f..));
    if plain(raw.as_bytes()) && !raw.contains("//") && !raw.contains("/.") {
        return Ok((raw.into(), None));
    }
    let (kept, slashed) = decode(raw)?;
    let merged = merge_slashes(&kept);
    if has_dot_segment(&merged) {
        return Err("the path has dot segments");
    }
    let decoded = match slashed {
        Some(slashed) => {
            let slashed = merge_slashes(&slashed);
            if has_dot_segment(&slashed) {
                return Err("the path has encoded dot segments");
            }
            Some(slashed)
        }
        None => None,
    };
    Ok((merged.into(), decoded))
}

/// Decodes percent-encoded unreserved characters (RFC 3986, 6.2.2.2), and refuses what origins are
/// known to disagree on. The second form also decodes `%2F`, if there is any.
fn decode(raw: &str) -> Result<(String, Option<String>), Ambiguity> {
    let mut kept = String::with_capacity(raw.len());
    let mut slashed = String::with_capacity(raw.len());
    let mut has_slash = false;
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => return Err("the path has a backslash"),
            b'#' | 0..=0x20 | 0x7f => return Err("the path has a character that must be encoded"),
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return Err("the path has a broken percent-encoding");
                };
                let value = (high * 16 + low) as u8;
                match value {
                    0 => return Err("the path has an encoded NUL"),
                    b'\\' => return Err("the path has an encoded backslash"),
                    b'/' => {
                        has_slash = true;
                        kept.push_str("%2F");
                        slashed.push('/');
                    }
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        kept.push(char::from(value));
                        slashed.push(char::from(value));
                    }
                    _ => {
                        let encoded = format!("%{value:02X}");
                        kept.push_str(&encoded);
                        slashed.push_str(&encoded);
                    }
                }
            }
            byte => {
                // Bytes of raw UTF-8 stay what they are: the input is a string.
                kept.push(char::from(byte));
                slashed.push(char::from(byte));
            }
        }
    }
    Ok((kept, has_slash.then_some(slashed)))
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged
}

/// Whether a segment is `.` or `..`, also with the parameters that some origins cut off (`..;x`).
fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_normalised_or_refused() {
        for (authority, expected) in [
            ("api.example.com", Some("api.example.com")),
            ("API.Example.COM:8443", Some("api.example.com")),
            ("api.example.com.", Some("api.example.com")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]:80", Some("::1")),
            ("[::1]", Some("::1")),
            ("user@api.example.com", None),
            ("api.example.com/x", None),
            ("api.example.com:80:80", None),
            ("api.example.com:http", None),
            ("api..example.com", None),
            ("", None),
            (".", None),
            ("[::g]", None),
            ("a b", None),
        ] {
            assert_eq!(host(authority).ok().as_deref(), expected, "{authority}");
        }
    }

    #[test]
    fn paths_are_normalised_or_refused() {
        for (raw, expected) in [
            ("/", Some("/")),
            ("/v3/x", Some("/v3/x")),
            ("/v3//x", Some("/v3/x")),
            ("/%76%33/x", Some("/v3/x")),
            ("/a%20b", Some("/a%20b")),
            ("/a%c3%a9", Some("/a%C3%A9")),
            ("/.well-known/x", Some("/.well-known/x")),
            ("/a;v=1/b", Some("/a;v=1/b")),
            ("/a%252F..%252Fb", Some("/a%252F..%252Fb")),
            ("/group%2fproject", Some("/group%2Fproject")),
            ("/a/../b", None),
            ("/a/./b", None),
            ("/a/..", None),
            ("/a/%2e%2E/b", None),
            ("/a/..;x=1/b", None),
            ("/a%2F..%2Fb", None),
            ("/a%5Cb", None),
            ("/a\\b", None),
            ("/a%00", None),
            ("/a%zz", None),
            ("/a%2", None),
            ("*", None),
        ] {
            assert_eq!(path(raw).ok().map(|(path, _)| path.into_owned()).as_deref(), expected, "{raw}");
        }
        assert_eq!(path("/a%2Fb").ok().and_then(|(_, decoded)| decoded).as_deref(), Some("/a/b"));
    }

    #[test]
    fn authorities_must_agree() {
        let read = |version, uri: &str, hosts: &[&'static str]| {
            let uri: Uri = uri.parse().unwrap_or_default();
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_static(host));
            }
            target(version, &uri, &headers).map(|target| target.host).ok()
        };
        let some = |host: &str| Some(host.to_owned());
        assert_eq!(read(Version::HTTP_11, "/x", &["a.example"]), some("a.example"));
        assert_eq!(read(Version::HTTP_11, "/x", &[]), None);
        assert_eq!(read(Version::HTTP_11, "/x", &["a.example", "a.example"]), None);
        assert_eq!(read(Version::HTTP_11, "http://a.example/x", &["A.example"]), some("a.example"));
        assert_eq!(read(Version::HTTP_11, "http://a.example/x", &["b.example"]), None);
        assert_eq!(read(Version::HTTP_2, "https://a.example/x", &[]), some("a.example"));
        assert_eq!(read(Version::HTTP_2, "https://a.example/x", &["b.example"]), None);
    }
}
