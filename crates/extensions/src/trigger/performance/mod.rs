//! The performance trigger: a performance metric on labelled predictions is beyond its level.

mod assess;
mod explain;

use jiff::SignedDuration;
use serde::Deserialize;

pub use assess::{PerformanceStatus, PerformanceVerdict, PredictionSpan, assess};

use super::{ExplainView, Sheet, SweepView, TriggerProperties, TriggerSettings, TriggerVerdict};
use crate::value::{Setting, Validated, check_range};
use driftsweep::metric::performance::PerformanceMetric;
use driftsweep_common::duration::Length;
use driftsweep_common::error::Result;

/// The table `trigger.performance` of the fleet file.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PerformanceTable {
    /// The performance metric. By default accuracy.
    metric: Option<PerformanceMetric>,
    /// Fires where the whole confidence interval is beyond it. By default 0.9 for accuracy; the other metrics have no
    /// default.
    level: Option<f64>,
    /// The warning level.
    warning: Option<f64>,
    /// The period of predictions. By default 7d.
    within: Option<Length>,
    /// The newest predictions with a label that are used. By default 10000.
    rows: Option<usize>,
    /// The smallest number of labels. By default 200.
    min_labels: Option<usize>,
    /// The confidence of the interval. By default 0.95.
    confidence: Option<f64>,
}

/// When performance triggers a training.
#[derive(Clone, Debug)]
pub struct PerformanceTrigger {
    /// The performance metric.
    pub metric: Setting<Option<PerformanceMetric>>,
    /// The trigger level: values below it (above it for errors) trigger.
    pub level: Setting<Option<f64>>,
    /// The warning level.
    pub warning: Setting<Option<f64>>,
    /// The period of predictions that are used ...
    pub within: Setting<SignedDuration>,
    /// ... and the largest number of them, newest first.
    pub rows: Setting<usize>,
    /// The smallest number of labels.
    pub min_labels: Setting<usize>,
    /// Confidence of the interval, all of which must be beyond the level.
    pub confidence: Setting<f64>,
}

impl PerformanceTrigger {
    /// The metric that is judged.
    pub fn judged_metric(&self) -> PerformanceMetric {
        self.metric.value.unwrap_or(PerformanceMetric::Accuracy)
    }

    /// Refuses settings that contradict each other.
    fn check(&self) -> Validated<()> {
        let judged = self.judged_metric();
        let higher = judged.higher_is_better();
        let most = if higher { 1.0 } else { f64::MAX };
        for x in [self.level.value, self.warning.value].into_iter().flatten() {
            if !(0.0..=most).contains(&x) {
                let range = if most == 1.0 { "between 0 and 1" } else { "0 or more" };
                return Err(format!("level = {x}: {judged} is {range}"));
            }
        }
        if self.rows.value < self.min_labels.value {
            let (rows, least) = (self.rows.value, self.min_labels.value);
            return Err(format!("rows = {rows} are fewer than min_labels = {least}"));
        }
        if self.within.value.is_zero() {
            return Err("within = \"0d\" looks at nothing".into());
        }
        if let (Some(level), Some(warning)) = (self.level.value, self.warning.value)
            && (warning < level) == higher
            && warning != level
        {
            return Err(format!("warning = {warning} comes after level = {level}; it must come before"));
        }
        Ok(())
    }
}

/// Most rows that the keys `rows` and `min_labels` may name.
const MAX_ROWS: usize = 100_000_000;

impl TriggerSettings for PerformanceTrigger {
    type Table = PerformanceTable;
    type Verdict = PerformanceVerdict;

    const PROPERTIES: TriggerProperties = TriggerProperties { place: 1, ..TriggerProperties::DEFAULT };

    fn resolve(model: Option<&PerformanceTable>, fleet: Option<&PerformanceTable>) -> Validated<Self> {
        let none = PerformanceTable::default();
        let (model, fleet) = (model.unwrap_or(&none), fleet.unwrap_or(&none));
        let metric = Setting::nearest(model.metric.map(Some), fleet.metric.map(Some), None);
        // A level belongs to a metric: a level for another metric is not inherited.
        let same = model.metric.is_none_or(|own| own == fleet.metric.unwrap_or(PerformanceMetric::Accuracy));
        let level = |model: Option<f64>, fleet: Option<f64>, built_in: Option<f64>| {
            Setting::nearest(model.map(Some), fleet.filter(|_| same).map(Some), built_in)
        };
        let of_shares = metric.value.is_none_or(|metric| metric == PerformanceMetric::Accuracy);
        let rows = |what: &str, of: fn(&PerformanceTable) -> Option<usize>, built_in: usize| {
            let [model, fleet] = [model, fleet].map(|table| check_range(what, of(table), 1..=MAX_ROWS));
            Ok::<_, String>(Setting::nearest(model?, fleet?, built_in))
        };
        let confidence = |table: &PerformanceTable| check_range("confidence", table.confidence, 0.5..=0.999_999);
        let week = SignedDuration::from_hours(24 * 7);
        let settings = Self {
            metric,
            level: level(model.level, fleet.level, Some(0.9).filter(|_| of_shares)),
            warning: level(model.warning, fleet.warning, None),
            within: Setting::nearest_length(model.within, fleet.within, week),
            rows: rows("rows", |table| table.rows, 10_000)?,
            min_labels: rows("min_labels", |table| table.min_labels, 200)?,
            confidence: Setting::nearest(confidence(model)?, confidence(fleet)?, 0.95),
        };
        settings.check().map(|()| settings)
    }

