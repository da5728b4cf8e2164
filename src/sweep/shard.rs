//! Models that share a file are opened together: their comparisons, and the features that share columns.

use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexSet;
use jiff::Timestamp;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::compare::BaselineFeature;
use super::report::Rows;
use super::schema::{self, SchemaChange};
use super::{BaselineSide, check_frozen};
use crate::baseline::{Baseline, BaselineFile};
use crate::count::Workload;
use crate::metric::Kind;
use crate::model::{Interval, Model, Window};
use crate::snapshot::{Column, ColumnType, Condition, Slice, Snapshot, Test};
use driftsweep_common::address::Location;
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Cause, Error, Fault, Result, closest, did_you_mean};

/// A model and its rank by importance.
pub(crate) type RankedModel<'a> = (usize, &'a Model);

/// The models of a shard with everything they read opened, each file once.
pub(crate) struct Shard<'a> {
    /// Whole snapshots, then parts of them; or why they are not available.
    snapshots: Vec<std::result::Result<Snapshot, Fault>>,
    frozen: Vec<std::result::Result<BaselineFile, Fault>>,
    pub tasks: Vec<ShardTask<'a>>,
}

/// One segment of one model in one window.
pub(crate) struct ShardTask<'a> {
    /// Ranks of the model by importance, of the window in the model, and of the segment.
    pub rank: [usize; 3],
    pub model: &'a Model,
    pub window: &'a Window,
    pub segment: String,
    /// The two sides, or why they are not available.
    opened: std::result::Result<(BaselineAt, usize), Fault>,
}

/// The position of the baseline of a task in a shard.
#[derive(Clone, Copy)]
enum BaselineAt {
    Snapshot(usize),
    Frozen(usize),
}

/// One feature of one task.
pub struct Item<'a> {
    pub task: usize,
    /// Position among the features of the baseline.
    pub at: usize,
    pub baseline: BaselineFeature<'a>,
    pub current: &'a Snapshot,
    pub kind: Option<Kind>,
}

