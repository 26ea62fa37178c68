//! The product as its users meet it: the real binary between real clients and real origins.

mod http;
mod reload;
mod worlds;
