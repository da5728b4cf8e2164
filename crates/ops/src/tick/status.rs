//! The status of a sweep, by model. It is kept until the next sweep, so that a retry of the scheduler does not hide a
//! failure, or until it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::formats::SWEEP_STATUSES;
use crate::store::{Acknowledgement, Store};
use driftsweep::sweep::SweepReport;
use driftsweep_common::error::{Cause, Error, Fault, Result};

/// The status of a sweep, by model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepStatus {
    /// The time the sweep counts as.
    pub as_of: Timestamp,
    /// Its name.
    pub id: String,
    /// Whether every model was covered before the deadline.
    pub complete: bool,
    /// Models that were swept.
    pub models: usize,
    /// Features that were compared or tried.
    pub features: usize,
    /// Features that drifted.
    pub drifted: usize,
    /// Models whose data are missing or unreadable, and that are retried.
    pub waiting: BTreeMap<String, WaitStatus>,
    /// Failures: what could not be compared, or read.
    #[serde(deserialize_with = "faults")]
    pub failures: BTreeMap<String, Vec<Fault>>,
    /// Columns that were added, removed, or changed their type.
    pub schema: BTreeMap<String, Vec<String>>,
    /// What could be read but not judged, each with the reason.
    pub not_judged: BTreeMap<String, Vec<String>>,
    /// Triggers that fired and opened no event, because rows that decide about that are not what the audit says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, Vec<String>>,
    /// Metrics beyond their warning level.
    pub warnings: BTreeMap<String, String>,
    /// Retrain events that were opened at this sweep, or since.
    pub events: Vec<String>,
    /// Findings of the previous sweep, for models that are not judged yet: they are not reported again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "faults")]
    pub former: BTreeMap<String, Vec<Fault>>,
}

/// The status of a waiting model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitStatus {
    /// Until when.
    pub until: Timestamp,
    /// Whether its data are missing or unreadable.
    #[serde(default = "unknown")]
    pub cause: Cause,
    /// What is wrong with its data.
    pub reason: String,
}

/// The cause of faults from older versions, which did not record it.
fn unknown() -> Cause {
    Cause::Unreadable
}

/// Faults, also in the form of older versions: only as text.
fn faults<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<BTreeMap<String, Vec<Fault>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Fault(Fault),
        Words(String),
    }
    let found = BTreeMap::<String, Vec<Either>>::deserialize(from)?;
    let fault = |either| match either {
        Either::Fault(fault) => fault,
        Either::Words(reason) => Fault::new(unknown(), reason),
    };
    Ok(found.into_iter().map(|(model, all)| (model, all.into_iter().map(fault).collect())).collect())
}

/// A change of columns as a fault.
fn of_schema(change: &str) -> Fault {
    Fault::new(Cause::Schema, change)
}

impl SweepStatus {
    /// The initial status of a sweep, after another one.
    pub fn begin(as_of: Timestamp, report: &SweepReport, before: Option<&Self>) -> Self {
        let mut former = before.map_or_else(BTreeMap::new, |before| before.former.clone());
        if let Some(before) = before {
            for (model, found) in &before.failures {
                former.entry(model.clone()).or_default().extend(found.iter().cloned());
            }
            for (model, found) in &before.schema {
                former.entry(model.clone()).or_default().extend(found.iter().map(|change| of_schema(change)));
            }
        }
        Self { as_of, id: report.id.clone(), former, ..Self::default() }
    }

    /// Whether the same was found of a model before.
    pub fn is_known(&self, model: &str, fault: &Fault) -> bool {
        let found = [&self.former, &self.failures].into_iter().filter_map(|found| found.get(model)).flatten();
        let changes = self.schema.get(model).into_iter().flatten();
        found.cloned().chain(changes.map(|change| of_schema(change))).any(|known| known.is_like(fault))
    }

