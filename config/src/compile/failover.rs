//! `[failover]`: when the fleet gives up on an endpoint or a region, and how it comes back.

use policy::failover::Failover;

use crate::field::{Field, Section};

/// Returns the settings, each with its default.
pub(super) fn failover(root: &Section<'_>) -> Failover {
    let mut failover = Failover::default();
    let Some(section) = root.field("failover").and_then(|field| field.section(KEYS)) else { return failover };
    let value = |key| section.field(key);
    let share = |key| value(key).and_then(|field| field.number(0.0..=1.0));
    failover.threshold = share("threshold").unwrap_or(failover.threshold);
    failover.error_rate = share("error_rate").unwrap_or(failover.error_rate);
    failover.latency_p99 = value("latency_p99").and_then(|field| field.duration()).unwrap_or(failover.latency_p99);
    let pause = |key| value(key).and_then(|field| field.duration_or_zero());
    failover.failback_delay = pause("failback_delay").unwrap_or(failover.failback_delay);
    failover.ramp = value("ramp").and_then(|field| ramp(&field)).unwrap_or(failover.ramp);
    failover.ramp_step = pause("ramp_step").unwrap_or(failover.ramp_step);
    failover.drain_timeout = pause("drain_timeout").unwrap_or(failover.drain_timeout);
    if let Some(section) = value("outlier").and_then(|field| field.section(OUTLIER_KEYS)) {
        let outlier = &mut failover.outlier;
        let duration = |key| section.field(key).and_then(|field| field.duration());
        let errors = section.field("consecutive_errors").and_then(|field| field.integer(1..=1_000_000));
        outlier.consecutive_errors = errors.unwrap_or(outlier.consecutive_errors);
        outlier.interval = duration("interval").unwrap_or(outlier.interval);
        outlier.base_ejection = duration("base_ejection").unwrap_or(outlier.base_ejection);
        let most = section.field("max_ejected").and_then(|field| field.number(0.0..=1.0));
        outlier.max_ejected = most.unwrap_or(outlier.max_ejected);
    }
    if let Some(section) = value("retry_budget").and_then(|field| field.section(&["ratio", "per_second"])) {
        let budget = &mut failover.retry_budget;
        budget.ratio = section.field("ratio").and_then(|field| field.number(0.0..=1.0)).unwrap_or(budget.ratio);
        let per_second = section.field("per_second").and_then(|field| field.number(0.0..=1e6));
        budget.per_second = per_second.unwrap_or(budget.per_second);
    }
    failover
}

/// Reads the steps in percent, ascending, up to 100.
fn ramp(field: &Field<'_>) -> Option<Vec<u8>> {
    let steps: Vec<u8> = field.list()?.iter().filter_map(|step| step.integer(1..=100)).collect();
    if !steps.is_sorted_by(|a, b| a < b) || steps.last() != Some(&100) {
        field.error("the steps must ascend and end in 100, as in [10, 50, 100]".to_owned());
    }
    Some(steps)
}

const KEYS: &[&str] = &[
    "threshold",
    "error_rate",
    "latency_p99",
    "failback_delay",
    "ramp",
    "ramp_step",
    "outlier",
    "retry_budget",
    "drain_timeout",
];

const OUTLIER_KEYS: &[&str] = &["consecutive_errors", "interval", "base_ejection", "max_ejected"];
