//! How many descriptors the process may have, and who gets them: clients leave some for origins, and all of them some
//! for what keeps the node going, so that it answers its probes and reads its files whatever strangers open.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use config::Limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The limit of the process, once [`raise_limit`] has found it out. Any thread reads it.
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Raises the process's limit as far as it may, and returns it: the default of most systems, 1024, is there for
/// programs of before 1998 that count on it.
pub(crate) fn raise_limit() -> u64 {
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(error) => {
                tracing::warn!(%error, soft, hard, "the limit on open files cannot be raised");
                soft
            }
        },
        Ok((soft, _)) => soft,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files is unknown");
            u64::MAX
        }
    };
    LIMIT.store(limit, Ordering::Relaxed);
    limit
}

/// Returns the most that a process started like this one may have.
pub(crate) fn hard_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard)
}

/// Returns what is wrong with this limit for a node with these limits, and what to do.
pub(crate) fn shortage(limit: u64, limits: &Limits) -> Option<String> {
    let needed = needed(limits);
    (needed > limit).then(|| {
        let (connections, tunnels, requests) = (limits.connections, limits.tunnels, limits.requests_in_flight);
        let most = most_connections_of(limit, limits);
        format!(
            "{connections} connections, {tunnels} tunnels and {requests} requests in flight take {needed} open files, and \
             this process may have {limit}: no more than {most} connections are accepted; raise the hard limit \
             (LimitNOFILE={needed} of its systemd unit, ulimit -Hn), or lower the limits"
        )
    })
}

/// Returns how many connections from clients are accepted under these limits.
pub(crate) fn most_connections(limits: &Limits) -> usize {
    most_connections_of(LIMIT.load(Ordering::Relaxed), limits)
}

fn most_connections_of(limit: u64, limits: &Limits) -> usize {
    if needed(limits) <= limit {
        return limits.connections;
    }
    // Most connections rest, and have none to an origin.
    let share = limit.saturating_sub(reserve(limit)) / 4 * 3;
    limits.connections.min(usize::try_from(share).unwrap_or(usize::MAX))
}

/// A connection is one descriptor, a tunnel two, and a request one more: its connection to an origin.
fn needed(limits: &Limits) -> u64 {
    [limits.connections, limits.tunnels, limits.tunnels, limits.requests_in_flight]
        .iter()
        .map(|count| *count as u64)
        .fold(RESERVE, u64::saturating_add)
}

fn reserve(limit: u64) -> u64 {
    RESERVE.min(limit / 4)
}

/// Returns the share in use of the descriptors that clients and origins can get.
pub(crate) fn share_in_use() -> f32 {
    let limit = LIMIT.load(Ordering::Relaxed);
    // Linux says since 6.2 how many there are; before, the lowest that is free tells nearly as much.
    let counted = std::fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    let count = match counted {
        0 => File::open("/proc/self/stat").map_or(limit, |file| u64::try_from(file.as_raw_fd()).unwrap_or(0)),
        counted => counted,
    };
    count as f32 / limit.saturating_sub(reserve(limit) / 4).max(1) as f32
}

/// Returns whether a client's connection took a descriptor that is not for clients. The system gives out the lowest that
/// is free, so that its number tells how many are in use.
pub(crate) fn is_past_clients(connection: &impl AsRawFd) -> bool {
    is_among_last(connection, |reserve| reserve / 2)
}

/// Returns a connection to an origin, unless it took a descriptor of those that keep the node going: then there are
/// none for it.
///
/// # Errors
/// The system's own for a process that has no descriptor left.
pub(crate) fn unless_past_origins<S: AsRawFd>(connection: S) -> io::Result<S> {
    if is_among_last(&connection, |reserve| reserve / 4) {
        return Err(io::Error::from_raw_os_error(EMFILE));
    }
    Ok(connection)
}

fn is_among_last(descriptor: &impl AsRawFd, of: impl Fn(u64) -> u64) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    let number = u64::try_from(descriptor.as_raw_fd()).unwrap_or(0);
    number >= limit.saturating_sub(of(reserve(limit)))
}

const EMFILE: i32 = 24;

/// Descriptors beside those of clients and origins: 160 admin connections, the bus, name servers, probes, listeners,
/// watches and the files that a reload opens.
const RESERVE: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_limit_leaves_them() {
        let limits = Limits { connections: 1000, tunnels: 100, requests_in_flight: 500, ..Limits::default() };
        assert_eq!(needed(&limits), 1000 + 200 + 500 + 512);
        for (limit, most) in [(u64::MAX, 1000), (2212, 1000), (2211, 1000), (1200, 675), (1024, 576), (100, 54), (0, 0)]
        {
            assert_eq!(most_connections_of(limit, &limits), most, "{limit}");
        }
        assert_eq!(shortage(2212, &limits), None);
        let told = shortage(1024, &limits).unwrap_or_default();
        assert!(told.contains("2212 open files") && told.contains("LimitNOFILE=2212"), "{told}");
        assert!(told.contains("no more than 576 connections"), "{told}");
    }
}
