//! Publishes a table: compares it, checks it, asks for confirmation, writes it, and waits for the nodes. The same for a
//! new table and for a rollback.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use bytes::Bytes;
use config::RoutingTable;
use config::bus::{Bus, PRUNED_AFTER, Place, Publication, REPORT_EVERY, SigningKey};

use super::arrival::{nodes, some};
use super::canary::resolve;
use super::canary_run::CanaryOptions;
use super::connection::{Source, publisher as whoami};
use super::console::{Console, Signals, ago, confirm, long, unix_ms, utc_millis};
use super::guard::{self, is_from_the_future, moment, share};
use super::outcome::{Fate, Outcome, refused};
use super::publisher::{Publisher, interrupted};
use super::view::{BusView, Published};
use crate::cli::check::{against, words};
use crate::cli::{Failed, Format};
use crate::clock;

/// How a table is published.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The publication")]
pub(in crate::cli) struct Release {
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
    /// Show what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Why, for `meridian history`
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Sign it with this ed25519 key, PEM
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Let it be used for so long: past that, nodes refuse restricted routes until another is published
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "valid_until")]
    valid_for: Option<Duration>,
    /// Let it be used until then, such as 2026-12-31 or 2026-12-31T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    valid_until: Option<SystemTime>,
    /// How many servers keep the bucket, if this makes it; by default 3 where the bus is a cluster of so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,
    /// Publish it unsigned though the live table is signed
    #[arg(long, conflicts_with = "sign")]
    unsigned: bool,
    /// The share of the fleet's or a jurisdiction's capacity that it may take away; by default the node
    /// file's max_shrink, or 0.5
    #[arg(long, value_name = "SHARE", value_parser = share)]
    max_shrink: Option<f64>,
    /// Let it take away more from the fleet, or from this jurisdiction
    #[arg(long, value_name = "fleet|JURISDICTION")]
    allow_shrink: Vec<String>,
    /// Let revisions start over, after the bucket was made anew
    #[arg(long)]
    new_epoch: bool,
    /// How long the nodes may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Do not wait for the nodes
    #[arg(long, conflicts_with_all = ["wait", "canary"])]
    no_wait: bool,
    /// The format of the outcome: in JSON it is one document on stdout, all else on stderr
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(in crate::cli) format: Format,
    #[command(flatten)]
    canary: CanaryOptions,
}

impl Release {
    /// Returns whether nothing is to be written.
    pub(in crate::cli) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Returns the key to sign with.
    ///
    /// # Errors
    /// When it does not load.
    pub(in crate::cli) fn key(&self) -> Result<Option<SigningKey>, Failed> {
        let key = self.sign.as_deref().map(SigningKey::load).transpose();
        key.map_err(|error| Failed::Input(error.into()))
    }

    /// Returns how long the nodes may take; zero with `--no-wait`.
    pub(in crate::cli) fn patience(&self) -> Duration {
        if self.no_wait { Duration::ZERO } else { self.wait }
    }

    /// Publishes a table.
    ///
    /// # Errors
    /// When a check refuses the table, it cannot be written, or some node does not take it.
    pub(in crate::cli) async fn perform(
        &self,
        bus: &Bus,
        source: &Source,
        proposal: &Proposal,
        outcome: &mut Outcome,
        console: &mut Console,
    ) -> Result<(), Failed> {
        let key = self.key()?;
        guard::known(&self.allowed(), &proposal.table).map_err(|why| Failed::Input(anyhow!(why)))?;
        let view = BusView::read(bus).await?;
        let publisher = Publisher {
            bus,
            key: key.as_ref(),
            after: view.revision(),
            new_epoch: self.new_epoch,
            wait: (!self.no_wait).then_some(self.wait),
        };
        refuse_under_way(&view)?;
        guard::check_clock(bus, &view, console).await?;
        guard::warn_of_weaknesses(bus, outcome, console).await?;
        let draft = self.draft(&view, proposal)?;
        outcome.issued = Some(utc_millis(draft.issued_ms));
        outcome.valid_until = draft.valid_until_ms.map(utc_millis);
        outcome.version = Some(proposal.table.table.spec().version.clone());
        outcome.sha256 = Some(draft.sha256());
        outcome.after = Some(view.revision());
        publisher.refuse_older(&view, &draft)?;
        if let Some(live) = view.live_text().filter(|live| self.is_unchanged(&draft, live, key.as_ref())) {
            let (revision, name) = (live.revision, &proposal.name);
            console.say(&format!("{name} is what is live, as revision {revision}: nothing to publish\n"));
            outcome.outcome = Fate::Unchanged;
            if !self.dry_run {
                // A repeated publication waits for the nodes, too.
                publisher.follow((&live.publication, &view.reports), revision, outcome, console).await?;
            }
            return Ok(());
        }
        self.compare(&view, source, proposal, outcome, console)?;
        guard::signed(&view, key.is_some(), self.unsigned).map_err(refused)?;
        if proposal.was_signed && key.is_none() && !self.unsigned {
            let name = &proposal.name;
            return Err(refused(format!(
                "{name} was signed, and would not be any more: sign it with --sign KEY.pem, or say --unsigned"
            )));
        }
        let canary = self.canary_nodes(&view, &draft)?;
        outcome.epoch = Some(draft.epoch);
        self.foresee(&view, proposal, console);
        if self.dry_run {
            let canary = canary.map(|nodes| format!("; the canary would be {}", some(nodes.into_iter())));
            console.say(&format!("a dry run: nothing was written{}\n", canary.unwrap_or_default()));
            return Ok(());
        }
        if !self.yes {
            confirm(&question(&view, canary.as_ref()), console).await?;
        }
        if let Some(replicas) = bus.create_bucket(self.replicas.map(usize::from)).await? {
            let kept = if replicas > 1 { format!(", kept by {replicas} servers") } else { String::new() };
            console.say(&format!("made the bucket {:?}, which was not there{kept}\n", bus.bucket()));
            guard::warn_of_weaknesses(bus, outcome, console).await?;
            self.await_reports(&publisher, &draft, console).await?;
        }
        // A canary that began while the user was asked must not be overtaken.
        refuse_under_way(&BusView { staged: bus.live(Place::Rollout).await?, ..view.clone() })?;
        match canary {
            Some(canary) => self.canary.stage(&publisher, &view, &draft, canary, outcome, console).await,
            None => {
                // From here on an interruption still reports what is on the bus.
                let mut signals = Signals::catch().map_err(|error| Failed::Ran(error.into()))?;
                let written = publisher.write(draft.clone(), publisher.after).await;
                let revision = written.map_err(|unwritten| unwritten.noted_in(outcome))?;
                outcome.outcome = Fate::Published;
                publisher.print_freshness(&draft, outcome, console).await;
                let followed = tokio::select! {
                    followed = publisher.follow((&draft, &view.reports), revision, outcome, console) => followed,
                    () = signals.any() => Err(interrupted(revision)),
                };
                if followed.is_ok() {
                    // Without the permission to prune, this is left to other publishers.
                    tokio::select! {
                        _ = tokio::time::timeout(PRUNING, bus.prune(PRUNED_AFTER)) => {}
                        () = signals.any() => {}
                    }
                }
                followed
            }
        }
    }

