//! The conventions of other drift tools: their bins, their replacement of zeros, their base of the logarithm and
//! their default limit, so that a team can move without tuning its thresholds again.
//!
//! What is reproduced is the published definition, over all rows: a tool that samples or sketches its input
//! (TFDV's quantile sketches, NannyML's estimates from 10,000 bins) comes near these figures rather than to them.
//! Infinite values are skipped, as missing ones are; both are reported separately.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::contingency::chi_square;
use super::divergence::{jensen_shannon_of, pairwise_sum};
use super::{Kind, Metric};
use driftsweep_common::error::{Error, Result};

/// Another tool, whose definitions are used.
///
/// ```
/// use driftsweep::{Convention, Kind};
///
/// # fn main() -> driftsweep::Result<()> {
/// let convention: Convention = "evidently".parse()?;
/// assert_eq!(convention.figures(Kind::Numeric)[0].name(), "wasserstein");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// Evidently 0.7.
    Evidently,
    /// NannyML 0.13.
    Nannyml,
    /// TensorFlow Data Validation 1.16.
    Tfdv,
    /// Deepchecks 0.19.
    Deepchecks,
    /// Azure Machine Learning's model monitoring components.
    Azureml,
}

/// A figure of a convention. What it is exactly depends on the convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Population stability index.
    Psi,
    /// Jensen-Shannon distance; the divergence in TFDV.
    Js,
    /// Kullback-Leibler divergence.
    Kl,
    /// Hellinger distance.
    Hellinger,
    /// Wasserstein-1 distance.
    Wasserstein,
    /// Largest difference of two shares.
    LInfinity,
    /// Kolmogorov-Smirnov distance.
    Ks,
    /// Cramér's V.
    CramersV,
}

use Figure::*;

impl Figure {
    /// The name in fleet files and reports.
    pub fn name(self) -> &'static str {
        match self {
            CramersV => "cramers_v",
            other => other.metric().name(),
        }
    }

    /// The metric that requests it.
    pub fn metric(self) -> Metric {
        match self {
            Psi => Metric::Psi,
            Js => Metric::Js,
            Kl => Metric::Kl,
            Hellinger => Metric::Hellinger,
            Wasserstein => Metric::Wasserstein,
            LInfinity => Metric::LInfinity,
            Ks => Metric::Ks,
            CramersV => Metric::ChiSquare,
        }
    }
}

/// The figure that decides, and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DecisionRule {
    /// The figure.
    pub metric: Figure,
    /// The limit; without one the figure is reported and decides nothing.
    #[serde(default)]
    pub limit: Option<f64>,
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

/// A convention, with overridden rules.
///
/// ```
/// use driftsweep::{Convention, ConventionRules, Options};
///
/// let mut options = Options::new();
/// options.convention = Some(ConventionRules::new(Convention::Evidently));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ConventionRules {
    /// The convention.
    pub convention: Convention,
    /// The rule of numeric features, if it is not the convention's.
    pub numeric: Option<DecisionRule>,
    /// The rule of categorical features, if it is not the convention's.
    pub categorical: Option<DecisionRule>,
}

impl ConventionRules {
    /// A convention with its own rules.
    pub fn new(convention: Convention) -> Self {
        Self { convention, numeric: None, categorical: None }
    }

    /// Replaces a rule.
    ///
    /// # Errors
    /// The reason, where the convention has no such figure or the limit is not a number of 0 or more.
    pub fn with_rule(mut self, kind: Kind, rule: DecisionRule) -> std::result::Result<Self, String> {
        let known = self.convention.figures(kind);
        if !known.contains(&rule.metric) {
            let names: Vec<&str> = known.iter().map(|figure| figure.name()).collect();
            let (name, figure) = (self.convention.name(), rule.metric.name());
            return Err(format!("{name} has no {figure} of {} features; choose {}", kind.name(), names.join(", ")));
        }
        if let Some(limit) = rule.limit.filter(|limit| limit.is_nan() || *limit < 0.0) {
            return Err(format!("limit = {limit}: must be 0 or more"));
        }
        match kind {
            Kind::Numeric => self.numeric = Some(rule),
            Kind::Categorical => self.categorical = Some(rule),
        }
        Ok(self)
    }

    /// The rule of a feature, by the number of its distinct values on both sides together, if known.
    pub fn rule(&self, kind: Kind, distinct: Option<usize>) -> DecisionRule {
        let own = match kind {
            Kind::Numeric => self.numeric,
            Kind::Categorical => self.categorical,
        };
        own.unwrap_or(self.convention.rule(kind, distinct))
    }

