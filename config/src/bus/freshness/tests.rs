//! One clock that can be set, and one that cannot.

use super::super::heartbeat::tests::heartbeat;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);
/// When the node starts, in hours since 1970.
const START: u64 = 100_000;

/// Returns the moment so many hours after the node's start, by both clocks.
fn at(hours: u64) -> Moment {
    set(hours, hours)
}

/// Returns the moment so many hours after the node's start, with another time on the wall clock.
fn set(hours: u64, wall_hours: u64) -> Moment {
    Moment { elapsed: HOUR * u32::try_from(hours).unwrap(), unix_ms: (START + wall_hours) * 3_600_000 }
}

/// Returns the Unix milliseconds so many hours after the node's start.
fn ms(hours: i64) -> u64 {
    START.checked_add_signed(hours).unwrap() * 3_600_000
}

/// Returns the publication of [`heartbeat`], signed at this hour.
fn version(issued: i64) -> TableVersion {
    TableVersion { epoch: 1, revision: 5, issued_ms: ms(issued), sha256: "a".to_owned() }
}

fn keyed(max_age: Option<Duration>, issued: i64, valid_until: Option<i64>) -> Freshness {
    let mut freshness = Freshness::new(Witness::Keys, max_age, at(0));
    freshness.took(&version(issued), valid_until.map(ms), at(0));
    freshness
}

fn judged(freshness: &Freshness, now: Moment) -> (Limit, bool) {
    let judgement = freshness.judge(now).unwrap();
    (judgement.limit.clone(), judgement.is_expired())
}

#[test]
fn what_a_bus_repeats_keeps_no_signed_table_fresh() {
    let mut freshness = keyed(None, 0, None);
    for hour in 1..=30 {
        freshness.confirmed(at(hour));
        freshness.took(&TableVersion { revision: 5 + hour, ..version(0) }, None, at(hour));
        assert_eq!(judged(&freshness, at(hour)), (Limit::Unsigned, hour > 24), "{hour}");
        assert_eq!(freshness.signed_age(at(hour)), Some(HOUR * hour as u32));
    }
    // Without keys the bus confirms the table.
    let mut freshness = Freshness::new(Witness::Bus, None, at(0));
    freshness.took(&version(0), None, at(0));
    assert_eq!(judged(&freshness, at(25)), (Limit::Silence, true));
    freshness.confirmed(at(25));
    assert_eq!(judged(&freshness, at(49)), (Limit::Silence, false));
    assert_eq!(freshness.signed_age(at(49)), None);
    freshness.silent_for(None, at(49));
    assert_eq!(judged(&freshness, at(49)), (Limit::Silence, true));
}

#[test]
fn a_heartbeat_counts_once_for_its_table_and_only_forward() {
    let mut freshness = keyed(None, 0, None);
    assert_eq!(freshness.heartbeat(heartbeat(ms(0), ms(20)), at(21)), Beat::New);
    assert_eq!(judged(&freshness, at(44)), (Limit::Unsigned, false));
    // The same again, and an older one, are no news.
    assert_eq!(freshness.heartbeat(heartbeat(ms(0), ms(20)), at(43)), Beat::Old);
    assert_eq!(freshness.heartbeat(heartbeat(ms(0), ms(10)), at(43)), Beat::Old);
    assert_eq!(judged(&freshness, at(45)), (Limit::Unsigned, true));
    assert_eq!(freshness.heartbeat(heartbeat(ms(0), ms(45)), at(46)), Beat::New);
    assert!(!freshness.judge(at(46)).unwrap().is_expired());
    // One about an older publication, however late, says nothing of this one.
    freshness.took(&TableVersion { revision: 9, ..version(46) }, None, at(46));
    assert_eq!(freshness.heartbeat(heartbeat(ms(0), ms(60)), at(60)), Beat::New);
    assert_eq!(judged(&freshness, at(71)), (Limit::Unsigned, true));
    // Put there again, a table keeps what was said of it.
    let mut freshness = keyed(None, 0, None);
    freshness.heartbeat(heartbeat(ms(0), ms(20)), at(20));
    freshness.took(&TableVersion { revision: 99, ..version(0) }, None, at(30));
    assert_eq!(freshness.signed_age(at(30)), Some(HOUR * 10));
}

#[test]
fn a_clock_that_is_set_makes_nothing_younger() {
    let mut freshness = keyed(None, 0, None);
    // Set back by 20 hours: the other clock says how old the table is.
    assert_eq!(judged(&freshness, set(25, 5)), (Limit::Unsigned, true));
    freshness.took(&version(0), None, set(25, 5));
    assert_eq!(judged(&freshness, set(25, 5)), (Limit::Unsigned, true));
    freshness.heartbeat(heartbeat(ms(0), ms(5)), set(25, 5));
    assert!(!freshness.judge(set(25, 5)).unwrap().is_expired());
    // Set ahead: signers go by that clock. The machine may have slept, too.
    assert_eq!(judged(&freshness, set(26, 30)), (Limit::Unsigned, true));
    assert!(!freshness.judge(set(26, 6)).unwrap().is_expired(), "and right again");
    // `valid_until` is a time of the wall clock, and is enforced by both clocks.
    let freshness = keyed(None, 0, Some(10));
    assert!(judged(&freshness, set(11, 1)).1);
    assert!(judged(&freshness, set(1, 11)).1);
    assert!(!judged(&freshness, set(9, 9)).1);
    // Beyond the skew a time lies in the future.
    assert!(!at(0).is_before(ms(0) + 299_999) && at(0).is_before(ms(0) + 300_001));
}

