//! Snapshots: files, globs and directories of Parquet, CSV or Arrow IPC as columns that are read in chunks.
//!
//! The only module that uses polars. A chunk is one row group (or record batch) of one column; this module returns
//! keys, category counts and tallies.

mod csv;
mod discover;
mod ipc;
mod keys;
mod lakehouse;
mod magic;
mod note;
mod open;
mod parquet;
mod partition;
mod pattern;
mod slice;
pub mod table;
mod types;
mod values;
mod walk;

pub use note::TextReason;
pub use slice::{Bound, Condition, PointInTime, Slice, Test};
pub use types::{ColumnType, KeyEncoding};
pub use values::RowValue;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use polars::prelude::{PolarsError, PolarsResult};
use polars_arrow::array::{Array, NullArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::ArrowDataType;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::open::{OpenFile, open_file, unify};
use self::partition::Partitions;
use crate::count::{Categories, CategoryCounts, Counter, CounterCache, Domain, KeySource, KeyVec, Tally, Workload};
use driftsweep_common::address::redacted;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage;

/// A column of a snapshot.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, common to all files.
    pub kind: ColumnType,
    /// The reason why it is text, in a CSV file.
    pub note: Option<TextReason>,
    /// Its position in each file that has it.
    at: Vec<Option<Position>>,
    /// The same column in the other type that all its values allow, for values from folder names.
    other: Option<Box<Column>>,
}

impl Column {
    /// The column, read so that it can be compared with another type. Partition values are text on disk: their type
    /// depends on the column they are compared with.
    pub(crate) fn read_for(&self, wanted: &ColumnType) -> Option<&Self> {
        self.reading(|kind| wanted.common(kind).is_some())
    }

    /// Whether it is a key of the folders in which the files are, and in none of the files.
    pub(crate) fn is_partition_key(&self) -> bool {
        self.at.iter().flatten().all(|position| matches!(position, Position::Partition(_)))
    }

    /// The column, read as a type that is wanted, if it can be.
    pub fn reading(&self, wanted: impl Fn(&ColumnType) -> bool) -> Option<&Self> {
        [Some(self), self.other.as_deref()].into_iter().flatten().find(|column| wanted(&column.kind))
    }
}

#[derive(Clone, Copy, Debug)]
enum Position {
    /// A column of the file.
    Stored(usize),
    /// A hive partition key, from the path of the file.
    Partition(usize),
    /// A column of the file with only missing values, of any type.
    Empty,
}

/// One file of a snapshot, as reports and baselines record it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Path.
    pub path: PathBuf,
    /// Rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// A part of a file that is read at once.
#[derive(Clone, Debug)]
struct Chunk {
    file: usize,
    index: usize,
    /// Rows in the file.
    stored: usize,
    /// The first of them that belongs to the snapshot.
    skip: usize,
    /// How many do.
    rows: usize,
    /// Which rows of the range do, if not all; the range is longer than `rows` then.
    selection: Option<Bitmap>,
}

impl Chunk {
    /// The rows that belong to the snapshot.
    fn select(&self, arrays: Arrays) -> Arrays {
        let range = self.selection.as_ref().map_or(self.rows, Bitmap::len);
        if range == self.stored && self.selection.is_none() {
            return arrays;
        }
        let (mut start, mut selected) = (0, 0);
        let part = |array: Box<dyn Array>| {
            let from = self.skip.clamp(start, start + array.len());
            let to = (self.skip + range).clamp(start, start + array.len());
            let part = array.sliced(from - start, to - from);
            start += array.len();
            let Some(selection) = &self.selection else { return part };
            let mask = selection.clone().sliced(selected, part.len());
            selected += part.len();
            slice::filtered(&*part, &mask)
        };
        arrays.into_iter().map(part).collect()
    }
}

/// A table at one point in time, spread over any number of files; or some rows of one.
///
/// ```
/// use driftsweep::Snapshot;
///
/// # fn main() -> driftsweep::Result<()> {
/// // A file, a folder, a glob, or an address in an object store.
/// let year = Snapshot::open("datasets/nycflights13/weather-2013-*.parquet")?;
/// assert!(year.rows() > 20_000);
/// assert!(year.columns().iter().any(|column| column.name == "temp"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Snapshot {
    table: Arc<OpenTable>,
    chunks: Vec<Chunk>,
    rows: u64,
}

