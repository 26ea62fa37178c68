//! How far a region is, as it is measured: which samples count, and for how long.

use std::time::Duration;

use policy::round_trip::{Answer, RoundTrips};

const WINDOW: Duration = Duration::from_secs(60);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A region whose connections end close by, at a relay, with an answer at each of these seconds.
fn relayed(answers: &[(u64, u64)]) -> RoundTrips {
    let mut trips = RoundTrips::default();
    answers.iter().for_each(|(second, took)| trips.answered(Answer::Reply, ms(*took), WINDOW, at(*second)));
    trips
}

/// Its median at one second, with a connection that has just been opened.
fn median(trips: &RoundTrips, second: u64) -> f32 {
    let mut trips = trips.clone();
    trips.handshakes(&[Duration::ZERO], WINDOW, at(second));
    trips.measured(150.0, WINDOW, at(second)).unwrap().median_ms
}

/// The shortest of the last window; where nothing was answered in that, of the window before.
#[test]
fn the_shortest_answer_counts_for_a_window_and_stands_in_for_another() {
    let trips = relayed(&[(0, 20), (40, 90)]);
    let expected = [(40, 20.0), (59, 20.0), (60, 90.0), (99, 90.0), (100, 20.0), (119, 20.0), (120, 90.0), (159, 90.0)];
    for (second, shortest) in expected {
        assert_eq!(median(&trips, second), shortest, "at {second} s");
    }
    assert_eq!(median(&trips, 160), 0.0, "nothing says any more that it is farther than its connections");
    // A quarter of a window has one answer: its shortest, of its beginning.
    for (second, shortest) in [(14, 20.0), (15, 90.0)] {
        assert_eq!(median(&relayed(&[(0, 20), (second, 90)]), 60), shortest, "the second at {second} s");
    }
}

/// An answer is farther than the connection when it takes more than three times as long and ten milliseconds: then the
/// whole distribution is as much farther.
#[test]
fn a_relay_is_known_by_answers_that_are_much_longer() {
    for (answer, prior, median, p95) in
        [(40, 150.0, 10.0, 20.0), (41, 150.0, 41.0, 51.0), (41, 40.0, 10.0, 20.0), (90, 150.0, 90.0, 100.0)]
    {
        let mut trips = relayed(&[(1, answer)]);
        trips.handshakes(&[ms(10), ms(10), ms(20)], WINDOW, at(1));
        let measured = trips.measured(prior, WINDOW, at(1)).unwrap();
        assert_eq!((measured.median_ms, measured.p95_ms), (median, p95), "{answer} ms, prior {prior}");
    }
}

/// Many connections at once are many endpoints': some of each are taken, and no more than the window has room for.
#[test]
fn of_many_connections_some_of_all_are_taken() {
    let took: Vec<Duration> = (1..=64).map(ms).collect();
    let mut trips = RoundTrips::default();
    trips.handshakes(&took, WINDOW, at(0));
    let measured = trips.measured(150.0, WINDOW, at(0)).unwrap();
    assert_eq!((measured.samples, measured.median_ms, measured.p95_ms), (16, 29.0, 61.0));
    // In a second as many as 256 in a window are.
    for (second, samples) in [(0, 16), (1, 20), (2, 24), (30, 40)] {
        trips.handshakes(&took, WINDOW, at(second));
        assert_eq!(trips.measured(150.0, WINDOW, at(second)).unwrap().samples, samples, "after {second} s");
    }
}

/// Samples count for a window, and for another while there are none.
#[test]
fn samples_count_for_a_window_and_fill_the_next() {
    let mut trips = RoundTrips::default();
    trips.handshakes(&[ms(10)], WINDOW, at(0));
    trips.handshakes(&[ms(50)], WINDOW, at(30));
    for (second, median, samples) in [(59, 10.0, 2), (60, 50.0, 2), (89, 50.0, 2), (90, 10.0, 2), (120, 50.0, 1)] {
        let measured = trips.measured(150.0, WINDOW, at(second)).unwrap();
        assert_eq!((measured.median_ms, measured.samples, measured.age), (median, samples, at(second - 30)));
    }
    assert!(trips.measured(150.0, WINDOW, at(149)).is_some() && trips.measured(150.0, WINDOW, at(150)).is_none());
}

/// After two windows without a sample it begins anew: the first one is mixed with the prior again.
#[test]
fn a_region_that_was_silent_for_long_begins_anew() {
    let settled = |silent: u64| {
        let mut trips = RoundTrips::default();
        (0..20).for_each(|second| trips.handshakes(&[ms(10)], WINDOW, at(second)));
        trips.handshakes(&[ms(10)], WINDOW, at(19 + silent));
        trips.settle(150.0, WINDOW, at(19 + silent)).unwrap()
    };
    assert!((settled(119) - 10.0).abs() < 0.01, "{}", settled(119));
    assert!((settled(120) - 80.0).abs() < 0.01, "{}", settled(120));
}