impl<'a> Shard<'a> {
    /// Opens whatever the models read, for a sweep that counts as a point in time. A file that cannot be opened affects
    /// only its models.
    pub fn open(models: &[RankedModel<'a>], as_of: Timestamp) -> Self {
        let (files, live): (Vec<&str>, Vec<&str>) = models
            .iter()
            .map(|(_, model)| model.baseline.expose())
            .partition(|spec| Baseline::is_baseline_file(Path::new(spec)));
        let currents = models.iter().flat_map(|(_, model)| &model.windows).map(|window| window.current.expose());
        let specs: IndexSet<&str> = live.into_iter().chain(currents).collect();
        let files: IndexSet<&str> = files.into_iter().collect();
        let mut shard = Self {
            snapshots: open_all(&specs, Snapshot::open),
            frozen: open_all(&files, |path| BaselineFile::open(Path::new(path))),
            tasks: Vec::new(),
        };
        let mut parts = SnapshotParts::default();
        for &(rank, model) in models {
            let baseline = match files.get_index_of(model.baseline.expose()) {
                Some(at) => BaselineAt::Frozen(at),
                None => BaselineAt::Snapshot(specs.get_index_of(model.baseline.expose()).unwrap_or_default()),
            };
            let segments = shard.segments(model, baseline);
            for (w, window) in model.windows.iter().enumerate() {
                let task = |s: usize, segment: &str, opened| ShardTask {
                    rank: [rank, w, s],
                    model,
                    window,
                    segment: segment.into(),
                    opened,
                };
                let current = specs.get_index_of(window.current.expose()).unwrap_or_default();
                let intervals = intervals(model, window, as_of);
                match (&segments, intervals) {
                    // A baseline without the label column cannot be compared with labels.
                    _ if window.only.as_ref().is_some_and(|only| !shard.has(baseline, only)) => {}
                    (Err(reason), _) => shard.tasks.push(task(0, "", Err(reason.clone()))),
                    (_, Err(reason)) => {
                        shard.tasks.push(task(0, "", Err(Fault::new(Cause::FleetFile, reason.clone()))));
                    }
                    (Ok(segments), Ok([before, now])) => {
                        // A single column cannot be sliced by others.
                        let segments = if window.only.is_some() { &segments[..1] } else { segments };
                        for (s, (name, slice)) in segments.iter().enumerate() {
                            let part =
                                |during: &Option<Condition>| Slice(during.iter().chain(&slice.0).cloned().collect());
                            let current = parts.of(current, part(&now), specs.len());
                            let baseline = match baseline {
                                BaselineAt::Snapshot(at) => {
                                    BaselineAt::Snapshot(parts.of(at, part(&before), specs.len()))
                                }
                                frozen => frozen,
                            };
                            shard.tasks.push(task(s, name, Ok((baseline, current))));
                        }
                    }
                }
            }
        }
        shard.cut(parts);
        for t in 0..shard.tasks.len() {
            let task = &shard.tasks[t];
            if let Err(reason) = shard.check(task) {
                shard.tasks[t].opened = Err(reason);
            }
        }
        shard
    }

    /// The segments of a model, first the whole.
    fn segments(&self, model: &Model, baseline: BaselineAt) -> std::result::Result<Vec<(String, Slice)>, Fault> {
        match baseline {
            BaselineAt::Snapshot(at) => match &self.snapshots[at] {
                Ok(snapshot) => model.segments_in(snapshot).map_err(|e| of_baseline(model, Fault::from(&e))),
                Err(_) => Ok(vec![(String::new(), Slice::default())]),
            },
            BaselineAt::Frozen(at) => {
                let frozen = self.frozen[at].as_ref().map_or(&[][..], |file| &file.header.segments);
                if self.frozen[at].is_ok() && !model.has_segments(frozen.iter().map(|s| (&*s.name, &s.slice))) {
                    return Err(Fault::new(
                        Cause::Baseline,
                        format!(
                            "{} was built with other segments than the fleet file has; build it again with \
                             `driftsweep baseline build --fleet`",
                            model.baseline
                        ),
                    ));
                }
                let frozen = frozen.iter().map(|segment| (segment.name.clone(), segment.slice.clone()));
                Ok([(String::new(), Slice::default())].into_iter().chain(frozen).collect())
            }
        }
    }

    /// Whether a baseline has a column, if it is available.
    fn has(&self, baseline: BaselineAt, column: &str) -> bool {
        match baseline {
            BaselineAt::Snapshot(at) => {
                self.snapshots[at].as_ref().is_ok_and(|snapshot| snapshot.find(column).is_some())
            }
            BaselineAt::Frozen(at) => {
                self.frozen[at].as_ref().is_ok_and(|file| file.features_of("").any(|known| known.name() == column))
            }
        }
    }

    /// Creates the parts of snapshots that tasks use.
    fn cut(&mut self, parts: SnapshotParts) {
        let cut = |(whole, slices): (usize, Vec<Slice>)| match &self.snapshots[whole] {
            Ok(snapshot) => match snapshot.sliced(&slices) {
                Ok(parts) => parts.into_iter().map(Ok).collect::<Vec<_>>(),
                // One mistake must not affect the others.
                Err(_) => {
                    let alone = |slice: &Slice| snapshot.sliced(std::slice::from_ref(slice));
                    let one = |mut parts: Vec<Snapshot>| parts.pop().ok_or_else(cannot_be_sliced);
                    slices.iter().map(|slice| alone(slice).map_err(|e| Fault::from(&e)).and_then(one)).collect()
                }
            },
            Err(reason) => slices.iter().map(|_| Err(reason.clone())).collect(),
        };
        let mut made: HashMap<usize, std::vec::IntoIter<_>> =
            parts.by_whole().into_par_iter().map(|(whole, slices)| (whole, cut((whole, slices)).into_iter())).collect();
        for (whole, _) in parts.0 {
            let part = made.get_mut(&whole).and_then(Iterator::next);
            self.snapshots.push(part.unwrap_or_else(|| Err(cannot_be_sliced())));
        }
    }

    fn check(&self, task: &ShardTask<'_>) -> std::result::Result<(), Fault> {
        let (baseline, current) = self.sides(task)?;
        check_model(task, baseline, current)
    }

    /// The two sides of a task.
    ///
    /// # Errors
    /// Why it cannot be compared.
    pub fn sides<'s>(
        &'s self,
        task: &'s ShardTask<'_>,
    ) -> std::result::Result<(BaselineSide<'s>, &'s Snapshot), Fault> {
        let (baseline, current) = task.opened.clone()?;
        let baseline = match baseline {
            BaselineAt::Snapshot(at) => self.snapshots[at].as_ref().map(BaselineSide::Live),
            BaselineAt::Frozen(at) => self.frozen[at].as_ref().map(|file| BaselineSide::Frozen(file, &task.segment)),
        };
        if let (Ok(BaselineSide::Frozen(file, _)), Some(wanted)) = (&baseline, &task.model.baseline_hash)
            && !file.content_hash().starts_with(wanted.as_str())
        {
            let reason = format!(
                "baseline: {}: it is not the baseline that was set: its content has another hash ({}…) than its name; restore \
                 it from a backup, or set the baseline again with `driftsweep baseline set`",
                task.model.baseline,
                file.content_hash().get(..wanted.len()).unwrap_or_default()
            );
            return Err(Fault::new(Cause::Baseline, reason));
        }
        let of = |side: &str, fault: &Fault| Fault { reason: format!("{side}: {}", fault.reason), ..fault.clone() };
        let baseline = baseline.map_err(|fault| of_baseline(task.model, of("baseline", fault)))?;
        let current = self.snapshots[current].as_ref().map_err(|fault| of("current", fault))?;
        Ok((baseline, current))
    }

