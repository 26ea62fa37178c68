//! Hedging: an attempt that is later than most of its route's answers gets another beside it, and the first good
//! answer is taken.

use std::time::Duration;

use tokio::time::timeout;

use crate::upstream::attempt::{self, Attempt, AttemptResult};
use crate::upstream::plan::{ForwardPlan, NoRetry};
use crate::upstream::retry_state::{EarlierAttempt, RetryState};

impl<'a> RetryState<'a> {
    /// Returns after how long the attempt about to be made is doubled, if it is to be: what its route's answers take, by
    /// their P95, and the way to its region. One at the version on
    /// trial is not: what is wrong with that would be hidden.
    pub(super) fn hedge_after(&self, next: &Attempt<'_>) -> Option<Duration> {
        let may = self.route.retry.hedge
            && self.plan.repeatable
            && self.attempts() < self.route.retry.attempts
            && !next.target.routing().is_on_trial(next.target.region(), next.target.destination.endpoint());
        let serving = self.plan.pinned.latency(self.plan.permits.route()).p95().filter(|_| may)?;
        Some(serving + next.target.routing().way(next.target.region()))
    }

    /// Makes an attempt, and when it is `late` another beside it, elsewhere if possible. The first good
    /// answer is taken, and the other attempt cancelled.
    pub(super) async fn hedged(&mut self, first: Attempt<'a>, late: Duration) -> AttemptResult {
        let plan = self.plan;
        let ForwardPlan { upstream, body, .. } = *plan;
        let from = EarlierAttempt::under_way(&first.target);
        let begun = first.target.started;
        let mut first = std::pin::pin!(attempt::make(plan, first));
        if let Ok(result) = timeout(late, &mut first).await {
            return result;
        }
        let second = if body.is_whole() { self.find(Some(&from)) } else { None };
        self.end = NoRetry::Exhausted;
        let Some(second) = second else { return first.await };
        self.begin(&second.target, true);
        let mut second = std::pin::pin!(attempt::make(plan, second));
        let (mut result, won) = tokio::select! {
            result = &mut first => (result, false),
            result = &mut second => (result, true),
        };
        if !self.is_welcome(&result) {
            self.report(&result);
            self.maybe_processed |= !result.fault().is_unsent();
            self.count(result.target.destination.endpoint(), result.fault().outcome());
            result.target.in_flight.give_back();
            drop(result);
            return if won { first.await } else { second.await };
        }
        let name = from.endpoint.region_name();
        let outcome = if won { "won" } else { "lost" };
        upstream.metrics.hedges.with_label_values(&[name, outcome]).inc();
        if won {
            // That it was too slow is what there is to know of the first.
            let took = begun.elapsed();
            from.evidence(plan).cancelled(took);
            let way = from.endpoint.routing().way(from.endpoint.region());
            self.plan.pinned.latency(self.plan.permits.route()).observe(took.saturating_sub(way));
        }
        result
    }
}
