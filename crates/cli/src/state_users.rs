//! The fleets that use a state folder, and their stores. A store without a record of a fleet that has trainings was
//! emptied, or it is another store, or the fleet was renamed: this file shows which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::escape::for_display;
use serde::{Deserialize, Serialize};

/// The file, in the folder of the state.
const FILE: &str = "fleets.json";

/// The folder of the trainings, there too.
pub const JOBS: &str = "jobs";

/// Whether a folder of the state holds trainings.
pub fn has_trained(state: &Path) -> bool {
    std::fs::read_dir(state.join(JOBS)).is_ok_and(|mut found| found.next().is_some())
}

/// The largest size of the file.
const MAX_BYTES: u64 = 1 << 20;

/// The store of a fleet, without anything secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreIdentity {
    /// SQLite or PostgreSQL.
    pub kind: String,
    /// A hash of its place.
    pub hash: String,
}

/// The fleets of a folder of the state.
pub struct StateUsers {
    folder: PathBuf,
    fleets: BTreeMap<String, StoreIdentity>,
}

/// What is known of a fleet and its store.
#[derive(Debug, PartialEq, Eq)]
pub enum StoreMatch {
    /// The fleet was in this store.
    Same,
    /// Why it was not, or why that is unknown, with the remedy.
    Other(String),
}

impl StateUsers {
    /// Reads them. A file that cannot be read is treated as missing: it is written again.
    pub fn read(folder: &Path) -> Self {
        let bytes = atomic::read_external(&folder.join(FILE), MAX_BYTES).ok().flatten().unwrap_or_default();
        Self { folder: folder.into(), fleets: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    /// Whether a fleet was in a store before.
    pub fn match_store(&self, fleet: &str, store: &StoreIdentity) -> StoreMatch {
        const MAX_LISTED: usize = 3;
        let folder = self.folder.to_string_lossy();
        let (name, folder) = (for_display(fleet), for_display(&folder));
        let nothing = format!("the store has no record of fleet '{name}'");
        match self.fleets.get(fleet) {
            Some(kept) if kept == store => StoreMatch::Same,
            Some(kept) => StoreMatch::Other(format!(
                "{nothing}: so far it was in another store ({}). Name that store again (--store, --state) to continue; \
                 to start over in this one, run `driftsweep tick --moved` once",
                for_display(&kept.kind)
            )),
            None if self.fleets.is_empty() => StoreMatch::Other(format!(
                "{nothing}, and {folder} holds trainings: the store was emptied, another one is named, or the fleet \
                 was renamed. Restore the store, its name or the fleet's name to continue; to start over, run \
                 `driftsweep tick --moved` once, or name a new folder with --state"
            )),
            None => {
                let others: Vec<String> =
                    self.fleets.keys().take(MAX_LISTED).map(|name| format!("'{}'", for_display(name))).collect();
                let more = if self.fleets.len() > MAX_LISTED { ", …" } else { "" };
                StoreMatch::Other(format!(
                    "{nothing}, and {folder} is the state of fleet {}{more}. If the fleet was renamed, give it its \
                     former name to continue with its jobs and baselines, or run `driftsweep tick --moved` once to \
                     start over; if it is another fleet, give it a folder of its own with --state",
                    others.join(", ")
                ))
            }
        }
    }

    /// Records that a fleet is in a store.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn note(mut self, fleet: &str, store: StoreIdentity) -> Result<()> {
        if self.fleets.get(fleet) == Some(&store) {
            return Ok(());
        }
        let path = self.folder.join(FILE);
        let failed = |source| Error::Write { path: path.clone(), source };
        self.fleets.insert(fleet.into(), store);
        atomic::private_folder(&self.folder).map_err(failed)?;
        let text = serde_json::to_vec_pretty(&self.fleets).map_err(|e| failed(e.into()))?;
        atomic::write_private(&path, &text)
    }
}
