//! What gRPC over HTTP/2 says in fields: that a request is a call, how long its client waits, and how it ended (gRPC's
//! PROTOCOL-HTTP2).

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};

/// The field in which a client says how long it waits for the whole call.
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The field in which an answer says how a call ended.
pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The status in words.
pub(crate) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Milliseconds after which a client with a retry policy may call again.
pub(crate) const RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// The content type of answers that this node gives to calls itself.
pub(crate) const CONTENT: &str = "application/grpc";

/// Returns whether a request is a gRPC call. gRPC-Web, which has its status in the content, is none.
pub(crate) fn is_call(method: &Method, headers: &HeaderMap) -> bool {
    let kind = (*method == Method::POST).then(|| headers.get(CONTENT_TYPE)).flatten().map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| {
        let (start, rest) = kind.split_at_checked(CONTENT.len())?;
        start.eq_ignore_ascii_case(CONTENT.as_bytes()).then_some(rest)
    });
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t')))
}

/// A status code of gRPC, 0 to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Code(u8);

impl Code {
    pub(crate) const INVALID_ARGUMENT: Code = Code(3);
    pub(crate) const DEADLINE_EXCEEDED: Code = Code(4);
    pub(crate) const PERMISSION_DENIED: Code = Code(7);
    pub(crate) const RESOURCE_EXHAUSTED: Code = Code(8);
    pub(crate) const UNIMPLEMENTED: Code = Code(12);
    pub(crate) const UNAVAILABLE: Code = Code(14);
    const UNKNOWN: Code = Code(2);
    pub(crate) const INTERNAL: Code = Code(13);
    const DATA_LOSS: Code = Code(15);

    /// Returns the code that answers and trailers have as their status; `None` without one. What is no code is UNKNOWN,
    /// as it is to clients.
    pub(crate) fn of(fields: &HeaderMap) -> Option<Self> {
        let text = fields.get(STATUS)?.to_str().ok();
        let is_number = |text: &&str| text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let code = text.filter(is_number).and_then(|text| text.parse().ok()).filter(|code| *code <= LAST);
        Some(code.map_or(Self::UNKNOWN, Self))
    }

    /// Returns its number.
    pub(crate) fn number(self) -> u8 {
        self.0
    }

    /// Returns its number as a field's value.
    pub(crate) fn value(self) -> HeaderValue {
        HeaderValue::from(u16::from(self.0))
    }

    /// Returns the HTTP status that says the same of whoever answers, where that says it has failed: 503 for
    /// UNAVAILABLE, 500 for UNKNOWN, INTERNAL and DATA_LOSS. Of the others the client may be the cause: of
    /// DEADLINE_EXCEEDED by a short deadline, of RESOURCE_EXHAUSTED by its quota.
    pub(crate) fn server_error(self) -> Option<http::StatusCode> {
        match self {
            Self::UNAVAILABLE => Some(http::StatusCode::SERVICE_UNAVAILABLE),
            Self::UNKNOWN | Self::INTERNAL | Self::DATA_LOSS => Some(http::StatusCode::INTERNAL_SERVER_ERROR),
            _ => None,
        }
    }
}

/// The last code, UNAUTHENTICATED.
const LAST: u8 = 16;

/// How a call ended, as far as this node has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CallEnd {
    /// Without a status: the answer was given up, broke off, or is no answer to a call.
    NoStatus,
    /// With this status.
    Status(Code),
}

impl CallEnd {
    /// Returns the value of the metrics' label.
    pub(crate) fn label(self) -> &'static str {
        const NUMBERS: [&str; 17] =
            ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
        match self {
            CallEnd::NoStatus => "none",
            CallEnd::Status(Code(code)) => NUMBERS.get(usize::from(code)).copied().unwrap_or("none"),
        }
    }
}

