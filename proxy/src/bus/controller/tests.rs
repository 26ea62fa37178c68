//! What has changed while a table was examined, with real examinations.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use config::bus::{Publication, Stage as Staging};

use super::*;
use crate::bus_state::samples;

/// The controller of the node `me`, of whose first table no node is made.
struct Story {
    tables: TableController,
    _first: oneshot::Receiver<Arc<Table>>,
    _node: oneshot::Sender<Arc<Node>>,
}

impl Story {
    fn new(directory: &Path) -> Story {
        let (_, source) = samples(directory);
        let state = BusState::sample(directory);
        let ((first, _first), (_node, node)) = (oneshot::channel(), oneshot::channel());
        Story { tables: TableController::new(source, state, first, node), _first, _node }
    }

    /// Returns a controller with the table of revision 10 in force.
    async fn begun(directory: &Path) -> Story {
        let mut story = Story::new(directory);
        story.finds(Place::Table, entry(10, "1", Place::Table));
        story.examined().await;
        story.tables.on(Event::NodeMade);
        assert_eq!(story.in_force(), Some(10));
        story
    }

    fn finds(&mut self, place: Place, entry: Entry) {
        let reading = self.tables.reading(place, entry);
        self.tables.on(Event::Found(place, reading));
    }

    fn finds_deleted(&mut self, place: Place, revision: u64) {
        self.tables.on(Event::Found(place, Reading::Deleted { revision }));
    }

    fn counted(&self, event: &str) -> u64 {
        self.tables.state.metrics.bus_events.with_label_values(&[event]).get()
    }

    fn in_force(&self) -> Option<u64> {
        self.tables.machine.in_force().map(|table| table.version.revision)
    }

    fn refused(&self) -> Option<u64> {
        self.tables.state.status().refused.map(|refused| refused.revision)
    }

    /// Waits until the examination that is under way has ended, and the rest that is before it.
    async fn examined(&mut self) {
        loop {
            let event = self.tables.event().await;
            let is_over = matches!(event, Event::Examined(_));
            self.tables.on(event);
            if is_over {
                return;
            }
        }
    }
}

fn entry(revision: u64, version: &str, place: Place) -> Entry {
    let text = format!(
        "version = '{version}'\n[regions.a]\ncountry = 'DE'\nendpoints = ['10.0.0.1:80']\n[[routes]]\nname = 'r'\n"
    );
    let mut publication = Publication::new(text, 1, 0, "me");
    let nodes = BTreeSet::from(["me".to_owned()]);
    publication.stage = (place == Place::Rollout).then(|| Staging { nodes, lease: Duration::from_secs(60) });
    Entry { revision, created: SystemTime::now(), publication: Some(publication), unreadable: None }
}

fn poison(revision: u64, place: Place) -> Entry {
    let mut bad = entry(revision, "poison", place);
    bad.publication.as_mut().unwrap().text = "poison".into();
    bad
}

#[tokio::test]
async fn what_is_withdrawn_while_it_is_examined_never_goes_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begun(directory.path()).await;
    story.finds(Place::Rollout, entry(11, "2", Place::Rollout));
    story.finds_deleted(Place::Rollout, 12);
    story.examined().await;
    assert_eq!((story.in_force(), story.counted("staged")), (Some(10), 0));
    // Nor is it taken for the next one.
    story.finds(Place::Rollout, entry(13, "3", Place::Rollout));
    story.examined().await;
    assert_eq!((story.in_force(), story.counted("staged")), (Some(13), 1));
}

