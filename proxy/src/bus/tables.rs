//! Which table of the bus is in force: the one of all nodes, or a staged one while it is newer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::bus::{Comparison, Entry, Ignored, Place, Publication, Quarantine, TableVersion, compare};
use config::{Problem, RoutingTable};

/// The tables that this node has accepted.
#[derive(Debug, Default)]
pub struct Tables {
    newest: Option<TableVersion>,
    quarantine: Quarantine,
    base: Option<Arc<Table>>,
    /// Whether that is the snapshot's, and waits for the bus's word before it goes in force.
    is_held_back: bool,
    staged: Option<Staged>,
}

/// An accepted table.
#[derive(Debug)]
pub struct Table {
    /// As it came.
    pub publication: Publication,
    /// What it says.
    pub document: RoutingTable,
    /// What later ones are compared with.
    pub version: TableVersion,
}

#[derive(Debug)]
struct Staged {
    table: Arc<Table>,
    /// By [`crate::routing::now`]: without its promotion until then it lapses.
    until: Duration,
}

/// What becomes of a table on the bus, before it is examined.
#[derive(Debug)]
pub enum Next {
    /// It is in force already.
    Nothing,
    /// It does not count, and why, if that is worth a word.
    Ignore(Option<Ignored>),
    /// It was refused before.
    Refused(Vec<Problem>),
    /// It is to be examined.
    Examine,
}

impl Tables {
    /// What becomes of an entry of a place. `me` is this node's name.
    pub fn weigh(&self, place: Place, entry: &Entry, me: &str) -> Next {
        match place {
            Place::Table => match self.compare(entry) {
                Ok(next) => next,
                Err(why) => Next::Ignore(Some(why)),
            },
            Place::Rollout => self.weigh_staged(entry, me),
        }
    }

    /// A staged table counts for those that it names, while it is newer than the table of all.
    fn weigh_staged(&self, entry: &Entry, me: &str) -> Next {
        let stage = entry.publication.as_ref().and_then(|publication| publication.stage.as_ref());
        let is_ours = stage.is_some_and(|stage| stage.nodes.contains(me)) && left(entry) > Duration::ZERO;
        // Without a table of all there is none to go back to.
        if !is_ours || self.in_force().is_none() {
            return Next::Ignore(None);
        }
        if self.staged.as_ref().is_some_and(|staged| staged.table.version.revision == entry.revision) {
            return Next::Nothing;
        }
        match self.compare(entry) {
            // Not newer than the table of all: it was promoted, or overtaken.
            Ok(Next::Nothing) | Err(_) => Next::Ignore(None),
            Ok(next) => next,
        }
    }

    fn compare(&self, entry: &Entry) -> Result<Next, Ignored> {
        let Some(publication) = &entry.publication else { return Err(Ignored::Deleted) };
        let current = self.newest.as_ref();
        match compare(&TableVersion::of(publication, entry.revision), current) {
            Comparison::InForce => Ok(Next::Nothing),
            Comparison::Ignored(why) => Err(why),
            Comparison::Newer => Ok(match self.quarantine.problems(&publication.fingerprint(), current) {
                Some(problems) => Next::Refused(problems.to_vec()),
                None => Next::Examine,
            }),
        }
    }

    /// A table has passed.
    pub fn accept(&mut self, place: Place, entry: &Entry, table: Arc<Table>, now: Duration) {
        match place {
            Place::Table => {
                self.newest = Some(table.version.clone());
                let is_newer = |staged: &Staged| key(&staged.table.version) > key(&table.version);
                self.staged = self.staged.take().filter(is_newer);
                self.base = Some(table);
                self.is_held_back = false;
            }
            Place::Rollout => self.staged = Some(Staged { table, until: now + left(entry) }),
        }
    }

    /// The snapshot's table: what the bus says is compared with it, but it is not in force.
    pub fn hold_back(&mut self, table: Arc<Table>) {
        self.newest = Some(table.version.clone());
        self.base = Some(table);
        self.is_held_back = true;
    }

    /// What was held back goes in force. True if something was.
    pub fn release(&mut self) -> bool {
        std::mem::take(&mut self.is_held_back)
    }

    /// A table was refused for these reasons.
    pub fn refuse(&mut self, publication: &Publication, problems: Vec<Problem>) {
        self.quarantine.add(&publication.fingerprint(), self.newest.as_ref(), problems);
    }

    /// The staged table was taken away, or is no longer for this node. True if there was one.
    pub fn withdraw(&mut self) -> bool {
        self.staged.take().is_some()
    }

    /// The table in force.
    pub fn in_force(&self) -> Option<&Arc<Table>> {
        let base = self.base.as_ref().filter(|_| !self.is_held_back);
        self.staged.as_ref().map(|staged| &staged.table).or(base)
    }

    /// The table of all nodes, in force or held back.
    pub fn base(&self) -> Option<&Arc<Table>> {
        self.base.as_ref()
    }

    /// The staged table, while it is in force.
    pub fn staged(&self) -> Option<&Arc<Table>> {
        self.staged.as_ref().map(|staged| &staged.table)
    }

    /// When the staged table lapses, by [`crate::routing::now`].
    pub fn staged_until(&self) -> Option<Duration> {
        self.staged.as_ref().map(|staged| staged.until)
    }

