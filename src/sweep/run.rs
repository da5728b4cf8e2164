//! Sweeping a fleet: a few models at a time are opened while those before them are compared, most important first, so
//! that memory does not grow with the fleet, and a deadline affects only the least important ones.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::compare::{BaselineFeature, check_rows, compare_feature, not_covered};
use super::journal::{GroupId, GroupResult, Journal};
use super::not_judged::{Compared, NotJudged};
use super::plan::SweepPlan;
use super::pool::ColumnPool;
use super::report::{Engine, Feature, ModelReport, NotCovered, SCHEMA_VERSION, SweepReport, SweepSummary};
use super::shard::{Item, RankedModel, Shard, columns_of, groups};
use super::{add_q_values, counts_hash};
use crate::count::{Counter, with_threads};
use crate::model::{Model, Options, Role};
use crate::rule::{Judged, Limits};
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Cause, Status};

/// Receives the progress of a sweep.
///
/// ```
/// use driftsweep::{CpuCounter, Model, SweepPlan, SweepProgress, SweepRun};
///
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// #[derive(Default)]
/// struct Done(AtomicUsize);
/// impl SweepProgress for Done {
///     fn planned(&self, _: usize) {}
///     fn advance(&self) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let model = Model::new("weather", "datasets/nycflights13/weather-2013-01.parquet", "datasets/nycflights13/weather-2013-07.parquet");
/// let plan = SweepPlan::new("fleet", [&model], jiff::Timestamp::UNIX_EPOCH);
/// let done = Done::default();
/// let report = SweepRun { progress: &done, ..SweepRun::new(&CpuCounter) }.sweep(&plan);
/// assert_eq!(done.0.into_inner(), report.summary.features);
/// ```
pub trait SweepProgress: Sync {
    /// The number of features that will be compared: an estimate, until all models are opened.
    fn planned(&self, features: usize);
    /// One more is done.
    fn advance(&self);
}

impl SweepProgress for () {
    fn planned(&self, _: usize) {}
    fn advance(&self) {}
}

/// The settings of running a sweep.
///
/// ```
/// use driftsweep::{CpuCounter, Model, SweepPlan, SweepRun};
///
/// let month = |month: u32| format!("datasets/nycflights13/weather-2013-{month:02}.parquet");
/// let models = [2, 7].map(|later| Model::new(&format!("weather {later}"), &month(1), &month(later)));
/// let plan = SweepPlan::new("weather", &models, jiff::Timestamp::UNIX_EPOCH);
/// let report = SweepRun::new(&CpuCounter).sweep(&plan);
/// assert!(report.models[1].drifted > report.models[0].drifted);
/// ```
pub struct SweepRun<'a> {
    /// The counter.
    pub counter: &'a dyn Counter,
    /// Receives the progress.
    pub progress: &'a dyn SweepProgress,
    /// Whether the deadline is reached: no further feature is started then.
    pub time_is_up: &'a (dyn Fn() -> bool + Sync),
    /// The journal, from which it can be resumed if it is killed.
    pub journal: Option<&'a Journal>,
}

/// Features of the models that are compared at the same time, at least: enough to keep all cores busy.
const MIN_FEATURES_PER_WAVE: usize = 512;

impl<'a> SweepRun<'a> {
    /// A sweep without deadline and journal.
    pub fn new(counter: &'a dyn Counter) -> Self {
        Self { counter, progress: &(), time_is_up: &|| false, journal: None }
    }

