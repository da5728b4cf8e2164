//! Data that are late: models whose input is missing or unreadable when their sweep runs are retried by later ticks,
//! until the deadline of the fleet file, or until the next sweep is due.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexSet;
use jiff::Timestamp;
use rayon::prelude::*;

use super::judge::Memory;
use super::{SweepStatus, TickPass};
use crate::store::WaitingModel;
use driftsweep::sweep::{ModelReport, SweepReport};
use driftsweep_common::error::{Fault, Result, Status};
use driftsweep_fleet::{Fleet, Model};

/// The faults of the input of a model; at least one of the two.
#[derive(Clone, Debug, Default)]
pub struct InputFaults {
    /// A transient fault, which may be resolved when the data of the night are complete: the model waits.
    pub late: Option<Fault>,
    /// A permanent fault: a mistake in the fleet file, or a baseline that cannot be used.
    pub wrong: Option<Fault>,
}

impl InputFaults {
    fn add(&mut self, fault: Fault) {
        let place = if fault.cause.is_transient() { &mut self.late } else { &mut self.wrong };
        place.get_or_insert(fault);
    }
}

/// The entry of a model that waits for data. `files` is the hash of its files at the last attempt.
pub fn waiting_model(
    late: &Fault,
    model: &str,
    as_of: Timestamp,
    span: (Timestamp, Timestamp),
    files: String,
) -> WaitingModel {
    let (since, until) = span;
    WaitingModel { model: model.to_owned(), as_of, since, until, input: files, reason: late.reason.clone() }
}

/// Hash of a model's files after a sweep has read them. Empty if they may have changed since: then another attempt
/// makes sense.
pub fn files_read(late: &Fault, fleet: &Fleet, model: &str, as_of: Timestamp) -> String {
    let Some(model) = fleet.models.iter().find(|known| known.name == model) else { return String::new() };
    let (files, errors) = files(fleet, model, as_of);
    if errors.contains(&late.reason) { files } else { String::new() }
}

/// The models of a report with input faults.
pub fn inputs(fleet: &Fleet, report: &SweepReport) -> BTreeMap<String, InputFaults> {
    let models: HashMap<&str, &Model> = fleet.models.iter().map(|model| (&*model.name, model)).collect();
    let mut found: BTreeMap<String, InputFaults> = BTreeMap::new();
    for report in &report.models {
        let Some(&model) = models.get(&*report.model) else { continue };
        // Labels are usually late: models do not wait for them.
        if is_of_labels(model, report) {
            continue;
        }
        // A column that was removed or has changed its type is reported as a schema change.
        let unreadable = report.features.iter().filter(|feature| feature.status == Status::Unreadable);
        for fault in report.fault().into_iter().chain(unreadable.filter_map(|feature| feature.fault())) {
            found.entry(model.name.clone()).or_default().add(fault);
        }
    }
    found
}

/// Whether a report is about labels only.
fn is_of_labels(model: &Model, report: &ModelReport) -> bool {
    model.windows.iter().any(|window| window.name == report.window && window.only.is_some())
}

/// Hash of the files that a model reads, as they are now, and why some of them cannot be opened.
fn files(fleet: &Fleet, model: &Model, as_of: Timestamp) -> (String, Vec<String>) {
    let alone = fleet.with_only(model).at(as_of);
    alone.plan(as_of).fingerprint()
}

/// The failures of a model; the same failure of several windows or segments once.
pub fn failures(reports: &[&ModelReport]) -> Vec<Fault> {
    let whole = reports.iter().filter_map(|report| report.fault());
    let columns = reports.iter().flat_map(|report| &report.features).filter_map(|feature| feature.fault());
    whole.chain(columns).collect::<IndexSet<Fault>>().into_iter().collect()
}

