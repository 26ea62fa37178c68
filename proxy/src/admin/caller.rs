//! Who may call the admin listener: tools, and operators, but no page in an operator's browser.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// What a request says of its caller.
#[derive(Debug)]
pub(super) struct Caller<'a> {
    /// The host that it asked for, with its port; `None` of tools that name none.
    host: Option<&'a str>,
    /// Whether that cannot be read, or stands twice.
    is_unclear: bool,
    origin: Option<&'a HeaderValue>,
    site: Option<&'a HeaderValue>,
}

impl<'a> Caller<'a> {
    /// Reads a request's target and head.
    pub(super) fn of(uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        let mut hosts = headers.get_all(HOST).iter();
        let (first, second) = (hosts.next(), hosts.next());
        let named = first.map(|host| host.to_str().ok());
        let in_target = uri.authority().map(http::uri::Authority::as_str);
        Self {
            host: in_target.or_else(|| named.flatten()),
            is_unclear: second.is_some() || named.is_some_and(|host| host.is_none()),
            origin: headers.get(ORIGIN),
            site: headers.get(FETCH_SITE),
        }
    }

    /// Returns why it gets no answer; `hosts` are names beside addresses and `localhost` that it may ask for.
    pub(super) fn problem(&self, hosts: &[String]) -> Option<&'static str> {
        if self.is_unclear || self.host.is_some_and(|host| !is_own(host, hosts)) {
            // A foreign name that was pointed here (DNS rebinding) would make this the page's own site.
            return Some(
                "the Host header must be an IP address, localhost, or one of admin.hosts, so that no foreign name can \
                 be pointed here",
            );
        }
        let own = |origin: &HeaderValue| {
            let own = self.host.map(|host| format!("http://{host}"));
            own.is_some_and(|own| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()))
        };
        let is_foreign = self.origin.is_some_and(|origin| !own(origin))
            || self.site.is_some_and(|site| site == "cross-site" || site == "same-site");
        is_foreign.then_some("a page of another site may not ask a node anything")
    }
}

fn is_own(host: &str, hosts: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    if let Some(inside) = name.strip_prefix('[') {
        return inside.strip_suffix(']').is_some_and(|address| address.parse::<IpAddr>().is_ok());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// What browsers say of the page that asks (Fetch Metadata); no page can set or leave it out.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_answered_and_pages_are_not() {
        for (headers, good) in [
            (&[][..], true),
            (&[("host", "127.0.0.1:9900")], true),
            (&[("host", "10.1.2.3")], true),
            (&[("host", "[::1]:9900")], true),
            (&[("host", "localhost:9900")], true),
            (&[("host", "LOCALHOST.")], true),
            (&[("host", "node-1.example.com:9900")], true),
            (&[("host", "evil.example.com:9900")], false),
            (&[("host", "localhost.evil.example")], false),
            (&[("host", "127.0.0.1.evil.example")], false),
            (&[("host", "")], false),
            (&[("host", ":9900")], false),
            (&[("host", "[::1")], false),
            (&[("host", "127.0.0.1"), ("host", "127.0.0.1")], false),
            (&[("host", "127.0.0.1:9900"), ("origin", "http://127.0.0.1:9900")], true),
            (&[("host", "127.0.0.1:9900"), ("origin", "http://127.0.0.1:9901")], false),
            (&[("host", "127.0.0.1:9900"), ("origin", "https://evil.example")], false),
            (&[("host", "127.0.0.1:9900"), ("origin", "null")], false),
            (&[("host", "127.0.0.1:9900"), ("sec-fetch-site", "none")], true),
            (&[("host", "127.0.0.1:9900"), ("sec-fetch-site", "cross-site")], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            let uri = Uri::from_static("/status");
            let problem = Caller::of(&uri, &map).problem(&["node-1.example.com".to_owned()]);
            assert_eq!(problem.is_none(), good, "{headers:?}");
        }
        let absolute = Uri::from_static("http://evil.example.com/status");
        assert!(Caller::of(&absolute, &HeaderMap::new()).problem(&[]).is_some());
    }
}