    /// Whether a figure may decide.
    pub(crate) fn decides_by(&self, figure: Figure, kind: Kind) -> bool {
        [None, Some(1)].into_iter().any(|distinct| self.rule(kind, distinct).metric == figure)
    }
}

impl Convention {
    /// All conventions.
    pub const ALL: [Convention; 5] =
        [Convention::Evidently, Convention::Nannyml, Convention::Tfdv, Convention::Deepchecks, Convention::Azureml];

    /// The name on the command line, in fleet files and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Convention::Evidently => "evidently",
            Convention::Nannyml => "nannyml",
            Convention::Tfdv => "tfdv",
            Convention::Deepchecks => "deepchecks",
            Convention::Azureml => "azureml",
        }
    }

    /// The figures it defines otherwise than driftsweep does, or decides by.
    pub fn figures(self, kind: Kind) -> &'static [Figure] {
        match (self, kind) {
            (Convention::Evidently, Kind::Numeric) => &[Wasserstein, Js, Psi, Kl],
            (Convention::Evidently, Kind::Categorical) => &[Js, Psi, Kl, Hellinger],
            (Convention::Nannyml, Kind::Numeric) => &[Js, Hellinger, Wasserstein, Ks],
            (Convention::Nannyml, Kind::Categorical) => &[Js, Hellinger, LInfinity],
            (Convention::Tfdv, Kind::Numeric) => &[Js],
            (Convention::Tfdv, Kind::Categorical) => &[LInfinity, Js],
            (Convention::Deepchecks, Kind::Numeric) => &[Ks],
            (Convention::Deepchecks, Kind::Categorical) => &[CramersV, Psi],
            (Convention::Azureml, Kind::Numeric) => &[Wasserstein, Js, Psi],
            (Convention::Azureml, Kind::Categorical) => &[Js, Psi],
        }
    }

    /// The tool's default rule. Evidently judges numbers of at most five distinct values like categories; TFDV has
    /// no default limit; NannyML's is the one of its documentation (its calculator learns limits from chunks of the
    /// reference, which one comparison does not have). Evidently replaces distances by tests on references of up to
    /// 1,000 rows; those tests are not part of the convention.
    fn rule(self, kind: Kind, distinct: Option<usize>) -> DecisionRule {
        let few = self == Convention::Evidently && distinct.is_some_and(|distinct| distinct <= 5);
        let metric = if few { Js } else { self.figures(kind)[0] };
        let limit = match self {
            Convention::Evidently | Convention::Nannyml | Convention::Azureml => Some(0.1),
            Convention::Deepchecks => Some(0.2),
            Convention::Tfdv => None,
        };
        DecisionRule { metric, limit }
    }

    /// Whether a figure is beyond a limit: Evidently and Deepchecks count the limit itself as drift.
    pub(crate) fn exceeds(self, value: f64, limit: f64) -> bool {
        match self {
            Convention::Evidently | Convention::Deepchecks => value >= limit,
            _ => value > limit,
        }
    }

    /// Whether numbers are cut into bins of equal width, whose edges a baseline file does not hold.
    pub fn needs_values(self) -> bool {
        self != Convention::Deepchecks
    }
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Convention {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Convention::ALL
            .into_iter()
            .find(|convention| convention.name() == name)
            .ok_or_else(|| Error::unknown("convention", name, Convention::ALL.map(Convention::name)))
    }
}

/// The range of the finite values of one side, from which equal-width bins are derived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueRange {
    /// How many there are; at least one.
    pub n: u64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// The type of numpy's arithmetic on the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// 32-bit floats.
    Single,
    /// 64-bit floats.
    Double,
    /// Integers: bins are at least one wide.
    Integer,
}

/// Edges of the bins of both sides, ascending; the last bin includes its upper edge. A single edge, twice, is a bin
/// of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Edges {
    /// Of the baseline.
    pub baseline: Vec<f64>,
    /// Of the current side; only TFDV's differ from the baseline's.
    pub current: Vec<f64>,
}

