//! A fleet and its store.

use std::path::{Path, PathBuf};

use clap::Args;
use driftsweep::model::Options;
use driftsweep_common::address::redacted;
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::Fleet;
use driftsweep_ops::store::{Access, Store, UnreadableRow};
use jiff::{SignedDuration, Timestamp};

use super::state::FolderArgs;

/// Reads a fleet file, and warns of what should be changed in it although it is understood.
pub fn read_fleet(path: &Path, base: &Options) -> Result<Fleet> {
    let fleet = Fleet::read(path, base)?;
    detail!("fleet '{}': {} models, from {}", fleet.name, fleet.models.len(), path.display());
    if let Some(hint) = &fleet.hint {
        warn!("{hint}");
    }
    Ok(fleet)
}

/// A fleet with its store.
#[derive(Args)]
pub struct FleetStoreArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
}

impl FleetStoreArgs {
    /// The fleet as its file has it, and its store, opened for an access. Only an access that may create a store may
    /// find it empty.
    pub fn open(&self, access: Access) -> Result<(Fleet, Store)> {
        let (fleet, mut store) = self.open_any(access)?;
        if access != Access::Create {
            store.must_know_fleet()?;
        }
        Ok((fleet, store))
    }

    /// The same, also where the store has no record of the fleet.
    pub fn open_any(&self, access: Access) -> Result<(Fleet, Store)> {
        let fleet = read_fleet(&self.fleet, &Options::new())?;
        let mut store = self.store.open(&self.fleet, &fleet, access)?;
        Ok((fleet.with_baselines(&store.set_baselines()?, &self.folder()), store))
    }

    /// The folder for the state of the fleet.
    pub fn folder(&self) -> PathBuf {
        self.store.folders.folder(&self.fleet).0
    }
}

/// The store of a fleet.
#[derive(Args)]
pub struct StoreArgs {
    #[command(flatten)]
    pub folders: FolderArgs,
    #[command(flatten)]
    place: StoreLocationArgs,
}

/// Which store it is.
#[derive(Args)]
pub struct StoreLocationArgs {
    /// The store: the path of an SQLite file, or a postgres:// URL; put one with a password into the environment
    /// [default: $DRIFTSWEEP_STORE, or driftsweep.sqlite in the state]
    #[arg(long, value_name = "PATH|URL")]
    store: Option<String>,
}

/// Names the store where the command line does not.
pub const VARIABLE: &str = "DRIFTSWEEP_STORE";

impl StoreArgs {
    /// Opens the store of a fleet for an access.
    pub fn open(&self, path: &Path, fleet: &Fleet, access: Access) -> Result<Store> {
        let place = self.place(path, fleet)?;
        detail!("store: {}", redacted(&place));
        Store::open_as(&place, &fleet.name, access)
    }

    /// The location of the store of a fleet.
    pub fn place(&self, path: &Path, fleet: &Fleet) -> Result<String> {
        let place = self.place.named();
        if place.is_some() && !fleet.named {
            return Err(Error::Fleet {
                path: path.into(),
                line: None,
                reason: "fleets that may share a store need different names; add name = \"…\" at the top".into(),
            });
        }
        Ok(place.unwrap_or_else(|| default_file(&self.folders, path)))
    }

    /// The fleet with the baselines that were set for it.
    pub fn with_baselines(&self, path: &Path, fleet: Fleet) -> Result<Fleet> {
        self.place.with_baselines(&self.folders, path, fleet)
    }
}

/// Clocks may differ by this much without a warning.
const MAX_CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(1);

/// A warning if the clock of the store and that of this machine differ.
///
/// # Errors
/// [`Error::Store`].
pub fn clock_difference_warning(store: &mut Store) -> Result<Option<String>> {
    let (of_store, own) = (store.clock()?, Timestamp::now());
    Ok((of_store.duration_since(own).abs() > MAX_CLOCK_DIFFERENCE).then(|| {
        let own = Timestamp::from_second(own.as_second()).unwrap_or(own);
        format!(
            "its clock shows {of_store}, and that of this machine {own}. Approval deadlines use the clock of the \
             store, and from a difference of ten minutes on a request counts as one of a replayed night; correct the \
             clocks (NTP)"
        )
    }))
}

/// Warns of rows that cannot be read and are skipped.
pub fn warn_of_rows(rows: &[UnreadableRow]) {
    for UnreadableRow { table, id, reason } in rows {
        let remedy = match *table {
            "job" => format!("; close it, with its event and its runs, with `driftsweep jobs cancel {id}`"),
            _ => String::new(),
        };
        warn!("store: table {table}, row {id} cannot be read and is skipped: {reason}{remedy}");
    }
}

/// The exit code of a command that only reads: it warns of the rows that it has skipped.
pub fn code_after_reading(store: &mut Store) -> u8 {
    let skipped = store.unreadable();
    warn_of_rows(&skipped);
    if skipped.is_empty() { 0 } else { super::PARTIAL }
}

/// The store of a fleet for which none is named.
fn default_file(folders: &FolderArgs, path: &Path) -> String {
    folders.folder(path).0.join("driftsweep.sqlite").to_string_lossy().into_owned()
}

impl StoreLocationArgs {
    /// The store that the command line or the environment names.
    fn named(&self) -> Option<String> {
        self.store.clone().filter(|place| !place.is_empty()).or_else(|| super::variable(VARIABLE))
    }

    /// The fleet with the baselines that were set for it. A read-only command does not create a store.
    pub fn with_baselines(&self, folders: &FolderArgs, path: &Path, fleet: Fleet) -> Result<Fleet> {
        let place = match self.named() {
            // In a shared store nothing can be kept for a fleet without a name.
            Some(_) if !fleet.named => return Ok(fleet),
            Some(place) => place,
            None => default_file(folders, path),
        };
        match Store::read(&place, &fleet.name)? {
            Some(mut store) => Ok(fleet.with_baselines(&store.set_baselines()?, &folders.folder(path).0)),
            None => Ok(fleet),
        }
    }
}
