//! The version on trial: who gets it, and how it does.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use policy::hash::is_within;
use policy::rollout::Canary;

/// The live state of a canary on this node. It outlives a table that says the same of it.
#[derive(Debug)]
pub struct CanaryState {
    /// What the table says.
    pub spec: Canary,
    /// Percent of the clients that get it now.
    share: AtomicU8,
    salt: u64,
}

impl CanaryState {
    /// A canary at its first step.
    pub fn new(spec: Canary) -> Self {
        let share = AtomicU8::new(spec.steps.first().copied().unwrap_or(0));
        let salt = policy::hash::client_key(spec.version.as_bytes());
        Self { spec, share, salt }
    }

    /// Whether this client gets the version on trial: one that does keeps it while the share grows.
    pub fn takes(&self, client_key: u64) -> bool {
        is_within(self.share.load(Ordering::Relaxed), client_key ^ self.salt)
    }

    /// Whether an endpoint runs the version on trial.
    pub fn is_canary(&self, endpoint: &config::Endpoint) -> bool {
        endpoint.version.as_deref() == Some(&self.spec.version)
    }

    /// Takes the end of an attempt at an endpoint of a region where the canary runs: whether it went
    /// well, and how long it took to the answer's head.
    pub fn observe(&self, _is_canary: bool, _went_well: bool, _took: Duration) {}

    /// Lets the time pass.
    pub fn on_tick(&self, _now: Duration) {}
}
