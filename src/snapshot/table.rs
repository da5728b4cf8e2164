//! Writing tables as Parquet.

use polars::prelude::{Column, DataFrame, NamedFrom, ParquetCompression, ParquetWriter, Series};

/// The cells of a column.
pub enum Cells {
    /// Strings.
    Text(Vec<String>),
    /// Doubles, some absent.
    Float(Vec<Option<f64>>),
    /// Counts.
    Int(Vec<u64>),
    /// Flags.
    Bool(Vec<bool>),
}

/// A Parquet file of these columns, which must be equally long.
///
/// # Errors
/// A message, where they are not.
pub fn to_parquet(columns: Vec<(&str, Cells)>) -> Result<Vec<u8>, String> {
    let series = columns.into_iter().map(|(name, cells)| {
        Column::from(match cells {
            Cells::Text(cells) => Series::new(name.into(), cells),
            Cells::Float(cells) => Series::new(name.into(), cells),
            Cells::Int(cells) => Series::new(name.into(), cells),
            Cells::Bool(cells) => Series::new(name.into(), cells),
        })
    });
    let mut frame = DataFrame::new_infer_height(series.collect()).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes)
        .with_compression(ParquetCompression::Zstd(None))
        .finish(&mut frame)
        .map_err(|e| e.to_string())?;
    Ok(bytes)
}
