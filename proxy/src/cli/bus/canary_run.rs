//! Publishes a table by a canary: stages it, observes it, and publishes it to all nodes or withdraws it.

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

/// The options of a canary.
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
    /// There are no objections to the table.
    Good(Box<CanaryStats>),
    /// There are objections to the table.
    Bad(Vec<Objection>),
    /// The result is unknown, for this reason.
    Unknown(String),
    /// Somebody else has published or withdrawn a table meanwhile.
    Overtaken(String),
    /// The user ends it.
    Interrupted,
}

impl CanaryOptions {
    /// Stages a table, observes it, and publishes or withdraws it.
    ///
    /// # Errors
    /// When the table is withdrawn, or cannot be written.
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
        // From here on an interruption first withdraws the staged table.
        let mut signals = Signals::catch().map_err(|error| Failed::Ran(error.into()))?;
        let patience = publisher.wait.unwrap_or_default();
        let lease = self.observe + patience + GRACE;
        let stage = Some(Stage { nodes: canary.clone(), lease });
        outcome.canary = canary.iter().cloned().collect();
        // Fresh reports: the user may have taken a while to confirm.
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
                // The same table, signed again, because the signature covers the nodes that it is for. A
                // withdrawal at the last moment is respected.
                let promoted = match staged_revision(publisher.bus).await {
                    Ok(staged) if staged == revision => publisher.write(draft.clone(), publisher.after).await,
                    Ok(_) => Err(Unwritten::Refused(refused("somebody else withdrew it".to_owned()))),
                    Err(error) => Err(Unwritten::Refused(error.into())),
                };
                match promoted {
                    Ok(published) => {
                        outcome.outcome = Fate::Published;
                        publisher.print_freshness(draft, outcome, console).await;
                        if let Err(error) = publisher.bus.withdraw(revision).await {
                            console.warn(&format!(
                                "the staged table stays on the bus ({error}), where it no longer has an effect"
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
        let result = match withdraw(publisher.bus, revision).await {
            Ok(()) => tokio::select! {
                result = back(publisher.bus, &canary, patience, console) => result.unwrap_or_else(|lacking| lacking),
                () = signals.any() => "it was withdrawn; its nodes return in a moment".to_owned(),
            },
            Err(error) => format!(
                "it could not be withdrawn ({error}): its nodes return by themselves when its lease ends, within {}",
                long(lease)
            ),
        };
        let what = if is_unknown { "may have been published" } else { "was not published" };
        Err(refused(format!("the staged table {what}: {why}\n{result}")))
    }
}

/// Reads the revision in the place of staged tables, with retries.
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

/// Waits until a canary's nodes are back on the table of all nodes, and returns a message that says so.
///
/// # Errors
/// When not all are; the message says which.
pub(in crate::cli) async fn back(
    bus: &Bus,
    canary: &BTreeSet<String>,
    patience: Duration,
    console: &mut Console,
) -> Result<String, String> {
    let goal = Goal::Withdrawn(canary.clone());
    let waited = wait(bus, &goal, "withdrawn", patience, console).await.map(|waited| waited.arrival);
    let unknown = |error| format!("it was withdrawn; whether its nodes are back is not known: {error}");
    let arrival = waited.map_err(unknown)?;
    if !arrival.is_complete() {
        return Err(format!("it was withdrawn, but not yet from {}", arrival.missing(clock::system_time())));
    }
    let message = format!("it was withdrawn, and {}", returned(arrival.applied.len()));
    // A node that does not report may serve all the same.
    let reports = bus.reports_within(PRUNED_AFTER).await.map_err(unknown)?;
    let has_it = |(report, reported_at): &&(NodeReport, SystemTime)| {
        canary.contains(&report.node) && report.staged && is_silent(*reported_at, clock::system_time())
    };
    let silent: Vec<String> = reports.iter().filter(has_it).map(|(report, _)| report.node.clone()).collect();
    if silent.is_empty() {
        return Ok(message);
    }
    Err(format!("{message}; {} no longer report: those that run return when the lease ends", some(silent.into_iter())))
}

/// Withdraws a staged table, with retries. Succeeds, too, if somebody else has withdrawn it.
///
/// # Errors
/// When the bus repeatedly does not answer.
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
    /// How long the nodes may take to apply the table.
    patience: Duration,
    publisher: &'a Publisher<'a>,
    /// The staged table's epoch and revision.
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
            Err(error) => return End::Unknown(format!("whether its nodes took it is not known: {error}")),
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
        // Only what the nodes do with the table counts.
        match self.publisher.bus.reports().await {
            Ok(reports) => self.trial.begin(&reports),
            Err(error) => return End::Unknown(format!("what its nodes do is not known: {error}")),
        }
        self.observe(console).await
    }

    async fn observe(&self, console: &mut Console) -> End {
        let (started, observe) = (clock::now(), self.options.observe);
        let mut trouble: Option<Instant> = None;
        // When the canary's nodes last reported before the end.
        let mut before_end: Option<BTreeMap<String, SystemTime>> = None;
        loop {
            let is_over = started.elapsed() >= observe;
            match self.look(trouble.is_none_or(|when| when.elapsed() > 2 * REPORT_EVERY)).await {
                Ok(Seen::Stats(stats)) if !stats.against.is_empty() => return End::Bad(stats.against),
                Ok(Seen::Stats(stats)) if is_over => {
                    // Earlier reports do not cover the last seconds.
                    let before = before_end.get_or_insert_with(|| stats.reported_at.clone());
                    let all = stats.reported_at.len() == self.canary.len();
                    if all && stats.reported_at.iter().all(|(node, reported_at)| before.get(node) != Some(reported_at))
                    {
                        return self.end(stats);
                    }
                    if started.elapsed() > observe + LAST_REPORTS {
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

    /// Ends a run without objections: good, if there were enough requests.
    fn end(&self, stats: Box<CanaryStats>) -> End {
        let (seen, least) = (stats.staged.since.requests, self.options.min_requests);
        if seen < least {
            return End::Unknown(format!("{seen} requests came to the canary, and --min-requests asks for {least}"));
        }
        End::Good(stats)
    }

    async fn look(&self, silence_counts: bool) -> Result<Seen, BusError> {
        let bus = self.publisher.bus;
        // A deletion leaves a marker: nothing at all is a wrong answer.
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

/// The result of reading the bus.
enum Seen {
    Stats(Box<CanaryStats>),
    Overtaken(String),
}

/// How long the last reports are waited for: by then a node that does not report counts as silent.
const LAST_REPORTS: Duration = REPORT_EVERY.saturating_mul(3);

/// How much longer a lease is than the wait and the observation: time for the last reports, for a bus that is slow to
/// store the table, and for clocks that differ.
const GRACE: Duration = Duration::from_secs(60);

/// How often the bus is read meanwhile, and the pause between retries.
const POLL: Duration = Duration::from_secs(1);

/// How often a request is tried: a leader election takes a second or two.
const TRIES: u32 = 5;
