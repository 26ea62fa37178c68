//! The decision: which regions may serve a request, and in what order.
//!
//! Pure: the same table, facts and view give the same verdict on every node.
//!
//! A decision finds the *first* region, and the set of those that would do. The order is what the
//! decision says again and again, each time without the regions already named: so the second in the
//! order is what is first once the first is down, whoever finds that out, and when.

mod scope;

use smallvec::SmallVec;

use crate::client_way::client_ms;
use crate::emergency::Asks;
use crate::facts::Facts;
use crate::globe::Point;
use crate::hash::{SPILL_SALT, WEIGHT_SALT, fraction, mix};
use crate::region::{Access, RegionId, RegionSet};
use crate::residency::{Allowed, Opening, Subject};
use crate::route::{Affinity, Route, RouteId, UnknownLag};
use crate::score::LatencyFrom;
use crate::table::{Constants, Table};
use crate::verdict::{Permits, Reason, Refusal, Verdict};
use crate::view::{Health, RegionView, View, WithDown, Writes};

pub(crate) use scope::scope;

/// Candidates within this many points of the best of their level share clients by hash, and one the fewer the further it
/// is from the best ([`closeness`]). Regions with shares do whatever their points.
pub const TIE_MARGIN: f32 = 5.0;

/// Decides one request. Allocates nothing for tables of up to 64 regions; takes no lock.
pub fn decide(table: &Table, facts: &Facts<'_>, view: &(impl View + ?Sized)) -> Verdict {
    let Some(id) = table.find_route(facts.host, facts.path, facts.method) else {
        return Verdict::Refuse(Refusal { reason: Reason::NoRoute, route: None, page: None, blocked_by: None });
    };
    decide_on_route(table, id, facts, view)
}

/// Decides one request whose route is already known.
pub fn decide_on_route(table: &Table, id: RouteId, facts: &Facts<'_>, view: &(impl View + ?Sized)) -> Verdict {
    let route = table.route(id);
    if let Some(refusal) = switched_off(table, id, || Asks::of(route, facts)) {
        return Verdict::Refuse(refusal);
    }
    if is_expired(route, view) {
        return Verdict::Refuse(expired(table, id, facts));
    }
    let mut room = None;
    let allowed = lawful(table, route, facts, &mut room);
    let scope = scope(table, route, facts, allowed);
    match choose(table, route, facts, view, allowed, scope.as_ref()) {
        Some((first, eligible)) => {
            let safeguarded = allowed.safeguarded.contains(first);
            Verdict::Forward(Permits { route: id, first, safeguarded, eligible })
        }
        None => Verdict::Refuse(refusal(table, id, facts, view, allowed, scope.is_some())),
    }
}

/// Returns the regions in the order in which they would be tried, if each failed in turn.
pub fn order(table: &Table, id: RouteId, facts: &Facts<'_>, view: &(impl View + ?Sized)) -> Vec<RegionId> {
    let route = table.route(id);
    if is_expired(route, view) || switched_off(table, id, || Asks::of(route, facts)).is_some() {
        return Vec::new();
    }
    let mut room = None;
    let allowed = lawful(table, route, facts, &mut room);
    let scope = scope(table, route, facts, allowed);
    let mut down = RegionSet::EMPTY;
    let mut order = Vec::new();
    while let Some((next, _)) = choose(table, route, facts, &WithDown { view, down }, allowed, scope.as_ref()) {
        down.insert(next);
        order.push(next);
    }
    order
}

/// Returns whether a table's law allows a region for this request: nothing else of a decision.
pub fn is_lawful(table: &Table, facts: &Facts<'_>, region: RegionId) -> bool {
    table.find_route(facts.host, facts.path, facts.method).is_some_and(|id| {
        let mut room = None;
        let allowed = lawful(table, table.route(id), facts, &mut room);
        allowed.home.contains(region) || allowed.opened.contains(region)
    })
}

