//! A command's connection to the bus, from start to end.

use config::bus::{Bus, BusError, PublishError};

use super::flags::{Flags, Source};
use crate::cli::Failed;

/// Connects, and does what is to be done there.
///
/// # Errors
/// When the bus cannot be reached, and those of `work`.
pub(in crate::cli) fn with_bus<T>(
    flags: &Flags,
    work: impl AsyncFnOnce(Bus, Source) -> Result<T, Failed>,
) -> Result<T, Failed> {
    let source = flags.source()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failed::Ran(error.into()))?.block_on(async {
        let bus = Bus::connect(&source.access, &publisher()).await?;
        work(bus, source).await
    })
}

/// Who is at work here: `user@host`.
pub(in crate::cli) fn publisher() -> String {
    let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = named("USER").or_else(|| named("LOGNAME")).unwrap_or_else(|| "meridian".to_owned());
    format!("{user}@{}", config::host_name())
}

impl From<BusError> for Failed {
    fn from(error: BusError) -> Self {
        match error {
            BusError::File { .. } => Failed::Input(error.into()),
            error => Failed::Ran(error.into()),
        }
    }
}

impl From<PublishError> for Failed {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Bus(error) => error.into(),
            error => Failed::Ran(error.into()),
        }
    }
}
