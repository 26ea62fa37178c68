//! What tables say beside the law's effect and the routes, by key.

use std::collections::BTreeMap;

use serde::Serialize;

use super::codes;
use crate::country::{CountrySet, GROUPS};
use crate::emergency::{EmergencySpec, ReadOnly};
use crate::failover::Failover;
use crate::jurisdiction::{Denial, JurisdictionId, Rule, Scope, Selector, Transfer, WhenUnavailable};
use crate::list::Countries;
use crate::moment::Period;
use crate::region::{AdminState, Operator, Region, RegionId, RegionSet, Role, Standby, Tier};
use crate::route::RouteSpec;
use crate::score::ScoringSpec;
use crate::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};

/// Something that the tables say differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its key, in the terms of the table's file: `regions.us-east-1.weight`.
    pub key: String,
    /// What the old table says; null for nothing.
    pub old: Option<String>,
    /// What the new table says; null for nothing.
    pub new: Option<String>,
}

/// Returns what the tables say differently, in the order of the keys.
pub(super) fn changes(old: &TableSpec, new: &TableSpec) -> Vec<Setting> {
    let mut changes = of_things("regions", &regions(old), &regions(new));
    let latencies = |spec, pairs| latencies(spec, pairs).into_iter().collect::<Vec<_>>();
    // The latencies of a region that comes or goes come and go with it.
    let both = |name: &str| [old, new].iter().all(|spec| spec.regions.iter().any(|region| region.name == name));
    let of_both = |((from, to), ms): &((String, String), String)| {
        (both(from) && both(to)).then(|| (format!("{from}.{to}"), ms.clone()))
    };
    let of_both = |list: &[((String, String), String)]| list.iter().filter_map(of_both).collect::<Vec<_>>();
    let of_pairs = |prefix, old_pairs, new_pairs| {
        differing(prefix, &of_both(&latencies(old, old_pairs)), &of_both(&latencies(new, new_pairs)))
    };
    changes.extend(of_pairs("latency_ms.", &old.latency_ms, &new.latency_ms));
    changes.extend(of_pairs("latency_sla_ms.", &old.latency_sla_ms, &new.latency_sla_ms));
    changes.extend(differing("", &law(old), &law(new)));
    changes.extend(differing("", &rest(old), &rest(new)));
    changes
}

/// Returns what two lists of keys and values say differently.
pub(super) fn differing(prefix: &str, old: &[(String, String)], new: &[(String, String)]) -> Vec<Setting> {
    let mut all: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    for (index, list) in [old, new].into_iter().enumerate() {
        for (key, value) in list {
            all.entry(key).or_default()[index] = Some(value);
        }
    }
    let changed = all.into_iter().filter(|(_, [old, new])| old != new);
    let owned = |value: Option<&str>| value.map(str::to_owned);
    changed
        .map(|(key, [old, new])| Setting { key: format!("{prefix}{key}"), old: owned(old), new: owned(new) })
        .collect()
}

/// Things by name, each with a summary and what is said of it.
type Things = BTreeMap<String, (String, Vec<(String, String)>)>;

/// Returns what differs between things of the same name; a thing of one table alone is shown by its summary.
fn of_things(kind: &str, old: &Things, new: &Things) -> Vec<Setting> {
    let mut changes = Vec::new();
    for (name, (summary, before)) in old {
        match new.get(name) {
            Some((_, after)) => changes.extend(differing(&format!("{kind}.{name}."), before, after)),
            None => changes.push(Setting { key: format!("{kind}.{name}"), old: Some(summary.clone()), new: None }),
        }
    }
    for (name, (summary, _)) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        changes.push(Setting { key: format!("{kind}.{name}"), old: None, new: Some(summary.clone()) });
    }
    changes
}

