//! Forwards one request: attempts until one has an answer.

use std::task::{Context, Poll, Waker};

use crate::upstream::attempt;
use crate::upstream::plan::{ForwardError, ForwardPlan, OriginAnswer, Upstream};
use crate::upstream::retry_state::RetryState;

/// Tries the permitted regions in order until one answers.
///
/// An attempt that never reached an origin may always be repeated; one that may have, only when the
/// request is repeatable, and within the region's retry budget. One attempt is kept in hand for every
/// permitted region not yet tried, and what is over goes to further endpoints of the same region. Where all
/// that is left is at its limit, the request waits for a place in the best of them; and for a while in the best of all,
/// where its traffic class has less there than it is guaranteed.
///
/// # Errors
/// See [`ForwardError`].
pub(crate) async fn forward<'a>(plan: &'a ForwardPlan<'a>) -> Result<OriginAnswer, ForwardError> {
    let mut state = RetryState::new(plan);
    // An unwelcome answer is kept in case nobody has a better one.
    let mut unwanted: Option<OriginAnswer> = None;
    loop {
        let Some(mut next) = state.next() else {
            // Boxed, since it is rare, and would be part of every request.
            if Box::pin(state.wait_for_place()).await {
                continue;
            }
            break;
        };
        if state.has_failed() && plan.body.is_unread() {
            // An answer that came while its request was still being sent ends with its attempt.
            unwanted = None;
        }
        if !state.pause(&mut next).await {
            continue;
        }
        state.begin(&next.target, false);
        let result = match state.hedge_after(&next) {
            None => attempt::make(plan, next).await,
            // Boxed, since few routes hedge, and two attempts are large.
            Some(late) => Box::pin(state.hedged(next, late)).await,
        };
        if let Some(fault) = plan.body.fault() {
            return Err(ForwardError::Body(fault));
        }
        state.report(&result);
        let welcome = state.is_welcome(&result);
        match state.settle(result) {
            Some(answered) if welcome => {
                discard(unwanted, plan.upstream);
                return Ok(answered);
            }
            Some(answered) => discard(unwanted.replace(answered), plan.upstream),
            None => {}
        }
    }
    match unwanted {
        Some(answered) => Ok(OriginAnswer { attempts: state.attempts(), ..answered }),
        None => Err(state.failure()),
    }
}

/// Gives the connection of an answer that nobody gets back to the pool, if the answer is short, and all of it is here.
fn discard(unwanted: Option<OriginAnswer>, upstream: Upstream<'_>) {
    let Some(OriginAnswer { mut connection, endpoint, .. }) = unwanted else { return };
    let mut left = MOST_DISCARDED;
    while !connection.is_end_stream() {
        match connection.poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len());
                let Some(rest) = left.checked_sub(length) else { return };
                left = rest;
            }
            Poll::Ready(None) => break,
            Poll::Ready(Some(Err(_))) | Poll::Pending => return,
        }
    }
    let most = upstream.config.upstream.idle_connections;
    upstream.pool.give(endpoint.id, connection, upstream.connector.load().generation(), most);
}

/// A page that says what is wrong is shorter; to read more costs more than to connect anew.
const MOST_DISCARDED: usize = 16 * 1024;
