//! What the dates of a law come to, shown against tables that have none.

use policy::country::CountrySet;
use policy::jurisdiction::{JurisdictionId, Rule, Selector};
use policy::list::{Countries, Entry};
use policy::table::TableSpec;
use policy::{CurrentTable, LawTime, Moment, Period, RegionSet, Table, Verdict, decide};
use proptest::prelude::*;

use super::worlds::{MOMENTS, Question, check, id, questions, table, tables};
use super::{Times, built, lawful, ordered};
use policy::jurisdiction::Transfer;

/// The moments of the random tables, and the seconds before them.
fn moments() -> Vec<Moment> {
    let around = MOMENTS.iter().flat_map(|at| [at - 1, *at]);
    let mut moments: Vec<Moment> = around.map(Moment::from_unix_seconds).collect();
    moments.sort_unstable();
    moments.dedup();
    moments
}

fn at(table: &Table, time: impl Into<LawTime>) -> Table {
    table.at(time.into()).expect("a table")
}

/// The law as somebody would write it who knows what day it is, and has never heard of dates.
fn by_hand(spec: &TableSpec, today: Moment) -> TableSpec {
    let hands = Hands { spec, today };
    let mut undated = spec.clone();
    undated.lists.clear();
    for jurisdiction in &mut undated.jurisdictions {
        jurisdiction.countries = hands.ever(&jurisdiction.countries).into();
    }
    undated.rules = Vec::new();
    for rule in &spec.rules {
        for class in &rule.data_classes {
            let begun = |rule: &Rule| rule.period.from.is_none_or(|from| from <= today);
            let over = rule.period.until.is_some_and(|until| until <= today);
            let replaced = spec.rules.iter().any(|other| {
                begun(other)
                    && other.period.from > rule.period.from
                    && other.jurisdiction == rule.jurisdiction
                    && other.regulation == rule.regulation
                    && other.data_classes.contains(class)
                    && (other.allow.is_some() || rule.allow.is_none())
                    && (other.deny.is_some() || rule.deny.is_none())
            });
            if !begun(rule) || over && replaced {
                continue;
            }
            let mut written = Rule { data_classes: vec![*class], ..hands.undated(rule) };
            if let (true, Some(allow)) = (over, &written.allow) {
                let own = hands.own(rule.jurisdiction);
                let kept = spec.regions.iter().enumerate().map(|(index, region)| (id(index), region)).filter(
                    |(region, here)| {
                        own.contains(*region)
                            && allow.iter().any(|one| one.selects(*region, here, &undated.jurisdictions))
                    },
                );
                let kept = kept.map(|(region, _)| region).collect();
                written.allow = Some(vec![Selector { regions: Some(kept), ..Selector::default() }]);
                written.transfer = Transfer::Prohibited;
            }
            undated.rules.push(written);
        }
    }
    hands.write_borders(&mut undated);
    undated
}

/// Somebody who writes down what holds today.
struct Hands<'a> {
    spec: &'a TableSpec,
    today: Moment,
}

