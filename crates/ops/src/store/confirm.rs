//! Rows as they were read, against the audit. A row may have been edited before it was read, and put back since: so the
//! copy that was read is compared, in the transaction that writes a step by it, or at the moment of reading.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::replay::{AuditReplay, Kept};
use super::rollouts::ROLLOUT_TABLE;
use super::verify::{difference, named};
use super::versions::{ALIAS_TABLE, VERSION_TABLE};
use super::writes::{ColumnKind, RowKey, RowValues, SqlValue, noted_text, table};
use super::{RunRecord, Store, VersionedJob};
use crate::retrain::{Job, JobState};
use driftsweep_common::error::Result;

/// What the audit says of a job that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobCheck {
    /// It is the job of its records.
    Same,
    /// It was, and has taken another step since.
    Moved,
    /// It is not: which row differs, and how.
    Differs(String),
}

impl JobCheck {
    /// How the job differs; `None` if it is the job of its records.
    pub fn problem(self, job: &Job) -> Option<String> {
        match self {
            Self::Same => None,
            Self::Moved => Some(format!("{} was put back to an earlier step", named_job(&job.id))),
            Self::Differs(problem) => Some(problem),
        }
    }
}

fn named_job(id: &str) -> String {
    named("job", &vec![id.to_owned()])
}

impl Store {
    /// Reads rows and compares each with the audit, both at the same moment: those that match, and the problems of the
    /// others. Where there are no rows the audit is not read.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`]; those of the arguments.
    pub fn confirmed<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<Vec<T>>,
        problem: impl Fn(&mut Self, &T) -> Result<Option<String>>,
    ) -> Result<(Vec<T>, Vec<String>)> {
        if read(self)?.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        // The rows of a store of an older version are recorded first.
        self.transaction(|_| Ok(()))?;
        self.reading(|store| {
            let (mut confirmed, mut problems) = (Vec::new(), Vec::new());
            for row in read(store)? {
                match problem(store, &row)? {
                    None => confirmed.push(row),
                    Some(problem) => problems.push(problem),
                }
            }
            Ok((confirmed, problems))
        })
    }

    /// What the audit says of a job that was read: both of this copy, and of its row as it is now. The malformed part of
    /// an answer is in the audit once the attempt has ended.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn check_job(&mut self, versioned: &VersionedJob) -> Result<JobCheck> {
        if let Some(problem) = self.row_problem("job", &vec![versioned.job.id.clone()])? {
            return Ok(JobCheck::Differs(problem));
        }
        self.with_replay(Kept::ForStarts, |_, replay| Ok(check_copy(replay, versioned)))
    }

    /// The jobs in a state that are the jobs of their records, and the problems of the others: read and compared at the
    /// same moment. Where there are none the audit is not read.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn confirmed_jobs(&mut self, state: &str) -> Result<(Vec<VersionedJob>, Vec<String>)> {
        if self.jobs_in(state)?.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        // The rows of a store of an older version are recorded first.
        self.transaction(|_| Ok(()))?;
        self.reading(|store| {
            let jobs = store.jobs_in(state)?;
            store.with_replay(Kept::ForStarts, |_, replay| {
                let (mut confirmed, mut problems) = (Vec::new(), Vec::new());
                for versioned in jobs {
                    match check_copy(replay, &versioned).problem(&versioned.job) {
                        None => confirmed.push(versioned),
                        Some(problem) => problems.push(problem),
                    }
                }
                Ok((confirmed, problems))
            })
        })
    }

    /// How a run that was read differs from the audit; `None` if it does not.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn run_problem(&mut self, run: &RunRecord) -> Result<Option<String>> {
        let key = vec![run.job.clone(), run.attempt.to_string()];
        if let Some(problem) = self.row_problem("run", &key)? {
            return Ok(Some(problem));
        }
        self.difference_of("run", &key, Some(&values_of(run)))
    }

    /// How the versions of a model, or their aliases, differ from the audit; `None` if they do not.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn versions_problem(&mut self, model: &str) -> Result<Option<String>> {
        self.problem_of_tables(&[VERSION_TABLE, ALIAS_TABLE], model)
    }

    /// How the rollouts of a model, or its versions, differ from the audit; `None` if they do not.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn rollouts_problem(&mut self, model: &str) -> Result<Option<String>> {
        self.problem_of_tables(&[ROLLOUT_TABLE, VERSION_TABLE, ALIAS_TABLE], model)
    }

    /// How the rows of a model in some tables differ from the audit.
    fn problem_of_tables(&mut self, tables: &[&'static str], model: &str) -> Result<Option<String>> {
        for &name in tables {
            let of_model = [("model", model.into())];
            let found = self.rows_of(table(name), Some(&of_model))?.into_iter().map(|(key, _)| key);
            let mut keys: BTreeSet<RowKey> = found.collect();
            self.with_replay(Kept::ForStarts, |_, replay| {
                let recorded = replay.rows.get(name).into_iter().flat_map(|rows| rows.keys());
                keys.extend(recorded.filter(|key| key.first().is_some_and(|first| first == model)).cloned());
                Ok(())
            })?;
            for key in keys {
                if let Some(problem) = self.row_problem(name, &key)? {
                    return Ok(Some(problem));
                }
            }
        }
        Ok(None)
    }

    /// Whether the audit has the settings of a run as they were read.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn has_recorded_settings(&mut self, run: &RunRecord) -> Result<bool> {
        let key = vec![run.job.clone(), run.attempt.to_string()];
        self.with_replay(Kept::ForStarts, |_, replay| {
            let recorded = replay.rows.get("run").and_then(|runs| runs.get(&key)).and_then(|row| row.get("retrain"));
            Ok(recorded.is_some_and(|recorded| recorded.as_ref() == Some(&run.retrain_hash)))
        })
    }

    /// How the event of a job, with a body that was read, differs from the audit; `None` if it does not.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn event_problem(&mut self, id: &str, body: Option<&str>) -> Result<Option<String>> {
        let key = vec![id.to_owned()];
        if let Some(problem) = self.row_problem("event", &key)? {
            return Ok(Some(problem));
        }
        self.with_replay(Kept::ForStarts, |_, replay| {
            let recorded = replay.rows.get("event").and_then(|events| events.get(&key));
            let recorded = recorded.and_then(|row| row.get("body")).cloned().flatten();
            let same = recorded == body.map(|body| noted_text(body, ColumnKind::Text));
            Ok((!same).then(|| format!("{} was edited: its body", named("event", &key))))
        })
    }

    /// Why a job must not be requested for an open event that was read; `None` if it may be.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn request_problem(
        &mut self,
        (id, model, trigger): (&str, &str, &str),
        triggered_at: Timestamp,
    ) -> Result<Option<String>> {
        let key = vec![id.to_owned()];
        if let Some(problem) = self.row_problem("event", &key)? {
            return Ok(Some(problem));
        }
        self.with_replay(Kept::ForStarts, |_, replay| {
            if replay.jobs.get(id).is_some() {
                return Ok(Some(format!("{} was deleted", named_job(id))));
            }
            let read = [
                ("model", Some(noted_text(model, ColumnKind::Text))),
                ("trigger_type", Some(noted_text(trigger, ColumnKind::Text))),
                ("triggered_at", Some(triggered_at.as_microsecond().to_string())),
                ("closed_at", None),
            ];
            let recorded = replay.rows.get("event").and_then(|events| events.get(&key));
            let same = recorded.is_some_and(|recorded| {
                read.iter().all(|(column, value)| recorded.get(*column).cloned().flatten() == *value)
            });
            Ok((!same).then(|| format!("{} was edited", named("event", &key))))
        })
    }

    /// How a row, as it is now, differs from the audit; `None` if it does not.
    pub(super) fn row_problem(&mut self, name: &str, key: &RowKey) -> Result<Option<String>> {
        let table = table(name);
        let found = self.rows_of(table, Some(&table.cells(key)))?.into_iter().next().map(|(_, found)| found);
        self.difference_of(name, key, found.as_ref())
    }

    fn difference_of(&mut self, name: &str, key: &RowKey, found: Option<&RowValues>) -> Result<Option<String>> {
        self.with_replay(Kept::ForStarts, |_, replay| {
            let recorded = replay.rows.get(name).and_then(|rows| rows.get(key));
            let what = match (found, recorded) {
                (None, None) => None,
                (Some(_), None) => Some("is not in the audit".into()),
                (None, Some(_)) => Some("was deleted".into()),
                (Some(found), Some(recorded)) => {
                    difference(found, recorded).map(|difference| format!("was edited: {difference}"))
                }
            };
            Ok(what.map(|what: String| format!("{} {what}", named(name, key))))
        })
    }
}

