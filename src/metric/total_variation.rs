//! The total variation distance.

use super::Value;
use super::divergence::pairs;
use super::table::{MetricColumn, MetricInput, MetricSpec};

/// The metric.
pub(crate) static SPEC: MetricSpec = MetricSpec::of_counts(&[MetricColumn {
    name: "total_variation",
    read: |metrics| Some(metrics.total_variation?.value),
}]);

/// Computes it.
pub(super) fn of(input: &MetricInput<'_>) -> Option<Value> {
    input.of_counts(total_variation)
}

/// The total variation distance, between 0 and 1.
pub(crate) fn total_variation(a: &[u64], b: &[u64]) -> f64 {
    pairs(a, b).map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0
}
