//! A connection to a bus, and what can be asked of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::jetstream;
use async_nats::jetstream::context::{GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{self, DirectGetErrorKind, LastRawMessageErrorKind, Stream};
use async_nats::{Client, HeaderMap};
use thiserror::Error;

use super::REPORT_TTL;
use super::access::{BusAccess, PATIENCE};
use super::publication::Publication;
use super::report::NodeReport;
use super::watch::Watch;

/// A connection to a bus. Cheap to clone; it ends with its last clone.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    jetstream: jetstream::Context,
    bucket: String,
    complaint: Arc<Mutex<Option<String>>>,
}

/// A table on the bus.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The KV revision.
    pub revision: u64,
    /// When the bus took it, by its clock.
    pub created: SystemTime,
    /// The table, unless it was deleted, or cannot be read.
    pub publication: Option<Publication>,
    /// Why it cannot be read.
    pub unreadable: Option<String>,
}

impl Entry {
    /// What is left of a staged table's lease. It counts from when it was issued, or from when the bus
    /// took it if that is earlier: nobody can make it last by putting it there again. All of it is left
    /// if these clocks are ahead of ours.
    pub fn lease_left(&self, now: SystemTime) -> Duration {
        let Some(publication) = &self.publication else { return Duration::ZERO };
        let lease = publication.stage.as_ref().map_or(Duration::ZERO, |stage| stage.lease);
        let issued = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(publication.issued_ms));
        let issued = issued.filter(|_| publication.issued_ms > 0);
        let since = issued.map_or(self.created, |issued| issued.min(self.created));
        lease.saturating_sub(now.duration_since(since).unwrap_or_default())
    }
}

/// How the bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// When it was made: one that is wiped and made anew has another time.
    pub created: SystemTime,
    /// The newest revision of any key; one that is restored from an earlier state goes back.
    pub last_revision: u64,
    /// Whether there is a table, or the mark of a deleted one.
    pub has_table: bool,
}

/// The two places for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// For all nodes.
    Table,
    /// For the nodes that it names, while it is newer.
    Rollout,
}

/// Why the bus does not do what it is asked.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum BusError {
    #[error("{}: {what}", file.display())]
    File { file: PathBuf, what: String },
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error("cannot connect to {servers}: {what}")]
    Connect { servers: String, what: String },
    #[error("there is no bucket {bucket:?} on the bus; `meridian publish` makes it")]
    NoBucket { bucket: String },
    #[error("the bus has no JetStream: start nats-server with -js, and let this account use it")]
    NoJetStream,
    #[error("the bus does not answer within {PATIENCE:?}")]
    TimedOut,
    #[error("the bus says: {0}")]
    Other(String),
}

/// Why a table was not published.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum PublishError {
    #[error("another table was published meanwhile")]
    Overtaken,
    #[error(
        "the table and what is said beside it are {bytes} bytes, and the server takes {most}: raise max_payload in its configuration"
    )]
    TooLarge { bytes: usize, most: usize },
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// The longest table that is read from a bus, in bytes.
pub const MAX_TABLE: usize = crate::document::MAX_TEXT;

/// Tables that the bus keeps, for `meridian history` and `rollback`: the most that a bucket can.
const HISTORY: i64 = 64;

impl Place {
    /// The key in the bucket.
    pub fn key(self) -> &'static str {
        match self {
            Place::Table => "table",
            Place::Rollout => "rollout",
        }
    }
}

