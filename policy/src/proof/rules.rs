//! Rules that select nothing, or change nothing.

use super::finding::{Cause, Finding, Idle};
use super::law::Law;
use crate::jurisdiction::{ClassId, Rule, Scope, WhenUnavailable};

/// Checks every rule, and moves what is found of a rule's clients to the rule.
pub(super) fn check(law: &Law<'_>, findings: &mut Vec<Finding>) {
    let spec = law.spec;
    let mut carried = vec![false; spec.data_classes.len()];
    for route in &spec.routes {
        carried[route.data_class.0] = spec.data_classes[route.data_class.0].scope != Scope::Global;
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        if rule.allow.as_ref().is_some_and(|allow| !allow.is_empty()) && law.selected[index].is_empty() {
            let of_rule = |found: &Finding| matches!(found, Finding::Unserved(gap) if gap.cause == Cause::Rule(index));
            let refuses = findings.iter().position(of_rule).map(|at| findings.remove(at));
            findings.retain(|found| !of_rule(found));
            let refuses = refuses.and_then(|found| match found {
                Finding::Unserved(gap) => Some(gap),
                _ => None,
            });
            findings.push(Finding::RuleSelectsNothing { rule: index, refuses });
        }
        let classes: Vec<ClassId> = rule.data_classes.iter().filter(|class| carried[class.0]).copied().collect();
        if classes.is_empty() {
            findings.push(Finding::RuleWithoutEffect { rule: index, why: Idle::Uncarried });
        } else if let Some(other) = implied_by(law, index, rule, &classes) {
            findings.push(Finding::RuleWithoutEffect { rule: index, why: Idle::ImpliedBy(other) });
        }
    }
}

/// Returns a rule that asks for all that this one does; of two that ask for the same, the first is that one. Two
/// laws that happen to ask for the same are no mistake: both rules must be of one regulation, and in force at the
/// same times. And a maintenance page, or who has data kept away, is an effect; so is a denial that no region meets today.
fn implied_by(law: &Law<'_>, index: usize, rule: &Rule, classes: &[ClassId]) -> Option<usize> {
    let rules = law.spec.rules.iter().enumerate();
    let mut alike = rules.filter(|(at, other)| {
        *at != index
            && other.jurisdiction == rule.jurisdiction
            && other.regulation == rule.regulation
            && other.period == rule.period
            && rule.allow.is_some()
            && (rule.when_unavailable == WhenUnavailable::Reject || rule.when_unavailable == other.when_unavailable)
            && (rule.blocked_by.is_none() || rule.blocked_by == other.blocked_by)
            && classes.iter().all(|class| other.data_classes.contains(class))
    });
    let found = alike.find(|(at, _)| {
        let implies = |strict: usize, loose: usize| {
            classes.iter().all(|class| {
                let clauses = law.of_jurisdiction(rule.jurisdiction, *class);
                let of = |wanted| clauses.iter().find(|clause| clause.source == crate::residency::Source::Rule(wanted));
                of(loose).zip(of(strict)).is_some_and(|(loose, strict)| loose.is_implied_by(strict))
            })
        };
        implies(*at, index) && (*at < index || !implies(index, *at))
    });
    found.map(|(at, _)| at)
}
