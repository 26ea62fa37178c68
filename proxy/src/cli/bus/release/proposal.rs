//! A table that somebody wants to publish.

use bytes::Bytes;
use config::RoutingTable;

use crate::cli::Failed;

/// A table to be published.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Proposal {
    pub(super) text: Bytes,
    /// Where it is from, for people.
    pub(super) name: String,
    pub(super) table: RoutingTable,
    /// What its note starts with.
    pub(super) occasion: Option<String>,
}

impl Proposal {
    /// Proves a text as every node will, and tells its warnings.
    ///
    /// # Errors
    /// Everything wrong with it.
    pub(in crate::cli) fn new(text: Bytes, name: &str, occasion: Option<String>) -> Result<Self, Failed> {
        let table = RoutingTable::from_afar(name, &text)?;
        table.warnings.iter().for_each(|warning| eprintln!("{warning}"));
        Ok(Self { text, name: name.to_owned(), table, occasion })
    }
}
