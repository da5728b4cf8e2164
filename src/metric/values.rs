//! The figures of one feature, as reports have them: plain data, with names that scripts rely on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::contingency::ChiSquare;
use super::convention::{Convention, Figure};
use super::ks::Method;
use super::noise::NoiseLevel;
use super::{Band, Kind};

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

/// Two-sample Kolmogorov-Smirnov test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KolmogorovSmirnov {
    /// The statistic D; its proven lower end where it is not exact.
    pub statistic: f64,
    /// Its p-value (at the lower end, so it is the largest it can be).
    pub p_value: f64,
    /// The asymptotic p-value, whatever the size.
    pub p_value_asymptotic: f64,
    /// How `p_value` was found.
    pub method: Method,
    /// Whether D is exact.
    pub exact: bool,
    /// The proven upper end of D, where it is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
    /// False discovery rate at which this test would be called, over all tests of the sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
}

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

/// A single figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// The figure.
    pub value: f64,
}

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

/// One quantile on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantileShift {
    /// Percent.
    pub percent: f64,
    /// In the baseline.
    pub baseline: f64,
    /// In the current snapshot.
    pub current: f64,
}

/// What another tool would say, by its own definitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConventionFigures {
    /// The tool.
    pub name: Convention,
    /// Its figures, by name.
    #[serde(flatten)]
    pub figures: BTreeMap<Figure, f64>,
    /// The figure that decides.
    pub decides: Figure,
    /// From where on the feature has drifted; absent where the tool has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The tool's bins; absent where values or categories were counted one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bins: Option<usize>,
}

/// All figures of one feature; what was not asked for, or does not apply, is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Population stability index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
    /// Jensen-Shannon distance and divergence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub js: Option<JensenShannon>,
    /// Kolmogorov-Smirnov test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ks: Option<KolmogorovSmirnov>,
    /// Wasserstein-1 distance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wasserstein: Option<Wasserstein>,
    /// Chi-square test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chi_square: Option<ChiSquareReport>,
    /// Hellinger distance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hellinger: Option<Value>,
    /// Total variation distance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_variation: Option<Value>,
    /// Largest difference of two shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l_infinity: Option<Value>,
    /// Kullback-Leibler divergence of the current side from the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<Value>,
    /// Missing rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// Mean and standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moments: Option<MomentShift>,
    /// Quantiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantiles: Option<Vec<QuantileShift>>,
    /// The figures of another tool's convention, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convention: Option<ConventionFigures>,
}

/// The p-value of a test, and the place of its q-value.
pub type Test<'a> = (f64, &'a mut Option<f64>);

impl Metrics {
    /// The noise of the figure that is tested for features of a kind: the population stability index of numbers, the
    /// Jensen-Shannon divergence of categories. Over the same bins the two are one test.
    fn noise(&self, kind: Kind) -> Option<&NoiseLevel> {
        match kind {
            Kind::Numeric => self.psi.as_ref()?.noise.as_ref(),
            Kind::Categorical => self.js.as_ref()?.noise.as_ref(),
        }
    }

    /// The q-values of the tests of a feature's values, where the sweep has tested them. That of its missing rows is not
    /// among them.
    pub fn q_values(&self, kind: Kind) -> impl Iterator<Item = f64> + use<> {
        let noise = self.noise(kind).and_then(|noise| noise.q_value);
        let ks = self.ks.as_ref().and_then(|ks| ks.q_value);
        [noise, ks, self.chi_square.as_ref().and_then(|test| test.q_value)].into_iter().flatten()
    }

    /// The p-value of each test of a feature, with the place of its q-value: those of its values, and that of its missing
    /// rows.
    pub fn tests(&mut self, kind: Kind) -> ([Option<Test<'_>>; 3], impl Iterator<Item = Test<'_>>) {
        let noise = match kind {
            Kind::Numeric => self.psi.as_mut().and_then(|psi| psi.noise.as_mut()),
            Kind::Categorical => self.js.as_mut().and_then(|js| js.noise.as_mut()),
        };
        let noise = noise.map(|noise| (noise.p_value, &mut noise.q_value));
        let ks = self.ks.as_mut().map(|ks| (ks.p_value, &mut ks.q_value));
        let chi_square = self.chi_square.as_mut().map(|found| (found.test.p_value, &mut found.q_value));
        let missing = self.missing.as_mut().map(|missing| (missing.p_value, &mut missing.q_value));
        ([noise, ks, chi_square], missing.into_iter())
    }
}