impl TickPass<'_> {
    /// Retries the models that wait for data: for the last time before a later sweep, if one is due.
    pub(super) fn catch_up(&mut self, due: Option<Timestamp>) -> Result<()> {
        let waiting = self.store.waiting()?;
        let mut sweeps: Vec<Timestamp> = waiting.iter().map(|waiting| waiting.as_of).collect();
        sweeps.dedup();
        for as_of in sweeps {
            let noted: Vec<&WaitingModel> = waiting.iter().filter(|waiting| waiting.as_of == as_of).collect();
            self.catch_up_with(as_of, &noted, due.is_some_and(|due| due > as_of))?;
        }
        Ok(())
    }

    fn catch_up_with(&mut self, as_of: Timestamp, noted: &[&WaitingModel], is_last: bool) -> Result<()> {
        let (fleet, now) = (self.fleet, self.now);
        let models: BTreeMap<&str, &Model> = fleet.models.iter().map(|model| (&*model.name, model)).collect();
        let gone: Vec<&str> =
            noted.iter().map(|waiting| &*waiting.model).filter(|model| !models.contains_key(model)).collect();
        if !gone.is_empty() {
            self.delete_removed(&gone, as_of)?;
        }
        // Taken before the sweep reads them.
        let now_there: BTreeMap<&str, String> = noted
            .par_iter()
            .filter_map(|waiting| Some((&*waiting.model, files(fleet, models.get(&*waiting.model)?, as_of).0)))
            .collect();
        let is_worth_it = |waiting: &&WaitingModel| {
            let files = now_there.get(&*waiting.model);
            files.is_some_and(|files| is_last || now >= waiting.until || *files != waiting.input)
        };
        if !noted.iter().any(is_worth_it) {
            return Ok(());
        }
        (self.step)("try again");
        let report = self.sweeper.sweep(as_of)?;
        let inputs = inputs(fleet, &report);
        let not_covered = |model: &str| report.not_covered.iter().any(|missed| missed.model == model);
        let mut waits = Vec::new();
        let mut judged: Vec<&str> = Vec::new();
        for waiting in noted.iter().filter(|waiting| models.contains_key(&*waiting.model)) {
            match inputs.get(&waiting.model).and_then(|input| input.late.as_ref()) {
                // Before a later sweep it is judged with the available data: two sweeps cannot share a journal.
                _ if not_covered(&waiting.model) && !is_last => {}
                Some(late) if !is_last && now < waiting.until => {
                    let files = now_there.get(&*waiting.model).cloned().unwrap_or_default();
                    waits.push(self::waiting_model(late, &waiting.model, as_of, (waiting.since, waiting.until), files));
                }
                _ => judged.push(&waiting.model),
            }
        }
        // The figures of the night are replaced only by figures with the same coverage and the same baselines.
        let known = SweepStatus::load(self.store)?.map_or(0, |(status, _)| status.features);
        let renewed = self.store.baseline_entries(None)?.iter().any(|entry| entry.set_at >= as_of);
        if report.not_covered.is_empty() && report.summary.features >= known && !renewed {
            self.sweeper.keep(&report)?;
        }
        let judge = judged.iter().map(|&model| model.to_owned()).collect();
        // An earlier step of this pass may have changed the records.
        let memory = Memory::load(self.store, as_of)?;
        self.conclude((&report, as_of, memory), &judge, (waits, inputs), false)?;
        self.ticked.caught_up.extend(judged.into_iter().map(str::to_owned));
        if self.store.waiting()?.iter().all(|waiting| waiting.as_of != as_of) {
            (self.step)("remove the journal");
            self.sweeper.done()?;
        }
        Ok(())
    }

    /// Removes waiting models that are no longer in the fleet file.
    fn delete_removed(&mut self, models: &[&str], as_of: Timestamp) -> Result<()> {
        self.store.transaction(|store| {
            models.iter().try_for_each(|model| store.end_waiting(model, as_of))?;
            if let Some((mut status, _)) = SweepStatus::load(store)? {
                models.iter().for_each(|model| drop(status.take(model)));
                status.save(store)?;
            }
            Ok(())
        })
    }
}
