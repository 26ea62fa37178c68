//! The retry rule: where the next attempt of a request goes, at whose cost, after what pause, and why no further.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use policy::attempt::{is_lawful_in_both, switched_off_since};
use policy::concurrency::{Leaves, Request, TrafficSlot, admits};
use policy::pressure::{Criticality, OVERLOAD_MARK};
use policy::route::{RouteSpec, ServerName};
use policy::view::WithDown;
use policy::{CurrentTable, Health, RegionId, RegionSet, Revoked, Verdict};
use smallvec::SmallVec;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::grpc::Code;
use crate::health::endpoint::EndpointState;
use crate::health::limiter::{Held, LimiterHandle, Place};
use crate::health::traffic::Blame;
use crate::routing::{EndpointRef, Region};
use crate::upstream::attempt::{Attempt, AttemptResult, AttemptTarget, Fault};
use crate::upstream::balance::{self, PickRequest};
use crate::upstream::evidence::{Contested, Evidence};
use crate::upstream::plan::{ForwardError, ForwardPlan, NoRetry, OriginAnswer, Shed};

/// The state of one request's attempts. It lives while the request is forwarded, on its worker's thread.
pub(super) struct RetryState<'a> {
    pub(super) plan: &'a ForwardPlan<'a>,
    pub(super) route: &'a RouteSpec,
    deadline: Instant,
    pick: PickRequest,
    /// Regions, of the pinned table, that this round is done with.
    done_with: RegionSet,
    /// Regions, of the pinned table, that could not be reached.
    unreachable: RegionSet,
    /// Endpoints that this round has tried, by their numbers.
    tried: SmallVec<[u64; 4]>,
    /// Whether all were tried once, and the best of them may be again.
    again: bool,
    attempts: u32,
    /// Whether one was made, be it one that does not count: whatever follows is of the table of its own moment.
    has_begun: bool,
    pauses: u32,
    /// Why a region was passed over, or not waited for.
    shed: Option<Shed>,
    /// The best of the regions that this search found without a place.
    full: Option<FullRegion>,
    /// A place that was waited for.
    place: Option<Place>,
    waits: u32,
    /// Whether it has waited where its class has less than its guarantee.
    has_insisted: bool,
    /// Whether an origin may have acted on it.
    pub(super) maybe_processed: bool,
    /// Whether all of a region's endpoints were tried.
    exhausted: bool,
    last: Option<EarlierAttempt>,
    pub(super) end: NoRetry,
    /// Attempts of which nobody knows yet whose fault it was that they failed.
    contested: SmallVec<[Contested; 2]>,
}

/// A region that is at its limit.
struct FullRegion {
    limiter: LimiterHandle,
    /// The request's traffic class there.
    class: Option<TrafficSlot>,
    pinned_region: RegionId,
    /// For how long the request waits there before others are looked at, since its class has less than its guarantee.
    owed: Option<Duration>,
}

/// The attempt before another, or beside it.
pub(super) struct EarlierAttempt {
    pub(super) endpoint: EndpointRef,
    pinned_region: RegionId,
    /// None while it is under way.
    fault: Option<Fault>,
}

impl<'a> RetryState<'a> {
    pub(super) fn new(plan: &'a ForwardPlan<'a>) -> Self {
        let route = &plan.pinned.table().route(plan.permits.route()).spec;
        Self {
            plan,
            route,
            deadline: plan.deadline,
            pick: PickRequest { client_key: plan.facts.client_key, upgrade: plan.upgrade },
            done_with: RegionSet::EMPTY,
            unreachable: RegionSet::EMPTY,
            tried: SmallVec::new(),
            again: false,
            attempts: 0,
            has_begun: false,
            pauses: 0,
            shed: None,
            full: None,
            place: None,
            waits: 0,
            has_insisted: false,
            maybe_processed: false,
            exhausted: false,
            last: None,
            end: NoRetry::Exhausted,
            contested: SmallVec::new(),
        }
    }

