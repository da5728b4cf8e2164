//! Frozen baselines: what a training snapshot looked like, so that no night ever reads it again.
//!
//! A baseline file is a [safetensors](https://github.com/huggingface/safetensors) file, readable by the
//! libraries of every language: one tensor per list of integers, and the description of the features, the
//! source files, the settings and a content hash in its metadata.

mod encode;
mod file;
mod freeze;

pub use file::{BaselineFile, StoredFeature};

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::count::{Categories, Counter, Ecdf, Tally, with_threads};
use crate::error::{Result, Status};
use crate::fleet::{Kind, Options};
use crate::snapshot::{Column, ColumnType, Snapshot, SourceFile};

/// Version of the layout that this engine writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// A training snapshot that was counted; [`BaselineFile`] is what remains of it on disk.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// Where it came from and how it was counted.
    pub header: Header,
    /// Its features, in the snapshot's order.
    pub features: Vec<FrozenFeature>,
}

/// What a baseline file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Engine that counted.
    pub engine: String,
    /// When, in UTC (RFC 3339).
    pub created_at: String,
    /// Rows of the snapshot.
    pub rows: u64,
    /// Bins whose breakpoints it holds.
    pub bins: usize,
    /// The convention by which breakpoints were found.
    pub convention: String,
    /// The files that were counted.
    pub sources: Vec<SourceFile>,
}

/// One feature of a baseline.
#[derive(Clone, Debug)]
pub struct FrozenFeature {
    /// Column name.
    pub name: String,
    /// Column type in the training snapshot.
    pub dtype: ColumnType,
    /// Rows, missing values, infinities, moments.
    pub tally: Tally,
    /// The distribution.
    pub data: Frozen,
}

/// A frozen distribution.
#[derive(Clone, Debug)]
pub enum Frozen {
    /// Counts per cell, and the keys around every breakpoint.
    Numeric(Ecdf),
    /// Counts per category.
    Categorical(Categories),
    /// Nothing, and why.
    Refused(Status, String),
}

impl Baseline {
    /// Counts a training snapshot. `kind_of` may override how a column is read, or leave it out (`None`).
    /// `created_at` is the caller's clock, RFC 3339.
    ///
    /// A column that cannot be counted is kept with the reason, so that a comparison can say it.
    pub fn build(
        counter: &dyn Counter,
        snapshot: &Snapshot,
        kind_of: impl Fn(&str) -> Option<Option<Kind>> + Sync,
        options: &Options,
        created_at: String,
    ) -> Self {
        use rayon::prelude::*;
        let freeze = |column: &Column| {
            let kind = kind_of(&column.name)?;
            Some(freeze::freeze_feature(counter, snapshot, column, kind, options))
        };
        let features = with_threads(counter, || snapshot.columns().par_iter().filter_map(freeze).collect());
        let header = Header {
            engine: concat!("driftsweep ", env!("CARGO_PKG_VERSION")).into(),
            created_at,
            rows: snapshot.rows(),
            bins: options.bins,
            convention: "numpy-linear-percentiles".into(),
            sources: snapshot.sources(),
        };
        Self { header, features }
    }

    /// Writes the file, atomically.
    ///
    /// # Errors
    /// [`crate::error::Error::Write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        encode::write(self, path)
    }

    /// Whether a file says of itself that it is a baseline.
    pub fn is_one(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "baseline")
    }
}
