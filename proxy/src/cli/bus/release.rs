//! A table's way from a text to the fleet: compared, guarded, asked for, written, and waited for. The
//! same for a new table and for one that comes back.

mod comparison;
mod desk;
mod fitness;
mod following;
mod proposal;
mod question;
mod staging;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use config::bus::{BURIED_AFTER, Bus, Place, Publication, REPORT_EVERY, SigningKey};

use self::desk::Desk;
use self::fitness::{is_beyond_reason, moment};
pub(in crate::cli) use self::proposal::Proposal;
use self::question::confirm;
pub(in crate::cli) use self::staging::{back, withdraw};
use super::arrival::{nodes, some};
use super::canary::{Selector, resolve};
use super::console::Console;
use super::flags::Source;
use super::guard;
use super::outcome::{Fate, Outcome};
use super::scene::{Published, Scene};
use super::session::publisher;
use super::signals::Signals;
use super::time::{ago, long, unix_ms, utc_millis};
use crate::cli::{Failed, Format};

/// How a table is published.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The publication")]
pub(in crate::cli) struct Release {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Tell what would be done, and write nothing
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
    /// How long the nodes may take for it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Do not wait for the nodes
    #[arg(long, conflicts_with_all = ["wait", "canary"])]
    no_wait: bool,
    /// How the outcome is told: in JSON it is one document on stdout, all else on stderr
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(in crate::cli) format: Format,
    #[command(flatten)]
    canary: Canary,
}

/// How a table is tried on some nodes first.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The canary")]
struct Canary {
    /// Let these nodes have it first, and take it back from them if they do worse
    #[arg(long, value_name = "NODE|REGION|10%", value_delimiter = ',', value_parser = Selector::parse)]
    canary: Vec<Selector>,
    /// How long they are observed
    #[arg(long, value_name = "TIME", requires = "canary", default_value = "5m", value_parser = humantime::parse_duration)]
    observe: Duration,
    /// The share of errors that is harmless
    #[arg(long, value_name = "SHARE", requires = "canary", default_value_t = 0.01, value_parser = share)]
    max_error_rate: f64,
    /// Take it back if they had fewer requests: of fewer than 100 no rates can be judged
    #[arg(long, value_name = "N", requires = "canary", default_value_t = 100)]
    min_requests: u64,
}

impl Release {
    /// Whether nothing is to be written.
    pub(in crate::cli) fn is_rehearsal(&self) -> bool {
        self.dry_run
    }

    /// The key to sign with.
    ///
    /// # Errors
    /// When it does not load.
    pub(in crate::cli) fn key(&self) -> Result<Option<SigningKey>, Failed> {
        let key = self.sign.as_deref().map(SigningKey::load).transpose();
        key.map_err(|error| Failed::Input(error.into()))
    }

    /// How long the nodes may take.
    pub(in crate::cli) fn patience(&self) -> Duration {
        if self.no_wait { Duration::ZERO } else { self.wait }
    }