/// The table that all parts of a snapshot share.
struct OpenTable {
    spec: String,
    files: Vec<OpenFile>,
    columns: Vec<Column>,
    /// Positions of the columns by name.
    index: HashMap<String, usize>,
}

impl Snapshot {
    /// Opens a file, a glob or a directory (hive partitions become columns). A suffix `#rows=A..B` takes rows
    /// `A` to `B`, `B` not included, by position. Only metadata is read, except for CSV, which is read whole
    /// and kept as a temporary Parquet file.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreadable`] naming the file that cannot be opened, or
    /// [`Error::BadValue`] for a suffix that is not understood.
    pub fn open(spec: &str) -> Result<Self> {
        let (paths, wanted) = discover::split_rows(spec)?;
        let open = |files: Vec<(PathBuf, Partitions)>| {
            let open = |(path, partitions)| open_file(path, partitions);
            files.into_par_iter().with_min_len(4).map(open).collect::<Result<Vec<_>>>()
        };
        let files = match open(discover::files(paths)?) {
            Err(missing @ Error::NotFound { .. }) if storage::is_remote(paths) => {
                // Spark writes a folder with the name of a file.
                open(discover::objects(paths).map_err(|_| missing)?)?
            }
            files => files?,
        };
        let columns = unify(&files);
        let mut chunks = Vec::new();
        let mut start = 0;
        for (file, open) in files.iter().enumerate() {
            for (index, stored) in open.reader.chunk_rows().enumerate() {
                let (from, to) = (wanted.start.max(start), wanted.end.min(start + stored as u64));
                if from < to {
                    let (skip, rows) = ((from - start) as usize, (to - from) as usize);
                    chunks.push(Chunk { file, index, stored, skip, rows, selection: None });
                }
                start += stored as u64;
            }
        }
        let rows = chunks.iter().map(|chunk| chunk.rows as u64).sum();
        let index = columns.iter().enumerate().map(|(i, column)| (column.name.clone(), i)).collect();
        Ok(Self { table: Arc::new(OpenTable { spec: redacted(spec), files, columns, index }), chunks, rows })
    }

    /// The files that a path, a glob or a directory stands for, sorted; none of them is opened.
    ///
    /// # Errors
    /// [`Error::NotFound`], and as for [`Self::open`] for a suffix or a pattern that is not understood.
    pub fn files(spec: &str) -> Result<Vec<PathBuf>> {
        let (paths, _) = discover::split_rows(spec)?;
        Ok(discover::files(paths)?.into_iter().map(|(path, _)| path).collect())
    }

    /// The path, glob or directory it was opened with, for display.
    pub fn spec(&self) -> &str {
        &self.table.spec
    }

    /// An id that all parts of one table share.
    pub(crate) fn table_id(&self) -> usize {
        Arc::as_ptr(&self.table) as usize
    }

    /// Rows, by the files' own metadata.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// All columns, in the order of the first file.
    pub fn columns(&self) -> &[Column] {
        &self.table.columns
    }

    /// A column by name.
    ///
    /// # Errors
    /// [`Error::NoColumn`], naming those there are.
    pub fn column(&self, name: &str) -> Result<&Column> {
        let names = self.table.columns.iter().map(|column| &*column.name);
        self.find(name).ok_or_else(|| Error::no_column(&self.table.spec, name, names))
    }

    /// A column by name, if there is one.
    pub fn find(&self, name: &str) -> Option<&Column> {
        self.table.index.get(name).map(|&i| &self.table.columns[i])
    }

    /// The files, with their sizes.
    pub fn sources(&self) -> Vec<SourceFile> {
        let mut sources: Vec<SourceFile> = self
            .table
            .files
            .iter()
            .map(|file| SourceFile { path: redacted(&file.path).into(), rows: 0, bytes: file.bytes })
            .collect();
        for chunk in &self.chunks {
            sources[chunk.file].rows += chunk.rows as u64;
        }
        sources
    }

    /// An entry of the metadata of its first file, if that is a Parquet file.
    pub(crate) fn entry(&self, key: &str) -> Option<&str> {
        self.table.files.first()?.reader.entry(key)
    }

    /// Paths, sizes and times of change of the files: if they are the same, so are the rows.
    pub fn fingerprint(&self) -> String {
        let mut text = self.table.spec.clone();
        for file in &self.table.files {
            text.push_str(&format!("\n{} {} {}", redacted(&file.path), file.bytes, file.version));
        }
        text
    }

