//! When a feature has drifted: the one place where that is decided. Pure.
//!
//! Two words are kept apart. A feature is *significant* where one of its tests is called at the fleet's false discovery rate:
//! chance alone would hardly give these counts, however small the difference is. A feature has *drifted* where a figure is
//! above its threshold, beyond what chance gives it, and significant. A p-value alone never makes a feature drift: at a million
//! rows every difference is significant. A figure alone never does either: at a thousand rows chance gives large ones.
//!
//! [`evaluate`] is called once a feature, after the q-values of the whole sweep are known. Reports, exit codes, the drift
//! trigger and `explain` use its [`Signal`]s. `calibrate` takes figures and thresholds from the same [`rules`], and looks at them
//! before their tests.

use serde::{Deserialize, Serialize};

use crate::metric::convention::ConventionFigures;
use crate::metric::{Kind, Metric, Metrics, Reading};
pub use crate::metric::{NullDistribution, PartialThresholds, Rule, Subject, Thresholds};

/// False discovery rate up to which a test is called, unless something else is set.
pub const FALSE_DISCOVERY_RATE: f64 = 0.05;

/// All rules, in the order of reports: those of the table of metrics.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    Metric::ALL.into_iter().filter_map(|metric| metric.spec().rule.as_ref())
}

/// The key in the fleet file of the convention, which has thresholds of its own.
pub const CONVENTION: &str = "convention";

/// The figures of a feature that have a threshold, each in words for where the feature has drifted by it.
fn signals(metrics: &Metrics, judges: Subject, limits: &Limits<'_>) -> impl Iterator<Item = (Signal, String)> {
    Metric::ALL.into_iter().filter_map(move |metric| {
        let rule = metric.spec().rule.as_ref().filter(|rule| rule.judges == judges)?;
        signal(metric, rule, metrics, limits)
    })
}

fn signal(metric: Metric, rule: &Rule, metrics: &Metrics, limits: &Limits<'_>) -> Option<(Signal, String)> {
    let Reading { value, noise, text } = (rule.read)(metrics)?;
    let test = metric.spec().test.as_ref().and_then(|test| (test.read)(metrics));
    let (p_value, q_value) = (test.map(|found| found.p_value), test.and_then(|found| found.q_value));
    let thresholds = limits.thresholds;
    let limit = rule.threshold(thresholds);
    let is_off = rule.off_at_zero && limit == 0.0;
    let above_noise = !thresholds.above_noise || noise.is_none_or(|noise| noise.effect > 0.0);
    let largest_p = rule.largest_p.as_ref().map(|largest| (largest.of)(thresholds));
    let p_is_small = largest_p.zip(p_value).is_none_or(|(largest, p)| p < largest);
    let signal = Signal {
        metric: metric.name().into(),
        value,
        limit,
        noise: noise.map(|noise| noise.level_99),
        over: value.abs() > limit && above_noise && p_is_small && !is_off,
        q_value,
        significant: limits.is_significant(q_value),
    };
    Some((signal, text.unwrap_or_else(|| format!("{metric} {value:.4} > {limit}"))))
}

/// What the figures of a feature are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// The thresholds of the feature.
    pub thresholds: &'a Thresholds,
    /// False discovery rate up to which a test is called.
    pub false_discovery_rate: f64,
}

impl Limits<'_> {
    /// Where there is no test, nothing speaks against the figure.
    fn is_significant(&self, q_value: Option<f64>) -> bool {
        q_value.is_none_or(|q| q <= self.false_discovery_rate)
    }
}

/// Which figures of a feature there are enough rows for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Those of its values.
    pub values: bool,
    /// The share of its missing rows.
    pub missing: bool,
}

/// A figure of a feature against its threshold and its test.
///
/// ```
/// use driftsweep::{BaselineSource, Comparer, CpuCounter, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// let baseline = BaselineSource::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// let current = Snapshot::open("datasets/nycflights13/weather-2013-07.parquet")?;
/// let report = Comparer::new(&baseline, &current).run(&CpuCounter)?;
/// let temperature = report.features.iter().find(|feature| feature.name == "temp").unwrap();
/// let psi = temperature.verdict.signals.iter().find(|signal| signal.metric == "psi").unwrap();
/// assert!(psi.drifted() && psi.value > psi.limit);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Which figure.
    pub metric: String,
    /// The figure.
    pub value: f64,
    /// What it must exceed.
    pub limit: f64,
    /// What 99 % of comparisons without drift stay below; absent where it was not computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// Whether it does, beyond what chance gives it.
    pub over: bool,
    /// False discovery rate at which its test would be called; absent where there is no test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
    /// Whether that is low enough.
    pub significant: bool,
}

