//! A sweep over a fleet: every column is read once, however many models and windows use it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::compare::{BaselineFeature, compare_feature, judge};
use super::pool::ColumnPool;
use super::report::{Engine, Feature, Rows, SCHEMA_VERSION};
use super::{BaselineSource, check_frozen, counts_hash};
use crate::count::{Counter, Workload, with_threads};
use crate::error::{Error, Status};
use crate::fleet::{Fleet, Kind, Model, Options};
use crate::metric::fdr;
use crate::snapshot::{ColumnType, Snapshot};

/// What a sweep found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepReport {
    /// Version of this layout.
    pub schema_version: u32,
    /// What made it.
    pub engine: Engine,
    /// Name of the fleet.
    pub fleet: String,
    /// SHA-256 over the hashes of all comparisons: equal on every backend.
    pub counts_hash: String,
    /// Totals.
    pub summary: Summary,
    /// One entry per model and window, most important model first.
    pub models: Vec<ModelReport>,
}

/// Totals of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Models.
    pub models: usize,
    /// Models times windows.
    pub comparisons: usize,
    /// Comparisons that could not be made at all.
    pub failed_comparisons: usize,
    /// Features compared or tried.
    pub features: usize,
    /// Features that drifted.
    pub drifted: usize,
    /// Features that should have been compared and could not be.
    pub failed: usize,
    /// Columns read from files.
    pub columns_read: usize,
    /// Columns used by comparisons; what would have been read without sharing.
    pub columns_used: usize,
}

/// One model in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// Name of the model.
    pub model: String,
    /// Name of the window; absent where the model has only one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub window: String,
    /// How much the model matters.
    pub importance: f64,
    /// Why there are no features, where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Rows of both sides.
    pub rows: Rows,
    /// SHA-256 over the hashes of its features.
    pub counts_hash: String,
    /// Features that drifted.
    pub drifted: usize,
    /// The features, in the baseline's order.
    pub features: Vec<Feature>,
}

/// Told how far a sweep is.
pub trait Progress: Sync {
    /// So many features will be compared.
    fn planned(&self, features: usize);
    /// One more is done.
    fn advance(&self);
}

/// One model in one window, opened.
struct Task<'a> {
    model: &'a Model,
    window: &'a str,
    opened: Result<(usize, usize), String>,
}

/// One feature of one task.
struct Item<'a> {
    task: usize,
    /// Position among the task's features.
    at: usize,
    baseline: BaselineFeature<'a>,
    current: &'a Snapshot,
    kind: Option<Kind>,
}

/// A sweep with everything opened and nothing counted yet.
pub struct Plan<'a> {
    fleet: &'a Fleet,
    /// Most important model first.
    models: Vec<&'a Model>,
    baselines: Opened<'a, BaselineSource>,
    currents: Opened<'a, Snapshot>,
}

impl<'a> Plan<'a> {
    /// Opens every snapshot and baseline of a fleet, each once. What cannot be opened fails its models only.
    pub fn open(fleet: &'a Fleet) -> Self {
        let mut models: Vec<&Model> = fleet.models.iter().collect();
        models.sort_by(|a, b| b.importance.total_cmp(&a.importance));
        let baselines = open_all(models.iter().map(|model| model.baseline.as_str()), BaselineSource::open);
        let windows = models.iter().flat_map(|model| &model.windows);
        let currents = open_all(windows.map(|window| window.current.as_str()), Snapshot::open);
        Self { fleet, models, baselines, currents }
    }

