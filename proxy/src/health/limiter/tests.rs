//! Places, those that wait for them, and what is told of them.

use super::*;
use crate::in_flight::InFlightCount;
use policy::concurrency::{Bounds, QueuePlan};
use policy::pressure::Criticality;
use std::task::{Context, Poll, Waker};

fn limiter(mode: Mode, length: usize) -> LimiterHandle {
    let limiter = LimiterHandle::default();
    limiter.set_plan(&plan(mode, length), 1_000, &none());
    limiter
}

fn none() -> PlacedClasses {
    ClassPositions::default().place(&[], false)
}

fn classes(names: &[&str]) -> Vec<TrafficClass> {
    let share = 1.0 / names.len() as f64;
    names.iter().map(|name| TrafficClass { name: (*name).to_owned(), guaranteed: share }).collect()
}

/// Of no traffic class.
fn of(criticality: Criticality, client: u64) -> Request {
    Request { criticality, client, class: None }
}

fn plan(mode: Mode, length: usize) -> ConcurrencyPlan {
    ConcurrencyPlan { mode, queue: QueuePlan { length, age: Duration::from_secs(3_600) } }
}

fn poll(waits: &mut Waits) -> Poll<Result<Place, Leaves>> {
    std::pin::pin!(waits.place()).poll(&mut Context::from_waker(Waker::noop()))
}

fn is_there(waits: &mut Waits) -> bool {
    // A place that is there is given back at once.
    matches!(poll(waits), Poll::Ready(Ok(_)))
}

#[test]
fn a_place_goes_to_who_waits_and_back() {
    let limiter = limiter(Mode::Fixed(1), 4);
    let place = limiter.enter(None, Criticality::Default).unwrap().unwrap();
    assert!(limiter.enter(None, Criticality::Default).is_err());
    let mut second = limiter.wait(of(Criticality::Default, 1)).unwrap();
    let mut first = limiter.wait(of(Criticality::Critical, 2)).unwrap();
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    drop(place);
    assert!(poll(&mut second).is_pending(), "the more important comes first");
    assert!(limiter.enter(None, Criticality::Default).is_err(), "nobody comes before those that wait");
    assert!(is_there(&mut first));
    assert!(is_there(&mut second));
    assert_eq!(limiter.now(), Some(LimitNow { limit: 1, taken: 0, waiting: 0 }));
    assert!(limiter.enter(None, Criticality::Default).unwrap().is_some());
}

#[test]
fn who_goes_away_leaves_the_queue_or_gives_its_place_on() {
    let limiter = limiter(Mode::Fixed(1), 4);
    let place = limiter.enter(None, Criticality::Default).unwrap();
    let gone = limiter.wait(of(Criticality::Default, 1)).unwrap();
    let granted = limiter.wait(of(Criticality::Default, 2)).unwrap();
    let mut last = limiter.wait(of(Criticality::Default, 3)).unwrap();
    drop(gone);
    assert_eq!(limiter.now().unwrap().waiting, 2);
    drop(place);
    // It has the place, and has not looked.
    assert_eq!(limiter.now().unwrap().waiting, 1);
    drop(granted);
    assert!(is_there(&mut last));
    assert_eq!(limiter.now(), Some(LimitNow { limit: 1, taken: 0, waiting: 0 }));
}

#[test]
fn without_a_limit_all_that_wait_go_on() {
    let limiter = limiter(Mode::Adaptive(Bounds { initial: 2, min: 1, max: 2 }), 4);
    let places =
        [limiter.enter(None, Criticality::Default).unwrap(), limiter.enter(None, Criticality::Default).unwrap()];
    let mut waits: Vec<Waits> =
        (0..4).map(|client| limiter.wait(of(Criticality::Sheddable, client)).unwrap()).collect();
    // One more pushes out the oldest.
    waits.push(limiter.wait(of(Criticality::Sheddable, 4)).unwrap());
    assert!(matches!(poll(&mut waits.remove(0)), Poll::Ready(Err(Leaves::Full))));
    limiter.set_plan(&plan(Mode::Off, 4), 1_000, &none());
    assert!(waits.iter_mut().all(is_there));
    assert!(limiter.enter(None, Criticality::Default).unwrap().is_none());
    drop(places);
    limiter.set_plan(&plan(Mode::Fixed(3), 0), 1_000, &none());
    assert_eq!(limiter.now(), Some(LimitNow { limit: 3, taken: 0, waiting: 0 }));
    let _places: Vec<_> = (0..3).map(|_| limiter.enter(None, Criticality::Default).unwrap()).collect();
    assert_eq!(limiter.wait(of(Criticality::Critical, 0)).map(|_| ()), Err(Leaves::Full), "there is no queue");
}

