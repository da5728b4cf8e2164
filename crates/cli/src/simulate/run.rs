//! `driftsweep simulate` in a build with the feature pipeline.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use driftsweep::metric::performance::{Measurement, PerformanceMetric};
use driftsweep::model::Options;
use driftsweep_common::error::Error;
use driftsweep_features::Period;
use driftsweep_fleet::{Model, Money, Trigger};
use driftsweep_ops::policy::replay::{Policy, ReplayRules, TrainingOutcome, replay};
use driftsweep_report::output::Document;
use driftsweep_trainers::Objective;
use jiff::{SignedDuration, Timestamp};

use super::super::features::open;
use super::super::fleet_store::read_fleet;
use super::super::output_folder::OutputFolder;
use super::super::train::feature_set;
use super::super::train::fit::TrainerOf;
use super::super::{invalid_value, model_of, sink, write, write_json};
use super::drift::DriftNights;
use super::figures::{self, Said};
use super::gates::Gates;
use super::looks::{Nights, looks};
use super::models::Models;
use super::report::{BaselineResult, FORMAT, Month, PolicyResult, Simulation, mean};
use super::world::World;
use super::{PolicyName, SimulateArgs, SimulationFormat, pages};

/// What is written into the folder of `--output`.
const FILE: &str = "simulation.json";

