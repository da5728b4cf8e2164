//! The largest difference between two shares.

use super::Value;
use super::divergence::pairs;
use super::table::{MetricColumn, MetricInput, MetricSpec};

/// The metric.
pub(crate) static SPEC: MetricSpec =
    MetricSpec::of_counts(&[MetricColumn { name: "l_infinity", read: |metrics| Some(metrics.l_infinity?.value) }]);

/// Computes it.
pub(super) fn of(input: &MetricInput<'_>) -> Option<Value> {
    input.of_counts(l_infinity)
}

/// The largest difference between two shares.
pub(crate) fn l_infinity(a: &[u64], b: &[u64]) -> f64 {
    pairs(a, b).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max)
}
