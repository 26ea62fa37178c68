//! Merges the records of several databases.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::{Database, DatabaseError, Place, embedded};

/// Geo databases in their order of preference. The default has none, and every place is unknown.
///
/// Immutable: to reload, open all anew and swap the whole, so that a look-up never sees a mixture.
#[derive(Debug, Default)]
pub struct GeoDatabases(Vec<Database>);

impl GeoDatabases {
    /// Looks an address up in all databases, after [`embedded()`]; [`Place`] describes the merge.
    ///
    /// An address that none of them lists (private, loopback, reserved) is an unknown place.
    pub fn lookup(&self, address: IpAddr) -> Place<'_> {
        let address = embedded(address);
        let mut place = Place::default();
        self.0.iter().filter_map(|database| database.record(address)).for_each(|record| place.learn(&record));
        place
    }

    /// Opens every file, or returns everything that is wrong with them.
    ///
    /// Reads and verifies whole files: seconds for hundreds of MiB, so not on a thread that
    /// serves requests.
    pub fn open_all(paths: &[PathBuf]) -> Result<Self, Vec<DatabaseError>> {
        let mut databases = Vec::with_capacity(paths.len());
        let mut problems = Vec::new();
        for path in paths {
            match Database::open(path) {
                Ok(database) => databases.push(database),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Self(databases)) } else { Err(problems) }
    }

    /// Returns the databases in their order of preference, for status and metrics.
    pub fn databases(&self) -> impl Iterator<Item = &Database> {
        self.0.iter()
    }
}

impl FromIterator<Database> for GeoDatabases {
    fn from_iter<I: IntoIterator<Item = Database>>(databases: I) -> Self {
        Self(databases.into_iter().collect())
    }
}
