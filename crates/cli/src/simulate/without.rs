//! `driftsweep simulate` in a build without the feature pipeline.

use driftsweep_common::error::Error;

use super::SimulateArgs;

pub fn run(_: &SimulateArgs) -> anyhow::Result<u8> {
    let reason = "this build has no trainers; take a released binary, or build with --features pipeline";
    Err(Error::Backend(reason.into()).into())
}
