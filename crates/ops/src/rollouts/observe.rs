//! What is observed of both arms of a rollout: new outcomes of its checks, the division of traffic, labels, and the distribution of
//! predictions.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp, ToSpan};

use super::arms::arms;
use crate::labels::arms::{ArmColumns, ArmQuery};
use crate::retrain::ModelVersion;
use driftsweep::count::CpuCounter;
use driftsweep::metric::performance::PerformanceMetric;
use driftsweep::metric::{Metric, MetricSet};
use driftsweep::model::{ColumnUse, Options};
use driftsweep::sweep::{BaselineSource, Comparer};
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::{CheckConfig, CheckOutcome, Labels, Model, RolloutConfig};
use driftsweep_release::balance::LabelBalance;
use driftsweep_release::binary::{Block, Outcomes};
use driftsweep_release::plan::{Check, CheckKind, RolloutPlan};
use driftsweep_release::share::ShareTest;
use driftsweep_release::{Alarm, Observation, Outcome, Period, Rollout, Seen};

/// The share of production's requests that are faster than its limit.
const QUANTILE: f64 = 0.95;

/// The requests of production by which its limit is found.
const LIMIT_PERIOD: SignedDuration = SignedDuration::from_hours(24 * 7);

/// The plan of a rollout that begins now. Limits that are found by what production did before are fixed with it.
///
/// # Errors
/// Predictions that cannot be read; [`Error::BadValue`] where a limit cannot be found.
pub fn plan(
    model: &Model,
    config: &RolloutConfig,
    version: &ModelVersion,
    champion: Option<&ModelVersion>,
    now: Timestamp,
) -> Result<RolloutPlan> {
    let metrics = &champion.unwrap_or(version).trained.metrics;
    let mut plan = config.plan(|metric| metrics.get(metric.name()).copied());
    for (planned, check) in plan.checks.iter_mut().zip(&config.checks) {
        if let CheckOutcome::Slow { column, above } = &check.outcome {
            planned.limit = match above {
                Some(above) => Some(*above),
                None => Some(limit_of_production(model, config, (version.version, champion), (check, column), now)?),
            };
        }
    }
    Ok(plan)
}

/// The 95th percentile of a column in the predictions of production.
fn limit_of_production(
    model: &Model,
    config: &RolloutConfig,
    (version, champion): (u64, Option<&ModelVersion>),
    (check, column): (&CheckConfig, &str),
    now: Timestamp,
) -> Result<f64> {
    let wrong = |reason: String| Error::BadValue { what: format!("check '{}' of the rollout", check.name), reason };
    let labels = labels(model)?;
    let [candidate, production] = arms(config, version, champion.map(|champion| champion.version)).map_err(wrong)?;
    let query = ArmQuery {
        labels,
        column: &config.arm,
        arms: [&candidate.name, &production.name],
        zone: &model.zone,
        since: now.checked_sub(LIMIT_PERIOD).unwrap_or(Timestamp::MIN),
        before: now,
    };
    let mut values = Vec::new();
    query.rows(&ArmColumns { values: vec![column], unit: None }, &mut |row| {
        if row.arm == 1 && row.values[0].is_finite() {
            values.push(row.values[0]);
        }
    })?;
    values.sort_unstable_by(f64::total_cmp);
    let rank = (QUANTILE * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().ok_or_else(|| {
        wrong(format!(
            "production, '{}', has no row with a value of '{column}' in the week before {now}, by which a limit could be found; give \
             it with `above`",
            production.name
        ))
    })
}

/// Where predictions and labels are.
fn labels(model: &Model) -> Result<&Labels> {
    model.labels.as_ref().ok_or_else(|| Error::BadValue {
        what: format!("model '{}'", model.name),
        reason: "the fleet file does not say which columns hold labels and predictions; add [model.labels]".into(),
    })
}

/// A part of a period: predictions of one day in one stage.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cohort {
    stage: usize,
    from: i64,
    before: i64,
}

/// The cohorts of some periods between two times, in order. Days begin by the clock of the model.
fn cohorts(periods: &[Period], model: &Model, (from, before): (Timestamp, Timestamp)) -> Vec<Cohort> {
    let mut cohorts = Vec::new();
    // Where one arm has all traffic, there is nothing to compare.
    for period in periods.iter().filter(|period| period.share > 0.0 && period.share < 1.0) {
        let end = period.until.unwrap_or(Timestamp::MAX).min(before);
        let mut at = period.from.max(from);
        while at < end {
            let midnight = at.to_zoned(model.zone.clone()).date().checked_add(1.day()).ok();
            let midnight = midnight.and_then(|day| day.to_zoned(model.zone.clone()).ok()).map(|day| day.timestamp());
            let next = midnight.filter(|next| *next > at).unwrap_or(end).min(end);
            cohorts.push(Cohort { stage: period.stage, from: at.as_microsecond(), before: next.as_microsecond() });
            at = next;
        }
    }
    cohorts
}