#[tokio::test]
async fn a_staged_table_stays_in_force_until_its_promotion_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begun(directory.path()).await;
    story.finds(Place::Rollout, entry(11, "2", Place::Rollout));
    story.examined().await;
    // The promotion, and at once the end of what was staged.
    story.finds(Place::Table, entry(12, "2", Place::Table));
    story.finds_deleted(Place::Rollout, 13);
    assert_eq!(story.in_force(), Some(11));
    story.examined().await;
    assert_eq!((story.in_force(), story.counted("returned")), (Some(12), 0));

    // Heard of, but not yet read; and then it is bad, and no promotion.
    story.finds(Place::Rollout, entry(14, "3", Place::Rollout));
    story.examined().await;
    story.tables.on(Event::Connected);
    story.tables.on(Event::Announced(Place::Table, 15));
    story.finds_deleted(Place::Rollout, 16);
    assert_eq!(story.in_force(), Some(14));
    let bad = story.tables.reading(Place::Table, poison(15, Place::Table));
    story.tables.on(Event::Read(Place::Table, 15, Some(bad)));
    assert_eq!(story.in_force(), Some(14));
    story.examined().await;
    assert_eq!((story.in_force(), story.counted("returned")), (Some(12), 1));
}

#[tokio::test]
async fn the_end_of_one_staged_table_is_not_that_of_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begun(directory.path()).await;
    story.finds(Place::Rollout, entry(20, "2", Place::Rollout));
    story.examined().await;
    story.finds(Place::Table, entry(21, "3", Place::Table));
    story.finds_deleted(Place::Rollout, 22);
    story.finds(Place::Rollout, entry(23, "4", Place::Rollout));
    story.examined().await;
    story.examined().await;
    assert_eq!((story.in_force(), story.counted("returned")), (Some(23), 0));
}

#[tokio::test]
async fn a_staged_table_does_not_make_a_refused_one_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begun(directory.path()).await;
    story.finds(Place::Table, poison(11, Place::Table));
    story.examined().await;
    story.finds(Place::Rollout, entry(12, "3", Place::Rollout));
    story.examined().await;
    assert_eq!((story.in_force(), story.refused()), (Some(12), Some(11)));
}

#[tokio::test]
async fn a_later_table_ends_the_refusal_of_a_staged_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::begun(directory.path()).await;
    story.finds(Place::Rollout, poison(11, Place::Rollout));
    story.examined().await;
    assert_eq!(story.refused(), Some(11));
    story.finds(Place::Table, entry(12, "3", Place::Table));
    story.examined().await;
    assert_eq!((story.in_force(), story.refused()), (Some(12), None));
}

#[tokio::test]
async fn a_table_that_waits_for_the_buss_word_is_released_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let kept = entry(10, "1", Place::Table).publication.unwrap();
    let version = TableVersion::of(&kept, 10);
    Snapshot::write(&directory.path().join("last-good.toml"), &kept, &version, None).unwrap();
    let mut story = Story::new(directory.path());
    story.tables.load_snapshot().await;
    assert!(story.tables.is_holding());
    // While something newer is on its way, there is reason to wait.
    story.finds(Place::Table, entry(12, "2", Place::Table));
    story.tables.on(Event::NothingNewer);
    assert!(story.tables.is_holding());
    story.finds_deleted(Place::Table, 13);
    assert_eq!(story.in_force(), Some(10));
    story.examined().await;
    assert_eq!(story.in_force(), Some(10));
}

#[tokio::test]
async fn a_lease_counts_from_when_the_bus_took_it() {
    let directory = tempfile::tempdir().unwrap();
    let story = Story::new(directory.path());
    let left = |entry: &Entry| match story.tables.reading(Place::Rollout, entry.clone()) {
        Reading::Offer(Offer { lease: Some(lease), .. }) => lease.until.saturating_sub(clock::uptime()),
        other => panic!("{other:?}"),
    };
    let mut old = entry(5, "1", Place::Rollout);
    old.created -= Duration::from_secs(61);
    assert_eq!(left(&old), Duration::ZERO);
    old.created = SystemTime::now() + Duration::from_secs(3600);
    assert!(left(&old) > Duration::from_secs(59));
    // Put there again, it is as old as it was.
    old.publication.as_mut().unwrap().issued_ms = 1_000;
    assert_eq!(left(&old), Duration::ZERO);
}
