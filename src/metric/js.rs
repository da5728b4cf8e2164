//! The Jensen-Shannon distance and divergence.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::divergence::{self, EPSILON, js_term};
use super::noise::{self, NoiseLevel, NoiseMetric};
use super::table::{MetricColumn, MetricInput, MetricSpec, NullDistribution, Reading, Rule, Subject, Test, threshold};

/// Jensen-Shannon, over the reference PSI bins or over the categories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JensenShannon {
    /// Square root of the divergence.
    pub distance: f64,
    /// In nats.
    pub divergence: f64,
    /// The divergence against its own noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseLevel>,
}

/// What the noise of the divergence follows from.
pub const NOISE: NoiseMetric = NoiseMetric { term: |e, a| js_term(e, a) / 2.0, chi_square_share: 0.125 };

/// The metric. Its test is that of its noise; over the bins of numbers that test is the one of the population stability
/// index.
pub(crate) static SPEC: MetricSpec = MetricSpec {
    kinds: &Kind::ALL,
    requires: &[],
    columns: &[
        MetricColumn { name: "js_distance", read: |metrics| Some(metrics.js.as_ref()?.distance) },
        MetricColumn { name: "js_divergence", read: |metrics| Some(metrics.js.as_ref()?.divergence) },
        MetricColumn { name: "js_p", read: |metrics| Some(metrics.js.as_ref()?.noise?.p_value) },
    ],
    test: Some(Test {
        judges: Subject::Categories,
        read: |metrics| metrics.js.as_ref()?.noise.map(|noise| noise.test()),
        q_value: |metrics| Some(&mut metrics.js.as_mut()?.noise.as_mut()?.q_value),
    }),
    rule: Some(Rule {
        figure: "js_distance",
        judges: Subject::Categories,
        no_change: NullDistribution::OfCounts(|a, b| divergence::jensen_shannon(a, b, EPSILON).max(0.0).sqrt()),
        largest: 1.0,
        off_at_zero: false,
        threshold: threshold!(js),
        largest_p: None,
        read: |metrics| {
            let js = metrics.js.as_ref()?;
            Some(Reading { value: js.distance, noise: js.noise.map(NoiseLevel::of_root), text: None })
        },
    }),
};

/// Computes it.
pub(super) fn of(input: &MetricInput<'_>) -> Option<JensenShannon> {
    let [a, b] = input.values.as_ref()?.counts;
    let divergence = divergence::jensen_shannon(a, b, EPSILON);
    let noise = noise::floor(NOISE, divergence, a, b, EPSILON);
    Some(JensenShannon { distance: divergence.sqrt(), divergence, noise })
}