impl Convention {
    /// The edges of the bins of a numeric feature. `skewness` is the baseline's (NannyML). `None` where the
    /// convention cuts no bins.
    pub fn edges(self, a: ValueRange, b: ValueRange, arithmetic: Arithmetic, skewness: f64) -> Option<Edges> {
        let both = |edges: Vec<f64>| Some(Edges { baseline: edges.clone(), current: edges });
        match self {
            Convention::Evidently => {
                let (min, max) = (a.min.min(b.min), a.max.max(b.max));
                let range = match arithmetic {
                    Arithmetic::Single => f64::from(max as f32 - min as f32),
                    _ => max - min,
                };
                both(numpy_edges(min, max, range / (((a.n + b.n) as f64).log2() + 1.0), arithmetic))
            }
            Convention::Nannyml => both(numpy_edges(a.min, a.max, doane(a, skewness), Arithmetic::Double)),
            Convention::Azureml => {
                let (min, max) = (a.min.min(b.min), a.max.max(b.max));
                let bins = ((a.n.min(b.n) as f64).log2() + 1.0).ceil();
                if min == max {
                    return both(vec![min, max]);
                }
                let width = (max - min) / bins;
                both((0..=bins as u64).map(|i| min + i as f64 * width).collect())
            }
            Convention::Tfdv => {
                let ten = |span: ValueRange| {
                    if span.min == span.max { vec![span.min; 2] } else { linspace(span.min, span.max, 10) }
                };
                Some(Edges { baseline: ten(a), current: ten(b) })
            }
            Convention::Deepchecks => None,
        }
    }
}

/// The bin width of Doane's rule (1976, "Aesthetic frequency classifications"), as numpy computes it.
fn doane(span: ValueRange, skewness: f64) -> f64 {
    let n = span.n as f64;
    if span.n <= 2 || skewness.is_nan() {
        return 0.0;
    }
    let sg1 = (6.0 * (n - 2.0) / ((n + 1.0) * (n + 3.0))).sqrt();
    (span.max - span.min) / (1.0 + n.log2() + (1.0 + skewness.abs() / sg1).log2())
}

/// The edges that `np.histogram_bin_edges` gives for an estimated width (0: one bin).
fn numpy_edges(min: f64, max: f64, width: f64, arithmetic: Arithmetic) -> Vec<f64> {
    if min == max {
        return vec![min - 0.5, max + 0.5];
    }
    let width = if arithmetic == Arithmetic::Integer && width > 0.0 { width.max(1.0) } else { width };
    let range = match arithmetic {
        Arithmetic::Single => f64::from(max as f32 - min as f32),
        _ => max - min,
    };
    let bins = if width > 0.0 { (range / width).ceil().max(1.0) as usize } else { 1 };
    match arithmetic {
        Arithmetic::Single => linspace_single(min as f32, max as f32, bins),
        _ => linspace(min, max, bins),
    }
}

/// `np.linspace(from, to, bins + 1)`.
fn linspace(from: f64, to: f64, bins: usize) -> Vec<f64> {
    let step = (to - from) / bins as f64;
    (0..bins).map(|i| i as f64 * step + from).chain([to]).collect()
}

/// The same in 32-bit floats.
fn linspace_single(from: f32, to: f32, bins: usize) -> Vec<f64> {
    let step = (to - from) / bins as f32;
    (0..bins).map(|i| f64::from(i as f32 * step + from)).chain([f64::from(to)]).collect()
}

/// The figures of a numeric feature besides its bins.
#[derive(Clone, Copy, Debug, Default)]
pub struct BasicFigures {
    /// The Wasserstein distance.
    pub wasserstein: Option<f64>,
    /// The Kolmogorov-Smirnov distance.
    pub ks: Option<f64>,
    /// The baseline's population standard deviation.
    pub std: Option<f64>,
}

/// Counts of both sides: over common bins or categories, with the number of values of each side (bins need not
/// cover all of them).
#[derive(Clone, Copy, Debug)]
pub struct CountTable<'a> {
    /// Baseline counts.
    pub a: &'a [u64],
    /// Current counts.
    pub b: &'a [u64],
    /// Values of the baseline.
    pub n: u64,
    /// Values of the current side.
    pub m: u64,
}

/// The figures of a numeric feature, whatever metrics were requested. `edges` are `None` where the values
/// were few enough to be counted one by one (Evidently, up to 20 distinct values of the reference).
pub fn numeric(
    convention: Convention,
    table: CountTable<'_>,
    edges: Option<&Edges>,
    plain: BasicFigures,
) -> BTreeMap<Figure, f64> {
    let mut figures = BTreeMap::new();
    match convention {
        Convention::Evidently => {
            figures.extend(evidently(table));
            let norm = plain.std.map(|std| std.max(0.001));
            figures.extend(plain.wasserstein.zip(norm).map(|(distance, norm)| (Wasserstein, distance / norm)));
        }
        Convention::Nannyml => {
            figures.extend(nannyml(table));
            figures.extend(plain.wasserstein.map(|distance| (Wasserstein, distance)));
            figures.extend(plain.ks.map(|distance| (Ks, distance)));
        }
        Convention::Tfdv => {
            let (p, q) = match edges {
                Some(edges) => align((&edges.baseline, table.a), (&edges.current, table.b)),
                None => (shares(table.a, table.n), shares(table.b, table.m)),
            };
            figures.insert(Js, in_bits(jensen_shannon_of(&p, &q)));
        }
        Convention::Deepchecks => figures.extend(plain.ks.map(|distance| (Ks, distance))),
        Convention::Azureml => {
            figures.extend(azureml(table));
            // Spark's stddev is the sample's.
            let bessel = (table.n as f64 / (table.n as f64 - 1.0)).sqrt();
            let norm = plain.std.filter(|_| table.n > 1).map(|std| (std * bessel).max(0.001));
            figures.extend(plain.wasserstein.zip(norm).map(|(distance, norm)| (Wasserstein, distance / norm)));
        }
    }
    figures
}

