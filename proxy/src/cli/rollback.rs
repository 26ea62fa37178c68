//! `meridian rollback`

use std::time::SystemTime;

use anyhow::anyhow;
use config::RoutingTable;
use config::bus::{Bus, Entry};

use super::Failed;
use super::bus::outcome::{Fate, Outcome};
use super::bus::release::{Proposal, Release, back, withdraw};
use super::bus::scene::{Published, Scene};
use super::bus::session::with_bus;
use super::bus::{Console, Flags};

/// Withdraw the staged table, or publish an earlier one again.
#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    /// The revision whose table comes back; by default the newest good one that differs from the live one
    #[arg(long, value_name = "REV")]
    to: Option<u64>,
    /// Withdraw a staged table, and never touch the live one
    #[arg(long, conflicts_with = "to")]
    staged: bool,
    #[command(flatten)]
    release: Release,
    #[command(flatten)]
    bus: Flags,
}

impl Rollback {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let mut console = Console::new(self.release.format);
        let mut outcome = Outcome::default();
        let done = with_bus(&self.bus, async |bus, source| {
            let is_whole = self.to.is_none() || self.release.is_rehearsal();
            if self.withdraw(&bus, &mut outcome, &mut console).await? && is_whole {
                return Ok(());
            }
            if self.staged {
                return Err(Failed::Ran(anyhow!("no table is staged")));
            }
            let history = bus.history().await?;
            let earlier = earlier(&history, self.to, is_good).map_err(|why| Failed::Input(anyhow!(why)))?;
            let name = format!("revision {}", earlier.revision);
            let occasion = Some(format!("{ROLLBACK}{}", earlier.revision));
            let proposal = Proposal::new(earlier.publication.text, &name, occasion)?;
            self.release.perform(&bus, &source, &proposal, &mut outcome, &mut console).await
        });
        outcome.tell(done, &console)
    }

    /// Withdraws the staged table, if one is under way. This asks nobody: it is what they wait for.
    async fn withdraw(&self, bus: &Bus, outcome: &mut Outcome, console: &mut Console) -> Result<bool, Failed> {
        let Some((staged, stage)) = Scene::read(bus).await?.under_way(SystemTime::now()) else { return Ok(false) };
        let what = format!("revision {} (staged by {})", staged.revision, staged.publication.by);
        if self.release.is_rehearsal() {
            console.say(&format!("a dry run: {what} would be withdrawn\n"));
            return Ok(true);
        }
        withdraw(bus, staged.revision).await?;
        outcome.outcome = Fate::Withdrawn;
        match back(bus, &stage.nodes, self.release.patience(), console).await {
            // Nobody waited.
            Err(lacking) if !self.release.patience().is_zero() => Err(Failed::Ran(anyhow!("{what}: {lacking}"))),
            Ok(became) | Err(became) => {
                console.say(&format!("{what}: {became}\n"));
                Ok(true)
            }
        }
    }
}

/// Whether nodes could read it at all.
fn is_good(table: &Published) -> bool {
    RoutingTable::from_afar("bus", &table.publication.text).is_ok()
}

/// The revision that a table was rolled back to, by its note.
fn rolled_back_to(note: &str) -> Option<u64> {
    let rest = note.strip_prefix(ROLLBACK)?;
    rest.split(':').next()?.trim().parse().ok()
}

/// How the note of a rollback begins.
const ROLLBACK: &str = "rollback to revision ";

/// The table that comes back: of a revision, or else the newest that is not the live one.
fn earlier(history: &[Entry], to: Option<u64>, is_good: impl Fn(&Published) -> bool) -> Result<Published, String> {
    let live = history.last();
    let tables: Vec<Published> = history.iter().rev().cloned().filter_map(Published::of).collect();
    let known = || tables.iter().map(|table| table.revision.to_string()).collect::<Vec<_>>().join(", ");
    match (to, live.and_then(|live| live.publication.as_ref())) {
        _ if tables.is_empty() => Err("there is no table on the bus to go back to".to_owned()),
        (Some(revision), _) => {
            let found = tables.iter().find(|table| table.revision == revision);
            found.cloned().ok_or_else(|| format!("the bus has no table of revision {revision}; it has {}", known()))
        }
        (None, Some(live)) => {
            // After a rollback, back is further back, and not to what it was rolled back from.
            let before = rolled_back_to(&live.note).unwrap_or(u64::MAX);
            let is_other = |table: &&Published| table.publication.text != live.text && table.revision < before;
            let other = tables.iter().filter(is_other).find(|table| is_good(table));
            other.cloned().ok_or_else(|| {
                format!("the bus has no earlier table that is good to go back to; it has {}: say --to REV, or publish a file", known())
            })
        }
        // It was deleted: the newest comes back.
        (None, None) => tables.iter().find(|table| is_good(table)).cloned().ok_or_else(String::new),
    }
}

#[cfg(test)]
mod tests {
    use config::bus::Publication;

    use super::*;

    fn history(texts: &[Option<&'static str>]) -> Vec<Entry> {
        let entry = |(revision, text): (u64, &Option<&'static str>)| Entry {
            revision,
            created: SystemTime::UNIX_EPOCH,
            publication: text.map(|text| match text.split_once('<') {
                Some((text, to)) => Publication::new(text, 1, 0, "me").noted(&format!("{ROLLBACK}{to}: why")),
                None => Publication::new(text, 1, 0, "me"),
            }),
            unreadable: None,
        };
        (1..).zip(texts).map(entry).collect()
    }

    #[test]
    fn the_newest_other_table_comes_back_unless_one_is_named() {
        for (texts, to, expected) in [
            (vec![Some("a"), Some("b"), Some("b")], None, Ok(1)),
            (vec![Some("a"), Some("b"), Some("a")], None, Ok(2)),
            (vec![Some("a"), Some("b"), None], None, Ok(2)),
            (vec![Some("a"), Some("b"), Some("c")], Some(1), Ok(1)),
            (vec![Some("a"), None, Some("c")], None, Ok(1)),
            (vec![Some("a"), None], Some(2), Err("the bus has no table of revision 2; it has 1")),
            (
                vec![Some("a")],
                None,
                Err(
                    "the bus has no earlier table that is good to go back to; it has 1: say --to REV, or publish a file",
                ),
            ),
            // What cannot be read is passed over, unless it is named.
            (vec![Some("a"), Some("bad"), Some("c")], None, Ok(1)),
            (vec![Some("a"), Some("bad"), None], None, Ok(1)),
            (vec![Some("a"), Some("bad"), Some("c")], Some(2), Ok(2)),
            // After a rollback it is further back.
            (vec![Some("a"), Some("b"), Some("c"), Some("b<2")], None, Ok(1)),
            (vec![], None, Err("there is no table on the bus to go back to")),
            (vec![None], Some(1), Err("there is no table on the bus to go back to")),
        ] {
            let is_good = |table: &Published| table.publication.text != "bad";
            let found = earlier(&history(&texts), to, is_good).map(|table| table.revision);
            assert_eq!(found, expected.map_err(str::to_owned), "{texts:?} {to:?}");
        }
    }
}
