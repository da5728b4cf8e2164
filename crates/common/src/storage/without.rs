//! The errors of a build without the feature `cloud`, for addresses.

use std::path::Path;

use super::ListedObject;
use crate::error::{Error, Result};

const REASON: &str = "this build of driftsweep has no object stores; build it with the feature `cloud`";

pub struct Object;

impl Object {
    pub fn open(path: &Path) -> Result<(Self, u64, String)> {
        Err(Error::Unreadable { path: path.into(), reason: REASON.into() })
    }

    pub fn read_exact_at(&self, _: &mut [u8], _: u64) -> std::result::Result<(), String> {
        Err(REASON.into())
    }
}

pub fn write(path: &Path, _: &[u8]) -> Result<()> {
    Err(Error::Write { path: path.into(), source: std::io::Error::other(REASON) })
}

pub fn list(folder: &str) -> Result<Vec<ListedObject>> {
    Err(Error::Unreadable { path: folder.into(), reason: REASON.into() })
}

pub fn has_object(_: &str, _: impl Fn(&str) -> bool) -> bool {
    false
}
