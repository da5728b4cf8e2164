//! The rows by which events are opened: whether they are what the audit says when they are read.

use std::collections::HashSet;

use jiff::Timestamp;

use super::Store;
use super::backfill::{BEFORE, LAST};
use super::evidence::EVIDENCE;
use super::replay::Kept;
use super::verify::{RowProblem, StartBlockers, WrongConclusion};
use super::writes::{ColumnKind, RowValues, noted_text};
use driftsweep_common::error::Result;

/// The tables whose rows decide whether an event is opened. Verdicts, hits and measures are compared beside them.
pub(super) const COMPARED_FOR_EVENTS: [&str; 8] =
    ["model", "sweep", "event", "firing", "mute", "run", "waiting", "baseline"];

/// The most problems with records, and with rows that concern all models, that are kept: each speaks against every model.
const KEPT_FOR_ALL: usize = 100;

impl StartBlockers {
    /// Those against opening events.
    fn about_events(records: Vec<String>, rows: Vec<RowProblem>, evidence: Vec<WrongConclusion>) -> Self {
        let mut doubts = Self { all: records, ..Self::default() };
        for RowProblem { table, key, text, found, expected_row } in rows {
            match table {
                // Sweeps are of all models.
                "sweep" => doubts.all.push(text),
                // A row that was moved to another model is wrong of both.
                "event" | "run" => {
                    let model = |row: &RowValues| row.get("model").cloned().flatten();
                    let mut models: Vec<String> = [found, expected_row].iter().flatten().filter_map(model).collect();
                    models.dedup();
                    models.into_iter().for_each(|model| doubts.add_to(model, &text));
                }
                _ => doubts.add_to(key.into_iter().next().unwrap_or_default(), &text),
            }
        }
        for (key, _, text) in evidence {
            doubts.add_to(key.into_iter().next().unwrap_or_default(), &text);
        }
        doubts.all.truncate(KEPT_FOR_ALL);
        doubts
    }

    fn add_to(&mut self, model: String, text: &str) {
        self.models.entry(model).or_default().push(text.to_owned());
    }

    /// What speaks against opening an event of a model.
    pub fn against(&self, model: &str) -> Vec<&str> {
        let noted = noted_text(model, ColumnKind::Text);
        let long = (noted != model).then(|| self.models.get(&noted)).flatten();
        let own = self.models.get(model).into_iter().chain(long).flatten();
        self.all.iter().chain(own).map(String::as_str).collect()
    }

    /// Adds a reason against opening an event of a model.
    pub fn doubt(&mut self, model: &str, reason: &str) {
        self.add_to(model.to_owned(), reason);
    }

    /// Adds others, each once.
    pub fn extend(&mut self, others: Self) {
        let add = |own: &mut Vec<String>, others: Vec<String>| {
            others.into_iter().for_each(|text| {
                if !own.contains(&text) {
                    own.push(text);
                }
            });
        };
        add(&mut self.all, others.all);
        for (model, texts) in others.models {
            add(self.models.entry(model).or_default(), texts);
        }
        for (job, texts) in others.jobs {
            add(self.jobs.entry(job).or_default(), texts);
        }
    }
}

impl Store {
    /// Reads what events are opened by, with what speaks against opening any by it: both are of the same moment. `read` also
    /// says since when sweeps count.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`]; those of `read`.
    pub fn read_to_decide<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(T, Timestamp)>,
    ) -> Result<(T, StartBlockers)> {
        // The rows of a store of an older version are recorded first.
        self.transaction(|_| Ok(()))?;
        self.reading(|store| {
            let (found, since) = read(store)?;
            Ok((found, store.compare_to_decide(Some(since))?))
        })
    }

    /// Of models on which a sweep was concluded by their rows, those on which the audit has no conclusions of it. `since` is
    /// the time since when sweeps count.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn not_in_audit(
        &mut self,
        concluded: &HashSet<String>,
        as_of: Timestamp,
        since: Timestamp,
    ) -> Result<HashSet<String>> {
        let at = as_of.as_microsecond();
        self.with_replay(Kept::ForEvents { since: since.as_microsecond() }, |_, replay| {
            // Conclusions of older versions are not in it.
            if replay.limit(BEFORE, LAST).is_some_and(|before| at <= before) {
                return Ok(HashSet::new());
            }
            let recorded = replay.rows.get(EVIDENCE);
            let is_known =
                |model: &str| recorded.is_some_and(|rows| rows.contains_key(&vec![model.to_owned(), at.to_string()]));
            Ok(concluded.iter().filter(|model| !is_known(model)).cloned().collect())
        })
    }

    /// What speaks against opening events by the rows as they are in a transaction that has written nothing yet; what was
    /// concluded of sweeps aside.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn doubts_about_events(&mut self) -> Result<StartBlockers> {
        self.compare_to_decide(None)
    }

    fn compare_to_decide(&mut self, since: Option<Timestamp>) -> Result<StartBlockers> {
        let kept = Kept::ForEvents { since: since.map_or(i64::MAX, Timestamp::as_microsecond) };
        self.with_replay(kept, |store, replay| {
            let mut records = replay.problems.clone();
            store.check_end(replay, &mut records)?;
            let (rows, _) = store.compare_rows(replay)?;
            let evidence = match since {
                Some(since) => store.compare_evidence(replay, Some(since))?.0,
                None => Vec::new(),
            };
            Ok(StartBlockers::about_events(records, rows, evidence))
        })
    }
}
