//! Messages as lines of JSON at the end of a file: `file` in the fleet file.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use super::{ChannelSettings, ChannelTable, MessageSender, RenderedMessage};
use crate::check::{self, Findings};
use crate::http::{Http, RequestFailure};
use crate::value::{Validated, local};
use driftsweep_common::atomic;

/// A file for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChannel {
    /// Its path.
    pub path: PathBuf,
}

/// The path in the fleet file.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct FileTable(String);

impl ChannelTable for FileTable {
    type Settings = FileChannel;

    fn resolve(&self, folder: &Path) -> Validated<FileChannel> {
        Ok(FileChannel { path: local("file", &self.0, folder)? })
    }
}

impl ChannelSettings for FileChannel {
    fn open<'a>(&'a self, _: &'a Http) -> Result<Box<dyn MessageSender + 'a>, RequestFailure> {
        Ok(Box::new(FileSender { path: &self.path }))
    }

    fn check(&self, findings: &mut Findings) {
        check::file("file", &self.path, findings);
    }
}

/// Appends lines to the file.
struct FileSender<'a> {
    path: &'a Path,
}

impl MessageSender for FileSender<'_> {
    fn send(&mut self, rendered: &RenderedMessage, _: Timestamp) -> Result<(), RequestFailure> {
        let failed = |e: std::io::Error| RequestFailure::transient(format!("{}: {e}", self.path.display()));
        atomic::append(self.path, format!("{}\n", rendered.event).as_bytes()).map_err(failed)
    }
}
