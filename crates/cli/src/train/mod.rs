//! `driftsweep train`: a candidate from a feature set, with what its gates are judged by.

#[cfg(feature = "pipeline")]
pub mod candidate;
#[cfg(feature = "pipeline")]
mod champion;
#[cfg(feature = "pipeline")]
pub mod fit;
#[cfg(feature = "pipeline")]
mod online;
#[cfg(feature = "pipeline")]
mod run;
#[cfg(not(feature = "pipeline"))]
#[path = "without.rs"]
mod run;
#[cfg(feature = "pipeline")]
mod task;

#[cfg(feature = "pipeline")]
pub use run::feature_set;

use std::path::PathBuf;

#[cfg(feature = "pipeline")]
pub use fit::{ARTEFACT, predict_rows};

use clap::Args;

use super::features::LimitArgs;
use super::{TextFormat, time_arg::TimeArg};

#[derive(Args)]
pub struct TrainArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    /// The model to train
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Folder for the candidate: its sets, model, predictions and model.json
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// The folder of the model in production, to predict the same rows [default: $DRIFTSWEEP_CHAMPION, which a tick sets to
    /// the champion of the registry]
    #[arg(long, value_name = "DIR")]
    champion: Option<PathBuf>,
    /// The folder of a model to continue from; only for the trainer `online`
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Continue the newest model below --output with the labels that have become known since, and add the next; each row is
    /// predicted before it is learned. Only for the trainer `online`
    #[arg(long, conflicts_with = "resume")]
    online: bool,
    /// Override the time, to train as it was possible in the past: nothing known later is used. A time such as
    /// 2026-01-31T02:00:00Z; without a zone it is read in the fleet's `time_zone` [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<TimeArg>,
    /// Answer a tick with the training set as the new baseline: for a model whose `current` has these columns
    #[arg(long, conflicts_with = "online")]
    baseline: bool,
    /// Train also where the features differ from what serving logged
    #[arg(long)]
    allow_skew: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

pub fn run(args: &TrainArgs) -> anyhow::Result<u8> {
    run::run(args)
}
