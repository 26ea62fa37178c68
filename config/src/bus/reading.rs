//! Reading a bus: tables, heartbeats, reports, and the state of the bucket.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DirectGetErrorKind, LastRawMessageErrorKind};
use futures_util::{StreamExt, TryStreamExt};

use super::client::{Bus, within};
use super::entry::Entry;
use super::error::{BusError, request_error};
use super::heartbeat::Heartbeat;
use super::layout::{HEARTBEAT, HISTORY, OPERATION, Place, report_key};
use super::report::{NodeReport, REPORT_TTL};

/// The state of the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// When the bucket was created: one that was wiped and created again has another time.
    pub created: SystemTime,
    /// The newest revision of any key; it goes back when the bucket is restored from an earlier state.
    pub last_revision: u64,
    /// Whether the bus lists a table or a delete marker. nats-server 2.9 sometimes lists none where there is one, which
    /// [`Bus::live`] then finds.
    pub has_table: bool,
}

/// Which message of a subject.
#[derive(Clone, Copy)]
enum Ask {
    Last,
    At(u64),
    After(u64),
}

impl Bus {
    /// Returns the live table, or the staged one; `None` when there never was one. A deleted one has no publication.
    ///
    /// # Errors
    /// When there is no bucket, or the bus does not answer.
    pub async fn live(&self, place: Place) -> Result<Option<Entry>, BusError> {
        self.table(place, Ask::Last).await
    }

    /// Returns the table of a revision; `None` when the bus no longer has it.
    ///
    /// # Errors
    /// As [`Bus::live`].
    pub async fn fetch(&self, place: Place, revision: u64) -> Result<Option<Entry>, BusError> {
        self.table(place, Ask::At(revision)).await
    }

    /// Returns the first table after a revision, if there is one.
    ///
    /// # Errors
    /// As [`Bus::live`].
    pub async fn next(&self, place: Place, after: u64) -> Result<Option<Entry>, BusError> {
        self.table(place, Ask::After(after)).await
    }

    /// Returns all tables that the bus still has, the oldest first.
    ///
    /// # Errors
    /// As [`Bus::live`].
    pub async fn history(&self) -> Result<Vec<Entry>, BusError> {
        let live = self.live(Place::Table).await?;
        let mut found = self.between(0, u64::MAX, HISTORY as usize).await?;
        // Whatever is missing in between: the last one must be the live one.
        let last = found.last().map_or(0, |last| last.revision);
        found.extend(live.filter(|live| live.revision > last));
        Ok(found)
    }

    /// Returns the tables between two revisions, both excluded, the oldest first; at most the newest `most`.
    ///
    /// # Errors
    /// As [`Bus::live`].
    pub async fn between(&self, after: u64, before: u64, most: usize) -> Result<Vec<Entry>, BusError> {
        let (mut found, mut last) = (VecDeque::new(), after);
        while let Some(entry) = self.next(Place::Table, last).await?.filter(|entry| entry.revision < before) {
            last = entry.revision;
            found.push_back(entry);
            if found.len() > most {
                found.pop_front();
            }
        }
        Ok(found.into())
    }

    /// Returns the last heartbeat, not yet verified; `None` when there never was one. The inner error is that of a
    /// value that does not parse.
    ///
    /// # Errors
    /// As [`Bus::live`].
    pub async fn heartbeat(&self) -> Result<Option<Result<Heartbeat, String>>, BusError> {
        let subject = self.subject(HEARTBEAT);
        let found = self.read(&subject, Ask::Last).await?.filter(|message| message.subject.as_str() == subject);
        let is_put = |message: &StreamMessage| message.headers.get(OPERATION).is_none_or(|what| what.as_str() == "PUT");
        Ok(found.filter(is_put).map(|message| Heartbeat::parse(&message.payload)))
    }

    /// Returns the time by the bus's clock.
    ///
    /// # Errors
    /// As [`Bus::live`].
    pub async fn time(&self) -> Result<SystemTime, BusError> {
        within(async {
            // A consumer has the server's time of its creation; this one expires after a second.
            let config = pull::Config { inactive_threshold: Duration::from_secs(1), ..pull::Config::default() };
            let made = self.stream().await?.create_consumer(config).await;
            made.map(|made| made.cached_info().created.into()).map_err(|error| request_error(&error))
        })
        .await
    }

    /// Returns the reports of all live nodes, and when the bus stored each.
    ///
    /// # Errors
    /// As [`Bus::live`]. A report that does not parse is left out.
    pub async fn reports(&self) -> Result<Vec<(NodeReport, SystemTime)>, BusError> {
        self.reports_within(REPORT_TTL).await
    }

