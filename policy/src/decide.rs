//! The decision: which regions may serve a request, and in what order.
//!
//! Pure: the same table, facts and view give the same verdict on every node.

use smallvec::SmallVec;

use crate::facts::Facts;
use crate::hash::{WEIGHT_SALT, fraction, mix};
use crate::jurisdiction::ClassId;
use crate::region::{Access, RegionId, RegionSet};
use crate::residency::{Allowed, Opening};
use crate::route::{Route, RouteId};
use crate::table::Table;
use crate::verdict::{Permits, Reason, Refusal, Verdict};
use crate::view::{Health, RegionView, View};

/// Candidates within this many points of the best of their level share clients by hash.
pub const TIE_MARGIN: f32 = 5.0;

/// Decides one request. Allocates nothing for tables of up to 64 regions; takes no lock.
pub fn decide(table: &Table, facts: &Facts<'_>, view: &(impl View + ?Sized)) -> Verdict {
    let Some(id) = table.find_route(facts.host, facts.path, facts.method) else {
        return Verdict::Refuse(Refusal { reason: Reason::NoRoute, route: None, page: None });
    };
    decide_on_route(table, id, facts, view)
}

/// Decides one request whose route is already known.
pub fn decide_on_route(table: &Table, id: RouteId, facts: &Facts<'_>, view: &(impl View + ?Sized)) -> Verdict {
    let route = table.route(id);
    let access = route.access(facts.method);
    let allowed = lawful(table, route.spec.data_class, access, facts);
    let mut candidates: SmallVec<[Candidate; 64]> = SmallVec::new();
    for region in eligible_at_rest(table, route, access, facts, &allowed).iter() {
        let seen = view.region(region);
        let latency_ms = latency_ms(table, facts.from, region, &seen);
        if can_serve(route, access, &seen, latency_ms) {
            candidates.push(Candidate::new(table, route, facts, &allowed, region, &seen, latency_ms));
        }
    }
    if candidates.is_empty() {
        return Verdict::Refuse(refusal(table, id, facts, &allowed));
    }
    order(&mut candidates);
    Verdict::Forward(Permits {
        route: id,
        order: candidates.iter().map(|candidate| candidate.region).collect(),
        safeguarded: allowed.safeguarded,
    })
}

/// The regions that the law allows for this request.
pub(crate) fn lawful(table: &Table, class: ClassId, access: Access, facts: &Facts<'_>) -> Allowed {
    table.residency().allowed(&facts.origin, class, Opening { consent: facts.consent, access })
}

/// Allowed regions that the route can use as far as the table alone tells.
fn eligible_at_rest(table: &Table, route: &Route, access: Access, facts: &Facts<'_>, allowed: &Allowed) -> RegionSet {
    let mut eligible = allowed.all().and(route.able(access));
    let mut draining = table.draining;
    if let Some(pinned) = facts.pinned {
        draining.remove(pinned);
    }
    eligible = eligible.without(&draining);
    match facts.only {
        Some(only) => eligible.and(&[only].into_iter().collect()),
        None => eligible,
    }
}

/// Whether the view lets a region serve this route.
pub(crate) fn can_serve(route: &Route, access: Access, seen: &RegionView, latency_ms: f32) -> bool {
    seen.health != Health::Down && !too_far(route, latency_ms) && !too_stale(route, access, seen)
}

pub(crate) fn too_far(route: &Route, latency_ms: f32) -> bool {
    route.spec.max_latency.is_some_and(|max| f64::from(latency_ms) > max.as_secs_f64() * 1000.0)
}

pub(crate) fn too_stale(route: &Route, access: Access, seen: &RegionView) -> bool {
    access == Access::Read && route.spec.max_replication_lag.zip(seen.lag).is_some_and(|(max, lag)| lag > max)
}

pub(crate) fn latency_ms(table: &Table, from: RegionId, to: RegionId, seen: &RegionView) -> f32 {
    seen.rtt_ms.unwrap_or_else(|| table.prior_latency_ms(from, to))
}

/// The priority level of an allowed region: its own priority's rank, and past all of those for a
/// region that the law opens on a condition.
pub(crate) fn level(table: &Table, allowed: &Allowed, region: RegionId) -> u16 {
    let rank = table.ranks.get(region.index()).copied().unwrap_or(0);
    if allowed.opened.contains(region) { table.distinct_ranks + rank } else { rank }
}

