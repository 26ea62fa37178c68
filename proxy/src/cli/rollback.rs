//! `meridian rollback`

use std::collections::BTreeSet;

use anyhow::anyhow;
use config::RoutingTable;
use config::bus::{Bus, Entry, TrustedKeys};

use super::Failed;
use super::bus::canary_run::{back, withdraw};
use super::bus::connection::with_bus;
use super::bus::console::utc_millis;
use super::bus::outcome::{Fate, Outcome};
use super::bus::release::{Proposal, Release};
use super::bus::view::{BusView, Published, Revision};
use super::bus::{Console, Flags, Source};

use crate::clock;

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
            let is_whole = self.to.is_none() || self.release.is_dry_run();
            if self.withdraw(&bus, &mut outcome, &mut console).await? && is_whole {
                return Ok(());
            }
            if self.staged {
                return Err(Failed::Ran(anyhow!("no table is staged")));
            }
            let history = bus.history().await?;
            let requirements = Requirements::new(&self.release, &source, &BusView::read(&bus).await?, &bus, &history)?;
            let is_good = |table: &Published| match requirements.lacking(table) {
                None => true,
                Some(lacking) => {
                    console.warn(&format!("passed over: revision {} {lacking}", table.revision));
                    false
                }
            };
            let earlier = earlier(&history, self.to, is_good).map_err(|why| Failed::Input(anyhow!(why)))?;
            let name = format!("revision {}", earlier.revision);
            if let Some(lacking) = requirements.lacking(&earlier) {
                console.warn(&format!("warning: {name} {lacking}: look at it before it comes back"));
            }
            let publication = &earlier.publication;
            let until = publication.valid_until_ms.map(|until| format!(", valid until {}", utc_millis(until)));
            let issued = utc_millis(publication.issued_ms);
            console.say(&format!("{name} by {} was issued {issued}{}\n", publication.by, until.unwrap_or_default()));
            let occasion = Some(format!("{ROLLBACK}{}", earlier.revision));
            let proposal = Proposal::new(earlier.publication.text, &name, occasion)?;
            let proposal = proposal.again(earlier.publication.signature.is_some());
            self.release.perform(&bus, &source, &proposal, &mut outcome, &mut console).await
        });
        outcome.finish(done, &console)
    }

    /// Deletes an unreadable entry in the place of staged tables.
    async fn clear(&self, bus: &Bus, revision: u64, why: &str, console: &mut Console) -> Result<bool, Failed> {
        if self.release.is_dry_run() {
            console.say(&format!("a dry run: revision {revision} would be deleted: {why}\n"));
        } else {
            withdraw(bus, revision).await?;
            console.say(&format!("revision {revision} was deleted: {why}\n"));
        }
        // The command goes on, unless only the staged table was to be withdrawn.
        Ok(self.staged)
    }

    /// Withdraws the staged table, if one is under way, without a confirmation.
    async fn withdraw(&self, bus: &Bus, outcome: &mut Outcome, console: &mut Console) -> Result<bool, Failed> {
        let view = BusView::read(bus).await?;
        if let Some(Entry { revision, unreadable: Some(why), .. }) = &view.staged {
            return self.clear(bus, *revision, why, console).await;
        }
        let Some((staged, stage)) = view.under_way(clock::system_time()) else { return Ok(false) };
        let what = format!("revision {} (staged by {})", staged.revision, staged.publication.by);
        if self.release.is_dry_run() {
            console.say(&format!("a dry run: {what} would be withdrawn\n"));
            return Ok(true);
        }
        withdraw(bus, staged.revision).await?;
        outcome.outcome = Fate::Withdrawn;
        match back(bus, &stage.nodes, self.release.patience(), console).await {
            // Without a wait it is no failure that nodes are not back yet.
            Err(lacking) if !self.release.patience().is_zero() => Err(Failed::Ran(anyhow!("{what}: {lacking}"))),
            Ok(result) | Err(result) => {
                console.say(&format!("{what}: {result}\n"));
                Ok(true)
            }
        }
    }
}

/// The requirements for an earlier table that comes back without being named: everybody who may write on the bus
/// may have put a table there that no node took.
struct Requirements {
    bucket: String,
    /// The trusted keys, as far as they are known here; if there are none, signatures are not required.
    trusted: TrustedKeys,
    /// The table that the nodes have: the live one, unless they refuse it.
    taken: Option<Published>,
    /// The tables that nodes refuse.
    refused: BTreeSet<Revision>,
    /// Revisions whose epoch is lower than that of a table before them.
    backward: BTreeSet<u64>,
}

