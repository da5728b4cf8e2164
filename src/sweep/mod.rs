//! Comparisons: of two snapshots, and of a whole fleet.

pub mod compare;
mod convention;
pub mod figures;
pub mod flat;
mod journal;
mod not_judged;
mod plan;
mod pool;
pub mod report;
mod run;
mod schema;
mod shard;

pub use journal::Journal;
pub use not_judged::NotJudged;
pub use plan::{PlannedComparison, SweepPlan, SweepSurvey};
pub use report::{
    Comparison, Engine, Feature, ModelReport, NotCovered, Rows, SCHEMA_VERSION, SweepReport, SweepSummary,
};
pub use run::{SweepProgress, SweepRun};
pub use schema::{Change, SchemaChange};
pub use shard::workload;

use std::borrow::Cow;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::baseline::{Baseline, BaselineFile};
use crate::count::{Counter, with_threads};
use crate::metric::{Metric, Subject, Test, fdr};
use crate::model::{ColumnUse, Options};
use crate::rule::{Judged, Limits};
use crate::snapshot::Snapshot;
use compare::{BaselineFeature, check_rows, compare_feature};
use driftsweep_common::address::redacted;
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Error, Result};
use not_judged::Compared;
use pool::ColumnPool;

/// The baseline side of a comparison as a whole.
///
/// ```
/// use driftsweep::BaselineSource;
///
/// # fn main() -> driftsweep::Result<()> {
/// let training = BaselineSource::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// assert!(matches!(training, BaselineSource::Live(_)), "a name that ends in .baseline would be a baseline file");
/// # Ok(())
/// # }
/// ```
pub enum BaselineSource {
    /// A training snapshot, read now.
    Live(Snapshot),
    /// A baseline file.
    Frozen(Box<BaselineFile>),
}

impl BaselineSource {
    /// Opens a baseline file (`*.baseline`) or a snapshot.
    ///
    /// # Errors
    /// Those of [`BaselineFile::open`] and [`Snapshot::open`].
    pub fn open(spec: &str) -> Result<Self> {
        let path = std::path::Path::new(spec);
        if Baseline::is_baseline_file(path) {
            BaselineFile::open(path).map(|file| Self::Frozen(Box::new(file)))
        } else {
            Snapshot::open(spec).map(Self::Live)
        }
    }

    /// The path, glob or directory it was opened with, for display.
    pub fn spec(&self) -> Cow<'_, str> {
        match self {
            Self::Live(snapshot) => snapshot.spec().into(),
            Self::Frozen(file) => file.path().to_string_lossy(),
        }
    }

    /// All of it.
    pub fn side(&self) -> BaselineSide<'_> {
        match self {
            Self::Live(snapshot) => BaselineSide::Live(snapshot),
            Self::Frozen(file) => BaselineSide::Frozen(file, ""),
        }
    }

    /// Its features, in order.
    pub fn features(&self) -> Vec<BaselineFeature<'_>> {
        self.side().features()
    }
}

/// The baseline of one comparison: a snapshot or part of one, or a segment of a baseline file.
#[derive(Clone, Copy)]
pub enum BaselineSide<'a> {
    /// Read now.
    Live(&'a Snapshot),
    /// A baseline file, and the name of the segment; empty for the whole.
    Frozen(&'a BaselineFile, &'a str),
}

impl<'a> BaselineSide<'a> {
    /// Rows.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Live(snapshot) => snapshot.rows(),
            Self::Frozen(file, "") => file.header.rows,
            Self::Frozen(file, segment) => {
                file.header.segments.iter().find(|known| known.name == *segment).map_or(0, |known| known.rows)
            }
        }
    }

    /// Its features, in order.
    pub fn features(&self) -> Vec<BaselineFeature<'a>> {
        match *self {
            Self::Live(snapshot) => {
                snapshot.columns().iter().map(|column| BaselineFeature::Live(snapshot, column)).collect()
            }
            Self::Frozen(file, segment) => file.features_of(segment).map(BaselineFeature::Frozen).collect(),
        }
    }

    /// The number of bins it was frozen with, if it was.
    pub fn frozen_bins(&self) -> Option<usize> {
        match self {
            Self::Live(_) => None,
            Self::Frozen(file, _) => Some(file.header.bins),
        }
    }
}

