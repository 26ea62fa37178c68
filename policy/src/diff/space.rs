//! Every pair of routes, before and after, that some request falls under.
//!
//! Which routes a request falls under depends on the patterns that hold for it and on nothing else.
//! So one request stands for all that the same patterns of both tables hold for: for each pattern a
//! request that it is the longest for. The routes are found by the tables' own look-up.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::region::Access;
use crate::route::{HostPattern, Method, MethodSet, PathPattern, RouteId, RouteSpec};
use crate::table::Table;

/// A pair of routes that some request falls under.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) old: Option<RouteId>,
    pub(super) new: Option<RouteId>,
    /// Some of the requests, as patterns; at most [`SAMPLES`].
    pub(super) at: Vec<String>,
    /// The methods of all of them.
    pub(super) methods: Vec<Method>,
}

/// The pairs of two tables.
pub(super) struct Pairs {
    /// In the order of the patterns in the tables, the old one's first. Past [`MOST_PAIRS`] only those
    /// that the law tells apart from all before them.
    pub(super) list: Vec<Pair>,
    /// Routes of the new table that some request falls under.
    pub(super) reached: FxHashSet<RouteId>,
}

/// Returns every pair.
pub(super) fn pairs(old: &Table, new: &Table) -> Pairs {
    let space = Space::new(old, new);
    let mut found = Found::new(old, new);
    for place in &space.hosts {
        let own = |table: &Table, id: Option<RouteId>| id.is_some_and(|id| table.route(id).spec.host == *place.host);
        for (path, sample) in &place.paths {
            let mut one_sided = false;
            for (index, methods) in space.methods.iter().enumerate() {
                let pair = space.resolve(&place.sample, sample, methods);
                one_sided |= own(old, pair.0) != own(new, pair.1);
                found.add(pair, (place.host, path), (index, methods));
            }
            // Where this host's own routes decide in one table only, the wider hosts' do in the other.
            let wider = space.wider(place.host).filter(|_| one_sided).flat_map(|wider| &wider.paths);
            for (inner, sample) in wider.filter(|(inner, _)| lies_in(inner, path)) {
                for (index, methods) in space.methods.iter().enumerate() {
                    found.add(space.resolve(&place.sample, sample, methods), (place.host, inner), (index, methods));
                }
            }
        }
    }
    Pairs { list: found.pairs, reached: found.reached }
}

/// Returns a request pattern in words: `api.example.com/v3/*`.
pub(super) fn in_words(host: &HostPattern, path: &PathPattern) -> String {
    let host = match host {
        HostPattern::Any => String::new(),
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Below(parent) => format!("*.{parent}"),
    };
    match path {
        PathPattern::Exact(path) => format!("{host}{path}"),
        PathPattern::Prefix(path) => format!("{host}{path}/*"),
    }
}

/// The patterns of both tables.
struct Space<'a> {
    old: &'a Table,
    new: &'a Table,
    hosts: Vec<Place<'a>>,
    by_host: FxHashMap<&'a HostPattern, usize>,
    /// Methods that no route of either table tells apart.
    methods: Vec<Vec<Method>>,
}

/// A host pattern with its paths in both tables.
struct Place<'a> {
    host: &'a HostPattern,
    /// A host that it is the longest for.
    sample: String,
    /// Each with a path that it is the longest for.
    paths: Vec<(&'a PathPattern, String)>,
}

impl<'a> Space<'a> {
    fn new(old: &'a Table, new: &'a Table) -> Self {
        let routes = || old.spec().routes.iter().chain(&new.spec().routes);
        let mut hosts: Vec<Place<'a>> = Vec::new();
        let mut by_host: FxHashMap<&HostPattern, usize> = FxHashMap::default();
        let mut seen: FxHashSet<(&HostPattern, &PathPattern)> = FxHashSet::default();
        for RouteSpec { host, path, .. } in routes() {
            let index = *by_host.entry(host).or_insert_with(|| {
                hosts.push(Place { host, sample: sample_host(host), paths: Vec::new() });
                hosts.len() - 1
            });
            if seen.insert((host, path)) {
                hosts[index].paths.push((path, sample_path(path)));
            }
        }
        Self { old, new, hosts, by_host, methods: method_classes(routes()) }
    }

    /// Returns the routes of a request, before and after.
    fn resolve(&self, host: &str, path: &str, methods: &[Method]) -> (Option<RouteId>, Option<RouteId>) {
        let method = methods.first().copied().unwrap_or(Method::Other);
        (self.old.find_route(host, path, method), self.new.find_route(host, path, method))
    }

    /// Returns the host patterns that hold for every host of this one, other than itself.
    fn wider(&self, host: &HostPattern) -> impl Iterator<Item = &Place<'a>> {
        let name = match host {
            HostPattern::Any => None,
            HostPattern::Exact(name) | HostPattern::Below(name) => Some(name.as_str()),
        };
        let parents = std::iter::successors(name, |name| Some(name.split_once('.')?.1)).skip(1);
        let below = parents.map(|parent| HostPattern::Below(parent.to_owned()));
        let any = name.map(|_| HostPattern::Any);
        below.chain(any).filter_map(|wider| self.hosts.get(*self.by_host.get(&wider)?))
    }
}

