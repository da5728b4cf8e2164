//! CSV has no column index and no types, so it is read once from the start to the end and written as a
//! temporary Parquet file.
//!
//! The type of a column is that of all its values. Usually the start of the file shows it: then one pass writes the
//! file with these types, and checks that all of its values have them. If some have not, the pass goes on to the end
//! without writing, and a second one writes the file with the types that are known by then. So a type does not depend
//! on the position of a value in the file, and memory does not grow with the file.

mod cells;
mod records;

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use rayon::prelude::*;
use tempfile::NamedTempFile;

use self::cells::{CsvKind, CsvValues, FieldShapeCounts};
use self::records::{Block, Records};
use super::TextReason;
use super::table::{CellType, TableWriter};
use driftsweep_common::address;
use driftsweep_common::error::{Error, Result};

/// Bytes of CSV text per row group; the types are inferred from the first one.
const ROW_GROUP: usize = 16 << 20;

/// The rows of a CSV file as a Parquet file in the temporary directory, deleted when dropped.
pub(crate) struct TemporaryParquet {
    /// The Parquet file.
    pub file: NamedTempFile,
    /// By column: why it is text, if it is.
    pub notes: Vec<Option<TextReason>>,
}

/// Reads the CSV file at `local`, which messages call `path`. The name of the file says what usually separates its
/// fields.
///
/// # Errors
/// [`Error::Unreadable`] with the line, where there is one.
pub fn to_parquet(path: &Path, local: &Path) -> Result<TemporaryParquet> {
    let unreadable = |reason: String| Error::Unreadable { path: path.into(), reason };
    let usual = if address::extension(path).as_deref() == Some("tsv") { b'\t' } else { b',' };
    let open = || {
        let file = File::open(local).map_err(|e| Error::io(path, &e))?;
        Records::open(file, usual).map_err(unreadable)
    };
    let mut known = scan_start(open()?).map_err(unreadable)?;
    loop {
        let spill = tempfile::Builder::new()
            .prefix("driftsweep-")
            .suffix(".parquet")
            .tempfile()
            .map_err(|source| Error::Write { path: std::env::temp_dir(), source })?;
        if write(open()?, &mut known, spill.as_file()).map_err(unreadable)? {
            let commas = known.commas();
            let notes = known.columns.iter().map(|seen| seen.note(path, commas)).collect();
            return Ok(TemporaryParquet { file: spill, notes });
        }
    }
}

/// The known types of the columns of a file.
struct KnownColumns {
    columns: Vec<FieldShapeCounts>,
    /// The number of blocks that were scanned.
    blocks: usize,
    /// Whether these are all blocks.
    whole: bool,
}

impl KnownColumns {
    fn update(&mut self, block: &Block, separator: u8) {
        let columns = self.columns.par_iter_mut().enumerate();
        columns.for_each(|(column, seen)| seen.update(block, column, separator != b','));
        self.blocks += 1;
    }

    /// Whether a column shows that the file writes decimals with a comma.
    fn commas(&self) -> bool {
        self.columns.iter().any(FieldShapeCounts::shows_commas)
    }

    fn kinds(&self) -> Vec<CsvKind> {
        let commas = self.commas();
        self.columns.iter().map(|seen| seen.kind(commas)).collect()
    }
}

/// Scans the start of a file.
fn scan_start(mut records: Records<File>) -> std::result::Result<KnownColumns, String> {
    let mut names = HashSet::new();
    if let Some(twice) = records.names().iter().find(|name| !names.insert(*name)) {
        return Err(format!("two columns are called '{twice}'; rename one"));
    }
    let mut known = KnownColumns { columns: vec![FieldShapeCounts::default(); names.len()], blocks: 0, whole: false };
    let (mut block, mut bytes) = (Block::default(), 0);
    while bytes < ROW_GROUP {
        if !records.fill(&mut block)? {
            known.whole = true;
            break;
        }
        known.update(&block, records.separator());
        bytes += block.bytes();
    }
    Ok(known)
}

/// Writes all records with the types that are known. Returns whether it did: it stops if values have other types. Then
/// the types of all values are known.
fn write(mut records: Records<File>, known: &mut KnownColumns, output: &File) -> std::result::Result<bool, String> {
    let kinds = known.kinds();
    if records.names().len() != kinds.len() {
        return Err(cells::CHANGED.into());
    }
    let names = records.names().to_vec();
    let declared: Vec<(&str, CellType)> =
        names.iter().zip(&kinds).map(|(name, kind)| (name.as_str(), kind.cell_type())).collect();
    let failed = |e: String| format!("cannot be unpacked to the temporary directory ({e})");
    let mut writer = TableWriter::plain(output, &declared).map_err(failed)?;
    let empty = || kinds.iter().map(|&kind| CsvValues::new(kind)).collect::<Vec<_>>();
    let (mut block, mut values, mut rows, mut bytes) = (Block::default(), empty(), 0, 0);
    let (mut written, mut looked_at) = (true, known.blocks);
    while records.fill(&mut block)? {
        if looked_at > 0 {
            looked_at -= 1;
        } else {
            known.update(&block, records.separator());
            written &= known.kinds() == kinds;
        }
        if !written {
            continue;
        }
        let extend = |(column, values): (usize, &mut CsvValues)| values.extend(&block, column);
        values.par_iter_mut().enumerate().try_for_each(extend)?;
        (rows, bytes) = (rows + block.rows(), bytes + block.bytes());
        if bytes >= ROW_GROUP {
            let full = std::mem::replace(&mut values, empty());
            writer.write_arrays(rows, full.into_par_iter().map(CsvValues::into_array)).map_err(failed)?;
            (rows, bytes) = (0, 0);
        }
    }
    known.whole = true;
    writer.write_arrays(rows, values.into_par_iter().map(CsvValues::into_array)).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(written)
}
