//! Models that wait for data, the status of the last sweep, and the fleet files that use the store.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, query};

use super::writes::SqlValue;
use super::{Store, optional_time, time};
use driftsweep_common::error::Result;

/// A model whose data were missing or unreadable when its sweep ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitingModel {
    /// The model.
    pub model: String,
    /// The sweep.
    pub as_of: Timestamp,
    /// When the data were first found missing.
    pub since: Timestamp,
    /// The deadline: after it the model is judged with the available data.
    pub until: Timestamp,
    /// Hash of the input at the last attempt: it is retried when the input has changed.
    #[serde(skip)]
    pub input: String,
    /// The problem.
    pub reason: String,
}

/// An acknowledgement of the status of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledgement {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A fleet file that uses the store under the fleet's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetFile {
    /// Where it is.
    pub path: String,
    /// Hash of the names of its models.
    pub models: String,
    /// When it was last used.
    pub last_used: Timestamp,
}

/// The body of the status of a sweep, or why it is not text.
pub type StatusBody = std::result::Result<String, String>;

impl Store {
    /// The models that wait for their data, oldest sweep first.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn waiting(&mut self) -> Result<Vec<WaitingModel>> {
        let sql =
            "SELECT model, as_of, since, until, input, reason FROM waiting WHERE fleet = $1 ORDER BY as_of, model";
        self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            Ok(WaitingModel {
                model: row.try_get(0)?,
                as_of: time(row, 1)?,
                since: time(row, 2)?,
                until: time(row, 3)?,
                input: row.try_get(4)?,
                reason: row.try_get(5)?,
            })
        })
    }

    /// Records that a model waits for data, replacing the former entry.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_waiting(&mut self, waiting: &WaitingModel) -> Result<()> {
        let key = [("model", (&waiting.model).into()), ("as_of", waiting.as_of.into())];
        let set =
            [("until", waiting.until.into()), ("input", (&waiting.input).into()), ("reason", (&waiting.reason).into())];
        if self.update("waiting", &key, &set, None)? {
            return Ok(());
        }
        let since = [("since", waiting.since.into())];
        self.insert("waiting", &[&key[..], &since, &set].concat(), false).map(drop)
    }

    /// Removes the entry of a waiting model.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn end_waiting(&mut self, model: &str, as_of: Timestamp) -> Result<()> {
        self.delete("waiting", &[("model", model.into()), ("as_of", as_of.into())]).map(drop)
    }

    /// The status of the last sweep, as JSON, and its acknowledgement.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn status(&mut self) -> Result<Option<(StatusBody, Option<Acknowledgement>)>> {
        let sql = "SELECT body, acknowledged_at, acknowledged_by, acknowledged_why FROM status WHERE fleet = $1";
        let found = self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            let text = |at: usize| row.try_get::<Option<String>, _>(at).map(Option::unwrap_or_default);
            let acknowledged = match optional_time(row, 1)? {
                Some(at) => Some(Acknowledgement { at, by: text(2)?, reason: text(3)? }),
                None => None,
            };
            // A body of another type is one that cannot be read.
            let body = row.try_get(0).map_err(|e| e.to_string());
            Ok((body, acknowledged))
        })?;
        Ok(found.into_iter().next())
    }

    /// Records the status of a sweep, replacing that of the one before, without an acknowledgement.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_status(&mut self, as_of: Timestamp, body: &str) -> Result<()> {
        let set = [
            ("as_of", as_of.into()),
            ("body", body.into()),
            ("acknowledged_at", SqlValue::Int(None)),
            ("acknowledged_by", SqlValue::Text(None)),
            ("acknowledged_why", SqlValue::Text(None)),
        ];
        if self.update("status", &[], &set, None)? {
            return Ok(());
        }
        self.insert("status", &set, false).map(drop)
    }

    /// Records an acknowledgement of the last sweep; returns whether there is a status to acknowledge.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn acknowledge(&mut self, at: Timestamp, by: &str, reason: &str) -> Result<bool> {
        let set = [("acknowledged_at", at.into()), ("acknowledged_by", by.into()), ("acknowledged_why", reason.into())];
        self.update("status", &[], &set, None)
    }

    /// Records that columns of a model could be judged at a sweep.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_judged(&mut self, model: &str, as_of: Timestamp) -> Result<()> {
        self.set_model(model, &[("judged", as_of.into()), ("not_judged", SqlValue::Int(None))])
    }

    /// Records that it was reported that no column of a model could be judged.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_reported_not_judged(&mut self, model: &str, at: Timestamp) -> Result<()> {
        self.set_model(model, &[("not_judged", at.into())])
    }

    /// Records since when a model's metric is beyond its warning level; `None` where it is not.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_warned(&mut self, model: &str, since: Option<Timestamp>) -> Result<()> {
        self.set_model(model, &[("warned", since.into())])
    }

    /// The fleet files that have used the store under this name, the latest first.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn fleet_files(&mut self) -> Result<Vec<FleetFile>> {
        let sql = "SELECT path, models, last_used FROM fleet_file WHERE fleet = $1 ORDER BY last_used DESC, path";
        self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            Ok(FleetFile { path: row.try_get(0)?, models: row.try_get(1)?, last_used: time(row, 2)? })
        })
    }

    /// Records that a fleet file uses the store.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_fleet_file(&mut self, file: &FleetFile) -> Result<()> {
        let sql = "INSERT INTO fleet_file (fleet, path, models, last_used) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (fleet, path) DO UPDATE SET models = $3, last_used = $4";
        let insert = query(sql).bind(self.fleet.clone()).bind(file.path.clone()).bind(file.models.clone());
        self.database.run(insert.bind(file.last_used.as_microsecond())).map(drop)
    }

    /// Deletes the entries of fleet files that have used the store.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn delete_fleet_files(&mut self) -> Result<()> {
        self.database.run(query("DELETE FROM fleet_file WHERE fleet = $1").bind(self.fleet.clone())).map(drop)
    }
}