#[test]
fn a_client_counts_once_in_a_tick_and_again_in_the_next() {
    let limiter = limiter(Mode::Adaptive(Bounds { initial: 8, min: 1, max: 8 }), 4);
    let overloads = || limiter.overloaded.load(Ordering::Relaxed).count_ones();
    for client in [1, 2, 1, 2, 1] {
        limiter.overloaded(client);
    }
    assert_eq!(overloads(), 2);
    limiter.tick();
    assert_eq!(overloads(), 0);
    limiter.overloaded(1);
    assert_eq!(overloads(), 1);
}

/// A stream that began under a fixed limit keeps its place to its end; an adaptive one does not count it.
#[test]
fn places_of_another_kind_of_plan_do_not_count() {
    let limiter = limiter(Mode::Fixed(2), 4);
    let streams =
        [limiter.enter(None, Criticality::Default).unwrap(), limiter.enter(None, Criticality::Default).unwrap()];
    limiter.set_plan(&plan(Mode::Adaptive(Bounds { initial: 2, min: 1, max: 2 }), 4), 1_000, &none());
    let now = || limiter.now().unwrap().taken;
    assert_eq!(now(), 0);
    let place = limiter.enter(None, Criticality::Default).unwrap();
    drop(streams);
    assert_eq!(now(), 1);
    drop(place);
    assert_eq!(now(), 0);
}

#[test]
fn who_gives_up_after_longer_than_quiet_has_waited_for_so_long() {
    let limiter = limiter(Mode::Adaptive(Bounds { initial: 8, min: 1, max: 8 }), 4);
    let answers = || limiter.answers.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u32>();
    let in_flight = Arc::new(InFlightCount::default()).of_worker(0);
    let gives_up = |waited: Duration| {
        let mut held = Held::new(in_flight.enter(), limiter.enter(None, Criticality::Default).unwrap());
        held.awaits_head(clock::now() - waited);
        held
    };
    drop(gives_up(Duration::from_secs(60)));
    assert_eq!(answers(), 0, "nothing is known yet");
    limiter.quiet_micros.store(5_000_000, Ordering::Relaxed);
    drop(gives_up(Duration::from_secs(1)));
    assert_eq!(answers(), 0);
    gives_up(Duration::from_secs(60)).on_head();
    gives_up(Duration::from_secs(60)).give_back();
    assert_eq!(answers(), 0, "an answer was told of already");
    drop(gives_up(Duration::from_secs(60)));
    assert_eq!(answers(), 1);
}

#[test]
fn a_fixed_limit_is_no_more_than_the_cap() {
    let limiter = LimiterHandle::default();
    limiter.set_plan(&plan(Mode::Fixed(500), 4), 10, &none());
    assert_eq!(limiter.now().map(|now| now.limit), Some(10));
}

#[test]
fn the_fuller_group_says_how_full_a_region_is() {
    let limits = RegionLimits::default();
    assert_eq!(limits.fullest(true), None);
    limits.set_plan(&plan(Mode::Fixed(4), 4), 1_000, &[]);
    let _stable = limits.of(false).enter(None, Criticality::Default).unwrap();
    let _on_trial = [
        limits.of(true).enter(None, Criticality::Default).unwrap(),
        limits.of(true).enter(None, Criticality::Default).unwrap(),
    ];
    let of = |taken| Some(LimitNow { limit: 4, taken, waiting: 0 });
    assert_eq!((limits.fullest(false), limits.fullest(true)), (of(1), of(2)));
}

