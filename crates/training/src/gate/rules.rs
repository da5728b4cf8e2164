//! What a candidate must show: `[model.gates]` of the fleet file.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use driftsweep::metric::performance::PerformanceMetric;

/// What a candidate must show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateRules {
    /// Its metrics.
    pub metrics: Vec<MetricRule>,
    /// Labelled rows that are required.
    pub min_rows: usize,
    /// Rows of each kind that a metric is about (for recall the positives, …) that are required.
    pub min_class_rows: usize,
    /// The largest share of labelled rows without a prediction.
    pub max_unmatched: f64,
    /// A metric above this figure is suspected to know the label.
    pub leakage: f64,
    /// Confidence of intervals.
    pub confidence: f64,
    /// What rows belong together.
    pub together: Together,
    /// Whether the candidate must beat the label of the row before, too.
    pub no_change: bool,
    /// How calibrated its scores must be.
    pub calibration: Option<CalibrationRule>,
    /// How equal it must treat groups, by the column that tells them apart.
    pub fairness: IndexMap<String, FairnessRule>,
    /// The longest time that 95 % of its predictions may take, in the unit of the column.
    pub latency_p95: Option<f64>,
}

/// What a metric must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricRule {
    /// The metric.
    pub metric: PerformanceMetric,
    /// The candidate's own figure: at least, or for a loss at most.
    pub limit: Option<f64>,
    /// How much better than the champion it must be.
    pub better_by: Option<f64>,
    /// The level of the test that it is better by more than `margin`.
    pub significance: Option<f64>,
    /// The margin of that test. Below 0 the test is that the candidate is not worse by more.
    pub margin: f64,
}

/// Rows that are not independent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Together {
    /// Those of a day, where rows have times.
    #[default]
    Day,
    /// None.
    None,
}

/// How calibrated scores must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationRule {
    /// The smallest and the largest slope of the regression of labels on scores.
    pub slope: [f64; 2],
    /// The same of its intercept.
    pub intercept: Option<[f64; 2]>,
}

/// How equal a model must treat groups. Each limit is of the difference between the group with the largest share and the one
/// with the smallest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FairnessRule {
    /// The largest difference of the share of positives that are found (equal opportunity).
    #[serde(default)]
    pub tpr: Option<f64>,
    /// The largest difference of the share of negatives that are taken for positives.
    #[serde(default)]
    pub fpr: Option<f64>,
    /// The largest difference of the share that is predicted positive (demographic parity).
    #[serde(default)]
    pub selection_rate: Option<f64>,
    /// The groups that are judged; the others are shown. By default all.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// Rows of a group that are required, of those that a share is about. By default 100.
    #[serde(default)]
    pub min_rows: Option<usize>,
}

impl FairnessRule {
    /// Rows of a group that are required.
    pub fn needed(&self) -> usize {
        self.min_rows.unwrap_or(100)
    }
}

/// `[gates]` of the fleet file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GateTable {
    /// What metrics must be. By default an accuracy of at least 0.90, and better than the champion's by 0.01.
    #[serde(default)]
    pub metrics: Option<Vec<MetricTable>>,
    /// Labelled rows that are required. By default 1000.
    #[serde(default)]
    pub min_rows: Option<usize>,
    /// Rows of each kind that a metric is about, such as positives, that are required. By default 30.
    #[serde(default)]
    pub min_class_rows: Option<usize>,
    /// The largest share of labelled rows without a prediction of one of the models. By default 0.01.
    #[serde(default)]
    pub max_unmatched: Option<f64>,
    /// A metric above this figure is suspected to know the label. By default 0.99.
    #[serde(default)]
    pub leakage: Option<f64>,
    /// Confidence of intervals. By default 0.95.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// What rows belong together: `day`, or `none`. By default `day`, where rows have times.
    #[serde(default)]
    pub together: Option<Together>,
    /// Whether the candidate must also beat the label of the row before.
    #[serde(default)]
    pub no_change: Option<bool>,
    /// How calibrated scores must be.
    #[serde(default)]
    pub calibration: Option<CalibrationTable>,
    /// How equal the model must treat groups, by the column that tells them apart.
    #[serde(default)]
    pub fairness: Option<BTreeMap<String, FairnessRule>>,
    /// The longest time that 95 % of the predictions may take, in the unit of the column of latencies.
    #[serde(default)]
    pub latency_p95: Option<f64>,
}

