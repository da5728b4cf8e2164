//! Opens the files of a snapshot, and determines their common columns.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::partition::{self, Partitions};
use super::{Arrays, Column, ColumnType, Position, TextReason, csv, ipc, keys, magic, parquet};
use crate::count::Domain;
use driftsweep_common::address::{self, redacted};
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage::{self, StoredFile};

pub(crate) struct OpenFile {
    pub path: PathBuf,
    pub reader: FileReader,
    pub partitions: Partitions,
    pub bytes: u64,
    /// A version that changes when its content does.
    pub version: String,
    /// Why columns are text, by their position in the file; only for CSV.
    pub notes: Vec<Option<TextReason>>,
    /// The temporary file with the rows of a CSV file, or of a file that was downloaded from an object store.
    _spill: Option<TempPath>,
}

pub(crate) enum FileReader {
    Parquet(Box<parquet::ParquetFile>),
    Ipc(Box<ipc::IpcFile>),
}

impl FileReader {
    pub fn fields(&self) -> &[polars_arrow::datatypes::Field] {
        match self {
            FileReader::Parquet(file) => file.fields(),
            FileReader::Ipc(file) => file.fields(),
        }
    }

    /// An entry of the metadata of a Parquet file.
    pub fn entry(&self, key: &str) -> Option<&str> {
        match self {
            FileReader::Parquet(file) => file.entry(key),
            FileReader::Ipc(_) => None,
        }
    }

    pub(crate) fn chunk_rows(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            FileReader::Parquet(file) => Box::new(file.chunk_rows()),
            FileReader::Ipc(file) => Box::new(file.chunk_rows()),
        }
    }

    /// Bytes of a column in a chunk, about.
    pub(crate) fn stored_bytes(&self, chunk: usize, column: usize) -> u64 {
        match self {
            FileReader::Parquet(file) => file.stored_bytes(chunk, column),
            // Usually not compressed, and the metadata does not show it: assumed eight bytes per value.
            FileReader::Ipc(file) => 8 * file.chunk_rows().nth(chunk).unwrap_or(0) as u64,
        }
    }

    /// Bytes that a column takes when it is decoded, about: eight a row, and more where it is stored as more.
    pub(crate) fn decoded_bytes(&self, at: Option<Position>) -> u64 {
        let stored = match (self, at) {
            (FileReader::Parquet(file), Some(Position::Stored(column))) => file.uncompressed_bytes(column),
            _ => 0,
        };
        stored.max(self.chunk_rows().map(|rows| 8 * rows as u64).sum())
    }

    pub fn read(&self, chunk: usize, column: usize, codes: bool) -> std::result::Result<Arrays, String> {
        match self {
            FileReader::Parquet(file) => file.read(chunk, column, codes),
            FileReader::Ipc(file) => file.read(chunk, column),
        }
    }
}

pub(crate) fn open_file(path: PathBuf, partitions: Partitions) -> Result<OpenFile> {
    let extension = address::extension(&path);
    let rows_only = matches!(extension.as_deref(), Some("csv" | "tsv" | "arrow" | "ipc" | "feather"));
    let stat = || StoredFile::open(&path).map(|file| (file.length(), file.version().to_owned()));
    let before = rows_only.then(stat).transpose()?;
    // Formats that are not read in ranges are downloaded.
    let copy = (rows_only && storage::is_remote(&path)).then(|| storage::download(&path)).transpose()?;
    let local: &Path = copy.as_deref().unwrap_or(&path);
    // An error in a copy is an error of the original.
    let named = |error| match error {
        Error::Unreadable { path: at, reason } if at == local.into() => {
            Error::Unreadable { path: path.as_path().into(), reason }
        }
        other => other,
    };
    let mut notes = Vec::new();
    let (reader, spill, (bytes, version)) = match extension.as_deref() {
        Some("csv" | "tsv") => {
            let spill = csv::to_parquet(&path, local).map_err(named)?;
            notes = spill.notes;
            let spill = spill.file.into_temp_path();
            (FileReader::Parquet(Box::new(parquet::ParquetFile::open(&spill)?)), Some(spill), stat()?)
        }
        Some("arrow" | "ipc" | "feather") => {
            let opened =
                ipc::IpcFile::open(local).map_err(|error| magic::with_actual_format("Arrow IPC", local, error));
            (FileReader::Ipc(Box::new(opened.map_err(named)?)), copy, stat()?)
        }
        _ => {
            let file = parquet::ParquetFile::open(&path)
                .map_err(|error| magic::with_actual_format("Parquet", &path, error))?;
            let stat = (file.length(), file.version().to_owned());
            (FileReader::Parquet(Box::new(file)), None, stat)
        }
    };
    if before.is_some_and(|before| before != (bytes, version.clone())) {
        let reason =
            "the file was changed while it was read; write snapshots under another name and rename them".into();
        return Err(Error::Unreadable { path: path.into(), reason });
    }
    let mut names = HashSet::new();
    if let Some(twice) = reader.fields().iter().find(|field| !names.insert(field.name.clone())) {
        let reason = format!("two columns are called '{}'; rename one", twice.name);
        return Err(Error::Unreadable { path: path.into(), reason });
    }
    Ok(OpenFile { path, reader, partitions, bytes, version, notes, _spill: spill })
}