    /// Bytes that a column takes in the files, about.
    pub(crate) fn stored_bytes(&self, column: &Column) -> u64 {
        let of = |chunk: &Chunk| match column.at[chunk.file] {
            Some(Position::Stored(index)) => self.table.files[chunk.file].reader.stored_bytes(chunk.index, index),
            _ => 0,
        };
        self.chunks.iter().map(of).sum()
    }

    /// Decodes a part of a column and discards it, to find damage early.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`].
    pub fn try_decoding(&self, column: &Column, chunk: usize) -> Result<()> {
        self.decode(column, chunk, true).map(drop)
    }

    /// Reads chunk `i` of a column, whatever its type, and checks its length against the file's metadata. Strings may
    /// come as `codes` with a dictionary. Rows are selected or joined by such a column, so every file must have it.
    fn read(&self, column: &Column, i: usize, codes: bool) -> Result<Arrays> {
        let file = self.chunks[i].file;
        if column.at[file].is_none() {
            return Err(Error::UnreadableColumn {
                path: self.table.files[file].path.as_path().into(),
                column: column.name.clone(),
                reason: "this file lacks the column, others of the snapshot have it".into(),
            });
        }
        Ok(self.chunks[i].select(self.decode(column, i, codes)?))
    }

    /// The same, from values that were decoded for another part, if available.
    fn read_with(&self, column: &Column, i: usize, codes: bool, decoded: Option<&Decoded>) -> Result<Arrays> {
        let chunk = &self.chunks[i];
        let Some(known) = decoded.map(|decoded| &decoded.chunks[chunk.file][chunk.index]) else {
            return Ok(chunk.select(self.decode(column, i, codes)?));
        };
        if known.get().is_none() {
            let arrays = self.decode(column, i, codes)?;
            known.get_or_init(|| arrays);
        }
        Ok(chunk.select(known.get().cloned().unwrap_or_default()))
    }

    /// The whole chunk `i`, including rows that do not belong to this part. A file without the column gives nulls.
    fn decode(&self, column: &Column, i: usize, codes: bool) -> Result<Arrays> {
        let chunk = &self.chunks[i];
        let file = &self.table.files[chunk.file];
        let unreadable =
            |reason| Error::UnreadableColumn { path: file.path.as_path().into(), column: column.name.clone(), reason };
        let arrays = match column.at[chunk.file] {
            Some(Position::Stored(index)) => file.reader.read(chunk.index, index, codes).map_err(unreadable)?,
            Some(Position::Partition(index)) => {
                vec![partition::constant(&file.partitions[index].1, &column.kind, chunk.stored)]
            }
            Some(Position::Empty) | None => vec![NullArray::new(ArrowDataType::Null, chunk.stored).boxed()],
        };
        let rows: usize = arrays.iter().map(|array| array.len()).sum();
        if rows != chunk.stored {
            return Err(unreadable(format!("{rows} rows decoded where the file's metadata says {}", chunk.stored)));
        }
        Ok(arrays)
    }

    /// The keys of chunk `i` of a numeric column.
    fn keys(
        &self,
        column: &Column,
        i: usize,
        reading: KeyEncoding,
        with_moments: bool,
        decoded: Option<&Decoded>,
    ) -> Result<(KeyVec, Tally)> {
        let mut whole: Option<(KeyVec, Tally)> = None;
        for array in self.read_with(column, i, false, decoded)? {
            let keys = if array.dtype() == &ArrowDataType::Null {
                Some((KeyVec::new(reading.domain), keys::missing(&*array)))
            } else {
                keys::keys_of(&*array, reading, with_moments)
            };
            let (keys, tally) = keys.ok_or_else(|| self.not_covered(column, i, &*array, Some(reading.domain)))?;
            whole = Some(match whole {
                None => (keys, tally),
                Some((mut all, sum)) => {
                    match (&mut all, keys) {
                        (KeyVec::U32(all), KeyVec::U32(keys)) => all.extend(keys),
                        (KeyVec::U64(all), KeyVec::U64(keys)) => all.extend(keys),
                        _ => return Err(self.wrong_type(column, i, "mixed")),
                    }
                    (all, sum.merge(tally))
                }
            });
        }
        Ok(whole.unwrap_or((KeyVec::new(reading.domain), Tally::default())))
    }