/// Returns the refusal of a request that the table's emergency switches off: by what is known of it before its client
/// has proved anything, and whatever the view.
pub fn switched_off<'a>(table: &Table, id: RouteId, asks: impl FnOnce() -> Asks<'a>) -> Option<Refusal> {
    table.emergency()?.refusal(id, &asks())
}

/// Returns whether nobody may be served on a route, because the table is too old and the law has a say in it. The
/// view is asked first: its answer is no for all requests but those of a node that is cut off.
pub(crate) fn is_expired(route: &Route, view: &(impl View + ?Sized)) -> bool {
    view.table_expired() && route.restricted
}

/// Returns the regions that the law allows for this request.
pub(crate) fn lawful<'a>(
    table: &'a Table,
    route: &Route,
    facts: &Facts<'_>,
    room: &'a mut Option<Allowed>,
) -> &'a Allowed {
    table.residency().allowed(subject(route, facts), room)
}

/// Returns what the law asks about a request.
pub(crate) fn subject<'a>(route: &'a Route, facts: &'a Facts<'_>) -> Subject<'a> {
    Subject {
        origin: &facts.origin,
        declared: [&route.spec.jurisdictions, facts.declared],
        class: route.spec.data_class,
        opening: Opening { consent: facts.consent, access: route.access(facts.method, facts.payload) },
    }
}

/// Returns the best region for a request, and all that would do, of those in its failover scope (`None`: any).
fn choose(
    table: &Table,
    route: &Route,
    facts: &Facts<'_>,
    view: &(impl View + ?Sized),
    allowed: &Allowed,
    scope: Option<&RegionSet>,
) -> Option<(RegionId, RegionSet)> {
    let access = route.access(facts.method, facts.payload);
    let curve = &route.scoring.curve;
    let prior_points = curve.prior(facts.from.index());
    let client = client(route, facts);
    let mut eligible = RegionSet::EMPTY;
    let mut candidates: SmallVec<[Candidate; 64]> = SmallVec::new();
    let (mut best_rank, mut best_score) = (u16::MAX, 0.0);
    // Word by word: no set is put together that is only walked through once.
    for word in 0..table.words {
        for region in at_rest(table, route, access, facts, allowed, scope, word) {
            let seen = view.region(region);
            let weighed = weighed(route, &seen);
            let constants = table.constants(region);
            if !can_serve(route, access, constants, &seen, || reach_ms(table, facts.from, region, &seen)) {
                continue;
            }
            eligible.insert(region);
            let rank = rank(route, facts, allowed, region, &weighed, constants);
            if rank > best_rank {
                continue;
            }
            let (score, draw_weight) = match share(route, constants) {
                // All of this rank have one, and so are of equal standing, whatever they score.
                Some(share) => (0.0, share),
                None => {
                    let latency = match &client {
                        None => weighed.rtt_ms.map_or(prior_points[region.index()], |ms| curve.points(ms)),
                        Some(client) => curve.points(way_ms(client, route, facts, constants, region)),
                    };
                    let score = route.scoring.score(region.index(), latency, weighed.utilisation);
                    (score, headroom(constants, &weighed))
                }
            };
            if rank < best_rank {
                (best_rank, best_score) = (rank, score);
                candidates.clear();
            }
            best_score = score.max(best_score);
            candidates.push(Candidate { region, score, draw_weight });
        }
    }
    let mut tied = candidates.iter().filter(|candidate| candidate.score >= best_score - TIE_MARGIN);
    let first = tied.next()?;
    let Some(second) = tied.next() else { return Some((first.region, eligible)) };
    let draw = |candidate: &Candidate| {
        let seed = table.constants(candidate.region).seed;
        let weight = candidate.draw_weight * closeness(candidate.score, best_score);
        (rendezvous(mix(facts.client_key ^ seed), weight), seed, candidate.region)
    };
    let drawn = tied.map(draw).fold(higher(draw(first), draw(second)), higher);
    Some((drawn.2, eligible))
}

/// Returns the higher draw; between equals the seeds decide, so that the order in the file has no say.
fn higher(one: (f32, u64, RegionId), other: (f32, u64, RegionId)) -> (f32, u64, RegionId) {
    if (other.0, other.1) > (one.0, one.1) { other } else { one }
}

