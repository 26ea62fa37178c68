//! How long a table may be used without a new confirmation.
//!
//! Pure: `now` is an argument. Where keys are trusted, the bus confirms nothing, since whoever controls the bus can
//! replay an old signed table for ever. Only times that a trusted key has signed count: the publication's, and that of
//! each [`Heartbeat`] about it.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::heartbeat::Heartbeat;
use super::publication::TableVersion;

/// How old the table in force is, and what ends its use. Lives as long as the process.
#[derive(Clone, Debug)]
pub struct Freshness {
    witness: Witness,
    /// The node file's `max_age`, if it sets one.
    max_age: Option<Duration>,
    /// When the bus last confirmed the table in force.
    confirmed: Since,
    table: Option<InForce>,
    /// The newest heartbeat, whatever it is about.
    heartbeat: Option<TimedHeartbeat>,
    /// The first table after the one in force that this node refuses.
    newer: Option<(Newer, Since)>,
}

/// What confirms that a table is still the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The bus: everybody who may write there is trusted.
    Bus,
    /// Signatures of trusted keys.
    Keys,
}

/// A moment by both of the machine's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time since the process's start, by the monotonic clock.
    pub elapsed: Duration,
    /// Unix milliseconds, by the wall clock, which signers use, too.
    pub unix_ms: u64,
}

/// A table that a trusted key has signed after the one in force, and that this node refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newer {
    /// The table's epoch, compared first.
    pub epoch: u64,
    /// The table's revision, compared within an epoch.
    pub revision: u64,
    /// When the table was signed, in Unix milliseconds.
    pub issued_ms: u64,
}

/// How near the table in force is to its expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What ends the table's use first.
    pub limit: Limit,
    /// How long the limit has been running.
    pub age: Duration,
    /// How long it may run.
    pub most: Duration,
}

/// What can end the use of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The bus has not confirmed the table for too long.
    Silence,
    /// The bus has not confirmed the table for too long: it has this revision instead, which the node refuses.
    Refused {
        /// The refused table's.
        revision: u64,
    },
    /// No trusted key has signed anything about the table for too long.
    Unsigned,
    /// The publisher's `valid_until`.
    ValidUntil {
        /// Unix milliseconds.
        at_ms: u64,
    },
    /// A trusted key has signed a newer table too long ago, and the node refuses it.
    SupersededByRefused {
        /// The newer table's.
        revision: u64,
    },
    /// A trusted key has signed a newer table too long ago, and the bus does not show it.
    SupersededByWithheld {
        /// The newer table's, as a heartbeat names it.
        revision: u64,
    },
}

/// Whether a verified heartbeat is newer than the one that the node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The heartbeat is newer.
    New,
    /// The heartbeat is the known one, or an older one that is replayed.
    Old,
}

/// A heartbeat, and its times as they were when it arrived.
#[derive(Clone, Debug)]
struct TimedHeartbeat {
    beat: Heartbeat,
    signed: Since,
    /// When the publication that the heartbeat is about was issued.
    issued: Since,
}

#[derive(Clone, Debug)]
struct InForce {
    version: TableVersion,
    issued: Since,
    /// The publisher's `valid_until` in Unix milliseconds, and how long after the issue that is.
    valid_until: Option<(u64, Duration)>,
}

/// A moment in the past.
#[derive(Clone, Copy, Debug)]
struct Since {
    /// How long ago the moment was when it was recorded, and when that was.
    age: Duration,
    elapsed: Duration,
    /// The moment by the wall clock, as it was signed.
    unix_ms: Option<u64>,
}

impl Freshness {
    /// Returns the freshness of a node that has no table yet. `max_age` is the node file's.
    pub fn new(witness: Witness, max_age: Option<Duration>, now: Moment) -> Self {
        let confirmed = Since::ago(Duration::ZERO, now);
        Self { witness, max_age, confirmed, table: None, heartbeat: None, newer: None }
    }

