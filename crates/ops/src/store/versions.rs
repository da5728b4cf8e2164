//! The registry of models: versions and aliases.

use sqlx::{Row, query};

use super::replay::Kept;
use super::writes::SqlValue;
use super::{Store, jobs, time};
use crate::formats::VERSIONS;
use crate::retrain::version::{ModelVersion, VersionName, VersionStatus};
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::executor::TrainedModel;
use serde::{Deserialize, Serialize};

/// A name for a version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelAlias {
    /// The model.
    pub model: String,
    /// The name.
    pub alias: String,
    /// The number of the version.
    pub version: u64,
}

/// What is stored of a version beside its status.
#[derive(Serialize, Deserialize)]
struct VersionBody<M> {
    model: M,
}

/// The table of versions.
pub(super) const VERSION_TABLE: &str = "model_version";

/// The table of aliases.
pub(super) const ALIAS_TABLE: &str = "model_alias";

/// The key of a version.
fn key(model: &str, version: u64) -> [(&'static str, SqlValue); 2] {
    [("model", model.into()), ("version", (version as i64).into())]
}

impl Store {
    /// The number of the next version of a model, inside a transaction: after all that the store or its audit has, so that a number
    /// whose row was deleted is not given again.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn next_version(&mut self, model: &str) -> Result<u64> {
        let select = query("SELECT MAX(version) FROM model_version WHERE fleet = $1 AND model = $2");
        let select = select.bind(self.fleet.clone()).bind(model.to_owned());
        let last = self.database.rows(select, |row| row.try_get::<Option<i64>, _>(0))?;
        let last = last.into_iter().flatten().next().unwrap_or(0).unsigned_abs();
        let recorded = self.with_replay(Kept::ForStarts, |_, replay| {
            let keys = replay.rows.get(VERSION_TABLE).into_iter().flat_map(|rows| rows.keys());
            let numbers = keys.filter_map(|key| match &key[..] {
                [of, number] if of == model => number.parse().ok(),
                _ => None,
            });
            Ok(numbers.max().unwrap_or(0))
        })?;
        Ok(last.max(recorded) + 1)
    }

    /// Adds a version, inside a transaction.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`], also if its number is taken.
    pub fn add_version(&mut self, version: &ModelVersion) -> Result<()> {
        let ModelVersion { model, version: number, status, since, reason, job, attempt, .. } = version;
        let body = VERSIONS.write(&VersionBody { model: &version.trained });
        let body =
            body.map_err(|e| Error::BadValue { what: format!("version {number} of {model}"), reason: e.to_string() })?;
        let set = [
            ("status", status.name().into()),
            ("since", (*since).into()),
            ("reason", reason.into()),
            ("job", job.into()),
            ("attempt", SqlValue::Int(attempt.map(i64::from))),
            ("registered_at", version.registered_at.into()),
            ("registered_by", (&version.registered_by).into()),
            ("body", body.into()),
        ];
        self.insert(VERSION_TABLE, &[&key(model, *number)[..], &set].concat(), false).map(drop)
    }

    /// Stores the status of a version, with its reason and time, inside a transaction.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_version_status(&mut self, version: &ModelVersion) -> Result<()> {
        let set = [
            ("status", version.status.name().into()),
            ("since", version.since.into()),
            ("reason", (&version.reason).into()),
        ];
        self.update(VERSION_TABLE, &key(&version.model, version.version), &set, None).map(drop)
    }

    /// The versions of a model, or of all, in the order of their numbers. Those that cannot be read are in
    /// [`Self::unreadable`].
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn versions(&mut self, model: Option<&str>) -> Result<Vec<ModelVersion>> {
        let sql = "SELECT model, version, status, since, reason, job, attempt, registered_at, registered_by, body \
                   FROM model_version WHERE fleet = $1 AND ($2 = '' OR model = $2) ORDER BY model, version";
        let select = query(sql).bind(self.fleet.clone()).bind(model.unwrap_or_default().to_owned());
        let invalid = |e: String| sqlx::Error::Decode(e.into());
        self.readable((VERSION_TABLE, &[0, 1]), select, |row| {
            Ok(ModelVersion {
                model: row.try_get(0)?,
                version: row.try_get::<i64, _>(1)?.unsigned_abs(),
                status: row.try_get::<String, _>(2)?.parse::<VersionStatus>().map_err(invalid)?,
                since: time(row, 3)?,
                reason: row.try_get(4)?,
                job: row.try_get(5)?,
                attempt: row.try_get::<Option<i64>, _>(6)?.and_then(|attempt| u32::try_from(attempt).ok()),
                registered_at: time(row, 7)?,
                registered_by: row.try_get(8)?,
                trained: jobs::of_json::<VersionBody<TrainedModel>>(VERSIONS, row, 9)?.model,
            })
        })
    }

    /// The version of a model that is in production.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn champion(&mut self, model: &str) -> Result<Option<ModelVersion>> {
        Ok(self.versions(Some(model))?.into_iter().find(|version| version.status == VersionStatus::Champion))
    }

    /// The version that a training has made.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn version_of_job(&mut self, model: &str, job: &str) -> Result<Option<ModelVersion>> {
        let of_job = |version: &ModelVersion| version.job.as_deref() == Some(job);
        Ok(self.versions(Some(model))?.into_iter().rfind(of_job))
    }

    /// The version of a model with a name.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn version(&mut self, model: &str, name: &VersionName) -> Result<Option<ModelVersion>> {
        let mut versions = self.versions(Some(model))?.into_iter();
        Ok(match name {
            VersionName::Number(number) => versions.find(|version| version.version == *number),
            VersionName::Champion => versions.find(|version| version.status == VersionStatus::Champion),
            VersionName::Latest => versions.next_back(),
            VersionName::Alias(alias) => {
                let aliases = self.aliases(Some(model))?;
                let number = aliases.into_iter().find(|known| known.alias == *alias).map(|known| known.version);
                versions.find(|version| Some(version.version) == number)
            }
        })
    }

    /// The aliases of the versions of a model, or of all models, sorted.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn aliases(&mut self, model: Option<&str>) -> Result<Vec<ModelAlias>> {
        let sql = "SELECT model, alias, version FROM model_alias WHERE fleet = $1 AND ($2 = '' OR model = $2) \
                   ORDER BY model, alias";
        let select = query(sql).bind(self.fleet.clone()).bind(model.unwrap_or_default().to_owned());
        self.readable((ALIAS_TABLE, &[0, 1]), select, |row| {
            let version = row.try_get::<i64, _>(2)?.unsigned_abs();
            Ok(ModelAlias { model: row.try_get(0)?, alias: row.try_get(1)?, version })
        })
    }

    /// Sets an alias, inside a transaction.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_alias(&mut self, ModelAlias { model, alias, version }: &ModelAlias) -> Result<()> {
        let key = [("model", model.into()), ("alias", alias.into())];
        let set = [("version", (*version as i64).into())];
        match self.update(ALIAS_TABLE, &key, &set, None)? {
            true => Ok(()),
            false => self.insert(ALIAS_TABLE, &[&key[..], &set].concat(), false).map(drop),
        }
    }

    /// Deletes an alias, inside a transaction; returns whether there was one.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn delete_alias(&mut self, model: &str, alias: &str) -> Result<bool> {
        self.delete(ALIAS_TABLE, &[("model", model.into()), ("alias", alias.into())])
    }
}
