//! Candidates that are trained: they are judged by the gates of their model.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use indexmap::IndexMap;
use jiff::SignedDuration;

use super::renew::RunPlace;
use super::{JobPass, PassFailure};
use crate::labels::validation::{self, ValidationQuery};
use crate::retrain::{JobState, JobStep};
use crate::store::VersionedJob;
use driftsweep_common::error::{Cause, Error, Result};
use driftsweep_common::{address::Location, storage};
use driftsweep_extensions::executor::ValidationFiles;
use driftsweep_fleet::{Labels, Model, Money, RetrainConfig};
use driftsweep_training::gate::{Gate, GateReport, GateRules, Verdict, evaluate};

/// Files that cannot be read are read again by later passes for this time.
const UNREADABLE_TIME_LIMIT: SignedDuration = SignedDuration::from_hours(1);

impl JobPass<'_> {
    /// The gates of a model, if it has any.
    pub(super) fn rules(&self, model: &str) -> Option<&GateRules> {
        self.models.get(model).and_then(|(model, _)| model.gates.as_ref())
    }

    /// Judges each trained candidate. It is read outside of the transaction that records the verdict: a pass that is killed in
    /// between judges it again.
    pub(super) fn judge_candidates(&mut self) -> Result<()> {
        for versioned in self.jobs_in("gated")? {
            let job = &versioned.job;
            let JobState::Gated { validation, baseline } = &job.state else { continue };
            let Some((model, retrain)) = self.models.get(&*job.model).copied() else { continue };
            if !self.is_trusted(job)? || !self.may_start()? {
                continue;
            }
            (self.step)("judge candidate");
            let champion = self.store.champion(&job.model)?.map(|version| version.version);
            let judged = catch_unwind(AssertUnwindSafe(|| {
                judge(model, retrain, &self.fleet.folder, validation.as_ref(), champion)
            }));
            let judged = judged.unwrap_or_else(|_| {
                Err(Error::BadValue { what: "validation".into(), reason: "this program failed on it".into() })
            });
            let report = match judged {
                Ok(report) => report,
                Err(error) => {
                    let waits = matches!(error.cause(), Cause::Missing | Cause::Unreadable)
                        && self.now.duration_since(job.since) < UNREADABLE_TIME_LIMIT;
                    if waits {
                        let run = format!("{}-{}", job.id, job.attempts);
                        let reason = format!("its candidate cannot be judged: {error}");
                        let failure = PassFailure { model: job.model.clone(), run, reason, permanent: false };
                        self.summary.failures.push(failure);
                        continue;
                    }
                    without_data(error.to_string(), "correct what the training writes, and train again")
                }
            };
            self.conclude_gates(&versioned, retrain, baseline.clone(), report)?;
        }
        Ok(())
    }

    /// Records the verdict of the gates. A baseline is taken over only with the candidate that it belongs to.
    fn conclude_gates(
        &mut self,
        versioned: &VersionedJob,
        retrain: &RetrainConfig,
        baseline: Option<String>,
        report: GateReport,
    ) -> Result<()> {
        let job = &versioned.job;
        let step = match report.accepts() {
            false => JobStep::RejectByGate { report },
            true => {
                let run = RunPlace { model: &job.model, job: &job.id, attempt: job.attempts };
                let (baseline, place) = self.renew(run, retrain, baseline)?;
                JobStep::Succeed { cost: Money::ZERO, baseline, report: Some(report), trained: None, place }
            }
        };
        self.advance(versioned, step).map(drop)
    }
}

/// The report where nothing can be judged.
fn without_data(sentence: String, advice: &str) -> GateReport {
    let verdict = Verdict::InsufficientData;
    let (name, advice) = ("validation".into(), Some(advice.into()));
    let gate = Gate { name, verdict, sentence, advice, figures: IndexMap::new() };
    GateReport { verdict, rows: 0, days: None, gates: vec![gate] }
}

/// Judges a candidate by the files that its training named. `current` is the version that is in production now.
fn judge(
    model: &Model,
    retrain: &RetrainConfig,
    folder: &Path,
    files: Option<&ValidationFiles>,
    current: Option<u64>,
) -> Result<GateReport> {
    let Some(rules) = &model.gates else {
        return Ok(without_data(
            "the fleet file has no gates of the model any more".into(),
            "add [model.gates] again, and train again",
        ));
    };
    let Some(files) = files else {
        let advice = "let the training answer { \"validation\": { \"candidate\": …, \"champion\": …, \"labels\": … } }";
        return Ok(without_data("the training named no predictions of the candidate".into(), advice));
    };
    let Some(declared) = &model.labels else {
        return Ok(without_data(
            "the fleet file does not say which columns hold labels and predictions".into(),
            "add [model.labels]",
        ));
    };
    // Another version may have been promoted while the candidate was trained.
    if let Some(compared) = files.champion_version.filter(|compared| current != Some(*compared)) {
        let now = current.map_or_else(|| "no version".into(), |current| format!("version {current}"));
        let sentence = format!("the candidate was compared with version {compared}, and {now} is in production now");
        return Ok(without_data(sentence, "train again, to compare with that"));
    }
    let folder = retrain.executor.settings().answer_folder().unwrap_or(folder);
    let place = |path: &String| match storage::is_remote(path) {
        true => Location::from(path.clone()),
        false => Location::from(folder.join(path)),
    };
    let labels = Labels { predictions: place(&files.candidate), from: Some(place(&files.labels)), ..declared.clone() };
    if labels.id.is_none() {
        return Ok(without_data(
            "predictions and labels have no id by which they are joined".into(),
            "name it with labels.id",
        ));
    }
    let (champion, features) = (files.champion.as_ref().map(place), files.features.as_ref().map(place));
    let query = ValidationQuery {
        labels: &labels,
        champion: champion.as_ref(),
        time: files.time.as_deref(),
        features: features.as_ref(),
        latency: files.latency.as_deref(),
        rules,
        zone: &model.zone,
    };
    let mut report = evaluate(&validation::read(query, &model.options)?, rules);
    if let Some(compared) = files.champion_version {
        let sentence = format!("the candidate was compared with version {compared}, which is in production");
        let (name, verdict) = ("champion".into(), Verdict::Passed);
        report.gates.insert(0, Gate { name, verdict, sentence, advice: None, figures: IndexMap::new() });
    }
    Ok(report)
}
