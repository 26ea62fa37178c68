//! The decisions on writers that outlive the process: a file beside the bus's snapshot.
//!
//! A node that forgot by which term it goes could affirm, or write by, one that a majority has ended with its own voice. So
//! a term is on disk before this node says it, or writes by it. Terms of a table whose primary was never lost (0) promise
//! nothing that a node which has just started does not find out: nothing waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::supervise::{self, Need};

/// By which term a node goes for a primary and its standby.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptTerm {
    /// The primary's name.
    pub(crate) primary: String,
    /// See [`policy::health::Writer::term`].
    pub(crate) term: u64,
    /// See [`policy::health::Writer::has_spoken`].
    pub(crate) has_spoken: bool,
}

/// By the standby's name. A pair that a table no longer has stays: it may have it again.
type Terms = BTreeMap<String, KeptTerm>;

/// What is kept. Lives as long as the watch over upstreams, which is its only user.
#[derive(Default)]
pub(crate) struct KeptTerms {
    /// What is to be on disk.
    wanted: Terms,
    /// The standbys of which another term than the one that is wanted may be on disk, or on its way there.
    in_doubt: BTreeSet<String>,
    disk: Option<Disk>,
}

/// The thread that writes the file.
struct Disk {
    /// The newest that is to be written.
    newest: Arc<ArcSwap<Terms>>,
    /// What is on disk for sure.
    saved: Arc<ArcSwap<Terms>>,
    /// Wakes the thread: one message is enough, however slow the disk is.
    wake: SyncSender<()>,
}

impl KeptTerms {
    /// Reads what the process before this one has kept beside a snapshot, and starts the thread that keeps more. Without a
    /// snapshot nothing is kept.
    pub(crate) fn beside(snapshot: Option<&Path>) -> Self {
        let Some(file) = snapshot.map(|snapshot| {
            let mut name = snapshot.as_os_str().to_owned();
            name.push(".writers");
            PathBuf::from(name)
        }) else {
            return Self::default();
        };
        let read = read(&file);
        let saved = Arc::new(ArcSwap::from_pointee(read.clone()));
        let (newest, known) = (saved.load_full(), saved.clone());
        let newest = Arc::new(ArcSwap::new(newest));
        let (wake, woken) = sync_channel::<()>(1);
        let wanted = newest.clone();
        let work = move || {
            while woken.recv().is_ok() {
                let terms = wanted.load_full();
                match write(&file, &terms) {
                    Ok(()) => known.store(terms),
                    Err(error) => {
                        tracing::error!(file = %file.display(), %error, "{UNSAVED}");
                        // It is asked for again, several times a second.
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        };
        let _ = supervise::thread("writers", Need::Useful, work)
            .inspect_err(|error| tracing::error!(%error, "{UNSAVED}: its thread cannot be started"));
        Self { wanted: read, in_doubt: BTreeSet::new(), disk: Some(Disk { newest, saved, wake }) }
    }

    /// Returns whether there is a file.
    pub(crate) fn has_place(&self) -> bool {
        self.disk.is_some()
    }

    /// Returns by which term this node went for a standby and this primary when it was last here.
    pub(crate) fn of(&self, primary: &str, standby: &str) -> Option<&KeptTerm> {
        self.wanted.get(standby).filter(|kept| kept.primary == primary)
    }

    /// Has a term written, and returns whether this node may act by it: once it is on disk, and no other can be there any
    /// more, or where there is no file. What else is kept of it need not be.
    pub(crate) fn keep(&mut self, standby: &str, kept: KeptTerm) -> bool {
        let Some(disk) = &self.disk else { return true };
        let saved = disk.saved.load();
        if Arc::ptr_eq(&saved, &disk.newest.load()) {
            self.in_doubt.clear();
        }
        let promised =
            |terms: &Terms| terms.get(standby).filter(|it| it.primary == kept.primary).map_or(0, |it| it.term);
        if promised(&self.wanted) != kept.term {
            self.in_doubt.insert(standby.to_owned());
        }
        let may_act = promised(&saved) == kept.term && !self.in_doubt.contains(standby);
        let is_saved = may_act && saved.get(standby) == Some(&kept);
        if is_saved && self.wanted.get(standby) == Some(&kept) {
            return true;
        }
        if self.wanted.get(standby) != Some(&kept) {
            self.wanted.insert(standby.to_owned(), kept);
            // Of pairs that tables no longer have.
            while self.wanted.len() > MOST {
                let Some(other) = self.wanted.keys().find(|name| *name != standby).cloned() else { break };
                self.wanted.remove(&other);
            }
            disk.newest.store(Arc::new(self.wanted.clone()));
        }
        // A full channel has woken the thread already.
        let _ = disk.wake.try_send(());
        may_act
    }
}

/// Reads what a file holds: nothing where there is none. One that cannot be read is no file: the node has just started, and
/// finds out from others.
fn read(file: &Path) -> Terms {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Terms::new(),
        Err(error) => {
            tracing::error!(file = %file.display(), %error, "{UNREAD}");
            return Terms::new();
        }
    };
    let read = serde_json::from_slice::<Terms>(&text);
    read.inspect_err(|error| tracing::error!(file = %file.display(), %error, "{UNREAD}")).unwrap_or_default()
}

fn write(file: &Path, terms: &Terms) -> std::io::Result<()> {
    let text = serde_json::to_vec(terms)?;
    config::bus::replace_file(file, |into| into.write_all(&text))
}

const UNREAD: &str = "who had the writes before this start cannot be read; this node goes by what other nodes say";

const UNSAVED: &str =
    "by which decision writes go cannot be written to disk; this node takes no part in a new one until it can";

/// The most pairs: twice as many as a table can have.
const MOST: usize = 1024;

/// Between a write that has failed and the next.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(term: u64) -> KeptTerm {
        KeptTerm { primary: "a".into(), term, has_spoken: true }
    }

