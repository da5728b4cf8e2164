//! What a comparison is asked for, with the defaults in one place.

use serde_json::{Value, json};

use super::MissingTexts;
use crate::count::CategoryCounts;
use crate::metric::convention::{ConventionRules, Figure};
use crate::metric::quantiles::QUANTILES;
use crate::metric::{Kind, MetricSet, Requirement, bins};
use crate::rule::{FALSE_DISCOVERY_RATE, Thresholds};
use crate::snapshot::ColumnType;

impl Kind {
    /// How columns of a type are read unless something else is requested: `None` if they are not compared.
    pub(crate) fn default_for(kind: &ColumnType) -> Option<Self> {
        match kind {
            ColumnType::Numeric(_) => Some(Kind::Numeric),
            ColumnType::Boolean | ColumnType::Text => Some(Kind::Categorical),
            _ => None,
        }
    }
}

/// Everything that shapes the figures of a comparison.
///
/// ```
/// use driftsweep::{BaselineSource, Comparer, CpuCounter, Metric, Options, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// let mut options = Options::new();
/// options.metrics = [Metric::Psi, Metric::Ks].into_iter().collect();
/// options.thresholds.psi = 0.1;
/// let baseline = BaselineSource::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// let current = Snapshot::open("datasets/nycflights13/weather-2013-02.parquet")?;
/// let report = Comparer::new(&baseline, &current).options(&options).run(&CpuCounter)?;
/// let wind = report.features.iter().find(|feature| feature.name == "wind_speed").unwrap();
/// assert!(wind.metrics.psi.is_some() && wind.metrics.wasserstein.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Which metrics.
    pub metrics: MetricSet,
    /// Bins of the population stability index.
    pub bins: usize,
    /// Distinct categories that are counted on their own.
    pub category_limit: usize,
    /// When a feature has drifted.
    pub thresholds: Thresholds,
    /// False discovery rate, over all tests of the sweep, up to which a test is called.
    pub false_discovery_rate: f64,
    /// Another tool's definitions, which then decide in place of the thresholds on PSI, JS and KS.
    pub convention: Option<ConventionRules>,
    /// Texts for a missing value in a column of categories: of labels and predictions only.
    pub missing: Option<MissingTexts>,
    /// Bytes to stay under.
    pub memory: usize,
    /// Worker threads that share them.
    pub threads: usize,
}

/// Memory that a comparison may take for each worker thread unless told otherwise.
pub const MEMORY_PER_THREAD: usize = 256 << 20;

impl Options {
    /// All metrics over 10 bins, within the default memory.
    pub fn new() -> Self {
        Self {
            metrics: MetricSet::all(),
            bins: 10,
            category_limit: CategoryCounts::DEFAULT_LIMIT,
            thresholds: Thresholds::default(),
            false_discovery_rate: FALSE_DISCOVERY_RATE,
            convention: None,
            missing: None,
            memory: MEMORY_PER_THREAD * rayon::current_num_threads(),
            threads: rayon::current_num_threads(),
        }
    }

    /// Percents of the baseline that the figures need: extremes and breakpoints, and quantiles on request.
    pub(crate) fn baseline_percents(&self) -> Vec<f64> {
        let mut percents = bins::percents(self.bins);
        percents.extend(self.quantiles());
        percents
    }

    /// Percents of the current side that the figures need.
    pub(crate) fn current_percents(&self) -> Vec<f64> {
        let mut percents = vec![0.0, 100.0];
        percents.extend(self.quantiles());
        percents
    }

    fn quantiles(&self) -> impl Iterator<Item = f64> {
        QUANTILES.into_iter().filter(|_| self.requires(Requirement::Quantiles))
    }

    /// Whether this is needed of numeric columns, by a metric or by the convention.
    pub fn requires(&self, what: Requirement) -> bool {
        let by_convention = |rules: &ConventionRules| match what {
            Requirement::Distance => rules.decides_by(Figure::Ks, Kind::Numeric),
            Requirement::Transport => rules.decides_by(Figure::Wasserstein, Kind::Numeric),
            Requirement::Moments => true,
            Requirement::Quantiles => false,
        };
        self.metrics.requires(what) || self.convention.as_ref().is_some_and(by_convention)
    }

    /// Whether both ask for the same figures; thresholds and memory do not change any.
    pub(crate) fn same_figures(&self, other: &Self) -> bool {
        self.metrics == other.metrics
            && self.bins == other.bins
            && self.category_limit == other.category_limit
            && self.convention == other.convention
            && self.missing == other.missing
    }

    /// All but the memory and the threads, which change no figure.
    pub(super) fn fingerprint(&self) -> Value {
        json!({
            "metrics": self.metrics.iter().collect::<Vec<_>>(),
            "bins": self.bins,
            "category_limit": self.category_limit,
            "thresholds": self.thresholds,
            "false_discovery_rate": self.false_discovery_rate,
            "convention": self.convention,
            "missing": self.missing,
        })
    }

    /// Bytes that the keys of one column of one snapshot may take in memory; larger ones are read twice. A thread
    /// usually holds the keys of two columns, more where a sweep shares them; each may take a thirty-second of the
    /// thread's share, so that chunks being decoded, tables and collected keys fit beside them.
    pub fn hold(&self) -> usize {
        self.memory / self.threads / 32
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// Checks a number of bins.
///
/// # Errors
/// The reason, where it is out of range.
pub fn check_bins(bins: usize) -> std::result::Result<usize, String> {
    if (2..=1000).contains(&bins) { Ok(bins) } else { Err(format!("bins = {bins}: must be between 2 and 1000")) }
}