    /// Publishes a table.
    ///
    /// # Errors
    /// When something speaks against it, it cannot be written, or it does not come to every node.
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
        let scene = Scene::read(bus).await?;
        refuse_under_way(&scene)?;
        self.check_clock(bus, &scene, console).await?;
        self.tell_weaknesses(bus, outcome, console).await?;
        let draft = self.draft(&scene, proposal)?;
        outcome.issued = Some(utc_millis(draft.issued_ms));
        outcome.valid_until = draft.valid_until_ms.map(utc_millis);
        outcome.version = Some(proposal.table.table.spec().version.clone());
        outcome.sha256 = Some(draft.sha256());
        outcome.after = Some(scene.revision());
        self.refuse_older(&scene, &draft)?;
        if let Some(live) = scene.live_text().filter(|live| self.says_nothing_new(&draft, live, key.as_ref())) {
            let (revision, name) = (live.revision, &proposal.name);
            console.say(&format!("{name} is what is live, as revision {revision}: nothing to publish\n"));
            outcome.outcome = Fate::Unchanged;
            if !self.dry_run {
                // Who says it again wants to know whether it came to every node.
                self.follow(bus, (&live.publication, &scene.reports), revision, outcome, console).await?;
            }
            return Ok(());
        }
        self.compare(&scene, source, proposal, outcome, console)?;
        guard::signed(&scene, key.is_some(), self.unsigned).map_err(refused)?;
        if proposal.was_signed && key.is_none() && !self.unsigned {
            let name = &proposal.name;
            return Err(refused(format!(
                "{name} was signed, and would not be any more: sign it with --sign KEY.pem, or say --unsigned"
            )));
        }
        let canary = self.canary_nodes(&scene, &draft)?;
        outcome.epoch = Some(draft.epoch);
        self.foresee(&scene, proposal, console);
        if self.dry_run {
            let canary = canary.map(|nodes| format!("; the canary would be {}", some(nodes.into_iter())));
            console.say(&format!("a dry run: nothing was written{}\n", canary.unwrap_or_default()));
            return Ok(());
        }
        if !self.yes {
            confirm(&question(&scene, canary.as_ref()), console).await?;
        }
        if let Some(replicas) = bus.create_bucket(self.replicas.map(usize::from)).await? {
            let kept = if replicas > 1 { format!(", kept by {replicas} servers") } else { String::new() };
            console.say(&format!("made the bucket {:?}, which was not there{kept}\n", bus.bucket()));
            self.tell_weaknesses(bus, outcome, console).await?;
            self.listen(bus, &draft, console).await?;
        }
        // Whoever began a canary while we asked is not to be overtaken.
        refuse_under_way(&Scene { staged: bus.live(Place::Rollout).await?, ..scene.clone() })?;
        let desk = Desk { bus, key: key.as_ref(), after: scene.revision() };
        match canary {
            Some(canary) => self.stage(&desk, &scene, &draft, canary, outcome, console).await,
            None => {
                // From here on: whoever is interrupted says what is on the bus.
                let mut signals = Signals::catch().map_err(|error| Failed::Ran(error.into()))?;
                let written = desk.write(draft.clone(), desk.after).await;
                let revision = written.map_err(|unwritten| unwritten.told(outcome))?;
                outcome.outcome = Fate::Published;
                self.tell_freshness(bus, &draft, outcome, console).await;
                let followed = tokio::select! {
                    followed = self.follow(bus, (&draft, &scene.reports), revision, outcome, console) => followed,
                    () = signals.any() => Err(interrupted(revision)),
                };
                if followed.is_ok() {
                    // Who may not do that leaves it to others.
                    tokio::select! {
                        _ = tokio::time::timeout(BURIAL, bus.bury(BURIED_AFTER)) => {}
                        () = signals.any() => {}
                    }
                }
                followed
            }
        }
    }

    /// Tells of nodes that cannot take the table: their region is not in it.
    fn foresee(&self, scene: &Scene, proposal: &Proposal, console: &mut Console) {
        let known = |region: &str| proposal.table.table.region_named(region).is_some();
        let lost: Vec<String> = scene
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

    /// Hears whether nodes know another bucket, with later revisions: they need a moment to find this one.
    async fn listen(&self, bus: &Bus, draft: &Publication, console: &mut Console) -> Result<(), Failed> {
        if self.no_wait || self.new_epoch {
            return Ok(());
        }
        console.progress(&format!("listening for {} to nodes that may know another", long(LISTEN)));
        tokio::time::sleep(LISTEN).await;
        self.refuse_older(&Scene::read(bus).await?, draft)
    }

    /// Nodes take nothing that is older than what they have.
    fn refuse_older(&self, scene: &Scene, draft: &Publication) -> Result<(), Failed> {
        if self.new_epoch { Ok(()) } else { guard::newer(scene, draft.epoch).map_err(refused) }
    }

    /// The publication, not yet signed.
    fn draft(&self, scene: &Scene, proposal: &Proposal) -> Result<Publication, Failed> {
        let epoch = if self.new_epoch { scene.next_epoch() } else { scene.epoch() };
        // Nodes refuse a signed table that seems older than theirs, whoever's clock is wrong.
        // A time far ahead of ours is nobody's clock, and not to be carried on.
        let (now, least) =
            (unix_ms(SystemTime::now()), scene.newest.as_ref().map(|newest| newest.publication.issued_ms));
        let least = least.filter(|issued| !is_beyond_reason(*issued, now)).unwrap_or(0);
        let issued_ms = now.max(least.saturating_add(1));
        let valid_until_ms = self.valid_until_ms(now)?;
        let draft = Publication::new(proposal.text.clone(), epoch, issued_ms, &publisher());
        let notes = [proposal.occasion.as_deref().unwrap_or_default(), self.note.as_str()];
        let notes: Vec<&str> = notes.into_iter().filter(|note| !note.is_empty()).collect();
        Ok(Publication { allow: self.allowed(), valid_until_ms, ..draft.noted(&notes.join(": ")) })
    }

    fn allowed(&self) -> BTreeSet<String> {
        self.allow_shrink.iter().cloned().collect()
    }

    /// Whether the fleet would hear nothing that the live table does not say.
    fn says_nothing_new(&self, draft: &Publication, live: &Published, key: Option<&SigningKey>) -> bool {
        let live = &live.publication;
        draft.text == live.text
            && !self.new_epoch
            && draft.valid_until_ms == live.valid_until_ms
            && draft.allow.is_subset(&live.allow)
            && key.is_none_or(|key| live.signature.as_ref().is_some_and(|signature| key.has_made(signature)))
    }

    fn canary_nodes(&self, scene: &Scene, draft: &Publication) -> Result<Option<BTreeSet<String>>, Failed> {
        if self.canary.canary.is_empty() {
            return Ok(None);
        }
        let resolved = resolve(&self.canary.canary, &scene.reports, &draft.sha256(), SystemTime::now());
        resolved.map(Some).map_err(|why| Failed::Input(anyhow!("--canary: {why}")))
    }
}

/// A staged table that is under way comes first.
fn refuse_under_way(scene: &Scene) -> Result<(), Failed> {
    let now = SystemTime::now();
    let Some((staged, stage)) = scene.under_way(now) else { return Ok(()) };
    Err(refused(format!(
        "a publication is under way: {} staged version {:?} {} ago on {}; wait for it, or withdraw it with `meridian \
         rollback`",
        staged.publication.by,
        staged.publication.version().unwrap_or_default(),
        ago(staged.created, now),
        some(stage.nodes.iter().cloned())
    )))
}

fn question(scene: &Scene, canary: Option<&BTreeSet<String>>) -> String {
    let after = match scene.revision() {
        0 => String::new(),
        revision => format!(" after {revision}"),
    };
    let all = nodes(scene.reports.len());
    match canary {
        None if scene.reports.is_empty() => format!("publish a revision{after}, though no node reports yet?"),
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

/// Whoever waited waits no longer.
fn interrupted(revision: u64) -> Failed {
    refused(format!("interrupted; revision {revision} is published, and `meridian fleet` tells who has it"))
}

/// It was tried, and does not go.
fn refused(why: String) -> Failed {
    Failed::Ran(anyhow!(why))
}

/// For the removal of what dead nodes have left.
const BURIAL: Duration = Duration::from_secs(3);

/// For a new bucket's nodes to find it and report.
const LISTEN: Duration = REPORT_EVERY.saturating_add(Duration::from_secs(1));

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is a number from 0 to 1".to_owned())
}
