//! The population stability index.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::divergence::{self, EPSILON, psi_term};
use super::noise::{self, NoiseLevel, NoiseMetric};
use super::table::{MetricColumn, MetricInput, MetricSpec, NullDistribution, Reading, Rule, Subject, Test, threshold};

/// Population stability index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Psi {
    /// Tie-aware: a value that fills a bin has its own. What verdicts use.
    pub value: f64,
    /// As numpy's percentiles and histogram give it.
    pub reference_value: f64,
    /// The band of `value`.
    pub band: Band,
    /// Bins of zero width, which blind the reference value to changes above them.
    pub blind_bins: usize,
    /// `value` against its own noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseLevel>,
}

/// How large a population stability index is, by the customary bands.
///
/// ```
/// assert_eq!(driftsweep::Band::of(0.2), driftsweep::Band::Moderate);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Below 0.1.
    Stable,
    /// From 0.1, below 0.25.
    Moderate,
    /// 0.25 and above.
    Major,
}

impl Band {
    /// The band of a PSI.
    pub fn of(psi: f64) -> Self {
        if psi < 0.1 {
            Band::Stable
        } else if psi < 0.25 {
            Band::Moderate
        } else {
            Band::Major
        }
    }
}

/// What the noise of the index follows from.
pub const NOISE: NoiseMetric = NoiseMetric { term: psi_term, chi_square_share: 1.0 };

/// The metric. Its test is that of its noise; over categories that test is the one of the Jensen-Shannon divergence.
pub(crate) static SPEC: MetricSpec = MetricSpec {
    kinds: &Kind::ALL,
    requires: &[],
    columns: &[
        MetricColumn { name: "psi", read: |metrics| Some(metrics.psi.as_ref()?.value) },
        MetricColumn { name: "psi_reference", read: |metrics| Some(metrics.psi.as_ref()?.reference_value) },
        MetricColumn { name: "psi_p", read: |metrics| Some(metrics.psi.as_ref()?.noise?.p_value) },
        MetricColumn { name: "psi_noise_99", read: |metrics| Some(metrics.psi.as_ref()?.noise?.level_99) },
    ],
    test: Some(Test {
        judges: Subject::Numbers,
        read: |metrics| metrics.psi.as_ref()?.noise.map(|noise| noise.test()),
        q_value: |metrics| Some(&mut metrics.psi.as_mut()?.noise.as_mut()?.q_value),
    }),
    rule: Some(Rule {
        figure: "psi",
        judges: Subject::Numbers,
        no_change: NullDistribution::OfCounts(|a, b| divergence::psi(a, b, EPSILON)),
        largest: f64::INFINITY,
        off_at_zero: false,
        threshold: threshold!(psi),
        largest_p: None,
        read: |metrics| {
            let psi = metrics.psi.as_ref()?;
            Some(Reading { value: psi.value, noise: psi.noise, text: None })
        },
    }),
};

/// Computes it.
pub(super) fn of(input: &MetricInput<'_>) -> Option<Psi> {
    let values = input.values.as_ref()?;
    let ([a, b], [tie_a, tie_b]) = (values.counts, values.tie_counts);
    let value = divergence::psi(tie_a, tie_b, EPSILON);
    let edges = values.numbers.as_ref().map_or(&[][..], |numbers| numbers.edges);
    Some(Psi {
        value,
        reference_value: divergence::psi(a, b, EPSILON),
        band: Band::of(value),
        blind_bins: edges.windows(2).filter(|pair| pair[0] == pair[1]).count(),
        noise: noise::floor(NOISE, value, tie_a, tie_b, EPSILON),
    })
}
