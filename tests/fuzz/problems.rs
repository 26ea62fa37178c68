//! What every list of problems promises.

use std::path::Path;

use config::{Problem, Problems, Severity};

/// A file that is refused says at least one reason, and each of them well.
pub(crate) fn check_refusal(file: &Path, text: &str, problems: &Problems) {
    assert!(problems.has_errors());
    check(file, text, &problems.0);
}

/// A file that is taken has warnings at most.
pub(crate) fn check_warnings(file: &Path, text: &str, warnings: &[Problem]) {
    assert!(warnings.iter().all(|warning| warning.severity == Severity::Warning), "{warnings:?}");
    check(file, text, warnings);
}

fn check(file: &Path, text: &str, problems: &[Problem]) {
    let lines = text.split('\n').count() as u32;
    assert!(problems.len() <= 1001, "{} problems", problems.len());
    for problem in problems {
        assert_eq!(problem.file, file.display().to_string());
        assert!(problem.line <= lines, "{problem} of {lines} lines");
        assert!(!problem.message.trim().is_empty(), "{problem:?}");
        // One line, whatever the file has in its names.
        assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
        // A panic while reading is caught there, and becomes this. (Not `contains`: a fuzzer learns to
        // write the words into its tables, and messages quote those.)
        assert!(!problem.message.starts_with("reading this file made Meridian itself fail"), "{problem}");
    }
}
