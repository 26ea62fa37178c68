//! The text of a time, for lines that many have the same second.

use std::io::Write as _;
use std::time::Duration;

/// The text of a time: RFC 3339, UTC, milliseconds. It keeps what it has written until the second is another.
#[derive(Default)]
pub(super) struct TimeText {
    second: u64,
    text: Vec<u8>,
}

impl TimeText {
    /// Returns the text of a time since 1970.
    pub(super) fn at(&mut self, since_1970: Duration) -> &[u8] {
        let second = since_1970.as_secs();
        if second != self.second || self.text.is_empty() {
            let seconds = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
            self.second = second;
            self.text.clear();
            drop(write!(self.text, "{:.0}", seconds.unwrap_or(jiff::Timestamp::UNIX_EPOCH)));
        }
        self.text.truncate(WITHOUT_FRACTION);
        self.text.push(b'.');
        decimals(&mut self.text, u64::from(since_1970.subsec_millis()));
        self.text.push(b'Z');
        &self.text
    }
}

/// Writes three digits.
pub(super) fn decimals(out: &mut Vec<u8>, number: u64) {
    let digit = |number: u64| b'0' + (number % 10) as u8;
    out.extend_from_slice(&[digit(number / 100), digit(number / 10), digit(number)]);
}

/// The length of `2026-11-30T15:42:07`.
const WITHOUT_FRACTION: usize = 19;
