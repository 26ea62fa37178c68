//! What of the bus's tables was heard of, and what is still to be looked at: the newest of each place.

use config::bus::{Entry, Place};

/// The newest of each place.
#[derive(Debug, Default)]
pub struct Queue {
    table: Line,
    rollout: Line,
    /// The newest revision of any key, reports included.
    highest: u64,
}

#[derive(Debug, Default)]
struct Line {
    heard: u64,
    wanted: Option<Wanted>,
}

/// Something on the bus that the node has to look at.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// By its revision.
    Revision {
        /// Its revision.
        revision: u64,
        /// Its length.
        bytes: usize,
    },
    /// It is here already.
    Entry(Box<Entry>),
}

impl Queue {
    /// For a bucket whose newest revision is this one.
    pub fn after(highest: u64) -> Self {
        Self { highest, ..Self::default() }
    }

    /// Whether there are revisions before this one of which nobody told.
    pub fn has_gap_before(&self, revision: u64) -> bool {
        revision > self.highest + 1
    }

    /// Some key has this revision.
    pub fn heard_of_any(&mut self, revision: u64) {
        self.highest = self.highest.max(revision);
    }

    /// A place has this revision.
    pub fn heard_of(&mut self, place: Place, revision: u64) {
        self.heard_of_any(revision);
        let line = self.line(place);
        line.heard = line.heard.max(revision);
    }

    /// A place is empty: whatever is there when it is asked for next is news.
    pub fn forget(&mut self, place: Place) {
        *self.line(place) = Line::default();
    }

    /// The newest revision of a place; 0 when none was heard of.
    pub fn heard(&mut self, place: Place) -> u64 {
        self.line(place).heard
    }

    /// The newest revision of any key.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// This is to be looked at, unless something newer is.
    pub fn want(&mut self, place: Place, wanted: Wanted) {
        self.heard_of(place, wanted.revision());
        let slot = &mut self.line(place).wanted;
        if slot.as_ref().is_none_or(|known| known.revision() <= wanted.revision()) {
            *slot = Some(wanted);
        }
    }

    /// Nothing there is to be looked at any more.
    pub fn drop_wanted(&mut self, place: Place) {
        self.line(place).wanted = None;
    }

    /// The next thing to look at: the table of all first.
    pub fn take(&mut self) -> Option<(Place, Wanted)> {
        let places = [Place::Table, Place::Rollout];
        places.into_iter().find_map(|place| Some((place, self.line(place).wanted.take()?)))
    }

    /// Whether a table of all that is newer than this revision is to be looked at.
    pub fn wants_after(&self, revision: u64) -> bool {
        self.table.wanted.as_ref().is_some_and(|wanted| wanted.revision() > revision)
    }

    /// Whether there is anything to look at.
    pub fn has_wanted(&self) -> bool {
        self.table.wanted.is_some() || self.rollout.wanted.is_some()
    }

    fn line(&mut self, place: Place) -> &mut Line {
        match place {
            Place::Table => &mut self.table,
            Place::Rollout => &mut self.rollout,
        }
    }
}

impl Wanted {
    /// Its revision.
    pub fn revision(&self) -> u64 {
        match self {
            Wanted::Revision { revision, .. } => *revision,
            Wanted::Entry(entry) => entry.revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_of_a_place_is_looked_at_and_the_table_of_all_first() {
        let mut queue = Queue::default();
        let want = |queue: &mut Queue, place, revision| queue.want(place, Wanted::Revision { revision, bytes: 1 });
        want(&mut queue, Place::Rollout, 7);
        want(&mut queue, Place::Table, 5);
        want(&mut queue, Place::Table, 4);
        want(&mut queue, Place::Table, 6);
        queue.heard_of_any(9);
        let mut next = || queue.take().map(|(place, wanted)| (place, wanted.revision()));
        assert_eq!([next(), next(), next()], [Some((Place::Table, 6)), Some((Place::Rollout, 7)), None]);
        assert_eq!((queue.heard(Place::Table), queue.heard(Place::Rollout), queue.highest()), (6, 7, 9));
    }

    #[test]
    fn what_was_passed_over_shows_in_what_comes_next() {
        let mut queue = Queue::after(6);
        // What was there before comes first, the last of each key.
        assert!([2, 6, 7].iter().all(|known| !queue.has_gap_before(*known)));
        assert!(queue.has_gap_before(8));
        queue.heard_of_any(8);
        assert!(!queue.has_gap_before(9));
        queue.heard_of(Place::Table, 9);
        assert!(!queue.has_gap_before(10) && queue.has_gap_before(11));
    }
}
