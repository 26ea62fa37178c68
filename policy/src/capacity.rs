//! What the loss of a region would make of the others: who takes its clients, and how full that makes them.
//!
//! A decision says where a client goes, and no table says who the clients are. So a region's clients are taken to be
//! those of its own jurisdictions (of its country, where no jurisdiction has it), who come in at the region itself, in
//! equal parts for each country, route and kind of access. Each is decided twice: as things are, and with the region
//! down. Where they go then is a share of the region's load; what spills on from there is not followed.

use crate::country::{Country, CountrySet};
use crate::decide::decide_on_route;
use crate::facts::Facts;
use crate::hash::mix;
use crate::origin::Origin;
use crate::region::{AdminState, RegionId, RegionSet};
use crate::route::{Method, Payload, RouteId};
use crate::table::Table;
use crate::verdict::{Permits, Verdict};
use crate::view::{Health, RegionView, View, WithDown, Writes};

/// What becomes of a region's load when the region is lost, or drained.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The region.
    pub region: RegionId,
    /// The requests a second that it carries.
    pub load_rps: f64,
    /// Who takes them, the fullest first.
    pub takers: Vec<Taker>,
    /// The share of them, `0..=1`, that is refused.
    pub refused: f64,
}

/// A region that takes a part of another's load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taker {
    /// The region.
    pub region: RegionId,
    /// Its part of the load, `0..=1`.
    pub share: f64,
    /// The share of its capacity in use then, 1 full; `None` where the table does not say its capacity.
    pub utilisation: Option<f64>,
}

/// The share of its capacity that each region which takes clients is assumed to carry where nothing is measured: a
/// region that is planned for the loss of one of three has a third to spare.
pub const ASSUMED_UTILISATION: f64 = 0.7;

/// Returns what the loss of each region would cost the others by the table alone: all are up, and those that take
/// clients carry [`ASSUMED_UTILISATION`] of their capacity. Regions without clients, or without a known capacity, are
/// left out.
pub fn losses_at_rest(table: &Table) -> Vec<Loss> {
    let view = vec![RegionView::default(); table.spec().regions.len()];
    let spreads = spreads(table, view.as_slice());
    let carrying: RegionSet = spreads.iter().map(|(region, _)| *region).collect();
    let utilisation = |id| if carrying.contains(id) { ASSUMED_UTILISATION } else { 0.0 };
    spreads.into_iter().filter_map(|(region, spread)| spread.weigh(table, region, &utilisation)).collect()
}

/// Returns what the loss of each region would cost the others at this moment. `utilisation` is the share of its
/// capacity that a region carries. A region that is down has no clients to lose.
pub fn losses(table: &Table, view: &(impl View + ?Sized), utilisation: impl Fn(RegionId) -> f64) -> Vec<Loss> {
    let spreads = spreads(table, view).into_iter();
    spreads.filter_map(|(region, spread)| spread.weigh(table, region, &utilisation)).collect()
}

/// Where the clients of one region go without it, counted.
#[derive(Debug, Default)]
struct Spread {
    clients: u32,
    refused: u32,
    to: Vec<(RegionId, u32)>,
}

impl Spread {
    fn add(&mut self, next: Option<RegionId>) {
        self.clients += 1;
        let Some(next) = next else {
            self.refused += 1;
            return;
        };
        match self.to.iter_mut().find(|(region, _)| *region == next) {
            Some((_, count)) => *count += 1,
            None => self.to.push((next, 1)),
        }
    }

    fn weigh(self, table: &Table, lost: RegionId, utilisation: &impl Fn(RegionId) -> f64) -> Option<Loss> {
        let load_rps = table.region(lost).capacity_rps? * utilisation(lost);
        let share = |count: u32| f64::from(count) / f64::from(self.clients);
        let taker = |(region, count): &(RegionId, u32)| {
            let (region, share) = (*region, share(*count));
            let capacity = table.region(region).capacity_rps;
            let utilisation = capacity.map(|capacity| utilisation(region) + share * load_rps / capacity);
            Taker { region, share, utilisation }
        };
        let mut takers: Vec<Taker> = self.to.iter().map(taker).collect();
        takers.sort_by(|one, other| {
            let key = |taker: &Taker| taker.utilisation.unwrap_or(0.0);
            key(other).total_cmp(&key(one)).then_with(|| one.region.cmp(&other.region))
        });
        Some(Loss { region: lost, load_rps, takers, refused: share(self.refused) })
    }
}

fn spreads(table: &Table, view: &(impl View + ?Sized)) -> Vec<(RegionId, Spread)> {
    // What an emergency refuses comes back with its end, and is to be carried then.
    let table = &*table.without_emergency();
    let requests = requests(table);
    let each = (SAMPLES / table.spec().regions.len()).clamp(256, 4096);
    let lost = table.regions().filter(|(_, one)| one.capacity_rps.is_some() && one.state == AdminState::Serving);
    let spreads = lost.map(|(id, _)| (id, spread(table, id, view, &requests, each)));
    spreads.filter(|(_, spread)| spread.clients > 0).collect()
}

