//! Looks after the connections of one worker: ends those that wait too long for a head that does not end, for a client
//! that takes nothing, or for nothing, and streams whose answers alone are not taken; asks them to close when the node drains; and has idle ones give their buffers back.
//!
//! One look at all of them, now and then, is all the timers that they have: a connection that works pays one load of an
//! integer for it at each poll.

use std::future::poll_fn;
use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use config::{Limits, NodeConfig};
use policy::overload::{Actions, Resource};

use crate::body_budget::UnreadContent;
use crate::client_connection::{Activity, ConnectionPhase};
use crate::ingress::streams::Streams;
use crate::occupancy::Drain;

/// The connections of one worker. It lives on the worker's thread, as long as the process does.
#[derive(Default)]
pub(crate) struct Watchdog {
    connections: Vec<Arc<Watched>>,
    /// How many were told to rest since the allocator has last given memory back.
    rested: usize,
}

/// One connection, as its task and the watchdog share it; both are on the worker's thread. It lives as long as the
/// connection, and to the watchdog's next look after it.
pub(crate) struct Watched {
    /// What the connection is doing.
    pub(crate) activity: Arc<Activity>,
    /// The settings that it was accepted under.
    pub(crate) config: Arc<NodeConfig>,
    /// An [`Order`], or [`NO_ORDER`].
    order: AtomicU8,
    /// A [`Stage`].
    stage: AtomicU8,
    closing: AtomicBool,
    /// Whether its task is to be woken for an order to rest.
    may_rest: AtomicBool,
    /// Of its task, which stays the same.
    waker: OnceLock<Waker>,
    /// Of HTTP/2.
    streams: OnceLock<(Streams, Arc<UnreadContent>)>,
}

/// What a connection's task is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// End at once: its head is late, it takes nothing of its answers, or it did not close when asked to.
    Cut = 1,
    /// Answer what has begun, and close.
    Close,
    /// Give back the memory that only requests need.
    Rest,
}

const NO_ORDER: u8 = 0;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Opening = 0,
    Http1,
    Http2,
}

impl Watchdog {
    /// Takes a new connection, which is idle until its first byte.
    pub(crate) fn watch(&mut self, config: Arc<NodeConfig>) -> Arc<Watched> {
        let watched = Arc::new(Watched::new(config));
        self.connections.push(watched.clone());
        watched
    }

    /// Looks at every connection, and wakes those that have something to do.
    pub(crate) fn look(&mut self, drain: Drain, overload: &Actions) {
        // Of those that have ended, nobody else has a copy.
        self.connections.retain(|connection| Arc::strong_count(connection) > 1);
        let mut rest = 0;
        for connection in &self.connections {
            connection.end_stalled_streams(overload);
            if let Some(order) = connection.due(drain, overload) {
                connection.give(order);
                rest += usize::from(order == Order::Rest);
            }
        }
        self.rested += rest;
        // Once no more of them follow. What is free counts as in use until it is given back.
        let is_needed = overload.patience < 100 && overload.lacks == Resource::Memory;
        if rest == 0 && self.rested >= WORTH_A_COLLECTION || is_needed {
            self.rested = 0;
            give_memory_back();
        }
    }

    /// Returns the time from one look to the next: a quarter of the shortest limit, by which a connection is
    /// closed too late at most.
    pub(crate) fn pause(limits: &Limits) -> Duration {
        let shortest = limits.header_timeout.min(limits.keep_alive).min(limits.body_timeout);
        (shortest / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }
}

impl Watched {
    fn new(config: Arc<NodeConfig>) -> Self {
        Self {
            activity: Arc::new(Activity::idle()),
            config,
            order: AtomicU8::new(NO_ORDER),
            stage: AtomicU8::new(Stage::Opening as u8),
            closing: AtomicBool::new(false),
            // Once it speaks HTTP.
            may_rest: AtomicBool::new(false),
            waker: OnceLock::new(),
            streams: OnceLock::new(),
        }
    }

    /// Notes that the connection speaks HTTP from now on. While the node drains, it is ordered to close.
    pub(crate) fn speaks(&self, http2: bool, drain: Drain) {
        let stage = if http2 { Stage::Http2 } else { Stage::Http1 };
        self.stage.store(stage as u8, Ordering::Relaxed);
        if drain >= stage.closes_from() {
            self.give(Order::Close);
        }
    }

    /// Takes the place where its streams will be.
    pub(crate) fn has_streams(&self, streams: Streams, unread: Arc<UnreadContent>) {
        drop(self.streams.set((streams, unread)));
    }

    /// Ends the streams that the client lets stand while it takes others. Where its way is full, as that of a slow one
    /// is, they wait for each other.
    fn end_stalled_streams(&self, overload: &Actions) {
        let body_timeout = overload.shortened(self.config.limits.body_timeout);
        let Some((streams, unread)) = self.streams.get() else { return };
        // There may be room by now.
        unread.resume();
        if self.activity.has_had_room() > body_timeout {
            streams.end_stalled(body_timeout);
        }
    }

