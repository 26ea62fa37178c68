//! What has changed while a table was examined.

use std::collections::BTreeSet;
use std::path::Path;

use config::bus::{Publication, Stage as Staging};

use super::*;
use crate::bus::status::samples;

/// A desk of the node `me`, whose first table is taken by nobody.
struct Scene {
    desk: Desk,
    _first: oneshot::Receiver<Arc<Table>>,
    _node: oneshot::Sender<Arc<Node>>,
}

impl Scene {
    fn new(directory: &Path) -> Scene {
        let (_, source) = samples(directory);
        let state = BusState::sample(directory);
        let ((first, _first), (_node, node)) = (oneshot::channel(), oneshot::channel());
        Scene { desk: Desk::new(source, state, first, node), _first, _node }
    }

    fn counted(&self, event: &str) -> u64 {
        self.desk.state.metrics.bus_events.with_label_values(&[event]).get()
    }

    fn in_force(&self) -> Option<u64> {
        self.desk.tables.in_force().map(|table| table.version.revision)
    }

    /// Ends the examination that is under way.
    async fn examined(&mut self) {
        let result = finished(&mut self.desk.examination).await;
        let examination = self.desk.examination.take().unwrap();
        self.desk.judge(None, Examined { examination, result }).await.unwrap();
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

#[tokio::test]
async fn what_is_withdrawn_while_it_is_examined_never_goes_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(directory.path());
    scene.desk.weigh(Place::Table, entry(10, "1", Place::Table));
    scene.examined().await;
    assert_eq!(scene.in_force(), Some(10));

    scene.desk.weigh(Place::Rollout, entry(11, "2", Place::Rollout));
    scene.desk.taken_away(Place::Rollout);
    scene.examined().await;
    assert_eq!((scene.in_force(), scene.counted("staged")), (Some(10), 0));
    // Nor is it taken for the next one.
    scene.desk.weigh(Place::Rollout, entry(13, "3", Place::Rollout));
    scene.examined().await;
    assert_eq!((scene.in_force(), scene.counted("staged")), (Some(13), 1));
}

#[tokio::test]
async fn a_staged_table_stays_in_force_until_its_promotion_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(directory.path());
    scene.desk.weigh(Place::Table, entry(10, "1", Place::Table));
    scene.examined().await;
    scene.desk.weigh(Place::Rollout, entry(11, "2", Place::Rollout));
    scene.examined().await;
    // The promotion, and at once the end of what was staged.
    scene.desk.weigh(Place::Table, entry(12, "2", Place::Table));
    scene.desk.taken_away(Place::Rollout);
    scene.desk.let_time_pass();
    assert_eq!(scene.in_force(), Some(11));
    scene.examined().await;
    scene.desk.let_time_pass();
    assert_eq!((scene.in_force(), scene.counted("returned")), (Some(12), 0));

    // Heard of, but not yet looked at; and then it is bad, and no promotion.
    scene.desk.weigh(Place::Rollout, entry(13, "3", Place::Rollout));
    scene.examined().await;
    let mut bad = entry(14, "4", Place::Table);
    bad.publication.as_mut().unwrap().text = "poison".into();
    scene.desk.queue.want(Place::Table, Wanted::Entry(Box::new(bad.clone())));
    scene.desk.taken_away(Place::Rollout);
    scene.desk.let_time_pass();
    assert_eq!(scene.in_force(), Some(13));
    drop(scene.desk.queue.take());
    scene.desk.weigh(Place::Table, bad);
    scene.examined().await;
    scene.desk.let_time_pass();
    assert_eq!((scene.in_force(), scene.counted("returned")), (Some(12), 1));
}

#[tokio::test]
async fn the_end_of_one_staged_table_is_not_that_of_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(directory.path());
    scene.desk.weigh(Place::Table, entry(10, "1", Place::Table));
    scene.examined().await;
    scene.desk.weigh(Place::Rollout, entry(20, "2", Place::Rollout));
    scene.examined().await;
    scene.desk.weigh(Place::Table, entry(21, "3", Place::Table));
    scene.desk.taken_away(Place::Rollout);
    let next = entry(23, "4", Place::Rollout);
    scene.desk.queue.want(Place::Rollout, Wanted::Entry(Box::new(next.clone())));
    scene.examined().await;
    scene.desk.let_time_pass();
    drop(scene.desk.queue.take());
    scene.desk.weigh(Place::Rollout, next);
    scene.examined().await;
    scene.desk.let_time_pass();
    assert_eq!((scene.in_force(), scene.counted("returned")), (Some(23), 0));
}

#[tokio::test]
async fn a_staged_table_does_not_make_a_refused_one_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(directory.path());
    scene.desk.weigh(Place::Table, entry(10, "1", Place::Table));
    scene.examined().await;
    let mut bad = entry(11, "2", Place::Table);
    bad.publication.as_mut().unwrap().text = "poison".into();
    scene.desk.weigh(Place::Table, bad);
    scene.examined().await;
    scene.desk.weigh(Place::Rollout, entry(12, "3", Place::Rollout));
    scene.examined().await;
    assert_eq!(scene.in_force(), Some(12));
    assert_eq!(scene.desk.state.status().refused.map(|refused| refused.revision), Some(11));
}

#[tokio::test]
async fn a_later_table_ends_the_refusal_of_a_staged_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(directory.path());
    scene.desk.weigh(Place::Table, entry(10, "1", Place::Table));
    scene.examined().await;
    let mut bad = entry(11, "2", Place::Rollout);
    bad.publication.as_mut().unwrap().text = "poison".into();
    scene.desk.weigh(Place::Rollout, bad);
    scene.examined().await;
    assert_eq!(scene.desk.state.status().refused.map(|refused| refused.revision), Some(11));
    scene.desk.weigh(Place::Table, entry(12, "3", Place::Table));
    scene.examined().await;
    assert_eq!(scene.in_force(), Some(12));
    assert!(scene.desk.state.status().refused.is_none());
}

#[tokio::test]
async fn a_table_that_waits_for_the_buss_word_is_released_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let kept = entry(10, "1", Place::Table).publication.unwrap();
    let version = config::bus::TableVersion::of(&kept, 10);
    Snapshot::write(&directory.path().join("last-good.toml"), &kept, &version, None).unwrap();
    let mut scene = Scene::new(directory.path());
    scene.desk.hold_snapshot().await;
    assert!(scene.desk.is_holding_back() && scene.desk.is_idle());
    // While something newer is on its way, there is reason to wait.
    scene.desk.weigh(Place::Table, entry(12, "2", Place::Table));
    assert!(!scene.desk.is_idle());
    scene.desk.taken_away(Place::Table);
    assert_eq!(scene.in_force(), Some(10));
    scene.examined().await;
    assert_eq!(scene.in_force(), Some(10));
}
