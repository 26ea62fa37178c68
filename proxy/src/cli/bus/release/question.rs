//! The question before something is written.

use std::io::{BufRead, IsTerminal};

use anyhow::anyhow;

use crate::cli::Failed;
use crate::cli::bus::console::Console;

/// Asks, and goes on if the answer is yes.
///
/// # Errors
/// When it is another, or nobody can be asked.
pub(super) async fn confirm(question: &str, console: &mut Console) -> Result<(), Failed> {
    if !std::io::stdin().is_terminal() {
        return Err(Failed::Input(anyhow!("{question} stdin is no terminal to ask on: say --yes, or --dry-run")));
    }
    console.ask(&format!("{question} [y/N] "));
    // The bus is answered meanwhile.
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.map_err(|error| Failed::Ran(error.into()))?;
    let answer = answer.map_err(|error| Failed::Ran(error.into()))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failed::Ran(anyhow!("nothing was written"))),
    }
}
