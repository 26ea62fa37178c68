//! How long a table may be used without another word about it.
//!
//! Pure: each question brings its moment. Where keys are trusted, what the bus says again is no news: whoever controls
//! it can repeat an old signed table for ever. Only what a trusted key has signed counts, by its signed time: the
//! publication itself, and each [`Heartbeat`] about it.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::heartbeat::Heartbeat;
use super::publication::TableVersion;

/// How old the table in force is, and what ends its use. Lives as long as the process.
#[derive(Clone, Debug)]
pub struct Freshness {
    witness: Witness,
    /// What the node file says, if it does.
    max_age: Option<Duration>,
    /// When the bus last confirmed the table in force.
    heard: Since,
    table: Option<InForce>,
    /// The newest heartbeat, whatever it is about.
    heartbeat: Option<Heard>,
    /// The first table after the one in force that this node refuses.
    newer: Option<(Newer, Since)>,
}

/// Whose word keeps a table fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The bus': whoever may write there is believed.
    Bus,
    /// A trusted key's.
    Keys,
}

/// A moment, on both of the machine's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since the process's start, by the clock that nobody can set.
    pub elapsed: Duration,
    /// Unix milliseconds, by the clock that signers go by, too.
    pub unix_ms: u64,
}

/// A table that a trusted key has signed after the one in force, and that this node refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newer {
    /// Compared first.
    pub epoch: u64,
    /// Its revision.
    pub revision: u64,
    /// When it was signed, in Unix milliseconds.
    pub issued_ms: u64,
}

/// How near the table in force is to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What ends its use first.
    pub limit: Limit,
    /// How long the limit has been running.
    pub age: Duration,
    /// How long it may.
    pub most: Duration,
}

/// What can end the use of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The bus has not confirmed it for too long.
    Silence,
    /// The bus has not confirmed it for too long: it has this revision instead, which the node refuses.
    Refused {
        /// The refused one's.
        revision: u64,
    },
    /// No trusted key has signed anything about it for too long.
    Unsigned,
    /// Its publisher's word ends it.
    ValidUntil {
        /// Unix milliseconds.
        at_ms: u64,
    },
    /// A trusted key has signed a newer one too long ago, which the node refuses.
    SupersededByRefused {
        /// The newer one's.
        revision: u64,
    },
    /// A trusted key has signed a newer one too long ago, which the bus does not show.
    SupersededByWithheld {
        /// The newer one's, as a heartbeat names it.
        revision: u64,
    },
}

/// What a heartbeat is to a node that has verified it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// It is news.
    New,
    /// It is known, or says less than what is known: somebody repeats it.
    Old,
}

/// A heartbeat, and its times as they were when it was heard.
#[derive(Clone, Debug)]
struct Heard {
    beat: Heartbeat,
    signed: Since,
    /// Of the publication that it is about.
    issued: Since,
}

#[derive(Clone, Debug)]
struct InForce {
    version: TableVersion,
    issued: Since,
    /// The end by its publisher's word, and how long after its issue that is.
    valid_until: Option<(u64, Duration)>,
}

/// A moment in the past.
#[derive(Clone, Copy, Debug)]
struct Since {
    /// How long ago it was when it was learnt of, and when that was.
    age: Duration,
    elapsed: Duration,
    /// The same by the clock that signers go by.
    unix_ms: Option<u64>,
}

impl Freshness {
    /// Returns that of a node that has no table yet. `max_age` is what its file says.
    pub fn new(witness: Witness, max_age: Option<Duration>, now: Moment) -> Self {
        let heard = Since::ago(Duration::ZERO, now);
        Self { witness, max_age, heard, table: None, heartbeat: None, newer: None }
    }

    /// Notes that the bus confirms the table in force. Counts for nothing where keys are trusted.
    pub fn heard(&mut self, now: Moment) {
        self.heard = Since::ago(Duration::ZERO, now);
        if self.witness == Witness::Bus {
            self.newer = None;
        }
    }

    /// Notes that the bus has been silent for so long already: a start from a snapshot. `None` is for ever.
    pub fn silent_for(&mut self, silence: Option<Duration>, now: Moment) {
        let for_ever = || self.max_age().saturating_add(Duration::from_millis(1));
        self.heard = Since::ago(silence.unwrap_or_else(for_ever), now);
    }