pub fn run(args: &SimulateArgs) -> anyhow::Result<u8> {
    let limits = args.limits.limits()?;
    let price = args.cost.map(price).transpose()?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(limits.threads)
        .build_global()
        .context("cannot start worker threads")?;
    let fleet = read_fleet(&args.fleet, &Options::new())?;
    let model = model_of(&fleet, &args.model)?;
    let set = feature_set(&args.fleet, &fleet, model)?;
    let (from, to) = (args.from.resolve("--from", &fleet.zone)?, args.to.resolve("--to", &fleet.zone)?);
    if from >= to {
        return Err(invalid_value("--from", "must be before --to"));
    }
    let folder = args.output.as_deref().map(|folder| OutputFolder::claim(folder, &[FILE])).transpose()?;
    let every = args.every.map(|every| Nights::Every(every.signed()));
    let nights = every.unwrap_or(Nights::Sweeps(&fleet.sweep, &fleet.zone));
    let schedule = model.triggers.schedule.cron.value.as_ref().map(|schedule| (schedule, &model.zone));
    let looks = looks(&nights, schedule, (from, to))?;

    let parent = args.limits.scratch().map_or_else(std::env::temp_dir, Path::to_owned);
    let scratch = tempfile::Builder::new().prefix("driftsweep-simulate-").tempdir_in(&parent);
    let scratch = scratch.map_err(|source| Error::Write { path: parent, source })?;
    let pipeline = open(set, limits, args.limits.scratch())?;
    // From the beginning of the first training set on.
    let [training, _] = pipeline.periods(from)?;
    let past = pipeline.past(Period { from: training.from, to, as_of: to })?;
    let base = if fleet.folder.as_os_str().is_empty() { Path::new(".") } else { &*fleet.folder };
    let trainer = TrainerOf { choice: &model.trainer, folder: base, threads: limits.threads };
    let mut models = Models::new(&pipeline, &past, trainer, scratch.path());
    let first = models
        .train(from)?
        .map_err(|reason| invalid_value("--from", &format!("the first model cannot be trained at {from}: {reason}")))?;
    let kind = models.kind(first);
    let metric = metric(args, model, kind)?;
    let sweeps: Vec<Timestamp> = looks.iter().filter(|look| look.sweep).map(|look| look.at).collect();
    let nights = sweeps.len();
    let window = args.window.map(|window| window.signed());
    let (drift, mut notes) = DriftNights::new(model, &past, window, sweeps, scratch.path())?;
    let gates_folder = scratch.path().join("gates");
    let gates = Gates::new(model, &gates_folder);
    let mut world = World { model, set, models, drift, gates, kind, gated: HashMap::new() };

    let rows = past.between(Some(from), to);
    let labels: Vec<Option<f64>> = rows.clone().map(|row| past.label(row)).collect();
    let months = figures::months(&past, rows.clone(), (from, to), &model.zone);
    let judged = Judged { metric, kind, first: rows.start, months: &months, labels: &labels };
    let lag = args.lag.map_or(SignedDuration::ZERO, |lag| lag.signed());
    let rules = ReplayRules { cooldown: model.triggers.cooldown.value, lag };
    let price = price.or(model.retrain.as_ref().map(|retrain| retrain.cost).filter(|cost| *cost > Money::ZERO));
    let mut policies = Vec::new();
    for (name, policy) in wanted(args, model, kind) {
        let (replayed, not_replayed) = match policy {
            Ok(policy) => (Some(replay(&policy, rules, (from, first), &looks, &mut world)?), None),
            Err(reason) => (None, Some(reason)),
        };
        let said =
            replayed.as_ref().map(|past| figures::predictions(past, &mut world.models, rows.clone())).transpose()?;
        let (by_month, whole) = said.map_or_else(|| (vec![None; months.len()], None), |said| judged.all(&said, true));
        let trainings = replayed.map(|past| past.trainings).unwrap_or_default();
        let gates = name.1;
        let mut result = PolicyResult {
            policy: name.0.into(),
            gates,
            not_replayed,
            mean: mean(&by_month),
            months: by_month,
            whole,
            trainings,
            cost: None,
            gain: None,
            cost_per_point: None,
        };
        // The first one is the policy that never trains.
        let never = policies.first().map_or(result.whole, |never: &PolicyResult| never.whole).map(|found| found.value);
        if result.not_replayed.is_none() {
            result.value(metric, never, price);
        }
        policies.push(result);
    }
    if price.is_none() {
        notes.push("What a training costs is not known; give --cost, or declare it in [model.retrain]".into());
    }
    if model.gates.is_none() {
        notes.push("The model has no [model.gates]: candidates are judged by those that are built in".into());
    }
    if model.gates.as_ref().is_some_and(|gates| gates.latency_p95.is_some()) {
        notes.push("How long predictions take is not replayed: latency_p95 is not judged".into());
    }
    notes.extend(refusals(&policies));
    let month = |(name, part): &(String, Range<usize>)| Month {
        month: name.clone(),
        predictions: part.len(),
        labelled: labels[part.start - rows.start..part.end - rows.start].iter().flatten().count(),
    };
    let learned = past.set(world.models.training(first))?.labelled()?.labels()?;
    let baselines = [
        ("no change", figures::no_change(&learned, rows.len()), true),
        ("persistence", figures::persistence(&past, rows.clone()), false),
    ];
    let found = Simulation {
        format: FORMAT,
        model: model.name.clone(),
        feature_set: set.name.clone(),
        metric,
        from,
        to,
        nights,
        lag_seconds: lag.as_secs(),
        windows: world.drift.windows(),
        models_trained: world.models.trained(),
        whole: month(&("all".into(), rows.clone())),
        months: months.iter().map(month).collect(),
        policies,
        baselines: baselines
            .into_iter()
            .map(|(baseline, said, probabilities)| {
                let (months, whole) = judged.all(&said, probabilities);
                BaselineResult { baseline, mean: mean(&months), months, whole }
            })
            .collect(),
        notes,
    };
    match args.format {
        SimulationFormat::Table => write(pages::page(&found, &fleet.governance.budget.currency))?,
        SimulationFormat::Json => write_json(&found)?,
        SimulationFormat::Csv => write(pages::csv(&found)?)?,
    }
    if let (Some(_folder), Some(output)) = (folder, &args.output) {
        sink::write_file(&output.join(FILE), &Document::json(&found)?)?;
    }
    Ok(0)
}

/// What is judged: a metric over the predictions of each month and their labels.
struct Judged<'a> {
    metric: PerformanceMetric,
    kind: Objective,
    first: usize,
    months: &'a [(String, Range<usize>)],
    labels: &'a [Option<f64>],
}

impl Judged<'_> {
    /// The metric of each month, and over the whole span.
    fn all(&self, said: &[Option<Said>], probabilities: bool) -> (Vec<Option<Measurement>>, Option<Measurement>) {
        let measure = |part: Range<usize>| {
            let (said, labels) = (&said[part.clone()], &self.labels[part]);
            figures::measure((self.metric, self.kind), said, labels, probabilities)
        };
        let part = |(_, rows): &(String, Range<usize>)| measure(rows.start - self.first..rows.end - self.first);
        (self.months.iter().map(part).collect(), measure(0..said.len()))
    }
}

