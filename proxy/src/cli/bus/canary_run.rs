//! A table on its way by a canary: staged, observed, and published to all or withdrawn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use config::bus::{Bus, BusError, NodeReport, PRUNED_AFTER, Place, Publication, PublishError, REPORT_EVERY, Stage};
use policy::trial::Marks;

use super::arrival::{Goal, nodes, some, wait};
use super::canary::{CanaryStats, CanaryTrial, Objection, Selector};
use super::console::{Console, Signals, long};
use super::guard::share;
use super::outcome::{Fate, Outcome, refused};
use super::publisher::{Publisher, Unwritten, interrupted};
use super::view::{BusView, Revision, is_silent};
use crate::cli::Failed;
use crate::clock;

/// How a table is tried on some nodes first.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The canary")]
pub(super) struct CanaryOptions {
    /// Let these nodes have it first, and take it back from them if they do worse
    #[arg(long, value_name = "NODE|REGION|10%", value_delimiter = ',', value_parser = Selector::parse)]
    pub(super) canary: Vec<Selector>,
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

/// How a trial ends.
enum End {
    /// Nothing speaks against the table.
    Good(Box<CanaryStats>),
    /// This does.
    Bad(Vec<Objection>),
    /// It cannot be told.
    Unknown(String),
    /// It is not ours to end: somebody else has published or withdrawn.
    Overtaken(String),
    /// The user ends it.
    Interrupted,
}

impl CanaryOptions {
    /// Stages a table, observes it, and publishes it or takes it back.
    ///
    /// # Errors
    /// When it is taken back, or cannot be written.
    pub(super) async fn stage(
        &self,
        publisher: &Publisher<'_>,
        view: &BusView,
        draft: &Publication,
        canary: BTreeSet<String>,
        outcome: &mut Outcome,
        console: &mut Console,
    ) -> Result<(), Failed> {
        if view.live_text().is_none() {
            return Err(refused(
                "there is no live table that a canary could go back to: publish this one without --canary".to_owned(),
            ));
        }
        // From here on: whoever is interrupted withdraws first.
        let mut signals = Signals::catch().map_err(|error| Failed::Ran(error.into()))?;
        let patience = publisher.wait.unwrap_or_default();
        let lease = self.observe + patience + GRACE;
        let stage = Some(Stage { nodes: canary.clone(), lease });
        outcome.canary = canary.iter().cloned().collect();
        // The reports of now: what was asked may have taken its time to be answered.
        let reports = publisher.bus.reports().await?;
        let after = view.staged.as_ref().map_or(0, |staged| staged.revision);
        let written = publisher.write(Publication { stage, ..draft.clone() }, after).await;
        let revision = written.map_err(|unwritten| match unwritten {
            Unwritten::Unknown(_) => {
                let left = long(lease);
                let why =
                    format!("if it was, its nodes return by themselves within {left}, or with `meridian rollback`");
                refused(format!("{:#}; {why}", unwritten.noted_in(outcome).error()))
            }
            refused => refused.noted_in(outcome),
        })?;
        let (all, names) = (nodes(reports.len()), some(canary.iter().cloned()));
        console.say(&format!("staged as revision {revision} on {} of {all}: {names}\n", canary.len()));
        let marks = Marks { error_rate: self.max_error_rate };
        let order = (draft.epoch, revision);
        let trial = CanaryTrial::new(&canary, &reports, order, marks);
        let mut run = CanaryRun { options: self, patience, publisher, revision: order, canary: &canary, trial };
        let end = tokio::select! {
            end = run.run(outcome, console) => end,
            () = signals.any() => End::Interrupted,
        };
        let mut is_unknown = false;
        let why = match end {
            End::Good(stats) => {
                if stats.staged.since.requests == 0 {
                    console.warn(
                        "NOTHING WAS OBSERVED: no request came to the canary; all that is known is that it took the table",
                    );
                }
                // The same table; signed again, because the nodes that it is for are signed with it. Whoever
                // withdrew it in the last moment is obeyed.
                let promoted = match staged_revision(publisher.bus).await {
                    Ok(staged) if staged == revision => publisher.write(draft.clone(), publisher.after).await,
                    Ok(_) => Err(Unwritten::Refused(refused("somebody else withdrew it".to_owned()))),
                    Err(error) => Err(Unwritten::Refused(error.into())),
                };
                match promoted {
                    Ok(published) => {
                        outcome.outcome = Fate::Published;
                        publisher.tell_freshness(draft, outcome, console).await;
                        if let Err(error) = publisher.bus.withdraw(revision).await {
                            console.warn(&format!(
                                "the staged table stays on the bus ({error}), where it counts no longer"
                            ));
                        }
                        return tokio::select! {
                            done = publisher.follow((draft, &reports), published, outcome, console) => done,
                            () = signals.any() => Err(interrupted(published)),
                        };
                    }
                    Err(unwritten) => {
                        is_unknown = matches!(unwritten, Unwritten::Unknown(_));
                        format!("it did well, but {:#}", unwritten.noted_in(outcome).error())
                    }
                }
            }
            End::Bad(objections) => {
                let why = objections.iter().map(|objection| format!("\n  {objection}")).collect();
                outcome.objections = objections;
                why
            }
            End::Unknown(why) | End::Overtaken(why) => why,
            End::Interrupted => "interrupted".to_owned(),
        };
        if !is_unknown {
            outcome.outcome = Fate::Withdrawn;
        }
        let became = match withdraw(publisher.bus, revision).await {
            Ok(()) => tokio::select! {
                became = back(publisher.bus, &canary, patience, console) => became.unwrap_or_else(|lacking| lacking),
                () = signals.any() => "it was withdrawn; its nodes return in a moment".to_owned(),
            },
            Err(error) => format!(
                "it could not be withdrawn ({error}): its nodes return by themselves when its lease ends, within {}",
                long(lease)
            ),
        };
        let what = if is_unknown { "may have been published" } else { "was not published" };
        Err(refused(format!("the staged table {what}: {why}\n{became}")))
    }
}

/// Returns the revision in the place of staged tables, asked for more than once if need be.
async fn staged_revision(bus: &Bus) -> Result<u64, BusError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match bus.live(Place::Rollout).await {
            Ok(Some(staged)) => return Ok(staged.revision),
            Ok(None) if tries == TRIES => return Ok(0),
            Err(error) if tries == TRIES => return Err(error),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// Waits until nodes are back on the table of all, and tells so.
///
/// # Errors
/// When not all are, which it tells too.
pub(in crate::cli) async fn back(
    bus: &Bus,
    canary: &BTreeSet<String>,
    patience: Duration,
    console: &mut Console,
) -> Result<String, String> {
    let goal = Goal::Withdrawn(canary.clone());
    let waited = wait(bus, &goal, "withdrawn", patience, console).await.map(|waited| waited.arrival);
    let unknown = |error| format!("it was withdrawn; nobody knows whether its nodes are back: {error}");
    let arrival = waited.map_err(unknown)?;
    if !arrival.is_complete() {
        return Err(format!("it was withdrawn, but not yet from {}", arrival.missing(clock::system_time())));
    }
    let told = format!("it was withdrawn, and {}", returned(arrival.applied.len()));
    // Who cannot be heard may serve all the same.
    let reports = bus.reports_within(PRUNED_AFTER).await.map_err(unknown)?;
    let has_it = |(report, heard): &&(NodeReport, SystemTime)| {
        canary.contains(&report.node) && report.staged && is_silent(*heard, clock::system_time())
    };
    let silent: Vec<String> = reports.iter().filter(has_it).map(|(report, _)| report.node.clone()).collect();
    if silent.is_empty() {
        return Ok(told);
    }
    Err(format!("{told}; of {} nothing is heard: whoever runs returns when the lease ends", some(silent.into_iter())))
}

/// Withdraws a staged table. That somebody else has done so is as good.
///
/// # Errors
/// When the bus does not answer, again and again.
pub(in crate::cli) async fn withdraw(bus: &Bus, revision: u64) -> Result<(), BusError> {
    let mut tries = 0;
    loop {
        let error = match bus.withdraw(revision).await {
            Ok(_) => return Ok(()),
            Err(PublishError::Overtaken) => match bus.live(Place::Rollout).await {
                Ok(now) if now.as_ref().is_none_or(|now| now.revision != revision) => return Ok(()),
                Ok(_) => BusError::Other(PublishError::Overtaken.to_string()),
                Err(error) => error,
            },
            Err(PublishError::Bus(error)) => error,
            Err(error) => BusError::Other(error.to_string()),
        };
        tries += 1;
        if tries == TRIES {
            return Err(error);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn returned(count: usize) -> String {
    match count {
        0 => "no node that had it reports any more".to_owned(),
        1 => "its node is back on the table of all".to_owned(),
        count => format!("its {count} nodes are back on the table of all"),
    }
}

/// A staged table while its nodes are observed. Lives from when it is written until it is promoted or withdrawn.
struct CanaryRun<'a> {
    options: &'a CanaryOptions,
    /// How long the nodes may take for the table.
    patience: Duration,
    publisher: &'a Publisher<'a>,
    /// Of the staged table.
    revision: Revision,
    canary: &'a BTreeSet<String>,
    trial: CanaryTrial,
}

impl CanaryRun<'_> {
    async fn run(&mut self, outcome: &mut Outcome, console: &mut Console) -> End {
        let goal = Goal::Staged(self.canary.clone(), self.revision);
        let waited = wait(self.publisher.bus, &goal, "staged", self.patience, console).await;
        let arrival = match waited {
            Ok(waited) => waited.arrival,
            Err(error) => return End::Unknown(format!("nobody knows whether its nodes took it: {error}")),
        };
        outcome.nodes = Some(arrival.clone());
        if !arrival.rejected.is_empty() {
            console.warn(arrival.rejections().trim_end());
            let first = arrival.rejected.into_iter().map(|rejection| Objection::Rejected {
                node: rejection.node,
                problem: rejection.problems.first().map_or_else(String::new, ToString::to_string),
            });
            return End::Bad(first.collect());
        }
        if !arrival.is_complete() {
            return End::Unknown(format!(
                "not taken in {}: {}",
                long(self.patience),
                arrival.missing(clock::system_time())
            ));
        }
        // What they did before they had it says nothing of it.
        match self.publisher.bus.reports().await {
            Ok(reports) => self.trial.begin(&reports),
            Err(error) => return End::Unknown(format!("nobody knows what its nodes do: {error}")),
        }
        self.observe(console).await
    }

    async fn observe(&self, console: &mut Console) -> End {
        let (started, observe) = (clock::now(), self.options.observe);
        let mut trouble: Option<Instant> = None;
        // When the canary was last heard from before the end.
        let mut before_end: Option<BTreeMap<String, SystemTime>> = None;
        loop {
            let is_over = started.elapsed() >= observe;
            match self.look(trouble.is_none_or(|when| when.elapsed() > 2 * REPORT_EVERY)).await {
                Ok(Seen::Stats(stats)) if !stats.against.is_empty() => return End::Bad(stats.against),
                Ok(Seen::Stats(stats)) if is_over => {
                    // What was reported before says nothing of the last seconds.
                    let before = before_end.get_or_insert_with(|| stats.heard.clone());
                    let all = stats.heard.len() == self.canary.len();
                    if all && stats.heard.iter().all(|(node, heard)| before.get(node) != Some(heard)) {
                        return self.end(stats);
                    }
                    if started.elapsed() > observe + LAST_WORD {
                        return End::Unknown("its nodes did not report at the end".to_owned());
                    }
                    console.tick(&format!("observed, the last reports are to come: {stats}"));
                }
                Ok(Seen::Stats(stats)) => {
                    let left = long(observe.saturating_sub(started.elapsed()) + Duration::from_millis(999));
                    console.tick(&format!("observing, {left} left: {stats}"));
                }
                Ok(Seen::Overtaken(why)) => return End::Overtaken(why),
                Err(error) if is_over => {
                    return End::Unknown(format!("the bus could not be asked at the end: {error}"));
                }
                Err(error) => {
                    trouble = Some(clock::now());
                    console.tick(&format!("observing: {error}; it goes on once the bus answers"));
                }
            }
            let left = Some(observe.saturating_sub(started.elapsed())).filter(|left| !left.is_zero());
            tokio::time::sleep(left.map_or(POLL, |left| POLL.min(left))).await;
        }
    }

    /// Ends a run that nothing speaks against: well, if enough was seen.
    fn end(&self, stats: Box<CanaryStats>) -> End {
        let (seen, least) = (stats.staged.since.requests, self.options.min_requests);
        if seen < least {
            return End::Unknown(format!("{seen} requests came to the canary, and --min-requests asks for {least}"));
        }
        End::Good(stats)
    }

    async fn look(&self, silence_counts: bool) -> Result<Seen, BusError> {
        let bus = self.publisher.bus;
        // What was taken away leaves a mark: nothing at all is no answer.
        let lost = || BusError::Other("it has lost the tables".to_owned());
        let live = bus.live(Place::Table).await?.ok_or_else(lost)?;
        if live.revision != self.publisher.after {
            let by = live.publication.map_or_else(String::new, |live| format!(" by {}", live.by));
            return Ok(Seen::Overtaken(format!("revision {} was published meanwhile{by}", live.revision)));
        }
        if bus.live(Place::Rollout).await?.ok_or_else(lost)?.revision != self.revision.1 {
            return Ok(Seen::Overtaken("somebody else withdrew it".to_owned()));
        }
        let stats = self.trial.stats(&bus.reports().await?, clock::system_time(), silence_counts);
        Ok(Seen::Stats(Box::new(stats)))
    }
}

/// What a look at the bus shows.
enum Seen {
    Stats(Box<CanaryStats>),
    Overtaken(String),
}

/// How long nodes may take for their report at the end: they are silent before.
const LAST_WORD: Duration = REPORT_EVERY.saturating_mul(3);

/// A lease is longer by this than the wait and the observation: for the last reports, for a bus that is slow to take
/// the table, and for clocks that differ.
const GRACE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_secs(1);

const TRIES: u32 = 5;
