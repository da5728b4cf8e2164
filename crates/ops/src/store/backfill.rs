//! Stores of older versions, whose audit does not cover every row: their rows are recorded once, and from then on
//! unrecorded changes are detected.

use serde_json::{Value, json};
use sqlx::{Row, query};

use super::evidence::EVIDENCE;
use super::writes::{RowKey, RowValues, RowWrite, TABLES};
use super::{SYSTEM_ACTOR, Store, VersionedJob};
use crate::formats::JOBS;
use crate::retrain::{Job, JobState};
use driftsweep_common::error::Result;

/// The kind of the record with the rows of an older store.
pub(super) const BACKFILL: &str = "store.found";

/// The table name under which it records a whole job that is not finished.
pub(super) const WHOLE_JOB: &str = "whole_job";

/// The table name under which it records up to which sweep there are conclusions without hashes.
pub(super) const BEFORE: &str = "before";

/// The column of its only row.
pub(super) const LAST: &str = "last";

impl Store {
    /// Records the rows of a store that an older version has written, inside a transaction. An older version that is
    /// still running may write again later.
    pub(super) fn backfill_audit(&mut self) -> Result<()> {
        // Only older versions write records without the real clock.
        let select = query("SELECT MAX(seq) FROM audit WHERE fleet = $1 AND clock_at IS NULL").bind(self.fleet.clone());
        let older = self.database.rows(select, |row| row.try_get::<Option<i64>, _>(0))?.into_iter().flatten().next();
        let older = older.unwrap_or_default();
        if older <= self.backfilled_until {
            return Ok(());
        }
        let sql =
            "SELECT MAX(seq) FROM audit WHERE fleet = $1 AND subject = 'store' AND kind = $2 AND clock_at IS NOT NULL";
        let noted = query(sql).bind(self.fleet.clone()).bind(BACKFILL);
        let noted = self.database.rows(noted, |row| row.try_get::<Option<i64>, _>(0))?.into_iter().flatten().next();
        if noted.is_none_or(|noted| noted < older) {
            self.backfill_rows(noted.is_some())?;
        }
        self.backfilled_until = older;
        Ok(())
    }

    fn backfill_rows(&mut self, again: bool) -> Result<()> {
        let mut rows = 0;
        for table in TABLES {
            for (key, set) in self.rows_of(table, None)? {
                rows += 1;
                let (table, rows) = (table.name.into(), vec![key]);
                self.pending.add(RowWrite { table, rows, set, found: true, ..RowWrite::default() });
            }
        }
        for state in JobState::open_names() {
            for versioned in self.jobs_in(state)? {
                self.pending.add(whole_job(&versioned));
            }
        }
        let last = self.last_judged_sweep()?;
        if let Some(last) = last {
            let set = RowValues::from([(LAST.to_owned(), Some(last.as_microsecond().to_string()))]);
            self.pending.add(RowWrite { table: BEFORE.into(), rows: vec![RowKey::new()], set, ..RowWrite::default() });
        }
        let at = self.clock()?;
        let mut body: Value = json!({ "rows": rows, EVIDENCE: { "until": last } });
        if again {
            body["again"] = true.into();
        }
        self.append_audit(at, SYSTEM_ACTOR, BACKFILL, "store", body).map(drop)
    }
}

/// A whole job from its row. The key of a run is in no record.
pub(super) fn whole_job(VersionedJob { job, version }: &VersionedJob) -> RowWrite {
    let body = JOBS.write(&Job { key: None, ..job.clone() }).unwrap_or_default();
    let set = [("body", Some(body)), ("version", Some(version.to_string()))];
    let set = set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    RowWrite { table: WHOLE_JOB.into(), rows: vec![vec![job.id.clone()]], set, ..RowWrite::default() }
}
