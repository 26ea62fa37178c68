//! Times in words.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// `2026-11-21T15:33:36Z`.
pub(in crate::cli) fn utc(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |time| format!("{time:.0}"))
}

/// The same, of Unix seconds.
pub(in crate::cli) fn utc_seconds(seconds: u64) -> String {
    utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The same, of Unix milliseconds.
pub(in crate::cli) fn utc_millis(millis: u64) -> String {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).map_or_else(|| "?".to_owned(), utc)
}

/// How long ago that was, by this machine's clock: `1m 5s`.
pub(in crate::cli) fn ago(time: SystemTime, now: SystemTime) -> String {
    long(now.duration_since(time).unwrap_or_default())
}

/// A duration in whole seconds: `1m 5s`.
pub(in crate::cli) fn long(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

/// Milliseconds since 1970.
pub(in crate::cli) fn unix_ms(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_whole_seconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_275_216_250);
        assert_eq!(utc(time), "2026-11-21T15:33:36Z");
        assert_eq!(utc_millis(1_795_275_216_250), "2026-11-21T15:33:36Z");
        assert_eq!(utc_millis(u64::MAX), "?");
        assert_eq!(utc_seconds(1_795_275_216), "2026-11-21T15:33:36Z");
        assert_eq!(ago(time, time + Duration::from_millis(65_900)), "1m 5s");
        assert_eq!(ago(time, time - Duration::from_secs(1)), "0s");
    }
}
