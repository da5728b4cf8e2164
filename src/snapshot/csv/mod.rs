//! CSV has no columns to seek to and names no types, so it is read once from the start to the end, block by block, and
//! written as a temporary Parquet file.
//!
//! A column's type is that of all of its values. Most often the first block shows it, and one pass is enough: the types
//! of the first block are written until a block shows others. Then the rest of the file is only looked through, and a
//! second pass writes everything with the types that are known by then. So no type depends on the size of a block, and
//! memory does not grow with the file.

mod cells;
mod records;

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use rayon::prelude::*;
use tempfile::NamedTempFile;

use self::cells::{Kind, Seen};
use self::records::{Block, Records};
use super::table::{CellType, TableWriter};
use crate::error::{Error, Result};

/// The rows of a CSV file as a Parquet file in the temporary directory, gone when dropped.
pub struct Spill {
    /// The Parquet file.
    pub file: NamedTempFile,
    /// By column: why it is text, with the line and the value that make it so. `None` for all other columns.
    pub notes: Vec<Option<String>>,
}

/// Reads the CSV file at `local`, which messages call `path`. The name of the file says what usually separates its
/// fields.
///
/// # Errors
/// [`Error::Unreadable`] with the line, where there is one.
pub fn to_parquet(path: &Path, local: &Path) -> Result<Spill> {
    let unreadable = |reason: String| Error::Unreadable { path: path.into(), reason };
    let usual = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv")) { b'\t' } else { b',' };
    let mut seen: Option<Vec<Seen>> = None;
    // At most twice: what a whole pass has seen is true of the whole file.
    loop {
        let file = File::open(local).map_err(|e| Error::io(path, &e))?;
        let records = Records::open(file, usual).map_err(unreadable)?;
        let spill = tempfile::Builder::new()
            .prefix("driftsweep-")
            .suffix(".parquet")
            .tempfile()
            .map_err(|source| Error::Write { path: std::env::temp_dir(), source })?;
        let (found, written) = pass(records, seen, spill.as_file()).map_err(unreadable)?;
        if written {
            let note = |(_, why): (Kind, Option<String>)| Some(format!("{}, {}", path.display(), why?));
            return Ok(Spill { file: spill, notes: kinds(&found).into_iter().map(note).collect() });
        }
        seen = Some(found);
    }
}

/// Goes through all records once. What it has seen of each column, and whether all of them were written: they are
/// where all was `known` before, or where the first block showed all types.
fn pass(
    mut records: Records<File>,
    known: Option<Vec<Seen>>,
    output: &File,
) -> std::result::Result<(Vec<Seen>, bool), String> {
    let names = records.names().to_vec();
    let mut unique = HashSet::new();
    if let Some(twice) = names.iter().find(|name| !unique.insert(*name)) {
        return Err(format!("two columns are called '{twice}'; rename one"));
    }
    let commas = records.separator() != b',';
    let look = known.is_none();
    let mut seen = known.unwrap_or_else(|| vec![Seen::default(); names.len()]);
    if seen.len() != names.len() {
        return Err(cells::CHANGED.into());
    }
    let mut update = |block: &Block| {
        if look {
            seen.par_iter_mut().enumerate().for_each(|(column, seen)| seen.update(block, column, commas));
        }
        kinds(&seen).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
    };
    let mut block = Block::default();
    let mut more = records.fill(&mut block)?;
    let kinds = update(&block);
    let declared: Vec<(&str, CellType)> =
        names.iter().zip(&kinds).map(|(name, kind)| (name.as_str(), kind.cell_type())).collect();
    let failed = |e: String| format!("cannot be unpacked to the temporary directory ({e})");
    let mut writer = TableWriter::plain(output, &declared).map_err(failed)?;
    let mut written = true;
    while more {
        if written {
            let arrays = kinds.par_iter().enumerate().map(|(column, &kind)| cells::array(&block, column, kind));
            let arrays = arrays.collect::<std::result::Result<Vec<_>, _>>()?;
            writer.write_arrays(block.rows(), arrays).map_err(failed)?;
        }
        more = records.fill(&mut block)?;
        written &= !more || update(&block) == kinds;
    }
    writer.finish().map_err(failed)?;
    Ok((seen, written))
}

/// The kind of each column, and why it is text, if it is.
fn kinds(seen: &[Seen]) -> Vec<(Kind, Option<String>)> {
    let shows: Vec<bool> = seen.iter().map(Seen::shows_commas).collect();
    let commas = shows.contains(&true);
    seen.iter().map(|seen| seen.kind(commas)).collect()
}
