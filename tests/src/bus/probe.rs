//! What a test itself says to the bus and hears from it, past Meridian.

use async_nats::jetstream;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{self, DirectGetErrorKind, DiscardPolicy, Stream};
use async_nats::{Client, ConnectError, ConnectOptions, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;

use crate::patiently;

/// A client of the bus that says whatever it is told to. Every method panics when the server refuses.
pub struct BusProbe {
    client: Client,
    jetstream: jetstream::Context,
}

/// What arrives on a subject.
pub struct Heard(Subscriber);

impl BusProbe {
    /// Connects once.
    ///
    /// # Errors
    /// When the server cannot be reached or does not let it in.
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<BusProbe, ConnectError> {
        let client = options.connect(url).await?;
        Ok(BusProbe { jetstream: jetstream::new(client.clone()), client })
    }

    /// The client itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// JetStream itself.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// Creates the bucket `meridian`, as `nats kv add meridian --history 64` does.
    pub async fn create_bucket(&self) {
        // The client's own `create_key_value` first asks about the account, and cannot read what 2.9 answers.
        let bucket = stream::Config {
            name: stream_name(),
            subjects: vec![subject(">")],
            max_messages_per_subject: 64,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            num_replicas: 1,
            ..stream::Config::default()
        };
        self.jetstream.create_stream(bucket).await.expect("a bucket");
    }

    /// Deletes the bucket `meridian`.
    pub async fn delete_bucket(&self) {
        self.jetstream.delete_stream(stream_name()).await.expect("a bucket that is gone");
    }

    /// The stream below the bucket.
    pub async fn stream(&self) -> Stream {
        self.jetstream.get_stream(stream_name()).await.expect("a bucket")
    }

    /// Puts a value, and returns its revision.
    pub async fn put(&self, key: &str, value: impl AsRef<[u8]>) -> u64 {
        self.put_raw(key, value, HeaderMap::new()).await
    }

    /// Puts a value with these header fields, whatever they mean, and returns its revision.
    pub async fn put_raw(&self, key: &str, value: impl AsRef<[u8]>, headers: HeaderMap) -> u64 {
        let value = value.as_ref().to_vec().into();
        let stored = self.jetstream.publish_with_headers(subject(key), headers, value).await.expect("a connection");
        stored.await.expect("an acknowledgement").sequence
    }

    /// Deletes a key, which is a value too, and returns the revision of that.
    pub async fn delete(&self, key: &str) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        self.put_raw(key, "", headers).await
    }

    /// The last message of a key, be it a value or a deletion.
    pub async fn get(&self, key: &str) -> Option<StreamMessage> {
        match self.stream().await.direct_get_last_for_subject(subject(key)).await {
            Ok(message) => Some(message),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => None,
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// Says something on a subject that is no key, and returns when the server has it.
    pub async fn publish(&self, subject: &str, value: impl AsRef<[u8]>) {
        self.client.publish(subject.to_owned(), value.as_ref().to_vec().into()).await.expect("a connection");
        self.reached().await;
    }

    /// Listens on a subject, from when this returns.
    pub async fn subscribe(&self, subject: &str) -> Heard {
        let subscriber = self.client.subscribe(subject.to_owned()).await.expect("a subscription");
        self.reached().await;
        Heard(subscriber)
    }

    /// Waits until the server has dealt with all that was said before: it answers a connection in order.
    async fn reached(&self) {
        self.client.request("$JS.API.INFO", "".into()).await.expect("an answer");
    }
}

impl Heard {
    /// The next message, which may still have to come.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next(&mut self) -> Message {
        patiently("a message", self.0.next()).await.expect("a connection")
    }
}

/// The stream that the bucket is.
fn stream_name() -> String {
    format!("KV_{BUCKET}")
}

/// Where a key's values are published.
fn subject(key: &str) -> String {
    format!("$KV.{BUCKET}.{key}")
}

/// The bucket that Meridian reads, unless it is told otherwise.
pub(super) const BUCKET: &str = "meridian";
