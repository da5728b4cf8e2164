//! Estimates of the cost of training a model, learned from past costs, and of its value.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use driftsweep::metric::performance::PerformanceMetric;
use driftsweep_fleet::Money;

/// The estimated cost of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostEstimate {
    /// By the declared hours and rates alone.
    pub declared: Money,
    /// Corrected by what past runs cost.
    pub expected: Money,
    /// The 10 % quantile of the cost ...
    pub low: Money,
    /// ... and the 90 % quantile, which is reserved in the budget while it runs.
    pub high: Money,
    /// Past runs that were learned from.
    pub runs: usize,
}

/// Most past runs used for an estimate.
pub const PAST_RUNS: usize = 20;

/// The prior, before any run: the ratio of actual to declared cost is about 1, with a spread of a fifth; it has the
/// weight of two runs for the spread and of one for the ratio.
const PRIOR_MEAN_RUNS: f64 = 1.0;
const PRIOR_SPREAD_RUNS: f64 = 2.0;
const PRIOR_SPREAD: f64 = 0.2;

impl CostEstimate {
    /// From the declared cost and past runs of the model, each with what was declared then and what it cost.
    ///
    /// The logarithm of actual over declared is modelled as normal, with a normal-inverse-chi-square prior; the next
    /// run then follows a Student t distribution (Gelman et al., Bayesian Data Analysis, 3rd ed., section 3.3).
    pub fn new(declared: Money, past: &[(Money, Money)]) -> Self {
        let ratios: Vec<f64> = past
            .iter()
            .filter(|(declared, actual)| *declared > Money::ZERO && *actual > Money::ZERO)
            .map(|(declared, actual)| (actual.units() / declared.units()).ln())
            .collect();
        let n = ratios.len() as f64;
        let mean = if ratios.is_empty() { 0.0 } else { ratios.iter().sum::<f64>() / n };
        let squares: f64 = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum();
        let weight = PRIOR_MEAN_RUNS + n;
        let freedom = PRIOR_SPREAD_RUNS + n;
        let pull = PRIOR_MEAN_RUNS * n / weight * mean * mean;
        let variance = (PRIOR_SPREAD_RUNS * PRIOR_SPREAD * PRIOR_SPREAD + squares + pull) / freedom;
        let centre = n * mean / weight;
        let scale = (variance * (1.0 + 1.0 / weight)).sqrt();
        let reach = StudentsT::new(0.0, 1.0, freedom).map_or(f64::INFINITY, |t| t.inverse_cdf(0.9)) * scale;
        let times = |exponent: f64| declared.times(exponent.exp());
        Self {
            declared,
            expected: times(centre),
            low: times(centre - reach),
            high: times(centre + reach),
            runs: ratios.len(),
        }
    }
}

/// The source of the loss of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossSource {
    /// Measured on labels.
    Realised,
    /// Estimated without labels.
    Estimated,
    /// Declared for a model of which nothing is measured.
    Assumed,
    /// Neither measured nor declared.
    #[default]
    Unknown,
}

impl LossSource {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Realised => "realised",
            Self::Estimated => "estimated",
            Self::Assumed => "assumed",
            Self::Unknown => "unknown",
        }
    }
}

/// Missing inputs for the loss of a model, or its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingInput {
    /// The value of a point.
    #[serde(rename = "point_a_day")]
    ValuePerPoint,
    /// Labels: without them nothing is measured.
    Labels,
    /// A measurement since the last training.
    Measurement,
    /// A reference: nothing was measured on labels since the last training, and nothing is expected.
    Expected,
    /// A reference other than 0: a share of 0 is not defined.
    Reference,
}

impl MissingInput {
    /// The missing input, and how to provide it.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ValuePerPoint => {
                "value_per_point_per_day is not set: set the value of one point per day under [model.retrain]"
            }
            Self::Labels => {
                "no labels are declared, so the loss is not known: add [model.labels], or give assumed_loss"
            }
            Self::Measurement => {
                "no sweep has measured the model since its last training: wait for labels, or give assumed_loss"
            }
            Self::Expected => {
                "nothing was measured on labels since the last training that the estimate could be compared with: give expected"
            }
            Self::Reference => {
                "the reference of the error metric is 0 or less, and a loss is a share of it: give expected, above 0"
            }
        }
    }
}

/// A description of one point.
pub fn point(metric: PerformanceMetric) -> String {
    match metric.higher_is_better() {
        true => format!("a point is a hundredth of {metric}"),
        false => format!("a point is one percent of the reference {metric}"),
    }
}

/// The estimated value of training a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueEstimate {
    /// Points of the metric lost: hundredths of it where higher is better, percent of the reference where it is an
    /// error.
    pub points: f64,
    /// The source of the loss.
    pub loss: LossSource,
    /// The cost per day of not retraining.
    pub stale_a_day: Money,
    /// The gain of a training while it lasts.
    pub gain: Money,
    /// The gain at the conservative end of the measured loss.
    pub gain_low: Money,
    /// The metric that points are of; absent from jobs of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<PerformanceMetric>,
    /// Missing inputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingInput>,
}