/// Returns a host that this pattern is the longest for: no name has a `*`.
fn sample_host(host: &HostPattern) -> String {
    match host {
        HostPattern::Any => "*".to_owned(),
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Below(parent) => format!("*.{parent}"),
    }
}

/// Returns a path that this pattern is the longest for: no path of a table has a NUL.
fn sample_path(path: &PathPattern) -> String {
    match path {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(path) => format!("{path}/\0"),
    }
}

/// Returns whether a path, or a part of what is below it, is below another.
fn lies_in(inner: &PathPattern, outer: &PathPattern) -> bool {
    let (PathPattern::Exact(inner) | PathPattern::Prefix(inner)) = inner;
    match outer {
        PathPattern::Exact(outer) => inner == outer,
        PathPattern::Prefix(outer) => {
            inner.strip_prefix(outer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

fn method_classes<'a>(routes: impl Iterator<Item = &'a RouteSpec>) -> Vec<Vec<Method>> {
    let mut sets: Vec<MethodSet> = Vec::new();
    routes.filter_map(|route| route.methods).for_each(|set| {
        if !sets.contains(&set) {
            sets.push(set);
        }
    });
    let mut classes: Vec<(Vec<bool>, Vec<Method>)> = Vec::new();
    for method in Method::NAMED.map(|(_, method)| method).into_iter().chain([Method::Other]) {
        let holding: Vec<bool> = sets.iter().map(|set| set.contains(method)).collect();
        match classes.iter_mut().find(|(known, _)| *known == holding) {
            Some((_, members)) => members.push(method),
            None => classes.push((holding, vec![method])),
        }
    }
    classes.into_iter().map(|(_, members)| members).collect()
}

/// The pairs found so far.
struct Found {
    pairs: Vec<Pair>,
    by_routes: FxHashMap<(Option<RouteId>, Option<RouteId>), usize>,
    reached: FxHashSet<RouteId>,
    /// For each route of the old table and of the new one, what the law asks of it, as a number.
    kinds: [Vec<usize>; 2],
    /// The kinds of pairs, with their class of methods, that are among the pairs.
    told: FxHashSet<([Option<usize>; 2], usize)>,
}

impl Found {
    fn new(old: &Table, new: &Table) -> Self {
        Self {
            pairs: Vec::new(),
            by_routes: FxHashMap::default(),
            reached: FxHashSet::default(),
            kinds: [old, new].map(|table| kinds(&table.spec().routes)),
            told: FxHashSet::default(),
        }
    }

    fn add(
        &mut self,
        (old, new): (Option<RouteId>, Option<RouteId>),
        (host, path): (&HostPattern, &PathPattern),
        (class, methods): (usize, &[Method]),
    ) {
        self.reached.extend(new);
        let [old_kinds, new_kinds] = &self.kinds;
        let kind = |kinds: &[usize], id: Option<RouteId>| id.and_then(|id| kinds.get(id.0 as usize).copied());
        let first_of_its_kind = self.told.insert(([kind(old_kinds, old), kind(new_kinds, new)], class));
        let known = self.by_routes.get(&(old, new)).copied();
        if known.is_none() && self.pairs.len() >= MOST_PAIRS && !first_of_its_kind {
            return;
        }
        let index = known.unwrap_or_else(|| {
            self.pairs.push(Pair { old, new, at: Vec::new(), methods: Vec::new() });
            self.by_routes.insert((old, new), self.pairs.len() - 1);
            self.pairs.len() - 1
        });
        let pair = &mut self.pairs[index];
        if pair.at.len() < SAMPLES {
            let words = in_words(host, path);
            if !pair.at.contains(&words) {
                pair.at.push(words);
            }
        }
        methods.iter().for_each(|method| {
            if !pair.methods.contains(method) {
                pair.methods.push(*method);
            }
        });
    }
}

/// Numbers the routes by what the law asks of them.
fn kinds(routes: &[RouteSpec]) -> Vec<usize> {
    let mut known = FxHashMap::default();
    let mut kind = |route: &RouteSpec| {
        let heard = [&route.consent_header, &route.consent_claim, &route.jurisdiction_header].map(Clone::clone);
        let reads = route.access.map(|access| access == Access::Read);
        let asked = (route.data_class, route.jurisdictions.clone(), route.require_compliance.clone(), heard, reads);
        let next = known.len();
        *known.entry(asked).or_insert(next)
    };
    routes.iter().map(&mut kind).collect()
}

/// As many patterns as anybody reads.
const SAMPLES: usize = 5;

/// More than two tables of the usual kind make; thousands of new hosts over thousands of routes for
/// any host would make millions.
const MOST_PAIRS: usize = 100_000;
