//! Which streams of a connection their peer has ended, by its frames. The library forgets that of a request which is still
//! being sent once the connection fails: a whole answer that nobody has read by then would be taken for one that was cut.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The streams of one connection whose ends are of interest. What reads for the connection has it, and its requests, all on
/// one worker's thread, so that its lock is always free.
#[derive(Debug, Default)]
pub(super) struct StreamEnds {
    /// How many there are, which is none where requests have no content.
    count: AtomicUsize,
    streams: Mutex<Vec<(u32, End)>>,
}

/// How far a stream's peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There may be more.
    Open,
    /// It has ended the stream, before any GOAWAY.
    Early,
    /// It has ended it after one, which may have disowned it.
    AfterGoAway,
}

/// One stream whose end is of interest while this lives. It belongs to its request.
#[derive(Debug)]
pub(super) struct StreamEnd {
    ends: Arc<StreamEnds>,
    stream: u32,
}

impl StreamEnds {
    /// Begins to look for the end of a stream that was just begun.
    pub(super) fn of(self: &Arc<Self>, stream: u32) -> StreamEnd {
        let mut streams = self.lock();
        streams.push((stream, End::Open));
        self.count.store(streams.len(), Ordering::Relaxed);
        StreamEnd { ends: self.clone(), stream }
    }

    fn note(&self, stream: u32, end: End) {
        if self.count.load(Ordering::Relaxed) > 0
            && let Some((_, known)) = self.lock().iter_mut().find(|(followed, _)| *followed == stream)
        {
            *known = end;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u32, End)>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamEnd {
    /// Returns whether the stream was ended by its peer before the connection failed with this error.
    pub(super) fn came_before(&self, error: &h2::Error) -> bool {
        let end = self.ends.lock().iter().find(|(stream, _)| *stream == self.stream).map(|(_, end)| *end);
        match end {
            Some(End::Early) => error.is_io() || (error.is_go_away() && error.is_remote()),
            // After a GOAWAY that has disowned it, its end would not be one.
            Some(End::AfterGoAway) => error.is_io(),
            Some(End::Open) | None => false,
        }
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        let mut streams = self.ends.lock();
        streams.retain(|(stream, _)| *stream != self.stream);
        self.ends.count.store(streams.len(), Ordering::Relaxed);
    }
}

/// Where what a peer sends is in its frames (RFC 9113, 4.1). What reads for the connection has it.
#[derive(Debug, Default)]
pub(super) struct FrameFollower {
    /// Bytes of a frame's payload that are to come.
    to_skip: usize,
    /// What has come of the next frame's header.
    header: [u8; HEADER],
    has: usize,
    /// The stream that ends with the frame that is being skipped.
    ends: Option<u32>,
    /// The stream that ends with the field block that has begun.
    ends_with_block: Option<u32>,
    /// Whether there was a GOAWAY.
    is_going: bool,
}

impl FrameFollower {
    /// Goes on over bytes, and notes which streams end in them.
    pub(super) fn advance(&mut self, mut bytes: &[u8], ends: &StreamEnds) {
        loop {
            let skipped = self.to_skip.min(bytes.len());
            self.to_skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if self.to_skip > 0 {
                return;
            }
            if let Some(stream) = self.ends.take() {
                ends.note(stream, if self.is_going { End::AfterGoAway } else { End::Early });
            }
            let taken = (HEADER - self.has).min(bytes.len());
            let (part, rest) = bytes.split_at_checked(taken).unwrap_or_default();
            if let Some(place) = self.header.get_mut(self.has..self.has + taken) {
                place.copy_from_slice(part);
            }
            self.has += taken;
            bytes = rest;
            if self.has < HEADER {
                return;
            }
            self.begin_frame();
        }
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, stream @ ..] = self.header;
        self.has = 0;
        self.to_skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        // Its highest bit means nothing (RFC 9113, 4.1).
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        let ends_stream = flags & END_STREAM != 0;
        let ends_block = flags & END_HEADERS != 0;
        match kind {
            DATA if ends_stream => self.ends = Some(stream),
            HEADERS if ends_stream && ends_block => self.ends = Some(stream),
            HEADERS if ends_stream => self.ends_with_block = Some(stream),
            CONTINUATION if ends_block => self.ends = self.ends_with_block.take(),
            GOAWAY => self.is_going = true,
            _ => {}
        }
    }
}

/// A frame's length, type, flags and stream.
const HEADER: usize = 9;
/// RFC 9113, 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0x80, 0, 0, stream], &vec![1; payload]].concat()
    }

    /// A stream ends with the last byte of the frame that ends it, wherever what was read is cut.
    #[test]
    fn an_end_is_seen_once_all_of_its_frame_has_come() {
        for (frames, end) in [
            (vec![frame(HEADERS, END_HEADERS, 5, 3), frame(DATA, END_STREAM, 5, 300)], End::Early),
            (vec![frame(DATA, END_STREAM, 5, 0)], End::Early),
            (vec![frame(HEADERS, END_HEADERS | END_STREAM, 5, 40)], End::Early),
            (vec![frame(HEADERS, END_STREAM, 5, 4), frame(CONTINUATION, END_HEADERS, 5, 7)], End::Early),
            (vec![frame(GOAWAY, 0, 0, 8), frame(DATA, END_STREAM, 5, 2)], End::AfterGoAway),
            (vec![frame(DATA, END_STREAM, 7, 1), frame(DATA, 0, 5, 1)], End::Open),
            (vec![frame(HEADERS, END_STREAM, 5, 4), frame(CONTINUATION, 0, 5, 7)], End::Open),
            // Of another frame the flag means something else.
            (vec![frame(4, 1, 0, 0), frame(8, 1, 5, 4)], End::Open),
        ] {
            let bytes = frames.concat();
            for cut in 0..bytes.len() {
                let ends = Arc::<StreamEnds>::default();
                let (_five, mut follower) = (ends.of(5), FrameFollower::default());
                let (first, rest) = bytes.split_at(cut);
                follower.advance(first, &ends);
                assert_eq!(ends.lock()[0].1, End::Open, "{end:?} cut at {cut}");
                follower.advance(rest, &ends);
                assert_eq!(ends.lock()[0].1, end, "cut at {cut}");
            }
        }
    }

    #[test]
    fn who_is_gone_is_followed_no_more() {
        let ends = Arc::<StreamEnds>::default();
        let (one, three) = (ends.of(1), ends.of(3));
        drop(one);
        assert_eq!(ends.lock()[..], [(3, End::Open)]);
        drop(three);
        assert_eq!(ends.count.load(Ordering::Relaxed), 0);
    }
}
