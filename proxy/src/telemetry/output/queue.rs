//! The lines between those who have them and the writer: buffers that fill, each of one worker, and the queue of those
//! that are full or due, and of lines that are due at once.
//!
//! A buffer's lock is taken before the queue's, never after it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::health::{Condition, OutputHealth};
use crate::clock;
use crate::telemetry::time_text::TimeText;

/// Everything on its way to the writer. One for each output, for as long as the process lives.
pub(crate) struct Queue {
    /// Bytes in the queue, past which lines are lost.
    most: usize,
    /// Each worker's.
    buffers: Mutex<Vec<Arc<Mutex<Filling>>>>,
    state: Mutex<State>,
    /// Wakes the writer, and whoever waits for its end.
    changed: Condvar,
    lost: AtomicU64,
}

/// The lines that a worker has written and the queue does not have yet. It lives as long as its worker.
pub(crate) struct Filling {
    bytes: Vec<u8>,
    lines: u64,
    time: TimeText,
}

/// What the writer is to do next.
pub(super) enum Work {
    /// Write these lines.
    Write(Chunk),
    /// Open the file anew, if it is one.
    Reopen,
}

/// Whole lines, on their way to the writer's thread.
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    lines: u64,
}

struct State {
    chunks: VecDeque<Chunk>,
    /// Bytes and lines of chunks that are queued or being written.
    bytes: usize,
    lines: u64,
    /// Buffers to be filled again.
    spare: Vec<Vec<u8>>,
    /// Since when a worker's buffer has had a line in it.
    unswept: Option<Instant>,
    condition: Condition,
    /// The file is to be opened anew.
    reopen: bool,
    /// The output is to end.
    finishing: bool,
    /// The writer has ended.
    finished: bool,
}

impl Queue {
    /// Makes a queue of `most` bytes.
    pub(crate) fn new(most: usize) -> Self {
        let state = State {
            chunks: VecDeque::new(),
            bytes: 0,
            lines: 0,
            spare: Vec::new(),
            unswept: None,
            condition: Condition::new(),
            reopen: false,
            finishing: false,
            finished: false,
        };
        let (state, lost) = (Mutex::new(state), AtomicU64::new(0));
        Self { most, buffers: Mutex::default(), state, changed: Condvar::new(), lost }
    }

    /// Adds a worker's buffer.
    pub(crate) fn add_buffer(&self) -> Arc<Mutex<Filling>> {
        let (bytes, time) = (Vec::with_capacity(CAPACITY), TimeText::default());
        let buffer = Arc::new(Mutex::new(Filling { bytes, lines: 0, time }));
        lock(&self.buffers).push(buffer.clone());
        buffer
    }

    /// Adds a line to a worker's buffer, which goes into the queue when it is full. `write` gets the text of now.
    #[inline]
    pub(crate) fn add_line(&self, buffer: &Mutex<Filling>, write: impl FnOnce(&mut Vec<u8>, &[u8])) {
        let now = clock::since_1970();
        let mut filling = lock(buffer);
        let Filling { bytes, lines, time } = &mut *filling;
        write(bytes, time.at(now));
        *lines += 1;
        if bytes.len() >= FULL {
            self.take(&mut filling, self.most);
        } else if *lines == 1 {
            self.announce();
        }
    }

    /// Puts a line into the queue that is due at once.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = lock(&self.state);
        if state.bytes + line.len() > self.most || state.finished {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += line.len();
        state.lines += 1;
        match state.chunks.back_mut() {
            // What waits goes out together.
            Some(last) if last.bytes.len() + line.len() <= FULL => {
                last.bytes.extend_from_slice(line);
                last.lines += 1;
            }
            _ => state.chunks.push_back(Chunk { bytes: line.to_vec(), lines: 1 }),
        }
        self.changed.notify_all();
    }

    /// Returns how many lines were lost since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns how the output is.
    pub(crate) fn health(&self) -> OutputHealth {
        lock(&self.state).condition.health(self.lost())
    }

    /// Has the file opened anew, if it is one.
    pub(crate) fn reopen(&self) {
        lock(&self.state).reopen = true;
        self.changed.notify_all();
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
            self.lost.fetch_add(filling.lines, Ordering::Relaxed);
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

    /// Waits for something to do, and returns it; `None` once the output is to end and nothing is left. For the writer.
    pub(super) fn next(&self) -> Option<Work> {
        let mut state = lock(&self.state);
        loop {
            if std::mem::take(&mut state.reopen) {
                return Some(Work::Reopen);
            }
            let due = state.unswept.map(|since| (since + GATHER).saturating_duration_since(clock::now()));
            let wait = if state.finishing { due.map(|_| Duration::ZERO) } else { due };
            if wait == Some(Duration::ZERO) {
                drop(state);
                self.sweep();
                state = lock(&self.state);
                continue;
            }
            if let Some(chunk) = state.chunks.pop_front() {
                state.condition.begins();
                return Some(Work::Write(chunk));
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
        if state.spare.len() < MOST_SPARE && (CAPACITY..=2 * CAPACITY).contains(&chunk.bytes.capacity()) {
            chunk.bytes.clear();
            state.spare.push(chunk.bytes);
        }
    }

    /// Notes that bytes were taken.
    pub(super) fn was_taken(&self) {
        lock(&self.state).condition.was_taken();
    }

    /// Notes that a write has failed.
    pub(super) fn failed(&self, error: &io::Error) {
        lock(&self.state).condition.failed(error.to_string());
    }

    /// Returns whether the file is to be opened anew, once.
    pub(super) fn is_to_reopen(&self) -> bool {
        std::mem::take(&mut lock(&self.state).reopen)
    }

    /// Waits before another try to write; false when there is none, since the output is to end.
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
    /// lost, which are counted.
    pub(crate) fn finish(&self, within: Duration) -> u64 {
        self.sweep();
        let mut state = lock(&self.state);
        state.finishing = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, within, |state| !state.finished);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let lost = state.lines;
        drop(state);
        self.lost.fetch_add(lost, Ordering::Relaxed);
        lost
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the first line in a buffer waits for others, at most: long enough for one write to carry what a busy node
/// logs meanwhile, and short enough for whoever watches the log.
const GATHER: Duration = Duration::from_millis(50);
/// A buffer of so many bytes goes to the writer: half of what a pipe holds on Linux.
const FULL: usize = 32 * 1024;
/// Room for the line that makes it full; lines are a tenth of that, but for very long paths.
const CAPACITY: usize = FULL + 4096;
/// Buffers kept to be filled again: more are in use only while the reader is behind.
const MOST_SPARE: usize = 16;