    /// Notes that a table of all nodes is in force.
    pub fn took(&mut self, version: &TableVersion, valid_until_ms: Option<u64>, now: Moment) {
        // What is put there again is no younger than it was, whichever way the clock was set meanwhile.
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

    /// Takes a heartbeat that a trusted key has signed, and returns whether it is news.
    pub fn heartbeat(&mut self, beat: Heartbeat, now: Moment) -> Beat {
        if self.heartbeat.as_ref().is_some_and(|known| known.beat.order() >= beat.order()) {
            return Beat::Old;
        }
        let (signed, issued) = (Since::signed(beat.signed_ms, now), Since::signed(beat.issued_ms, now));
        self.heartbeat = Some(Heard { beat, signed, issued });
        Beat::New
    }

    /// Notes that a table which is newer than the one in force was refused. Where keys are trusted: one that such a key has signed.
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

    /// Judges the table in force by everything that can end its use; by nothing while there is none.
    pub fn judgements(&self, now: Moment) -> Vec<Judgement> {
        let Some(table) = &self.table else { return Vec::new() };
        let own = [self.by_witness(table, now), self.by_publisher(table, now)];
        own.into_iter().chain(self.by_followers(table, now)).flatten().collect()
    }

    fn by_witness(&self, table: &InForce, now: Moment) -> Option<Judgement> {
        match self.witness {
            Witness::Bus => {
                let refused = self.newer.as_ref().map(|(newer, _)| Limit::Refused { revision: newer.revision });
                Some(self.within_max_age(refused.unwrap_or(Limit::Silence), self.heard.age(now)))
            }
            // Who says until when has said enough, unless the node's own file asks for more.
            Witness::Keys if table.valid_until.is_some() && self.max_age.is_none() => None,
            Witness::Keys => Some(self.within_max_age(Limit::Unsigned, self.signed_age(now)?)),
        }
    }

    fn by_publisher(&self, table: &InForce, now: Moment) -> Option<Judgement> {
        let (at_ms, most) = table.valid_until?;
        // The end is told by the wall clock, and holds by both.
        let by_wall = most.saturating_sub(Duration::from_millis(at_ms.saturating_sub(now.unix_ms)));
        Some(Judgement { limit: Limit::ValidUntil { at_ms }, age: table.issued.age(now).max(by_wall), most })
    }

    /// Judges it by what a trusted key has signed since: one that is refused here, and one that a heartbeat names.
    fn by_followers(&self, table: &InForce, now: Moment) -> [Option<Judgement>; 2] {
        if self.witness == Witness::Bus {
            return [None, None];
        }
        let refused = self.newer.as_ref().map(|(newer, issued)| {
            self.within_max_age(Limit::SupersededByRefused { revision: newer.revision }, issued.age(now))
        });
        let named = self.heartbeat.as_ref().filter(|heard| heard.beat.is_beyond(&table.version));
        let is_refused =
            |heard: &&Heard| self.newer.as_ref().is_some_and(|(newer, _)| newer.issued_ms <= heard.beat.issued_ms);
        let withheld = named.filter(|heard| !is_refused(heard)).map(|Heard { beat, issued, .. }| {
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
        let heard = self.heartbeat.as_ref().filter(|heard| heard.beat.is_about(&table.version));
        let issued = table.issued.age(now);
        Some(heard.map_or(issued, |heard| heard.signed.age(now).min(issued)))
    }

    /// Returns how long ago the bus last confirmed the table in force.
    pub fn silence(&self, now: Moment) -> Duration {
        self.heard.age(now)
    }

    /// Returns how long a table may be used without a word, unless its publisher says until when.
    pub fn max_age(&self) -> Duration {
        self.max_age.unwrap_or(MAX_AGE)
    }

    /// Whose word counts.
    pub fn witness(&self) -> Witness {
        self.witness
    }

    /// Returns the newest heartbeat that was heard, whatever it is about.
    pub fn newest_heartbeat(&self) -> Option<&Heartbeat> {
        self.heartbeat.as_ref().map(|heard| &heard.beat)
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

    /// Returns whether a time lies so far ahead that clocks that are right cannot differ by it.
    pub fn is_before(self, signed_ms: u64) -> bool {
        signed_ms > self.unix_ms.saturating_add(millis(MOST_SKEW))
    }
}

impl Judgement {
    /// Returns whether its use is over.
    pub fn is_expired(&self) -> bool {
        self.age > self.most
    }

    /// Returns what is left.
    pub fn left(&self) -> Duration {
        self.most.saturating_sub(self.age)
    }

    /// Whole seconds until its use is over; negative once it is.
    pub fn seconds_left(&self) -> i64 {
        let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        whole(self.left()) - whole(self.age.saturating_sub(self.most))
    }

    /// Returns the share of its time that is over: 1 and more once it has expired.
    pub fn share(&self) -> f64 {
        if self.most.is_zero() { f64::INFINITY } else { self.age.as_secs_f64() / self.most.as_secs_f64() }
    }

    /// Returns whether an operator should know of it.
    pub fn is_worth_a_word(&self) -> bool {
        match self.limit {
            Limit::Silence => self.age >= SILENCE_WORTH_A_WORD.min(self.most / 2),
            Limit::Refused { .. } | Limit::SupersededByRefused { .. } | Limit::SupersededByWithheld { .. } => true,
            Limit::Unsigned | Limit::ValidUntil { .. } => self.share() >= FIRST_WARNING,
        }
    }

    /// Orders judgements: the less is left, and then the more is over, the sooner it counts.
    fn urgency(&self) -> (Duration, std::cmp::Reverse<Duration>) {
        (self.left(), std::cmp::Reverse(self.age.saturating_sub(self.most)))
    }
}

/// `the config bus has been silent for 13h`: a reason, without what follows.
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
                "nobody whom this node trusts has signed anything about the table for {age}: run `meridian heartbeat \
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

    /// By the clock that says more: one that is set back makes nothing younger.
    fn age(&self, now: Moment) -> Duration {
        let by_elapsed = self.age.saturating_add(now.elapsed.saturating_sub(self.elapsed));
        let by_wall = self.unix_ms.map(|then| Duration::from_millis(now.unix_ms.saturating_sub(then)));
        by_elapsed.max(by_wall.unwrap_or_default())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long a table may be used without a word where neither the node file nor its publisher says: a day, so that a
/// bus that lies or is gone is noticed by the next shift, and an outage of a night is survived.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the clocks of signers and nodes may differ: what Kerberos allows. A time further ahead is nobody's clock.
pub const MOST_SKEW: Duration = Duration::from_secs(5 * 60);

/// The share of its time at which the first warning comes.
pub const FIRST_WARNING: f64 = 0.25;

/// A silence of the bus that `/ready` tells of.
const SILENCE_WORTH_A_WORD: Duration = Duration::from_secs(60);

/// The end of the year 9999, the last that a date can show.
const LAST_SHOWN_MS: u64 = 253_402_300_799_000;

#[cfg(test)]
mod tests;
