//! The Hellinger distance.

use super::Value;
use super::divergence::pairs;
use super::table::{MetricColumn, MetricInput, MetricSpec};

/// The metric.
pub(crate) static SPEC: MetricSpec =
    MetricSpec::of_counts(&[MetricColumn { name: "hellinger", read: |metrics| Some(metrics.hellinger?.value) }]);

/// Computes it.
pub(super) fn of(input: &MetricInput<'_>) -> Option<Value> {
    input.of_counts(hellinger)
}

/// The Hellinger distance, between 0 and 1.
pub fn hellinger(a: &[u64], b: &[u64]) -> f64 {
    let sum: f64 = pairs(a, b).map(|(p, q)| (p.sqrt() - q.sqrt()).powi(2)).sum();
    (sum / 2.0).sqrt()
}
