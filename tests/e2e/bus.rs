//! The config bus: a real nats-server, real nodes.

mod fleet;
mod load;
mod node;
mod server;
