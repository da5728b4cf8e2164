//! Jobs, their runs and costs, and the outbox.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Row, query};

use super::writes::{SqlValue, hashed};
use super::{Store, optional_time, time};
use crate::formats::{JOBS, TRAINING_SETTINGS};
use crate::retrain::{Job, JobState};
use driftsweep_common::error::Result;
use driftsweep_common::versioned::Format;
use driftsweep_fleet::{Money, RetrainConfig};

/// A job with the number of steps it has taken.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionedJob {
    /// The job.
    pub job: Job,
    /// Its steps.
    pub version: u64,
}

/// A run of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRecord {
    /// The job.
    pub job: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The model.
    pub model: String,
    /// The training settings at that time: the run is polled where it was started.
    #[serde(skip)]
    pub retrain: RetrainConfig,
    /// The hash of these settings as they were read from the store, in the form of the audit.
    #[serde(skip)]
    pub retrain_hash: String,
    /// When it was started, by the effective time of the pass.
    pub started_at: Timestamp,
    /// When it was started by the real clock; absent in older stores.
    pub clock_at: Option<Timestamp>,
    /// When the training system first reported that it no longer knows it, by the real clock.
    pub lost_at: Option<Timestamp>,
    /// The declared cost.
    pub declared: Money,
    /// The reserved amount.
    pub committed: Money,
    /// Whether the training system has confirmed that it knows it.
    pub seen: bool,
    /// The end: time, outcome and cost.
    pub ended: Option<(Timestamp, String, Money)>,
}

/// A row that cannot be read, and is skipped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct UnreadableRow {
    /// Its table.
    pub table: &'static str,
    /// Its key.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// A message of the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutboxMessage {
    /// The audit record it is about.
    pub seq: u64,
    /// The channel.
    pub channel: String,
    /// The topic.
    pub topic: String,
    /// When it happened.
    pub at: Timestamp,
    /// The content, as JSON.
    pub body: String,
    /// `pending`, `sent` or `dead`.
    pub state: String,
    /// The number of attempts.
    pub attempts: u32,
    /// The time of the next attempt.
    pub next_at: Timestamp,
    /// The last error.
    pub error: Option<String>,
}

/// A query of runs, with the columns as [`run`] reads them.
macro_rules! select_runs {
    ($which:literal) => {
        concat!(
            "SELECT job, attempt, model, retrain, started_at, declared, committed, ended_at, outcome, cost, seen, clock_at, \
             lost_at FROM run ",
            $which
        )
    };
}

impl Store {
    /// The rows that could not be read since the last call, each once.
    pub fn unreadable(&mut self) -> Vec<UnreadableRow> {
        std::mem::take(&mut self.unreadable).into_iter().collect()
    }

    /// Adds a row that cannot be read to [`Self::unreadable`].
    pub fn set_aside(&mut self, table: &'static str, id: &str, reason: String) {
        self.unreadable.insert(UnreadableRow { table, id: id.into(), reason });
    }

    /// The rows of a query that can be read; the others are remembered for [`Self::unreadable`]. `key` gives the
    /// positions of the key columns.
    pub(super) fn readable<T>(
        &mut self,
        (table, key): (&'static str, &[usize]),
        query: Query<'_, Any, AnyArguments>,
        of: impl Fn(&AnyRow) -> std::result::Result<T, sqlx::Error>,
    ) -> Result<Vec<T>> {
        let rows = self.database.rows(query, |row| {
            Ok(of(row).map_err(|e| {
                let id: Vec<String> = key.iter().map(|&at| text(row, at)).collect();
                UnreadableRow { table, id: id.join("-"), reason: reason(&e) }
            }))
        })?;
        let mut read = Vec::new();
        for row in rows {
            match row {
                Ok(row) => read.push(row),
                Err(unreadable) => {
                    self.unreadable.insert(unreadable);
                }
            }
        }
        Ok(read)
    }

    /// Adds a new job; returns whether it is new.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn add_job(&mut self, job: &Job) -> Result<bool> {
        let cells = [
            ("id", (&job.id).into()),
            ("model", (&job.model).into()),
            ("state", job.state.name().into()),
            ("requested_at", job.requested_at.into()),
            ("version", 1i64.into()),
            ("body", json(JOBS, &job.id, job)?.into()),
        ];
        self.insert("job", &cells, true)
    }

