//! A connection to a bus, and writing over it.

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

/// A connection to a bus, for any thread. Cheap to clone; it ends with its last clone.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    pub(super) jetstream: jetstream::Context,
    /// The same context with the longer timeout of requests that carry tables.
    pub(super) carrier: jetstream::Context,
    bucket: String,
    /// The bucket's stream, once it was looked up.
    stream: Arc<OnceCell<Stream>>,
    complaint: Arc<Mutex<Option<String>>>,
    lost: Arc<Notify>,
    /// The subjects of all reports that the server has ever listed.
    pub(super) reporters: Arc<Mutex<BTreeSet<String>>>,
}

impl Bus {
    /// Connects to one of the servers, as `name`. It reconnects a few times by itself before it gives up.
    ///
    /// # Errors
    /// When no server can be reached or accepts us, or a file of `access` is bad.
    pub async fn connect(access: &BusAccess, name: &str) -> Result<Self, BusError> {
        let complaint = Arc::<Mutex<Option<String>>>::default();
        let lost = Arc::<Notify>::default();
        let (last_error, gone) = (complaint.clone(), lost.clone());
        let options = access.options(name)?.event_callback(move |event| {
            match event {
                async_nats::Event::ServerError(error) => {
                    *last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
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

    /// Returns the connected server's name and version.
    pub fn server(&self) -> String {
        let info = self.client.server_info();
        format!("{} ({})", info.server_name, info.version)
    }

    /// Returns the connection underneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Takes the last error that the server sent unasked: a request without permission gets no answer of its own.
    pub fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until the connection is lost. The library reconnects by itself, but restores a watch in ways that
    /// need other permissions and may lose changes.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Returns the most bytes that the server takes in a message.
    pub fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }

    /// Returns whether the server is part of a cluster.
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

    /// Writes a table if its key is still at the revision `after` (0: without a value), and returns the new
    /// revision.
    ///
    /// # Errors
    /// When another publication was first, the table is too long for the server, or the bus does not answer.
    pub async fn publish(&self, publication: &Publication, after: u64) -> Result<u64, PublishError> {
        let place = if publication.stage.is_some() { Place::Rollout } else { Place::Table };
        self.put(place, publication.headers(), publication.text.clone(), after).await
    }

    /// Deletes the staged table if its key is still at this revision.
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
        // The server counts the headers in; 64 bytes are for the protocol's own part of the message.
        let line = |(name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)| {
            let name: &str = name.as_ref();
            values.iter().map(|value| name.len() + value.as_str().len() + 4).sum::<usize>()
        };
        let header_bytes: usize = headers.iter().map(line).sum();
        let (bytes, most) = (text.len() + header_bytes + 64, self.max_payload());
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

    /// Replaces a node's report by a delete marker: the node has left. Needs no permission beyond the
    /// report's.
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

    /// Returns the bucket's stream, as it was at the first look-up.
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

    /// Returns the cause of a failed request: that the bucket is gone shows only in a look-up of the bucket.
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

/// Appends the remedy to an error that is a TLS alert about our certificate: the alert does not say whose it is.
fn with_remedy(what: String) -> String {
    let is_about_ours = ["BadCertificate", "CertificateRequired", "UnknownCA"].iter().any(|alert| what.contains(alert));
    let remedy = if is_about_ours { "; the server asks for a client certificate that it trusts" } else { "" };
    what + remedy
}

/// Waits for a small answer, for [`PATIENCE`] at most.
pub(super) async fn within<T>(asked: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(BusError::TimedOut))
}

fn refusal(error: PublishError) -> BusError {
    match error {
        PublishError::Bus(error) => error,
        other => BusError::Other(other.to_string()),
    }
}
