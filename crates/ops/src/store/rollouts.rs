//! Rollouts: how versions are released.

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Row, query};

use super::writes::SqlValue;
use super::{Store, jobs};
use crate::formats::ROLLOUTS;
use driftsweep_common::error::{Error, Result};
use driftsweep_release::Rollout;

/// A rollout with the number of steps it has taken.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionedRollout {
    /// The rollout.
    pub rollout: Rollout,
    /// Its steps, from 1.
    pub steps: u64,
}

/// A rollout as it is stored: beside it is the version of the format.
#[derive(Serialize, Deserialize)]
struct RolloutBody<R> {
    rollout: R,
}

/// The table of rollouts.
pub(super) const ROLLOUT_TABLE: &str = "rollout";

impl Store {
    /// Adds a rollout, inside a transaction.
    ///
    /// # Errors
    /// [`Error::Store`], also if the model has an open one, or the version has had one.
    pub fn add_rollout(&mut self, rollout: &Rollout) -> Result<VersionedRollout> {
        let versioned = VersionedRollout { rollout: rollout.clone(), steps: 1 };
        let cells = [&key(rollout)[..], &values(&versioned)?].concat();
        self.insert(ROLLOUT_TABLE, &cells, false)?;
        Ok(versioned)
    }

    /// Stores a rollout after a step, inside a transaction, unless another process has changed it since it was read; returns whether
    /// it was stored.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_rollout(&mut self, rollout: &Rollout, steps: u64) -> Result<bool> {
        let after = VersionedRollout { rollout: rollout.clone(), steps: steps + 1 };
        self.update(ROLLOUT_TABLE, &key(rollout), &values(&after)?, Some(format!("steps = {steps}")))
    }

    /// The rollouts of a model, or of all, in the order of their versions. Those that cannot be read are in
    /// [`Self::unreadable`].
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn rollouts(&mut self, model: Option<&str>) -> Result<Vec<VersionedRollout>> {
        self.rollouts_where(model, "TRUE")
    }

    /// The rollouts of a model, or of all, that have something to do: open ones, and those whose traffic has to be moved.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn active_rollouts(&mut self, model: Option<&str>) -> Result<Vec<VersionedRollout>> {
        self.rollouts_where(model, "(moving = 1 OR state IN ('candidate', 'running', 'held'))")
    }

    /// The rollout of a model that is under way.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn open_rollout(&mut self, model: &str) -> Result<Option<VersionedRollout>> {
        Ok(self.rollouts_where(Some(model), "state IN ('candidate', 'running', 'held')")?.pop())
    }

    /// The versions of a model that were or are being released, and whether each is under way: also of rows whose body cannot be
    /// read.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn released_versions(&mut self, model: &str) -> Result<Vec<(u64, bool)>> {
        let sql = "SELECT version, state FROM rollout WHERE fleet = $1 AND model = $2 ORDER BY version";
        let select = query(sql).bind(self.fleet.clone()).bind(model.to_owned());
        self.database.rows(select, |row| {
            let state: String = row.try_get(1)?;
            let ended = ["settled", "rolled_back"].contains(&&*state);
            Ok((row.try_get::<i64, _>(0)?.unsigned_abs(), !ended))
        })
    }

    fn rollouts_where(&mut self, model: Option<&str>, condition: &'static str) -> Result<Vec<VersionedRollout>> {
        let sql = format!(
            "SELECT model, version, steps, body FROM rollout WHERE fleet = $1 AND ($2 = '' OR model = $2) AND {condition} \
             ORDER BY model, version"
        );
        let select = query(AssertSqlSafe(sql)).bind(self.fleet.clone()).bind(model.unwrap_or_default().to_owned());
        self.readable((ROLLOUT_TABLE, &[0, 1]), select, |row| {
            let rollout = jobs::of_json::<RolloutBody<Rollout>>(ROLLOUTS, row, 3)?.rollout;
            let named = (row.try_get::<String, _>(0)?, row.try_get::<i64, _>(1)?.unsigned_abs());
            match (&*rollout.model, rollout.version) == (&*named.0, named.1) {
                true => Ok(VersionedRollout { rollout, steps: row.try_get::<i64, _>(2)?.unsigned_abs() }),
                false => Err(sqlx::Error::Decode("its body is of another rollout".into())),
            }
        })
    }
}

/// The key of a rollout.
fn key(rollout: &Rollout) -> [(&'static str, SqlValue); 2] {
    [("model", (&rollout.model).into()), ("version", (rollout.version as i64).into())]
}

/// The other columns.
fn values(VersionedRollout { rollout, steps }: &VersionedRollout) -> Result<[(&'static str, SqlValue); 5]> {
    let body = ROLLOUTS.write(&RolloutBody { rollout });
    let body =
        body.map_err(|e| Error::BadValue { what: format!("rollout {}", rollout.name()), reason: e.to_string() })?;
    Ok([
        ("state", rollout.state.name().into()),
        ("since", rollout.since.into()),
        ("steps", (*steps as i64).into()),
        ("moving", i64::from(rollout.moves_traffic()).into()),
        ("body", body.into()),
    ])
}
