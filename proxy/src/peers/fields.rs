//! The names of the `x-meridian-` fields, which only nodes may write.

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

/// Who served.
pub(crate) const REGION: HeaderName = HeaderName::from_static("x-meridian-region");
/// After how many attempts, when more than one.
pub(crate) const ATTEMPTS: HeaderName = HeaderName::from_static("x-meridian-attempts");
/// The region that the sending node has chosen.
pub(crate) const CHOSEN: HeaderName = HeaderName::from_static("x-meridian-chosen");
/// Where the sending node takes the client to be: countries, or `unknown`.
pub(crate) const ORIGIN: HeaderName = HeaderName::from_static("x-meridian-origin");
/// Through which header consent came to the sending node: the receiving node counts no other.
pub(crate) const CONSENT: HeaderName = HeaderName::from_static("x-meridian-consent");
/// Which jurisdictions a trusted proxy declared to the sending node.
pub(crate) const TENANT: HeaderName = HeaderName::from_static("x-meridian-tenant");
/// The client's address; `unknown:ADDRESS` of the last that is known to be no client's.
pub(crate) const CLIENT: HeaderName = HeaderName::from_static("x-meridian-client");
/// `http` or `https`, as the client came.
pub(crate) const SCHEME: HeaderName = HeaderName::from_static("x-meridian-scheme");
/// The request's id on all nodes.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-meridian-request-id");
/// How critical the sending node takes the request to be, where that is less than its route says.
pub(crate) const CRITICALITY: HeaderName = HeaderName::from_static("x-meridian-criticality");
/// See [`signature`](super::signature).
pub(crate) const SIGNATURE: HeaderName = HeaderName::from_static("x-meridian-signature");
/// On a node's refusal to another: no origin has seen the request.
pub(crate) const UNSENT: HeaderName = HeaderName::from_static("x-meridian-unsent");
/// On a node's refusal to another: the reason, where an emergency is in force there, and nobody else is to be asked.
pub(crate) const REFUSED: HeaderName = HeaderName::from_static("x-meridian-refused");
/// Beside [`REFUSED`]: which table of the bus refuses, as `EPOCH.REVISION`, where no origin can have seen the request.
pub(crate) const TABLE: HeaderName = HeaderName::from_static("x-meridian-table");
/// A node's question to another region's gateway whether that region can serve.
pub(crate) const PROBE: HeaderName = HeaderName::from_static("x-meridian-probe");

/// Returns whether only nodes may write a field: `x-meridian-` with anything for its dashes, since CGI and its
/// heirs cannot tell `x_meridian_chosen` from `x-meridian-chosen`.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    matches!(name.as_str().as_bytes(), [b'x', a, rest @ ..]
        if !a.is_ascii_alphanumeric()
            && rest.strip_prefix(b"meridian").and_then(<[u8]>::first).is_some_and(|b| !b.is_ascii_alphanumeric()))
}

/// Drops every field that only nodes may write.
pub(crate) fn drop_reserved(headers: &mut HeaderMap) {
    let found: SmallVec<[HeaderName; 4]> = headers.keys().filter(|name| is_reserved(name)).cloned().collect();
    found.iter().for_each(|name| drop(headers.remove(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_in_every_spelling() {
        for (name, reserved) in [
            ("x-meridian-chosen", true),
            ("X-Meridian-Anything", true),
            ("x_meridian_chosen", true),
            ("x-meridian_chosen", true),
            ("x.meridian.chosen", true),
            ("x-meridian-", true),
            ("x-meridian", false),
            ("x-meridians-chosen", false),
            ("xx-meridian-chosen", false),
            ("y-meridian-chosen", false),
            ("xmeridian-chosen", false),
            ("x", false),
        ] {
            assert_eq!(is_reserved(&name.parse().unwrap()), reserved, "{name}");
        }
    }
}
