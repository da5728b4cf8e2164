//! `driftsweep bench generate`

use std::path::PathBuf;

use clap::Args;
use driftsweep::generate::{self, DriftKind, GenerateOptions};

use super::Bar;

#[derive(Args)]
pub struct GenerateArgs {
    /// Folder to write into: baseline/, current/, fleet.toml and truth.json
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Models
    #[arg(long, default_value_t = 10, value_name = "N")]
    models: usize,
    /// Features per model
    #[arg(long, default_value_t = 50, value_name = "N")]
    features: usize,
    /// Rows per table and side
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    rows: usize,
    /// Models per table
    #[arg(long, default_value_t = 1, value_name = "N")]
    models_per_table: usize,
    /// Share of a model's features that all models of its table use
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    shared: f64,
    /// Share of categorical columns
    #[arg(long, default_value_t = 0.2, value_name = "SHARE")]
    categorical: f64,
    /// Categories of a column at most
    #[arg(long, default_value_t = 1000, value_name = "N")]
    cardinality: usize,
    /// Share of nulls in every fifth column
    #[arg(long, default_value_t = 0.02, value_name = "SHARE")]
    nulls: f64,
    /// Share of columns that drift
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    drift: f64,
    /// Kinds of drift, in rotation: shift, scale, missing
    #[arg(long, value_delimiter = ',', default_value = "shift", value_name = "KINDS")]
    drift_kinds: Vec<DriftKind>,
    /// Population stability index over ten quantile bins; for missing values, the rate added
    #[arg(long, default_value_t = 0.25, value_name = "SIZE")]
    drift_size: f64,
    /// Adds a time column `at`; the current side spans this number of days
    #[arg(long, default_value_t = 0, value_name = "N")]
    days: u32,
    /// Number of nights: each has a current side in a folder named by its day, from 2026-01-01 on
    #[arg(long, default_value_t = 0, value_name = "N")]
    nights: u32,
    /// The first night with drift
    #[arg(long, default_value_t = 1, value_name = "NIGHT")]
    drift_from: u32,
    /// Most rows in a row group; fewer in wide tables
    #[arg(long, default_value_t = 1 << 18, value_name = "N")]
    row_group: usize,
    /// Seed of the random generator; the same seed gives the same fleet
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

pub fn run(args: &GenerateArgs) -> anyhow::Result<u8> {
    let spec = GenerateOptions {
        seed: args.seed,
        models: args.models,
        features: args.features,
        rows: args.rows,
        models_per_table: args.models_per_table,
        shared: args.shared,
        categorical: args.categorical,
        cardinality: args.cardinality,
        nulls: args.nulls,
        drift: args.drift,
        kinds: args.drift_kinds.clone(),
        drift_size: args.drift_size,
        days: args.days,
        nights: args.nights,
        drift_from: args.drift_from,
        row_group: args.row_group,
    };
    spec.check()?;
    let bar = Bar::of("values");
    bar.0.set_length(spec.values());
    let truth = generate::write(&spec, &args.folder, |values| bar.0.inc(values))?;
    drop(bar);
    let drifting = truth.tables.iter().flat_map(|table| &table.columns).filter(|column| column.drift.is_some()).count();
    say!(
        "{}: {} models in {} tables, {drifting} columns drift",
        args.folder.join("fleet.toml").display(),
        spec.models,
        truth.tables.len()
    );
    Ok(0)
}
