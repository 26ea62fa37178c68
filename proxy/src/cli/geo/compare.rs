//! `meridian geo compare`

use std::path::PathBuf;

use anyhow::anyhow;

use super::amount::AmountReport;
use super::movement::Movement;
use super::surveyed::Options;
use super::{Failed, input, share, words};

/// Compare two geo databases.
#[derive(Debug, clap::Args)]
pub(super) struct Compare {
    /// The database before
    #[arg(value_name = "OLD.mmdb")]
    old: PathBuf,
    /// The database after
    #[arg(value_name = "NEW.mmdb")]
    new: PathBuf,
    /// Databases that stand beside both, as on the node
    #[arg(long, value_name = "FILE")]
    beside: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Exit with 1 if more than --max-change is like that, of any kind of address or of the requests
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    fail_on: Vec<FailOn>,
    /// How much --fail-on puts up with
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    max_change: f64,
}

/// Which changes fail the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// Requests of a client may go where they could not (needs --table).
    Widening,
    /// A client has no region any more (needs --table).
    Refused,
    /// A client comes under the law of other jurisdictions (needs --table).
    Moved,
    /// A client was in the Union, and is elsewhere.
    LeavesUnion,
}

impl Compare {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let needs_table = self.fail_on.iter().any(|what| *what != FailOn::LeavesUnion);
        if needs_table && self.options.table.is_none() {
            return Err(input(
                "--fail-on widening, refused and moved need --table TABLE: it says who is under which law",
            ));
        }
        let files: Vec<PathBuf> = [&self.old, &self.new].into_iter().chain(&self.beside).cloned().collect();
        let before_and_after = |count| {
            let with_beside = |database: usize| std::iter::once(database).chain(2..count).collect();
            vec![with_beside(0), with_beside(1)]
        };
        let surveyed = self.options.survey(&files, before_and_after)?;
        let Some(movement) = Movement::of(&surveyed) else { return Ok(()) };
        self.options.print(&movement, words::movement)?;
        self.enforce_fail_on(&movement)
    }

    fn enforce_fail_on(&self, movement: &Movement) -> Result<(), Failed> {
        let law = movement.law.as_ref();
        let classes = || law.iter().flat_map(|law| &law.classes);
        for what in &self.fail_on {
            let (amounts, why): (Vec<&AmountReport>, &str) = match what {
                FailOn::Widening => {
                    (classes().map(|class| &class.widened.total).collect(), "may go where they could not (widening)")
                }
                FailOn::Refused => (classes().map(|class| &class.refused.total).collect(), "have no region any more"),
                FailOn::Moved => {
                    (law.iter().map(|law| &law.jurisdictions.total).collect(), "come under the law of others")
                }
                FailOn::LeavesUnion => (vec![&movement.union.leaves.total], "leave the Union"),
            };
            let greatest = amounts.into_iter().map(AmountReport::greatest_share).fold(0.0, f64::max);
            if greatest > self.max_change {
                let share = words::percent(greatest);
                return Err(Failed::Ran(anyhow!("geo compare: {} of clients {why}", share.trim())));
            }
        }
        Ok(())
    }
}
