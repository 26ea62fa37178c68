//! Which of two regions has the writes: the primary that the table names, or the standby that takes them over.
//!
//! The primary has them until it is lost, to this node and to a majority of the fleet, for long enough; until the standby
//! says itself that it is the primary now; and unless too much would be lost. Then the standby has them, whatever the old
//! primary says when it returns, until both say, and a majority sees, that they have changed places again. A node that does
//! not hear a majority decides nothing, and soon sends writes only where the other region has just said that it is a replica.
//! Silence says nothing: a region that does not say what it is is neither the primary nor a replica.
//!
//! Decisions are numbered by *terms*: in even ones the primary has the writes, in odd ones the standby. A node begins a term
//! when it finds, with a majority, that the one before is over, or takes it over from a majority that goes by it; and goes on
//! sending writes only while a majority goes by the same term and says that its holder is not lost. Two majorities have a
//! node in common, which goes by one term at a time, and which affirmed none while it found its holder lost: so no two nodes
//! write to two regions.

use std::time::Duration;

use crate::region::TakesWrites;
use crate::view::{Withheld, Writes};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The region that the table names.
    Primary,
    /// The one that stands in for it.
    Standby,
}

impl Holder {
    /// Returns the other.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Standby,
            Self::Standby => Self::Primary,
        }
    }

    /// Returns its word, as `/status` and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        }
    }

    fn of(term: u64) -> Self {
        if term.is_multiple_of(2) { Self::Primary } else { Self::Standby }
    }
}

/// What a region's endpoints say in their answers to probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// Nothing of what they are.
    Unsaid,
    /// That they are of a replica.
    Replica,
    /// Now this, now that.
    Mixed,
    /// That they are of the primary.
    Primary,
}

impl Claim {
    /// Returns what several endpoints say together: those that say nothing have no part in it.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unsaid, said) | (said, Self::Unsaid) => said,
            (one, same) if one == same => one,
            _ => Self::Mixed,
        }
    }

    /// Returns its word, as `/status` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsaid => "unsaid",
            Self::Replica => "replica",
            Self::Mixed => "mixed",
            Self::Primary => "primary",
        }
    }
}

/// What is known of one of the two regions, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    /// Whether its probes say that it is down. What traffic suspects is no matter.
    pub is_down: bool,
    /// Whether a probe of it has had a result.
    pub is_asked: bool,
    /// What its endpoints say that are up, or have just answered; `None` where there is none.
    pub claim: Option<Claim>,
    /// When the first of these was asked: from then on it may have become something else.
    pub claimed_at: Duration,
    /// How far behind it says that it is, to this node itself, as a replica or without a role.
    pub lag: Option<LagWord>,
    /// How many other nodes find it lost.
    pub votes: usize,
}

/// How far behind a replica was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LagWord {
    /// When it was asked.
    pub told: Duration,
    /// How far.
    pub behind: Duration,
}

impl LagWord {
    /// Makes one of what was told so long ago, which may be before this clock began.
    pub fn of_age(behind: Duration, age: Duration, now: Duration) -> Self {
        Self { told: now.saturating_sub(age), behind: behind.saturating_add(age.saturating_sub(now)) }
    }

    /// Returns how much of what the other had written until it was lost this one did not have.
    fn missing(&self, lost: Duration) -> Duration {
        self.behind.saturating_add(lost.saturating_sub(self.told))
    }
}

/// How far behind another node has heard one of the two say that it is, itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeardLag {
    /// Which of the two.
    pub of: Holder,
    /// What it said, by the clock of this node.
    pub lag: LagWord,
}

impl Side {
    /// Returns whether writes to one of the two would be lost, as far as this node sees: its vote. One that says itself that
    /// it is a replica takes none.
    pub fn is_lost(&self) -> bool {
        self.is_down || self.is_no_primary()
    }

    fn is_primary(&self) -> bool {
        !self.is_down && self.claim == Some(Claim::Primary)
    }

    fn may_be_primary(&self) -> bool {
        matches!(self.claim, Some(Claim::Primary | Claim::Mixed))
    }

    /// Returns whether it says that it is a replica. Silence is no such word.
    fn is_no_primary(&self) -> bool {
        self.claim == Some(Claim::Replica)
    }

