//! Baselines that were set by trainings and by people, in place of those in the fleet file.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, query};

use super::{Store, optional_time, time};
use crate::policy::outdated::{BaselineAge, LastTraining, OutdatedBaseline};
use crate::retrain::ModelVersion;
use driftsweep::baseline;
use driftsweep_common::error::Result;
use driftsweep_fleet::{Fleet, Model, SetBaseline};

/// A baseline that was set. Entries are never removed: the one with the highest number is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BaselineRecord {
    /// The model.
    pub model: String,
    /// Its number, from 1.
    pub number: u64,
    /// The baseline file, or the snapshot; empty for the one in the fleet file.
    pub place: String,
    /// What the fleet file named as `baseline` then.
    pub declared: String,
    /// When it was set.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: String,
    /// The training that it comes from.
    pub job: Option<String>,
}

impl BaselineRecord {
    /// Its setting for a fleet.
    pub fn setting(&self) -> SetBaseline {
        SetBaseline { place: self.place.clone(), declared: self.declared.clone() }
    }
}

impl Store {
    /// Adds a baseline, inside a transaction. From then on it is in use.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`], also if its number is taken.
    pub fn add_baseline(&mut self, entry: &BaselineRecord) -> Result<()> {
        let cells = [
            ("model", (&entry.model).into()),
            ("seq", (entry.number as i64).into()),
            ("place", (&entry.place).into()),
            ("declared", (&entry.declared).into()),
            ("set_at", entry.set_at.into()),
            ("set_by", (&entry.set_by).into()),
            ("job", (&entry.job).into()),
        ];
        self.insert("baseline", &cells, false).map(drop)
    }

    /// All baselines that were ever set, of one model or of all, in order of their numbers.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn baseline_entries(&mut self, model: Option<&str>) -> Result<Vec<BaselineRecord>> {
        let sql = "SELECT model, seq, place, declared, set_at, set_by, job FROM baseline \
                   WHERE fleet = $1 AND ($2 = '' OR model = $2) ORDER BY model, seq";
        let select = query(sql).bind(self.fleet.clone()).bind(model.unwrap_or_default().to_owned());
        self.database.rows(select, |row| {
            Ok(BaselineRecord {
                model: row.try_get(0)?,
                number: row.try_get::<i64, _>(1)?.unsigned_abs(),
                place: row.try_get(2)?,
                declared: row.try_get(3)?,
                set_at: time(row, 4)?,
                set_by: row.try_get(5)?,
                job: row.try_get(6)?,
            })
        })
    }

    /// The baseline that was set last for each model: for [`Fleet::with_baselines`].
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_baselines(&mut self) -> Result<BTreeMap<String, SetBaseline>> {
        let sql = "SELECT model, place, declared FROM baseline WHERE fleet = $1 AND seq = \
                   (SELECT MAX(seq) FROM baseline AS newer WHERE newer.fleet = baseline.fleet AND newer.model = baseline.model)";
        let found = self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            Ok((row.try_get(0)?, SetBaseline { place: row.try_get(1)?, declared: row.try_get(2)? }))
        });
        Ok(found?.into_iter().collect())
    }

    /// The last successful run of a model: its job, and when it was started.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn last_trained(&mut self, model: &str) -> Result<Option<(String, LastTraining)>> {
        let sql = "SELECT job, started_at, clock_at FROM run \
                   WHERE fleet = $1 AND model = $2 AND outcome = 'succeeded' ORDER BY started_at DESC, job LIMIT 1";
        let select = query(sql).bind(self.fleet.clone()).bind(model.to_owned());
        let found = self.database.rows(select, |row| {
            Ok((row.try_get(0)?, LastTraining { started_at: time(row, 1)?, clock_at: optional_time(row, 2)? }))
        });
        Ok(found?.into_iter().next())
    }

    /// When a run was started.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn started(&mut self, job: &str, attempt: u32) -> Result<Option<LastTraining>> {
        let sql = "SELECT started_at, clock_at FROM run WHERE fleet = $1 AND job = $2 AND attempt = $3";
        let select = query(sql).bind(self.fleet.clone()).bind(job.to_owned()).bind(i64::from(attempt));
        let found = self
            .database
            .rows(select, |row| Ok(LastTraining { started_at: time(row, 0)?, clock_at: optional_time(row, 1)? }));
        Ok(found?.into_iter().next())
    }

    /// How old the baseline is that a model is compared with: when it was first set, or when the newest of the fleet file's
    /// local files was written. The time says which file a `{day}` in a path stands for.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn baseline_age(&mut self, fleet: &Fleet, model: &Model, as_of: Timestamp) -> Result<Option<BaselineAge>> {
        if model.previous {
            return Ok(None);
        }
        let entries = self.baseline_entries(Some(&model.name))?;
        match entries.last().filter(|last| model.is_compared_with(&last.setting())) {
            // A restored one keeps its age.
            Some(last) => {
                Ok(entries.iter().find(|entry| entry.place == last.place).map(|first| BaselineAge::Set(first.set_at)))
            }
            None => Ok(baseline::last_modified(fleet.own_baseline(model, as_of).expose()).map(BaselineAge::Written)),
        }
    }

    /// Whether the baseline that a model is compared with is older than its last training; with releases, than that of the version in
    /// production.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn outdated_baseline(
        &mut self,
        fleet: &Fleet,
        model: &Model,
        as_of: Timestamp,
    ) -> Result<Option<OutdatedBaseline>> {
        let trained = match model.rollout {
            None => self.last_trained(&model.name)?.map(|(_, trained)| trained),
            // What was trained and not released is not what predicts.
            Some(_) => match self.champion(&model.name)? {
                Some(ModelVersion { job: Some(job), attempt, .. }) => self.started(&job, attempt.unwrap_or(1))?,
                _ => None,
            },
        };
        let Some(trained) = trained else { return Ok(None) };
        Ok(OutdatedBaseline::of(self.baseline_age(fleet, model, as_of)?, Some(trained)))
    }
}
