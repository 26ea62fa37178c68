//! Which tables from the bus a node takes a closer look at.
//!
//! Pure: what is in force and what was refused, compared with what comes. Revisions only go up; a new
//! epoch lets them start over. What was refused once is not looked at again.

use std::collections::VecDeque;
use std::fmt;

use super::entry::Entry;
use super::publication::Publication;

/// What a node has in force, and what it has refused.
#[derive(Clone, Debug, Default)]
pub struct Acceptance {
    standing: Option<Standing>,
    /// Publications refused, with what was in force then; the newest last.
    quarantine: VecDeque<(Quarantined, Vec<crate::Problem>)>,
}

/// A table that is in force, by what it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Compared first.
    pub epoch: u64,
    /// Compared then.
    pub revision: u64,
    /// When its publisher issued it, in Unix milliseconds.
    pub issued_ms: u64,
    /// The hash of its text, in hexadecimal.
    pub sha256: String,
}

/// A publication, and what was in force when it was refused: a table that shrinks the one too much
/// may be welcome after another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Quarantined {
    fingerprint: String,
    standing: Option<String>,
}

/// What is known of a publication before it is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It is the one in force.
    InForce,
    /// It must not go in force, and says nothing new.
    Ignored(Ignored),
    /// It is new, but its text is the one in force.
    SameText,
    /// It was refused before, for these reasons.
    Quarantined(Vec<crate::Problem>),
    /// It is to be examined.
    New,
}

/// Why a table on the bus is ignored. `fmt` says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// It is not newer than the one in force.
    NotNewer {
        /// Its epoch and revision.
        found: (u64, u64),
        /// Those in force.
        in_force: (u64, u64),
    },
    /// Its epoch is so far ahead that nobody can have counted up to it.
    TooFar {
        /// Its epoch.
        epoch: u64,
        /// The one in force.
        in_force: u64,
    },
    /// The table was deleted.
    Deleted,
    /// There is no table on the bus.
    Absent,
}

impl Acceptance {
    /// With this table in force.
    pub fn new(standing: Option<Standing>) -> Self {
        Self { standing, quarantine: VecDeque::new() }
    }

    /// What is in force.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// How many publications are in quarantine.
    pub fn quarantined(&self) -> usize {
        self.quarantine.len()
    }

    /// Compares a table on the bus with what is in force and what was refused.
    pub fn weigh(&self, entry: &Entry) -> Known {
        let Some(publication) = &entry.publication else { return Known::Ignored(Ignored::Deleted) };
        let same_text = self.standing.as_ref().is_some_and(|standing| standing.sha256 == publication.sha256());
        if let Some(standing) = &self.standing {
            let (found, in_force) = ((publication.epoch, entry.revision), (standing.epoch, standing.revision));
            if found == in_force && same_text {
                return Known::InForce;
            }
            if found <= in_force {
                return Known::Ignored(Ignored::NotNewer { found, in_force });
            }
            if publication.epoch > standing.epoch.saturating_add(MOST_EPOCHS) {
                return Known::Ignored(Ignored::TooFar { epoch: publication.epoch, in_force: standing.epoch });
            }
        }
        let key = self.key(publication);
        if let Some((_, problems)) = self.quarantine.iter().find(|(refused, _)| *refused == key) {
            return Known::Quarantined(problems.clone());
        }
        if same_text { Known::SameText } else { Known::New }
    }

    /// A table has gone in force.
    pub fn applied(&mut self, standing: Standing) {
        self.standing = Some(standing);
    }

    /// A publication was refused for these reasons.
    pub fn refused(&mut self, publication: &Publication, problems: Vec<crate::Problem>) {
        let key = self.key(publication);
        if self.quarantine.iter().any(|(refused, _)| *refused == key) {
            return;
        }
        if self.quarantine.len() >= MAX_QUARANTINED {
            self.quarantine.pop_front();
        }
        self.quarantine.push_back((key, problems));
    }

    fn key(&self, publication: &Publication) -> Quarantined {
        let standing = self.standing.as_ref().map(|standing| standing.sha256.clone());
        Quarantined { fingerprint: publication.fingerprint(), standing }
    }
}

