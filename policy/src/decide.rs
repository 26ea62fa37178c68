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
use crate::score::latency_points;
use crate::table::{Constants, Table};
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
    let prior_points = table.prior_points(facts.from);
    let mut places: SmallVec<[Place; 64]> = SmallVec::new();
    for region in eligible_at_rest(table, route, access, facts, &allowed).iter() {
        let seen = view.region(region);
        if can_serve(route, access, &seen, || latency_ms(table, facts.from, region, &seen)) {
            let rank = rank(table, facts, &allowed, region, &seen);
            let latency = seen.rtt_ms.map_or(prior_points[region.index()], latency_points);
            let score = route.scoring.score(region.index(), latency, seen.utilisation);
            places.push(Place::new(rank, score, region));
        }
    }
    if places.is_empty() {
        return Verdict::Refuse(refusal(table, id, facts, &allowed));
    }
    places.sort_unstable();
    share_ties(&mut places, |region| {
        let Constants { seed, capacity, .. } = *table.constants(region);
        let headroom = capacity * (1.0 - view.region(region).utilisation).max(0.01);
        (mix(facts.client_key ^ seed), headroom)
    });
    Verdict::Forward(Permits {
        route: id,
        order: places.iter().map(|place| place.region()).collect(),
        safeguarded: allowed.safeguarded,
    })
}

/// Whether a table's law allows a region for this request: nothing else of a decision. The check
/// before each dial that does not depend on how the region was chosen.
pub fn is_lawful(table: &Table, facts: &Facts<'_>, region: RegionId) -> bool {
    table.find_route(facts.host, facts.path, facts.method).is_some_and(|id| {
        let route = table.route(id);
        lawful(table, route.spec.data_class, route.access(facts.method), facts).all().contains(region)
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
pub(crate) fn can_serve(route: &Route, access: Access, seen: &RegionView, latency_ms: impl FnOnce() -> f32) -> bool {
    let near = route.spec.max_latency.is_none() || !too_far(route, latency_ms());
    seen.health != Health::Down && near && !too_stale(route, access, seen)
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
    let rank = table.constants(region).rank;
    if allowed.opened.contains(region) { table.distinct_ranks + rank } else { rank }
}

/// Whether the region's weight, or its ramp, moves this client off it.
pub(crate) fn moved_off(table: &Table, region: RegionId, seen: &RegionView, client_key: u64) -> bool {
    let ramp = match seen.health {
        Health::Ramping(percent) => u32::from(percent.min(100)),
        Health::Up | Health::Down => 100,
    };
    let Constants { seed, weight, .. } = *table.constants(region);
    let share = u32::from(weight) * ramp;
    share < 10_000 && fraction(mix(client_key ^ seed ^ WEIGHT_SALT)) * 10_000.0 > f64::from(share)
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

/// The rank of a region for a client, lower first: where it is pinned; the law's own regions by
/// priority, those that the client is moved off last; and then likewise the regions that the law
/// opens on a condition. A weight never prefers an opened region to one of the law's own.
fn rank(table: &Table, facts: &Facts<'_>, allowed: &Allowed, region: RegionId, seen: &RegionView) -> u16 {
    if facts.pinned == Some(region) {
        return 0;
    }
    // At most 1024 priorities, which leaves the highest bits free.
    let Constants { rank, .. } = *table.constants(region);
    let opened = if allowed.opened.contains(region) { 1 << 15 } else { 0 };
    let moved = if moved_off(table, region, seen, facts.client_key) { 1 << 14 } else { 0 };
    1 + rank + opened + moved
}

/// A region's place among the candidates: rank, then score from the highest, then id, packed into
/// one integer so that the order is that of integers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

impl Place {
    /// `score` is not negative, and so the order of its bits is its own.
    fn new(rank: u16, score: f32, region: RegionId) -> Self {
        Self(u64::from(rank) << 48 | u64::from(!score.to_bits()) << 16 | u64::from(region.0))
    }

    fn rank(self) -> u16 {
        (self.0 >> 48) as u16
    }

    fn score(self) -> f32 {
        f32::from_bits(!((self.0 >> 16) as u32))
    }

    fn region(self) -> RegionId {
        RegionId(self.0 as u16)
    }
}

/// Lets the hash arrange those of each rank whose score is near its best. `draw` gives a region's
/// hash for this client, and its headroom.
fn share_ties(places: &mut [Place], draw: impl Fn(RegionId) -> (u64, f32)) {
    let mut rest = places;
    while let Some(best) = rest.first() {
        let (rank, floor) = (best.rank(), best.score() - TIE_MARGIN);
        let level = rest.iter().take_while(|place| place.rank() == rank).count();
        let tied = rest.iter().take(level).take_while(|place| place.score() >= floor).count();
        let (this_level, later) = rest.split_at_mut(level);
        if let Some(tied) = this_level.get_mut(..tied).filter(|tied| tied.len() > 1) {
            for place in &mut *tied {
                let (hash, headroom) = draw(place.region());
                *place = Place::new(rank, rendezvous(hash, headroom), place.region());
            }
            tied.sort_unstable();
        }
        rest = later;
    }
}

/// Weighted rendezvous hashing (Schindelhauer, Schomaker 2005): the highest -weight/ln(u) wins
/// with a probability in proportion to its weight, which here is the region's headroom. Any base of
/// the logarithm gives the same order.
fn rendezvous(hash: u64, headroom: f32) -> f32 {
    headroom / minus_log2(hash).max(f32::EPSILON)
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

    #[test]
    fn places_sort_by_rank_then_score() {
        let place = |rank, score, id| Place::new(rank, score, RegionId(id));
        let mut places = [place(1, 10.0, 0), place(0, 5.0, 1), place(1, 99.5, 2), place(0x8001, 100.0, 3)];
        places.sort_unstable();
        assert_eq!(places.map(|place| place.region().0), [1, 2, 0, 3]);
        assert_eq!((places[1].rank(), places[1].score()), (1, 99.5));
    }
}
