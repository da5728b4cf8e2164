//! The locations of the store, the state and the history.

use std::path::Path;

use driftsweep_common::error::Error;
use driftsweep_common::storage;
use driftsweep_extensions::check::{file, folder};
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
    let Some(database) = StoreProbe::file(place) else { return };
    let parent = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if parent != state {
        // A journal is written next to it.
        folder("store", parent, findings);
    }
    // Other problems were found when it was opened.
    if database.is_file() {
        file("store", database, findings);
    }
}
