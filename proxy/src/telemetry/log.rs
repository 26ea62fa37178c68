//! The node's own log: stderr, one event a line.

use tracing_subscriber::EnvFilter;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Starts the log. `MERIDIAN_LOG` filters it (`debug`, `info,hyper=warn`, …); `info` otherwise.
pub(crate) fn start(format: LogFormat) {
    // What pingora notes on its start and stop, and the bus's client on each attempt to connect, says
    // nothing that ours does not.
    let ours = || EnvFilter::new("info,pingora_core=warn,async_nats=off");
    let filter = EnvFilter::try_from_env("MERIDIAN_LOG").unwrap_or_else(|_| ours());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => subscriber.with_target(false).with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    // A second start, as in tests, keeps the first.
    drop(started);
}
