//! Points in time as a table's dates name them, and the time at which a law is read.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A point in time, in whole seconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment(i64);

/// A text that names no point in time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no date such as \"2031-12-27\" (00:00 UTC), and no time with an offset such as \"2031-12-27T00:00:00+01:00\""
)]
pub struct NoMoment(pub String);

impl Moment {
    /// Makes the moment of a Unix time; one that no calendar reaches is brought to the nearest that one does.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        match seconds {
            ..FIRST => Self(FIRST),
            FIRST..=LAST => Self(seconds),
            _ => Self(LAST),
        }
    }

    /// Returns its Unix time.
    pub const fn unix_seconds(self) -> i64 {
        self.0
    }

    /// Makes the moment so many seconds later.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self::from_unix_seconds(self.0.saturating_add(seconds))
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_second(self.0).unwrap_or_default()
    }
}

impl FromStr for Moment {
    type Err = NoMoment;

    /// Reads a date, which is 00:00 UTC, or an RFC 3339 time with an offset, in whole seconds.
    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let wrong = || NoMoment(text.chars().take(64).collect());
        // A date's parser would take a time as well, and forget it.
        let is_date = text.len() == "2031-12-27".len();
        let timestamp = match is_date {
            true => {
                let date: Date = text.parse().map_err(|_| wrong())?;
                date.to_zoned(TimeZone::UTC).map_err(|_| wrong())?.timestamp()
            }
            false => text.parse().map_err(|_| wrong())?,
        };
        let seconds = timestamp.as_second();
        if timestamp.subsec_nanosecond() != 0 || Self::from_unix_seconds(seconds).0 != seconds {
            return Err(wrong());
        }
        Ok(Self(seconds))
    }
}

impl fmt::Display for Moment {
    /// Returns a date where it is 00:00 UTC, else the time in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = self.timestamp();
        match self.0.rem_euclid(SECONDS_OF_A_DAY) {
            0 => write!(f, "{}", timestamp.to_zoned(TimeZone::UTC).date()),
            _ => write!(f, "{timestamp}"),
        }
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The time at which a law is read: one moment; or, while a clock is in doubt, a span in which that lies.
///
/// What a span allows is what would be allowed at each of its ends: whatever may be over is over, and
/// whatever may not have begun opens nothing, though it restricts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LawTime {
    earliest: Moment,
    latest: Moment,
}

impl LawTime {
    /// Makes the span between two moments, in either order.
    pub fn between(one: Moment, other: Moment) -> Self {
        Self { earliest: one.min(other), latest: one.max(other) }
    }

    /// Returns the first moment that it may be.
    pub fn earliest(self) -> Moment {
        self.earliest
    }

    /// Returns the last moment that it may be.
    pub fn latest(self) -> Moment {
        self.latest
    }

    /// Returns whether that moment has certainly come.
    pub fn has_reached(self, moment: Moment) -> bool {
        moment <= self.earliest
    }

    /// Returns whether that moment may have come.
    pub fn may_have_reached(self, moment: Moment) -> bool {
        moment <= self.latest
    }
}

impl From<Moment> for LawTime {
    fn from(moment: Moment) -> Self {
        Self { earliest: moment, latest: moment }
    }
}

/// From when until when something holds: from the first moment on, up to and without the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    /// The first moment; none is ever since.
    pub from: Option<Moment>,
    /// The moment at which it is over; none is for good.
    pub until: Option<Moment>,
}

impl Period {
    /// No beginning and no end.
    pub const ALWAYS: Self = Self { from: None, until: None };

    /// Returns whether it has certainly begun.
    pub(crate) fn has_begun(self, at: LawTime) -> bool {
        self.from.is_none_or(|from| at.has_reached(from))
    }

    /// Returns whether it may have begun.
    pub(crate) fn may_have_begun(self, at: LawTime) -> bool {
        self.from.is_none_or(|from| at.may_have_reached(from))
    }

    /// Returns whether it is certainly over.
    pub(crate) fn has_ended(self, at: LawTime) -> bool {
        self.until.is_some_and(|until| at.has_reached(until))
    }