/// The columns of all files, in the order in which they first appear.
pub(crate) fn unify(files: &[OpenFile]) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    let mut kinds: Vec<Vec<(usize, ColumnType)>> = Vec::new();
    let mut index = HashMap::new();
    let mut values = partition::PartitionValues::default();
    for (i, file) in files.iter().enumerate() {
        let stored = file
            .reader
            .fields()
            .iter()
            .enumerate()
            .map(|(at, field)| (field.name.to_string(), ColumnType::of(&field.dtype), Position::Stored(at)));
        // A stored column takes precedence over a partition key of the same name.
        let stored_name = |name: &str| file.reader.fields().iter().any(|field| field.name == name);
        let keys = file.partitions.iter().enumerate().filter(|(_, (name, _))| !stored_name(name));
        let partitions: Vec<_> = keys.collect();
        partitions.iter().for_each(|(_, (name, value))| values.add(name, value));
        // The values of all files determine the type.
        let partitions =
            partitions.into_iter().map(|(at, (name, _))| (name.clone(), ColumnType::Null, Position::Partition(at)));
        for (name, kind, position) in partitions.chain(stored) {
            let at = *index.entry(name.clone()).or_insert_with(|| {
                let at = vec![None; files.len()];
                columns.push(Column { name, kind: ColumnType::Null, note: None, at, other: None });
                kinds.push(Vec::new());
                columns.len() - 1
            });
            let column = &mut columns[at];
            column.at[i] = Some(position);
            if let (None, Position::Stored(at)) = (&column.note, position) {
                column.note = file.notes.get(at).cloned().flatten();
            }
            kinds[at].push((i, kind));
        }
    }
    for (column, kinds) in columns.iter_mut().zip(kinds) {
        let agreed = common(files, &kinds);
        // Precision is not lost for files without values either.
        let coarse =
            agreed == Ok(ColumnType::Numeric(Domain::F32)) && kinds.iter().any(|(_, kind)| Ok(kind) != agreed.as_ref());
        column.kind = match agreed {
            Ok(agreed) if !coarse => agreed,
            agreed => {
                // A column with only missing values has the arbitrary type of its writer.
                let (valued, empty): (Vec<_>, Vec<_>) =
                    kinds.into_iter().partition(|(file, _)| has_values(&files[*file], column.at[*file]));
                empty.iter().for_each(|(file, _)| column.at[*file] = Some(Position::Empty));
                common(files, &valued).or(agreed).unwrap_or_else(ColumnType::Mixed)
            }
        };
    }
    for column in &mut columns {
        let Some(readings) = values.readings(&column.name) else { continue };
        let kinds = [Some(&readings.own), readings.other.as_ref()];
        let common = kinds.into_iter().flatten().find_map(|kind| column.kind.common(kind));
        if matches!(column.kind, ColumnType::Mixed(_)) {
            continue;
        }
        let stored = column.at.iter().any(|at| matches!(at, Some(Position::Stored(_))));
        column.kind = common.unwrap_or_else(|| {
            let (stored, partitions) = (column.kind.name(), readings.own.name());
            ColumnType::Mixed(format!("{stored} and, in the names of folders, {partitions}"))
        });
        if let (false, Some(kind)) = (stored, readings.other) {
            column.other = Some(Box::new(Column { kind, ..column.clone() }));
        }
    }
    columns
}

/// The type in which the values of all files can be compared.
///
/// # Errors
/// Which file has another type than those before it.
fn common(files: &[OpenFile], kinds: &[(usize, ColumnType)]) -> std::result::Result<ColumnType, String> {
    kinds.iter().try_fold(ColumnType::Null, |so_far, (file, kind)| {
        so_far
            .common(kind)
            .ok_or_else(|| format!("{} and, in {}, {}", so_far.name(), redacted(&files[*file].path), kind.name()))
    })
}

/// Whether a column of a file has a value that is not missing; read only where files disagree on the type.
fn has_values(file: &OpenFile, at: Option<Position>) -> bool {
    let Some(Position::Stored(column)) = at else { return true };
    (0..file.reader.chunk_rows().count()).any(|chunk| match file.reader.read(chunk, column, true) {
        Ok(arrays) => arrays.iter().any(|array| {
            let tally = keys::missing(&**array);
            tally.null + tally.nan < tally.rows
        }),
        // It will be reported when the column is read.
        Err(_) => true,
    })
}
