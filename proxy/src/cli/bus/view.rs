//! The state of the bus at one moment: the live table, a staged one, and the nodes' reports.

use std::collections::BTreeMap;
use std::time::SystemTime;

use config::bus::{Bus, BusError, Entry, MOST_EPOCHS, NodeReport, Place, Publication, REPORT_EVERY, Stage};

/// Nodes' reports, and when the bus stored each.
pub(in crate::cli) type Reports = Vec<(NodeReport, SystemTime)>;

/// An epoch and a revision: which of two tables is newer.
pub(in crate::cli) type Revision = (u64, u64);

/// The state of the bus at one moment.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct BusView {
    /// The newest revision of any key; 0 without a bucket.
    pub(in crate::cli) last_revision: u64,
    /// The live table, or that it was deleted.
    pub(in crate::cli) live: Option<Entry>,
    /// The newest text: the live one, or the one before it was deleted.
    pub(in crate::cli) newest: Option<Published>,
    /// The table that most nodes have in force, if none has the live one.
    pub(in crate::cli) held: Option<Published>,
    /// The staged table, or that it was withdrawn.
    pub(in crate::cli) staged: Option<Entry>,
    /// The reports of live nodes.
    pub(in crate::cli) reports: Reports,
}

/// A table on the bus that was not deleted.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Published {
    pub(in crate::cli) revision: u64,
    pub(in crate::cli) created: SystemTime,
    pub(in crate::cli) publication: Publication,
}

impl BusView {
    /// Reads the state of the bus; it is empty without a bucket.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub(in crate::cli) async fn read(bus: &Bus) -> Result<Self, BusError> {
        let last_revision = match bus.pulse().await {
            Err(BusError::NoBucket { .. }) => return Ok(Self::default()),
            pulse => pulse?.last_revision,
        };
        let live = bus.live(Place::Table).await?;
        let newest = match &live {
            Some(Entry { publication: None, .. }) => bus.history().await?.into_iter().rev().find_map(Published::of),
            live => live.clone().and_then(Published::of),
        };
        let staged = bus.live(Place::Rollout).await?;
        let mut view = Self { last_revision, live, newest, staged, reports: bus.reports().await?, ..Self::default() };
        if let Some(order) = view.elsewhere() {
            let held = bus.fetch(Place::Table, order.1).await?.and_then(Published::of);
            view.held = held.filter(|held| held.order() == order);
        }
        Ok(view)
    }

    /// Returns the table that most nodes have in force, if none has the live one and some node refuses or ignores it.
    /// Otherwise they may only not have seen it yet.
    fn elsewhere(&self) -> Option<Revision> {
        let live = self.newest.as_ref()?.order();
        let refuses = |report: &NodeReport| {
            report.refused.as_ref().is_some_and(|refused| (refused.epoch, refused.revision) == live)
        };
        let mut counts = BTreeMap::<Revision, usize>::new();
        for (report, _) in self.reports.iter().filter(|(report, _)| report.revision > 0 && !report.staged) {
            *counts.entry((report.epoch, report.revision)).or_default() += 1;
        }
        let is_unwanted =
            self.reports.iter().any(|(report, _)| refuses(report)) || counts.keys().any(|order| *order > live);
        let most = counts.iter().max_by_key(|(order, count)| (**count, **order));
        most.filter(|_| is_unwanted && !counts.contains_key(&live)).map(|(order, _)| *order)
    }

    /// Returns the revision that the live table must still have for another to take its place.
    pub(in crate::cli) fn revision(&self) -> u64 {
        self.live.as_ref().map_or(0, |live| live.revision)
    }

    /// Returns the live table, if it was not deleted.
    pub(in crate::cli) fn live_text(&self) -> Option<&Published> {
        self.newest.as_ref().filter(|newest| newest.revision == self.revision())
    }

    /// Returns the epoch that the next publication carries forward.
    pub(in crate::cli) fn epoch(&self) -> u64 {
        let newest = self.newest.as_ref().map_or(1, |newest| newest.publication.epoch.max(1));
        // The epochs in force show when somebody has written one that is too far ahead.
        let in_force = self.reports.iter().map(|(report, _)| report.epoch).filter(|epoch| *epoch > 0).min();
        in_force.filter(|epoch| newest > epoch.saturating_add(MOST_EPOCHS)).unwrap_or(newest)
    }

    /// Returns the newest table that any node has in force. Reports of an epoch more than [`MOST_EPOCHS`] ahead are
    /// ignored.
    pub(in crate::cli) fn fleet(&self) -> Option<Revision> {
        let most = self.epoch().saturating_add(MOST_EPOCHS);
        let marks = self.reports.iter().map(|(report, _)| (report.epoch, report.revision));
        marks.filter(|(epoch, _)| *epoch <= most).max()
    }

    /// Returns an epoch that is greater than all known ones.
    pub(in crate::cli) fn next_epoch(&self) -> u64 {
        let newest = self.newest.as_ref().map_or(0, |_| self.epoch());
        self.fleet().map_or(0, |(epoch, _)| epoch).max(newest).saturating_add(1)
    }

    /// Returns the staged table in effect, and its stage: it is newer than the live one, and its lease still runs.
    pub(in crate::cli) fn under_way(&self, now: SystemTime) -> Option<(Published, Stage)> {
        let entry = self.staged.clone()?;
        let left = entry.lease_left(now);
        let staged = Published::of(entry)?;
        let stage = staged.publication.stage.clone()?;
        let counts = staged.revision > self.revision() && !left.is_zero();
        counts.then_some((staged, stage))
    }
}

