//! The outcome of a decision.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::region::{RegionId, RegionSet};
use crate::route::RouteId;

/// The outcome of a decision.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a box would allocate on every request")]
pub enum Verdict {
    /// These regions, first to last.
    Forward(Permits),
    /// None, for a reason.
    Refuse(Refusal),
}

/// The regions permitted for one request, the best first. Only a decision makes one, and it is no
/// permission to dial: [`Permits::next`] gives that, one attempt at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Permits {
    pub(crate) route: RouteId,
    pub(crate) first: RegionId,
    pub(crate) safeguarded: bool,
    pub(crate) eligible: RegionSet,
}

impl Permits {
    /// Returns the route that the request falls under.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// Returns the region to try first.
    pub fn first(&self) -> RegionId {
        self.first
    }

    /// Returns every region that could serve when the decision was made, the first among them.
    pub fn eligible(&self) -> &RegionSet {
        &self.eligible
    }
}

/// A request that no region serves now.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The route, unless there is none.
    pub route: Option<RouteId>,
    /// The page to show instead of a problem document.
    pub page: Option<Arc<str>>,
    /// The URL of whoever has it blocked, where the law leaves no region and a rule says who that is.
    pub blocked_by: Option<Arc<str>>,
}

/// Why a decision refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No route matches.
    NoRoute,
    /// The law leaves no region.
    ResidencyProhibited,
    /// The law leaves regions, but none of them can serve now; others exist and must not be used.
    ResidencyUnavailable,
    /// No region can serve now, and the law is not the cause.
    Unavailable,
    /// The law restricts this data, and the table is too old to say how
    /// ([`crate::View::table_expired`]).
    TableExpired,
    /// The table's emergency switches its route off.
    EmergencyRouteOff,
    /// It writes, and the table's emergency lets its client read only.
    EmergencyReadOnly,
    /// The table's emergency sheds requests that are no more critical.
    EmergencyShed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Reason::NoRoute,
        Reason::ResidencyProhibited,
        Reason::ResidencyUnavailable,
        Reason::Unavailable,
        Reason::TableExpired,
        Reason::EmergencyRouteOff,
        Reason::EmergencyReadOnly,
        Reason::EmergencyShed,
    ];

    /// Returns the reason of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// Returns whether an operator's emergency is why: no other region, and no other attempt, would do.
    pub fn is_emergency(self) -> bool {
        matches!(self, Reason::EmergencyRouteOff | Reason::EmergencyReadOnly | Reason::EmergencyShed)
    }

    /// Returns the name that answers, logs and metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Reason::NoRoute => "no_route",
            Reason::ResidencyProhibited => "residency_prohibited",
            Reason::ResidencyUnavailable => "residency_unavailable",
            Reason::Unavailable => "unavailable",
            Reason::TableExpired => "table_expired",
            Reason::EmergencyRouteOff => "emergency_route_off",
            Reason::EmergencyReadOnly => "emergency_read_only",
            Reason::EmergencyShed => "emergency_shed",
        }
    }

    /// Returns the HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Reason::NoRoute => 404,
            Reason::ResidencyProhibited => 451,
            Reason::ResidencyUnavailable
            | Reason::Unavailable
            | Reason::TableExpired
            | Reason::EmergencyRouteOff
            | Reason::EmergencyReadOnly
            | Reason::EmergencyShed => 503,
        }
    }
}