/// The whole hour before a time: outcomes are added once an hour at most.
fn hour_before(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().div_euclid(3600) * 3600).unwrap_or(at)
}

/// The outcomes of a cohort, of one arm.
#[derive(Clone, Debug, Default)]
struct ArmOutcomes {
    outcomes: Outcomes,
    /// With what they are ordered by.
    numbers: Vec<(i64, u64, f64)>,
    /// Scores with their labels, for pairs.
    scores: [Vec<(i64, u64, f64)>; 2],
    /// Predictions, and those with a label.
    labelled: Outcomes,
}

impl ArmOutcomes {
    fn add(&mut self, good: bool) {
        self.outcomes.rows += 1;
        self.outcomes.good += u64::from(good);
    }

    /// Numbers in an order that does not depend on them.
    fn ordered(&self) -> Vec<f64> {
        let mut numbers = self.numbers.clone();
        numbers.sort_unstable_by_key(|&(at, key, _)| (at, key));
        numbers.into_iter().map(|(.., number)| number).collect()
    }

    /// Pairs of a row with a negative label and one with a positive label, each row in one pair: good where the positive row has the
    /// higher score. The share of good ones is the area under the ROC curve. Half of the ties are good.
    fn pairs(&self) -> Outcomes {
        let [mut negative, mut positive] = self.scores.clone();
        // By a hash: neighbours in time are alike.
        negative.sort_unstable_by_key(|&(at, key, _)| (key, at));
        positive.sort_unstable_by_key(|&(at, key, _)| (key, at));
        let mut outcomes = Outcomes::default();
        for ((_, a, low), (_, b, high)) in negative.iter().zip(&positive) {
            let good = match high.total_cmp(low) {
                std::cmp::Ordering::Greater => true,
                std::cmp::Ordering::Less => false,
                // By the hashes of both rows: half of the ties are good, whatever the block is.
                std::cmp::Ordering::Equal => (a ^ b).count_ones().is_multiple_of(2),
            };
            outcomes.rows += 1;
            outcomes.good += u64::from(good);
        }
        outcomes
    }
}

/// What is new of a rollout at a time: `None` where nothing is; and what could not be read, which the next pass reads.
///
/// # Errors
/// Where nothing can be read of both arms.
pub fn observe(
    model: &Model,
    config: &RolloutConfig,
    rollout: &Rollout,
    now: Timestamp,
) -> Result<(Option<Observation>, Vec<String>)> {
    let labels = labels(model)?;
    let wrong = |reason: String| Error::BadValue { what: "rollout".into(), reason };
    let [candidate, production] = arms(config, rollout.version, rollout.former).map_err(wrong)?;
    let Some(first) = rollout.periods.first().map(|period| period.from) else { return Ok((None, Vec::new())) };
    let query = ArmQuery {
        labels,
        column: &config.arm,
        arms: [&candidate.name, &production.name],
        zone: &model.zone,
        since: first,
        before: now,
    };
    let mut observer = Observer { model, rollout, query, now, seen: Vec::new(), failures: Vec::new() };
    let mut due = Vec::new();
    for (index, planned) in rollout.plan.checks.iter().enumerate() {
        let same = |check: &&CheckConfig| check.name == planned.name && check.outcome.to_string() == planned.source;
        let Some(check) = config.checks.iter().find(same) else {
            observer.failures.push(format!(
                "check '{}' of its plan ({}) is not in the fleet file any more; put it back, or end the release",
                planned.name, planned.source
            ));
            continue;
        };
        let from = rollout.observed_to.get(index).copied().flatten().unwrap_or(first);
        let before = hour_before(now.checked_sub(check.matures).unwrap_or(Timestamp::MIN));
        if from < before {
            due.push(DueCheck { index, planned, check, from, before });
        }
    }
    // Ticks come more often than hours begin: nothing is read where nothing is due.
    let Some(earliest) = due.iter().map(|due| due.from).min() else { return Ok((None, observer.failures)) };
    let unread = ArmQuery { since: earliest, ..observer.query };
    let Some(logged_to) = unread.newest()? else {
        let others = if earliest == first { unread.other_arms()? } else { BTreeSet::new() };
        if !others.is_empty() {
            observer.failures.push(format!(
                "the column '{}' of the predictions holds neither '{}' nor '{}' since {first}; it holds {}; correct the log, or \
                 rollout.candidate and rollout.production",
                config.arm,
                candidate.name,
                production.name,
                others.iter().map(|other| format!("'{other}'")).collect::<Vec<_>>().join(", ")
            ));
        }
        return Ok((None, observer.failures));
    };
    let mut observation = Observation {
        evidence: Vec::new(),
        observed_to: rollout.observed_to.clone(),
        share: rollout.share,
        labels: rollout.labels,
        alarms: rollout.alarms.clone(),
    };
    for due in due {
        // What is not in the log yet is read when it is: a day may be logged as a whole.
        let before = due.before.min(hour_before(logged_to));
        if before <= due.from {
            continue;
        }
        let cohorts = cohorts(&rollout.periods, model, (due.from, before));
        match observer.check(&due, &cohorts, &mut observation.labels) {
            Ok(()) => observation.observed_to[due.index] = Some(before),
            Err(error) => observer.failures.push(format!("check '{}': {error}", due.check.name)),
        }
    }
    if observation.observed_to == rollout.observed_to {
        return Ok((None, observer.failures));
    }
    match observer.share(config.unit.as_deref()) {
        Ok(share) => observation.share = share,
        Err(error) => observer.failures.push(format!("the division of traffic: {error}")),
    }
    if let Some(limit) = config.prediction_drift {
        match observer.drift(limit) {
            Ok(alarm) => observation.alarms = alarm.into_iter().collect(),
            Err(error) => observer.failures.push(format!("predictions of both arms: {error}")),
        }
    }
    observation.evidence = rollout.evidence_after(&observer.seen);
    Ok((Some(observation), observer.failures))
}

