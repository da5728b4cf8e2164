//! Metrics: pure functions of integers. No file, no clock, no backend.
//!
//! The table below is the only list of the metrics. A metric is a line of it and a module of the same name, which holds what
//! its report looks like, how it is computed, and its [`MetricSpec`]: its columns, its test and its rule. The report, the
//! history, `--metrics`, the verdicts, the q-values and the calibration read them from here.

pub mod bins;
pub mod chi_square;
pub mod contingency;
pub mod convention;
pub mod divergence;
pub mod fdr;
pub mod hellinger;
pub mod js;
pub mod kl;
pub mod ks;
pub mod l_infinity;
pub mod missing;
pub mod moments;
pub mod noise;
pub mod performance;
pub mod psi;
pub mod quantiles;
mod table;
mod thresholds;
pub mod total_variation;
pub mod wasserstein;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use driftsweep_common::error::{Error, Result};
use thresholds::{share, thresholds, zero_or_more};

pub use fdr::TestResult;
pub use psi::Band;
pub use table::{
    MetricColumn, MetricInput, MetricSpec, NullDistribution, Numbers, Reading, Requirement, Rule, Subject, Test,
    Threshold, Value, Values,
};

table::metrics! {
    /// Population stability index, reference and tie-aware.
    Psi, psi: psi::Psi {
        /// Tie-aware population stability index of a numeric feature. By default 0.15.
        psi: f64 = 0.15, zero_or_more;
    }
    /// Jensen-Shannon distance and divergence.
    Js, js: js::JensenShannon {
        /// Jensen-Shannon distance of a categorical feature. By default 0.15.
        js: f64 = 0.15, share;
    }
    /// Two-sample Kolmogorov-Smirnov test.
    Ks, ks: ks::KolmogorovSmirnov {
        /// p-value of the Kolmogorov-Smirnov test of a numeric feature. By default 0.01.
        ks_p: f64 = 0.01, share;
        /// Kolmogorov-Smirnov distance of a numeric feature. By default 0.15; 0 switches the test off. A normal feature
        /// that is shifted until its distance is 0.15 has a population stability index of 0.15.
        ks_d: f64 = 0.15, share;
    }
    /// Wasserstein-1 distance.
    Wasserstein, wasserstein: wasserstein::Wasserstein {}
    /// Pearson's chi-square test and Cramér's V.
    ChiSquare, chi_square: chi_square::ChiSquareReport {}
    /// Hellinger distance.
    Hellinger, hellinger: Value {}
    /// Total variation distance.
    TotalVariation, total_variation: Value {}
    /// Largest difference of two shares.
    LInfinity, l_infinity: Value {}
    /// Kullback-Leibler divergence of the current side from the baseline.
    Kl, kl: Value {}
    /// Missing rates (null and NaN), their difference and its test.
    Missing, missing: missing::Missing {
        /// Difference of the missing rates. By default 0.05.
        missing: f64 = 0.05, share;
        /// p-value of the missing-rate test. By default 0.01.
        missing_p: f64 = 0.01, share;
    }
    /// Shifts of mean and standard deviation.
    Moments, moments: moments::MomentShift {}
    /// Shifts of quantiles.
    Quantiles, quantiles: Vec<quantiles::QuantileShift> {}
}

/// How a column is read.
///
/// ```
/// use driftsweep::Kind;
///
/// assert_eq!(Kind::ALL.map(Kind::name), ["numeric", "categorical"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Numbers: ordered, binned by the baseline's quantiles.
    Numeric,
    /// Categories: unordered.
    Categorical,
}

impl Kind {
    /// Both kinds.
    pub const ALL: [Kind; 2] = [Kind::Numeric, Kind::Categorical];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Numeric => "numeric",
            Kind::Categorical => "categorical",
        }
    }
}

impl Metric {
    /// The tests of what is judged, of all metrics.
    pub fn tests(judges: Subject) -> impl Iterator<Item = &'static Test> {
        Metric::ALL
            .into_iter()
            .filter_map(|metric| metric.spec().test.as_ref())
            .filter(move |test| test.judges == judges)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Metric::ALL
            .into_iter()
            .find(|metric| metric.name() == name)
            .ok_or_else(|| Error::unknown("metric", name, Metric::ALL.map(Metric::name)))
    }
}

/// A set of metrics.
///
/// ```
/// use driftsweep::{Metric, MetricSet};
///
/// let set: MetricSet = [Metric::Psi, Metric::Ks].into_iter().collect();
/// assert!(set.has(Metric::Ks) && !set.has(Metric::Kl));
/// assert!(MetricSet::all().iter().count() > 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricSet(u64);

impl MetricSet {
    /// Every metric.
    pub fn all() -> Self {
        Metric::ALL.into_iter().collect()
    }

    /// Whether a metric is in the set.
    pub fn has(self, metric: Metric) -> bool {
        self.0 & (1 << metric as u64) != 0
    }

    /// The metrics of the set, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Metric> {
        Metric::ALL.into_iter().filter(move |metric| self.has(*metric))
    }

    /// Whether a metric of the set needs this of numeric columns.
    pub fn requires(self, what: Requirement) -> bool {
        self.iter().any(|metric| metric.spec().requires.contains(&what))
    }
}

impl FromIterator<Metric> for MetricSet {
    fn from_iter<I: IntoIterator<Item = Metric>>(metrics: I) -> Self {
        Self(metrics.into_iter().fold(0, |set, metric| set | 1 << metric as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_has_one_name_everywhere() {
        for metric in Metric::ALL {
            let name = serde_json::json!(metric.name());
            assert_eq!(serde_json::to_value(metric).unwrap(), name);
            assert_eq!(metric.name().parse::<Metric>().unwrap(), metric);
            assert!(MetricSet::from_iter([metric]).iter().eq([metric]));
        }
    }

    #[test]
    fn a_rule_reads_a_column_of_its_metric_and_a_threshold_that_can_be_set() {
        let defaults = serde_json::to_value(Thresholds::default()).unwrap();
        for metric in Metric::ALL {
            let spec = metric.spec();
            let Some(rule) = &spec.rule else { continue };
            assert!(spec.columns.iter().any(|column| column.name == rule.figure), "{metric}: {}", rule.figure);
            assert_eq!(defaults[rule.key()].as_f64(), Some(rule.threshold(&Thresholds::default())), "{metric}");
            // A test and a rule of one metric judge the same values.
            assert!(spec.test.as_ref().is_none_or(|test| test.judges == rule.judges), "{metric}");
            // A p-value that is limited is that of a test.
            assert!(rule.largest_p.is_none() || spec.test.is_some(), "{metric}");
        }
    }
}
