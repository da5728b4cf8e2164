//! From a path, a glob or a directory to the files of a snapshot, in a fixed order.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::storage;

const EXTENSIONS: [&str; 7] = ["parquet", "pq", "csv", "tsv", "arrow", "ipc", "feather"];

fn is_data(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Splits off a suffix `#rows=A..B`; without one, all rows.
pub fn split_rows(spec: &str) -> Result<(&str, Range<u64>)> {
    let Some((paths, suffix)) = spec.rsplit_once("#rows=") else { return Ok((spec, 0..u64::MAX)) };
    let bound = |text: &str, missing: u64| if text.is_empty() { Ok(missing) } else { text.parse() };
    suffix
        .split_once("..")
        .and_then(|(from, to)| Some(bound(from, 0).ok()?..bound(to, u64::MAX).ok()?))
        .map(|rows| (paths, rows))
        .ok_or_else(|| Error::BadValue {
            what: format!("'{spec}'"),
            reason: "rows are given as #rows=FROM..TO, by position from 0, TO not included".into(),
        })
}

/// Hive partition keys and values, outermost first.
type Partitions = Vec<(String, String)>;

/// The files that a path, a glob or a directory stands for, sorted, with their hive partition keys.
pub fn files(spec: &str) -> Result<Vec<(PathBuf, Partitions)>> {
    if storage::is_remote(spec) {
        return objects(spec);
    }
    let path = Path::new(spec);
    let not_found = || Error::NotFound { path: spec.into() };
    let mut found = Vec::new();
    if path.is_file() {
        found.push((path.to_path_buf(), Vec::new()));
    } else if path.is_dir() {
        walk(path, &Vec::new(), &mut found)?;
    } else if spec.contains(['*', '?', '[']) {
        let bad = |reason: String| Error::BadValue { what: format!("pattern '{spec}'"), reason };
        for entry in glob::glob(spec).map_err(|e| bad(e.to_string()))? {
            let entry = entry.map_err(|e| bad(e.to_string()))?;
            if entry.is_dir() {
                // The folder itself may be a partition.
                walk(&entry, &partitions_of(&entry.join("_")), &mut found)?;
            } else {
                let partitions = partitions_of(&entry);
                found.push((entry, partitions));
            }
        }
    } else {
        return Err(not_found());
    }
    if found.is_empty() {
        return Err(not_found());
    }
    // A pattern may match a file and a folder it is in: its rows still count once.
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    Ok(found)
}

/// The objects that an address, a pattern or a prefix stands for.
fn objects(spec: &str) -> Result<Vec<(PathBuf, Partitions)>> {
    let pattern = spec.contains(['*', '?', '[']);
    if !pattern && is_data(Path::new(spec)) {
        return Ok(vec![(spec.into(), Vec::new())]);
    }
    let hidden = |path: &Path| {
        let below = path.to_str().and_then(|path| path.strip_prefix(spec)).unwrap_or_default();
        below.split('/').any(|part| part.starts_with(['_', '.']))
    };
    let found = storage::list_remote(spec)?.into_iter();
    let found: Vec<_> = found.filter(|path| pattern || (is_data(path) && !hidden(path))).collect();
    if found.is_empty() {
        return Err(Error::NotFound { path: spec.into() });
    }
    // Partitions are the folders below the one that was asked for, or all where a pattern says which.
    let partitions = |path: &Path| {
        let text = path.to_string_lossy();
        let below = if pattern { &*text } else { text.strip_prefix(spec).unwrap_or(&text) };
        partitions_of(Path::new(below))
    };
    Ok(found.into_iter().map(|path| (path.clone(), partitions(&path))).collect())
}

fn walk(folder: &Path, partitions: &Partitions, found: &mut Vec<(PathBuf, Partitions)>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, &e))? {
        let path = entry.map_err(|e| Error::io(folder, &e))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        // What Spark, Hive and editors leave beside the data.
        if name.starts_with(['_', '.']) {
            continue;
        }
        if path.is_dir() {
            let mut partitions = partitions.clone();
            partitions.extend(partition(name));
            walk(&path, &partitions, found)?;
        } else if is_data(&path) {
            found.push((path, partitions.clone()));
        }
    }
    Ok(())
}

fn partitions_of(path: &Path) -> Partitions {
    let folders = path.parent().into_iter().flat_map(Path::components);
    folders.filter_map(|c| c.as_os_str().to_str().and_then(partition)).collect()
}

fn partition(folder: &str) -> Option<(String, String)> {
    let (key, value) = folder.split_once('=')?;
    (!key.is_empty()).then(|| (key.into(), value.into()))
}