/// A check with outcomes that are complete and not read yet.
struct DueCheck<'a> {
    index: usize,
    planned: &'a Check,
    check: &'a CheckConfig,
    /// Predictions from this time on ...
    from: Timestamp,
    /// ... and before this one.
    before: Timestamp,
}

struct Observer<'a> {
    model: &'a Model,
    rollout: &'a Rollout,
    query: ArmQuery<'a>,
    now: Timestamp,
    seen: Vec<Seen>,
    failures: Vec<String>,
}

impl<'a> Observer<'a> {
    /// Reads the outcomes of a check in some cohorts.
    fn check(&mut self, due: &DueCheck<'_>, cohorts: &[Cohort], balance: &mut LabelBalance) -> Result<()> {
        let DueCheck { index, planned, check, .. } = *due;
        let limit = planned.limit;
        let (Some(first), Some(last)) = (cohorts.first(), cohorts.last()) else { return Ok(()) };
        let at = |microseconds: i64| Timestamp::from_microsecond(microseconds).unwrap_or(self.now);
        let query = ArmQuery { since: at(first.from), before: at(last.before), ..self.query };
        let mut arms = vec![[ArmOutcomes::default(), ArmOutcomes::default()]; cohorts.len()];
        let cohort_of = |at: i64| {
            let next = cohorts.partition_point(|cohort| cohort.from <= at);
            next.checked_sub(1).filter(|found| at < cohorts[*found].before)
        };
        let is_quality = matches!(check.outcome, CheckOutcome::Quality { .. });
        match &check.outcome {
            CheckOutcome::Quality { metric, largest_error } => {
                query.labelled(*metric, self.now, &self.model.options, &mut |arm, prediction| {
                    let Some(cohort) = cohort_of(prediction.at) else { return };
                    let own = &mut arms[cohort][arm];
                    own.labelled.rows += 1;
                    let Some(label) = prediction.label else { return };
                    own.labelled.good += 1;
                    let ordered = |number: f64| (prediction.at, prediction.key, number);
                    match metric {
                        PerformanceMetric::Precision if prediction.positive => own.add(label.positive),
                        PerformanceMetric::Recall if label.positive => own.add(prediction.positive),
                        PerformanceMetric::Precision | PerformanceMetric::Recall => {}
                        PerformanceMetric::Auc | PerformanceMetric::Brier if !prediction.score.is_finite() => {}
                        PerformanceMetric::Mae if !label.error.is_finite() => {}
                        PerformanceMetric::Auc => {
                            own.scores[usize::from(label.positive)].push(ordered(prediction.score));
                        }
                        PerformanceMetric::Brier => {
                            let error = prediction.score - f64::from(u8::from(label.positive));
                            own.numbers.push(ordered(-error * error));
                        }
                        PerformanceMetric::Mae => {
                            own.numbers.push(ordered(-label.error.abs().min(*largest_error)));
                        }
                        _ => own.add(label.correct),
                    }
                })?;
            }
            other => {
                let column = other.column().unwrap_or_default();
                query.rows(&ArmColumns { values: vec![column], unit: None }, &mut |row| {
                    let Some(cohort) = cohort_of(row.at) else { return };
                    let own = &mut arms[cohort][row.arm];
                    let value = row.values[0];
                    if !value.is_finite() {
                        return;
                    }
                    match other {
                        CheckOutcome::Failed { .. } => own.add(value == 0.0),
                        CheckOutcome::Slow { .. } => own.add(limit.is_none_or(|limit| value <= limit)),
                        CheckOutcome::Number { low, high, .. } => {
                            own.numbers.push((row.at, row.key, value.clamp(*low, *high)));
                        }
                        _ => own.add(value != 0.0),
                    }
                })?;
            }
        }
        let is_of_pairs = matches!(check.outcome, CheckOutcome::Quality { metric: PerformanceMetric::Auc, .. });
        let is_of_numbers = matches!(planned.kind, CheckKind::Number { .. });
        for (cohort, [candidate, production]) in cohorts.iter().zip(&arms) {
            if is_quality {
                *balance = balance.after(Block { candidate: candidate.labelled, production: production.labelled });
            }
            let outcome = if is_of_numbers {
                Outcome::Numbers { candidate: candidate.ordered(), production: production.ordered() }
            } else {
                let of = |arm: &ArmOutcomes| if is_of_pairs { arm.pairs() } else { arm.outcomes };
                Outcome::Binary(Block { candidate: of(candidate), production: of(production) })
            };
            self.seen.push(Seen { check: index, stage: cohort.stage, outcome });
        }
        Ok(())
    }

