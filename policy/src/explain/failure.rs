//! What happens if the first region is down, and then the next, to the refusal.

use super::{Case, FailureStep, Outcome};
use crate::decide::decide_on_route;
use crate::region::RegionId;
use crate::verdict::{Refusal, Verdict};
use crate::view::WithDown;

/// Decides each step anew: it does not trust `order` for more than whom to take as down.
pub(super) fn if_down(case: &Case<'_>, order: &[RegionId]) -> Vec<FailureStep> {
    let counts = (1..=order.len()).filter(|count| *count <= FIRST_STEPS || *count == order.len());
    counts.map(|count| step(case, &order[..count])).collect()
}

fn step(case: &Case<'_>, down: &[RegionId]) -> FailureStep {
    let name = |id: &RegionId| case.table.region(*id).name.clone();
    let view = WithDown { view: &case.seen, down: down.iter().copied().collect() };
    let down = down.iter().map(name).collect();
    match decide_on_route(case.table, case.id, case.facts, &view) {
        Verdict::Forward(permits) => FailureStep {
            down,
            serves: Some(name(&permits.first())),
            verdict: Outcome::Forward,
            status: 200,
            reason: None,
            page: false,
        },
        Verdict::Refuse(Refusal { reason, page, .. }) => FailureStep {
            down,
            serves: None,
            verdict: Outcome::Refuse,
            status: reason.status(),
            reason: Some(reason),
            page: page.is_some(),
        },
    }
}

/// The steps shown of a long order, beside its last.
const FIRST_STEPS: usize = 8;
