//! A decision with its whole trace: every region, and why it is in or out.

use serde::{Deserialize, Serialize};

use crate::country::Country;
use crate::decide::{decide_on_route, latency_ms, lawful, level, moved_off, order, subject, too_far, too_stale};
use crate::facts::Facts;
use crate::origin::Origin;
use crate::region::{Access, RegionId, RegionState};
use crate::residency::{Allowed, Constraint, Opening, Source};
use crate::route::Route;
use crate::score::{Terms, latency_points};
use crate::table::Table;
use crate::verdict::{Reason, Verdict};
use crate::view::{Health, RegionView, View};

/// A decision explained. Serialises to the JSON of `meridian explain --format json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// Whether some region serves.
    pub verdict: Outcome,
    /// The status of the refusal; 200 for a forward, whose true status is the origin's.
    pub status: u16,
    /// The refusal's reason; null for a forward.
    pub reason: Option<Reason>,
    /// The route's name.
    pub route: Option<String>,
    /// Its data class.
    pub data_class: Option<String>,
    /// Whether the request reads or writes.
    pub access: Option<Access>,
    /// The table's version.
    pub table_version: String,
    /// The region that decides.
    pub from: String,
    /// Where the client may be.
    pub origin: OriginExplained,
    /// The jurisdictions whose rules hold.
    pub jurisdictions: Vec<String>,
    /// The regions that the law allows.
    pub allowed: Vec<String>,
    /// Those of them that could serve now.
    pub eligible: Vec<String>,
    /// What would be tried, first to last.
    pub order: Vec<String>,
    /// Every region of the table.
    pub regions: Vec<RegionExplained>,
}

/// Whether a request is served. In JSON `forward` or `refuse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Outcome {
    Forward,
    Refuse,
}

/// Where the client may be, and who says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OriginExplained {
    /// The possible countries; none when nothing is known.
    pub countries: Vec<Country>,
    /// Whether it is exactly one.
    pub certain: bool,
    /// What each source answered.
    pub sources: Vec<String>,
}

/// One region's part in a decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegionExplained {
    /// Its name.
    pub name: String,
    /// Whether the law allows it.
    pub allowed: bool,
    /// Whether it is allowed and could serve now.
    pub eligible: bool,
    /// Its priority level, lower first; null when it is not allowed.
    pub level: Option<u16>,
    /// Its score, 0 to 100.
    pub score: f32,
    /// The score's terms, each 0 to 100.
    pub terms: Terms,
    /// The round trip that the score used, in milliseconds.
    pub latency_ms: f32,
    /// The utilisation that the score used; 1 is full.
    pub utilisation: f32,
    /// What let it in or kept it out.
    pub why: Vec<Why>,
}

/// One thing that let a region in or kept it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The rule, by its regulation or its key.
    pub rule: String,
    /// Its line in the table; null for what stands in no line.
    pub line: Option<u32>,
    /// What it does to the region.
    pub effect: String,
}

/// Explains the decision on `facts`; `sources` says who answered what about the origin.
pub fn explain(table: &Table, facts: &Facts<'_>, view: &(impl View + ?Sized), sources: Vec<String>) -> Explanation {
    let route = table.find_route(facts.host, facts.path, facts.method);
    let mut explanation = Explanation {
        verdict: Outcome::Refuse,
        status: Reason::NoRoute.status(),
        reason: Some(Reason::NoRoute),
        route: None,
        data_class: None,
        access: None,
        table_version: table.spec().version.clone(),
        from: table.region(facts.from).name.clone(),
        origin: OriginExplained {
            countries: facts.origin.countries().iter().collect(),
            certain: facts.origin.is_certain(),
            sources,
        },
        jurisdictions: jurisdictions(table, facts),
        allowed: Vec::new(),
        eligible: Vec::new(),
        order: Vec::new(),
        regions: Vec::new(),
    };
    let Some(id) = route else { return explanation };
    let route = table.route(id);
    let access = route.access(facts.method);
    let names = |ids: &mut dyn Iterator<Item = RegionId>| ids.map(|id| table.region(id).name.clone()).collect();
    let mut room = None;
    let case = Case { table, facts, route, access, allowed: *lawful(table, route, facts, &mut room) };
    explanation.route = Some(route.spec.name.clone());
    explanation.data_class = Some(table.spec().data_classes[route.spec.data_class.0].name.clone());
    explanation.access = Some(access);
    explanation.allowed = names(&mut case.allowed.all().iter());
    match decide_on_route(table, id, facts, view) {
        Verdict::Forward(permits) => {
            explanation.verdict = Outcome::Forward;
            explanation.status = 200;
            explanation.reason = None;
            explanation.order = names(&mut order(table, id, facts, view).into_iter());
            explanation.eligible = names(&mut permits.eligible().iter());
        }
        Verdict::Refuse(refusal) => {
            explanation.status = refusal.reason.status();
            explanation.reason = Some(refusal.reason);
        }
    }
    explanation.regions = table
        .regions()
        .map(|(id, region)| case.region(id, &view.region(id), explanation.order.contains(&region.name)))
        .collect();
    explanation
}

fn jurisdictions(table: &Table, facts: &Facts<'_>) -> Vec<String> {
    let mut ids: Vec<_> =
        facts.origin.countries().iter().flat_map(|country| table.residency().jurisdictions(country).to_vec()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(|id| table.spec().jurisdictions[id.0].name.clone()).collect()
}

/// One request under one route, while its regions are explained.
struct Case<'a> {
    table: &'a Table,
    facts: &'a Facts<'a>,
    route: &'a Route,
    access: Access,
    allowed: Allowed,
}

