//! The streams of one HTTP/2 connection, each with the task that answers it: one whose client takes nothing ends alone.
//!
//! hyper asks no body for more while its stream's window is closed, so that the body cannot end itself; what ends with
//! the task is the stream (RST_STREAM, CANCEL).

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::client_connection::StreamProgress;
use crate::ingress::client_tunnel::WriterTask;

/// The streams of one connection, as its task, theirs and the watchdog share them; all are on the worker's thread, so that
/// the lock is always free.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The stream whose request has come and whose task hyper is about to start.
    begun: Option<Arc<StreamProgress>>,
    /// Where the task goes that hyper is about to start for the tunnel of a stream.
    tunnelled: Option<WriterTask>,
    /// As many as the connection may have.
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    progress: Arc<StreamProgress>,
    task: AbortHandle,
}

impl Streams {
    /// Begins a stream, whose task is the next that starts.
    pub(crate) fn begin(&self) -> Arc<StreamProgress> {
        let progress = Arc::<StreamProgress>::default();
        self.lock().begun = Some(progress.clone());
        progress
    }

    /// Makes a tunnel of a stream, for which the next task that starts writes.
    pub(super) fn tunnel(&self, writer: WriterTask) {
        self.lock().tunnelled = Some(writer);
    }

    /// Ends the streams whose answers the client has not taken for so long.
    pub(crate) fn end_stalled(&self, longest: Duration) {
        for stream in &self.lock().running {
            if stream.progress.stalled().is_some_and(|lasted| lasted > longest) {
                stream.task.abort();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that is among those of its connection until this is dropped.
struct Listed {
    streams: Streams,
    progress: Arc<StreamProgress>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut state = self.streams.lock();
        let place = state.running.iter().position(|stream| Arc::ptr_eq(&stream.progress, &self.progress));
        // Dropped after the lock is given back: it may be the last that holds the task's memory.
        let ended = place.map(|place| state.running.swap_remove(place));
        drop(state);
        drop(ended);
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let (begun, tunnelled) = {
            let mut state = self.lock();
            (state.begun.take(), state.tunnelled.take())
        };
        let Some(progress) = begun else {
            let task = tokio::spawn(future);
            if let Some(writer) = tunnelled {
                drop(writer.set(task.abort_handle()));
            }
            return;
        };
        let listed = Listed { streams: self.clone(), progress: progress.clone() };
        let task = tokio::spawn(async move {
            let _listed = listed;
            future.await;
        });
        self.lock().running.push(Running { progress, task: task.abort_handle() });
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor;

    use super::*;

    #[tokio::test]
    async fn a_stream_is_listed_until_its_task_ends() {
        let streams = Streams::default();
        drop(streams.begin());
        streams.execute(async {});
        drop(streams.begin());
        streams.execute(std::future::pending());
        // One that belongs to no stream.
        streams.execute(async {});
        assert_eq!(streams.lock().running.len(), 2);
        tokio::task::yield_now().await;
        assert_eq!(streams.lock().running.len(), 1);
        streams.end_stalled(Duration::ZERO);
        tokio::task::yield_now().await;
        assert_eq!(streams.lock().running.len(), 1, "nothing is there to take");
        streams.lock().running[0].task.abort();
        tokio::task::yield_now().await;
        assert!(streams.lock().running.is_empty());
    }
}
