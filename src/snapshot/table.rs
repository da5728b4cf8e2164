//! Writing tables as Parquet, a row group at a time.

use std::io::Write;
use std::sync::Arc;

use polars::prelude::PolarsError;
use polars_arrow::array::{Array, BooleanArray, PrimitiveArray, Utf8ViewArray};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field, TimeUnit};
use polars_parquet::read::fallible_streaming_iterator;
use polars_parquet::write::{
    CompressedPage, CompressionOptions, DynIter, DynStreamingIterator, FileWriter, KeyValue, ParquetType,
    StatisticsOptions, Version, WriteOptions, array_to_columns, compress, get_dtype_encoding, schema_to_metadata_key,
};
use rayon::prelude::*;

/// The cells of a column.
#[derive(Clone, Debug)]
pub enum Cells {
    /// Strings.
    Text(Vec<String>),
    /// Categories, each an index into the names.
    Names(Vec<Option<u32>>, Arc<[String]>),
    /// Doubles.
    Float(Vec<Option<f64>>),
    /// Single-precision numbers.
    Float32(Vec<Option<f32>>),
    /// Integers.
    Signed(Vec<Option<i64>>),
    /// Counts.
    Int(Vec<u64>),
    /// Flags.
    Bool(Vec<bool>),
    /// Points in time: microseconds since 1970, UTC.
    Time(Vec<i64>),
}

impl Cells {
    fn len(&self) -> usize {
        match self {
            Self::Text(cells) => cells.len(),
            Self::Names(cells, _) => cells.len(),
            Self::Float(cells) => cells.len(),
            Self::Float32(cells) => cells.len(),
            Self::Signed(cells) => cells.len(),
            Self::Int(cells) => cells.len(),
            Self::Bool(cells) => cells.len(),
            Self::Time(cells) => cells.len(),
        }
    }

    fn into_array(self) -> Box<dyn Array> {
        match self {
            Self::Text(cells) => Utf8ViewArray::from_slice_values(cells).boxed(),
            Self::Names(cells, names) => {
                let name = |index: u32| names.get(index as usize).map(String::as_str);
                let cells: Vec<Option<&str>> = cells.into_iter().map(|cell| cell.and_then(name)).collect();
                Utf8ViewArray::from_slice(cells).boxed()
            }
            Self::Float(cells) => PrimitiveArray::from(cells).boxed(),
            Self::Float32(cells) => PrimitiveArray::from(cells).boxed(),
            Self::Signed(cells) => PrimitiveArray::from(cells).boxed(),
            Self::Int(cells) => PrimitiveArray::from_vec(cells).boxed(),
            Self::Bool(cells) => BooleanArray::from_slice(cells).boxed(),
            Self::Time(cells) => PrimitiveArray::new(time_type(), cells.into(), None).boxed(),
        }
    }

    fn cell_type(&self) -> CellType {
        match self {
            Self::Text(_) | Self::Names(..) => CellType::Text,
            Self::Float(_) => CellType::Float,
            Self::Float32(_) => CellType::Float32,
            Self::Signed(_) => CellType::Signed,
            Self::Int(_) => CellType::Int,
            Self::Bool(_) => CellType::Bool,
            Self::Time(_) => CellType::Time,
        }
    }
}

/// The type of a column: see [`Cells`].
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellType {
    Text,
    Float,
    Float32,
    Signed,
    Int,
    Bool,
    Time,
    Null,
}

impl CellType {
    fn dtype(self) -> ArrowDataType {
        match self {
            Self::Text => ArrowDataType::Utf8View,
            Self::Float => ArrowDataType::Float64,
            Self::Float32 => ArrowDataType::Float32,
            Self::Signed => ArrowDataType::Int64,
            Self::Int => ArrowDataType::UInt64,
            Self::Bool => ArrowDataType::Boolean,
            Self::Time => time_type(),
            Self::Null => ArrowDataType::Null,
        }
    }
}

