//! Records with times in the future: a clock was ahead then, or is behind now.

use jiff::Timestamp;
use sqlx::{Row, query};

use super::writes::SqlValue;
use super::{Store, optional_time, time};
use crate::retrain::approvers::latest_correct_time;
use crate::retrain::clock::CLOCK_AHEAD;
use driftsweep_common::error::Result;

/// The subject of records about the clock.
pub const CLOCK_SUBJECT: &str = "store";

impl Store {
    /// Fails if the store holds times that are more than a day in the future: a clock was ahead when they were written, or the
    /// clock is behind now. The store cannot know which, and what is right in one case destroys data in the other: a person
    /// has to say so, with [`Self::undo_future_times`] or by correcting the clock.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`], with both times and the remedy.
    pub fn check_clock(&mut self, now: Timestamp) -> Result<()> {
        let clock = self.clock()?;
        let Some(latest) = self.noted_after(latest_correct_time(now, clock))? else { return Ok(()) };
        Err(self.refused(format!(
            "the store holds times up to {latest}, and it is {clock} by the clock: a clock was ahead when they were \
             written, or the clock is behind now. Nothing is done before that is clear. If the clock is behind, correct \
             it (NTP). If a clock was ahead and is right now, undo what it has written: `driftsweep tick \
             --clock-was-ahead --reason TEXT`"
        )))
    }

    /// The number of the last record in which a person has said that a clock was ahead: records before it may have wrong
    /// times.
    fn last_clock_correction(&mut self) -> Result<i64> {
        let select = query("SELECT MAX(seq) FROM audit WHERE fleet = $1 AND subject = $2 AND kind = $3");
        let select = select.bind(self.fleet.clone()).bind(CLOCK_SUBJECT).bind(CLOCK_AHEAD);
        let found = self.database.rows(select, |row| row.try_get::<Option<i64>, _>(0))?;
        Ok(found.into_iter().flatten().next().unwrap_or(0))
    }

    /// The record from a number on that is the latest by the real clock. Records before a correction of the clock do not
    /// count.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn latest_record_since(&mut self, seq: u64) -> Result<Option<(u64, Timestamp)>> {
        let since = (seq as i64).max(self.last_clock_correction()?);
        let sql = "SELECT seq, clock_at FROM audit WHERE fleet = $1 AND seq >= $2 AND clock_at IS NOT NULL \
                   ORDER BY clock_at DESC LIMIT 1";
        let select = query(sql).bind(self.fleet.clone()).bind(since);
        let found = self.database.rows(select, |row| Ok((row.try_get::<i64, _>(0)?.unsigned_abs(), time(row, 1)?)))?;
        Ok(found.into_iter().next())
    }

    /// The last sweep up to a time.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn last_sweep(&mut self, until: Timestamp) -> Result<Option<Timestamp>> {
        let select = query("SELECT MAX(as_of) FROM sweep WHERE fleet = $1 AND as_of <= $2").bind(self.fleet.clone());
        let found = self.database.rows(select.bind(until.as_microsecond()), |row| optional_time(row, 0))?;
        Ok(found.into_iter().flatten().next())
    }

    /// The latest time after a limit: of a sweep, a trigger, a baseline, or of a record that no correction of the clock
    /// follows.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn noted_after(&mut self, limit: Timestamp) -> Result<Option<Timestamp>> {
        let sql = "SELECT MAX(at) FROM (SELECT MAX(as_of) AS at FROM sweep WHERE fleet = $1 \
                   UNION ALL SELECT MAX(as_of) FROM verdict WHERE fleet = $1 \
                   UNION ALL SELECT MAX(as_of) FROM waiting WHERE fleet = $1 \
                   UNION ALL SELECT MAX(scheduled) FROM model WHERE fleet = $1 \
                   UNION ALL SELECT MAX(volume_fired) FROM model WHERE fleet = $1 \
                   UNION ALL SELECT MAX(trained) FROM model WHERE fleet = $1 \
                   UNION ALL SELECT MAX(set_at) FROM baseline WHERE fleet = $1 \
                   UNION ALL SELECT MAX(clock_at) FROM audit WHERE fleet = $1 AND seq > $3) AS noted WHERE at > $2";
        let corrected = self.last_clock_correction()?;
        let select = query(sql).bind(self.fleet.clone()).bind(limit.as_microsecond()).bind(corrected);
        Ok(self.database.rows(select, |row| optional_time(row, 0))?.into_iter().flatten().next())
    }

    /// Undoes records with times after a limit, inside a transaction: sweeps, their conclusions, and waiting models.
    /// The times of trainings, firings and baselines become the current time. Firings stay. Returns the undone sweeps.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn undo_future_times(&mut self, limit: Timestamp, now: Timestamp) -> Result<Vec<Timestamp>> {
        let select = query("SELECT as_of FROM sweep WHERE fleet = $1 AND as_of > $2 ORDER BY as_of");
        let select = select.bind(self.fleet.clone()).bind(limit.as_microsecond());
        let sweeps = self.database.rows(select, |row| time(row, 0))?;
        for as_of in &sweeps {
            self.delete("sweep", &[("as_of", (*as_of).into())])?;
        }
        for as_of in self.judged_sweeps()?.into_iter().filter(|as_of| *as_of > limit) {
            for (key, _) in self.evidence_at(as_of)? {
                key.first().map_or(Ok(()), |model| self.delete_conclusions(model, as_of))?;
            }
        }
        for waiting in self.waiting()?.into_iter().filter(|waiting| waiting.as_of > limit) {
            self.end_waiting(&waiting.model, waiting.as_of)?;
        }
        for known in self.known()? {
            let times = [
                ("first_seen", Some(known.first_seen)),
                ("scheduled", known.scheduled.map(|(_, until)| until)),
                ("volume_fired", known.volume_fired),
                ("trained", known.trained),
                ("judged", known.judged),
                ("not_judged", known.reported_not_judged),
                ("warned", known.warned),
            ];
            let later = times.into_iter().filter(|(_, at)| at.is_some_and(|at| at > limit));
            let set: Vec<(&'static str, SqlValue)> = later.map(|(name, _)| (name, now.into())).collect();
            if !set.is_empty() {
                self.set_model(&known.model, &set)?;
            }
        }
        for entry in self.baseline_entries(None)?.into_iter().filter(|entry| entry.set_at > limit) {
            let key = [("model", (&entry.model).into()), ("seq", (entry.number as i64).into())];
            self.update("baseline", &key, &[("set_at", now.into())], None)?;
        }
        self.undo_future_waits(limit, now)?;
        self.restart_hits(now)?;
        Ok(sweeps)
    }

    /// The same for runs, whose timeout would never be reached, and for messages.
    fn undo_future_waits(&mut self, limit: Timestamp, now: Timestamp) -> Result<()> {
        let select = query("SELECT job, attempt FROM run WHERE fleet = $1 AND ended_at IS NULL AND clock_at > $2");
        let select = select.bind(self.fleet.clone()).bind(limit.as_microsecond());
        let runs = self.database.rows(select, |row| Ok((row.try_get::<String, _>(0)?, row.try_get::<i64, _>(1)?)))?;
        let clock = self.clock()?;
        for (job, attempt) in runs {
            let key = [("job", job.into()), ("attempt", attempt.into())];
            self.update("run", &key, &[("clock_at", clock.into())], None)?;
        }
        let sql = "UPDATE outbox SET next_at = $2 WHERE fleet = $1 AND state = 'pending' AND next_at > $3";
        let update = query(sql).bind(self.fleet.clone()).bind(now.as_microsecond());
        self.database.run(update.bind(limit.as_microsecond())).map(drop)
    }
}
