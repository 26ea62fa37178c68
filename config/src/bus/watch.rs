//! A bucket's changes as they arrive: key, revision and length. Values are fetched separately, so
//! that a watcher that will not read one of 64 MiB does not receive it.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{DeliverPolicy, push};
use async_nats::jetstream::stream::Stream;
use futures_util::StreamExt;

use super::error::{BusError, chain};
use super::layout::{OPERATION, Place};
use super::report::{INSTANCE, REGION};

/// Every change of a bucket, from the present state of each key on. Owned by one task, for one connection.
pub struct Watch {
    messages: push::Ordered,
    prefix: String,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The KV revision: one more than the last, unless the bus reordered or left out a change.
    pub revision: u64,
    /// When the bus stored it, by the bus's clock.
    pub created: SystemTime,
    /// What has changed.
    pub what: What,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A table was published, staged, or deleted.
    Table {
        /// Under which key.
        place: Place,
        /// The table's length; `None` when it was deleted.
        bytes: Option<usize>,
    },
    /// A node has reported.
    Node {
        /// Its name.
        node: String,
        /// The region that it is in.
        region: String,
        /// The process's id, which distinguishes two processes with the same name.
        instance: String,
    },
    /// A node has left in order, or its report was pruned.
    Left {
        /// Its name.
        node: String,
    },
    /// Another key, which nodes ignore.
    Other,
}

impl Watch {
    pub(super) async fn start(inbox: String, stream: &Stream, bucket: &str) -> Result<Self, BusError> {
        let config = push::OrderedConfig {
            deliver_subject: inbox,
            description: Some("meridian".to_owned()),
            filter_subject: format!("$KV.{bucket}.>"),
            headers_only: true,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..push::OrderedConfig::default()
        };
        let failed = |error: &(dyn std::error::Error + 'static)| BusError::Other(chain(error));
        let consumer = stream.create_consumer(config).await.map_err(|error| failed(&error))?;
        let messages = consumer.messages().await.map_err(|error| failed(&error))?;
        Ok(Self { messages, prefix: format!("$KV.{bucket}.") })
    }

    /// Returns the next change. Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// When the watch has ended, and has to be started anew.
    pub async fn next(&mut self) -> Result<Change, BusError> {
        match self.messages.next().await {
            None => Err(BusError::Other("the watch ended".to_owned())),
            Some(Err(error)) => Err(BusError::Other(chain(&error))),
            Some(Ok(message)) => {
                let info = message.info().map_err(|error| BusError::Other(error.to_string()))?;
                let (revision, created) = (info.stream_sequence, info.published.into());
                let none = HeaderMap::new();
                let headers = message.headers.as_ref().unwrap_or(&none);
                let key = message.subject.strip_prefix(&self.prefix).unwrap_or_default();
                Ok(Change { revision, created, what: what(key, headers) })
            }
        }
    }

    /// How long a watch may be silent before it counts as stuck: a node's own report comes every five seconds.
    pub const SILENCE: Duration = Duration::from_secs(10);
}

fn what(key: &str, headers: &HeaderMap) -> What {
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default();
    let is_there = ["", "PUT"].contains(&header(OPERATION).as_str());
    let place = match key {
        "table" => Place::Table,
        "rollout" => Place::Rollout,
        _ => {
            return match key.strip_prefix("nodes.") {
                Some(node) if is_there => {
                    What::Node { node: node.to_owned(), region: header(REGION), instance: header(INSTANCE) }
                }
                Some(node) => What::Left { node: node.to_owned() },
                None => What::Other,
            };
        }
    };
    // A message without its payload has the payload's length in a header.
    let bytes = is_there.then(|| header("Nats-Msg-Size").parse().unwrap_or(0));
    What::Table { place, bytes }
}
