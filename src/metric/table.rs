//! What an entry of the table of metrics is made of.

use serde::{Deserialize, Serialize};

use super::bins;
use super::fdr::TestResult;
use super::noise::NoiseLevel;
use super::{Kind, Metrics, Thresholds};
use crate::count::ecdf::Distance;
use crate::count::{Ecdf, Tally};

/// Makes [`Metric`](super::Metric), [`Metrics`] and the thresholds from one table. A line is the name of a metric as a
/// variant and as a module, which is its name in reports, on the command line and in fleet files; what its report looks
/// like; and its thresholds, if it has any. The module has `SPEC`, a [`MetricSpec`], and `of`, which computes the metric.
macro_rules! metrics {
    ($(
        $(#[$doc:meta])*
        $variant:ident, $module:ident: $value:ty { $($thresholds:tt)* }
    )*) => {
        /// A metric that can be requested by name.
        ///
        /// ```
        /// use driftsweep::Metric;
        ///
        /// # fn main() -> driftsweep::Result<()> {
        /// let metric: Metric = "psi".parse()?;
        /// assert_eq!(metric, Metric::Psi);
        /// # Ok(())
        /// # }
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Metric {
            $($(#[$doc])* $variant,)*
        }

        impl Metric {
            /// All metrics, in the order of the table.
            pub const ALL: [Metric; [$(stringify!($module)),*].len()] = [$(Metric::$variant),*];

            /// The name on the command line, in fleet files and in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Metric::$variant => stringify!($module),)*
                }
            }

            /// What the other modules have to know of it.
            pub fn spec(self) -> &'static MetricSpec {
                match self {
                    $(Metric::$variant => &$module::SPEC,)*
                }
            }
        }

        /// All figures of one feature; what was not asked for, or does not apply, is absent.
        ///
        /// ```
        /// use driftsweep::{BaselineSource, Comparer, CpuCounter, Snapshot};
        ///
        /// # fn main() -> driftsweep::Result<()> {
        /// let baseline = BaselineSource::open("datasets/nycflights13/weather-2013-01.parquet")?;
        /// let current = Snapshot::open("datasets/nycflights13/weather-2013-07.parquet")?;
        /// let report = Comparer::new(&baseline, &current).run(&CpuCounter)?;
        /// let temperature = report.features.iter().find(|feature| feature.name == "temp").unwrap();
        /// let ks = temperature.metrics.ks.as_ref().unwrap();
        /// assert!(ks.statistic > 0.9 && ks.p_value < 1e-9);
        /// # Ok(())
        /// # }
        /// ```
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct Metrics {
            $(
                $(#[$doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $module: Option<$value>,
            )*
            /// The figures of another tool's convention, if requested.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub convention: Option<convention::ConventionFigures>,
        }

        impl Metrics {
            /// Computes the wanted metrics of a feature.
            pub fn of(input: &MetricInput<'_>, wanted: MetricSet) -> Self {
                let applies = |metric: Metric| wanted.has(metric) && input.applies(metric.spec());
                Self {
                    $($module: applies(Metric::$variant).then(|| $module::of(input)).flatten(),)*
                    convention: None,
                }
            }
        }

        thresholds! {
            $($($thresholds)*)*
            /// Values a side below which nothing is judged. By default 1000.
            min_rows: u64 = 1000;
            /// Whether a population stability index or Jensen-Shannon distance must also lie above its own 99 % noise
            /// level. By default true.
            above_noise: bool = true;
        }
    };
}
pub(super) use metrics;

/// What the other modules have to know of a metric.
pub struct MetricSpec {
    /// The kinds of features that have it.
    pub kinds: &'static [Kind],
    /// What it needs of numeric columns beside the counts of bins.
    pub requires: &'static [Requirement],
    /// Its figures in CSV and Parquet reports and in the history, in order.
    pub columns: &'static [MetricColumn],
    /// Its test; absent where it has none.
    pub test: Option<Test>,
    /// Its rule; absent where it has no threshold.
    pub rule: Option<Rule>,
}

impl MetricSpec {
    /// A metric of the counts of both kinds, without a test and a rule.
    pub(super) const fn of_counts(columns: &'static [MetricColumn]) -> Self {
        Self { kinds: &Kind::ALL, requires: &[], columns, test: None, rule: None }
    }
}

/// What a metric of numbers needs beside the counts of bins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The largest distance of the two distributions.
    Distance,
    /// The area between the two distributions.
    Transport,
    /// Mean and standard deviation.
    Moments,
    /// The quantiles that are reported.
    Quantiles,
}

/// A figure of a metric as a column.
pub struct MetricColumn {
    /// Its name in CSV, Parquet and the history.
    pub name: &'static str,
    /// The figure.
    pub read: fn(&Metrics) -> Option<f64>,
}

/// The test of a metric. Its q-value is Benjamini and Hochberg's over all tests of the sweep.
pub struct Test {
    /// What it is a test of.
    pub judges: Subject,
    /// Its result.
    pub read: fn(&Metrics) -> Option<TestResult>,
    /// The place of its q-value.
    pub q_value: fn(&mut Metrics) -> Option<&mut Option<f64>>,
}