    /// How many publications are in quarantine.
    pub fn quarantined(&self) -> usize {
        self.quarantine.len()
    }

    /// A table that passed before and whose text is this one's: it need not be read again.
    pub fn with_text(&self, text: &[u8]) -> Option<&RoutingTable> {
        let tables = self.base.iter().chain(self.staged.as_ref().map(|staged| &staged.table));
        let mut same = tables.filter(|table| table.publication.text == text);
        same.next().map(|table| &table.document)
    }
}

fn key(version: &TableVersion) -> (u64, u64) {
    (version.epoch, version.revision)
}

/// What is left of a staged table's lease now.
fn left(entry: &Entry) -> Duration {
    entry.lease_left(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use config::bus::Stage;

    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn entry(revision: u64, version: &str, staged_for: Option<(&str, u64)>) -> Entry {
        let text = format!(
            "version = '{version}'\n[regions.a]\ncountry = 'DE'\nendpoints = ['10.0.0.1:80']\n[[routes]]\nname = 'r'\n"
        );
        let mut publication = Publication::new(text, 1, 0, "me");
        let stage = |(nodes, lease): (&str, u64)| Stage {
            nodes: nodes.split(',').map(str::to_owned).collect(),
            lease: Duration::from_secs(lease),
        };
        publication.stage = staged_for.map(stage);
        Entry { revision, created: SystemTime::now(), publication: Some(publication), unreadable: None }
    }

    fn take(tables: &mut Tables, place: Place, entry: &Entry) {
        let publication = entry.publication.clone().unwrap();
        let document = RoutingTable::from_afar("bus", &publication.text, crate::clock::wall()).unwrap();
        let version = TableVersion::of(&publication, entry.revision);
        tables.accept(place, entry, Arc::new(Table { publication, document, version }), NOW);
    }

    fn in_force(tables: &Tables) -> (u64, bool) {
        let table = tables.in_force().unwrap();
        (table.version.revision, table.publication.stage.is_some())
    }

    #[test]
    fn a_staged_table_is_in_force_while_it_is_newer_named_and_leased() {
        let mut tables = Tables::default();
        take(&mut tables, Place::Table, &entry(10, "1", None));
        let staged = entry(12, "2", Some(("me,you", 60)));
        assert!(matches!(tables.weigh(Place::Rollout, &staged, "other"), Next::Ignore(None)));
        assert!(matches!(tables.weigh(Place::Rollout, &staged, "me"), Next::Examine));
        take(&mut tables, Place::Rollout, &staged);
        assert_eq!(in_force(&tables), (12, true));
        assert!(matches!(tables.weigh(Place::Rollout, &staged, "me"), Next::Nothing));
        // A newer table of all ends it: its own promotion, or somebody's haste.
        take(&mut tables, Place::Table, &entry(13, "2", None));
        assert_eq!(in_force(&tables), (13, false));
        assert!(matches!(tables.weigh(Place::Rollout, &staged, "me"), Next::Ignore(None)));
        take(&mut tables, Place::Rollout, &entry(15, "3", Some(("me", 60))));
        let left = tables.staged_until().unwrap() - NOW;
        assert!(left > Duration::from_secs(58) && left <= Duration::from_secs(60), "{left:?}");
        assert!(tables.withdraw());
        assert_eq!(in_force(&tables), (13, false));
        take(&mut tables, Place::Rollout, &entry(16, "4", Some(("me", 60))));
        assert!(tables.withdraw() && !tables.withdraw());
        assert_eq!(in_force(&tables), (13, false));
    }

    #[test]
    fn a_lease_counts_from_when_the_bus_took_it() {
        let mut tables = Tables::default();
        assert!(matches!(tables.weigh(Place::Rollout, &entry(2, "0", Some(("me", 60))), "me"), Next::Ignore(None)));
        take(&mut tables, Place::Table, &entry(3, "0", None));
        let mut old = entry(5, "1", Some(("me", 60)));
        old.created -= Duration::from_secs(61);
        assert!(matches!(tables.weigh(Place::Rollout, &old, "me"), Next::Ignore(None)));
        old.created = SystemTime::now() + Duration::from_secs(3600);
        assert!(matches!(tables.weigh(Place::Rollout, &old, "me"), Next::Examine));
        // Put there again, it is as old as it was.
        old.publication.as_mut().unwrap().issued_ms = 1_000;
        assert!(matches!(tables.weigh(Place::Rollout, &old, "me"), Next::Ignore(None)));
    }

    #[test]
    fn what_is_held_back_is_compared_with_and_not_in_force() {
        let mut tables = Tables::default();
        let kept = entry(10, "1", None);
        let publication = kept.publication.clone().unwrap();
        let document = RoutingTable::from_afar("bus", &publication.text, crate::clock::wall()).unwrap();
        let version = TableVersion::of(&publication, 10);
        tables.hold_back(Arc::new(Table { publication, document, version }));
        assert!(tables.in_force().is_none());
        assert!(matches!(tables.weigh(Place::Table, &entry(9, "0", None), "me"), Next::Ignore(Some(_))));
        assert!(matches!(tables.weigh(Place::Table, &kept, "me"), Next::Nothing));
        assert!(tables.release() && !tables.release());
        assert_eq!(in_force(&tables), (10, false));
    }
}