/// Many threads take and give back, for classes and none: never more places than there are, nobody waits for ever, and
/// each place that was counted is taken out again, whatever tables come meanwhile.
#[test]
fn no_place_and_no_waiter_is_lost_among_threads() {
    let limits = RegionLimits::default();
    let tables = [classes(&["a", "b"]), classes(&["b"]), classes(&["c", "a", "b"])];
    let set = |table: usize| limits.set_plan(&plan(Mode::Fixed(3), 1_000), 1_000, &tables[table % tables.len()]);
    set(0);
    let slots = Mutex::new(set(2).slots);
    let taken = AtomicUsize::new(0);
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (limiter, taken, slots) = (limits.of(false), &taken, &slots);
            scope.spawn(move || {
                for round in 0..2_000_usize {
                    let class = slots.lock().unwrap().get(round % 4).copied();
                    let place = match limiter.enter(class, Criticality::Default) {
                        Ok(place) => place.unwrap(),
                        Err(Full) => {
                            let request = Request { criticality: Criticality::Default, client, class };
                            let mut waits = limiter.wait(request).unwrap();
                            runtime().block_on(waits.place()).unwrap()
                        }
                    };
                    assert!(taken.fetch_add(1, Ordering::SeqCst) < 3);
                    std::thread::yield_now();
                    taken.fetch_sub(1, Ordering::SeqCst);
                    drop(place);
                }
            });
        }
        for table in 0..300 {
            *slots.lock().unwrap() = set(table).slots;
            std::thread::yield_now();
        }
    });
    let limiter = limits.of(false);
    assert_eq!(limiter.now(), Some(LimitNow { limit: 3, taken: 0, waiting: 0 }));
    assert_eq!(limiter.by_class.counts(), [0; policy::concurrency::MOST_CLASSES]);
}

/// One class floods, another comes seldom: its next request has the next place, and it is the flood that gives way.
#[test]
fn a_class_below_its_guarantee_comes_first() {
    let limits = RegionLimits::default();
    let both = classes(&["flood", "seldom"]);
    let placed = limits.set_plan(&plan(Mode::Fixed(4), 4), 1_000, &both);
    let [flood, seldom] = [0, 1].map(|index| Some(placed.slots[index]));
    let limiter = limits.of(false);
    let counts = || (limiter.by_class.of(0), limiter.by_class.of(1));
    // Nobody asks for the other half, and so the flood has it.
    let mut places: Vec<_> = (0..4).map(|_| limiter.enter(flood, Criticality::Default).unwrap()).collect();
    assert_eq!(counts(), (4, 0));
    assert_eq!(limiter.owes(placed.slots[0]), None);
    assert_eq!(limiter.owes(placed.slots[1]), Some(Duration::from_secs(900)), "a quarter of the queue's age");
    let request = |class, criticality, client| Request { criticality, client, class };
    let mut flooding: Vec<Waits> =
        (0..4).map(|client| limiter.wait(request(flood, Criticality::Critical, client)).unwrap()).collect();
    let mut waits = limiter.wait(request(seldom, Criticality::Sheddable, 9)).unwrap();
    assert!(matches!(poll(&mut flooding.remove(0)), Poll::Ready(Err(Leaves::Full))), "one of the flood gives way");
    drop(places.pop());
    let Poll::Ready(Ok(place)) = poll(&mut waits) else { panic!("the next place is its") };
    assert_eq!(counts(), (3, 1));
    assert!(flooding.iter_mut().all(|waits| poll(waits).is_pending()));
    let mut waits = limiter.wait(request(seldom, Criticality::Sheddable, 9)).unwrap();
    // A table in another order: what is held and what waits is of its class on.
    limits.set_plan(&plan(Mode::Fixed(4), 4), 1_000, &classes(&["seldom", "flood"]));
    assert_eq!(counts(), (3, 1));
    drop(places.pop());
    let Poll::Ready(Ok(another)) = poll(&mut waits) else { panic!("its class waits on") };
    assert_eq!(counts(), (2, 2));
    // One that is gone, and comes back: what it held is still its.
    limits.set_plan(&plan(Mode::Fixed(4), 4), 1_000, &classes(&["flood"]));
    assert_eq!(limiter.enter(seldom, Criticality::Default).err(), Some(Full));
    let placed = limits.set_plan(&plan(Mode::Fixed(4), 4), 1_000, &both);
    assert_eq!((counts(), Some(placed.slots[1])), ((2, 2), seldom));
    drop((place, another, places));
    assert_eq!(counts().1, 0);
    assert!(flooding.iter_mut().all(is_there));
    assert_eq!((limiter.now(), counts()), (Some(LimitNow { limit: 4, taken: 0, waiting: 0 }), (0, 0)));
}

