//! A baseline for one model: frozen from a training snapshot, checked against the model, and identified by its content.

use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Baseline, BaselineBuilder, BaselineFile};
use crate::count::Counter;
use crate::model::Model;
use crate::snapshot::Snapshot;
use driftsweep_common::address::redacted;
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage::{self, StoredFile};

/// The contents of larger snapshots are not hashed.
const MAX_HASHED_BYTES: u64 = 4 << 30;

impl Baseline {
    /// Counts a training snapshot for a model: its columns as the model reads them, the whole and its segments.
    ///
    /// # Errors
    /// [`Error::BadValue`] for a baseline file, [`Error::NoRows`], those of [`Snapshot::open`] and [`BaselineBuilder::build`].
    pub fn of_model(counter: &dyn Counter, model: &Model, spec: &str, created_at: String) -> Result<Self> {
        let snapshot = training_snapshot(spec)?;
        BaselineBuilder::new(&snapshot)
            .segments(model.segments_in(&snapshot)?)
            .columns(|name| model.use_of(name))
            .options(&model.options)
            .created_at(created_at)
            .build(counter)
    }
}

/// Opens a training snapshot, which must have rows.
///
/// # Errors
/// [`Error::BadValue`] for a baseline file, [`Error::NoRows`], those of [`Snapshot::open`].
pub fn training_snapshot(spec: &str) -> Result<Snapshot> {
    if Baseline::is_baseline_file(Path::new(spec)) {
        return Err(Error::BadValue { what: redacted(spec), reason: "is a baseline file already".into() });
    }
    let snapshot = Snapshot::open(spec)?;
    if snapshot.rows() == 0 { Err(Error::NoRows { path: spec.into() }) } else { Ok(snapshot) }
}

impl BaselineFile {
    /// Checks that a model can be compared with it: its bins, its segments, and at least one column that could be counted.
    ///
    /// # Errors
    /// [`Error::Baseline`] with what does not fit and the remedy.
    pub fn check_for(&self, model: &Model) -> Result<()> {
        let wrong = |reason: String| Err(Error::Baseline { path: self.path().into(), reason });
        if let Some(rules) = model.options.convention.filter(|rules| rules.convention.needs_values()) {
            return wrong(format!(
                "convention {} cuts bins of its own, which a baseline file does not hold; name the training snapshot",
                rules.convention
            ));
        }
        if self.header.rows == 0 {
            return wrong("it was built from a snapshot without rows".into());
        }
        let least = model.options.thresholds.min_rows;
        if self.header.rows < least {
            return wrong(format!(
                "it was built from {} rows, fewer than min_rows = {least}: nothing could be judged by it",
                self.header.rows
            ));
        }
        if self.header.bins != model.options.bins {
            let (has, wants) = (self.header.bins, model.options.bins);
            return wrong(format!(
                "it was built with {has} bins, and the model has {wants}; build it again with --fleet"
            ));
        }
        if !model.has_segments(self.header.segments.iter().map(|segment| (&*segment.name, &segment.slice))) {
            return wrong(
                "it was built with other segments than the fleet file has; build it again with --fleet".into(),
            );
        }
        let mut wanted = self.features().filter(|feature| model.use_of(feature.name()).is_compared()).peekable();
        if wanted.peek().is_none() {
            return wrong("it holds no column that the model compares".into());
        }
        let refused: Vec<&str> = wanted.map_while(|feature| feature.refused().map(|(_, detail)| detail)).collect();
        let columns = self.features().filter(|feature| model.use_of(feature.name()).is_compared()).count();
        match refused.first() {
            Some(detail) if refused.len() == columns => {
                wrong(format!("none of its columns could be counted: {detail}"))
            }
            _ => Ok(()),
        }
    }
}

/// The names of the columns of a baseline file or a snapshot.
fn columns(spec: &str) -> Result<Vec<String>> {
    if Baseline::is_baseline_file(Path::new(spec)) {
        let file = BaselineFile::open(Path::new(spec))?;
        return Ok(file.features().map(|feature| feature.name().to_owned()).collect());
    }
    Ok(Snapshot::open(spec)?.columns().iter().map(|column| column.name.clone()).collect())
}

/// Checks that a new baseline is of the same model: that it has at least half of the features that the model compares
/// now, which are those columns of `former`, the baseline in use, that the fleet file does not leave out. A former
/// baseline that cannot be read does not prevent its replacement.
///
/// # Errors
/// [`Error::Baseline`] with how many it has.
pub fn check_features(model: &Model, place: &str, columns_of_new: &[String], former: &str) -> Result<()> {
    let compared = columns(former).unwrap_or_default();
    let compared: Vec<&String> = compared.iter().filter(|name| model.use_of(name).is_compared()).collect();
    let lacking: Vec<&String> = compared.iter().copied().filter(|name| !columns_of_new.contains(name)).collect();
    if 2 * lacking.len() <= compared.len() {
        return Ok(());
    }
    const MAX_LISTED: usize = 5;
    let named: Vec<String> = lacking
        .iter()
        .take(MAX_LISTED)
        .map(|name| format!("'{}'", driftsweep_common::escape::for_display(name)))
        .collect();
    let more = if lacking.len() > MAX_LISTED { ", …" } else { "" };
    let reason = format!(
        "it has {} of the {} features that the model compares, fewer than half; it lacks {}{more}. If the model was given \
         other features, name the new baseline in the fleet file",
        compared.len() - lacking.len(),
        compared.len(),
        named.join(", ")
    );
    Err(Error::Baseline { path: place.into(), reason })
}

/// SHA-256 of what a baseline file, or the local files of a snapshot, hold; `None` where that is not known, or where
/// too much would have to be read.
pub fn content_hash(spec: &str) -> Option<String> {
    if Baseline::is_baseline_file(Path::new(spec)) {
        return Some(BaselineFile::open(Path::new(spec)).ok()?.content_hash().to_owned());
    }
    if storage::is_remote(spec) {
        return None;
    }
    let files =
        Snapshot::files(spec).ok()?.iter().map(|path| StoredFile::open(path)).collect::<Result<Vec<_>>>().ok()?;
    if files.iter().map(StoredFile::length).sum::<u64>() > MAX_HASHED_BYTES {
        return None;
    }
    let mut hash = Sha256::new();
    let mut bytes = vec![0; 1 << 20];
    for file in &files {
        hash.update(file.length().to_le_bytes());
        let mut reader = file.reader();
        loop {
            match reader.read(&mut bytes).ok()? {
                0 => break,
                n => hash.update(&bytes[..n]),
            }
        }
    }
    Some(hex(&hash.finalize()))
}

/// When the newest file of a baseline was last written; `None` where it is not on a local disk, or not there.
pub fn last_modified(spec: &str) -> Option<Timestamp> {
    if storage::is_remote(spec) {
        return None;
    }
    let files = match Baseline::is_baseline_file(Path::new(spec)) {
        true => vec![Path::new(spec).to_owned()],
        false => Snapshot::files(spec).ok()?,
    };
    let written = |path: &std::path::PathBuf| {
        let modified = std::fs::metadata(path).and_then(|found| found.modified()).ok()?;
        Timestamp::try_from(modified).ok()
    };
    files.iter().filter_map(written).max()
}

/// The name of a model as a file name: no separators, nothing hidden. Names that had to be changed get a part of their hash,
/// so that no two models share a file.
pub fn file_name(model: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = model.chars().map(safe).take(100).collect();
    let name = name.trim_start_matches('.');
    if name == model {
        return name.to_owned();
    }
    let hash = hex(&Sha256::digest(model));
    format!("{name}-{}", &hash[..12])
}
