//! Reads one value of a file, with its place, as the expected type.
//!
//! Every reader reports a value that does not fit and then returns `None`: the caller continues with
//! a default, and a file with errors has no result.

mod section;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use policy::Moment;
use policy::moment::NoMoment;
use toml::de::{DeInteger, DeValue};

use crate::problem::Severity;
use crate::quote::quote;
use crate::report::Report;
use crate::suggest::did_you_mean;
pub(crate) use section::Section;

/// A value of a file.
#[derive(Clone)]
pub(crate) struct Field<'t> {
    report: &'t Report,
    parent: Rc<str>,
    step: Step<'t>,
    offset: usize,
    value: &'t DeValue<'t>,
}

/// The last step of a value's path.
#[derive(Clone, Copy)]
pub(crate) enum Step<'t> {
    /// A table's key.
    Key(&'t str),
    /// A position in a list, from 0.
    Index(usize),
}

impl<'t> Field<'t> {
    pub(crate) fn new(
        report: &'t Report,
        parent: Rc<str>,
        step: Step<'t>,
        offset: usize,
        value: &'t DeValue<'t>,
    ) -> Self {
        Self { report, parent, step, offset, value }
    }

    /// Returns the key; empty for an element of a list.
    pub(crate) fn key(&self) -> &'t str {
        match self.step {
            Step::Key(key) => key,
            Step::Index(_) => "",
        }
    }

    /// Returns the value as a string.
    pub(crate) fn text(&self) -> Option<&'t str> {
        self.value.as_str().or_else(|| self.wrong("a string"))
    }

    /// Returns a string for which `is_good` holds; for any other, reports `problem`, the end of a sentence that starts
    /// with the string.
    pub(crate) fn text_that(&self, is_good: impl FnOnce(&str) -> bool, problem: &str) -> Option<&'t str> {
        let text = self.text()?;
        if !is_good(text) {
            self.error(format!("{} {problem}", quote(text)));
            return None;
        }
        Some(text)
    }

    /// Returns the string, if the value is one; nothing is reported.
    pub(crate) fn peek_text(&self) -> Option<&'t str> {
        self.value.as_str()
    }

    /// Returns the whole number, if the value is one; nothing is reported.
    pub(crate) fn peek_integer(&self) -> Option<i64> {
        self.value.as_integer().and_then(parse_integer)
    }

    /// Returns the name of a file, which is not opened; a relative one is relative to `directory`.
    pub(crate) fn file(&self, directory: &Path) -> Option<PathBuf> {
        let is_good = |name: &str| !name.is_empty() && !name.contains('\0');
        self.text_that(is_good, "cannot be the name of a file").map(|name| directory.join(name))
    }

    /// Returns `true` or `false`.
    pub(crate) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.wrong("true or false"))
    }

    /// Returns a whole number in a range.
    pub(crate) fn integer<N>(&self, range: RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + Display,
    {
        let Some(integer) = self.value.as_integer() else { return self.wrong("a whole number") };
        let number = parse_integer(integer).and_then(|number| N::try_from(number).ok());
        number.filter(|number| range.contains(number)).or_else(|| self.outside(range.start(), range.end()))
    }

    /// Returns a finite number, written with or without a decimal point, in a range.
    pub(crate) fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.value {
            DeValue::Integer(integer) => parse_integer(integer).map(|number| number as f64),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => return self.wrong("a number"),
        };
        number.filter(|number| range.contains(number)).or_else(|| self.outside(range.start(), range.end()))
    }

    /// Returns a duration such as `"250ms"`, from one millisecond to [`LONGEST`].
    pub(crate) fn duration(&self) -> Option<Duration> {
        self.duration_from(Duration::from_millis(1))
    }

    /// Returns a duration such as `"250ms"`, from zero to [`LONGEST`].
    pub(crate) fn duration_or_zero(&self) -> Option<Duration> {
        self.duration_from(Duration::ZERO)
    }

    /// Returns a date, which is 00:00 UTC, or a time with an offset; as a string or as TOML's own.
    pub(crate) fn moment(&self) -> Option<Moment> {
        let text = match self.value {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            _ => return self.wrong("a date such as \"2031-12-27\""),
        };
        text.parse().map_err(|error: NoMoment| self.error(error.to_string())).ok()
    }

    /// Returns the value that the word stands for, one of `choices`.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            self.unknown("value", text, choices.iter().map(|(word, _)| *word));
        }
        found
    }

    /// Returns the elements of a list.
    pub(crate) fn list(&self) -> Option<Vec<Field<'t>>> {
        let Some(list) = self.value.as_array() else { return self.wrong("a list") };
        let path: Rc<str> = self.path().into();
        let element = |(index, value): (usize, &'t toml::Spanned<DeValue<'t>>)| {
            Field::new(self.report, path.clone(), Step::Index(index), value.span().start, value.get_ref())
        };
        Some(list.iter().enumerate().map(element).collect())
    }

    /// Returns a table with these keys only.
    pub(crate) fn section(&self, known: &'static [&'static str]) -> Option<Section<'t>> {
        Some(self.open_section()?.with_keys(known))
    }

    /// Returns a table whose keys are names that the user chooses.
    pub(crate) fn open_section(&self) -> Option<Section<'t>> {
        let Some(table) = self.value.as_table() else { return self.wrong("a table") };
        Some(Section::open(self.report, table, self.path().into(), Some(self.offset)))
    }

    /// Returns the elements, if the value is a list; nothing is reported.
    pub(crate) fn peek_list(&self) -> Option<Vec<Field<'t>>> {
        self.value.is_array().then(|| self.list()).flatten()
    }

    /// Returns the table, if the value is one; nothing is reported.
    pub(crate) fn peek_section(&self) -> Option<Section<'t>> {
        self.value.is_table().then(|| self.open_section()).flatten()
    }

    /// Returns whether the value is an empty list.
    pub(crate) fn is_empty_list(&self) -> bool {
        self.value.as_array().is_some_and(|list| list.is_empty())
    }

    /// Returns the line, from 1.
    pub(crate) fn line(&self) -> u32 {
        self.report.line(Some(self.offset))
    }

    /// Returns the path: `regions.us-east-1.country`, `routes[2].host`.
    pub(crate) fn path(&self) -> String {
        let parent = &self.parent;
        match self.step {
            Step::Index(index) => format!("{parent}[{index}]"),
            Step::Key(key) => {
                let dot = if parent.is_empty() { "" } else { "." };
                let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                if (1..=64).contains(&key.len()) && key.chars().all(bare) {
                    format!("{parent}{dot}{key}")
                } else {
                    format!("{parent}{dot}{}", quote(key))
                }
            }
        }
    }

    /// Reports an error here.
    pub(crate) fn error(&self, message: String) {
        self.add(Severity::Error, message);
    }

    /// Reports a warning here.
    pub(crate) fn warning(&self, message: String) {
        self.add(Severity::Warning, message);
    }

    /// Reports a word that is none of the known ones, with the nearest or, if few, all of them.
    pub(crate) fn unknown<'k>(&self, kind: &str, word: &str, known: impl Iterator<Item = &'k str> + Clone) {
        let few: Vec<&str> = known.clone().take(13).collect();
        let list = match few.len() {
            0 => "; there is none".to_owned(),
            1..=12 => format!("; known: {}", few.join(", ")),
            _ => String::new(),
        };
        self.error(format!("unknown {kind} {}{}{list}", quote(word), self.did_you_mean(word, known)));
    }

    /// Returns ` (did you mean "NAME"?)`, or nothing when no known name is near or the report is full.
    pub(crate) fn did_you_mean<'k>(&self, wrong: &str, known: impl Iterator<Item = &'k str>) -> String {
        if self.report.is_full() { String::new() } else { did_you_mean(wrong, known) }
    }

    fn duration_from(&self, least: Duration) -> Option<Duration> {
        let remedy = "a duration such as \"250ms\", \"30s\", \"5m\" or \"1h\"";
        let Some(text) = self.peek_text() else { return self.wrong(remedy) };
        match humantime::parse_duration(text) {
            Ok(duration) if duration < least => {
                self.error(format!("{} is too short here; the least is \"1ms\"", quote(text)));
                None
            }
            Ok(duration) if duration > LONGEST => {
                self.error(format!("{} is too long; the most is \"10years\"", quote(text)));
                None
            }
            Ok(duration) => Some(duration),
            Err(_) => {
                self.error(format!("{} is not {remedy}", quote(text)));
                None
            }
        }
    }

    fn outside<T>(&self, least: impl Display, most: impl Display) -> Option<T> {
        self.error(format!("{} is out of range: it must be {least} to {most}", describe(self.value)));
        None
    }

    /// Reports that the value is not of the wanted type.
    pub(crate) fn wrong<T>(&self, wanted: &str) -> Option<T> {
        self.error(format!("expected {wanted}, found {}", describe(self.value)));
        None
    }

    fn add(&self, severity: Severity, message: String) {
        let path = if self.report.is_full() { String::new() } else { self.path() };
        self.report.add(severity, self.line(), path, message);
    }
}

/// Returns a value in words, for "found …".
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {}", quote(text)),
        DeValue::Integer(integer) => format!("the number {integer}"),
        DeValue::Float(float) => format!("the number {float}"),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn parse_integer(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The longest duration, ten years in humantime's count: longer is a mistake, and far longer overflows clocks.
const LONGEST: Duration = Duration::from_secs(10 * 31_557_600);