    /// Warns of nodes that will refuse the table: their region is not in it.
    fn foresee(&self, view: &BusView, proposal: &Proposal, console: &mut Console) {
        let known = |region: &str| proposal.table.table.region_named(region).is_some();
        let lost: Vec<String> = view
            .reports
            .iter()
            .filter(|(report, _)| !known(&report.region))
            .map(|(report, _)| format!("{} ({})", report.node, report.region))
            .collect();
        if !lost.is_empty() {
            let nodes = some(lost.into_iter());
            console.say(&format!("warning: nodes whose region is not in the table will refuse it: {nodes}\n"));
        }
    }

    /// Waits for reports of nodes that know another bucket, with later revisions: they need a moment to find this one.
    async fn await_reports(
        &self,
        publisher: &Publisher<'_>,
        draft: &Publication,
        console: &mut Console,
    ) -> Result<(), Failed> {
        if self.no_wait || self.new_epoch {
            return Ok(());
        }
        console.progress(&format!("waiting {} for reports of nodes that may know another bucket", long(REPORTING)));
        tokio::time::sleep(REPORTING).await;
        publisher.refuse_older(&BusView::read(publisher.bus).await?, draft)
    }

    /// Shows what changes, and refuses a table that takes too much away.
    fn compare(
        &self,
        view: &BusView,
        source: &Source,
        proposal: &Proposal,
        outcome: &mut Outcome,
        console: &mut Console,
    ) -> Result<(), Failed> {
        let Some(newest) = &view.newest else {
            console.say("the first table on this bus\n");
            return Ok(());
        };
        let base = view.held.as_ref().unwrap_or(newest);
        if view.held.is_some() {
            console.warn(&format!(
                "no node has revision {} in force, which is live: this is compared with revision {}, which most have",
                newest.revision, base.revision
            ));
        }
        let old = format!("revision {}", base.revision);
        let table = match RoutingTable::from_afar(&old, &base.publication.text, proposal.table.table.spec().at) {
            Ok(table) => table,
            Err(problems) => {
                console.warn(&format!("{problems}\n{old} is no table, so there is nothing to compare with"));
                return Ok(());
            }
        };
        match against::diff(&table, &proposal.table) {
            Ok(diff) => {
                console.say(&words::text(&diff, Path::new(&old), Path::new(&proposal.name)));
                outcome.diff = Some(diff);
            }
            Err(error) => console.warn(&format!("what changes since {old} is not known: {error}")),
        }
        let max_shrink = self.max_shrink.unwrap_or(source.max_shrink);
        let shrunk = guard::shrunk(&table, &proposal.table, max_shrink, &self.allowed());
        if shrunk.is_empty() {
            return Ok(());
        }
        let words = guard::too_small(&shrunk, max_shrink);
        outcome.shrinkage = shrunk;
        Err(refused(words))
    }