    /// The error for values of an array that cannot be counted: as keys of a domain of integers, or as categories.
    fn not_covered(&self, column: &Column, i: usize, array: &dyn Array, domain: Option<Domain>) -> Error {
        let value = match domain {
            Some(domain) if domain.is_float() => None,
            // Categories are integers of any size.
            domain => keys::first_unsupported(array, domain.unwrap_or(Domain::I64)),
        };
        match value {
            Some(value) => Error::NotIntegers {
                path: self.table.files[self.chunks[i].file].path.as_path().into(),
                column: column.name.clone(),
                value,
            },
            None => self.wrong_type(column, i, &format!("{:?}", array.dtype())),
        }
    }

    /// Rows, nulls and NaN of a column of any type.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`].
    pub fn missing(&self, column: &Column) -> Result<Tally> {
        let mut sum = Tally::default();
        for i in 0..self.chunks.len() {
            for array in self.read_with(column, i, true, None)? {
                sum = sum.merge(keys::missing(&*array));
            }
        }
        Ok(sum)
    }

    /// Files with rows of the snapshot that lack a column, with how many rows they have; the first by name.
    pub fn lacking(&self, column: &Column) -> Option<(usize, u64, &Path)> {
        let lacks = |chunk: &&Chunk| matches!(column.at[chunk.file], None | Some(Position::Empty));
        let files: HashSet<usize> = self.chunks.iter().filter(lacks).map(|chunk| chunk.file).collect();
        let rows = self.chunks.iter().filter(lacks).map(|chunk| chunk.rows as u64).sum();
        let first = files.iter().min()?;
        Some((files.len(), rows, &self.table.files[*first].path))
    }

    fn wrong_type(&self, column: &Column, i: usize, found: &str) -> Error {
        Error::UnreadableColumn {
            path: self.table.files[self.chunks[i].file].path.as_path().into(),
            column: column.name.clone(),
            reason: format!("holds {found}, not {}", column.kind.name()),
        }
    }

    /// How many numeric values it holds.
    pub fn workload(&self) -> Workload {
        let of = |column: &Column| match column.kind {
            ColumnType::Numeric(domain) => Workload { values: self.rows, bytes: self.rows * domain.key_bytes() as u64 },
            _ => Workload::default(),
        };
        self.table.columns.iter().map(of).sum()
    }

    /// All values of a column of strings; nulls are empty. For small tables.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`].
    pub fn texts(&self, column: &Column) -> Result<Vec<String>> {
        self.gather(column, keys::texts)
    }

    /// All values of a column of numbers, flags or times, as doubles. For small tables.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`].
    pub fn numbers(&self, column: &Column) -> Result<Vec<Option<f64>>> {
        self.gather(column, keys::doubles)
    }

    fn gather<T>(&self, column: &Column, of: impl Fn(&dyn Array) -> Option<Vec<T>>) -> Result<Vec<T>> {
        let mut values = Vec::new();
        for i in 0..self.chunks.len() {
            for array in self.read(column, i, false)? {
                let found = of(&*array);
                values.extend(found.ok_or_else(|| self.wrong_type(column, i, &format!("{:?}", array.dtype())))?);
            }
        }
        Ok(values)
    }

    /// A numeric column: kept in memory if its keys take at most `hold` bytes, else decoded again whenever they
    /// are needed. Values `decoded` for other parts of the same table are reused.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`].
    pub fn numeric<'a>(
        &'a self,
        column: &'a Column,
        reading: KeyEncoding,
        with_moments: bool,
        hold: usize,
        decoded: Option<Arc<Decoded>>,
    ) -> Result<NumericColumn<'a>> {
        let chunks = self.chunks.len();
        let mut numeric = NumericColumn {
            snapshot: self,
            column,
            reading,
            with_moments,
            decoded,
            held: None,
            kept: CounterCache::new(),
            tallies: (0..chunks).map(|_| OnceLock::new()).collect(),
        };
        if (self.rows as usize).saturating_mul(reading.domain.key_bytes()) <= hold {
            let held = (0..chunks).into_par_iter().with_min_len(4).map(|i| numeric.read(i)).collect::<Result<_>>()?;
            numeric.held = Some(held);
            numeric.decoded = None;
        }
        Ok(numeric)
    }

    /// Counts a column's categories: strings, booleans, or integers as their text.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`].
    pub fn categories(
        &self,
        counter: &dyn Counter,
        column: &Column,
        limit: usize,
        decoded: Option<&Decoded>,
    ) -> Result<(Categories, Tally)> {
        let (counts, tally) = (0..self.chunks.len())
            .into_par_iter()
            .with_min_len(4)
            .try_fold(
                || (CategoryCounts::new(limit), Tally::default()),
                |(mut counts, mut tally), i| {
                    for array in self.read_with(column, i, true, decoded)? {
                        let part = if array.dtype() == &ArrowDataType::Null || array.null_count() == array.len() {
                            Some(keys::missing(&*array))
                        } else {
                            keys::count_categories(counter, &*array, &mut counts)
                        };
                        tally = tally.merge(part.ok_or_else(|| self.not_covered(column, i, &*array, None))?);
                    }
                    Ok((counts, tally))
                },
            )
            .try_reduce(
                || (CategoryCounts::new(limit), Tally::default()),
                |(a, s), (b, t)| Ok((a.merge(b), s.merge(t))),
            )?;
        Ok((counts.finish(), tally))
    }
}