impl Standing {
    /// A publication of this revision.
    pub fn of(publication: &Publication, revision: u64) -> Self {
        let Publication { epoch, issued_ms, .. } = *publication;
        Self { epoch, revision, issued_ms, sha256: publication.sha256() }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ignored::NotNewer { found: (epoch, revision), in_force: (its_epoch, its_revision) } => write!(
                f,
                "the bus has revision {revision} of epoch {epoch}, which is not after revision {its_revision} of epoch \
                 {its_epoch}, which is in force; if the bucket was made anew, or an old state restored, publish with --new-epoch"
            ),
            Ignored::TooFar { epoch, in_force } => write!(
                f,
                "the table on the bus is of epoch {epoch}, and epoch {in_force} is in force: an epoch is a few more than \
                 the one before, and this one is ignored; publish again"
            ),
            Ignored::Deleted => {
                f.write_str("the table was deleted from the bus; the last good one stays: publish it again")
            }
            Ignored::Absent => f.write_str("there is no table on the bus; `meridian publish` puts one there"),
        }
    }
}

/// How far an epoch may be ahead of the one in force: so far that the last one is never reached.
pub const MOST_EPOCHS: u64 = 1000;

/// Publications remembered as refused.
const MAX_QUARANTINED: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn entry(revision: u64, epoch: u64, text: &str) -> Entry {
        let publication = Publication::new(text.to_owned(), epoch, revision, "me");
        Entry { revision, created: SystemTime::UNIX_EPOCH, publication: Some(publication), unreadable: None }
    }

    fn holding(revision: u64, epoch: u64, text: &str) -> Acceptance {
        let entry = entry(revision, epoch, text);
        Acceptance::new(Some(Standing::of(&entry.publication.unwrap(), revision)))
    }

    #[test]
    fn revisions_go_up_and_epochs_first() {
        let node = holding(10, 1, "a");
        let ignored =
            |revision, epoch| Known::Ignored(Ignored::NotNewer { found: (epoch, revision), in_force: (1, 10) });
        for (revision, epoch, text, expected) in [
            (10, 1, "a", Known::InForce),
            (10, 1, "b", ignored(10, 1)),
            (9, 1, "a", ignored(9, 1)),
            (9, 1, "b", ignored(9, 1)),
            (99, 0, "b", ignored(99, 0)),
            (11, 1, "a", Known::SameText),
            (11, 1, "b", Known::New),
            (1, 1001, "b", Known::New),
            (1, 1002, "b", Known::Ignored(Ignored::TooFar { epoch: 1002, in_force: 1 })),
            (1, 2, "b", Known::New),
            (1, 2, "a", Known::SameText),
        ] {
            assert_eq!(node.weigh(&entry(revision, epoch, text)), expected, "{revision} {epoch} {text}");
        }
        let deleted = Entry { publication: None, ..entry(11, 1, "") };
        assert_eq!(node.weigh(&deleted), Known::Ignored(Ignored::Deleted));
        assert_eq!(Acceptance::default().weigh(&entry(1, 0, "a")), Known::New);
    }

    #[test]
    fn what_was_refused_is_not_looked_at_again_while_nothing_has_changed() {
        let mut node = holding(10, 1, "a");
        let problem = crate::problem::Problem {
            severity: crate::Severity::Error,
            file: "bus".into(),
            line: 1,
            path: String::new(),
            message: "bad".into(),
        };
        let bad = entry(11, 1, "bad");
        node.refused(bad.publication.as_ref().unwrap(), vec![problem.clone()]);
        assert_eq!(node.weigh(&bad), Known::Quarantined(vec![problem.clone()]));
        assert_eq!(node.weigh(&Entry { revision: 12, ..bad.clone() }), Known::Quarantined(vec![problem]));
        // With an override it is another publication.
        let mut overriding = entry(12, 1, "bad");
        overriding.publication.as_mut().unwrap().allow.insert("fleet".to_owned());
        assert_eq!(node.weigh(&overriding), Known::New);
        // After another table it may be good.
        let next = entry(13, 1, "c");
        node.applied(Standing::of(next.publication.as_ref().unwrap(), 13));
        assert_eq!(node.weigh(&Entry { revision: 14, ..bad }), Known::New);
        // It is bounded.
        for number in 0..200 {
            node.refused(entry(20, 1, &number.to_string()).publication.as_ref().unwrap(), Vec::new());
        }
        assert_eq!(node.quarantined(), MAX_QUARANTINED);
    }
}
