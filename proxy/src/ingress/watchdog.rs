//! Closes connections that wait for too long: for a head that does not end, for a client that takes
//! nothing, or for nothing.

use std::time::Duration;

use config::Limits;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::client_connection::{Activity, ConnectionPhase};

/// Looks at one connection now and then, for as long as that lives.
#[derive(Debug)]
pub(crate) struct Watchdog {
    header_timeout: Duration,
    keep_alive: Duration,
    body_timeout: Duration,
    ticks: Interval,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Its head is late, or it takes nothing of its answers: cut it.
    Stuck,
    /// It idles: ask it to go.
    Idle,
}

impl Watchdog {
    /// Watches by these limits, and is late by a quarter of the shortest at most.
    pub(crate) fn new(limits: &Limits) -> Self {
        let shortest = limits.header_timeout.min(limits.keep_alive).min(limits.body_timeout);
        let period = (shortest / 4).max(Duration::from_millis(10));
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Limits { header_timeout, keep_alive, body_timeout, .. } = *limits;
        Self { header_timeout, keep_alive, body_timeout, ticks }
    }

    /// Waits until the connection is overdue.
    pub(crate) async fn overdue(&mut self, activity: &Activity) -> Overdue {
        loop {
            self.ticks.tick().await;
            if activity.blocked().is_some_and(|lasted| lasted > self.body_timeout) {
                return Overdue::Stuck;
            }
            match activity.phase() {
                ConnectionPhase::Reading(lasted) if lasted > self.header_timeout => return Overdue::Stuck,
                ConnectionPhase::Idle(lasted) if lasted > self.keep_alive => return Overdue::Idle,
                ConnectionPhase::Serving | ConnectionPhase::Reading(_) | ConnectionPhase::Idle(_) => {}
            }
        }
    }
}