impl Bus {
    /// Connects to one of the servers, as `name`. Reconnects are its own for as long as it lives.
    ///
    /// # Errors
    /// When none can be reached or lets us in, or a file of `access` is bad.
    pub async fn connect(access: &BusAccess, name: &str) -> Result<Self, BusError> {
        let complaint = Arc::<Mutex<Option<String>>>::default();
        let heard = complaint.clone();
        let options = access.options(name)?.event_callback(move |event| {
            if let async_nats::Event::ServerError(error) = event {
                *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
            std::future::ready(())
        });
        let failed = |what: String| BusError::Connect { servers: access.servers_shown(), what };
        let connecting = options.connect(access.servers.clone());
        let client = tokio::time::timeout(PATIENCE * 2, connecting).await;
        let client = client.map_err(|_| failed(format!("no answer within {:?}", PATIENCE * 2)))?;
        let client = client.map_err(|error| failed(chain(&error)))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(PATIENCE);
        Ok(Self { client, jetstream, bucket: access.bucket.clone(), complaint })
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The server that it is connected to: its name and version.
    pub fn server(&self) -> String {
        let info = self.client.server_info();
        format!("{} ({})", info.server_name, info.version)
    }

    /// The connection underneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What the server last complained of by itself, told once: it does not answer who lacks a right.
    pub fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The most bytes that one message can have.
    pub fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }

    /// Makes the bucket, unless it is there. True if it was not.
    ///
    /// # Errors
    /// When the bus does not answer, or does not let us.
    pub async fn create_bucket(&self) -> Result<bool, BusError> {
        match self.stream().await {
            Err(BusError::NoBucket { .. }) => {}
            other => return other.map(|_| false),
        }
        // As a key-value store is made, but by hand: nats-server 2.9 answers a question that the library's
        // own way asks first in words that the library does not understand.
        let config = stream::Config {
            name: format!("KV_{}", self.bucket),
            description: Some("Meridian: the fleet's routing table and its nodes' reports".to_owned()),
            subjects: vec![self.subject(">")],
            max_messages_per_subject: HISTORY,
            discard: stream::DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            num_replicas: 1,
            ..stream::Config::default()
        };
        self.jetstream.create_stream(config).await.map(|_| true).map_err(|error| BusError::Other(chain(&error)))
    }

    /// The live table, or the staged one; `None` when nothing ever was there. A deleted one has no
    /// publication.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn live(&self, place: Place) -> Result<Option<Entry>, BusError> {
        let stream = self.stream().await?;
        let subject = self.subject(place.key());
        let found = if stream.cached_info().config.allow_direct {
            absent_direct(stream.direct_get_last_for_subject(subject).await)?
        } else {
            absent_raw(stream.get_last_raw_message_by_subject(&subject).await)?
        };
        Ok(found.map(|message| entry(message, place)))
    }

    /// The table of a revision; `None` when the bus no longer has it.
    ///
    /// # Errors
    /// As [`Bus::live`].
    pub async fn fetch(&self, place: Place, revision: u64) -> Result<Option<Entry>, BusError> {
        let stream = self.stream().await?;
        let found = if stream.cached_info().config.allow_direct {
            absent_direct(stream.direct_get(revision).await)?
        } else {
            absent_raw(stream.get_raw_message(revision).await)?
        };
        let found = found.filter(|message| message.subject.as_str() == self.subject(place.key()));
        Ok(found.map(|message| entry(message, place)))
    }

    /// The first table after a revision, if there is one.
    ///
    /// # Errors
    /// As [`Bus::live`].
    pub async fn next(&self, place: Place, after: u64) -> Result<Option<Entry>, BusError> {
        let stream = self.stream().await?;
        let subject = self.subject(place.key());
        let found = if stream.cached_info().config.allow_direct {
            absent_direct(stream.direct_get_next_for_subject(subject, Some(after + 1)).await)?
        } else {
            absent_raw(stream.raw_message_builder().next_by_subject(subject).sequence(after + 1).send().await)?
        };
        Ok(found.map(|message| entry(message, place)))
    }

    /// All tables that the bus still has, the oldest first.
    ///
    /// # Errors
    /// As [`Bus::live`].
    pub async fn history(&self) -> Result<Vec<Entry>, BusError> {
        let (mut found, mut last) = (Vec::new(), 0);
        while let Some(entry) = self.next(Place::Table, last).await? {
            last = entry.revision;
            found.push(entry);
            if found.len() > HISTORY as usize * 2 {
                break;
            }
        }
        Ok(found)
    }

    /// Writes a table, if what is there is still of the revision `after` (0: nothing). Gives the
    /// new revision.
    ///
    /// # Errors
    /// When another was first, the server does not take as much, or the bus does not answer.
    pub async fn publish(&self, publication: &Publication, after: u64) -> Result<u64, PublishError> {
        let place = if publication.stage.is_some() { Place::Rollout } else { Place::Table };
        self.put(place, publication.headers(), publication.text.clone(), after).await
    }