fn regions(spec: &TableSpec) -> Things {
    let said = |region: &Region| {
        let role = match region.role {
            Role::Active => "active",
            Role::Warm => "warm",
            Role::Cold => "cold",
        };
        let state = match region.state {
            AdminState::Serving => "serving",
            AdminState::Draining => "draining",
            AdminState::Disabled => "disabled",
        };
        let capabilities = [("read", region.capabilities.read), ("write", region.capabilities.write)];
        let capabilities: Vec<&str> = capabilities.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
        let number = |value: Option<f64>| value.map_or("unknown".to_owned(), |value| value.to_string());
        let said = [
            ("country", region.country.to_string()),
            ("coordinates", region.coordinates.map_or("none".to_owned(), |(north, east)| format!("[{north}, {east}]"))),
            ("tier", tier(region.tier).to_owned()),
            ("role", role.to_owned()),
            ("priority", region.priority.to_string()),
            ("weight", region.weight.to_string()),
            ("share", region.share.map_or("none".to_owned(), |share| share.to_string())),
            ("state", state.to_owned()),
            ("capabilities", listed(&capabilities)),
            ("operator", region.operator.as_ref().map_or("unknown".to_owned(), operator)),
            ("compliance", listed(&sorted(&region.compliance))),
            ("standby", region.standby.as_ref().map_or("none".to_owned(), standby)),
            ("capacity_rps", number(region.capacity_rps)),
            ("cost_per_gb", region.cost_per_gb.to_string()),
        ];
        let summary = format!("in {}, {role}, {state}", region.country);
        (region.name.clone(), (summary, said.map(|(key, value)| (key.to_owned(), value)).into()))
    };
    spec.regions.iter().map(said).collect()
}

fn standby(standby: &Standby) -> String {
    let of = if standby.of.is_empty() { String::new() } else { format!(" of {}", listed(&sorted(&standby.of))) };
    let writes = standby.writes.as_ref().map(|takes| {
        format!(
            ", takes writes over when it is primary, at most {:?} behind, by {} voters",
            takes.max_lag, takes.voters
        )
    });
    format!("promoted after {:?}{of}{}", standby.promote_after, writes.unwrap_or_default())
}

fn operator(operator: &Operator) -> String {
    let assurance = operator.assurance.as_ref().map(|level| format!(", assurance {level}")).unwrap_or_default();
    format!("{} of {}{assurance}", operator.name, operator.country)
}

fn latencies(spec: &TableSpec, pairs: &[(RegionId, RegionId, f64)]) -> BTreeMap<(String, String), String> {
    let name = |id: &RegionId| spec.regions[id.index()].name.clone();
    pairs.iter().map(|(from, to, ms)| ((name(from), name(to)), format!("{ms} ms"))).collect()
}

fn law(spec: &TableSpec) -> Vec<(String, String)> {
    let mut law = Vec::new();
    for list in &spec.lists {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for entry in &list.entries {
            let country = entry.country.map_or("without a code".to_owned(), |country| country.to_string());
            let nth = nth(&mut times, &country);
            let partial = if entry.partial { ", partial" } else { "" };
            law.push((format!("lists.{}: {country}{nth}", list.name), format!("{}{partial}", entry.period)));
        }
    }
    for jurisdiction in &spec.jurisdictions {
        law.push((format!("jurisdictions.{}.countries", jurisdiction.name), as_written(&jurisdiction.countries, spec)));
    }
    for around in &spec.super_regions {
        law.push((format!("super_regions.{}.countries", around.name), countries_in_words(&around.countries)));
    }
    for class in &spec.data_classes {
        let scope = match class.scope {
            Scope::Jurisdiction => "jurisdiction",
            Scope::SuperRegion => "super_region",
            Scope::Global => "global",
        };
        law.push((format!("data_classes.{}.cross_border", class.name), transfer(class.cross_border).to_owned()));
        law.push((format!("data_classes.{}.scope", class.name), scope.to_owned()));
    }
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for rule in &spec.rules {
        let key = rule_key(rule, spec);
        let nth = nth(&mut times, &key);
        law.push((format!("residency: {key}{nth}"), rule_in_words(rule, spec)));
    }
    let unknown = match &spec.unknown_origin {
        UnknownOrigin::Strictest => "strictest".to_owned(),
        UnknownOrigin::Like(ids) => {
            let names: Vec<&str> = ids.iter().map(|id| spec.jurisdictions[id.0].name.as_str()).collect();
            format!("like {}", listed(&sorted(&names)))
        }
        UnknownOrigin::Refuse => "refuse".to_owned(),
    };
    let unlisted = match spec.unlisted_jurisdiction {
        UnlistedJurisdiction::Allow => "allow",
        UnlistedJurisdiction::Refuse => "refuse",
    };
    law.push(("residency_defaults.unknown_origin".to_owned(), unknown));
    law.push(("residency_defaults.unlisted_jurisdiction".to_owned(), unlisted.to_owned()));
    law
}