    /// Compares every model of a fleet with its baseline. Nothing that concerns one feature, file or model stops the
    /// rest.
    pub fn sweep(&self, plan: &SweepPlan<'_>) -> SweepReport {
        let found = Mutex::new(SweepFindings::default());
        with_threads(self.counter, || {
            let mut left = plan.shards.as_slice();
            let mut wave = open_wave(&mut left, plan.as_of, self.time_is_up);
            while !wave.is_empty() && !(self.time_is_up)() {
                self.estimate(plan, &wave, left, &found);
                let following =
                    rayon::join(|| self.compare(&wave, &found), || open_wave(&mut left, plan.as_of, self.time_is_up)).1;
                wave = following;
            }
            let mut found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            // Models that were opened but not reached; and models that were never opened.
            let missed = |model: &Model, window: &str, segment: &str| NotCovered {
                model: model.name.clone(),
                window: window.into(),
                segment: segment.into(),
                features: None,
            };
            let opened = wave.iter().flat_map(|shard| &shard.tasks);
            found.not_covered.extend(opened.map(|task| missed(task.model, &task.window.name, &task.segment)));
            for &(_, model) in left.iter().flatten() {
                found.not_covered.extend(model.windows.iter().map(|window| missed(model, &window.name, "")));
            }
        });
        self.report(plan, found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn estimate(
        &self,
        plan: &SweepPlan<'_>,
        wave: &[Shard<'_>],
        left: &[Vec<RankedModel<'_>>],
        found: &Mutex<SweepFindings>,
    ) {
        let items: usize = wave.iter().map(|shard| shard.items().len()).sum();
        let mut found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        found.items += items;
        let models = plan.models.len();
        let opened = models - left.iter().map(Vec::len).sum::<usize>();
        self.progress.planned(found.items * models / opened.max(1));
    }

    /// Compares the models of a wave, in order and in parallel.
    fn compare(&self, wave: &[Shard<'_>], found: &Mutex<SweepFindings>) {
        let fingerprints: Vec<Option<String>> =
            wave.iter().map(|shard| self.journal.map(|_| shard.fingerprint())).collect();
        let work: Vec<(usize, usize, Vec<Item<'_>>)> = wave
            .iter()
            .enumerate()
            .flat_map(|(s, shard)| groups(shard.items()).into_iter().enumerate().map(move |(g, group)| (s, g, group)))
            .collect();
        let columns_used = work.iter().flat_map(|(_, _, group)| group);
        let columns_used: usize =
            columns_used.map(|item| 1 + usize::from(matches!(item.baseline, BaselineFeature::Live(..)))).sum();

        // Each worker takes the next group, in order; at the end idle workers help with the chunks of the remaining
        // columns.
        let next = AtomicUsize::new(0);
        let compared: Mutex<Vec<(usize, GroupResult)>> = Mutex::default();
        (0..rayon::current_num_threads()).into_par_iter().with_max_len(1).for_each(|_| {
            while let Some((s, g, group)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                let id = fingerprints[*s].as_deref().map(|shard| GroupId { shard, group: *g });
                let done = self.compare_group(&wave[*s], group, id);
                compared.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((*s, done));
            }
        });

        let mut reports: Vec<Vec<Vec<(usize, Feature)>>> =
            wave.iter().map(|shard| shard.tasks.iter().map(|_| Vec::new()).collect()).collect();
        let mut found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        found.columns_used += columns_used;
        for (s, done) in compared.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            found.columns_read += done.reads;
            for (task, at, feature) in done.features {
                reports[s][task].push((at, feature));
            }
        }
        for (shard, features) in wave.iter().zip(reports) {
            for (task, mut features) in shard.tasks.iter().zip(features) {
                features.sort_unstable_by_key(|(at, _)| *at);
                let mut features: Vec<Feature> = features.into_iter().map(|(_, feature)| feature).collect();
                // A baseline that is written every night may be written again.
                if task.model.baseline_is_nightly {
                    let of_baseline = features.iter_mut().filter(|feature| feature.cause == Some(Cause::Baseline));
                    of_baseline.for_each(|feature| feature.cause = feature.status.cause());
                }
                let not_covered = features.iter().filter(|feature| feature.status == Status::NotCovered).count();
                if not_covered > 0 {
                    found.not_covered.push(NotCovered {
                        model: task.model.name.clone(),
                        window: task.window.name.clone(),
                        segment: task.segment.clone(),
                        features: Some(not_covered),
                    });
                }
                let fault = shard.sides(task).err();
                let report = ModelReport {
                    model: task.model.name.clone(),
                    window: task.window.name.clone(),
                    segment: task.segment.clone(),
                    baseline: task.model.baseline.to_string(),
                    current: task.window.current.to_string(),
                    importance: task.model.importance,
                    cause: fault.as_ref().map(|fault| fault.cause),
                    error: fault.map(|fault| fault.reason),
                    rows: shard.rows(task),
                    counts_hash: counts_hash(features.iter()),
                    drifted: 0,
                    significant: 0,
                    schema: shard.schema_changes(task),
                    not_judged: None,
                    features,
                };
                found.models.push((task.rank, report));
            }
        }
    }

    fn compare_group(&self, shard: &Shard<'_>, group: &[Item<'_>], id: Option<GroupId<'_>>) -> GroupResult {
        // A record of other features is ignored, even with a valid checksum.
        let fits = |done: &GroupResult| {
            let of = |(&(task, at, ref feature), item): (&(usize, usize, Feature), &Item<'_>)| {
                (task, at, feature.name.as_str()) == (item.task, item.at, item.baseline.name())
            };
            let same_number = done.features.len() == group.len() && done.reads <= 2 * group.len();
            same_number && done.features.iter().zip(group).all(of)
        };
        if let (Some(journal), Some(id)) = (self.journal, id)
            && let Some(done) = journal.find(id).filter(fits)
        {
            group.iter().for_each(|_| self.progress.advance());
            return done;
        }
        let mut pool = ColumnPool::default();
        for item in group {
            columns_of(item).for_each(|(snapshot, column)| pool.plan(snapshot, column));
        }
        // Items with the same figures of the same columns are counted once.
        let mut known: Vec<(&Item<'_>, Cow<'_, Options>, Feature)> = Vec::new();
        let mut features = Vec::with_capacity(group.len());
        let mut whole = true;
        for item in group {
            let model = shard.tasks[item.task].model;
            let wanted = model.options_of(item.baseline.name());
            let same = known.iter().find(|(other, options, _)| {
                std::ptr::eq(other.current, item.current)
                    && other.baseline.is(&item.baseline)
                    && other.kind == item.kind
                    && options.same_figures(&wanted)
            });
            let mut feature = match same {
                Some((_, _, feature)) => feature.clone(),
                None if (self.time_is_up)() => {
                    whole = false;
                    features.push((item.task, item.at, not_covered(item.baseline, item.current, item.kind)));
                    continue;
                }
                None => {
                    let counter = self.counter;
                    let feature = compare_feature(counter, item.baseline, item.current, item.kind, &wanted, &mut pool);
                    if group.len() > 1 {
                        known.push((item, wanted, feature.clone()));
                    }
                    feature
                }
            };
            columns_of(item).for_each(|(snapshot, column)| pool.release(snapshot, column));
            check_rows(&mut feature, model.thresholds_of(item.baseline.name()).min_rows);
            features.push((item.task, item.at, feature));
            self.progress.advance();
        }
        let done = GroupResult { reads: pool.reads, features };
        // A failed feature may succeed next time: for example after an expired token or a disconnected disk.
        let failed = |status| matches!(status, Status::Unreadable | Status::InternalError);
        let settled = whole && !done.features.iter().any(|(_, _, feature)| failed(feature.status));
        if let (Some(journal), Some(id), true) = (self.journal, id, settled) {
            journal.note(id, &done);
        }
        done
    }

    fn report(&self, plan: &SweepPlan<'_>, mut found: SweepFindings) -> SweepReport {
        found.models.sort_by_key(|(rank, _)| *rank);
        let mut models: Vec<ModelReport> = found.models.into_iter().map(|(_, report)| report).collect();
        judge(&plan.models, &mut models);
        let unseen = found.not_covered.iter().filter(|missed| missed.features.is_none()).count();
        let mut summary = SweepSummary {
            models: plan.models.len(),
            comparisons: models.len() + unseen,
            not_covered: found.not_covered.len(),
            columns_read: found.columns_read,
            columns_used: found.columns_used,
            ..SweepSummary::default()
        };
        let mut all = Sha256::new();
        for report in &models {
            summary.features += report.features.len();
            summary.drifted += report.drifted;
            summary.significant += report.significant;
            summary.schema_changes += report.schema.len();
            summary.failed += report.features.iter().filter(|feature| feature.status.is_failure()).count();
            summary.not_judged += report.not_judged.as_ref().map_or(0, |found| found.features);
            summary.failed_comparisons += usize::from(report.error.is_some());
            all.update(&report.counts_hash);
        }
        SweepReport {
            schema_version: SCHEMA_VERSION,
            engine: Engine::this(self.counter),
            id: String::new(),
            as_of: String::new(),
            fleet: plan.name.into(),
            counts_hash: hex(&all.finalize()),
            summary,
            not_covered: found.not_covered,
            models,
        }
    }
}

/// Judges what was compared, once all of it is there: a test is called or not by all tests of the sweep.
fn judge(models: &[&Model], reports: &mut [ModelReport]) {
    let models: HashMap<&str, &Model> = models.iter().map(|&model| (&*model.name, model)).collect();
    let of_report = |report: &ModelReport| -> Vec<Judged> {
        let model = models.get(&*report.model);
        let judged = |feature: &Feature| {
            model.map_or(Judged::default(), |model| {
                let is_label = model.role_of(&feature.name) == Role::Label;
                feature.judged(model.thresholds_of(&feature.name).min_rows, is_label)
            })
        };
        report.features.iter().map(judged).collect()
    };
    let judged: Vec<Vec<Judged>> = reports.iter().map(of_report).collect();
    add_q_values(reports.iter_mut().flat_map(|report| &mut report.features).zip(judged.iter().flatten().copied()));
    for (report, judged) in reports.iter_mut().zip(judged) {
        let Some(model) = models.get(&*report.model) else { continue };
        for (feature, judged) in report.features.iter_mut().zip(judged) {
            feature.importance = model.importance_of(&feature.name);
            let thresholds = model.thresholds_of(&feature.name);
            let limits = Limits { thresholds: &thresholds, false_discovery_rate: model.options.false_discovery_rate };
            feature.judge(judged, &limits);
        }
        let compared = if report.segment.is_empty() { Compared::Whole } else { Compared::Segment };
        report.drifted = report.features.iter().filter(|feature| feature.verdict.drifted).count();
        report.significant = report.features.iter().filter(|feature| feature.verdict.significant).count();
        report.not_judged = NotJudged::of(&report.features, compared, |name| model.thresholds_of(name).min_rows);
    }
}

/// The results of a sweep so far.
#[derive(Default)]
struct SweepFindings {
    /// With their ranks by importance.
    models: Vec<([usize; 3], ModelReport)>,
    not_covered: Vec<NotCovered>,
    columns_read: usize,
    columns_used: usize,
    /// Features of the models opened so far.
    items: usize,
}

/// Opens the next models, as many at once as there are threads, until there is enough to do.
fn open_wave<'a>(
    left: &mut &[Vec<RankedModel<'a>>],
    as_of: Timestamp,
    time_is_up: &(dyn Fn() -> bool + Sync),
) -> Vec<Shard<'a>> {
    let (mut wave, mut features) = (Vec::new(), 0);
    while features < MIN_FEATURES_PER_WAVE && !left.is_empty() && !time_is_up() {
        let (some, rest) = left.split_at(left.len().min(rayon::current_num_threads()));
        *left = rest;
        let opened: Vec<Shard<'a>> = some.par_iter().map(|models| Shard::open(models, as_of)).collect();
        features += opened.iter().map(Shard::features).sum::<usize>();
        wave.extend(opened);
    }
    wave
}
