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
    /// Whether it was signed when it was published before.
    pub(super) was_signed: bool,
}

impl Proposal {
    /// Proves a text as every node will, and tells its warnings.
    ///
    /// # Errors
    /// Everything wrong with it.
    pub(in crate::cli) fn new(text: Bytes, name: &str, occasion: Option<String>) -> Result<Self, Failed> {
        let table = RoutingTable::from_afar(name, &text, crate::clock::wall())?;
        table.warnings.iter().for_each(|warning| eprintln!("{warning}"));
        Ok(Self { text, name: name.to_owned(), table, occasion, was_signed: false })
    }

    /// The same, which was published before, and signed or not.
    #[must_use]
    pub(in crate::cli) fn again(self, was_signed: bool) -> Self {
        Self { was_signed, ..self }
    }
}