#[test]
fn a_publishers_end_holds_and_stands_for_heartbeats_unless_the_node_asks_for_them() {
    let month = 30 * 24;
    let mut freshness = keyed(None, 0, Some(month));
    let end = Limit::ValidUntil { at_ms: ms(month) };
    assert_eq!(judged(&freshness, at(719)), (end.clone(), false));
    assert_eq!(judged(&freshness, at(721)), (end.clone(), true));
    // No heartbeat makes it longer.
    freshness.heartbeat(heartbeat(ms(0), ms(720)), at(720));
    assert_eq!(judged(&freshness, at(721)), (end, true));
    // Where the node says how old, that holds as well.
    let freshness = keyed(Some(24 * HOUR), 0, Some(month));
    assert_eq!(judged(&freshness, at(25)), (Limit::Unsigned, true));
    let freshness = keyed(Some(24 * HOUR), 0, Some(2));
    assert_eq!(judged(&freshness, at(3)), (Limit::ValidUntil { at_ms: ms(2) }, true));
    // What was over when it came is over at once; so is one that says so unsigned.
    assert!(keyed(None, -5, Some(-1)).judge(at(0)).unwrap().is_expired());
    let mut freshness = Freshness::new(Witness::Bus, None, at(0));
    freshness.took(&TableVersion { issued_ms: 0, ..version(0) }, Some(0), at(0));
    assert_eq!(judged(&freshness, at(1)), (Limit::ValidUntil { at_ms: 0 }, true));
}

#[test]
fn a_table_whose_follower_is_refused_or_withheld_ages_from_the_followers_issue() {
    let newer = |revision, issued| Newer { epoch: 1, revision, issued_ms: ms(issued) };
    let mut freshness = keyed(None, 0, Some(1000));
    freshness.refused(newer(7, 10), at(10));
    freshness.refused(newer(8, 20), at(20));
    assert_eq!(judged(&freshness, at(34)), (Limit::SupersededByRefused { revision: 7 }, false));
    assert_eq!(judged(&freshness, at(35)), (Limit::SupersededByRefused { revision: 7 }, true));
    // Its own heartbeats do not help: there is a newer law.
    freshness.heartbeat(heartbeat(ms(0), ms(35)), at(35));
    assert!(freshness.judge(at(35)).unwrap().is_expired());
    freshness.took(&TableVersion { revision: 9, ..version(36) }, None, at(36));
    assert_eq!(judged(&freshness, at(36)), (Limit::Unsigned, false));
    // What is not after it does not count.
    freshness.refused(newer(9, 1), at(36));
    assert_eq!(judged(&freshness, at(36)).0, Limit::Unsigned);
    // A heartbeat about one that never came.
    let mut freshness = keyed(None, 0, Some(1000));
    freshness.heartbeat(Heartbeat { revision: 8, ..heartbeat(ms(10), ms(11)) }, at(11));
    assert_eq!(judged(&freshness, at(34)), (Limit::SupersededByWithheld { revision: 8 }, false));
    assert_eq!(judged(&freshness, at(35)), (Limit::SupersededByWithheld { revision: 8 }, true));
    // Without keys: the refused revision is shown, and the age counts from the last confirmation.
    let mut freshness = Freshness::new(Witness::Bus, None, at(0));
    freshness.took(&version(0), None, at(0));
    freshness.confirmed(at(10));
    freshness.refused(newer(7, 11), at(11));
    assert_eq!(judged(&freshness, at(34)), (Limit::Refused { revision: 7 }, false));
    assert_eq!(judged(&freshness, at(35)), (Limit::Refused { revision: 7 }, true));
    freshness.confirmed(at(35));
    assert_eq!(judged(&freshness, at(36)), (Limit::Silence, false));
}

#[test]
fn a_judgement_says_why_and_when_it_is_worth_a_word() {
    let freshness = keyed(None, 0, None);
    let early = freshness.judge(at(5)).unwrap();
    assert!(!early.is_worth_a_word());
    let late = freshness.judge(at(6)).unwrap();
    assert!(late.is_worth_a_word());
    assert_eq!((late.left(), late.share()), (18 * HOUR, 0.25));
    assert!(late.to_string().contains("for 6h: run `meridian heartbeat --sign KEY`"), "{late}");
    let until = keyed(None, 0, Some(10)).judge(at(9)).unwrap();
    assert!(until.to_string().contains("until 1981-05-30T02:00:00Z"), "{until}");
    let beyond = Judgement { limit: Limit::ValidUntil { at_ms: u64::MAX }, ..until };
    assert!(beyond.to_string().contains("9999-12-31"), "{beyond}");
}
