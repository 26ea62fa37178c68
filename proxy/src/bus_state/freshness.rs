//! How long the table may still be used, shared by all threads: first come warnings, then the table expires, and
//! restricted routes are refused.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::bus::{Beat, FIRST_WARNING, Heartbeat, Judgement, Moment, Newer, TableVersion, Witness};

use crate::clock;

/// The freshness of the table in force. Lives as long as the process; the bus's thread changes it, any thread reads.
#[derive(Debug)]
pub(crate) struct Freshness {
    rules: Mutex<config::bus::Freshness>,
    /// Whether the table has expired, as decisions read it.
    expired: Arc<AtomicBool>,
    /// How many of [`WARNINGS`] have been logged.
    warned: AtomicU8,
}

impl Freshness {
    /// Returns the freshness of a node that has no table yet; decisions read `expired`.
    pub(crate) fn new(source: &config::BusSource, expired: Arc<AtomicBool>) -> Self {
        let rules = config::bus::Freshness::new(source.witness(), source.max_age, moment());
        Self { rules: Mutex::new(rules), expired, warned: AtomicU8::new(0) }
    }

    /// Notes that the bus has just confirmed the table in force.
    pub(crate) fn confirmed(&self) {
        self.lock().confirmed(moment());
        self.look();
    }

    /// Notes, at a start from a snapshot, how long the bus has been silent already. `None` counts as for ever.
    pub(crate) fn silent_for(&self, silence: Option<Duration>) {
        self.lock().silent_for(silence, moment());
    }

    /// Puts a table in force with `put`, and judges that table from then on: from before `put` if the table has
    /// expired, else from after it, so that no table ever counts as fresher than it is.
    pub(crate) fn around(&self, version: &TableVersion, valid_until_ms: Option<u64>, put: impl FnOnce()) {
        let mut next = self.lock().clone();
        next.took(version, valid_until_ms, moment());
        let is_over = next.judge(moment()).is_some_and(|judgement| judgement.is_expired());
        // Only the bus's thread changes what is judged.
        let take = || {
            self.lock().took(version, valid_until_ms, moment());
            self.look();
        };
        if is_over {
            take();
            put();
        } else {
            put();
            take();
        }
    }

    /// Takes a heartbeat of a trusted key, and returns whether it is newer than the known one.
    pub(crate) fn heartbeat(&self, beat: Heartbeat) -> Beat {
        let beat = self.lock().heartbeat(beat, moment());
        self.look();
        beat
    }

    /// Notes that a newer table was refused.
    pub(crate) fn refused(&self, newer: Newer) {
        self.lock().refused(newer, moment());
        self.look();
    }

    /// Updates `expired` and logs warnings that are due: to be called every second or so.
    pub(crate) fn look(&self) {
        let rules = self.lock();
        let Some(judgement) = rules.judge(moment()) else { return };
        let is_expired = judgement.is_expired();
        // Under the lock, so that of two threads the later one prevails.
        let was_expired = self.expired.swap(is_expired, Ordering::Relaxed);
        drop(rules);
        if was_expired != is_expired {
            if is_expired {
                let max_age = humantime::format_duration(judgement.most);
                tracing::error!(%max_age, "the table has expired: {judgement}; restricted routes are refused");
            } else {
                tracing::info!("the table is no longer expired");
            }
        }
        let due = WARNINGS.iter().filter(|share| judgement.share() >= **share).count() as u8;
        if due > self.warned.swap(due, Ordering::Relaxed) && !is_expired {
            let left = humantime::format_duration(rounded(judgement.left()));
            tracing::warn!("{judgement}; restricted routes are refused in {left}");
        }
    }

    /// Returns how near the table is to its expiry; `None` without a table.
    pub(crate) fn judge(&self) -> Option<Judgement> {
        self.lock().judge(moment())
    }

    /// Returns how long ago the bus last confirmed the table in force.
    pub(crate) fn silence(&self) -> Duration {
        self.lock().silence(moment())
    }

