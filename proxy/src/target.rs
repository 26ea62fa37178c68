//! What a request asks for: its host and path, normalised; what could be read in two ways is refused.

use std::net::Ipv6Addr;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Uri, Version};
use policy::path::{Ambiguity, Canonical, canonical};
use policy::{Method, RouteId, Table};

/// What a request asks for, in the form that routes are matched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// In lower case, without port, final dot, or an IPv6 address's brackets.
    pub host: String,
    /// The host as the client wrote it, with its port: what the origin sees.
    pub authority: HeaderValue,
    /// The path without query, in its one form, with the other ways to read it.
    pub path: Canonical<'a>,
}

/// Reads what a request asks for.
///
/// # Errors
/// When it could be read in two ways.
pub fn target<'a>(version: Version, uri: &'a Uri, headers: &HeaderMap) -> Result<Target<'a>, Ambiguity> {
    let authority = authority(version, uri, headers)?;
    let host = host(authority.to_str().map_err(|_| "the Host header is not text")?)?;
    Ok(Target { host, authority, path: canonical(uri.path())? })
}

impl Target<'_> {
    /// The route of this request.
    ///
    /// # Errors
    /// When another reading of its path would lead to another route, which is another law.
    pub fn route(&self, table: &Table, method: Method) -> Result<Option<RouteId>, Ambiguity> {
        let route = table.find_route(&self.host, &self.path.path, method);
        let differs = |reading: &String| table.find_route(&self.host, reading, method) != route;
        if self.path.readings.iter().any(differs) {
            return Err("its path's encoded slashes or parameters would lead some origins to another route");
        }
        Ok(route)
    }
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
    if let Some(bracketed) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // In the one form of the address, as in a table: no zero more or less may lead to another route.
        return bracketed.parse::<Ipv6Addr>().map(|address| address.to_string()).map_err(|_| NO_HOST_NAME);
    }
    let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    let name = name.strip_suffix('.').unwrap_or(name);
    if !valid || name.is_empty() || name.len() > 253 || name.starts_with('.') || name.contains("..") {
        return Err(NO_HOST_NAME);
    }
    Ok(name.to_ascii_lowercase())
}

const NO_HOST_NAME: Ambiguity = "the Host is not a host name";

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
            ("[2001:DB8:0:0::1]:80", Some("2001:db8::1")),
            ("[0:0:0:0:0:0:0:1]", Some("::1")),
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
