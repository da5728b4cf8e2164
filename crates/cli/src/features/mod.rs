//! `driftsweep features`: what a feature set gives, its training sets, the truncation test, and training-serving skew.

#[cfg(feature = "pipeline")]
mod pages;
#[cfg(feature = "pipeline")]
mod run;
#[cfg(not(feature = "pipeline"))]
#[path = "without.rs"]
mod run;

pub use run::plan;
#[cfg(feature = "pipeline")]
pub use run::{WRONG, blocked, open};

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::time_arg::TimeArg;
use super::{TextFormat, size};

#[derive(Subcommand)]
pub enum FeaturesCommand {
    /// Shows the features of a set with their types, its version, and the files it reads
    Show(ShowArgs),
    /// Writes the training and the validation set of a feature set, with labels and a manifest; not where the features differ from
    /// what serving logged (exit code 18)
    Materialize(MaterializeArgs),
    /// Tests that no feature sees the future: computes them again with everything deleted that was known later (exit code 18 if
    /// one changes, 17 if nothing could be tested)
    Verify(VerifyArgs),
    /// Compares the features with what serving logged, row by row (exit code 18 if they differ by more than they may)
    Skew(SkewArgs),
}

/// A feature set of a fleet file.
#[derive(Args)]
struct SetArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    /// The feature set [default: the only one]
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
}

/// What the pipeline may use.
#[derive(Args)]
pub struct LimitArgs {
    /// Memory for sorts, windows and joins; what does not fit is written to temporary files [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<bytesize::ByteSize>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Folder for temporary files [default: $TMPDIR, or /tmp]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// The point in time that a feature set is seen from.
#[derive(Args)]
struct NowArgs {
    /// Override the time, to see the past as it was: nothing known later is used. A time such as 2026-01-31T02:00:00Z; without a
    /// zone it is read in the fleet's `time_zone` [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<TimeArg>,
}

/// Which predictions are computed.
#[derive(Args)]
struct PeriodArgs {
    #[command(flatten)]
    now: NowArgs,
    /// The first time of prediction
    #[arg(long, value_name = "TIME")]
    from: Option<TimeArg>,
    /// The time before which predictions are [default: the time of --now]
    #[arg(long, value_name = "TIME")]
    to: Option<TimeArg>,
}

#[derive(Args)]
pub struct ShowArgs {
    #[command(flatten)]
    set: SetArgs,
    /// table, or json, which has the plan whose hash is the version, too
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct MaterializeArgs {
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    now: NowArgs,
    /// Folder for training.parquet, validation.parquet and manifest.json
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Write them also where the features differ from what serving logged
    #[arg(long)]
    allow_skew: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    period: PeriodArgs,
    /// Cut here: delete everything that was known at this time or later. May be given several times [default: chosen from the
    /// data]
    #[arg(long, value_name = "TIME")]
    at: Vec<TimeArg>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct SkewArgs {
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    period: PeriodArgs,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

pub fn run(command: &FeaturesCommand) -> anyhow::Result<u8> {
    match command {
        FeaturesCommand::Show(args) => run::show(args),
        FeaturesCommand::Materialize(args) => run::materialize(args),
        FeaturesCommand::Verify(args) => run::verify(args),
        FeaturesCommand::Skew(args) => run::skew(args),
    }
}