    fn missing(&self, labels: bool) -> Option<&'static str> {
        match labels {
            false => Some("[model.labels]"),
            true => self.level.value.is_none().then_some("trigger.performance.level"),
        }
    }

    /// The figures are shown even without a level.
    fn uses_labels(&self) -> bool {
        true
    }

    fn labels_within(&self) -> SignedDuration {
        self.within.value
    }

    fn judge(&self, view: &SweepView<'_>) -> Result<Option<PerformanceVerdict>> {
        view.labels.map(|labels| assess(self, labels, view.past.trained, view.as_of)).transpose()
    }

    fn explain(&self, found: Option<&PerformanceVerdict>, view: &ExplainView<'_>, page: &mut Sheet) {
        explain::show(found, view, page);
    }
}

impl TriggerVerdict for PerformanceVerdict {
    fn reason(&self) -> Option<String> {
        let (found, level) = (self.realised?, self.level.value?);
        let (side, end) =
            if self.metric.value.higher_is_better() { ("below", found.high) } else { ("above", found.low) };
        (self.status == PerformanceStatus::Triggered).then(|| {
            format!(
                "{} {:.4} over {} rows, {side} {level} for its whole interval (up to {end:.4})",
                self.metric.value, found.value, found.rows
            )
        })
    }

    fn not_judged(&self) -> Option<String> {
        let days = |seconds: i64| format!("{:.1} days", seconds as f64 / 86_400.0);
        let takes = || {
            let how = match (self.maturity_learned, self.delay_declared) {
                (true, _) => "as learned from their arrival times",
                (false, true) => "as labels.delay declares",
                (false, false) => "by default",
            };
            format!("the label delay is {}, {how}", days(self.maturity_seconds))
        };
        let fewest = self.min_labels.value;
        Some(match self.status {
            PerformanceStatus::Ok | PerformanceStatus::Warning | PerformanceStatus::Triggered => return None,
            PerformanceStatus::DelayUnknown => format!(
                "the label delay is not known yet: the oldest prediction is of {} and labels are still arriving; \
                 declare labels.delay, or wait until predictions are twice as old as the label delay",
                self.oldest.map_or_else(|| "unknown time".into(), |oldest| oldest.to_string())
            ),
            PerformanceStatus::NoLabels if self.matured.predictions > 0 => {
                format!("none of {} predictions whose labels are due has a label", self.matured.predictions)
            }
            PerformanceStatus::NoLabels => match self.oldest {
                None => "there are no predictions in the period".into(),
                Some(oldest) => format!(
                    "there is no prediction from {} to {} ({}); the oldest is of {oldest}",
                    self.matured.since,
                    self.matured.before,
                    takes()
                ),
            },
            PerformanceStatus::TooFewLabels => {
                let rows = self.realised.map_or(self.matured.labelled, |found| found.rows);
                format!("{rows} rows with a label are too few, min_labels requires {fewest} ({})", takes())
            }
            PerformanceStatus::Undefined => {
                format!("{} is not defined over these rows: one class alone, or nothing predicted", self.metric.value)
            }
            PerformanceStatus::NoLevel => format!("{} has no level; set trigger.performance.level", self.metric.value),
        })
    }

    fn evidence(&self, _most: usize) -> Option<Vec<String>> {
        let metric = self.metric.value;
        let mut lines = Vec::new();
        if let Some(m) = self.realised {
            lines.push(format!(
                "{metric} {:.4}, {:.4} to {:.4} at {} % confidence, over {} rows",
                m.value,
                m.low,
                m.high,
                100.0 * self.confidence.value,
                m.rows
            ));
        }
        let side = if metric.higher_is_better() { "below" } else { "above" };
        if let Some(level) = self.level.value {
            lines
                .push(format!("it triggers where the whole interval is {side} {level} ({})", self.level.origin.name()));
        }
        if let Some(m) = self.estimated {
            lines.push(format!(
                "the newest predictions, estimated without labels: {:.4} ({:.4} to {:.4})",
                m.value, m.low, m.high
            ));
        }
        Some(lines)
    }
}
