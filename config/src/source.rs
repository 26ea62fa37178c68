//! Watches the files that configuration comes from.

mod directories;
pub(crate) mod file;
mod hints;
mod identity;
