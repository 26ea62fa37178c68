//! Creating the bucket, and finding the weaknesses of one that was created otherwise.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::stream::{self, StorageType};

use super::client::{Bus, within};
use super::error::{BusError, chain, request_error};
use super::layout::{HISTORY, Place};

/// A setting of the bucket that makes it less reliable. `fmt` says what it costs and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// The bucket keeps fewer tables than one that Meridian creates.
    History {
        /// How many.
        tables: i64,
    },
    /// The bucket deletes what is older than this, the table in force too.
    TimeToLive(Duration),
    /// The bucket is kept in memory.
    Memory,
    /// One server of a cluster keeps it.
    OneReplica,
    /// The bucket's values can be read through its leader only.
    NoDirectGets,
    /// The bucket allows no roll-ups, by which a message replaces the earlier ones of its key.
    NoRollup,
}

impl Bus {
    /// Creates the bucket unless it exists, and then returns how many replicas it has. `replicas` sets their number; by
    /// default it is `REPLICAS` (3) in a cluster of that many servers, else one.
    ///
    /// # Errors
    /// When the bus does not answer, denies permission, or has too few servers.
    pub async fn create_bucket(&self, replicas: Option<usize>) -> Result<Option<usize>, BusError> {
        match self.stream().await {
            Err(BusError::NoBucket { .. }) => {}
            other => return other.map(|_| None),
        }
        let made = match replicas {
            Some(replicas) => self.create_with(replicas).await.map(|()| replicas),
            None if self.is_clustered() => self.create_in_cluster().await,
            None => self.create_with(1).await.map(|()| 1),
        };
        let made = made.map_err(|NotCreated { error, .. }| error)?;
        self.settle().await?;
        Ok(Some(made))
    }

    /// Creates it on as many servers as there should be, or on one where there are fewer. A cluster that has just begun may
    /// not know all of its servers yet.
    async fn create_in_cluster(&self) -> Result<usize, NotCreated> {
        for _ in 0..GATHERING {
            match self.create_with(REPLICAS).await {
                Ok(()) => return Ok(REPLICAS),
                Err(NotCreated { is_for_lack_of_servers: true, .. }) => tokio::time::sleep(SETTLING_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        self.create_with(1).await.map(|()| 1)
    }

    /// Waits until a new bucket answers. The servers of a cluster elect its leader first; until then a request times
    /// out, or fails as if there were no JetStream.
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
        // The library's own function for a key-value store first sends a request whose answer from nats-server
        // 2.9 it cannot parse; hence the stream is created by hand.
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
                    format!(
                        "; the bus has fewer than {replicas} servers with JetStream that could keep it: use --replicas 1"
                    )
                } else {
                    String::new()
                };
                Err(NotCreated { error: BusError::Other(text + &remedy), is_for_lack_of_servers })
            }
        }
    }

    /// Returns the bucket's present weaknesses.
    ///
    /// # Errors
    /// When there is no bucket, or the bus does not answer.
    pub async fn weaknesses(&self) -> Result<Vec<Weakness>, BusError> {
        within(async {
            let stream = self.stream().await?;
            let info = stream.get_info().await.map_err(|error| request_error(&error))?;
            Ok(weaknesses(&info.config, self.is_clustered()))
        })
        .await
    }

    /// Returns whether the bucket has a leader; outside a cluster it always has.
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
    /// Returns the weakness's name for machines.
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
                 that was away cannot read the tables that it missed; edit its stream to 64 messages per subject"
            ),
            Weakness::TimeToLive(age) => write!(
                f,
                "the bucket deletes what is older than {}, the table in force too: fresh nodes then find none, and the others \
                 get no confirmation of theirs; edit its stream to keep messages for ever",
                humantime::format_duration(*age)
            ),
            Weakness::Memory => f.write_str(
                "the bucket is kept in memory: a restart of nats-server loses the table; create another, on disk, and publish \
                 there",
            ),
            Weakness::OneReplica => f.write_str(
                "one server of the cluster keeps the bucket: while it is down no table can be published, and with its disk all \
                 tables are lost; edit its stream to 3 replicas",
            ),
            Weakness::NoDirectGets => f.write_str(
                "the bucket allows no direct gets: every read goes to its leader, the answer is a third longer, in JSON, and \
                 nodes need the right to publish on $JS.API.STREAM.MSG.GET.KV_BUCKET; edit its stream to allow direct gets",
            ),
            Weakness::NoRollup => f.write_str(
                "the bucket allows no roll-ups: nodes cannot report, nothing staged can be withdrawn, and heartbeats are not \
                 taken; edit its stream to allow them",
            ),
        }
    }
}

/// Why a bucket was not created.
struct NotCreated {
    error: BusError,
    is_for_lack_of_servers: bool,
}

/// How often a new bucket is tried, and the pause between: ten seconds in all, where an election takes one or two.
const SETTLING: u32 = 40;
const SETTLING_PAUSE: Duration = Duration::from_millis(250);

/// How often it is asked whether there are enough servers, with the same pause: two seconds in all.
const GATHERING: u32 = 8;

/// How many servers of a cluster keep a bucket: one may fail, and the others are still a majority.
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
