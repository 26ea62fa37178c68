//! Whether a difference between two counts is more than chance.
//!
//! Rates of few are no evidence: 5 errors in 900 requests are more than 0.5 %, and just what chance
//! gives to a rate that is below 0.5 %. So the question is how far counts are from what would be
//! expected if there were no difference: the signed root of the likelihood ratio (the G-test), in
//! standard deviations, against a rate that is known (a mark) or against one that is itself measured.
//! It is taken instead of the z-test of two proportions because errors are rare and the shares
//! unequal: with 5 errors where 1.5 are expected, z says 3 sigma, and chance says 1 in 50.
//!
//! [`SIGMAS`] of them are asked for, which a single look passes by chance once in 700; and as the
//! question is asked again and again of the same growing counts, once or twice in 100 times.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Cases of something, among so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cases {
    cases: u64,
    of: u64,
}

impl Cases {
    /// At most all of them are cases: counts that are read while they grow may say otherwise.
    pub fn new(cases: u64, of: u64) -> Self {
        Self { cases: cases.min(of), of }
    }

    /// Returns how many are.
    pub fn count(&self) -> u64 {
        self.cases
    }

    /// Returns the share, `0..=1`; 0 of none.
    pub fn share(&self) -> f64 {
        self.cases as f64 / self.of.max(1) as f64
    }

    /// Returns whether these are cases of more than a share (`0..=1`), beyond chance.
    pub fn is_past(&self, share: f64) -> bool {
        self.share() > share && self.deviance(share) > SIGMAS * SIGMAS
    }

    /// Returns whether these are cases of a larger share than others, beyond chance.
    pub fn is_worse_than(&self, others: &Cases) -> bool {
        let both = Cases { cases: self.cases + others.cases, of: self.of + others.of }.share();
        self.share() > others.share() && self.deviance(both) + others.deviance(both) > SIGMAS * SIGMAS
    }

    /// Twice the logarithm of how much likelier these cases are by their own share than by this one
    /// (`0..=1`): the square of a distance in standard deviations (Wilks, 1938).
    fn deviance(&self, share: f64) -> f64 {
        let term = |seen: u64, share: f64| match seen {
            0 => 0.0,
            seen => seen as f64 * libm::log(seen as f64 / (self.of as f64 * share)),
        };
        2.0 * (term(self.cases, share) + term(self.of.saturating_sub(self.cases), 1.0 - share))
    }
}

/// `31 of 480 (6.5 %)`.
impl fmt::Display for Cases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({:.1} %)", self.cases, self.of, self.share() * 100.0)
    }
}

/// What is further than this from what was expected is not by chance.
pub const SIGMAS: f64 = 3.0;

/// Fewer cases say nothing.
pub const LEAST_CASES: u64 = 5;

/// The P95 of fewer requests says nothing, and so few are nothing to compare with.
pub const LEAST_REQUESTS: u64 = 100;

/// By so much must a P95 be longer than another to be worse: twice the histogram's error.
pub const NOTABLY_LONGER: f64 = 1.25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_from_three_sigma() {
        for (one, other, worse) in [
            ((5, 900), (0, 0), false),
            ((0, 100), (0, 100), false),
            ((5, 100), (5, 100), false),
            ((5, 100), (0, 1_900), true),
            // Two of ten are twice as many as ten of a hundred, and may well be chance.
            ((2, 10), (10, 100), false),
            ((200, 1_000), (1_000, 10_000), true),
            ((239, 1_000), (3_800, 19_000), false),
            ((240, 1_000), (3_800, 19_000), true),
            // Counted before the requests that they are of.
            ((7, 0), (0, 1_000), false),
            ((1_001, 1_000), (1_000, 1_000), false),
        ] {
            let cases = |(cases, of)| Cases::new(cases, of);
            assert_eq!(cases(one).is_worse_than(&cases(other)), worse, "{one:?} {other:?}");
            assert!(!cases(other).is_worse_than(&cases(one)), "{other:?} {one:?}");
        }
    }

    #[test]
    fn a_known_share_is_passed_beyond_chance() {
        for (cases, of, share, past) in [
            (5, 180, 0.005, true),
            (5, 181, 0.005, false),
            (568, 100_000, 0.005, false),
            (569, 100_000, 0.005, true),
            (1, 1_000_000, 0.0, true),
            (1_000, 1_000, 1.0, false),
            (0, 0, 0.0, false),
        ] {
            assert_eq!(Cases::new(cases, of).is_past(share), past, "{cases} of {of}, {share}");
        }
    }
}
