//! `driftsweep demo --loop` in a build without the feature pipeline.

use std::path::Path;

use driftsweep_common::error::Error;

use super::Story;

pub fn run(_: Story, _: &Path, _: Option<&Path>) -> anyhow::Result<u8> {
    let reason = "this build has no trainers; take a released binary, or build with --features pipeline";
    Err(Error::Backend(reason.into()).into())
}
