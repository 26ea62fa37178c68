//! Single stories; `model.rs` has every order of events.

use std::time::Duration;

use config::bus::{Ignored, Place, TableVersion};

use super::*;
use crate::bus::examine::Refusal;

const NOW: Duration = Duration::from_secs(1000);

/// A table of its version alone.
impl Passed for TableVersion {
    fn version(&self) -> &TableVersion {
        self
    }
}

type Tested = Machine<(), TableVersion>;

fn version(revision: u64, text: &str) -> TableVersion {
    TableVersion { epoch: 1, revision, issued_ms: 0, sha256: text.to_owned() }
}

fn offer(revision: u64, text: &str, lease: Option<Lease>) -> Reading<()> {
    let version = version(revision, text);
    Reading::Offer(Offer { version, fingerprint: format!("{text} {lease:?}"), lease, publication: () })
}

fn lease(is_for_this_node: bool, seconds: u64) -> Option<Lease> {
    Some(Lease { is_for_this_node, until: NOW + Duration::from_secs(seconds) })
}

/// Returns the machine of a node that has this table in force, and a connection.
fn serving(revision: u64, text: &str) -> Tested {
    let mut machine = Machine::new();
    machine.on(Event::Connected, NOW);
    machine.on(Event::Found(Place::Table, offer(revision, text, None)), NOW);
    machine.on(Event::Examined(Ok(version(revision, text))), NOW);
    machine.on(Event::NodeMade, NOW);
    assert_eq!(in_force(&machine), Some((revision, false)));
    machine
}

/// Returns which revision is in force, and whether it is staged.
fn in_force(machine: &Tested) -> Option<(u64, bool)> {
    machine.in_force().map(|table| (table.revision, machine.staged().is_some()))
}

fn found(machine: &mut Tested, place: Place, reading: Reading<()>) -> Vec<Effect<(), TableVersion>> {
    machine.on(Event::Found(place, reading), NOW)
}

fn is_examined(effects: &[Effect<(), TableVersion>]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Examine { .. }))
}

fn returned(effects: &[Effect<(), TableVersion>]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Returned { from: Some(table), .. } => Some(table.revision),
        _ => None,
    })
}

#[test]
fn only_the_newest_of_a_place_is_read_and_the_table_of_all_first() {
    let mut machine = serving(1, "0");
    // Something is under way: the rest waits.
    found(&mut machine, Place::Table, offer(2, "1", None));
    for (place, revision) in [(Place::Rollout, 7), (Place::Table, 5), (Place::Table, 4), (Place::Table, 6)] {
        machine.on(Event::Announced(place, revision), NOW);
    }
    assert_eq!(machine.request(), None);
    machine.on(Event::Examined(Ok(version(2, "1"))), NOW);
    assert_eq!(machine.request(), Some(Request::Read(Place::Table, 6)));
    machine.on(Event::Read(Place::Table, 6, None), NOW);
    assert_eq!(machine.request(), Some(Request::Read(Place::Rollout, 7)));
    machine.on(Event::Read(Place::Rollout, 7, None), NOW);
    assert_eq!(machine.request(), None);
    // What was not there is forgotten, so that it is news when it is asked for.
    assert_eq!((machine.newest_known(Place::Table), machine.newest_known(Place::Rollout)), (0, 0));
}

#[test]
fn a_staged_table_is_in_force_while_it_is_newer_named_and_leased() {
    let mut machine = serving(10, "1");
    assert!(!is_examined(&found(&mut machine, Place::Rollout, offer(11, "2", lease(false, 60)))));
    assert!(is_examined(&found(&mut machine, Place::Rollout, offer(12, "2", lease(true, 60)))));
    machine.on(Event::Examined(Ok(version(12, "2"))), NOW);
    assert_eq!(in_force(&machine), Some((12, true)));
    // A newer table of all ends it: its own promotion, or somebody's haste.
    found(&mut machine, Place::Table, offer(13, "2", None));
    assert_eq!(in_force(&machine), Some((12, true)));
    machine.on(Event::Examined(Ok(version(13, "2"))), NOW);
    assert_eq!(in_force(&machine), Some((13, false)));
    assert!(!is_examined(&found(&mut machine, Place::Rollout, offer(12, "2", lease(true, 60)))));

    found(&mut machine, Place::Rollout, offer(15, "3", lease(true, 60)));
    machine.on(Event::Examined(Ok(version(15, "3"))), NOW);
    assert_eq!(machine.staged().map(|(_, until)| until), Some(NOW + Duration::from_secs(60)));
    assert_eq!(machine.wakes_at(), Some(NOW + Duration::from_secs(60)));
    // An older table of all, late, changes nothing; nor does the last moment of the lease.
    found(&mut machine, Place::Table, offer(9, "0", None));
    assert!(machine.on(Event::Tick, NOW + Duration::from_millis(59_999)).is_empty());
    assert_eq!(in_force(&machine), Some((15, true)));
    assert_eq!(returned(&machine.on(Event::Tick, NOW + Duration::from_secs(60))), Some(15));
    assert_eq!(in_force(&machine), Some((13, false)));
    // A lease that is over when the examination ends is none.
    found(&mut machine, Place::Rollout, offer(16, "4", lease(true, 1)));
    machine.on(Event::Examined(Ok(version(16, "4"))), NOW + Duration::from_secs(1));
    assert_eq!(in_force(&machine), Some((13, false)));
}

