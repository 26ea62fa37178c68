use super::*;
use crate::concurrency::{Queue, QueuePlan, Request};
use crate::pressure::Criticality;
use Criticality::{Critical, Default as Normal, Sheddable};
use proptest::prelude::*;
use std::time::Duration;

fn classes(named: &[(&str, f64)]) -> Vec<TrafficClass> {
    named.iter().map(|(name, share)| TrafficClass { name: (*name).to_owned(), guaranteed: *share }).collect()
}

/// Classes a, b, c and so on, at the positions from 0 on.
fn placed(shares: &[f64]) -> PlacedClasses {
    let named: Vec<(String, f64)> = ('a'..).map(String::from).zip(shares.iter().copied()).collect();
    let named: Vec<(&str, f64)> = named.iter().map(|(name, share)| (name.as_str(), *share)).collect();
    ClassPositions::default().place(&classes(&named), false)
}

#[test]
fn a_share_is_whole_places_and_one_at_least() {
    let PlacedClasses { guarantees, slots, .. } = placed(&[0.4, 0.3, 0.2]);
    for (of, places) in
        [(100, [40, 30, 20]), (10, [4, 3, 2]), (7, [2, 2, 1]), (2, [1, 1, 1]), (1, [1, 1, 1]), (0, [0; 3])]
    {
        assert_eq!([0, 1, 2].map(|index| guarantees.places(index, of)), places, "{of}");
    }
    assert_eq!((guarantees.places(3, 100), guarantees.places(99, 100)), (0, 0));
    assert_eq!([100, 10, 2, 0].map(|of| guarantees.rest(of)), [10, 1, 1, 0], "what they leave");
    assert_eq!(placed(&[0.4, 0.3, 0.3]).guarantees.rest(100), 0);
    assert_eq!(Guarantees::default().rest(100), 100);
    assert_eq!((guarantees.index(slots[2]), guarantees.slot(2)), (Some(2), Some(slots[2])));
    assert_eq!((guarantees.index(TrafficSlot { key: 8, index: 2 }), guarantees.slot(3)), (None, None));
}

/// A class that stays is counted on, and one that comes back while nobody else has had its position.
#[test]
fn classes_keep_their_positions_from_table_to_table() {
    let mut positions = ClassPositions::default();
    let first = positions.place(&classes(&[("a", 0.5), ("b", 0.2)]), false);
    let second = positions.place(&classes(&[("b", 0.3), ("c", 0.1)]), false);
    assert_eq!(second.slots[0], first.slots[1]);
    assert_eq!(second.kept[..3], [false, true, false]);
    assert_eq!(second.guarantees.index(first.slots[0]), None, "it is in this table no more");
    assert_eq!((second.guarantees.places(1, 10), second.guarantees.places(2, 10)), (3, 1));
    let third = positions.place(&classes(&[("a", 0.5), ("b", 0.2)]), false);
    assert_eq!(third.slots, first.slots);
    // As many others as there can be have its position meanwhile: it is another from then on.
    let others: Vec<String> = (0..MOST_CLASSES).map(|number| format!("other-{number}")).collect();
    let others: Vec<(&str, f64)> = others.iter().map(|name| (name.as_str(), 0.01)).collect();
    let crowd = positions.place(&classes(&others), false);
    let taken: std::collections::BTreeSet<u8> = crowd.slots.iter().map(|slot| slot.index).collect();
    assert_eq!(taken.len(), MOST_CLASSES);
    let back = positions.place(&classes(&[("a", 0.5)]), false);
    assert!(!first.slots.contains(&back.slots[0]) && back.kept == [false; MOST_CLASSES]);
    // Counted anew, a class is the same, and what it had is not counted.
    let anew = positions.place(&classes(&[("a", 0.5)]), true);
    assert_eq!(anew.slots[0].index, back.slots[0].index);
    assert!(anew.slots[0].key != back.slots[0].key && anew.kept.contains(&true));
}

/// A limit and its queue, as a node has them: a place that is free goes to who waits, and else to who comes.
struct Model {
    guarantees: Guarantees,
    now: Duration,
    taken: Taken,
    /// Each with its class.
    held: Vec<(u32, Option<usize>)>,
    queue: Queue<u32>,
    waiting: Vec<(u32, Option<usize>)>,
    since: std::collections::BTreeMap<u32, Duration>,
    evicted: Vec<u32>,
}

const AGE: Duration = Duration::from_secs(3_600);

impl Model {
    fn new(limit: usize, length: usize, shares: &[f64]) -> Self {
        let mut queue = Queue::new(QueuePlan { length, age: AGE });
        let PlacedClasses { guarantees, kept, .. } = placed(shares);
        queue.set_guarantees(guarantees, &kept);
        let taken = Taken { limit, ..Taken::default() };
        let (held, waiting, since, evicted) = Default::default();
        Self { guarantees, now: Duration::ZERO, taken, held, queue, waiting, since, evicted }
    }

