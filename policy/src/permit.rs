//! The proof that policy allowed one region for one attempt of one request.

use crate::region::RegionId;

/// Permission to dial one region once. Only this crate makes one ([`crate::Permits::next`]), and
/// the dialer takes nothing else, so that no code path, however mistaken, reaches a region that
/// was not checked for this very attempt.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    region: RegionId,
    safeguarded: bool,
}

impl Permit {
    pub(crate) fn new(region: RegionId, safeguarded: bool) -> Self {
        Self { region, safeguarded }
    }

    /// Returns the region, in the ids of the table that was current when the permit was given.
    pub fn region(&self) -> RegionId {
        self.region
    }

    /// Returns whether the law opens it with safeguards only, which the audit notes.
    pub fn is_safeguarded(&self) -> bool {
        self.safeguarded
    }
}