/// The figures of a categorical feature, whatever metrics were requested.
pub fn categorical(convention: Convention, table: CountTable<'_>) -> BTreeMap<Figure, f64> {
    let (p, q) = (shares(table.a, table.n), shares(table.b, table.m));
    let l_infinity = p.iter().zip(&q).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max);
    let mut figures = BTreeMap::new();
    match convention {
        Convention::Evidently => {
            figures.extend(evidently(table));
            let overlap: f64 = p.iter().zip(&q).map(|(p, q)| (p * q).sqrt()).sum();
            figures.insert(Hellinger, (1.0 - overlap.clamp(0.0, 1.0)).sqrt());
        }
        Convention::Nannyml => {
            // Categories the reference never had are one more category, on one side only.
            let (mut a, mut b, mut unseen) = (Vec::new(), Vec::new(), 0);
            for (&x, &y) in table.a.iter().zip(table.b) {
                if x == 0 {
                    unseen += y;
                } else {
                    a.push(x);
                    b.push(y);
                }
            }
            a.push(0);
            b.push(unseen);
            figures.extend(nannyml(CountTable { a: &a, b: &b, ..table }));
            figures.insert(LInfinity, l_infinity);
        }
        Convention::Tfdv => {
            figures.insert(Js, in_bits(jensen_shannon_of(&p, &q)));
            figures.insert(LInfinity, l_infinity);
        }
        Convention::Deepchecks => figures.extend(deepchecks(table)),
        Convention::Azureml => figures.extend(azureml(table)),
    }
    figures
}

fn shares(counts: &[u64], n: u64) -> Vec<f64> {
    counts.iter().map(|&count| count as f64 / n as f64).collect()
}

fn in_bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

fn sum_of(p: &[f64], q: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    pairwise_sum(&p.iter().zip(q).map(|(&p, &q)| term(p, q)).collect::<Vec<_>>())
}

/// Evidently: a share of zero becomes 0.0001, or a millionth of the side's smallest share where that is no larger.
fn evidently(table: CountTable<'_>) -> [(Figure, f64); 3] {
    let (p, q) = (shares(table.a, table.n), shares(table.b, table.m));
    let filled = |shares: &[f64]| -> Vec<f64> {
        let smallest = shares.iter().copied().filter(|&p| p > 0.0).fold(f64::INFINITY, f64::min);
        let epsilon = if smallest <= 1e-4 { smallest / 1e6 } else { 1e-4 };
        shares.iter().map(|&p| if p == 0.0 { epsilon } else { p }).collect()
    };
    let (r, c) = (filled(&p), filled(&q));
    let (rs, cs) = (pairwise_sum(&r), pairwise_sum(&c));
    [
        (Psi, sum_of(&r, &c, |r, c| (r - c) * (r / c).ln())),
        (Js, jensen_shannon_of(&p, &q).sqrt()),
        // scipy.stats.entropy(reference, current), which normalises both.
        (Kl, sum_of(&r, &c, |r, c| (r / rs) * ((r / rs) / (c / cs)).ln())),
    ]
}

/// NannyML: base 2; what the reference's bins do not cover is one more bin, which the reference never fills.
fn nannyml(table: CountTable<'_>) -> [(Figure, f64); 2] {
    let (mut p, mut q) = (shares(table.a, table.n), shares(table.b, table.m));
    let outside = table.m - table.b.iter().sum::<u64>();
    if outside > 0 {
        p.push(0.0);
        q.push(outside as f64 / table.m as f64);
    }
    let hellinger = sum_of(&p, &q, |p, q| (p.sqrt() - q.sqrt()).powi(2)).sqrt() / std::f64::consts::SQRT_2;
    [(Js, in_bits(jensen_shannon_of(&p, &q)).sqrt()), (Hellinger, hellinger)]
}