/// What a test or a rule judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The values of numeric features.
    Numbers,
    /// The values of categorical features.
    Categories,
    /// The missing rows of all features.
    MissingRows,
}

impl Subject {
    /// The values of features of a kind.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Numeric => Self::Numbers,
            Kind::Categorical => Self::Categories,
        }
    }
}

/// A figure that has a threshold: how it is read, what it is compared with, and how it varies without drift.
pub struct Rule {
    /// The figure's column.
    pub figure: &'static str,
    /// What it judges.
    pub judges: Subject,
    /// How the figure varies where nothing has changed.
    pub no_change: NullDistribution,
    /// The largest value that the figure can have.
    pub largest: f64,
    /// Whether a threshold of 0 switches the rule off: without a distance the test alone would call every difference of a
    /// large snapshot.
    pub off_at_zero: bool,
    /// What the figure must exceed.
    pub threshold: Threshold,
    /// What the p-value of the metric's test must stay below, if it has a threshold of its own.
    pub largest_p: Option<Threshold>,
    /// The figure of a feature.
    pub read: fn(&Metrics) -> Option<Reading>,
}

impl Rule {
    /// The threshold's key in the fleet file.
    pub fn key(&self) -> &'static str {
        self.threshold.key
    }

    /// What the figure must exceed.
    pub fn threshold(&self, thresholds: &Thresholds) -> f64 {
        (self.threshold.of)(thresholds)
    }
}

/// One of the thresholds.
pub struct Threshold {
    /// Its key in the fleet file.
    pub key: &'static str,
    /// Its value.
    pub of: fn(&Thresholds) -> f64,
}

/// The threshold with a key.
macro_rules! threshold {
    ($key:ident) => {
        $crate::metric::table::Threshold { key: stringify!($key), of: |thresholds| thresholds.$key }
    };
}
pub(super) use threshold;

/// How a figure is drawn anew to see how it varies where nothing has changed.
#[derive(Clone, Copy, Debug)]
pub enum NullDistribution {
    /// From the counts of both sides.
    OfCounts(fn(&[u64], &[u64]) -> f64),
    /// By the law of the Kolmogorov-Smirnov distance, which follows from the numbers of values alone.
    OfSizes,
    /// From the missing rows of both sides.
    OfMissing,
}

/// A figure as its rule reads it.
pub struct Reading {
    /// The figure.
    pub value: f64,
    /// What it would be by chance, if that is known.
    pub noise: Option<NoiseLevel>,
    /// What is shown of it where it drifts; by default value and threshold.
    pub text: Option<String>,
}

/// What the metrics of one feature are computed from. The baseline comes first.
pub struct MetricInput<'a> {
    /// Rows, missing values, infinities and moments of both sides.
    pub tallies: [&'a Tally; 2],
    /// The values; absent where a side has none.
    pub values: Option<Values<'a>>,
}

/// The values of both sides of a feature.
pub struct Values<'a> {
    /// Rows in the bins whose edges are the baseline's percentiles, or in the categories.
    pub counts: [&'a [u64]; 2],
    /// Rows in the same bins, where a value that fills a bin has its own; or in the categories.
    pub tie_counts: [&'a [u64]; 2],
    /// The distributions of numbers; absent for categories.
    pub numbers: Option<Numbers<'a>>,
}

/// The distributions of both sides of a numeric feature.
pub struct Numbers<'a> {
    /// The inner edges of the bins, repeated where ties repeat them.
    pub edges: &'a [f64],
    /// The distributions.
    pub ecdfs: [&'a Ecdf; 2],
    /// Their largest distance, if it is required.
    pub distance: Option<Distance>,
}

impl Numbers<'_> {
    /// A percentile of both sides.
    pub(super) fn percentiles(&self, percent: f64) -> Option<[f64; 2]> {
        let [a, b] = self.ecdfs;
        Some([bins::percentile(a, percent)?, bins::percentile(b, percent)?])
    }
}

impl MetricInput<'_> {
    /// Whether the feature is of a kind that has the metric; a feature without values is of any kind.
    pub(super) fn applies(&self, spec: &MetricSpec) -> bool {
        self.values.as_ref().is_none_or(|values| {
            let kind = if values.numbers.is_some() { Kind::Numeric } else { Kind::Categorical };
            spec.kinds.contains(&kind)
        })
    }

    /// A figure of the counts of both sides.
    pub(super) fn of_counts(&self, figure: fn(&[u64], &[u64]) -> f64) -> Option<Value> {
        let [a, b] = self.values.as_ref()?.counts;
        Some(Value { value: figure(a, b) })
    }

    /// A figure in standard deviations of the baseline; `None` where that is zero or unknown.
    pub(super) fn standardised(&self, figure: f64) -> Option<f64> {
        let std = self.tallies[0].moments.map(|moments| moments.std());
        std.filter(|&std| std > 0.0).map(|std| figure / std)
    }
}

/// A metric that is a single figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// The figure.
    pub value: f64,
}
