//! A sweep as a file of the history.

use std::mem::take;
use std::sync::Arc;

use indexmap::IndexSet;
use jiff::Timestamp;

use super::{COMPARISON, FORMAT, REPORT, SCHEMA, SWEEP, VERSION};
use crate::snapshot::table::{CellType, Cells, TableWriter};
use crate::sweep::flat;
use crate::sweep::report::{Feature, ModelReport, SweepReport};

/// Rows of a row group: the parts of the report of so many are in memory together.
const GROUP_ROWS: usize = 64 * 1024;

/// The columns.
const COLUMNS: [(&str, CellType); 14] = [
    ("sweep", CellType::Text),
    ("as_of", CellType::Time),
    ("fleet", CellType::Text),
    ("model", CellType::Text),
    ("window", CellType::Text),
    ("segment", CellType::Text),
    ("feature", CellType::Text),
    ("kind", CellType::Text),
    ("status", CellType::Text),
    ("drifted", CellType::Bool),
    ("metric", CellType::Text),
    ("value", CellType::Float),
    (COMPARISON, CellType::Text),
    (REPORT, CellType::Text),
];

/// A column of texts, each kept once.
#[derive(Default)]
struct TextColumn {
    texts: IndexSet<String>,
    cells: Vec<Option<u32>>,
}

impl TextColumn {
    fn push(&mut self, text: &str) {
        let at = self.texts.get_index_of(text).unwrap_or_else(|| self.texts.insert_full(text.into()).0);
        self.cells.push(u32::try_from(at).ok());
    }

    fn push_some(&mut self, text: Option<String>) {
        let at = text.map(|text| self.texts.insert_full(text).0);
        self.cells.push(at.and_then(|at| u32::try_from(at).ok()));
    }

    fn into_cells(self) -> Cells {
        Cells::Names(self.cells, self.texts.into_iter().collect())
    }
}

/// The rows of a row group.
#[derive(Default)]
struct Rows {
    /// Model, window, segment, feature, kind, status and metric.
    names: [TextColumn; 7],
    drifted: Vec<bool>,
    value: Vec<Option<f64>>,
    comparison: TextColumn,
    report: TextColumn,
}

impl Rows {
    fn push(&mut self, names: [&str; 7], drifted: bool, value: Option<f64>, parts: [Option<String>; 2]) {
        self.names.iter_mut().zip(names).for_each(|(column, name)| column.push(name));
        self.drifted.push(drifted);
        self.value.push(value);
        let [comparison, report] = parts;
        self.comparison.push_some(comparison);
        self.report.push_some(report);
    }

    /// Writes the rows as a row group.
    fn write(self, to: &mut TableWriter<Vec<u8>>, report: &SweepReport, as_of: Timestamp) -> Result<(), String> {
        let rows = self.value.len();
        let constant = |text: &str| Cells::Names(vec![Some(0); rows], Arc::new([text.to_owned()]));
        let [model, window, segment, feature, kind, status, metric] = self.names.map(TextColumn::into_cells);
        to.write(
            rows,
            [
                constant(&report.id),
                Cells::Time(vec![as_of.as_microsecond(); rows]),
                constant(&report.fleet),
                model,
                window,
                segment,
                feature,
                kind,
                status,
                Cells::Bool(self.drifted),
                metric,
                Cells::Float(self.value),
                self.comparison.into_cells(),
                self.report.into_cells(),
            ],
        )
    }
}

/// The file of a sweep.
pub(super) fn encode(report: &SweepReport, as_of: Timestamp) -> Result<Vec<u8>, String> {
    let mut writer = TableWriter::new(Vec::new(), &COLUMNS)?;
    let mut rows = Rows::default();
    for model in &report.models {
        push_model(&mut rows, model)?;
        if rows.value.len() >= GROUP_ROWS {
            take(&mut rows).write(&mut writer, report, as_of)?;
        }
    }
    for (of, change) in report.models.iter().flat_map(|of| of.schema.iter().map(move |change| (of, change))) {
        let names = [&*of.model, &of.window, &of.segment, &change.column, "", change.change.name(), SCHEMA];
        rows.push(names, false, None, [None, None]);
    }
    rows.write(&mut writer, report, as_of)?;
    let sweep = json(&report.without_comparisons())?;
    writer.finish_with(&[(VERSION, FORMAT.version().to_string()), (SWEEP, sweep)])
}

/// A row a figure. A feature without figures has one row, and so has a comparison without features.
fn push_model(rows: &mut Rows, model: &ModelReport) -> Result<(), String> {
    let mut comparison = Some(json(&model.without_features())?);
    let nameless = flat::nameless(model);
    for (feature, is_reported) in model.features.iter().map(|f| (f, true)).chain(nameless.iter().map(|f| (f, false))) {
        let mut part = is_reported.then(|| json(feature)).transpose()?;
        let names = |metric| {
            let Feature { name, kind, status, .. } = feature;
            [&*model.model, &model.window, &model.segment, name, kind.name(), status.name(), metric]
        };
        let figures = flat::figures(feature);
        let values = figures.iter().map(|&(name, value)| (name, Some(value)));
        for (metric, value) in values.chain(figures.is_empty().then_some(("", None))) {
            rows.push(names(metric), feature.verdict.drifted, value, [comparison.take(), part.take()]);
        }
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string(value).map_err(|e| e.to_string())
}
