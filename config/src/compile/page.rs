//! Maintenance pages: read with the table, so that a request never waits for a disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::field::Field;
use crate::text::read_bounded;

/// The pages of one table, each read once.
pub(super) struct Pages {
    /// `None` for a table that comes from elsewhere: what it names must not be read here.
    directory: Option<PathBuf>,
    read: BTreeMap<PathBuf, Arc<str>>,
}

impl Pages {
    /// Relative paths will be read from `directory`; without one, no file will be.
    pub(super) fn new(directory: Option<&Path>) -> Self {
        Self { directory: directory.map(Path::to_owned), read: BTreeMap::new() }
    }

    /// The page that stands in the table itself.
    pub(super) fn text(field: &Field<'_>) -> Option<Arc<str>> {
        let is_page = |text: &str| !text.trim().is_empty() && text.len() <= MAX_PAGE;
        field.text_that(is_page, "is not a page: 1 to 262144 bytes of HTML").map(Arc::from)
    }

    /// The page in the file that the field names.
    pub(super) fn page(&mut self, field: &Field<'_>) -> Option<Arc<str>> {
        let Some(directory) = &self.directory else {
            field.error("a table on the bus names no files: give the page itself, page_text = \"<html>…\"".to_owned());
            return None;
        };
        let file = field.file(directory)?;
        if let Some(page) = self.read.get(&file) {
            return Some(page.clone());
        }
        match read_bounded(&file, MAX_PAGE) {
            Ok(page) if page.trim().is_empty() => {
                field.error(format!("the page {} is empty", file.display()));
                None
            }
            Ok(page) => Some(self.read.entry(file).or_insert(page.into()).clone()),
            Err(error) => {
                field.error(format!("the page {}: {error}", file.display()));
                None
            }
        }
    }

    /// The files that were read.
    pub(super) fn into_files(self) -> Vec<PathBuf> {
        self.read.into_keys().collect()
    }
}

/// The longest maintenance page, in bytes.
const MAX_PAGE: usize = 256 * 1024;
