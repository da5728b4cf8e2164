//! The history of a fleet: what every sweep found, as a Parquet data set partitioned by date, one file a sweep and one
//! row a figure. Lakehouses, DuckDB and polars can read it directly.

mod encode;
mod past;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

pub use self::past::past_report;
use crate::snapshot::Snapshot;
use crate::sweep::SweepReport;
use crate::sweep::flat;
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage;
use driftsweep_common::versioned::Format;

/// The form of history files. A further column needs no further version: others are read by their names.
const FORMAT: Format = Format::new("history files", &[]);

/// The entry of the metadata of a file with its version. The first files were written without.
const VERSION: &str = "driftsweep.history";

/// One figure of one feature in one sweep.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct HistoryEntry {
    /// Which sweep.
    pub sweep: String,
    /// The time it counts as.
    pub as_of: Timestamp,
    /// Name of the model.
    pub model: String,
    /// Name of the window; empty where the model has only one.
    pub window: String,
    /// Name of the segment; empty for the whole.
    pub segment: String,
    /// Name of the feature; empty for a model that could not be compared at all.
    pub feature: String,
    /// How it was read: `numeric` or `categorical`.
    pub kind: String,
    /// Whether its figures mean what they say.
    pub status: String,
    /// Whether it drifted.
    pub drifted: bool,
    /// Which figure; empty for a feature without any.
    pub metric: String,
    /// The figure.
    pub value: Option<f64>,
}

/// The columns with the parts of a report, as JSON: a comparison without its features, in the row of its first feature; and a
/// feature, in the row of its first figure. Elsewhere they are null.
const COMPARISON: &str = "comparison";
const REPORT: &str = "report";

/// The entry of the metadata of a file with the report of the sweep, as JSON, without its comparisons.
const SWEEP: &str = "driftsweep.sweep";

/// The name used in place of a figure where a column was added, removed or changed its type; the status says which.
pub const SCHEMA: &str = "schema";

/// The name of a sweep: its time, and part of a hash of the names of the fleet and of its models, so that fleets which
/// share a history do not overwrite each other.
pub fn sweep_id<'a>(fleet: &str, models: impl Iterator<Item = &'a str>, as_of: Timestamp) -> String {
    let mut hash = Sha256::new_with_prefix(as_of.to_string());
    hash.update(fleet);
    for model in models {
        hash.update((model.len() as u64).to_le_bytes());
        hash.update(model);
    }
    format!("{}-{}", as_of.strftime("%Y%m%dT%H%M%SZ"), &hex(&hash.finalize())[..12])
}

/// Appends a sweep to the history in a folder, local or in an object store. Appending the same sweep again replaces it.
///
/// # Errors
/// [`Error::Write`].
pub fn append(folder: &Path, report: &SweepReport, as_of: Timestamp) -> Result<PathBuf> {
    let path = storage::join(folder, &format!("date={}/{}.parquet", as_of.strftime("%F"), report.id));
    let bytes = encode::encode(report, as_of)
        .map_err(|reason| Error::Write { path: path.clone(), source: std::io::Error::other(reason) })?;
    storage::write(&path, &bytes)?;
    Ok(path)
}

/// A filter of the history.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this model.
    pub model: Option<String>,
    /// Only this feature.
    pub feature: Option<String>,
    /// Only these figures, and entries without a figure; all if empty.
    pub metrics: Vec<String>,
    /// Sweeps since this time.
    pub since: Option<Timestamp>,
    /// Only features that drifted.
    pub drifted: bool,
}

/// Reads a history: oldest sweep first, each in the order of its report; and the errors of files that cannot be read.
///
/// # Errors
/// [`Error::NotFound`] where there is none; [`Error::UnknownName`] for a figure.
pub fn read(folder: &Path, filter: &Filter) -> Result<(Vec<HistoryEntry>, Vec<Error>)> {
    let mut entries = Vec::new();
    let unreadable = each(folder, filter, |entry| entries.push(entry))?;
    entries.sort_by_key(|entry| entry.as_of);
    Ok((entries, unreadable))
}

