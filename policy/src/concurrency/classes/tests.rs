use super::*;
use crate::concurrency::{Queue, QueuePlan, Request};
use crate::pressure::Criticality;
use Criticality::{Critical, Default as Normal, Sheddable};
use proptest::prelude::*;
use std::time::Duration;

const KEY: u32 = 7;

fn slot(index: usize) -> TrafficSlot {
    TrafficSlot { key: KEY, index: index as u8 }
}

#[test]
fn a_share_is_whole_places_and_one_at_least() {
    let guarantees = Guarantees::new(KEY, [0.4, 0.3, 0.2]);
    for (of, places) in
        [(100, [40, 30, 20]), (10, [4, 3, 2]), (7, [2, 2, 1]), (2, [1, 1, 1]), (1, [1, 1, 1]), (0, [0; 3])]
    {
        assert_eq!([0, 1, 2].map(|index| guarantees.places(index, of)), places, "{of}");
    }
    assert_eq!((guarantees.places(3, 100), guarantees.places(99, 100)), (0, 0));
    assert_eq!(guarantees.index(slot(2)), Some(2));
    assert_eq!(guarantees.index(TrafficSlot { key: 8, index: 2 }), None, "of another table");
}

/// A limit and its queue, as a node has them: a place that is free goes to who waits, and else to who comes.
struct Model {
    guarantees: Guarantees,
    taken: Taken,
    /// Each with its class.
    held: Vec<(u32, Option<usize>)>,
    queue: Queue<u32>,
    waiting: Vec<(u32, Option<usize>)>,
    evicted: Vec<u32>,
}

impl Model {
    fn new(limit: usize, length: usize, shares: &[f32]) -> Self {
        let mut queue = Queue::new(QueuePlan { length, age: Duration::from_secs(3_600) });
        let guarantees = Guarantees::new(KEY, shares.iter().copied());
        queue.set_guarantees(guarantees);
        let taken = Taken { limit, ..Taken::default() };
        Self { guarantees, taken, held: Vec::new(), queue, waiting: Vec::new(), evicted: Vec::new() }
    }

    fn arrive(&mut self, item: u32, class: Option<usize>, criticality: Criticality, client: u64) {
        if self.queue.is_empty() && self.held.len() < self.taken.limit {
            return self.hold(item, class);
        }
        self.waiting.push((item, class));
        let request = Request { criticality, client, class: class.map(slot) };
        let before = self.by_class();
        if let Some(evicted) = self.queue.push(Duration::ZERO, request, item) {
            let of = self.forget(evicted);
            let share = |index: usize| self.guarantees.places(index, self.waiting.len());
            let is_within = |class: Option<usize>| class.is_some_and(|index| before[index] <= share(index));
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
            let Some((item, class)) = self.queue.pop(Duration::ZERO, &self.taken) else { break };
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

    fn forget(&mut self, item: u32) -> Option<usize> {
        let at = self.waiting.iter().position(|(known, _)| *known == item).expect("it waits");
        self.waiting.remove(at).1
    }
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(Option<usize>, Criticality, u64),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let criticality = proptest::sample::select(&[Sheddable, Normal, Critical]);
    let class = prop_oneof![1 => Just(None), 3 => (0..3_usize).prop_map(Some)];
    prop_oneof![
        3 => (class, criticality, 0..4_u64).prop_map(|(class, criticality, client)| Step::Arrive(class, criticality, client)),
        2 => any::<usize>().prop_map(Step::Leave),
    ]
}

proptest! {
    /// No place is free while somebody waits, whoever it is; who is owed comes before all others; and who gives way is
    /// beyond its share, if any is.
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