    /// The schema changes of a task without a segment.
    pub(crate) fn schema_changes(&self, task: &ShardTask<'_>) -> Vec<SchemaChange> {
        match self.sides(task) {
            Ok((baseline, current)) if task.segment.is_empty() && is_first(task) => {
                schema::changes(baseline, current, |name| task.model.use_in(task.window, name).is_compared())
            }
            _ => Vec::new(),
        }
    }

    /// Rows of both sides of a task.
    pub fn rows(&self, task: &ShardTask<'_>) -> Rows {
        self.sides(task).map_or(Rows::default(), |(a, b)| Rows { baseline: a.rows(), current: b.rows() })
    }

    /// How many features its tasks have, at most.
    pub fn features(&self) -> usize {
        self.tasks.iter().filter_map(|task| self.sides(task).ok()).map(|(baseline, _)| baseline.features().len()).sum()
    }

    /// Every feature of every task.
    pub(crate) fn items(&self) -> Vec<Item<'_>> {
        let mut items = Vec::new();
        for (task, t) in self.tasks.iter().enumerate() {
            let Ok((baseline, current)) = self.sides(t) else { continue };
            for (at, feature) in baseline.features().into_iter().enumerate() {
                let column_use = t.model.use_in(t.window, feature.name());
                if column_use.is_compared() {
                    items.push(Item { task, at, baseline: feature, current, kind: column_use.kind() });
                }
            }
        }
        items
    }

    /// A fingerprint of everything the figures of the shard depend on, except the code: the models' settings, and each
    /// file's path, size and time of change. If it is the same, so are the figures.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        for task in &self.tasks {
            hash.update(task.model.fingerprint());
            hash.update(&task.window.name);
            hash.update(&task.segment);
        }
        for file in self.frozen.iter().flatten() {
            hash.update(file.content_hash());
        }
        for snapshot in self.snapshots.iter().flatten() {
            hash.update(snapshot.fingerprint());
        }
        hex(&hash.finalize())
    }
}

