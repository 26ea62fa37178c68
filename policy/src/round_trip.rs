//! How far a region is, as it is measured.
//!
//! Two things are measured of what happens anyway. The *handshake* is the kernel's round trip of a TCP connection that
//! was opened to the region: nothing at the other end has a say in it but its kernel, so that neither a slow application
//! nor a full accept queue looks like distance. The *answer* is the time from a question to its answer: of a TLS
//! handshake or a PING of HTTP/2, or of a health probe. It has the other end's work in it, and so only the shortest of each counts, of both the
//! longer, and only where something between terminates connections (a sidecar, a relay, a balancer). Handshakes end too
//! early there: they say that a region is at hand which by the prior is not, and answers agree with the prior
//! (`RELAYED_FACTOR`). Where the prior is near as well, a slow answer is a slow application's.
//!
//! | Samples in the last two windows | the round trip is |
//! |---|---|
//! | none | the prior |
//! | the last within the window | the median of those within it, mixed with the prior: after `n` without a gap of two windows the prior counts `2^-n` |
//! | the last older | likewise of what is left, and the prior counts more and more, all at two windows |

use std::collections::VecDeque;
use std::time::Duration;

/// What is measured of one region from one place. `now` is any monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct RoundTrips {
    /// Oldest first.
    handshakes: VecDeque<Handshake>,
    /// How many there were since there were none for two windows.
    seen: u32,
    greetings: ShortestAnswers,
    replies: ShortestAnswers,
    /// What [`RoundTrips::settle`] said last, in milliseconds.
    settled: Option<f32>,
}

/// The round trip of one connection.
#[derive(Clone, Copy, Debug)]
struct Handshake {
    at: Duration,
    ms: f32,
}

/// What kind of answer it is that took so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of a TLS handshake, or of a PING of HTTP/2: of whoever terminates the connection.
    Greeting,
    /// Of a health probe.
    Reply,
}

/// The shortest answers of the last two windows, of each quarter of a window one. Oldest first.
#[derive(Clone, Debug, Default)]
struct ShortestAnswers(VecDeque<Handshake>);

/// What the samples come to, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Half of the round trips are no longer.
    pub median_ms: f32,
    /// 95 % of them are no longer.
    pub p95_ms: f32,
    /// How many samples there are in the last two windows.
    pub samples: usize,
    /// Since the last of them.
    pub age: Duration,
}

/// Handshakes that are kept, at most. They are taken in at such a pace that they fill the window.
const MOST: u32 = 256;

/// Handshakes that are taken in at one time, at most: those of a region's endpoints at a node's start.
const MOST_AT_ONCE: usize = 16;

/// An answer this many times longer than the handshake, and [`RELAYED_MS`], has gone farther than that: a server close
/// by takes a few milliseconds to answer, and TLS 1.2 takes two round trips. So has a prior.
const RELAYED_FACTOR: f32 = 3.0;

/// See [`RELAYED_FACTOR`].
const RELAYED_MS: f32 = 10.0;

/// No round trip is longer than this: the prior's own bound.
pub const MOST_MS: f32 = 60_000.0;

/// A difference of less than this share, and of less than [`STEP_MS`], changes nothing: regions that are about equally
/// far would else take turns.
const STEP_SHARE: f32 = 0.1;

/// See [`STEP_SHARE`].
const STEP_MS: f32 = 1.0;

impl RoundTrips {
    /// Takes the round trips of the connections that were opened since the last time, as the kernel has measured them: as
    /// many as fill the window at this pace, of them all alike.
    pub fn handshakes(&mut self, took: &[Duration], window: Duration, now: Duration) {
        self.forget(window, now);
        let due = self.handshakes.back().map_or(MOST_AT_ONCE, |last| {
            let passed = now.saturating_sub(last.at).as_secs_f64() / window.as_secs_f64().max(f64::MIN_POSITIVE);
            ((passed * f64::from(MOST)) as usize).min(MOST_AT_ONCE)
        });
        let taken = took.len().min(due);
        // Evenly among them, each time beginning elsewhere: they come endpoint by endpoint.
        let first = self.seen as usize % took.len().max(1);
        for index in (0..taken).map(|n| (first + n * took.len() / taken) % took.len()) {
            self.handshakes.push_back(Handshake { at: now, ms: millis(took[index]) });
            self.seen = self.seen.saturating_add(1);
        }
    }

