//! Replays the audit: the expected content of every row, and the expected state of every job.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SYSTEM_ACTOR;
use super::accept::{ACCEPTED, Acceptance};
use super::audit::Record;
use super::backfill::{BACKFILL, BEFORE, WHOLE_JOB};
use super::decide::COMPARED_FOR_EVENTS;
use super::evidence::{EVIDENCE, FORGOTTEN};
use super::openings::Openings;
use super::verify::COMPARED_FOR_STARTS;
use super::writes::{ColumnKind, HASHED, RowKey, RowValues, RowWrite, noted_text};
use crate::formats::JOBS;
use crate::retrain::Job;
use crate::retrain::replay::{AuditEntry, EventRecord, ReplayedJobs};
use crate::retrain::signature::{STAGE_RECORDS, stage_key};
use crate::retrain::statement::event_sha256;
use driftsweep_common::error::Result;
use driftsweep_common::escape::for_display;

/// The column with the hash of figures that were deleted since.
pub(super) const FORGOTTEN_BODY: &str = "forgotten_body";

/// Problems of the store that a person has accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AcceptedProblems {
    /// The record of it.
    pub record: u64,
    /// When, by the real clock.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How many problems.
    pub problems: u64,
}

/// Rows that were recorded again because an older version had written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backfilled {
    /// The record with the rows.
    pub record: u64,
    /// The last record of the older version.
    pub after: u64,
}

/// Which rows are kept of those that follow from the audit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kept {
    /// Those of all tables, and what was concluded of all sweeps.
    Whole,
    /// Those that decide about a start.
    #[default]
    ForStarts,
    /// Those by which events are opened, and what was concluded of sweeps since a time, without figures.
    ForEvents {
        /// The time in microseconds.
        since: i64,
    },
}

impl Kept {
    /// Whether the rows of a table are among them.
    pub(super) fn has(self, table: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::ForStarts => COMPARED_FOR_STARTS.contains(&table),
            Self::ForEvents { .. } => {
                COMPARED_FOR_EVENTS.contains(&table) || [EVIDENCE, FORGOTTEN, BEFORE].contains(&table)
            }
        }
    }

    /// Whether all others are among them.
    pub(super) fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::ForEvents { since }, Self::ForEvents { since: later }) => since <= later,
            (own, other) => own == other,
        }
    }

    /// Whether what was concluded of a sweep is among them.
    fn has_sweep(self, as_of: i64) -> bool {
        match self {
            Self::Whole => true,
            Self::ForStarts => false,
            Self::ForEvents { since } => as_of >= since,
        }
    }
}

/// The result of replaying the audit so far.
#[derive(Default)]
pub struct AuditReplay {
    pub(super) fleet: String,
    /// Records that were read.
    pub(super) records: u64,
    /// The last of them and its hash; an empty hash if it cannot be read.
    pub(super) head: Option<(u64, String)>,
    /// Problems of records.
    pub(super) problems: Vec<String>,
    pub(super) rows: BTreeMap<String, BTreeMap<RowKey, RowValues>>,
    pub(super) jobs: ReplayedJobs,
    /// Writes that do not match the ones before them, with their job or model.
    pub(super) mismatches: Vec<(String, RowKey, String)>,
    /// Events, and those that were not to be opened.
    pub(super) openings: Openings,
    /// Which rows are kept.
    pub(super) kept: Kept,
    /// The last record, if the last records are of an older version and the rows were not recorded since.
    pub(super) older: Option<u64>,
    /// What was accepted, in order.
    pub(super) accepted: Vec<AcceptedProblems>,
    /// Jobs that were in doubt when the store was accepted, and the record of it.
    held: BTreeMap<String, u64>,
    /// Rows that were recorded more than once.
    pub(super) noted_again: Vec<Backfilled>,
    /// Whether a record of this version was read.
    newer: bool,
    /// Conclusions whose figures were not deleted yet, by their sweeps and models.
    with_figures: BTreeSet<(i64, String)>,
}

impl AuditReplay {
    /// One that keeps some rows.
    pub(super) fn keeping(kept: Kept) -> Self {
        Self { kept, ..Self::default() }
    }

    /// Adds a record, or the reason why it cannot be read.
    pub(super) fn add(&mut self, record: std::result::Result<&Record, (u64, String)>) -> Result<()> {
        let (last, hash) = self.head.clone().unwrap_or_default();
        let problems = &mut self.problems;
        let seq = record.as_ref().map_or_else(|(seq, _)| *seq, |record| record.seq);
        match seq - last {
            1 => {}
            2 => problems.push(format!("record {} is missing", last + 1)),
            _ => problems.push(format!("records {} to {} are missing", last + 1, seq - 1)),
        }
        self.records += 1;
        let record = match record {
            Ok(record) => record,
            Err((seq, reason)) => {
                problems.push(format!("record {seq} was edited: {reason}"));
                self.head = Some((seq, String::new()));
                return Ok(());
            }
        };
        let itself = record.expected_hash()? == record.hash;
        if !itself {
            problems.push(format!("{} was edited: its hash does not match its content", record.named()));
        }
        if seq == last + 1 && record.previous != hash {
            problems.push(format!("{} does not match the hash of the record before it", record.named()));
        }
        self.head = Some((seq, record.hash.clone()));
        // An edited record does not accept problems.
        self.follow(record, itself);
        Ok(())
    }

