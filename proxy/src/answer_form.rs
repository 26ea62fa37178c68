//! The form in which a client reads an answer of this node's own.

use http::header::ACCEPT;
use http::{HeaderMap, Method, Request};

use crate::grpc;

/// The form of an answer of this node's own, found out from the request's head before anything can refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerForm {
    /// A status of gRPC, for calls.
    Grpc,
    /// A page, for people: their browsers ask for HTML by name.
    Page,
    /// A problem document (RFC 9457), for all other programs.
    Problem,
}

impl AnswerForm {
    /// Returns the form that a request asks for.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        match *request.method() {
            Method::GET | Method::HEAD if prefers_html(request.headers()) => Self::Page,
            Method::POST if grpc::is_call(request.method(), request.headers()) => Self::Grpc,
            _ => Self::Problem,
        }
    }

    /// Returns the form for a request of any method that an emergency refuses: who sends a page's form, and may only read,
    /// is a person.
    pub(crate) fn in_emergency(self, headers: &HeaderMap) -> Self {
        if self == Self::Problem && prefers_html(headers) { Self::Page } else { self }
    }

    /// Returns whether the request is a gRPC call.
    pub(crate) fn is_call(self) -> bool {
        self == Self::Grpc
    }
}

/// Returns whether Accept names `text/html`, and no kind of JSON above it. A program that takes everything, as `*/*`
/// says, does not.
fn prefers_html(headers: &HeaderMap) -> bool {
    let mut html = 0;
    let mut json = 0;
    let ranges = headers.get_all(ACCEPT).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    for range in ranges.take(MOST_RANGES) {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kind = parts.next().unwrap_or_default();
        let best = if kind.eq_ignore_ascii_case(b"text/html") {
            &mut html
        } else if kind.eq_ignore_ascii_case(b"application/json")
            || kind.eq_ignore_ascii_case(b"application/problem+json")
        {
            &mut json
        } else {
            continue;
        };
        *best = (*best).max(parts.find_map(quality).unwrap_or(1000));
    }
    html > 0 && html >= json
}

/// Returns the thousandths of a `q` parameter (RFC 9110, 12.4.2); a malformed one is 0. `None` of another parameter.
fn quality(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let digits = |fraction: &[u8]| {
        fraction.iter().try_fold(0_u16, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u16::from(digit - b'0')))
    };
    let fraction = |fraction: &[u8]| match fraction.len() {
        0..=3 => digits(fraction).map(|number| number * 10_u16.pow(3 - fraction.len() as u32)),
        _ => None,
    };
    Some(match value {
        [b'1', ..] => 1000,
        [b'0', b'.', rest @ ..] => fraction(rest).unwrap_or(0),
        _ => 0,
    })
}

/// Media ranges that are looked at: browsers name fewer than ten.
const MOST_RANGES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_pages_and_programs_documents() {
        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (method, accept, expected) in [
            ("GET", chromium, AnswerForm::Page),
            ("HEAD", chromium, AnswerForm::Page),
            ("POST", chromium, AnswerForm::Problem),
            ("GET", "*/*", AnswerForm::Problem),
            ("GET", "", AnswerForm::Problem),
            ("GET", "text/*", AnswerForm::Problem),
            ("GET", "TEXT/HTML", AnswerForm::Page),
            ("GET", "text/html;q=0", AnswerForm::Problem),
            ("GET", "text/html;q=0.000", AnswerForm::Problem),
            ("GET", "text/html;q=0.001", AnswerForm::Page),
            ("GET", "text/html ; Q=0.5, application/json", AnswerForm::Problem),
            ("GET", "text/html, application/json", AnswerForm::Page),
            ("GET", "application/json;q=0.9, text/html;level=1;q=0.9", AnswerForm::Page),
            ("GET", "application/json;q=0.9, text/html;q=0.85", AnswerForm::Problem),
            ("GET", "application/problem+json, text/html;q=0.9", AnswerForm::Problem),
            ("GET", "text/html;q=x", AnswerForm::Problem),
            ("GET", "text/html;q=0.1234", AnswerForm::Problem),
        ] {
            let request = Request::builder().method(method).header("accept", accept).body(()).unwrap();
            assert_eq!(AnswerForm::of(&request), expected, "{method} {accept}");
            let in_emergency = AnswerForm::of(&request).in_emergency(request.headers());
            let expected = if method == "POST" { AnswerForm::Page } else { expected };
            assert_eq!(in_emergency, expected, "{method} {accept}");
        }
        let two = Request::get("/").header("accept", "application/json;q=0.1").header("accept", "text/html");
        assert_eq!(AnswerForm::of(&two.body(()).unwrap()), AnswerForm::Page);
        let call = Request::post("/a.B/C").header("content-type", "application/grpc+proto").header("accept", chromium);
        assert_eq!(AnswerForm::of(&call.body(()).unwrap()), AnswerForm::Grpc);
    }
}
