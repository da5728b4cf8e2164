//! Quantiles of both sides.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::table::{MetricInput, MetricSpec, Requirement};
use driftsweep_common::infinite;

/// Quantiles that are reported, in percent.
pub(crate) const QUANTILES: [f64; 7] = [1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0];

/// One quantile on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantileShift {
    /// Percent.
    pub percent: f64,
    /// In the baseline. Infinite ones are `"inf"` and `"-inf"` in JSON.
    #[serde(with = "infinite")]
    pub baseline: f64,
    /// In the current snapshot.
    #[serde(with = "infinite")]
    pub current: f64,
}

/// The metric: a list, which has no column.
pub(crate) static SPEC: MetricSpec =
    MetricSpec { kinds: &[Kind::Numeric], requires: &[Requirement::Quantiles], ..MetricSpec::of_counts(&[]) };

/// Computes them; `None` where a baseline file does not hold them.
pub(super) fn of(input: &MetricInput<'_>) -> Option<Vec<QuantileShift>> {
    let numbers = input.values.as_ref()?.numbers.as_ref()?;
    let shift = |percent: f64| {
        let [baseline, current] = numbers.percentiles(percent)?;
        Some(QuantileShift { percent, baseline, current })
    };
    QUANTILES.into_iter().map(shift).collect()
}
