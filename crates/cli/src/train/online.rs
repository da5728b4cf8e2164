//! `driftsweep train --online`: an online model follows the labels that have become known.
//!
//! The folder of the output has one folder for each step, which is named by the time up to which the model has learned by then. A
//! step begins with the newest of them and adds the next: an interrupted step leaves nothing, and a repeated one finds nothing new.
//!
//! New rows are judged before they are learned. A prediction of a day is made by the model that had learned what was known at the
//! beginning of that day: labels of predictions that were older by their maturity. So each step keeps two states of the model: that
//! after all rows, and the earlier one ([`LAG`]) that the next step begins to judge with. Labels that came after their maturity are
//! left out, so that nights in a row and one step over all of them learn the same.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_features::{MANIFEST_FILE, Manifest, SetRows};
use driftsweep_fleet::TrainerChoice;
use driftsweep_trainers::{FitReport, Objective, Settings, load};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::super::features::{WRONG, blocked, open};
use super::super::model_card::{self, ARTEFACT_FOLDER, CARD};
use super::super::{TextFormat, invalid_value, write_json};
use super::candidate::{self, Judged, LearnedRows, Training};
use super::fit::{ARTEFACT, fit_rows, objective_of_training, predict_rows};
use super::task::Task;

/// Steps are named by times in UTC, so that the last name is the newest.
const NAME: &str = "%Y%m%dT%H%M%SZ";

/// What a step in the making is called.
const DRAFT: &str = ".driftsweep-step-";

/// The state of the model that had learned what was known when the step was made, in the folder of a step.
const LAG: &str = "lag.bin";

/// A prediction is made by what was known at the beginning of its day: the model follows once a day.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A model as the last step has left it.
struct Last {
    folder: PathBuf,
    card: Value,
    /// The state that has learned predictions before `to`, less the maturity of labels.
    lag: Vec<u8>,
    /// The model has learned predictions before this time.
    to: Timestamp,
}

