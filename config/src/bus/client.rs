//! A connection to a bus, and what can be written there.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::stream::{self, Stream};
use async_nats::{Client, HeaderMap};
use thiserror::Error;
use tokio::sync::{Notify, OnceCell};

use super::access::{BusAccess, PATIENCE, PATIENCE_FOR_TABLES};
use super::entry::Place;
use super::heartbeat::Heartbeat;
use super::publication::Publication;
use super::report::NodeReport;
use super::watch::Watch;

/// A connection to a bus. Cheap to clone; it ends with its last clone.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    jetstream: jetstream::Context,
    /// The same, for what carries tables.
    pub(super) carrier: jetstream::Context,
    bucket: String,
    /// The bucket's stream, once it was found.
    pub(super) stream: Arc<OnceCell<Stream>>,
    complaint: Arc<Mutex<Option<String>>>,
    lost: Arc<Notify>,
    /// The subjects of all reports that it was told of.
    pub(super) reporters: Arc<Mutex<BTreeSet<String>>>,
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
    #[error("the bus does not answer in time")]
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

/// Tables that the bus keeps, for `meridian history` and `rollback`: the most that a bucket can.
pub(super) const HISTORY: i64 = 64;

impl Bus {
    /// Connects to one of the servers, as `name`. It reconnects a few times by itself before it gives up.
    ///
    /// # Errors
    /// When none can be reached or lets us in, or a file of `access` is bad.
    pub async fn connect(access: &BusAccess, name: &str) -> Result<Self, BusError> {
        let complaint = Arc::<Mutex<Option<String>>>::default();
        let lost = Arc::<Notify>::default();
        let (heard, gone) = (complaint.clone(), lost.clone());
        let options = access.options(name)?.event_callback(move |event| {
            match event {
                async_nats::Event::ServerError(error) => {
                    *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                }
                async_nats::Event::Disconnected => gone.notify_one(),
                _ => {}
            }
            std::future::ready(())
        });
        let failed = |what: String| BusError::Connect { servers: access.servers_shown(), what };
        let connecting = options.connect(access.servers.clone());
        let client = tokio::time::timeout(PATIENCE * 2, connecting).await;
        let client = client.map_err(|_| failed(format!("no answer within {:?}", PATIENCE * 2)))?;
        let client = client.map_err(|error| failed(with_remedy(chain(&error))))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(PATIENCE);
        let mut carrier = jetstream.clone();
        carrier.set_timeout(PATIENCE_FOR_TABLES);
        Ok(Self {
            client,
            jetstream,
            carrier,
            bucket: access.bucket.clone(),
            stream: Arc::default(),
            complaint,
            lost,
            reporters: Arc::default(),
        })
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

    /// Waits until the connection is lost. Another takes its place by itself, but what was asked for on it,
    /// such as a watch, the library asks for again in ways that need other rights, and may have missed much.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// The most bytes that one message can have.
    pub fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }

    /// Makes the bucket, unless it is there. Gives how many servers keep it, if it was not. `replicas` is how many
    /// shall; by default `REPLICAS` (3) where the bus is a cluster that has so many, else one.
    ///
    /// # Errors
    /// When the bus does not answer, or does not let us, or has not so many servers.
    pub async fn create_bucket(&self, replicas: Option<usize>) -> Result<Option<usize>, BusError> {
        match self.stream().await {
            Err(BusError::NoBucket { .. }) => {}
            other => return other.map(|_| None),
        }
        let made = match replicas {
            Some(replicas) => self.create_with(replicas).await.map(|()| replicas),
            None if self.is_clustered() => match self.create_with(REPLICAS).await {
                Ok(()) => Ok(REPLICAS),
                Err(NotCreated { is_for_lack_of_servers: true, .. }) => self.create_with(1).await.map(|()| 1),
                Err(error) => Err(error),
            },
            None => self.create_with(1).await.map(|()| 1),
        };
        let made = made.map_err(|NotCreated { error, .. }| error)?;
        self.settle().await?;
        Ok(Some(made))
    }