    /// Takes the time from a question to its answer.
    pub fn answered(&mut self, kind: Answer, took: Duration, window: Duration, now: Duration) {
        match kind {
            Answer::Greeting => self.greetings.take(millis(took), window, now),
            Answer::Reply => self.replies.take(millis(took), window, now),
        }
    }

    /// Returns what is measured; `None` when nothing was for two windows. `prior_ms` tells relays from slow applications.
    pub fn measured(&self, prior_ms: f32, window: Duration, now: Duration) -> Option<Measured> {
        let age = now.saturating_sub(self.handshakes.back()?.at);
        if age >= window * 2 {
            return None;
        }
        let within = |limit: Duration| move |sample: &&Handshake| now.saturating_sub(sample.at) < limit;
        let samples = self.handshakes.iter().filter(within(window * 2)).count();
        let limit = if age < window { window } else { window * 2 };
        let mut fresh: Vec<f32> = self.handshakes.iter().filter(within(limit)).map(|sample| sample.ms).collect();
        fresh.sort_unstable_by(f32::total_cmp);
        let quantile = |q: f32| fresh.get((fresh.len() as f32 * q).ceil().max(1.0) as usize - 1).copied();
        let (median, p95) = (quantile(0.5)?, quantile(0.95)?);
        let is_beyond = |ms: f32| ms > RELAYED_FACTOR * median + RELAYED_MS;
        let shortest = [&self.greetings, &self.replies].map(|answers| answers.shortest(window, now));
        let beyond =
            shortest.into_iter().flatten().max_by(f32::total_cmp).filter(|ms| is_beyond(*ms) && is_beyond(prior_ms));
        let farther = beyond.map_or(0.0, |shortest| shortest - median);
        Some(Measured { median_ms: median + farther, p95_ms: p95 + farther, samples, age })
    }

    /// Works out the round trip that decisions are to use, in milliseconds; `None` leaves them the prior, which is in
    /// milliseconds too.
    pub fn settle(&mut self, prior_ms: f32, window: Duration, now: Duration) -> Option<f32> {
        let Some(ms) = self.mixed_ms(prior_ms, window, now) else {
            self.settled = None;
            return None;
        };
        let is_same = |settled: f32| (ms - settled).abs() < STEP_MS.max(STEP_SHARE * settled);
        if !self.settled.is_some_and(is_same) {
            self.settled = Some(ms);
        }
        self.settled
    }

    /// Returns the median as it is mixed with the prior, before any step, in milliseconds: what [`Reach`] follows, which has
    /// steps of its own.
    pub fn mixed_ms(&mut self, prior_ms: f32, window: Duration, now: Duration) -> Option<f32> {
        self.forget(window, now);
        let measured = self.measured(prior_ms, window, now)?;
        let left = (window * 2).saturating_sub(measured.age).as_secs_f32() / window.as_secs_f32().max(f32::EPSILON);
        let trust = left.min(1.0) * (1.0 - 0.5_f32.powi(self.seen.min(64) as i32));
        Some(prior_ms + trust * (measured.median_ms - prior_ms))
    }

    fn forget(&mut self, window: Duration, now: Duration) {
        let is_over = |sample: &Handshake| now.saturating_sub(sample.at) >= window * 2;
        while self.handshakes.len() > 2 * MOST as usize || self.handshakes.front().is_some_and(is_over) {
            self.handshakes.pop_front();
        }
        if self.handshakes.is_empty() {
            self.seen = 0;
        }
    }
}

impl ShortestAnswers {
    fn take(&mut self, ms: f32, window: Duration, now: Duration) {
        let is_over = |answer: &Handshake| now.saturating_sub(answer.at) >= window * 2;
        while self.0.front().is_some_and(is_over) {
            self.0.pop_front();
        }
        match self.0.back_mut().filter(|last| now.saturating_sub(last.at) < window / 4) {
            Some(last) => last.ms = last.ms.min(ms),
            None => self.0.push_back(Handshake { at: now, ms }),
        }
    }