impl Requirements {
    fn new(release: &Release, source: &Source, view: &BusView, bus: &Bus, history: &[Entry]) -> Result<Self, Failed> {
        let trusted = TrustedKeys::load(&source.trusted_keys).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Failed::Input(anyhow!(errors.join("\n")))
        })?;
        let own = release.key()?.map(|key| key.trusted()).unwrap_or_default();
        let refused = view.reports.iter().filter_map(|(report, _)| report.refused.as_ref());
        let taken = view.held.clone().or_else(|| view.newest.clone());
        let most = taken.as_ref().map_or(0, |taken| taken.publication.epoch);
        let (mut highest, mut backward) = (0, BTreeSet::new());
        for entry in history {
            let epoch = entry.publication.as_ref().map_or(highest, |publication| publication.epoch);
            if epoch < highest {
                backward.insert(entry.revision);
            } else if epoch <= most {
                highest = epoch;
            }
        }
        Ok(Self {
            bucket: bus.bucket().to_owned(),
            trusted: own.and(trusted),
            taken,
            refused: refused.map(|refused| (refused.epoch, refused.revision)).collect(),
            backward,
        })
    }

    /// Returns what disqualifies a table, as the end of a sentence that starts with its name.
    fn lacking(&self, table: &Published) -> Option<String> {
        let publication = &table.publication;
        if RoutingTable::from_afar("bus", &publication.text, crate::clock::wall()).is_err() {
            return Some("is not good".to_owned());
        }
        if publication.claimed_sha256.as_ref().is_some_and(|claimed| *claimed != publication.sha256()) {
            return Some("does not have the hash that its publisher computed".to_owned());
        }
        if self.backward.contains(&table.revision) {
            return Some("has an epoch below that of tables before it, so that no node took it".to_owned());
        }
        if self.refused.contains(&table.order()) {
            return Some("is refused by nodes".to_owned());
        }
        if let Some(taken) = &self.taken {
            if table.order() > taken.order() {
                return Some(format!("came after revision {}, which is what the nodes have", taken.revision));
            }
            if taken.publication.signature.is_some() && publication.signature.is_none() {
                return Some("was never signed".to_owned());
            }
        }
        let verified = self.trusted.verify(publication, &self.bucket);
        verified
            .is_err()
            .then(|| "was signed by no key that is known here (--sign, trusted_keys of --config)".to_owned())
    }
}

/// Returns the revision that a table was rolled back to, by its note.
fn rolled_back_to(note: &str) -> Option<u64> {
    let rest = note.strip_prefix(ROLLBACK)?;
    rest.split(':').next()?.trim().parse().ok()
}

/// The beginning of a rollback's note.
const ROLLBACK: &str = "rollback to revision ";

/// Returns the table that comes back: that of a revision, or else the newest good one that differs from the live one.
fn earlier(
    history: &[Entry],
    to: Option<u64>,
    mut is_good: impl FnMut(&Published) -> bool,
) -> Result<Published, String> {
    let live = history.last();
    let tables: Vec<Published> = history.iter().rev().cloned().filter_map(Published::of).collect();
    let known = || tables.iter().map(|table| table.revision.to_string()).collect::<Vec<_>>().join(", ");
    let none = || {
        let known = known();
        format!(
            "the bus has no earlier table that is good to go back to; it has {known}: say --to REV, or publish a file"
        )
    };
    match (to, live.and_then(|live| live.publication.as_ref())) {
        _ if tables.is_empty() => Err("there is no table on the bus to go back to".to_owned()),
        (Some(revision), _) => {
            let found = tables.iter().find(|table| table.revision == revision);
            found.cloned().ok_or_else(|| format!("the bus has no table of revision {revision}; it has {}", known()))
        }
        (None, Some(live)) => {
            // After a rollback the next one goes further back, and not to the table before the first.
            let before = rolled_back_to(&live.note).unwrap_or(u64::MAX);
            let is_other = |table: &&Published| table.publication.text != live.text && table.revision < before;
            let other = tables.iter().filter(is_other).find(|table| is_good(table));
            other.cloned().ok_or_else(none)
        }
        // The live table was deleted: the newest comes back.
        (None, None) => tables.iter().find(|table| is_good(table)).cloned().ok_or_else(none),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

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