    /// Asks until a term may be acted by.
    fn keep_until_saved(terms: &mut KeptTerms, term: u64) {
        while !terms.keep("b", kept(term)) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_may_be_acted_by_is_there_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = directory.path().join("last-good.toml");
        let start = || KeptTerms::beside(Some(&snapshot));
        let mut terms = start();
        assert_eq!(terms.of("a", "b"), None);
        keep_until_saved(&mut terms, 1);
        assert_eq!(start().of("a", "b"), Some(&kept(1)), "another process, while this one is still there");
        keep_until_saved(&mut terms, 2);
        assert_eq!(start().of("a", "b"), Some(&kept(2)));
        assert_eq!((start().of("c", "b"), start().of("a", "c")), (None, None), "another pair");
    }

    #[test]
    fn what_is_not_on_disk_is_not_acted_by() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = directory.path().join("not-there/last-good.toml");
        let mut terms = KeptTerms::beside(Some(&snapshot));
        assert!(terms.keep("b", kept(0)), "a term that promises nothing");
        assert!(!terms.keep("b", kept(1)) && !terms.keep("b", kept(1)));
        std::fs::create_dir(directory.path().join("not-there")).unwrap();
        keep_until_saved(&mut terms, 1);
        assert_eq!(KeptTerms::beside(Some(&snapshot)).of("a", "b"), Some(&kept(1)));
    }

    #[test]
    fn a_term_that_is_given_up_before_it_is_on_disk_is_not_there_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let (place, moved) = (directory.path().join("place"), directory.path().join("moved"));
        std::fs::create_dir(&place).unwrap();
        let mut terms = KeptTerms::beside(Some(&place.join("s")));
        keep_until_saved(&mut terms, 1);
        std::fs::rename(&place, &moved).unwrap();
        assert!(!terms.keep("b", kept(2)));
        assert!(!terms.keep("b", kept(1)), "the other may be on its way to the disk");
        assert_eq!(terms.of("a", "b"), Some(&kept(1)));
        std::fs::rename(&moved, &place).unwrap();
        keep_until_saved(&mut terms, 1);
        assert_eq!(KeptTerms::beside(Some(&place.join("s"))).of("a", "b"), Some(&kept(1)));
        // Nor is the one before it that promises nothing acted by while this is there.
        std::fs::rename(&place, &moved).unwrap();
        assert!(!terms.keep("b", kept(0)));
        std::fs::rename(&moved, &place).unwrap();
        keep_until_saved(&mut terms, 0);
    }

    #[test]
    fn a_full_disk_does_not_end_what_is_on_it() {
        let directory = tempfile::tempdir().unwrap();
        let (place, moved) = (directory.path().join("place"), directory.path().join("moved"));
        std::fs::create_dir(&place).unwrap();
        let mut terms = KeptTerms::beside(Some(&place.join("s")));
        keep_until_saved(&mut terms, 1);
        std::fs::rename(&place, &moved).unwrap();
        let silent = KeptTerm { has_spoken: false, ..kept(1) };
        assert!(terms.keep("b", silent.clone()) && terms.keep("b", silent), "the term is the same");
    }

    #[test]
    fn without_a_place_and_from_garbage_nothing_is_known() {
        let mut nowhere = KeptTerms::beside(None);
        assert!(nowhere.keep("b", kept(7)) && nowhere.of("a", "b").is_none() && !nowhere.has_place());
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("s.writers"), "{\"b\":{\"primary\":\"a\",\"term\":-1}}").unwrap();
        let mut terms = KeptTerms::beside(Some(&directory.path().join("s")));
        assert_eq!(terms.of("a", "b"), None);
        keep_until_saved(&mut terms, 3);
    }
}
