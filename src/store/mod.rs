//! What is remembered between runs: sweeps and what was concluded of them, retrain events, mutes. An SQLite file, or
//! PostgreSQL by its URL.

mod audit;
mod baselines;
mod database;
mod holder;
mod jobs;
mod nights;
mod probe;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{Row, query};

use crate::atomic::hex;
use crate::error::{Error, Result};
pub use audit::{ITSELF, Record, Verified};
pub use baselines::BaselineEntry;
use database::Database;
pub use database::{Access, is_postgres};
pub use jobs::{Message, RunEntry, Unreadable, Versioned};
pub use nights::{Acknowledged, FleetFile, Waiting};
pub use probe::Probe;

/// The memory of one fleet.
pub struct Store {
    database: Database,
    fleet: String,
    /// Rows that could not be read, and were left out.
    unreadable: BTreeSet<Unreadable>,
}

/// A model as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub model: String,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// Its schedule, and the last time of it that was seen to.
    pub scheduled: Option<(String, Timestamp)>,
    /// When its volume trigger last fired.
    pub volume_fired: Option<Timestamp>,
    /// When it was last trained, as far as was said.
    pub trained: Option<Timestamp>,
    /// The last sweep at which any of its columns could be judged.
    pub judged: Option<Timestamp>,
    /// When it was last told that none could be for a week.
    pub told_not_judged: Option<Timestamp>,
    /// Since when its metric is beyond the warning level.
    pub warned: Option<Timestamp>,
}

/// A column over its limits at a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hit {
    /// The model.
    pub model: String,
    /// The sweep.
    pub as_of: Timestamp,
    /// The window; as a [`key`] when it comes back.
    pub window: String,
    /// The segment, likewise.
    pub segment: String,
    /// The column, likewise.
    pub feature: String,
}

/// What was concluded of a model at a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The model.
    pub model: String,
    /// The sweep.
    pub as_of: Timestamp,
    /// Hash of the counts that drift was concluded from; empty if there were none.
    pub data_hash: String,
    /// All figures, as JSON.
    pub body: String,
}

/// A measure of a model's predictions, as it was at a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualityEntry {
    /// The model.
    pub model: String,
    /// The sweep.
    pub as_of: Timestamp,
    /// `realised`, `estimated`, or `reconciled`: the estimate over the rows of the realised figure.
    pub kind: String,
    /// Which measure.
    pub metric: String,
    /// Predictions from then on ...
    pub since: Timestamp,
    /// ... and before then.
    pub before: Timestamp,
    /// Rows.
    pub rows: u64,
    /// The figure.
    pub value: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A wish to train a model again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub id: String,
    /// The model.
    pub model: String,
    /// The trigger that opened it.
    pub trigger: String,
    /// When it did.
    pub triggered_at: Timestamp,
    /// The CloudEvent, as JSON.
    pub body: String,
    /// When it was closed, how, and why, if it was.
    pub closed: Option<(Timestamp, String, String)>,
}

/// A trigger that fired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Firing {
    /// The model.
    pub model: String,
    /// The trigger.
    pub trigger: String,
    /// The sweep, or the time of the schedule.
    pub due: Timestamp,
    /// What became of it: `opened`, `joined`, `cooldown` or `muted`.
    pub outcome: String,
    /// The event it opened or joined.
    pub event: Option<String>,
    /// Why it fired.
    pub reason: String,
}

/// A trigger that is not to open events for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mute {
    /// The model.
    pub model: String,
    /// The trigger; empty for all.
    pub trigger: String,
    /// Until then.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub set_by: String,
    /// When.
    pub set_at: Timestamp,
}

