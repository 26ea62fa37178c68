//! Looking at a connection's first bytes without taking them.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// Looks until `judge` has seen enough to give a result, the peer has closed, or the buffer is full;
/// in the last two cases `None`.
///
/// # Errors
/// When the socket fails.
pub(crate) async fn peek_until<T>(
    stream: &TcpStream,
    buffer: &mut [u8],
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut before = 0;
    let mut step = FIRST_STEP;
    loop {
        stream.readable().await?;
        let seen = stream.peek(buffer).await?;
        if let Some(result) = judge(buffer.get(..seen).unwrap_or_default()) {
            return Ok(Some(result));
        }
        if seen == 0 || seen == buffer.len() {
            return Ok(None);
        }
        if seen == before {
            // The socket stays readable for what is already here: wait for more by the clock.
            tokio::time::sleep(step).await;
            step = (step * 2).min(LONGEST_STEP);
        }
        before = seen;
    }
}

const FIRST_STEP: Duration = Duration::from_millis(5);
const LONGEST_STEP: Duration = Duration::from_millis(200);
