//! From a path, a glob or a directory to the files of a snapshot, in a fixed order.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::lakehouse::{ICEBERG_DATA, ICEBERG_METADATA, TableFormat};
use super::partition::{self, Partitions};
use super::pattern::{Pattern, is_data};
use super::walk;
use driftsweep_common::address::{extension, is_pattern, redacted, split_query};
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage;

/// Splits off a suffix `#rows=A..B`; without one, all rows.
pub(crate) fn split_rows(spec: &str) -> Result<(&str, Range<u64>)> {
    let Some((paths, suffix)) = spec.rsplit_once("#rows=") else { return Ok((spec, 0..u64::MAX)) };
    let bound = |text: &str, missing: u64| if text.is_empty() { Ok(missing) } else { text.parse() };
    suffix
        .split_once("..")
        .and_then(|(from, to)| Some(bound(from, 0).ok()?..bound(to, u64::MAX).ok()?))
        .map(|rows| (paths, rows))
        .ok_or_else(|| Error::BadValue {
            what: format!("'{}'", redacted(spec)),
            reason: "rows are given as #rows=FROM..TO, by position from 0, TO not included".into(),
        })
}

/// The files that a path, a glob or a directory stands for, sorted, with their hive partitions. A single file that is
/// named outright has none, and is read whatever its name and folder are.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unreadable`] for a folder that cannot be read as files.
pub fn files(spec: &str) -> Result<Vec<(PathBuf, Partitions)>> {
    let files = if storage::is_remote(spec) {
        if is_one_object(spec) {
            return Ok(vec![(spec.into(), Vec::new())]);
        }
        objects(spec)?
    } else {
        let path = Path::new(spec);
        if path.is_file() {
            return Ok(vec![(path.into(), Vec::new())]);
        }
        if path.is_dir() {
            walk::files(path, &Pattern::default(), Vec::new())?
        } else if is_pattern(spec) {
            let (folder, pattern) = split(spec)?;
            // The folders that the pattern begins with may be partitions, too.
            walk::files(Path::new(folder), &pattern, partitions_in(folder))?
        } else {
            if std::fs::metadata(path).is_ok() {
                // A pipe or a device: opening it might block forever.
                let reason = "it is neither a regular file nor a folder; name one".into();
                return Err(Error::Unreadable { path: spec.into(), reason });
            }
            Vec::new()
        }
    };
    if files.is_empty() {
        return Err(Error::NotFound { path: spec.into() });
    }
    in_one_format(&files)?;
    Ok(files)
}

/// Whether an address is that of one object, as far as the address shows it.
fn is_one_object(address: &str) -> bool {
    split_query(address).1.is_some() || (!is_pattern(address) && !address.ends_with('/') && is_data(address))
}

fn split(spec: &str) -> Result<(&str, Pattern)> {
    Pattern::split(spec).map_err(|reason| Error::BadValue { what: format!("pattern '{}'", redacted(spec)), reason })
}

fn partitions_in(folders: &str) -> Partitions {
    folders.split('/').fold(Vec::new(), |outer, folder| partition::inside(&outer, folder))
}

/// The objects below an address, or those that match a pattern.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unreadable`] with the reason.
pub fn objects(spec: &str) -> Result<Vec<(PathBuf, Partitions)>> {
    let (folder, pattern) = if is_pattern(spec) { split(spec)? } else { (spec, Pattern::default()) };
    let outer = if is_pattern(spec) { partitions_in(&partition::unescaped(folder)) } else { Vec::new() };
    let listed = match storage::list_remote(folder) {
        Err(Error::NotFound { .. }) => return Err(Error::NotFound { path: spec.into() }),
        listed => listed?,
    };
    let (mut found, mut tables) = (Vec::new(), Vec::new());
    for object in &listed {
        let mut folders: Vec<&str> = object.below.split('/').collect();
        let Some(name) = folders.pop() else { continue };
        if let Some(at) = folders.iter().position(|folder| TableFormat::of_log(folder).is_some()) {
            tables.extend(TableFormat::of_log(folders[at]).map(|format| (folders[..at].join("/"), format)));
        } else if folders.last() == Some(&ICEBERG_METADATA) && TableFormat::is_of_iceberg(name) {
            tables.push((folders[..folders.len() - 1].join("/"), TableFormat::Iceberg));
        }
        let places = folders.iter().fold(pattern.start(), |places, folder| pattern.folder(&places, folder));
        if pattern.file(&places, name) {
            let partitions = folders.iter().fold(outer.clone(), |outer, folder| partition::inside(&outer, folder));
            found.push((object, partitions));
        }
    }
    let lies_in =
        |table: &str, below: &str| table.is_empty() || below.strip_prefix(table).is_some_and(|b| b.starts_with('/'));
    if let Some((table, format)) = tables.iter().find(|(table, _)| found.iter().any(|(o, _)| lies_in(table, &o.below)))
    {
        return Err(format.refusal(storage::join(Path::new(folder), table)));
    }
    if !found.is_empty()
        && let Some((table, format)) = table_around(folder)
    {
        return Err(format.refusal(table));
    }
    Ok(found.into_iter().map(|(object, partitions)| (object.path.clone(), partitions)).collect())
}

/// The table of another format that contains an address: the folders above partitions or data folders are checked for
/// the table's log.
fn table_around(folder: &str) -> Option<(&str, TableFormat)> {
    let folder = folder.trim_end_matches('/');
    let last = |folder: &'_ str| folder.rfind('/').map(|slash| slash + 1).filter(|&at| at < folder.len());
    let mut table = folder;
    while let Some(at) = last(table)
        && table[at..].contains('=')
    {
        table = &table[..at - 1];
    }
    if let Some(at) = last(table)
        && table[at..] == *ICEBERG_DATA
        && storage::has_object(&format!("{}{ICEBERG_METADATA}", &table[..at]), TableFormat::is_of_iceberg)
    {
        return Some((&table[..at - 1], TableFormat::Iceberg));
    }
    // The folder itself was listed already.
    let logs = ["_delta_log", ".hoodie"].into_iter().filter(|_| table.len() < folder.len());
    let mut found = logs.filter(|log| storage::has_object(&format!("{table}/{log}"), |_| true));
    found.find_map(TableFormat::of_log).map(|format| (table, format))
}

/// Refuses two files of one folder that differ in their format only: the same rows, exported twice.
fn in_one_format(files: &[(PathBuf, Partitions)]) -> Result<()> {
    let format = |path: &Path| match extension(path)?.as_str() {
        "parquet" | "pq" => Some("Parquet"),
        "csv" | "tsv" => Some("CSV"),
        "arrow" | "ipc" | "feather" => Some("Arrow"),
        _ => None,
    };
    let mut known: HashMap<PathBuf, &str> = HashMap::new();
    if files.windows(2).all(|pair| format(&pair[0].0) == format(&pair[1].0)) {
        return Ok(());
    }
    for (path, _) in files {
        let Some(format) = format(path) else { continue };
        let other = *known.entry(path.with_extension("")).or_insert(format);
        if other != format {
            let reason = format!(
                "the same name also exists as {other}, probably with the same rows, which would be counted twice; \
                 select one format with a pattern such as *.parquet, or rename it"
            );
            return Err(Error::Unreadable { path: path.into(), reason });
        }
    }
    Ok(())
}
