//! Which of the fields that this node acts on a head has: found out in one pass over it, since each look-up in a header
//! map costs as much as reading several names.

#[cfg(test)]
use http::HeaderMap;
use http::HeaderName;

/// Which of the [`Known`] fields a head had when it was read. Fields may have been taken out since, and none put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownFields(u32);

/// A field that this node acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Known {
    Connection,
    ContentLength,
    Cookie,
    ForwardedFor,
    ForwardedHost,
    ForwardedProto,
    RequestId,
    Te,
    Traceparent,
    Upgrade,
    Via,
}

impl KnownFields {
    /// Looks at every field of a head.
    #[cfg(test)]
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut known = Self::default();
        headers.keys().for_each(|name| known.note(name));
        known
    }

    /// Takes note of a field.
    pub(crate) fn note(&mut self, name: &HeaderName) {
        let field = match name.as_str() {
            "connection" => Known::Connection,
            "content-length" => Known::ContentLength,
            "cookie" => Known::Cookie,
            "x-forwarded-for" => Known::ForwardedFor,
            "x-forwarded-host" => Known::ForwardedHost,
            "x-forwarded-proto" => Known::ForwardedProto,
            "x-request-id" => Known::RequestId,
            "te" => Known::Te,
            "traceparent" => Known::Traceparent,
            "upgrade" => Known::Upgrade,
            "via" => Known::Via,
            _ => return,
        };
        self.0 |= 1 << field as u32;
    }

    /// Returns whether the head had a field.
    pub(crate) fn has(self, field: Known) -> bool {
        self.0 & (1 << field as u32) != 0
    }
}