    /// Returns until when the table may be used, in Unix milliseconds, if a flag sets it.
    fn valid_until_ms(&self, now_ms: u64) -> Result<Option<u64>, Failed> {
        let of_now = |valid: Duration| now_ms.saturating_add(u64::try_from(valid.as_millis()).unwrap_or(u64::MAX));
        let until = self.valid_for.map(of_now).or(self.valid_until.map(unix_ms));
        match until {
            Some(until) if until <= now_ms => {
                Err(Failed::Input(anyhow!("--valid-until {} is over: no node could use the table", utc_millis(until))))
            }
            until => Ok(until),
        }
    }

    /// Returns the publication, not yet signed.
    fn draft(&self, view: &BusView, proposal: &Proposal) -> Result<Publication, Failed> {
        let epoch = if self.new_epoch { view.next_epoch() } else { view.epoch() };
        // Nodes refuse a signed table that was issued before theirs, whichever clock is wrong: this one is
        // issued after the newest, unless the newest one's time is too far ahead to be right.
        let (now, least) =
            (unix_ms(clock::system_time()), view.newest.as_ref().map(|newest| newest.publication.issued_ms));
        let least = least.filter(|issued| !is_from_the_future(*issued, now)).unwrap_or(0);
        let issued_ms = now.max(least.saturating_add(1));
        let valid_until_ms = self.valid_until_ms(now)?;
        let draft = Publication::new(proposal.text.clone(), epoch, issued_ms, &whoami());
        let notes = [proposal.occasion.as_deref().unwrap_or_default(), self.note.as_str()];
        let notes: Vec<&str> = notes.into_iter().filter(|note| !note.is_empty()).collect();
        Ok(Publication { allow: self.allowed(), valid_until_ms, ..draft.noted(&notes.join(": ")) })
    }

    fn allowed(&self) -> BTreeSet<String> {
        self.allow_shrink.iter().cloned().collect()
    }

    /// Returns whether the live table makes this publication unnecessary.
    fn is_unchanged(&self, draft: &Publication, live: &Published, key: Option<&SigningKey>) -> bool {
        let live = &live.publication;
        draft.text == live.text
            && !self.new_epoch
            && draft.valid_until_ms == live.valid_until_ms
            && draft.allow.is_subset(&live.allow)
            && key.is_none_or(|key| live.signature.as_ref().is_some_and(|signature| key.has_made(signature)))
    }

    fn canary_nodes(&self, view: &BusView, draft: &Publication) -> Result<Option<BTreeSet<String>>, Failed> {
        if self.canary.canary.is_empty() {
            return Ok(None);
        }
        let resolved = resolve(&self.canary.canary, &view.reports, &draft.sha256(), clock::system_time());
        resolved.map(Some).map_err(|why| Failed::Input(anyhow!("--canary: {why}")))
    }
}

/// Refuses to publish while a staged table is under way.
fn refuse_under_way(view: &BusView) -> Result<(), Failed> {
    let now = clock::system_time();
    let Some((staged, stage)) = view.under_way(now) else { return Ok(()) };
    Err(refused(format!(
        "a publication is under way: {} staged version {:?} {} ago on {}; wait for it, or withdraw it with `meridian \
         rollback`",
        staged.publication.by,
        staged.publication.version().unwrap_or_default(),
        ago(staged.created, now),
        some(stage.nodes.iter().cloned())
    )))
}

fn question(view: &BusView, canary: Option<&BTreeSet<String>>) -> String {
    let after = match view.revision() {
        0 => String::new(),
        revision => format!(" after {revision}"),
    };
    let all = nodes(view.reports.len());
    match canary {
        None if view.reports.is_empty() => format!("publish a revision{after}, though no node reports yet?"),
        None => format!("publish a revision{after} to {all}?"),
        Some(canary) => {
            let names = some(canary.iter().cloned());
            format!(
                "stage a revision{after} on {} of {all} ({names}), and publish it to all if they do well?",
                canary.len()
            )
        }
    }
}

/// How long the removal of expired reports may take: one that is not removed now is removed after the next publication.
const PRUNING: Duration = Duration::from_secs(3);

/// How long nodes may take to find a new bucket and report to it.
const REPORTING: Duration = REPORT_EVERY.saturating_add(Duration::from_secs(1));

/// A table to be published.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Proposal {
    pub(super) text: Bytes,
    /// The source of the table, for people.
    pub(super) name: String,
    pub(super) table: RoutingTable,
    /// The beginning of its note.
    pub(super) occasion: Option<String>,
    /// Whether it was signed when it was published before.
    pub(super) was_signed: bool,
}

impl Proposal {
    /// Compiles and proves a text as every node will, and prints its warnings.
    ///
    /// # Errors
    /// Everything wrong with it.
    pub(in crate::cli) fn new(text: Bytes, name: &str, occasion: Option<String>) -> Result<Self, Failed> {
        let table = RoutingTable::from_afar(name, &text, crate::clock::wall())?;
        table.warnings.iter().for_each(|warning| eprintln!("{warning}"));
        Ok(Self { text, name: name.to_owned(), table, occasion, was_signed: false })
    }

    /// Returns the proposal as one that was published before, signed or not.
    #[must_use]
    pub(in crate::cli) fn again(self, was_signed: bool) -> Self {
        Self { was_signed, ..self }
    }
}