/// Compares a snapshot with a baseline feature by feature, in parallel.
///
/// ```
/// use driftsweep::{BaselineSource, Comparer, CpuCounter, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// let baseline = BaselineSource::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// let current = Snapshot::open("datasets/nycflights13/weather-2013-07.parquet")?;
/// let report = Comparer::new(&baseline, &current).run(&CpuCounter)?;
/// let temperature = report.features.iter().find(|feature| feature.name == "temp").unwrap();
/// assert!(temperature.verdict.drifted);
/// # Ok(())
/// # }
/// ```
pub struct Comparer<'a> {
    baseline: &'a BaselineSource,
    current: &'a Snapshot,
    use_of: Box<dyn Fn(&str) -> ColumnUse + Sync + 'a>,
    options: Cow<'a, Options>,
    progress: Box<dyn Fn() + Sync + 'a>,
}

impl<'a> Comparer<'a> {
    /// A comparison of all common columns as their types say, with default options.
    pub fn new(baseline: &'a BaselineSource, current: &'a Snapshot) -> Self {
        Self {
            baseline,
            current,
            use_of: Box::new(|_| ColumnUse::ByType),
            options: Cow::Owned(Options::new()),
            progress: Box::new(|| ()),
        }
    }

    /// How each column is read, or that it is left out.
    #[must_use]
    pub fn columns(mut self, use_of: impl Fn(&str) -> ColumnUse + Sync + 'a) -> Self {
        self.use_of = Box::new(use_of);
        self
    }

    /// Metrics, bins, thresholds, memory and threads.
    #[must_use]
    pub fn options(mut self, options: &'a Options) -> Self {
        self.options = Cow::Borrowed(options);
        self
    }

    /// What is called after each feature.
    #[must_use]
    pub fn progress(mut self, progress: impl Fn() + Sync + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Compares.
    ///
    /// # Errors
    /// [`Error::NoRows`] for an empty side, [`Error::NoCommonColumn`], [`Error::BadValue`] where a baseline file was built
    /// with other bins, or no column is left. Whatever concerns one feature is a status of that feature.
    pub fn run(&self, counter: &dyn Counter) -> Result<Comparison> {
        let Self { baseline, current, use_of, options, progress } = self;
        let (spec, baseline) = (baseline.spec(), baseline.side());
        for (path, rows) in [(&*spec, baseline.rows()), (current.spec(), current.rows())] {
            if rows == 0 {
                return Err(Error::NoRows { path: path.into() });
            }
        }
        check_frozen(&spec, baseline, options)?;
        let compared: Vec<_> =
            baseline.features().into_iter().filter(|feature| use_of(feature.name()).is_compared()).collect();
        if compared.is_empty() {
            let reason = "no feature is left to compare".into();
            return Err(Error::BadValue { what: "features".into(), reason });
        }
        if compared.iter().all(|feature| current.find(feature.name()).is_none()) {
            return Err(Error::NoCommonColumn { baseline: (&*spec).into(), current: current.spec().into() });
        }
        let compare_one = |feature: BaselineFeature<'_>| {
            let kind = use_of(feature.name()).kind();
            let mut compared = compare_feature(counter, feature, current, kind, options, &mut ColumnPool::default());
            check_rows(&mut compared, options.thresholds.min_rows);
            progress();
            compared
        };
        let mut features: Vec<Feature> = with_threads(counter, || compared.into_par_iter().map(compare_one).collect());
        let judged: Vec<Judged> =
            features.iter().map(|feature| feature.judged(options.thresholds.min_rows, false)).collect();
        add_q_values(features.iter_mut().zip(judged.iter().copied()));
        let limits = Limits { thresholds: &options.thresholds, false_discovery_rate: options.false_discovery_rate };
        features.iter_mut().zip(judged).for_each(|(feature, judged)| feature.judge(judged, &limits));
        Ok(Comparison {
            schema_version: SCHEMA_VERSION,
            engine: Engine::this(counter),
            rows: Rows { baseline: baseline.rows(), current: current.rows() },
            counts_hash: counts_hash(features.iter()),
            schema: schema::changes(baseline, current, |name| use_of(name).is_compared()),
            not_judged: NotJudged::of(&features, Compared::Pair, |_| options.thresholds.min_rows),
            features,
        })
    }
}

/// Adds q-values: Benjamini-Hochberg over the tests of all figures that are judged, and no others.
fn add_q_values<'a>(features: impl Iterator<Item = (&'a mut Feature, Judged)>) {
    let mut features: Vec<_> = features.collect();
    let p_values: Vec<f64> =
        features.iter().flat_map(|(feature, judged)| judged_tests(feature, *judged)).map(|(_, p)| p).collect();
    let mut q_values = fdr::benjamini_hochberg(&p_values).into_iter();
    for (feature, judged) in &mut features {
        let tests: Vec<&Test> = judged_tests(feature, *judged).map(|(test, _)| test).collect();
        for (test, q) in tests.into_iter().zip(&mut q_values) {
            if let Some(place) = (test.q_value)(&mut feature.metrics) {
                *place = Some(q).filter(|q| !q.is_nan());
            }
        }
    }
}