/// Takes out of a call's head how long its client waits.
///
/// # Errors
/// When that is malformed, or stands there twice.
pub(crate) fn take_timeout(headers: &mut HeaderMap) -> Result<Option<Duration>, &'static str> {
    let mut values = headers.get_all(TIMEOUT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let read = if values.next().is_none() { timeout(value) } else { None };
    headers.remove(TIMEOUT);
    read.map(Some).ok_or("its grpc-timeout is malformed")
}

/// Reads how long a client waits for a call: up to eight digits and a unit. `None` of what is malformed.
fn timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if !(1..=MOST_DIGITS).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Returns what is left of a deadline as a field's value: in the finest unit in which it has eight digits, and never
/// more than is left.
pub(crate) fn timeout_value(left: Duration) -> HeaderValue {
    let units = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (u128::from(left.as_secs()), 'S'),
        (u128::from(left.as_secs() / 60), 'M'),
    ];
    let fits = units.into_iter().find(|(number, _)| *number < 10_u128.pow(MOST_DIGITS as u32));
    let (number, unit) = fits.unwrap_or((u128::from(left.as_secs() / 3600), 'H'));
    HeaderValue::try_from(format!("{number}{unit}")).unwrap_or(HeaderValue::from_static("0n"))
}

/// The most digits that a timeout has.
const MOST_DIGITS: usize = 8;

/// Returns a status in words as a field's value, percent-encoded: printable ASCII is as it is, but for the percent
/// sign.
pub(crate) fn message(words: &str) -> HeaderValue {
    let mut text = String::with_capacity(words.len());
    for byte in words.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Returns the trailers that end a call with a status.
pub(crate) fn trailers(code: Code, words: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(STATUS, code.value());
    trailers.insert(MESSAGE, message(words));
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_method_and_content_type() {
        for (method, kind, expected) in [
            (Method::POST, "application/grpc", true),
            (Method::POST, "Application/gRPC+proto", true),
            (Method::POST, "application/grpc; a=b", true),
            (Method::POST, "application/grpc;a=b", true),
            (Method::POST, "application/grpc-web", false),
            (Method::POST, "application/grpc-web+proto", false),
            (Method::POST, "application/grpcs", false),
            (Method::POST, "application/grp", false),
            (Method::POST, "application/json", false),
            (Method::GET, "application/grpc", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_call(&method, &headers), expected, "{method} {kind}");
        }
        assert!(!is_call(&Method::POST, &HeaderMap::new()));
    }

    #[test]
    fn statuses_are_seventeen_numbers() {
        for (text, expected) in [
            ("0", 0),
            ("16", 16),
            ("14", 14),
            ("17", 2),
            ("99", 2),
            ("-1", 2),
            ("+1", 2),
            ("", 2),
            ("OK", 2),
            ("007", 2),
        ] {
            let fields = HeaderMap::from_iter([(STATUS, HeaderValue::from_static(text))]);
            let code = Code::of(&fields).unwrap();
            assert_eq!(code.number(), expected, "{text:?}");
            assert_eq!(CallEnd::Status(code).label(), expected.to_string());
        }
        assert_eq!(Code::of(&HeaderMap::new()), None);
        assert_eq!(CallEnd::NoStatus.label(), "none");
    }

    #[test]
    fn timeouts_have_up_to_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("00000003S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789n", None),
            ("1", None),
            ("m", None),
            ("", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            (" 1S", None),
        ] {
            assert_eq!(timeout(&HeaderValue::from_static(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_left_is_told_in_the_finest_unit_and_never_more() {
        for (left, expected) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_millis(99_999), "99999000u"),
            (Duration::from_micros(100_000_999), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_001), "1666666M"),
            (Duration::from_secs(10_000_000_000), "2777777H"),
        ] {
            let value = timeout_value(left);
            assert_eq!(value, expected, "{left:?}");
            assert!(timeout(&value).unwrap() <= left);
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(message("no_route: 100% of it, ü\n"), "no_route: 100%25 of it, %C3%BC%0A");
    }
}