/// What a metric must be.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MetricTable {
    /// The metric.
    pub metric: PerformanceMetric,
    /// The smallest figure of the candidate.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// The largest figure of the candidate, of a metric where less is better.
    #[serde(default)]
    pub at_most: Option<f64>,
    /// How much better than the champion the candidate must be.
    #[serde(default)]
    pub better_by: Option<f64>,
    /// The level of a paired test that the candidate is better by more than `margin`, for example 0.05.
    #[serde(default)]
    pub significance: Option<f64>,
    /// The margin of that test. By default 0; below 0 it tests that the candidate is not worse by more.
    #[serde(default)]
    pub margin: Option<f64>,
}

/// How calibrated scores must be: the line of the regression of labels on scores.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CalibrationTable {
    /// The smallest and the largest slope, which is 1 for calibrated scores. By default 0.8 and 1.25.
    #[serde(default)]
    pub slope: Option<[f64; 2]>,
    /// The smallest and the largest intercept, which is 0 for calibrated scores.
    #[serde(default)]
    pub intercept: Option<[f64; 2]>,
}

/// What a candidate must show where nothing is declared: accuracy of at least 0.90, and better by 0.01.
const DEFAULT_METRIC: MetricRule = MetricRule {
    metric: PerformanceMetric::Accuracy,
    limit: Some(0.90),
    better_by: Some(0.01),
    significance: None,
    margin: 0.0,
};

impl Default for GateRules {
    fn default() -> Self {
        Self {
            metrics: vec![DEFAULT_METRIC],
            min_rows: 1000,
            min_class_rows: 30,
            max_unmatched: 0.01,
            leakage: 0.99,
            confidence: 0.95,
            together: Together::Day,
            no_change: false,
            calibration: None,
            fairness: IndexMap::new(),
            latency_p95: None,
        }
    }
}

impl GateTable {
    /// These settings over those of the fleet, over what is built in.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    pub fn over(&self, fleet: &Self) -> Result<GateRules, String> {
        let default = GateRules::default();
        let share = |what: &str, own: Option<f64>, fleet: Option<f64>, default: f64| match own.or(fleet) {
            Some(share) if !(0.0..=1.0).contains(&share) => Err(format!("{what} = {share} must be between 0 and 1")),
            share => Ok(share.unwrap_or(default)),
        };
        let confidence = share("confidence", self.confidence, fleet.confidence, default.confidence)?;
        if confidence == 0.0 || confidence == 1.0 {
            return Err(format!("confidence = {confidence} must be between 0 and 1, for example 0.95"));
        }
        let metrics = match self.metrics.as_ref().or(fleet.metrics.as_ref()) {
            None => default.metrics,
            Some(tables) if tables.is_empty() => {
                return Err("metrics = [] judges nothing; leave it out for the default".into());
            }
            Some(tables) => tables.iter().map(MetricTable::resolve).collect::<Result<_, _>>()?,
        };
        let twice =
            |(i, rule): (usize, &MetricRule)| metrics[..i].iter().any(|other: &MetricRule| other.metric == rule.metric);
        if let Some((_, rule)) = metrics.iter().enumerate().find(|&given| twice(given)) {
            return Err(format!("metrics has '{}' twice; put its limits into one", rule.metric));
        }
        let fairness = self.fairness.as_ref().or(fleet.fairness.as_ref()).cloned().unwrap_or_default();
        for (column, rule) in &fairness {
            let limits = [("tpr", rule.tpr), ("fpr", rule.fpr), ("selection_rate", rule.selection_rate)];
            if limits.iter().all(|(_, limit)| limit.is_none()) {
                return Err(format!("fairness of '{column}' has no limit; give tpr, fpr or selection_rate"));
            }
            for (name, limit) in limits {
                share(&format!("fairness of '{column}': {name}"), limit, None, 0.0)?;
            }
        }
        let latency_p95 = match self.latency_p95.or(fleet.latency_p95) {
            Some(limit) if limit <= 0.0 => return Err(format!("latency_p95 = {limit} must be more than 0")),
            limit => limit,
        };
        Ok(GateRules {
            metrics,
            min_rows: self.min_rows.or(fleet.min_rows).unwrap_or(default.min_rows).max(1),
            min_class_rows: self.min_class_rows.or(fleet.min_class_rows).unwrap_or(default.min_class_rows),
            max_unmatched: share("max_unmatched", self.max_unmatched, fleet.max_unmatched, default.max_unmatched)?,
            leakage: share("leakage", self.leakage, fleet.leakage, default.leakage)?,
            confidence,
            together: self.together.or(fleet.together).unwrap_or_default(),
            no_change: self.no_change.or(fleet.no_change).unwrap_or(false),
            calibration: self.calibration.or(fleet.calibration).map(CalibrationTable::resolve).transpose()?,
            fairness: fairness.into_iter().collect(),
            latency_p95,
        })
    }
}

