//! Verification of the store against its audit: the hash chain of the records, and every row against the records.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::Store;
use super::backfill::{BEFORE, LAST};
use super::evidence::{EVIDENCE, FORGOTTEN, FORMER_HITS};
use super::jobs::VersionedJob;
use super::replay::{AcceptedProblems, AuditReplay, Backfilled, FORGOTTEN_BODY, Kept, as_of, quoted};
use super::rollouts::ROLLOUT_TABLE;
use super::versions::{ALIAS_TABLE, VERSION_TABLE};
use super::writes::{ColumnKind, HASHED, RowKey, RowValues, SqlValue, TABLES};
use crate::formats::TRAINING_SETTINGS;
use crate::retrain::Job;
use crate::retrain::clock::ClockSetBack;
use crate::retrain::replay::ReplayedJob;
use driftsweep_common::error::Result;
use driftsweep_common::escape::for_display;
use driftsweep_fleet::RetrainConfig;

/// The tables that matter for starts.
pub(super) const COMPARED_FOR_STARTS: [&str; 10] =
    ["job", "event", "model", "firing", "mute", "baseline", "run", VERSION_TABLE, ALIAS_TABLE, ROLLOUT_TABLE];

/// The summary of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifySummary {
    /// Records that were read.
    pub records: u64,
    /// The last of them and its hash, to be stored elsewhere and compared at the next check.
    pub head: Option<(u64, String)>,
    /// Rows of other tables that were compared with the records.
    pub rows: u64,
    /// Rows from before this version, without a hash in the audit.
    pub not_covered: u64,
    /// The problems, each with a record or a row.
    pub problems: Vec<String>,
    /// Earlier problems that were accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<AcceptedProblems>,
    /// Jobs that were in doubt then, and are neither started nor cancelled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_started: Vec<String>,
    /// Where rows were recorded again because an older version had written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub noted_again: Vec<Backfilled>,
    /// Where the real clock went back from one record to the next. That contradicts nothing: an answer that was late by the
    /// records before it is among the problems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clock_set_back: Vec<ClockSetBack>,
}

/// Problems that block starting jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartBlockers {
    /// Problems that block all jobs.
    pub all: Vec<String>,
    /// Problems of single jobs, by their ids.
    pub jobs: BTreeMap<String, Vec<String>>,
    /// Problems of models, which block their jobs.
    pub models: BTreeMap<String, Vec<String>>,
}

impl StartBlockers {
    /// From the problems of records and rows. Runs that have ended and were started before `since` do not affect
    /// current budgets.
    pub(super) fn new(records: Vec<String>, rows: &[RowProblem], since: Timestamp) -> Self {
        let mut blockers = Self { all: records, ..Self::default() };
        for problem in rows {
            let (first, text) = (problem.key.first().cloned().unwrap_or_default(), problem.text.clone());
            match problem.table {
                "job" | "event" => blockers.jobs.entry(first).or_default().push(text),
                "model" | "firing" | "mute" | "baseline" | VERSION_TABLE | ALIAS_TABLE | ROLLOUT_TABLE => {
                    blockers.models.entry(first).or_default().push(text)
                }
                // Spent and reserved amounts are unknown then.
                "run" => {
                    if !problem.is_of_run_that_ended_before(since) {
                        blockers.all.push(text.clone());
                    }
                    blockers.jobs.entry(first).or_default().push(text);
                }
                // The other tables do not matter for starts.
                _ => {}
            }
        }
        blockers
    }

    /// The problems of a job; empty if it matches the audit.
    pub fn of(&self, job: &Job) -> Vec<&str> {
        let own = self.jobs.get(&job.id).into_iter().chain(self.models.get(&job.model)).flatten();
        own.map(String::as_str).collect()
    }
}

/// Conclusions on a model at a sweep that do not match the audit: their key, the current values, and the problem.
pub(super) type WrongConclusion = (RowKey, Option<RowValues>, String);

/// A row that does not match the audit.
pub(super) struct RowProblem {
    pub(super) table: &'static str,
    pub(super) key: RowKey,
    pub(super) text: String,
    /// The current row, if it exists.
    pub(super) found: Option<RowValues>,
    /// The expected row, if the audit has it.
    pub(super) expected_row: Option<RowValues>,
}

