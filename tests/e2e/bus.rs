//! The config bus: a real nats-server, real nodes.

mod canary;
mod edge;
mod fleet;
mod interruption;
mod load;
mod node;
mod publish;
mod rollback;
mod server;
mod signature;