fn price(units: f64) -> anyhow::Result<Money> {
    let refused = || invalid_value("--cost", "must be 0 or more, and less than ten billion");
    Money::of(units).filter(|_| (0.0..1e10).contains(&units)).ok_or_else(refused)
}

/// The metric that is asked for, or declared; it must fit what is predicted.
fn metric(args: &SimulateArgs, model: &Model, kind: Objective) -> anyhow::Result<PerformanceMetric> {
    let of_numbers = kind == Objective::Regression;
    let fits = |metric: &PerformanceMetric| metric.is_of_numbers() == of_numbers;
    if let Some(metric) = args.metric {
        let reason = match of_numbers {
            true => format!("{metric} is about classes, and some labels are neither 0 nor 1; give mae or rmse"),
            false => format!("{metric} is about numbers, and all labels are 0 or 1; give for example auc or accuracy"),
        };
        return if fits(&metric) { Ok(metric) } else { Err(invalid_value("--metric", &reason)) };
    }
    let of_gates = model.gates.as_ref().and_then(|gates| gates.metrics.first()).map(|rule| rule.metric);
    let declared = [of_gates, model.triggers.performance.metric.value].into_iter().flatten().find(fits);
    Ok(declared.unwrap_or(if of_numbers { PerformanceMetric::Mae } else { PerformanceMetric::Accuracy }))
}

/// Why a trigger of a model cannot fire in a simulation; labels are those of the feature set.
fn inactive(model: &Model, trigger: Trigger, kind: Objective) -> Option<String> {
    let metric = model.triggers.performance.judged_metric();
    if trigger == Trigger::Performance && metric.is_of_numbers() != (kind == Objective::Regression) {
        let labels = if kind == Objective::Regression { "numbers" } else { "classes" };
        return Some(format!("{metric} does not fit labels that are {labels}; set trigger.performance.metric"));
    }
    model.triggers.inactive(trigger, true)
}

/// The policies with their names, without gates and with them: `never` first. The reason where one cannot be replayed.
#[expect(clippy::type_complexity, reason = "a name with gates or not, and a policy or the reason why there is none")]
fn wanted(args: &SimulateArgs, model: &Model, kind: Objective) -> Vec<((&'static str, bool), Result<Policy, String>)> {
    let all =
        [PolicyName::Schedule, PolicyName::Performance, PolicyName::Drift, PolicyName::Volume, PolicyName::Combined];
    let mut found = vec![(("never", false), Ok(Policy { triggers: Vec::new(), gated: false }))];
    for policy in all.into_iter().filter(|policy| args.policy.is_empty() || args.policy.contains(policy)) {
        let (name, triggers) = match policy {
            PolicyName::Never => continue,
            PolicyName::Schedule => ("schedule", vec![Trigger::Schedule]),
            PolicyName::Performance => ("performance", vec![Trigger::Performance]),
            PolicyName::Drift => ("drift", vec![Trigger::Drift]),
            PolicyName::Volume => ("volume", vec![Trigger::Volume]),
            PolicyName::Combined => ("combined", Trigger::ALL.to_vec()),
        };
        let active = triggers.iter().copied().filter(|trigger| inactive(model, *trigger, kind).is_none());
        let active: Vec<Trigger> = active.collect();
        let reason = triggers.first().and_then(|trigger| inactive(model, *trigger, kind));
        for gated in [false, true] {
            let policy = match (active.is_empty(), &reason) {
                (true, Some(reason)) => Err(reason.clone()),
                _ => Ok(Policy { triggers: active.clone(), gated }),
            };
            found.push(((name, gated), policy));
        }
    }
    found
}

/// Why trainings failed, and candidates were not accepted: the first reason of each policy.
fn refusals(policies: &[PolicyResult]) -> Vec<String> {
    let mut found = Vec::new();
    for policy in policies {
        let reason = |failed: bool| {
            policy.trainings.iter().find_map(|training| match &training.outcome {
                TrainingOutcome::Failed(reason) if failed => Some((training.at, reason)),
                TrainingOutcome::Rejected(reason) if !failed => Some((training.at, reason)),
                _ => None,
            })
        };
        for (what, first) in [("not accepted", reason(false)), ("no model", reason(true))] {
            if let Some((at, reason)) = first {
                found.push(format!("{}, first {what} at {at}: {reason}", policy.name()));
            }
        }
    }
    found
}