/// Splits models into those that share a file, directly or through others; in the order of the first of each.
pub(crate) fn shards<'a>(models: &[RankedModel<'a>]) -> Vec<Vec<RankedModel<'a>>> {
    let mut sets = DisjointSets::new(models.len());
    let mut first: HashMap<&Location, usize> = HashMap::new();
    for (i, (_, model)) in models.iter().enumerate() {
        for spec in model.windows.iter().map(|window| &window.current).chain([&model.baseline]) {
            sets.join(i, *first.entry(spec).or_insert(i));
        }
    }
    let models = models.to_vec();
    sets.split(models)
}

/// Splits items into groups that share no column, so that a group can keep its shared columns.
pub fn groups(items: Vec<Item<'_>>) -> Vec<Vec<Item<'_>>> {
    let mut sets = DisjointSets::new(items.len());
    let mut first: HashMap<(usize, &str), usize> = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        for (snapshot, column) in columns_of(item) {
            sets.join(i, *first.entry((snapshot.table_id(), &column.name)).or_insert(i));
        }
    }
    sets.split(items)
}

/// Disjoint sets of `0..n`.
struct DisjointSets(Vec<usize>);

impl DisjointSets {
    fn new(n: usize) -> Self {
        Self((0..n).collect())
    }

    fn root(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }

    fn join(&mut self, i: usize, j: usize) {
        let (a, b) = (self.root(i), self.root(j));
        self.0[a.max(b)] = a.min(b);
    }

    /// The things for `0..n`, set by set, in the order of the first of each set.
    fn split<T>(mut self, things: Vec<T>) -> Vec<Vec<T>> {
        let mut index = HashMap::new();
        let mut split: Vec<Vec<T>> = Vec::new();
        for (i, thing) in things.into_iter().enumerate() {
            let set = *index.entry(self.root(i)).or_insert_with(|| {
                split.push(Vec::new());
                split.len() - 1
            });
            split[set].push(thing);
        }
        split
    }
}

/// The columns an item reads.
pub(crate) fn columns_of<'a>(item: &Item<'a>) -> impl Iterator<Item = (&'a Snapshot, &'a Column)> {
    let current = item.current.find(item.baseline.name()).map(|column| (item.current, column));
    let baseline = match item.baseline {
        BaselineFeature::Live(snapshot, column) => Some((snapshot, column)),
        BaselineFeature::Frozen(_) => None,
    };
    current.into_iter().chain(baseline)
}

/// Whether a task is the first window of its model over a snapshot: the columns are the same in all others.
fn is_first(task: &ShardTask<'_>) -> bool {
    let same = |window: &&Window| window.only.is_none() && window.current == task.window.current;
    task.model.windows.iter().find(same).is_some_and(|first| std::ptr::eq(first, task.window))
}

/// How many numeric values the comparison of a feature reads.
pub fn workload(baseline: BaselineFeature<'_>, current: &Snapshot) -> Workload {
    let of = |kind: &ColumnType, rows: u64| match kind {
        ColumnType::Numeric(domain) => Workload { values: rows, bytes: rows * domain.key_bytes() as u64 },
        _ => Workload::default(),
    };
    let live = match baseline {
        BaselineFeature::Live(snapshot, column) => of(&column.kind, snapshot.rows()),
        BaselineFeature::Frozen(_) => Workload::default(),
    };
    current.find(baseline.name()).map_or(live, |column| [live, of(&column.kind, current.rows())].into_iter().sum())
}

fn open_all<T: Send>(
    specs: &IndexSet<&str>,
    open: impl Fn(&str) -> Result<T> + Sync,
) -> Vec<std::result::Result<T, Fault>> {
    let specs: Vec<&str> = specs.iter().copied().collect();
    specs.into_par_iter().map(|spec| open(spec).map_err(|e| Fault::from(&e))).collect()
}

fn cannot_be_sliced() -> Fault {
    Fault::new(Cause::Internal, "cannot be sliced")
}

