//! A region's origins, as they are: how much they can do, and how long that takes.

/// The origins of one region.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Requests per second that all of its endpoints can answer.
    pub(super) capacity_rps: f64,
    /// How long a request takes on an idle region, in seconds.
    pub(super) base_s: f64,
    /// Its endpoints.
    pub(super) endpoints: Vec<EndpointTruth>,
    /// The requests of all nodes in flight there.
    pub(super) in_flight: f64,
}

/// One endpoint, as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum EndpointTruth {
    /// It serves, and can do this share of what it is built for since it started at `since`; after `warm_up_s` all.
    Alive { since: f64, warm_up_s: f64 },
    /// Nothing listens there.
    Dead,
}

impl EndpointTruth {
    /// An endpoint that has served for long.
    pub(super) const WARM: Self = Self::Alive { since: 0.0, warm_up_s: 0.0 };

    /// Returns whether anything listens there.
    pub(super) fn is_alive(self) -> bool {
        self != Self::Dead
    }

    /// Returns the share of what it is built for that it can do at a time in seconds.
    fn share(self, now: f64) -> f64 {
        match self {
            Self::Dead => 0.0,
            Self::Alive { warm_up_s, .. } if warm_up_s <= 0.0 => 1.0,
            Self::Alive { since, warm_up_s } => (COLD + (1.0 - COLD) * (now - since) / warm_up_s).clamp(COLD, 1.0),
        }
    }
}

/// What an endpoint can do as it starts, with its caches empty.
const COLD: f64 = 0.3;

/// How sharply a region turns from serving at its own pace to queueing: at as many requests in flight as it has places,
/// one takes 19 % longer, and the region answers 84 % of its capacity.
const SHARPNESS: f64 = 4.0;

impl Origin {
    /// Returns how many requests the region has places for at a time in seconds: more than that queue.
    pub(super) fn places(&self, now: f64) -> f64 {
        let alive: f64 = self.endpoints.iter().map(|endpoint| endpoint.share(now)).sum();
        self.capacity_rps * self.base_s * alive / self.endpoints.len().max(1) as f64
    }

    /// Returns how long a request takes now, in seconds, by what is in flight; `None` where nothing is alive.
    ///
    /// The region answers the smooth minimum of what is in flight by the base time, and its capacity: many servers
    /// with one queue, as a fluid.
    pub(super) fn service_s(&self, now: f64) -> Option<f64> {
        let places = self.places(now);
        (places > 0.0).then(|| {
            let filled = self.in_flight / places;
            self.base_s * (1.0 + filled.powf(SHARPNESS)).powf(1.0 / SHARPNESS)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_answers_at_its_pace_until_it_is_full_and_its_capacity_after() {
        let mut origin =
            Origin { capacity_rps: 1000.0, base_s: 0.1, endpoints: vec![EndpointTruth::WARM; 4], in_flight: 0.0 };
        for (in_flight, answered) in [(10.0, 100.0), (50.0, 492.0), (100.0, 841.0), (200.0, 985.0), (4000.0, 1000.0)] {
            origin.in_flight = in_flight;
            let found = in_flight / origin.service_s(9.0).expect("alive");
            assert!((found - answered).abs() < 1.0, "{in_flight}: {found}");
        }
        origin.endpoints = vec![EndpointTruth::Dead, EndpointTruth::Alive { since: 0.0, warm_up_s: 10.0 }];
        assert_eq!([0.0, 5.0, 10.0, 99.0].map(|now| (origin.places(now) * 10.0).round()), [150.0, 325.0, 500.0, 500.0]);
        origin.endpoints.truncate(1);
        assert_eq!(origin.service_s(0.0), None);
    }
}
