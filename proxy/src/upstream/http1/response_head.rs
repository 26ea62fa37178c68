//! Reads an answer's head (RFC 9112, 4 and 5), and says how long its content is (RFC 9112, 6.3).

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use crate::framing::has_token;
use crate::http1::Content;
use crate::upstream::answer_error::AnswerError;

/// An answer's head, and what it says of what follows.
#[derive(Debug)]
pub(super) struct ResponseHead {
    /// The head. Its version is 1.1, whatever the origin's: the version is each hop's own (RFC 9110, 2.5).
    pub(super) response: Response<()>,
    /// What follows.
    pub(super) content: Content,
    /// Whether the connection may be used again, once the content was read to its end.
    pub(super) keeps_alive: bool,
    /// Whether it has no content whatever it says of one: an origin that sends some all the same is found out later.
    pub(super) is_bare: bool,
}

/// Takes a complete head out of what has arrived; `None` while there is none. `to_head` says that the request was a
/// HEAD, whose answer has no content.
///
/// # Errors
/// When it is none that HTTP/1 allows.
pub(super) fn take_head(input: &mut BytesMut, to_head: bool) -> Result<Option<ResponseHead>, AnswerError> {
    // Some servers end their answers with an empty line too many.
    while input.first().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        input.advance(1);
    }
    if input.is_empty() {
        return Ok(None);
    }
    let mut few = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; USUAL_FIELDS];
    match parse(input, &mut few) {
        Err(AnswerError::Head(httparse::Error::TooManyHeaders)) => {}
        Ok(None) if input.len() > MAX_HEAD => return Err(AnswerError::HeadTooLong),
        Ok(None) => return Ok(None),
        // However much of it one read has brought.
        Ok(Some(lines)) if lines.length > MAX_HEAD => return Err(AnswerError::HeadTooLong),
        Ok(Some(lines)) => return judged(lines.cut(input), to_head).map(Some),
        Err(error) => return Err(error),
    }
    let mut many = vec![MaybeUninit::uninit(); MAX_FIELDS];
    match parse(input, &mut many)? {
        Some(lines) if lines.length > MAX_HEAD => Err(AnswerError::HeadTooLong),
        Some(lines) => judged(lines.cut(input), to_head).map(Some),
        None if input.len() > MAX_HEAD => Err(AnswerError::HeadTooLong),
        None => Ok(None),
    }
}

/// Where the parts of a head are, in the bytes that it was parsed from.
struct Lines {
    length: usize,
    minor_version: u8,
    status: StatusCode,
    reason: (usize, usize),
    fields: Vec<(HeaderName, usize, usize)>,
}

fn parse<'a>(input: &'a [u8], fields: &mut [MaybeUninit<httparse::Header<'a>>]) -> Result<Option<Lines>, AnswerError> {
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, input, fields);
    let length = match parsed.map_err(AnswerError::Head)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let start = input.as_ptr() as usize;
    let place = |bytes: &[u8]| {
        let from = (bytes.as_ptr() as usize).saturating_sub(start);
        (from, from + bytes.len())
    };
    let mut names = Vec::with_capacity(head.headers.len());
    for field in &*head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| AnswerError::Field)?;
        let (from, to) = place(field.value);
        names.push((name, from, to));
    }
    let status = StatusCode::from_u16(head.code.unwrap_or_default()).map_err(|_| AnswerError::Status)?;
    // One that is missing, or no text, is an empty one from elsewhere.
    let reason = head.reason.filter(|reason| !reason.is_empty()).map_or((0, 0), |reason| place(reason.as_bytes()));
    Ok(Some(Lines { length, minor_version: head.version.unwrap_or(1), status, reason, fields: names }))
}

impl Lines {
    /// Cuts the head off `input`, and returns it with whether it is of HTTP/1.0.
    fn cut(self, input: &mut BytesMut) -> Result<(Response<()>, bool), AnswerError> {
        let bytes: Bytes = input.split_to(self.length).freeze();
        let mut headers = HeaderMap::with_capacity(self.fields.len() + OUR_FIELDS);
        for (name, from, to) in self.fields {
            let value = HeaderValue::from_maybe_shared(bytes.slice(from..to)).map_err(|_| AnswerError::Field)?;
            headers.append(name, value);
        }
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        let (from, to) = self.reason;
        let reason = bytes.get(from..to).unwrap_or_default();
        if self.status.canonical_reason().is_none_or(|usual| usual.as_bytes() != reason)
            && let Ok(reason) = ReasonPhrase::try_from(bytes.slice(from..to))
        {
            response.extensions_mut().insert(reason);
        }
        Ok((response, self.minor_version == 0))
    }
}

