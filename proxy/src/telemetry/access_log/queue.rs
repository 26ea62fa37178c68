//! The lines between the workers and the writer: a buffer for each worker, and the queue of those that are full or due.
//!
//! A worker's lock is taken before the queue's, never after it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::line::{LogLine, TimeText};
use crate::clock;

/// Everything between workers and the writer. One for each access log, for as long as the process lives.
pub(super) struct Queue {
    /// Each worker's.
    buffers: Mutex<Vec<Arc<Mutex<Filling>>>>,
    state: Mutex<State>,
    /// Wakes the writer, and whoever waits for its end.
    changed: Condvar,
    dropped: IntCounter,
}

/// The lines that a worker has written and the queue does not have yet. It lives as long as its worker.
pub(super) struct Filling {
    bytes: Vec<u8>,
    lines: u64,
    time: TimeText,
}

/// Whole lines, on their way from a worker's thread to the writer's.
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    lines: u64,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Chunk>,
    /// Bytes and lines of chunks that are queued or being written.
    bytes: usize,
    lines: u64,
    /// Buffers to be filled again.
    spare: Vec<Vec<u8>>,
    /// Since when a worker's buffer has had a line in it.
    unswept: Option<Instant>,
    /// The log is to end.
    finishing: bool,
    /// The writer has ended.
    finished: bool,
}

impl Queue {
    pub(super) fn new(dropped: IntCounter) -> Self {
        Self { buffers: Mutex::default(), state: Mutex::default(), changed: Condvar::new(), dropped }
    }

    /// Adds a worker's buffer.
    pub(super) fn add_buffer(&self) -> Arc<Mutex<Filling>> {
        let (bytes, time) = (Vec::with_capacity(CAPACITY), TimeText::default());
        let buffer = Arc::new(Mutex::new(Filling { bytes, lines: 0, time }));
        lock(&self.buffers).push(buffer.clone());
        buffer
    }

    /// Adds a line to a worker's buffer, which goes into the queue when it is full.
    pub(super) fn add_line(&self, buffer: &Mutex<Filling>, line: &LogLine<'_>) {
        let now = clock::since_1970();
        let mut filling = lock(buffer);
        let Filling { bytes, lines, time } = &mut *filling;
        line.write(bytes, time.at(now));
        *lines += 1;
        if bytes.len() >= FULL {
            self.take(&mut filling, MOST_BYTES);
        } else if *lines == 1 {
            self.announce();
        }
    }

    /// Has the writer come for a buffer that has a first line in it.
    fn announce(&self) {
        let mut state = lock(&self.state);
        if state.unswept.is_none() {
            state.unswept = Some(clock::now());
            self.changed.notify_all();
        }
    }

    /// Takes the lines of a buffer into the queue, or drops them when it would have more than `most` bytes.
    fn take(&self, filling: &mut Filling, most: usize) {
        let mut state = lock(&self.state);
        if state.bytes + filling.bytes.len() > most || state.finished {
            self.dropped.inc_by(filling.lines);
            filling.bytes.clear();
            filling.lines = 0;
            return;
        }
        let spare = state.spare.pop().unwrap_or_else(|| Vec::with_capacity(CAPACITY));
        let chunk =
            Chunk { bytes: std::mem::replace(&mut filling.bytes, spare), lines: std::mem::take(&mut filling.lines) };
        state.bytes += chunk.bytes.len();
        state.lines += chunk.lines;
        state.chunks.push_back(chunk);
        self.changed.notify_all();
    }

    /// Takes the lines of all buffers into the queue. There is always room for them: the writer takes them when it has
    /// nothing else to do, or for the last time.
    fn sweep(&self) {
        lock(&self.state).unswept = None;
        for buffer in lock(&self.buffers).iter() {
            let mut filling = lock(buffer);
            if filling.lines > 0 {
                self.take(&mut filling, usize::MAX);
            }
        }
    }

    /// Waits for lines, and returns the next; `None` once the log is to end and there are no more. For the writer.
    pub(super) fn next(&self) -> Option<Chunk> {
        let mut state = lock(&self.state);
        loop {
            let due = state.unswept.map(|since| (since + GATHER).saturating_duration_since(clock::now()));
            let wait = if state.finishing { due.map(|_| Duration::ZERO) } else { due };
            if wait == Some(Duration::ZERO) {
                drop(state);
                self.sweep();
                state = lock(&self.state);
                continue;
            }
            if let Some(chunk) = state.chunks.pop_front() {
                return Some(chunk);
            }
            if state.finishing {
                return None;
            }
            state = match wait {
                Some(wait) => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Takes a chunk back that is written.
    pub(super) fn written(&self, mut chunk: Chunk) {
        let mut state = lock(&self.state);
        state.bytes = state.bytes.saturating_sub(chunk.bytes.len());
        state.lines = state.lines.saturating_sub(chunk.lines);
        if state.spare.len() < MOST_SPARE && chunk.bytes.capacity() <= 2 * CAPACITY {
            chunk.bytes.clear();
            state.spare.push(chunk.bytes);
        }
    }

    /// Waits before another try to write; false when there is none, since the log is to end.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, pause, |state| !state.finishing);
        !waited.unwrap_or_else(PoisonError::into_inner).0.finishing
    }

    /// Marks the writer as ended.
    pub(super) fn finished(&self) {
        lock(&self.state).finished = true;
        self.changed.notify_all();
    }

    /// Has the writer write all there is and end, and waits for it, for `within` at most. Returns how many lines are
    /// lost, which are counted as dropped.
    pub(super) fn finish(&self, within: Duration) -> u64 {
        self.sweep();
        let mut state = lock(&self.state);
        state.finishing = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, within, |state| !state.finished);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let lost = state.lines;
        drop(state);
        self.dropped.inc_by(lost);
        lost
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the first line in a buffer waits for others, at most: long enough for one write to carry what a busy node
/// logs meanwhile, and short enough for whoever watches the log.
pub(super) const GATHER: Duration = Duration::from_millis(50);
/// A buffer of so many bytes goes to the writer: half of what a pipe holds on Linux.
const FULL: usize = 32 * 1024;
/// Room for the line that makes it full; lines are a tenth of that, but for very long paths.
const CAPACITY: usize = FULL + 4096;
/// Bytes in the queue, past which lines are dropped: some 8,000 lines, as long as a reader may pause on a busy node.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Buffers kept to be filled again: more are in use only while the reader is behind.
const MOST_SPARE: usize = 16;
