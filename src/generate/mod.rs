//! Generated fleets: any number of models, features and rows, with drift of known kinds and sizes in known columns.
//!
//! Every column is a monotone function of a standard normal, the latent value. Shifting or scaling the latent value
//! therefore gives the same population stability index over quantile bins whatever the column looks like, and
//! [`GeneratedDrift`] is asked for by that index. All is drawn from one seed: column by column and row group by row group, so
//! files of any size are made in the memory of a row group, and in the same bytes on any number of threads.

mod column;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use jiff::ToSpan;
use jiff::civil::Date;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::snapshot::table::{CellType, Cells, TableWriter};
pub use column::{DriftKind, GeneratedColumn, GeneratedDrift, GeneratedShape};
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};

/// What to generate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateOptions {
    /// The seed of the random generator.
    pub seed: u64,
    /// Models.
    pub models: usize,
    /// Features per model.
    pub features: usize,
    /// Rows per table and side.
    pub rows: usize,
    /// Models per table.
    pub models_per_table: usize,
    /// Share of a model's features that all models of its table use.
    pub shared: f64,
    /// Share of categorical columns.
    pub categorical: f64,
    /// Most categories of such a column; the numbers range from 2 to it.
    pub cardinality: usize,
    /// Share of nulls in every fifth column.
    pub nulls: f64,
    /// Share of columns that drift.
    pub drift: f64,
    /// Kinds of drift, in rotation.
    pub kinds: Vec<DriftKind>,
    /// Population stability index over ten quantile bins of the latent value; for missing values, the rate added.
    pub drift_size: f64,
    /// Days that the rows of the current side span, in a column `at`; 0 for no such column.
    pub days: u32,
    /// Number of nights, each with its own current side in a folder named by its day; 0 for a single one.
    pub nights: u32,
    /// The first night with drift, from 1.
    pub drift_from: u32,
    /// Most rows in a row group; fewer in wide tables.
    pub row_group: usize,
}

/// The ground truth of a generated fleet: the drift that a comparison should find.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroundTruth {
    /// The options it was generated with.
    pub spec: GenerateOptions,
    /// The tables, each with its columns.
    pub tables: Vec<GeneratedTable>,
}

/// One table, and the models that read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratedTable {
    /// Name of its files.
    pub name: String,
    /// Its columns.
    pub columns: Vec<GeneratedColumn>,
    /// Models, each with the positions of its features among the columns.
    pub models: Vec<(String, Vec<usize>)>,
}

/// Uncompressed bytes of a row group, about.
const ROW_GROUP_BYTES: usize = 256 << 20;

/// The day of the first night of several.
const FIRST_NIGHT: Date = Date::constant(2026, 1, 1);

/// One side of a table.
#[derive(Clone, Copy)]
struct TableSide {
    /// Which current side, from 1; 0 is the baseline.
    night: u32,
    /// Whether drift has begun.
    drifts: bool,
}

/// The last day of the current side of a fleet with an `at` column: 2026-01-01, in days since 1970.
const LAST_DAY: i64 = 20_454;