fn time_type() -> ArrowDataType {
    ArrowDataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

const OPTIONS: WriteOptions = WriteOptions {
    statistics: StatisticsOptions {
        min_value: true,
        max_value: true,
        distinct_count: false,
        null_count: true,
        binary_statistics_truncate_length: None,
    },
    version: Version::V1,
    compression: CompressionOptions::Zstd(None),
    data_page_size: None,
};

/// For a temporary file that is read once.
const PLAIN: WriteOptions = WriteOptions {
    statistics: StatisticsOptions {
        min_value: false,
        max_value: false,
        distinct_count: false,
        null_count: false,
        binary_statistics_truncate_length: None,
    },
    compression: CompressionOptions::Uncompressed,
    ..OPTIONS
};

/// A Parquet file that is being written.
pub struct TableWriter<W: Write> {
    writer: FileWriter<W>,
}

impl<W: Write> TableWriter<W> {
    /// Starts a zstd-compressed file with columns of these names and types.
    ///
    /// # Errors
    /// A message, where a file cannot have such columns.
    pub fn new(output: W, columns: &[(&str, CellType)]) -> Result<Self, String> {
        Self::with_options(output, columns, OPTIONS)
    }

    /// The same for a temporary file: not compressed, and without statistics.
    pub(super) fn plain(output: W, columns: &[(&str, CellType)]) -> Result<Self, String> {
        Self::with_options(output, columns, PLAIN)
    }

    fn with_options(output: W, columns: &[(&str, CellType)], options: WriteOptions) -> Result<Self, String> {
        let field = |&(name, cell_type): &(&str, CellType)| {
            let field = Field::new(name.into(), cell_type.dtype(), true);
            (field.name.clone(), field)
        };
        let schema: ArrowSchema = columns.iter().map(field).collect();
        let writer = FileWriter::try_new(output, schema, options).map_err(|e| e.to_string())?;
        Ok(Self { writer })
    }

    /// Writes a row group with a number of rows and the declared columns. They are made and encoded in parallel, so
    /// that only the encoded ones are in memory together.
    ///
    /// # Errors
    /// A message, where they are not as declared, or where the output cannot be written.
    pub fn write<C>(&mut self, rows: usize, columns: C) -> Result<(), String>
    where
        C: IntoParallelIterator<Item = Cells>,
        C::Iter: IndexedParallelIterator,
    {
        self.write_arrays(rows, columns.into_par_iter().map(Cells::into_array))
    }

    /// The same with columns that are arrays already.
    pub(super) fn write_arrays<C>(&mut self, rows: usize, columns: C) -> Result<(), String>
    where
        C: IntoParallelIterator<Item = Box<dyn Array>>,
        C::Iter: IndexedParallelIterator,
    {
        if rows == 0 {
            return Ok(());
        }
        let options = self.writer.options();
        let types = self.writer.parquet_schema().fields();
        let encoded = columns
            .into_par_iter()
            .zip_eq(types.par_iter().cloned())
            .map(|(array, parquet_type)| {
                if array.len() != rows {
                    return Err(format!("a column of {} cells in a row group of {rows} rows", array.len()));
                }
                encode(array, parquet_type, options).map_err(|e| e.to_string())
            })
            .collect::<Result<Vec<_>, String>>()?;
        let pages = encoded.iter().map(|pages| {
            let pages = pages.iter().map(Ok::<_, PolarsError>);
            Ok(DynStreamingIterator::new(fallible_streaming_iterator::convert(pages)))
        });
        self.writer.write(rows as u64, DynIter::new(pages)).map_err(|e| e.to_string())
    }

    /// Writes the footer; returns the output.
    ///
    /// # Errors
    /// A message, where the output cannot be written.
    pub fn finish(self) -> Result<W, String> {
        self.finish_with(&[])
    }

    /// The same, with entries in the metadata of the file.
    pub(crate) fn finish_with(mut self, entries: &[(&str, String)]) -> Result<W, String> {
        let entry = |(key, value): &(&str, String)| KeyValue::new((*key).to_owned(), value.clone());
        let schema = schema_to_metadata_key(self.writer.schema());
        let metadata = std::iter::once(schema).chain(entries.iter().map(entry)).collect();
        self.writer.end(Some(metadata)).map_err(|e| e.to_string())?;
        Ok(self.writer.into_inner())
    }
}

fn encode(
    array: Box<dyn Array>,
    parquet_type: ParquetType,
    options: WriteOptions,
) -> Result<Vec<CompressedPage>, PolarsError> {
    let encodings = get_dtype_encoding(array.dtype());
    let mut compressed = Vec::new();
    for pages in array_to_columns(array, parquet_type, options, &encodings)? {
        for page in pages {
            compressed.push(compress(page?, Vec::new(), options.compression)?);
        }
    }
    Ok(compressed)
}

/// A Parquet file of these columns, which must be equally long.
///
/// # Errors
/// A message, where they are not.
pub fn to_parquet(columns: Vec<(&str, Cells)>) -> Result<Vec<u8>, String> {
    let declared: Vec<(&str, CellType)> = columns.iter().map(|(name, cells)| (*name, cells.cell_type())).collect();
    let mut writer = TableWriter::new(Vec::new(), &declared)?;
    let rows = columns.first().map_or(0, |(_, cells)| cells.len());
    writer.write(rows, columns.into_iter().map(|(_, cells)| cells).collect::<Vec<_>>())?;
    writer.finish()
}
