//! The config bus: a real nats-server, real nodes.

mod node;
mod server;
