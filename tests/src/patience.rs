//! Waiting for something to happen, and not for ever.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Waits for a future that must resolve soon.
///
/// # Panics
/// When it does not.
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(PATIENCE, what, future).await
}

/// Waits for a future that must resolve within this time.
///
/// # Panics
/// When it does not.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// Asks again and again until the answer is `Ok`, where nothing signals that it has become so. An `Err` says what is
/// there instead.
///
/// # Panics
/// When it stays `Err` for too long.
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    eventually_within(PATIENCE, what, probe).await
}

/// The same for what takes so long by itself.
///
/// # Panics
/// When it stays `Err` for longer.
pub async fn eventually_within<T>(limit: Duration, what: &str, mut probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match patiently(what, probe()).await {
            Ok(value) => return value,
            Err(instead) => {
                assert!(Instant::now() < deadline, "not within {limit:?}: {what}; instead: {instead}");
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Long enough for a machine that is busy with the rest of the suite.
const PATIENCE: Duration = Duration::from_secs(20);

const INTERVAL: Duration = Duration::from_millis(15);
