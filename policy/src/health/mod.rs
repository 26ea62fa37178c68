//! The health of endpoints and regions: state machines with `now` passed in, on any monotonic clock.
//!
//! Two kinds of evidence, and each has its say. **Probes** ask, and can take an endpoint, or a whole
//! region, down. **Real traffic** shows, sooner, but only what it happens to touch: it moves traffic
//! away, to wherever else it may go, and has the probes ask at once. What it has against a region
//! makes that region the *last resort* ([`crate::Health::Ramping`] at 0 percent), never one that may
//! not be tried: so it never takes the last region of anybody's allowed set away, whoever that is.

mod endpoint;
mod plan;
mod region;
mod standby;
mod window;
mod writer;

pub use endpoint::{EndpointHealth, Probe, Symptom};
pub use plan::{Check, HttpCheck, ProbePlan};
pub use region::{EndpointCounts, Evidence, Phase, RegionHealth};
pub use standby::{Primary, Want, is_needed};
pub use window::{Cause, Counts, Seen, Sliding};
pub use writer::{Claim, Fleet, Gate, HeardLag, Holder, LagWord, Pair, Side, Word, Writer};
