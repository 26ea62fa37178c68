//! One endpoint's health, shared by every worker: read without a lock, written rarely.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use config::Endpoint;
use policy::health::{EndpointHealth, ProbePlan};
use policy::table::Outlier;

use crate::routing::now;

/// One endpoint of one region, across tables.
#[derive(Debug)]
pub struct EndpointState {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its number in this process: the key of connection pools.
    pub id: u64,
    health: Mutex<EndpointHealth>,
    up: AtomicBool,
    suspect: AtomicBool,
    /// The replication lag that its last probe reported, in milliseconds.
    lag_ms: Mutex<Option<u64>>,
}

impl EndpointState {
    /// A new endpoint counts as healthy until something shows otherwise.
    pub fn new(endpoint: Endpoint) -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Self {
            endpoint,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            health: Mutex::default(),
            up: AtomicBool::new(true),
            suspect: AtomicBool::new(false),
            lag_ms: Mutex::default(),
        }
    }

    /// Whether it may be dialled.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether its last attempt failed.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// The replication lag that it last reported, in milliseconds.
    pub fn lag_ms(&self) -> Option<u64> {
        *self.lag_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the replication lag that a probe's answer reports.
    pub fn report_lag(&self, lag_ms: Option<u64>) {
        *self.lag_ms.lock().unwrap_or_else(PoisonError::into_inner) = lag_ms;
    }

    /// Takes a success of real traffic; free of locks unless an error came before.
    pub fn on_success(&self) {
        if self.is_suspect() {
            self.update(|health| health.on_success());
        }
    }

    /// Takes a failure of real traffic; true when it ejects the endpoint.
    pub fn on_error(&self, outlier: &Outlier) -> bool {
        self.update(|health| health.on_error(now(), outlier))
    }

    /// Takes a probe's result; true when it changes whether the endpoint is up.
    pub fn on_probe(&self, passed: bool, plan: &ProbePlan) -> bool {
        let before = self.is_up();
        self.update(|health| health.on_probe(passed, plan));
        self.is_up() != before
    }

    /// Lets the time pass: an ejection may have ended. True when that changes whether it is up.
    pub fn on_tick(&self) -> bool {
        let before = self.is_up();
        if !before {
            self.update(|_| ());
        }
        self.is_up() != before
    }

    fn update<R>(&self, change: impl FnOnce(&mut EndpointHealth) -> R) -> R {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut health);
        self.up.store(health.is_up(now()), Ordering::Relaxed);
        self.suspect.store(health.is_suspect(), Ordering::Relaxed);
        result
    }
}
