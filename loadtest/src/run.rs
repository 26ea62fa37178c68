//! Keeps the schedule.

use std::collections::VecDeque;
use std::io;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use crate::alarm::Alarm;
use crate::connection_slot::ConnectionSlot;
use crate::dial::Dialer;
use crate::exchange::Flight;
use crate::schedule::Schedule;
use crate::tally::Tally;
use crate::{Observation, Plan, PlanError, Protocol, Report, RequestSpec, Reuse};

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The plan cannot be carried out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The thread that keeps the time cannot be started.
    #[error("the thread that keeps the time cannot be started")]
    Alarm(#[source] io::Error),
}

/// Runs a plan to its end.
///
/// `next` is asked for the request with this number of the schedule, once for each and in order, when its time has
/// come and a connection is free for it. `observe` sees each of them end. Both are called from this future, so they
/// must not block. Dropping the future abandons the run.
pub async fn run(
    plan: &Plan,
    next: impl FnMut(u64) -> RequestSpec,
    observe: impl FnMut(&Observation),
) -> Result<Report, RunError> {
    run_until(plan, std::future::pending(), next, observe).await
}

/// Runs a plan to its end, or until `stop` resolves: then the schedule ends, and what was due by then still flies.
pub async fn run_until(
    plan: &Plan,
    stop: impl Future<Output = ()>,
    mut next: impl FnMut(u64) -> RequestSpec,
    mut observe: impl FnMut(&Observation),
) -> Result<Report, RunError> {
    plan.check()?;
    let dialer = Arc::new(Dialer::new(plan.target.clone()));
    let mut free = slots(plan);
    let mut flights = JoinSet::new();
    let mut schedule = Schedule::new(Instant::now(), plan.rate, plan.duration);
    let alarm = Alarm::set(schedule).map_err(RunError::Alarm)?;
    let mut tally = Tally::new();
    let mut note = |observation: &Observation| {
        tally.count(observation);
        observe(observation);
    };
    let mut stop = pin!(stop);
    let mut stopped = false;

    // The requests that are due but not begun are the backlog: a number, not a queue. Those in flight are older and
    // end by their timeouts, so a landing always comes by the time at which the backlog's first expires.
    let mut begun = 0;
    loop {
        while begun < schedule.due(Instant::now()) {
            let intended = schedule.intended(begun);
            let expired = intended.elapsed() >= plan.timeout;
            let slot = if expired { None } else { free.pop_front() };
            if slot.is_none() && !expired {
                break;
            }
            let flight = Flight { request: next(begun), sequence: begun, intended, timeout: plan.timeout };
            begun += 1;
            match slot {
                None => note(&flight.miss()),
                Some(slot) => {
                    let dialer = Arc::clone(&dialer);
                    flights.spawn(async move {
                        let observation = flight.fly(&slot, &dialer).await;
                        (slot, observation)
                    });
                }
            }
        }
        if begun == schedule.total() && flights.is_empty() {
            return Ok(tally.report(plan, &schedule, dialer.connections()));
        }
        tokio::select! {
            Some(landed) = flights.join_next() => {
                // Nobody aborts a flight, so only a panic can keep it from landing.
                let (slot, observation) = landed.unwrap_or_else(|error| resume_unwind(error.into_panic()));
                free.push_back(slot);
                note(&observation);
            }
            () = alarm.ring(), if begun < schedule.total() => {}
            () = &mut stop, if !stopped => {
                stopped = true;
                schedule.end(Instant::now());
            }
        }
    }
}

/// Returns a place for each request that may be in flight, ordered so that all connections are used in turn.
fn slots(plan: &Plan) -> VecDeque<Arc<ConnectionSlot>> {
    let slots: Vec<_> = (0..plan.connections).map(|_| Arc::new(ConnectionSlot::new(plan.reuse))).collect();
    let places = match (plan.target.protocol, plan.reuse) {
        (Protocol::Http2, Reuse::KeepAlive) => plan.streams,
        _ => 1,
    };
    (0..places).flat_map(|_| slots.iter().cloned()).collect()
}
