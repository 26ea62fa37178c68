//! Amounts in reports: counts, and shares of a whole.

use serde::Serialize;

use crate::databases::survey::Amount;

/// An amount, and its shares of a whole (0 to 1; null where the whole has none of the kind).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct AmountReport {
    pub(super) ipv4_slash24s: f64,
    pub(super) ipv4_share: Option<f64>,
    pub(super) ipv6_slash48s: f64,
    pub(super) ipv6_share: Option<f64>,
    pub(super) requests: u64,
    pub(super) requests_share: Option<f64>,
}

/// Which of the log's requests count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Requests {
    /// All requests.
    All,
    /// The requests of the kind at this position, or none.
    OfKind(Option<usize>),
}

impl Requests {
    fn of(self, amount: &Amount) -> u64 {
        match self {
            Requests::All => amount.all_requests(),
            Requests::OfKind(kind) => kind.and_then(|kind| amount.requests.get(kind)).copied().unwrap_or(0),
        }
    }
}

impl AmountReport {
    /// Reports an amount as a part of a whole.
    pub(super) fn of(amount: &Amount, whole: &Amount, requests: Requests) -> Self {
        let (part, all) = (requests.of(amount), requests.of(whole));
        Self {
            ipv4_slash24s: rounded(amount.space.slash24s(), 1e3),
            ipv4_share: amount.space.ipv4_share(&whole.space).map(|share| rounded(share, 1e9)),
            ipv6_slash48s: rounded(amount.space.slash48s(), 1e3),
            ipv6_share: amount.space.ipv6_share(&whole.space).map(|share| rounded(share, 1e9)),
            requests: part,
            requests_share: (all > 0).then(|| rounded(part as f64 / all as f64, 1e9)),
        }
    }

    /// Returns the greatest of the shares.
    pub(super) fn greatest_share(&self) -> f64 {
        let shares = [self.ipv4_share, self.ipv6_share, self.requests_share];
        shares.into_iter().flatten().fold(0.0, f64::max)
    }

    /// Returns whether the amount is zero.
    pub(super) fn is_nothing(&self) -> bool {
        self.greatest_share() == 0.0
    }
}

/// Rounds a number: further digits are noise of floating point.
fn rounded(number: f64, to: f64) -> f64 {
    if number * to < 1.0 { number } else { (number * to).round() / to }
}
