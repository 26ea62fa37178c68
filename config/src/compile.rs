//! Compiles a routing table's text into the policy's table: checks everything, reports all problems.

mod affinity;
mod canary;
mod concurrency;
mod control;
mod countries;
mod data_class;
mod emergency;
mod failover;
mod frameworks;
mod health;
mod jurisdiction;
mod latency;
pub(crate) mod list;
mod names;
mod operator;
mod page;
mod pattern;
mod period;
mod proof;
mod region;
mod residency;
mod residency_defaults;
mod retry;
mod route;
mod scoring;
mod selector;
mod split;
mod standby;
mod traffic_class;

use std::path::{Path, PathBuf};

use policy::affinity::AffinityKey;
use policy::jurisdiction::DataClass;
use policy::proof::Proof;
use policy::region::Region;
use policy::rollout::Canary;
use policy::{LawTime, Table, TableSpec};

use crate::endpoint::Upstream;
use crate::field::Section;
use frameworks::Frameworks;
use names::Names;
use page::Files;
use residency_defaults::LawSoFar;

/// A routing table, compiled and proved.
pub(crate) struct Compiled {
    pub(crate) table: Table,
    /// The proof of the table.
    pub(crate) proof: Proof,
    /// By [`policy::RegionId::index`].
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) criticality_header: Option<String>,
    /// The canary, if the table has one.
    pub(crate) canary: Option<Canary>,
    /// The key that signs the table's cookies.
    pub(crate) affinity: AffinityKey,
    /// Whether the table has a secret for that key.
    pub(crate) has_affinity_secret: bool,
    /// The maintenance pages and lists that were read.
    pub(crate) files: Vec<PathBuf>,
}

/// The top-level keys of a routing table.
pub(crate) const KEYS: &[&str] = &[
    "version",
    "regions",
    "latency_ms",
    "latency",
    "latency_sla_ms",
    "lists",
    "jurisdictions",
    "super_regions",
    "data_classes",
    "residency",
    "residency_defaults",
    "scoring",
    "routes",
    "failover",
    "affinity",
    "canary",
    "concurrency",
    "traffic_classes",
    "emergency",
];

/// The declarations that rules and routes refer to.
struct Context<'a, 't> {
    names: &'a Names<'t>,
    frameworks: &'a Frameworks,
    /// By [`policy::jurisdiction::ClassId`].
    classes: &'a [DataClass],
}

/// Compiles a whole table; `None` after an error, which is reported. `file` is for messages.
/// Files with relative paths are read from `directory`; without one, none is. The law is read as of `at`.
///
/// Names are collected first, from the keys alone, so that one mistake inside a region is not
/// followed by "unknown region" wherever the region is named.
pub(crate) fn compile(
    root: &Section<'_>,
    text: &str,
    file: &Path,
    directory: Option<&Path>,
    at: LawTime,
) -> Option<Compiled> {
    let names = &Names::collect(root);
    let classes = data_class::data_classes(root, names);
    let context = Context { names, frameworks: &Frameworks::collect(root), classes: &classes };
    let mut files = Files::new(directory);
    let concurrency = concurrency::of_table(root);
    let (regions, upstreams): (Vec<Region>, Vec<Upstream>) = region::regions(root, &concurrency).into_iter().unzip();
    let rules = residency::rules(root, &context, &mut files);
    let routes = route::routes(root, &context);
    residency::check_implied_classes(root, names);
    let affinity = affinity::key(root, text, &routes);
    let canary = canary::canary(root);
    let jurisdictions = jurisdiction::jurisdictions(root, names);
    let emergency = emergency::emergency(root, names, &mut files, at);
    let law = LawSoFar { jurisdictions: &jurisdictions, classes: &classes, rules: &rules };
    let defaults = residency_defaults::defaults(root, names, &law);
    let spec = TableSpec {
        version: version(root),
        at,
        lists: list::lists(root, &mut files),
        regions,
        latency_ms: latency::latencies(root, "latency_ms", names),
        latency_window: latency::window(root),
        latency_sla_ms: latency::latencies(root, "latency_sla_ms", names),
        jurisdictions,
        super_regions: jurisdiction::super_regions(root),
        data_classes: classes,
        rules,
        unknown_origin: defaults.unknown_origin,
        unlisted_jurisdiction: defaults.unlisted_jurisdiction,
        scorings: scoring::scorings(root, names),
        routes,
        failover: failover::failover(root),
        lowers_criticality: concurrency.criticality_header.is_some(),
        traffic_classes: traffic_class::traffic_classes(root, names),
        emergency,
    };
    scoring::check_coordinates(root, &spec.scorings, &spec.regions, &spec.routes);
    if root.report_has_errors() {
        return None;
    }
    let table = Table::new(spec).map_err(|error| root.error(error.to_string())).ok()?;
    control::check(root, table.spec());
    if root.report_has_errors() {
        return None;
    }
    let proof = proof::prove(root, &table, file);
    proof::prove_later(root, &table);
    route::warn_of_overrides(root, &table);
    traffic_class::check(root, &table.spec().regions, &upstreams, &table.spec().routes);
    let has_affinity_secret = root.field("affinity").is_some();
    let criticality_header = concurrency.criticality_header;
    let files = files.into_files();
    Some(Compiled { table, has_affinity_secret, proof, upstreams, criticality_header, canary, affinity, files })
}

fn version(root: &Section<'_>) -> String {
    let Some(field) = root.field("version") else { return "unversioned".to_owned() };
    let is_line = |text: &str| !text.contains(char::is_control) && text.chars().count() <= 128;
    field.text_that(is_line, "is not a single line of at most 128 letters").unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
