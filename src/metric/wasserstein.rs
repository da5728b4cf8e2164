//! The Wasserstein-1 distance.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::table::{MetricColumn, MetricInput, MetricSpec, Requirement};
use crate::count::ecdf::EcdfPair;

/// Wasserstein-1 distance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wasserstein {
    /// In the column's unit; a lower bound where it is not exact.
    pub value: f64,
    /// Divided by the baseline's standard deviation; absent where that is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalised: Option<f64>,
    /// Whether it is exact.
    pub exact: bool,
}

/// The metric.
pub(crate) static SPEC: MetricSpec = MetricSpec {
    kinds: &[Kind::Numeric],
    requires: &[Requirement::Transport, Requirement::Moments],
    ..MetricSpec::of_counts(&[MetricColumn {
        name: "wasserstein",
        read: |metrics| Some(metrics.wasserstein.as_ref()?.value),
    }])
};

/// Computes it; `None` where a value is infinite.
pub(super) fn of(input: &MetricInput<'_>) -> Option<Wasserstein> {
    if input.tallies.iter().any(|tally| tally.neg_inf + tally.pos_inf > 0) {
        return None;
    }
    let [a, b] = input.values.as_ref()?.numbers.as_ref()?.ecdfs;
    let (value, exact) = EcdfPair::new(a, b)?.wasserstein()?;
    Some(Wasserstein { value, normalised: input.standardised(value), exact })
}
