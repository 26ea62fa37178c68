//! Steps 4 to 6 of the contract: which regions are eligible, and which is first.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::failover::FailoverScope;
use policy::hash::client_key;
use policy::region::{AdminState, Region, Role};
use policy::route::{Affinity, Criticality, RouteSpec, UnknownLag};
use policy::score::{CurveShape, LatencyCurve, LatencyFrom};
use policy::{Health, RegionView, Writes};

use super::book::{Book, Names, Request};
use super::law::{Law, Standing, reads};

/// The eligible regions, and what decides between them.
#[derive(Debug)]
pub struct Choice {
    contenders: BTreeMap<String, Contender>,
    /// A number was too near its border to tell which side of it single precision puts it.
    pub unclear: bool,
    /// How many regions the failover scope leaves out.
    pub scoped: usize,
}

/// What decides between a region and others.
#[derive(Debug)]
struct Contender {
    rank: Rank,
    score: f64,
    /// What its hash is weighted by.
    draw_weight: f64,
    /// Whether it is one of several that share clients whatever they score.
    has_share: bool,
    /// -log2 of its hash for this client, as a fraction.
    log: f64,
}

/// Lower is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    elsewhere_than_pinned: bool,
    opened: bool,
    cold: bool,
    moved_off: bool,
    spilled: bool,
    priority: u16,
}

/// What may be named next.
#[derive(Debug)]
pub struct Next {
    /// Any of these: more than one only where the arithmetic is too close to tell.
    pub acceptable: Names,
    /// Whether the hash had a say.
    pub drawn: bool,
}

/// Points within which candidates share clients.
const TIE_MARGIN: f64 = 5.0;

/// What single precision may make of a score.
const SCORE_ERROR: f64 = 1e-3;

/// What the quick logarithm may make of a hash.
const LOG_ERROR: f64 = 2.5e-4;

impl Choice {
    pub fn new(
        book: &Book<'_>,
        route: &RouteSpec,
        request: &Request,
        law: &Law,
        view: &dyn Fn(&str) -> RegionView,
    ) -> Self {
        let mut choice = Self::unscoped(book, route, request, law, view);
        if route.failover == FailoverScope::Any {
            return choice;
        }
        // "With every region up and idle, at the round trips that the table assumes."
        let unmeasured =
            Request { client_at: request.client_at.as_ref().map(|(at, _)| (*at, Vec::new())), ..request.clone() };
        let request = &unmeasured;
        let idle = RegionView { lag: Some(Duration::ZERO), ..RegionView::default() };
        // "A standby that takes writes over counts where nobody else could take them."
        let takes = |name: &str| match &book.region(name).standby {
            Some(standby) if standby.writes.is_some() => Writes::Granted,
            _ => Writes::AsDeclared,
        };
        let far = Self::unscoped(book, route, request, law, &|_| idle);
        let or_standby = Self::unscoped(book, route, request, law, &|name| RegionView { writes: takes(name), ..idle });
        let near = RegionView { rtt_ms: Some(0.0), ..idle };
        let all_near = Self::unscoped(book, route, request, law, &|_| near);
        let any_near = Self::unscoped(book, route, request, law, &|name| RegionView { writes: takes(name), ..near });
        let of_somebody = |choice: &Self| !choice.contenders.is_empty();
        let at_rest = [far, or_standby, all_near].into_iter().find(of_somebody).unwrap_or(any_near);
        choice.unclear |= at_rest.unclear;
        let Some(next) = at_rest.next(&Names::new()) else {
            choice.contenders.clear();
            return choice;
        };
        choice.unclear |= next.acceptable.len() > 1;
        let first = next.acceptable.first().expect("somebody");
        let before = choice.contenders.len();
        choice.contenders.retain(|name, _| name == first || in_scope(book, route, request, first, name));
        choice.scoped = before - choice.contenders.len();
        choice
    }

