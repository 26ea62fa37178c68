//! `retry = …` of a route: what may be tried again.

use std::time::Duration;

use policy::route::Retry;

use crate::field::Field;

/// Reads the retries of a route, or returns the defaults. `timeout` is the route's, `None` after an error in it.
pub(super) fn retry(field: Option<&Field<'_>>, timeout: Option<Duration>) -> Retry {
    let mut retry = Retry {
        attempts: 3,
        statuses: vec![502, 503, 504],
        // DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE.
        grpc_statuses: vec![4, 8, 13, 14],
        body_bytes: 65_536,
        per_try_timeout: None,
        hedge: false,
    };
    let Some(section) = field.and_then(|field| field.section(KEYS)) else { return retry };
    let value = |key| section.field(key);
    retry.attempts = value("attempts").and_then(|field| field.integer(1..=10)).unwrap_or(retry.attempts);
    if let Some(list) = value("statuses").and_then(|field| field.list()) {
        retry.statuses = list.iter().filter_map(|status| status.integer(500..=599)).collect();
        retry.statuses.sort_unstable();
        retry.statuses.dedup();
    }
    if let Some(list) = value("grpc_statuses").and_then(|field| field.list()) {
        retry.grpc_statuses = list.iter().filter_map(|status| status.integer(1..=16)).collect();
        retry.grpc_statuses.sort_unstable();
        retry.grpc_statuses.dedup();
    }
    retry.body_bytes = value("body_bytes").and_then(|field| field.integer(0..=MAX_BODY)).unwrap_or(retry.body_bytes);
    retry.per_try_timeout = value("per_try_timeout").and_then(|field| field.duration());
    retry.hedge = value("hedge").and_then(|field| field.boolean()).unwrap_or(retry.hedge);
    if let Some(field) = value("hedge").filter(|_| retry.hedge && retry.attempts == 1) {
        field.warning("no effect: a hedge is a second attempt; give attempts = 2 or more, or leave it out".to_owned());
    }
    if let (Some(field), Some(limit), Some(timeout)) = (value("per_try_timeout"), retry.per_try_timeout, timeout)
        && limit >= timeout
    {
        let timeout = humantime::format_duration(timeout);
        field.warning(format!("no effect: the route's timeout of {timeout} comes first; shorten it, or leave it out"));
    }
    retry
}

const KEYS: &[&str] = &["attempts", "statuses", "grpc_statuses", "body_bytes", "per_try_timeout", "hedge"];

/// The most of a request's body that is kept for another attempt, in bytes.
const MAX_BODY: usize = 16 * 1024 * 1024;
