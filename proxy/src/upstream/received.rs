//! What a connection's peer has sent on its streams, by its frames: which of them it has ended, and how much of their content
//! nobody has taken. The library forgets the first of a request which is still being sent once the connection fails, so that a
//! whole answer that nobody has read by then would be taken for one that was cut; and the second only who reads can ask it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::body_budget::{BodyBudget, HeldAnswers};

/// What has come on one connection. What reads for it has it, and its requests, all on one worker's thread, so that its lock
/// is always free.
#[derive(Debug)]
pub(super) struct Received {
    /// The streams of requests that are under way.
    streams: Mutex<Vec<Incoming>>,
    held: HeldAnswers,
}

#[derive(Debug)]
struct Incoming {
    stream: u32,
    end: End,
    /// What has come of its content and nobody has taken, in bytes.
    untaken: u64,
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

/// What has come on one stream. It belongs to its request.
#[derive(Debug)]
pub(super) struct ReceivedStream {
    received: Arc<Received>,
    stream: u32,
}

impl Received {
    /// Makes that of a new connection.
    pub(super) fn of(budget: &Arc<BodyBudget>) -> Arc<Self> {
        Arc::new(Self { streams: Mutex::default(), held: HeldAnswers::of(budget) })
    }

    /// Follows a stream that was just begun.
    pub(super) fn follow(self: &Arc<Self>, stream: u32) -> ReceivedStream {
        self.lock().push(Incoming { stream, end: End::Open, untaken: 0 });
        ReceivedStream { received: self.clone(), stream }
    }

    /// Returns the node's count of what is held.
    pub(super) fn budget(&self) -> &BodyBudget {
        self.held.budget()
    }

    fn came(&self, stream: u32, bytes: u64) {
        if let Some(incoming) = self.lock().iter_mut().find(|each| each.stream == stream) {
            incoming.untaken += bytes;
            self.held.add(bytes);
        }
    }

    fn ended(&self, stream: u32, end: End) {
        if let Some(incoming) = self.lock().iter_mut().find(|each| each.stream == stream) {
            incoming.end = end;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Incoming>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReceivedStream {
    /// Notes that so many bytes of its content were taken.
    pub(super) fn took(&self, bytes: usize) {
        if let Some(incoming) = self.received.lock().iter_mut().find(|each| each.stream == self.stream) {
            let took = incoming.untaken.min(bytes as u64);
            incoming.untaken -= took;
            self.received.held.take(took);
        }
    }

    /// Returns whether the stream was ended by its peer, with nothing left of what its head has said, before the connection
    /// failed with this error.
    pub(super) fn ended_before(&self, error: &h2::Error, left: Option<u64>) -> bool {
        if left.is_some_and(|left| left > 0) {
            return false;
        }
        let end = self.received.lock().iter().find(|each| each.stream == self.stream).map(|each| each.end);
        match end {
            Some(End::Early) => error.is_io() || (error.is_go_away() && error.is_remote()),
            // After a GOAWAY that has disowned it, its end would not be one.
            Some(End::AfterGoAway) => error.is_io(),
            Some(End::Open) | None => false,
        }
    }
}

impl Drop for ReceivedStream {
    fn drop(&mut self) {
        let mut streams = self.received.lock();
        if let Some(at) = streams.iter().position(|each| each.stream == self.stream) {
            self.received.held.take(streams.swap_remove(at).untaken);
        }
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
    /// The stream of the frame that has begun, where how much of it is padding comes next.
    padded: Option<u32>,
    /// Streams that end in what was read last: the library may have yet to look at it.
    ended: Vec<(u32, End)>,
}

impl FrameFollower {
    /// Notes the ends that it has gone over: the library has taken all whole frames that it has before it reads on. Where it
    /// cannot answer a frame (a PING), as nothing it writes is taken, those after it are lost with the connection.
    pub(super) fn reads_on(&mut self, received: &Received) {
        self.ended.drain(..).for_each(|(stream, end)| received.ended(stream, end));
    }

    /// Goes on over bytes that were read, and notes what content of streams is in them.
    pub(super) fn advance(&mut self, mut bytes: &[u8], received: &Received) {
        loop {
            if self.to_skip > 0
                && let Some(padding) = bytes.first()
                && let Some(stream) = self.padded.take()
            {
                received.came(stream, (self.to_skip - 1).saturating_sub(usize::from(*padding)) as u64);
            }
            let skipped = self.to_skip.min(bytes.len());
            self.to_skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if self.to_skip > 0 {
                return;
            }
            if let Some(stream) = self.ends.take() {
                self.ended.push((stream, if self.is_going { End::AfterGoAway } else { End::Early }));
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
            self.begin_frame(received);
        }
    }

    fn begin_frame(&mut self, received: &Received) {
        let [high, middle, low, kind, flags, stream @ ..] = self.header;
        self.has = 0;
        self.to_skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        // Its highest bit means nothing (RFC 9113, 4.1).
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        let ends_stream = flags & END_STREAM != 0;
        let ends_block = flags & END_HEADERS != 0;
        if kind == DATA && flags & PADDED != 0 {
            self.padded = Some(stream).filter(|_| self.to_skip > 0);
        } else if kind == DATA && self.to_skip > 0 {
            received.came(stream, self.to_skip as u64);
        }
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
const PADDED: u8 = 8;

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
                let received = Received::of(&Arc::default());
                let (_five, mut follower) = (received.follow(5), FrameFollower::default());
                let (first, rest) = bytes.split_at(cut);
                follower.advance(first, &received);
                follower.reads_on(&received);
                assert_eq!(received.lock()[0].end, End::Open, "{end:?} cut at {cut}");
                follower.advance(rest, &received);
                assert_eq!(received.lock()[0].end, End::Open, "it is read, and may be lost");
                follower.reads_on(&received);
                assert_eq!(received.lock()[0].end, end, "cut at {cut}");
            }
        }
    }

    /// What has come and is not taken is held, until it is, or its stream is gone.
    #[test]
    fn what_nobody_has_taken_is_held() {
        const KIB: usize = 1024;
        let budget = Arc::<BodyBudget>::default();
        let received = Received::of(&budget);
        let (one, three) = (received.follow(1), received.follow(3));
        let mut follower = FrameFollower::default();
        let mut come = |stream, size, flags| follower.advance(&frame(DATA, flags, stream, size), &received);
        come(1, 16 * KIB, 0);
        come(9, 16 * KIB, 0);
        assert_eq!(received.held.bytes(), 16 * KIB as u64, "of streams that are under way");
        come(1, 16 * KIB + 2, PADDED);
        assert_eq!(received.held.bytes(), 32 * KIB as u64, "and a byte of padding");
        one.took(16 * KIB);
        assert_eq!(budget.held(), 0, "it is little");
        for _ in 0..4 {
            come(3, 16 * KIB, 0);
        }
        assert_eq!(budget.held(), 64 * KIB as u64);
        one.took(16 * KIB);
        one.took(16 * KIB);
        assert_eq!(received.held.bytes(), 64 * KIB as u64);
        drop(three);
        assert_eq!((received.held.bytes(), budget.held()), (0, 0));
        drop(one);
        assert!(received.lock().is_empty());
    }
}