    fn tasks(&self) -> Vec<Task<'a>> {
        let open = |model: &'a Model| {
            model.windows.iter().map(move |window| Task {
                model,
                window: &window.name,
                opened: open_task(model, &window.current, &self.baselines, &self.currents),
            })
        };
        self.models.iter().flat_map(|&model| open(model)).collect()
    }

    /// How many numeric values its comparisons look at.
    pub fn workload(&self) -> Workload {
        let tasks = self.tasks();
        let items = items_of(&tasks, &self.baselines.opened, &self.currents.opened);
        items.iter().map(|item| workload(item.baseline, item.current)).sum()
    }

    /// Compares every model of the fleet with its baseline. Nothing that concerns one feature, file or model stops
    /// the rest.
    pub fn run(&self, counter: &dyn Counter, progress: &dyn Progress) -> SweepReport {
        run(counter, self, progress)
    }
}

/// How many numeric values the comparison of a feature looks at.
pub fn workload(baseline: BaselineFeature<'_>, current: &Snapshot) -> Workload {
    let of = |kind: &ColumnType, rows: u64| match kind {
        ColumnType::Numeric(domain) => Workload { values: rows, bytes: rows * domain.key_bytes() as u64 },
        _ => Workload::default(),
    };
    let live = match baseline {
        BaselineFeature::Live(snapshot, column) => of(&column.kind, snapshot.rows()),
        BaselineFeature::Frozen(_) => Workload::default(),
    };
    current.column(baseline.name()).map_or(live, |column| [live, of(&column.kind, current.rows())].into_iter().sum())
}

fn run(counter: &dyn Counter, plan: &Plan<'_>, progress: &dyn Progress) -> SweepReport {
    let Plan { fleet, baselines, currents, .. } = plan;
    let tasks = plan.tasks();
    let items = items_of(&tasks, &baselines.opened, &currents.opened);
    progress.planned(items.len());

    let columns_used =
        items.iter().map(|item| 1 + usize::from(matches!(item.baseline, BaselineFeature::Live(..)))).sum();
    let columns_read = AtomicUsize::new(0);
    let compare_some = |group: Vec<Item<'_>>| {
        let (features, reads) = compare_group(counter, &tasks, &group, progress);
        columns_read.fetch_add(reads, Ordering::Relaxed);
        features
    };
    let mut compared: Vec<(usize, usize, Feature)> =
        with_threads(counter, || groups(items).into_par_iter().flat_map_iter(compare_some).collect());
    compared.sort_by_key(|(task, at, _)| (*task, *at));

    let mut reports: Vec<ModelReport> = tasks
        .iter()
        .map(|task| ModelReport {
            model: task.model.name.clone(),
            window: task.window.into(),
            importance: task.model.importance,
            error: task.opened.as_ref().err().cloned(),
            rows: task.opened.as_ref().map_or(Rows::default(), |&(baseline, current)| Rows {
                baseline: baselines.opened[baseline].as_ref().map_or(0, BaselineSource::rows),
                current: currents.opened[current].as_ref().map_or(0, Snapshot::rows),
            }),
            counts_hash: String::new(),
            drifted: 0,
            features: Vec::new(),
        })
        .collect();
    for (task, _, feature) in compared {
        reports[task].features.push(feature);
    }
    add_q_values(reports.iter_mut().flat_map(|report| &mut report.features));
    finish(counter, fleet, reports, columns_read.into_inner(), columns_used)
}

fn finish(
    counter: &dyn Counter,
    fleet: &Fleet,
    mut reports: Vec<ModelReport>,
    columns_read: usize,
    columns_used: usize,
) -> SweepReport {
    let mut summary = Summary {
        models: fleet.models.len(),
        comparisons: reports.len(),
        columns_read,
        columns_used,
        ..Summary::default()
    };
    let mut all = String::new();
    for report in &mut reports {
        report.counts_hash = counts_hash(report.features.iter());
        report.drifted = report.features.iter().filter(|feature| feature.verdict.drifted).count();
        summary.features += report.features.len();
        summary.drifted += report.drifted;
        summary.failed += report.features.iter().filter(|feature| feature.status.is_failure()).count();
        summary.failed_comparisons += usize::from(report.error.is_some());
        all.push_str(&report.counts_hash);
    }
    use sha2::{Digest, Sha256};
    SweepReport {
        schema_version: SCHEMA_VERSION,
        engine: Engine::this(counter),
        fleet: fleet.name.clone(),
        counts_hash: crate::atomic::hex(&Sha256::digest(all.as_bytes())),
        summary,
        models: reports,
    }
}