    /// Whether the same change of columns was found of a model before.
    pub fn is_known_change(&self, model: &str, change: &str) -> bool {
        self.is_known(model, &of_schema(change))
    }

    /// Takes the totals of a report, unless the current ones cover more.
    pub fn total(&mut self, report: &SweepReport) {
        if self.complete && (!report.not_covered.is_empty() || report.summary.features < self.features) {
            return;
        }
        self.complete = report.not_covered.is_empty();
        self.models = report.summary.models;
        self.features = report.summary.features;
        self.drifted = report.summary.drifted;
    }

    /// The number of failures; a waiting model counts as one.
    pub fn failed(&self) -> usize {
        self.failures.values().map(Vec::len).sum::<usize>() + self.waiting.len()
    }

    /// Removes the findings of a model that is judged again; returns them as a status.
    pub fn take(&mut self, model: &str) -> Self {
        fn moved<T>(all: &mut BTreeMap<String, T>, model: &str) -> BTreeMap<String, T> {
            all.remove_entry(model).into_iter().collect()
        }
        Self {
            waiting: moved(&mut self.waiting, model),
            failures: moved(&mut self.failures, model),
            schema: moved(&mut self.schema, model),
            not_judged: moved(&mut self.not_judged, model),
            refused: moved(&mut self.refused, model),
            warnings: moved(&mut self.warnings, model),
            former: moved(&mut self.former, model),
            ..Self::default()
        }
    }

    /// Whether there are no findings.
    pub fn is_quiet(&self) -> bool {
        self.complete && self.drifted == 0 && self.findings().is_empty()
    }

    /// Whether something could not be compared or read, or no event was to be opened by it.
    pub fn is_partial(&self) -> bool {
        !(self.waiting.is_empty() && self.failures.is_empty() && self.refused.is_empty())
    }

    /// All findings, to see whether there are new ones.
    fn findings(&self) -> BTreeSet<(&str, &str)> {
        let several = [&self.schema, &self.not_judged, &self.refused];
        let several = several.into_iter().flatten().flat_map(|(model, all)| all.iter().map(move |one| (model, one)));
        let failed = self.failures.iter().flat_map(|(model, all)| all.iter().map(move |one| (model, &one.reason)));
        let found = several.chain(failed).chain(&self.warnings).map(|(model, text)| (model.as_str(), text.as_str()));
        let waiting = self.waiting.iter().map(|(model, waits)| (model.as_str(), waits.reason.as_str()));
        let events = self.events.iter().map(|event| ("", event.as_str()));
        found.chain(waiting).chain(events).collect()
    }

    /// The status of the last sweep, and its acknowledgement; `None` before the first sweep. One that cannot be read is
    /// among [`Store::unreadable`], and counts as none: the next sweep has its own.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn load(store: &mut Store) -> Result<Option<(Self, Option<Acknowledgement>)>> {
        let Some((body, acknowledged)) = store.status()? else { return Ok(None) };
        let read = body.and_then(|body| SWEEP_STATUSES.read(&body).map_err(|e| e.to_string()));
        match read {
            Ok(status) => Ok(Some((status, acknowledged))),
            Err(reason) => {
                store.set_aside("status", "of the last sweep", reason);
                Ok(None)
            }
        }
    }

    /// Writes it, inside a transaction. New findings remove an acknowledgement of the same sweep.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadValue`].
    pub fn save(&self, store: &mut Store) -> Result<()> {
        let known = Self::load(store)?;
        let body = SWEEP_STATUSES
            .write(self)
            .map_err(|e| Error::BadValue { what: "status of the sweep".into(), reason: e.to_string() })?;
        store.set_status(self.as_of, &body)?;
        match known {
            Some((known, Some(Acknowledgement { at, by, reason })))
                if known.as_of == self.as_of && self.findings().is_subset(&known.findings()) =>
            {
                store.acknowledge(at, &by, &reason).map(drop)
            }
            _ => Ok(()),
        }
    }
}