    /// Updates a job; returns `false` if another process has changed it since.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_job(&mut self, job: &Job, from: u64) -> Result<bool> {
        let version = from as i64;
        let set = [
            ("state", job.state.name().into()),
            ("version", (version + 1).into()),
            ("body", json(JOBS, &job.id, job)?.into()),
        ];
        self.update("job", &[("id", (&job.id).into())], &set, Some(format!("version = {version}")))
    }

    /// Replaces a job whose row cannot be read or does not match the audit, inside a transaction.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn replace_job(&mut self, VersionedJob { job, version }: &VersionedJob) -> Result<()> {
        let set = [
            ("model", (&job.model).into()),
            ("state", job.state.name().into()),
            ("requested_at", job.requested_at.into()),
            ("version", (*version as i64).into()),
            ("body", json(JOBS, &job.id, job)?.into()),
        ];
        self.update("job", &[("id", (&job.id).into())], &set, None).map(drop)
    }

    /// Adds jobs in an unknown state to [`Self::unreadable`]: no other query finds them.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn note_jobs_in_unknown_states(&mut self) -> Result<()> {
        let known: Vec<String> = JobState::NAMES.iter().map(|name| format!("'{name}'")).collect();
        let sql = format!("SELECT id, state FROM job WHERE fleet = $1 AND state NOT IN ({})", known.join(", "));
        let strange = self.database.rows(query(AssertSqlSafe(sql)).bind(self.fleet.clone()), |row| {
            let reason = format!("there is no state '{}'", driftsweep_common::escape::for_display(&text(row, 1)));
            Ok(UnreadableRow { table: "job", id: text(row, 0), reason })
        })?;
        self.unreadable.extend(strange);
        Ok(())
    }

    /// The jobs in a state, oldest first.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn jobs_in(&mut self, state: &str) -> Result<Vec<VersionedJob>> {
        let sql = "SELECT body, version, id FROM job WHERE fleet = $1 AND state = $2 ORDER BY requested_at, id";
        let select = query(sql).bind(self.fleet.clone()).bind(state.to_owned());
        self.readable(("job", &[2]), select, job)
    }

    /// The job with an id, if there is one that can be read.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn job(&mut self, id: &str) -> Result<Option<VersionedJob>> {
        let select = query("SELECT body, version, id FROM job WHERE fleet = $1 AND id = $2").bind(self.fleet.clone());
        let found = self.readable(("job", &[2]), select.bind(id.to_owned()), job)?;
        Ok(found.into_iter().next())
    }

    /// The jobs whose ids have a prefix, oldest first; all of them for an empty prefix.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn jobs(&mut self, beginning: &str) -> Result<Vec<VersionedJob>> {
        let sql = "SELECT body, version, id FROM job WHERE fleet = $1 AND substr(id, 1, CAST($3 AS INTEGER)) = $2 ORDER BY requested_at, id";
        let length = beginning.chars().count() as i64;
        let select = query(sql).bind(self.fleet.clone()).bind(beginning.to_owned()).bind(length);
        self.readable(("job", &[2]), select, job)
    }

    /// How many jobs are in each state.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn job_counts(&mut self) -> Result<Vec<(String, u64)>> {
        let sql = "SELECT state, COUNT(*) FROM job WHERE fleet = $1 GROUP BY state ORDER BY state";
        self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            Ok((row.try_get(0)?, row.try_get::<i64, _>(1)?.unsigned_abs()))
        })
    }

    /// Open events without a job: name, model, trigger and time.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn events_without_job(&mut self) -> Result<Vec<(String, String, String, Timestamp)>> {
        let sql = "SELECT id, model, trigger_type, triggered_at FROM event WHERE fleet = $1 AND closed_at IS NULL \
                   AND NOT EXISTS (SELECT 1 FROM job WHERE job.fleet = event.fleet AND job.id = event.id) \
                   ORDER BY triggered_at, id";
        self.readable(("event", &[0]), query(sql).bind(self.fleet.clone()), |row| {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, time(row, 3)?))
        })
    }

    /// The open jobs whose event was closed.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn jobs_without_event(&mut self) -> Result<Vec<(VersionedJob, String)>> {
        let sql = "SELECT job.body, job.version, event.outcome, job.id FROM job JOIN event ON event.fleet = job.fleet \
                   AND event.id = job.id WHERE job.fleet = $1 AND event.closed_at IS NOT NULL AND job.state IN \
                   ('requested', 'costed', 'awaiting_approval', 'approved', 'queued', 'running')";
        self.readable(("job", &[3]), query(sql).bind(self.fleet.clone()), |row| {
            Ok((job(row)?, row.try_get::<Option<String>, _>(2)?.unwrap_or_default()))
        })
    }

    /// The CloudEvent of an event, as JSON.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn event_body(&mut self, id: &str) -> Result<Option<String>> {
        let select = query("SELECT body, id FROM event WHERE fleet = $1 AND id = $2").bind(self.fleet.clone());
        let found = self.readable(("event", &[1]), select.bind(id.to_owned()), |row| row.try_get(0))?;
        Ok(found.into_iter().next())
    }

    /// Adds a run.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn add_run(&mut self, run: &RunRecord) -> Result<()> {
        let cells = [
            ("job", (&run.job).into()),
            ("attempt", i64::from(run.attempt).into()),
            ("model", (&run.model).into()),
            ("retrain", json(TRAINING_SETTINGS, &run.job, &run.retrain)?.into()),
            ("started_at", run.started_at.into()),
            ("declared", run.declared.into()),
            ("committed", run.committed.into()),
            ("seen", 0i64.into()),
            ("clock_at", run.clock_at.into()),
        ];
        self.insert("run", &cells, false).map(drop)
    }

    /// Records that the training system knows a run.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_run_known(&mut self, job: &str, attempt: u32) -> Result<()> {
        let set = [("seen", 1i64.into()), ("lost_at", SqlValue::Int(None))];
        self.update("run", &named(job, attempt), &set, None).map(drop)
    }

    /// Records that the training system no longer knows a run.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_run_lost(&mut self, job: &str, attempt: u32, at: Timestamp) -> Result<()> {
        let only = Some("lost_at IS NULL".into());
        self.update("run", &named(job, attempt), &[("lost_at", at.into())], only).map(drop)
    }

    /// Records the end of a run.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn end_run(&mut self, job: &str, attempt: u32, at: Timestamp, outcome: &str, cost: Money) -> Result<()> {
        let set = [("ended_at", at.into()), ("outcome", outcome.into()), ("cost", cost.into())];
        self.update("run", &named(job, attempt), &set, Some("ended_at IS NULL".into())).map(drop)
    }

    /// The runs that were started in a period, oldest first.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn runs_between(&mut self, since: Timestamp, before: Timestamp) -> Result<Vec<RunRecord>> {
        let sql =
            select_runs!("WHERE fleet = $1 AND started_at >= $2 AND started_at < $3 ORDER BY started_at, job, attempt");
        let select = query(sql).bind(self.fleet.clone()).bind(since.as_microsecond());
        self.readable(("run", &[0, 1]), select.bind(before.as_microsecond()), run)
    }

    /// The runs that have not ended, oldest first.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn runs_under_way(&mut self) -> Result<Vec<RunRecord>> {
        let sql = select_runs!("WHERE fleet = $1 AND ended_at IS NULL ORDER BY started_at, job, attempt");
        self.readable(("run", &[0, 1]), query(sql).bind(self.fleet.clone()), run)
    }

    /// The runs of a job, in order.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn runs_of(&mut self, job: &str) -> Result<Vec<RunRecord>> {
        let sql = select_runs!("WHERE fleet = $1 AND job = $2 ORDER BY attempt");
        let select = query(sql).bind(self.fleet.clone()).bind(job.to_owned());
        self.readable(("run", &[0, 1]), select, run)
    }

    /// The declared and actual costs of the last successful runs of a model.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn past_costs(&mut self, model: &str, most: usize) -> Result<Vec<(Money, Money)>> {
        let sql = "SELECT declared, cost, job, attempt FROM run WHERE fleet = $1 AND model = $2 AND outcome = 'succeeded' \
                   ORDER BY started_at DESC LIMIT $3";
        let select = query(sql).bind(self.fleet.clone()).bind(model.to_owned()).bind(most as i64);
        self.readable(("run", &[2, 3]), select, |row| {
            let cents = |at: usize| row.try_get::<Option<i64>, _>(at).map(|x| Money::from_cents(x.unwrap_or(0)));
            Ok((cents(0)?, cents(1)?))
        })
    }

    /// Puts a message into the outbox.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn add_message(&mut self, seq: u64, channel: &str, topic: &str, at: Timestamp, body: &str) -> Result<()> {
        let sql = "INSERT INTO outbox (fleet, seq, channel, topic, at, body, state, attempts, next_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, 'pending', 0, $5)";
        let insert = query(sql).bind(self.fleet.clone()).bind(seq as i64).bind(channel.to_owned());
        self.database.run(insert.bind(topic.to_owned()).bind(at.as_microsecond()).bind(body.to_owned())).map(drop)
    }

    /// The channels with messages to send.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn channels_due(&mut self, now: Timestamp) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT channel FROM outbox WHERE fleet = $1 AND state = 'pending' AND next_at <= $2";
        let select = query(sql).bind(self.fleet.clone()).bind(now.as_microsecond());
        self.database.rows(select, |row| row.try_get(0))
    }

    /// The messages of a channel that are due, oldest first.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn messages_due(&mut self, channel: &str, now: Timestamp, most: usize) -> Result<Vec<OutboxMessage>> {
        let sql = "SELECT seq, channel, topic, at, body, state, attempts, next_at, error FROM outbox \
                   WHERE fleet = $1 AND channel = $2 AND state = 'pending' AND next_at <= $3 ORDER BY seq LIMIT $4";
        let select = query(sql).bind(self.fleet.clone()).bind(channel.to_owned()).bind(now.as_microsecond());
        self.readable(("outbox", &[0, 1]), select.bind(most as i64), message)
    }

    /// The messages in a state, oldest first.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn messages_in(&mut self, state: &str) -> Result<Vec<OutboxMessage>> {
        let sql = "SELECT seq, channel, topic, at, body, state, attempts, next_at, error FROM outbox \
                   WHERE fleet = $1 AND state = $2 ORDER BY seq, channel";
        let select = query(sql).bind(self.fleet.clone()).bind(state.to_owned());
        self.readable(("outbox", &[0, 1]), select, message)
    }

    /// Updates a message.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_message(&mut self, message: &OutboxMessage) -> Result<()> {
        let sql = "UPDATE outbox SET state = $4, attempts = $5, next_at = $6, error = $7 \
                   WHERE fleet = $1 AND seq = $2 AND channel = $3";
        let update = query(sql).bind(self.fleet.clone()).bind(message.seq as i64).bind(message.channel.clone());
        let update = update.bind(message.state.clone()).bind(i64::from(message.attempts));
        self.database.run(update.bind(message.next_at.as_microsecond()).bind(message.error.clone())).map(drop)
    }

    /// Deletes messages that were sent before a time.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn delete_messages(&mut self, before: Timestamp) -> Result<()> {
        let delete = query("DELETE FROM outbox WHERE fleet = $1 AND state = 'sent' AND at < $2");
        self.database.run(delete.bind(self.fleet.clone()).bind(before.as_microsecond())).map(drop)
    }

    /// Records a budget warning; returns whether it is new.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn add_budget_warning(&mut self, scope: &str, month: &str) -> Result<bool> {
        self.insert("budget_warning", &[("scope", scope.into()), ("month", month.into())], true)
    }
}

