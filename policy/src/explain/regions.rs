//! Every region of the table: its place, its score, and what put it there.

use super::law::{HeldRule, of_region};
use super::{
    Case, HealthExplained, LatencySource, MeasuredExplained, RegionExplained, ReportedExplained, Ruling,
    SpillExplained, WeightExplained, Why, detail,
};
use crate::decide::{
    TIE_MARGIN, client, headroom, is_expired, is_kept, latency_ms, level, moved_off, rank, reach_ms, rendezvous, share,
    spilled, switched_off, takes_writes, too_far, too_stale, way_ms, weighed,
};
use crate::emergency::Asks;
use crate::failover::FailoverScope;
use crate::hash::mix;
use crate::region::{Access, AdminState, RegionId, RegionSet};
use crate::round_trip::Reach;
use crate::route::Affinity;
use crate::view::{Health, RegionView, View, Writes};

/// Returns every region, in the table's order.
pub(super) fn regions(case: &Case<'_>, order: &[RegionId], rules: &[HeldRule<'_>]) -> Vec<RegionExplained> {
    let ties = ties(case, order);
    let given = given_latencies(case);
    let ids = case.table.regions().map(|(id, _)| id);
    ids.map(|id| {
        let tied = &ties[id.index()];
        let subject = Subject { case, id, seen: case.seen.region(id) };
        let place = order.iter().position(|tried| *tried == id).map(|index| index + 1);
        let why = of_region(case, rules, id).into_iter().chain(subject.why(tied)).collect();
        subject.explained(place, tied, &given, why)
    })
    .collect()
}

/// For each region those whose clients it shares by hash, itself among them; or none.
///
/// The order says who was left to choose from at each place of it.
fn ties(case: &Case<'_>, order: &[RegionId]) -> Vec<RegionSet> {
    let standing: Vec<(u16, f32)> = order
        .iter()
        .map(|id| {
            let subject = Subject { case, id: *id, seen: case.seen.region(*id) };
            let score = if subject.share().is_some() { 0.0 } else { subject.score() };
            (subject.rank(), score)
        })
        .collect();
    let mut ties = vec![RegionSet::EMPTY; case.seen.regions.len()];
    for (place, (first, _)) in standing.iter().enumerate() {
        let rivals = || (place..order.len()).filter(|rival| standing[*rival].0 == *first);
        let best = rivals().map(|rival| standing[rival].1).fold(f32::MIN, f32::max);
        let near = || rivals().filter(|rival| standing[*rival].1 >= best - TIE_MARGIN).map(|rival| order[rival]);
        if near().nth(1).is_some() {
            let tied: RegionSet = near().collect();
            tied.iter().for_each(|id| ties[id.index()] = ties[id.index()].or(&tied));
        }
    }
    ties
}

/// Returns the regions to or from which the table gives the node's latency.
fn given_latencies(case: &Case<'_>) -> RegionSet {
    let from = case.facts.from;
    let ends = case.table.spec().latency_ms.iter().filter_map(|(a, b, _)| match (*a == from, *b == from) {
        (true, _) => Some(*b),
        (_, true) => Some(*a),
        (false, false) => None,
    });
    ends.collect()
}

/// One region, as it is seen.
struct Subject<'a> {
    case: &'a Case<'a>,
    id: RegionId,
    seen: RegionView,
}

