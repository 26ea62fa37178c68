//! What a request asks for: its host and path, normalised; what could be read in two ways is refused.

use std::borrow::Cow;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Uri, Version};
use policy::path::{Ambiguity, Canonical, canonical};
use policy::{Method, RouteId, Table};

use crate::framing;

/// What a request asks for, in the form that routes are matched with. It borrows from the request's head and
/// authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// In lower case, without port, final dot, or an IPv6 address's brackets.
    pub(crate) host: Cow<'a, str>,
    /// The path without query, in its one form, with the other ways to read it.
    pub(crate) path: Canonical<'a>,
}

/// Reads what a request asks for, of the [`framing::authority`] of its head.
///
/// # Errors
/// When it could be read in two ways.
pub(crate) fn target<'a>(authority: &'a HeaderValue, uri: &'a Uri) -> Result<Target<'a>, Ambiguity> {
    let host = framing::host(authority.to_str().map_err(|_| "the Host header is not text")?)?;
    Ok(Target { host, path: canonical(uri.path())? })
}

/// Returns whether a load balancer asks for the node's health: by the listener's path, or with `OPTIONS / HTTP/1.0` without
/// Host, as balancers do by default, and for which there could be no route.
pub(crate) fn asks_health(parts: &Parts, health_path: Option<&str>) -> bool {
    let Some(health_path) = health_path else { return false };
    let has_path = parts.uri.path() == health_path;
    match parts.method {
        http::Method::GET | http::Method::HEAD => has_path,
        http::Method::OPTIONS => {
            let is_of_no_host = parts.version == Version::HTTP_10 && !parts.headers.contains_key(HOST);
            has_path || is_of_no_host && parts.uri == "/"
        }
        _ => false,
    }
}

impl Target<'_> {
    /// Returns the route of this request.
    ///
    /// # Errors
    /// When another reading of its path would lead to another route, which is another law.
    pub(crate) fn route(&self, table: &Table, method: Method) -> Result<Option<RouteId>, Ambiguity> {
        let route = table.find_route(&self.host, &self.path.path, method);
        let differs = |reading: &String| table.find_route(&self.host, reading, method) != route;
        if self.path.readings.iter().any(differs) {
            return Err("its path's encoded slashes or parameters would lead some origins to another route");
        }
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    #[test]
    fn authorities_must_agree() {
        let read = |version, uri: &str, hosts: &[&'static str]| {
            let uri: Uri = uri.parse().unwrap_or_default();
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_static(host));
            }
            let authority = framing::authority(version, &uri, &headers).ok()?;
            target(&authority, &uri).map(|target| target.host.into_owned()).ok()
        };
        let some = |host: &str| Some(host.to_owned());
        assert_eq!(read(Version::HTTP_11, "/x", &["a.example"]), some("a.example"));
        assert_eq!(read(Version::HTTP_11, "/x", &[]), None);
        assert_eq!(read(Version::HTTP_11, "/x", &["a.example", "a.example"]), None);
        assert_eq!(read(Version::HTTP_11, "http://a.example/x", &["A.example"]), some("a.example"));
        assert_eq!(read(Version::HTTP_11, "http://a.example/x", &["b.example"]), None);
        assert_eq!(read(Version::HTTP_2, "https://a.example/x", &[]), some("a.example"));
        assert_eq!(read(Version::HTTP_2, "https://a.example/x", &["b.example"]), None);
        let empty = Uri::builder().scheme("").authority("a.example").path_and_query("/x").build().unwrap();
        assert!(framing::authority(Version::HTTP_2, &empty, &HeaderMap::new()).is_err());
    }
}
