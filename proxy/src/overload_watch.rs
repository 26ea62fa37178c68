//! Watches what the node may run out of, ten times a second, more often once that is near, and says what is to be done about it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::overload::{Actions, Level, Resource, Shares, StandingLag, accepts, lag_share};

use crate::clock::uptime;
use crate::descriptors;
use crate::memory::MemoryReader;
use crate::node::Node;

/// Watches for ever, on a thread of its own: it must see a node whose other threads are all busy.
pub(crate) fn watch_overload(node: &Arc<Node>) {
    let mut watch = OverloadWatch::new();
    loop {
        let is_near = watch.look(node, uptime());
        std::thread::sleep(if is_near { NEAR_PERIOD } else { PERIOD });
    }
}

/// What is known from one look to the next. It belongs to the watch's thread.
struct OverloadWatch {
    memory: MemoryReader,
    /// What the process may have, by its cgroups and the machine, and when that was read.
    whole: Option<(Duration, Option<u64>)>,
    levels: [Level; 4],
    lags: Vec<StandingLag>,
    /// The share that the lag was, and when it was read.
    lag: Option<(Duration, f32)>,
    latest: Option<Duration>,
    /// What the log was last told, and when.
    told: Vec<&'static str>,
    told_at: Option<Duration>,
}

impl OverloadWatch {
    fn new() -> Self {
        Self {
            memory: MemoryReader::open(),
            whole: None,
            levels: Default::default(),
            lags: Vec::new(),
            lag: None,
            latest: None,
            told: Vec::new(),
            told_at: None,
        }
    }

    /// Looks, and returns whether something is about to be done, or is.
    fn look(&mut self, node: &Node, now: Duration) -> bool {
        let since = self.latest.replace(now).map_or(PERIOD, |latest| now.saturating_sub(latest));
        let found = self.read(node, now);
        for (level, resource) in self.levels.iter_mut().zip(Resource::ALL) {
            level.observe(found.of(resource), since);
        }
        let [memory, descriptors, connections, lag] = self.levels.map(Level::share);
        let shares = Shares { memory, descriptors, connections, lag };
        let actions = Actions::at(&shares);
        node.overload.set(&shares, actions);
        for resource in Resource::ALL {
            let gauge = node.telemetry.metrics.pressure.with_label_values(&[resource.name()]);
            gauge.set(f64::from(shares.of(resource)));
        }
        node.telemetry.metrics.body_bytes.set(i64::try_from(node.bodies.held()).unwrap_or(i64::MAX));
        self.tell(&shares, &actions, now);
        let is_near = Resource::ALL.iter().any(|resource| shares.of(*resource) > NEAR);
        let (used, limit) = node.overload.memory();
        let free = limit.map_or(u64::MAX, |limit| limit.saturating_sub(used));
        node.overload.set_accepts(accepts(free, if is_near { NEAR_PERIOD } else { PERIOD }));
        is_near
    }

    /// Reads everything. What cannot be read is as it was.
    fn read(&mut self, node: &Node, now: Duration) -> Shares {
        let config = node.config.load();
        let limits = &config.limits;
        let whole = match self.whole {
            Some((read, whole)) if now.saturating_sub(read) < LIMITS_EACH => whole,
            _ => {
                let whole = self.memory.limit();
                self.whole = Some((now, whole));
                whole
            }
        };
        let limit = limits.memory.and_then(|memory| Some(memory.of(whole?)).filter(|limit| *limit > 0));
        let used = self.memory.used().unwrap_or_else(|| node.overload.memory().0);
        node.overload.set_memory(used, limit);
        let for_bodies = limits.body_memory.and_then(|memory| Some(memory.of(limit.or(whole)?)));
        node.bodies.set_limit(for_bodies);
        let open = node.occupancy.connections.load(Ordering::Relaxed);
        Shares {
            memory: limit.map_or(0.0, |limit| used as f32 / limit as f32),
            descriptors: descriptors::share_in_use(),
            connections: open as f32 / descriptors::most_connections(limits).max(1) as f32,
            lag: self.lag(node, now),
        }
    }

    /// Returns the share of what workers may lag that they do. They say so ten times a second.
    fn lag(&mut self, node: &Node, now: Duration) -> f32 {
        if let Some((read, share)) = self.lag
            && now.saturating_sub(read) < PERIOD
        {
            return share;
        }
        let lags = node.overload.lags(now);
        self.lags.resize(lags.len(), StandingLag::default());
        let share = lag_share(self.lags.iter_mut().zip(lags).map(|(standing, late)| standing.observe(late)));
        self.lag = Some((now, share));
        share
    }

    /// Logs where something begins to be done, or ends, with the shares in percent.
    fn tell(&mut self, shares: &Shares, actions: &Actions, now: Duration) {
        let names = actions.names();
        if names == self.told || self.told_at.is_some_and(|told| now.saturating_sub(told) < TELLS_EACH) {
            return;
        }
        let percent = |resource| (shares.of(resource) * 100.0).round() as u32;
        let [memory, descriptors, connections, lag] = Resource::ALL.map(percent);
        if names.is_empty() {
            tracing::info!(memory, descriptors, connections, lag, "the node has room again");
        } else {
            let done = names.join(", ");
            tracing::warn!(memory, descriptors, connections, lag, done, "the node is near the end of what it has");
        }
        self.told = names;
        self.told_at = Some(now);
    }
}

/// From one look to the next, while there is room.
const PERIOD: Duration = Duration::from_millis(100);
/// The same once something is [`NEAR`]: at a gigabit a second, 2.5 MB come meanwhile.
const NEAR_PERIOD: Duration = Duration::from_millis(20);
/// A share from which on the next look may find it past the first mark.
const NEAR: f32 = 0.7;
/// How often cgroups are looked at, which change when somebody changes them.
const LIMITS_EACH: Duration = Duration::from_secs(5);
/// How often the log is told: whoever swings between two marks must not fill the disk.
const TELLS_EACH: Duration = Duration::from_secs(10);
