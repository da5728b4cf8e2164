//! Folders of a table format (Delta Lake, Apache Iceberg, Apache Hudi). Such a folder also holds files that were removed or
//! replaced; only the table's log says which are live, so the folder cannot be read as files.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// A table format, as its log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// `_delta_log/`.
    Delta,
    /// `metadata/*.metadata.json`.
    Iceberg,
    /// `.hoodie/`.
    Hudi,
}

/// The folder in which Iceberg keeps what makes it a table, and the one beside it for the rows.
pub const ICEBERG_METADATA: &str = "metadata";
pub const ICEBERG_DATA: &str = "data";

impl TableFormat {
    /// Those that a folder of this name tells by itself.
    pub fn of_log(name: &str) -> Option<Self> {
        match name {
            "_delta_log" => Some(Self::Delta),
            ".hoodie" => Some(Self::Hudi),
            _ => None,
        }
    }

    /// Whether a file in a folder `metadata` is Iceberg's: `00003-….metadata.json` or `v3.metadata.json`.
    pub fn is_of_iceberg(name: &str) -> bool {
        let is_counted = name.strip_prefix('v').unwrap_or(name).starts_with(|c: char| c.is_ascii_digit());
        is_counted && name.ends_with(".metadata.json")
    }

    /// What a folder in a folder tells of the outer one.
    pub fn of_folder(folder: &Path, name: &str) -> Option<Self> {
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

    /// Why its files are not read, and what to do.
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
            "{name} table ({log}): files that were removed or replaced lie beside the live ones and would be counted, too; \
             write the rows of one version to a folder of their own, or name a live file itself ({reader} lists them)"
        );
        Error::Unreadable { path: table.as_ref().into(), reason }
    }
}