pub fn run(task: &Task<'_>) -> anyhow::Result<u8> {
    let TrainerChoice::BuiltIn(settings @ Settings::Online(_)) = task.trainer.choice else {
        let reason =
            "only the trainer `online` follows new labels; set trainer = { kind = \"online\" }, or leave it out";
        return Err(invalid_value("--online", reason));
    };
    let output = &task.args.output;
    if output.join(CARD).exists() || output.join(MANIFEST_FILE).exists() {
        return Err(invalid_value("--output", "is the folder of a model; name another one, for the steps of --online"));
    }
    remove_drafts(output)?;
    let last = last_step(output)?;
    let pipeline = open(task.set, task.limits, task.args.limits.scratch())?.with_labels_in_time();
    let version = pipeline.version()?;
    if let Some(last) = &last {
        task.check_same("--output", &last.card, &version)?;
    }
    if let Some(champion) = &task.champion {
        champion.check(&version, &task.model.name)?;
    }
    if !task.args.allow_skew && blocked(&pipeline, task.as_of)? {
        return Ok(WRONG);
    }
    // Steps are named by whole seconds.
    let as_of = Timestamp::from_second(task.as_of.as_second()).unwrap_or(task.as_of);
    let [training, validation] = pipeline.periods(as_of)?;
    let folder = output.join(validation.to.strftime(NAME).to_string());
    if folder.exists() && last.as_ref().is_none_or(|last| last.to < validation.to) {
        let reason = format!("{} is in the way, and is no step; remove it", folder.display());
        return Err(invalid_value("--output", &reason));
    }
    let maturity = task.set.label.as_ref().map_or(SignedDuration::ZERO, |label| label.maturity);
    let outside = || invalid_value("--now", "the periods before it are outside of the calendar");
    let (from, judged_from) = match &last {
        None => (training.from, training.to),
        Some(last) => (Some(last.to.checked_sub(maturity).map_err(|_| outside())?), last.to),
    };
    let draft = draft_in(output)?;
    let new = judged_from < validation.to;
    let manifest = if new { pipeline.materialize_after(from, as_of, draft.path())? } else { None };
    drop(pipeline);
    let Some(manifest) = manifest else { return nothing_new(task, last.as_ref()) };
    let rows = SetRows::read(&draft.path().join(&manifest.validation.file))?;
    let step = Step { task, settings, manifest: &manifest, judged_from, maturity, folder: draft.path() };
    let Some(card) = step.make(&rows, last.as_ref())? else { return nothing_new(task, last.as_ref()) };
    candidate::write_card(&card, draft.path())?;
    fs::rename(draft.path(), &folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
    candidate::answer(&serde_json::to_value(&card)?, &folder, None)?;
    candidate::show(&card, &folder, task.args.format)?;
    Ok(0)
}

/// The folder of a step in the making; others may read it as any folder.
fn draft_in(output: &Path) -> Result<tempfile::TempDir> {
    let mut draft = tempfile::Builder::new();
    draft.prefix(DRAFT);
    #[cfg(unix)]
    draft.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    draft.tempdir_in(output).map_err(|source| Error::Write { path: output.into(), source })
}

/// Where no label has become known since the last step. A job has nothing to judge then, and fails, unless it was interrupted
/// after it had made that step.
fn nothing_new(task: &Task<'_>, last: Option<&Last>) -> anyhow::Result<u8> {
    let since = last.map_or_else(String::new, |last| format!(" of predictions since {}", last.to));
    if candidate::is_of_a_job() {
        if let Some(last) = last.filter(|last| candidate::is_of_this_job(&last.card)) {
            candidate::answer(&last.card, &last.folder, None)?;
            say!("this job has made {} before; it is answered with", last.folder.display());
            return Ok(0);
        }
        return Err(Error::Unreadable {
            path: task.args.output.as_path().into(),
            reason: format!("no new label{since} is known, so that there is nothing to learn or to judge; train later"),
        }
        .into());
    }
    match (task.args.format, last) {
        (TextFormat::Json, Some(last)) => write_json(&last.card)?,
        _ => say!("no new label{since} is known; nothing was learned"),
    }
    Ok(0)
}

/// Removes what an interrupted step has left.
fn remove_drafts(output: &Path) -> Result<()> {
    let write = |source| Error::Write { path: output.into(), source };
    for entry in fs::read_dir(output).map_err(write)? {
        let entry = entry.map_err(write)?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && entry.file_name().to_string_lossy().starts_with(DRAFT) {
            fs::remove_dir_all(entry.path()).map_err(write)?;
        }
    }
    Ok(())
}

/// The newest step in a folder.
fn last_step(output: &Path) -> Result<Option<Last>> {
    let unreadable = |path: &Path, reason: String| Error::Unreadable { path: path.into(), reason };
    let entries = fs::read_dir(output).map_err(|e| unreadable(output, e.to_string()))?;
    let is_step = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        jiff::civil::DateTime::strptime(NAME, &name).is_ok() && path.join(CARD).exists()
    };
    let Some(folder) = entries.flatten().map(|entry| entry.path()).filter(is_step).max() else { return Ok(None) };
    let read = || {
        let card = model_card::read(&folder)?;
        model_card::check_artefact(&folder, &card)?;
        let path = folder.join(LAG);
        let lag = fs::read(&path).map_err(|e| unreadable(&path, e.to_string()))?;
        if card["lag"] != *model_card::digest(&lag) {
            return Err(unreadable(&path, format!("it is not the state that {CARD} describes; it was changed since")));
        }
        let to = card["training"]["to"].as_str().and_then(|to| to.parse().ok());
        let to = to.ok_or_else(|| unreadable(&folder, format!("its {CARD} does not say up to when it has learned")))?;
        Ok((card, lag, to))
    };
    let (card, lag, to) = read().map_err(|error| {
        let remedy = "remove this folder, to go on from the step before";
        unreadable(&folder, format!("the last step cannot be continued: {error}; {remedy}"))
    })?;
    Ok(Some(Last { folder, card, lag, to }))
}

/// A step in the making.
struct Step<'a> {
    task: &'a Task<'a>,
    settings: &'a Settings,
    manifest: &'a Manifest,
    /// Rows of predictions from this time on are new.
    judged_from: Timestamp,
    maturity: SignedDuration,
    folder: &'a Path,
}

/// A model that learns rows in their order.
struct Learner<'a> {
    settings: &'a Settings,
    threads: NonZeroUsize,
    kind: Objective,
    state: Option<Vec<u8>>,
    rows: &'a SetRows,
    /// How many of the rows it has learned.
    learned: usize,
    report: FitReport,
}

impl Learner<'_> {
    /// Learns rows up to one.
    fn learn(&mut self, until: usize) -> Result<()> {
        if until > self.learned {
            let part = self.rows.part(self.learned..until);
            let (state, report) = fit_rows(self.settings, &part, self.kind, self.state.as_deref(), self.threads)?;
            if report.skipped > 0 {
                let reason = format!(
                    "{} rows were learned before, which {CARD} does not say; name an empty folder, to begin anew",
                    report.skipped
                );
                return Err(Error::BadValue { what: "--output".into(), reason });
            }
            self.report.learned += report.learned;
            (self.state, self.learned) = (Some(state), until);
        }
        Ok(())
    }

    fn state(&self) -> Result<&[u8]> {
        let reason = "there is no row that was known before the validation set; give a longer training period";
        self.state.as_deref().ok_or_else(|| Error::BadValue { what: "training".into(), reason: reason.into() })
    }
}

