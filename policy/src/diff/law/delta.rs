//! How two tables differ on one kind of request.

use crate::region::RegionSet;

/// How the places of one kind of request differ.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Delta {
    /// In place of `gained` and `lost`, which would tell apart what is one change to its reader.
    pub(super) anywhere: bool,
    pub(super) was_anywhere: bool,
    pub(super) gained: RegionSet,
    /// Those of `gained` that the old rules would allow, had the old table had them.
    pub(super) under_old_rules: RegionSet,
    pub(super) lost: RegionSet,
    pub(super) unguarded: RegionSet,
    pub(super) guarded: RegionSet,
    pub(super) preference: Option<(RegionSet, RegionSet)>,
    pub(super) refused_before: bool,
    pub(super) refused_with: Option<u16>,
}

/// Where requests with the same difference in short gain and lose.
#[derive(Clone, Default)]
pub(super) struct Details {
    pub(super) gained: RegionSet,
    pub(super) lost: RegionSet,
}

impl Delta {
    /// Returns the same without what it gains and loses, where one word says that; and what it gains and loses.
    pub(super) fn in_short(self) -> (Self, Details) {
        let none = RegionSet::EMPTY;
        let details = Details { gained: self.gained, lost: self.lost };
        let short = match (self.anywhere, self.was_anywhere) {
            (false, false) => self,
            (true, _) => Self { gained: none, under_old_rules: none, unguarded: none, refused_before: false, ..self },
            (false, true) => Self { lost: none, guarded: none, ..self },
        };
        (short, details)
    }

    /// Returns what this has beyond another, of what is reported of declared jurisdictions.
    pub(super) fn without(&self, base: &Self) -> Self {
        let gained = self.gained.without(&base.gained);
        Self {
            // Told for all countries at once, of which others may set bounds.
            anywhere: false,
            was_anywhere: false,
            under_old_rules: self.under_old_rules.and(&gained),
            gained,
            lost: self.lost.without(&base.lost),
            unguarded: self.unguarded.without(&base.unguarded),
            guarded: self.guarded.without(&base.guarded),
            preference: None,
            refused_before: false,
            refused_with: self.refused_with.filter(|status| base.refused_with != Some(*status)),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.gained = self.gained.or(&other.gained);
        self.under_old_rules = self.under_old_rules.or(&other.under_old_rules);
        self.lost = self.lost.or(&other.lost);
        self.unguarded = self.unguarded.or(&other.unguarded);
        self.guarded = self.guarded.or(&other.guarded);
        self.refused_with = self.refused_with.or(other.refused_with);
    }
}
