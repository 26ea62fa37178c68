//! How long the bus has been silent, and what follows: warnings first, and past `max_age` an expired
//! table, with which restricted routes are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::routing::now;

/// When the bus was last heard from.
#[derive(Debug)]
pub struct Freshness {
    max_age: Duration,
    /// The silence, in milliseconds, that there was already at [`now`] zero.
    before: AtomicU64,
    /// When it was last heard from, in milliseconds of [`now`].
    heard_ms: AtomicU64,
    /// What decisions read.
    expired: Arc<AtomicBool>,
    /// How many of [`WARNINGS`] have been given.
    warned: AtomicU8,
}

impl Freshness {
    /// Heard from just now; `expired` is what decisions read.
    pub fn new(max_age: Duration, expired: Arc<AtomicBool>) -> Self {
        let heard_ms = AtomicU64::new(millis(now()));
        Self { max_age, before: AtomicU64::new(0), heard_ms, expired, warned: AtomicU8::new(0) }
    }

    /// The bus has just said which table is the right one.
    pub fn heard(&self) {
        self.before.store(0, Ordering::Relaxed);
        self.heard_ms.store(millis(now()), Ordering::Relaxed);
        self.look();
    }

    /// It has been silent for so long already: a start from a snapshot. `None` is for ever.
    pub fn silent_for(&self, silence: Option<Duration>) {
        self.before.store(silence.map_or(millis(self.max_age).saturating_add(1), millis), Ordering::Relaxed);
        self.heard_ms.store(millis(now()), Ordering::Relaxed);
        self.look();
    }

    /// Lets the time pass: to be called every second or so.
    pub fn look(&self) {
        let (silence, max) = (self.silence(), self.max_age);
        let is_expired = silence > max;
        if self.expired.swap(is_expired, Ordering::Relaxed) != is_expired {
            if is_expired {
                tracing::error!(?silence, max_age = ?max, "the table has expired: the config bus is silent; restricted routes are refused");
            } else {
                tracing::info!("the config bus is back: the table is no longer expired");
            }
        }
        let due = WARNINGS.iter().filter(|share| silence.as_secs_f64() >= max.as_secs_f64() * **share).count() as u8;
        if due > self.warned.swap(due, Ordering::Relaxed) && !is_expired {
            let left = max.saturating_sub(silence);
            tracing::warn!(silence = ?rounded(silence), ?left, "the config bus is silent: restricted routes will be refused past max_age");
        }
    }

    /// For how long it has been silent.
    pub fn silence(&self) -> Duration {
        let since = millis(now()).saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        Duration::from_millis(self.before.load(Ordering::Relaxed).saturating_add(since))
    }

    /// Whether that is too long.
    pub fn is_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// How long it may be.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    /// What an operator should know, once the silence is worth a word.
    pub fn warning(&self) -> Option<String> {
        let (silence, max) = (rounded(self.silence()), self.max_age);
        let shown = humantime::format_duration;
        if self.is_expired() {
            let text = "the table has expired: the config bus has been silent for";
            Some(format!("{text} {} (max_age {}); restricted routes are refused", shown(silence), shown(max)))
        } else if silence >= WORTH_A_WORD.min(max / 2) {
            let left = shown(rounded(max.saturating_sub(silence)));
            Some(format!(
                "the config bus has been silent for {}; restricted routes are refused in {left}",
                shown(silence)
            ))
        } else {
            None
        }
    }
}

/// Shares of `max_age` at which the log warns.
const WARNINGS: [f64; 4] = [0.25, 0.5, 0.75, 0.9];

/// A silence that `/ready` tells of.
const WORTH_A_WORD: Duration = Duration::from_secs(60);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn rounded(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_warns_and_then_expires_and_a_word_ends_it() {
        let hour = Duration::from_secs(3600);
        let expired = Arc::new(AtomicBool::new(false));
        let freshness = Freshness::new(24 * hour, expired.clone());
        assert!(freshness.warning().is_none());
        freshness.silent_for(Some(13 * hour));
        assert!(!expired.load(Ordering::Relaxed));
        assert_eq!(freshness.warned.load(Ordering::Relaxed), 2);
        let warning = freshness.warning().unwrap();
        assert!(warning.contains("silent for 13h") && warning.contains("refused in "), "{warning}");
        freshness.silent_for(Some(25 * hour));
        assert!(expired.load(Ordering::Relaxed));
        assert!(freshness.warning().unwrap().contains("max_age 1day"));
        freshness.heard();
        assert!(!expired.load(Ordering::Relaxed) && freshness.warning().is_none());
        freshness.silent_for(None);
        assert!(freshness.is_expired());
    }
}