impl Hands<'_> {
    fn members(&self, set: &Countries, counts: impl Fn(&Entry) -> bool) -> CountrySet {
        let mut members = *set.written();
        for entry in set.lists().iter().flat_map(|list| &self.spec.lists[list.0].entries) {
            if let Some(country) = entry.country.filter(|_| counts(entry)) {
                members.insert(country);
            }
        }
        members
    }

    fn ever(&self, set: &Countries) -> CountrySet {
        self.members(set, |entry| entry.period.from.is_none_or(|from| from <= self.today))
    }

    fn now(&self, set: &Countries) -> CountrySet {
        self.members(set, |entry| {
            let Period { from, until } = entry.period;
            let begun = from.is_none_or(|from| from <= self.today);
            begun && until.is_none_or(|until| until > self.today) && !entry.partial
        })
    }

    fn own(&self, jurisdiction: JurisdictionId) -> RegionSet {
        let countries = self.now(&self.spec.jurisdictions[jurisdiction.0].countries);
        let regions = self.spec.regions.iter().enumerate();
        regions.filter(|(_, region)| countries.contains(region.country)).map(|(index, _)| id(index)).collect()
    }

    /// The rule, its lists written out, without dates.
    fn undated(&self, rule: &Rule) -> Rule {
        let mut rule = Rule { period: Period::ALWAYS, ..rule.clone() };
        for selector in rule.allow.iter_mut().flatten() {
            let mut named = selector.countries.as_ref().map(|set| self.now(set));
            if let Some(ids) = selector.jurisdictions.take() {
                let mut own = CountrySet::default();
                ids.iter().for_each(|id| own.extend(&self.now(&self.spec.jurisdictions[id.0].countries)));
                let both = |set: CountrySet| set.iter().filter(|one| own.contains(*one)).collect();
                named = Some(named.map_or(own, both));
            }
            selector.countries = named.map(Countries::from);
            selector.operator_countries = selector.operator_countries.as_ref().map(|set| self.now(set).into());
        }
        if let Some(deny) = &mut rule.deny {
            deny.countries = deny.countries.as_ref().map(|set| self.ever(set).into());
            deny.operator_countries = deny.operator_countries.as_ref().map(|set| self.ever(set).into());
        }
        rule
    }

    /// Where a class keeps to its jurisdiction's own countries, and no rule says more, a rule that says it.
    fn write_borders(&self, undated: &mut TableSpec) {
        for jurisdiction in (0..self.spec.jurisdictions.len()).map(JurisdictionId) {
            for (index, class) in self.spec.data_classes.iter().enumerate() {
                let class_id = policy::jurisdiction::ClassId(index);
                let for_it = |rule: &&Rule| rule.jurisdiction == jurisdiction && rule.data_classes.contains(&class_id);
                let ruled = undated.rules.iter().filter(for_it).any(|rule| rule.allow.is_some());
                if ruled || class.cross_border == Transfer::Allowed {
                    continue;
                }
                let own = Selector { regions: Some(self.own(jurisdiction)), ..Selector::default() };
                let rule = super::sample::rule(jurisdiction.0, index, &["DE"], Transfer::Allowed);
                undated.rules.push(Rule { allow: Some(vec![own]), ..rule });
            }
        }
    }
}

/// What is decided of a request, and in which order it is tried.
fn told(table: &Table, question: &Question) -> impl PartialEq + std::fmt::Debug + use<> {
    let verdict = match decide(table, &question.facts(), &question.seen()) {
        Verdict::Forward(permits) => {
            let seen = question.seen();
            let current = CurrentTable { table, view: &seen };
            let permit = permits.next(table, &question.facts(), &RegionSet::default(), &current).expect("the first");
            Ok((permit.region(), permit.is_safeguarded(), *permits.eligible()))
        }
        Verdict::Refuse(refusal) => Err((refusal.reason, refusal.page)),
    };
    (verdict, ordered(table, question), lawful(table, &question.facts()))
}

#[test]
fn at_each_boundary_the_verdict_is_that_of_a_table_with_the_dates_resolved_by_hand() {
    let (refused, changed) = (Times::default(), Times::default());
    check(tables(150), (table(), questions()), |(mut spec, asked)| {
        // A failover scope goes by where a jurisdiction's regions are, its law by whom it protects: one list by hand
        // cannot be both.
        spec.routes.iter_mut().for_each(|route| route.failover = policy::failover::FailoverScope::Any);
        let dated = built(&spec);
        let mut before = Vec::new();
        for moment in moments() {
            let (now, undated) = (at(&dated, moment), built(&by_hand(&spec, moment)));
            prop_assert!(undated.spec().boundaries().is_empty() && undated.next_boundary().is_none());
            let mut answers = Vec::new();
            for question in asked.iter().map(|asked| asked.of(&spec)) {
                let (found, expected) = (told(&now, &question), told(&undated, &question));
                prop_assert_eq!(&found, &expected, "at {}: {:?}", moment, question);
                refused.note(lawful(&now, &question.facts()).is_empty());
                answers.push(lawful(&now, &question.facts()));
            }
            changed.note(!before.is_empty() && before != answers);
            before = answers;
        }
        Ok(())
    });
    refused.at_least(1000);
    changed.at_least(50);
}