impl Signal {
    /// Whether the feature has drifted by this figure.
    pub fn drifted(&self) -> bool {
        self.over && self.significant
    }

    /// Its rule; absent for a figure of another tool's convention.
    pub fn rule(&self) -> Option<&'static Rule> {
        Metric::ALL.into_iter().find(|metric| metric.name() == self.metric)?.spec().rule.as_ref()
    }

    /// The threshold's key in the fleet file.
    pub fn key(&self) -> &'static str {
        self.rule().map_or(CONVENTION, Rule::key)
    }
}

/// What the rules say of a feature.
///
/// ```
/// use driftsweep::{BaselineSource, Comparer, CpuCounter, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// let baseline = BaselineSource::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// let current = Snapshot::open("datasets/nycflights13/weather-2013-07.parquet")?;
/// let report = Comparer::new(&baseline, &current).run(&CpuCounter)?;
/// for feature in report.features.iter().filter(|feature| feature.verdict.drifted) {
///     println!("{}: {}", feature.name, feature.verdict.reasons.join(", "));
///     assert!(feature.verdict.significant);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether it has drifted: a figure is above its threshold, beyond what chance gives it, and significant.
    pub drifted: bool,
    /// Whether one of its tests is called at the false discovery rate, however small the difference.
    #[serde(default)]
    pub significant: bool,
    /// The figures by which it has drifted, each with its threshold.
    pub reasons: Vec<String>,
    /// Each figure that has a threshold; none where nothing could be judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Signal>,
}

impl Verdict {
    fn new(significant: bool, signals: Vec<(Signal, String)>) -> Self {
        let drifted = signals.iter().filter(|(signal, _)| signal.drifted());
        let reasons: Vec<String> = drifted.map(|(_, text)| text.clone()).collect();
        let drifted = !reasons.is_empty();
        let signals = signals.into_iter().map(|(signal, _)| signal).collect();
        Self { drifted, significant: significant || drifted, reasons, signals }
    }
}

/// Judges the figures of a feature. Where another tool's convention was asked for and has a figure, that figure decides in
/// place of the rules on its values.
pub fn evaluate(metrics: &Metrics, kind: Kind, judged: Judged, limits: &Limits<'_>) -> Verdict {
    let convention = metrics.convention.as_ref().and_then(|found| Some((found, *found.figures.get(&found.decides)?)));
    let values = Subject::of(kind);
    let mut found: Vec<(Signal, String)> = match (judged.values, convention) {
        (false, _) => Vec::new(),
        (true, Some((found, value))) => {
            conventional(found, value, q_values(metrics, values), limits).into_iter().collect()
        }
        (true, None) => signals(metrics, values, limits).collect(),
    };
    if judged.missing {
        found.extend(signals(metrics, Subject::MissingRows, limits));
    }
    let of_values = q_values(metrics, values).filter(|_| judged.values);
    let of_missing = q_values(metrics, Subject::MissingRows).filter(|_| judged.missing);
    let significant = of_values.chain(of_missing).any(|q| limits.is_significant(Some(q)));
    Verdict::new(significant, found)
}

/// The q-values of the tests of a feature, where the sweep has tested them.
fn q_values(metrics: &Metrics, judges: Subject) -> impl Iterator<Item = f64> {
    Metric::tests(judges).filter_map(|test| (test.read)(metrics)?.q_value)
}