/// Things opened once each, by what the fleet file calls them.
struct Opened<'a, T> {
    index: HashMap<&'a str, usize>,
    opened: Vec<Result<T, Error>>,
}

fn open_all<'a, T: Send>(
    specs: impl Iterator<Item = &'a str>,
    open: impl Fn(&str) -> Result<T, Error> + Send + Sync,
) -> Opened<'a, T> {
    let mut index = HashMap::new();
    let mut order = Vec::new();
    for spec in specs {
        index.entry(spec).or_insert_with(|| {
            order.push(spec);
            order.len() - 1
        });
    }
    Opened { index, opened: order.into_par_iter().map(open).collect() }
}

fn open_task(
    model: &Model,
    current: &str,
    baselines: &Opened<'_, BaselineSource>,
    currents: &Opened<'_, Snapshot>,
) -> Result<(usize, usize), String> {
    let (a, b) = (baselines.index[model.baseline.as_str()], currents.index[current]);
    let baseline = baselines.opened[a].as_ref().map_err(|e| format!("baseline: {e}"))?;
    let snapshot = currents.opened[b].as_ref().map_err(|e| format!("current: {e}"))?;
    check_model(model, baseline, snapshot)?;
    Ok((a, b))
}

/// Whether a model can be compared as the fleet file says.
///
/// # Errors
/// The reason: other bins than the baseline's, an empty side, a name that no column has, nothing left to compare.
pub fn check_model(model: &Model, baseline: &BaselineSource, current: &Snapshot) -> Result<(), String> {
    check_frozen(&model.baseline, baseline, &model.options).map_err(|e| e.to_string())?;
    for (what, rows) in [(&*model.baseline, baseline.rows()), (current.spec(), current.rows())] {
        if rows == 0 {
            return Err(Error::NoRows { path: what.into() }.to_string());
        }
    }
    let features = baseline.features();
    // A frozen baseline may have left out what the fleet file excludes.
    let known = |name: &str| features.iter().any(|f| f.name() == name) || current.column(name).is_ok();
    if let Some(unknown) = model.named_features().find(|name| !known(name)) {
        return Err(format!("'{unknown}' is named in the fleet file, but {} has no such column", model.baseline));
    }
    if !features.iter().any(|feature| model.kind_of(feature.name()).is_some()) {
        return Err("no feature is left to compare; look at `features` and `exclude`".into());
    }
    Ok(())
}

fn items_of<'a>(
    tasks: &[Task<'a>],
    baselines: &'a [Result<BaselineSource, Error>],
    currents: &'a [Result<Snapshot, Error>],
) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    for (task, t) in tasks.iter().enumerate() {
        let Ok((a, b)) = t.opened else { continue };
        let (Ok(baseline), Ok(current)) = (&baselines[a], &currents[b]) else { continue };
        for (at, feature) in baseline.features().into_iter().enumerate() {
            if let Some(kind) = t.model.kind_of(feature.name()) {
                items.push(Item { task, at, baseline: feature, current, kind });
            }
        }
    }
    items
}

