//! The generator against its own origin, over real sockets on loopback.

mod certificates;
mod failures;
mod origin;
mod protocols;
mod reconnects;
mod schedule;
mod stall;