    /// Reports an attempt that is over. What its request may have provoked waits for the request's end.
    pub(super) fn report(&mut self, result: &AttemptResult) {
        let contested = result.report(self.plan, self.fair());
        self.contested.extend(contested);
        let judged = result.judged_status().or(result.status());
        // A node's own word, or that of a limit, does not show that the request can be answered.
        let is_good = judged.is_some_and(|status| !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS)
            && !result.is_nodes_own;
        if is_good && self.is_welcome(result) {
            // The same request was answered well: those that failed at it have failed by themselves.
            for earlier in self.contested.drain(..) {
                earlier.evidence(self.plan).failed(earlier.symptom, earlier.took);
            }
        }
    }

    /// Returns how many attempts there were.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns whether one of them has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.last.is_some()
    }

    /// Returns the next attempt, if there may be one: inside the region first, then the next permitted region, and
    /// when all were tried, those again that are still in rotation.
    pub(super) fn next(&mut self) -> Option<Attempt<'a>> {
        self.full = None;
        if !self.may_go_on() {
            return None;
        }
        let found = self.find(None);
        if found.is_some() || self.is_owed() {
            return found;
        }
        if self.end != NoRetry::Exhausted || self.tried.is_empty() {
            return None;
        }
        self.again = true;
        self.tried.clear();
        self.done_with = RegionSet::EMPTY;
        self.find(None)
    }

    /// Returns whether the search has ended where the request's class has less than its guarantee.
    fn is_owed(&self) -> bool {
        self.full.as_ref().is_some_and(|full| full.owed.is_some())
    }

    /// Returns whether the result of the attempt before lets there be another.
    fn may_go_on(&mut self) -> bool {
        let Some(last) = &self.last else { return true };
        if last.fault.is_some_and(Fault::is_final) {
            self.end = NoRetry::Exhausted;
            return false;
        }
        self.end = if !last.fault.is_some_and(Fault::lets_all_repeat) && !self.plan.repeatable {
            NoRetry::NotRepeatable
        } else if clock::now() >= self.deadline {
            NoRetry::OutOfTime
        } else {
            NoRetry::Exhausted
        };
        self.end == NoRetry::Exhausted && self.attempts < self.route.retry.attempts
    }

    /// Looks for whom to try; the attempt is counted once it begins. `beside` is an attempt that is still under way.
    pub(super) fn find(&mut self, beside: Option<&EarlierAttempt>) -> Option<Attempt<'a>> {
        let ForwardPlan { upstream, pinned, facts, permits, head, body, criticality, .. } = *self.plan;
        let table = pinned.table();
        // One that is not used here goes to whoever waits next.
        let mut waited_for = self.place.take();
        loop {
            // The first attempt follows the decision without a pause, and is of its moment.
            let routing = if self.has_begun { upstream.latest.of(upstream.routing) } else { pinned.clone() };
            let current = routing.table();
            let permit =
                permits.next(table, facts, &self.done_with, &CurrentTable { table: current, view: &*routing })?;
            let region = permit.region();
            let pinned_region = table.region_named(&current.region(region).name)?;
            if !is_lawful_in_both(table, facts, current, region) {
                // Never true: the permit says otherwise. It is checked on its own all the same.
                upstream.metrics.residency_violations.inc();
                let region = &current.region(region).name;
                tracing::error!(region, "a permit for an unlawful region; not dialled");
                self.done_with.insert(pinned_region);
                continue;
            }
            let cell = routing.region(region);
            let own = routing.own(region);
            let in_flight = own.in_flight.enter();
            let may = |others| admits(criticality, others, cell.cap(), facts.client_key, clock::since_1970);
            if in_flight.admits(may).is_err() {
                self.shed.get_or_insert(Shed::RegionFull);
                self.done_with.insert(pinned_region);
                continue;
            }
            let safeguarded = permit.is_safeguarded();
            let is_clients = self.route.server_name == ServerName::Client;
            let destination =
                balance::destination(&routing, permit, &self.tried, self.pick, (|| self.server_name(), is_clients));
            let Some(destination) = destination.filter(|found| !self.again || found.endpoint().is_up()) else {
                self.done_with.insert(pinned_region);
                continue;
            };
            if !body.can_be_had_again() && self.attempts > 0 {
                self.end = NoRetry::BodyGone;
                return None;
            }
            let limiter = own.limiter(routing.is_on_trial(region, destination.endpoint()));
            let is_its = |place: &mut Place| place.limiter().is(limiter);
            let class = current.traffic_of(table, permits.route()).and_then(|class| cell.traffic_slot(class));
            let place =
                waited_for.take_if(is_its).map_or_else(|| limiter.enter(class, criticality), |place| Ok(Some(place)));
            let Ok(place) = place else {
                let insists = beside.is_none() && self.full.is_none() && !self.has_insisted;
                let owed = class.filter(|_| insists).and_then(|class| limiter.owes(class));
                self.full.get_or_insert_with(|| FullRegion { limiter: limiter.clone(), class, pinned_region, owed });
                // Why it no longer waits is told rather than that others are full, too.
                self.shed = self.shed.filter(|_| self.waits > 0).or(Some(Shed::QueueFull));
                self.done_with.insert(pinned_region);
                if owed.is_some() {
                    return None;
                }
                continue;
            };
            let from = beside.or(self.last.as_ref());
            if let Some(from) = from
                && !self.affords(from, beside.is_some(), cell, destination.endpoint())
            {
                self.end = NoRetry::OverBudget;
                return None;
            }
            let Some(body) = body.attempt() else {
                self.end = NoRetry::BodyGone;
                return None;
            };
            let head = head(&routing, region);
            let in_flight = Held::new(in_flight, place);
            let started = clock::now();
            let limit = self.limit(started);
            let target = AttemptTarget { pinned_region, safeguarded, destination, started, limit, in_flight };
            return Some(Attempt { target, head, body });
        }
    }

    /// Waits for a place in the best region that has none, where there is no other left: as long as its queue lets it,
    /// and the request's time. Where it did not get it, the other regions are looked at once more: what was full when it
    /// began to wait may no longer be. False when there is none to wait for, or no time left.
    ///
    /// Where its class has less than its guarantee, it waits there for a while before the others are looked at.
    pub(super) async fn wait_for_place(&mut self) -> bool {
        let Some(FullRegion { limiter, class, pinned_region, owed }) = self.full.take() else { return false };
        if owed.is_some() {
            self.has_insisted = true;
        } else if self.waits >= MOST_WAITS {
            return false;
        } else {
            self.waits += 1;
        }
        // What comes after it is of the table of its own moment.
        self.has_begun = true;
        let left = self.deadline.saturating_duration_since(clock::now());
        let left = owed.map_or(left, |owed| left.min(owed));
        let (criticality, client) = (self.plan.criticality, self.plan.facts.client_key);
        let place = match limiter.wait(Request { criticality, client, class }) {
            Ok(mut waits) => timeout(left, waits.place()).await.unwrap_or(Err(Leaves::TooOld)),
            Err(leaves) => Err(leaves),
        };
        match place {
            Ok(place) => {
                self.place = Some(place);
                self.done_with.remove(pinned_region);
                true
            }
            Err(_) if owed.is_some() => {
                // The others have been passed over so far, and if they are full, too, it waits here on.
                self.done_with.remove(pinned_region);
                clock::now() < self.deadline
            }
            Err(leaves) => {
                self.shed = Some(match leaves {
                    Leaves::Full => Shed::QueueFull,
                    Leaves::TooOld => Shed::QueueTimeout,
                });
                self.waits = MOST_WAITS;
                self.done_with = RegionSet::EMPTY;
                self.done_with.insert(pinned_region);
                clock::now() < self.deadline
            }
        }
    }

    /// Counts an attempt that is made now: after another that has failed, or `beside` one that is late.
    pub(super) fn begin(&mut self, target: &AttemptTarget, beside: bool) {
        if let Some(from) = self.last.as_ref().filter(|_| !beside) {
            let metrics = self.plan.upstream.metrics;
            metrics.retries.with_label_values(&[from.endpoint.region_name(), "sent"]).inc();
            if from.pinned_region != target.pinned_region {
                let table = self.plan.pinned.table();
                let names = [from.pinned_region, target.pinned_region].map(|id| table.region(id).name.as_str());
                metrics.failovers.with_label_values(&names).inc();
            }
        }
        self.has_begun = true;
        self.attempts += 1;
        self.tried.push(target.destination.endpoint().id);
    }

    /// Returns the name that a TLS origin is to prove, where its route says another than its own.
    fn server_name(&self) -> Option<Arc<str>> {
        match &self.route.server_name {
            ServerName::Endpoint => None,
            ServerName::Client => Some(self.plan.facts.host.into()),
            ServerName::Name(_) => self.plan.pinned.server_name(self.plan.permits.route()),
        }
    }

    /// Returns whether the retry budget of the region that an attempt has failed in, or is late in, lets there be
    /// another. What cost no origin any work is free, and so is leaving what is out for what is not. What one region has no
    /// room for is free where the next has some: else each request would be asked of all of them.
    fn affords(&self, from: &EarlierAttempt, hedge: bool, cell: &Region, to: &EndpointState) -> bool {
        let metrics = self.plan.upstream.metrics;
        let region = from.endpoint.routing().region(from.endpoint.region());
        let is_last_resort = |region: &Region| matches!(region.state.health(), Health::Down | Health::Ramping(0));
        let is_out = !from.endpoint.is_up() || is_last_resort(region);
        let is_in = to.is_up() && !is_last_resort(cell);
        let is_free = |fault: Fault| fault.is_free() || fault == Fault::Full && cell.has_room();
        let is_free = !hedge && (from.fault.is_some_and(is_free) || is_out && is_in);
        // What is left is for others, where there is little, or much to do.
        let is_spared = self.plan.criticality == Criticality::Sheddable
            && (region.state.retries_are_scarce() || region.state.pressure() > OVERLOAD_MARK);
        let affords = is_free || !is_spared && region.state.take_retry();
        if !affords {
            metrics.retries.with_label_values(&[from.endpoint.region_name(), "over_budget"]).inc();
        }
        affords
    }

    /// Returns how long an attempt that begins now may take.
    fn limit(&self, now: Instant) -> Instant {
        self.route.retry.per_try_timeout.map_or(self.deadline, |limit| self.deadline.min(now + limit))
    }

    /// Returns the time that an attempt has where none went before it.
    pub(super) fn fair(&self) -> Duration {
        self.route.retry.per_try_timeout.unwrap_or(self.route.timeout)
    }

    /// Pauses before a region is tried again that has failed an attempt: full jitter, up to twice as long
    /// each time. None before another region.
    ///
    /// False when a table that came meanwhile no longer lets the attempt be made.
    pub(super) async fn pause(&mut self, next: &mut Attempt<'_>) -> bool {
        let Some(last) = &self.last else { return true };
        if last.pinned_region != next.target.pinned_region || (last.fault.is_some_and(Fault::is_unsent) && !self.again)
        {
            return true;
        }
        let most = (FIRST_PAUSE * 2_u32.saturating_pow(self.pauses)).min(LONGEST_PAUSE);
        self.pauses += 1;
        let left = self.deadline.saturating_duration_since(clock::now());
        sleep(most.mul_f64(fastrand::f64()).min(left)).await;
        next.target.started = clock::now();
        next.target.limit = self.limit(next.target.started);
        let current = self.plan.upstream.routing.load();
        if next.target.routing().is_of(&current) {
            return true;
        }
        let now = current.table().region_named(next.target.region_name());
        let (pinned, facts) = (self.plan.pinned.table(), self.plan.facts);
        now.is_some_and(|region| is_lawful_in_both(pinned, facts, current.table(), region))
            && switched_off_since(pinned, facts, current.table()).is_none()
    }

    /// Returns whether an attempt's answer is one to pass on. All calls of gRPC are POSTs: that an origin is
    /// UNAVAILABLE is taken for its word that it has not acted on one, unless the route leaves that out.
    pub(super) fn is_welcome(&self, result: &AttemptResult) -> bool {
        if result.refused.is_some() {
            // An emergency has come to that node first: what it switches off is not to be had elsewhere.
            return true;
        }
        let (retry, repeatable) = (&self.route.retry, self.plan.repeatable);
        let unwelcome = |status: StatusCode| repeatable && retry.statuses.contains(&status.as_u16());
        let failed_call = result.call_status.is_some_and(|code| {
            retry.grpc_statuses.contains(&code.number()) && (repeatable || code == Code::UNAVAILABLE)
        });
        result.unsent.is_none() && !failed_call && result.status().is_some_and(|status| !unwelcome(status))
    }

    /// Takes the end of an attempt; its answer, if it has one.
    pub(super) fn settle(&mut self, result: AttemptResult) -> Option<OriginAnswer> {
        let (welcome, fault) = (self.is_welcome(&result), result.fault());
        let judged = result.judged_status();
        let AttemptResult { target, is_nodes_own, refused, call_status, result, .. } = result;
        let AttemptTarget { pinned_region, safeguarded, destination, started, mut in_flight, .. } = target;
        if welcome {
            in_flight.on_head();
        } else {
            in_flight.give_back();
        }
        let endpoint = destination.into_endpoint();
        // Another node's refusal is no answer of its region: why nobody serves is then for this node to say.
        let answered =
            result.ok().filter(|_| !fault.is_unreachable() && fault != Fault::Full).map(|(response, connection)| {
                let head_at = self.time(&endpoint, judged.unwrap_or(response.status()), started);
                let (endpoint, attempts) = (endpoint.clone(), self.attempts);
                OriginAnswer {
                    response,
                    head_at,
                    call_status,
                    is_nodes_own,
                    refused,
                    connection,
                    endpoint,
                    attempts,
                    safeguarded,
                    in_flight,
                }
            });
        if welcome {
            return answered;
        }
        if fault == Fault::NoTunnels {
            // It is passed over, as it is from now on before it is tried.
            self.attempts -= 1;
            return None;
        }
        self.count(&endpoint, fault.outcome());
        let left = balance::untried(endpoint.routing(), endpoint.region(), &self.tried);
        self.maybe_processed |= !fault.is_unsent();
        if fault.is_unreachable() {
            self.unreachable.insert(pinned_region);
        }
        if fault == Fault::Full {
            self.shed.get_or_insert(Shed::RegionFull);
        }
        self.exhausted |= left == 0;
        let eligible = self.plan.permits.eligible();
        let others = eligible.iter().filter(|id| !self.done_with.contains(*id) && *id != pinned_region).count();
        let spare = self.route.retry.attempts.saturating_sub(self.attempts) as usize;
        if spare <= others || left == 0 || matches!(fault, Fault::Revoked(_)) {
            self.done_with.insert(pinned_region);
        }
        self.last = Some(EarlierAttempt { endpoint, pinned_region, fault: Some(fault) });
        answered
    }

    /// Notes how long an answer took whose head has come; returns the time of that.
    fn time(&self, endpoint: &EndpointRef, status: StatusCode, started: Instant) -> Instant {
        let (routing, region) = (endpoint.routing(), endpoint.region());
        let now = clock::now();
        let Some(since) = self.plan.body.origins_turn(started) else { return now };
        let took = now.saturating_duration_since(since);
        if region != routing.here {
            let names = [routing.here, region].map(|id| routing.table().region(id).name.as_str());
            let latency = &self.plan.upstream.metrics.cross_region_latency;
            latency.with_label_values(&names).observe(took.as_secs_f64());
        }
        // A failure is no quick answer.
        if status.is_server_error() {
            return now;
        }
        routing.own(region).answers.observe(took);
        if self.route.retry.hedge {
            let serving = took.saturating_sub(routing.way(region));
            self.plan.pinned.latency(self.plan.permits.route()).observe(serving);
        }
        now
    }

    /// Counts an attempt that failed; one whose answer is passed on is counted with the answer.
    pub(super) fn count(&self, endpoint: &EndpointRef, outcome: &str) {
        self.plan.upstream.metrics.attempts.with_label_values(&[endpoint.region_name(), outcome]).inc();
    }

    /// Returns why there is no answer.
    pub(super) fn failure(&self) -> ForwardError {
        let Self { plan, attempts, .. } = *self;
        let table = plan.pinned.table();
        let fault = self.last.as_ref().and_then(|last| last.fault);
        // What it has ended is refused by it, whatever was done of the request.
        let is_ended = fault == Some(Fault::Revoked(Revoked::Emergency));
        if (is_ended || !self.maybe_processed)
            && let Some(refusal) = switched_off_since(table, plan.facts, plan.upstream.routing.load().table())
        {
            return ForwardError::Refused { refusal, attempts };
        }
        // One endpoint that is not there, of several, says nothing of its region; several attempts do. And where there was no
        // place for another, that is why.
        let found_no_place =
            fault == Some(Fault::Full) || matches!(self.shed, Some(Shed::QueueFull | Shed::QueueTimeout));
        let is_out = self.attempts != 1 || self.exhausted;
        let (telling, down) = if is_out { (true, self.unreachable) } else { (found_no_place, RegionSet::EMPTY) };
        let call_is_over = plan.call_deadline.is_some_and(|deadline| clock::now() >= deadline);
        let is_unserved = fault.is_none_or(|fault| fault.is_unreachable() || fault == Fault::Full);
        if is_unserved && !self.maybe_processed && telling && !call_is_over {
            let view = WithDown { view: &**plan.pinned, down };
            match policy::decide::decide_on_route(table, plan.permits.route(), plan.facts, &view) {
                Verdict::Refuse(refusal) => return ForwardError::Refused { refusal, attempts },
                Verdict::Forward(_) => {
                    if let Some(why) = self.shed {
                        let loads = plan.permits.eligible().iter().map(|region| plan.pinned.region(region).load());
                        return ForwardError::Overloaded { why, attempts, load: loads.fold(f32::INFINITY, f32::min) };
                    }
                }
            }
        }
        let region = self.last.as_ref().map(|last| table.region(last.pinned_region).name.clone()).unwrap_or_default();
        if let Some(Fault::Revoked(why)) = fault {
            return ForwardError::Revoked { region, attempts, why };
        }
        if let Some(Fault::Local(lack)) = fault {
            return ForwardError::Local { region, attempts, lack };
        }
        if fault == Some(Fault::Malformed) {
            return ForwardError::Malformed { region, attempts };
        }
        let timed_out = call_is_over || matches!(fault, Some(Fault::TimedOut | Fault::Gone));
        ForwardError::Failed { region, attempts, timed_out, unsent: !self.maybe_processed, end: self.end }
    }
}