    /// Takes the staged table away, if it is still of that revision.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn withdraw(&self, revision: u64) -> Result<u64, PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, "PURGE");
        headers.insert(async_nats::header::NATS_ROLLUP, "sub");
        self.put(Place::Rollout, headers, bytes::Bytes::new(), revision).await
    }

    async fn put(&self, place: Place, headers: HeaderMap, text: bytes::Bytes, after: u64) -> Result<u64, PublishError> {
        let mut headers = headers;
        headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, after.to_string().as_str());
        // The protocol's own part of the message is small; the server counts the headers in.
        let line = |(name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)| {
            let name: &str = name.as_ref();
            values.iter().map(|value| name.len() + value.as_str().len() + 4).sum::<usize>()
        };
        let said: usize = headers.iter().map(line).sum();
        let (bytes, most) = (text.len() + said + 64, self.max_payload());
        if bytes > most {
            return Err(PublishError::TooLarge { bytes, most });
        }
        self.send(place.key(), headers, text).await
    }

    /// Writes a node's report in place of its last one.
    ///
    /// # Errors
    /// When the bus does not take it.
    pub async fn report(&self, report: &NodeReport) -> Result<u64, BusError> {
        let text = serde_json::to_vec(report).map_err(|error| BusError::Other(error.to_string()))?;
        let mut headers = report.headers();
        // The bucket's history is for tables: of a report only the last is kept.
        headers.insert(async_nats::header::NATS_ROLLUP, "sub");
        self.send(&report_key(&report.node), headers, text.into()).await.map_err(refusal)
    }

    /// The reports of all nodes that live, and when the bus took each.
    ///
    /// # Errors
    /// When the bus does not answer. A report that does not parse is left out.
    pub async fn reports(&self) -> Result<Vec<(NodeReport, SystemTime)>, BusError> {
        let stream = self.stream().await?;
        let subjects = stream.info_with_subjects(self.subject("nodes.>")).await;
        let subjects = subjects.map_err(|error| BusError::Other(chain(&error)))?;
        let mut keys = Vec::new();
        let mut subjects = std::pin::pin!(subjects);
        while let Some(next) = futures_util::StreamExt::next(&mut subjects).await {
            keys.push(next.map_err(|error| BusError::Other(chain(&error)))?.0);
        }
        let direct = stream.cached_info().config.allow_direct;
        let fetched = keys.into_iter().map(|subject| {
            let stream = &stream;
            async move {
                if direct {
                    absent_direct(stream.direct_get_last_for_subject(subject).await)
                } else {
                    absent_raw(stream.get_last_raw_message_by_subject(&subject).await)
                }
            }
        });
        let fetched = futures_util::stream::iter(fetched);
        let mut fetched = std::pin::pin!(futures_util::StreamExt::buffered(fetched, 32));
        let mut reports: Vec<(NodeReport, SystemTime)> = Vec::new();
        while let Some(message) = futures_util::StreamExt::next(&mut fetched).await {
            let Some(message) = message? else { continue };
            let created = SystemTime::from(message.time);
            let is_alive = created.elapsed().is_ok_and(|age| age <= REPORT_TTL) || created > SystemTime::now();
            let report = serde_json::from_slice::<NodeReport>(&message.payload);
            // Under its own name, a node can speak for itself only.
            if let Ok(report) = report
                && is_alive
                && message.subject.as_str() == self.subject(&report_key(&report.node))
            {
                reports.push((report.printable(), created));
            }
        }
        reports.sort_by(|(a, _), (b, _)| (&a.region, &a.node).cmp(&(&b.region, &b.node)));
        Ok(reports)
    }

    /// Puts a mark in place of a node's own report: it has left. Asks for no other right than the
    /// report itself.
    ///
    /// # Errors
    /// When the bus does not take it.
    pub async fn leave(&self, node: &str) -> Result<(), BusError> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, "PURGE");
        headers.insert(async_nats::header::NATS_ROLLUP, "sub");
        self.send(&report_key(node), headers, bytes::Bytes::new()).await.map(drop).map_err(refusal)
    }

    /// Removes a node's report, and all traces of it.
    ///
    /// # Errors
    /// When the bus does not answer, or does not let us.
    pub async fn forget(&self, node: &str) -> Result<(), BusError> {
        let stream = self.stream().await?;
        let purged = stream.purge().filter(self.subject(&report_key(node))).await;
        purged.map(drop).map_err(|error| BusError::Other(chain(&error)))
    }

    /// Follows every change of the bucket, from the present state of each key on.
    ///
    /// # Errors
    /// When there is no bucket, or the bus does not answer.
    pub async fn watch(&self) -> Result<Watch, BusError> {
        Watch::start(self.client.new_inbox(), self.stream().await?, &self.bucket).await
    }

    /// How the bucket is, in one question.
    ///
    /// # Errors
    /// When there is no bucket, or the bus does not answer.
    pub async fn pulse(&self) -> Result<Pulse, BusError> {
        let stream = self.stream().await?;
        let info = stream.info_with_subjects(self.subject(Place::Table.key())).await;
        let mut info = info.map_err(|error| request_error(&error))?;
        let has_table = futures_util::StreamExt::next(&mut info).await.is_some();
        let (created, last_revision) = (info.info.created.into(), info.info.state.last_sequence);
        Ok(Pulse { created, last_revision, has_table })
    }

    /// The tables between two revisions, both left out, the oldest first; the newest `most` of them.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn between(&self, after: u64, before: u64, most: usize) -> Result<Vec<Entry>, BusError> {
        let (mut found, mut last) = (std::collections::VecDeque::new(), after);
        while let Some(entry) = self.next(Place::Table, last).await?.filter(|entry| entry.revision < before) {
            last = entry.revision;
            found.push_back(entry);
            if found.len() > most {
                found.pop_front();
            }
        }
        Ok(found.into())
    }

    async fn stream(&self) -> Result<Stream, BusError> {
        let name = format!("KV_{}", self.bucket);
        self.jetstream.get_stream(name).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(ref error) if error.code() == 404 => {
                BusError::NoBucket { bucket: self.bucket.clone() }
            }
            GetStreamErrorKind::JetStream(ref error) if error.code() == 503 => BusError::NoJetStream,
            _ => request_error(&error),
        })
    }

    async fn send(&self, key: &str, headers: HeaderMap, text: bytes::Bytes) -> Result<u64, PublishError> {
        let acknowledged = async {
            let sent = self.jetstream.publish_with_headers(self.subject(key), headers, text).await?;
            sent.await
        };
        match acknowledged.await {
            Ok(acknowledged) => Ok(acknowledged.sequence),
            Err(error) => Err(match error.kind() {
                PublishErrorKind::WrongLastSequence => PublishError::Overtaken,
                PublishErrorKind::StreamNotFound => BusError::NoBucket { bucket: self.bucket.clone() }.into(),
                PublishErrorKind::TimedOut => BusError::TimedOut.into(),
                _ => BusError::Other(chain(&error)).into(),
            }),
        }
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket)
    }
}

