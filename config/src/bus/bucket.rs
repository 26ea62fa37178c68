//! How a bucket was made, and what that costs: somebody else may have made it.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::stream::{self, StorageType};

use super::client::{Bus, BusError, HISTORY, request_error, within};

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
    /// What is weak about the bucket, as it is now.
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

    /// Whether the bucket has a leader, as one does that no cluster keeps.
    pub(super) async fn has_leader(&self) -> Result<bool, BusError> {
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
    /// A word for it that machines can go by.
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
