//! A connection to a bus, and what can be written there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::jetstream;
use async_nats::jetstream::context::{GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, HeaderMap};
use tokio::sync::{Notify, OnceCell};

use super::access::{BusAccess, PATIENCE, PATIENCE_FOR_TABLES};
use super::error::{BusError, PublishError, chain, request_error};
use super::heartbeat::Heartbeat;
use super::layout::{HEARTBEAT, OPERATION, Place, report_key};
use super::publication::Publication;
use super::report::NodeReport;
use super::watch::Watch;

/// A connection to a bus. Cheap to clone; it ends with its last clone.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    pub(super) jetstream: jetstream::Context,
    /// The same, for what carries tables.
    pub(super) carrier: jetstream::Context,
    bucket: String,
    /// The bucket's stream, once it was found.
    stream: Arc<OnceCell<Stream>>,
    complaint: Arc<Mutex<Option<String>>>,
    lost: Arc<Notify>,
    /// The subjects of all reports that it was told of.
    pub(super) reporters: Arc<Mutex<BTreeSet<String>>>,
}

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

    /// Returns the bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the server that it is connected to: its name and version.
    pub fn server(&self) -> String {
        let info = self.client.server_info();
        format!("{} ({})", info.server_name, info.version)
    }

    /// Returns the connection underneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns what the server last complained of by itself, told once: it does not answer who lacks a right.
    pub fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until the connection is lost. Another takes its place by itself, but what was asked for on it,
    /// such as a watch, the library asks for again in ways that need other rights, and may have missed much.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Returns the most bytes that one message can have.
    pub fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }

    /// Returns whether the server says that it is one of a cluster.
    pub fn is_clustered(&self) -> bool {
        self.client.server_info().cluster.is_some()
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

    /// Returns the bucket's stream, as it was when it was first asked for.
    pub(super) async fn stream(&self) -> Result<&Stream, BusError> {
        self.stream.get_or_try_init(|| self.look_up()).await
    }

    async fn look_up(&self) -> Result<Stream, BusError> {
        let name = format!("KV_{}", self.bucket());
        self.carrier.get_stream(name).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(ref error) if error.code() == 404 => {
                BusError::NoBucket { bucket: self.bucket().to_owned() }
            }
            GetStreamErrorKind::JetStream(ref error) if error.code() == 503 => BusError::NoJetStream,
            _ => request_error(&error),
        })
    }

    /// Returns why a question had no answer: the bucket may be gone since, of which only a question for the bucket
    /// itself tells.
    pub(super) async fn reason(&self, error: BusError) -> BusError {
        match error {
            BusError::TimedOut => error,
            error => self.look_up().await.err().unwrap_or(error),
        }
    }

    pub(super) fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket)
    }
}

/// Returns what an alert of the server's about a certificate is about: TLS does not say whose.
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
