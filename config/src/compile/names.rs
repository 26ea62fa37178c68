//! The names that a table declares.

use std::collections::{BTreeMap, BTreeSet};

use policy::jurisdiction::{ClassId, JurisdictionId};
use policy::list::ListId;
use policy::score::Weights;
use policy::{RegionId, RegionSet};

use crate::field::{Field, Section};
use crate::name::check_key;

/// The names of a table. Ids are positions in the order of the names, so that the order in the
/// file has no influence on any decision.
pub(super) struct Names<'t> {
    pub(super) regions: NamesOf<'t, RegionId>,
    pub(super) jurisdictions: NamesOf<'t, JurisdictionId>,
    pub(super) lists: NamesOf<'t, ListId>,
    pub(super) classes: NamesOf<'t, ClassId>,
    /// Positions in the specification's scorings.
    pub(super) scorings: NamesOf<'t, usize>,
    /// Positions in the specification's traffic classes.
    pub(super) traffic_classes: NamesOf<'t, usize>,
}

/// The names of one kind of thing.
pub(super) struct NamesOf<'t, Id> {
    kind: &'static str,
    ids: BTreeMap<&'t str, Id>,
}

impl<'t> Names<'t> {
    pub(super) fn collect(root: &Section<'t>) -> Self {
        let regions = keys(root, "regions", RegionSet::CAPACITY);
        let jurisdictions = keys(root, "jurisdictions", MAX_NAMES);
        let lists = keys(root, "lists", MAX_NAMES);
        // For the bound alone: nothing refers to a super-region by name.
        keys(root, "super_regions", MAX_NAMES);
        let mut classes = keys(root, "data_classes", MAX_NAMES);
        classes.push("public");
        classes.extend(classes_in_rules(root));
        let traffic_classes = keys(root, "traffic_classes", MAX_NAMES);
        let mut scorings = keys(root, "scoring", MAX_NAMES);
        scorings.extend(Weights::BUILT_IN);
        Self {
            regions: NamesOf::number("region", regions, RegionId::new),
            jurisdictions: NamesOf::number("jurisdiction", jurisdictions, |n| Some(JurisdictionId(n))),
            lists: NamesOf::number("list", lists, |n| Some(ListId(n))),
            classes: NamesOf::number("data class", classes, |n| Some(ClassId(n))),
            scorings: NamesOf::number("scoring", scorings, Some),
            traffic_classes: NamesOf::number("traffic class", traffic_classes, Some),
        }
    }
}

impl<'t, Id: Copy + Ord> NamesOf<'t, Id> {
    fn number(kind: &'static str, mut names: Vec<&'t str>, id: impl Fn(usize) -> Option<Id>) -> Self {
        names.sort_unstable();
        names.dedup();
        let numbered = names.into_iter().enumerate().filter_map(|(index, name)| Some((name, id(index)?)));
        Self { kind, ids: numbered.collect() }
    }

    /// Returns the id that the field's text names; an unknown name is reported.
    pub(super) fn resolve(&self, field: &Field<'_>) -> Option<Id> {
        self.resolve_named(field, field.text()?)
    }

    /// Returns the id that the field's key names; an unknown name is reported.
    pub(super) fn resolve_key(&self, field: &Field<'_>) -> Option<Id> {
        self.resolve_named(field, field.key())
    }

    /// Returns the id of a name in the field's text; an unknown name is reported.
    pub(super) fn resolve_named(&self, field: &Field<'_>, name: &str) -> Option<Id> {
        let id = self.get(name);
        if id.is_none() {
            field.unknown(self.kind, name, self.iter());
        }
        id
    }

    /// Returns the ids that the texts of a list name, each once. The list must not be empty.
    pub(super) fn resolve_all(&self, field: &Field<'_>) -> Option<Vec<Id>> {
        let list = field.list()?;
        if list.is_empty() {
            field.error(format!("the list is empty: name at least one {}", self.kind));
        }
        let mut ids: Vec<Id> = list.iter().filter_map(|field| self.resolve(field)).collect();
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }

    /// Returns the id of a name.
    pub(super) fn get(&self, name: &str) -> Option<Id> {
        self.ids.get(name).copied()
    }

    /// Returns the names in alphabetical order, which is the order of the ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'t str> + Clone {
        self.ids.keys().copied()
    }
}

/// Returns the keys of a table at the top of the file, which are names.
fn keys<'t>(root: &Section<'t>, key: &str, max: usize) -> Vec<&'t str> {
    let Some(field) = root.field(key) else { return Vec::new() };
    // A value that is no table is reported where it is compiled.
    let fields: Vec<Field<'t>> = field.peek_section().iter().flat_map(Section::fields).collect();
    if fields.len() > max {
        field.error(format!("{} of them; there can be at most {max}", fields.len()));
    }
    fields.iter().for_each(check_key);
    fields.iter().map(Field::key).collect()
}

/// Returns the data classes that the residency rules name: they need no declaration.
fn classes_in_rules<'t>(root: &Section<'t>) -> impl Iterator<Item = &'t str> {
    let rules = root.field("residency").and_then(|field| field.peek_list()).unwrap_or_default();
    let lists = rules.iter().filter_map(|rule| rule.peek_section()?.field("data_classes")?.peek_list());
    let names: BTreeSet<&str> = lists.flatten().filter_map(|class| class.peek_text()).collect();
    if names.len() > MAX_NAMES {
        root.error(format!("the rules name {} data classes; there can be at most {MAX_NAMES}", names.len()));
    }
    names.into_iter().take(MAX_NAMES)
}

/// The most jurisdictions, super-regions, data classes or scorings of a table.
const MAX_NAMES: usize = 256;
