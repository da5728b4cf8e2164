//! Whether columns can be decoded: a file whose metadata are whole may hold pages that are damaged. As much is read as fits
//! into a short time, so that a fleet of any size is looked at quickly.

use std::time::{Duration, Instant};

use driftsweep::baseline::Baseline;
use driftsweep::fleet::Model;
use driftsweep::snapshot::{Column, Snapshot};
use indexmap::IndexMap;
use rayon::prelude::*;

use super::finding::{Findings, Level};

/// For so long columns are decoded, over the whole fleet.
const WITHIN: Duration = Duration::from_secs(10);

/// A model that reads a table: its place among the models, and as which side.
type Reader<'a> = (usize, &'static str, &'a Model);

/// Decodes the columns that models compare, table by table; the findings are those of the models, in their order.
pub fn check(models: &[Model], findings: &mut [&mut Findings], whole: &mut Findings) {
    let mut tables: IndexMap<&str, Vec<Reader<'_>>> = IndexMap::new();
    for (i, model) in models.iter().enumerate() {
        let baseline = Some(&*model.baseline).filter(|spec| !Baseline::is_one(spec.as_ref()) && !model.previous);
        let currents = model.windows.iter().map(|window| ("current", &*window.current));
        for (side, spec) in baseline.into_iter().map(|spec| ("baseline", spec)).chain(currents) {
            let readers = tables.entry(spec).or_default();
            if readers.iter().all(|&(known, of, _)| (known, of) != (i, side)) {
                readers.push((i, side, model));
            }
        }
    }
    let tables: Vec<_> = tables.into_iter().collect();
    let until = Instant::now() + WITHIN;
    let looked: Vec<(bool, Vec<(usize, &'static str, String)>)> =
        tables.par_iter().map(|(spec, readers)| look_into(spec, readers, until)).collect();
    let left = looked.iter().filter(|(complete, _)| !complete).count();
    for (model, side, reason) in looked.into_iter().flat_map(|(_, found)| found) {
        findings[model].add(Level::Broken, side, reason);
    }
    if left > 0 {
        let seconds = WITHIN.as_secs();
        let reason = format!("{left} of {} tables were decoded in part only: {seconds} seconds were up", tables.len());
        whole.add(Level::Note, "data", reason);
    }
}

/// What of a table cannot be decoded, by the models that read it; and whether all of it was looked at.
fn look_into(spec: &str, readers: &[Reader<'_>], until: Instant) -> (bool, Vec<(usize, &'static str, String)>) {
    if Instant::now() > until {
        return (false, Vec::new());
    }
    // Why a table cannot be opened was found by the survey.
    let Ok(snapshot) = Snapshot::open(spec) else { return (true, Vec::new()) };
    let mut found = Vec::new();
    let is_wanted =
        |model: &Model, name: &str| model.kind_of(name).is_some() || model.named_features().any(|named| named == name);
    let columns: Vec<&Column> = snapshot
        .columns()
        .iter()
        .filter(|column| readers.iter().any(|(_, _, model)| is_wanted(model, &column.name)))
        .collect();
    let (complete, damaged) = decode(&snapshot, &columns, until);
    for (column, reason) in damaged {
        let wanted = readers.iter().filter(|(_, _, model)| is_wanted(model, &column.name));
        found.extend(wanted.map(|&(i, side, _)| (i, side, reason.clone())));
    }
    (complete, found)
}

/// Decodes columns, the first row group of all of them first; of each the first damage, and whether the time sufficed.
pub fn decode<'a>(snapshot: &'a Snapshot, columns: &[&'a Column], until: Instant) -> (bool, Vec<(&'a Column, String)>) {
    let mut damaged: Vec<(&Column, String)> = Vec::new();
    for chunk in 0..snapshot.chunks() {
        for &column in columns {
            if damaged.iter().any(|(known, _)| known.name == column.name) {
                continue;
            }
            if Instant::now() > until {
                return (false, damaged);
            }
            if let Err(error) = snapshot.try_decoding(column, chunk) {
                damaged.push((column, error.to_string()));
            }
        }
    }
    (true, damaged)
}