/// A fault of the baseline of a model.
fn of_baseline(model: &Model, fault: Fault) -> Fault {
    match model.baseline_is_nightly {
        true => fault,
        false => Fault { cause: fault.cause.of_baseline(), ..fault },
    }
}

/// Parts of snapshots that are wanted: of which whole, and which rows.
#[derive(Default)]
struct SnapshotParts(IndexSet<(usize, Slice)>);

impl SnapshotParts {
    /// The position of a part among wholes and parts: without a condition it is the whole.
    fn of(&mut self, whole: usize, slice: Slice, wholes: usize) -> usize {
        if slice.0.is_empty() {
            return whole;
        }
        wholes + self.0.insert_full((whole, slice)).0
    }

    /// The slices of each whole, in order.
    fn by_whole(&self) -> HashMap<usize, Vec<Slice>> {
        let mut by_whole: HashMap<usize, Vec<Slice>> = HashMap::new();
        for (whole, slice) in &self.0 {
            by_whole.entry(*whole).or_default().push(slice.clone());
        }
        by_whole
    }
}

/// The periods of a model's baseline and window, as conditions; none without a period.
fn intervals(model: &Model, window: &Window, as_of: Timestamp) -> std::result::Result<[Option<Condition>; 2], String> {
    let Some((column, period)) = &window.period else { return Ok([None, None]) };
    let condition = |Interval { from, before, days }| Condition {
        column: column.clone(),
        test: Test::during_days(from, before, days),
    };
    let now = period.interval(as_of, &model.zone)?;
    let before = if model.previous { Some(condition(period.previous(as_of, &model.zone)?)) } else { None };
    Ok([before, Some(condition(now))])
}

/// Whether a model can be compared as the fleet file says.
///
/// # Errors
/// The reason: other bins than the baseline's, an empty side, an unknown column, or no feature to compare.
fn check_model(task: &ShardTask<'_>, baseline: BaselineSide<'_>, current: &Snapshot) -> std::result::Result<(), Fault> {
    let model = task.model;
    let baseline_place = model.baseline.expose();
    check_frozen(baseline_place, baseline, &model.options).map_err(|e| Fault::new(Cause::Baseline, e.to_string()))?;
    let sides = [(baseline_place, baseline.rows(), true), (current.spec(), current.rows(), false)];
    for (what, rows, is_baseline) in sides {
        // A segment may be empty on a night, and so may the labels.
        if rows == 0 && task.segment.is_empty() && task.window.only.is_none() {
            let fault = Fault::from(&Error::NoRows { path: what.into() });
            return Err(if is_baseline { of_baseline(model, fault) } else { fault });
        }
    }
    let features = baseline.features();
    let names: std::collections::HashSet<&str> = features.iter().map(BaselineFeature::name).collect();
    // A frozen baseline may lack columns that the fleet file excludes.
    let known = |name: &str| names.contains(name) || current.find(name).is_some();
    if task.window.only.is_some() {
        return Ok(());
    }
    let unknown: IndexSet<&str> = model.named_features().filter(|name| !known(name)).collect();
    if !unknown.is_empty() {
        const MAX_LISTED: usize = 10;
        let listed: Vec<String> = unknown
            .iter()
            .take(MAX_LISTED)
            .map(|name| {
                let columns = current.columns().iter().map(|column| &*column.name);
                let closest = closest(name, names.iter().copied().chain(columns));
                format!(
                    "'{name}' is named in the fleet file, but {} has no such column{}",
                    model.baseline,
                    did_you_mean(closest)
                )
            })
            .collect();
        let more = unknown.len().saturating_sub(MAX_LISTED);
        let more = if more > 0 { format!("; and {more} more names") } else { String::new() };
        return Err(Fault::new(Cause::FleetFile, listed.join("; ") + &more));
    }
    if !names.iter().any(|name| model.use_in(task.window, name).is_compared()) {
        let reason = "no feature is left to compare; check `features` and `exclude`";
        return Err(Fault::new(Cause::FleetFile, reason));
    }
    Ok(())
}
