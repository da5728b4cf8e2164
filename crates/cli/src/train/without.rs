//! `driftsweep train` in a build without the feature pipeline.

use driftsweep_common::error::Error;

use super::TrainArgs;

pub fn run(_: &TrainArgs) -> anyhow::Result<u8> {
    let reason = "this build has no trainers; take a released binary, or build with --features pipeline";
    Err(Error::Backend(reason.into()).into())
}
