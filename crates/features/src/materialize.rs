//! Training and validation sets: features and labels of each row of a spine, in Parquet files with a manifest.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use datafusion::prelude::ident;
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::engine::refused;
use crate::pipeline::{FeaturePipeline, LABEL, Period, ROW_COLUMNS, StagedSpine};
use crate::side_by_side::SideBySide;
use crate::tables::{EventRows, SourceFile};
use crate::write::Written;

/// What the files of a materialised set are called.
pub const TRAINING_FILE: &str = "training.parquet";
/// The file of the validation set.
pub const VALIDATION_FILE: &str = "validation.parquet";
/// The file of the manifest.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The format of manifests.
const FORMAT: &str = "driftsweep.training-set/1";

/// What was materialised, from what, and when it was seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Manifest {
    /// The format of this document.
    pub format: &'static str,
    /// The name of the feature set.
    pub feature_set: String,
    /// The version of the features.
    pub feature_version: String,
    /// The version of the label.
    pub label_version: Option<String>,
    /// Events known at this time or later were left out.
    pub as_of: Timestamp,
    /// The features with their types.
    pub features: IndexMap<String, String>,
    /// The training set; absent where only later rows were materialised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<SetFile>,
    /// The validation set.
    pub validation: SetFile,
    /// Rows of the event tables, and how many of them cannot be used.
    pub events: IndexMap<String, EventRows>,
    /// The files that were read, by table.
    pub sources: IndexMap<String, Vec<SourceFile>>,
}

