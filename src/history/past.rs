//! The report of a past sweep, from the history.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;

use super::{COMPARISON, REPORT, SWEEP, files, open};
use crate::snapshot::Snapshot;
use crate::sweep::{Feature, ModelReport, SweepReport};
use driftsweep_common::error::{Error, Result};

/// The report of the last sweep of a fleet up to a time; `None` where there is none. Its figures are the same doubles, and
/// nothing is compared again.
///
/// # Errors
/// [`Error::NotFound`] where there is no history; [`Error::Unreadable`] where the file of that sweep cannot be read, or has
/// figures only, because an earlier version wrote it.
pub fn past_report(folder: &Path, fleet: &str, until: Timestamp) -> Result<Option<SweepReport>> {
    let last = until.to_zoned(TimeZone::UTC).date();
    for path in files(folder, |day| day <= last)?.iter().rev() {
        let snapshot = open(path)?;
        let unreadable = |reason: String| Error::Unreadable { path: path.as_path().into(), reason };
        let Some(sweep) = snapshot.entry(SWEEP) else {
            let fleets = snapshot.texts(snapshot.column("fleet")?)?;
            let times = snapshot.numbers(snapshot.column("as_of")?)?;
            let is_later = times.first().is_none_or(|at| at.is_none_or(|at| at > until.as_microsecond() as f64));
            if is_later || fleets.first().is_none_or(|name| name != fleet) {
                continue;
            }
            return Err(unreadable(
                "an earlier version wrote it, with figures only; `driftsweep history` shows them".into(),
            ));
        };
        let sweep: SweepReport = parsed(sweep, SWEEP).map_err(unreadable)?;
        let as_of: Timestamp =
            sweep.as_of.parse().map_err(|_| unreadable(format!("'{}' is not a time", sweep.as_of)))?;
        if !sweep.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            // It becomes the name of a file.
            return Err(unreadable(format!("'{}' is not the name of a sweep", sweep.id)));
        }
        if sweep.fleet == fleet && as_of <= until {
            let models = comparisons(&snapshot).map_err(unreadable)?;
            return Ok(Some(SweepReport { models, ..sweep }));
        }
    }
    Ok(None)
}

/// The comparisons of a file, in the order of the report.
fn comparisons(snapshot: &Snapshot) -> std::result::Result<Vec<ModelReport>, String> {
    let column = |name| snapshot.texts(snapshot.column(name)?);
    let parts = column(COMPARISON).and_then(|comparisons| Ok((comparisons, column(REPORT)?)));
    let (comparisons, features) = parts.map_err(|e| e.to_string())?;
    let mut models: Vec<ModelReport> = Vec::new();
    for (row, (comparison, feature)) in comparisons.iter().zip(&features).enumerate() {
        if !comparison.is_empty() {
            models.push(parsed(comparison, &format!("{COMPARISON} of row {row}"))?);
        }
        if !feature.is_empty() {
            let feature: Feature = parsed(feature, &format!("{REPORT} of row {row}"))?;
            let model = models.last_mut().ok_or_else(|| format!("row {row} belongs to no comparison"))?;
            model.features.push(feature);
        }
    }
    Ok(models)
}

fn parsed<T: DeserializeOwned>(text: &str, what: &str) -> std::result::Result<T, String> {
    serde_json::from_str(text).map_err(|e| format!("{what}: {e}"))
}
