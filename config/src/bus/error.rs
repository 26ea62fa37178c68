//! Errors of the bus.

use std::path::PathBuf;

use thiserror::Error;

/// Why a request to the bus failed.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum BusError {
    #[error("{}: {what}", file.display())]
    File { file: PathBuf, what: String },
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error("cannot connect to {servers}: {what}")]
    Connect { servers: String, what: String },
    #[error("there is no bucket {bucket:?} on the bus; `meridian publish` makes it")]
    NoBucket { bucket: String },
    #[error("the bus has no JetStream: start nats-server with -js, and let this account use it")]
    NoJetStream,
    #[error("the bus does not answer in time")]
    TimedOut,
    #[error("the bus says: {0}")]
    Other(String),
}

/// Why a table was not published.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum PublishError {
    #[error("another table was published meanwhile")]
    Overtaken,
    #[error(
        "the table and its headers are {bytes} bytes, and the server takes {most}: raise max_payload in its configuration"
    )]
    TooLarge { bytes: usize, most: usize },
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Classifies the error of a request. A time-out and a server without JetStream show only in the text of the library's
/// error and its sources.
pub(super) fn request_error(error: &(dyn std::error::Error + 'static)) -> BusError {
    let text = chain(error);
    if text.contains("timed out") {
        BusError::TimedOut
    } else if text.contains("no responders") || text.contains("JetStream resource does not exist") {
        BusError::NoJetStream
    } else {
        BusError::Other(text)
    }
}

/// Returns an error with its causes, each once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
