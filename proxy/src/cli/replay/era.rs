//! Splits a log by the dates of a law: each request is decided by the law of its own time.

use policy::diff::{DiffError, Laws};
use policy::replay::ReplaySide;
use policy::{Moment, RegionView, Table};

use super::tally::{Era, Tally};

/// The tables, with the law from one date on.
pub(super) struct EraTables {
    /// The date; `None` for the time before all dates.
    from: Option<Moment>,
    new: Table,
    old: Option<Table>,
}

/// Every era of a log, by its beginning; the tally has the one in use.
pub(super) struct Eras<'a> {
    eras: Vec<(Option<Moment>, Option<Era<'a>>)>,
    current: usize,
}

/// Reads both laws for each time between their dates up to now; or once, for a given time.
pub(super) fn era_tables(new: &Table, old: Option<&Table>, only: Option<Moment>) -> Vec<EraTables> {
    let now = new.spec().at.latest();
    let mut dates = new.spec().boundaries();
    dates.extend(old.iter().flat_map(|old| old.spec().boundaries()));
    // A log has no future requests.
    dates.retain(|date| *date <= now && only.is_none());
    dates.sort_unstable();
    dates.dedup();
    let oldest = dates.len().saturating_sub(MOST_ERAS);
    let mut era_tables = Vec::new();
    let begins = match only {
        Some(_) => Vec::new(),
        None => dates.split_off(oldest),
    };
    // Before the first date of those that are looked at.
    let first = begins.first().map_or(now, |first| first.plus_seconds(-1));
    for (from, at) in std::iter::once((None, first)).chain(begins.into_iter().map(|at| (Some(at), at))) {
        let read = |table: &Table| table.at(at.into()).ok();
        if let Some(new) = read(new) {
            era_tables.push(EraTables { from, new, old: old.and_then(read) });
        }
    }
    era_tables
}

impl<'a> Eras<'a> {
    /// Returns the eras of these tables; `view` is for the new decisions.
    ///
    /// # Errors
    /// When the tables are too large to be compared.
    pub(super) fn new(era_tables: &'a [EraTables], view: &[RegionView]) -> Result<Self, DiffError> {
        let era = |tables: &'a EraTables| {
            let laws = tables.old.as_ref().map(|old| Laws::new(old, &tables.new)).transpose()?;
            let before = tables.old.as_ref().map(ReplaySide::at_rest);
            let after = ReplaySide { table: &tables.new, view: view.to_vec() };
            Ok((tables.from, Some(Era { before, after, laws })))
        };
        Ok(Self { eras: era_tables.iter().map(era).collect::<Result<_, _>>()?, current: 0 })
    }

    /// Returns the present era, with which the tally begins.
    ///
    /// # Panics
    /// Never: there is at least one.
    pub(super) fn take_last(&mut self) -> Era<'a> {
        self.current = self.eras.len().saturating_sub(1);
        let last = self.eras.last_mut().and_then(|(_, era)| era.take());
        #[allow(clippy::expect_used, reason = "a table can be read at any time, and so there is one era at least")]
        last.expect("an era")
    }

    /// Switches the tally to the era of a request that ended at `second`; without a time, to the present one.
    pub(super) fn turn(&mut self, tally: &mut Tally<'a>, second: Option<i64>) {
        let then = second.map(Moment::from_unix_seconds);
        let wanted = match then {
            Some(then) => self.eras.iter().rposition(|(from, _)| from.is_none_or(|from| from <= then)).unwrap_or(0),
            None => self.eras.len().saturating_sub(1),
        };
        if wanted == self.current {
            return;
        }
        let next = self.eras.get_mut(wanted).and_then(|(_, era)| era.take());
        let Some(next) = next else { return };
        let last = tally.go_on_with(next);
        if let Some((_, place)) = self.eras.get_mut(self.current) {
            *place = Some(last);
        }
        self.current = wanted;
    }
}

/// The most dates of a law that are told apart, the newest ones: earlier requests are decided by the law before them.
const MOST_ERAS: usize = 256;