    fn unscoped(
        book: &Book<'_>,
        route: &RouteSpec,
        request: &Request,
        law: &Law,
        view: &dyn Fn(&str) -> RegionView,
    ) -> Self {
        let mut choice = Self { contenders: BTreeMap::new(), unclear: false, scoped: 0 };
        for region in &book.spec.regions {
            if !at_rest(route, request, law, region) {
                continue;
            }
            let seen = view(&region.name);
            let latency = seen.rtt_ms.map_or_else(|| prior_ms(book, &request.from, &region.name), f64::from);
            let (near_and_fresh, unclear) = near_and_fresh(book, route, request, &region.name, &seen);
            let scoring = &book.spec.scorings[route.scoring];
            choice.unclear |= unclear;
            if seen.health == Health::Down || !near_and_fresh {
                continue;
            }
            // Kept by its address, whatever the load and the latency of the moment, until the region is overloaded.
            let pressure = f64::from(seen.pressure);
            let (latency, utilisation) = match route.affinity {
                Affinity::ClientIp => (prior_ms(book, &request.from, &region.name), 0.0),
                Affinity::None | Affinity::Cookie(_) => (latency, f64::from(seen.utilisation)),
            };
            let latency = match (&request.client_at, scoring.latency_from) {
                (Some((at, excess_ms)), LatencyFrom::Client) => {
                    let at_index = book.spec.regions.iter().position(|one| one.name == region.name).expect("a region");
                    let measured = excess_ms.get(at_index).filter(|_| route.affinity != Affinity::ClientIp);
                    region.coordinates.map_or(150.0, |its| {
                        let km = kilometres(*at, its);
                        (km / 50.0 + 5.0 + f64::from(measured.copied().unwrap_or(0.0))).max(km / 100.0)
                    })
                }
                _ => latency,
            };
            choice.unclear |= at_a_step(&scoring.latency_curve, latency);
            let seed = client_key(region.name.as_bytes());
            let rank = Rank {
                elsewhere_than_pinned: request.pinned.as_deref() != Some(&region.name)
                    || seen.health == Health::Ramping(0),
                opened: law.is_opened(&region.name),
                cold: match &region.standby {
                    Some(_) => !seen.promoted,
                    None => region.role == Role::Cold,
                },
                moved_off: moved_off(region, seen.health, request.client_key ^ seed),
                spilled: choice.spilled(book, route, request, pressure, request.client_key ^ seed),
                priority: region.priority,
            };
            // What a pinned client is asked nothing of.
            let pinned = Rank { opened: false, cold: false, moved_off: false, spilled: false, priority: 0, ..rank };
            let shared = region.share.filter(|_| book.spec.scorings[route.scoring].shares);
            let hash = mixed(request.client_key ^ seed) | 1;
            choice.contenders.insert(
                region.name.clone(),
                Contender {
                    rank: if rank.elsewhere_than_pinned { rank } else { pinned },
                    score: score(book, route, region, latency, utilisation),
                    draw_weight: match shared {
                        Some(share) => f64::from(share),
                        None => capacity(book, region) * (1.0 - utilisation).max(0.01),
                    },
                    has_share: shared.is_some(),
                    log: 64.0 - (hash as f64).ln() / std::f64::consts::LN_2,
                },
            );
        }
        choice
    }

    pub fn eligible(&self) -> Names {
        self.contenders.keys().cloned().collect()
    }

    /// How many of the best share clients whatever they score.
    pub fn sharing(&self) -> usize {
        let best = self.contenders.values().map(|contender| contender.rank).min();
        self.contenders.values().filter(|contender| Some(contender.rank) == best && contender.has_share).count()
    }

    /// Whether some eligible region spills this client.
    pub fn spills(&self) -> bool {
        self.contenders.values().any(|contender| contender.rank.spilled)
    }

    /// Whether the weight of some eligible region moves this client off.
    pub fn moves_off(&self) -> bool {
        self.contenders.values().any(|contender| contender.rank.moved_off)
    }