    /// Notes that the bus confirms the table in force, which prolongs nothing where keys are trusted.
    pub fn confirmed(&mut self, now: Moment) {
        self.confirmed = Since::ago(Duration::ZERO, now);
        if self.witness == Witness::Bus {
            self.newer = None;
        }
    }

    /// Notes, at a start from a snapshot, how long the bus has been silent already. `None` counts as for ever.
    pub fn silent_for(&mut self, silence: Option<Duration>, now: Moment) {
        let for_ever = || self.max_age().saturating_add(Duration::from_millis(1));
        self.confirmed = Since::ago(silence.unwrap_or_else(for_ever), now);
    }

    /// Notes that a table of all nodes is in force.
    pub fn took(&mut self, version: &TableVersion, valid_until_ms: Option<u64>, now: Moment) {
        // A publication that is written again keeps its age, however the clock was set meanwhile.
        let same = |table: &InForce| {
            let is_it = (table.version.epoch, table.version.issued_ms) == (version.epoch, version.issued_ms)
                && table.version.sha256 == version.sha256;
            is_it.then_some(table.issued)
        };
        let signed = || {
            if version.issued_ms > 0 { Since::signed(version.issued_ms, now) } else { Since::ago(Duration::ZERO, now) }
        };
        let issued = self.table.as_ref().and_then(same).unwrap_or_else(signed);
        let from = if version.issued_ms > 0 { version.issued_ms } else { now.unix_ms };
        let valid_until = valid_until_ms.map(|until| (until, Duration::from_millis(until.saturating_sub(from))));
        self.newer = self.newer.take().filter(|(newer, _)| newer.is_after(version));
        self.table = Some(InForce { version: version.clone(), issued, valid_until });
    }

    /// Takes a heartbeat that a trusted key has signed, and returns whether it is newer than the known one.
    pub fn heartbeat(&mut self, beat: Heartbeat, now: Moment) -> Beat {
        if self.heartbeat.as_ref().is_some_and(|known| known.beat.order() >= beat.order()) {
            return Beat::Old;
        }
        let (signed, issued) = (Since::signed(beat.signed_ms, now), Since::signed(beat.issued_ms, now));
        self.heartbeat = Some(TimedHeartbeat { beat, signed, issued });
        Beat::New
    }

    /// Notes that a newer table was refused; where keys are trusted, one that a trusted key has signed.
    pub fn refused(&mut self, newer: Newer, now: Moment) {
        let is_after = || self.table.as_ref().is_none_or(|table| newer.is_after(&table.version));
        let is_first = || self.newer.as_ref().is_none_or(|(known, _)| newer.issued_ms < known.issued_ms);
        let counts = match self.witness {
            Witness::Bus => true,
            Witness::Keys => is_after() && is_first(),
        };
        if counts {
            let since = Since::signed(newer.issued_ms, now);
            self.newer = Some((newer, since));
        }
    }

    /// Judges the table in force by what ends its use first; `None` while there is none.
    pub fn judge(&self, now: Moment) -> Option<Judgement> {
        self.judgements(now).into_iter().min_by_key(Judgement::urgency)
    }

    /// Judges the table in force by everything that can end its use; empty while there is no table.
    pub fn judgements(&self, now: Moment) -> Vec<Judgement> {
        let Some(table) = &self.table else { return Vec::new() };
        let own = [self.by_witness(table, now), self.by_publisher(table, now)];
        own.into_iter().chain(self.by_followers(table, now)).flatten().collect()
    }

    fn by_witness(&self, table: &InForce, now: Moment) -> Option<Judgement> {
        match self.witness {
            Witness::Bus => {
                let refused = self.newer.as_ref().map(|(newer, _)| Limit::Refused { revision: newer.revision });
                Some(self.within_max_age(refused.unwrap_or(Limit::Silence), self.confirmed.age(now)))
            }
            // `valid_until` replaces the limit on signatures, unless the node file sets `max_age`.
            Witness::Keys if table.valid_until.is_some() && self.max_age.is_none() => None,
            Witness::Keys => Some(self.within_max_age(Limit::Unsigned, self.signed_age(now)?)),
        }
    }

