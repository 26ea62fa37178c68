//! Which tables from the bus a node examines.
//!
//! Pure: compares what the bus offers with what is in force and what was refused. Revisions only go up; a new
//! epoch lets them start over. A table that was refused once is not examined again.

use std::collections::VecDeque;
use std::fmt;

use super::publication::TableVersion;
use crate::problem::Problem;

/// Compares a table that the bus offers with the one in force.
pub fn compare(offered: &TableVersion, in_force: Option<&TableVersion>) -> Comparison {
    let Some(current) = in_force else { return Comparison::Newer };
    let (found, in_force) = (offered.order(), current.order());
    if found == in_force && offered.sha256 == current.sha256 {
        return Comparison::InForce;
    }
    if found <= in_force {
        return Comparison::Ignored(Ignored::NotNewer { found, in_force });
    }
    if offered.epoch > current.epoch.saturating_add(MOST_EPOCHS) {
        return Comparison::Ignored(Ignored::TooFar { epoch: offered.epoch, in_force: current.epoch });
    }
    Comparison::Newer
}

/// How an offered table compares with the one in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The offered table is the one in force.
    InForce,
    /// The offered table must not go in force, and changes nothing.
    Ignored(Ignored),
    /// The offered table comes after the one in force.
    Newer,
}

/// Why a table on the bus is ignored. `fmt` says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// The table is not newer than the one in force.
    NotNewer {
        /// The offered table's epoch and revision.
        found: (u64, u64),
        /// The epoch and revision in force.
        in_force: (u64, u64),
    },
    /// The table's epoch is further ahead than [`MOST_EPOCHS`] allows.
    TooFar {
        /// The offered table's epoch.
        epoch: u64,
        /// The epoch in force.
        in_force: u64,
    },
    /// The table was deleted.
    Deleted,
    /// There is no table on the bus.
    Absent,
}

/// Publications that a node has refused, with the table that was in force then: one that takes too much away from that
/// table may be good after another. Lives as long as the process, on the bus's thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Quarantine(VecDeque<Refused>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Refused {
    fingerprint: String,
    /// The hash of the text that was in force.
    in_force: Option<String>,
    problems: Vec<Problem>,
}

impl Quarantine {
    /// Remembers that a publication was refused while a table was in force.
    pub fn add(&mut self, fingerprint: &str, in_force: Option<&TableVersion>, problems: Vec<Problem>) {
        if self.problems(fingerprint, in_force).is_some() {
            return;
        }
        if self.0.len() >= MAX_QUARANTINED {
            self.0.pop_front();
        }
        let in_force = in_force.map(|in_force| in_force.sha256.clone());
        self.0.push_back(Refused { fingerprint: fingerprint.to_owned(), in_force, problems });
    }

    /// Returns why a publication was refused before while the same table was in force, if it was.
    pub fn problems(&self, fingerprint: &str, in_force: Option<&TableVersion>) -> Option<&[Problem]> {
        let in_force = in_force.map(|in_force| in_force.sha256.as_str());
        let is_it = |refused: &&Refused| refused.fingerprint == fingerprint && refused.in_force.as_deref() == in_force;
        self.0.iter().find(is_it).map(|refused| refused.problems.as_slice())
    }

    /// Returns how many publications are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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

/// How far an epoch may be ahead of the one in force. A publisher counts up by one, so that a jump beyond this is a
/// mistake or an attack; and with it the greatest epoch, after which there is none, is never reached.
pub const MOST_EPOCHS: u64 = 1000;

/// How many refused publications are remembered: as many as the bus keeps tables.
const MAX_QUARANTINED: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::publication::Publication;
    use super::*;

    fn version(revision: u64, epoch: u64, text: &str) -> TableVersion {
        TableVersion::of(&publication(epoch, text), revision)
    }

    fn publication(epoch: u64, text: &str) -> Publication {
        Publication::new(text.to_owned(), epoch, 0, "me")
    }

    #[test]
    fn revisions_go_up_and_epochs_first() {
        let current = version(10, 1, "a");
        let ignored =
            |revision, epoch| Comparison::Ignored(Ignored::NotNewer { found: (epoch, revision), in_force: (1, 10) });
        for (revision, epoch, text, expected) in [
            (10, 1, "a", Comparison::InForce),
            (10, 1, "b", ignored(10, 1)),
            (9, 1, "a", ignored(9, 1)),
            (9, 1, "b", ignored(9, 1)),
            (99, 0, "b", ignored(99, 0)),
            (11, 1, "a", Comparison::Newer),
            (11, 1, "b", Comparison::Newer),
            (1, 1001, "b", Comparison::Newer),
            (1, 1002, "b", Comparison::Ignored(Ignored::TooFar { epoch: 1002, in_force: 1 })),
            (1, 2, "b", Comparison::Newer),
            (1, 2, "a", Comparison::Newer),
        ] {
            assert_eq!(compare(&version(revision, epoch, text), Some(&current)), expected, "{revision} {epoch} {text}");
        }
        assert_eq!(compare(&version(1, 0, "a"), None), Comparison::Newer);
    }

    #[test]
    fn what_was_refused_is_not_examined_again_while_nothing_has_changed() {
        let mut quarantine = Quarantine::default();
        let problem = Problem {
            severity: crate::Severity::Error,
            file: "bus".into(),
            line: 1,
            path: String::new(),
            message: "bad".into(),
        };
        let (bad, in_force) = (publication(1, "bad"), version(10, 1, "a"));
        quarantine.add(&bad.fingerprint(), Some(&in_force), vec![problem.clone()]);
        // Whatever its revision is.
        assert_eq!(quarantine.problems(&bad.fingerprint(), Some(&in_force)), Some([problem].as_slice()));
        // With an override it is another publication.
        let mut overriding = bad.clone();
        overriding.allow.insert("fleet".to_owned());
        assert_eq!(quarantine.problems(&overriding.fingerprint(), Some(&in_force)), None);
        // After another table it may be good.
        assert_eq!(quarantine.problems(&bad.fingerprint(), Some(&version(13, 1, "c"))), None);
        assert_eq!(quarantine.problems(&bad.fingerprint(), None), None);
        // It is bounded.
        for number in 0..200 {
            quarantine.add(&number.to_string(), Some(&in_force), Vec::new());
        }
        assert_eq!(quarantine.len(), MAX_QUARANTINED);
    }
}
