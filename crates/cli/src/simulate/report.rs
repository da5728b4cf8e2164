//! The result of a simulation.

use driftsweep::metric::performance::{Measurement, PerformanceMetric};
use driftsweep_fleet::Money;
use driftsweep_ops::policy::replay::{ReplayTraining, TrainingOutcome};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// The format of the document.
pub const FORMAT: &str = "driftsweep.simulation/1";

/// The result of a simulation.
#[derive(Debug, Serialize)]
pub struct Simulation {
    pub format: &'static str,
    pub model: String,
    pub feature_set: String,
    pub metric: PerformanceMetric,
    /// The night of the first training.
    pub from: Timestamp,
    /// The time before which predictions are.
    pub to: Timestamp,
    /// Nights at which triggers were judged.
    pub nights: usize,
    /// How long after its night a model is used, in seconds.
    pub lag_seconds: i64,
    /// The windows in which drift is judged.
    pub windows: String,
    /// Models that were trained: each night once, for all policies.
    pub models_trained: usize,
    /// Predictions of each month, and how many of them have a label.
    pub months: Vec<Month>,
    /// The same of the whole span.
    pub whole: Month,
    pub policies: Vec<PolicyResult>,
    pub baselines: Vec<BaselineResult>,
    /// What is to be known about these figures.
    pub notes: Vec<String>,
}

/// Predictions of a month.
#[derive(Clone, Debug, Serialize)]
pub struct Month {
    pub month: String,
    pub predictions: usize,
    pub labelled: usize,
}

/// What came of a policy.
#[derive(Debug, Serialize)]
pub struct PolicyResult {
    pub policy: String,
    pub gates: bool,
    /// Why it was not replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_replayed: Option<String>,
    /// The metric of each month; `None` where it is not defined.
    pub months: Vec<Option<Measurement>>,
    /// The mean of those.
    pub mean: Option<f64>,
    /// The metric over the whole span.
    pub whole: Option<Measurement>,
    /// The trainings after the first, with what became of each.
    pub trainings: Vec<ReplayTraining>,
    /// What they cost.
    #[serde(serialize_with = "amount")]
    pub cost: Option<Money>,
    /// How much better the metric over the whole span is than without any training.
    pub gain: Option<f64>,
    /// What a point of that costs.
    #[serde(serialize_with = "amount")]
    pub cost_per_point: Option<Money>,
}

/// A prediction that needs no model.
#[derive(Debug, Serialize)]
pub struct BaselineResult {
    pub baseline: &'static str,
    pub months: Vec<Option<Measurement>>,
    pub mean: Option<f64>,
    pub whole: Option<Measurement>,
}

/// The mean of the months that have a figure.
pub fn mean(months: &[Option<Measurement>]) -> Option<f64> {
    let known: Vec<f64> = months.iter().flatten().map(|found| found.value).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

fn amount<S: Serializer>(amount: &Option<Money>, to: S) -> Result<S::Ok, S::Error> {
    amount.map(|amount| amount.plain()).serialize(to)
}

impl PolicyResult {
    /// Its name with its gates.
    pub fn name(&self) -> String {
        if self.gates { format!("{}, gates", self.policy) } else { self.policy.clone() }
    }

    fn count(&self, of: impl Fn(&TrainingOutcome) -> bool) -> usize {
        self.trainings.iter().filter(|training| of(&training.outcome)).count()
    }

    /// Trainings that gave a model.
    pub fn trained(&self) -> usize {
        self.count(|outcome| !matches!(outcome, TrainingOutcome::Failed(_)))
    }

    /// Those whose model went into production.
    pub fn accepted(&self) -> usize {
        self.count(|outcome| matches!(outcome, TrainingOutcome::Deployed(_)))
    }

    /// Those that gave no model.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, TrainingOutcome::Failed(_)))
    }

    /// Sets what trainings cost and gain, beside the metric of the policy that never trains.
    pub fn value(&mut self, metric: PerformanceMetric, never: Option<f64>, price: Option<Money>) {
        let trained = self.trained();
        self.cost = price.map(|price| price.times(trained as f64));
        let sign = if metric.higher_is_better() { 1.0 } else { -1.0 };
        self.gain = self.whole.zip(never).map(|(own, never)| sign * (own.value - never));
        self.cost_per_point = self.cost.zip(self.points(metric, never)).map(|(cost, points)| cost.times(1.0 / points));
    }

    /// The points that were gained: hundredths of a metric where higher is better, percents of the metric without any training
    /// where lower is. `None` where nothing was gained.
    fn points(&self, metric: PerformanceMetric, never: Option<f64>) -> Option<f64> {
        let whole = if metric.higher_is_better() { 1.0 } else { never? };
        let points = 100.0 * self.gain? / whole;
        (points.is_finite() && points > 0.0).then_some(points)
    }
}

#[cfg(test)]
mod tests {
    use driftsweep_fleet::Trigger;

    use super::*;

    fn result(value: f64, outcomes: &[TrainingOutcome]) -> PolicyResult {
        let training = |outcome: &TrainingOutcome| ReplayTraining {
            at: Timestamp::UNIX_EPOCH,
            triggers: vec![Trigger::Drift],
            outcome: outcome.clone(),
        };
        PolicyResult {
            policy: "drift".into(),
            gates: true,
            not_replayed: None,
            months: Vec::new(),
            mean: None,
            whole: Some(Measurement { value, low: value, high: value, rows: 1 }),
            trainings: outcomes.iter().map(training).collect(),
            cost: None,
            gain: None,
            cost_per_point: None,
        }
    }

    #[test]
    fn a_rejected_candidate_costs_and_a_failed_training_does_not() {
        let outcomes = [
            TrainingOutcome::Deployed(Timestamp::UNIX_EPOCH),
            TrainingOutcome::Rejected("worse".into()),
            TrainingOutcome::Failed("no rows".into()),
        ];
        let mut drift = result(0.75, &outcomes);
        drift.value(PerformanceMetric::Auc, Some(0.70), Money::of(25.0));
        assert_eq!((drift.trained(), drift.accepted(), drift.failed()), (2, 1, 1));
        assert_eq!(drift.cost, Money::of(50.0));
        assert_eq!(drift.cost_per_point, Money::of(10.0), "five points of a hundredth");
        assert_eq!(drift.name(), "drift, gates");
    }

    #[test]
    fn a_point_of_an_error_is_a_percent_and_no_gain_has_no_price() {
        let trained = [TrainingOutcome::Deployed(Timestamp::UNIX_EPOCH)];
        let mut drift = result(8.0, &trained);
        drift.value(PerformanceMetric::Mae, Some(10.0), Money::of(40.0));
        assert_eq!((drift.gain, drift.cost_per_point), (Some(2.0), Money::of(2.0)));
        let mut worse = result(12.0, &trained);
        worse.value(PerformanceMetric::Mae, Some(10.0), Money::of(40.0));
        assert_eq!((worse.gain, worse.cost_per_point), (Some(-2.0), None));
        let mut unpriced = result(8.0, &trained);
        unpriced.value(PerformanceMetric::Mae, Some(10.0), None);
        assert_eq!((unpriced.cost, unpriced.cost_per_point), (None, None));
    }
}
