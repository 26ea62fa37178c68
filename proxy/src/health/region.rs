//! One region as this node sees it: what outlives a table, by the region's name.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::failover::{Failover, Outlier};
use policy::health::{Cause, Counts, EndpointCounts, Pair, Phase, RegionHealth, Sliding, Want, Writer};
use policy::pressure::{FULL, OVERLOAD_MARK};
use policy::region::Standby;
use policy::table::WritePair;
use policy::{Health, Withheld, Writes};

use crate::clock::uptime;
use crate::health::latency::AnswerTimes;
use crate::health::limiter::RegionLimits;
use crate::health::reported_load::ReportedLoad;
use crate::health::round_trip::RegionRoundTrip;
use crate::health::traffic::{Clients, TrafficSource};
use crate::in_flight::InFlightCount;

/// The live state of one region, across tables. Decisions, on any thread, read it without a lock.
#[derive(Debug, Default)]
pub(crate) struct RegionState {
    /// Requests of this node in flight there.
    pub(crate) in_flight: Arc<InFlightCount>,
    /// How many there may be.
    pub(crate) limits: RegionLimits,
    /// What the fleet reports of its load.
    pub(crate) reported: ReportedLoad,
    /// How far it is.
    pub(crate) round_trip: RegionRoundTrip,
    /// How long its answers take to their heads, whatever the route: what serving costs there, and the way.
    pub(crate) answers: AnswerTimes,
    /// The bits of [`policy::RegionView::pressure`].
    pressure: AtomicU32,
    /// The share of attempts that failed lately, as bits.
    error_share: AtomicU32,
    /// [`Health`], as [`encoded`].
    health: AtomicU8,
    /// Whether it is a standby that takes clients.
    promoted: AtomicBool,
    /// [`Writes`], as [`encoded_writes`].
    writes: AtomicU8,
    /// Attempts that failed, without another between them, each of another client where a client may be the reason.
    errors_in_a_row: AtomicU32,
    failing: Clients,
    /// Requests that its own node had no room for, without a good answer between them.
    full_in_a_row: AtomicU32,
    /// The share of attempts lately that it had no room for, as bits.
    full_share: AtomicU32,
    /// Retries and hedges that its requests have cost since the process's start.
    retries: AtomicU64,
    /// How many there may have been.
    retry_limit: AtomicU64,
    /// How many there had been when half of what there may be was left.
    retry_half: AtomicU64,
    watch: Mutex<RegionInner>,
    ejecting: Mutex<()>,
}

/// What only changes of state need.
#[derive(Debug, Default)]
struct RegionInner {
    health: RegionHealth,
    retries: Sliding,
    retries_seen: u64,
    /// Since when the table says that it drains.
    draining: Option<Duration>,
    /// Of a standby.
    want: Want,
    /// Of a standby that takes writes over.
    writer: Option<WriterState>,
}

/// Who has the writes of a standby and its primary, as it was last looked at.
#[derive(Clone, Debug)]
pub(crate) struct WriterState {
    /// The primary's name.
    pub(crate) primary: String,
    /// What is decided.
    pub(crate) writer: Writer,
    /// What was known then.
    pub(crate) pair: Pair,
    /// Whether this node may say so, and write by it: see [`RegionState::observe_writer`].
    pub(crate) is_kept: bool,
}

impl RegionState {
    /// Makes a region that counts as up, or a cold one as down, until something shows otherwise.
    pub(crate) fn new(cold: bool, failover: &Failover) -> Self {
        let health = if cold { RegionHealth::cold() } else { RegionHealth::default() };
        let state = Self { watch: Mutex::new(RegionInner { health, ..RegionInner::default() }), ..Self::default() };
        state.health.store(encoded(if cold { Health::Down } else { Health::Up }), Ordering::Relaxed);
        state.allow_retries(&Counts::default(), failover);
        state
    }