    /// Who may come next, once some are named. `None` when nobody is left.
    pub fn next(&self, named: &Names) -> Option<Next> {
        let left = || self.contenders.iter().filter(|(name, _)| !named.contains(*name));
        let best = left().map(|(_, contender)| contender.rank).min()?;
        let of_the_best: Vec<_> = left().filter(|(_, contender)| contender.rank == best).collect();
        let highest = of_the_best.iter().map(|(_, contender)| contender.score).fold(f64::MIN, f64::max);
        // Shares go before scores.
        let margin = |contender: &Contender| match contender.has_share {
            true => TIE_MARGIN,
            false => contender.score - (highest - TIE_MARGIN),
        };
        let sure: Vec<_> = of_the_best.iter().filter(|(_, contender)| margin(contender) >= SCORE_ERROR).collect();
        let at_the_border = of_the_best.iter().filter(|(_, contender)| margin(contender).abs() < SCORE_ERROR);
        let drawn = |contender: &Contender, error: f64| contender.drawn(margin(contender) / TIE_MARGIN, error);
        let at_least = sure.iter().map(|(_, contender)| drawn(contender, LOG_ERROR)).fold(0.0, f64::max);
        let winners = sure.iter().filter(|(_, contender)| drawn(contender, -LOG_ERROR) >= at_least).copied();
        let acceptable = winners.chain(at_the_border).map(|(name, _)| (*name).clone()).collect();
        Some(Next { acceptable, drawn: sure.len() > 1 })
    }

    /// From the overload mark to full, the criticalities that requests have share the way, the lowest first; each spills in
    /// proportion. A request is as critical as its route, or less by a trusted word.
    fn spilled(&mut self, book: &Book<'_>, route: &RouteSpec, request: &Request, pressure: f64, hash: u64) -> bool {
        const MARK: f64 = 0.85;
        let own = request.criticality.map_or(route.criticality, |said| said.min(route.criticality));
        let mut bands = Vec::new();
        for criticality in [Criticality::Sheddable, Criticality::Default, Criticality::Critical] {
            let lowered = |route: &RouteSpec| book.spec.lowers_criticality && route.criticality > criticality;
            let has = |route: &RouteSpec| route.criticality == criticality || lowered(route);
            if criticality == own || book.spec.routes.iter().any(has) {
                bands.push(criticality);
            }
        }
        let width = (1.0 - MARK) / bands.len() as f64;
        let position = bands.iter().position(|band| *band == own).expect("a band") as f64;
        let share = (pressure - MARK - width * position) / width;
        let fraction = fraction(hash ^ u64::from_be_bytes(*b"spill!!!"));
        let outside = !(-1e-3..=1.001).contains(&share);
        self.unclear |= !outside && (fraction - share.clamp(0.0, 1.0)).abs() < 1e-4;
        fraction <= share
    }
}

impl Contender {
    /// Weighted rendezvous: share or headroom over -log of the hash, whose error may be `error`. The nearer the score to the
    /// best, from 0 at the margin to 1, the more of the headroom counts.
    fn drawn(&self, closeness: f64, error: f64) -> f64 {
        let relative = 1.0 - error.signum() * 1e-5;
        let closeness = closeness - error.signum() * SCORE_ERROR / TIE_MARGIN;
        let log = self.log + error;
        if log <= 0.0 { f64::MAX } else { relative * self.draw_weight * closeness / log }
    }
}

/// Whether a region could serve a request by the table alone.
pub fn at_rest(route: &RouteSpec, request: &Request, law: &Law, region: &Region) -> bool {
    let takes_over = region.standby.as_ref().is_some_and(|standby| standby.writes.is_some());
    let capable =
        if reads(route, request) { region.capabilities.read } else { region.capabilities.write || takes_over };
    let compliant = route.require_compliance.iter().all(|name| region.compliance.iter().any(|held| held == name));
    let open = match region.state {
        AdminState::Serving => true,
        AdminState::Draining => request.pinned.as_deref() == Some(&region.name),
        AdminState::Disabled => false,
    };
    let chosen = request.only.as_ref().is_none_or(|only| *only == region.name);
    law.standings[&region.name] != Standing::Forbidden && capable && compliant && open && chosen
}