impl Step<'_> {
    /// Judges the new rows, learns them, and leaves all in the folder. `None` without a new label.
    fn make(&self, rows: &SetRows, last: Option<&Last>) -> anyhow::Result<Option<candidate::ModelCard>> {
        let labelled = rows.labelled()?;
        let new_rows = rows.rows() - row_at(rows, self.judged_from)?;
        let begins = row_at(&labelled, self.judged_from)?;
        if labelled.rows() == begins {
            return Ok(None);
        }
        let kind = match last {
            Some(last) => load(&last.lag).map_err(|e| invalid_value("--output", &e.to_string()))?.objective(),
            None => objective_of_training(&labelled.part(0..begins).labels()?)?,
        };
        let judged = Judged::of(labelled.part(begins..labelled.rows()), kind, self.task.model.labels.as_ref())?;
        let mut learner = Learner {
            settings: self.settings,
            threads: NonZeroUsize::new(self.task.limits.threads).unwrap_or(NonZeroUsize::MIN),
            kind,
            state: last.map(|last| last.lag.clone()),
            rows: &labelled,
            learned: 0,
            report: FitReport::default(),
        };
        let scores = self.follow(&mut learner, begins)?;
        // What the next step begins to judge with, and then all.
        learner.learn(self.known(&labelled, self.manifest.validation.to)?)?;
        let lag = learner.state()?.to_vec();
        learner.learn(labelled.rows())?;
        let artefact = self.folder.join(ARTEFACT_FOLDER);
        fs::create_dir_all(&artefact).map_err(|source| Error::Write { path: artefact.clone(), source })?;
        atomic::write(&artefact.join(ARTEFACT), learner.state()?)?;
        atomic::write(&self.folder.join(LAG), &lag)?;
        let before = last.map_or(begins as u64, |last| last.card["training"]["labelled"].as_u64().unwrap_or(0));
        let from = match last {
            Some(last) => last.card["training"]["from"].as_str().and_then(|from| from.parse().ok()),
            None => self.manifest.validation.from,
        };
        let new_labels = (labelled.rows() - begins) as u64;
        let to = self.manifest.validation.to;
        let learned = LearnedRows { from, to, labelled: before + new_labels, set: None };
        let mut manifest = self.manifest.clone();
        let validation = &mut manifest.validation;
        (validation.from, validation.rows, validation.labelled) = (Some(self.judged_from), new_rows as u64, new_labels);
        let training = Training {
            manifest: &manifest,
            model: self.task.model,
            files: model_card::digests(&artefact)?,
            learned,
            lag: Some(model_card::digest(&lag)),
            report: Some(FitReport { learned: labelled.rows() - begins, ..learner.report }),
        };
        let scratch =
            tempfile::tempdir_in(self.folder).map_err(|source| Error::Write { path: self.folder.into(), source })?;
        Ok(Some(self.task.judge(training, &judged, &scores, self.folder, scratch.path())?))
    }

    /// The first row that was not known yet at a time: of a prediction that is not older than the maturity of labels.
    fn known(&self, rows: &SetRows, at: Timestamp) -> Result<usize> {
        at.checked_sub(self.maturity).map_or(Ok(0), |before| row_at(rows, before))
    }

    /// The scores of the rows from one on: each day's by what was known at its beginning.
    fn follow(&self, learner: &mut Learner<'_>, begins: usize) -> Result<Vec<f64>> {
        let (rows, mut scores) = (learner.rows, Vec::new());
        let total = rows.rows() - begins;
        let mut day = self.judged_from;
        while scores.len() < total {
            let next = day.checked_add(DAY).unwrap_or(Timestamp::MAX);
            let from = begins + scores.len();
            let until = if next == Timestamp::MAX { rows.rows() } else { row_at(rows, next)? };
            // Days without a row are passed over.
            if until > from {
                learner.learn(self.known(rows, day)?)?;
                scores.extend(predict_rows(learner.state()?, &rows.part(from..until))?);
            }
            day = next;
        }
        Ok(scores)
    }
}

/// The first row of a prediction at a time or later.
fn row_at(rows: &SetRows, time: Timestamp) -> Result<usize> {
    rows.first_at(time.as_nanosecond())
}
