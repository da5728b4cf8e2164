//! CSV has no columns to seek to, so it is turned once, block by block, into a temporary Parquet file.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use polars::io::SerReader;
use polars::io::csv::read::_csv_read_internal::CountLines;
use polars::prelude::{
    CsvReadOptions, DataFrame, ParquetCompression, ParquetWriter, PolarsError, PolarsResult, Schema,
};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Bytes parsed at a time.
const BLOCK: usize = 16 << 20;

/// Bytes in which a line must end.
const LONGEST: usize = 256 << 20;

/// The rows of a CSV file as a Parquet file in the temporary directory, gone when dropped.
///
/// Types are inferred from the first block; a later value that does not fit its column's type is an error.
pub fn to_parquet(path: &Path) -> Result<NamedTempFile> {
    let unreadable = |reason: String| Error::Unreadable { path: path.into(), reason };
    let mut file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let spill = tempfile::Builder::new()
        .prefix("driftsweep-")
        .suffix(".parquet")
        .tempfile()
        .map_err(|source| Error::Write { path: std::env::temp_dir(), source })?;

    let separator = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv")) { b'\t' } else { b',' };
    let lines = CountLines::new(Some(b'"'), b'\n', None);
    let (mut bytes, mut schema, mut writer) = (Vec::new(), None::<Arc<Schema>>, None);
    loop {
        let start = bytes.len();
        let read = (&mut file).take(BLOCK as u64).read_to_end(&mut bytes).map_err(|e| Error::io(path, &e))?;
        let end = if read == 0 {
            bytes.len()
        } else {
            match lines.count(&bytes) {
                (0, _) if bytes.len() < LONGEST => continue,
                (0, _) => return Err(unreadable("no line ends within 256 MiB; is a quote left open?".into())),
                (_, last_newline) => last_newline + 1,
            }
        };
        if end == 0 || (read == 0 && start == 0) {
            break;
        }
        let block: Vec<u8> = bytes.drain(..end).collect();
        if schema.is_none()
            && let Some(reason) = not_csv(&block)
        {
            return Err(unreadable(reason.into()));
        }
        let frame = super::guarded(|| parse(block, separator, schema.clone()))
            .map_err(|e| unreadable(format!("not readable as CSV ({}); convert it to Parquet", gist(&e))))?;
        let known = schema.get_or_insert_with(|| frame.schema().clone());
        if writer.is_none() {
            let batched = ParquetWriter::new(spill.as_file())
                .with_compression(ParquetCompression::Uncompressed)
                .set_parallel(false)
                .batched(known)
                .map_err(|e| unreadable(e.to_string()))?;
            writer = Some(batched);
        }
        if let Some(writer) = &mut writer {
            writer.write_batch(&frame).map_err(|e| unreadable(format!("cannot be spilled to disk ({e})")))?;
        }
    }
    match writer {
        Some(writer) => {
            writer.finish().map_err(|e| unreadable(format!("cannot be spilled to disk ({e})")))?;
            Ok(spill)
        }
        None => Err(unreadable("empty file; a CSV file needs at least a header line".into())),
    }
}

/// What other text the first block is, if it is seen to be.
fn not_csv(block: &[u8]) -> Option<&'static str> {
    if block.starts_with(&[0xFF, 0xFE]) || block.starts_with(&[0xFE, 0xFF]) {
        return Some("UTF-16 text; convert it to UTF-8");
    }
    if block.contains(&0) {
        return Some("holds NUL bytes, so it is not CSV text; look at what wrote it");
    }
    if block.contains(&b'\r') && !block.contains(&b'\n') {
        return Some("its lines end in CR alone; convert them to LF");
    }
    None
}

fn parse(block: Vec<u8>, separator: u8, schema: Option<Arc<Schema>>) -> PolarsResult<DataFrame> {
    CsvReadOptions::default()
        .with_has_header(schema.is_none())
        .map_parse_options(|options| options.with_separator(separator))
        .with_infer_schema_length(None)
        .with_schema(schema)
        .with_n_threads(Some(1))
        .with_rechunk(true)
        .into_reader_with_file_handle(Cursor::new(block))
        .finish()
}

/// The first line of a message, cut where it starts to quote the file.
fn gist(error: &PolarsError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}