/// Returns a request of each kind of access that a route's methods can have.
fn requests(table: &Table) -> Vec<(RouteId, Method)> {
    let routes = table.spec().routes.iter().enumerate();
    let of_route = routes.flat_map(|(index, route)| {
        let id = RouteId(index as u32);
        let can = move |method: &Method| route.methods.is_none_or(|methods| methods.contains(*method));
        let read = [Method::Get, Method::Head, Method::Options].into_iter().find(can);
        let write = [Method::Post, Method::Put, Method::Patch, Method::Delete].into_iter().find(can);
        read.into_iter().chain(write).map(move |method| (id, method))
    });
    of_route.collect()
}

/// Decides `count` requests of a region's own clients, and where those that it would get go without it.
fn spread(
    table: &Table,
    lost: RegionId,
    view: &(impl View + ?Sized),
    requests: &[(RouteId, Method)],
    count: usize,
) -> Spread {
    let countries: Vec<Country> = home_of(table, lost).iter().collect();
    let mut spread = Spread::default();
    let without = Without::new(table, lost, view);
    for index in 0..count {
        // The same clients each time, and another one for each request.
        let client_key = mix(index as u64 ^ CLIENTS);
        let drawn = |seed: u64, among: usize| (mix(client_key ^ seed) % among as u64) as usize;
        let (Some((route, method)), Some(country)) = (
            (!requests.is_empty()).then(|| requests[drawn(1, requests.len())]),
            (!countries.is_empty()).then(|| countries[drawn(2, countries.len())]),
        ) else {
            break;
        };
        let facts = Facts {
            host: "",
            path: "/",
            method,
            payload: Payload::Nothing,
            origin: Origin::Country(country),
            declared: &[],
            consent: false,
            client_at: None,
            client_key,
            from: lost,
            pinned: None,
            only: None,
            criticality: None,
        };
        let first = |permits: &Permits| permits.first();
        if forwarded(decide_on_route(table, route, &facts, view)).as_ref().map(first) == Some(lost) {
            spread.add(forwarded(decide_on_route(table, route, &facts, &without)).as_ref().map(first));
        }
    }
    spread
}

/// A view without a region, in which the standbys that then have nobody to stand in for who is up are promoted, and have
/// the writes that they take over: what is left once that is done, and not what is refused until then.
struct Without<'a, V: ?Sized> {
    view: WithDown<'a, V>,
    promoted: RegionSet,
    /// Of these, those that take writes over.
    taking: RegionSet,
}

impl<'a, V: View + ?Sized> Without<'a, V> {
    fn new(table: &Table, lost: RegionId, view: &'a V) -> Self {
        let view = WithDown { view, down: [lost].into_iter().collect() };
        let serves =
            |id: &RegionId| table.region(*id).state == AdminState::Serving && view.region(*id).health == Health::Up;
        let all_lost = |id: &RegionId| table.stands_in_for(*id).is_some_and(|set| !set.iter().any(|id| serves(&id)));
        let promoted: RegionSet = table.regions().map(|(id, _)| id).filter(all_lost).collect();
        let taking = table.write_pairs().map(|pair| pair.standby).filter(|id| promoted.contains(*id)).collect();
        Self { view, promoted, taking }
    }
}

impl<V: View + ?Sized> View for Without<'_, V> {
    fn region(&self, id: RegionId) -> RegionView {
        let seen = self.view.region(id);
        if !self.promoted.contains(id) {
            return seen;
        }
        let writes = if self.taking.contains(id) { Writes::Granted } else { seen.writes };
        RegionView { promoted: true, writes, ..seen }
    }

    fn table_expired(&self) -> bool {
        self.view.table_expired()
    }
}

fn forwarded(verdict: Verdict) -> Option<Permits> {
    match verdict {
        Verdict::Forward(permits) => Some(permits),
        Verdict::Refuse(_) => None,
    }
}

/// Returns the countries whose clients a region is for.
fn home_of(table: &Table, region: RegionId) -> CountrySet {
    let jurisdictions = table.jurisdictions_around(region).map(|id| *table.spec().jurisdictions[id.0].countries.now());
    let own: CountrySet = [table.region(region).country].into_iter().collect();
    jurisdictions.fold(own, |all, some| all.iter().chain(some.iter()).collect())
}

/// About how many clients are decided for a whole table: shares are right to a few percent, in some tenths of a
/// second for 64 regions.
const SAMPLES: usize = 64 * 1024;

