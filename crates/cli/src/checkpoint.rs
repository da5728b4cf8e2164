//! A record of the audit that was seen before, kept outside of the store: it shows whether a store was emptied or
//! rewritten.

use std::path::{Path, PathBuf};

use clap::Args;
use driftsweep_common::atomic;
use driftsweep_common::error::Result;
use driftsweep_common::escape::for_display;
use driftsweep_ops::store::Store;

/// Where the last record is kept.
#[derive(Args)]
pub struct CheckpointArgs {
    /// A file outside of the store and the state that keeps the last audit record of the last tick: a store without
    /// that record is refused (exit code 15) [default: $DRIFTSWEEP_CHECKPOINT, or none]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

/// Names the file where the command line does not.
const VARIABLE: &str = "DRIFTSWEEP_CHECKPOINT";

/// The largest size of the file.
const MAX_BYTES: u64 = 64 << 10;

/// A record by its number and hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl Checkpoint {
    /// Reads NUMBER:HASH.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let shown = for_display(text);
        let wrong = || format!("'{shown}' is not NUMBER:HASH as `audit verify` shows it");
        let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
        let seq = seq.parse().map_err(|_| wrong())?;
        if seq == 0 {
            return Err(format!("'{shown}' names record 0, and the first is 1"));
        }
        if hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(format!("'{shown}' has no hash of 64 hexadecimal digits after the colon"));
        }
        Ok(Self { seq, hash: hash.into() })
    }

    /// Reads what a file holds for a fleet: NUMBER:HASH "FLEET". When written by hand it may lack the name.
    fn of(text: &str, fleet: &str) -> std::result::Result<Self, String> {
        let restore = |reason: String| format!("{reason}; restore the file");
        let (record, name) = match text.trim_end().split_once(' ') {
            Some((record, name)) => (record, Some(name)),
            None => (text.trim_end(), None),
        };
        if let Some(name) = name {
            let name: String = serde_json::from_str(name)
                .map_err(|_| restore(format!("'{}' is not the name of a fleet in quotes", for_display(name))))?;
            if name != fleet {
                return Err(format!(
                    "is that of fleet '{}', and not of '{}'; use one file per fleet. If the fleet was renamed, remove \
                     the file to start over",
                    for_display(&name),
                    for_display(fleet)
                ));
            }
        }
        Self::parse(record).map_err(restore)
    }
}

impl CheckpointArgs {
    /// The file, if one is named.
    fn file(&self) -> Option<PathBuf> {
        self.checkpoint.clone().or_else(|| super::variable(VARIABLE).map(PathBuf::from))
    }

    /// The record that the file holds; nothing where none is named, or it is not there yet. The file must not be in the
    /// folder of the state: a person who deletes one could delete the other.
    pub fn read(&self, state: &Path, fleet: &str) -> anyhow::Result<Option<Checkpoint>> {
        let Some(file) = self.file() else { return Ok(None) };
        let absolute = |path: &Path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            path.canonicalize().unwrap_or(path)
        };
        if absolute(file.parent().unwrap_or(Path::new(""))).starts_with(absolute(state)) {
            return Err(super::invalid_value(
                "--checkpoint",
                "must not be in the folder of the state: keep it elsewhere",
            ));
        }
        let wrong = |reason: String| super::invalid_value(&format!("checkpoint {}", file.display()), &reason);
        match atomic::read_external(&file, MAX_BYTES) {
            Ok(Some(bytes)) => Checkpoint::of(&String::from_utf8_lossy(&bytes), fleet).map(Some).map_err(wrong),
            Ok(None) => Ok(None),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// Writes the last record of a store into the file, if one is named. `false`, without writing, if the record in the
    /// store does not match the head that the store has recorded.
    pub fn write(&self, fleet: &str, store: &mut Store) -> Result<bool> {
        let Some(file) = self.file() else { return Ok(true) };
        let Some((seq, hash)) = store.audit_head()? else { return Ok(true) };
        if store.record_hash(seq)?.as_ref() != Some(&hash) {
            return Ok(false);
        }
        let fleet = serde_json::Value::from(fleet);
        atomic::write(&file, format!("{seq}:{hash} {fleet}\n").as_bytes()).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_a_number_from_1_and_a_whole_hash() {
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(Checkpoint::parse(&format!("7:{hash}")), Ok(Checkpoint { seq: 7, hash: hash.clone() }));
        for wrong in ["", ":", "7", "7:", &format!("0:{hash}"), &format!("-1:{hash}"), &format!("7:{}", &hash[1..])] {
            assert!(Checkpoint::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Checkpoint::parse(&format!("7:{}", hash.to_uppercase())).is_err());
    }

    #[test]
    fn a_file_is_of_one_fleet_whatever_its_name_holds() {
        let hash = "0123456789abcdef".repeat(4);
        let found = Ok(Checkpoint { seq: 7, hash: hash.clone() });
        for name in ["a", "a b", "a\nb", "a\"b", "", "ü"] {
            let text = format!("7:{hash} {}\n", serde_json::Value::from(name));
            assert_eq!(Checkpoint::of(&text, name), found, "{text}");
            assert!(Checkpoint::of(&text, "other").unwrap_err().contains("one file per fleet"), "{text}");
        }
        assert_eq!(Checkpoint::of(&format!("7:{hash}\n"), "a"), found);
        for wrong in
            [format!("7:{hash} a"), format!("7:{hash} \"a\" \"b\""), format!("7:{hash}\n7:{hash}"), String::new()]
        {
            assert!(Checkpoint::of(&wrong, "a").unwrap_err().contains("restore the file"), "{wrong}");
        }
    }
}
