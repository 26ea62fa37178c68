//! What the policy's proof finds in a compiled table, at its place in the file.

use policy::Table;
use policy::proof::{Finding, prove as prove_table};

use crate::field::Field;
use crate::section::Section;

/// Proves the table and reports what comes out: an error only if it would serve nobody at all.
pub(super) fn prove(root: &Section<'_>, table: &Table) {
    let list = |key| root.field(key).and_then(|field| field.peek_list()).unwrap_or_default();
    let (routes, rules) = (list("routes"), list("residency"));
    for finding in prove_table(table) {
        match finding {
            Finding::ServesNobody => {
                root.error("no route has a region for anybody: this table would refuse every request".to_owned());
            }
            Finding::RouteServesNobody(route) => {
                let Some(field) = routes.get(route.0 as usize) else { continue };
                field.warning(
                    "no region can ever serve this route: look at capabilities, state and require_compliance"
                        .to_owned(),
                );
            }
            Finding::RuleSelectsNothing(index) => {
                let rule = rules.get(index).and_then(Field::peek_section);
                let Some(field) = rule.and_then(|section| section.field("allow")) else { continue };
                field.warning("no region satisfies this: write allow = [] if that is meant".to_owned());
            }
        }
    }
}
