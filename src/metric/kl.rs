//! The Kullback-Leibler divergence.

use super::Value;
use super::divergence::{EPSILON, shares};
use super::table::{MetricColumn, MetricInput, MetricSpec};

/// The metric.
pub(crate) static SPEC: MetricSpec =
    MetricSpec::of_counts(&[MetricColumn { name: "kl", read: |metrics| Some(metrics.kl?.value) }]);

/// Computes it.
pub(super) fn of(input: &MetricInput<'_>) -> Option<Value> {
    input.of_counts(kullback_leibler)
}

/// The Kullback-Leibler divergence of the current side from the baseline, in nats: `sum(b * ln(b / a))`.
pub(crate) fn kullback_leibler(a: &[u64], b: &[u64]) -> f64 {
    shares(a, EPSILON).iter().zip(shares(b, EPSILON)).map(|(&e, a)| a * (a / e).ln()).sum()
}