    /// Returns the shortest of the last window; where nothing was answered in that, of the window before.
    fn shortest(&self, window: Duration, now: Duration) -> Option<f32> {
        let within = |limit: Duration| {
            let fresh = self.0.iter().filter(move |answer| now.saturating_sub(answer.at) < limit);
            fresh.map(|answer| answer.ms).min_by(f32::total_cmp)
        };
        within(window).or_else(|| within(window * 2))
    }
}

fn millis(took: Duration) -> f32 {
    (took.as_secs_f32() * 1000.0).min(MOST_MS)
}

/// A round trip as limits see it ([`crate::RegionView::reach_ms`]): it follows a rise at once, and a fall once that is more
/// than a tenth, or has lasted for [`Reach::WINDOWS`]. So a region that is beyond a limit comes back below nine tenths of it,
/// whichever limit that is, or in the end below all of it: nodes that saw one bad minute and that did not agree again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reach(Option<Held>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    ms: f32,
    /// Since when the way has been shorter.
    since: Duration,
}

impl Reach {
    /// A region comes back below this share of the limit that it was beyond.
    pub const RETURN: f32 = 0.9;

    /// So many windows a way is shorter before what was held of it is let go.
    pub const WINDOWS: u32 = 10;

    /// Takes the round trip of the moment, in milliseconds, and returns what limits see; `None` where none is measured.
    pub fn follow(&mut self, ms: Option<f32>, window: Duration, now: Duration) -> Option<f32> {
        self.0 = ms.map(|ms| match self.0 {
            Some(held) if ms < held.ms && now.saturating_sub(held.since) < window * Self::WINDOWS => {
                Held { ms: held.ms.min(ms / Self::RETURN), ..held }
            }
            _ => Held { ms, since: now },
        });
        self.0.map(|held| held.ms)
    }
}

/// What other nodes of this node's own region report of the round trips from there: what a node goes by that has measured
/// nothing yet.
#[derive(Clone, Debug, Default)]
pub struct ReportedTrips {
    /// The last word of each node, the oldest first.
    told: VecDeque<(Box<str>, Handshake)>,
}

impl ReportedTrips {
    /// Nodes whose word is kept, at most: those of most regions.
    const MOST: usize = 64;

    /// Takes what a node reports, in milliseconds.
    pub fn take(&mut self, node: &str, ms: f32, now: Duration) {
        self.told.retain(|(known, _)| **known != *node);
        if self.told.len() == Self::MOST {
            self.told.pop_front();
        }
        self.told.push_back((node.into(), Handshake { at: now, ms }));
    }

