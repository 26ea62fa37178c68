//! Where configuration comes from, and how a change of it is noticed.

mod directories;
pub(crate) mod file;
mod hints;
mod identity;
