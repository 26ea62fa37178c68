//! Reads one table of a file, key by key.

use std::rc::Rc;

use toml::de::DeTable;

use super::{Field, Step};
use crate::problem::Severity;
use crate::quote::quote;
use crate::report::Report;
use crate::suggest::nearest;

/// A table whose keys are all known, or are all names that the user chooses.
pub(crate) struct Section<'t> {
    report: &'t Report,
    table: &'t DeTable<'t>,
    path: Rc<str>,
    /// Where the table starts in the text; `None` for the whole file.
    offset: Option<usize>,
    /// The known keys that are nearest to unknown ones.
    misspelt: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// Returns the whole file as a table with these keys only; others are reported.
    pub(crate) fn root(report: &'t Report, table: &'t DeTable<'t>, known: &'static [&'static str]) -> Self {
        Self::open(report, table, "".into(), None).with_keys(known)
    }

    /// Returns a table with any keys.
    pub(crate) fn open(report: &'t Report, table: &'t DeTable<'t>, path: Rc<str>, offset: Option<usize>) -> Self {
        Self { report, table, path, offset, misspelt: Vec::new() }
    }

    /// Reports every key that is not one of these.
    pub(crate) fn with_keys(mut self, known: &'static [&'static str]) -> Self {
        let unknown: Vec<Field<'t>> = self.fields().filter(|field| !known.contains(&field.key())).collect();
        let known_here = known.join(", ");
        for field in unknown {
            let key = field.key();
            let suggestion = field.did_you_mean(key, known.iter().copied());
            field.error(format!("unknown key {}{suggestion}; the keys here are: {known_here}", quote(key)));
            self.misspelt.extend(nearest(key, known.iter().copied()));
        }
        self
    }

    /// Returns the value of a key, if it has one.
    pub(crate) fn field(&self, key: &str) -> Option<Field<'t>> {
        let (key, value) = self.table.get_key_value(key)?;
        Some(self.make_field(key, value))
    }

    /// Returns the value of a key that must have one: its absence is reported, with `remedy`.
    pub(crate) fn required(&self, key: &str, remedy: &str) -> Option<Field<'t>> {
        let field = self.field(key);
        if field.is_none() {
            self.missing(key, remedy);
        }
        field
    }

    /// Reports the absence of a key, unless it is there misspelt, which was reported.
    pub(crate) fn missing(&self, key: &str, remedy: &str) {
        if self.misspelt.contains(&key) {
            return;
        }
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        self.report.add(Severity::Error, self.line(), path, format!("missing: {remedy}"));
    }

    /// Returns all keys and values, in the order of the names.
    pub(crate) fn fields(&self) -> impl Iterator<Item = Field<'t>> {
        self.table.iter().map(|(key, value)| self.make_field(key, value))
    }

    /// Returns whether the table has no key.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns the line, from 1, where the table starts; 0 for the whole file.
    pub(crate) fn line(&self) -> u32 {
        self.report.line(self.offset)
    }

    /// Reports something wrong with the table as a whole.
    pub(crate) fn error(&self, message: String) {
        self.report.add(Severity::Error, self.line(), self.path.to_string(), message);
    }

    /// Reports something about the table as a whole that its author should know.
    pub(crate) fn warning(&self, message: String) {
        self.report.add(Severity::Warning, self.line(), self.path.to_string(), message);
    }

    /// Returns whether an error was reported so far, anywhere in the file.
    pub(crate) fn report_has_errors(&self) -> bool {
        self.report.has_errors()
    }

    fn make_field(
        &self,
        key: &'t toml::Spanned<toml::de::DeString<'t>>,
        value: &'t toml::Spanned<toml::de::DeValue<'t>>,
    ) -> Field<'t> {
        Field::new(self.report, self.path.clone(), Step::Key(key.get_ref()), key.span().start, value.get_ref())
    }
}
