//! Counting: columns become integers here, and no later module reads a value again.
//!
//! [`key`] turns numbers into order-preserving unsigned keys, [`cells`] divides the key space, a [`Counter`]
//! counts keys per cell, and [`ecdf`] answers rank and count questions exactly from cell counts and the keys
//! of a few cells. [`category`] counts categories. Every table here is a monoid: chunks, threads, files and
//! machines combine by [`CellCounts::merge`] and its like, in any order, to the same integers.

pub mod backend;
pub mod category;
pub mod cells;
pub mod cpu;
pub mod ecdf;
pub mod gpu;
pub mod key;
pub mod pair;
pub mod runs;
pub mod tally;

pub use backend::{Backend, BackendSpec, ChosenCounter, Workload};
pub use category::{Categories, CategoryCounts};
pub use cells::CellMap;
pub use cpu::CpuCounter;
pub use ecdf::Ecdf;
pub use gpu::GpuCounter;
pub use key::{Domain, KeyVec};
pub use runs::{Collector, KeyRuns};
pub use tally::Tally;

use std::any::Any;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use self::pair::RequiredFigures;
use driftsweep_common::error::{Error, Result};

/// All backends: each is a module with a `BACKEND` and a place here. [`backend`] chooses one.
pub const BACKENDS: [&BackendSpec; 2] = [&cpu::BACKEND, &gpu::BACKEND];

/// Turns keys into counts. Every implementation gives the same integers.
///
/// ```
/// use driftsweep::{Counter, CpuCounter};
///
/// let counter: &dyn Counter = &CpuCounter;
/// assert_eq!(counter.name(), "cpu");
/// ```
pub trait Counter: Send + Sync {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// The best number of cells for a column of this many rows, with or without offsets.
    fn cells(&self, rows: u64, with_offsets: bool) -> usize;

    /// How many threads should use it at a time, where that is not one for each core.
    fn threads(&self) -> Option<usize> {
        None
    }

    /// What a device was used for, if one is.
    fn usage(&self) -> Option<Usage> {
        None
    }

    /// How often each of this number of codes occurs: the indices of a chunk into its dictionary of categories.
    fn count_codes(&self, codes: Vec<u32>, distinct: usize) -> Vec<u64> {
        cpu::count_codes(&codes, distinct)
    }

    /// Starts on columns of one type, which may be looked at several times.
    fn columns<'a>(&'a self, domain: Domain, sources: Vec<&'a dyn KeySource>) -> Box<dyn Columns + 'a>;
}

/// Columns of one type, being counted over common cells.
pub trait Columns {
    /// Where their keys come from.
    fn sources(&self) -> &[&dyn KeySource];

    /// Counts the keys of every column per cell, and on request sums their offsets within the cells. For two columns,
    /// given what is `wanted` of them, it may return keys in advance that will be requested next.
    ///
    /// # Errors
    /// Any error of reading the columns.
    fn count(
        &mut self,
        map: &CellMap,
        with_offsets: bool,
        wanted: Option<RequiredFigures<'_>>,
    ) -> Result<Vec<CountedColumn>>;

    /// The keys of a column that lie in the given cells; there are `expected` of them.
    ///
    /// # Errors
    /// Any error of reading the column.
    fn collect(&mut self, column: usize, map: &CellMap, cells: &CellSet, expected: u64) -> Result<KeyRuns>;
}

/// A column that was counted.
pub struct CountedColumn {
    /// Its counts.
    pub counts: CellCounts,
    /// Cells that will be requested next, and all keys in them.
    pub prefetched: Option<(CellSet, KeyRuns)>,
}

/// Runs `f` on as many threads as the counter wants.
pub fn with_threads<R: Send>(counter: &dyn Counter, f: impl FnOnce() -> R + Send) -> R {
    let pool = counter.threads().map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build());
    match pool {
        Some(Ok(pool)) => pool.install(f),
        // If no threads can be created, the current ones are used.
        Some(Err(_)) | None => f(),
    }
}

/// What a device was used for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Its name.
    pub adapter: String,
    /// The driver and its version.
    pub driver: String,
    /// Bytes of its memory that keys may take.
    pub memory: u64,
    /// Keys that were sent to it.
    pub keys_counted: u64,
    /// Keys that the CPU counted because there was no room.
    pub keys_left_to_cpu: u64,
    /// Bytes of keys sent to it.
    pub bytes_sent: u64,
    /// Submissions.
    pub batches: u64,
    /// Columns counted or collected in them.
    pub requests: u64,
    /// Seconds that shaders ran, where the device measures that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shader_seconds: Option<f64>,
    /// What went wrong, after which the CPU took over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Counts per cell, and on request the sum of the keys' offsets from the lower ends of their cells.