impl GenerateOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::BadValue`] with the setting.
    pub fn check(&self) -> Result<()> {
        let bad = |what: &str, reason: &str| Err(Error::BadValue { what: what.into(), reason: reason.into() });
        for (what, value, most) in [
            ("--models", self.models, 1_000_000),
            ("--features", self.features, 1_000_000),
            ("--rows", self.rows, 1 << 40),
            ("--models-per-table", self.models_per_table, 1_000_000),
            ("--row-group", self.row_group, 1 << 30),
        ] {
            if !(1..=most).contains(&value) {
                return bad(what, &format!("must be between 1 and {most}"));
            }
        }
        if !(2..=10_000_000).contains(&self.cardinality) {
            return bad("--cardinality", "must be between 2 and 10000000");
        }
        for (what, share) in [
            ("--shared", self.shared),
            ("--categorical", self.categorical),
            ("--nulls", self.nulls),
            ("--drift", self.drift),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return bad(what, "must be between 0 and 1");
            }
        }
        if !(0.0..=5.0).contains(&self.drift_size) {
            return bad("--drift-size", "must be between 0 and 5");
        }
        if self.models.saturating_mul(self.features) > 100_000_000 {
            return bad("--models", "times --features must be at most 100000000");
        }
        if self.kinds.contains(&DriftKind::Missing) && self.drift_size > 1.0 {
            return bad("--drift-size", "is a rate for missing values, at most 1");
        }
        if self.days > 10_000 {
            return bad("--days", "must be at most 10000");
        }
        if self.nights > 3650 {
            return bad("--nights", "must be at most 3650");
        }
        if self.nights > 0 && self.days > 0 {
            return bad("--nights", "has a folder for each day; leave out --days");
        }
        if self.drift_from == 0 {
            return bad("--drift-from", "is a night, from 1");
        }
        if self.kinds.is_empty() {
            return bad("--drift-kinds", "names no kind");
        }
        Ok(())
    }

    /// The sides of each table: the baseline, and the current side of each night.
    fn sides(&self) -> impl Iterator<Item = TableSide> {
        (0..=self.nights.max(1)).map(|night| TableSide { night, drifts: night >= self.drift_from })
    }

    /// Where the files of a side are.
    fn folder(&self, side: TableSide) -> String {
        match side.night {
            0 => "baseline".into(),
            _ if self.nights == 0 => "current".into(),
            night => {
                let day = FIRST_NIGHT.saturating_add((i64::from(night) - 1).days());
                format!("current/{day}")
            }
        }
    }

    /// The number of values that will be written.
    pub fn values(&self) -> u64 {
        let columns: usize = self.truth().tables.iter().map(|table| table.columns.len()).sum();
        self.sides().count() as u64 * (columns * self.rows) as u64
    }

    /// The tables of the fleet.
    pub fn truth(&self) -> GroundTruth {
        let shared = (self.shared * self.features as f64).round() as usize;
        let own = self.features - shared;
        let tables = self.models.div_ceil(self.models_per_table);
        let table = |t: usize| {
            let models = self.models_per_table.min(self.models - t * self.models_per_table);
            let columns = (0..shared + models * own).map(|c| GeneratedColumn::new(self, t, c)).collect();
            let features = |m: usize| (0..shared).chain(shared + m * own..shared + (m + 1) * own).collect();
            let name = |m: usize| format!("model-{:05}", t * self.models_per_table + m);
            GeneratedTable {
                name: format!("table-{t:05}"),
                columns,
                models: (0..models).map(|m| (name(m), features(m))).collect(),
            }
        };
        GroundTruth { spec: self.clone(), tables: (0..tables).map(table).collect() }
    }
}

/// Writes `baseline/*.parquet`, `current/*.parquet` (or `current/DAY/*.parquet` for several nights), `fleet.toml` and `truth.json` into a folder. `done` is called
/// after each row group with its values.
///
/// # Errors
/// [`Error::BadValue`], [`Error::Write`].
pub fn write(spec: &GenerateOptions, folder: &Path, done: impl Fn(u64) + Sync) -> Result<GroundTruth> {
    spec.check()?;
    let truth = spec.truth();
    let files: Vec<(&GeneratedTable, TableSide)> =
        spec.sides().flat_map(|side| truth.tables.iter().map(move |table| (table, side))).collect();
    for side in spec.sides() {
        let path = folder.join(spec.folder(side));
        std::fs::create_dir_all(&path).map_err(|source| Error::Write { path, source })?;
    }
    files.into_par_iter().try_for_each(|(table, side)| write_table(spec, table, side, folder, &done))?;
    atomic::write(&folder.join("fleet.toml"), fleet_file(&truth).as_bytes())?;
    let json = serde_json::to_vec_pretty(&truth)
        .map_err(|e| Error::BadValue { what: "truth.json".into(), reason: e.to_string() })?;
    atomic::write(&folder.join("truth.json"), &json)?;
    Ok(truth)
}

fn write_table(
    spec: &GenerateOptions,
    table: &GeneratedTable,
    side: TableSide,
    folder: &Path,
    done: &(impl Fn(u64) + Sync),
) -> Result<()> {
    let path = folder.join(spec.folder(side)).join(format!("{}.parquet", table.name));
    let failed = |message: String| Error::Write { path: path.clone(), source: std::io::Error::other(message) };
    let io = |source| Error::Write { path: path.clone(), source };
    let timed = spec.days > 0;
    let mut columns: Vec<(&str, CellType)> =
        table.columns.iter().map(|c| (c.name.as_str(), c.shape.cell_type())).collect();
    if timed {
        columns.push(("at", CellType::Time));
    }
    let part: PathBuf = path.with_extension("part");
    let file = BufWriter::with_capacity(1 << 20, File::create(&part).map_err(io)?);
    let mut writer = TableWriter::new(file, &columns).map_err(failed)?;
    let rows = spec.row_group.min((ROW_GROUP_BYTES / (8 * columns.len())).max(1));
    for (group, start) in (0..spec.rows).step_by(rows).enumerate() {
        let rows = rows.min(spec.rows - start);
        let cells = |c: usize| match table.columns.get(c) {
            Some(column) => column.cells(side, group as u64, rows),
            None => Cells::Time(times(spec, start, rows, side.night > 0)),
        };
        writer.write(rows, (0..columns.len()).into_par_iter().map(cells)).map_err(failed)?;
        done(rows as u64 * columns.len() as u64);
    }
    let file = writer.finish().map_err(failed)?.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)?;
    std::fs::rename(&part, &path).map_err(io)
}

/// Evenly spread over the days; those of the baseline come before those of the current side.
fn times(spec: &GenerateOptions, start: usize, rows: usize, current: bool) -> Vec<i64> {
    const DAY: i64 = 86_400_000_000;
    let span = i64::from(spec.days) * DAY;
    let first = (LAST_DAY + 1) * DAY - span * if current { 1 } else { 2 };
    let at = |row: usize| first + (row as i128 * i128::from(span) / spec.rows as i128) as i64;
    (start..start + rows).map(at).collect()
}

fn fleet_file(truth: &GroundTruth) -> String {
    let mut text = String::from("name = \"generated\"\n");
    for table in &truth.tables {
        for (model, features) in &table.models {
            let current = if truth.spec.nights > 0 { "current/{day}" } else { "current" };
            text.push_str(&format!(
                "\n[[model]]\nname = \"{model}\"\nbaseline = \"baseline/{0}.parquet\"\ncurrent = \"{current}/{0}.parquet\"\n",
                table.name
            ));
            if table.models.len() > 1 {
                let names: Vec<_> = features.iter().map(|&c| format!("\"{}\"", table.columns[c].name)).collect();
                text.push_str(&format!("features = [{}]\n", names.join(", ")));
            } else if truth.spec.days > 0 {
                text.push_str("exclude = [\"at\"]\n");
            }
        }
    }
    text
}