    /// Returns whether it does not say what it is, although it was asked.
    fn is_mute(&self) -> bool {
        match self.claim {
            Some(claim) => claim == Claim::Unsaid,
            None => self.is_down && self.is_asked,
        }
    }
}

/// What a node says of the two: by this a fleet agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    /// Whether it finds the primary lost.
    pub primary_lost: bool,
    /// Whether it finds the standby lost.
    pub standby_lost: bool,
    /// Which decision it goes by; `None` where it has just started.
    pub term: Option<u64>,
    /// Whether it knows that the primary has said what it is, once: then its silence is no table's word.
    pub has_spoken: bool,
    /// How far behind the one that does not have the writes was, as it has heard itself.
    pub lag: Option<HeardLag>,
}

impl Word {
    /// Returns whether it says that the one which has the writes in this term, by which it goes, is not lost.
    fn affirms(&self, term: u64) -> bool {
        let is_lost = match Holder::of(term) {
            Holder::Primary => self.primary_lost,
            Holder::Standby => self.standby_lost,
        };
        self.term == Some(term) && !is_lost
    }
}

/// What the other nodes of the fleet say, put together for one that goes by some term itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fleet {
    /// How many nodes are known, heard or not, this one included; and no fewer than [`TakesWrites::voters`].
    pub known: usize,
    /// How many others were heard within [`Writer::WORD_AGE`].
    pub heard: usize,
    /// How many of these go by the same term, and say that the one which has the writes in it is not lost.
    pub affirming: usize,
    /// The term that this node is to go by instead of its own: a later one by which a majority goes; an earlier one that a
    /// majority affirms, so that its own was begun on news that had passed; and for a node that has just started, the
    /// latest that somebody affirms.
    pub instead: Option<u64>,
    /// The latest by which anybody goes who is heard.
    pub latest: Option<u64>,
    /// Whether anybody knows that the primary has said what it is.
    pub has_spoken: bool,
    /// The worst that those who go by the same term have heard of the one that does not have the writes.
    pub lag: Option<LagWord>,
}

impl Fleet {
    /// Puts together what others say, for a node that goes by this term.
    pub fn of(known: usize, words: &[Word], own: Option<u64>) -> Self {
        let count = |is: &dyn Fn(&&Word) -> bool| words.iter().filter(is).count();
        let is_majority = |nodes: usize| 2 * nodes > known;
        let terms = || words.iter().filter_map(|word| word.term);
        let later = |term: &u64| {
            own.is_none_or(|own| *term > own)
                && is_majority(count(&|word| word.term.is_some_and(|other| other >= *term)))
        };
        let earlier =
            |term: &u64| own.is_some_and(|own| *term < own) && is_majority(count(&|word| word.affirms(*term)));
        let affirmed = |term: &u64| own.is_none() && words.iter().any(|word| word.affirms(*term));
        let presumed = own.unwrap_or(0);
        let of_this_term = words.iter().filter(|word| word.term.unwrap_or(0) == presumed);
        let of_the_other = |heard: &HeardLag| heard.of == Holder::of(presumed).other();
        let lags = of_this_term.filter_map(|word| word.lag.filter(of_the_other)).map(|heard| heard.lag);
        let lacks_less = |one: &LagWord, other: &LagWord| {
            one.behind.saturating_add(other.told) < other.behind.saturating_add(one.told)
        };
        Self {
            known,
            heard: words.len(),
            affirming: count(&|word| word.affirms(presumed)),
            instead: terms().filter(|term| later(term) || earlier(term) || affirmed(term)).max(),
            latest: terms().max(),
            has_spoken: words.iter().any(|word| word.has_spoken),
            lag: lags.reduce(|one, other| if lacks_less(&one, &other) { other } else { one }),
        }
    }

    /// Returns whether so many nodes are more than half of those that are known.
    pub fn is_majority(&self, nodes: usize) -> bool {
        2 * nodes > self.known
    }

    /// Returns whether this node hears a majority, itself included.
    fn is_heard(&self) -> bool {
        self.is_majority(self.heard + 1)
    }
}