/// Whether the region's weight, or its ramp, moves this client off it.
pub(crate) fn moved_off(table: &Table, region: RegionId, seen: &RegionView, client_key: u64) -> bool {
    let ramp = match seen.health {
        Health::Ramping(percent) => u32::from(percent.min(100)),
        Health::Up | Health::Down => 100,
    };
    let share = u32::from(table.region(region).weight) * ramp;
    share < 10_000 && {
        let seed = table.seeds.get(region.index()).copied().unwrap_or(0);
        fraction(mix(client_key ^ seed ^ WEIGHT_SALT)) * 10_000.0 > f64::from(share)
    }
}

/// Why no region is left.
fn refusal(table: &Table, id: RouteId, facts: &Facts<'_>, allowed: &Allowed) -> Refusal {
    let all = allowed.all();
    let reason = if all.is_empty() {
        Reason::ResidencyProhibited
    } else if all == table.regions {
        Reason::Unavailable
    } else {
        Reason::ResidencyUnavailable
    };
    let page = match reason {
        Reason::ResidencyUnavailable | Reason::Unavailable => {
            table.residency().maintenance_page(&facts.origin, table.route(id).spec.data_class)
        }
        Reason::NoRoute | Reason::ResidencyProhibited => None,
    };
    Refusal { reason, route: Some(id), page }
}

/// A region that may serve, with its place in the order.
struct Candidate {
    region: RegionId,
    /// Lower first: pinned, then not moved off, then by level.
    rank: u32,
    score: f32,
    headroom: f32,
    /// The client's hash for this region.
    hash: u64,
    /// The weighted rendezvous hash, filled in where candidates tie; higher first.
    draw: f64,
}

impl Candidate {
    fn new(
        table: &Table,
        route: &Route,
        facts: &Facts<'_>,
        allowed: &Allowed,
        region: RegionId,
        seen: &RegionView,
        latency_ms: f32,
    ) -> Self {
        let index = region.index();
        let level = u32::from(level(table, allowed, region));
        let moved = moved_off(table, region, seen, facts.client_key);
        let rank = if facts.pinned == Some(region) { 0 } else { 1 + level + if moved { MOVED_OFF } else { 0 } };
        let capacity = table.capacity.get(index).copied().unwrap_or(1.0);
        Self {
            region,
            rank,
            score: route.scoring.score(index, latency_ms, seen.utilisation),
            headroom: capacity * (1.0 - seen.utilisation).max(0.01),
            hash: mix(facts.client_key ^ table.seeds.get(index).copied().unwrap_or(0)),
            draw: 0.0,
        }
    }
}

/// Past every level: a client that is moved off a region comes back to it only as a last resort.
const MOVED_OFF: u32 = 1 << 24;

/// Sorts by rank and score, then lets the hash arrange those of each rank that are near its best.
fn order(candidates: &mut [Candidate]) {
    candidates.sort_unstable_by(|a, b| a.rank.cmp(&b.rank).then(b.score.total_cmp(&a.score)).then(b.hash.cmp(&a.hash)));
    let mut rest = candidates;
    while let Some(best) = rest.first() {
        let (rank, floor) = (best.rank, best.score - TIE_MARGIN);
        let level = rest.iter().take_while(|candidate| candidate.rank == rank).count();
        let tied = rest.iter().take(level).take_while(|candidate| candidate.score >= floor).count();
        let (this_level, later) = rest.split_at_mut(level);
        if let Some(tied) = this_level.get_mut(..tied).filter(|tied| tied.len() > 1) {
            for candidate in &mut *tied {
                candidate.draw = draw(candidate.hash, candidate.headroom);
            }
            tied.sort_unstable_by(|a, b| b.draw.total_cmp(&a.draw));
        }
        rest = later;
    }
}

/// Weighted rendezvous hashing (Schindelhauer, Schomaker 2005): the highest -weight/ln(u) wins
/// with a probability in proportion to its weight, which here is the region's headroom.
fn draw(hash: u64, headroom: f32) -> f64 {
    f64::from(-headroom) / libm::log(fraction(hash).min(1.0 - f64::EPSILON))
}
