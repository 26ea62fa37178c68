//! `retry = …` of a route: what may be tried again.

use policy::route::Retry;

use crate::field::Field;

/// The retries of a route, or the default ones.
pub(super) fn retry(field: Option<&Field<'_>>) -> Retry {
    let mut retry =
        Retry { attempts: 3, statuses: vec![502, 503, 504], body_bytes: 65_536, per_try_timeout: None, hedge: false };
    let Some(section) = field.and_then(|field| field.section(KEYS)) else { return retry };
    let value = |key| section.field(key);
    retry.attempts = value("attempts").and_then(|field| field.integer(1..=10)).unwrap_or(retry.attempts);
    if let Some(list) = value("statuses").and_then(|field| field.list()) {
        retry.statuses = list.iter().filter_map(|status| status.integer(500..=599)).collect();
        retry.statuses.sort_unstable();
        retry.statuses.dedup();
    }
    retry.body_bytes = value("body_bytes").and_then(|field| field.integer(0..=MAX_BODY)).unwrap_or(retry.body_bytes);
    retry.per_try_timeout = value("per_try_timeout").and_then(|field| field.duration());
    retry.hedge = value("hedge").and_then(|field| field.boolean()).unwrap_or(retry.hedge);
    retry
}

const KEYS: &[&str] = &["attempts", "statuses", "body_bytes", "per_try_timeout", "hedge"];

/// The most of a request's body that is kept for another attempt, in bytes.
const MAX_BODY: usize = 16 * 1024 * 1024;