    /// Waits until a bucket that was just made answers. The servers of a cluster find its leader first, and until they
    /// have, a question has no answer, or one that sounds like there being no JetStream.
    async fn settle(&self) -> Result<(), BusError> {
        let mut tries = 0;
        loop {
            let answered = match self.has_leader().await {
                Ok(true) => self.live(Place::Table).await.map(drop),
                Ok(false) => Err(BusError::TimedOut),
                Err(error) => Err(error),
            };
            let Err(error) = answered else { return Ok(()) };
            tries += 1;
            if tries == SETTLING || matches!(error, BusError::Other(_)) {
                return Err(error);
            }
            tokio::time::sleep(SETTLING_PAUSE).await;
        }
    }

    /// Whether the server says that it is one of a cluster.
    pub fn is_clustered(&self) -> bool {
        self.client.server_info().cluster.is_some()
    }

    async fn create_with(&self, replicas: usize) -> Result<(), NotCreated> {
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
            num_replicas: replicas,
            ..stream::Config::default()
        };
        match self.jetstream.create_stream(config).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let text = chain(&error);
                let is_for_lack_of_servers = LACK_OF_SERVERS.iter().any(|words| text.contains(words));
                let remedy = if is_for_lack_of_servers && replicas > 1 {
                    format!("; the bus has not {replicas} servers with JetStream that could keep it: say --replicas 1")
                } else {
                    String::new()
                };
                Err(NotCreated { error: BusError::Other(text + &remedy), is_for_lack_of_servers })
            }
        }
    }

    /// Writes a heartbeat in place of the last one.
    ///
    /// # Errors
    /// When the bus does not take it.
    pub async fn put_heartbeat(&self, heartbeat: &Heartbeat) -> Result<u64, BusError> {
        let text = serde_json::to_vec(heartbeat).map_err(|error| BusError::Other(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_ROLLUP, "sub");
        self.send(&self.jetstream, HEARTBEAT, headers, text.into()).await.map_err(refusal)
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
        self.send(&self.carrier, place.key(), headers, text).await
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
        self.send(&self.jetstream, &report_key(&report.node), headers, text.into()).await.map_err(refusal)
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
        let key = report_key(node);
        self.send(&self.jetstream, &key, headers, bytes::Bytes::new()).await.map(drop).map_err(refusal)
    }

    /// Follows every change of the bucket, from the present state of each key on.
    ///
    /// # Errors
    /// When there is no bucket, or the bus does not answer.
    pub async fn watch(&self) -> Result<Watch, BusError> {
        within(Watch::start(self.client.new_inbox(), self.stream().await?, &self.bucket)).await
    }

    async fn send(
        &self,
        by: &jetstream::Context,
        key: &str,
        headers: HeaderMap,
        text: bytes::Bytes,
    ) -> Result<u64, PublishError> {
        let acknowledged = async {
            let sent = by.publish_with_headers(self.subject(key), headers, text).await?;
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

    pub(super) fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket)
    }
}

/// What an alert of the server's about a certificate is about: TLS does not say whose.
fn with_remedy(what: String) -> String {
    let is_about_ours = ["BadCertificate", "CertificateRequired", "UnknownCA"].iter().any(|alert| what.contains(alert));
    let remedy = if is_about_ours { "; the server asks for a client certificate that it trusts" } else { "" };
    what + remedy
}

/// Whatever is small is answered soon, or not at all.
pub(super) async fn within<T>(asked: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(BusError::TimedOut))
}

fn refusal(error: PublishError) -> BusError {
    match error {
        PublishError::Bus(error) => error,
        other => BusError::Other(other.to_string()),
    }
}

/// Why a bucket was not made.
struct NotCreated {
    error: BusError,
    is_for_lack_of_servers: bool,
}

/// How often a bucket that was just made is asked, and how long after each: elections take a second or two.
const SETTLING: u32 = 40;
const SETTLING_PAUSE: Duration = Duration::from_millis(250);

/// The key of heartbeats.
pub(super) const HEARTBEAT: &str = "heartbeat";

/// How many servers of a cluster keep a bucket: one may die, and the others still agree on what is newest.
const REPLICAS: usize = 3;

/// What nats-server says when it has fewer servers than a bucket asks for: JetStream's errors 10074, 10005 and 10023.
const LACK_OF_SERVERS: [&str; 3] = ["non-clustered mode", "no suitable peers", "insufficient resources"];

/// The key of a node's report.
pub(super) fn report_key(node: &str) -> String {
    format!("nodes.{node}")
}

/// A request's failure. The library tells a time-out and a server without JetStream by its sources.
pub(super) fn request_error(error: &(dyn std::error::Error + 'static)) -> BusError {
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