///
/// Offsets make first moments exact: within a cell a value is an affine function of its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CellCounts {
    /// Keys per cell.
    pub counts: Vec<u64>,
    /// Sum over the keys of a cell of `key - lower`, modulo 2^64.
    pub offsets: Option<Vec<u64>>,
}

impl CellCounts {
    /// All zero.
    pub fn new(cells: usize, with_offsets: bool) -> Self {
        Self { counts: vec![0; cells], offsets: with_offsets.then(|| vec![0; cells]) }
    }

    /// Adds another table over the same cells.
    ///
    /// # Errors
    /// [`Error::Backend`] for a table over other cells, or where only one has offsets: nothing is left out of a sum.
    pub fn merge(mut self, other: Self) -> Result<Self> {
        let shape = |table: &Self| (table.counts.len(), table.offsets.as_ref().map(Vec::len));
        if shape(&self) != shape(&other) {
            return Err(Error::Backend(format!(
                "counts of {} cells cannot be added to counts of {}: a backend counted other cells than it was asked for",
                other.counts.len(),
                self.counts.len()
            )));
        }
        for (a, b) in self.counts.iter_mut().zip(other.counts) {
            *a += b;
        }
        if let (Some(a), Some(b)) = (&mut self.offsets, other.offsets) {
            for (a, b) in a.iter_mut().zip(b) {
                *a = a.wrapping_add(b);
            }
        }
        Ok(self)
    }
}

/// A set of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellSet(Vec<bool>);

impl CellSet {
    /// The empty set over a number of cells.
    pub fn new(cells: usize) -> Self {
        Self(vec![false; cells])
    }

    /// Adds a cell.
    pub fn insert(&mut self, cell: usize) {
        self.0[cell] = true;
    }

    /// Whether a cell is in the set.
    #[inline(always)]
    pub fn contains(&self, cell: u32) -> bool {
        self.0[cell as usize]
    }

    /// The cells of the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().filter_map(|(i, &wanted)| wanted.then_some(i))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }
}

/// A value that a counter has cached with a column.
pub(crate) type CounterCache = OnceLock<Arc<dyn Any + Send + Sync>>;

/// Where the keys of one column of one snapshot come from: memory, or a second read of the file.
pub trait KeySource: Sync {
    /// Number of chunks.
    fn chunks(&self) -> usize;

    /// Whether reading the chunks again is as cheap as the first time.
    fn is_resident(&self) -> bool;

    /// A cache for a counter, which lives as long as the source; the next comparison of the same column finds it there.
    fn keep(&self) -> Option<&CounterCache> {
        None
    }

    /// Calls `f` with the keys of chunk `i`.
    ///
    /// # Errors
    /// Any error of reading the chunk.
    fn with_chunk(&self, i: usize, f: &mut dyn FnMut(&KeyVec)) -> Result<()>;
}

impl KeySource for Vec<KeyVec> {
    fn chunks(&self) -> usize {
        self.len()
    }

    fn is_resident(&self) -> bool {
        true
    }

    fn with_chunk(&self, i: usize, f: &mut dyn FnMut(&KeyVec)) -> Result<()> {
        f(&self[i]);
        Ok(())
    }
}

/// Folds all chunks of a source, in parallel where threads are idle; `merge` must be commutative.
///
/// # Errors
/// The first chunk that cannot be read; those of `merge`.
pub(crate) fn fold_chunks<T: Send>(
    source: &dyn KeySource,
    init: impl Fn() -> T + Sync + Send,
    step: impl Fn(&mut T, &KeyVec) + Sync + Send,
    merge: impl Fn(T, T) -> Result<T> + Sync + Send,
) -> Result<T> {
    use rayon::prelude::*;
    (0..source.chunks())
        .into_par_iter()
        // A table per chunk would cost more than it saves; a few chunks share one.
        .with_min_len(8)
        .try_fold(&init, |mut acc, i| {
            source.with_chunk(i, &mut |keys| step(&mut acc, keys))?;
            Ok(acc)
        })
        .try_reduce(&init, merge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_other_cells_are_not_added() {
        let counts = |counts: &[u64], offsets: Option<&[u64]>| CellCounts {
            counts: counts.to_vec(),
            offsets: offsets.map(<[u64]>::to_vec),
        };
        let two = || counts(&[1, 2], Some(&[u64::MAX, 3]));
        assert_eq!(two().merge(two()).unwrap(), counts(&[2, 4], Some(&[u64::MAX - 1, 6])));
        for other in [counts(&[1, 2, 3], Some(&[0, 0, 0])), counts(&[1, 2], Some(&[0])), counts(&[1, 2], None)] {
            assert!(two().merge(other.clone()).is_err(), "{other:?}");
            assert!(other.clone().merge(two()).is_err(), "{other:?}");
        }
    }
}
