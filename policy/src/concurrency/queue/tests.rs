use super::*;
use Criticality::{Critical, Default, Sheddable};
use proptest::prelude::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn queue(length: usize) -> Queue<u32> {
    Queue::new(QueuePlan { length, age: ms(1000) })
}

fn all(queue: &mut Queue<u32>, now: Duration) -> Vec<u32> {
    std::iter::from_fn(|| queue.pop(now, &Taken::default()).map(|(item, _)| item)).collect()
}

/// Of no traffic class.
fn of(criticality: Criticality, client: u64) -> Request {
    Request { criticality, client, class: None }
}

#[test]
fn in_calm_the_first_comes_first_and_the_important_before() {
    let mut queue = queue(10);
    for (item, criticality) in [(1, Default), (2, Sheddable), (3, Critical), (4, Default), (5, Critical)] {
        assert_eq!(queue.push(ms(0), of(criticality, u64::from(item)), item), None);
    }
    assert!(!queue.is_overloaded(ms(99)));
    assert_eq!(all(&mut queue, ms(99)), [3, 5, 1, 4, 2]);
    assert!(queue.is_empty());
}

#[test]
fn under_overload_the_newest_comes_first_and_the_old_give_up() {
    let mut queue = queue(10);
    for item in 0..4 {
        assert_eq!(queue.push(ms(u64::from(item) * 50), of(Default, u64::from(item)), item), None);
    }
    queue.push(ms(0), of(Critical, 9), 9);
    assert!(queue.is_overloaded(ms(150)));
    assert_eq!(queue.expire(ms(249), &Taken::default()), [] as [u32; 0]);
    assert_eq!(queue.expire(ms(300), &Taken::default()), [0, 1]);
    assert_eq!(all(&mut queue, ms(300)), [9, 3, 2]);
    // Once it was empty, it is calm.
    queue.push(ms(400), of(Default, 1), 1);
    queue.push(ms(401), of(Default, 2), 2);
    assert_eq!(all(&mut queue, ms(402)), [1, 2]);
}

/// Those who give up leave no place free; those who get one do.
#[test]
fn a_queue_that_was_given_up_is_no_rest() {
    for (gets_a_place, pause, is_overloaded) in
        [(false, 99, true), (false, 100, false), (true, 1, false), (true, 99, false)]
    {
        let mut queue = queue(10);
        queue.push(ms(0), of(Default, 1), 1);
        queue.push(ms(200), of(Default, 2), 2);
        assert_eq!(queue.expire(ms(250), &Taken::default()), [1]);
        let end = if gets_a_place { 260 } else { 450 };
        let left = if gets_a_place { all(&mut queue, ms(end)) } else { queue.expire(ms(end), &Taken::default()) };
        assert_eq!(left, [2]);
        queue.push(ms(end + pause), of(Default, 3), 3);
        assert_eq!(queue.is_overloaded(ms(end + pause)), is_overloaded, "{gets_a_place}, {pause} ms later");
    }
}

#[test]
fn where_answers_are_quick_the_old_give_up_sooner() {
    let mut queue = queue(10);
    queue.set_hurry(Some(ms(30)));
    queue.push(ms(0), of(Default, 1), 1);
    assert_eq!(queue.expire(ms(89), &Taken::default()), [] as [u32; 0], "it is calm");
    assert_eq!(queue.expire(ms(90), &Taken::default()), [1]);
    queue.push(ms(180), of(Sheddable, 2), 2);
    queue.push(ms(180), of(Critical, 3), 3);
    assert_eq!(queue.expire(ms(209), &Taken::default()), [] as [u32; 0], "it was at rest");
    assert_eq!(queue.expire(ms(210), &Taken::default()), [2]);
    assert_eq!(queue.len(), 1);
}