#[test]
fn between_boundaries_nothing_changes() {
    let crossed = Times::default();
    check(tables(150), (table(), questions()), |(spec, asked)| {
        let mut now = at(&built(&spec), Moment::from_unix_seconds(MOMENTS[0] - 1));
        for _ in 0..=spec.boundaries().len() {
            let Some(next) = now.next_boundary() else { break };
            let last = next.plus_seconds(-1);
            prop_assert!(now.holds_at(last.into()) && !now.holds_at(next.into()));
            let before = at(&now, last);
            for question in asked.iter().map(|asked| asked.of(&spec)) {
                prop_assert_eq!(told(&now, &question), told(&before, &question), "until {}", next);
            }
            now = at(&now, next);
            crossed.note(true);
        }
        prop_assert_eq!(now.next_boundary(), None);
        Ok(())
    });
    crossed.at_least(200);
}

#[test]
fn the_passing_of_an_end_opens_nothing() {
    let narrowed = Times::default();
    check(tables(300), (table(), questions()), |(spec, asked)| {
        let dated = built(&spec);
        for moment in MOMENTS.iter().map(|at| Moment::from_unix_seconds(*at)) {
            let begins = |period: Period| period.from == Some(moment);
            let entries = spec.lists.iter().flat_map(|list| &list.entries).map(|entry| entry.period);
            if spec.rules.iter().map(|rule| rule.period).chain(entries).any(begins) {
                continue;
            }
            let (before, after) = (at(&dated, moment.plus_seconds(-1)), at(&dated, moment));
            let replaced = spec.rules.iter().any(|rule| {
                let by = |other: &Rule| {
                    other.jurisdiction == rule.jurisdiction
                        && other.regulation == rule.regulation
                        && other.period.from > rule.period.from
                        && other.period.from <= Some(moment)
                };
                rule.period.until == Some(moment) && spec.rules.iter().any(by)
            });
            if replaced {
                continue;
            }
            for question in asked.iter().map(|asked| asked.of(&spec)) {
                let (was, is) = (lawful(&before, &question.facts()), lawful(&after, &question.facts()));
                prop_assert!(is.is_subset(&was), "at {moment} {was:?} became {is:?}: {question:?}");
                narrowed.note(is != was);
            }
        }
        Ok(())
    });
    narrowed.at_least(200);
}

#[test]
fn a_time_in_doubt_allows_what_each_end_of_it_does() {
    let narrowed = Times::default();
    check(tables(150), (table(), questions()), |(spec, asked)| {
        let dated = built(&spec);
        let moments = moments();
        for (one, other) in moments.iter().zip(moments.iter().skip(3)) {
            let [early, late] = [*one, *other].map(|moment| at(&dated, moment));
            let doubt = at(&dated, LawTime::between(*one, *other));
            for question in asked.iter().map(|asked| asked.of(&spec)) {
                let [early, late, doubt] = [&early, &late, &doubt].map(|table| lawful(table, &question.facts()));
                prop_assert!(doubt.is_subset(&early.and(&late)), "{one} to {other}: {question:?}");
                narrowed.note(doubt != late);
            }
        }
        Ok(())
    });
    narrowed.at_least(30);
}

#[test]
fn a_rule_that_is_not_in_force_yet_changes_nothing() {
    let tried = Times::default();
    check(tables(150), (table(), questions(), super::worlds::rule()), |(spec, asked, rule)| {
        if spec.jurisdictions.is_empty() {
            return Ok(());
        }
        let mut more = spec.clone();
        let period = Period { from: Some(spec.at.latest().plus_seconds(1)), until: None };
        super::worlds::add_rule(&mut more, Rule { period, ..rule });
        let (without, with) = (built(&spec), built(&more));
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            prop_assert_eq!(told(&without, &question), told(&with, &question));
            tried.note(true);
        }
        Ok(())
    });
    tried.at_least(1000);
}