    /// Returns the median of what nodes have reported within the window, in milliseconds. One that reports nonsense has no
    /// say in it while most do not.
    pub fn median_ms(&self, window: Duration, now: Duration) -> Option<f32> {
        let fresh = self.told.iter().filter(|(_, told)| now.saturating_sub(told.at) < window);
        let mut fresh: Vec<f32> = fresh.map(|(_, told)| told.ms).collect();
        fresh.sort_unstable_by(f32::total_cmp);
        fresh.get(fresh.len().saturating_sub(1) / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// A region that is so far, asked each ten seconds up to `until`.
    fn asked(trips: &mut RoundTrips, took: Duration, range: std::ops::Range<u64>) {
        for at in range.step_by(10) {
            trips.handshakes(&[took], WINDOW, secs(at));
        }
    }

    #[test]
    fn the_first_samples_are_mixed_with_the_prior_and_soon_outweigh_it() {
        let mut trips = RoundTrips::default();
        assert_eq!((trips.settle(150.0, WINDOW, secs(0)), trips.measured(150.0, WINDOW, secs(0))), (None, None));
        let settled: Vec<f32> = (0..6)
            .map(|second| {
                trips.handshakes(&[ms(10)], WINDOW, secs(second));
                trips.settle(150.0, WINDOW, secs(second)).expect("measured").round()
            })
            .collect();
        assert_eq!(settled, [80.0, 45.0, 28.0, 19.0, 14.0, 12.0]);
    }

    #[test]
    fn a_change_is_followed_within_the_window_both_ways() {
        for (before, after) in [(5, 120), (120, 5)] {
            let mut trips = RoundTrips::default();
            asked(&mut trips, ms(before), 0..300);
            assert!((trips.settle(50.0, WINDOW, secs(299)).expect("measured") - before as f32).abs() < 3.0);
            asked(&mut trips, ms(after), 300..360);
            let settled = trips.settle(50.0, WINDOW, secs(360)).expect("measured");
            assert!((settled - after as f32).abs() < 0.1 * after as f32, "{before} to {after}: {settled}");
        }
    }

    #[test]
    fn at_the_edge_of_a_limit_a_region_does_not_come_and_go() {
        const LIMIT: f32 = 100.0;
        let (mut trips, mut reach) = (RoundTrips::default(), Reach::default());
        let (mut by_rtt, mut by_reach) = (Vec::new(), Vec::new());
        // Minutes of 85 to 112 ms, all at once and each for as long as a window follows, then of 60, then of 85 to 97 again.
        let way = |second: u64| match second / 60 {
            minute @ 0..60 => [112, 93, 106, 92][minute as usize % 4],
            60..70 => 60,
            minute => [85, 97][minute as usize % 2],
        };
        for second in 0..6_000 {
            trips.handshakes(&[ms(way(second))], WINDOW, secs(second));
            let settled = trips.settle(95.0, WINDOW, secs(second));
            let mixed = trips.mixed_ms(95.0, WINDOW, secs(second));
            let held = reach.follow(mixed, WINDOW, secs(second));
            assert!(held >= mixed, "never nearer than it is");
            for (ms, turns) in [(settled, &mut by_rtt), (held, &mut by_reach)] {
                let is_out = ms > Some(LIMIT);
                if turns.last() != Some(&is_out) {
                    turns.push(is_out);
                }
            }
        }
        assert!(by_rtt.len() > 20, "{by_rtt:?}");
        assert_eq!(
            by_reach.iter().filter(|is_out| **is_out).count(),
            1,
            "{by_reach:?}: it left once, and came back once"
        );
        assert_eq!(by_reach.last(), Some(&false));
    }

    #[test]
    fn a_way_that_eases_slowly_is_within_a_limit_again_below_nine_tenths() {
        let (mut trips, mut reach) = (RoundTrips::default(), Reach::default());
        let mut held = None;
        // 105 ms for two minutes, and then a millisecond less in each, to 87.
        for second in 0..1_500_u64 {
            let way = 105_u64.saturating_sub((second / 60).saturating_sub(2)).max(87);
            trips.handshakes(&[ms(way)], WINDOW, secs(second));
            trips.settle(87.0, WINDOW, secs(second));
            let mixed = trips.mixed_ms(87.0, WINDOW, secs(second));
            held = reach.follow(mixed, WINDOW, secs(second));
        }
        assert!(held < Some(97.0), "{held:?}");
    }

    #[test]
    fn what_is_held_of_a_way_is_let_go_in_the_end() {
        let mut reach = Reach::default();
        let mut at = |ms: f32, second: u64| reach.follow(Some(ms), WINDOW, secs(second));
        assert_eq!(
            [(95.0, 0), (105.0, 1), (95.0, 2), (98.0, 600)].map(|(ms, second)| at(ms, second)),
            [Some(95.0), Some(105.0), Some(105.0), Some(105.0)]
        );
        assert_eq!(at(97.0, 601), Some(97.0), "ten windows after it was last so far");
        assert_eq!(
            [(105.0, 602), (99.0, 1_100), (106.0, 1_101), (99.0, 1_700)].map(|(ms, second)| at(ms, second)),
            [Some(105.0), Some(105.0), Some(106.0), Some(106.0)]
        );
    }

    proptest! {
        #[test]
        fn whatever_the_limit_a_region_leaves_above_it_and_comes_back_below_nine_tenths(
            ways in prop::collection::vec(prop::option::weighted(0.95, 0.0..400.0_f32), 1..80), limit in 1.0..400.0_f32,
        ) {
            let (mut reach, mut is_out) = (Reach::default(), false);
            for way in ways {
                is_out = way.is_some_and(|ms| ms > limit || is_out && ms > Reach::RETURN * limit * 1.000_01);
                let held = reach.follow(way, WINDOW, secs(1));
                let at_the_edge = way.is_some_and(|ms| (ms - Reach::RETURN * limit).abs() < 1e-3 * limit);
                prop_assert!(at_the_edge || is_out == (held > Some(limit)), "{:?} {:?} {}", way, held, limit);
                if at_the_edge {
                    is_out = held > Some(limit);
                }
            }
        }
    }

    #[test]
    fn one_slow_connection_in_three_changes_nothing() {
        let mut trips = RoundTrips::default();
        for at in 0..60 {
            trips.handshakes(&[ms(if at % 3 == 0 { 3_000 } else { 20 })], WINDOW, secs(at));
        }
        let measured = trips.measured(150.0, WINDOW, secs(60)).expect("measured");
        assert_eq!((measured.median_ms, measured.p95_ms, measured.samples), (20.0, 3_000.0, 60));
    }

    #[test]
    fn what_is_no_longer_measured_fades_into_the_prior() {
        let mut trips = RoundTrips::default();
        asked(&mut trips, ms(20), 0..300);
        let at = |trips: &mut RoundTrips, second| trips.settle(100.0, WINDOW, secs(second)).map(f32::round);
        assert_eq!(at(&mut trips, 290), Some(20.0));
        assert_eq!(at(&mut trips, 349), Some(20.0), "the last sample is of 290");
        assert_eq!(at(&mut trips, 380), Some(60.0));
        assert_eq!(at(&mut trips, 409), Some(99.0));
        assert_eq!((at(&mut trips, 410), trips.measured(150.0, WINDOW, secs(410))), (None, None));
    }

    #[test]
    fn behind_a_relay_the_shortest_answer_is_the_round_trip() {
        let mut trips = RoundTrips::default();
        for at in (0..120).step_by(10) {
            trips.handshakes(&[Duration::from_micros(80)], WINDOW, secs(at));
            trips.answered(Answer::Reply, ms(90 + at % 7), WINDOW, secs(at));
        }
        let measured = trips.measured(150.0, WINDOW, secs(120)).expect("measured");
        assert!((90.0..94.0).contains(&measured.median_ms), "{measured:?}");
        // A slow answer of what is far anyway says nothing, and neither does a quick server.
        for (handshake, answer) in [(ms(80), ms(200)), (ms(1), ms(12))] {
            let mut trips = RoundTrips::default();
            trips.handshakes(&[handshake], WINDOW, secs(0));
            trips.answered(Answer::Reply, answer, WINDOW, secs(0));
            assert_eq!(trips.measured(150.0, WINDOW, secs(1)).expect("measured").median_ms, millis(handshake));
        }
    }

    #[test]
    fn a_slow_application_next_door_is_no_distance() {
        let mut trips = RoundTrips::default();
        for at in (0..120).step_by(10) {
            trips.handshakes(&[Duration::from_micros(300)], WINDOW, secs(at));
            trips.answered(Answer::Reply, ms(80), WINDOW, secs(at));
        }
        assert_eq!(trips.measured(1.0, WINDOW, secs(120)).expect("measured").median_ms, 0.3);
    }

    /// One endpoint behind a relay, probed each half of a window, more or less.
    #[test]
    fn behind_a_relay_nothing_is_near_between_two_probes() {
        let mut trips = RoundTrips::default();
        for at in (0..3_600).map(|tenth| tenth * 2) {
            if at % 66 < 2 {
                trips.handshakes(&[Duration::from_micros(80)], WINDOW, secs(at));
                trips.answered(Answer::Greeting, ms(2), WINDOW, secs(at));
                trips.answered(Answer::Reply, ms(90), WINDOW, secs(at));
            }
            let measured = trips.measured(150.0, WINDOW, secs(at)).expect("measured");
            assert_eq!(measured.median_ms, 90.0, "at {at} s");
        }
    }

    #[test]
    fn all_endpoints_have_their_say() {
        let mut trips = RoundTrips::default();
        let took: Vec<Duration> = [1, 40, 41].into_iter().flat_map(|each| [ms(each); 8]).collect();
        for at in 0..120 {
            trips.handshakes(&took, WINDOW, secs(at));
        }
        let measured = trips.measured(150.0, WINDOW, secs(120)).expect("measured");
        assert!(measured.median_ms == 40.0 && measured.samples > 400, "{measured:?}");
    }

    #[test]
    fn a_relays_distance_is_followed_within_the_window_both_ways() {
        for (before, after) in [(15, 120), (120, 15)] {
            let mut trips = RoundTrips::default();
            let mut settled = None;
            for at in (0..=180).step_by(5) {
                trips.handshakes(&[Duration::from_micros(50)], WINDOW, secs(at));
                trips.answered(Answer::Reply, ms(if at < 120 { before } else { after }), WINDOW, secs(at));
                settled = trips.settle(50.0, WINDOW, secs(at));
            }
            let settled = settled.expect("measured");
            assert!((settled - after as f32).abs() <= 0.1 * after as f32, "{before} to {after}: {settled}");
        }
    }

    #[test]
    fn what_trembles_by_a_tenth_stands_still() {
        let mut trips = RoundTrips::default();
        asked(&mut trips, ms(100), 0..300);
        let settled = trips.settle(100.0, WINDOW, secs(300));
        asked(&mut trips, ms(108), 300..600);
        assert_eq!(trips.settle(100.0, WINDOW, secs(600)), settled);
        asked(&mut trips, ms(112), 600..900);
        assert_eq!(trips.settle(100.0, WINDOW, secs(900)).map(f32::round), Some(112.0));
    }

    #[test]
    fn however_many_connections_there_are_those_kept_fill_the_window() {
        let mut trips = RoundTrips::default();
        for at in 0..120_000 {
            trips.handshakes(&[ms(if at < 90_000 { 20 } else { 30 })], WINDOW, ms(at));
        }
        let measured = trips.measured(150.0, WINDOW, secs(120)).expect("measured");
        assert!((480..=512).contains(&measured.samples), "{measured:?}");
        assert_eq!(measured.p95_ms, 30.0);
    }

    #[test]
    fn reports_are_a_median_and_end() {
        let mut reported = ReportedTrips::default();
        assert_eq!(reported.median_ms(WINDOW, secs(0)), None);
        let told = [("a", 80.0), ("liar", 60_000.0), ("b", 82.0), ("c", 0.0), ("d", 81.0)];
        told.into_iter().for_each(|(node, ms)| reported.take(node, ms, secs(1)));
        (0..100).for_each(|_| reported.take("liar", 60_000.0, secs(1)));
        assert_eq!(reported.median_ms(WINDOW, secs(60)), Some(81.0));
        assert_eq!(reported.median_ms(WINDOW, secs(61)), None);
        (0..1_000).for_each(|at| reported.take(&at.to_string(), 5.0, ms(at)));
        assert_eq!(reported.told.len(), ReportedTrips::MOST);
    }

    proptest! {
        #[test]
        fn whatever_is_measured_the_round_trip_is_between_the_prior_and_the_samples(
            samples in prop::collection::vec((0..100_000_u64, any::<bool>(), 0..30_000_u64), 0..80),
            prior in 0.0..300.0_f32, window_s in 1..100_u64,
        ) {
            let (mut trips, mut now, window) = (RoundTrips::default(), secs(1), secs(window_s));
            let (mut least, mut most) = (prior, prior);
            for (took, is_answer, pause) in samples {
                now += ms(pause);
                if is_answer { trips.answered(Answer::Reply, ms(took), window, now) } else { trips.handshakes(&[ms(took)], window, now) }
                (least, most) = (least.min(millis(ms(took))), most.max(millis(ms(took))));
                let settled = trips.settle(prior, window, now).unwrap_or(prior);
                // A step that is too small is not taken.
                prop_assert!(settled >= least * 0.9 - 1.0 && settled <= most / 0.9 + 1.0, "{} of {} to {}", settled, least, most);
                if let Some(measured) = trips.measured(prior, window, now) {
                    prop_assert!(measured.median_ms <= measured.p95_ms && measured.samples >= 1);
                }
            }
        }
    }
}