impl Store {
    /// Opens the memory of a fleet: a `postgres://` URL, or the path of an SQLite file, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn open(place: &str, fleet: &str) -> Result<Self> {
        Self::open_as(place, fleet, Access::Create)
    }

    /// The same, for what an access allows.
    ///
    /// # Errors
    /// [`Error::Store`], also where there is no store and none is to be made.
    pub fn open_as(place: &str, fleet: &str, access: Access) -> Result<Self> {
        Ok(Self { database: Database::open(place, access)?, fleet: fleet.into(), unreadable: BTreeSet::new() })
    }

    /// The memory of a fleet to read, if there is one: `None` where no tick has run yet, or none of this version.
    ///
    /// # Errors
    /// [`Error::Store`] where it cannot be read.
    pub fn read(place: &str, fleet: &str) -> Result<Option<Self>> {
        match Self::open_as(place, fleet, Access::Read) {
            Ok(store) => Ok(Some(store)),
            Err(Error::Store { reason, .. }) if reason.ends_with(database::NO_TICK) || reason == database::OLDER => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses to go on where nothing is known of the fleet; a server may hold others.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn must_know_fleet(&mut self) -> Result<()> {
        if self.is_new()? {
            let reason = format!("nothing is known of fleet '{}': {}", self.fleet, database::NO_TICK);
            return Err(self.database.failed(reason));
        }
        Ok(())
    }

    /// Whether nothing is known of the fleet yet: it was never swept, or what was remembered of it is lost.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn is_new(&mut self) -> Result<bool> {
        let select = query("SELECT 1 FROM model WHERE fleet = $1 LIMIT 1").bind(self.fleet.clone());
        Ok(self.database.rows(select, |_| Ok(()))?.is_empty())
    }

    /// Does something for the fleet that only one process may do at a time.
    ///
    /// # Errors
    /// [`Error::Occupied`] if another process is at it; those of what is done.
    pub fn alone<T>(&mut self, what: &str, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let key = self.key_of(what);
        let Some(lock) = self.database.try_lock(key)? else {
            // Who it is helps, but is not needed.
            let holder = self.holder(what).unwrap_or_default();
            return Err(Error::Occupied { fleet: self.fleet.clone(), holder });
        };
        // The lock decides; a store that cannot be written says so at the next step.
        let _ = self.set_holder(what);
        let done = act(self);
        let given_back = self.database.unlock(lock);
        done.and_then(|done| given_back.map(|()| done))
    }

    /// A number for what a process may have for itself.
    fn key_of(&self, what: &str) -> i64 {
        let hash = Sha256::digest(format!("driftsweep {what} {}", self.fleet));
        i64::from_be_bytes(hash[..8].try_into().unwrap_or_default())
    }

    /// Runs several steps of which all happen or none. Those of one fleet come one after the other: what is read inside is
    /// as it is.
    ///
    /// # Errors
    /// Those of the steps.
    pub fn transaction<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let key = self.key_of("write");
        self.database.begin(key)?;
        match work(self).and_then(|done| self.database.end(true).map(|()| done)) {
            Err(error) => {
                // The first error is the one to tell.
                let _ = self.database.end(false);
                Err(error)
            }
            done => done,
        }
    }

    /// Notes models that are seen for the first time.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn meet<'a>(&mut self, models: impl Iterator<Item = &'a str>, at: Timestamp) -> Result<()> {
        for model in models {
            let sql = "INSERT INTO model (fleet, name, first_seen) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            self.database.run(query(sql).bind(self.fleet.clone()).bind(model.to_owned()).bind(at.as_microsecond()))?;
        }
        Ok(())
    }

    /// All models that were ever seen.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn known(&mut self) -> Result<Vec<Known>> {
        let sql = "SELECT name, first_seen, schedule, scheduled, volume_fired, trained, judged, not_judged, warned \
                   FROM model WHERE fleet = $1";
        self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            Ok(Known {
                model: row.try_get(0)?,
                first_seen: time(row, 1)?,
                scheduled: row.try_get::<Option<String>, _>(2)?.zip(some_time(row, 3)?),
                volume_fired: some_time(row, 4)?,
                trained: some_time(row, 5)?,
                judged: some_time(row, 6)?,
                told_not_judged: some_time(row, 7)?,
                warned: some_time(row, 8)?,
            })
        })
    }

    /// When a model was last trained, as far as was said.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn trained(&mut self, model: &str) -> Result<Option<Timestamp>> {
        let select = query("SELECT trained FROM model WHERE fleet = $1 AND name = $2").bind(self.fleet.clone());
        let found = self.database.rows(select.bind(model.to_owned()), |row| some_time(row, 0))?;
        Ok(found.into_iter().next().flatten())
    }

    /// Notes that a schedule of a model was seen to, up to a time.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_scheduled(&mut self, model: &str, schedule: &str, until: Timestamp) -> Result<()> {
        let sql = "UPDATE model SET schedule = $3, scheduled = $4 WHERE fleet = $1 AND name = $2";
        let update = query(sql).bind(self.fleet.clone()).bind(model.to_owned());
        self.database.run(update.bind(schedule.to_owned()).bind(until.as_microsecond())).map(drop)
    }

    /// Notes that a model's volume trigger has fired: it counts from then on.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_volume_fired(&mut self, model: &str, at: Timestamp) -> Result<()> {
        self.set_model("UPDATE model SET volume_fired = $3 WHERE fleet = $1 AND name = $2", model, at)
    }

    /// Notes that a model was trained.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_trained(&mut self, model: &str, at: Timestamp) -> Result<()> {
        self.set_model("UPDATE model SET trained = $3 WHERE fleet = $1 AND name = $2", model, at)
    }

    fn set_model(&mut self, sql: &'static str, model: &str, at: Timestamp) -> Result<()> {
        let update = query(sql).bind(self.fleet.clone()).bind(model.to_owned()).bind(at.as_microsecond());
        self.database.run(update).map(drop)
    }

    /// Notes that all consequences of a sweep have been drawn.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn add_sweep(&mut self, as_of: Timestamp, id: &str, counts_hash: &str) -> Result<()> {
        let sql = "INSERT INTO sweep (fleet, as_of, id, counts_hash) VALUES ($1, $2, $3, $4)";
        let insert = query(sql).bind(self.fleet.clone()).bind(as_of.as_microsecond());
        self.database.run(insert.bind(id.to_owned()).bind(counts_hash.to_owned())).map(drop)
    }

    /// The last sweeps, the latest first: their times.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn last_sweeps(&mut self, most: usize) -> Result<Vec<Timestamp>> {
        let sql = "SELECT as_of FROM sweep WHERE fleet = $1 ORDER BY as_of DESC LIMIT $2";
        self.database.rows(query(sql).bind(self.fleet.clone()).bind(most as i64), |row| time(row, 0))
    }

    /// Notes what was concluded of a model.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn add_verdict(&mut self, verdict: &Verdict) -> Result<()> {
        let sql = "INSERT INTO verdict (fleet, model, as_of, data_hash, body) VALUES ($1, $2, $3, $4, $5)";
        let insert = query(sql).bind(self.fleet.clone()).bind(verdict.model.clone());
        let insert = insert.bind(verdict.as_of.as_microsecond()).bind(verdict.data_hash.clone());
        self.database.run(insert.bind(verdict.body.clone())).map(drop)
    }

    /// The models on which a sweep has been concluded already.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn concluded(&mut self, as_of: Timestamp) -> Result<Vec<String>> {
        let sql = "SELECT model FROM verdict WHERE fleet = $1 AND as_of = $2";
        let select = query(sql).bind(self.fleet.clone()).bind(as_of.as_microsecond());
        self.database.rows(select, |row| row.try_get(0))
    }

    /// At which sweeps since a time which models were compared, with the hash of the counts; oldest first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn compared_since(&mut self, since: Timestamp) -> Result<Vec<(String, Timestamp, String)>> {
        let sql = "SELECT model, as_of, data_hash FROM verdict \
                   WHERE fleet = $1 AND as_of >= $2 AND data_hash <> '' ORDER BY as_of";
        let select = query(sql).bind(self.fleet.clone()).bind(since.as_microsecond());
        self.database.rows(select, |row| Ok((row.try_get(0)?, time(row, 1)?, row.try_get(2)?)))
    }

    /// The latest verdict on a model, up to a time.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn last_verdict(&mut self, model: &str, until: Timestamp) -> Result<Option<Verdict>> {
        let sql = "SELECT model, as_of, data_hash, body FROM verdict WHERE fleet = $1 AND model = $2 AND as_of <= $3 \
                   ORDER BY as_of DESC LIMIT 1";
        let select = query(sql).bind(self.fleet.clone()).bind(model.to_owned()).bind(until.as_microsecond());
        let found = self.database.rows(select, |row| {
            let (model, data_hash) = (row.try_get(0)?, row.try_get(2)?);
            Ok(Verdict { model, as_of: time(row, 1)?, data_hash, body: row.try_get(3)? })
        });
        Ok(found?.into_iter().next())
    }

    /// Leaves the figures out of verdicts before a time by which no trigger fired.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn forget_figures(&mut self, before: Timestamp) -> Result<()> {
        let sql = "UPDATE verdict SET body = '' WHERE fleet = $1 AND as_of < $2 AND body <> '' AND NOT EXISTS \
                   (SELECT 1 FROM firing WHERE firing.fleet = verdict.fleet AND firing.model = verdict.model \
                   AND firing.due = verdict.as_of)";
        self.database.run(query(sql).bind(self.fleet.clone()).bind(before.as_microsecond())).map(drop)
    }

    /// Forgets which columns were over their limits before a time.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn forget_hits(&mut self, before: Timestamp) -> Result<()> {
        let sql = "DELETE FROM hit WHERE fleet = $1 AND as_of < $2";
        self.database.run(query(sql).bind(self.fleet.clone()).bind(before.as_microsecond())).map(drop)
    }

    /// Notes a column over its limits.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn add_hit(&mut self, hit: &Hit) -> Result<()> {
        let sql =
            "INSERT INTO hit (fleet, model, as_of, window_name, segment, feature) VALUES ($1, $2, $3, $4, $5, $6)";
        let insert = query(sql).bind(self.fleet.clone()).bind(hit.model.clone()).bind(hit.as_of.as_microsecond());
        let insert = insert.bind(key(&hit.window)).bind(key(&hit.segment)).bind(key(&hit.feature));
        self.database.run(insert).map(drop)
    }

    /// The columns that were over their limits at sweeps since a time.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn hits_since(&mut self, since: Timestamp) -> Result<Vec<Hit>> {
        let sql = "SELECT model, as_of, window_name, segment, feature FROM hit WHERE fleet = $1 AND as_of >= $2";
        self.database.rows(query(sql).bind(self.fleet.clone()).bind(since.as_microsecond()), |row| {
            Ok(Hit {
                model: row.try_get(0)?,
                as_of: time(row, 1)?,
                window: row.try_get(2)?,
                segment: row.try_get(3)?,
                feature: row.try_get(4)?,
            })
        })
    }

    /// Notes a measure.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn add_quality(&mut self, entry: &QualityEntry) -> Result<()> {
        let sql = "INSERT INTO quality (fleet, model, as_of, kind, metric, since, before, row_count, value, low, high) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let insert = query(sql).bind(self.fleet.clone()).bind(entry.model.clone()).bind(entry.as_of.as_microsecond());
        let insert = insert.bind(entry.kind.clone()).bind(entry.metric.clone());
        let insert = insert.bind(entry.since.as_microsecond()).bind(entry.before.as_microsecond());
        let insert = insert.bind(entry.rows as i64).bind(entry.value).bind(entry.low).bind(entry.high);
        self.database.run(insert).map(drop)
    }

    /// The measures of a model, oldest first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn quality(&mut self, model: &str) -> Result<Vec<QualityEntry>> {
        let sql = "SELECT model, as_of, kind, metric, since, before, row_count, value, low, high FROM quality \
                   WHERE fleet = $1 AND model = $2 ORDER BY as_of, kind";
        self.database.rows(query(sql).bind(self.fleet.clone()).bind(model.to_owned()), |row| {
            let rows: i64 = row.try_get(6)?;
            Ok(QualityEntry {
                model: row.try_get(0)?,
                as_of: time(row, 1)?,
                kind: row.try_get(2)?,
                metric: row.try_get(3)?,
                since: time(row, 4)?,
                before: time(row, 5)?,
                rows: rows.unsigned_abs(),
                value: row.try_get(7)?,
                low: row.try_get(8)?,
                high: row.try_get(9)?,
            })
        })
    }

    /// Notes an event.
    ///
    /// # Errors
    /// [`Error::Store`], also if the model has an open one.
    pub fn add_event(&mut self, event: &Event) -> Result<()> {
        let sql =
            "INSERT INTO event (id, fleet, model, trigger_type, triggered_at, body) VALUES ($1, $2, $3, $4, $5, $6)";
        let insert = query(sql).bind(event.id.clone()).bind(self.fleet.clone()).bind(event.model.clone());
        let insert = insert.bind(event.trigger.clone()).bind(event.triggered_at.as_microsecond());
        self.database.run(insert.bind(event.body.clone())).map(drop)
    }

    /// All events, oldest first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn events(&mut self) -> Result<Vec<Event>> {
        let sql = "SELECT id, model, trigger_type, triggered_at, body, closed_at, outcome, note FROM event \
                   WHERE fleet = $1 ORDER BY triggered_at, id";
        self.database.rows(query(sql).bind(self.fleet.clone()), event)
    }

    /// The events that are open, without their bodies.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn open_events(&mut self) -> Result<Vec<Event>> {
        let sql = "SELECT id, model, trigger_type, triggered_at, '', closed_at, outcome, note FROM event \
                   WHERE fleet = $1 AND closed_at IS NULL";
        self.database.rows(query(sql).bind(self.fleet.clone()), event)
    }

    /// When each model's last event was opened, and when one was last closed. Events whose training failed do not count.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn last_events(&mut self) -> Result<Vec<(String, Timestamp, Option<Timestamp>)>> {
        let sql = "SELECT model, MAX(triggered_at), MAX(closed_at) FROM event WHERE fleet = $1 \
                   AND (outcome IS NULL OR outcome NOT IN ('failed', 'timed_out')) GROUP BY model";
        self.database
            .rows(query(sql).bind(self.fleet.clone()), |row| Ok((row.try_get(0)?, time(row, 1)?, some_time(row, 2)?)))
    }

    /// Closes an event: whether it was open.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn close_event(&mut self, id: &str, at: Timestamp, outcome: &str, note: &str) -> Result<bool> {
        let sql = "UPDATE event SET closed_at = $3, outcome = $4, note = $5 \
                   WHERE fleet = $1 AND id = $2 AND closed_at IS NULL";
        let update = query(sql).bind(self.fleet.clone()).bind(id.to_owned()).bind(at.as_microsecond());
        Ok(self.database.run(update.bind(outcome.to_owned()).bind(note.to_owned()))? == 1)
    }

    /// Whether it was noted that a trigger of a model fired at a sweep.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn has_fired(&mut self, model: &str, trigger: &str, due: Timestamp) -> Result<bool> {
        let sql = "SELECT 1 FROM firing WHERE fleet = $1 AND model = $2 AND trigger_type = $3 AND due = $4";
        let select = query(sql).bind(self.fleet.clone()).bind(model.to_owned()).bind(trigger.to_owned());
        Ok(!self.database.rows(select.bind(due.as_microsecond()), |_| Ok(()))?.is_empty())
    }

    /// Notes that a trigger fired.
    ///
    /// # Errors
    /// [`Error::Store`], also if that was noted before.
    pub fn add_firing(&mut self, firing: &Firing) -> Result<()> {
        let sql = "INSERT INTO firing (fleet, model, trigger_type, due, outcome, event, reason) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let insert = query(sql).bind(self.fleet.clone()).bind(firing.model.clone()).bind(firing.trigger.clone());
        let insert = insert.bind(firing.due.as_microsecond()).bind(firing.outcome.clone());
        // PostgreSQL takes no text with a zero byte, and a column may be called so.
        let reason = crate::escape::shown(&firing.reason).into_owned();
        self.database.run(insert.bind(firing.event.clone()).bind(reason)).map(drop)
    }

    /// Every time a trigger fired since a time, oldest first; of one model, or of all.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn firings(&mut self, model: Option<&str>, since: Timestamp) -> Result<Vec<Firing>> {
        let sql = "SELECT model, trigger_type, due, outcome, event, reason FROM firing \
                   WHERE fleet = $1 AND due >= $2 AND ($3 = '' OR model = $3) ORDER BY due, model, trigger_type";
        let select = query(sql).bind(self.fleet.clone()).bind(since.as_microsecond());
        self.database.rows(select.bind(model.unwrap_or_default().to_owned()), |row| {
            Ok(Firing {
                model: row.try_get(0)?,
                trigger: row.try_get(1)?,
                due: time(row, 2)?,
                outcome: row.try_get(3)?,
                event: row.try_get(4)?,
                reason: row.try_get(5)?,
            })
        })
    }

    /// Sets a mute, in place of the former one.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_mute(&mut self, mute: &Mute) -> Result<()> {
        self.lift_mute(&mute.model, &mute.trigger)?;
        let sql = "INSERT INTO mute (fleet, model, trigger_type, until, reason, set_by, set_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let insert = query(sql).bind(self.fleet.clone()).bind(mute.model.clone()).bind(mute.trigger.clone());
        let insert = insert.bind(mute.until.as_microsecond()).bind(mute.reason.clone());
        self.database.run(insert.bind(mute.set_by.clone()).bind(mute.set_at.as_microsecond())).map(drop)
    }

    /// Lifts a mute: whether there was one.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn lift_mute(&mut self, model: &str, trigger: &str) -> Result<bool> {
        let sql = "DELETE FROM mute WHERE fleet = $1 AND model = $2 AND trigger_type = $3";
        let delete = query(sql).bind(self.fleet.clone()).bind(model.to_owned()).bind(trigger.to_owned());
        Ok(self.database.run(delete)? > 0)
    }

    /// All mutes, also those that have ended.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn mutes(&mut self) -> Result<Vec<Mute>> {
        let sql = "SELECT model, trigger_type, until, reason, set_by, set_at FROM mute WHERE fleet = $1 ORDER BY 1, 2";
        self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            Ok(Mute {
                model: row.try_get(0)?,
                trigger: row.try_get(1)?,
                until: time(row, 2)?,
                reason: row.try_get(3)?,
                set_by: row.try_get(4)?,
                set_at: time(row, 5)?,
            })
        })
    }
}

