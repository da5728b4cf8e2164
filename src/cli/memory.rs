//! A fleet, and where what is remembered of it is kept.

use std::path::{Path, PathBuf};

use clap::Args;
use driftsweep::error::{Error, Result};
use driftsweep::fleet::{Fleet, Options};
use driftsweep::store::{Access, Store};

use super::state::FolderArgs;

/// A fleet with its memory.
#[derive(Args)]
pub struct MemoryArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
}

impl MemoryArgs {
    /// The fleet as its file has it, and its memory, for what an access allows. Only what may make a store may find it empty.
    pub fn open(&self, access: Access) -> Result<(Fleet, Store)> {
        let (fleet, mut store) = self.open_any(access)?;
        if access != Access::Create {
            store.must_know_fleet()?;
        }
        Ok((fleet, store))
    }

    /// The same, also where nothing is known of the fleet.
    pub fn open_any(&self, access: Access) -> Result<(Fleet, Store)> {
        let fleet = Fleet::read(&self.fleet, &Options::new())?;
        let store = self.store.open(&self.fleet, &fleet, access)?;
        Ok((fleet, store))
    }

    /// The folder for the state of the fleet.
    pub fn folder(&self) -> PathBuf {
        self.store.folders.folder(&self.fleet).0
    }
}

/// Where a fleet's memory is.
#[derive(Args)]
pub struct StoreArgs {
    #[command(flatten)]
    pub folders: FolderArgs,
    /// The store: the path of an SQLite file, or a postgres:// URL; one with a password belongs into the environment
    /// [default: $DRIFTSWEEP_STORE, or driftsweep.sqlite in the state]
    #[arg(long, value_name = "PATH|URL")]
    store: Option<String>,
}

/// Names the store where the command line does not.
const VARIABLE: &str = "DRIFTSWEEP_STORE";

impl StoreArgs {
    /// Opens the memory of a fleet, for what an access allows.
    pub fn open(&self, path: &Path, fleet: &Fleet, access: Access) -> Result<Store> {
        Store::open_as(&self.place(path, fleet)?, &fleet.name, access)
    }

    /// Where the memory of a fleet is.
    pub fn place(&self, path: &Path, fleet: &Fleet) -> Result<String> {
        let default = || self.folders.folder(path).0.join("driftsweep.sqlite").to_string_lossy().into_owned();
        let place = self.store.clone().filter(|place| !place.is_empty()).or_else(|| super::variable(VARIABLE));
        if place.is_some() && !fleet.named {
            return Err(Error::Fleet {
                path: path.into(),
                line: None,
                reason: "fleets that may share a store are told apart by name; add name = \"…\" at the top".into(),
            });
        }
        Ok(place.unwrap_or_else(default))
    }
}
