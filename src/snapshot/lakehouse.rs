//! Folders of a table format (Delta Lake, Apache Iceberg, Apache Hudi). Such a folder also contains removed or replaced
//! files; only the table's log shows which are current, so the folder cannot be read as plain files.

use std::path::{Path, PathBuf};

use driftsweep_common::error::Error;

/// A table format, recognised by its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableFormat {
    /// `_delta_log/`.
    Delta,
    /// `metadata/*.metadata.json`.
    Iceberg,
    /// `.hoodie/`.
    Hudi,
}

/// The folders of Iceberg for metadata and for data.
pub(crate) const ICEBERG_METADATA: &str = "metadata";
pub(crate) const ICEBERG_DATA: &str = "data";

impl TableFormat {
    /// The formats that are recognised by the name of a folder alone.
    pub(crate) fn of_log(name: &str) -> Option<Self> {
        match name {
            "_delta_log" => Some(Self::Delta),
            ".hoodie" => Some(Self::Hudi),
            _ => None,
        }
    }

    /// Whether a file in a folder `metadata` is Iceberg's: `00003-….metadata.json` or `v3.metadata.json`.
    pub(crate) fn is_of_iceberg(name: &str) -> bool {
        let is_counted = name.strip_prefix('v').unwrap_or(name).starts_with(|c: char| c.is_ascii_digit());
        is_counted && name.ends_with(".metadata.json")
    }

    /// The format of a folder, recognised by a folder in it.
    pub(crate) fn of_folder(folder: &Path, name: &str) -> Option<Self> {
        if name != ICEBERG_METADATA {
            return Self::of_log(name).filter(|_| folder.join(name).is_dir());
        }
        let mut inside = std::fs::read_dir(folder.join(name)).ok()?.flatten();
        inside.any(|entry| entry.file_name().to_str().is_some_and(Self::is_of_iceberg)).then_some(Self::Iceberg)
    }

    /// The table that a folder lies in, however deep.
    pub fn above(folder: &Path) -> Option<(PathBuf, Self)> {
        folder.ancestors().skip(1).find_map(|outer| {
            let format = ["_delta_log", ".hoodie", ICEBERG_METADATA].iter().find_map(|log| Self::of_folder(outer, log));
            format.map(|format| (outer.to_path_buf(), format))
        })
    }

    /// The error for such a folder, with the remedy.
    pub fn refusal(self, table: impl AsRef<Path>) -> Error {
        let (name, log, reader) = match self {
            Self::Delta => {
                ("a Delta Lake", "_delta_log", "`DeltaTable(\"…\").file_uris()` of the Python package deltalake")
            }
            Self::Iceberg => {
                ("an Apache Iceberg", "metadata/*.metadata.json", "`table.scan().plan_files()` of pyiceberg")
            }
            Self::Hudi => ("an Apache Hudi", ".hoodie", "Spark's reader of Hudi"),
        };
        let reason = format!(
            "{name} table ({log}): removed or replaced files are in the same folder as the current ones and would be \
             counted, too; write the rows of one version to a separate folder, or name a current file itself ({reader} \
             lists them)"
        );
        Error::Unreadable { path: table.as_ref().into(), reason }
    }
}
