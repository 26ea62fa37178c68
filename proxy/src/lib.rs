//! Meridian: the edge proxy that acts on what [`policy`] decides.
//!
//! One request, in file order: [`ingress`] accepts it, [`exchange`] tells its whole story, with
//! [`target`] (what is asked), [`client`] (who asks), [`facts`] (what else counts), the decision, [`upstream`] (attempts, each with a
//! permit), [`headers`] and [`respond`]. Beside it: [`health`], [`reload`], [`bus`], [`admin`], and
//! [`serve`], which wires everything.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod admin;
pub mod body;
pub mod boundary;
pub mod bus;
pub mod cli;
pub mod client;
pub mod clock;
pub mod databases;
pub mod exchange;
pub mod explain;
pub mod facts;
pub mod finish;
pub mod headers;
pub mod health;
pub mod ingress;
pub mod load;
pub mod node;
pub mod peers;
pub mod prepare;
pub mod reload;
pub mod respond;
pub mod revocation;
pub mod routing;
pub mod serve;
pub mod status;
pub mod target;
pub mod telemetry;
pub mod token;
pub mod tunnel;
pub mod upstream;