#[test]
fn a_held_table_is_compared_with_and_not_in_force() {
    let held = || {
        let mut machine = Tested::new();
        machine.on(Event::SnapshotLoaded(version(10, "1")), NOW);
        machine.on(Event::Connected, NOW);
        assert_eq!(in_force(&machine), None);
        machine
    };
    let older = Ignored::NotNewer { found: (1, 9), in_force: (1, 10) };
    for (event, expected) in [
        (Event::Found(Place::Table, offer(10, "1", None)), vec![Effect::Released(Warrant::Bus), Effect::Confirmed]),
        (
            Event::Found(Place::Table, offer(9, "0", None)),
            vec![Effect::Ignored(older), Effect::Released(Warrant::Snapshot)],
        ),
        (Event::TableAbsent, vec![Effect::Ignored(Ignored::Absent), Effect::Released(Warrant::Snapshot)]),
        (Event::NothingNewer, vec![Effect::Released(Warrant::Snapshot)]),
        (Event::Disconnected, vec![Effect::Released(Warrant::Snapshot)]),
    ] {
        let mut machine = held();
        assert_eq!(machine.on(event.clone(), NOW), expected, "{event:?}");
        assert_eq!(in_force(&machine), Some((10, false)), "{event:?}");
    }
    // So does a newer table that is refused.
    let mut machine = held();
    found(&mut machine, Place::Table, offer(12, "bad", None));
    let effects = machine.on(Event::Examined(Err(Refusal::Bad(Vec::new()))), NOW);
    assert!(matches!(effects[..], [Effect::Released(Warrant::Snapshot), Effect::Refused { .. }]), "{effects:?}");
    // A staged table waits until there is one to go back to.
    let mut machine = held();
    assert!(found(&mut machine, Place::Rollout, offer(12, "2", lease(true, 60))).is_empty());
    found(&mut machine, Place::Table, offer(10, "1", None));
    assert!(is_examined(&machine.on(Event::NodeMade, NOW)));
    // While something newer is on its way, there is reason to wait.
    let mut machine = held();
    machine.on(Event::Announced(Place::Table, 12), NOW);
    assert!(machine.on(Event::NothingNewer, NOW).is_empty() && machine.is_holding());
}

#[test]
fn a_refusal_is_followed_by_a_rest_and_remembered() {
    let mut machine = serving(10, "1");
    found(&mut machine, Place::Table, offer(11, "bad", None));
    let effects = machine.on(Event::Examined(Err(Refusal::Bad(Vec::new()))), NOW + Duration::from_secs(2));
    assert!(matches!(effects[..], [Effect::Refused { repetition: Repetition::First, .. }]), "{effects:?}");
    // A good one waits for four times as long as the bad one took.
    assert!(!is_examined(&machine.on(Event::Found(Place::Table, offer(12, "2", None)), NOW + Duration::from_secs(3))));
    assert_eq!(machine.wakes_at(), Some(NOW + Duration::from_secs(10)));
    assert!(is_examined(&machine.on(Event::Tick, NOW + Duration::from_secs(10))));
    machine.on(Event::Examined(Err(Refusal::Bad(Vec::new()))), NOW + Duration::from_secs(3600));
    assert_eq!(machine.work, Work::Resting { until: NOW + Duration::from_secs(3615) });
    machine.on(Event::Tick, NOW + Duration::from_secs(4000));
    let effects = machine.on(Event::Found(Place::Table, offer(13, "bad", None)), NOW + Duration::from_secs(4000));
    assert!(matches!(effects[..], [Effect::Refused { repetition: Repetition::Again, .. }]), "{effects:?}");
    assert_eq!((machine.quarantined(), in_force(&machine)), (2, Some((10, false))));
}