impl RowProblem {
    /// Whether the row is one of a run that had ended, and was started before a time, in either version of the row.
    fn is_of_run_that_ended_before(&self, since: Timestamp) -> bool {
        let ended = |run: &RowValues| {
            let number = |name: &str| run.get(name)?.as_ref()?.parse::<i64>().ok();
            number("ended_at").is_some() && number("started_at").is_some_and(|at| at < since.as_microsecond())
        };
        self.found.iter().chain(&self.expected_row).all(ended)
    }
}

/// The result of a check of the store.
pub(super) struct StoreCheck {
    pub(super) replay: AuditReplay,
    pub(super) verified: VerifySummary,
    /// Problems of records.
    pub(super) records: Vec<String>,
    /// Problems of rows.
    pub(super) rows: Vec<RowProblem>,
    /// Problems of conclusions of sweeps: their keys, their current values, and the reasons.
    pub(super) evidence: Vec<WrongConclusion>,
}

/// A row by its table and key.
pub(crate) fn named(table: &str, key: &RowKey) -> String {
    let key: Vec<String> = key.iter().map(|part| format!("'{}'", for_display(part))).collect();
    format!("table {table}, row {}", if key.is_empty() { "of the fleet".into() } else { key.join(" ") })
}

/// How a row differs from the audit; `None` if it does not.
pub(super) fn difference(found: &RowValues, expected_row: &RowValues) -> Option<String> {
    let names: BTreeSet<&String> = found.keys().chain(expected_row.keys()).collect();
    names.into_iter().find_map(|name| {
        let (found, expected_row) =
            (found.get(name).and_then(Option::as_ref), expected_row.get(name).and_then(Option::as_ref));
        (found != expected_row)
            .then(|| format!("column {name} holds {}, the audit says {}", quoted(found), quoted(expected_row)))
    })
}

impl Store {
    /// Reads the records of the audit that were not read yet.
    fn read_remaining(&mut self, replay: &mut AuditReplay, expected: &[(u64, &str)]) -> Result<()> {
        replay.fleet.clone_from(&self.fleet);
        loop {
            let last = replay.head.as_ref().map_or(0, |(seq, _)| *seq);
            let page = self.audit_page(last)?;
            if page.is_empty() {
                return Ok(());
            }
            for record in &page {
                replay.add(record.as_ref().map_err(Clone::clone))?;
                let Ok(record) = record else { continue };
                if expected.iter().any(|(seq, hash)| *seq == record.seq && *hash != record.hash) {
                    replay.problems.push(format!("{} is not the one that was seen before", record.named()));
                }
            }
        }
    }

    /// Whether the audit ends with its recorded head.
    pub(super) fn check_end(&mut self, replay: &AuditReplay, problems: &mut Vec<String>) -> Result<()> {
        let (last, hash) = replay.head.clone().unwrap_or_default();
        let (noted, noted_hash) = self.audit_head()?.unwrap_or_default();
        if noted > last {
            problems.push(format!("records {} to {noted} are missing at the end", last + 1));
        } else if (noted, &noted_hash) != (last, &hash) {
            problems.push(format!("record {last} is not the recorded last one, {noted}"));
        }
        Ok(())
    }

