//! The routing table as the proxy uses it: the policy's table, and the endpoints to dial.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::affinity::AffinityKey;
use policy::proof::Proof;
use policy::rollout::Canary;
use policy::{LawTime, Table, TableError};

use crate::document::{self, MAX_TEXT};
use crate::endpoint::Upstream;
use crate::problem::{Problem, Problems};
use crate::{compile, text};

/// One revision of the fleet's routing, compiled and proved. Immutable.
#[derive(Clone, Debug)]
pub struct RoutingTable {
    /// The policy's table, which decides.
    pub table: Arc<Table>,
    /// The proof of the table: who relies on which regions, and what is refused by design.
    pub proof: Proof,
    /// The endpoints to dial, by [`policy::RegionId::index`].
    pub upstreams: Vec<Upstream>,
    /// The header, in lower case, in which a trusted proxy says that a request is less critical than its route.
    pub criticality_header: Option<String>,
    /// The canary, if the table has one.
    pub canary: Option<Canary>,
    /// The key that signs the cookies that pin clients.
    pub affinity: AffinityKey,
    /// Whether that key comes from a secret in the table, so that it outlives a revision.
    pub has_affinity_secret: bool,
    /// The text that the table was compiled from.
    pub text: Arc<str>,
    /// The warnings about the text, which can be used all the same.
    pub warnings: Vec<Problem>,
    files: Vec<PathBuf>,
}

impl RoutingTable {
    /// Returns the text, with a placeholder in place of each secret.
    pub fn redacted(&self) -> String {
        let mut text = self.text.to_string();
        for path in SECRETS {
            if let Some(place) = document::value_at(&text, path)
                && text.get(place.clone()).is_some()
            {
                text.replace_range(place, REDACTED);
            }
        }
        text
    }

    /// Reads a routing table from a file, and its law as of a time.
    ///
    /// # Errors
    /// Every problem of the file at once, warnings included.
    pub fn load(file: &Path, at: impl Into<LawTime>) -> Result<Self, Problems> {
        match text::read_bounded(file, MAX_TEXT) {
            Ok(text) => Self::from_text(file, &text, at),
            Err(error) => Err(document::at_line(file, error.line(), error.to_string())),
        }
    }

    /// Reads a routing table from a text, and its law as of a time. `file` is for messages; maintenance pages
    /// and lists are read from its directory, unless their paths are absolute.
    ///
    /// # Errors
    /// As [`RoutingTable::load`].
    pub fn from_text(file: &Path, text: &str, at: impl Into<LawTime>) -> Result<Self, Problems> {
        let directory = file.parent().unwrap_or(Path::new(""));
        let table = Self::compile(file, text, Some(directory), at.into())?;
        let files = [file.to_owned()].into_iter().chain(table.files);
        Ok(Self { files: files.collect(), ..table })
    }

    /// Reads a routing table that comes from a bus: it can name no file of this machine. `name` is for
    /// messages.
    ///
    /// # Errors
    /// As [`RoutingTable::load`].
    pub fn from_afar(name: &str, text: &[u8], at: impl Into<LawTime>) -> Result<Self, Problems> {
        let name = Path::new(name);
        let text = std::str::from_utf8(text).map_err(|error| {
            let line = text.get(..error.valid_up_to()).unwrap_or_default().iter().filter(|b| **b == b'\n').count() + 1;
            document::at_line(name, u32::try_from(line).unwrap_or(0), "the text is not UTF-8".to_owned())
        })?;
        Self::compile(name, text, None, at.into())
    }

    /// Returns the same table, its law read and proved at another time. Files that it names are not read again.
    ///
    /// # Errors
    /// Only those that the table had.
    pub fn at(&self, at: LawTime) -> Result<Self, TableError> {
        let table = self.table.at(at)?;
        let proof = policy::prove(&table);
        Ok(Self { table: Arc::new(table), proof, ..self.clone() })
    }

    /// Returns the text of a table file with the lists that it names by file written into it, so that it can be
    /// published.
    pub fn text_to_publish(file: &Path, text: &str) -> String {
        let directory = file.parent().unwrap_or(Path::new(""));
        compile::list::inlined(text, directory)
    }

    fn compile(file: &Path, text: &str, directory: Option<&Path>, at: LawTime) -> Result<Self, Problems> {
        let (compiled, warnings) =
            document::read(file, text, compile::KEYS, |root| compile::compile(root, text, file, directory, at))?;
        Ok(Self {
            table: Arc::new(compiled.table),
            proof: compiled.proof,
            upstreams: compiled.upstreams,
            criticality_header: compiled.criticality_header,
            canary: compiled.canary,
            affinity: compiled.affinity,
            has_affinity_secret: compiled.has_affinity_secret,
            text: text.into(),
            warnings,
            files: compiled.files,
        })
    }

    /// Returns every file that the table depends on: first its own, then its maintenance pages and lists. A table from
    /// a bus has none.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// The values of a table that only nodes may know.
const SECRETS: &[&[&str]] = &[&["affinity", "secret"]];
/// The placeholder of a secret, too short for a real one: a table that was copied from a node does not pass with it.
const REDACTED: &str = "\"redacted\"";
