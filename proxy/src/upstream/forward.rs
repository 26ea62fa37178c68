//! Forwards one request: attempts until one has an answer.

use crate::upstream::attempt;
use crate::upstream::plan::{ForwardError, ForwardPlan, OriginAnswer};
use crate::upstream::retry_state::RetryState;

/// Tries the permitted regions in order until one answers.
///
/// An attempt that never reached an origin may always be repeated; one that may have, only when the
/// request is repeatable, and within the region's retry budget. One attempt is kept in hand for every
/// permitted region not yet tried, and what is over goes to further endpoints of the same region.
///
/// # Errors
/// See [`ForwardError`].
pub(crate) async fn forward<'a>(plan: &'a ForwardPlan<'a>) -> Result<OriginAnswer, ForwardError> {
    let mut state = RetryState::new(plan);
    // An unwelcome answer is kept in case nobody has a better one.
    let mut unwanted: Option<OriginAnswer> = None;
    while let Some(mut next) = state.next() {
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
            Some(answered) if welcome => return Ok(answered),
            Some(answered) => unwanted = Some(answered),
            None => {}
        }
    }
    match unwanted {
        Some(answered) => Ok(OriginAnswer { attempts: state.attempts(), ..answered }),
        None => Err(state.failure()),
    }
}