    /// Returns the order that its task has not had yet, once. The task is woken for the next.
    pub(crate) fn order(&self, cx: &Context<'_>) -> Option<Order> {
        if self.waker.get().is_none() {
            drop(self.waker.set(cx.waker().clone()));
        }
        if self.order.load(Ordering::Relaxed) == NO_ORDER {
            return None;
        }
        match self.order.swap(NO_ORDER, Ordering::Relaxed) {
            order if order == Order::Cut as u8 => Some(Order::Cut),
            order if order == Order::Close as u8 => Some(Order::Close),
            order if order == Order::Rest as u8 => Some(Order::Rest),
            _ => None,
        }
    }

    /// Does something with the connection; `None` when it was cut meanwhile. Other orders change nothing here.
    pub(crate) async fn unless_cut<T>(&self, doing: impl Future<Output = T>) -> Option<T> {
        let mut doing = pin!(doing);
        poll_fn(|cx| match self.order(cx) {
            Some(Order::Cut) => Poll::Ready(None),
            Some(Order::Close | Order::Rest) | None => doing.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Notes whether an order to rest would change anything.
    pub(crate) fn set_may_rest(&self, may_rest: bool) {
        self.may_rest.store(may_rest, Ordering::Relaxed);
    }

    /// Returns what the connection must do now, by what it is doing, how far the node's drain is and what the node lacks.
    fn due(&self, drain: Drain, overload: &Actions) -> Option<Order> {
        let Limits { header_timeout, keep_alive, body_timeout, .. } = self.config.limits;
        let [header_timeout, mut keep_alive, body_timeout] =
            [header_timeout, keep_alive, body_timeout].map(|timeout| overload.shortened(timeout));
        if overload.closes {
            keep_alive = keep_alive.min(RESTS_AFTER);
        }
        let is_stuck = |lasted: Option<Duration>| lasted.is_some_and(|lasted| lasted > body_timeout);
        let has_left = self.activity.silent_since_end().is_some_and(|lasted| lasted > HALF_CLOSED.min(body_timeout));
        if is_stuck(self.activity.blocked()) || has_left {
            return Some(Order::Cut);
        }
        let phase = self.activity.phase();
        let closing = self.closing.load(Ordering::Relaxed);
        let stage = self.stage.load(Ordering::Relaxed);
        // Nothing was said on it, in a protocol that could say goodbye.
        let is_silent = stage == Stage::Opening as u8 && matches!(phase, ConnectionPhase::Idle(_));
        match phase {
            ConnectionPhase::Reading(lasted) if lasted > header_timeout => return Some(Order::Cut),
            // Asked to go; whoever does not by the next look is cut.
            ConnectionPhase::Idle(lasted) if lasted > keep_alive => {
                return Some(if closing || is_silent { Order::Cut } else { Order::Close });
            }
            ConnectionPhase::Serving | ConnectionPhase::Reading(_) | ConnectionPhase::Idle(_) => {}
        }
        if is_silent && drain >= Stage::Opening.closes_from() {
            return Some(Order::Cut);
        }
        let closes = match stage {
            stage if stage == Stage::Http1 as u8 => drain >= Stage::Http1.closes_from(),
            stage if stage == Stage::Http2 as u8 => drain >= Stage::Http2.closes_from(),
            _ => false,
        };
        if (closes || self.activity.is_outdated()) && !closing {
            return Some(Order::Close);
        }
        let rests = matches!(phase, ConnectionPhase::Idle(lasted) if lasted >= RESTS_AFTER);
        (rests && !closing && self.may_rest.load(Ordering::Relaxed)).then_some(Order::Rest)
    }

    fn give(&self, order: Order) {
        if order == Order::Close {
            self.closing.store(true, Ordering::Relaxed);
        }
        self.order.store(order as u8, Ordering::Relaxed);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

impl Stage {
    /// Returns the stage of a drain from which such connections are closed.
    fn closes_from(self) -> Drain {
        match self {
            // GOAWAY names the last stream that is served, so that closing at once loses nothing.
            Stage::Http2 => Drain::Announced,
            Stage::Opening | Stage::Http1 => Drain::Closing,
        }
    }
}

/// Has the allocator give the memory that this thread has freed back to the system. mimalloc does so every some thousand
/// allocations, which a worker whose connections rest may not make in an hour; and before it gives up on an allocation that
/// cannot be made: half the address space is none.
fn give_memory_back() {
    let mut never: Vec<u8> = Vec::new();
    // Were it not for the black box, the compiler would see that nobody needs it.
    if black_box(&mut never).try_reserve_exact(isize::MAX as usize).is_ok() {
        tracing::debug!("the allocator gives more than there is");
    }
}

/// A megabyte of buffers: less is not worth a walk through the heap.
const WORTH_A_COLLECTION: usize = 64;
/// A client that has closed its side may wait for its answer, or have gone: nothing tells the one from the other until
/// something is written. For so long what it has asked for goes on while nothing of it arrives.
const HALF_CLOSED: Duration = Duration::from_secs(10);
/// Limits of milliseconds are for tests; more looks than a hundred a second help nobody.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// Connections rest soon after [`RESTS_AFTER`]; a look at 50,000 of them takes some milliseconds.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A client that has been silent for so long is no client that sends request after request: making HTTP's state anew, some
/// microseconds, is nothing against its pause, and the next request pays it only once.
const RESTS_AFTER: Duration = Duration::from_secs(1);
