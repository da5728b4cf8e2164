//! Folders that a command fills with files of fixed names: one process at a time, and nothing of others is overwritten.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage;
use serde_json::Value;

use super::invalid_value;

/// The lock of such a folder, which says that a command of this program fills it.
const LOCK: &str = ".driftsweep-lock";

/// Bytes of a document that says who has filled a folder.
const MAX_BYTES: u64 = 16 << 20;

/// The documents of filled folders, with the beginning of their format.
const DOCUMENTS: [(&str, &str); 3] = [
    ("model.json", "driftsweep.model/"),
    ("manifest.json", "driftsweep.training-set/"),
    ("simulation.json", "driftsweep.simulation/"),
];

/// A folder that this process alone fills, until this is dropped.
pub struct OutputFolder {
    _lock: File,
}

impl OutputFolder {
    /// Makes a folder, if it is not there, and locks it. `names` are those of the files and folders that will be written there.
    ///
    /// # Errors
    /// If another process fills it, or if it holds something with such a name that no command of this program has written.
    pub fn claim(folder: &Path, names: &[&str]) -> anyhow::Result<Self> {
        let path = folder.join(LOCK);
        let write = |source| Error::Write { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.into(), source })?;
        if !path.exists()
            && !is_filled(folder)
            && let Some(name) = names.iter().find(|name| is_there(&folder.join(name)))
        {
            let reason = format!(
                "{} holds '{name}', which no command of driftsweep has written there; choose another folder",
                folder.display()
            );
            return Err(invalid_value("--output", &reason));
        }
        let lock = File::options().create(true).append(true).open(&path).map_err(write)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { path: folder.into() }.into()),
            Err(TryLockError::Error(source)) => Err(write(source).into()),
        }
    }
}

/// Refuses inputs that would be overwritten.
///
/// # Errors
/// [`Error::BadValue`].
pub fn check_inputs<'a>(folder: &Path, names: &[&str], inputs: impl Iterator<Item = &'a str>) -> Result<()> {
    let same = |path: &Path, other: &Path| match (path.canonicalize(), other.canonicalize()) {
        (Ok(path), Ok(other)) => path == other,
        _ => false,
    };
    for input in inputs.filter(|input| !storage::is_remote(input)).map(Path::new) {
        let named = input.file_name().is_some_and(|own| names.iter().any(|name| own == *name));
        let inside = input.parent().is_some_and(|parent| same(parent, folder));
        if named && inside {
            let reason = format!("{} is an input; choose another folder", input.display());
            return Err(Error::BadValue { what: "--output".into(), reason });
        }
    }
    Ok(())
}

/// Whether a command of this program has filled a folder.
fn is_filled(folder: &Path) -> bool {
    DOCUMENTS.iter().any(|(name, format)| {
        let text = atomic::read_text(&folder.join(name), MAX_BYTES).unwrap_or_default();
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        document["format"].as_str().is_some_and(|own| own.starts_with(format))
    })
}

/// Whether there is a file, or a folder with something in it.
fn is_there(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => fs::read_dir(path).map_or(true, |mut entries| entries.next().is_some()),
        Ok(_) => true,
        Err(_) => false,
    }
}