impl Case<'_> {
    fn region(&self, id: RegionId, seen: &RegionView, eligible: bool) -> RegionExplained {
        let latency = latency_ms(self.table, self.facts.from, id, seen);
        let scoring = &self.route.scoring;
        let allowed = self.allowed.all().contains(id);
        let mut why = self.law(id);
        why.extend(self.route_and_state(id, seen, latency));
        RegionExplained {
            name: self.table.region(id).name.clone(),
            allowed,
            eligible,
            level: allowed.then(|| level(self.table, &self.allowed, id)),
            score: scoring.score(id.index(), latency_points(latency), seen.utilisation),
            terms: scoring.terms(id.index(), latency, seen.utilisation),
            latency_ms: latency,
            utilisation: seen.utilisation,
            why,
        }
    }

    fn law(&self, id: RegionId) -> Vec<Why> {
        let constraints = self.table.residency().constraints(subject(self.route, self.facts));
        if constraints.is_empty() {
            return vec![self.why("residency", None, "allowed: no rule restricts this data class here".into())];
        }
        let unknown = (self.facts.origin == Origin::Unknown).then(|| {
            let effect = "unknown client: every jurisdiction's rules hold".to_owned();
            self.why("residency_defaults.unknown_origin", None, effect)
        });
        unknown.into_iter().chain(constraints.into_iter().map(|constraint| self.constraint(id, constraint))).collect()
    }

    fn constraint(&self, id: RegionId, constraint: &Constraint) -> Why {
        let spec = self.table.spec();
        let (rule, line) = match constraint.source {
            Source::Rule(index) => {
                let rule = &spec.rules[index];
                (rule.regulation.clone(), Some(rule.line))
            }
            Source::ClassBorder(jurisdiction) => (
                format!(
                    "data_classes.{}.cross_border in {}",
                    spec.data_classes[self.route.spec.data_class.0].name, spec.jurisdictions[jurisdiction.0].name
                ),
                None,
            ),
            Source::SuperRegion => {
                (format!("data_classes.{}.scope", spec.data_classes[self.route.spec.data_class.0].name), None)
            }
            Source::Unlisted => ("residency_defaults.unlisted_jurisdiction".into(), None),
            Source::Unknown => ("residency_defaults.unknown_origin".into(), None),
        };
        let opening = Opening { consent: self.facts.consent, access: self.access };
        let outside = constraint.outside;
        let effect = if constraint.inside.contains(id) {
            "allowed: selected by the rule".into()
        } else if outside.never {
            "refused: transfer is prohibited".into()
        } else if outside.holds(opening) {
            let note = if outside.safeguards { ", with safeguards (audited)" } else { "" };
            format!("opened as a later level{note}")
        } else {
            let mut needs = Vec::new();
            if outside.consent && !opening.consent {
                needs.push("consent from a trusted source");
            }
            if outside.read_only && self.access != Access::Read {
                needs.push("a read (a local copy must stay)");
            }
            format!("refused: needs {}", needs.join(" and "))
        };
        self.why(&rule, line, effect)
    }

    fn route_and_state(&self, id: RegionId, seen: &RegionView, latency: f32) -> Vec<Why> {
        let region = self.table.region(id);
        let route = &self.route.spec;
        let here = Some(region.line);
        let mut why = Vec::new();
        let mut say = |rule: &str, line: Option<u32>, effect: String| why.push(self.why(rule, line, effect));
        if !region.capabilities.serves(self.access) {
            say("capabilities", here, format!("refused: does not serve {}s", name_of(self.access)));
        }
        for framework in route.require_compliance.iter().filter(|name| !region.compliance.contains(name)) {
            say("require_compliance", Some(route.line), format!("refused: is not {framework}"));
        }
        match region.state {
            RegionState::Serving => {}
            RegionState::Draining if self.facts.pinned == Some(id) => {
                say("state", here, "draining: kept for a client pinned here".into());
            }
            RegionState::Draining => say("state", here, "refused: draining".into()),
            RegionState::Disabled => say("state", here, "refused: disabled".into()),
        }
        if self.facts.only.is_some_and(|only| only != id) {
            say("gateway", None, "refused: another node has already chosen the region".into());
        }
        match seen.health {
            Health::Up => {}
            Health::Ramping(percent) => say("health", None, format!("ramping: {percent} % of its clients")),
            Health::Down => say("health", None, "refused: down".into()),
        }
        if too_far(self.route, latency) {
            say("max_latency", Some(route.line), format!("refused: {latency:.0} ms away"));
        }
        if too_stale(self.route, self.access, seen) {
            say("max_replication_lag", Some(route.line), "refused: its replica lags too far behind".into());
        }
        if moved_off(self.table.constants(id), seen, self.facts.client_key) {
            say("weight", here, format!("last resort: {} % of clients, not this one", region.weight));
        }
        if self.facts.pinned == Some(id) {
            say("affinity", Some(route.line), "first: the client is pinned here".into());
        }
        why
    }

    fn why(&self, rule: &str, line: Option<u32>, effect: String) -> Why {
        Why { rule: rule.to_owned(), line, effect }
    }
}

fn name_of(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
    }
}