/// What the audit says of the copy of a job that was read.
fn check_copy(replay: &AuditReplay, VersionedJob { job, version }: &VersionedJob) -> JobCheck {
    let Some(derived) = replay.jobs.get(&job.id) else {
        return JobCheck::Differs(format!("{} has no records", named_job(&job.id)));
    };
    if *version < derived.version {
        return JobCheck::Moved;
    }
    let about_answer = match job.state {
        JobState::Running { .. } => derived.job.about_answer.clone(),
        _ => job.about_answer.clone(),
    };
    let read = Job { about_answer, ..job.clone() };
    derived.difference(&read, *version).map_or(JobCheck::Same, |difference| {
        JobCheck::Differs(format!("{} does not match its steps: {difference}", named_job(&job.id)))
    })
}

/// The values of a run that was read, in the form of the audit.
fn values_of(run: &RunRecord) -> RowValues {
    let (ended_at, outcome, cost) = match &run.ended {
        Some((at, outcome, cost)) => (Some(*at), Some(outcome.clone()), Some(cost.cents())),
        None => (None, None, None),
    };
    let cells: [(&str, SqlValue); 10] = [
        ("model", (&run.model).into()),
        ("started_at", run.started_at.into()),
        ("declared", run.declared.into()),
        ("committed", run.committed.into()),
        ("seen", i64::from(run.seen).into()),
        ("ended_at", ended_at.into()),
        ("outcome", (&outcome).into()),
        ("cost", SqlValue::Int(cost)),
        ("clock_at", run.clock_at.into()),
        ("lost_at", run.lost_at.into()),
    ];
    let values = cells.into_iter().map(|(name, cell)| (name.to_owned(), cell.noted(ColumnKind::Text)));
    values.chain([("retrain".to_owned(), Some(run.retrain_hash.clone()))]).collect()
}
