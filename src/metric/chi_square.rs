//! The chi-square test of categories.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::contingency::{self, ChiSquare};
use super::fdr::TestResult;
use super::table::{MetricColumn, MetricInput, MetricSpec, Subject, Test};

/// Chi-square test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChiSquareReport {
    /// The test.
    #[serde(flatten)]
    pub test: ChiSquare,
    /// False discovery rate at which this test would be called, over all tests of the sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
}

/// The metric.
pub(crate) static SPEC: MetricSpec = MetricSpec {
    kinds: &[Kind::Categorical],
    requires: &[],
    columns: &[
        MetricColumn { name: "chi_square", read: |metrics| Some(metrics.chi_square.as_ref()?.test.statistic) },
        MetricColumn { name: "chi_square_p", read: |metrics| Some(metrics.chi_square.as_ref()?.test.p_value) },
        MetricColumn { name: "chi_square_q", read: |metrics| metrics.chi_square.as_ref()?.q_value },
    ],
    test: Some(Test {
        judges: Subject::Categories,
        read: |metrics| {
            metrics.chi_square.as_ref().map(|found| TestResult { p_value: found.test.p_value, q_value: found.q_value })
        },
        q_value: |metrics| Some(&mut metrics.chi_square.as_mut()?.q_value),
    }),
    rule: None,
};

/// Computes it.
pub(super) fn of(input: &MetricInput<'_>) -> Option<ChiSquareReport> {
    let [a, b] = input.values.as_ref()?.counts;
    Some(ChiSquareReport { test: contingency::chi_square(a, b)?, q_value: None })
}