    /// Returns whether it may be over.
    pub fn may_have_ended(self, at: LawTime) -> bool {
        self.until.is_some_and(|until| at.may_have_reached(until))
    }

    /// Returns whether it holds at no moment.
    pub fn is_empty(self) -> bool {
        self.from.zip(self.until).is_some_and(|(from, until)| until <= from)
    }

    /// Returns the moments at which something changes.
    pub fn boundaries(self) -> impl Iterator<Item = Moment> {
        self.from.into_iter().chain(self.until)
    }
}

impl fmt::Display for Period {
    /// `from 2027-05-14 until 2031-12-27`; `always`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.until) {
            (None, None) => f.write_str("always"),
            (Some(from), None) => write!(f, "from {from}"),
            (None, Some(until)) => write!(f, "until {until}"),
            (Some(from), Some(until)) => write!(f, "from {from} until {until}"),
        }
    }
}

/// The year 0, in Unix seconds: no law is older.
const FIRST: i64 = -62_167_219_200;

/// The end of the year 9999, in Unix seconds: the last that RFC 3339 can write.
const LAST: i64 = 253_402_300_799;

/// Seconds.
const SECONDS_OF_A_DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Moment {
        text.parse().unwrap()
    }

    #[test]
    fn a_date_is_midnight_utc_and_a_time_has_an_offset() {
        assert_eq!(moment("1970-01-02").unix_seconds(), 86_400);
        assert_eq!(moment("2031-12-27T00:00:00+01:00"), moment("2031-12-26T23:00:00Z"));
        assert_eq!(moment("2031-12-27T00:00:00Z"), moment("2031-12-27"));
        for wrong in [
            "",
            "2031",
            "2031-13-01",
            "2031-02-30",
            "27.12.2031",
            "2031-12-27T00:00:00",
            "2031-12-27 00:00",
            "2031-12-27T00:00:00.5Z",
            "2031-12-27T25:00:00Z",
            "2031-12-2",
            "tomorrow",
            "🦀🦀 2031",
        ] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_moment_is_written_as_it_is_read() {
        for text in ["2031-12-27", "2031-12-27T12:30:05Z", "1969-12-31T23:59:59Z", "9999-01-01"] {
            assert_eq!(moment(text).to_string(), text);
            assert_eq!(format!("{:?}", moment(text)), text);
        }
        assert_eq!(Moment::from_unix_seconds(i64::MIN), Moment(FIRST));
        assert_eq!(Moment::from_unix_seconds(i64::MAX), Moment(LAST));
        for seconds in [i64::MIN, i64::MAX] {
            let moment = Moment::from_unix_seconds(seconds);
            assert!(!moment.plus_seconds(seconds).to_string().is_empty());
        }
    }

    #[test]
    fn a_period_is_half_open() {
        let period = Period { from: Some(moment("2027-01-01")), until: Some(moment("2028-01-01")) };
        let at = |text: &str| {
            let at = LawTime::from(moment(text));
            (period.has_begun(at), period.has_ended(at))
        };
        assert_eq!(at("2026-12-31T23:59:59Z"), (false, false));
        assert_eq!(at("2027-01-01"), (true, false));
        assert_eq!(at("2027-12-31T23:59:59Z"), (true, false));
        assert_eq!(at("2028-01-01"), (true, true));
        let doubt = LawTime::between(moment("2028-06-01"), moment("2026-06-01"));
        assert!(!period.has_begun(doubt) && period.may_have_begun(doubt));
        assert!(!period.has_ended(doubt) && period.may_have_ended(doubt));
        assert_eq!(period.to_string(), "from 2027-01-01 until 2028-01-01");
        assert_eq!(Period { from: None, ..period }.to_string(), "until 2028-01-01");
        assert_eq!(Period { until: None, ..period }.to_string(), "from 2027-01-01");
        assert_eq!(Period::ALWAYS.to_string(), "always");
        assert!(!period.is_empty() && Period { until: period.from, ..period }.is_empty());
    }
}
