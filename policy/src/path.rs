//! One form for a path, in requests and in routes: what origins take for the same must be the same
//! here, or an encoding would move a request under another law.

use std::borrow::Cow;

/// A path in its one form, and the other ways in which an origin may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// Percent-encodings of characters that may stand in a path are undone, except that of `/` and
    /// of `%`; everything else is encoded, in upper case; runs of slashes are one.
    pub path: Cow<'a, str>,
    /// With `%2F` taken for a slash, and without the `;parameters` of segments, as some origins do.
    /// Routes of these readings that differ from the path's make a request ambiguous.
    pub readings: Vec<String>,
}

/// Why a path cannot be told by one form.
pub type Ambiguity = &'static str;

/// Brings a path, without its query, into its one form (RFC 3986, 6.2.2, and further).
///
/// # Errors
/// When it is no path, is malformed, or has dot segments in any reading.
pub fn canonical(raw: &str) -> Result<Canonical<'_>, Ambiguity> {
    if !raw.starts_with('/') {
        return Err("the request target is not a path");
    }
    if is_canonical(raw) {
        return Ok(Canonical { path: raw.into(), readings: Vec::new() });
    }
    let path = merge_slashes(&recode(raw)?);
    let mut readings = Vec::new();
    if path.contains("%2F") {
        readings.push(merge_slashes(&path.replace("%2F", "/")));
    }
    for reading in std::iter::once(path.clone()).chain(readings.clone()) {
        if reading.contains(';') {
            readings.push(merge_slashes(&without_parameters(&reading)));
        }
    }
    if std::iter::once(&path).chain(&readings).any(|reading| has_dot_segment(reading)) {
        return Err("the path has dot segments");
    }
    Ok(Canonical { path: path.into(), readings })
}

/// Returns whether a path needs no second look: each character may stand in one and stands for nothing else, and there
/// are no runs of slashes or segments that begin with a dot.
fn is_canonical(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        let starts_badly = before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        may_stand(byte) && byte != b';' && !starts_badly
    })
}

/// RFC 3986's `pchar`, and the slash.
fn may_stand(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

fn recode(raw: &str) -> Result<String, Ambiguity> {
    let mut coded = String::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let (value, was_encoded) = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                match (digit(bytes.next()), digit(bytes.next())) {
                    (Some(high), Some(low)) => ((high * 16 + low) as u8, true),
                    _ => return Err("the path has a broken percent-encoding"),
                }
            }
            b'#' | 0..=0x20 | 0x7f => return Err("the path has a character that must be encoded"),
            byte => (byte, false),
        };
        match value {
            0 => return Err("the path has an encoded NUL"),
            b'\\' => return Err("the path has a backslash"),
            b'/' if was_encoded => coded.push_str("%2F"),
            value if may_stand(value) => coded.push(char::from(value)),
            value => coded.push_str(&format!("%{value:02X}")),
        }
    }
    Ok(coded)
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

fn without_parameters(path: &str) -> String {
    let cut = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    cut.collect::<Vec<_>>().join("/")
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form_or_are_refused() {
        for (raw, expected) in [
            ("/", Some("/")),
            ("/v3/x", Some("/v3/x")),
            ("/v3//x", Some("/v3/x")),
            ("/%76%33/x", Some("/v3/x")),
            ("/orders%3Aexport", Some("/orders:export")),
            ("/orders:expor%74", Some("/orders:export")),
            ("/a%20b", Some("/a%20b")),
            ("/a%c3%a9", Some("/a%C3%A9")),
            ("/a\u{e9}", Some("/a%C3%A9")),
            ("/{x}", Some("/%7Bx%7D")),
            ("/%7bx%7d", Some("/%7Bx%7D")),
            ("/.well-known/x", Some("/.well-known/x")),
            ("/a;v=1/b", Some("/a;v=1/b")),
            ("/a%3Bv=1/b", Some("/a;v=1/b")),
            ("/a%252F..%252Fb", Some("/a%252F..%252Fb")),
            ("/group%2fproject", Some("/group%2Fproject")),
            ("/a/../b", None),
            ("/a/./b", None),
            ("/a/..", None),
            ("/a/%2e%2E/b", None),
            ("/a/..;x=1/b", None),
            ("/a/..%3Bx/b", None),
            ("/a%2F..%2Fb", None),
            ("/a%2F..;x%2Fb", None),
            ("/a%5Cb", None),
            ("/a\\b", None),
            ("/a%00", None),
            ("/a%zz", None),
            ("/a%2", None),
            ("/a b", None),
            ("*", None),
        ] {
            assert_eq!(canonical(raw).ok().map(|c| c.path.into_owned()).as_deref(), expected, "{raw}");
        }
    }

    #[test]
    fn other_readings_are_told() {
        let readings = |raw| canonical(raw).map(|c| c.readings).unwrap_or_default();
        assert!(readings("/a/b").is_empty());
        assert_eq!(readings("/a%2Fb"), ["/a/b"]);
        assert_eq!(readings("/pii;a=1/x"), ["/pii/x"]);
        assert_eq!(readings("/a;b%2Fc;d/e"), ["/a;b/c;d/e", "/a/e", "/a/c/e"]);
    }

    #[test]
    fn the_form_of_a_form_is_itself() {
        for raw in ["/a%20b", "/orders%3Aexport", "/group%2fproject", "/caf\u{e9};x", "/a//b", "/%7bx%7d"] {
            let once = canonical(raw).map(|c| c.path.into_owned()).unwrap_or_default();
            assert_eq!(canonical(&once).map(|c| c.path.into_owned()), Ok(once.clone()), "{raw}");
        }
    }
}
