//! The rates of missing values, and the test that they are the same.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::contingency::two_proportions;
use super::fdr::TestResult;
use super::table::{MetricColumn, MetricInput, MetricSpec, NullDistribution, Reading, Rule, Subject, Test, threshold};

/// Missing rates (null and NaN) and the test that they are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    /// Share of missing rows in the baseline.
    pub baseline: f64,
    /// Share of missing rows in the current snapshot.
    pub current: f64,
    /// `current - baseline`.
    pub difference: f64,
    /// p-value of the two-proportion test.
    pub p_value: f64,
    /// False discovery rate at which this test would be called, over all tests of the sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
}

/// The metric.
pub(crate) static SPEC: MetricSpec = MetricSpec {
    kinds: &Kind::ALL,
    requires: &[],
    columns: &[
        MetricColumn { name: "missing_difference", read: |metrics| Some(metrics.missing.as_ref()?.difference) },
        MetricColumn { name: "missing_p", read: |metrics| Some(metrics.missing.as_ref()?.p_value) },
    ],
    test: Some(Test {
        judges: Subject::MissingRows,
        read: |metrics| {
            metrics.missing.as_ref().map(|missing| TestResult { p_value: missing.p_value, q_value: missing.q_value })
        },
        q_value: |metrics| Some(&mut metrics.missing.as_mut()?.q_value),
    }),
    rule: Some(Rule {
        figure: "missing_difference",
        judges: Subject::MissingRows,
        no_change: NullDistribution::OfMissing,
        largest: 1.0,
        off_at_zero: false,
        threshold: threshold!(missing),
        largest_p: Some(threshold!(missing_p)),
        read: |metrics| {
            let missing = metrics.missing.as_ref()?;
            let [baseline, current] = [missing.baseline, missing.current].map(|rate| 100.0 * rate);
            let text = Some(format!("missing {baseline:.1} % -> {current:.1} %"));
            Some(Reading { value: missing.difference, noise: None, text })
        },
    }),
};

/// Computes it, also where there are no values; `None` where a side has no rows.
pub(super) fn of(input: &MetricInput<'_>) -> Option<Missing> {
    let [a, b] = input.tallies;
    if a.rows == 0 || b.rows == 0 {
        return None;
    }
    let (baseline, current) = (a.missing() as f64 / a.rows as f64, b.missing() as f64 / b.rows as f64);
    Some(Missing {
        baseline,
        current,
        difference: current - baseline,
        p_value: two_proportions(b.missing(), b.rows, a.missing(), a.rows),
        q_value: None,
    })
}
