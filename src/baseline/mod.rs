//! Frozen baselines: what a training snapshot looked like, so that no sweep has to read it again.
//!
//! A baseline file is a [safetensors](https://github.com/huggingface/safetensors) file, readable by the
//! libraries of every language: one tensor per list of integers, and the description of the features, the
//! source files, the settings and a content hash in its metadata.

mod encode;
mod file;
mod for_model;
mod freeze;
mod upgrade;

pub use file::BaselineFile;
pub(crate) use file::StoredFeature;
pub use for_model::{check_features, content_hash, file_name, last_modified, training_snapshot};
pub(crate) use freeze::{BINARY_REASON, not_categorical_reason};

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::count::{Categories, Counter, Ecdf, Tally, with_threads};
use crate::model::{ColumnUse, Options};
use crate::snapshot::{Column, ColumnType, Slice, Snapshot, SourceFile};
use driftsweep_common::address;
use driftsweep_common::error::{Result, Status};
use driftsweep_common::versioned::Format;

/// The form of baseline files. A file has the lowest version that can say what it holds, so that earlier engines read it
/// where they can: 1 without segments, 2 with segments, 3 with columns of a type that cannot be compared.
pub const FORMAT: Format = Format::new("baseline files", &[|_| (), upgrade::name_types]);

/// A training snapshot that was counted; [`BaselineFile`] is its form on disk.
///
/// ```
/// use driftsweep::{BaselineBuilder, CpuCounter, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// let snapshot = Snapshot::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// let baseline = BaselineBuilder::new(&snapshot).build(&CpuCounter)?;
/// assert!(baseline.features.iter().any(|feature| feature.name == "temp"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Baseline {
    /// Where it came from and how it was counted.
    pub header: BaselineHeader,
    /// Its features, in the snapshot's order.
    pub features: Vec<FrozenFeature>,
}

/// The description in a baseline file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineHeader {
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
    /// Parts of the rows that were counted separately, in addition to the whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<BaselineSegment>,
}

/// A part of the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineSegment {
    /// Its name.
    pub name: String,
    /// Which rows belong to it.
    pub slice: Slice,
    /// How many.
    pub rows: u64,
}

/// One feature of a baseline.
#[derive(Clone, Debug)]
pub struct FrozenFeature {
    /// Segment of the rows; empty for the whole.
    pub segment: String,
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
    /// None: the status and the reason.
    Refused(Status, String),
}

/// Counts a training snapshot, whole and in segments.
///
/// A column that cannot be counted is kept with the reason, so that a comparison can report it.
///
/// ```
/// use driftsweep::{BaselineBuilder, ColumnUse, CpuCounter, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// let snapshot = Snapshot::open("datasets/car_loan/reference.parquet")?;
/// let baseline = BaselineBuilder::new(&snapshot)
///     .columns(|name| if name == "id" { ColumnUse::LeftOut } else { ColumnUse::ByType })
///     .created_at("2026-01-01T00:00:00Z")
///     .build(&CpuCounter)?;
/// assert_eq!(baseline.header.rows, snapshot.rows());
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("loans.baseline");
/// baseline.write(&path)?;
/// # Ok(())
/// # }
/// ```
pub struct BaselineBuilder<'a> {
    snapshot: &'a Snapshot,
    segments: Vec<(String, Slice)>,
    use_of: Box<dyn Fn(&str) -> ColumnUse + Sync + 'a>,
    options: Cow<'a, Options>,
    created_at: String,
}

impl<'a> BaselineBuilder<'a> {
    /// Every column of a snapshot as its type says, without segments, with default options and no time of creation.
    pub fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            segments: Vec::new(),
            use_of: Box::new(|_| ColumnUse::ByType),
            options: Cow::Owned(Options::new()),
            created_at: String::new(),
        }
    }

    /// Parts of the rows that are counted in addition to the whole, by their names.
    #[must_use]
    pub fn segments(mut self, segments: Vec<(String, Slice)>) -> Self {
        self.segments = segments;
        self
    }

    /// How each column is read, or that it is left out.
    #[must_use]
    pub fn columns(mut self, use_of: impl Fn(&str) -> ColumnUse + Sync + 'a) -> Self {
        self.use_of = Box::new(use_of);
        self
    }

    /// Bins, metrics, memory and threads.
    #[must_use]
    pub fn options(mut self, options: &'a Options) -> Self {
        self.options = Cow::Borrowed(options);
        self
    }

    /// The time of creation by the caller's clock, in RFC 3339.
    #[must_use]
    pub fn created_at(mut self, time: impl Into<String>) -> Self {
        self.created_at = time.into();
        self
    }

    /// Counts.
    ///
    /// # Errors
    /// A segment by a column that is not there, cannot be read, or does not hold what it is sliced by.
    pub fn build(self, counter: &dyn Counter) -> Result<Baseline> {
        use rayon::prelude::*;
        let Self { snapshot, segments, use_of, options, created_at } = self;
        let segments: Vec<_> = segments.into_iter().filter(|(name, _)| !name.is_empty()).collect();
        let slices: Vec<Slice> = segments.iter().map(|(_, slice)| slice.clone()).collect();
        let parts = snapshot.sliced(&slices)?;
        let freeze = |segment: &str, part: &Snapshot, column: &Column| {
            let column_use = use_of(&column.name);
            if !column_use.is_compared() {
                return None;
            }
            let feature = freeze::freeze_feature(counter, part, column, column_use.kind(), &options);
            Some(FrozenFeature { segment: segment.into(), ..feature })
        };
        let named = segments.iter().map(|(name, _)| name.as_str()).zip(&parts);
        let all: Vec<(&str, &Snapshot)> = [("", snapshot)].into_iter().chain(named).collect();
        let of = |&(name, part): &(&str, &Snapshot)| {
            let columns = part.columns().par_iter().filter_map(|column| freeze(name, part, column));
            columns.collect::<Vec<_>>()
        };
        let features = with_threads(counter, || all.par_iter().flat_map_iter(of).collect());
        let segments = segments.into_iter().zip(&parts);
        let header = BaselineHeader {
            engine: concat!("driftsweep ", env!("CARGO_PKG_VERSION")).into(),
            created_at,
            rows: snapshot.rows(),
            bins: options.bins,
            convention: "numpy-linear-percentiles".into(),
            sources: snapshot.sources(),
            segments: segments
                .map(|((name, slice), part)| BaselineSegment { name, slice, rows: part.rows() })
                .collect(),
        };
        Ok(Baseline { header, features })
    }
}

impl Baseline {
    /// Writes the file, atomically.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        encode::write(self, path)
    }

    /// The bytes of the file; `path` is what messages name.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Baseline`] where it cannot be encoded.
    pub fn encoded(&self, path: &Path) -> Result<Vec<u8>> {
        encode::encode(self, path)
    }

    /// Whether a file is marked as a baseline.
    pub fn is_baseline_file(path: &Path) -> bool {
        address::extension(path).is_some_and(|extension| extension == "baseline")
    }
}