    fn arrive(&mut self, item: u32, class: Option<usize>, criticality: Criticality, client: u64) {
        if self.queue.is_empty() && self.held.len() < self.taken.limit {
            return self.hold(item, class);
        }
        self.waiting.push((item, class));
        self.since.insert(item, self.now);
        let request = Request { criticality, client, class: class.and_then(|index| self.guarantees.slot(index)) };
        let before = self.by_class();
        if let Some(evicted) = self.queue.push(self.now, request, item) {
            let of = self.forget(evicted);
            let share = |index: usize| self.guarantees.places(index, self.waiting.len());
            let unclassed = self.waiting.len() + 1 - before.iter().sum::<usize>();
            let rest = self.guarantees.rest(self.waiting.len());
            let is_within =
                |class: Option<usize>| class.map_or(unclassed <= rest, |index| before[index] <= share(index));
            let others = self.waiting.iter().any(|(_, class)| !is_within(*class));
            assert!(!is_within(of) || !others, "{of:?} gives way, and others are beyond their share: {before:?}");
            self.evicted.push(evicted);
        }
    }

    /// How many of each class wait.
    fn by_class(&self) -> [usize; MOST_CLASSES] {
        let mut counts = [0; MOST_CLASSES];
        self.waiting.iter().filter_map(|(_, class)| *class).for_each(|index| counts[index] += 1);
        counts
    }

    fn leave(&mut self, at: usize) {
        let (_, class) = self.held.remove(at);
        if let Some(index) = class {
            self.taken.by_class[index] -= 1;
        }
        while self.held.len() < self.taken.limit {
            let owed: Vec<usize> = self.waiting.iter().filter_map(|(_, class)| *class).collect();
            let owed = owed.into_iter().any(|index| self.taken.is_below(&self.guarantees, Some(index)));
            let Some((item, class)) = self.queue.pop(self.now, &self.taken) else { break };
            assert!(!owed || self.taken.is_below(&self.guarantees, class), "{class:?} comes before who is owed");
            assert_eq!(self.forget(item), class);
            self.hold(item, class);
        }
    }

    fn hold(&mut self, item: u32, class: Option<usize>) {
        if let Some(index) = class {
            self.taken.by_class[index] += 1;
        }
        self.held.push((item, class));
    }

    /// Who has waited for too long goes; who is owed a place, after the whole age only.
    fn expire(&mut self) {
        for item in self.queue.expire(self.now, &self.taken) {
            let waited = self.now - self.since[&item];
            let class = self.forget(item);
            let least = if self.taken.is_below(&self.guarantees, class) { AGE } else { AGE / 4 };
            assert!(waited >= least, "{class:?} goes after {waited:?}");
        }
        let oldest = self.waiting.iter().map(|(item, _)| self.now - self.since[item]).max();
        assert!(oldest.is_none_or(|oldest| oldest < AGE));
    }

    fn forget(&mut self, item: u32) -> Option<usize> {
        let at = self.waiting.iter().position(|(known, _)| *known == item).expect("it waits");
        self.waiting.remove(at).1
    }
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(Option<usize>, Criticality, u64),
    Leave(usize),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let criticality = proptest::sample::select(&[Sheddable, Normal, Critical]);
    let class = prop_oneof![1 => Just(None), 3 => (0..3_usize).prop_map(Some)];
    prop_oneof![
        3 => (class, criticality, 0..4_u64).prop_map(|(class, criticality, client)| Step::Arrive(class, criticality, client)),
        2 => any::<usize>().prop_map(Step::Leave),
        1 => (1..40_u32).prop_map(Step::Wait),
    ]
}

proptest! {
    /// No place is free while somebody waits, whoever it is; who is owed comes before all others; and who gives way is
    /// beyond its share, if any is. Nobody who is owed a place is hurried out.
    #[test]
    fn places_are_lent_and_come_back(
        limit in 1..12_usize,
        length in 1..8_usize,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model::new(limit, length, &[0.4, 0.3, 0.2]);
        for (item, step) in steps.into_iter().enumerate() {
            match step {
                Step::Arrive(class, criticality, client) => model.arrive(item as u32, class, criticality, client),
                Step::Leave(at) if !model.held.is_empty() => model.leave(at % model.held.len()),
                Step::Leave(_) => {}
                Step::Wait(percent) => {
                    model.now += AGE * percent / 100;
                    model.expire();
                }
            }
            prop_assert!(model.queue.is_empty() || model.held.len() == limit, "work-conserving");
            prop_assert!(model.waiting.len() == model.queue.len() && model.queue.len() <= length);
            let waiting = model.by_class().map(|count| count as u32);
            prop_assert_eq!(model.queue.by_class(), waiting);
        }
    }
}

