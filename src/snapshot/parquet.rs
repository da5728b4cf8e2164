//! Parquet, one column of one row group at a time.

mod delta;
mod footer;
mod format;
mod pages;
mod thrift;

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use polars::prelude::PlSmallStr;
use polars_arrow::array::Array;
use polars_arrow::datatypes::{ArrowDataType, DTYPE_CATEGORICAL_NEW, Field, IntegerType};
use polars_buffer::Buffer;
use polars_parquet::read::schema::parquet_to_arrow_schema;
use polars_parquet::read::{
    BasicDecompressor, ColumnChunkMetadata, FileMetadata, PageReader, ParquetType, PrimitiveLogicalType,
    column_iter_to_arrays,
};

pub(super) use pages::max_decompressed;
pub(super) use polars_parquet::parquet::compression::Compression;

use driftsweep_common::error::Error;
use driftsweep_common::storage::{StoredFile, limit};

pub(crate) struct ParquetFile {
    file: StoredFile,
    metadata: FileMetadata,
    fields: Vec<Field>,
    /// Columns that turned out not to be dictionary-encoded throughout.
    plain: Vec<AtomicBool>,
    /// Row groups and columns whose deltas have been checked: that takes as long as decompressing them.
    checked: Mutex<HashSet<(usize, usize)>>,
}

impl ParquetFile {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = StoredFile::open(path)?;
        let unreadable = |reason: String| Error::Unreadable { path: path.into(), reason };
        if file.length() == 0 {
            return Err(unreadable(super::EMPTY.into()));
        }
        let metadata = footer::read(&file).map_err(|reason| {
            unreadable(format!(
                "not a readable Parquet file ({reason}); it may be damaged, truncated or still being written"
            ))
        })?;
        let mut names = HashSet::new();
        if let Some(twice) = metadata.schema().fields().iter().find(|stored| !names.insert(stored.name())) {
            return Err(unreadable(format!("two columns are called '{}'; rename one", twice.name())));
        }
        let fields: Vec<Field> = parquet_to_arrow_schema(metadata.schema().fields())
            .into_iter()
            .map(
                |(_, field)| {
                    if is_null(&metadata, &field) { Field { dtype: ArrowDataType::Null, ..field } } else { field }
                },
            )
            .collect();
        let plain = fields.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self { file, metadata, fields, plain, checked: Mutex::default() })
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.file.length()
    }

    /// A version that changes when the content does.
    pub fn version(&self) -> &str {
        self.file.version()
    }

    /// An entry of the metadata of the file.
    pub fn entry(&self, key: &str) -> Option<&str> {
        let entries = self.metadata.key_value_metadata().as_ref()?;
        entries.iter().find(|entry| entry.key == key)?.value.as_deref()
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(crate) fn chunk_rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.metadata.row_groups.iter().map(|group| group.num_rows())
    }

    /// Bytes of a column in a row group.
    pub(crate) fn stored_bytes(&self, chunk: usize, column: usize) -> u64 {
        let leaves = self.metadata.row_groups[chunk].columns_under_root_iter(&self.fields[column].name);
        leaves.into_iter().flatten().map(|leaf| u64::try_from(leaf.compressed_size()).unwrap_or(0)).sum()
    }

    /// Bytes of a column, decompressed.
    pub(crate) fn uncompressed_bytes(&self, column: usize) -> u64 {
        let name = &self.fields[column].name;
        let leaves = self.metadata.row_groups.iter().filter_map(|group| group.columns_under_root_iter(name)).flatten();
        leaves.map(|leaf| u64::try_from(leaf.uncompressed_size()).unwrap_or(0)).sum()
    }

    /// Reads one column of one row group. Strings are returned as codes and a dictionary if requested and stored that
    /// way.
    pub fn read(&self, chunk: usize, column: usize, codes: bool) -> Result<Vec<Box<dyn Array>>, String> {
        let field = &self.fields[column];
        let group = &self.metadata.row_groups[chunk];
        let mut leaves = group.columns_under_root_iter(&field.name).ok_or("the row group lacks the column")?;
        let (Some(leaf), None) = (leaves.next(), leaves.next()) else {
            return Err("nested columns are not supported".into());
        };
        let range = leaf.byte_range();
        let bytes = [leaf.compressed_size(), leaf.uncompressed_size()].map(|size| u64::try_from(size).unwrap_or(0));
        let needed = footer::needed(group.num_rows() as u64, leaf.physical_type()).saturating_add(bytes.iter().sum());
        if needed > limit::max_part_bytes() {
            return Err(format!(
                "row group {chunk} needs about {} when decoded, and half of the memory of this process is {}; write \
                 smaller row groups, or give it more memory",
                bytesize::ByteSize(needed),
                bytesize::ByteSize(limit::max_part_bytes()),
            ));
        }
        let length = (range.end - range.start) as usize;
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < length {
                scratch.resize(length, 0);
            }
            let bytes = &mut scratch[..length];
            self.file.read_exact_at(bytes, range.start)?;
            let damaged = |reason| format!("row group {chunk}: {reason}; write the file again, or restore it");
            let deltas = pages::check(bytes, leaf).map_err(damaged)?;
            let decoded = Buffer::with_slice(bytes, |bytes| {
                if deltas && !self.checked().contains(&(chunk, column)) {
                    super::catch_panics(|| pages::check_deltas(bytes.clone(), leaf))
                        .map_err(|e| damaged(e.to_string()))?;
                    self.checked().insert((chunk, column));
                }
                let plain = &self.plain[column];
                if codes
                    && !plain.load(Ordering::Relaxed)
                    && let Some(coded) = coded(field)
                {
                    match decode(bytes.clone(), leaf, &coded) {
                        Ok(arrays) => return Ok(arrays),
                        // Writers stop using a dictionary when it grows too large.
                        Err(_) => plain.store(true, Ordering::Relaxed),
                    }
                }
                decode(bytes, leaf, field)
            });
            if scratch.len() > MAX_SCRATCH_BYTES {
                *scratch = Vec::new();
            }
            decoded
        })
    }

    fn checked(&self) -> MutexGuard<'_, HashSet<(usize, usize)>> {
        self.checked.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether a column has only nulls by its type, which the conversion to Arrow treats as an integer type.
