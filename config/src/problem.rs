//! Problems of a file, each with its place.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One problem of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Problem {
    /// Whether the file can still be used.
    pub severity: Severity,
    /// The file, as the caller named it.
    pub file: String,
    /// The line, from 1; 0 is the file as a whole.
    pub line: u32,
    /// The place in TOML's terms: `regions.us-east-1.country`, `routes[2].host`. May be empty.
    pub path: String,
    /// What is wrong, with which value, and what to do about it.
    pub message: String,
}

impl Problem {
    /// Returns whether the problem is a passing one of the system, rather than the file's: a lack of descriptors,
    /// memory, threads or disk. A problem is plain text, and the system's errors have their number in it.
    pub fn may_pass(&self) -> bool {
        PASSING.iter().any(|number| self.message.contains(&format!("(os error {number})")))
    }
}

/// EINTR, EIO, EAGAIN, ENOMEM, ENFILE, EMFILE, ENOBUFS, ETIMEDOUT and ESTALE, whose numbers are the same on every
/// Linux that Meridian supports.
const PASSING: [i32; 9] = [4, 5, 11, 12, 23, 24, 105, 110, 116];

/// Whether a file with a problem can still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, though perhaps not to the effect that its author wanted.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

impl fmt::Display for Problem {
    /// Writes `FILE:LINE: error: PATH: message`, without the parts that are not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}: ", self.severity)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything wrong with a file, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Returns whether any of them is more than a warning.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for Problems {
    /// Writes one problem a line, without a final newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_lacks_may_pass_and_what_a_file_says_does_not() {
        let problem = |error: std::io::Error| Problem {
            severity: Severity::Error,
            file: "f".into(),
            line: 0,
            path: String::new(),
            message: format!("cannot read the file: {error}; check its path"),
        };
        for number in PASSING {
            assert!(problem(std::io::Error::from_raw_os_error(number)).may_pass(), "{number}");
        }
        for number in [2, 13, 21] {
            assert!(!problem(std::io::Error::from_raw_os_error(number)).may_pass(), "{number}");
        }
        assert!(!problem(std::io::Error::other("no TOML")).may_pass());
    }

    #[test]
    fn a_problem_shows_only_what_is_known() {
        let mut problem = Problem {
            severity: Severity::Error,
            file: "routes.toml".into(),
            line: 7,
            path: "routes[2].host".into(),
            message: "bad".into(),
        };
        assert_eq!(problem.to_string(), "routes.toml:7: error: routes[2].host: bad");
        problem.line = 0;
        problem.path.clear();
        problem.severity = Severity::Warning;
        assert_eq!(problem.to_string(), "routes.toml: warning: bad");
        let problems = Problems(vec![problem.clone(), problem]);
        assert_eq!(problems.to_string(), "routes.toml: warning: bad\nroutes.toml: warning: bad");
        assert!(!problems.has_errors());
    }
}