/// What is known of the two, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The region that the table names.
    pub primary: Side,
    /// The one that stands in for it.
    pub standby: Side,
    /// `None` for a node without a bus on which messages are signed: then nothing is ever taken over.
    pub fleet: Option<Fleet>,
}

/// Where writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// To this one of the two.
    To(Holder),
    /// To neither.
    Nobody(Withheld),
}

impl Gate {
    /// Returns what a decision is to see of one of the two.
    pub fn writes(self, of: Holder) -> Writes {
        match self {
            Self::To(holder) if holder == of => Writes::Granted,
            Self::To(_) => Writes::Withheld(Withheld::Elsewhere),
            Self::Nobody(why) => Writes::Withheld(why),
        }
    }
}

/// Which of the two has the writes, as one node knows it. `now` is any monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Writer {
    decision: Decision,
    /// When a majority last said that the one that has the writes is not lost.
    affirmed: Option<Duration>,
    /// How far behind the other was when it last said so to this node, since this decision, and before the one that has the
    /// writes was lost: what it says then is of a region that gets nothing any more.
    lag: Option<LagWord>,
    /// Since when the other says that it is the primary, without a break.
    claims: Option<Duration>,
    /// Since when the other does not say what it is, without a break.
    mute: Option<Duration>,
    /// Whether the primary has ever said what it is.
    has_spoken: bool,
    gate: Gate,
    is_split: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Decision {
    /// This node has just started, and knows of nobody's decision.
    Undecided { lost: Option<Duration> },
    Held {
        /// Which decision this is.
        term: u64,
        /// Since when; at first, since ever.
        since: Duration,
        /// Since when it is lost, to this node and to a majority, without a break.
        lost: Option<Duration>,
    },
}

impl Decision {
    fn held(term: u64, since: Duration) -> Self {
        Self::Held { term, since, lost: None }
    }

    fn term(self) -> Option<u64> {
        match self {
            Self::Undecided { .. } => None,
            Self::Held { term, .. } => Some(term),
        }
    }

    /// Who has the writes, or is supposed to.
    fn holder(self) -> Holder {
        Holder::of(self.term().unwrap_or(0))
    }

    fn since(self) -> Duration {
        match self {
            Self::Undecided { .. } => Duration::ZERO,
            Self::Held { since, .. } => since,
        }
    }

    fn lost(&mut self) -> &mut Option<Duration> {
        match self {
            Self::Undecided { lost } | Self::Held { lost, .. } => lost,
        }
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            decision: Decision::Undecided { lost: None },
            affirmed: None,
            lag: None,
            claims: None,
            mute: None,
            has_spoken: false,
            gate: Gate::Nobody(Withheld::Starting),
            is_split: false,
        }
    }
}

impl Writer {
    /// For how long what a node says counts. It says it each second, so that two in a row may be lost.
    pub const WORD_AGE: Duration = Duration::from_secs(3);

    /// For how long a region's word that it is a replica lets a node write to the other which no majority affirms, and for
    /// how long one must have said that it is the primary before it takes over: whoever still counts the first has stopped.
    pub const CLAIM_AGE: Duration = Duration::from_secs(2);

    /// Returns for how long a node goes on as it was once no majority affirms it: half of what is left of `promote_after`
    /// after [`Writer::WORD_AGE`], so that it has stopped before a majority can have promoted the standby, even
    /// where words travel for as long as the other half.
    pub fn keeps_for(promote_after: Duration) -> Duration {
        promote_after.saturating_sub(Self::WORD_AGE) / 2
    }

    /// Makes one that goes by a decision which this node has gone by before it started anew. As long as no majority affirms
    /// it, that lets nobody write.
    pub fn remembering(term: u64, has_spoken: bool, now: Duration) -> Self {
        Self { decision: Decision::held(term, now), has_spoken, ..Self::default() }
    }