/// A name from data as part of a key: no server takes a zero byte, and not all take a long one.
pub fn key(name: &str) -> String {
    const MOST: usize = 256;
    if name.len() <= MOST && !name.contains('\0') {
        return name.to_owned();
    }
    let hash = hex(&Sha256::digest(name));
    let start: String = name.chars().filter(|&c| c != '\0').take(MOST / 8).collect();
    format!("{start}…{}", &hash[..32])
}

fn event(row: &AnyRow) -> std::result::Result<Event, sqlx::Error> {
    let closed = some_time(row, 5)?;
    let text = |at: usize| row.try_get::<Option<String>, _>(at).map(Option::unwrap_or_default);
    Ok(Event {
        id: row.try_get(0)?,
        model: row.try_get(1)?,
        trigger: row.try_get(2)?,
        triggered_at: time(row, 3)?,
        body: row.try_get(4)?,
        closed: match closed {
            Some(at) => Some((at, text(6)?, text(7)?)),
            None => None,
        },
    })
}

fn time(row: &AnyRow, at: usize) -> std::result::Result<Timestamp, sqlx::Error> {
    stamp(row.try_get(at)?)
}

fn some_time(row: &AnyRow, at: usize) -> std::result::Result<Option<Timestamp>, sqlx::Error> {
    row.try_get::<Option<i64>, _>(at)?.map(stamp).transpose()
}

fn stamp(microseconds: i64) -> std::result::Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(microseconds).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}
