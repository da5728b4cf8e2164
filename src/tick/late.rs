//! Data that are late: models whose input is missing or unreadable when their sweep runs are tried again by later ticks,
//! until the deadline of the fleet file, or until the next sweep is due.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use rayon::prelude::*;

use super::Pass;
use crate::error::{Result, Status, is_of_missing_data};
use crate::fleet::{Fleet, Model};
use crate::store::Waiting;
use crate::sweep::{ModelReport, Plan, SweepReport};

/// What is wrong with the input of a model, and may yet come right.
pub struct Input {
    /// In words.
    pub reason: String,
    /// Whether it is not there at all.
    pub missing: bool,
    /// Hash of what it looks like: as long as that is the same, another try ends the same.
    look: String,
}

impl Input {
    /// The note of a model that waits.
    pub fn waits(&self, model: &str, as_of: Timestamp, since: Timestamp, until: Timestamp) -> Waiting {
        let (model, input, reason) = (model.to_owned(), self.look.clone(), self.reason.clone());
        Waiting { model, as_of, since, until, input, reason }
    }
}

/// The models of a report whose input is missing or unreadable.
pub fn inputs(fleet: &Fleet, report: &SweepReport, as_of: Timestamp) -> BTreeMap<String, Input> {
    let models: HashMap<&str, &Model> = fleet.models.iter().map(|model| (&*model.name, model)).collect();
    let mut found: BTreeMap<&str, (&Model, String)> = BTreeMap::new();
    for report in &report.models {
        let Some(&model) = models.get(&*report.model) else { continue };
        if !is_of_labels(model, report)
            && let Some(reason) = problem(report)
        {
            found.entry(&model.name).or_insert((model, reason));
        }
    }
    let input = |(name, (model, reason)): (&str, (&Model, String))| {
        let missing = is_of_missing_data(&reason);
        (name.to_owned(), Input { missing, look: look(fleet, model, as_of), reason })
    };
    found.into_par_iter().map(input).collect()
}

/// Whether a report is about labels only. Labels are often late by nature: nobody waits for them.
fn is_of_labels(model: &Model, report: &ModelReport) -> bool {
    model.windows.iter().any(|window| window.name == report.window && window.only.is_some())
}

/// Why a comparison, or a column of it, cannot be read.
fn problem(report: &ModelReport) -> Option<String> {
    let column = || {
        let feature = report.features.iter().find(|feature| feature.status == Status::Unreadable)?;
        Some(format!("column '{}': {}", feature.name, feature.detail.as_deref().unwrap_or("unreadable")))
    };
    report.error.clone().or_else(column)
}

/// What the input of a model looks like now.
fn look(fleet: &Fleet, model: &Model, as_of: Timestamp) -> String {
    let alone = fleet.with_only(model).at(as_of);
    Plan::new(&alone, as_of).fingerprint()
}

/// What of a model could not be compared.
pub fn failures(reports: &[&ModelReport]) -> Vec<String> {
    let whole = reports.iter().filter_map(|report| report.error.clone());
    let columns = reports.iter().flat_map(|report| &report.features).filter(|feature| feature.status.is_failure());
    let columns = columns.map(|feature| {
        let detail = feature.detail.as_deref().unwrap_or(feature.status.name());
        format!("column '{}': {detail}", feature.name)
    });
    whole.chain(columns).collect()
}

impl Pass<'_> {
    /// Tries the models again that wait for their data. Before the next sweep (`due`) it is the last time.
    pub(super) fn catch_up(&mut self, due: bool) -> Result<()> {
        let waiting = self.store.waiting()?;
        let mut sweeps: Vec<Timestamp> = waiting.iter().map(|waiting| waiting.as_of).collect();
        sweeps.dedup();
        for as_of in sweeps {
            let noted: Vec<&Waiting> = waiting.iter().filter(|waiting| waiting.as_of == as_of).collect();
            self.catch_up_with(as_of, &noted, due)?;
        }
        Ok(())
    }

    fn catch_up_with(&mut self, as_of: Timestamp, noted: &[&Waiting], due: bool) -> Result<()> {
        let (fleet, now) = (self.fleet, self.now);
        let models: BTreeMap<&str, &Model> = fleet.models.iter().map(|model| (&*model.name, model)).collect();
        let is_worth_it = |waiting: &&Waiting| {
            let model = models.get(&*waiting.model);
            model.is_some_and(|model| due || now >= waiting.until || look(fleet, model, as_of) != waiting.input)
        };
        let gone = noted.iter().filter(|waiting| !models.contains_key(&*waiting.model));
        gone.clone().try_for_each(|waiting| self.store.end_waiting(&waiting.model, as_of))?;
        if !noted.par_iter().any(is_worth_it) {
            return Ok(());
        }
        (self.step)("try again");
        let report = self.sweeper.sweep(as_of)?;
        let inputs = inputs(fleet, &report, as_of);
        let not_covered = |model: &str| report.not_covered.iter().any(|missed| missed.model == model);
        let mut waits = Vec::new();
        let mut judged: Vec<&str> = Vec::new();
        for waiting in noted.iter().filter(|waiting| models.contains_key(&*waiting.model)) {
            match inputs.get(&waiting.model) {
                _ if not_covered(&waiting.model) => {}
                Some(input) if !due && now < waiting.until => {
                    waits.push(input.waits(&waiting.model, as_of, waiting.since, waiting.until));
                }
                _ => judged.push(&waiting.model),
            }
        }
        let judge = judged.iter().map(|&model| model.to_owned()).collect();
        self.conclude(&report, as_of, &judge, (waits, inputs), false)?;
        self.ticked.caught_up.extend(judged.into_iter().map(str::to_owned));
        if self.store.waiting()?.iter().all(|waiting| waiting.as_of != as_of) {
            (self.step)("let go of the sweep");
            self.sweeper.done()?;
        }
        Ok(())
    }
}