/// Says what follows a head (RFC 9112, 6.3).
fn judged(head: Result<(Response<()>, bool), AnswerError>, to_head: bool) -> Result<ResponseHead, AnswerError> {
    let (mut response, is_http10) = head?;
    let status = response.status();
    let headers = response.headers();
    let says = |token| headers.get_all(CONNECTION).iter().any(|value| has_token(value, token));
    let mut keeps_alive = if is_http10 {
        says("keep-alive") && !says("close")
    } else {
        !headers.contains_key(CONNECTION) || !says("close")
    };
    let coded = is_chunked(headers)?;
    let length = stated_length(headers)?;
    let has_none =
        to_head || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let content = if has_none {
        Content::Length(0)
    } else if coded {
        // HTTP/1.0 knows no codings: whatever the origin means by one, its end is in doubt (RFC 9112, 6.1).
        if is_http10 {
            return Err(AnswerError::Coding);
        }
        Content::Chunked
    } else {
        length.map_or(Content::UntilClose, Content::Length)
    };
    if coded && length.is_some() {
        // The coding counts, and who sent both may not be asked again (RFC 9112, 6.3).
        response.headers_mut().remove(CONTENT_LENGTH);
        keeps_alive = false;
    }
    if let Some(length) = length.filter(|_| !coded) {
        // Said once, whatever the origin has: a client need not take a list for one (RFC 9110, 8.6).
        if response.headers().get(CONTENT_LENGTH).is_some_and(|stated| stated.as_bytes().contains(&b','))
            || response.headers().get_all(CONTENT_LENGTH).iter().nth(1).is_some()
        {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    keeps_alive &= content != Content::UntilClose && status != StatusCode::SWITCHING_PROTOCOLS;
    Ok(ResponseHead { response, content, keeps_alive, is_bare: has_none })
}

/// Returns whether the content comes in chunks. It was asked for in no other coding (RFC 9110, 10.1.4), and passed on
/// without being decoded it would be taken for the content itself.
fn is_chunked(headers: &HeaderMap) -> Result<bool, AnswerError> {
    let mut chunked = false;
    for line in headers.get_all(TRANSFER_ENCODING) {
        for coding in line.to_str().map_err(|_| AnswerError::Coding)?.split(',').map(str::trim) {
            // Servers of HTTP/1.1's first years said so of no coding at all (RFC 2616, 3.6).
            if coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
                continue;
            }
            if chunked || !coding.eq_ignore_ascii_case("chunked") {
                return Err(AnswerError::Coding);
            }
            chunked = true;
        }
    }
    Ok(chunked)
}

/// Returns the length that a head states, once or repeatedly (RFC 9112, 6.3, 5).
fn stated_length(headers: &HeaderMap) -> Result<Option<u64>, AnswerError> {
    let mut stated = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for length in value.to_str().map_err(|_| AnswerError::Length)?.split(',') {
            let length = length.trim();
            if length.is_empty() || !length.bytes().all(|digit| digit.is_ascii_digit()) {
                return Err(AnswerError::Length);
            }
            let length: u64 = length.parse().map_err(|_| AnswerError::Length)?;
            if stated.is_some_and(|stated| stated != length) {
                return Err(AnswerError::Length);
            }
            stated = Some(length);
        }
    }
    Ok(stated)
}

/// Fields that a head has room for without an allocation: three times what most have.
const USUAL_FIELDS: usize = 64;
/// Fields of one head at most: ten times what hyper, nginx and browsers expect of sane ones.
const MAX_FIELDS: usize = 1024;
/// Bytes of one head at most. Envoy takes 60 KiB, browsers 256 KiB: what a client could not read is not fetched.
const MAX_HEAD: usize = 256 * 1024;
/// Fields that this node adds on the way down.
const OUR_FIELDS: usize = 4;
