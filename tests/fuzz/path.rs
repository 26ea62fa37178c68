//! A path has one form, whatever its encoding, and no origin can read dot segments in it. The input is
//! the path.

use policy::path::canonical;

pub(crate) fn check(input: &[u8]) {
    let raw = String::from_utf8_lossy(input);
    let form = canonical(&raw);
    for (number, other) in [1, 2, 3].map(|step| (step, encoded(&raw, step))) {
        assert_eq!(canonical(&other), form, "{number}: {other}");
    }
    let Ok(form) = form else { return };
    assert!(raw.starts_with('/'));
    assert_eq!(decoded(&merged(&raw)), decoded(&form.path), "it says something else now");
    check_form(&form.path);
    let again = canonical(&form.path).expect("a form is a path");
    assert_eq!(again.path, form.path);
    assert_eq!(again.readings, form.readings);
    // A coding is undone once at most; and an origin may cut parameters before that, after that, or never.
    check_segments(&decoded(&raw));
    check_segments(raw.as_bytes());
    assert!(form.readings.len() <= 3, "{:?}", form.readings);
    for reading in &form.readings {
        check_form(reading);
        assert_eq!(canonical(reading).expect("a reading is a path").path, reading.as_str());
        assert_ne!(*reading, form.path, "a reading that is none");
    }
    let slashes = form.path.contains("%2F").then(|| merged(&form.path.replace("%2F", "/")));
    let read = |path: &str| path == form.path || form.readings.iter().any(|reading| reading == path);
    for path in std::iter::once(form.path.to_string()).chain(slashes) {
        assert!(read(&path), "{path} is not told");
        let cut: Vec<&str> =
            path.split('/').map(|segment| segment.split_once(';').map_or(segment, |(name, _)| name)).collect();
        assert!(read(&merged(&cut.join("/"))), "{path} without parameters is not told");
    }
}

/// A path of allowed bytes; escapes are in upper case, and only of what needs one.
fn check_form(path: &str) {
    assert!(path.starts_with('/') && !path.contains("//"), "{path}");
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            assert!(may_stand(*byte), "{path}");
            continue;
        }
        let [high, low, after @ ..] = rest else { panic!("half an escape in {path}") };
        rest = after;
        let value = hex(*high) << 4 | hex(*low);
        assert!(!high.is_ascii_lowercase() && !low.is_ascii_lowercase(), "{path}");
        assert!(value == b'/' || value != 0 && value != b'\\' && !may_stand(value), "{path} has a needless escape");
    }
    check_segments(path.as_bytes());
}

fn check_segments(path: &[u8]) {
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        let dots = |segment: &[u8]| matches!(segment, b"." | b"..");
        assert!(!dots(segment) && !dots(name), "{} has a dot segment", path.escape_ascii());
    }
}

/// The same path with every `step`th character that may be encoded without harm encoded.
fn encoded(raw: &str, step: usize) -> String {
    let mut coded = String::new();
    let mut escape = 0_u32;
    for (index, byte) in raw.bytes().enumerate() {
        let in_escape = escape > 0;
        escape = if byte == b'%' { 2 } else { escape.saturating_sub(1) };
        let spared = in_escape || byte == b'/' || !may_stand(byte);
        match byte {
            byte if !spared && index % step == 0 => coded.push_str(&format!("%{byte:02x}")),
            byte if byte.is_ascii() => coded.push(char::from(byte)),
            byte => coded.push_str(&format!("%{byte:02X}")),
        }
    }
    coded
}

/// RFC 3986, 3.3: `pchar` without its escapes.
fn may_stand(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/')
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
        || matches!(byte, b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

fn decoded(path: &str) -> Vec<u8> {
    let mut bytes = path.bytes();
    std::iter::from_fn(|| match bytes.next()? {
        b'%' => Some(hex(bytes.next()?) << 4 | hex(bytes.next()?)),
        byte => Some(byte),
    })
    .collect()
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).expect("a hexadecimal digit") as u8
}

fn merged(path: &str) -> String {
    let mut merged = path.to_owned();
    while merged.contains("//") {
        merged = merged.replace("//", "/");
    }
    merged
}