/// Places that the limit does not count any more count for no class; those after them do.
#[test]
fn places_of_another_kind_of_plan_do_not_count_for_classes() {
    let limits = RegionLimits::default();
    let one = classes(&["one"]);
    let adaptive = plan(Mode::Adaptive(Bounds { initial: 2, min: 1, max: 2 }), 4);
    let placed = limits.set_plan(&plan(Mode::Fixed(2), 4), 1_000, &one);
    let limiter = limits.of(false);
    let streams = [0, 1].map(|_| limiter.enter(Some(placed.slots[0]), Criticality::Default).unwrap());
    let class = Some(placed.slots[0]);
    let mut waits = limiter.wait(Request { criticality: Criticality::Default, client: 1, class }).unwrap();
    let placed = limits.set_plan(&adaptive, 1_000, &one);
    let Poll::Ready(Ok(waited_for)) = poll(&mut waits) else { panic!("there is a place now") };
    let count = || limiter.by_class.of(usize::from(placed.slots[0].index));
    assert_eq!((limiter.now().unwrap().taken, count()), (1, 1), "who waited is of its class on");
    let place = limiter.enter(Some(placed.slots[0]), Criticality::Default).unwrap();
    drop(streams);
    assert_eq!((limiter.now().unwrap().taken, count()), (2, 2));
    drop((place, waited_for));
    assert_eq!((limiter.now().unwrap().taken, count()), (0, 0));
}

/// While a queue stands and critical requests come, the last places are theirs: beside others that wait, and after those that
/// have just given up.
#[test]
fn the_last_places_are_for_the_critical() {
    let limiter = limiter(Mode::Adaptive(Bounds { initial: 5, min: 5, max: 5 }), 4);
    let age = Duration::from_secs(1);
    limiter.lock().queue.set_plan(QueuePlan { length: 4, age });
    limiter.lock().queue.set_hurry(Some(age / 20));
    let enter = |criticality| limiter.enter(None, criticality).map(Option::unwrap);
    let mut places: Vec<_> = (0..5).map(|_| enter(Criticality::Default).unwrap()).collect();
    let mut waits = limiter.wait(of(Criticality::Default, 1)).unwrap();
    assert_eq!(enter(Criticality::Critical).err(), Some(Full));
    let later = uptime() + age / 2;
    limiter.hand_out_at(later);
    assert!(matches!(poll(&mut waits), Poll::Ready(Err(Leaves::TooOld))));
    places.truncate(3);
    assert_eq!(enter(Criticality::Default).err(), Some(Full), "two of five are kept");
    places.push(enter(Criticality::Critical).unwrap());
    // Another that waits.
    let (outcome, _waits) = oneshot::channel();
    assert!(limiter.lock().queue.push(later, of(Criticality::Default, 2), Waiter { id: 9, outcome }).is_none());
    limiter.hand_out_at(later);
    assert_eq!(limiter.now(), Some(LimitNow { limit: 5, taken: 4, waiting: 1 }), "it gets none of them");
    assert_eq!(limiter.now().unwrap().in_use(), 6, "they are no room");
    places.push(enter(Criticality::Critical).unwrap());
    // It gives up, and once it is at rest all places are for all.
    limiter.hand_out_at(later + age);
    places.truncate(4);
    assert_eq!(enter(Criticality::Default).err(), Some(Full));
    limiter.hand_out_at(later + 2 * age);
    assert!(enter(Criticality::Default).is_ok());
}

/// A table that comes changes nothing for those that wait.
#[test]
fn a_table_leaves_the_patience_of_a_queue_as_it_is() {
    let limiter = limiter(Mode::Adaptive(Bounds { initial: 5, min: 5, max: 5 }), 4);
    let patience = Duration::from_millis(40);
    limiter.lock().queue.set_hurry(Some(patience));
    limiter.set_plan(&plan(Mode::Adaptive(Bounds { initial: 5, min: 5, max: 6 }), 4), 1_000, &none());
    assert_eq!(limiter.lock().queue.patience(), patience);
    limiter.set_plan(&plan(Mode::Fixed(5), 4), 1_000, &none());
    assert!(limiter.lock().queue.patience() > patience);
}