    /// Lets the time pass, and takes what is known now. True when who has the writes, where they go, or whether both
    /// say that they are the primary has changed.
    pub fn observe(&mut self, now: Duration, pair: &Pair, promote_after: Duration, takes: &TakesWrites) -> bool {
        let before = (self.holder(), self.gate, self.is_split);
        let mut affirming = pair.fleet.map_or(0, |fleet| fleet.affirming);
        let own = self.decision.term();
        if let Some(term) = pair.fleet.and_then(|fleet| fleet.instead) {
            self.decision = Decision::held(term, now);
        }
        if self.decision.term().unwrap_or(0) != own.unwrap_or(0) {
            self.forget_other();
        }
        let holder = self.decision.holder();
        let (has, other) = pair.sides(holder);
        self.has_spoken |= !matches!(pair.primary.claim, None | Some(Claim::Unsaid))
            || pair.fleet.is_some_and(|fleet| fleet.has_spoken);
        let is_lost = has.is_lost() && pair.find_lost(holder);
        let lost = self.decision.lost();
        *lost = is_lost.then(|| lost.unwrap_or(now));
        let lost = *lost;
        self.claims = other.is_primary().then(|| self.claims.unwrap_or(now));
        self.mute = other.is_mute().then(|| self.mute.unwrap_or(now));
        if lost.is_none() || self.lag.is_none() {
            let since = self.decision.since();
            self.lag = other.lag.filter(|lag| lag.told >= since).or(self.lag);
        }
        self.decision = self.next(now, pair, lost.filter(|since| now >= *since + promote_after), promote_after, takes);
        if self.decision.term().unwrap_or(0) != own.unwrap_or(0) {
            // That was of another term; what others say of this one is counted from the next time on.
            (self.affirmed, affirming) = (None, 0);
        }
        if self.decision.holder() != holder {
            self.forget_other();
        }
        if pair.is_affirmed(self.decision.holder(), affirming) {
            self.affirmed = Some(now);
        }
        let is_affirmed = self.affirmed.is_some_and(|at| now <= at + Self::keeps_for(promote_after));
        (self.gate, self.is_split) = self.look(now, pair, is_affirmed);
        (self.holder(), self.gate, self.is_split) != before
    }

    /// Forgets what is known of the one that has not the writes: it is about to be the other one.
    fn forget_other(&mut self) {
        (self.lag, self.claims, self.mute) = (None, None, None);
    }

    /// Returns what is decided next. `due` is since when the one that has the writes has been lost, if that is long enough.
    fn next(
        &self,
        now: Duration,
        pair: &Pair,
        due: Option<Duration>,
        promote_after: Duration,
        takes: &TakesWrites,
    ) -> Decision {
        let holder = self.decision.holder();
        let (has, other) = pair.sides(holder);
        let is_for = |since: Option<Duration>, long: Duration| since.is_some_and(|since| now >= since + long);
        let is_fresh = |lost| self.lag(pair).is_some_and(|lag| lag.missing(lost) <= takes.max_lag);
        // Each says so of itself: there is nothing to wait for.
        let is_handed_back = holder == Holder::Standby && has.is_no_primary() && pair.find_lost(holder);
        let takes_over = is_for(self.claims, Self::CLAIM_AGE) && (due.is_some_and(is_fresh) || is_handed_back);
        let is_undecided = self.holder().is_none();
        let is_later_heard = pair.fleet.and_then(|fleet| fleet.latest).is_some_and(|latest| latest > 0);
        if is_undecided && is_later_heard {
            // Who has decided that will say so once it finds its holder well.
            return self.decision;
        }
        if takes_over {
            return Decision::held(self.decision.term().unwrap_or(0).saturating_add(1), now);
        }
        if !is_undecided {
            return self.decision;
        }
        // Nobody who could know of a decision does, and neither region says anything: the table's word is all there is. Where
        // the primary does, a standby that is gone or says nothing may yet be back.
        let is_unsaid = other.claim == Some(Claim::Unsaid) && !self.has_spoken && !has.is_down;
        let is_forgotten =
            pair.fleet.is_some_and(|fleet| fleet.is_heard()) && (is_unsaid || is_for(self.mute, promote_after));
        if pair.fleet.is_none() || other.is_no_primary() || is_forgotten {
            let mut decision = Decision::held(0, Duration::ZERO);
            *decision.lost() = self.lost_since();
            return decision;
        }
        self.decision
    }

