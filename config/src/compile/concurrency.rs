//! `[concurrency]` and `regions.NAME.concurrency`: how many requests a region gets from each node at once, and who waits.

use std::ops::RangeInclusive;
use std::time::Duration;

use policy::concurrency::{Bounds, ConcurrencyPlan, Mode, QueuePlan};

use crate::field::{Field, Section};
use crate::name::header_name;

/// What a table says of the concurrency of all its regions.
#[derive(Debug, Default)]
pub(super) struct Concurrency {
    said: Said,
    /// The header in which a trusted proxy says that a request is less critical, in lower case.
    pub(super) criticality_header: Option<String>,
}

/// What one section says; what it does not is the table's to say, or left to the defaults.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    mode: Option<Kind>,
    limit: Option<u32>,
    min: Option<u32>,
    max: Option<u32>,
    length: Option<usize>,
    age: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Off,
    Fixed,
    Adaptive,
}

/// Reads the defaults of all regions.
pub(super) fn of_table(root: &Section<'_>) -> Concurrency {
    let Some(section) = root.field("concurrency").and_then(|field| field.section(TABLE_KEYS)) else {
        return Concurrency::default();
    };
    let said = read(&section);
    // Also where no region goes by them.
    plan(&section, said, said, &["limit", "min", "max"]);
    let criticality_header = section.field("criticality_header").and_then(|field| header_name(&field));
    Concurrency { said, criticality_header }
}

/// Reads the plan of a region from its section.
pub(super) fn of_region(region: &Section<'_>, defaults: &Concurrency) -> ConcurrencyPlan {
    let table = defaults.said;
    let Some(section) = region.field("concurrency").and_then(|field| field.section(KEYS)) else {
        return made(table);
    };
    let own = read(&section);
    // A region that says its mode says all that this mode needs, but for the queue.
    let inherited = if own.mode.is_some_and(|mode| Some(mode) != table.mode) {
        Said { length: table.length, age: table.age, ..Said::default() }
    } else {
        table
    };
    let said = Said {
        mode: own.mode.or(inherited.mode),
        limit: own.limit.or(inherited.limit),
        min: own.min.or(inherited.min),
        max: own.max.or(inherited.max),
        length: own.length.or(inherited.length),
        age: own.age.or(inherited.age),
    };
    plan(&section, said, own, &["limit", "min", "max", "queue", "queue_age"])
}

fn read(section: &Section<'_>) -> Said {
    let count = |key| section.field(key).and_then(|field| field.integer(COUNTS));
    Said {
        mode: section.field("mode").and_then(|field| field.choice(MODES)),
        limit: count("limit"),
        min: count("min"),
        max: count("max"),
        length: section.field("queue").and_then(|field| field.integer(LENGTHS)),
        age: section.field("queue_age").and_then(|field| age(&field)),
    }
}

fn age(field: &Field<'_>) -> Option<Duration> {
    let age = field.duration()?;
    if age > LONGEST_AGE {
        field.error("longer than a minute: no client waits for so long; write \"1s\", say".to_owned());
        return None;
    }
    Some(age)
}

/// Makes the plan, and reports what does not fit: `own` is what this section says of `said`, and `of_none` the keys that
/// have no place in it where there is no limit.
fn plan(section: &Section<'_>, said: Said, own: Said, of_none: &[&str]) -> ConcurrencyPlan {
    let mode = said.mode.unwrap_or(Kind::Off);
    let word = MODES.iter().find(|(_, each)| *each == mode).map_or("", |(word, _)| word);
    let has_mode_problem = section.field("mode").is_some() && own.mode.is_none();
    let unused: &[&str] = match mode {
        Kind::Off => of_none,
        Kind::Fixed => &["min", "max"],
        Kind::Adaptive => &[],
    };
    for key in unused.iter().filter(|_| !has_mode_problem) {
        let Some(field) = section.field(key) else { continue };
        let fixed = if matches!(*key, "min" | "max") { "" } else { "\"fixed\" or " };
        let remedy = format!("leave it out, or write mode = {fixed}\"adaptive\"");
        field.error(format!("has no effect, since mode is \"{word}\": {remedy}"));
    }
    if mode == Kind::Fixed && said.limit.is_none() && section.field("limit").is_none() {
        section.missing("limit", "say how many requests a node may have in flight there: limit = 100");
    }
    let made = made(said);
    if let Mode::Adaptive(Bounds { initial, min, max }) = made.mode {
        if min > max {
            section.error(format!("min is {min} and max is {max}: the least cannot be more than the most"));
        } else if !(min..=max).contains(&initial) && said.limit.is_some() {
            section.error(format!("limit, where it begins, is {initial}: write one from {min} to {max}"));
        }
    }
    made
}

fn made(said: Said) -> ConcurrencyPlan {
    let default = ConcurrencyPlan::default();
    let mode = match said.mode.unwrap_or(Kind::Off) {
        Kind::Off => Mode::Off,
        // Without a limit it is an error, which is reported.
        Kind::Fixed => Mode::Fixed(said.limit.unwrap_or(MAX)),
        Kind::Adaptive => {
            let (min, max) = (said.min.unwrap_or(MIN.min(said.max.unwrap_or(MIN))), said.max.unwrap_or(MAX));
            let initial = said.limit.unwrap_or_else(|| INITIAL.max(min).min(max));
            Mode::Adaptive(Bounds { initial, min, max })
        }
    };
    let queue =
        QueuePlan { length: said.length.unwrap_or(default.queue.length), age: said.age.unwrap_or(default.queue.age) };
    ConcurrencyPlan { mode, queue }
}

const MODES: &[(&str, Kind)] = &[("off", Kind::Off), ("fixed", Kind::Fixed), ("adaptive", Kind::Adaptive)];

const KEYS: &[&str] = &["mode", "limit", "min", "max", "queue", "queue_age"];
const TABLE_KEYS: &[&str] = &["mode", "limit", "min", "max", "queue", "queue_age", "criticality_header"];

const COUNTS: RangeInclusive<u32> = 1..=MAX;
/// Who is next is looked for among all that wait.
const LENGTHS: RangeInclusive<usize> = 0..=1024;
const LONGEST_AGE: Duration = Duration::from_secs(60);

/// Fewer are too few to tell how long answers take.
const MIN: u32 = 4;
/// Where an adaptive limit begins: it doubles each tenth of a second until it is felt.
const INITIAL: u32 = 16;
const MAX: u32 = 1_000_000;