    /// Applies a record.
    fn follow(&mut self, record: &Record, itself: bool) {
        let Record { seq, at, clock_at, actor, kind, subject, body, .. } = record;
        // The current rows are only recorded where an older version has written.
        let found = kind == BACKFILL && actor == SYSTEM_ACTOR && clock_at.is_some() && self.older.is_some();
        if kind == BACKFILL && !found {
            self.problems.push(format!("{} records rows although no older version has written", record.named()));
        }
        let accepts = kind == ACCEPTED && clock_at.is_some() && itself;
        match clock_at {
            None => self.older = Some(*seq),
            Some(_) if found => self.begin(*seq),
            Some(_) => self.newer = true,
        }
        if accepts {
            self.accept(record);
        }
        let writes = record.writes.as_deref().map_or(Ok(Vec::new()), serde_json::from_str::<Vec<RowWrite>>);
        let writes = writes.unwrap_or_else(|e| {
            self.problems.push(format!("{}: its list of written rows cannot be read: {e}", record.named()));
            Vec::new()
        });
        for write in writes {
            if write.table != WHOLE_JOB {
                self.write(*seq, write);
            } else if found || accepts {
                self.whole_job(*seq, write);
            }
        }
        if kind == "event.open"
            && let Some(hash) = body["event_sha256"].as_str()
        {
            let event = self.rows.entry("event".into()).or_default().entry(vec![subject.clone()]).or_default();
            let wanted = format!("sha256:{hash}");
            let known = event.entry("body".into()).or_insert_with(|| Some(wanted.clone()));
            if known.as_ref() != Some(&wanted) {
                let text = format!("record {seq} (event.open) has another hash than the stored one");
                self.mismatches.push(("event".into(), vec![subject.clone()], text));
            }
        }
        if kind == "event.open" && clock_at.is_some() && self.older.is_none() {
            self.openings.check(&self.rows, record);
        }
        if STAGE_RECORDS.contains(&&**kind)
            && let Some(Err(problem)) = stage_key(&self.fleet, subject, actor, body)
        {
            self.problems.push(format!("{}: {problem}", record.named()));
        }
        let event = self.rows.get("event").and_then(|events| events.get(std::slice::from_ref(subject)));
        let expected_row = |name: &str| event?.get(name)?.as_deref();
        // Short texts are stored in full.
        let sha256 = expected_row("body")
            .map(|body| body.strip_prefix(HASHED).map_or_else(|| event_sha256(body), str::to_owned));
        // Long names are stored as hashes.
        let named = |column: &str, name: &str| {
            let (there, here) = (expected_row(column)?, body[name].as_str());
            Some(here.filter(|here| noted_text(here, ColumnKind::Text) == there).unwrap_or(there))
        };
        let event = named("model", "model").zip(named("trigger_type", "trigger")).zip(sha256.as_deref());
        let event = event.map(|((model, trigger), sha256)| EventRecord { model, trigger, sha256 });
        let (seq, at, clock_at) = (*seq, *at, *clock_at);
        self.jobs.add(AuditEntry { fleet: &self.fleet, event, seq, at, clock_at, actor, kind, subject, body });
    }

    /// Starts over with the rows of a store that an older version has written.
    fn begin(&mut self, seq: u64) {
        // Older records are not complete.
        self.jobs.begin();
        if let Some(after) = self.older.take().filter(|_| self.newer) {
            self.noted_again.push(Backfilled { record: seq, after });
            // Events do not change: their recorded bodies stay valid. Everything else is reset.
            let mut events = self.rows.remove("event").unwrap_or_default();
            events.values_mut().for_each(|event| event.retain(|name, _| name == "body"));
            self.rows = BTreeMap::from([("event".to_owned(), events)]);
            self.with_figures.clear();
        }
        self.newer = true;
    }

    /// Accepts all problems so far. The rows that did not match the audit follow as writes.
    fn accept(&mut self, record: &Record) {
        let Acceptance { problems, reason, in_doubt, .. } = Acceptance::deserialize(&record.body).unwrap_or_default();
        self.problems.clear();
        self.mismatches.clear();
        self.openings.accept();
        self.jobs.accept();
        self.held.extend(in_doubt.into_iter().map(|job| (job, record.seq)));
        let at = record.clock_at.unwrap_or(record.at);
        self.accepted.push(AcceptedProblems { record: record.seq, at, by: record.actor.clone(), reason, problems });
    }

