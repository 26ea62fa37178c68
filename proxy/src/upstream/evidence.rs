//! Evidence of real traffic for and against endpoints and regions, attempt by attempt, and what that leads to.

use std::time::Duration;

use http::StatusCode;
use policy::Health;
use policy::failover::Failover;
use policy::health::{Cause, Phase, Symptom};

use crate::health::endpoint::{EndpointState, Noted};
use crate::health::traffic::{Blame, TrafficSource};
use crate::routing::{EndpointRef, Region};
use crate::telemetry::metrics::Metrics;

/// Reports how one attempt at an endpoint went, under the routing by which it was dialled.
#[derive(Clone, Copy)]
pub(crate) struct Evidence<'a> {
    /// The metrics to count in.
    pub(crate) metrics: &'a Metrics,
    /// The endpoint, of the routing of that moment.
    pub(crate) endpoint: &'a EndpointRef,
    /// Whose request it was: see [`policy::Facts::client_key`].
    pub(crate) client_key: u64,
}

/// An attempt that has failed in a way that its request may have provoked. It lives until its request has ended: an answer
/// to another attempt shows whose fault it was.
pub(crate) struct Contested {
    /// The endpoint, of the routing by which it was dialled.
    pub(crate) endpoint: EndpointRef,
    /// What went wrong.
    pub(crate) symptom: Symptom,
    /// After how long.
    pub(crate) took: Duration,
}

impl Evidence<'_> {
    /// An answer's head has come, which is none of [`is_refusal`], after the origin took so long; `None` when it came
    /// before the request was complete. An error is as much about the request, and counts by its share only.
    pub(crate) fn answered(&self, status: StatusCode, took: Option<Duration>) {
        let is_slow = took > Some(self.failover().latency_p99);
        self.endpoint.on_answer(self.endpoint.attempts(), self.source(), status.is_server_error(), is_slow);
        self.on_trial(!status.is_server_error(), took.unwrap_or_default());
    }

    /// The region's own node has answered that there is no room for it: that is nobody's failure, and load.
    pub(crate) fn full(&self) {
        self.endpoint.on_full();
        self.cell().state.on_full();
    }

    /// A good answer has come to its end: only then is it known to have gone well.
    pub(crate) fn completed(&self) {
        self.endpoint.on_success();
        self.cell().state.on_success();
    }

    /// An attempt has failed after `took`, and that is its endpoint's own.
    pub(crate) fn failed(&self, symptom: Symptom, took: Duration) {
        let noted = self.endpoint.on_error(self.source(), symptom, &self.failover().outlier);
        self.on_trial(false, took);
        let from = (symptom != Symptom::Unreachable).then(|| self.source());
        self.act(noted, from);
    }

    /// An attempt has failed after `took`, and no other has shown that it was its endpoint's fault.
    pub(crate) fn in_doubt(&self, took: Duration, blame: Blame) {
        self.endpoint.on_doubtful_error(self.source(), blame, false);
        self.on_trial(false, took);
    }

    /// An attempt was cancelled after `took`, since another answered first: its answer would have taken
    /// longer still, and the probes are to find out whether one would have come.
    pub(crate) fn cancelled(&self, took: Duration) {
        self.endpoint.on_answer(self.endpoint.attempts(), self.source(), false, took > self.failover().latency_p99);
        self.endpoint.on_wait();
    }

    /// An answer that began well has broken off.
    pub(crate) fn broke_off(&self, age: Duration) {
        self.endpoint.on_doubtful_error(self.source(), self.late_blame(age, Blame::Contested), true);
        // Counted twice there, as a success and as a failure: half of a share that is far past any mark.
        self.on_trial(false, Duration::ZERO);
    }

    /// Returns what an answer that is so old says by failing: a stream that ends after a while is not measured by the
    /// attempts of the last one.
    fn late_blame(&self, age: Duration, blame: Blame) -> Blame {
        if age >= self.failover().outlier.interval { Blame::Nobody } else { blame }
    }

    fn source(&self) -> TrafficSource {
        TrafficSource { client_key: self.client_key, interval: self.failover().outlier.interval }
    }

    /// A gRPC call whose answer began well has ended with a status that says what this one of HTTP says: judged
    /// likewise, see [`Evidence::answered`].
    pub(crate) fn call_failed(&self, status: StatusCode, age: Duration) {
        // Counted twice there, as a success and as a failure: half of a share that is far past any mark.
        self.on_trial(false, Duration::ZERO);
        let blame = if is_refusal(status) { Blame::Contested } else { Blame::Nobody };
        self.endpoint.on_doubtful_error(self.source(), self.late_blame(age, blame), true);
    }

    fn on_trial(&self, went_well: bool, took: Duration) {
        if let Some(canary) = self.endpoint.routing().canary_in(self.cell()) {
            canary.observe(canary.is_canary(&self.endpoint.endpoint), went_well, took);
        }
    }

    /// After a failure: ejects the endpoint if its failures in a row are enough, and suspects the
    /// region if those of all its endpoints are, and too few of them are left without one.
    fn act(&self, noted: Noted, from: Option<TrafficSource>) {
        let (cell, failover, name) = (self.cell(), self.failover(), self.name());
        let cause = Cause::ConsecutiveErrors;
        if noted == Noted::Enough && !eject(self.metrics, name, cell, self.endpoint, cause, failover) {
            // Its share of ejections is used up. That so many fail is told by the region's own count.
            tracing::debug!(region = name, endpoint = %self.endpoint.endpoint, "not ejected: too many are");
        }
        if noted != Noted::Again && cell.state.on_error(from, &failover.outlier) {
            let sound = cell.endpoints.iter().filter(|endpoint| !endpoint.is_in_doubt()).count();
            if (sound as f64) < failover.threshold * cell.endpoints.len() as f64 || sound == 0 {
                suspect(self.metrics, name, cell, cause, failover);
            }
        }
    }

    fn cell(&self) -> &Region {
        self.endpoint.routing().region(self.endpoint.region())
    }

    fn failover(&self) -> &Failover {
        &self.endpoint.routing().table().spec().failover
    }

    fn name(&self) -> &str {
        self.endpoint.region_name()
    }
}