/// The tests of a feature that are judged, with their p-values.
fn judged_tests(feature: &Feature, judged: Judged) -> impl Iterator<Item = (&'static Test, f64)> {
    let of_values = Some(Subject::of(feature.kind)).filter(|_| judged.values);
    let of_missing = Some(Subject::MissingRows).filter(|_| judged.missing);
    let tests = of_values.into_iter().chain(of_missing).flat_map(Metric::tests);
    tests.filter_map(|test| Some((test, (test.read)(&feature.metrics)?.p_value)))
}

/// Whether a baseline holds what the options ask for.
fn check_frozen(spec: &str, baseline: BaselineSide<'_>, options: &Options) -> Result<()> {
    match baseline.frozen_bins() {
        Some(_)
            if let Some(rules) = options.convention
                && rules.convention.needs_values() =>
        {
            Err(Error::BadValue {
                what: format!("convention {}", rules.convention),
                reason: format!(
                    "it uses its own bins, which the baseline file {} does not have; \
                 compare with the training snapshot instead",
                    redacted(spec)
                ),
            })
        }
        Some(bins) if bins != options.bins => Err(Error::BadValue {
            what: "bins".into(),
            reason: format!(
                "{} was built with {bins} bins, not {}; set bins to {bins} or build the baseline again",
                redacted(spec),
                options.bins
            ),
        }),
        _ => Ok(()),
    }
}

/// The hash of many features: of their names and hashes, in order of name.
fn counts_hash<'a>(features: impl Iterator<Item = &'a Feature>) -> String {
    let mut parts: Vec<(&str, &str)> = features.map(|f| (f.name.as_str(), f.counts_hash.as_str())).collect();
    parts.sort_unstable();
    let mut hash = Sha256::new();
    for (name, feature) in parts {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(feature);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::ks::{KolmogorovSmirnov, Method};
    use crate::metric::missing::Missing;

    fn feature(missing_p: f64, ks_p: f64) -> Feature {
        let mut feature = Feature::failed(Rows::default(), String::new());
        let (baseline, current) = (0.5, 0.5);
        feature.metrics.missing =
            Some(Missing { baseline, current, difference: 0.0, p_value: missing_p, q_value: None });
        feature.metrics.ks = Some(KolmogorovSmirnov {
            statistic: 0.2,
            p_value: ks_p,
            p_value_asymptotic: ks_p,
            method: Method::Asymp,
            exact: true,
            upper: None,
            q_value: None,
        });
        feature
    }

    #[test]
    fn the_tests_of_a_sweep_are_those_of_the_figures_that_are_judged() {
        // Values and missing rows; missing rows alone, of too few values; values alone, of a label; nothing.
        let judged = [(true, true), (false, true), (true, false), (false, false)];
        let mut features: Vec<Feature> = judged.iter().map(|_| feature(0.02, 0.01)).collect();
        let of = judged.map(|(values, missing)| Judged { values, missing });
        add_q_values(features.iter_mut().zip(of));
        for (feature, (values, missing)) in features.iter().zip(judged) {
            let (ks, rate) = (feature.metrics.ks.as_ref().unwrap(), feature.metrics.missing.as_ref().unwrap());
            assert_eq!((ks.q_value.is_some(), rate.q_value.is_some()), (values, missing));
        }
        // Two p-values of 0.01 and two of 0.02: 0.01 * 4 / 2, and 0.02 * 4 / 4.
        assert_eq!(features[0].metrics.ks.as_ref().unwrap().q_value, Some(0.02));
        assert_eq!(features[1].metrics.missing.as_ref().unwrap().q_value, Some(0.02));
        // Of many unchanged rates of sparse columns none is called, however small the smallest p-value is by chance.
        let mut sparse: Vec<Feature> = (1..=2000).map(|i| feature(f64::from(i) / 2000.0, 1.0)).collect();
        add_q_values(sparse.iter_mut().map(|feature| (feature, Judged { values: false, missing: true })));
        assert!(sparse.iter().all(|feature| feature.metrics.missing.as_ref().unwrap().q_value.unwrap() > 0.05));
    }
}
