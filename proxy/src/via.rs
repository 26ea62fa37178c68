//! The `Via` field (RFC 9110, 7.6.3): through which proxies a message has come, and whether through this one before.

use http::header::VIA;
use http::{HeaderMap, HeaderValue, Version};

use crate::fields::write_hex;

/// What this process calls itself: a pseudonym, which no other has, and which says nothing of where it runs. It lives as
/// long as the process.
#[derive(Debug)]
pub(crate) struct Via {
    pseudonym: String,
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

impl Via {
    /// Makes a pseudonym.
    pub(crate) fn new() -> Self {
        let mut digits = [0; 8];
        write_hex(&mut digits, u128::from(fastrand::u64(..)));
        let pseudonym = format!("meridian-{}", String::from_utf8_lossy(&digits));
        // There is one for each process, which never ends before it: a copy of a static value counts no references, which
        // all workers would count in one place. Letters, digits and spaces are a field's value.
        let value =
            |version: &str| HeaderValue::from_static(Box::leak(format!("{version} {pseudonym}").into_boxed_str()));
        Self { http10: value("1.0"), http11: value("1.1"), http2: value("2.0"), pseudonym }
    }

    /// Returns what to say of a message that was received in this version of HTTP.
    pub(crate) fn received_in(&self, version: Version) -> &HeaderValue {
        match version {
            Version::HTTP_10 => &self.http10,
            Version::HTTP_2 => &self.http2,
            _ => &self.http11,
        }
    }

    /// Returns whether a message has come through this process before.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let finder = || memchr::memmem::Finder::new(self.pseudonym.as_bytes());
        headers.contains_key(VIA) && headers.get_all(VIA).iter().any(|line| finder().find(line.as_bytes()).is_some())
    }
}

/// Returns the whole list: what was received, and `ours`.
pub(crate) fn with_ours(received: &HeaderMap, ours: &HeaderValue) -> Option<HeaderValue> {
    if !received.contains_key(VIA) {
        return Some(ours.clone());
    }
    let mut lines: Vec<&[u8]> = received.get_all(VIA).iter().map(HeaderValue::as_bytes).collect();
    lines.push(ours.as_bytes());
    HeaderValue::from_bytes(&lines.join(&b", "[..])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_own_pseudonym_in_any_list() {
        let (one, other) = (Via::new(), Via::new());
        let mut headers = HeaderMap::new();
        assert!(!one.is_in(&headers));
        headers.append(VIA, HeaderValue::from_static("1.1 cache"));
        headers.append(VIA, HeaderValue::from_static("1.0 fred (Apache)"));
        let list = with_ours(&headers, one.received_in(Version::HTTP_2)).unwrap();
        let text = list.to_str().unwrap();
        assert!(text.starts_with("1.1 cache, 1.0 fred (Apache), 2.0 meridian-"), "{text}");
        headers.insert(VIA, list);
        assert!(one.is_in(&headers) && !other.is_in(&headers));
    }
}