/// A region that may serve, while a decision weighs it.
#[derive(Clone, Copy)]
struct Candidate {
    region: RegionId,
    score: f32,
    draw_weight: f32,
}

/// Returns the allowed regions of one word of the set that the route can use as far as the table alone tells.
fn at_rest(
    table: &Table,
    route: &Route,
    access: Access,
    facts: &Facts<'_>,
    allowed: &Allowed,
    scope: Option<&RegionSet>,
    word: usize,
) -> impl Iterator<Item = RegionId> + use<> {
    let lawful = allowed.home.word(word) | allowed.opened.word(word);
    let pinned = facts.pinned.map_or(0, |pinned| pinned.in_word(word));
    let only = facts.only.map_or(u64::MAX, |only| only.in_word(word));
    let scope = scope.map_or(u64::MAX, |scope| scope.word(word));
    let draining = table.draining.word(word) & !pinned;
    RegionId::of_word(word, lawful & route.able(access).word(word) & !draining & only & scope)
}

/// Returns whether a table could let a region serve this request: the law, the route, its failover scope and the operator's levers,
/// whatever the view.
pub(crate) fn could_serve(table: &Table, route: &Route, facts: &Facts<'_>, region: RegionId) -> bool {
    let mut room = None;
    let allowed = lawful(table, route, facts, &mut room);
    let (word, scope) = (region.index() / 64, scope(table, route, facts, allowed));
    at_rest(table, route, route.access(facts.method, facts.payload), facts, allowed, scope.as_ref(), word)
        .any(|id| id == region)
}

/// Returns whether the view lets a region serve this route.
pub(crate) fn can_serve(
    route: &Route,
    access: Access,
    constants: &Constants,
    seen: &RegionView,
    latency_ms: impl FnOnce() -> f32,
) -> bool {
    let near = route.max_latency_ms == f32::INFINITY || !too_far(route, latency_ms());
    let takes = access == Access::Read || takes_writes(constants, seen);
    seen.health != Health::Down && near && takes && !too_stale(route, access, constants, seen)
}

/// Returns whether writes go to a region that may serve them.
pub(crate) fn takes_writes(constants: &Constants, seen: &RegionView) -> bool {
    match seen.writes {
        Writes::AsDeclared => constants.writes,
        Writes::Granted => true,
        Writes::Withheld(_) => false,
    }
}

pub(crate) fn too_far(route: &Route, latency_ms: f32) -> bool {
    latency_ms > route.max_latency_ms
}

pub(crate) fn too_stale(route: &Route, access: Access, constants: &Constants, seen: &RegionView) -> bool {
    let Some(max) = route.spec.max_replication_lag.filter(|_| access == Access::Read) else { return false };
    match seen.lag {
        Some(lag) => lag > max,
        None => is_replica(constants, seen) && route.spec.lag_unknown == UnknownLag::Ineligible,
    }
}

/// Returns whether a region's data is another's, as far as is known: of a primary and its standby, that of the one which
/// does not have the writes.
fn is_replica(constants: &Constants, seen: &RegionView) -> bool {
    match seen.writes {
        Writes::AsDeclared => constants.replica,
        Writes::Granted => false,
        Writes::Withheld(_) => true,
    }
}

pub(crate) fn latency_ms(table: &Table, from: RegionId, to: RegionId, seen: &RegionView) -> f32 {
    seen.rtt_ms.unwrap_or_else(|| table.prior_latency_ms(from, to))
}

/// Returns how far a region is for a route's `max_latency`: the way that a request goes on from here, whatever its score
/// goes by.
pub(crate) fn reach_ms(table: &Table, from: RegionId, to: RegionId, seen: &RegionView) -> f32 {
    seen.reach_ms.unwrap_or_else(|| latency_ms(table, from, to, seen))
}

/// Returns where the client is, if the score goes by how far that is from regions, and it is known.
pub(crate) fn client(route: &Route, facts: &Facts<'_>) -> Option<Point> {
    if route.scoring.latency_from == LatencyFrom::Node {
        return None;
    }
    facts.client_at.map(|at| at.coordinates.point())
}

