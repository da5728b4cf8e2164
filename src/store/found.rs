//! Stores of older versions, whose audit does not answer for every row: what is found in them is noted once, and from then
//! on a change that no record tells of is found.

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::query;

use super::evidence::EVIDENCE;
use super::writes::{Key, TABLES, Values, Write};
use super::{ITSELF, Store, some_time};
use crate::error::Result;
use crate::retrain::State;

/// The kind of the record that notes what was found.
pub(super) const FOUND: &str = "store.found";

/// The name under which it notes the whole of a job that is not at its end.
pub(super) const WHOLE_JOB: &str = "whole_job";

/// The name under which it notes up to which sweep there are conclusions without hashes.
pub(super) const BEFORE: &str = "before";

/// The column of its only row.
pub(super) const LAST: &str = "last";

impl Store {
    /// Makes the audit answer for the rows of a store of an older version, inside a transaction.
    pub(super) fn answer_for_all(&mut self) -> Result<()> {
        if self.answered_for {
            return Ok(());
        }
        let select = query("SELECT clock_at FROM audit WHERE fleet = $1 AND seq = 1").bind(self.fleet.clone());
        let first: Option<Option<Timestamp>> = self.database.rows(select, |row| some_time(row, 0))?.into_iter().next();
        // Only older versions wrote records without the real clock.
        if first == Some(None) {
            let sql = "SELECT 1 FROM audit WHERE fleet = $1 AND subject = 'store' AND kind = $2 LIMIT 1";
            let noted = self.database.rows(query(sql).bind(self.fleet.clone()).bind(FOUND), |_| Ok(()))?;
            if noted.is_empty() {
                self.note_found()?;
            }
        }
        self.answered_for = true;
        Ok(())
    }

    fn note_found(&mut self) -> Result<()> {
        let mut rows = 0;
        for table in TABLES {
            for (key, set) in self.rows_of(table, None)? {
                rows += 1;
                let (table, rows) = (table.name.into(), vec![key]);
                self.pending.add(Write { table, rows, set, found: true, ..Write::default() });
            }
        }
        for state in State::open_names() {
            for versioned in self.jobs_in(state)? {
                let body = serde_json::to_string(&versioned.job).unwrap_or_default();
                let set = [("body", Some(body)), ("version", Some(versioned.version.to_string()))];
                let set = set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                let rows = vec![vec![versioned.job.id]];
                self.pending.add(Write { table: WHOLE_JOB.into(), rows, set, ..Write::default() });
            }
        }
        let last = self.judged_sweeps()?.into_iter().next_back();
        if let Some(last) = last {
            let set = Values::from([(LAST.to_owned(), Some(last.as_microsecond().to_string()))]);
            self.pending.add(Write { table: BEFORE.into(), rows: vec![Key::new()], set, ..Write::default() });
        }
        let at = self.database.clock()?;
        let body: Value = json!({ "rows": rows, EVIDENCE: { "until": last } });
        self.append_audit(at, ITSELF, FOUND, "store", body).map(drop)
    }
}
