//! Collects the problems of one file while it is read.

use std::cell::{Cell, RefCell};

use crate::problem::{Problem, Problems, Severity};

/// The problems of one file so far. Lives while the file is read, on one thread; all readers share it, hence the cells.
#[derive(Debug)]
pub(crate) struct Report {
    file: String,
    /// The byte offset at which each line after the first starts.
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    /// The number of problems past [`MAX_PROBLEMS`].
    omitted: Cell<usize>,
    has_errors: Cell<bool>,
}

impl Report {
    /// Returns an empty report on a file with this text.
    pub(crate) fn new(file: &str, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            line_starts: text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1).collect(),
            problems: RefCell::default(),
            omitted: Cell::new(0),
            has_errors: Cell::new(false),
        }
    }

    /// Returns the line, from 1, of a byte offset; 0 without one.
    pub(crate) fn line(&self, offset: Option<usize>) -> u32 {
        let lines_before = |offset: usize| self.line_starts.partition_point(|start| *start <= offset);
        offset.map_or(0, |offset| u32::try_from(lines_before(offset) + 1).unwrap_or(u32::MAX))
    }

    /// Adds a problem; past [`MAX_PROBLEMS`], only counts it.
    pub(crate) fn add(&self, severity: Severity, line: u32, path: String, message: String) {
        if severity == Severity::Error {
            self.has_errors.set(true);
        }
        if self.is_full() {
            self.omitted.set(self.omitted.get() + 1);
            return;
        }
        let message = tidy(message);
        self.problems.borrow_mut().push(Problem { severity, file: self.file.clone(), line, path, message });
    }

    /// Returns whether an error was reported.
    pub(crate) fn has_errors(&self) -> bool {
        self.has_errors.get()
    }

    /// Returns whether further problems are only counted, so that no message need be made.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.borrow().len() >= MAX_PROBLEMS
    }

    /// Returns all problems, sorted by line.
    pub(crate) fn into_problems(self) -> Problems {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        if self.omitted.get() > 0 {
            let severity = if self.has_errors.get() { Severity::Error } else { Severity::Warning };
            let message = format!("and {} problems more, not shown", self.omitted.get());
            problems.push(Problem { severity, file: self.file, line: 0, path: String::new(), message });
        }
        Problems(problems)
    }
}

/// Returns the message on one line, with control characters escaped and at most [`LONGEST_MESSAGE`] letters.
fn tidy(message: String) -> String {
    if message.len() <= LONGEST_MESSAGE && !message.contains(char::is_control) {
        return message;
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    message.chars().take(LONGEST_MESSAGE).map(escape).collect()
}

/// The most problems that a report keeps: more than anybody reads at once.
const MAX_PROBLEMS: usize = 1000;

/// The longest message, in letters: names from the file can be long.
const LONGEST_MESSAGE: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one() {
        let report = Report::new("f", "a\nbc\n\nd");
        let lines: Vec<u32> = (0..8).map(|offset| report.line(Some(offset))).collect();
        assert_eq!(lines, [1, 1, 2, 2, 2, 3, 4, 4]);
        assert_eq!(report.line(None), 0);
    }

    #[test]
    fn messages_are_tidy() {
        assert_eq!(tidy("a\n\u{1b}b".into()), "a\\n\\u{1b}b");
        assert_eq!(tidy("é".repeat(3000)).chars().count(), 2000);
    }

    #[test]
    fn problems_are_bounded_and_sorted_and_the_rest_is_counted() {
        let report = Report::new("f", "");
        for line in (1..=1005).rev() {
            report.add(Severity::Warning, line, String::new(), String::new());
        }
        report.add(Severity::Error, 1, String::new(), "late".into());
        assert!(report.has_errors());
        let problems = report.into_problems();
        assert!(problems.has_errors());
        assert_eq!(problems.0.len(), 1001);
        assert!(problems.0[..1000].is_sorted_by_key(|problem| problem.line));
        assert_eq!(problems.0[1000].message, "and 6 problems more, not shown");
    }
}