/// Returns the round trip of a client to a region, in milliseconds. Where clients are kept at a region by their address,
/// what is measured has no part in it.
pub(crate) fn way_ms(client: &Point, route: &Route, facts: &Facts<'_>, constants: &Constants, region: RegionId) -> f32 {
    let excess_ms = match route.spec.affinity {
        Affinity::ClientIp => None,
        Affinity::None | Affinity::Cookie(_) => {
            facts.client_at.and_then(|at| at.excess_ms.get(region.index()).copied())
        }
    };
    match &constants.at {
        Some(at) => client_ms(client, at, excess_ms.unwrap_or_default()),
        None => Table::UNKNOWN_LATENCY_MS,
    }
}

/// Returns what of the view is weighed on this route. Where clients are kept at a region by their address, the latency
/// of the moment and the load below the overload mark are not: each move by them would be a client's. Past the mark a
/// region spills clients all the same, always the same first.
pub(crate) fn weighed(route: &Route, seen: &RegionView) -> RegionView {
    match route.spec.affinity {
        Affinity::ClientIp => {
            let RegionView { health, pressure, promoted, .. } = *seen;
            RegionView { health, pressure, promoted, ..RegionView::default() }
        }
        Affinity::None | Affinity::Cookie(_) => *seen,
    }
}

/// Returns the priority level of an allowed region: its own priority's rank, and past all of those for a region
/// that the law opens on a condition.
pub(crate) fn level(table: &Table, allowed: &Allowed, region: RegionId) -> u16 {
    let rank = table.constants(region).rank;
    if allowed.opened.contains(region) { table.distinct_ranks + rank } else { rank }
}

/// Returns a region's share of the clients, where shares decide on this route.
pub(crate) fn share(route: &Route, constants: &Constants) -> Option<f32> {
    (constants.share > 0.0 && route.scoring.shares).then_some(constants.share)
}

/// Returns what of its headroom counts for a region whose score is within [`TIE_MARGIN`] of the best, `0..=1`: all at the
/// best, nothing at the margin. So no client moves all at once as loads change: a fleet in which all of a region's did,
/// and came back on the news of what that made of it, would swing for ever.
pub fn closeness(score: f32, best: f32) -> f32 {
    1.0 - (best - score) / TIE_MARGIN
}

/// Returns what a region's hash is weighted by where no shares are: what is free of its capacity, and never nothing.
pub(crate) fn headroom(constants: &Constants, weighed: &RegionView) -> f32 {
    constants.capacity * (1.0 - weighed.utilisation).max(0.01)
}

/// Returns whether the region's weight, or its ramp, moves this client off it.
pub(crate) fn moved_off(constants: &Constants, seen: &RegionView, client_key: u64) -> bool {
    let ramp = match seen.health {
        Health::Ramping(percent) => u32::from(percent.min(100)),
        Health::Up | Health::Down => 100,
    };
    let share = u32::from(constants.weight) * ramp;
    share < 10_000 && fraction(mix(client_key ^ constants.seed ^ WEIGHT_SALT)) * 10_000.0 > f64::from(share)
}

/// Returns whether an overloaded region spills this client.
pub(crate) fn spilled(route: &Route, constants: &Constants, pressure: f32, facts: &Facts<'_>) -> bool {
    let share = route.spill(facts.criticality).share(pressure);
    share > 0.0 && fraction(mix(facts.client_key ^ constants.seed ^ SPILL_SALT)) <= f64::from(share)
}

/// Returns the refusal of a restricted route under an expired table, whatever that table would say.
fn expired(table: &Table, id: RouteId, facts: &Facts<'_>) -> Refusal {
    let page = table.residency().maintenance_page(subject(table.route(id), facts));
    Refusal { reason: Reason::TableExpired, route: Some(id), page, blocked_by: None }
}