    /// Returns what decisions see.
    pub(crate) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            DOWN => Health::Down,
            100.. => Health::Up,
            percent => Health::Ramping(percent),
        }
    }

    /// Returns where it stands between down and up.
    pub(crate) fn phase(&self) -> Phase {
        self.lock().health.phase()
    }

    /// Returns the utilisation as the overload mark sees it.
    pub(crate) fn pressure(&self) -> f32 {
        f32::from_bits(self.pressure.load(Ordering::Relaxed))
    }

    /// Sets what [`RegionState::pressure`] is to be.
    pub(crate) fn set_pressure(&self, pressure: f32) {
        self.pressure.store(pressure.to_bits(), Ordering::Relaxed);
    }

    /// Returns the share of attempts that failed lately, `0..=1`.
    pub(crate) fn error_share(&self) -> f32 {
        f32::from_bits(self.error_share.load(Ordering::Relaxed))
    }

    /// Returns whether it is a standby that takes clients.
    pub(crate) fn is_promoted(&self) -> bool {
        self.promoted.load(Ordering::Relaxed)
    }

    /// Returns whether it is wanted, as a standby.
    pub(crate) fn want(&self) -> Want {
        self.lock().want
    }

    /// Lets the time pass for a standby, which the others need or do not; `None` for a region that is none (any
    /// more). Returns whether it is wanted, where that has changed.
    pub(crate) fn observe_want(&self, standby: Option<&Standby>, needed: bool, failover: &Failover) -> Option<Want> {
        let is_up = self.health() == Health::Up;
        let mut watch = self.lock();
        let changed = match standby {
            Some(standby) => {
                watch.want.observe(uptime(), needed, is_up, standby.promote_after, failover.failback_delay)
            }
            None => std::mem::take(&mut watch.want).is_wanted(),
        };
        self.promoted.store(watch.want.is_promoted(), Ordering::Relaxed);
        changed.then_some(watch.want)
    }

    /// Returns whether writes go there.
    pub(crate) fn writes(&self) -> Writes {
        decoded_writes(self.writes.load(Ordering::Relaxed))
    }

    /// Sets what [`RegionState::writes`] is to be.
    pub(crate) fn set_writes(&self, writes: Writes) {
        self.writes.store(encoded_writes(writes), Ordering::Relaxed);
    }

    /// Lets the time pass for a standby that takes writes over from the region of this name. At first it is as this node
    /// `remembers`; `keep` says whether what is decided now is where a start finds it. Returns who had the writes before, `None`
    /// at first, and who has them now.
    pub(crate) fn observe_writer(
        &self,
        primary: &str,
        pair: Pair,
        settings: &WritePair,
        remembered: Option<Writer>,
        keep: impl FnOnce(&Writer) -> bool,
    ) -> (Option<WriterState>, WriterState) {
        let mut watch = self.lock();
        let before = watch.writer.take().filter(|before| before.primary == primary);
        // What a node decides that is not one of a fleet is no decision of the fleet's.
        let of_fleet = before.as_ref().filter(|before| before.pair.fleet.is_some()).map(|before| before.writer);
        let remembered = remembered.filter(|_| pair.fleet.is_some());
        let alone = before.as_ref().map(|before| before.writer);
        let mut writer = of_fleet.or(remembered).or(alone).unwrap_or_default();
        writer.observe(uptime(), &pair, settings.promote_after, &settings.takes);
        let now = WriterState { primary: primary.to_owned(), writer, pair, is_kept: keep(&writer) };
        watch.writer = Some(now.clone());
        (before, now)
    }

    /// Returns who has the writes of this standby and its primary, as it was last looked at; `None` for other regions.
    pub(crate) fn writer(&self) -> Option<WriterState> {
        self.lock().writer.clone()
    }

    /// Forgets who has the writes: the table says that the region takes none over.
    pub(crate) fn forget_writer(&self) {
        self.lock().writer = None;
    }

    /// Notes whether the table says that the region drains.
    pub(crate) fn set_draining(&self, draining: bool) {
        let mut watch = self.lock();
        watch.draining = draining.then(|| watch.draining.unwrap_or_else(uptime));
    }

    /// Returns whether it has drained for longer than clients pinned there may still use it.
    pub(crate) fn is_drained(&self, failover: &Failover) -> bool {
        self.lock().draining.is_some_and(|since| uptime() >= since + failover.drain_timeout)
    }

    /// An attempt went well.
    pub(crate) fn on_success(&self) {
        if self.errors_in_a_row.load(Ordering::Relaxed) > 0 {
            self.errors_in_a_row.store(0, Ordering::Relaxed);
        }
        if self.full_in_a_row.load(Ordering::Relaxed) > 0 {
            self.full_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that its own node had no room for a request.
    pub(crate) fn on_full(&self) {
        self.full_in_a_row.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether its own node has refused the last few requests for want of room.
    pub(crate) fn is_refusing(&self) -> bool {
        self.full_in_a_row.load(Ordering::Relaxed) >= REFUSING
    }

    /// Returns the load that the share of requests shows which its own node has no room for; 0 where they are few. It
    /// spills as many as those.
    pub(crate) fn shed_load(&self) -> f32 {
        let share = f32::from_bits(self.full_share.load(Ordering::Relaxed));
        if share > 0.0 { OVERLOAD_MARK + (FULL - OVERLOAD_MARK) * share } else { 0.0 }
    }

    /// Notes that an attempt failed, `from` a client that may be the reason; true when there are now enough in a row to
    /// suspect the region as a whole.
    pub(crate) fn on_error(&self, from: Option<TrafficSource>, outlier: &Outlier) -> bool {
        if from.is_some_and(|from| !self.failing.is_first(from)) {
            return false;
        }
        self.errors_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= outlier.consecutive_errors
    }

    /// Does something that no two threads may do at once.
    pub(crate) fn one_at_a_time<R>(&self, what: impl FnOnce() -> R) -> R {
        let _alone = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        what()
    }

    /// Makes it the last resort for a while. False when it is that already.
    pub(crate) fn suspect(&self, outlier: &Outlier) -> bool {
        self.begin_anew();
        self.lock().health.suspect(uptime(), outlier)
    }

    /// Has every client's failures count anew.
    pub(crate) fn begin_anew(&self) {
        self.errors_in_a_row.store(0, Ordering::Relaxed);
        self.failing.forget();
    }

    /// Takes one retry or hedge from the budget, if it has one left.
    pub(crate) fn take_retry(&self) -> bool {
        if self.retries.fetch_add(1, Ordering::Relaxed) < self.retry_limit.load(Ordering::Relaxed) {
            return true;
        }
        self.retries.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// Returns whether less than half of the budget of retries and hedges is left.
    pub(crate) fn retries_are_scarce(&self) -> bool {
        self.retries.load(Ordering::Relaxed) >= self.retry_half.load(Ordering::Relaxed)
    }

    /// Takes what its endpoints in rotation have shown over the last `outlier.interval`. What there is
    /// against the region as a whole, if anything.
    pub(crate) fn observe(&self, lately: &Counts, failover: &Failover) -> Option<Cause> {
        let made = self.retries.load(Ordering::Relaxed);
        let retries = {
            let mut watch = self.lock();
            let fresh = Counts { retries: made.saturating_sub(watch.retries_seen), ..Counts::default() };
            watch.retries_seen = made;
            watch.retries.add(uptime(), failover.outlier.interval, &fresh);
            watch.retries.sum().retries
        };
        self.allow_retries(&Counts { retries, ..*lately }, failover);
        let enough = lately.confirmed.clients >= u64::from(failover.outlier.consecutive_errors);
        let share = if enough { lately.error_share() as f32 } else { 0.0 };
        self.error_share.store(share.to_bits(), Ordering::Relaxed);
        self.full_share.store((lately.full_share() as f32).to_bits(), Ordering::Relaxed);
        lately.verdict(failover)
    }

    /// Works its health out again from its endpoints'; the phases before and after, when they differ.
    pub(crate) fn refresh(&self, census: &EndpointCounts, failover: &Failover) -> Option<(Phase, Phase)> {
        let mut watch = self.lock();
        let before = watch.health.phase();
        let changed = watch.health.observe(uptime(), census.evidence(failover.threshold), failover);
        let drained = watch.draining.is_some_and(|since| uptime() >= since + failover.drain_timeout);
        let health = if drained { Health::Down } else { watch.health.health(failover) };
        self.health.store(encoded(health), Ordering::Relaxed);
        changed.then(|| (before, watch.health.phase()))
    }

    fn allow_retries(&self, lately: &Counts, failover: &Failover) {
        let left = lately.retries_left(&failover.retry_budget, failover.outlier.interval);
        let made = self.retries.load(Ordering::Relaxed);
        self.retry_limit.store(made.saturating_add(left), Ordering::Relaxed);
        // Of what is left and what was made lately, half.
        let half = left.saturating_add(lately.retries).div_ceil(2);
        self.retry_half.store(made.saturating_add(left).saturating_sub(half), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, RegionInner> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After so many requests in a row that its own node had no room for, a region has none for what others had none for.
const REFUSING: u32 = 3;

/// One byte, 0 for what the table says.
fn encoded_writes(writes: Writes) -> u8 {
    match writes {
        Writes::AsDeclared => 0,
        Writes::Granted => 1,
        Writes::Withheld(Withheld::Elsewhere) => 2,
        Writes::Withheld(Withheld::Starting) => 3,
        Writes::Withheld(Withheld::Lost) => 4,
        Writes::Withheld(Withheld::Unclaimed) => 5,
        Writes::Withheld(Withheld::Contested) => 6,
        Writes::Withheld(Withheld::CutOff) => 7,
        Writes::Withheld(Withheld::Unsaved) => 8,
    }
}

fn decoded_writes(byte: u8) -> Writes {
    match byte {
        0 => Writes::AsDeclared,
        1 => Writes::Granted,
        2 => Writes::Withheld(Withheld::Elsewhere),
        3 => Writes::Withheld(Withheld::Starting),
        4 => Writes::Withheld(Withheld::Lost),
        5 => Writes::Withheld(Withheld::Unclaimed),
        6 => Writes::Withheld(Withheld::Contested),
        8 => Writes::Withheld(Withheld::Unsaved),
        _ => Writes::Withheld(Withheld::CutOff),
    }
}

const DOWN: u8 = u8::MAX;

/// One byte: the percent of its clients that it gets, or [`DOWN`].
fn encoded(health: Health) -> u8 {
    match health {
        Health::Down => DOWN,
        Health::Ramping(percent) => percent.min(99),
        Health::Up => 100,
    }
}
