//! Compliance frameworks: free names, but one that no region holds is probably a mistake.

use std::collections::BTreeSet;

use crate::field::{Field, Section};
use crate::quote::quote;

/// The frameworks that some region holds.
pub(super) struct Frameworks(BTreeSet<String>);

impl Frameworks {
    /// Collects the frameworks of all regions, those with errors included.
    pub(super) fn collect(root: &Section<'_>) -> Self {
        let regions = root.field("regions").and_then(|field| field.peek_section());
        let lists = regions.iter().flat_map(Section::fields);
        let lists = lists.filter_map(|region| region.peek_section()?.field("compliance")?.peek_list());
        Self(lists.flatten().filter_map(|member| Some(member.peek_text()?.to_lowercase())).collect())
    }

    /// Reads a list of required or preferred frameworks; warns of one that no region holds.
    pub(super) fn wanted(&self, field: &Field<'_>) -> Vec<String> {
        for member in field.peek_list().unwrap_or_default() {
            let Some(name) = member.peek_text().map(str::to_lowercase) else { continue };
            if !self.0.contains(&name) {
                let suggestion = member.did_you_mean(&name, self.0.iter().map(String::as_str));
                member.warning(format!("no region holds {}{suggestion}", quote(&name)));
            }
        }
        frameworks(field)
    }
}

/// Reads a list of frameworks, in lower case, each once.
pub(super) fn frameworks(field: &Field<'_>) -> Vec<String> {
    let mut names = BTreeSet::new();
    for member in field.list().unwrap_or_default() {
        let is_odd = |c: char| c.is_control() || c.is_whitespace();
        let is_word = |name: &str| (1..=64).contains(&name.len()) && !name.contains(is_odd);
        names.extend(member.text_that(is_word, "cannot name a framework: it is one word").map(str::to_lowercase));
    }
    names.into_iter().collect()
}