/// Azure: base 2; the PSI counts every bin once more than it was hit, without renormalising.
fn azureml(table: CountTable<'_>) -> [(Figure, f64); 2] {
    let one_more = |counts: &[u64], n| shares(&counts.iter().map(|count| count + 1).collect::<Vec<_>>(), n);
    let (r, c) = (one_more(table.a, table.n), one_more(table.b, table.m));
    let (p, q) = (shares(table.a, table.n), shares(table.b, table.m));
    [(Psi, sum_of(&r, &c, |r, c| (c - r) * (c / r).ln())), (Js, in_bits(jensen_shannon_of(&p, &q)).sqrt())]
}

/// Deepchecks: categories under 1 % of the reference are one; it is dropped if it stays under 1 % on both sides.
/// Cramér's V with the bias correction of Bergsma (2013), the larger side scaled down to the smaller one and
/// rounded; the PSI with shares of 1 % at least.
fn deepchecks(table: CountTable<'_>) -> Vec<(Figure, f64)> {
    const MIN_SHARE: f64 = 0.01;
    let (mut a, mut b, mut other) = (Vec::new(), Vec::new(), (0, 0));
    for (&x, &y) in table.a.iter().zip(table.b) {
        if (x as f64) < table.n as f64 * MIN_SHARE {
            other = (other.0 + x, other.1 + y);
        } else {
            a.push(x as f64);
            b.push(y as f64);
        }
    }
    if other.0 as f64 > MIN_SHARE * table.n as f64 || other.1 as f64 > MIN_SHARE * table.m as f64 {
        a.push(other.0 as f64);
        b.push(other.1 as f64);
    }
    let (n, m): (f64, f64) = (a.iter().sum(), b.iter().sum());
    if n == 0.0 || m == 0.0 {
        return Vec::new();
    }
    let floored = |x: f64, total: f64| (x / total).max(MIN_SHARE);
    let psi =
        a.iter().zip(&b).map(|(&x, &y)| (floored(x, n), floored(y, m))).map(|(e, a)| (e - a) * (e / a).ln()).sum();
    let scaled = |counts: &[f64], by: f64| -> Vec<u64> {
        counts.iter().map(|count| (count * by).round_ties_even() as u64).collect()
    };
    let (x, y) = (scaled(&a, (m / n).min(1.0)), scaled(&b, (n / m).min(1.0)));
    vec![(Psi, psi), (CramersV, corrected_cramers_v(&x, &y))]
}

fn corrected_cramers_v(a: &[u64], b: &[u64]) -> f64 {
    let Some(test) = chi_square(a, b) else { return 0.0 };
    let n = (a.iter().sum::<u64>() + b.iter().sum::<u64>()) as f64;
    let freedom = test.dof as f64;
    let phi2 = (test.statistic / n - freedom / (n - 1.0)).max(0.0);
    let (rows, columns) = (2.0 - 1.0 / (n - 1.0), freedom + 1.0 - freedom * freedom / (n - 1.0));
    (phi2 / (rows - 1.0).min(columns - 1.0)).sqrt()
}

/// Two histograms over common bins, as TFDV aligns them: cut at each other's edges, the values of a bin spread
/// evenly over it; a bin of one value stays one.
fn align(a: (&[f64], &[u64]), b: (&[f64], &[u64])) -> (Vec<f64>, Vec<f64>) {
    let is_point = |edges: &[f64]| edges[0] == edges[edges.len() - 1];
    let mut edges: Vec<f64> = [a.0, b.0].into_iter().filter(|edges| !is_point(edges)).flatten().copied().collect();
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    let mut points: Vec<f64> = [a.0, b.0].into_iter().filter(|edges| is_point(edges)).map(|edges| edges[0]).collect();
    points.dedup();
    let spread = |(own, counts): (&[f64], &[u64])| -> Vec<f64> {
        let total = counts.iter().sum::<u64>() as f64;
        let point = is_point(own);
        let bins = edges.windows(2).map(|bin| {
            let (low, high) = (bin[0], bin[1]);
            // The original bin that contains this one.
            match own.partition_point(|&edge| edge <= low).checked_sub(1) {
                Some(i) if !point && i < counts.len() => {
                    counts[i] as f64 * ((high - low) / (own[i + 1] - own[i])) / total
                }
                _ => 0.0,
            }
        });
        let at_points = points.iter().map(|&x| if point && own[0] == x { 1.0 } else { 0.0 });
        bins.chain(at_points).collect()
    };
    (spread(a), spread(b))
}
