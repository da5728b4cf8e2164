//! `driftsweep features` in a build without the feature pipeline.

use driftsweep_common::error::Error;
use driftsweep_fleet::FeatureSet;

use super::{MaterializeArgs, ShowArgs, SkewArgs, VerifyArgs};

/// A build without the pipeline plans nothing.
pub fn plan(_: &FeatureSet) -> Option<Result<(), Error>> {
    None
}

fn absent() -> anyhow::Result<u8> {
    let reason = "this build has no feature pipeline; take a released binary, or build with --features pipeline";
    Err(Error::Backend(reason.into()).into())
}

pub fn show(_: &ShowArgs) -> anyhow::Result<u8> {
    absent()
}

pub fn materialize(_: &MaterializeArgs) -> anyhow::Result<u8> {
    absent()
}

pub fn verify(_: &VerifyArgs) -> anyhow::Result<u8> {
    absent()
}

pub fn skew(_: &SkewArgs) -> anyhow::Result<u8> {
    absent()
}
