//! Request fields that could have an origin act on another request, or for another client, than the one
//! that was decided.
//!
//! The list is what frameworks, gateways and CDNs are known to honour: Symfony, Laminas and Yii, Rails
//! (Rack), Express, Spring and the servlet containers, WordPress, IIS (ARR, ISAPI_Rewrite), Next.js,
//! Envoy, nginx-ingress, oauth2-proxy and the large CDNs and clouds. What a query or a form says
//! (`_method`) is beyond it.

use std::borrow::Cow;

/// Why a request field does not reach an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stripped {
    /// It replaces the method, the target or the host, or steers what serves the origin. It stays here
    /// whoever sends it: a load balancer passes it on from its clients, so that an address proves nothing.
    Override,
    /// It says who the client is, or how it connected. It stays here unless a trusted proxy sends it.
    Identity,
}

impl Stripped {
    /// Returns why a field stays here, by its name in lower case and in [`plain`] form; `None` for one
    /// that goes on.
    pub fn of(name: &str) -> Option<Self> {
        if !is_suspicious(name) {
            return None;
        }
        match name {
            "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-original-method"
            | "x-original-url"
            | "x-original-uri"
            | "x-original-path"
            | "x-rewrite-url"
            | "x-rewrite-uri"
            | "x-override-url"
            | "x-waws-unencoded-url"
            | "x-http-host-override"
            | "x-envoy-original-path"
            | "x-envoy-original-host"
            | "x-envoy-original-dst-host"
            | "x-matched-path"
            | "x-invoke-path"
            | "x-middleware-subrequest" => Some(Stripped::Override),
            // Rack::Sendfile takes them for its web server's word on which files may be sent.
            "x-sendfile-type" | "x-accel-mapping" => Some(Stripped::Override),
            // CGI makes HTTP_PROXY of it, which is where many clients of an origin look for their proxy.
            "proxy" => Some(Stripped::Override),
            "forwarded"
            | "forwarded-for"
            | "x-forwarded"
            | "x-original-forwarded-for"
            | "x-original-host"
            | "x-host"
            | "x-real-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "x-originating-ip"
            | "x-remote-ip"
            | "x-remote-addr"
            | "client-ip"
            | "proxy-client-ip"
            | "wl-proxy-client-ip"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "cf-connecting-ipv6"
            | "cf-pseudo-ipv4"
            | "cf-ipcountry"
            | "cf-visitor"
            | "fastly-client-ip"
            | "fly-client-ip"
            | "x-azure-clientip"
            | "x-azure-socketip"
            | "x-envoy-external-address"
            | "x-envoy-internal"
            | "x-scheme"
            | "x-url-scheme"
            | "front-end-https"
            | "client-cert"
            | "client-cert-chain"
            | "x-client-cert"
            | "x-ssl-cert"
            | "x-arr-clientcert"
            | "x-arr-ssl"
            | "remote-user"
            | "x-remote-user" => Some(Stripped::Identity),
            name if IDENTITY_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => Some(Stripped::Identity),
            _ => None,
        }
    }
}

/// Returns a field's name as CGI and its heirs read it, which cannot tell `x_real_ip` from `x-real-ip`; and
/// without the `HTTP_` by which some code asks for a field as CGI would name it.
pub fn plain(name: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.bytes().all(is_plain) {
        return Cow::Borrowed(name.strip_prefix(CGI).unwrap_or(name));
    }
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = name.chars().map(plain).collect();
    Cow::Owned(name.strip_prefix(CGI).map(str::to_owned).unwrap_or(name))
}

/// Returns whether a name begins like any that stays here: most begin otherwise, and need not be compared with all.
fn is_suspicious(name: &str) -> bool {
    matches!(
        name.as_bytes(),
        [b'x', b'-', ..]
            | [b'c', b'f' | b'l', ..]
            | [b'f', ..]
            | [b'p' | b't', b'r', ..]
            | [b'r', b'e', ..]
            | [b's', b's', ..]
            | [b'w', b'l', ..]
    )
}

/// What CGI puts before the name of each field.
const CGI: &str = "http-";

/// How the names begin of more fields that say who the client is, or how it connected.
const IDENTITY_PREFIXES: [&str; 9] = [
    "x-forwarded-",
    "x-ssl-client-",
    "ssl-client-",
    "x-auth-request-",
    "x-appengine-",
    "cloudfront-viewer-",
    "x-goog-authenticated-user-",
    "x-ms-client-principal",
    "x-amzn-oidc-",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in this file's own text: one whose beginning is not looked for would never be found.
    #[test]
    fn all_names_begin_as_is_looked_for() {
        let text = include_str!("stripped.rs");
        let list = text.split("match name {").nth(1).and_then(|rest| rest.split("name if").next()).unwrap();
        let names: Vec<&str> = list.split('"').skip(1).step_by(2).chain(IDENTITY_PREFIXES).collect();
        assert!(names.len() > 60 && names.contains(&"proxy") && names.contains(&"x-remote-user"), "{names:?}");
        for name in names {
            assert!(is_suspicious(name), "{name}");
            assert!(Stripped::of(name).is_some(), "{name}");
        }
    }

    #[test]
    fn fields_are_known_in_every_spelling() {
        let of = |name: &str| Stripped::of(&plain(name));
        for name in ["x-http-method-override", "x_http_method_override", "x.http.method.override", "x-original-url"] {
            assert_eq!(of(name), Some(Stripped::Override), "{name}");
        }
        for name in ["x-real-ip", "x_real_ip", "http_client_ip", "x-forwarded-port", "x_forwarded_anything"] {
            assert_eq!(of(name), Some(Stripped::Identity), "{name}");
        }
        for name in
            ["accept", "x-http-method-overrides", "x-forwarde", "http-x", "proxy-authorization", "http2-settings"]
        {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
