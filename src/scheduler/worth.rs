//! What training a model costs and is worth, by what is remembered of it.

use crate::error::Result;
use crate::fleet::{Model, Retrain};
use crate::metric::performance::Quality;
use crate::retrain::cost::{Loss, Lost, PAST_RUNS};
use crate::retrain::{Estimate, Worth};
use crate::store::{QualityEntry, Store};

/// The cost and worth of training a model now.
///
/// # Errors
/// [`crate::error::Error::Store`].
pub fn reckon(store: &mut Store, model: &Model, retrain: &Retrain) -> Result<(Estimate, Worth)> {
    let estimate = Estimate::new(retrain.cost, &store.past_costs(&model.name, PAST_RUNS)?);
    let trained = store.trained(&model.name)?;
    let mut entries = store.quality(&model.name)?;
    entries.retain(|entry| trained.is_none_or(|trained| entry.as_of > trained));
    let metric = model.triggers.metric.value.unwrap_or(Quality::Accuracy);
    let lost = lost(&entries, metric.higher_is_better(), retrain);
    Ok((estimate, Worth::new(lost, retrain.point_a_day, retrain.holds)))
}

/// What is lost between what a model should be, or was at its best since it was trained, and what it was last: as it was
/// measured, or estimated where that is newer.
fn lost(entries: &[QualityEntry], higher_is_better: bool, retrain: &Retrain) -> Lost {
    let sign = if higher_is_better { 1.0 } else { -1.0 };
    let realised = || entries.iter().filter(|entry| entry.kind == "realised");
    let best = realised().map(|entry| sign * entry.value).max_by(f64::total_cmp);
    let expected = retrain.expected.map(|expected| sign * expected).or(best);
    let last = entries.iter().filter(|entry| entry.kind != "reconciled").max_by_key(|entry| entry.before);
    match expected.zip(last) {
        Some((expected, last)) => {
            let near = if higher_is_better { last.high } else { last.low };
            let points = |value: f64| (100.0 * (expected - sign * value)).max(0.0);
            let loss = if last.kind == "realised" { Loss::Realised } else { Loss::Estimated };
            Lost { points: points(last.value), low: points(near), loss }
        }
        None if retrain.assumed_loss > 0.0 => Lost { points: retrain.assumed_loss, low: 0.0, loss: Loss::Assumed },
        None => Lost::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Fleet, Options};
    use jiff::Timestamp;

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
            QualityEntry {
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
        let close = |found: Lost, points: f64, low: f64, loss| {
            assert!((found.points - points).abs() < 1e-9 && (found.low - low).abs() < 1e-9, "{found:?}");
            assert_eq!(found.loss, loss);
        };
        close(lost(&entries, true, &retrain("")), 5.0, 4.0, Loss::Estimated);
        close(lost(&entries[..2], true, &retrain("expected = 0.97")), 6.0, 5.0, Loss::Realised);
        // For an error less is better.
        close(lost(&entries[..2], false, &retrain("expected = 0.5")), 41.0, 40.0, Loss::Realised);
        close(lost(&[], true, &retrain("")), 2.0, 0.0, Loss::Assumed);
    }
}
