//! `driftsweep simulate`: the past of a model under policies of retraining, on its own history.

#[cfg(feature = "pipeline")]
mod drift;
#[cfg(feature = "pipeline")]
mod figures;
#[cfg(feature = "pipeline")]
mod gates;
#[cfg(feature = "pipeline")]
mod looks;
#[cfg(feature = "pipeline")]
mod models;
#[cfg(feature = "pipeline")]
mod pages;
#[cfg(feature = "pipeline")]
mod report;
#[cfg(feature = "pipeline")]
mod run;
#[cfg(not(feature = "pipeline"))]
#[path = "without.rs"]
mod run;
#[cfg(feature = "pipeline")]
mod world;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use driftsweep::metric::performance::PerformanceMetric;
use driftsweep_common::duration::Length;

use super::features::LimitArgs;
use super::time_arg::TimeArg;

#[derive(Args)]
pub struct SimulateArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    /// The model whose past is replayed
    #[arg(long, value_name = "NAME")]
    model: String,
    /// The night of the first training; its model predicts from then on. A day such as 2026-01-31, or a time
    #[arg(long, value_name = "TIME")]
    from: TimeArg,
    /// The time before which predictions are
    #[arg(long, value_name = "TIME")]
    to: TimeArg,
    /// Policies, comma-separated: never, schedule, performance, drift, volume, or combined: any of the triggers that are set
    /// [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES", hide_possible_values = true)]
    policy: Vec<PolicyName>,
    /// The metric [default: the first of [model.gates], else that of the performance trigger, else accuracy, or mae of numbers]
    #[arg(long, value_name = "METRIC")]
    metric: Option<PerformanceMetric>,
    /// Look at the triggers so often, such as 7d, instead of at the fleet's sweeps
    #[arg(long, value_name = "LENGTH")]
    every: Option<Length>,
    /// How long after its night a trained model is used [default: 0, from the next prediction on]
    #[arg(long, value_name = "LENGTH")]
    lag: Option<Length>,
    /// The predictions that the drift trigger compares with the training set: those of this time before the night [default: the
    /// windows of the model, the day of a `current` with {day}, else 7d]
    #[arg(long, value_name = "LENGTH")]
    window: Option<Length>,
    /// The cost of a training [default: that of [model.retrain]]
    #[arg(long, value_name = "AMOUNT")]
    cost: Option<f64>,
    /// Folder for simulation.json
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitArgs,
    /// table, json or csv
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: SimulationFormat,
}

/// When the model is trained again.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PolicyName {
    Never,
    Schedule,
    Performance,
    Drift,
    Volume,
    Combined,
}

/// How the result is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SimulationFormat {
    Table,
    Json,
    Csv,
}

pub fn run(args: &SimulateArgs) -> anyhow::Result<u8> {
    run::run(args)
}