    fn by_publisher(&self, table: &InForce, now: Moment) -> Option<Judgement> {
        let (at_ms, most) = table.valid_until?;
        // `valid_until` is a time of the wall clock, and is enforced by both clocks.
        let by_wall = most.saturating_sub(Duration::from_millis(at_ms.saturating_sub(now.unix_ms)));
        Some(Judgement { limit: Limit::ValidUntil { at_ms }, age: table.issued.age(now).max(by_wall), most })
    }

    /// Judges the table by newer ones of a trusted key: one that this node refuses, and one that a heartbeat names.
    fn by_followers(&self, table: &InForce, now: Moment) -> [Option<Judgement>; 2] {
        if self.witness == Witness::Bus {
            return [None, None];
        }
        let refused = self.newer.as_ref().map(|(newer, issued)| {
            self.within_max_age(Limit::SupersededByRefused { revision: newer.revision }, issued.age(now))
        });
        let named = self.heartbeat.as_ref().filter(|timed| timed.beat.is_beyond(&table.version));
        let is_refused = |timed: &&TimedHeartbeat| {
            self.newer.as_ref().is_some_and(|(newer, _)| newer.issued_ms <= timed.beat.issued_ms)
        };
        let withheld = named.filter(|timed| !is_refused(timed)).map(|TimedHeartbeat { beat, issued, .. }| {
            self.within_max_age(Limit::SupersededByWithheld { revision: beat.revision }, issued.age(now))
        });
        [refused, withheld]
    }

    fn within_max_age(&self, limit: Limit, age: Duration) -> Judgement {
        Judgement { limit, age, most: self.max_age() }
    }

    /// Returns how long ago a trusted key last signed anything about the table in force; `None` without a table, or
    /// keys.
    pub fn signed_age(&self, now: Moment) -> Option<Duration> {
        let table = self.table.as_ref().filter(|_| self.witness == Witness::Keys)?;
        let timed = self.heartbeat.as_ref().filter(|timed| timed.beat.is_about(&table.version));
        let issued = table.issued.age(now);
        Some(timed.map_or(issued, |timed| timed.signed.age(now).min(issued)))
    }

    /// Returns how long ago the bus last confirmed the table in force.
    pub fn silence(&self, now: Moment) -> Duration {
        self.confirmed.age(now)
    }

    /// Returns how long a table may be used without a confirmation, unless its publisher sets `valid_until`.
    pub fn max_age(&self) -> Duration {
        self.max_age.unwrap_or(MAX_AGE)
    }

    /// Returns what confirms a table.
    pub fn witness(&self) -> Witness {
        self.witness
    }

    /// Returns the newest heartbeat, whichever table it is about.
    pub fn newest_heartbeat(&self) -> Option<&Heartbeat> {
        self.heartbeat.as_ref().map(|timed| &timed.beat)
    }
}

impl Newer {
    fn is_after(&self, version: &TableVersion) -> bool {
        (self.epoch, self.revision) > (version.epoch, version.revision)
    }
}

impl Moment {
    /// Returns this moment, `elapsed` after the process's start.
    pub fn now(elapsed: Duration) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { elapsed, unix_ms: millis(since) }
    }

    /// Returns whether a signed time lies further ahead than [`MOST_SKEW`].
    pub fn is_before(self, signed_ms: u64) -> bool {
        signed_ms > self.unix_ms.saturating_add(millis(MOST_SKEW))
    }
}

impl Judgement {
    /// Returns whether the table has expired.
    pub fn is_expired(&self) -> bool {
        self.age > self.most
    }

    /// Returns the time that is left.
    pub fn left(&self) -> Duration {
        self.most.saturating_sub(self.age)
    }

    /// Returns the whole seconds until the table expires; negative once it has.
    pub fn seconds_left(&self) -> i64 {
        let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        whole(self.left()) - whole(self.age.saturating_sub(self.most))
    }

