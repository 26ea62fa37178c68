//! Keeps what a node consists of running: a task or thread that ends without being asked to is logged, counted, and
//! started again; one that cannot be, or that ends again and again, ends the node in order, for whatever supervises the
//! process to start it anew.
//!
//! One for the process: the threads that it looks after are the process's too.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::FutureExt;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::watch;

use crate::clock;

/// What is known of the process's tasks. Lives as long as the process; any thread uses it.
struct Process {
    /// How often each task has ended by itself.
    ends: Mutex<BTreeMap<&'static str, u64>>,
    panics: AtomicU64,
    /// The node ends as it was asked to: what ends now is no fault.
    is_stopping: AtomicBool,
    /// Why the node must end, once it must.
    fault: watch::Sender<Option<String>>,
    /// The task that a test wants to panic, and how often still.
    rehearsal: Mutex<Option<(String, u32)>>,
}

static PROCESS: LazyLock<Process> = LazyLock::new(|| Process {
    ends: Mutex::default(),
    panics: AtomicU64::new(0),
    is_stopping: AtomicBool::new(false),
    fault: watch::Sender::new(None),
    rehearsal: Mutex::new(std::env::var(REHEARSAL).ok().as_deref().and_then(rehearsal)),
});

/// What becomes of a node whose task ends again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It ends: without the task it would serve wrongly, or blindly.
    Vital,
    /// It goes on, and the task is started again each time.
    Useful,
}

/// A service of pingora's that is started again when it ends without a shutdown.
pub(crate) struct Kept<S> {
    task: &'static str,
    service: S,
}

/// Ends the node in order unless it is released: for a thread whose state is gone with it.
pub(crate) struct Irreplaceable {
    task: &'static str,
    is_released: bool,
}

impl<S> Kept<S> {
    /// Keeps a service running under a name, which labels its metric.
    pub(crate) fn new(task: &'static str, service: S) -> Self {
        Self { task, service }
    }
}

#[async_trait]
impl<S: BackgroundService + Send + Sync> BackgroundService for Kept<S> {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let watched = shutdown.clone();
        tokio::select! {
            never = keep(self.task, Need::Vital, || self.service.start(watched.clone())) => match never {},
            _ = shutdown.changed() => {}
        }
    }
}

/// Runs what `make` makes for ever: it is made anew a second after each end.
pub(crate) async fn keep<F: Future<Output = ()>>(
    task: &'static str,
    need: Need,
    mut make: impl FnMut() -> F,
) -> Infallible {
    let mut ends = RecentEnds::default();
    loop {
        let run = AssertUnwindSafe(async {
            rehearse(task);
            make().await;
        });
        let how = if run.catch_unwind().await.is_err() { "panicked" } else { "ended" };
        if is_stopping() || !starts_again(task, need, how, &mut ends) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Starts a thread, in which `work` is called again a second after each panic. It ends when `work` returns.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn thread(task: &'static str, need: Need, mut work: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    let run = move || {
        let mut ends = RecentEnds::default();
        loop {
            let done = catch_unwind(AssertUnwindSafe(|| {
                rehearse(task);
                work();
            }));
            if done.is_ok() || !starts_again(task, need, "panicked", &mut ends) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    };
    std::thread::Builder::new().name(task.into()).spawn(run).map(drop)
}

/// Notes that a task has ended, and returns whether it is to be started again.
fn starts_again(task: &'static str, need: Need, how: &str, ends: &mut RecentEnds) -> bool {
    note_end(task);
    let is_too_often = ends.another(clock::now());
    if is_too_often && need == Need::Vital {
        fail(format!("the task {task:?} has ended {MOST_ENDS} times within a minute"));
        return false;
    }
    tracing::error!(task, "a task of the node has {how}; it is started again in a second");
    true
}

/// Counts the end of a task that nobody has asked to end.
pub(crate) fn note_end(task: &'static str) {
    *lock(&PROCESS.ends).entry(task).or_default() += 1;
}

/// Has the node end in order: what is under way has some seconds, the logs are written, and the exit code is 1.
fn fail(why: String) {
    tracing::error!("{why}: the node ends");
    PROCESS.fault.send_if_modified(|fault| {
        let is_first = fault.is_none();
        if is_first {
            *fault = Some(why);
        }
        is_first
    });
}

/// Waits until the node must end.
pub(crate) async fn node_fails() {
    // The channel cannot close: the process holds its sender.
    drop(PROCESS.fault.subscribe().wait_for(Option::is_some).await);
}

/// Returns why the node had to end, if it had to.
pub(crate) fn fault() -> Option<String> {
    PROCESS.fault.borrow().clone()
}

/// Notes that the node ends as it was asked to: tasks may end from now on.
pub(crate) fn stopping() {
    PROCESS.is_stopping.store(true, Ordering::Relaxed);
}

fn is_stopping() -> bool {
    PROCESS.is_stopping.load(Ordering::Relaxed)
}

/// Returns how often tasks have ended by themselves, by their names.
pub(crate) fn ends() -> Vec<(&'static str, u64)> {
    lock(&PROCESS.ends).iter().map(|(task, ends)| (*task, *ends)).collect()
}

/// Returns how many panics there were.
pub(crate) fn panics() -> u64 {
    PROCESS.panics.load(Ordering::Relaxed)
}

/// Has every panic counted and logged from now on, as any other fault is: the standard hook writes to stderr itself, and
/// waits for its reader.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        PROCESS.panics.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::current();
        let (thread, at) = (thread.name().unwrap_or_default(), panic.location().map(ToString::to_string));
        let payload = panic.payload();
        let why =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(thread, at, why, "a panic: please report it");
    }));
}