/// Returns what tells a rule from most others: whose data it is for.
fn rule_key(rule: &Rule, spec: &TableSpec) -> String {
    let classes: Vec<&str> = rule.data_classes.iter().map(|id| spec.data_classes[id.0].name.as_str()).collect();
    format!(
        "{} for {} ({})",
        spec.jurisdictions[rule.jurisdiction.0].name,
        sorted(&classes).join(", "),
        rule.regulation
    )
}

/// ` #2` for what is met the second time.
fn nth(times: &mut BTreeMap<String, usize>, key: &str) -> String {
    let nth = times.entry(key.to_owned()).or_default();
    *nth += 1;
    if *nth > 1 { format!(" #{nth}") } else { String::new() }
}

fn rule_in_words(rule: &Rule, spec: &TableSpec) -> String {
    let mut parts = Vec::new();
    if let Some(allow) = &rule.allow {
        let allow: Vec<String> = allow.iter().map(|selector| selector_in_words(selector, spec)).collect();
        parts.push(if allow.is_empty() { "no region".to_owned() } else { allow.join(", or ") });
        parts.push(format!("transfer {}", transfer(rule.transfer)));
    }
    parts.extend(rule.deny.as_ref().map(|deny| format!("never {}", denial_in_words(deny, spec))));
    if let WhenUnavailable::Maintenance(page) = &rule.when_unavailable {
        parts.push(format!("a maintenance page ({:016x})", crate::hash::client_key(page.as_bytes())));
    }
    parts.extend(rule.blocked_by.as_ref().map(|url| format!("blocked by {url}")));
    if rule.period != Period::ALWAYS {
        parts.push(rule.period.to_string());
    }
    parts.join("; ")
}

fn selector_in_words(selector: &Selector, spec: &TableSpec) -> String {
    let Selector { regions, countries, jurisdictions, operator_countries, assurance, compliance, tiers } = selector;
    let mut parts = Vec::new();
    parts.extend(regions.as_ref().map(|set| regions_in_words(set, spec)));
    parts.extend(countries.as_ref().map(|set| format!("countries {}", as_written(set, spec))));
    parts.extend(jurisdictions.as_ref().map(|ids| jurisdictions_in_words(ids, spec)));
    parts.extend(operator_countries.as_ref().map(|set| format!("operators of {}", as_written(set, spec))));
    parts.extend(assurance.as_ref().map(|levels| format!("assurance {}", listed(&sorted(levels)))));
    parts.extend(compliance.as_ref().map(|frameworks| format!("compliance {}", listed(&sorted(frameworks)))));
    parts.extend(tiers.as_ref().map(|tiers| tiers_in_words(tiers)));
    parts.join(" with ")
}