impl Drop for RetryState<'_> {
    fn drop(&mut self) {
        // No attempt has shown that the request can be answered, or nobody waited for one that would.
        let ids = |earlier: &Contested| earlier.endpoint.id;
        let first = self.contested.first().map(ids);
        // What several have failed at is the request's own.
        let is_its_own = self.contested.iter().any(|earlier| Some(ids(earlier)) != first);
        let blame = if is_its_own { Blame::Nobody } else { Blame::Contested };
        for earlier in self.contested.drain(..) {
            earlier.evidence(self.plan).in_doubt(earlier.took, blame);
        }
    }
}

impl Contested {
    fn evidence<'a>(&'a self, plan: &'a ForwardPlan<'_>) -> Evidence<'a> {
        let (metrics, client_key) = (plan.upstream.metrics, plan.facts.client_key);
        Evidence { metrics, endpoint: &self.endpoint, client_key }
    }
}

impl EarlierAttempt {
    /// Returns the evidence for and against whom it goes to.
    pub(super) fn evidence<'a>(&'a self, plan: &'a ForwardPlan<'_>) -> Evidence<'a> {
        let (metrics, client_key) = (plan.upstream.metrics, plan.facts.client_key);
        Evidence { metrics, endpoint: &self.endpoint, client_key }
    }

    /// Describes an attempt that is under way.
    pub(super) fn under_way(target: &AttemptTarget) -> Self {
        Self { endpoint: target.destination.endpoint().clone(), pinned_region: target.pinned_region, fault: None }
    }
}

/// How many times a request waits for a place: a table that comes while it does may have it wait elsewhere.
const MOST_WAITS: u32 = 2;

/// The back-off between attempts on one region: full jitter, as Envoy's.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
