//! How many frames that carry nothing a client may send. Each of them is cheap, and a connection full of them takes a
//! worker's time from everybody else: what is judged is their rate over time, as that of a token bucket.

use crate::ingress::frame_position::FrameHead;
use crate::telemetry::client_abuse::Abuse;

/// What is left to one connection. It belongs to its connection's task.
#[derive(Debug)]
pub(crate) struct FrameBudget {
    /// In thousandths, so that each millisecond refills some.
    left: u64,
    /// When it was last refilled, in milliseconds.
    refilled: u64,
    /// Bytes that were sent since they have last paid for a WINDOW_UPDATE.
    unacknowledged: u64,
    /// Frames of answers that were sent and have not paid for a PING.
    unmeasured: u64,
}

impl FrameBudget {
    /// Begins with all that may be spent at once.
    pub(crate) fn full(now_ms: u64) -> Self {
        Self { left: BURST, refilled: now_ms, unacknowledged: 0, unmeasured: 0 }
    }

    /// Adds what requests that were answered earn.
    pub(crate) fn earn(&mut self, answered: u64) {
        self.left = self.left.saturating_add(answered.saturating_mul(EARNED)).min(BURST);
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
            FrameHead::RST_STREAM => Abuse::Reset,
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
        self.spend(COST, now_ms).ok_or(abuse)
    }

    /// Takes what a frame to the client costs: one that resets a stream of theirs says that it was wrong.
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
            FrameHead::RST_STREAM => self.spend(COST_OF_A_REJECTION, now_ms).ok_or(Abuse::Rejected),
            _ => Ok(()),
        }
    }

    fn spend(&mut self, cost: u64, now_ms: u64) -> Option<()> {
        // A thousandth a millisecond is one a second.
        let refill = now_ms.saturating_sub(self.refilled).saturating_mul(REFILL_PER_SECOND);
        self.refilled = self.refilled.max(now_ms);
        self.left = self.left.saturating_add(refill).min(BURST);
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
/// Twice what a client may have under way and cancels when its user leaves a page; a flood sends it in a millisecond.
const BURST: u64 = 200 * COST;
/// Far above what clients send that keep a connection alive, and what they cancel, over time.
const REFILL_PER_SECOND: u64 = 100;
/// What a request that was answered earns: it may come with a priority, updates of two windows and a PING, or be
/// cancelled before its end.
const EARNED: u64 = 5 * COST;
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
        FrameHead { kind, flags: 0, length, stream: 1 }
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
            let mut budget = FrameBudget::full(0);
            assert_eq!(taken(&mut budget, frame, 0), 200, "{abuse:?}");
            assert_eq!(budget.receive(frame, 0), Err(abuse));
        }
        let mut budget = FrameBudget::full(0);
        let rejections = (0..1000).take_while(|_| budget.send(frame(FrameHead::RST_STREAM, 4), 0).is_ok()).count();
        assert_eq!(rejections, 100);
        assert_eq!(budget.send(frame(FrameHead::RST_STREAM, 4), 0), Err(Abuse::Rejected));
    }

    #[test]
    fn what_carries_something_is_free() {
        let mut budget = FrameBudget::full(0);
        let last = FrameHead { flags: FrameHead::END_STREAM, ..frame(FrameHead::DATA, 0) };
        for free in [frame(FrameHead::HEADERS, 20), frame(FrameHead::DATA, 1), last] {
            assert_eq!(taken(&mut budget, free, 0), 10_000, "{free:?}");
        }
        assert_eq!(taken(&mut budget, frame(FrameHead::PING, 8), 0), 200);
    }

    #[test]
    fn time_and_answers_refill_it_to_its_brim() {
        let mut budget = FrameBudget::full(500);
        let reset = frame(FrameHead::RST_STREAM, 4);
        assert_eq!(taken(&mut budget, reset, 500), 200);
        assert_eq!(taken(&mut budget, reset, 1500), 100);
        assert_eq!(taken(&mut budget, reset, 1400), 0, "time that goes back");
        budget.earn(3);
        assert_eq!(taken(&mut budget, reset, 1500), 15);
        budget.earn(1000);
        assert_eq!(taken(&mut budget, reset, 1_000_000), 200);
        budget.earn(u64::MAX);
        assert_eq!(taken(&mut budget, reset, u64::MAX), 200);
    }

    /// Updates of both windows for each 4 KiB of a large answer, and a PING for each of its pieces.
    #[test]
    fn a_large_download_and_its_measure_cost_nothing() {
        let mut budget = FrameBudget::full(0);
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
        let mut budget = FrameBudget::full(0);
        let mut dribble = || {
            budget.send(frame(FrameHead::DATA, 1), 0)?;
            budget.receive(frame(FrameHead::WINDOW_UPDATE, 4), 0)
        };
        assert_eq!((0..10_000).take_while(|_| dribble().is_ok()).count(), 200);
    }
}