impl Published {
    /// Returns the table of an entry; `None` for a deletion.
    pub(in crate::cli) fn of(entry: Entry) -> Option<Self> {
        let Entry { revision, created, publication, .. } = entry;
        publication.map(|publication| Self { revision, created, publication })
    }

    /// Returns the table's place in the order of tables.
    pub(in crate::cli) fn order(&self) -> Revision {
        (self.publication.epoch, self.revision)
    }
}

/// Returns whether a node's last report is older than two report intervals.
pub(in crate::cli) fn is_silent(reported_at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(reported_at).is_ok_and(|silence| silence > 2 * REPORT_EVERY)
}

#[cfg(test)]
pub(in crate::cli) mod samples {
    use config::bus::NodeState;
    use policy::trial::Observed;

    use super::*;

    /// Returns the report of a node with this table in force.
    pub(in crate::cli) fn report(node: &str, region: &str, (epoch, revision): Revision) -> NodeReport {
        NodeReport {
            node: node.to_owned(),
            region: region.to_owned(),
            instance: format!("{node}-1"),
            meridian: "0.1.0".to_owned(),
            started: 0,
            at: 0,
            state: NodeState::Applied,
            epoch,
            revision,
            sha256: String::new(),
            version: "1".to_owned(),
            staged: false,
            since: 0,
            problems: Vec::new(),
            refused: None,
            notes: Vec::new(),
            expired: false,
            expires: None,
            signed: None,
            draining: false,
            observed: Observed::default(),
            lately: Observed::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use config::bus::Refused;

    use super::*;

    fn entry(revision: u64, epoch: u64, stage: Option<Stage>) -> Entry {
        let publication = Publication { stage, ..Publication::new("a", epoch, 0, "me") };
        Entry { revision, created: SystemTime::UNIX_EPOCH, publication: Some(publication), unreadable: None }
    }

    #[test]
    fn a_staged_table_counts_while_it_is_newer_and_its_lease_runs() {
        let lease = Duration::from_secs(60);
        let stage = Stage { nodes: ["a".to_owned()].into(), lease };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (live, staged, now, counts) in
            [(None, 5, 59, true), (Some(4), 5, 59, true), (Some(4), 5, 60, false), (Some(6), 5, 1, false)]
        {
            let live = live.map(|revision| entry(revision, 1, None));
            let staged = Some(entry(staged, 1, Some(stage.clone())));
            let view = BusView { live, staged, ..BusView::default() };
            assert_eq!(view.under_way(at(now)).is_some(), counts, "{now}");
        }
        let withdrawn = Entry { publication: None, ..entry(5, 1, None) };
        assert!(BusView { staged: Some(withdrawn), ..BusView::default() }.under_way(at(1)).is_none());
    }

    #[test]
    fn what_the_nodes_have_counts_if_none_has_the_live_table() {
        let at = SystemTime::UNIX_EPOCH;
        for (in_force, expected) in [
            (vec![], None),
            (vec![(1, 9), (1, 4)], None),
            (vec![(1, 4), (1, 6), (1, 4)], Some((1, 4))),
            (vec![(1, 4), (1, 6)], Some((1, 6))),
            (vec![(2, 4)], Some((2, 4))),
            // Waiting for a first one.
            (vec![(0, 0)], None),
        ] {
            let refused = Some(Refused { epoch: 1, revision: 9, sha256: String::new(), at: 0 });
            let report =
                |order: &Revision| NodeReport { refused: refused.clone(), ..samples::report("a", "r", *order) };
            let reports = in_force.iter().map(|order| (report(order), at)).collect();
            let view = BusView { newest: Published::of(entry(9, 1, None)), reports, ..BusView::default() };
            assert_eq!(view.elsewhere(), expected, "{in_force:?}");
            let reports = in_force.iter().map(|order| (samples::report("a", "r", *order), at)).collect();
            // It may be on its way, unless they ignore it.
            let expected = expected.filter(|order| *order > (1, 9));
            assert_eq!(BusView { reports, ..view }.elsewhere(), expected, "{in_force:?}");
        }
    }

    #[test]
    fn epochs_are_carried_forward_and_a_new_one_is_beyond_all() {
        assert_eq!((BusView::default().epoch(), BusView::default().next_epoch()), (1, 1));
        let at = SystemTime::UNIX_EPOCH;
        let view = BusView {
            newest: Published::of(entry(4, 2, None)),
            reports: vec![(samples::report("a", "r", (3, 900)), at), (samples::report("b", "r", (2, 901)), at)],
            ..BusView::default()
        };
        assert_eq!((view.epoch(), view.fleet(), view.next_epoch()), (2, Some((3, 900)), 4));
    }
}
