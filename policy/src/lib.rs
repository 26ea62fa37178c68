//! Which region **may**, and which **should**, serve a request.
//!
//! Pure decisions: no I/O, no clock, no randomness, no global state. A [`Table`] (the law and the
//! routes), a [`View`] (the live state) and the [`Facts`] of a request give a [`Verdict`]; its
//! [`Permits`] give one [`Permit`] for each attempt, and nothing can be dialled without one.
//!
//! ```text
//! TableSpec --Table::new--> Table ---+
//!                            View ---+--> decide --> Verdict::Forward(Permits) --next--> Permit
//!                           Facts ---+          \--> Verdict::Refuse(Refusal)
//! ```

// The samples of the integration tests name the crate.
#[cfg(test)]
extern crate self as policy;

#[cfg(test)]
#[path = "../tests/sample/mod.rs"]
mod sample;

pub mod affinity;
pub mod attempt;
pub mod capacity;
pub mod chance;
pub mod client_way;
pub mod concurrency;
pub mod country;
pub mod decide;
pub mod diff;
pub mod emergency;
pub mod explain;
pub mod facts;
pub mod failover;
pub mod globe;
pub mod hash;
pub mod health;
pub mod jurisdiction;
pub mod list;
pub mod load;
pub mod moment;
pub mod origin;
pub mod overload;
pub mod path;
pub mod permit;
pub mod pressure;
pub mod proof;
pub mod quantile;
pub mod region;
pub mod relocation;
pub mod replay;
pub mod residency;
pub mod rollout;
pub mod round_trip;
pub mod route;
pub mod score;
pub mod shrinkage;
pub mod standing;
pub mod stripped;
pub mod table;
pub mod trial;
pub mod verdict;
pub mod view;

pub use attempt::{CurrentTable, Revoked};
pub use country::{Country, CountrySet};
pub use decide::decide;
pub use explain::{Explanation, explain};
pub use facts::Facts;
pub use load::{LoadReport, Reported};
pub use moment::{LawTime, Moment, Period};
pub use origin::Origin;
pub use permit::Permit;
pub use proof::{Proof, prove};
pub use region::{Access, RegionId, RegionSet};
pub use route::{Method, Payload, Route, RouteId};
pub use shrinkage::{Shrinkage, shrinkage};
pub use table::{Table, TableError, TableSpec};
pub use verdict::{Permits, Reason, Refusal, Verdict};
pub use view::{Health, RegionView, Snapshot, View, Withheld, Writes};
