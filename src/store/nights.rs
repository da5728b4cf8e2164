//! Models that wait for their data, the status of the last sweep, and the fleet files that use the store.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, query};

use super::{Store, some_time, time};
use crate::error::Result;

/// A model whose data were missing or unreadable when its sweep ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The model.
    pub model: String,
    /// The sweep.
    pub as_of: Timestamp,
    /// When the data were first missed.
    pub since: Timestamp,
    /// The deadline: after it the model is judged with what there is.
    pub until: Timestamp,
    /// Hash of what the input looked like at the last try: it is tried again when that has changed.
    #[serde(skip)]
    pub input: String,
    /// What is wrong with it.
    pub reason: String,
}

/// An acknowledgement of the status of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
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

impl Store {
    /// The models that wait for their data, oldest sweep first.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn waiting(&mut self) -> Result<Vec<Waiting>> {
        let sql =
            "SELECT model, as_of, since, until, input, reason FROM waiting WHERE fleet = $1 ORDER BY as_of, model";
        self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            Ok(Waiting {
                model: row.try_get(0)?,
                as_of: time(row, 1)?,
                since: time(row, 2)?,
                until: time(row, 3)?,
                input: row.try_get(4)?,
                reason: row.try_get(5)?,
            })
        })
    }

    /// Notes that a model waits for its data, in place of the former note.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn set_waiting(&mut self, waiting: &Waiting) -> Result<()> {
        let sql = "INSERT INTO waiting (fleet, model, as_of, since, until, input, reason) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                   ON CONFLICT (fleet, model, as_of) DO UPDATE SET until = $5, input = $6, reason = $7";
        let insert = query(sql).bind(self.fleet.clone()).bind(waiting.model.clone());
        let insert = insert.bind(waiting.as_of.as_microsecond()).bind(waiting.since.as_microsecond());
        let insert = insert.bind(waiting.until.as_microsecond()).bind(waiting.input.clone());
        // PostgreSQL takes no text with a zero byte, and a column may be called so.
        self.database.run(insert.bind(crate::escape::shown(&waiting.reason).into_owned())).map(drop)
    }

    /// Notes that a model waits no longer.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn end_waiting(&mut self, model: &str, as_of: Timestamp) -> Result<()> {
        let delete = query("DELETE FROM waiting WHERE fleet = $1 AND model = $2 AND as_of = $3");
        let delete = delete.bind(self.fleet.clone()).bind(model.to_owned()).bind(as_of.as_microsecond());
        self.database.run(delete).map(drop)
    }

    /// Forgets what was concluded of a model at a sweep, so that it can be judged again.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn forget_conclusions(&mut self, model: &str, as_of: Timestamp) -> Result<()> {
        for sql in [
            "DELETE FROM verdict WHERE fleet = $1 AND model = $2 AND as_of = $3",
            "DELETE FROM hit WHERE fleet = $1 AND model = $2 AND as_of = $3",
            "DELETE FROM quality WHERE fleet = $1 AND model = $2 AND as_of = $3",
            // What opened or joined an event stays fired; what was muted or cooled down may fire now.
            "DELETE FROM firing WHERE fleet = $1 AND model = $2 AND due = $3 AND outcome NOT IN ('opened', 'joined')",
        ] {
            let delete = query(sql).bind(self.fleet.clone()).bind(model.to_owned()).bind(as_of.as_microsecond());
            self.database.run(delete)?;
        }
        Ok(())
    }

    /// How the last sweep went, as JSON, and who has acknowledged it.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn status(&mut self) -> Result<Option<(String, Option<Acknowledged>)>> {
        let sql = "SELECT body, acknowledged_at, acknowledged_by, acknowledged_why FROM status WHERE fleet = $1";
        let found = self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            let text = |at: usize| row.try_get::<Option<String>, _>(at).map(Option::unwrap_or_default);
            let acknowledged = match some_time(row, 1)? {
                Some(at) => Some(Acknowledged { at, by: text(2)?, reason: text(3)? }),
                None => None,
            };
            Ok((row.try_get(0)?, acknowledged))
        })?;
        Ok(found.into_iter().next())
    }

    /// Notes how a sweep went, in place of what was noted of the one before; nobody has acknowledged it yet.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn set_status(&mut self, as_of: Timestamp, body: &str) -> Result<()> {
        let sql = "INSERT INTO status (fleet, as_of, body) VALUES ($1, $2, $3) ON CONFLICT (fleet) DO UPDATE SET as_of = $2, \
                   body = $3, acknowledged_at = NULL, acknowledged_by = NULL, acknowledged_why = NULL";
        let insert = query(sql).bind(self.fleet.clone()).bind(as_of.as_microsecond()).bind(body.to_owned());
        self.database.run(insert).map(drop)
    }

    /// Notes that the status of the last sweep was acknowledged: whether there was anything to acknowledge.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn acknowledge(&mut self, at: Timestamp, by: &str, reason: &str) -> Result<bool> {
        let sql =
            "UPDATE status SET acknowledged_at = $2, acknowledged_by = $3, acknowledged_why = $4 WHERE fleet = $1";
        let update = query(sql).bind(self.fleet.clone()).bind(at.as_microsecond());
        Ok(self.database.run(update.bind(by.to_owned()).bind(reason.to_owned()))? == 1)
    }

    /// Notes that columns of a model could be judged at a sweep.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn set_judged(&mut self, model: &str, as_of: Timestamp) -> Result<()> {
        let sql = "UPDATE model SET judged = $3, not_judged = NULL WHERE fleet = $1 AND name = $2";
        self.set_model(sql, model, as_of)
    }

    /// Notes that it was told that no column of a model could be judged for long.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn set_told_not_judged(&mut self, model: &str, at: Timestamp) -> Result<()> {
        self.set_model("UPDATE model SET not_judged = $3 WHERE fleet = $1 AND name = $2", model, at)
    }

    /// Notes since when a model's metric is beyond its warning level; `None` where it is not.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn set_warned(&mut self, model: &str, since: Option<Timestamp>) -> Result<()> {
        let update = query("UPDATE model SET warned = $3 WHERE fleet = $1 AND name = $2").bind(self.fleet.clone());
        let update = update.bind(model.to_owned()).bind(since.map(|since| since.as_microsecond()));
        self.database.run(update).map(drop)
    }

    /// The fleet files that have used the store under this name, the latest first.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn fleet_files(&mut self) -> Result<Vec<FleetFile>> {
        let sql = "SELECT path, models, last_used FROM fleet_file WHERE fleet = $1 ORDER BY last_used DESC, path";
        self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            Ok(FleetFile { path: row.try_get(0)?, models: row.try_get(1)?, last_used: time(row, 2)? })
        })
    }

    /// Notes that a fleet file uses the store.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn set_fleet_file(&mut self, file: &FleetFile) -> Result<()> {
        let sql = "INSERT INTO fleet_file (fleet, path, models, last_used) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (fleet, path) DO UPDATE SET models = $3, last_used = $4";
        let insert = query(sql).bind(self.fleet.clone()).bind(file.path.clone()).bind(file.models.clone());
        self.database.run(insert.bind(file.last_used.as_microsecond())).map(drop)
    }

    /// Forgets the fleet files that have used the store.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn forget_fleet_files(&mut self) -> Result<()> {
        self.database.run(query("DELETE FROM fleet_file WHERE fleet = $1").bind(self.fleet.clone())).map(drop)
    }
}