impl Irreplaceable {
    /// Guards a thread.
    pub(crate) fn new(task: &'static str) -> Self {
        Self { task, is_released: false }
    }

    /// Lets the thread end.
    pub(crate) fn release(mut self) {
        self.is_released = true;
    }
}

impl Drop for Irreplaceable {
    fn drop(&mut self) {
        if !self.is_released && !is_stopping() {
            note_end(self.task);
            let how = if std::thread::panicking() { "panicked" } else { "ended" };
            fail(format!("the thread {:?} has {how}", self.task));
        }
    }
}

/// The last ends of a task. Lives with it.
#[derive(Debug, Default)]
struct RecentEnds(VecDeque<Instant>);

impl RecentEnds {
    /// Adds an end, and returns whether there were too many lately.
    fn another(&mut self, now: Instant) -> bool {
        self.0.retain(|end| now.saturating_duration_since(*end) < LATELY);
        self.0.push_back(now);
        self.0.len() >= MOST_ENDS
    }
}

/// Panics where a test of the whole node wants this task to.
#[allow(clippy::panic, reason = "a rehearsal of what must not happen")]
pub(crate) fn rehearse(task: &str) {
    let is_due = {
        let mut rehearsal = lock(&PROCESS.rehearsal);
        match &mut *rehearsal {
            Some((wanted, times)) if wanted == task && *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    };
    if is_due {
        panic!("a rehearsal: {REHEARSAL} names {task}");
    }
}

/// Reads `TASK` or `TASK:TIMES`.
fn rehearsal(text: &str) -> Option<(String, u32)> {
    match text.split_once(':') {
        Some((task, times)) => Some((task.to_owned(), times.parse().ok()?)),
        None => Some((text.to_owned(), 1)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The environment variable that names a task to panic, for tests (CONTRIBUTING.md).
const REHEARSAL: &str = "MERIDIAN_TEST_PANIC";
/// From a task's end to its next start: a fault that is there at once must not spin.
const PAUSE: Duration = Duration::from_secs(1);
/// Ends within [`LATELY`] of which the last is the node's: it does not pass by itself.
const MOST_ENDS: usize = 5;
const LATELY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_end_within_a_minute_is_too_many() {
        let (mut ends, start) = (RecentEnds::default(), clock::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..4 {
            assert!(!ends.another(at(second)));
        }
        assert!(ends.another(at(59)));
        assert!(!ends.another(at(200)), "long after");
    }

    #[test]
    fn a_rehearsal_names_a_task_and_how_often() {
        assert_eq!(rehearsal("clock"), Some(("clock".to_owned(), 1)));
        assert_eq!(rehearsal("health:5"), Some(("health".to_owned(), 5)));
        assert_eq!(rehearsal("health:x"), None);
    }
}