fn refusal(error: PublishError) -> BusError {
    match error {
        PublishError::Bus(error) => error,
        other => BusError::Other(other.to_string()),
    }
}

/// The key of a node's report.
fn report_key(node: &str) -> String {
    format!("nodes.{node}")
}

fn entry(message: StreamMessage, place: Place) -> Entry {
    let (revision, created) = (message.sequence, SystemTime::from(message.time));
    let mut entry = Entry { revision, created, publication: None, unreadable: None };
    if message.headers.get(OPERATION).is_some_and(|operation| operation.as_str() != "PUT") {
        return entry;
    }
    if message.payload.len() > MAX_TABLE {
        entry.unreadable = Some(too_large(message.payload.len()));
        return entry;
    }
    match Publication::read(message.payload, &message.headers, place == Place::Rollout) {
        Ok(publication) => entry.publication = Some(publication),
        Err(error) => entry.unreadable = Some(error.to_string()),
    }
    entry
}

/// What is said of a table that is too long to be read.
pub fn too_large(bytes: usize) -> String {
    format!("it has {bytes} bytes; at most {MAX_TABLE} are read")
}

fn absent_direct(
    found: Result<StreamMessage, async_nats::jetstream::stream::DirectGetError>,
) -> Result<Option<StreamMessage>, BusError> {
    match found {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            DirectGetErrorKind::NotFound => Ok(None),
            DirectGetErrorKind::TimedOut => Err(BusError::TimedOut),
            _ => Err(request_error(&error)),
        },
    }
}

fn absent_raw(
    found: Result<StreamMessage, async_nats::jetstream::stream::LastRawMessageError>,
) -> Result<Option<StreamMessage>, BusError> {
    match found {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            _ => Err(request_error(&error)),
        },
    }
}

/// A request's failure. The library tells a time-out and a server without JetStream by its sources.
fn request_error(error: &(dyn std::error::Error + 'static)) -> BusError {
    let text = chain(error);
    if text.contains("timed out") {
        BusError::TimedOut
    } else if text.contains("no responders") || text.contains("JetStream resource does not exist") {
        BusError::NoJetStream
    } else {
        BusError::Other(text)
    }
}

/// An error with its causes, each once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// What a key-value store's message does, where it does not put.
pub(super) const OPERATION: &str = "KV-Operation";

/// How long a bucket's watch may be silent.
pub(super) const SILENCE: Duration = Duration::from_secs(10);