    /// The rows that do not match the audit, and how many were compared.
    pub(super) fn compare_rows(&mut self, replay: &AuditReplay) -> Result<(Vec<RowProblem>, u64)> {
        let (mut problems, mut compared) = (Vec::new(), 0);
        let none = BTreeMap::new();
        let row_in_audit = |name: &str, key: &RowKey| replay.rows.get(name).and_then(|rows| rows.get(key)).cloned();
        for table in TABLES.iter().filter(|table| replay.kept.has(table.name)) {
            let expected_row = replay.rows.get(table.name).unwrap_or(&none);
            let mut there = BTreeSet::new();
            let mut add = |key: &RowKey, found: Option<&RowValues>, what: String| {
                let text = format!("{} {what}", named(table.name, key));
                let (found, expected_row) = (found.cloned(), expected_row.get(key).cloned());
                problems.push(RowProblem { table: table.name, key: key.clone(), text, found, expected_row });
            };
            for (key, found) in self.rows_of(table, None)? {
                compared += 1;
                match expected_row.get(&key) {
                    None => add(&key, Some(&found), "is not in the audit".into()),
                    Some(expected_row) => {
                        if let Some(difference) = difference(&found, expected_row) {
                            add(&key, Some(&found), format!("was edited: {difference}"));
                        }
                    }
                }
                there.insert(key);
            }
            expected_row
                .keys()
                .filter(|key| !there.contains(*key))
                .for_each(|key| add(key, None, "was deleted".into()));
        }
        for (table, key, text) in &replay.mismatches {
            let Some(table) = TABLES.iter().find(|known| known.name == table) else { continue };
            let text = format!("{} was edited: {text}", named(table.name, key));
            let expected_row = row_in_audit(table.name, key);
            problems.push(RowProblem {
                table: table.name,
                key: key.clone(),
                text,
                found: expected_row.clone(),
                expected_row,
            });
        }
        for (id, text) in replay.openings.wrong() {
            let key = vec![id.clone()];
            let text = format!("{}: {text}", named("event", &key));
            let expected_row = row_in_audit("event", &key);
            problems.push(RowProblem { table: "event", key, text, found: expected_row.clone(), expected_row });
        }
        if !replay.kept.has("job") {
            return Ok((problems, compared));
        }
        let mut of_job = |id: &str, text: String| {
            let key = vec![id.to_owned()];
            let expected_row = row_in_audit("job", &key);
            problems.push(RowProblem { table: "job", key, text, found: expected_row.clone(), expected_row });
        };
        let unreadable = std::mem::take(&mut self.unreadable);
        let jobs = self.jobs("")?;
        self.unreadable = unreadable;
        for VersionedJob { job, version } in jobs {
            // Rows that cannot be read are compared by their hashes above.
            let Some(derived) = replay.jobs.get(&job.id) else { continue };
            if let Some(difference) = derived.difference(&job, version) {
                let row = named("job", &vec![job.id.clone()]);
                of_job(&job.id, format!("{row} does not match its steps: {difference}"));
            }
        }
        for (id, text) in replay.jobs.problems() {
            of_job(id, text.clone());
        }
        Ok((problems, compared))
    }

    /// The conclusions of sweeps that do not match the audit; how many were compared, and how many are not in it.
    /// Those of sweeps `since` a time, if one is given, are compared without their figures.
    pub(super) fn compare_evidence(
        &mut self,
        replay: &AuditReplay,
        since: Option<Timestamp>,
    ) -> Result<(Vec<WrongConclusion>, u64, u64)> {
        let (mut problems, mut compared, mut not_covered) = (Vec::new(), 0, 0);
        let none = BTreeMap::new();
        let expected_row = replay.rows.get(EVIDENCE).unwrap_or(&none);
        let before = replay.limit(BEFORE, LAST);
        let hits_before = replay.limit(FORGOTTEN, "hits");
        let mut there = BTreeSet::new();
        let mut check = |key: &RowKey, found: Option<&RowValues>| {
            let (model, as_of) = (key.first().map_or("", String::as_str), as_of(key));
            let name = format!("the conclusions on model '{}' of the sweep of {}", for_display(model), at(as_of));
            let mut add = |text: String| problems.push((key.clone(), found.cloned(), text));
            let Some(expected_row) = expected_row.get(key) else {
                if before.is_some_and(|before| as_of <= before) {
                    not_covered += 1;
                } else {
                    add(format!("{name} (verdict, hit or quality) are not in the audit"));
                }
                return;
            };
            let mut expected_row = expected_row.clone();
            if hits_before.is_some_and(|before| as_of < before) {
                expected_row.remove("hits");
            }
            // Figures that still exist although their deletion is recorded must match the recorded hash.
            if let Some(body) = expected_row.remove(FORGOTTEN_BODY)
                && found.is_some_and(|found| found.contains_key("body"))
            {
                expected_row.insert("body".into(), body);
            }
            if since.is_some() {
                expected_row.remove("body");
            }
            compared += 1;
            if expected_row.is_empty() && found.is_none() {
                return;
            }
            for (name_there, table) in
                [("verdict", "verdict"), ("body", "verdict"), ("hits", "hit"), ("quality", "quality")]
            {
                let is = |name: &str| found.and_then(|found| found.get(name)) == expected_row.get(name_there);
                let has_former_hash = name_there == "hits" && expected_row.contains_key("hits") && is(FORMER_HITS);
                if !is(name_there) && !has_former_hash {
                    add(format!("table {table}: {name} were edited"));
                }
            }
        };
        let mut check_all = |found: Vec<(RowKey, RowValues)>| {
            for (key, found) in found {
                check(&key, Some(&found));
                there.insert(key);
            }
        };
        match since {
            Some(since) => check_all(self.evidence_since(since)?),
            // Figures of one sweep at a time: those of all may be more than fits into memory.
            None => {
                for as_of in self.judged_sweeps()? {
                    check_all(self.evidence_at(as_of)?);
                }
            }
        }
        let first = since.map_or(i64::MIN, Timestamp::as_microsecond);
        expected_row.keys().filter(|key| !there.contains(*key) && as_of(key) >= first).for_each(|key| check(key, None));
        Ok((problems, compared, not_covered))
    }