/// A decoded chunk of a column.
type Arrays = Vec<Box<dyn Array>>;

/// The decoded chunks of one column of one table, for all parts of it that are compared: each is decoded once.
pub struct Decoded {
    /// By file and chunk.
    chunks: Vec<Vec<OnceLock<Arrays>>>,
}

impl Decoded {
    /// Without chunks; `None` where the column would take more than `hold` bytes.
    pub fn new(snapshot: &Snapshot, column: &Column, hold: usize) -> Option<Self> {
        let files = &snapshot.table.files;
        let bytes: u64 = files.iter().zip(&column.at).map(|(file, at)| file.reader.decoded_bytes(*at)).sum();
        let empty = |file: &OpenFile| file.reader.chunk_rows().map(|_| OnceLock::new()).collect();
        (bytes <= hold as u64).then(|| Self { chunks: files.iter().map(empty).collect() })
    }
}

/// The keys of a numeric column of a snapshot.
pub struct NumericColumn<'a> {
    snapshot: &'a Snapshot,
    column: &'a Column,
    reading: KeyEncoding,
    with_moments: bool,
    decoded: Option<Arc<Decoded>>,
    held: Option<Vec<KeyVec>>,
    tallies: Vec<OnceLock<Tally>>,
    kept: CounterCache,
}

impl NumericColumn<'_> {
    /// Decodes a chunk; its tally is kept the first time.
    fn read(&self, i: usize) -> Result<KeyVec> {
        let known = &self.tallies[i];
        let with_moments = self.with_moments && known.get().is_none();
        let (keys, tally) = self.snapshot.keys(self.column, i, self.reading, with_moments, self.decoded.as_deref())?;
        known.get_or_init(|| tally);
        Ok(keys)
    }

    /// Rows, missing values and moments of the whole column.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`], if it has to read chunks that were not read before.
    pub fn tally(&self) -> Result<Tally> {
        let mut sum = Tally::default();
        // In file order, so that the moments are the same however many threads there were.
        for (i, tally) in self.tallies.iter().enumerate() {
            if tally.get().is_none() {
                self.read(i)?;
            }
            sum = sum.merge(tally.get().copied().unwrap_or_default());
        }
        Ok(sum)
    }
}

impl KeySource for NumericColumn<'_> {
    fn chunks(&self) -> usize {
        self.tallies.len()
    }

    fn is_resident(&self) -> bool {
        self.held.is_some()
    }

    fn keep(&self) -> Option<&CounterCache> {
        Some(&self.kept)
    }

    fn with_chunk(&self, i: usize, f: &mut dyn FnMut(&KeyVec)) -> Result<()> {
        match &self.held {
            Some(held) => f(&held[i]),
            None => f(&self.read(i)?),
        }
        Ok(())
    }
}

/// The message for an empty file.
const EMPTY: &str = "an empty file (0 bytes): its writer did not finish; write it again, or remove it";

thread_local! {
    static IN_DECODER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a decoder whose panic is turned into an error: a panic hook prints nothing then.
pub fn is_decoding() -> bool {
    IN_DECODER.get()
}

/// Runs a decoder. Damaged files can make one panic; the panic is turned into an error.
fn catch_panics<T>(f: impl FnOnce() -> PolarsResult<T>) -> PolarsResult<T> {
    let outer = IN_DECODER.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    IN_DECODER.set(outer);
    result.unwrap_or_else(|_| Err(PolarsError::ComputeError("the decoder failed on invalid data".into())))
}