/// Whether a request may go to a region when its first choice fails.
fn in_scope(book: &Book<'_>, route: &RouteSpec, request: &Request, first: &str, other: &str) -> bool {
    if route.failover == FailoverScope::Region {
        return false;
    }
    let country = |name: &str| book.region(name).country.code().to_owned();
    let mut shared = Vec::new();
    let mut shared_with_client = Vec::new();
    for (jurisdiction, countries) in &book.jurisdictions {
        if !countries.contains(&country(first)) {
            continue;
        }
        shared.push(countries);
        let by_route = route.jurisdictions.iter().any(|id| book.spec.jurisdictions[id.0].name == *jurisdiction);
        let of_client = request.countries.iter().flatten().any(|code| book.protected[jurisdiction].contains(code));
        if by_route || of_client || request.declared.contains(jurisdiction) {
            shared_with_client.push(countries);
        }
    }
    let asked = if shared_with_client.is_empty() { shared } else { shared_with_client };
    match asked.is_empty() {
        true => country(other) == country(first),
        false => asked.iter().all(|countries| countries.contains(&country(other))),
    }
}

/// Whether a region's data is older than a read may see it.
pub fn is_stale(route: &RouteSpec, region: &Region, seen: &RegionView, max: Duration) -> bool {
    let writes_here = match seen.writes {
        Writes::AsDeclared => region.role == Role::Active && region.capabilities.write,
        Writes::Granted => true,
        Writes::Withheld(_) => false,
    };
    match seen.lag {
        Some(lag) => lag > max,
        None => route.lag_unknown == UnknownLag::Ineligible && !writes_here,
    }
}

/// Whether a region is within the route's limits on latency and lag; and whether that is too close to tell.
pub fn near_and_fresh(
    book: &Book<'_>,
    route: &RouteSpec,
    request: &Request,
    region: &str,
    seen: &RegionView,
) -> (bool, bool) {
    let latency = seen.reach_ms.or(seen.rtt_ms).map_or_else(|| prior_ms(book, &request.from, region), f64::from);
    let over = route.max_latency.map(|max| latency - max.as_secs_f64() * 1000.0);
    let unclear = over.is_some_and(|over| over != 0.0 && over.abs() < SCORE_ERROR);
    let stale = route.max_replication_lag.is_some_and(|max| is_stale(route, book.region(region), seen, max));
    let has_writes = match seen.writes {
        Writes::AsDeclared => book.region(region).capabilities.write,
        Writes::Granted => true,
        Writes::Withheld(_) => false,
    };
    let serves = if reads(route, request) { !stale } else { has_writes };
    (over.is_none_or(|over| over <= 0.0) && serves, unclear)
}

/// The share of clients that a region keeps is its weight, and of those its ramp's.
fn moved_off(region: &Region, health: Health, hash: u64) -> bool {
    let ramp = match health {
        Health::Ramping(percent) => percent.min(100),
        Health::Up | Health::Down => 100,
    };
    let kept = u32::from(region.weight) * u32::from(ramp);
    kept < 10_000 && fraction(hash ^ u64::from_be_bytes(*b"weight!!")) * 10_000.0 > f64::from(kept)
}

fn score(book: &Book<'_>, route: &RouteSpec, region: &Region, latency_ms: f64, utilisation: f64) -> f64 {
    let scoring = &book.spec.scorings[route.scoring];
    let weights = &scoring.weights;
    let asked = &route.prefer_compliance;
    let held = asked.iter().filter(|name| region.compliance.iter().any(|held| held == *name)).count();
    let compliance = if asked.is_empty() { 100.0 } else { 100.0 * held as f64 / asked.len() as f64 };
    let highest = book.spec.regions.iter().map(|region| region.cost_per_gb).fold(0.0, f64::max);
    let cost = if highest > 0.0 { 100.0 * (1.0 - region.cost_per_gb / highest) } else { 100.0 };
    let load = 100.0 * (1.0 - utilisation.clamp(0.0, 1.0));
    let terms = [
        (weights.latency, latency_points(&scoring.latency_curve, latency_ms)),
        (weights.load, load),
        (weights.compliance, compliance),
        (weights.cost, cost),
    ];
    let whole: f64 = terms.iter().map(|(weight, _)| weight).sum();
    terms.iter().map(|(weight, points)| weight * points).sum::<f64>() / whole
}