/// Returns why no region is left. Where one outside the failover scope would do, the law is not the cause.
fn refusal(
    table: &Table,
    id: RouteId,
    facts: &Facts<'_>,
    view: &(impl View + ?Sized),
    allowed: &Allowed,
    scoped: bool,
) -> Refusal {
    let all = allowed.all();
    let reason = if all.is_empty() {
        Reason::ResidencyProhibited
    } else if all == table.regions || scoped && choose(table, table.route(id), facts, view, allowed, None).is_some() {
        Reason::Unavailable
    } else {
        Reason::ResidencyUnavailable
    };
    let (residency, subject) = (table.residency(), subject(table.route(id), facts));
    let (page, blocked_by) = match reason {
        Reason::ResidencyUnavailable | Reason::Unavailable => (residency.maintenance_page(subject), None),
        Reason::ResidencyProhibited => (None, residency.blocked_by(subject)),
        Reason::NoRoute
        | Reason::TableExpired
        | Reason::EmergencyRouteOff
        | Reason::EmergencyReadOnly
        | Reason::EmergencyShed => (None, None),
    };
    Refusal { reason, route: Some(id), page, blocked_by }
}

/// Returns whether a client is pinned to a region, and the region is more than the last resort.
pub(crate) fn is_kept(facts: &Facts<'_>, region: RegionId, seen: &RegionView) -> bool {
    facts.pinned == Some(region) && seen.health != Health::Ramping(0)
}

/// Returns the rank of a region for a client, lower first: where it is pinned; the law's own regions by priority,
/// then those that spill the client, then those that its weight or ramp moves it off, then the cold ones and the standbys that are not promoted, likewise;
/// and then likewise the regions that the law opens on a condition. Neither overload nor weight ever wakes a cold
/// region, or prefers an opened one to one of the law's own. `weighed` is what of the view counts on this route.
pub(crate) fn rank(
    route: &Route,
    facts: &Facts<'_>,
    allowed: &Allowed,
    region: RegionId,
    weighed: &RegionView,
    constants: &Constants,
) -> u16 {
    if is_kept(facts, region, weighed) {
        return 0;
    }
    // At most 1024 priorities, which leaves the highest bits free.
    let opened = if allowed.opened.contains(region) { 1 << 15 } else { 0 };
    let cold = if constants.cold && !(constants.standby && weighed.promoted) { 1 << 14 } else { 0 };
    let moved = if moved_off(constants, weighed, facts.client_key) { 1 << 13 } else { 0 };
    let spilled = if spilled(route, constants, weighed.pressure, facts) { 1 << 12 } else { 0 };
    1 + constants.rank + opened + cold + moved + spilled
}

/// Weighted rendezvous hashing (Schindelhauer, Schomaker 2005): the highest -weight/ln(u) wins
/// with a probability in proportion to its weight, which here is the region's share, or its headroom. Any base of
/// the logarithm gives the same order.
pub(crate) fn rendezvous(hash: u64, weight: f32) -> f32 {
    weight / minus_log2(hash).max(f32::EPSILON)
}

/// -log2(hash / 2^64), to 1.2e-4: the position of the highest bit, and for the bits below it the
/// quartic through log2 at the Chebyshev nodes of [1, 2]. Plain arithmetic, and so the same on every
/// platform.
fn minus_log2(hash: u64) -> f32 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    let fraction = ((hash << zeros) >> 40) as u32 & 0x7f_ffff;
    let m = f32::from_bits(0x3f80_0000 | fraction);
    let log2_m = -2.498_353 + (4.029_211_4 + (-2.078_335_2 + (0.626_032_2 - 0.078_440_68 * m) * m) * m) * m;
    (zeros + 1) as f32 - log2_m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_logarithm_is_right_to_a_ten_thousandth() {
        for step in 1..=10_000_u64 {
            let hash = u64::MAX / 10_000 * step;
            let exact = 64.0 - libm::log2(hash as f64);
            let quick = f64::from(minus_log2(hash));
            assert!((exact - quick).abs() < 2e-4, "{hash:x}: {exact} {quick}");
        }
        assert!((minus_log2(1) - 64.0).abs() < 1e-3);
    }
}