impl Subject<'_> {
    fn explained(&self, place: Option<usize>, tied: &RegionSet, given: &RegionSet, why: Vec<Why>) -> RegionExplained {
        let Case { table, facts, route, allowed, .. } = self.case;
        let region = table.region(self.id);
        let weighed = weighed(route, &self.seen);
        let latency = self.scored_ms(&weighed);
        let lawful = allowed.all().contains(self.id);
        let constants = table.constants(self.id);
        let headroom = headroom(constants, &weighed);
        let ties = !tied.is_empty();
        let draw_weight = self.share().unwrap_or(headroom);
        RegionExplained {
            name: region.name.clone(),
            country: Some(region.country),
            place,
            allowed: lawful,
            opened: allowed.opened.contains(self.id),
            safeguards: allowed.safeguarded.contains(self.id),
            eligible: place.is_some(),
            level: lawful.then(|| level(table, allowed, self.id)),
            score: self.score(),
            terms: route.scoring.terms(self.id.index(), latency, weighed.utilisation),
            latency_ms: latency,
            latency_source: self.latency_source(&weighed, given),
            rtt_ms: self.seen.rtt_ms,
            reach_ms: Some(reach_ms(table, facts.from, self.id, &self.seen)),
            utilisation: self.seen.utilisation,
            measured: self.case.told[self.id.index()].measured.map(MeasuredExplained::from),
            reported: self.case.told[self.id.index()].reported.map(ReportedExplained::from),
            pressure: self.seen.pressure,
            spill: self.spill(),
            weight: self.weight(),
            headroom,
            share: self.share().and(region.share),
            tied: ties,
            tied_with: tied.iter().filter(|id| *id != self.id).map(|id| table.region(id).name.clone()).collect(),
            hash: ties.then(|| rendezvous(mix(facts.client_key ^ constants.seed), draw_weight)),
            health: match self.seen.health {
                Health::Up => HealthExplained::Up,
                Health::Ramping(_) => HealthExplained::Ramping,
                Health::Down => HealthExplained::Down,
            },
            why,
        }
    }

    fn score(&self) -> f32 {
        let Case { route, .. } = self.case;
        let weighed = weighed(route, &self.seen);
        let latency = self.scored_ms(&weighed);
        route.scoring.score(self.id.index(), route.scoring.curve.points(latency), weighed.utilisation)
    }

    /// Returns the round trip that the score goes by, in milliseconds.
    fn scored_ms(&self, weighed: &RegionView) -> f32 {
        let Case { table, facts, route, .. } = self.case;
        match client(route, facts) {
            Some(client) => way_ms(&client, route, facts, table.constants(self.id), self.id),
            None => latency_ms(table, facts.from, self.id, weighed),
        }
    }

    fn share(&self) -> Option<f32> {
        let Case { table, route, .. } = self.case;
        share(route, table.constants(self.id))
    }

    fn rank(&self) -> u16 {
        let Case { table, facts, route, allowed, .. } = self.case;
        rank(route, facts, allowed, self.id, &weighed(route, &self.seen), table.constants(self.id))
    }

    fn is_pinned(&self) -> bool {
        self.case.facts.pinned == Some(self.id)
    }

    /// Returns whether that keeps the client here.
    fn is_kept(&self) -> bool {
        is_kept(self.case.facts, self.id, &self.seen)
    }

    /// Decides for the node: a client that is pinned here is neither spilled nor moved off.
    fn spill(&self) -> SpillExplained {
        let Case { table, facts, route, .. } = self.case;
        let pressure = weighed(route, &self.seen).pressure;
        let moves = spilled(route, table.constants(self.id), pressure, facts);
        SpillExplained { share: route.spill(facts.criticality).share(pressure), spilled: moves && !self.is_kept() }
    }

    fn weight(&self) -> WeightExplained {
        let Case { table, facts, .. } = self.case;
        let constants = table.constants(self.id);
        WeightExplained {
            percent: constants.weight,
            ramp: match self.seen.health {
                Health::Ramping(percent) => percent.min(100),
                Health::Up | Health::Down => 100,
            },
            moved_off: moved_off(constants, &self.seen, facts.client_key) && !self.is_kept(),
        }
    }

    fn latency_source(&self, weighed: &RegionView, given: &RegionSet) -> LatencySource {
        let Case { table, facts, route, .. } = self.case;
        let located = |id: RegionId| table.region(id).coordinates.is_some();
        if client(route, facts).is_some() {
            let is_kept = route.spec.affinity == Affinity::ClientIp;
            let excess = facts.client_at.filter(|_| !is_kept).and_then(|at| at.excess_ms.get(self.id.index()).copied());
            match (located(self.id), excess) {
                (false, _) => LatencySource::Unknown,
                (true, Some(_)) => LatencySource::ClientMeasured,
                (true, None) => LatencySource::ClientDistance,
            }
        } else if weighed.rtt_ms.is_some() {
            LatencySource::Measured
        } else if given.contains(self.id) {
            LatencySource::Table
        } else if self.id == facts.from {
            LatencySource::Local
        } else if located(self.id) && located(facts.from) {
            LatencySource::GreatCircle
        } else {
            LatencySource::Unknown
        }
    }

    /// Returns what the route, the region's entry in the table and the moment do.
    fn why(&self, tied: &RegionSet) -> Vec<Why> {
        let mut told = Told::default();
        self.on_paper(&mut told);
        self.at_the_moment(&mut told);
        self.for_this_client(&mut told);
        self.among_equals(tied, &mut told);
        told.0
    }

    fn on_paper(&self, told: &mut Told) {
        let Case { table, facts, route, access, allowed, .. } = self.case;
        let region = table.region(self.id);
        let here = Some(region.line);
        if !region.may_serve(*access) {
            let what = match access {
                Access::Read => "reads",
                Access::Write => "writes",
            };
            told.refuses("capabilities", here, &format!("does not serve {what}"));
        }
        let lacking = route.spec.require_compliance.iter().filter(|name| !region.compliance.contains(name));
        lacking.for_each(|name| told.refuses("require_compliance", Some(route.spec.line), &format!("is not {name}")));
        match region.state {
            AdminState::Serving => {}
            AdminState::Draining if self.is_pinned() => {
                told.say(Ruling::Notes, "state", here, "draining: kept for a client pinned here".into());
            }
            AdminState::Draining => told.refuses("state", here, "draining"),
            AdminState::Disabled => told.refuses("state", here, "disabled"),
        }
        if self.case.scope.is_some_and(|scope| !scope.contains(self.id)) && allowed.all().contains(self.id) {
            let why = match route.spec.failover {
                FailoverScope::Jurisdiction => "outside the jurisdictions of the first choice",
                FailoverScope::Region | FailoverScope::Any => "the first choice or nothing",
            };
            told.refuses("failover", Some(route.spec.line), why);
        }
        if facts.only.is_some_and(|only| only != self.id) {
            told.refuses("gateway", None, "another node has already chosen the region");
        }
    }

    fn at_the_moment(&self, told: &mut Told) {
        let Case { table, facts, route, access, seen, .. } = self.case;
        if let Some(refusal) = switched_off(table, self.case.id, || Asks::of(route, facts)) {
            told.refuses("emergency", None, detail(refusal.reason));
        }
        if is_expired(route, seen) {
            let why = "the table has expired: nothing that counts has confirmed it in time (/status says what)";
            told.refuses("table_expired", None, why);
        }
        match self.seen.health {
            Health::Up => {}
            Health::Ramping(0) => {
                let effect = "out for now, by what real traffic shows or until its way back begins: the last resort";
                told.say(Ruling::Notes, "health", None, effect.into());
            }
            Health::Ramping(percent) => {
                told.say(Ruling::Notes, "health", None, format!("ramping: {percent} % of its clients"));
            }
            Health::Down => told.refuses("health", None, "down"),
        }
        self.writes(told);
        let limit = route.spec.max_latency.filter(|_| too_far(route, reach_ms(table, facts.from, self.id, &self.seen)));
        if let Some(limit) = limit {
            let effect = match too_far(route, latency_ms(table, facts.from, self.id, &self.seen)) {
                true => format!("more than {} ms away", limit.as_millis()),
                false => {
                    let below_ms = limit.as_secs_f32() * 1000.0 * Reach::RETURN;
                    let held_ms = reach_ms(table, facts.from, self.id, &self.seen);
                    format!(
                        "is taken for {held_ms:.0} ms away until it is below {below_ms:.0} ms, or has been below {} ms for long",
                        limit.as_millis()
                    )
                }
            };
            told.refuses("max_latency", Some(route.spec.line), &effect);
        }
        if too_stale(route, *access, table.constants(self.id), &self.seen) {
            let (rule, why) = match self.seen.lag {
                Some(_) => ("max_replication_lag", "its replica lags too far behind"),
                None => ("lag_unknown", "its replica reports no lag"),
            };
            told.refuses(rule, Some(route.spec.line), why);
        }
    }

    /// Says whether a write goes here, where that is a question of the moment.
    fn writes(&self, told: &mut Told) {
        let Case { table, access, .. } = self.case;
        let region = table.region(self.id);
        if *access == Access::Read || !region.may_serve(*access) {
            return;
        }
        let here = Some(region.line);
        match self.seen.writes {
            Writes::AsDeclared if !takes_writes(table.constants(self.id), &self.seen) => {
                told.refuses("writes", here, "a standby, which has not taken the writes over");
            }
            Writes::AsDeclared => {}
            Writes::Granted => {
                let effect = "of the primary and its standby it has the writes";
                told.say(Ruling::Notes, "writes", here, effect.to_owned());
            }
            Writes::Withheld(why) => told.refuses("writes", here, why.explained()),
        }
    }

    fn among_equals(&self, tied: &RegionSet, told: &mut Told) {
        let region = self.case.table.region(self.id);
        if let (Some(share), Some(_), false) = (region.share, self.share(), tied.is_empty()) {
            let all: u64 = tied.iter().filter_map(|id| self.case.table.region(id).share).map(u64::from).sum();
            let effect = format!("{share} of {all} of the clients of its level, by hash, whatever the scores");
            told.say(Ruling::Notes, "share", Some(region.line), effect);
        }
    }

    fn for_this_client(&self, told: &mut Told) {
        let Case { table, route, .. } = self.case;
        let here = Some(table.region(self.id).line);
        if let Some(standby) = &table.region(self.id).standby {
            let (ruling, effect) = match self.seen.promoted {
                true => (Ruling::Notes, "promoted: the regions that it stands in for cannot carry the load".to_owned()),
                false => (
                    Ruling::Moves,
                    format!("not promoted: after all others, until it was wanted for {:?}", standby.promote_after),
                ),
            };
            told.say(ruling, "standby", here, effect);
        }
        if self.is_kept() {
            told.say(Ruling::Moves, "affinity", Some(route.spec.line), "first: the client is pinned here".into());
        }
        let WeightExplained { percent, ramp, moved_off } = self.weight();
        // A region that is the last resort has been called so already.
        if moved_off && ramp > 0 {
            let share = f32::from(percent) * f32::from(ramp) / 100.0;
            let cause = if ramp < 100 { format!(" (ramping: {ramp} %)") } else { String::new() };
            let effect = format!("only {share:.0} % of clients{cause}, not this one: a last resort");
            told.say(Ruling::Moves, "weight", here, effect);
        }
        let SpillExplained { share, spilled } = self.spill();
        let full = self.seen.pressure * 100.0;
        let share = share * 100.0;
        if spilled {
            let effect = format!("{full:.0} % full, so {share:.0} % of clients move on, this one too");
            told.say(Ruling::Moves, "overload", None, effect);
        } else if share > 0.0 && self.is_kept() {
            let effect = format!("{full:.0} % full, so {share:.0} % of clients move on; a pinned one stays");
            told.say(Ruling::Notes, "overload", None, effect);
        } else if share > 0.0 {
            let effect = format!("{full:.0} % full, so {share:.0} % of clients move on, not this one");
            told.say(Ruling::Notes, "overload", None, effect);
        }
        let live = self.seen.utilisation > 0.0 || self.seen.rtt_ms.is_some();
        if route.spec.affinity == Affinity::ClientIp && live {
            let effect = "kept by address: neither load below the overload mark nor measured latency is weighed";
            told.say(Ruling::Notes, "affinity", Some(route.spec.line), effect.into());
        }
    }
}

/// What was said of a region, first to last.
#[derive(Default)]
struct Told(Vec<Why>);

impl Told {
    fn say(&mut self, verdict: Ruling, rule: &str, line: Option<u32>, effect: String) {
        self.0.push(Why { rule: rule.to_owned(), regulation: None, line, verdict, effect });
    }

    fn refuses(&mut self, rule: &str, line: Option<u32>, why: &str) {
        self.say(Ruling::Refuses, rule, line, format!("refused: {why}"));
    }
}
