//! Whether columns can be decoded: a file with intact metadata may have damaged pages. Reading is limited to a short
//! time, so that a fleet of any size is checked quickly.

use std::time::{Duration, Instant};

use driftsweep::baseline::Baseline;
use driftsweep::model::Window;
use driftsweep::snapshot::{Column, Snapshot};
use driftsweep_fleet::Model;
use indexmap::IndexMap;
use rayon::prelude::*;

use super::finding::{Findings, Severity};

/// Time limit for decoding columns, over the whole fleet.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A model that reads a table: as its baseline, or for a window.
#[derive(Clone, Copy)]
struct TableUser<'a> {
    /// Its position among the models.
    at: usize,
    model: &'a Model,
    window: Option<&'a Window>,
}

impl TableUser<'_> {
    fn side(&self) -> &'static str {
        if self.window.is_some() { "current" } else { "baseline" }
    }

    /// Whether a column is compared, or selects the rows that are.
    fn reads(&self, column: &str) -> bool {
        let model = self.model;
        let compared = match self.window {
            Some(window) => model.use_in(window, column).is_compared(),
            None => model.use_of(column).is_compared(),
        };
        let time = self.window.and_then(|window| Some(&window.period.as_ref()?.0));
        let of_segments = model.segments.iter().flat_map(|(_, slice)| &slice.0).map(|condition| &condition.column);
        compared || model.slice_by.iter().chain(time).chain(of_segments).any(|name| name == column)
    }
}

/// The model, the side of it, and what cannot be decoded there.
type DecodeFailure = (usize, &'static str, String);

/// Decodes the columns that models compare, table by table; the findings are those of the models, in their order.
pub fn check(models: &[Model], findings: &mut [&mut Findings], whole: &mut Findings) {
    let mut tables: IndexMap<&str, Vec<TableUser<'_>>> = IndexMap::new();
    for (i, model) in models.iter().enumerate() {
        let baseline =
            Some(model.baseline.expose()).filter(|spec| !Baseline::is_baseline_file(spec.as_ref()) && !model.previous);
        let windows = model.windows.iter().map(|window| (window.current.expose(), Some(window)));
        for (spec, window) in baseline.into_iter().map(|spec| (spec, None)).chain(windows) {
            tables.entry(spec).or_default().push(TableUser { at: i, model, window });
        }
    }
    let tables: Vec<_> = tables.into_iter().collect();
    let until = Instant::now() + TIME_LIMIT;
    let checked: Vec<(bool, Vec<DecodeFailure>)> =
        tables.par_iter().map(|(spec, readers)| check_table(spec, readers, until)).collect();
    let left = checked.iter().filter(|(complete, _)| !complete).count();
    for (model, side, reason) in checked.into_iter().flat_map(|(_, found)| found) {
        findings[model].add(Severity::Broken, side, reason);
    }
    if left > 0 {
        let seconds = TIME_LIMIT.as_secs();
        let reason = format!(
            "{left} of {} tables were decoded only in part: the time limit of {seconds} seconds was \
                              reached",
            tables.len()
        );
        whole.add(Severity::Note, "data", reason);
    }
}

/// The columns of a table that cannot be decoded, by the models that read it; and whether all of it was checked.
fn check_table(spec: &str, readers: &[TableUser<'_>], until: Instant) -> (bool, Vec<DecodeFailure>) {
    if Instant::now() > until {
        return (false, Vec::new());
    }
    // Why a table cannot be opened was found by the survey.
    let Ok(snapshot) = Snapshot::open(spec) else { return (true, Vec::new()) };
    let columns: Vec<&Column> =
        snapshot.columns().iter().filter(|column| readers.iter().any(|reader| reader.reads(&column.name))).collect();
    let (complete, damaged) = decode(&snapshot, &columns, until);
    let of = |(column, reason): (&Column, String)| {
        let readers = readers.iter().filter(|reader| reader.reads(&column.name));
        readers.map(|reader| (reader.at, reader.side(), reason.clone())).collect::<Vec<_>>()
    };
    (complete, damaged.into_iter().flat_map(of).collect())
}

/// Decodes columns, the first row group of all of them first; of each the first damage, and whether the time was
/// sufficient.
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
