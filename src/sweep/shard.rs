//! Models that share a file, opened together: what is compared with what, and which features share columns.

use std::collections::HashMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::compare::BaselineFeature;
use super::report::Rows;
use super::{BaselineSource, check_frozen};
use crate::atomic::hex;
use crate::count::Workload;
use crate::error::{Error, Result};
use crate::fleet::{Kind, Model};
use crate::snapshot::{Column, ColumnType, Snapshot};

/// A model and its place in the order of importance.
pub type RankedModel<'a> = (usize, &'a Model);

/// The models of a shard with everything they read opened, each file once.
pub struct Shard<'a> {
    baselines: Opened<'a, BaselineSource>,
    currents: Opened<'a, Snapshot>,
    pub tasks: Vec<Task<'a>>,
}

/// One model in one window.
pub struct Task<'a> {
    /// Place of the model in the order of importance, and of the window among the model's.
    pub rank: (usize, usize),
    pub model: &'a Model,
    pub window: &'a str,
    /// The two sides, or why there are none.
    opened: std::result::Result<(usize, usize), String>,
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
    /// Opens whatever the models read. What cannot be opened fails its models only.
    pub fn open(models: &[RankedModel<'a>]) -> Self {
        let baselines = open_all(models.iter().map(|(_, model)| model.baseline.as_str()), BaselineSource::open);
        let windows = models.iter().flat_map(|(_, model)| &model.windows);
        let currents = open_all(windows.map(|window| window.current.as_str()), Snapshot::open);
        let tasks = models.iter().flat_map(|&(rank, model)| {
            model.windows.iter().enumerate().map(move |(w, window)| (rank, w, model, window))
        });
        let tasks = tasks
            .map(|(rank, w, model, window)| Task {
                rank: (rank, w),
                model,
                window: &window.name,
                opened: sides(model, &window.current, &baselines, &currents),
            })
            .collect();
        Self { baselines, currents, tasks }
    }

    /// The two sides of a task.
    ///
    /// # Errors
    /// Why it cannot be compared.
    pub fn sides<'s>(&'s self, task: &'s Task<'_>) -> std::result::Result<(&'s BaselineSource, &'s Snapshot), &'s str> {
        let &(a, b) = task.opened.as_ref().map_err(String::as_str)?;
        match (&self.baselines.opened[a], &self.currents.opened[b]) {
            (Ok(baseline), Ok(current)) => Ok((baseline, current)),
            _ => Err("cannot be opened"),
        }
    }

    /// Rows of both sides of a task.
    pub fn rows(&self, task: &Task<'_>) -> Rows {
        self.sides(task).map_or(Rows::default(), |(a, b)| Rows { baseline: a.rows(), current: b.rows() })
    }

    /// How many features its tasks have, at most.
    pub fn features(&self) -> usize {
        self.tasks.iter().filter_map(|task| self.sides(task).ok()).map(|(baseline, _)| baseline.features().len()).sum()
    }

    /// Every feature of every task.
    pub fn items(&self) -> Vec<Item<'_>> {
        let mut items = Vec::new();
        for (task, t) in self.tasks.iter().enumerate() {
            let Ok((baseline, current)) = self.sides(t) else { continue };
            for (at, feature) in baseline.features().into_iter().enumerate() {
                if let Some(kind) = t.model.kind_of(feature.name()) {
                    items.push(Item { task, at, baseline: feature, current, kind });
                }
            }
        }
        items
    }

    /// What the figures of the shard depend on besides the code: the models' settings, and each file's path, size and
    /// time of change. If it is the same, so are the figures.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        for task in &self.tasks {
            hash.update(task.model.fingerprint());
            hash.update(task.window);
        }
        for baseline in self.baselines.opened.iter().flatten() {
            match baseline {
                BaselineSource::Live(snapshot) => hash.update(snapshot.fingerprint()),
                BaselineSource::Frozen(file) => hash.update(file.content_hash()),
            }
        }
        for snapshot in self.currents.opened.iter().flatten() {
            hash.update(snapshot.fingerprint());
        }
        hex(&hash.finalize())
    }
}

/// Splits models into those that share a file, directly or through others; in the order of the first of each.
pub fn shards<'a>(models: &[RankedModel<'a>]) -> Vec<Vec<RankedModel<'a>>> {
    let mut sets = Sets::new(models.len());
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (i, (_, model)) in models.iter().enumerate() {
        for spec in model.windows.iter().map(|window| &window.current).chain([&model.baseline]) {
            sets.join(i, *first.entry(spec).or_insert(i));
        }
    }
    let models = models.to_vec();
    sets.split(models)
}

/// Splits items into groups that share no column, so that a group can hold on to what it shares.
pub fn groups(items: Vec<Item<'_>>) -> Vec<Vec<Item<'_>>> {
    let mut sets = Sets::new(items.len());
    let mut first: HashMap<(*const Snapshot, &str), usize> = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        for (snapshot, column) in columns_of(item) {
            sets.join(i, *first.entry((std::ptr::from_ref(snapshot), &column.name)).or_insert(i));
        }
    }
    sets.split(items)
}

/// Disjoint sets of `0..n`.
struct Sets(Vec<usize>);

impl Sets {
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

    /// The things, one each of `0..n`, set by set, in the order of the first of each set.
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
pub fn columns_of<'a>(item: &Item<'a>) -> impl Iterator<Item = (&'a Snapshot, &'a Column)> {
    let current = item.current.column(item.baseline.name()).ok().map(|column| (item.current, column));
    let baseline = match item.baseline {
        BaselineFeature::Live(snapshot, column) => Some((snapshot, column)),
        BaselineFeature::Frozen(_) => None,
    };
    current.into_iter().chain(baseline)
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

/// Things opened once each, by what the fleet file calls them.
struct Opened<'a, T> {
    index: HashMap<&'a str, usize>,
    opened: Vec<Result<T>>,
}

fn open_all<'a, T: Send>(
    specs: impl Iterator<Item = &'a str>,
    open: impl Fn(&str) -> Result<T> + Send + Sync,
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

fn sides(
    model: &Model,
    current: &str,
    baselines: &Opened<'_, BaselineSource>,
    currents: &Opened<'_, Snapshot>,
) -> std::result::Result<(usize, usize), String> {
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
pub fn check_model(model: &Model, baseline: &BaselineSource, current: &Snapshot) -> std::result::Result<(), String> {
    check_frozen(&model.baseline, baseline, &model.options).map_err(|e| e.to_string())?;
    for (what, rows) in [(&*model.baseline, baseline.rows()), (current.spec(), current.rows())] {
        if rows == 0 {
            return Err(Error::NoRows { path: what.into() }.to_string());
        }
    }
    let features = baseline.features();
    let names: std::collections::HashSet<&str> = features.iter().map(BaselineFeature::name).collect();
    // A frozen baseline may have left out what the fleet file excludes.
    let known = |name: &str| names.contains(name) || current.column(name).is_ok();
    if let Some(unknown) = model.named_features().find(|name| !known(name)) {
        return Err(format!("'{unknown}' is named in the fleet file, but {} has no such column", model.baseline));
    }
    if !names.iter().any(|name| model.kind_of(name).is_some()) {
        return Err("no feature is left to compare; look at `features` and `exclude`".into());
    }
    Ok(())
}