/// The key columns of a run.
fn named(job: &str, attempt: u32) -> [(&'static str, SqlValue); 2] {
    [("job", job.into()), ("attempt", i64::from(attempt).into())]
}

pub(super) fn json(format: Format, job: &str, value: &impl Serialize) -> Result<String> {
    format
        .write(value)
        .map_err(|e| driftsweep_common::error::Error::BadValue { what: format!("job {job}"), reason: e.to_string() })
}

/// A body of a row.
pub(super) fn of_json<T: DeserializeOwned>(
    format: Format,
    row: &AnyRow,
    at: usize,
) -> std::result::Result<T, sqlx::Error> {
    format.read(row.try_get(at)?).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}

/// A column of a key as text, whatever it is.
fn text(row: &AnyRow, at: usize) -> String {
    let number = || row.try_get::<i64, _>(at).map(|number| number.to_string());
    row.try_get::<String, _>(at).or_else(|_| number()).unwrap_or_else(|_| "?".into())
}

/// Why a row cannot be read.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::ColumnDecode { source, .. } => source.to_string(),
        sqlx::Error::Decode(source) => source.to_string(),
        other => other.to_string(),
    }
}

fn job(row: &AnyRow) -> std::result::Result<VersionedJob, sqlx::Error> {
    Ok(VersionedJob { job: of_json(JOBS, row, 0)?, version: row.try_get::<i64, _>(1)?.unsigned_abs() })
}

