//! The rules that hold for a request, and what each says of a region.

use super::{Case, DormantRule, Ground, RuleExplained, Ruling, Why};
use crate::decide::subject;
use crate::facts::Facts;
use crate::jurisdiction::{JurisdictionId, WhenUnavailable};
use crate::moment::Period;
use crate::origin::Origin;
use crate::region::{Access, RegionId};
use crate::residency::{Condition, Constraint, Opening, Source, Subject};
use crate::standing::{Standing, standing};
use crate::table::{Table, UnknownOrigin};

/// Returns the names of the jurisdictions whose rules hold.
pub(super) fn jurisdictions(table: &Table, facts: &Facts<'_>, routed: Option<&Case<'_>>) -> Vec<String> {
    let residency = table.residency();
    let mut ids: Vec<JurisdictionId> =
        facts.origin.countries().iter().flat_map(|country| residency.jurisdictions(country).to_vec()).collect();
    ids.extend(facts.declared);
    if let Some(case) = routed {
        ids.extend(&case.route.spec.jurisdictions);
        if facts.origin == Origin::Unknown {
            ids.extend(rules(case).iter().filter_map(|rule| rule.jurisdiction(table)));
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(|id| table.spec().jurisdictions[id.0].name.clone()).collect()
}

/// Returns the names of the jurisdictions that stand in for an unknown client's.
pub(super) fn stand_ins(table: &Table, facts: &Facts<'_>) -> Vec<String> {
    match (&facts.origin, &table.spec().unknown_origin) {
        (Origin::Unknown, UnknownOrigin::Like(ids)) => {
            ids.iter().map(|id| table.spec().jurisdictions[id.0].name.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the rules that hold, each once.
pub(super) fn rules<'a>(case: &Case<'a>) -> Vec<HeldRule<'a>> {
    let whole = subject(case.route, case.facts);
    let residency = case.table.residency();
    let holds = |declared: [&[JurisdictionId]; 2]| residency.constraints(Subject { declared, ..whole });
    let [by_route, _] = whole.declared;
    let (of_client, of_route) = (holds([&[], &[]]), holds([by_route, &[]]));
    let ground = |constraint: &&Constraint| match case.facts.origin {
        Origin::Unknown if of_client.contains(constraint) => Ground::Unknown,
        _ if of_client.contains(constraint) => Ground::Client,
        _ if of_route.contains(constraint) => Ground::Route,
        _ => Ground::Request,
    };
    let all = residency.constraints(whole).into_iter();
    all.map(|constraint| HeldRule { ground: ground(&constraint), constraint }).collect()
}

/// Returns the rules for this data, of the jurisdictions whose rules hold, that bind nobody at this time.
pub(super) fn dormant(case: &Case<'_>, jurisdictions: &[String]) -> Vec<DormantRule> {
    let spec = case.table.spec();
    let class = case.route.spec.data_class;
    let rules = spec.rules.iter().enumerate().filter(|(_, rule)| {
        let name = &spec.jurisdictions[rule.jurisdiction.0].name;
        rule.data_classes.contains(&class) && (case.facts.origin == Origin::Unknown || jurisdictions.contains(name))
    });
    let rules = rules.map(|(index, rule)| (rule, standing(&spec.rules, index, class, spec.at)));
    let rules = rules.filter(|(_, standing)| !standing.binds());
    rules
        .map(|(rule, standing)| DormantRule {
            rule: rule.regulation.clone(),
            line: rule.line,
            jurisdiction: spec.jurisdictions[rule.jurisdiction.0].name.clone(),
            valid_from: rule.period.from,
            valid_until: rule.period.until,
            succeeded_by: match standing {
                Standing::Succeeded(next) => Some(spec.rules[next].line),
                _ => None,
            },
        })
        .collect()
}

/// Returns what the law says of one region, what decides first: what no consent would change, then what the request
/// lacks, then what opens the region, then what selects it.
pub(super) fn of_region(case: &Case<'_>, rules: &[HeldRule<'_>], id: RegionId) -> Vec<Why> {
    if rules.is_empty() {
        return vec![Why {
            rule: "residency".into(),
            regulation: None,
            line: None,
            verdict: Ruling::Allows,
            effect: "allowed: no rule restricts this data class here".into(),
        }];
    }
    let mut decisive: Vec<&HeldRule<'_>> = rules.iter().collect();
    decisive.sort_by_key(|rule| rule.weight_on(case, id));
    decisive.into_iter().map(|rule| rule.on(case, id)).collect()
}

/// A rule that holds, and why it does.
pub(super) struct HeldRule<'a> {
    ground: Ground,
    constraint: &'a Constraint,
}

impl HeldRule<'_> {
    /// Returns the rule in the explanation.
    pub(super) fn explained(&self, case: &Case<'_>) -> RuleExplained {
        let spec = case.table.spec();
        let outside = self.constraint.outside;
        let (rule, regulation, line) = self.name(case);
        let page = match self.constraint.source {
            Source::Rule(index) => matches!(spec.rules[index].when_unavailable, WhenUnavailable::Maintenance(_)),
            _ => false,
        };
        let mut conditions = needs(case, outside);
        if outside.safeguards {
            conditions.push("safeguards (audited)".into());
        }
        let (period, is_over) = match self.constraint.source {
            Source::Rule(index) => (spec.rules[index].period, self.is_over(case, index)),
            _ => (Period::ALWAYS, false),
        };
        RuleExplained {
            valid_from: period.from,
            valid_until: period.until,
            is_over,
            denies: self.constraint.denied.iter().map(|id| case.table.region(id).name.clone()).collect(),
            rule,
            regulation,
            line,
            jurisdiction: self.jurisdiction(case.table).map(|id| spec.jurisdictions[id.0].name.clone()),
            ground: self.ground,
            selects: self.constraint.inside.iter().map(|id| case.table.region(id).name.clone()).collect(),
            elsewhere: match conditions.as_slice() {
                _ if outside.never => "never".into(),
                [] => "always".into(),
                conditions => format!("needs {}", conditions.join(" and ")),
            },
            page,
        }
    }

    fn weight_on(&self, case: &Case<'_>, id: RegionId) -> u8 {
        let outside = self.constraint.condition_of(id);
        match self.constraint.inside.contains(id) {
            false if outside.never => 0,
            false if !outside.holds(opening(case)) => 1,
            false => 2,
            true => 3,
        }
    }

    fn on(&self, case: &Case<'_>, id: RegionId) -> Why {
        let outside = self.constraint.condition_of(id);
        let opening = opening(case);
        let (verdict, effect) = if self.constraint.inside.contains(id) {
            (Ruling::Allows, self.inside(case).to_owned())
        } else if self.constraint.denied.contains(id) {
            (Ruling::Refuses, format!("refused: denied by the rule, {}", self.denial(case, id)))
        } else if outside.never {
            (Ruling::Refuses, format!("refused: {}", self.never(case)))
        } else if outside.holds(opening) {
            let mut by = Vec::new();
            if outside.consent {
                by.push("with the client's consent");
            }
            if outside.read_only {
                by.push("for a read");
            }
            if outside.safeguards {
                by.push("with safeguards (audited)");
            }
            let by = if by.is_empty() { String::new() } else { format!(", {}", by.join(" and ")) };
            (Ruling::Opens, format!("opened as a later level{by}"))
        } else {
            let missing = Condition {
                consent: outside.consent && !opening.consent,
                read_only: outside.read_only && opening.access != Access::Read,
                ..Condition::default()
            };
            (Ruling::Refuses, format!("refused: needs {}", needs(case, missing).join(" and ")))
        };
        let (rule, regulation, line) = self.name(case);
        let held_by = match self.ground {
            Ground::Client | Ground::Unknown => "",
            Ground::Route => " (its jurisdiction is declared by the route)",
            Ground::Request => " (its jurisdiction is declared for the request)",
        };
        Why { rule, regulation, line, verdict, effect: format!("{effect}{held_by}") }
    }

    /// Returns whether the rule is over, and nothing has taken its place.
    fn is_over(&self, case: &Case<'_>, index: usize) -> bool {
        let spec = case.table.spec();
        standing(&spec.rules, index, case.route.spec.data_class, spec.at) == Standing::Ended
    }

    /// Returns why the rule has a region inside.
    fn inside(&self, case: &Case<'_>) -> &'static str {
        match self.constraint.source {
            Source::Rule(index) if case.table.spec().rules[index].allow.is_none() => "allowed: not denied by the rule",
            Source::Rule(index) if self.is_over(case, index) => {
                "allowed: selected by the rule, which is over, and in the jurisdiction's own countries"
            }
            _ => "allowed: selected by the rule",
        }
    }

    /// Returns why the rule denies a region.
    fn denial(&self, case: &Case<'_>, id: RegionId) -> String {
        let spec = case.table.spec();
        let deny = match self.constraint.source {
            Source::Rule(index) => spec.rules[index].deny.as_ref(),
            _ => None,
        };
        deny.and_then(|deny| deny.ground(id, case.table.region(id), &spec.jurisdictions)).unwrap_or_default()
    }

    /// Returns why the rule lets nothing out.
    fn never(&self, case: &Case<'_>) -> String {
        match self.constraint.source {
            Source::Rule(index) if self.is_over(case, index) => {
                let until = case.table.spec().rules[index].period.until;
                let until = until.map(|until| format!(" since {until}")).unwrap_or_default();
                format!("the rule is over{until}, and opens nothing any more")
            }
            Source::Rule(index) if !Condition::from(case.table.spec().rules[index].transfer).never => {
                format!("transfer is prohibited for data class {}", class_name(case))
            }
            Source::Rule(_) => "transfer is prohibited".into(),
            Source::ClassBorder(_) => "the data class may not leave the jurisdiction".into(),
            Source::SuperRegion => "the data class may not leave the super-region".into(),
            Source::Unlisted => "no jurisdiction lists the client's country".into(),
            Source::Unknown => "where the client is is not known".into(),
        }
    }

    /// For people; as a law's name; and where it stands.
    fn name(&self, case: &Case<'_>) -> (String, Option<String>, Option<u32>) {
        let key = |key: String| (key, None, None);
        match self.constraint.source {
            Source::Rule(index) => {
                let rule = &case.table.spec().rules[index];
                (rule.regulation.clone(), Some(rule.regulation.clone()), Some(rule.line))
            }
            Source::ClassBorder(jurisdiction) => key(format!(
                "data_classes.{}.cross_border in {}",
                class_name(case),
                case.table.spec().jurisdictions[jurisdiction.0].name
            )),
            Source::SuperRegion => key(format!("data_classes.{}.scope", class_name(case))),
            Source::Unlisted => key("residency_defaults.unlisted_jurisdiction".into()),
            Source::Unknown => key("residency_defaults.unknown_origin".into()),
        }
    }

    fn jurisdiction(&self, table: &Table) -> Option<JurisdictionId> {
        match self.constraint.source {
            Source::Rule(index) => Some(table.spec().rules[index].jurisdiction),
            Source::ClassBorder(jurisdiction) => Some(jurisdiction),
            Source::SuperRegion | Source::Unlisted | Source::Unknown => None,
        }
    }
}

/// Returns what a condition asks of a request, in words.
fn needs(case: &Case<'_>, condition: Condition) -> Vec<String> {
    let mut needs = Vec::new();
    if condition.consent {
        let spec = &case.route.spec;
        let header = spec.consent_header.as_ref().map(|name| format!("header {name}: granted"));
        let claim = spec.consent_claim.as_ref().map(|name| format!("claim {name}"));
        let how: Vec<String> = header.into_iter().chain(claim).collect();
        let how = if how.is_empty() { "the route names no source".into() } else { how.join(" or ") };
        needs.push(format!("consent from a trusted source ({how})"));
    }
    if condition.read_only {
        needs.push("a read (a local copy must stay)".into());
    }
    needs
}

fn opening(case: &Case<'_>) -> Opening {
    Opening { consent: case.facts.consent, access: case.access }
}

fn class_name<'a>(case: &Case<'a>) -> &'a str {
    &case.table.spec().data_classes[case.route.spec.data_class.0].name
}