/// The same, entry by entry, with one file in memory at a time; days in order, and the sweeps of a day in order of
/// their names.
///
/// # Errors
/// Those of [`read`].
pub fn each(folder: &Path, filter: &Filter, mut of: impl FnMut(HistoryEntry)) -> Result<Vec<Error>> {
    let first = filter.since.map(|since| since.to_zoned(TimeZone::UTC).date());
    let files = files(folder, |day| first.is_none_or(|first| day >= first))?;
    for name in &filter.metrics {
        let known = || flat::figure_names().chain([SCHEMA]);
        if !known().any(|known| known == name) {
            return Err(Error::unknown("figure", name, known()));
        }
    }
    let mut unreadable = Vec::new();
    for file in files {
        match read_file(&file, filter) {
            Ok(found) => found.into_iter().for_each(&mut of),
            Err(error) => unreadable.push(error),
        }
    }
    Ok(unreadable)
}

/// The files of the wanted days, in order of their days and names.
fn files(folder: &Path, wanted: impl Fn(Date) -> bool) -> Result<Vec<PathBuf>> {
    let is_wanted = |file: &PathBuf| {
        let date = file.parent().and_then(|date| date.file_name()).and_then(|name| name.to_str());
        let day = date.and_then(|name| name.strip_prefix("date=")?.parse().ok());
        file.extension().is_some_and(|extension| extension == "parquet") && day.is_some_and(&wanted)
    };
    Ok(storage::list(folder)?.into_iter().filter(is_wanted).collect())
}

/// A file of a sweep on a day after that of a time, if there is one: the last.
///
/// # Errors
/// Where the folder cannot be read.
pub fn file_after(folder: &Path, at: Timestamp) -> Result<Option<PathBuf>> {
    let day = at.to_zoned(TimeZone::UTC).date();
    Ok(files(folder, |other| other > day)?.pop())
}

/// Opens a file.
fn open(path: &Path) -> Result<Snapshot> {
    let snapshot = Snapshot::open(&path.to_string_lossy())?;
    let version = snapshot.entry(VERSION).map_or(1, |version| version.parse().unwrap_or(0));
    FORMAT.check(version).map_err(|e| Error::Unreadable { path: path.into(), reason: e.to_string() })?;
    Ok(snapshot)
}

fn read_file(path: &Path, filter: &Filter) -> Result<Vec<HistoryEntry>> {
    let snapshot = open(path)?;
    let text = |name: &str| snapshot.texts(snapshot.column(name)?);
    let numbers = |name: &str| snapshot.numbers(snapshot.column(name)?);
    let [sweep, model, window, segment, feature, kind, status, metric] =
        ["sweep", "model", "window", "segment", "feature", "kind", "status", "metric"].map(text);
    let (sweep, model, window, segment) = (sweep?, model?, window?, segment?);
    let (feature, kind, status, metric) = (feature?, kind?, status?, metric?);
    let (as_of, drifted, value) = (numbers("as_of")?, numbers("drifted")?, numbers("value")?);
    let wanted = |filter: &Option<String>, found: &str| filter.as_ref().is_none_or(|wanted| wanted == found);
    let mut entries = Vec::new();
    for (i, &at) in as_of.iter().enumerate() {
        let drifted = drifted[i] == Some(1.0);
        let Some(as_of) = at.and_then(|at| Timestamp::from_microsecond(at as i64).ok()) else {
            let reason = format!("row {i} has no time; it was not written by driftsweep, or was changed since");
            return Err(Error::UnreadableColumn { path: path.into(), column: "as_of".into(), reason });
        };
        if wanted(&filter.model, &model[i])
            && wanted(&filter.feature, &feature[i])
            && (filter.metrics.is_empty() || metric[i].is_empty() || filter.metrics.contains(&metric[i]))
            && filter.since.is_none_or(|since| as_of >= since)
            && (drifted || !filter.drifted)
        {
            entries.push(HistoryEntry {
                sweep: sweep[i].clone(),
                as_of,
                model: model[i].clone(),
                window: window[i].clone(),
                segment: segment[i].clone(),
                feature: feature[i].clone(),
                kind: kind[i].clone(),
                status: status[i].clone(),
                drifted,
                metric: metric[i].clone(),
                value: value[i],
            });
        }
    }
    Ok(entries)
}
