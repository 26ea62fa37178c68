//! How a bucket is made, and what is weak about one that somebody else has made.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::stream::{self, StorageType};

use super::client::{Bus, within};
use super::error::{BusError, chain, request_error};
use super::layout::{HISTORY, Place};

/// What is weak about a bucket. `fmt` says what it costs and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// It keeps fewer tables than Meridian's own would.
    History {
        /// So many.
        tables: i64,
    },
    /// It forgets what is older than this, the table in force too.
    TimeToLive(Duration),
    /// It is kept in memory.
    Memory,
    /// One server of a cluster keeps it.
    OneReplica,
    /// Its values can be read by way of its leader only.
    NoDirectGets,
    /// It takes nothing in place of what was there before.
    NoRollup,
}

impl Bus {
    /// Makes the bucket, unless it is there. Returns how many servers keep it, if it was not. `replicas` is how many
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

    async fn create_with(&self, replicas: usize) -> Result<(), NotCreated> {
        // As a key-value store is made, but by hand: nats-server 2.9 answers a question that the library's
        // own way asks first in words that the library does not understand.
        let config = stream::Config {
            name: format!("KV_{}", self.bucket()),
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

    /// Returns what is weak about the bucket, as it is now.
    ///
    /// # Errors
    /// When there is none, or the bus does not answer.
    pub async fn weaknesses(&self) -> Result<Vec<Weakness>, BusError> {
        within(async {
            let stream = self.stream().await?;
            let info = stream.get_info().await.map_err(|error| request_error(&error))?;
            Ok(weaknesses(&info.config, self.is_clustered()))
        })
        .await
    }

    /// Returns whether the bucket has a leader, as one does that no cluster keeps.
    async fn has_leader(&self) -> Result<bool, BusError> {
        within(async {
            let info = self.stream().await?.get_info().await.map_err(|error| request_error(&error))?;
            Ok(info.cluster.is_none_or(|cluster| cluster.leader.is_some()))
        })
        .await
    }
}

fn weaknesses(config: &stream::Config, is_clustered: bool) -> Vec<Weakness> {
    let kept = config.max_messages_per_subject;
    [
        (1..HISTORY / 4).contains(&kept).then_some(Weakness::History { tables: kept }),
        (!config.max_age.is_zero()).then_some(Weakness::TimeToLive(config.max_age)),
        (config.storage == StorageType::Memory).then_some(Weakness::Memory),
        (is_clustered && config.num_replicas < 2).then_some(Weakness::OneReplica),
        (!config.allow_direct).then_some(Weakness::NoDirectGets),
        (!config.allow_rollup).then_some(Weakness::NoRollup),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Weakness {
    /// Returns a word for it that machines can go by.
    pub fn kind(&self) -> &'static str {
        match self {
            Weakness::History { .. } => "history",
            Weakness::TimeToLive(_) => "ttl",
            Weakness::Memory => "memory",
            Weakness::OneReplica => "one_replica",
            Weakness::NoDirectGets => "no_direct_gets",
            Weakness::NoRollup => "no_rollup",
        }
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weakness::History { tables } => write!(
                f,
                "the bucket keeps {tables} of its tables: `meridian rollback` finds no earlier one to go back to, and a node \
                 that was away is compared with nothing in between; edit its stream to 64 messages per subject"
            ),
            Weakness::TimeToLive(age) => write!(
                f,
                "the bucket forgets what is older than {}, the table in force too: fresh nodes then find none, and nobody \
                 confirms it to the others; edit its stream to keep messages for ever",
                humantime::format_duration(*age)
            ),
            Weakness::Memory => f.write_str(
                "the bucket is kept in memory: a restart of nats-server loses the table; make another, on disk, and publish \
                 there",
            ),
            Weakness::OneReplica => f.write_str(
                "one server of the cluster keeps the bucket: while it is down nobody publishes, and with its disk all tables \
                 are lost; edit its stream to 3 replicas",
            ),
            Weakness::NoDirectGets => f.write_str(
                "the bucket allows no direct gets: every read goes to its leader and comes back a third longer, in JSON, and \
                 nodes need the right to publish on $JS.API.STREAM.MSG.GET.KV_BUCKET; edit its stream to allow direct gets",
            ),
            Weakness::NoRollup => f.write_str(
                "the bucket allows no roll-ups: nodes cannot report, nothing staged can be withdrawn, and heartbeats are not \
                 taken; edit its stream to allow them",
            ),
        }
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

/// How many servers of a cluster keep a bucket: one may die, and the others still agree on what is newest.
const REPLICAS: usize = 3;

/// What nats-server says when it has fewer servers than a bucket asks for: JetStream's errors 10074, 10005 and 10023.
const LACK_OF_SERVERS: [&str; 3] = ["non-clustered mode", "no suitable peers", "insufficient resources"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_weakness_is_found_alone() {
        let own = || stream::Config {
            max_messages_per_subject: HISTORY,
            allow_rollup: true,
            allow_direct: true,
            num_replicas: 3,
            ..stream::Config::default()
        };
        let alone = |config, is_clustered| match weaknesses(&config, is_clustered).as_slice() {
            [] => "none",
            [one] => one.kind(),
            more => panic!("{more:?}"),
        };
        assert_eq!(alone(own(), true), "none");
        assert_eq!(alone(stream::Config { num_replicas: 1, ..own() }, false), "none");
        assert_eq!(alone(stream::Config { num_replicas: 1, ..own() }, true), "one_replica");
        assert_eq!(alone(stream::Config { max_messages_per_subject: 1, ..own() }, true), "history");
        // Without a limit it keeps all.
        assert_eq!(alone(stream::Config { max_messages_per_subject: -1, ..own() }, true), "none");
        assert_eq!(alone(stream::Config { max_age: Duration::from_secs(1), ..own() }, true), "ttl");
        assert_eq!(alone(stream::Config { storage: StorageType::Memory, ..own() }, true), "memory");
        assert_eq!(alone(stream::Config { allow_direct: false, ..own() }, true), "no_direct_gets");
        assert_eq!(alone(stream::Config { allow_rollup: false, ..own() }, true), "no_rollup");
    }
}