/// The figure that decides by another tool's convention; absent where the tool has no threshold for it.
fn conventional(
    found: &ConventionFigures,
    value: f64,
    q_values: impl Iterator<Item = f64>,
    limits: &Limits<'_>,
) -> Option<(Signal, String)> {
    let limit = found.limit?;
    let metric = format!("{} {}", found.name, found.decides.name());
    let q_value = q_values.reduce(f64::min);
    let text = format!("{metric} {value:.4}, limit {limit}");
    let over = found.name.exceeds(value, limit);
    let significant = limits.is_significant(q_value);
    Some((Signal { metric, value, limit, noise: None, over, q_value, significant }, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Band;
    use crate::metric::convention::{Convention, Figure};
    use crate::metric::divergence::{self, EPSILON};
    use crate::metric::js::JensenShannon;
    use crate::metric::ks::{KolmogorovSmirnov, Method};
    use crate::metric::missing::Missing;
    use crate::metric::noise::NoiseLevel;
    use crate::metric::psi::Psi;

    const ALL: Judged = Judged { values: true, missing: true };

    fn noise(effect: f64, q: f64) -> Option<NoiseLevel> {
        Some(NoiseLevel { p_value: q, level_99: 0.0, effect, asymptotic: true, q_value: Some(q) })
    }

    fn psi(value: f64, effect: f64, q: f64) -> Option<Psi> {
        let noise = noise(effect, q);
        Some(Psi { value, reference_value: value, band: Band::of(value), blind_bins: 0, noise })
    }

    fn ks(statistic: f64, p_value: f64, q: f64) -> Option<KolmogorovSmirnov> {
        let q_value = Some(q);
        let method = Method::Asymp;
        Some(KolmogorovSmirnov {
            statistic,
            p_value,
            p_value_asymptotic: p_value,
            method,
            exact: true,
            upper: None,
            q_value,
        })
    }

    fn missing(difference: f64, p_value: f64, q_value: Option<f64>) -> Option<Missing> {
        Some(Missing { baseline: 0.0, current: difference, difference, p_value, q_value })
    }

    fn judge(metrics: &Metrics, kind: Kind, judged: Judged) -> Verdict {
        let thresholds = Thresholds::default();
        let limits = Limits { thresholds: &thresholds, false_discovery_rate: FALSE_DISCOVERY_RATE };
        evaluate(metrics, kind, judged, &limits)
    }

    /// Effect over its threshold, beyond its noise, significant: all eight cases of each rule, and only one of them drifts.
    #[test]
    fn a_figure_drifts_only_if_it_is_over_its_threshold_beyond_chance_and_significant() {
        for case in 0..8 {
            let [large, beyond, significant] = [1, 2, 4].map(|bit| case & bit != 0);
            let (value, effect) = (if large { 0.3 } else { 0.1 }, if beyond { 0.05 } else { -0.05 });
            let (p, q) = (if beyond { 1e-3 } else { 0.5 }, if significant { 0.01 } else { 0.06 });
            let of_categories =
                Some(JensenShannon { distance: value, divergence: value * value, noise: noise(effect, q) });
            for (metric, kind, metrics) in [
                ("psi", Kind::Numeric, Metrics { psi: psi(value, effect, q), ..Metrics::default() }),
                ("ks", Kind::Numeric, Metrics { ks: ks(value, p, q), ..Metrics::default() }),
                ("js", Kind::Categorical, Metrics { js: of_categories, ..Metrics::default() }),
                (
                    "missing",
                    Kind::Numeric,
                    Metrics { missing: missing(value - 0.08, p, Some(q)), ..Metrics::default() },
                ),
            ] {
                let found = judge(&metrics, kind, ALL);
                let [signal] = &found.signals[..] else { panic!("{metric}: {found:?}") };
                assert_eq!(signal.metric, metric);
                assert_eq!(signal.over, large && beyond, "{metric} {case}");
                assert_eq!(signal.significant, significant, "{metric} {case}");
                assert_eq!(found.drifted, case == 7, "{metric} {case}");
                assert_eq!(found.reasons.len(), usize::from(case == 7), "{metric} {case}");
                assert_eq!(found.significant, significant, "{metric} {case}");
            }
        }
    }

    #[test]
    fn a_p_value_alone_is_significant_and_no_drift() {
        let metrics = Metrics { ks: ks(0.002, 1e-30, 1e-28), psi: psi(0.0001, 0.00005, 1e-9), ..Metrics::default() };
        let found = judge(&metrics, Kind::Numeric, ALL);
        assert!(found.significant && !found.drifted && found.reasons.is_empty(), "{found:?}");
    }

    #[test]
    fn the_noise_beside_a_figure_is_in_the_unit_of_the_figure() {
        let noise = NoiseLevel { p_value: 0.4, level_99: 0.04, effect: 0.03 - 0.04, asymptotic: true, q_value: None };
        let js = Some(JensenShannon { distance: 0.03f64.sqrt(), divergence: 0.03, noise: Some(noise) });
        let found = judge(&Metrics { js, ..Metrics::default() }, Kind::Categorical, ALL);
        let [signal] = &found.signals[..] else { panic!("{found:?}") };
        // The distance is above its threshold, and below the square root of what chance gives the divergence.
        assert!(signal.value > signal.limit && !signal.over, "{signal:?}");
        assert!((signal.noise.unwrap() - 0.2).abs() < 1e-12, "{signal:?}");
    }

    #[test]
    fn a_distance_of_zero_switches_the_test_off() {
        let thresholds = Thresholds { ks_d: 0.0, ..Thresholds::default() };
        let limits = Limits { thresholds: &thresholds, false_discovery_rate: FALSE_DISCOVERY_RATE };
        let metrics = Metrics { ks: ks(0.01, 1e-9, 1e-9), ..Metrics::default() };
        assert!(!evaluate(&metrics, Kind::Numeric, ALL, &limits).drifted);
    }

    #[test]
    fn a_kind_is_judged_by_its_own_figures() {
        let js = Some(JensenShannon { distance: 0.9, divergence: 0.81, noise: noise(0.8, 1e-9) });
        let metrics = Metrics { psi: psi(0.9, 0.8, 1e-9), ks: ks(0.9, 1e-9, 1e-9), js, ..Metrics::default() };
        let names =
            |kind| judge(&metrics, kind, ALL).signals.into_iter().map(|signal| signal.metric).collect::<Vec<_>>();
        assert_eq!(
            (names(Kind::Numeric), names(Kind::Categorical)),
            (vec!["psi".into(), "ks".into()], vec!["js".into()])
        );
    }

    #[test]
    fn what_has_too_few_rows_is_not_judged() {
        let metrics =
            Metrics { psi: psi(0.9, 0.8, 1e-9), missing: missing(0.9, 1e-9, Some(1e-9)), ..Metrics::default() };
        for (values, missing) in [(true, true), (true, false), (false, true), (false, false)] {
            let found = judge(&metrics, Kind::Numeric, Judged { values, missing });
            let names: Vec<&str> = found.signals.iter().map(|signal| &*signal.metric).collect();
            let wanted = [("psi", values), ("missing", missing)];
            assert_eq!(names, wanted.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect::<Vec<_>>());
            assert_eq!(found.drifted, values || missing);
            assert_eq!(found.significant, values || missing);
        }
    }

    #[test]
    fn a_convention_decides_in_place_of_the_rules_on_values() {
        let of = |value: Option<f64>, limit| {
            let figures = value.map(|value| (Figure::Psi, value)).into_iter().collect();
            let (name, decides) = (Convention::Nannyml, Figure::Psi);
            let convention = Some(ConventionFigures { name, figures, decides, limit, bins: None });
            let metrics = Metrics {
                psi: psi(0.9, 0.8, 1e-9),
                missing: missing(0.9, 1e-9, Some(1e-9)),
                convention,
                ..Metrics::default()
            };
            let found = judge(&metrics, Kind::Numeric, ALL);
            found.signals.into_iter().map(|signal| (signal.key(), signal.drifted())).collect::<Vec<_>>()
        };
        assert_eq!(of(Some(0.2), Some(0.1)), [(CONVENTION, true), ("missing", true)]);
        assert_eq!(of(Some(0.05), Some(0.1)), [(CONVENTION, false), ("missing", true)]);
        assert_eq!(of(Some(0.2), None), [("missing", true)]);
        // Without a figure the rules decide.
        assert_eq!(of(None, Some(0.1)), [("psi", true), ("missing", true)]);
    }

    /// The default distance is that of a normal feature, shifted until its population stability index is at its threshold.
    #[test]
    fn the_default_distance_is_where_a_shifted_normal_feature_reaches_its_psi() {
        use statrs::distribution::{ContinuousCDF, Normal};
        let normal = Normal::new(0.0, 1.0).unwrap();
        let shares = |shift: f64| {
            let edges = (1..10).map(|i| normal.inverse_cdf(f64::from(i) / 10.0)).chain([f64::INFINITY]);
            let (mut last, mut shares) = (0.0, Vec::new());
            for below in edges.map(|edge| normal.cdf(edge - shift)) {
                shares.push(((below - last) * 1e9) as u64);
                last = below;
            }
            shares
        };
        let defaults = Thresholds::default();
        // ppf: the distance of two normal distributions a shift apart is 2 cdf(shift / 2) - 1.
        let shift = 2.0 * normal.inverse_cdf((1.0 + defaults.ks_d) / 2.0);
        let index = divergence::psi(&shares(0.0), &shares(shift), EPSILON);
        assert!((index - defaults.psi).abs() < 0.02, "{index}");
    }
}
