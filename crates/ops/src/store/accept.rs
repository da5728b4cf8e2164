//! Accepting a store that does not match its audit: a person reviews it, and accepts its current state, with a reason.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::query;

use super::Store;
use super::backfill::{WHOLE_JOB, whole_job};
use super::evidence::{EVIDENCE, recorded};
use super::jobs::VersionedJob;
use super::replay::AuditReplay;
use super::verify::{StartBlockers, StoreCheck};
use super::writes::{RowKey, RowValues, RowWrite, TABLES};
use crate::retrain::JobState;
use driftsweep_common::error::{Error, Result};

/// The kind of the record of accepted problems.
pub(super) const ACCEPTED: &str = "store.accept";

/// Most problems that are listed in the record.
const MAX_LISTED: usize = 100;

/// The body of such a record.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Acceptance {
    /// Why.
    pub(super) reason: String,
    /// The last record before, at the time of the review.
    #[serde(default)]
    head: String,
    /// How many problems.
    pub(super) problems: u64,
    /// The first of them.
    #[serde(default)]
    named: Vec<String>,
    /// Jobs that are not finished and were in doubt: they are not started.
    #[serde(default)]
    pub(super) in_doubt: Vec<String>,
}

impl Store {
    /// Accepts the store in its current state: `problems` are those that [`Self::verify_audit`] has shown for the
    /// `expected` heads, with this last record. From then on rows are compared with their current values, and jobs with
    /// their rows. Jobs that are in doubt and not finished are not started any more: their ids are returned, and a
    /// person has to cancel them.
    ///
    /// # Errors
    /// [`Error::BadValue`] if the store has changed since the review; [`Error::Store`].
    pub fn accept(
        &mut self,
        at: Timestamp,
        (by, reason): (&str, &str),
        head: &(u64, String),
        expected: &[(u64, &str)],
        problems: &[String],
    ) -> Result<Vec<String>> {
        self.transaction(|store| {
            let checked = store.check(expected)?;
            if checked.verified.head.as_ref() != Some(head) || checked.verified.problems != problems {
                let reason = "was changed at the same time; review it again with `driftsweep audit verify`".into();
                return Err(Error::BadValue { what: "store".into(), reason });
            }
            let jobs = store.jobs("")?;
            let in_doubt = in_doubt(&checked, &jobs);
            store.accept_rows(&checked, &jobs)?;
            store.repair_head(&checked.replay)?;
            let acceptance = Acceptance {
                reason: reason.into(),
                head: format!("{}:{}", head.0, head.1),
                problems: problems.len() as u64,
                named: problems.iter().take(MAX_LISTED).cloned().collect(),
                in_doubt: in_doubt.clone(),
            };
            let body = serde_json::to_value(acceptance)
                .map_err(|e| Error::BadValue { what: "audit record".into(), reason: e.to_string() })?;
            store.append_audit(at, by, ACCEPTED, "store", body)?;
            Ok(in_doubt)
        })
    }

    /// Records the current values of rows that do not match the audit.
    fn accept_rows(&mut self, checked: &StoreCheck, jobs: &[VersionedJob]) -> Result<()> {
        let mut done = BTreeSet::new();
        for problem in &checked.rows {
            if !done.insert((problem.table, &problem.key)) {
                continue;
            }
            let Some(table) = TABLES.iter().find(|table| table.name == problem.table) else { continue };
            let found = self.rows_of(table, Some(&table.cells(&problem.key)))?.into_iter().next();
            self.note_current(problem.table, &problem.key, found.as_ref().map(|(_, found)| found.clone()));
            if table.name != "job" {
                continue;
            }
            let id = problem.key.first().map_or("", String::as_str);
            match jobs.iter().find(|versioned| versioned.job.id == id) {
                Some(versioned) => self.pending.add(whole_job(versioned)),
                // The row does not exist any more. For a row that cannot be read the records have more.
                None if found.is_none() => {
                    let rows = vec![problem.key.clone()];
                    self.pending.add(RowWrite { table: WHOLE_JOB.into(), rows, deleted: true, ..RowWrite::default() });
                }
                None => {}
            }
        }
        for (key, found, _) in &checked.evidence {
            self.note_current(EVIDENCE, key, found.clone().map(recorded));
        }
        Ok(())
    }

    fn note_current(&mut self, table: &str, key: &RowKey, found: Option<RowValues>) {
        let write = RowWrite { table: table.into(), rows: vec![key.clone()], ..RowWrite::default() };
        self.pending.add(RowWrite { deleted: true, ..write.clone() });
        if let Some(set) = found {
            self.pending.add(RowWrite { set, ..write });
        }
    }

    /// Sets the head so that the next record follows the last existing or recorded one: no number is used twice.
    fn repair_head(&mut self, replay: &AuditReplay) -> Result<()> {
        let (last, hash) = replay.head.clone().unwrap_or_default();
        let (noted, noted_hash) = self.audit_head()?.unwrap_or_default();
        // A number that high was inserted by hand.
        let is_cut = noted > last && noted < u64::from(u32::MAX);
        let (seq, hash) = match is_cut || (noted == last && hash.is_empty()) {
            true => (noted, noted_hash),
            false => (last, hash),
        };
        if i64::try_from(seq).is_ok_and(|seq| seq == i64::MAX) {
            let reason = format!("record {seq} has the last number that there is; delete it first");
            return Err(Error::BadValue { what: "audit".into(), reason });
        }
        let sql = "INSERT INTO audit_head (fleet, seq, hash) VALUES ($1, $2, $3) \
                   ON CONFLICT (fleet) DO UPDATE SET seq = $2, hash = $3";
        self.database.run(query(sql).bind(self.fleet.clone()).bind(seq as i64).bind(hash)).map(drop)
    }
}

/// The jobs that are not finished and in doubt. If records are wrong, this applies to all jobs that were not started
/// yet.
fn in_doubt(checked: &StoreCheck, jobs: &[VersionedJob]) -> Vec<String> {
    let blockers = StartBlockers::new(Vec::new(), &checked.rows, Timestamp::MIN);
    let mut found: BTreeSet<String> = jobs
        .iter()
        .map(|versioned| &versioned.job)
        .filter(|job| !job.state.is_final())
        .filter(|job| {
            let started = matches!(job.state, JobState::Running { .. });
            !blockers.of(job).is_empty() || (!checked.records.is_empty() && !started)
        })
        .map(|job| job.id.clone())
        .collect();
    // Rows that cannot be read.
    let is_read = |id: &str| jobs.iter().any(|versioned| versioned.job.id == id);
    let others = checked.rows.iter().filter(|problem| problem.table == "job" && problem.found.is_some());
    found.extend(others.filter_map(|problem| problem.key.first()).filter(|id| !is_read(id)).cloned());
    found.into_iter().collect()
}
