//! Checks of a store before the night, without writing to it.

use std::path::Path;

use sqlx::{Row, query};

use super::Store;
use super::database::{Access, Database, NO_TICK, OLDER_SCHEMA, is_postgres};
use driftsweep_common::error::{Error, Result};

/// The condition of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreProbe {
    /// There is none yet, or it has no record of the fleet; the first tick creates it.
    Missing,
    /// It is of an older version; the next tick migrates it.
    Older,
    /// It can be read.
    Ready,
}

impl StoreProbe {
    /// Checks the store of a fleet: a `postgres://` URL, or the path of an SQLite file. For PostgreSQL also the
    /// permission to write; for a file that is checked by its mode.
    ///
    /// # Errors
    /// [`Error::Store`] where it cannot be reached, read, or written to.
    pub fn of(place: &str, fleet: &str) -> Result<Self> {
        let database = match Database::open(place, Access::Read) {
            Err(Error::Store { reason, .. }) if reason.ends_with(NO_TICK) => return Ok(Self::Missing),
            Err(Error::Store { reason, .. }) if reason == OLDER_SCHEMA => return Ok(Self::Older),
            other => other?,
        };
        let mut store = Store::of(database, fleet);
        if is_postgres(place) {
            const RIGHTS: &str = "SELECT CASE WHEN has_table_privilege('model', 'INSERT') AND has_table_privilege('model', 'UPDATE') \
                                  AND has_table_privilege('audit', 'INSERT') AND NOT pg_is_in_recovery() THEN 1 ELSE 0 END";
            let may = store.database.rows(query(RIGHTS), |row| row.try_get::<i32, _>(0))?;
            if may != [1] {
                let reason =
                    "can be read but not written; grant the user INSERT and UPDATE, or name the primary server";
                return Err(store.database.failed(reason.into()));
            }
        }
        Ok(if store.is_new()? { Self::Missing } else { Self::Ready })
    }

    /// The file of a store, if it is kept in one.
    pub fn file(place: &str) -> Option<&Path> {
        (!is_postgres(place)).then(|| Path::new(place.strip_prefix("sqlite://").unwrap_or(place)))
    }
}