    /// Runs a read-only action on a consistent snapshot of the store.
    pub(super) fn reading<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.database.begin_reading()?;
        self.begin_moment();
        let done = work(self);
        self.end_moment();
        let ended = self.database.end(false);
        done.and_then(|done| ended.map(|()| done))
    }

    /// Checks the whole store: the chain of the audit, and every row against the records; `expected` are heads that
    /// were seen before, if there are any.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn verify_audit(&mut self, expected: &[(u64, &str)]) -> Result<VerifySummary> {
        self.reading(|store| store.check(expected)).map(|checked| checked.verified)
    }

    /// The same, with all details, inside a transaction.
    pub(super) fn check(&mut self, expected: &[(u64, &str)]) -> Result<StoreCheck> {
        let mut replay = AuditReplay::keeping(Kept::Whole);
        self.read_remaining(&mut replay, expected)?;
        let mut records = replay.problems.clone();
        if replay.records == 0 {
            let reason =
                "there are no records: no tick has run, or the audit was removed; every store starts with a record";
            records.push(reason.into());
        }
        self.check_end(&replay, &mut records)?;
        let last = replay.head.as_ref().map_or(0, |(seq, _)| *seq);
        for (seq, _) in expected.iter().filter(|(seq, _)| *seq > last) {
            records.push(format!("record {seq}, which was seen before, is missing"));
        }
        let mut verified = VerifySummary {
            records: replay.records,
            head: self.shown_head(&replay)?,
            problems: records.clone(),
            accepted: replay.accepted.clone(),
            not_started: replay.held().map(|(id, _)| id.to_owned()).collect(),
            noted_again: replay.noted_again.clone(),
            clock_set_back: replay.jobs.set_back().to_vec(),
            ..VerifySummary::default()
        };
        let (mut rows, mut evidence) = (Vec::new(), Vec::new());
        if replay.older.is_some() {
            for table in TABLES {
                verified.not_covered += self.rows_of(table, None)?.len() as u64;
            }
            for as_of in self.judged_sweeps()? {
                verified.not_covered += self.evidence_at(as_of)?.len() as u64;
            }
        } else {
            (rows, verified.rows) = self.compare_rows(&replay)?;
            let judged;
            (evidence, judged, verified.not_covered) = self.compare_evidence(&replay, None)?;
            verified.rows += judged;
            verified.problems.extend(rows.iter().map(|problem| problem.text.clone()));
            verified.problems.extend(evidence.iter().map(|(.., text)| text.clone()));
        }
        Ok(StoreCheck { replay, verified, records, rows, evidence })
    }

    /// The last record and its hash. If it cannot be read, or is missing, the recorded head is used.
    fn shown_head(&mut self, replay: &AuditReplay) -> Result<Option<(u64, String)>> {
        match &replay.head {
            Some((_, hash)) if !hash.is_empty() => Ok(replay.head.clone()),
            Some((seq, _)) => {
                let noted = self.audit_head()?.filter(|(noted, _)| noted == seq);
                Ok(noted.or_else(|| Some((*seq, "0".repeat(64)))))
            }
            None => self.audit_head(),
        }
    }

    /// Runs an action with the replayed audit, after reading the new records: once in a reading, and in a transaction once
    /// after each record that it writes. What is `kept` of it decides about what can be compared.
    pub(super) fn with_replay<T>(
        &mut self,
        kept: Kept,
        work: impl FnOnce(&mut Self, &AuditReplay) -> Result<T>,
    ) -> Result<T> {
        let known = self.replay.take().filter(|replay| replay.kept.covers(kept));
        let is_complete = known.is_some() && self.replay_is_complete;
        let mut replay = known.unwrap_or_else(|| Box::new(AuditReplay::keeping(kept)));
        if !is_complete {
            self.read_remaining(&mut replay, &[])?;
            self.replay_is_complete = self.at_one_moment;
        }
        let done = work(self, &replay);
        self.replay = Some(replay);
        done
    }

    /// A job as replayed from the audit, inside a transaction; `None` if there is no record of it.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn derived_job(&mut self, id: &str) -> Result<Option<ReplayedJob>> {
        // Records of older versions are not complete.
        self.with_replay(Kept::ForStarts, |_, replay| {
            Ok(replay.jobs.get(id).filter(|_| replay.older.is_none()).cloned())
        })
    }

    /// Restores the runs of a job from the audit, inside a transaction. The audit has only a hash of the training
    /// settings: if they were lost, the current ones (`now`) are used.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn restore_runs(&mut self, job: &str, now: Option<&RetrainConfig>) -> Result<()> {
        let Some(table) = TABLES.iter().find(|table| table.name == "run") else { return Ok(()) };
        let expected_row = self.with_replay(Kept::ForStarts, |_, replay| {
            let runs = replay.rows.get(table.name).into_iter().flatten();
            let of_job = runs.filter(|(key, _)| key.first().is_some_and(|of| of == job));
            Ok(of_job.map(|(key, expected_row)| (key.clone(), expected_row.clone())).collect::<Vec<_>>())
        })?;
        for (key, expected_row) in expected_row {
            let [_, attempt] = &key[..] else { continue };
            let named = [("job", job.into()), ("attempt", SqlValue::Int(attempt.parse().ok()))];
            let found = self.rows_of(table, Some(&named))?.into_iter().next().map(|(_, found)| found);
            if found.as_ref().is_some_and(|found| difference(found, &expected_row).is_none()) {
                continue;
            }
            // Its training settings were lost with the row, and there are no current ones: the job is closed without
            // them.
            if found.is_none() && now.is_none() {
                continue;
            }
            let mut set = Vec::new();
            for column in table.columns {
                let value = expected_row.get(column.name).cloned().flatten();
                let matches_audit =
                    found.as_ref().is_some_and(|found| found.get(column.name) == expected_row.get(column.name));
                match column.kind {
                    _ if matches_audit => {}
                    ColumnKind::Int => {
                        set.push((column.name, SqlValue::Int(value.and_then(|value| value.parse().ok()))))
                    }
                    ColumnKind::Secret => {
                        let Some(retrain) = now else { continue };
                        set.push((column.name, super::jobs::json(TRAINING_SETTINGS, job, retrain)?.into()));
                    }
                    // A long text is stored as its hash.
                    ColumnKind::Text if value.as_ref().is_some_and(|value| value.starts_with(HASHED)) => {}
                    ColumnKind::Text => set.push((column.name, SqlValue::from(&value))),
                }
            }
            match found {
                Some(_) => self.update(table.name, &named, &set, None)?,
                None => self.insert(table.name, &[&named[..], &set].concat(), true)?,
            };
        }
        Ok(())
    }

    /// Problems that block starting jobs: a broken hash chain blocks all, and rows that do not match the audit block
    /// their jobs and models. Runs that have ended and were started before `since` block only their own job. Only new
    /// records of the audit are read.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn start_blockers(&mut self, since: Timestamp) -> Result<StartBlockers> {
        self.read_to_start(since, |_| Ok(())).map(|((), blockers)| blockers)
    }

    /// Reads what a start depends on, with the problems that block it: both are of the same moment, so that a row that
    /// is put back afterwards is found all the same.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`]; those of `read`.
    pub fn read_to_start<T>(
        &mut self,
        since: Timestamp,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<(T, StartBlockers)> {
        // The rows of a store of an older version are recorded first.
        self.transaction(|_| Ok(()))?;
        self.reading(|store| {
            let found = read(store)?;
            let blockers = store.with_replay(Kept::ForStarts, |store, replay| {
                let mut records = replay.problems.clone();
                store.check_end(replay, &mut records)?;
                let mut blockers = StartBlockers::new(records, &store.compare_rows(replay)?.0, since);
                for (id, seq) in replay.held() {
                    blockers.jobs.entry(id.to_owned()).or_default().push(format!(
                        "{} was in doubt when the store was accepted (record {seq}), and is not started; cancel it \
                         with `driftsweep jobs cancel {}`",
                        named("job", &vec![id.to_owned()]),
                        for_display(id)
                    ));
                }
                Ok(blockers)
            })?;
            Ok((found, blockers))
        })
    }

    /// Reads something from a store of which every row is compared with the audit at the same moment, with the problems
    /// of it.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`]; those of `read`.
    pub fn read_verified<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, Vec<String>)> {
        self.reading(|store| Ok((read(store)?, store.check(&[])?.verified.problems)))
    }
}

fn at(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
