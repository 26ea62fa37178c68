//! Routes by what the law and the regions see of them.

use rustc_hash::{FxHashMap, FxHashSet};

use super::finding::Finding;
use super::request::{Part, Request};
use crate::failover::FailoverScope;
use crate::jurisdiction::{ClassId, JurisdictionId};
use crate::region::{Access, AdminState, Region, RegionId, RegionSet};
use crate::route::{HostPattern, Method, PathPattern, Payload, RouteId, RouteSpec};
use crate::table::{Table, TableSpec};

/// Routes that differ in nothing that decides *whether* a region serves.
pub(super) struct Kind {
    pub(super) class: ClassId,
    pub(super) jurisdictions: Vec<JurisdictionId>,
    /// Whether consent can reach it.
    pub(super) takes_consent: bool,
    /// Whether more jurisdictions can be declared on it.
    pub(super) takes_declared: bool,
    /// How far they may go from their first choice.
    pub(super) failover: FailoverScope,
    /// Regions that can serve each access: capability, required compliance, not disabled.
    able: [RegionSet; 2],
    /// A request of each access to the first of the routes, where there can be one.
    samples: [Option<Request>; 2],
    pub(super) routes: Vec<RouteId>,
}

/// All routes by kind, and what is wrong with some.
pub(super) struct Routing {
    /// Those under the same law side by side.
    pub(super) kinds: Vec<Kind>,
    /// The regions that drain: they serve nobody who is not pinned there.
    pub(super) draining: RegionSet,
    /// What the specification makes of each route, by access.
    pub(super) able: Vec<[RegionSet; 2]>,
    /// A request of each route that has one.
    pub(super) requests: Vec<Option<Request>>,
    pub(super) findings: Vec<Finding>,
}

impl Kind {
    /// Returns what the law sees.
    pub(super) fn law(&self) -> (ClassId, &[JurisdictionId]) {
        (self.class, &self.jurisdictions)
    }

    pub(super) fn able(&self, access: Access) -> &RegionSet {
        &self.able[access as usize]
    }

    /// Returns a request of that access.
    pub(super) fn sample(&self, access: Access) -> Option<&Request> {
        self.samples[access as usize].as_ref()
    }

    /// Returns the kinds of access that its requests can have.
    pub(super) fn accesses(&self) -> impl Iterator<Item = (Access, &Request)> {
        [Access::Read, Access::Write].into_iter().filter_map(|access| Some((access, self.sample(access)?)))
    }

    /// Returns those that they have without a payload where none is usual. Nearly every route that is read could be
    /// asked for a WebSocket, or with content, and few are: nobody misses a region for it.
    pub(super) fn usual_accesses(&self) -> impl Iterator<Item = (Access, &Request)> {
        self.accesses().filter(|(_, request)| request.payload == Payload::Nothing)
    }

    pub(super) fn part(&self, access: Access) -> Part {
        match access {
            _ if self.usual_accesses().count() < 2 => Part::All,
            Access::Read => Part::Reads,
            Access::Write => Part::Writes,
        }
    }
}

impl Routing {
    pub(super) fn new(table: &Table) -> Self {
        let spec = table.spec();
        let label = unused_label(spec);
        let mut able_by: FxHashMap<&[String], [RegionSet; 2]> = FxHashMap::default();
        let mut places = FxHashMap::default();
        let draining = regions(spec, |region| region.state == AdminState::Draining);
        let mut all = Self { kinds: vec![], draining, able: vec![], requests: vec![], findings: vec![] };
        for (index, route) in spec.routes.iter().enumerate() {
            let id = RouteId(index as u32);
            let able = *able_by
                .entry(&route.require_compliance)
                .or_insert_with(|| [Access::Read, Access::Write].map(|access| able(spec, route, access)));
            let samples = match requests(table, id, &label) {
                Ok(samples) => samples,
                Err(takers) => {
                    all.findings.push(Finding::RouteUnreachable { route: id, takers });
                    [None, None]
                }
            };
            all.able.push(able);
            all.requests.push(samples.iter().flatten().next().cloned());
            if samples.iter().all(Option::is_none) {
                continue;
            }
            let mut jurisdictions = route.jurisdictions.clone();
            jurisdictions.sort_unstable();
            let takes_consent = route.consent_header.is_some() || route.consent_claim.is_some();
            let takes_declared = route.jurisdiction_header.is_some();
            let has = samples.each_ref().map(|sample| sample.as_ref().map(|request| request.payload));
            let key = (route.data_class, jurisdictions, takes_consent, takes_declared, able, has, route.failover);
            let place = *places.entry(key.clone()).or_insert_with(|| {
                let (class, jurisdictions, ..) = key;
                all.kinds.push(Kind {
                    class,
                    jurisdictions,
                    takes_consent,
                    takes_declared,
                    failover: route.failover,
                    able,
                    samples,
                    routes: vec![],
                });
                all.kinds.len() - 1
            });
            all.kinds[place].routes.push(id);
        }
        all.kinds.sort_by(|one, other| one.law().cmp(&other.law()));
        all
    }
}