fn is_null(metadata: &FileMetadata, field: &Field) -> bool {
    let stored = metadata.schema().fields().iter().find(|stored| stored.name() == field.name.as_str());
    matches!(stored, Some(ParquetType::PrimitiveType(stored)) if stored.logical_type == Some(PrimitiveLogicalType::Unknown))
}

/// Scratch memory that a thread keeps for its next chunk.
const MAX_SCRATCH_BYTES: usize = 32 << 20;

thread_local! {
    /// Compressed pages of the current chunk: reused, because new pages from the kernel cost as much as decoding.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The field of a column of strings, as one of codes and a dictionary. It is marked as a polars categorical: the
/// decoder then returns the stored indices, and fails where there are none.
fn coded(field: &Field) -> Option<Field> {
    let text = matches!(field.dtype, ArrowDataType::Utf8View | ArrowDataType::Utf8 | ArrowDataType::LargeUtf8);
    text.then(|| {
        let dtype = ArrowDataType::Dictionary(IntegerType::UInt32, Box::new(ArrowDataType::Utf8View), false);
        let mark = [(DTYPE_CATEGORICAL_NEW.into(), PlSmallStr::EMPTY)].into_iter().collect();
        Field { metadata: Some(Arc::new(mark)), dtype, ..field.clone() }
    })
}

fn decode(bytes: Buffer<u8>, leaf: &ColumnChunkMetadata, field: &Field) -> Result<Vec<Box<dyn Array>>, String> {
    super::catch_panics(|| {
        let pages = PageReader::new(Cursor::new(bytes), leaf, Vec::new(), usize::MAX);
        let pages = BasicDecompressor::new(pages, Vec::new());
        let leaf_type = &leaf.descriptor().descriptor.primitive_type;
        column_iter_to_arrays(vec![pages], vec![leaf_type], field.clone(), None)
    })
    .map(|(arrays, _)| arrays)
    .map_err(|e| format!("cannot be decoded ({e}); the file is damaged, or the type is not supported"))
}
