//! The product as its users meet it: the real binary between real clients and real origins.

mod access_log;
mod admin;
mod affinity;
mod bus;
mod canary;
mod chaos;
mod cli;
mod diff;
mod dns;
mod drain;
mod explain;
mod failover;
mod geo;
mod health;
mod hostile_bytes;
mod http;
mod law;
mod layers;
mod origins;
mod peers;
mod places;
mod reload;
mod replay;
mod shedding;
mod slow_clients;
mod worlds;