    /// The current period; none while traffic is moved.
    fn period(&self) -> Option<&'a Period> {
        let last = self.rollout.periods.last().filter(|period| period.until.is_none());
        last.filter(|_| self.rollout.applied_at.is_some())
    }

    /// Both arms since traffic is divided as it is now.
    fn current(&self) -> Option<ArmQuery<'a>> {
        let period = self.period()?;
        Some(ArmQuery { since: period.from, before: hour_before(self.now).max(period.from), ..self.query })
    }

    /// How traffic is divided in this stage: each unit counts once, in the arm in which it was first.
    fn share(&self, unit: Option<&str>) -> Result<ShareTest> {
        let Some(query) = self.current() else { return Ok(self.rollout.share) };
        let columns = ArmColumns { values: Vec::new(), unit };
        let (mut all, mut candidate) = (0, 0);
        match unit {
            None => query.rows(&columns, &mut |row| {
                all += 1;
                candidate += u64::from(row.arm == 0);
            })?,
            Some(_) => {
                // Of each unit its first time and its arm then.
                let mut first: HashMap<u64, (i64, usize)> = HashMap::new();
                query.rows(&columns, &mut |row| {
                    let known = first.entry(row.unit).or_insert((row.at, row.arm));
                    *known = (*known).min((row.at, row.arm));
                })?;
                all = first.len() as u64;
                candidate = first.values().filter(|(_, arm)| *arm == 0).count() as u64;
            }
        }
        Ok(ShareTest::new(self.rollout.wanted_share()).after(candidate, all))
    }

    /// Whether the predictions of both arms are distributed differently: the PSI of the score, or of the prediction, above a limit
    /// and above what chance gives it.
    fn drift(&self, limit: f64) -> Result<Option<Alarm>> {
        let Some(query) = self.current().filter(|query| query.since < query.before) else { return Ok(None) };
        let [candidate, production] = query.snapshots()?;
        if candidate.rows() == 0 || production.rows() == 0 {
            return Ok(None);
        }
        let labels = self.query.labels;
        let Some(column) = labels.score.as_deref().or(labels.prediction.as_deref()) else { return Ok(None) };
        let mut options = Options::new();
        options.metrics = MetricSet::from_iter([Metric::Psi]);
        options.thresholds.psi = limit;
        let baseline = BaselineSource::Live(production);
        let use_of = |name: &str| if name == column { ColumnUse::ByType } else { ColumnUse::LeftOut };
        let comparison = Comparer::new(&baseline, &candidate).columns(use_of).options(&options).run(&CpuCounter)?;
        let found = comparison.features.iter().find(|feature| feature.name == column && feature.verdict.drifted);
        Ok(found.map(|feature| Alarm {
            name: "prediction_drift".into(),
            reason: format!("the predictions of the arms differ: {} ({})", column, feature.verdict.reasons.join(", ")),
        }))
    }
}