    /// Returns the share of the allowed time that has passed: 1 and more once the table has expired.
    pub fn share(&self) -> f64 {
        if self.most.is_zero() { f64::INFINITY } else { self.age.as_secs_f64() / self.most.as_secs_f64() }
    }

    /// Returns whether to warn the operator.
    pub fn is_worth_a_word(&self) -> bool {
        match self.limit {
            Limit::Silence => self.age >= FIRST_SILENCE.min(self.most / 2),
            Limit::Refused { .. } | Limit::SupersededByRefused { .. } | Limit::SupersededByWithheld { .. } => true,
            Limit::Unsigned | Limit::ValidUntil { .. } => self.share() >= FIRST_WARNING,
        }
    }

    /// Returns the sort key of judgements: the time that is left, then the time since expiry, the longest first.
    fn urgency(&self) -> (Duration, std::cmp::Reverse<Duration>) {
        (self.left(), std::cmp::Reverse(self.age.saturating_sub(self.most)))
    }
}

/// Shows the reason without its consequence: `the config bus has been silent for 13h`.
impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = humantime::format_duration(Duration::from_secs(self.age.as_secs()));
        match self.limit {
            Limit::Silence => write!(f, "the config bus has been silent for {age}"),
            Limit::Refused { revision } => write!(
                f,
                "the bus has revision {revision}, which this node refuses, and last confirmed the table in force {age} ago"
            ),
            Limit::Unsigned => write!(
                f,
                "no key that this node trusts has signed anything about the table for {age}: run `meridian heartbeat \
                 --sign KEY` where tables are published"
            ),
            Limit::ValidUntil { at_ms } => {
                let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(at_ms.min(LAST_SHOWN_MS)));
                let at = humantime::format_rfc3339_seconds(at.unwrap_or(SystemTime::UNIX_EPOCH));
                write!(f, "its publisher lets the table be used until {at}: publish it again")
            }
            Limit::SupersededByRefused { revision } => {
                write!(
                    f,
                    "revision {revision} was signed {age} ago to follow the table in force, and this node refuses it"
                )
            }
            Limit::SupersededByWithheld { revision } => write!(
                f,
                "revision {revision} was signed {age} ago to follow the table in force, as a heartbeat says, and the bus \
                 does not show it"
            ),
        }
    }
}

impl Since {
    fn ago(age: Duration, now: Moment) -> Self {
        Self { age, elapsed: now.elapsed, unix_ms: None }
    }

    fn signed(unix_ms: u64, now: Moment) -> Self {
        let age = Duration::from_millis(now.unix_ms.saturating_sub(unix_ms));
        Self { age, elapsed: now.elapsed, unix_ms: Some(unix_ms) }
    }

    /// Returns the age by the clock that shows more: one that is set back makes nothing younger.
    fn age(&self, now: Moment) -> Duration {
        let by_elapsed = self.age.saturating_add(now.elapsed.saturating_sub(self.elapsed));
        let by_wall = self.unix_ms.map(|then| Duration::from_millis(now.unix_ms.saturating_sub(then)));
        by_elapsed.max(by_wall.unwrap_or_default())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long a table may be used without a confirmation where neither the node file nor its publisher says: a day, so
/// that a bus that lies or is gone is noticed by the next shift, and an outage of a night is survived.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the clocks of signers and nodes may differ: what Kerberos allows.
pub const MOST_SKEW: Duration = Duration::from_secs(5 * 60);

/// The share of the allowed time at which the first warning comes: most of the time is left to act.
pub const FIRST_WARNING: f64 = 0.25;

/// How long the bus is silent before `/ready` warns: longer than a reconnection takes.
const FIRST_SILENCE: Duration = Duration::from_secs(60);

/// The end of the year 9999, the last that a date can show.
const LAST_SHOWN_MS: u64 = 253_402_300_799_000;

#[cfg(test)]
mod tests;