/// Whether a round trip is too near a step to tell which side of it single precision puts it.
fn at_a_step(curve: &LatencyCurve, ms: f64) -> bool {
    let near = |knot: &(f64, f64)| knot.0 != ms && (knot.0 - ms).abs() < SCORE_ERROR;
    curve.shape() == CurveShape::Steps && curve.knots().iter().any(near)
}

fn latency_points(curve: &LatencyCurve, ms: f64) -> f64 {
    match (curve.name(), curve.shape()) {
        (Some("line"), _) => match ms {
            ms if ms <= 20.0 => 100.0,
            ms if ms <= 50.0 => 100.0 - (ms - 20.0) / 30.0 * 10.0,
            ms if ms <= 100.0 => 90.0 - (ms - 50.0) / 50.0 * 20.0,
            ms if ms <= 150.0 => 70.0 - (ms - 100.0) / 50.0 * 20.0,
            ms if ms <= 300.0 => 50.0 - (ms - 150.0) / 150.0 * 30.0,
            _ => 20.0,
        },
        (Some("steps"), _) => match ms {
            ms if ms < 20.0 => 100.0,
            ms if ms < 50.0 => 90.0,
            ms if ms < 100.0 => 70.0,
            ms if ms < 150.0 => 50.0,
            _ => 20.0,
        },
        (Some("point_per_10ms"), _) => (100.0 - ms / 10.0).max(0.0),
        (Some("point_per_ms"), _) => (100.0 - ms).max(0.0),
        (_, shape) => {
            let before = curve.knots().iter().rfind(|knot| knot.0 <= ms).or(curve.knots().first()).expect("a knot");
            match curve.knots().iter().find(|knot| knot.0 > ms).filter(|_| shape == CurveShape::Line) {
                Some(after) if after != before => {
                    let way = (ms - before.0) / (after.0 - before.0);
                    before.1 * (1.0 - way) + after.1 * way
                }
                _ => before.1,
            }
        }
    }
}

/// What the table knows of a round trip: given, the other way round, the great circle, 150 ms.
fn prior_ms(book: &Book<'_>, from: &str, to: &str) -> f64 {
    let given = |from: &str, to: &str| {
        let known = book.spec.latency_ms.iter().find(|(a, b, _)| book.name(*a) == from && book.name(*b) == to);
        known.map(|(_, _, ms)| *ms)
    };
    if let Some(ms) = given(from, to).or_else(|| given(to, from)) {
        return ms;
    }
    if from == to {
        return 1.0;
    }
    match (book.region(from).coordinates, book.region(to).coordinates) {
        (Some(a), Some(b)) => 2.0 * kilometres(a, b) / 100.0 + 5.0,
        _ => 150.0,
    }
}

/// The great circle, by the angle between two unit vectors.
fn kilometres(a: (f64, f64), b: (f64, f64)) -> f64 {
    let vector = |(latitude, longitude): (f64, f64)| {
        let (latitude, longitude) = (latitude.to_radians(), longitude.to_radians());
        [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()]
    };
    let (a, b) = (vector(a), vector(b));
    let dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let sine = cross.iter().map(|part| part * part).sum::<f64>().sqrt();
    6371.0 * sine.atan2(dot)
}

/// Requests per second; the mean of the known where a region's is not.
fn capacity(book: &Book<'_>, region: &Region) -> f64 {
    let known: Vec<f64> = book.spec.regions.iter().filter_map(|region| region.capacity_rps).collect();
    let typical = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
    region.capacity_rps.unwrap_or(typical)
}

/// A hash as a fraction above 0, up to 1: its highest 53 bits, mixed.
fn fraction(hash: u64) -> f64 {
    ((mixed(hash) / 2048) as f64 + 1.0) / 9_007_199_254_740_992.0
}

/// The finaliser of SplitMix64, in arithmetic that does not wrap.
fn mixed(hash: u64) -> u64 {
    let times = |a: u64, b: u64| (u128::from(a) * u128::from(b) % (1 << 64)) as u64;
    let once = times(hash ^ (hash / (1 << 30)), 0xbf58_476d_1ce4_e5b9);
    let twice = times(once ^ (once / (1 << 27)), 0x94d0_49bb_1331_11eb);
    twice ^ (twice / (1 << 31))
}