#[test]
fn what_a_stranger_stages_does_not_make_a_distrusted_table_forgotten() {
    let mut machine = serving(10, "1");
    for (place, reading) in [(Place::Table, offer(11, "2", None)), (Place::Rollout, offer(12, "3", lease(true, 60)))] {
        found(&mut machine, place, reading);
        machine.on(Event::Examined(Err(Refusal::Untrusted(Vec::new()))), NOW);
    }
    assert!(machine.distrusted(Place::Table).is_some() && machine.distrusted(Place::Rollout).is_some());
    assert!(is_examined(&machine.on(Event::Trusted(Place::Table), NOW)));
    assert!(machine.distrusted(Place::Table).is_none());
    machine.on(Event::Examined(Ok(version(11, "2"))), NOW);
    assert_eq!(in_force(&machine), Some((11, false)));
}

#[test]
fn what_shrinks_is_examined_after_what_was_missed() {
    let mut machine = serving(10, "1");
    let shrinks = || Event::Examined(Err(Refusal::Shrinks(Vec::new())));
    found(&mut machine, Place::Table, offer(13, "3", None));
    machine.on(shrinks(), NOW);
    assert_eq!(machine.request(), Some(Request::Recall { after: 10, before: 13 }));
    let Reading::Offer(missed) = offer(12, "2", None) else { unreachable!() };
    assert!(is_examined(&machine.on(Event::Recalled(vec![missed]), NOW)));
    machine.on(Event::Examined(Ok(version(13, "3"))), NOW);
    assert_eq!(in_force(&machine), Some((13, false)));
    // Nothing was missed, or it does not help: refused.
    found(&mut machine, Place::Table, offer(14, "4", None));
    machine.on(shrinks(), NOW);
    // That there was none is asked for twice.
    assert!(machine.on(Event::Recalled(Vec::new()), NOW).is_empty() && machine.request().is_some());
    let effects = machine.on(Event::Recalled(Vec::new()), NOW);
    assert!(matches!(effects[..], [Effect::Refused { .. }]), "{effects:?}");
    // Without a bus it waits for the next connection.
    found(&mut machine, Place::Table, offer(15, "5", None));
    machine.on(Event::Disconnected, NOW);
    assert!(machine.on(shrinks(), NOW).is_empty());
    assert_eq!((machine.request(), machine.newest_known(Place::Table)), (None, 0));
}

/// Checks that a second report of an absent table changes nothing.
#[test]
fn absences_do_not_make_an_older_table_news() {
    let mut machine = serving(10, "1");
    machine.on(Event::Announced(Place::Table, 12), NOW);
    for _ in 0..3 {
        machine.on(Event::TableAbsent, NOW);
    }
    for (revision, known) in [(11, 0), (12, 12)] {
        found(&mut machine, Place::Table, offer(revision, "next", None));
        assert_eq!(machine.newest_known(Place::Table), known, "revision {revision}");
    }
}

#[test]
fn what_was_examined_for_an_earlier_connection_may_lie_in_another_bucket() {
    // A table of all nodes is newer than the one before it, wherever it lay; what lies there now is read.
    let mut machine = serving(10, "1");
    found(&mut machine, Place::Table, offer(11, "2", None));
    machine.on(Event::Disconnected, NOW);
    machine.on(Event::Connected, NOW);
    machine.on(Event::Announced(Place::Table, 11), NOW);
    machine.on(Event::Examined(Ok(version(11, "2"))), NOW);
    assert_eq!((in_force(&machine), machine.request()), (Some((11, false)), Some(Request::Read(Place::Table, 11))));
    let Reading::Offer(same) = offer(11, "2", None) else { unreachable!() };
    assert_eq!(machine.on(Event::Read(Place::Table, 11, Some(Reading::Offer(same))), NOW), [Effect::Confirmed]);
    // A staged one may have been withdrawn: it is examined again.
    found(&mut machine, Place::Rollout, offer(12, "3", lease(true, 60)));
    machine.on(Event::Disconnected, NOW);
    machine.on(Event::Connected, NOW);
    machine.on(Event::Examined(Ok(version(12, "3"))), NOW);
    assert_eq!(in_force(&machine), Some((11, false)));
    assert!(is_examined(&found(&mut machine, Place::Rollout, offer(12, "3", lease(true, 60)))));
}