/// Sets these clients' hashes apart from real ones.
const CLIENTS: u64 = u64::from_be_bytes(*b"capacity");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jurisdiction::Transfer;
    use crate::region::{Region, Role, Standby};
    use crate::sample;

    /// Two regions of each of two jurisdictions, whose data stays there; the second of each is warm.
    fn table() -> Table {
        let region = |name, country, capacity: f64, role: Role| Region {
            capacity_rps: Some(capacity),
            role,
            priority: role.default_priority(),
            ..sample::region(name, country)
        };
        let mut spec = sample::spec(vec![
            region("east", "US", 50_000.0, Role::Active),
            region("west", "US", 25_000.0, Role::Warm),
            region("ie", "IE", 30_000.0, Role::Active),
            region("de", "DE", 10_000.0, Role::Warm),
        ]);
        spec.jurisdictions = vec![sample::jurisdiction("us", &["US"]), sample::jurisdiction("eu", &["@EU"])];
        spec.data_classes.push(sample::class("personal", Transfer::Allowed));
        spec.rules =
            vec![sample::rule(0, 1, &["US"], Transfer::Prohibited), sample::rule(1, 1, &["@EU"], Transfer::Prohibited)];
        spec.routes = vec![sample::route("all", "/", 1)];
        Table::new(spec).expect("a table")
    }

    fn told(table: &Table, losses: &[Loss]) -> Vec<String> {
        let name = |id: RegionId| table.region(id).name.as_str();
        let taker = |taker: &Taker| {
            let percent = taker.utilisation.map(|full| (full * 100.0).round());
            format!("{} {:.0} % to {percent:?}", name(taker.region), taker.share * 100.0)
        };
        let line = |loss: &Loss| {
            let takers: Vec<String> = loss.takers.iter().map(taker).collect();
            format!(
                "{} {:.0}: {}; {:.0} % refused",
                name(loss.region),
                loss.load_rps,
                takers.join(", "),
                loss.refused * 100.0
            )
        };
        losses.iter().map(line).collect()
    }

    #[test]
    fn a_lost_regions_load_goes_where_its_clients_may() {
        let table = table();
        assert_eq!(
            told(&table, &losses_at_rest(&table)),
            ["east 35000: west 100 % to Some(140.0); 0 % refused", "ie 21000: de 100 % to Some(210.0); 0 % refused"],
            "a warm region has no clients to lose"
        );
    }

    /// An emergency ends, and what it refuses is to be carried then.
    #[test]
    fn an_emergency_takes_no_load_off() {
        let mut spec = table().spec().clone();
        let routes_off = vec![RouteId(0)];
        spec.emergency = Some(crate::emergency::EmergencySpec { routes_off, ..Default::default() });
        let off = Table::new(spec).expect("a table");
        assert!(off.emergency().is_some());
        assert_eq!(told(&off, &losses_at_rest(&off)), told(&table(), &losses_at_rest(&table())));
        let view = vec![RegionView::default(); 4];
        let losses = |table: &Table| told(table, &super::losses(table, view.as_slice(), |_| 0.5));
        assert_eq!((losses(&off), losses(&off).len()), (losses(&table()), 2));
    }

    #[test]
    fn the_load_and_the_health_of_the_moment_count() {
        let table = table();
        let mut view = vec![RegionView::default(); 4];
        view[3].health = Health::Down;
        let loads = [0.5, 0.1, 0.9, 0.0];
        let losses = losses(&table, view.as_slice(), |id| loads[id.index()]);
        assert_eq!(
            told(&table, &losses),
            ["east 25000: west 100 % to Some(110.0); 0 % refused", "ie 27000: ; 100 % refused"]
        );
        view[0].health = Health::Down;
        let losses = super::losses(&table, view.as_slice(), |id| loads[id.index()]);
        assert_eq!(
            losses.iter().map(|loss| loss.region.index()).collect::<Vec<_>>(),
            [1, 2],
            "whose clients they are now"
        );
    }

    #[test]
    fn a_standby_takes_the_clients_of_the_region_that_it_stands_in_for() {
        let mut spec = table().spec().clone();
        (spec.rules, spec.regions[3].state) = (Vec::new(), AdminState::Disabled);
        let of = |of: &str| {
            Some(Standby { promote_after: std::time::Duration::ZERO, of: vec![of.to_owned()], writes: None })
        };
        for (names, takers) in [("east", ["west", "east"]), ("ie", ["ie", "west"])] {
            // In its primary's place, once it is promoted.
            spec.regions[1] = Region { standby: of(names), priority: 0, ..spec.regions[1].clone() };
            spec.latency_ms = vec![(RegionId(0), RegionId(1), 10.0), (RegionId(2), RegionId(1), 10.0)];
            let table = Table::new(spec.clone()).expect("a table");
            let losses = losses_at_rest(&table);
            let first = losses.iter().map(|loss| table.region(loss.takers[0].region).name.as_str());
            assert_eq!(first.collect::<Vec<_>>(), takers, "a standby of {names}");
        }
    }

    #[test]
    fn regions_of_unknown_capacity_take_and_lose_nothing_that_could_be_told() {
        let mut spec = table().spec().clone();
        spec.regions[1].capacity_rps = None;
        spec.regions[2].capacity_rps = None;
        let table = Table::new(spec).expect("a table");
        assert_eq!(told(&table, &losses_at_rest(&table)), ["east 35000: west 100 % to None; 0 % refused"]);
    }
}
