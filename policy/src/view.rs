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
    /// The same as a route's `max_latency` sees it: slow to fall, so that a region at the edge of it does not come and go
    /// ([`crate::round_trip::Reach`]). `None` is as [`RegionView::rtt_ms`].
    pub reach_ms: Option<f32>,
    /// Reported replication lag; `None` when it reports none.
    pub lag: Option<Duration>,
    /// Whether a standby takes clients ([`crate::health::Want`]); of no meaning for other regions.
    pub promoted: bool,
    /// Whether writes go there.
    pub writes: Writes,
}

/// Whether writes go to a region. One that neither may hand them over nor take them over is [`Writes::AsDeclared`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// As the table says.
    #[default]
    AsDeclared,
    /// They do: of the primary and its standby it is the one that has them.
    Granted,
    /// They do not.
    Withheld(Withheld),
}

/// Why writes do not go to a primary, or to the standby that may take them over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Withheld {
    /// The other of the two has them.
    Elsewhere,
    /// This node has just started, and has not asked both yet.
    Starting,
    /// The region that has them is lost, by this node's probes or by a majority of the fleet, and the other may not take
    /// them yet.
    Lost,
    /// The region that has them no longer says that it is the primary, and the other may not take them yet.
    Unclaimed,
    /// The other may be the primary, too, and nobody tells this node who was promoted: it has just started, or is not fenced.
    Contested,
    /// This node goes by a new decision, which is not on its disk yet.
    Unsaved,
    /// No majority of the fleet has affirmed the one that has them for too long, and the other has not just said that it is a
    /// replica.
    CutOff,
}

impl Withheld {
    /// Returns its word, as `/status` and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Elsewhere => "elsewhere",
            Self::Starting => "starting",
            Self::Lost => "primary_lost",
            Self::Unclaimed => "unclaimed",
            Self::Contested => "contested",
            Self::Unsaved => "unsaved",
            Self::CutOff => "cut_off",
        }
    }

    /// Returns it as a sentence's end, for explanations.
    pub fn explained(self) -> &'static str {
        match self {
            Self::Elsewhere => "writes go to the other of the primary and its standby",
            Self::Starting => "this node has just started, and has not asked the primary and its standby yet",
            Self::Lost => {
                "the region that has the writes is lost, and the other may not take them yet (/status says why)"
            }
            Self::Unclaimed => {
                "the region that has the writes does not say that it is primary, and the other may not take them yet"
            }
            Self::Contested => "both say that they are primary, and no node that this one hears knows who was promoted",
            Self::Unsaved => "the decision who has the writes is not on this node's disk yet (its log says why)",
            Self::CutOff => {
                "no majority of the fleet affirms the region that has the writes, and this node cannot see that the other \
                 is a replica"
            }
        }
    }
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
        Self {
            health: Health::Up,
            utilisation: 0.0,
            pressure: 0.0,
            rtt_ms: None,
            reach_ms: None,
            lag: None,
            promoted: false,
            writes: Writes::AsDeclared,
        }
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
