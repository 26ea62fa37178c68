//! One request as the caller describes it.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Full;

use crate::Protocol;

/// What to ask for, and on whose behalf.
#[derive(Clone, Debug)]
pub struct RequestSpec {
    /// The request method.
    pub method: Method,
    /// The path with its query, from `/` on.
    pub path: String,
    /// The `Host` field, or `:authority` on HTTP/2: a name with an optional port.
    pub host: String,
    /// Further header fields, in order. `content-length` is set from the body.
    pub headers: Vec<(String, String)>,
    /// The whole body; empty for none.
    pub body: Bytes,
    /// Who is asking: a number of the caller's own, handed back in the observation.
    pub tag: usize,
}

impl RequestSpec {
    /// Returns a GET without further headers, under tag 0.
    pub fn get(host: impl Into<String>, path: impl Into<String>) -> RequestSpec {
        RequestSpec {
            method: Method::GET,
            path: path.into(),
            host: host.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            tag: 0,
        }
    }

    /// Returns the message to send: on HTTP/1.1 a path and a `Host` field, on HTTP/2 a full URI without that field.
    pub(crate) fn message(self, protocol: Protocol, scheme: Scheme) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut uri = Uri::builder().path_and_query(PathAndQuery::try_from(self.path)?);
        if protocol == Protocol::Http2 {
            uri = uri.scheme(scheme).authority(Authority::try_from(self.host.as_str())?);
        }
        let mut message = Request::new(Full::new(self.body));
        *message.method_mut() = self.method;
        *message.uri_mut() = uri.build()?;
        if protocol == Protocol::Http1 {
            message.headers_mut().insert(header::HOST, HeaderValue::try_from(self.host)?);
        }
        for (name, value) in self.headers {
            message.headers_mut().append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        Ok(message)
    }
}