fn denial_in_words(deny: &Denial, spec: &TableSpec) -> String {
    let Denial { regions, countries, jurisdictions, operator_countries, assurance, tiers } = deny;
    let mut parts = Vec::new();
    parts.extend(regions.as_ref().map(|set| regions_in_words(set, spec)));
    parts.extend(countries.as_ref().map(|set| format!("countries {}", as_written(set, spec))));
    parts.extend(jurisdictions.as_ref().map(|ids| jurisdictions_in_words(ids, spec)));
    parts.extend(operator_countries.as_ref().map(|set| format!("operators of {}", as_written(set, spec))));
    parts.extend(assurance.as_ref().map(|levels| format!("assurance {}", listed(&sorted(levels)))));
    parts.extend(tiers.as_ref().map(|tiers| tiers_in_words(tiers)));
    parts.join(", and never ")
}

fn regions_in_words(regions: &RegionSet, spec: &TableSpec) -> String {
    let names: Vec<&str> = regions.iter().map(|id| spec.regions[id.index()].name.as_str()).collect();
    format!("regions {}", listed(&sorted(&names)))
}

fn jurisdictions_in_words(ids: &[JurisdictionId], spec: &TableSpec) -> String {
    let names: Vec<&str> = ids.iter().map(|id| spec.jurisdictions[id.0].name.as_str()).collect();
    format!("jurisdictions {}", listed(&sorted(&names)))
}

fn tiers_in_words(tiers: &[Tier]) -> String {
    let names: Vec<&str> = tiers.iter().map(|each| tier(*each)).collect();
    format!("tier {}", listed(&sorted(&names)))
}

/// Returns a set of countries as the table writes it, whatever its lists say at the moment.
fn as_written(countries: &Countries, spec: &TableSpec) -> String {
    let lists: Vec<String> = countries.lists().iter().map(|id| format!("list:{}", spec.lists[id.0].name)).collect();
    match lists.is_empty() {
        true => countries_in_words(countries.written()),
        false if countries.written().is_empty() => listed(&sorted(&lists)),
        false => format!("{} and {}", countries_in_words(countries.written()), listed(&sorted(&lists))),
    }
}

fn rest(spec: &TableSpec) -> Vec<(String, String)> {
    let mut rest = vec![("latency.window".to_owned(), format!("{:?}", spec.latency_window))];
    for ScoringSpec { name, weights, latency_curve, latency_from, shares } in &spec.scorings {
        let words = format!(
            "latency {}, load {}, compliance {}, cost {}",
            weights.latency, weights.load, weights.compliance, weights.cost
        );
        rest.push((format!("scoring.{name}"), words));
        rest.push((format!("scoring.{name}.latency_curve"), latency_curve.to_string()));
        rest.push((format!("scoring.{name}.latency_from"), latency_from.name().to_owned()));
        rest.push((format!("scoring.{name}.shares"), shares.to_string()));
    }
    let Failover {
        threshold,
        error_rate,
        latency_p99,
        failback_delay,
        ramp,
        ramp_step,
        outlier,
        retry_budget,
        drain_timeout,
    } = &spec.failover;
    let failover = [
        ("threshold", threshold.to_string()),
        ("error_rate", error_rate.to_string()),
        ("latency_p99", format!("{latency_p99:?}")),
        ("failback_delay", format!("{failback_delay:?}")),
        ("ramp", format!("{ramp:?}")),
        ("ramp_step", format!("{ramp_step:?}")),
        ("outlier.consecutive_errors", outlier.consecutive_errors.to_string()),
        ("outlier.interval", format!("{:?}", outlier.interval)),
        ("outlier.base_ejection", format!("{:?}", outlier.base_ejection)),
        ("outlier.max_ejected", outlier.max_ejected.to_string()),
        ("retry_budget.ratio", retry_budget.ratio.to_string()),
        ("retry_budget.per_second", retry_budget.per_second.to_string()),
        ("drain_timeout", format!("{drain_timeout:?}")),
    ];
    rest.extend(failover.map(|(key, value)| (format!("failover.{key}"), value)));
    rest.extend(
        spec.traffic_classes
            .iter()
            .map(|class| (format!("traffic_classes.{}.guaranteed", class.name), class.guaranteed.to_string())),
    );
    rest.extend(spec.emergency.iter().flat_map(|said| emergency(said, spec)));
    rest
}