    /// Returns where writes go, and whether both say that they are the primary.
    fn look(&self, now: Duration, pair: &Pair, is_affirmed: bool) -> (Gate, bool) {
        let holder = self.decision.holder();
        let (has, other) = pair.sides(holder);
        let is_split = has.is_primary() && other.is_primary();
        let is_undecided = self.holder().is_none();
        // Who has never said anything of it is taken at the table's word, unless the other says something.
        let is_silent = !self.has_spoken && has.claim.is_none_or(|claim| claim == Claim::Unsaid);
        let is_by_table = holder == Holder::Primary && is_silent && !other.may_be_primary();
        // Nobody can have promoted what was a replica just now, and a standby that steps down has given what it had. A primary
        // has not: those who are not heard may still go by it, and write there once it says that it is the primary again.
        let is_only_one = has.is_primary() && other.is_no_primary() && holder == Holder::Primary;
        let is_other_replica = is_only_one && now <= other.claimed_at + Self::CLAIM_AGE;
        let is_unfenced = pair.fleet.is_none();
        let withheld = if has.is_down || pair.find_lost(holder) {
            Some(Withheld::Lost)
        } else if (is_undecided || is_unfenced) && is_split {
            Some(Withheld::Contested)
        } else if (is_undecided || is_unfenced) && !other.is_asked {
            Some(Withheld::Starting)
        } else if !has.is_primary() && !is_by_table {
            Some(Withheld::Unclaimed)
        } else if (is_undecided || is_unfenced) && other.may_be_primary() {
            Some(Withheld::Contested)
        } else if is_unfenced && holder == Holder::Primary || is_affirmed || is_other_replica {
            None
        } else {
            Some(Withheld::CutOff)
        };
        (withheld.map_or(Gate::To(holder), Gate::Nobody), is_split)
    }

    /// Returns which of the two has the writes; `None` where this node has just started, and does not know yet.
    pub fn holder(&self) -> Option<Holder> {
        self.term().map(Holder::of)
    }

    /// Returns the same, or the primary where this node does not know yet: whom the votes are about.
    pub fn presumed(&self) -> Holder {
        self.decision.holder()
    }

    /// Returns the number of the decision that holds; `None` likewise.
    pub fn term(&self) -> Option<u64> {
        self.decision.term()
    }

    /// Returns since when the one that has them is lost, to this node and a majority.
    pub fn lost_since(&self) -> Option<Duration> {
        match self.decision {
            Decision::Undecided { lost } | Decision::Held { lost, .. } => lost,
        }
    }

    /// Returns how far behind the other was, if it has said so since the one that has the writes has them: to this node, or
    /// else to others.
    pub fn lag(&self, pair: &Pair) -> Option<LagWord> {
        let told = || pair.fleet?.lag.filter(|lag| lag.told >= self.decision.since());
        self.lag.or_else(told)
    }

    /// Returns whether the primary has ever said what it is, as far as this node knows.
    pub fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// Returns what this node is to tell others of that: what it has heard itself, and nothing else.
    pub fn heard_lag(&self) -> Option<HeardLag> {
        Some(HeardLag { of: self.presumed().other(), lag: self.lag? })
    }

    /// Returns where writes go.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// Returns whether both say that they are the primary.
    pub fn is_split(&self) -> bool {
        self.is_split
    }
}

impl Pair {
    /// Returns the one and the other.
    pub fn sides(&self, holder: Holder) -> (&Side, &Side) {
        match holder {
            Holder::Primary => (&self.primary, &self.standby),
            Holder::Standby => (&self.standby, &self.primary),
        }
    }

    /// Returns how many nodes find one of the two lost, this node included.
    pub fn votes(&self, of: Holder) -> usize {
        let side = self.sides(of).0;
        side.votes + usize::from(side.is_lost())
    }

    /// Returns whether the one that has the writes is not lost, as this node and so many others, together a majority, say.
    fn is_affirmed(&self, holder: Holder, affirming: usize) -> bool {
        let own = usize::from(!self.sides(holder).0.is_lost());
        self.fleet.is_some_and(|fleet| fleet.is_majority(affirming + own))
    }

    /// Returns whether a majority finds one of the two lost, this node included.
    fn find_lost(&self, of: Holder) -> bool {
        self.fleet.is_some_and(|fleet| fleet.is_majority(self.votes(of)))
    }
}

#[cfg(test)]
mod tests;
