//! A steady load in the background, while the test does something to the node or its origins.

use std::time::Duration;

use loadtest::{Observation, Outcome, Plan, RequestSpec, RunError, Target, run_until};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::{patiently, within};

/// A load that runs until it is stopped.
pub struct Load {
    observations: watch::Receiver<Vec<Observation>>,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), RunError>>,
}

impl Load {
    /// Starts to send `rate` requests a second over 16 kept connections. `next` makes the request of a number.
    pub fn start(target: Target, rate: f64, next: impl FnMut(u64) -> RequestSpec + Send + 'static) -> Load {
        Load::of(Plan::new(target, rate, Duration::MAX), next)
    }

    /// The same for so many requests, each of which may take as long as a busy machine lets it.
    pub fn start_for(
        count: u32,
        target: Target,
        rate: f64,
        next: impl FnMut(u64) -> RequestSpec + Send + 'static,
    ) -> Load {
        let duration = Duration::from_secs_f64(f64::from(count) / rate);
        Load::of(Plan { timeout: LONG, ..Plan::new(target, rate, duration) }, next)
    }

    fn of(plan: Plan, next: impl FnMut(u64) -> RequestSpec + Send + 'static) -> Load {
        let plan = Plan { connections: 16, streams: 4, ..plan };
        let (sender, observations) = watch::channel(Vec::new());
        let (stop, stopped) = oneshot::channel();
        let run = tokio::spawn(async move {
            let observe = |seen: &Observation| sender.send_modify(|all| all.push(seen.clone()));
            // A load that is dropped ends like one that is stopped.
            let stopped = async { drop(stopped.await) };
            run_until(&plan, stopped, next, observe).await.map(drop)
        });
        Load { observations, stop, run }
    }

    /// How many requests have ended.
    pub fn ended(&self) -> usize {
        self.observations.borrow().len()
    }

    /// Waits until it has run to its end by itself, and gives everything that was observed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn end(self) -> Vec<Observation> {
        within(LONG * 2, "the end of the load", self.run).await.expect("no panic").expect("a sound plan");
        self.observations.borrow().clone()
    }

    /// Waits until `count` more requests have ended that `wanted` takes.
    ///
    /// # Panics
    /// When they do not.
    pub async fn more(&self, count: usize, what: &str, mut wanted: impl FnMut(&Observation) -> bool) {
        let mut receiver = self.observations.clone();
        let mut seen = receiver.borrow_and_update().len();
        let mut found = 0;
        let reached = async {
            while found < count {
                if receiver.changed().await.is_err() {
                    return false;
                }
                let all = receiver.borrow_and_update();
                found += all.iter().skip(seen).filter(|observation| wanted(observation)).count();
                seen = all.len();
            }
            true
        };
        assert!(patiently(what, reached).await, "the load has ended before {what}");
    }

    /// Stops it, and gives everything that was observed.
    ///
    /// # Panics
    /// When it did not run to its end.
    pub async fn stop(self) -> Vec<Observation> {
        // It may have failed already, which the next line tells.
        let _ = self.stop.send(());
        patiently("the end of the load", self.run).await.expect("no panic").expect("a sound plan");
        self.observations.borrow().clone()
    }
}

/// The status of an answer; `None` for none.
pub fn status(observation: &Observation) -> Option<u16> {
    match &observation.outcome {
        Outcome::Answered { status, .. } => Some(*status),
        Outcome::Failed { .. } => None,
    }
}

/// The region that served.
pub fn region(observation: &Observation) -> Option<&str> {
    match &observation.outcome {
        Outcome::Answered { region, .. } => region.as_deref(),
        Outcome::Failed { .. } => None,
    }
}

/// How many attempts an answer took; `None` without one.
pub fn attempts(observation: &Observation) -> Option<u32> {
    match &observation.outcome {
        Outcome::Answered { attempts, .. } => Some(*attempts),
        Outcome::Failed { .. } => None,
    }
}

/// What became of these requests, in figures.
pub fn figures(observations: &[Observation]) -> String {
    let due = observations.len();
    let answered = observations.iter().filter(|seen| status(seen).is_some()).count();
    let served = observations.iter().filter(|seen| status(seen) == Some(200)).count();
    let attempts: u32 = observations.iter().filter_map(attempts).sum();
    let slowest = observations.iter().map(|seen| seen.latency).max().unwrap_or_default();
    format!(
        "{due} due, {answered} answered, {served} served, {} failed, {attempts} attempts, slowest {slowest:.0?}",
        due - answered
    )
}

/// Asserts that every request of these was answered with 200.
///
/// # Panics
/// When one was not.
#[track_caller]
pub fn assert_all_served<'a>(observations: impl IntoIterator<Item = &'a Observation>) {
    let mut count = 0;
    for observation in observations {
        assert_eq!(status(observation), Some(200), "request {}: {:?}", observation.sequence, observation.outcome);
        count += 1;
    }
    assert!(count > 0, "there were no requests");
}

const LONG: Duration = Duration::from_secs(30);