    /// Returns the last report of each node that has not left, if it is at most this old, and when the bus stored it.
    ///
    /// # Errors
    /// As [`Bus::reports`].
    pub async fn reports_within(&self, most: Duration) -> Result<Vec<(NodeReport, SystemTime)>, BusError> {
        let mut reports: Vec<(NodeReport, SystemTime)> = Vec::new();
        for message in self.nodes().await? {
            let created = SystemTime::from(message.time);
            let report = serde_json::from_slice::<NodeReport>(&message.payload);
            // A report under another node's key does not count.
            if let Ok(report) = report
                && age(&message) <= most
                && message.subject.as_str() == self.subject(&report_key(&report.node))
            {
                reports.push((report.printable(), created));
            }
        }
        reports.sort_by(|(a, _), (b, _)| (&a.region, &a.node).cmp(&(&b.region, &b.node)));
        Ok(reports)
    }

    /// Removes the last reports that are older than `silent_for`; returns how many.
    ///
    /// # Errors
    /// As [`Bus::live`], and where this connection may not purge.
    pub async fn prune(&self, silent_for: Duration) -> Result<usize, BusError> {
        let stream = self.stream().await?;
        let gone: Vec<_> = self.nodes().await?.into_iter().filter(|message| age(message) > silent_for).collect();
        for message in &gone {
            // A report that was written meanwhile stays.
            let purge = stream.purge().filter(message.subject.as_str()).sequence(message.sequence + 1);
            within(async { purge.await.map_err(|error| request_error(&error)) }).await?;
            self.reporters().remove(message.subject.as_str());
        }
        Ok(gone.len())
    }

    /// Returns the last message of every node. A subject that was listed once is read by name ever after: nats-server
    /// 2.9 sometimes leaves some out of its list.
    async fn nodes(&self) -> Result<Vec<StreamMessage>, BusError> {
        let stream = self.stream().await?;
        let listed = match stream.info_with_subjects(self.subject("nodes.>")).await {
            Ok(subjects) => subjects.map_ok(|(subject, _)| subject).try_collect::<Vec<String>>().await,
            Err(error) => return Err(self.reason(request_error(&error)).await),
        };
        let listed = listed.map_err(|error| request_error(&error))?;
        let subjects: Vec<String> = {
            let mut reporters = self.reporters();
            reporters.extend(listed);
            reporters.iter().cloned().collect()
        };
        let asked = subjects.iter().map(|subject| self.read(subject, Ask::Last));
        let read: Vec<Option<StreamMessage>> = futures_util::stream::iter(asked).buffered(32).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    fn reporters(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.reporters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of the bucket, with one request.
    ///
    /// # Errors
    /// As [`Bus::live`].
    pub async fn pulse(&self) -> Result<Pulse, BusError> {
        within(async {
            let stream = self.stream().await?;
            let mut info = match stream.info_with_subjects(self.subject(Place::Table.key())).await {
                Ok(info) => info,
                Err(error) => return Err(self.reason(request_error(&error)).await),
            };
            let has_table = info.next().await.is_some();
            let (created, last_revision) = (info.info.created.into(), info.info.state.last_sequence);
            Ok(Pulse { created, last_revision, has_table })
        })
        .await
    }

    async fn table(&self, place: Place, ask: Ask) -> Result<Option<Entry>, BusError> {
        let subject = self.subject(place.key());
        let found = self.read(&subject, ask).await?;
        let found = found.filter(|message| message.subject.as_str() == subject);
        Ok(found.map(|message| Entry::of(message, place)))
    }

    /// Reads a message: by a direct get, without JSON and base64, where the bucket allows it.
    async fn read(&self, subject: &str, ask: Ask) -> Result<Option<StreamMessage>, BusError> {
        let stream = self.stream().await?;
        let found = if stream.cached_info().config.allow_direct {
            let found = match ask {
                Ask::Last => stream.direct_get_last_for_subject(subject).await,
                Ask::At(revision) => stream.direct_get(revision).await,
                Ask::After(revision) => stream.direct_get_next_for_subject(subject, Some(revision + 1)).await,
            };
            found.map(Some).or_else(|error| match error.kind() {
                DirectGetErrorKind::NotFound => Ok(None),
                DirectGetErrorKind::TimedOut => Err(BusError::TimedOut),
                _ => Err(request_error(&error)),
            })
        } else {
            let ask_raw = stream.raw_message_builder();
            let found = match ask {
                Ask::Last => ask_raw.last_by_subject(subject).send().await,
                Ask::At(revision) => ask_raw.sequence(revision).send().await,
                Ask::After(revision) => ask_raw.next_by_subject(subject).sequence(revision + 1).send().await,
            };
            found.map(Some).or_else(|error| match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                _ => Err(request_error(&error)),
            })
        };
        match found {
            Err(error) => Err(self.reason(error).await),
            found => found,
        }
    }
}

/// Returns how long ago the bus stored a message; zero where the bus's clock is ahead of ours.
fn age(message: &StreamMessage) -> Duration {
    SystemTime::from(message.time).elapsed().unwrap_or_default()
}