/// From calm a queue stands once the time of an answer and a half has passed; one that stood within the last age
/// does after as long as those in it are to wait, but for a burst.
#[test]
fn a_queue_that_stood_lately_stands_sooner() {
    for (hurry, calm, again) in
        [(None, 100, 100), (Some(1), 25, 25), (Some(12), 36, 25), (Some(60), 180, 60), (Some(400), 500, 100)]
    {
        let mut queue = queue(10);
        queue.set_hurry(hurry.map(ms));
        for (begins, stands) in [(0, calm), (1_400, again), (4_000, calm)] {
            queue.push(ms(begins), of(Critical, 1), 1);
            let stood = begins + stands;
            assert!(!queue.is_overloaded(ms(stood - 1)), "{hurry:?}, {begins}");
            assert!(queue.is_overloaded(ms(stood)), "{hurry:?}, {begins}");
            queue.expire(ms(begins + 900), &Taken::default());
            assert_eq!(all(&mut queue, ms(begins + 900)), [1]);
        }
    }
}

/// Places that stay free for the critical: under an adaptive limit, while more comes in than goes out, and some of them come,
/// but none of them waits.
#[test]
fn some_places_are_spared_for_the_critical() {
    let none = Taken::default();
    for (limit, spared) in [(0, 0), (1, 0), (2, 0), (3, 1), (5, 2), (12, 3), (100, 10), (1_000, 31)] {
        let mut queue = queue(10);
        let spare = |queue: &Queue<u32>, now| queue.spare(ms(now), limit, &none);
        queue.push(ms(0), of(Default, 1), 1);
        assert!(queue.lets_critical_pass(ms(0), &none));
        assert_eq!(spare(&queue, 500), 0, "of a limit that does not find itself");
        queue.set_hurry(Some(ms(30)));
        assert_eq!(spare(&queue, 89), 0, "it is calm");
        assert_eq!(spare(&queue, 90), spared, "{limit}");
        queue.push(ms(130), of(Critical, 2), 2);
        assert_eq!((spare(&queue, 140), queue.kept(ms(140), limit)), (0, spared), "it is for this one");
        assert!(!queue.lets_critical_pass(ms(140), &none), "it came before");
        assert_eq!(queue.pop(ms(140), &none).map(|(item, _)| item), Some(2));
        assert_eq!(spare(&queue, 140), spared);
        assert_eq!((spare(&queue, 5_139), spare(&queue, 5_140)), (spared, 0), "none has come for a while");
        assert!(queue.lets_critical_pass(ms(5_200), &none));
        assert_eq!(queue.expire(ms(5_200), &none), [1]);
        assert_eq!(
            (queue.kept(ms(5_229), limit), queue.kept(ms(5_230), limit)),
            (spared, 0),
            "those who gave up have no place"
        );
    }
}

#[test]
fn the_critical_wait_for_the_whole_age() {
    let mut queue = queue(10);
    queue.push(ms(0), of(Critical, 1), 1);
    assert_eq!(queue.expire(ms(999), &Taken::default()), [] as [u32; 0]);
    assert_eq!(queue.expire(ms(1000), &Taken::default()), [1]);
}

#[test]
fn the_least_important_and_oldest_gives_way() {
    let mut queue = queue(3);
    queue.push(ms(0), of(Default, 1), 1);
    queue.push(ms(1), of(Sheddable, 2), 2);
    queue.push(ms(2), of(Critical, 3), 3);
    assert_eq!(queue.push(ms(3), of(Sheddable, 4), 4), Some(2));
    assert_eq!(queue.push(ms(4), of(Default, 5), 5), Some(4));
    assert_eq!(queue.push(ms(5), of(Sheddable, 6), 6), Some(6));
    assert_eq!(queue.push(ms(6), of(Critical, 7), 7), Some(1));
    assert_eq!(queue.push(ms(7), of(Critical, 8), 8), Some(5));
    assert_eq!(queue.push(ms(8), of(Critical, 9), 9), Some(3));
    assert_eq!(self::queue(0).push(ms(0), of(Critical, 1), 1), Some(1));
}

