//! How many frames that carry nothing a client may send. Each of them is cheap, and a connection full of them takes a
//! worker's time from everybody else: what is judged is their rate over time, as that of a token bucket.

use crate::cancellations::PAID_PER_SECOND;
use crate::ingress::frame_position::FrameHead;
use crate::telemetry::client_abuse::Abuse;

/// What is left to one connection. It belongs to its connection's task.
#[derive(Debug)]
pub(crate) struct FrameBudget {
    /// For frames that carry nothing.
    frames: Bucket,
    /// For requests that are cancelled. On a connection that has had many answered, many may be cancelled at one time: a
    /// balancer's clients do not know of each other.
    cancellations: Bucket,
    /// Bytes that were sent since they have last paid for a WINDOW_UPDATE.
    unacknowledged: u64,
    /// Frames of answers that were sent and have not paid for a PING.
    unmeasured: u64,
}

impl FrameBudget {
    /// Begins with all that may be spent at once, less what the client owes for what it has cancelled before.
    pub(crate) fn owing(owed: u64, now_ms: u64) -> Self {
        let frames = Bucket { left: BURST, brim: BURST, refilled: now_ms };
        let cancellations = Bucket { left: BURST.saturating_sub(owed), ..frames };
        Self { frames, cancellations, unacknowledged: 0, unmeasured: 0 }
    }

    /// Returns what the client owes for what it has cancelled.
    pub(crate) fn owed(&mut self, now_ms: u64) -> u64 {
        self.cancellations.refill(now_ms);
        BURST.saturating_sub(self.cancellations.left)
    }

    /// Adds what requests that were answered earn.
    pub(crate) fn earn(&mut self, answered: u64) {
        if answered > 0 {
            let earned = answered.saturating_mul(EARNED);
            self.frames.earn(earned);
            self.cancellations.brim = self.cancellations.brim.saturating_add(earned).min(MOST_CANCELLED);
            self.cancellations.earn(earned);
        }
    }

    /// Takes what a client's frame costs.
    ///
    /// # Errors
    /// When there is too little left: with what it was for.
    pub(crate) fn receive(&mut self, frame: FrameHead, now_ms: u64) -> Result<(), Abuse> {
        let abuse = match frame.kind {
            FrameHead::HEADERS => return Ok(()),
            // The end of a request's content may be a frame of its own.
            FrameHead::DATA if frame.flags & FrameHead::END_STREAM != 0 || !may_be_empty(frame) => return Ok(()),
            FrameHead::DATA => Abuse::EmptyData,
            FrameHead::PRIORITY => Abuse::Priority,
            FrameHead::RST_STREAM => return self.cancellations.spend(COST, now_ms).ok_or(Abuse::Reset),
            FrameHead::SETTINGS => Abuse::Settings,
            // gRPC's clients measure the way with a PING for what they have got, as often as its answer comes.
            FrameHead::PING if self.unmeasured > 0 => {
                self.unmeasured -= 1;
                return Ok(());
            }
            FrameHead::PING => Abuse::Ping,
            FrameHead::WINDOW_UPDATE if self.unacknowledged >= BYTES_OF_AN_UPDATE => {
                self.unacknowledged -= BYTES_OF_AN_UPDATE;
                return Ok(());
            }
            FrameHead::WINDOW_UPDATE => Abuse::WindowUpdate,
            FrameHead::CONTINUATION => Abuse::Continuation,
            _ => Abuse::Unknown,
        };
        self.frames.spend(COST, now_ms).ok_or(abuse)
    }

    /// Takes what a frame to the client costs: one that resets a stream of theirs says that it was wrong, unless it is the
    /// node that gives the stream up.
    ///
    /// # Errors
    /// When there is too little left: with what it was for.
    pub(crate) fn send(&mut self, frame: FrameHead, now_ms: u64) -> Result<(), Abuse> {
        if matches!(frame.kind, FrameHead::DATA | FrameHead::HEADERS) {
            self.unmeasured = self.unmeasured.saturating_add(1).min(PINGS_AT_ONCE);
        }
        match frame.kind {
            FrameHead::DATA => {
                let most = UPDATES_AT_ONCE * BYTES_OF_AN_UPDATE;
                let pays = match frame.length as u64 {
                    length @ ..SMALLEST_MESSAGE => length,
                    length => length.max(2 * BYTES_OF_AN_UPDATE),
                };
                self.unacknowledged = self.unacknowledged.saturating_add(pays).min(most);
                Ok(())
            }
            FrameHead::RST_STREAM if OF_THE_NODE.contains(&frame.reason) => Ok(()),
            FrameHead::RST_STREAM => self.frames.spend(COST_OF_A_REJECTION, now_ms).ok_or(Abuse::Rejected),
            _ => Ok(()),
        }
    }
}

