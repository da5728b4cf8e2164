//! How a sweep went, model by model. It is kept until the next sweep, so that a retry of the scheduler does not hide a
//! failure, and until it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::{Acknowledged, Store};
use crate::sweep::SweepReport;

/// How a sweep went. Everything is by model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepStatus {
    /// The time the sweep counts as.
    pub as_of: Timestamp,
    /// Its name.
    pub id: String,
    /// Whether the turn of every model came before the deadline.
    pub complete: bool,
    /// Models that were swept.
    pub models: usize,
    /// Features that were compared or tried.
    pub features: usize,
    /// Features that drifted.
    pub drifted: usize,
    /// Models whose data are missing or unreadable: they are tried again.
    pub waiting: BTreeMap<String, Waits>,
    /// What could not be compared, or read.
    pub failures: BTreeMap<String, Vec<String>>,
    /// Columns that were added, went, or changed their type.
    pub schema: BTreeMap<String, Vec<String>>,
    /// What could be read and not be judged, each with the reason.
    pub not_judged: BTreeMap<String, Vec<String>>,
    /// Metrics beyond their warning level.
    pub warnings: BTreeMap<String, String>,
    /// Retrain events that were opened at this sweep, or since.
    pub events: Vec<String>,
    /// What was found at the sweep before, of models that were not judged at this one yet: it is not told again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub former: BTreeMap<String, Vec<String>>,
}

/// What a model waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// Until when.
    pub until: Timestamp,
    /// What is wrong with its data.
    pub reason: String,
}

impl SweepStatus {
    /// Of a sweep of which nothing is known yet, after another one.
    pub fn begin(as_of: Timestamp, report: &SweepReport, before: Option<&Self>) -> Self {
        let mut former = before.map_or_else(BTreeMap::new, |before| before.former.clone());
        for (model, found) in before.iter().flat_map(|before| before.failures.iter().chain(&before.schema)) {
            former.entry(model.clone()).or_default().extend(found.iter().cloned());
        }
        Self { as_of, id: report.id.clone(), former, ..Self::default() }
    }

    /// Whether the same was wrong with a model's data before, whatever day their paths name.
    pub fn is_known_but_for_days(&self, model: &str, reason: &str) -> bool {
        let without = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let wanted = without(reason);
        let found = [&self.former, &self.failures].into_iter().filter_map(|found| found.get(model));
        found.flatten().any(|one| without(one) == wanted)
    }

    /// Whether the same was found of a model before.
    pub fn is_known(&self, model: &str, reason: &str) -> bool {
        [&self.former, &self.failures, &self.schema]
            .into_iter()
            .any(|found| found.get(model).is_some_and(|all| all.iter().any(|one| one == reason)))
    }

    /// Takes the totals of a report, unless they were taken of one that covers more.
    pub fn total(&mut self, report: &SweepReport) {
        if self.complete && (!report.not_covered.is_empty() || report.summary.features < self.features) {
            return;
        }
        self.complete = report.not_covered.is_empty();
        self.models = report.summary.models;
        self.features = report.summary.features;
        self.drifted = report.summary.drifted;
    }

    /// Takes out what was found of a model, for it is looked at again: a status of that model only.
    pub fn take(&mut self, model: &str) -> Self {
        fn moved<T>(all: &mut BTreeMap<String, T>, model: &str) -> BTreeMap<String, T> {
            all.remove_entry(model).into_iter().collect()
        }
        Self {
            waiting: moved(&mut self.waiting, model),
            failures: moved(&mut self.failures, model),
            schema: moved(&mut self.schema, model),
            not_judged: moved(&mut self.not_judged, model),
            warnings: moved(&mut self.warnings, model),
            former: moved(&mut self.former, model),
            ..Self::default()
        }
    }

    /// Whether there is nothing to look at.
    pub fn is_quiet(&self) -> bool {
        self.complete && self.drifted == 0 && self.findings().is_empty()
    }

    /// Whether something could not be compared or read.
    pub fn is_partial(&self) -> bool {
        !self.waiting.is_empty() || !self.failures.is_empty()
    }

    /// Everything there is to look at, to tell whether there is more of it than before.
    fn findings(&self) -> BTreeSet<(&str, &str)> {
        let several = [&self.failures, &self.schema, &self.not_judged];
        let several = several.into_iter().flatten().flat_map(|(model, all)| all.iter().map(move |one| (model, one)));
        let found = several.chain(&self.warnings).map(|(model, text)| (model.as_str(), text.as_str()));
        let waiting = self.waiting.iter().map(|(model, waits)| (model.as_str(), waits.reason.as_str()));
        let events = self.events.iter().map(|event| ("", event.as_str()));
        found.chain(waiting).chain(events).collect()
    }

    /// The status of the last sweep, and who has acknowledged it; `None` before the first sweep.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadValue`].
    pub fn load(store: &mut Store) -> Result<Option<(Self, Option<Acknowledged>)>> {
        let Some((body, acknowledged)) = store.status()? else { return Ok(None) };
        let status = serde_json::from_str(&body)
            .map_err(|e| Error::BadValue { what: "status of the last sweep".into(), reason: e.to_string() })?;
        Ok(Some((status, acknowledged)))
    }

    /// Writes it down, inside a transaction. Who has acknowledged the same sweep has not seen what is new since.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadValue`].
    pub fn save(&self, store: &mut Store) -> Result<()> {
        let known = Self::load(store)?;
        let body = serde_json::to_string(self)
            .map_err(|e| Error::BadValue { what: "status of the sweep".into(), reason: e.to_string() })?;
        store.set_status(self.as_of, &body)?;
        match known {
            Some((known, Some(Acknowledged { at, by, reason })))
                if known.as_of == self.as_of && self.findings().is_subset(&known.findings()) =>
            {
                store.acknowledge(at, &by, &reason).map(drop)
            }
            _ => Ok(()),
        }
    }
}