/// Returns what an emergency refuses, and of whom.
fn emergency(said: &EmergencySpec, spec: &TableSpec) -> Vec<(String, String)> {
    let EmergencySpec { shed, read_only, routes_off, page, until } = said;
    let routes = |is_meant: &dyn Fn(usize, &RouteSpec) -> bool| {
        let meant = spec.routes.iter().enumerate().filter(|(index, route)| is_meant(*index, route));
        listed(&meant.map(|(_, route)| route.name.as_str()).collect::<Vec<_>>())
    };
    let off = |index: usize| routes_off.iter().any(|id| id.0 as usize == index);
    let mut words = Vec::new();
    if let Some(shed) = shed {
        let shed_on = routes(&|_, route| route.criticality <= *shed);
        words.push(("shed", format!("{}: all of the routes {shed_on}, and what is lowered to it", shed.name())));
    }
    match read_only {
        None => {}
        Some(ReadOnly::All) => words.push(("read_only", "everybody's writes are refused".to_owned())),
        Some(ReadOnly::Of(ids)) => {
            let named = ids.iter().filter_map(|id| spec.jurisdictions.get(id.0));
            let mut countries = CountrySet::default();
            named.clone().for_each(|one| countries.extend(one.countries.so_far()));
            let names: Vec<&str> = named.map(|one| one.name.as_str()).collect();
            let (names, countries) = (listed(&sorted(&names)), countries_in_words(&countries));
            let unknown = match &spec.unknown_origin {
                UnknownOrigin::Strictest | UnknownOrigin::Refuse => ", and of unknown clients,",
                UnknownOrigin::Like(_) => "",
            };
            words.push((
                "read_only",
                format!("{names}: writes of clients who may be in {countries}{unknown} are refused"),
            ));
        }
    }
    if !routes_off.is_empty() {
        words.push(("routes_off", routes(&|index, _| off(index))));
    }
    if let Some(page) = page {
        words.push(("page", format!("a page of {} bytes", page.len())));
    }
    if let Some(until) = until {
        let over = if said.is_in_force(spec.at) { "" } else { ", and so over" };
        words.push(("until", format!("{until}{over}")));
    }
    words.into_iter().map(|(key, value)| (format!("emergency.{key}"), value)).collect()
}

fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Primary => "primary",
        Tier::Secondary => "secondary",
        Tier::Tertiary => "tertiary",
        Tier::Edge => "edge",
    }
}

fn transfer(transfer: Transfer) -> &'static str {
    match transfer {
        Transfer::Prohibited => "prohibited",
        Transfer::WithConsent => "with_consent",
        Transfer::WithSafeguards => "with_safeguards",
        Transfer::RequiresLocalCopy => "requires_local_copy",
        Transfer::Allowed => "allowed",
    }
}

fn sorted<T: AsRef<str>>(names: &[T]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
    names.sort_unstable();
    names
}

/// Returns a set of countries by the built-in groups that it holds whole, the largest first, and codes.
pub fn countries_in_words(countries: &CountrySet) -> String {
    let mut groups: Vec<(&str, CountrySet)> = GROUPS.iter().map(|group| (group.name, group.members())).collect();
    groups.sort_by_key(|(_, set)| std::cmp::Reverse(set.iter().count()));
    let mut rest: Vec<_> = countries.iter().collect();
    let mut words = Vec::new();
    for (name, set) in groups {
        let holds = set.iter().all(|country| countries.contains(country));
        if holds && set.iter().count() > 1 && rest.iter().any(|country| set.contains(*country)) {
            rest.retain(|country| !set.contains(*country));
            words.push(name.to_owned());
        }
    }
    words.extend(codes(rest));
    listed(&words)
}

/// Names for a message.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}