/// A token bucket. It counts in thousandths, so that each millisecond refills some.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u64,
    /// What is in it at most.
    brim: u64,
    /// When it was last refilled, in milliseconds.
    refilled: u64,
}

impl Bucket {
    fn earn(&mut self, earned: u64) {
        self.left = self.left.saturating_add(earned).min(self.brim);
    }

    fn refill(&mut self, now_ms: u64) {
        // A thousandth a millisecond is one a second.
        let refill = now_ms.saturating_sub(self.refilled).saturating_mul(PAID_PER_SECOND);
        self.refilled = self.refilled.max(now_ms);
        self.earn(refill);
    }

    fn spend(&mut self, cost: u64, now_ms: u64) -> Option<()> {
        self.refill(now_ms);
        self.left = self.left.checked_sub(cost)?;
        Some(())
    }
}

/// Returns whether there may be nothing but padding in a frame of DATA.
fn may_be_empty(frame: FrameHead) -> bool {
    let padding = if frame.flags & FrameHead::PADDED == 0 { 0 } else { MOST_PADDING };
    frame.length <= padding
}

/// In thousandths: what one frame that carries nothing costs.
const COST: u64 = 1000;
/// The client's mistake has cost a head's decoding beside; a hundred streams above a limit that their client does not
/// know yet are still none too many.
const COST_OF_A_REJECTION: u64 = 2 * COST;
/// What a stream is reset with whose answer breaks off, stands still or needs no more of its request, or whose tunnel was cut:
/// INTERNAL_ERROR, CANCEL and NO_ERROR (RFC 9113, 7). Of streams that are wrong the library says otherwise.
const OF_THE_NODE: [u8; 3] = [2, 8, 0];
/// Twice what a client may have under way and cancels when its user leaves a page; a flood sends it in a millisecond.
const BURST: u64 = 200 * COST;
/// What a request that was answered earns: it may come with a priority, updates of two windows and a PING, or be
/// cancelled before its end; and a call that gRPC hedges may be four that are cancelled and one that is answered.
const EARNED: u64 = 5 * COST;
/// Of a connection that has had 360 requests answered: all streams of a balancer, twenty times over, whose origin hangs while
/// its clients give up. nghttp2 lets any connection
/// cancel 1,000 at once; Envoy ends one that has cancelled more than half of 500 requests or more.
const MOST_CANCELLED: u64 = 10 * BURST;
/// Of a large answer, eager clients (Go's) acknowledge each 4 KiB twice, for the stream and the connection; one in half as
/// much leaves room. Less than that is dribble (CVE-2019-9511).
const BYTES_OF_AN_UPDATE: u64 = 1024;
/// Some clients (Dart's) acknowledge each frame twice, however short: one with a message in it pays for that. Where a
/// client opens its window by a few bytes, there is none.
const SMALLEST_MESSAGE: u64 = 64;
/// A client may read late, and acknowledge in pieces what it has been sent at once: 16 MiB, a large window.
const UPDATES_AT_ONCE: u64 = 16 * 1024;
/// As many as those 16 MiB have frames.
const PINGS_AT_ONCE: u64 = 1024;
/// With the byte that says how long it is (RFC 9113, 6.1).
const MOST_PADDING: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> FrameHead {
        FrameHead { kind, flags: 0, length, stream: 1, reason: 1 }
    }

    /// How many of a frame are taken at one time.
    fn taken(budget: &mut FrameBudget, frame: FrameHead, now_ms: u64) -> usize {
        (0..10_000).take_while(|_| budget.receive(frame, now_ms).is_ok()).count()
    }

    #[test]
    fn each_kind_of_frame_that_carries_nothing_has_an_end() {
        let padded = FrameHead { flags: FrameHead::PADDED, ..frame(FrameHead::DATA, 256) };
        for (frame, abuse) in [
            (frame(FrameHead::PING, 8), Abuse::Ping),
            (frame(FrameHead::SETTINGS, 6), Abuse::Settings),
            (frame(FrameHead::PRIORITY, 5), Abuse::Priority),
            (frame(FrameHead::WINDOW_UPDATE, 4), Abuse::WindowUpdate),
            (frame(FrameHead::RST_STREAM, 4), Abuse::Reset),
            (frame(FrameHead::DATA, 0), Abuse::EmptyData),
            (padded, Abuse::EmptyData),
            (frame(FrameHead::CONTINUATION, 0), Abuse::Continuation),
            (frame(0x77, 0), Abuse::Unknown),
        ] {
            let mut budget = FrameBudget::owing(0, 0);
            assert_eq!(taken(&mut budget, frame, 0), 200, "{abuse:?}");
            assert_eq!(budget.receive(frame, 0), Err(abuse));
        }
        let mut budget = FrameBudget::owing(0, 0);
        let rejections = (0..1000).take_while(|_| budget.send(frame(FrameHead::RST_STREAM, 4), 0).is_ok()).count();
        assert_eq!(rejections, 100);
        for reason in [0, 2, 8] {
            let reset = FrameHead { reason, ..frame(FrameHead::RST_STREAM, 4) };
            assert!((0..1000).all(|_| budget.send(reset, 0).is_ok()), "the node's own, {reason}");
        }
        assert_eq!(budget.send(frame(FrameHead::RST_STREAM, 4), 0), Err(Abuse::Rejected));
    }

    #[test]
    fn what_carries_something_is_free() {
        let mut budget = FrameBudget::owing(0, 0);
        let last = FrameHead { flags: FrameHead::END_STREAM, ..frame(FrameHead::DATA, 0) };
        for free in [frame(FrameHead::HEADERS, 20), frame(FrameHead::DATA, 1), last] {
            assert_eq!(taken(&mut budget, free, 0), 10_000, "{free:?}");
        }
        assert_eq!(taken(&mut budget, frame(FrameHead::PING, 8), 0), 200);
    }

    #[test]
    fn time_and_answers_refill_it_to_its_brim() {
        let mut budget = FrameBudget::owing(0, 500);
        let ping = frame(FrameHead::PING, 8);
        assert_eq!(taken(&mut budget, ping, 500), 200);
        assert_eq!(taken(&mut budget, ping, 1500), 100);
        assert_eq!(taken(&mut budget, ping, 1400), 0, "time that goes back");
        budget.earn(3);
        assert_eq!(taken(&mut budget, ping, 1500), 15);
        budget.earn(1000);
        assert_eq!(taken(&mut budget, ping, 1_000_000), 200);
        budget.earn(u64::MAX);
        assert_eq!(taken(&mut budget, ping, u64::MAX), 200);
    }

    /// Of a client that has had nothing answered, 200 at once; of a balancer, as many as it has had answered, and five times
    /// as many up to 2,000.
    #[test]
    fn what_is_cancelled_is_measured_by_what_was_answered() {
        let (reset, ping) = (frame(FrameHead::RST_STREAM, 4), frame(FrameHead::PING, 8));
        let mut budget = FrameBudget::owing(0, 0);
        assert_eq!(taken(&mut budget, reset, 0), 200);
        assert_eq!(taken(&mut budget, reset, 1000), 100);
        assert_eq!(taken(&mut budget, ping, 1000), 200, "other frames are beside them");
        budget.earn(100);
        assert_eq!(taken(&mut budget, reset, 1000), 500);
        assert_eq!(taken(&mut budget, reset, 60_000), 700, "what has been answered counts on");
        budget.earn(10_000);
        assert_eq!(taken(&mut budget, reset, 60_000), 2000);
        for _ in 0..1000 {
            budget.earn(1);
            assert!((0..5).all(|_| budget.receive(reset, 60_000).is_ok()), "a call that is hedged");
        }
        assert_eq!(budget.receive(reset, 60_000), Err(Abuse::Reset));
    }

    #[test]
    fn a_new_connection_begins_with_what_its_client_owes() {
        let reset = frame(FrameHead::RST_STREAM, 4);
        let mut first = FrameBudget::owing(0, 0);
        assert_eq!(first.owed(0), 0);
        assert_eq!((0..150).filter(|_| first.receive(reset, 0).is_ok()).count(), 150);
        let owed = first.owed(500);
        assert_eq!(owed, 100 * COST);
        let mut second = FrameBudget::owing(owed, 500);
        assert_eq!(taken(&mut second, reset, 500), 100);
        assert_eq!(second.owed(500), BURST);
        assert_eq!(taken(&mut FrameBudget::owing(BURST, 500), frame(FrameHead::PING, 8), 500), 200, "for nothing else");
    }

    /// Updates of both windows for each 4 KiB of a large answer, and a PING for each of its pieces.
    #[test]
    fn a_large_download_and_its_measure_cost_nothing() {
        let mut budget = FrameBudget::owing(0, 0);
        for _ in 0..100 {
            for _ in 0..1000 {
                budget.send(frame(FrameHead::DATA, 16 * 1024), 0).unwrap();
            }
            for _ in 0..1000 {
                budget.receive(frame(FrameHead::PING, 8), 0).unwrap();
                for _ in 0..8 {
                    budget.receive(frame(FrameHead::WINDOW_UPDATE, 4), 0).unwrap();
                }
            }
        }
        assert_eq!(taken(&mut budget, frame(FrameHead::PING, 8), 0), 200);
    }

    #[test]
    fn dribble_costs() {
        let mut budget = FrameBudget::owing(0, 0);
        let mut dribble = || {
            budget.send(frame(FrameHead::DATA, 1), 0)?;
            budget.receive(frame(FrameHead::WINDOW_UPDATE, 4), 0)
        };
        assert_eq!((0..10_000).take_while(|_| dribble().is_ok()).count(), 200);
    }
}