fn run(row: &AnyRow) -> std::result::Result<RunRecord, sqlx::Error> {
    let cents = |at: usize| row.try_get(at).map(Money::from_cents);
    Ok(RunRecord {
        job: row.try_get(0)?,
        attempt: row.try_get::<i64, _>(1)?.unsigned_abs() as u32,
        model: row.try_get(2)?,
        retrain: of_json(TRAINING_SETTINGS, row, 3)?,
        retrain_hash: hashed(row.try_get(3)?),
        started_at: time(row, 4)?,
        declared: cents(5)?,
        committed: cents(6)?,
        seen: row.try_get::<i64, _>(10)? == 1,
        clock_at: optional_time(row, 11)?,
        lost_at: optional_time(row, 12)?,
        ended: match optional_time(row, 7)? {
            Some(at) => Some((at, row.try_get(8)?, cents(9)?)),
            None => None,
        },
    })
}

fn message(row: &AnyRow) -> std::result::Result<OutboxMessage, sqlx::Error> {
    Ok(OutboxMessage {
        seq: row.try_get::<i64, _>(0)?.unsigned_abs(),
        channel: row.try_get(1)?,
        topic: row.try_get(2)?,
        at: time(row, 3)?,
        body: row.try_get(4)?,
        state: row.try_get(5)?,
        attempts: row.try_get::<i64, _>(6)?.unsigned_abs() as u32,
        next_at: time(row, 7)?,
        error: row.try_get(8)?,
    })
}
