//! Wakes the run at each intended time.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::schedule::Schedule;

/// Rings whenever further requests have fallen due, within about 0.1 ms.
///
/// It is a thread of its own, since the runtime's timer rounds up to the next millisecond, which every latency would
/// then carry. The thread ends with the schedule, or soon after the alarm is dropped.
pub(crate) struct Alarm {
    bell: Arc<Notify>,
}

impl Alarm {
    pub(crate) fn set(schedule: Schedule) -> io::Result<Alarm> {
        let bell = Arc::new(Notify::new());
        let weak = Arc::downgrade(&bell);
        thread::Builder::new().name("loadtest-alarm".to_owned()).spawn(move || watch(schedule, &weak))?;
        Ok(Alarm { bell })
    }

    /// Resolves at the next ring. A ring that nobody awaited is kept, at most one.
    pub(crate) async fn ring(&self) {
        self.bell.notified().await;
    }
}

fn watch(schedule: Schedule, bell: &Weak<Notify>) {
    let mut rung = 0;
    while rung < schedule.total() {
        let Some(bell) = bell.upgrade() else { return };
        let now = Instant::now();
        let due = schedule.due(now);
        if due > rung {
            rung = due;
            bell.notify_one();
        }
        drop(bell);
        thread::sleep(schedule.intended(rung).saturating_duration_since(now).min(LONGEST_NAP));
    }
}

/// How long the thread may outlive its alarm.
const LONGEST_NAP: Duration = Duration::from_millis(50);
