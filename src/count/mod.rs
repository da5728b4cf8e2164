//! Counting: columns become integers here, and nothing after this module looks at a value again.
//!
//! [`key`] turns numbers into order-preserving unsigned keys, [`cells`] divides the key space, a [`Counter`]
//! counts keys per cell, and [`ecdf`] answers rank and count questions exactly from cell counts and the keys
//! of a few cells. [`category`] counts categories. Every table here is a monoid: chunks, threads, files and
//! machines combine by [`CellCounts::merge`] and its like, in any order, to the same integers.

pub mod category;
pub mod cells;
pub mod cpu;
pub mod ecdf;
pub mod key;
pub mod pair;
pub mod runs;
pub mod tally;

pub use category::{Categories, CategoryCounts};
pub use cells::CellMap;
pub use cpu::CpuCounter;
pub use ecdf::Ecdf;
pub use key::{Domain, KeyVec};
pub use runs::{Collector, KeyRuns};
pub use tally::Tally;

use crate::error::{Error, Result};

/// Which backend counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The fastest one this build and this machine have.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or an error.
    Gpu,
}

impl Backend {
    /// The counter for this choice: the one place where it is made.
    ///
    /// # Errors
    /// [`Error::Backend`] where the wanted backend is not to be had.
    pub fn counter(self) -> Result<Box<dyn Counter>> {
        match self {
            Backend::Auto | Backend::Cpu => Ok(Box::new(CpuCounter)),
            Backend::Gpu => Err(Error::Backend(
                "this build has no GPU backend; use --backend cpu, which gives the same integers".into(),
            )),
        }
    }
}

/// Turns keys into counts. Every implementation gives the same integers.
pub trait Counter: Send + Sync {
    /// What reports call it.
    fn name(&self) -> &'static str;

    /// Adds the keys to the counts of their cells (and, where asked for, their offsets within the cells).
    fn count(&self, map: &CellMap, keys: &KeyVec, into: &mut CellCounts);

    /// Appends the keys that lie in the given cells, in no particular order.
    fn collect(&self, map: &CellMap, cells: &CellSet, keys: &KeyVec, into: &mut Vec<u64>);
}

/// Counts per cell, and on request the sum of the keys' offsets from the lower ends of their cells.
///
/// Offsets make first moments exact: within a cell a value is an affine function of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub fn merge(mut self, other: Self) -> Self {
        for (a, b) in self.counts.iter_mut().zip(other.counts) {
            *a += b;
        }
        if let (Some(a), Some(b)) = (&mut self.offsets, other.offsets) {
            for (a, b) in a.iter_mut().zip(b) {
                *a = a.wrapping_add(b);
            }
        }
        self
    }
}

/// A set of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellSet(Vec<bool>);

impl CellSet {
    /// The empty set over so many cells.
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

/// Where the keys of one column of one snapshot come from: memory, or a second read of the file.
pub trait KeySource: Sync {
    /// Number of chunks.
    fn chunks(&self) -> usize;

    /// Whether a second look at the chunks is as cheap as the first.
    fn is_resident(&self) -> bool;

    /// Calls `f` with the keys of chunk `i`.
    ///
    /// # Errors
    /// Whatever reading the chunk gives.
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
/// The first chunk that cannot be read.
pub fn fold_chunks<T: Send>(
    source: &dyn KeySource,
    init: impl Fn() -> T + Sync + Send,
    step: impl Fn(&mut T, &KeyVec) + Sync + Send,
    merge: impl Fn(T, T) -> T + Sync + Send,
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
        .try_reduce(&init, |a, b| Ok(merge(a, b)))
}