/// A materialised file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetFile {
    /// Its name in the folder.
    pub file: String,
    /// The first time of prediction; `None` is the first of all.
    pub from: Option<Timestamp>,
    /// The time before which predictions are.
    pub to: Timestamp,
    /// Rows: those of the spine.
    pub rows: u64,
    /// Rows whose label was known.
    pub labelled: u64,
    /// Rows without an id.
    pub without_id: u64,
    /// Missing values of each feature.
    pub missing: IndexMap<String, u64>,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl FeaturePipeline {
    /// The periods of the training and the validation set at a point in time: the validation set ends where labels are
    /// mature, and the training set where the validation set begins.
    ///
    /// # Errors
    /// [`Error::BadValue`] where that is outside of the calendar.
    pub fn periods(&self, as_of: Timestamp) -> Result<[Period; 2]> {
        let outside = |_| Error::BadValue {
            what: "--now".into(),
            reason: "the periods before it are outside of the calendar".into(),
        };
        let maturity = self.set.label.as_ref().map_or(jiff::SignedDuration::ZERO, |label| label.maturity);
        let to = as_of.checked_sub(maturity).map_err(outside)?;
        let begins = to.checked_sub(self.set.validation).map_err(outside)?;
        let from = self.set.training.map(|length| begins.checked_sub(length)).transpose().map_err(outside)?;
        Ok([Period { from, to: begins, as_of }, Period { from: Some(begins), to, as_of }])
    }

    /// Writes the training and the validation set of a point in time, and a manifest, into a folder. A set is in place with its
    /// manifest or not at all: the manifest is removed first and written last.
    ///
    /// # Errors
    /// [`Error::NoRows`] where the training or the validation period has no prediction; [`Error::BadValue`] for a query that fails,
    /// or does not give one row for each row of the spine; [`Error::Write`].
    pub fn materialize(&self, as_of: Timestamp, folder: &Path) -> Result<Manifest> {
        let [training, validation] = self.periods(as_of)?;
        self.write_sets(Some(training), validation, folder)
    }

    /// Writes the rows of predictions from a time on (`None`: the first), up to where labels are mature at a point in time, as a
    /// validation set without a training set. `None` where there is no such prediction; nothing is written then.
    ///
    /// # Errors
    /// Those of [`FeaturePipeline::materialize`].
    pub fn materialize_after(
        &self,
        from: Option<Timestamp>,
        as_of: Timestamp,
        folder: &Path,
    ) -> Result<Option<Manifest>> {
        let [_, validation] = self.periods(as_of)?;
        let period = Period { from, ..validation };
        match from.is_none_or(|from| from < period.to) && self.stage(period)?.rows > 0 {
            true => self.write_sets(None, period, folder).map(Some),
            false => Ok(None),
        }
    }

    /// Writes the sets of periods that follow each other.
    fn write_sets(&self, training: Option<Period>, validation: Period, folder: &Path) -> Result<Manifest> {
        let (write, as_of) = (|source| Error::Write { path: folder.into(), source }, validation.as_of);
        let version = self.version()?;
        std::fs::create_dir_all(folder).map_err(write)?;
        let manifest_file = folder.join(MANIFEST_FILE);
        match std::fs::remove_file(&manifest_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(write(error)),
            _ => {}
        }
        // Both follow each other, so that they are computed in one run.
        let staged = self.stage(Period { to: validation.to, ..training.unwrap_or(validation) })?;
        let split = training.map(|training| Ok::<_, Error>(self.stage(training)?.rows)).transpose()?;
        let later = staged.rows - split.unwrap_or(0);
        for (period, rows) in training.zip(split).into_iter().chain([(validation, later)]) {
            if rows == 0 {
                let from = period.from.map_or_else(String::new, |from| format!(" from {from}"));
                return Err(Error::BadValue {
                    what: format!("feature_set '{}'", self.set.name),
                    reason: format!(
                        "the spine has no prediction{from} to {}; check spine.path and spine.time, or give another --now",
                        period.to
                    ),
                });
            }
        }
        let draft = || draft_in(folder).map_err(write);
        let drafts = [draft()?, draft()?];
        let mut rows = self.rows(&staged, as_of)?;
        let part = |rows: &mut SideBySide<'_>, draft: &NamedTempFile, name: &str, period: Period, most: Option<u64>| {
            let written = rows.write(draft.reopen().map_err(write)?, draft.path(), most)?;
            let mut missing = written.nulls;
            let [_, without_id, _] = ROW_COLUMNS.map(|name| missing.shift_remove(name).unwrap_or(0));
            let unlabelled = missing.shift_remove(LABEL);
            Ok::<_, Error>(SetFile {
                file: name.into(),
                from: period.from,
                to: period.to,
                rows: written.rows,
                labelled: unlabelled.map_or(0, |unlabelled| written.rows - unlabelled),
                without_id,
                missing,
                sha256: digest(draft.path())?,
            })
        };
        let training =
            training.map(|training| part(&mut rows, &drafts[0], TRAINING_FILE, training, split)).transpose()?;
        let validation = part(&mut rows, &drafts[1], VALIDATION_FILE, validation, None)?;
        let names = [training.is_some().then_some(TRAINING_FILE), Some(VALIDATION_FILE)];
        for (draft, name) in drafts.into_iter().zip(names).filter_map(|(draft, name)| Some((draft, name?))) {
            let path = folder.join(name);
            draft.persist(&path).map_err(|e| Error::Write { path, source: e.error })?;
        }
        let manifest = Manifest {
            format: FORMAT,
            feature_set: self.set.name.clone(),
            feature_version: version.features,
            label_version: version.label,
            as_of,
            features: version.columns,
            training,
            validation,
            events: self.event_rows()?,
            sources: self.sources(),
        };
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|e| Error::Write { path: manifest_file.clone(), source: e.into() })?;
        atomic::write(&manifest_file, &text)?;
        Ok(manifest)
    }

    /// Writes the features and labels of a period to one file; returns its rows.
    ///
    /// # Errors
    /// Those of [`FeaturePipeline::materialize`], but a period may be empty.
    pub fn compute(&self, period: Period, path: &Path) -> Result<u64> {
        let staged = self.stage(period)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = |source| Error::Write { path: path.into(), source };
        let draft = draft_in(folder).map_err(write)?;
        let written = self.write_rows(&staged, period.as_of, draft.reopen().map_err(write)?, draft.path())?;
        draft.persist(path).map_err(|e| write(e.error))?;
        Ok(written.rows)
    }

    /// Writes row columns, features and label of a staged spine, in the order of its rows.
    pub(crate) fn write_rows(
        &self,
        staged: &StagedSpine,
        as_of: Timestamp,
        file: File,
        path: &Path,
    ) -> Result<Written> {
        self.rows(staged, as_of)?.write(file, path, None)
    }

    /// Row columns, features and label of a staged spine.
    fn rows(&self, staged: &StagedSpine, as_of: Timestamp) -> Result<SideBySide<'_>> {
        let spine = staged.frame(&self.engine)?;
        let spine = spine.select(ROW_COLUMNS.map(ident).to_vec()).map_err(|e| refused("spine", &e))?;
        let beside = [Some(self.features(staged, as_of)?), self.labels(staged, as_of)?];
        let beside = beside.into_iter().flatten().collect();
        SideBySide::start(&self.engine, spine, beside, &self.what())
    }
}

/// A file that is not in place yet; others may read it as any file.
pub(crate) fn draft_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut draft = tempfile::Builder::new();
    draft.prefix(".driftsweep-");
    #[cfg(unix)]
    draft.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    draft.tempfile_in(folder)
}

/// SHA-256 of a file.
pub(crate) fn digest(path: &Path) -> Result<String> {
    let unreadable = |e: std::io::Error| Error::Unreadable { path: path.into(), reason: e.to_string() };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).map_err(unreadable)? {
            0 => return Ok(atomic::hex(&hash.finalize())),
            n => hash.update(&block[..n]),
        }
    }
}