#[test]
fn one_client_with_many_gets_what_others_leave() {
    let mut queue = queue(8);
    for item in 0..8 {
        queue.push(ms(0), of(Default, 7), item);
    }
    // Others push out the many, and come before them.
    for (client, item) in [(1, 10), (2, 11), (3, 12)] {
        assert!(queue.push(ms(1), of(Default, client), item).is_some_and(|out| out < 8));
    }
    assert_eq!(all(&mut queue, ms(2))[..3], [10, 11, 12]);
}

/// What a client has of another criticality counts, too: it has no share for each.
#[test]
fn a_client_is_one_over_all_criticalities() {
    let mut queue = queue(8);
    for item in 0..3 {
        queue.push(ms(0), of(Sheddable, 7), item);
    }
    for (client, item) in [(7, 10), (1, 11), (1, 12)] {
        queue.push(ms(0), of(Default, client), item);
    }
    assert_eq!(all(&mut queue, ms(1))[..3], [11, 12, 10]);
}

#[test]
fn who_goes_away_leaves_the_queue() {
    let mut queue = queue(2);
    queue.push(ms(0), of(Default, 1), 1);
    queue.push(ms(0), of(Default, 1), 2);
    assert!(queue.remove(|item| *item == 1));
    assert!(!queue.remove(|item| *item == 1));
    assert_eq!(queue.push(ms(0), of(Default, 1), 3), None);
    assert_eq!(all(&mut queue, ms(0)), [2, 3]);
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8, u64),
    Pop,
    Expire,
    Remove(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8, 0..4_u64).prop_map(|(criticality, client)| Step::Push(criticality, client)),
        2 => Just(Step::Pop),
        1 => Just(Step::Expire),
        1 => (0..50_usize).prop_map(Step::Remove),
        2 => (0..300_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Everyone that came in is still there or came out once; never too many, never too old, never the less important
    /// before the more important.
    #[test]
    fn nobody_is_lost_and_the_bounds_hold(length in 0..6_usize, steps in prop::collection::vec(step(), 0..200)) {
        let plan = QueuePlan { length, age: ms(500) };
        let mut queue: Queue<usize> = Queue::new(plan);
        let mut now = ms(10_000);
        let mut there: std::collections::BTreeMap<usize, (Criticality, Duration)> = std::collections::BTreeMap::new();
        for (id, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(criticality, client) => {
                    let criticality = [Sheddable, Default, Critical][usize::from(criticality)];
                    there.insert(id, (criticality, now));
                    let out = queue.push(now, of(criticality, client), id);
                    prop_assert_eq!(out.is_some(), there.len() > length);
                    if let Some(out) = out {
                        let (of, _) = there.remove(&out).expect("it was there");
                        prop_assert!(there.values().all(|(other, _)| *other >= of));
                    }
                }
                Step::Pop => {
                    let out = queue.pop(now, &Taken::default()).map(|(item, _)| item);
                    prop_assert_eq!(out.is_some(), !there.is_empty());
                    if let Some(out) = out {
                        let (of, _) = there.remove(&out).expect("it was there");
                        prop_assert!(there.values().all(|(other, _)| *other <= of));
                    }
                }
                Step::Expire => {
                    for out in queue.expire(now, &Taken::default()) {
                        let (_, since) = there.remove(&out).expect("it was there");
                        prop_assert!(now - since >= plan.age / HURRY);
                    }
                    prop_assert!(there.values().all(|(_, since)| now - *since < plan.age));
                }
                Step::Remove(which) => prop_assert_eq!(queue.remove(|id| *id == which), there.remove(&which).is_some()),
                Step::Wait(time) => now += ms(time),
            }
            prop_assert_eq!(queue.len(), there.len());
            prop_assert_eq!(queue.counts.values().sum::<usize>(), there.len());
            prop_assert!(there.len() <= length);
        }
    }
}