/// How much a model has lost, in points of its metric.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MetricLoss {
    /// The points.
    pub points: f64,
    /// The conservative end of their interval.
    pub low: f64,
    /// Their source.
    pub loss: LossSource,
    /// Why they are unknown, if so.
    pub missing: Option<MissingInput>,
}

impl ValueEstimate {
    /// From a loss in a metric, the value of a point per day and the duration of the gain.
    pub fn new(
        metric: PerformanceMetric,
        lost: MetricLoss,
        point_per_day: Option<Money>,
        valid_for: SignedDuration,
    ) -> Self {
        let no_value = point_per_day.is_none().then_some(MissingInput::ValuePerPoint);
        let day = point_per_day.unwrap_or(Money::ZERO);
        let days = valid_for.as_secs_f64() / 86_400.0;
        let loss = if point_per_day.is_some() { lost.loss } else { LossSource::Unknown };
        Self {
            points: lost.points,
            loss,
            stale_a_day: day.times(lost.points),
            gain: day.times(lost.points * days),
            gain_low: day.times(lost.low * days),
            metric: Some(metric),
            missing: no_value.into_iter().chain(lost.missing).collect(),
        }
    }

    /// Days after which not retraining costs as much as training; `None` if not retraining costs nothing.
    pub fn break_even(&self, cost: Money) -> Option<f64> {
        (self.stale_a_day > Money::ZERO).then(|| cost.units() / self.stale_a_day.units())
    }

    /// Whether it pays off with conservative estimates of both cost and gain.
    pub fn surely_pays(&self, estimate: &CostEstimate) -> bool {
        self.gain_low > estimate.high
    }

    /// The advice, with its reason.
    pub fn advice(&self, estimate: &CostEstimate) -> &'static str {
        match self.loss {
            LossSource::Unknown => "unknown",
            _ if self.gain > estimate.high => "retrain",
            _ if self.gain < estimate.low => "wait",
            _ => "even",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(x: f64) -> Money {
        Money::of(x).unwrap()
    }

    #[test]
    fn an_estimate_learns_from_what_runs_did_cost_and_grows_surer() {
        let new = CostEstimate::new(units(100.0), &[]);
        assert_eq!((new.expected, new.runs), (units(100.0), 0));
        // scipy: exp(t.ppf(0.9, 2) * 0.2 * sqrt(2)) = 1.7046
        assert_eq!((new.low, new.high), (units(58.66), units(170.46)));
        let past = [(units(100.0), units(150.0)); 9];
        let known = CostEstimate::new(units(200.0), &past);
        // ln 1.5 * 9 / 10 = 0.364919...
        assert_eq!(known.expected, units(288.08));
        let width = |e: &CostEstimate| e.high.units() / e.low.units();
        assert!(width(&known) < width(&new) && known.low > units(200.0), "{known:?}");
        let noisy: Vec<_> = past.iter().zip(1..).map(|((d, _), i)| (*d, units(f64::from(50 * i)))).collect();
        assert!(width(&CostEstimate::new(units(200.0), &noisy)) > width(&known));
        let free = CostEstimate::new(Money::ZERO, &[(Money::ZERO, units(3.0))]);
        assert_eq!((free.high, free.runs), (Money::ZERO, 0));
    }

    #[test]
    fn worth_is_points_times_value_times_days() {
        let lost = MetricLoss { points: 3.0, low: 1.0, loss: LossSource::Realised, missing: None };
        let worth =
            ValueEstimate::new(PerformanceMetric::Accuracy, lost, Some(units(20.0)), SignedDuration::from_hours(240));
        assert_eq!((worth.stale_a_day, worth.gain, worth.gain_low), (units(60.0), units(600.0), units(200.0)));
        assert_eq!(worth.break_even(units(120.0)), Some(2.0));
        let cost = |x| CostEstimate { high: units(x), low: units(x), ..CostEstimate::new(units(x), &[]) };
        assert_eq!([100.0, 900.0].map(|x| worth.advice(&cost(x))), ["retrain", "wait"]);
        assert!(worth.surely_pays(&cost(199.0)) && !worth.surely_pays(&cost(200.0)));
        let worthless = ValueEstimate::new(
            PerformanceMetric::Mae,
            MetricLoss { missing: Some(MissingInput::Labels), ..lost },
            None,
            SignedDuration::ZERO,
        );
        assert_eq!(
            (worthless.loss, &*worthless.missing),
            (LossSource::Unknown, &[MissingInput::ValuePerPoint, MissingInput::Labels][..])
        );
        assert_eq!(worthless.advice(&cost(1.0)), "unknown");
        // As jobs of older versions have it, in cents.
        let old = r#"{"points":3.0,"loss":"realised","stale_a_day":6000,"gain":60000,"gain_low":20000}"#;
        let old: ValueEstimate = serde_json::from_str(old).unwrap();
        assert_eq!(old, ValueEstimate { metric: None, ..worth.clone() });
        assert_eq!(serde_json::from_str::<ValueEstimate>(&serde_json::to_string(&worth).unwrap()).unwrap(), worth);
    }
}