    /// Adds a job from its row.
    fn whole_job(&mut self, seq: u64, write: RowWrite) {
        if write.deleted {
            write.rows.iter().flatten().for_each(|id| self.jobs.forget(id));
            return;
        }
        let set = |name: &str| write.set.get(name).and_then(Option::as_deref).unwrap_or_default();
        match JOBS.read::<Job>(set("body")) {
            Ok(job) => self.jobs.found(job, set("version").parse().unwrap_or_default()),
            Err(e) => {
                let problem = format!("record {seq}: the job that it records cannot be read: {e}");
                write.rows.iter().flatten().for_each(|id| self.jobs.add_problem(id, problem.clone()));
            }
        }
    }

    /// The jobs that were in doubt when the store was accepted and are not finished, each with the record.
    pub(super) fn held(&self) -> impl Iterator<Item = (&str, u64)> {
        let is_over = |id: &str| self.jobs.get(id).is_some_and(|derived| derived.job.state.is_final());
        self.held.iter().map(|(id, seq)| (&**id, *seq)).filter(move |(id, _)| !is_over(id))
    }

    fn write(&mut self, seq: u64, write: RowWrite) {
        if !self.kept.has(&write.table) {
            return;
        }
        self.openings.note(&write);
        if write.table == FORGOTTEN
            && self.kept == Kept::Whole
            && let Some(before) = write.set.get("figures").and_then(Option::as_deref).and_then(|text| text.parse().ok())
        {
            self.delete_figures(before);
        }
        let rows = self.rows.entry(write.table.clone()).or_default();
        for row in write.rows {
            if write.table == EVIDENCE && !self.kept.has_sweep(as_of(&row)) {
                continue;
            }
            if write.deleted {
                rows.remove(&row);
                continue;
            }
            let values = rows.entry(row.clone()).or_default();
            for (name, was) in &write.replaced {
                if values.get(name).unwrap_or(&None) != was {
                    let (was, before) = (quoted(was.as_ref()), quoted(values.get(name).and_then(Option::as_ref)));
                    let text =
                        format!("record {seq} replaced {was} in column {name}, where the audit expects {before}");
                    self.mismatches.push((write.table.clone(), row.clone(), text));
                }
            }
            for (name, value) in &write.set {
                if write.found {
                    values.entry(name.clone()).or_insert_with(|| value.clone());
                } else {
                    values.insert(name.clone(), value.clone());
                }
            }
            if write.table == EVIDENCE
                && self.kept == Kept::Whole
                && write.set.contains_key("body")
                && let [model, as_of] = &row[..]
                && let Ok(as_of) = as_of.parse()
            {
                self.with_figures.insert((as_of, model.clone()));
            }
        }
    }

    /// Figures before a time are deleted, except where a trigger had fired by then: one may fire for the same time
    /// later.
    fn delete_figures(&mut self, before: i64) {
        let later = self.with_figures.split_off(&(before, String::new()));
        let earlier = std::mem::replace(&mut self.with_figures, later);
        let (none, empty) = (BTreeMap::new(), &mut BTreeMap::new());
        let firings = self.rows.get("firing").unwrap_or(&none);
        let fired = |model: &String, as_of: &str| {
            let mut of_model = firings.range(vec![model.clone()]..).take_while(|(key, _)| key.first() == Some(model));
            of_model.any(|(key, _)| key.get(2).is_some_and(|due| due == as_of))
        };
        let mut kept = Vec::new();
        let mut gone = Vec::new();
        for (as_of, model) in earlier {
            let key = vec![model, as_of.to_string()];
            match fired(&key[0], &key[1]) {
                true => kept.push((as_of, key[0].clone())),
                false => gone.push(key),
            }
        }
        self.with_figures.extend(kept);
        let evidence = self.rows.get_mut(EVIDENCE).unwrap_or(empty);
        for key in gone {
            let Some(values) = evidence.get_mut(&key) else { continue };
            if let Some(body) = values.remove("body") {
                values.insert(FORGOTTEN_BODY.into(), body);
            }
        }
    }

    /// A number from a table with one row.
    pub(super) fn limit(&self, table: &str, name: &str) -> Option<i64> {
        self.rows.get(table)?.get(&RowKey::new())?.get(name)?.as_ref()?.parse().ok()
    }
}

/// The sweep of what was concluded of a model, by its key.
pub(super) fn as_of(key: &RowKey) -> i64 {
    key.get(1).and_then(|as_of| as_of.parse().ok()).unwrap_or_default()
}

/// A value for display.
pub(super) fn quoted(value: Option<&String>) -> String {
    value.map_or_else(|| "nothing".into(), |value| format!("'{}'", for_display(value)))
}
