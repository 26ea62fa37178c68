//! Decodes a message's content as it arrives (RFC 9112, 6 and 7).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

/// How a message's content is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// By its length in bytes; 0 is none.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the connection's end.
    UntilClose,
}

/// Why content cannot be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum ContentError {
    #[error("a chunk is malformed")]
    Chunk,
    #[error("the trailers are malformed")]
    Trailers,
    #[error("the content was cut off")]
    CutOff,
}

/// Where the reading of a message's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// A chunk's size comes next.
    ChunkSize,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// A chunk's data is read, and the end of its line comes next.
    ChunkEnd,
    /// The last chunk was read, and trailers come next, or an empty line.
    Trailers,
    /// All is content until the connection ends.
    UntilClose,
    /// There is no more.
    Ended,
}

impl Decoder {
    /// Begins with what a head says.
    pub(crate) fn new(content: Content) -> Self {
        match content {
            Content::Length(0) => Decoder::Ended,
            Content::Length(length) => Decoder::Length(length),
            Content::Chunked => Decoder::ChunkSize,
            Content::UntilClose => Decoder::UntilClose,
        }
    }

    /// Takes the next piece out of what has arrived; `None` when more is needed, or at the end.
    ///
    /// # Errors
    /// When chunks or trailers are malformed.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame<Bytes>>, ContentError> {
        loop {
            match self {
                Decoder::Ended => return Ok(None),
                Decoder::UntilClose if input.is_empty() => return Ok(None),
                Decoder::UntilClose => return Ok(Some(Frame::data(input.split().freeze()))),
                Decoder::Length(left) => {
                    let Some((data, rest)) = take(input, *left) else { return Ok(None) };
                    *self = if rest == 0 { Decoder::Ended } else { Decoder::Length(rest) };
                    return Ok(Some(Frame::data(data)));
                }
                Decoder::Chunk(left) => {
                    let Some((data, rest)) = take(input, *left) else { return Ok(None) };
                    *self = if rest == 0 { Decoder::ChunkEnd } else { Decoder::Chunk(rest) };
                    if rest == 0 {
                        // What ends this chunk, and the content, is most often here too: it is one wake-up less. If it
                        // is malformed, that is found again after this piece.
                        let _ = self.skip_framing(input);
                    }
                    return Ok(Some(Frame::data(data)));
                }
                Decoder::ChunkSize | Decoder::ChunkEnd => {
                    if !self.skip_framing(input)? {
                        return Ok(None);
                    }
                }
                Decoder::Trailers => {
                    let Some(trailers) = take_trailers(input)? else { return Ok(None) };
                    *self = Decoder::Ended;
                    return Ok(Some(trailers).filter(|trailers| !trailers.is_empty()).map(Frame::trailers));
                }
            }
        }
    }

    /// Reads past the framing before the next chunk's data, and past an end without trailers; false when more is
    /// needed.
    fn skip_framing(&mut self, input: &mut BytesMut) -> Result<bool, ContentError> {
        if *self == Decoder::ChunkEnd {
            match input.get(..2) {
                Some(b"\r\n") => input.advance(2),
                Some(_) => return Err(ContentError::Chunk),
                None => return Ok(false),
            }
            *self = Decoder::ChunkSize;
        }
        if *self == Decoder::ChunkSize {
            // httparse takes a line without a size for the last.
            if input.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
                return Err(ContentError::Chunk);
            }
            match httparse::parse_chunk_size(input) {
                Ok(httparse::Status::Complete((length, _)))
                    if input.get(..length - 1).unwrap_or_default().contains(&b'\n') =>
                {
                    return Err(ContentError::Chunk);
                }
                Ok(httparse::Status::Complete((length, size))) => {
                    input.advance(length);
                    *self = if size == 0 { Decoder::Trailers } else { Decoder::Chunk(size) };
                }
                Ok(httparse::Status::Partial) if input.len() > MAX_CHUNK_LINE => return Err(ContentError::Chunk),
                Ok(httparse::Status::Partial) => return Ok(false),
                Err(_) => return Err(ContentError::Chunk),
            }
        }
        if *self == Decoder::Trailers && input.starts_with(b"\r\n") {
            input.advance(2);
            *self = Decoder::Ended;
        }
        Ok(true)
    }

    /// Takes the connection's end as the content's, if it is; otherwise it is cut off.
    ///
    /// # Errors
    /// When it is cut off.
    pub(crate) fn close(&mut self) -> Result<(), ContentError> {
        match self {
            Decoder::UntilClose | Decoder::Ended => {
                *self = Decoder::Ended;
                Ok(())
            }
            _ => Err(ContentError::CutOff),
        }
    }

    /// Returns whether there is no more.
    pub(crate) fn is_ended(&self) -> bool {
        *self == Decoder::Ended
    }

    /// Returns how many bytes are still to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Decoder::Length(left) => SizeHint::with_exact(*left),
            Decoder::Ended => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

/// Takes at most `most` bytes; they, and how many of `most` are left. `None` when there are none.
fn take(input: &mut BytesMut, most: u64) -> Option<(Bytes, u64)> {
    if input.is_empty() {
        return None;
    }
    let here = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    Some((input.split_to(here).freeze(), most - here as u64))
}

/// Takes trailers that are complete; `None` while they are not.
fn take_trailers(input: &mut BytesMut) -> Result<Option<HeaderMap>, ContentError> {
    let mut few = [httparse::EMPTY_HEADER; USUAL_TRAILERS];
    let mut parsed = parse_trailers(input, &mut few);
    if matches!(parsed, Err(httparse::Error::TooManyHeaders)) {
        parsed = parse_trailers(input, &mut vec![httparse::EMPTY_HEADER; MAX_TRAILERS]);
    }
    match parsed {
        // A line feed alone is an end to some, and none to others: what follows could be taken for a message (RFC 9112, 2.2).
        Ok(Some((length, _))) if has_bare_line_feed(input.get(..length).unwrap_or_default()) => {
            Err(ContentError::Trailers)
        }
        // However much of them one read has brought.
        Ok(Some((length, _))) if length > MAX_TRAILER_BYTES => Err(ContentError::Trailers),
        Ok(Some((length, trailers))) => {
            input.advance(length);
            Ok(Some(trailers))
        }
        Ok(None) if input.len() <= MAX_TRAILER_BYTES => Ok(None),
        Ok(None) | Err(_) => Err(ContentError::Trailers),
    }
}

fn has_bare_line_feed(lines: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', lines).any(|at| at == 0 || lines.get(at - 1) != Some(&b'\r'))
}

/// Returns the length of trailers that are complete, and the trailers.
fn parse_trailers<'a>(
    input: &'a [u8],
    fields: &mut [httparse::Header<'a>],
) -> Result<Option<(usize, HeaderMap)>, httparse::Error> {
    let httparse::Status::Complete((length, found)) = httparse::parse_headers(input, fields)? else { return Ok(None) };
    let mut trailers = HeaderMap::with_capacity(found.len());
    for field in found {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| httparse::Error::HeaderName)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| httparse::Error::HeaderValue)?;
        trailers.append(name, value);
    }
    Ok(Some((length, trailers)))
}

/// A chunk's size with its extensions, which nobody uses, at most.
const MAX_CHUNK_LINE: usize = 4 * 1024;
/// Trailers that there is room for without an allocation: gRPC has a few.
const USUAL_TRAILERS: usize = 16;
/// Trailers of one message at most, and their bytes: as many as of a head.
const MAX_TRAILERS: usize = 1024;
const MAX_TRAILER_BYTES: usize = 256 * 1024;