/// Splits the items into groups that share no column, so that a group can hold on to what it shares.
fn groups(items: Vec<Item<'_>>) -> Vec<Vec<Item<'_>>> {
    // Union-find over items; two that use the same column of the same snapshot belong together.
    let mut parent: Vec<usize> = (0..items.len()).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let mut first: HashMap<(*const (), &str), usize> = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        let name = item.baseline.name();
        let mut sides = vec![std::ptr::from_ref(item.current).cast()];
        if let BaselineFeature::Live(snapshot, _) = item.baseline {
            sides.push(std::ptr::from_ref(snapshot).cast());
        }
        for side in sides {
            let other = *first.entry((side, name)).or_insert(i);
            let (a, b) = (root(&mut parent, i), root(&mut parent, other));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut index = HashMap::new();
    let mut groups: Vec<Vec<Item<'_>>> = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        let group = *index.entry(root(&mut parent, i)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(item);
    }
    groups
}

/// The columns an item uses.
fn columns_of<'a>(item: &Item<'a>) -> impl Iterator<Item = (&'a Snapshot, &'a crate::snapshot::Column)> {
    let current = item.current.column(item.baseline.name()).ok().map(|column| (item.current, column));
    let baseline = match item.baseline {
        BaselineFeature::Live(snapshot, column) => Some((snapshot, column)),
        BaselineFeature::Frozen(_) => None,
    };
    current.into_iter().chain(baseline)
}

fn compare_group<'a>(
    counter: &dyn Counter,
    tasks: &[Task<'a>],
    group: &[Item<'a>],
    progress: &dyn Progress,
) -> (Vec<(usize, usize, Feature)>, usize) {
    let mut pool = ColumnPool::default();
    for item in group {
        columns_of(item).for_each(|(snapshot, column)| pool.plan(snapshot, column));
    }
    // Items that ask the same of the same columns are counted once.
    let mut known: Vec<(&Item<'a>, &Options, Feature)> = Vec::new();
    let mut features = Vec::with_capacity(group.len());
    for item in group {
        let model = tasks[item.task].model;
        let same = known.iter().find(|(other, options, _)| {
            std::ptr::eq(other.current, item.current)
                && same_baseline(other.baseline, item.baseline)
                && other.kind == item.kind
                && options.metrics == model.options.metrics
                && options.bins == model.options.bins
                && options.category_limit == model.options.category_limit
                && options.convention == model.options.convention
        });
        let mut feature = match same {
            Some((_, _, feature)) => feature.clone(),
            None => {
                let feature =
                    compare_feature(counter, item.baseline, item.current, item.kind, &model.options, &mut pool);
                if group.len() > 1 {
                    known.push((item, &model.options, feature.clone()));
                }
                feature
            }
        };
        columns_of(item).for_each(|(snapshot, column)| pool.release(snapshot, column));
        judge(&mut feature, &model.thresholds_of(item.baseline.name()));
        features.push((item.task, item.at, feature));
        progress.advance();
    }
    (features, pool.reads)
}

fn same_baseline(a: BaselineFeature<'_>, b: BaselineFeature<'_>) -> bool {
    match (a, b) {
        (BaselineFeature::Live(s, c), BaselineFeature::Live(t, d)) => std::ptr::eq(s, t) && std::ptr::eq(c, d),
        (BaselineFeature::Frozen(f), BaselineFeature::Frozen(g)) => std::ptr::eq(f, g),
        _ => false,
    }
}

/// Adds q-values: Benjamini-Hochberg over every test of every feature.
pub fn add_q_values<'a>(features: impl Iterator<Item = &'a mut Feature>) {
    let mut slots: Vec<(f64, &'a mut Option<f64>)> = Vec::new();
    for feature in features {
        if feature.status == Status::InsufficientData {
            continue;
        }
        let metrics = &mut feature.metrics;
        if let Some(ks) = &mut metrics.ks {
            slots.push((ks.p_value, &mut ks.q_value));
        }
        if let Some(chi_square) = &mut metrics.chi_square {
            slots.push((chi_square.test.p_value, &mut chi_square.q_value));
        }
        if let Some(missing) = &mut metrics.missing {
            slots.push((missing.p_value, &mut missing.q_value));
        }
    }
    let p_values: Vec<f64> = slots.iter().map(|(p, _)| *p).collect();
    for ((_, slot), q) in slots.into_iter().zip(fdr::benjamini_hochberg(&p_values)) {
        *slot = Some(q).filter(|q| !q.is_nan());
    }
}
