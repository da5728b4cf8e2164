//! The locations of the store, the state and the history.

use std::path::{Path, PathBuf};

use driftsweep_common::error::Error;
use driftsweep_common::storage;
use driftsweep_fleet::Fleet;
use driftsweep_ops::store::{Store, StoreProbe};

use super::finding::{Findings, Severity};
use crate::fleet_store::{StoreArgs, clock_difference_warning};
use crate::state_users::has_trained;

/// Checks them; nothing is written.
pub fn check(path: &Path, fleet: &Fleet, args: &StoreArgs, findings: &mut Findings) {
    let state = args.folders.folder(path).0;
    if storage::is_remote(&state) {
        findings.add(Severity::Broken, "state", "is a folder on a disk; --history may be in an object store");
    } else {
        folder("state", &state, findings);
    }
    let history = args.folders.history(path);
    match storage::is_remote(&history) {
        true => findings.add(
            Severity::Note,
            "history",
            format!("{}: not checked whether it can be written", driftsweep_common::address::redacted(&history)),
        ),
        false => folder("history", &history, findings),
    }
    match args.place(path, fleet) {
        Ok(place) => store(&place, &fleet.name, &state, findings),
        Err(error) => findings.add(Severity::Broken, "store", error.to_string()),
    }
}

fn store(place: &str, fleet: &str, state: &Path, findings: &mut Findings) {
    // A database cannot be opened there, whatever the error of its library; opening a pipe would wait.
    if let Some(path) = StoreProbe::file(place)
        && std::fs::metadata(path).is_ok_and(|found| !found.is_file())
    {
        return file("store", path, findings);
    }
    match StoreProbe::of(place, fleet) {
        Ok(StoreProbe::Missing) => {
            let shown = match StoreProbe::file(place) {
                Some(file) => file.display().to_string(),
                None => "the database has no record of the fleet".into(),
            };
            if has_trained(state) {
                let state = state.display();
                let reason = format!(
                    "{shown}: the store has no record of the fleet, and {state} holds trainings. A tick refuses this: \
                     the store was emptied, another one is named, or the fleet was renamed; restore the former one, or \
                     confirm the change with `driftsweep tick --moved`"
                );
                return findings.add(Severity::Broken, "store", reason);
            }
            findings.add(
                Severity::Note,
                "store",
                format!(
                    "{shown}: no store yet; the first tick creates it. If there was one, its state was lost, or \
                         --store and --state name another place"
                ),
            );
        }
        Ok(StoreProbe::Older) => {
            findings.add(
                Severity::Note,
                "store",
                "was written by an older version; the next tick migrates it. \
                                                   Baselines that were set in it are not visible before that",
            );
        }
        Ok(StoreProbe::Ready) => {
            let apart = Store::read(place, fleet)
                .and_then(|store| store.map_or(Ok(None), |mut store| clock_difference_warning(&mut store)));
            match apart {
                Ok(apart) => apart.into_iter().for_each(|reason| findings.add(Severity::Warning, "store", reason)),
                Err(error) => findings.add(Severity::Broken, "store", error.to_string()),
            }
        }
        Err(error) => {
            let reason = match error {
                Error::Store { store, reason } => format!("{store}: {reason}"),
                other => other.to_string(),
            };
            findings.add(Severity::Broken, "store", reason);
        }
    }
    let Some(file) = StoreProbe::file(place) else { return };
    let parent = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if parent != state {
        // A journal is written next to it.
        folder("store", parent, findings);
    }
    // Other problems were found when it was opened.
    if file.is_file() {
        self::file("store", file, findings);
    }
}

/// Whether a file can be written to, or made.
pub fn file(about: &str, file: &Path, findings: &mut Findings) {
    let mut wrong = |reason: &str| findings.add(Severity::Broken, about, format!("{}: {reason}", file.display()));
    match std::fs::metadata(file) {
        Ok(found) if found.is_dir() => wrong("is a folder; name a file"),
        Ok(found) if !found.is_file() => wrong("is not a regular file; name one"),
        Ok(_) => {
            if let Err(reason) = may_write(file) {
                wrong(&reason);
            }
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => wrong(&e.to_string()),
        Err(_) => {
            if let Some(parent) = file.parent() {
                folder(about, parent, findings);
            }
        }
    }
}

/// Whether a folder can be written to, or made.
pub fn folder(about: &str, folder: &Path, findings: &mut Findings) {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
    let mut there: PathBuf = absolute.clone();
    // The folder itself, or the one in which it would be made.
    while std::fs::symlink_metadata(&there).is_err() {
        match there.parent() {
            Some(parent) => there = parent.into(),
            None => break,
        }
    }
    let made = if there == absolute { String::new() } else { format!(" (to create {})", folder.display()) };
    if !there.is_dir() {
        findings.add(Severity::Broken, about, format!("{}{made}: is no folder", there.display()));
    } else if let Err(reason) = may_write(&there) {
        findings.add(Severity::Broken, about, format!("{}{made}: {reason}", there.display()));
    }
}

#[cfg(unix)]
fn may_write(path: &Path) -> Result<(), String> {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK)
        .map_err(|e| format!("cannot be written: {}; change its owner or its permissions", std::io::Error::from(e)))
}

#[cfg(not(unix))]
fn may_write(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if found.permissions().readonly() => Err("cannot be written; it is read-only".into()),
        Ok(_) => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}
