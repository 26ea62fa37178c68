//! Adds up what several registries have gathered of the same series.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, Metric, MetricFamily, MetricType};
use rustc_hash::FxHashMap;

/// Returns each series once, with the sum of its values.
pub(super) fn summed(gathered: impl IntoIterator<Item = Vec<MetricFamily>>) -> Vec<MetricFamily> {
    let mut sums: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for family in gathered.into_iter().flatten() {
        match sums.entry(family.name().to_owned()) {
            Entry::Vacant(place) => drop(place.insert(family)),
            Entry::Occupied(mut sum) => add(sum.get_mut(), family),
        }
    }
    sums.into_values().collect()
}

fn add(sum: &mut MetricFamily, mut more: MetricFamily) {
    let kind = sum.get_field_type();
    let known = sum.mut_metric();
    let mut places: FxHashMap<String, usize> =
        known.iter().enumerate().map(|(index, metric)| (labels(metric), index)).collect();
    for metric in more.take_metric() {
        let place = places.entry(labels(&metric)).or_insert(known.len());
        match known.get_mut(*place) {
            Some(same) => add_value(kind, same, &metric),
            None => known.push(metric),
        }
    }
}

/// Returns a text that tells the labels of a metric from all others. A text has no NUL in it, or almost never.
fn labels(metric: &Metric) -> String {
    metric.get_label().iter().flat_map(|label| [label.name(), "\0", label.value(), "\0"]).collect()
}

fn add_value(kind: MetricType, sum: &mut Metric, more: &Metric) {
    match kind {
        MetricType::COUNTER => {
            let mut counter = Counter::default();
            counter.set_value(sum.get_counter().get_value() + more.get_counter().get_value());
            sum.set_counter(counter);
        }
        MetricType::GAUGE => {
            let mut gauge = Gauge::default();
            gauge.set_value(sum.get_gauge().get_value() + more.get_gauge().get_value());
            sum.set_gauge(gauge);
        }
        MetricType::HISTOGRAM => sum.set_histogram(histogram(sum.get_histogram(), more.get_histogram())),
        // There are none.
        MetricType::SUMMARY | MetricType::UNTYPED => {}
    }
}

fn histogram(one: &Histogram, other: &Histogram) -> Histogram {
    let both = |(one, other): (&Bucket, &Bucket)| {
        let mut bucket = one.clone();
        bucket.set_cumulative_count(one.cumulative_count() + other.cumulative_count());
        bucket
    };
    let mut sum = one.clone();
    sum.set_bucket(one.get_bucket().iter().zip(other.get_bucket()).map(both).collect());
    sum.set_sample_count(one.get_sample_count() + other.get_sample_count());
    sum.set_sample_sum(one.get_sample_sum() + other.get_sample_sum());
    sum
}
