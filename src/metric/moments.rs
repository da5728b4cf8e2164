//! Shifts of mean and standard deviation.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::table::{MetricColumn, MetricInput, MetricSpec, Requirement};

/// Shifts of the first two moments.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MomentShift {
    /// Current mean less baseline mean.
    pub mean_shift: f64,
    /// The same in baseline standard deviations; absent where that is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standardised: Option<f64>,
    /// Current over baseline standard deviation; absent where the latter is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std_ratio: Option<f64>,
}

/// The metric.
pub(crate) static SPEC: MetricSpec = MetricSpec {
    kinds: &[Kind::Numeric],
    requires: &[Requirement::Moments],
    ..MetricSpec::of_counts(&[MetricColumn {
        name: "mean_shift",
        read: |metrics| Some(metrics.moments.as_ref()?.mean_shift),
    }])
};

/// Computes it; `None` where a side has no finite value.
pub(super) fn of(input: &MetricInput<'_>) -> Option<MomentShift> {
    input.values.as_ref()?;
    let [a, b] = input.tallies.map(|tally| tally.moments.filter(|moments| moments.n > 0));
    let (a, b) = (a?, b?);
    let mean_shift = b.mean - a.mean;
    Some(MomentShift {
        mean_shift,
        standardised: input.standardised(mean_shift),
        std_ratio: input.standardised(b.std()),
    })
}
