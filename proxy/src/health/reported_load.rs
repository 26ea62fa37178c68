//! What the fleet reports of one region, as decisions read it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use policy::Reported;

use crate::clock::coarse_ms;

/// The last [`Reported`] of a region, if there was one.
#[derive(Debug, Default)]
pub(crate) struct ReportedLoad {
    /// When it was last reported, by the clock of [`coarse_ms`]; [`NEVER`] without a report.
    at_ms: AtomicU64,
    /// As bits.
    utilisation: AtomicU32,
    nodes: AtomicU32,
}

const NEVER: u64 = 0;

impl ReportedLoad {
    /// Returns the load of a region of which this node knows `own`, by what is reported now.
    pub(crate) fn over(&self, own: f32) -> f32 {
        if self.at_ms.load(Ordering::Relaxed) == NEVER {
            // Where no fleet reports, on the path of every request.
            return own;
        }
        self.over_at(own, coarse_ms())
    }

    /// The same at a time in milliseconds.
    pub(crate) fn over_at(&self, own: f32, now_ms: u64) -> f32 {
        self.read(now_ms).map_or(own, |reported| reported.over(own))
    }

    /// Returns what is reported, at a time in milliseconds; `None` when that is too long ago.
    pub(crate) fn read(&self, now_ms: u64) -> Option<Reported> {
        let at_ms = self.at_ms.load(Ordering::Relaxed);
        let age = Duration::from_millis(now_ms.saturating_sub(at_ms));
        (at_ms != NEVER && age < Reported::GONE).then(|| Reported {
            utilisation: f32::from_bits(self.utilisation.load(Ordering::Relaxed)),
            age,
            nodes: self.nodes.load(Ordering::Relaxed),
        })
    }

    /// Replaces it. A reader may meet the parts of two, which are a tick apart and do no harm.
    pub(crate) fn set(&self, reported: Option<Reported>, now: Duration) {
        let Some(Reported { utilisation, age, nodes }) = reported else {
            return self.at_ms.store(NEVER, Ordering::Relaxed);
        };
        self.utilisation.store(utilisation.to_bits(), Ordering::Relaxed);
        self.nodes.store(nodes, Ordering::Relaxed);
        let at_ms = now.saturating_sub(age).as_millis() as u64;
        self.at_ms.store(at_ms.max(NEVER + 1), Ordering::Relaxed);
    }
}