/// Returns whether a status says that the endpoint cannot serve (RFC 9110, 15.6.3 to 15.6.5), rather than that it has
/// failed at this request.
pub(crate) fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Takes an endpoint out of rotation for a while, unless too many of its region's are out already.
/// Whether it did.
pub(crate) fn eject(
    metrics: &Metrics,
    region: &str,
    cell: &Region,
    endpoint: &EndpointState,
    cause: Cause,
    failover: &Failover,
) -> bool {
    // One at a time, or two that are counted together would be one too many.
    let ejected = cell.state.one_at_a_time(|| {
        cell.census().may_eject(failover.outlier.max_ejected) && endpoint.eject(cause, &failover.outlier)
    });
    if !ejected {
        return false;
    }
    let cause = cause.name();
    metrics.ejections.with_label_values(&[region, cause]).inc();
    tracing::warn!(region, endpoint = %endpoint.endpoint, cause, "endpoint ejected");
    refresh(metrics, region, cell, failover);
    true
}

/// Makes a whole region the last resort for a while.
pub(crate) fn suspect(metrics: &Metrics, region: &str, cell: &Region, cause: Cause, failover: &Failover) {
    if cell.state.suspect(&failover.outlier) {
        let cause = cause.name();
        metrics.suspicions.with_label_values(&[region, cause]).inc();
        cell.endpoints.iter().for_each(|endpoint| endpoint.begin_anew());
        tracing::warn!(region, cause, "region suspected: the last resort for now");
        refresh(metrics, region, cell, failover);
    }
}

/// Works a region's health out again, and tells when that changes where it stands.
pub(crate) fn refresh(metrics: &Metrics, region: &str, cell: &Region, failover: &Failover) {
    let Some((before, after)) = cell.refresh(failover) else { return };
    metrics.region_health.with_label_values(&[region]).set(gauge(cell));
    if before == Phase::Suspected {
        // What was under way when it came to be suspected has failed since, and must not hide what its clients meet now.
        cell.state.begin_anew();
        cell.endpoints.iter().for_each(|endpoint| endpoint.begin_anew());
    }
    let (before, state) = (phase_name(before), phase_name(after));
    match cell.state.health() {
        Health::Ramping(percent) => tracing::warn!(region, before, state, percent, "region changed"),
        Health::Up | Health::Down => tracing::warn!(region, before, state, "region changed"),
    }
}

/// Returns the word for where a region stands.
pub(crate) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Up => "up",
        Phase::Down => "down",
        Phase::Suspected => "suspected",
        Phase::Waiting(_) => "waiting",
        Phase::Ramping(..) => "ramping",
    }
}

/// Returns a region's health as a gauge: the share of its clients that it gets.
pub(crate) fn gauge(cell: &Region) -> f64 {
    match cell.state.health() {
        Health::Up => 1.0,
        Health::Ramping(percent) => f64::from(percent) / 100.0,
        Health::Down => 0.0,
    }
}
