//! The live state that a decision may read.

use std::time::Duration;

use crate::load::Reported;
use crate::region::RegionId;
use crate::round_trip::Measured;

/// The live state of every region of one table. The caller's cells; a decision only reads.
pub trait View {
    /// Returns what is known of a region now.
    fn region(&self, id: RegionId) -> RegionView;

    /// Returns whether the table is too old to apply the law by: its node has had no contact with the config bus
    /// for `max_age`, so that a stricter table may be in force elsewhere. Routes whose data the law restricts are
    /// then refused ([`crate::Reason::TableExpired`]); all others go on.
    fn table_expired(&self) -> bool {
        false
    }

    /// Returns what the fleet reports of its load, for explanations: a decision reads what it comes to
    /// ([`RegionView::utilisation`]).
    fn reported(&self, _: RegionId) -> Option<Reported> {
        None
    }

    /// Returns what is measured of the way there, for explanations: a decision reads what it comes to
    /// ([`RegionView::rtt_ms`]).
    fn measured(&self, _: RegionId) -> Option<Measured> {
        None
    }
}

/// One region's live state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegionView {
    /// Whether it can serve.
    pub health: Health,
    /// The share of its capacity in use, by all nodes as far as is known: 0 idle, 1 full, above 1
    /// overloaded.
    pub utilisation: f32,
    /// The utilisation as the overload mark sees it: smoothed, and slow to fall, so that a region on
    /// the edge of the mark does not flap ([`crate::pressure::Pressure`]).
    pub pressure: f32,
    /// Round trip from this node as it is measured, in milliseconds ([`crate::round_trip`]); `None` leaves the table's
    /// prior.
    pub rtt_ms: Option<f32>,
    /// Reported replication lag; `None` when it reports none.
    pub lag: Option<Duration>,
    /// Whether a standby takes clients ([`crate::health::Want`]); of no meaning for other regions.
    pub promoted: bool,
}

/// Whether a region can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Up,
    /// It is coming back: this percent of its clients, `0..=100`, may use it.
    Ramping(u8),
    /// It does not serve.
    Down,
}

impl Default for RegionView {
    /// Healthy, idle, unmeasured: what a table says before anything is observed.
    fn default() -> Self {
        Self { health: Health::Up, utilisation: 0.0, pressure: 0.0, rtt_ms: None, lag: None, promoted: false }
    }
}

impl View for [RegionView] {
    fn region(&self, id: RegionId) -> RegionView {
        self.get(id.index()).copied().unwrap_or_default()
    }
}

/// What a live view said at one moment, read once.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// Its regions, by index.
    pub regions: &'a [RegionView],
    /// See [`View::table_expired`].
    pub table_expired: bool,
}

impl View for Snapshot<'_> {
    fn region(&self, id: RegionId) -> RegionView {
        self.regions.region(id)
    }

    fn table_expired(&self) -> bool {
        self.table_expired
    }
}

/// A view with some regions taken as down: those that this request has found unreachable.
pub struct WithDown<'a, V: ?Sized> {
    /// The view underneath.
    pub view: &'a V,
    /// The regions to take as down.
    pub down: crate::region::RegionSet,
}

impl<V: View + ?Sized> View for WithDown<'_, V> {
    fn region(&self, id: RegionId) -> RegionView {
        let seen = self.view.region(id);
        if self.down.contains(id) { RegionView { health: Health::Down, ..seen } } else { seen }
    }

    fn table_expired(&self) -> bool {
        self.view.table_expired()
    }

    fn reported(&self, id: RegionId) -> Option<Reported> {
        self.view.reported(id)
    }

    fn measured(&self, id: RegionId) -> Option<Measured> {
        self.view.measured(id)
    }
}
