//! Which rules are in force at a time, and what is left of one that is over.
//!
//! A rule restricts the data of a jurisdiction, and opens regions to it. Its end must not open anything,
//! or the law would grow laxer because nobody looked after it. So:
//!
//! | At that time, a rule | binds | where its data may be |
//! |---|---|---|
//! | has not begun ([`Standing::NotYet`]) | no | as if it did not stand there |
//! | is in force ([`Standing::InForce`]) | yes | as it says |
//! | is over ([`Standing::Ended`]) | yes | those of its regions that are in its jurisdiction's own countries; what it denies stays denied |
//! | is over, and a later one has taken its place ([`Standing::Succeeded`]) | no | as the later one says |
//!
//! A rule takes the place of another of the same jurisdiction and regulation, for the classes of both, when
//! it begins after the other began. What says where data may go is succeeded only by what says so too, and
//! what denies only by what denies too: a denial does not end with a date, but with its removal.
//!
//! So the passing of an end lets no data go where it could not go before, unless a rule that has begun says
//! so; and no end at all does where no rule is succeeded. What is not yet in force changes nothing.

use serde::Serialize;

use crate::jurisdiction::{ClassId, JurisdictionId, Rule};
use crate::moment::LawTime;

/// Where a rule stands at a time, for one class of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has not begun.
    NotYet,
    /// It is in force.
    InForce,
    /// It is over, and nothing has taken its place.
    Ended,
    /// It is over, and this rule, by position, has taken its place.
    Succeeded(usize),
}

impl Standing {
    /// Returns whether a rule that stands so binds.
    pub fn binds(self) -> bool {
        matches!(self, Standing::InForce | Standing::Ended)
    }
}

/// Returns where a rule of a table stands for a class of its data. While the time is in doubt, the stricter holds.
///
/// # Panics
/// On a position that is not the list's.
pub fn standing(rules: &[Rule], index: usize, class: ClassId, at: LawTime) -> Standing {
    let rule = &rules[index];
    if !rule.period.may_have_begun(at) {
        return Standing::NotYet;
    }
    if !rule.period.may_have_ended(at) {
        return Standing::InForce;
    }
    match successor(rules, rule, class, at).filter(|_| rule.period.has_ended(at)) {
        Some(next) => Standing::Succeeded(next),
        None => Standing::Ended,
    }
}

/// Returns whether some rule that has begun says where a jurisdiction's data of a class may go.
pub(crate) fn is_ruled(rules: &[Rule], jurisdiction: JurisdictionId, class: ClassId, at: LawTime) -> bool {
    rules.iter().any(|rule| {
        rule.jurisdiction == jurisdiction
            && rule.data_classes.contains(&class)
            && rule.allow.is_some()
            && rule.period.has_begun(at)
    })
}

/// Returns the last of the rules that have taken the place of one.
fn successor(rules: &[Rule], rule: &Rule, class: ClassId, at: LawTime) -> Option<usize> {
    let later = rules.iter().enumerate().filter(|(_, other)| {
        other.jurisdiction == rule.jurisdiction
            && other.regulation == rule.regulation
            && other.data_classes.contains(&class)
            && (other.allow.is_some() || rule.allow.is_none())
            && (other.deny.is_some() || rule.deny.is_none())
            && other.period.from > rule.period.from
            && other.period.has_begun(at)
    });
    later.max_by_key(|(_, other)| other.period.from).map(|(index, _)| index)
}
