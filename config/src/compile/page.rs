//! The files that a table names, maintenance pages and lists: read with the table, so that a request never
//! waits for a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::field::Field;
use crate::text::read_bounded;

/// The files of one table, each page read once.
pub(super) struct Files {
    /// `None` for a table from a bus, which must not make this machine read files.
    directory: Option<PathBuf>,
    pages: BTreeMap<PathBuf, Arc<str>>,
    lists: BTreeSet<PathBuf>,
}

impl Files {
    /// Returns an empty set. Relative paths are read from `directory`; without one, no file is read.
    pub(super) fn new(directory: Option<&Path>) -> Self {
        Self { directory: directory.map(Path::to_owned), pages: BTreeMap::new(), lists: BTreeSet::new() }
    }

    /// Reads a page that is written in the table itself.
    pub(super) fn text(field: &Field<'_>) -> Option<Arc<str>> {
        let is_page = |text: &str| !text.trim().is_empty() && text.len() <= MAX_PAGE;
        field.text_that(is_page, "is not a page: 1 to 262144 bytes of HTML").map(Arc::from)
    }

    /// Reads the page in the file that the field names.
    pub(super) fn page(&mut self, field: &Field<'_>) -> Option<Arc<str>> {
        let file = self.path(field, "give the page itself, page_text = \"<html>…\"")?;
        if let Some(page) = self.pages.get(&file) {
            return Some(page.clone());
        }
        match read_bounded(&file, MAX_PAGE) {
            Ok(page) if page.trim().is_empty() => {
                field.error(format!("the page {} is empty", file.display()));
                None
            }
            Ok(page) => Some(self.pages.entry(file).or_insert(page.into()).clone()),
            Err(error) => {
                field.error(format!("the page {}: {error}", file.display()));
                None
            }
        }
    }

    /// Returns the file that the field names; for a table from a bus, reports `remedy` instead.
    pub(super) fn path(&self, field: &Field<'_>, remedy: &str) -> Option<PathBuf> {
        let Some(directory) = &self.directory else {
            field.error(format!("a table on the bus names no files: {remedy}"));
            return None;
        };
        field.file(directory)
    }

    /// Reads the text of the list in a file.
    pub(super) fn list(&mut self, field: &Field<'_>, file: &Path) -> Option<String> {
        self.lists.insert(file.to_owned());
        let text = read_bounded(file, MAX_LIST);
        text.map_err(|error| field.error(format!("the list {}: {error}", file.display()))).ok()
    }

    /// Returns the files that were read.
    pub(super) fn into_files(self) -> Vec<PathBuf> {
        self.pages.into_keys().chain(self.lists).collect()
    }
}

/// The longest maintenance page, in bytes.
const MAX_PAGE: usize = 256 * 1024;
/// The longest file of entries, in bytes.
pub(super) const MAX_LIST: usize = 256 * 1024;
