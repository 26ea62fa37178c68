//! Why a request has no answer.

use std::error::Error;
use std::time::Duration;

use crate::{FailureKind, Outcome};

/// The kind and the words of what went wrong with one request.
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

impl Failure {
    /// Returns a failure with the whole chain of its causes in words.
    pub(crate) fn new(kind: FailureKind, what: impl Into<String>, error: &dyn Error) -> Failure {
        let mut message = what.into();
        let mut cause = Some(error);
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Failure { kind, message }
    }

    pub(crate) fn late(kind: FailureKind, what: &str, timeout: Duration) -> Failure {
        Failure { kind, message: format!("{what} within {timeout:?} of the intended time") }
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        Outcome::Failed { kind: self.kind, message: self.message }
    }
}