/// Each answer takes ten moments of twenty places. One class floods, the more important one at that; the others ask for what
/// they are guaranteed, and get it, nearly at once.
#[test]
fn a_flood_leaves_the_others_their_share() {
    let mut model = Model::new(20, 16, &[0.4, 0.3, 0.2]);
    let (mut ends, mut came) = (Vec::<(u32, usize)>::new(), std::collections::HashMap::new());
    let (mut served, mut longest) = ([0_usize; 3], [0_usize; 3]);
    let mut item = 0;
    const MOMENTS: usize = 1_000;
    for now in 0..MOMENTS {
        while let Some(at) = ends.iter().position(|(_, end)| *end == now) {
            let (over, _) = ends.remove(at);
            let at = model.held.iter().position(|(held, _)| *held == over).expect("it is served");
            model.leave(at);
        }
        let mut arrive = |model: &mut Model, class: usize, criticality| {
            item += 1;
            came.insert(item, (now, class));
            model.arrive(item, Some(class), criticality, u64::from(item));
        };
        // 8 and 6 places, for ten moments each: four in five moments, three in five.
        (0..30).for_each(|_| arrive(&mut model, 2, Critical));
        if now % 5 != 0 {
            arrive(&mut model, 0, Normal);
        }
        if now % 5 > 1 {
            arrive(&mut model, 1, Sheddable);
        }
        for (held, _) in &model.held {
            if !ends.iter().any(|(known, _)| known == held) {
                // Those of the first moment end one after the other.
                let lasts = if now == 0 { 1 + ends.len() / 2 } else { 10 };
                ends.push((*held, now + lasts));
                let (since, class) = came[held];
                served[class] += 1;
                longest[class] = longest[class].max(now - since);
            }
        }
    }
    let evicted = model.evicted.iter().filter(|item| came[item].1 != 2).count();
    assert_eq!(evicted, 0, "the flood gives way");
    assert!(served[0] >= MOMENTS * 4 / 5 - 2 && served[1] >= MOMENTS * 3 / 5 - 2, "{served:?}");
    assert!(longest[0] <= 3 && longest[1] <= 3, "{longest:?}");
    // And the flood has what is left: 20 places of ten moments each, less those.
    assert!(served[2] >= MOMENTS * 2 - served[0] - served[1] - 20, "{served:?}");
}

proptest! {
    /// However the guarantees are, and however many more than there are places: a class that waits and has none gets one
    /// while no other gets two.
    #[test]
    fn every_class_moves_on(
        limit in 1..6_usize,
        shares in prop::collection::vec(1..10_u32, 1..8),
        criticalities in prop::collection::vec(0..3_usize, 8),
        leaves in prop::collection::vec(any::<usize>(), 60),
    ) {
        let sum: u32 = shares.iter().sum();
        let shares: Vec<f64> = shares.iter().map(|share| f64::from(*share) / f64::from(sum)).collect();
        let mut model = Model::new(limit, 64, &shares);
        let mut item = 0;
        let mut served_since = vec![vec![0; shares.len()]; shares.len()];
        for leaves in leaves {
            // Each class always has somebody who waits.
            for class in 0..shares.len() {
                while model.by_class()[class] < 2 {
                    item += 1;
                    let criticality = [Sheddable, Normal, Critical][criticalities[class]];
                    model.arrive(item, Some(class), criticality, u64::from(item));
                }
            }
            let before = model.taken.by_class;
            let at = leaves % model.held.len();
            let gone = model.held[at].1.expect("a class");
            model.leave(at);
            let got = model.held.last().and_then(|(_, class)| *class).expect("somebody waits");
            for (class, since) in served_since.iter_mut().enumerate() {
                if class == got || before[class] > u32::from(gone == class) {
                    since.fill(0);
                } else {
                    since[got] += 1;
                    prop_assert!(since[got] <= 2, "class {} has none, and {} gets another", class, got);
                }
            }
        }
    }
}

/// One class with a share leaves the rest of the queue to those without: what is critical of them does not give way to what
/// is least important of it.
#[test]
fn those_of_no_class_have_what_classes_leave() {
    let mut model = Model::new(1, 4, &[0.5]);
    model.arrive(0, None, Critical, 0);
    for item in 1..=2 {
        model.arrive(item, None, Critical, u64::from(item));
    }
    for item in 3..=6 {
        model.arrive(item, Some(0), Sheddable, u64::from(item));
    }
    assert_eq!(model.evicted, [3, 4]);
    model.arrive(7, None, Sheddable, 7);
    assert_eq!(model.evicted, [3, 4, 7]);
}

#[test]
fn who_is_owed_a_place_waits_for_the_whole_age() {
    let mut model = Model::new(2, 8, &[0.5, 0.5]);
    for item in 0..4 {
        model.arrive(item, Some(0), Normal, u64::from(item));
    }
    model.arrive(4, Some(1), Sheddable, 4);
    model.now = AGE / 2;
    model.expire();
    assert_eq!(model.waiting, [(4, Some(1))]);
    model.now = AGE;
    model.expire();
    assert_eq!(model.waiting, []);
}
