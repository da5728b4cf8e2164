//! Estimates of the cost and value of training a model, from the store.

use jiff::Timestamp;

use crate::retrain::cost::{LossSource, MetricLoss, PAST_RUNS};
use crate::retrain::{CostEstimate, MissingInput, ValueEstimate};
use crate::store::{MeasurementRecord, Store};
use driftsweep::metric::performance::PerformanceMetric;
use driftsweep_common::error::Result;
use driftsweep_fleet::{Model, RetrainConfig};

/// The estimated cost and value of training a model now.
///
/// # Errors
/// [`driftsweep_common::error::Error::Store`].
pub fn estimate(store: &mut Store, model: &Model, retrain: &RetrainConfig) -> Result<(CostEstimate, ValueEstimate)> {
    let estimate = CostEstimate::new(retrain.cost, &store.past_costs(&model.name, PAST_RUNS)?);
    let trained = store.trained(&model.name)?;
    // Of before the last training nothing counts.
    let mut entries = store.quality(&model.name, trained.unwrap_or(Timestamp::MIN))?;
    entries.retain(|entry| trained.is_none_or(|trained| entry.as_of > trained));
    let metric = model.triggers.performance.judged_metric();
    let lost = lost(&entries, metric, retrain, model.labels.is_some());
    Ok((estimate, ValueEstimate::new(metric, lost, retrain.value_per_point_per_day, retrain.valid_for)))
}

/// The loss between the expected metric of a model, or its best since the training, and its last value: measured, or
/// estimated where that is newer. For an error it is a share of the reference, in percent, because errors have units.
fn lost(
    entries: &[MeasurementRecord],
    metric: PerformanceMetric,
    retrain: &RetrainConfig,
    labelled: bool,
) -> MetricLoss {
    let higher_is_better = metric.higher_is_better();
    let sign = if higher_is_better { 1.0 } else { -1.0 };
    let realised = || entries.iter().filter(|entry| entry.kind == "realised");
    let best = realised().map(|entry| sign * entry.value).max_by(f64::total_cmp);
    let expected = retrain.expected.map(|expected| sign * expected).or(best);
    let last = entries.iter().filter(|entry| entry.kind != "reconciled").max_by_key(|entry| entry.before);
    let unknown = |missing: MissingInput| match retrain.assumed_loss {
        assumed if assumed > 0.0 => MetricLoss { points: assumed, low: 0.0, loss: LossSource::Assumed, missing: None },
        _ => MetricLoss { missing: Some(missing), ..MetricLoss::default() },
    };
    match expected.zip(last) {
        Some((expected, last)) => {
            let near = if higher_is_better { last.high } else { last.low };
            // `expected` holds errors with a negative sign.
            let whole = if higher_is_better { 1.0 } else { -expected };
            if whole <= 0.0 {
                return unknown(MissingInput::Reference);
            }
            let points = |value: f64| (100.0 * (expected - sign * value) / whole).max(0.0);
            let loss = if last.kind == "realised" { LossSource::Realised } else { LossSource::Estimated };
            MetricLoss { points: points(last.value), low: points(near), loss, missing: None }
        }
        None => unknown(match last {
            _ if !labelled => MissingInput::Labels,
            None => MissingInput::Measurement,
            Some(_) => MissingInput::Expected,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftsweep::model::Options;
    use driftsweep_fleet::Fleet;

    #[test]
    fn a_loss_is_from_the_best_or_the_expected_to_the_latest_of_realised_and_estimated() {
        let retrain = |extra: &str| {
            let text = format!(
                "[approval]\napprovers = [[\"a\"]]\n[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n\
                 [model.retrain]\ncommand = [\"true\"]\nassumed_loss = 2.0\n{extra}"
            );
            Fleet::parse(&text, "f.toml".as_ref(), &Options::new()).unwrap().models.remove(0).retrain.unwrap()
        };
        let entry = |kind: &str, day: i64, value: f64| {
            let at = Timestamp::from_second(86_400 * day).unwrap();
            let (kind, model, metric) = (kind.into(), "m".into(), "accuracy".into());
            MeasurementRecord {
                model,
                as_of: at,
                kind,
                metric,
                since: at,
                before: at,
                rows: 9,
                value,
                low: value - 0.01,
                high: value + 0.01,
            }
        };
        let entries = [
            entry("realised", 1, 0.95),
            entry("realised", 9, 0.91),
            entry("estimated", 12, 0.90),
            entry("reconciled", 13, 0.5),
        ];
        let close = |found: MetricLoss, points: f64, low: f64, loss| {
            assert!((found.points - points).abs() < 1e-9 && (found.low - low).abs() < 1e-9, "{found:?}");
            assert_eq!(found.loss, loss);
        };
        let accuracy = |entries: &[MeasurementRecord], extra: &str| {
            lost(entries, PerformanceMetric::Accuracy, &retrain(extra), true)
        };
        close(accuracy(&entries, ""), 5.0, 4.0, LossSource::Estimated);
        close(accuracy(&entries[..2], "expected = 0.97"), 6.0, 5.0, LossSource::Realised);
        close(accuracy(&[], ""), 2.0, 0.0, LossSource::Assumed);
        // For an error less is better, and a point is one percent of the reference, whatever the unit of the error.
        for metric in [PerformanceMetric::Mae, PerformanceMetric::Rmse, PerformanceMetric::LogLoss] {
            for unit in [1.0, 1e6] {
                let in_unit = |day, value: f64| {
                    let entry = entry("realised", day, value * unit);
                    MeasurementRecord { low: 0.99 * entry.value, high: 1.01 * entry.value, ..entry }
                };
                let entries = [in_unit(1, 100.0), in_unit(9, 162.0)];
                let of = |extra: &str| lost(&entries, metric, &retrain(extra), true);
                close(of(""), 62.0, 60.38, LossSource::Realised);
                close(of(&format!("expected = {:.1}", 81.0 * unit)), 100.0, 98.0, LossSource::Realised);
                close(of(&format!("expected = {:.1}", 200.0 * unit)), 0.0, 0.0, LossSource::Realised);
                // No share can be taken of nothing.
                close(of("expected = 0"), 2.0, 0.0, LossSource::Assumed);
                let strict = RetrainConfig { assumed_loss: 0.0, ..retrain("expected = 0") };
                assert_eq!(lost(&entries, metric, &strict, true).missing, Some(MissingInput::Reference));
            }
        }
    }

    #[test]
    fn what_is_missing_to_say_a_loss_is_named() {
        let text = "[approval]\napprovers = [[\"a\"]]\n[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n\
                    [model.retrain]\ncommand = [\"true\"]\n";
        let retrain = Fleet::parse(text, "f.toml".as_ref(), &Options::new()).unwrap().models.remove(0).retrain.unwrap();
        let at = Timestamp::UNIX_EPOCH;
        let entry = |kind: &str| MeasurementRecord {
            model: "m".into(),
            as_of: at,
            kind: kind.into(),
            metric: "auc".into(),
            since: at,
            before: at,
            rows: 9,
            value: 0.8,
            low: 0.7,
            high: 0.9,
        };
        let missing =
            |entries: &[MeasurementRecord], labelled| lost(entries, PerformanceMetric::Auc, &retrain, labelled).missing;
        assert_eq!(missing(&[], false), Some(MissingInput::Labels));
        assert_eq!(missing(&[], true), Some(MissingInput::Measurement));
        assert_eq!(missing(&[entry("estimated")], true), Some(MissingInput::Expected));
        assert_eq!(missing(&[entry("realised")], true), None);
    }
}
