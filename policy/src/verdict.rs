//! The outcome of a decision.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

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

/// The permitted regions of one request, in the order to try them. Only a decision makes one, and
/// it is no permission to dial: [`Permits::next`] gives that, one attempt at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Permits {
    pub(crate) route: RouteId,
    pub(crate) order: SmallVec<[RegionId; INLINE]>,
    pub(crate) safeguarded: RegionSet,
}

/// Tables with up to this many regions are decided without allocation.
const INLINE: usize = 64;

impl Permits {
    /// The route that the request falls under.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// The regions in the order to try them; never empty.
    pub fn order(&self) -> &[RegionId] {
        &self.order
    }

    /// Whether the region is open to this request with safeguards only, which the audit notes.
    pub fn is_safeguarded(&self, region: RegionId) -> bool {
        self.safeguarded.contains(region)
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
}

impl Reason {
    /// The name that answers, logs and metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Reason::NoRoute => "no_route",
            Reason::ResidencyProhibited => "residency_prohibited",
            Reason::ResidencyUnavailable => "residency_unavailable",
            Reason::Unavailable => "unavailable",
        }
    }

    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Reason::NoRoute => 404,
            Reason::ResidencyProhibited => 451,
            Reason::ResidencyUnavailable | Reason::Unavailable => 503,
        }
    }
}
