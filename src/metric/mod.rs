//! Metrics: pure functions of integers. No file, no clock, no backend.

pub mod bins;
pub mod contingency;
pub mod convention;
pub mod divergence;
pub mod fdr;
pub mod ks;
pub mod noise;
pub mod performance;
pub mod values;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use driftsweep_common::error::{Error, Result};

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Numbers: ordered, binned by the baseline's quantiles.
    Numeric,
    /// Categories: unordered.
    Categorical,
}

impl Kind {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Numeric => "numeric",
            Kind::Categorical => "categorical",
        }
    }
}

/// A metric that can be requested by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Population stability index, reference and tie-aware.
    Psi,
    /// Jensen-Shannon distance and divergence.
    Js,
    /// Two-sample Kolmogorov-Smirnov test.
    Ks,
    /// Wasserstein-1 distance.
    Wasserstein,
    /// Pearson's chi-square test and Cramér's V.
    ChiSquare,
    /// Hellinger distance.
    Hellinger,
    /// Total variation distance.
    TotalVariation,
    /// Largest difference of two shares.
    LInfinity,
    /// Kullback-Leibler divergence.
    Kl,
    /// Difference of the missing rates and its test.
    Missing,
    /// Shifts of mean and standard deviation.
    Moments,
    /// Shifts of quantiles.
    Quantiles,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Metric; 12] = [
        Metric::Psi,
        Metric::Js,
        Metric::Ks,
        Metric::Wasserstein,
        Metric::ChiSquare,
        Metric::Hellinger,
        Metric::TotalVariation,
        Metric::LInfinity,
        Metric::Kl,
        Metric::Missing,
        Metric::Moments,
        Metric::Quantiles,
    ];

    /// The name on the command line, in fleet files and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Psi => "psi",
            Metric::Js => "js",
            Metric::Ks => "ks",
            Metric::Wasserstein => "wasserstein",
            Metric::ChiSquare => "chi_square",
            Metric::Hellinger => "hellinger",
            Metric::TotalVariation => "total_variation",
            Metric::LInfinity => "l_infinity",
            Metric::Kl => "kl",
            Metric::Missing => "missing",
            Metric::Moments => "moments",
            Metric::Quantiles => "quantiles",
        }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricSet(u16);

impl MetricSet {
    /// Every metric.
    pub fn all() -> Self {
        Metric::ALL.into_iter().collect()
    }

    /// Whether a metric is in the set.
    pub fn has(self, metric: Metric) -> bool {
        self.0 & (1 << metric as u16) != 0
    }
}

impl FromIterator<Metric> for MetricSet {
    fn from_iter<I: IntoIterator<Item = Metric>>(metrics: I) -> Self {
        Self(metrics.into_iter().fold(0, |set, metric| set | 1 << metric as u16))
    }
}

/// How large a population stability index is, by the customary bands.
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
