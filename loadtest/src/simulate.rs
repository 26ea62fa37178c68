//! A fleet in virtual time: what `policy` makes of many nodes, each with its own view of the regions.
//!
//! Nothing here decides. Each node asks [`mod@policy::decide`] for each of its client keys, reports its load as a node does
//! ([`policy::LoadReport`]), hears the others late or not at all ([`policy::load::FleetLoad`]), and keeps the health and
//! the pressure of each region in the machines of [`policy::health`] and [`policy::pressure`]. What is modelled is the
//! rest of the world: demand, origins that queue, networks that delay and lose, endpoints that die and return.
//!
//! ```text
//! scenario.rs --Story--> run.rs, every TICK:
//!                          demand --> node.rs: decide, admit, retry --> origin.rs: requests in flight, service times
//!                             ^          |  ^                              |
//!                             |          v  \--- channel.rs: reports, delayed and lost
//!                             \------ story's events          recording.rs: what became of it --> measure.rs
//!                                                                                 table.rs, plot.rs <--/
//! ```
//!
//! The same size and seed give the same result to the last bit: there is no clock, and no randomness but that of `random.rs`.

mod channel;
mod geography;
mod measure;
mod node;
mod origin;
mod plot;
mod random;
mod recording;
mod run;
mod scenario;
mod sweep;
mod table;
mod tuning;

pub use measure::{CriticalityShares, Measures, WINDOW_S};
pub use plot::svg;
pub use run::{Outcome, TICK, simulate};
pub use scenario::{SCENARIOS, Scenario, Size, SizeError};
pub use sweep::{Sweep, sweep_svg, sweep_text};
pub use table::text;
pub use tuning::{KNOBS, Knob, Tuning};
