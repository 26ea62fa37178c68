//! Parses a file's text into a TOML tree, on a stack that no nesting can overflow.

use std::ops::Range;
use std::path::Path;
use std::thread;

use toml::de::{DeTable, Error};

use crate::field::Section;
use crate::problem::{Problem, Problems, Severity};
use crate::quote::quote;
use crate::report::Report;

/// Parses `text`, whose top-level keys can be `keys`, and converts its root with `read`. `file` is for
/// messages. Returns the value and the warnings.
///
/// # Errors
/// Everything wrong with the syntax, or else everything that `read` reported.
pub(crate) fn read<T: Send>(
    file: &Path,
    text: &str,
    keys: &'static [&'static str],
    read: impl FnOnce(&Section<'_>) -> Option<T> + Send,
) -> Result<(T, Vec<Problem>), Problems> {
    if text.len() > MAX_TEXT {
        return Err(whole_file(file, format!("the text is longer than {MAX_TEXT} bytes, the most that is read")));
    }
    let name = file.display().to_string();
    let work = || {
        let report = Report::new(&name, text);
        let value = parse(text, &report).and_then(|root| read(&Section::root(&report, &root, keys)));
        (value.filter(|_| !report.has_errors()), report.into_problems())
    };
    match on_deep_stack(work) {
        Ok((Some(value), warnings)) => Ok((value, warnings.0)),
        Ok((None, problems)) => Err(problems),
        Err(failure) => Err(whole_file(file, failure)),
    }
}

/// Returns the keys at the top of a text, as far as it can be parsed.
pub(crate) fn top_level_keys(text: &str) -> Vec<String> {
    let keys = || DeTable::parse_recoverable(text).0.get_ref().keys().map(|key| key.get_ref().to_string()).collect();
    if text.len() > MAX_TEXT { Vec::new() } else { on_deep_stack(keys).unwrap_or_default() }
}

/// Returns the string value of a top-level key, as far as the text can be parsed.
pub(crate) fn top_level_text(text: &str, key: &str) -> Option<String> {
    let find = || {
        let (root, _) = DeTable::parse_recoverable(text);
        root.get_ref().get(key).and_then(|value| value.get_ref().as_str()).map(str::to_owned)
    };
    if text.len() > MAX_TEXT { None } else { on_deep_stack(find).ok().flatten() }
}

/// Returns, for each table below `section` that has the key with a string value, the span of both and the string, as
/// far as the text can be parsed.
pub(crate) fn texts_below(text: &str, section: &str, key: &str) -> Vec<(Range<usize>, String)> {
    let find = || {
        let (root, _) = DeTable::parse_recoverable(text);
        let tables = root.get_ref().get(section).and_then(|value| value.get_ref().as_table());
        let tables =
            tables.into_iter().flat_map(|tables| tables.iter()).filter_map(|(_, table)| table.get_ref().as_table());
        let found = tables.filter_map(|table| table.get_key_value(key));
        found
            .filter_map(|(key, value)| Some((key.span().start..value.span().end, value.get_ref().as_str()?.to_owned())))
            .collect()
    };
    if text.len() > MAX_TEXT { Vec::new() } else { on_deep_stack(find).unwrap_or_default() }
}

/// Returns the span of the value at a path, quotes included.
pub(crate) fn value_at(text: &str, path: &[&str]) -> Option<std::ops::Range<usize>> {
    let find = || {
        let (root, _) = DeTable::parse_recoverable(text);
        let (last, tables) = path.split_last()?;
        let mut table = root.get_ref();
        for key in tables {
            table = table.get(*key)?.get_ref().as_table()?;
        }
        Some(table.get(*last)?.span())
    };
    if text.len() > MAX_TEXT { None } else { on_deep_stack(find).ok().flatten() }
}

/// Runs `work` on a thread of its own with a stack of [`STACK`] bytes. Fails, with a message for
/// the user, when the thread cannot start or panics.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("read config".into()).stack_size(STACK);
        match builder.spawn_scoped(scope, work) {
            Ok(thread) => thread
                .join()
                .map_err(|_| "reading this file made Meridian itself fail: please report it with the file".to_owned()),
            Err(error) => Err(format!("cannot start a thread to read the file: {error}")),
        }
    })
}

/// Returns the one problem of a file that cannot be read at all.
pub(crate) fn whole_file(file: &Path, message: String) -> Problems {
    at_line(file, 0, message)
}

/// Returns the one problem of a file, at a line.
pub(crate) fn at_line(file: &Path, line: u32, message: String) -> Problems {
    let file = file.display().to_string();
    Problems(vec![Problem { severity: Severity::Error, file, line, path: String::new(), message }])
}

fn parse<'t>(text: &'t str, report: &Report) -> Option<DeTable<'t>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = report.line(error.span().map(|span| span.start));
        report.add(Severity::Error, line, String::new(), describe(error, text));
    }
    errors.is_empty().then(|| root.into_inner())
}

/// Returns the parser's message, with the text at fault.
fn describe(error: &Error, text: &str) -> String {
    let culprit = error.span().and_then(|span| text.get(span)).unwrap_or_default().trim();
    match error.message() {
        message if culprit.is_empty() => message.to_owned(),
        message => format!("{message}: {}", quote(culprit)),
    }
}

/// The longest text that is read, in bytes: room for the most routes that a table may have.
pub(crate) const MAX_TEXT: usize = 8 * 1024 * 1024;

/// The stack of the parsing thread. The parser accepts 80 nested inline tables, each below a key of
/// 80 parts. Freeing those 6400 levels, which recurses, takes 6 MB of stack in a debug build; a worker
/// thread has 2 MB. Only the used part is ever backed by memory.
const STACK: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(u32, String)> {
        let Err(problems) = read(Path::new("f"), text, &[], |_| None::<()>) else { panic!("{text} was read") };
        problems.0.into_iter().map(|problem| (problem.line, problem.message)).collect()
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let found = problems("a = 1\na = 2\nb = x y\n[t]\n[t]\n");
        let lines: Vec<u32> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 5], "{found:?}");
        assert_eq!(found[0].1, "duplicate key: \"a\"");
    }

    #[test]
    fn no_nesting_overflows_the_stack() {
        let key = vec!["a"; 79].join(".");
        let deep = format!("{}a = 1{}", format!("{key} = {{ ").repeat(79), " }".repeat(79));
        assert!(read(Path::new("f"), &deep, &["a"], |_| Some(())).is_ok());
        // The second value is freed by the parser itself.
        assert_eq!(problems(&format!("a = 1\n{deep}")).len(), 1);
        assert!(!problems(&format!("a = {}", "[".repeat(1_000_000))).is_empty());
    }

    #[test]
    fn a_panic_is_a_problem() {
        let Err(problems) = read(Path::new("f"), "", &[], |_| -> Option<()> { panic!("on purpose") }) else {
            panic!("it was read")
        };
        assert!(problems.to_string().starts_with("f: error: reading this file made Meridian itself fail"));
    }
}