impl CalibrationTable {
    fn resolve(self) -> Result<CalibrationRule, String> {
        let slope = self.slope.unwrap_or([0.8, 1.25]);
        for (name, range) in [("slope", Some(slope)), ("intercept", self.intercept)] {
            if let Some([low, high]) = range
                && low > high
            {
                return Err(format!("calibration: {name} = [{low}, {high}] has no figure in it"));
            }
        }
        Ok(CalibrationRule { slope, intercept: self.intercept })
    }
}

impl MetricTable {
    fn resolve(&self) -> Result<MetricRule, String> {
        let metric = self.metric;
        let has_unit = matches!(metric, PerformanceMetric::LogLoss | PerformanceMetric::Mae | PerformanceMetric::Rmse);
        let figures = [
            ("at_least", self.at_least, 0.0..=1.0),
            ("at_most", self.at_most, 0.0..=1.0),
            ("better_by", self.better_by, -1.0..=1.0),
            ("margin", self.margin, -1.0..=1.0),
        ];
        for (name, figure, range) in figures {
            let Some(figure) = figure else { continue };
            if !figure.is_finite() || !(has_unit || range.contains(&figure)) {
                let (low, high) = (range.start(), range.end());
                return Err(format!("{name} = {figure} of {metric} must be between {low} and {high}"));
            }
        }
        let limit = match (metric.higher_is_better(), self.at_least, self.at_most) {
            (true, limit, None) | (false, None, limit) => limit,
            (true, _, Some(_)) => return Err(format!("more {metric} is better; give at_least instead of at_most")),
            (false, Some(_), _) => return Err(format!("less {metric} is better; give at_most instead of at_least")),
        };
        if limit.or(self.better_by).or(self.significance).is_none() {
            let name = if metric.higher_is_better() { "at_least" } else { "at_most" };
            return Err(format!("'{metric}' has no limit; give {name}, better_by or significance"));
        }
        if let Some(level) = self.significance
            && !(level > 0.0 && level < 0.5)
        {
            return Err(format!("significance = {level} must be between 0 and 0.5, for example 0.05"));
        }
        if self.margin.is_some() && self.significance.is_none() {
            return Err("margin is that of a test; give its level with significance".into());
        }
        Ok(MetricRule {
            metric,
            limit,
            better_by: self.better_by,
            significance: self.significance,
            margin: self.margin.unwrap_or(0.0),
        })
    }
}