/// Returns the regions that the specification lets serve a route's requests.
fn able(spec: &TableSpec, route: &RouteSpec, access: Access) -> RegionSet {
    regions(spec, |region| {
        let capable = match access {
            Access::Read => region.capabilities.read,
            Access::Write => {
                region.capabilities.write || region.standby.as_ref().is_some_and(|standby| standby.writes.is_some())
            }
        };
        let compliant = route.require_compliance.iter().all(|name| region.compliance.contains(name));
        capable && compliant && region.state != AdminState::Disabled
    })
}

fn regions(spec: &TableSpec, wanted: impl Fn(&Region) -> bool) -> RegionSet {
    let regions = spec.regions.iter().enumerate().filter(|(_, region)| wanted(region));
    regions.filter_map(|(index, _)| RegionId::new(index)).collect()
}

/// Returns a request of each access that falls under the route; or, when none does, the routes that take them.
fn requests(table: &Table, id: RouteId, label: &str) -> Result<[Option<Request>; 2], Vec<RouteId>> {
    let route = &table.spec().routes[id.0 as usize];
    let host = match &route.host {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Below(parent) => format!("{label}.{parent}"),
        HostPattern::Any => label.to_owned(),
    };
    // Below the prefix no other route can be more specific: the label is in none.
    let paths = match &route.path {
        PathPattern::Exact(path) => vec![path.clone()],
        PathPattern::Prefix(prefix) if prefix.is_empty() => vec!["/".to_owned(), format!("/{label}")],
        PathPattern::Prefix(prefix) => vec![prefix.clone(), format!("{prefix}/{label}")],
    };
    let mut samples: [Option<Request>; 2] = [None, None];
    let mut takers = Vec::new();
    let messages = Method::NAMED.map(|(_, method)| (method, Payload::Nothing));
    // Last: a read with a payload is a sample of writes only where nothing else writes.
    let with_payload = [
        (Method::Get, Payload::Tunnel),
        (Method::Get, Payload::Content),
        (Method::Head, Payload::Content),
        (Method::Options, Payload::Content),
    ];
    for (method, payload) in messages.into_iter().chain(with_payload) {
        if route.methods.is_some_and(|methods| !methods.contains(method)) {
            continue;
        }
        let access = match (route.access, method) {
            (Some(access), _) => access,
            (None, Method::Get | Method::Head | Method::Options) if payload == Payload::Nothing => Access::Read,
            (None, _) => Access::Write,
        };
        let found = |path: &&String| table.find_route(&host, path, method);
        if let Some(path) = paths.iter().find(|path| found(path) == Some(id)) {
            let request = || Request { route: id, host: host.clone(), path: path.clone(), method, payload, access };
            samples[access as usize].get_or_insert_with(request);
        } else if let Some(taker) = paths.last().as_ref().and_then(found)
            && !takers.contains(&taker)
        {
            takers.push(taker);
        }
    }
    if samples.iter().all(Option::is_none) { Err(takers) } else { Ok(samples) }
}

/// Returns a label that stands in no route's host or path, so that requests can be made that fall under no more
/// specific route.
fn unused_label(spec: &TableSpec) -> String {
    let mut used = FxHashSet::default();
    for route in &spec.routes {
        if let HostPattern::Exact(host) | HostPattern::Below(host) = &route.host {
            used.extend(host.split('.'));
        }
        let (PathPattern::Exact(path) | PathPattern::Prefix(path)) = &route.path;
        used.extend(path.split('/'));
    }
    let mut label = "any".to_owned();
    while used.contains(label.as_str()) {
        label.push_str("-x");
    }
    label
}