    /// Returns how long ago a trusted key last signed the table of all nodes or a heartbeat about it; `None` without
    /// keys, or a table.
    pub(crate) fn signed_age(&self) -> Option<Duration> {
        self.lock().signed_age(moment())
    }

    /// Returns the newest heartbeat.
    pub(crate) fn newest_heartbeat(&self) -> Option<Heartbeat> {
        self.lock().newest_heartbeat().cloned()
    }

    /// Returns what confirms a table: the bus, or trusted keys.
    pub(crate) fn witness(&self) -> Witness {
        self.lock().witness()
    }

    /// Returns whether the table may no longer be used.
    pub(crate) fn is_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// Returns how long a table may be used without a confirmation, unless its publisher sets `valid_until`.
    pub(crate) fn max_age(&self) -> Duration {
        self.lock().max_age()
    }

    /// Returns the warnings for operators.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let judgements = self.lock().judgements(moment());
        let words = |judgement: Judgement| {
            let (left, most) = (judgement.left(), judgement.most);
            if judgement.is_expired() {
                let most = humantime::format_duration(rounded(most));
                Some(format!("the table has expired: {judgement} (at most {most}); restricted routes are refused"))
            } else if judgement.is_worth_a_word() {
                let left = humantime::format_duration(rounded(left));
                Some(format!("{judgement}; restricted routes are refused in {left}"))
            } else {
                None
            }
        };
        judgements.into_iter().filter_map(words).collect()
    }

    fn lock(&self) -> MutexGuard<'_, config::bus::Freshness> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the present moment, by both clocks.
pub(crate) fn moment() -> Moment {
    Moment::now(clock::uptime())
}

/// The shares of the allowed time at which the log warns: more densely near the end.
const WARNINGS: [f64; 4] = [FIRST_WARNING, 0.5, 0.75, 0.9];

fn rounded(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus_state::samples;

    #[test]
    fn silence_warns_and_then_expires_and_a_confirmation_ends_it() {
        let hour = Duration::from_secs(3600);
        let expired = Arc::new(AtomicBool::new(false));
        let directory = tempfile::tempdir().unwrap();
        let freshness = Freshness::new(&samples(directory.path()).1, expired.clone());
        let silent_for = |silence| {
            freshness.silent_for(silence);
            freshness.look();
        };
        silent_for(None);
        assert!(freshness.warnings().is_empty() && !freshness.is_expired(), "there is no table");
        let version = TableVersion { epoch: 1, revision: 2, issued_ms: 0, sha256: String::new() };
        freshness.confirmed();
        freshness.around(&version, None, || ());
        assert!(freshness.warnings().is_empty());
        silent_for(Some(13 * hour));
        assert!(!expired.load(Ordering::Relaxed));
        assert_eq!(freshness.warned.load(Ordering::Relaxed), 2);
        let warning = freshness.warnings().remove(0);
        assert!(warning.contains("silent for 13h") && warning.contains("refused in "), "{warning}");
        silent_for(Some(25 * hour));
        assert!(expired.load(Ordering::Relaxed));
        assert!(freshness.warnings()[0].contains("at most 1day"));
        freshness.confirmed();
        assert!(!expired.load(Ordering::Relaxed) && freshness.warnings().is_empty());
        silent_for(None);
        assert!(freshness.is_expired());
    }

    #[test]
    fn a_table_that_is_over_is_so_before_it_is_in_force_and_one_that_is_not_after_that() {
        let directory = tempfile::tempdir().unwrap();
        let freshness = Freshness::new(&samples(directory.path()).1, Arc::default());
        let version = |revision| TableVersion { epoch: 1, revision, issued_ms: revision, sha256: String::new() };
        let is_expired = |freshness: &Freshness| {
            freshness.look();
            freshness.is_expired()
        };
        let mut seen = None;
        freshness.around(&version(1), Some(2), || seen = Some(is_expired(&freshness)));
        assert_eq!((seen, is_expired(&freshness)), (Some(true), true));
        freshness.around(&version(2), None, || seen = Some(is_expired(&freshness)));
        assert_eq!((seen, is_expired(&freshness)), (Some(true), false), "the one before may still decide");
    }
}
