//! A record of the audit that was seen before, kept outside of the store: it tells a store that was emptied, or written anew,
//! from the one that was left.

use std::path::{Path, PathBuf};

use clap::Args;
use driftsweep::atomic;
use driftsweep::error::Result;
use driftsweep::store::Store;

/// Where the last record is kept.
#[derive(Args)]
pub struct CheckpointArgs {
    /// A file outside of the store and the state that holds the last audit record as the last tick left it: a store that does
    /// not hold that record is refused (exit code 15) [default: $DRIFTSWEEP_CHECKPOINT, or none]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

/// Names the file where the command line does not.
const VARIABLE: &str = "DRIFTSWEEP_CHECKPOINT";

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
        let shown = text.escape_debug();
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
}

impl CheckpointArgs {
    /// The file, if one is named.
    fn file(&self) -> Option<PathBuf> {
        self.checkpoint.clone().or_else(|| super::variable(VARIABLE).map(PathBuf::from))
    }

    /// The record that the file holds; nothing where none is named, or it is not there yet. The file must not be in the
    /// folder of the state: who empties one would empty the other.
    pub fn read(&self, state: &Path) -> anyhow::Result<Option<Checkpoint>> {
        let Some(file) = self.file() else { return Ok(None) };
        let absolute = |path: &Path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            path.canonicalize().unwrap_or(path)
        };
        if absolute(file.parent().unwrap_or(Path::new(""))).starts_with(absolute(state)) {
            return Err(super::bad("--checkpoint", "must not be in the folder of the state: keep it elsewhere"));
        }
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(super::bad(&format!("checkpoint {}", file.display()), &error.to_string())),
        };
        let found = Checkpoint::parse(text.trim_end()).map_err(|reason| {
            super::bad(&format!("checkpoint {}", file.display()), &format!("{reason}; restore the file"))
        })?;
        Ok(Some(found))
    }

    /// Writes the last record of a store into the file, if one is named.
    pub fn write(&self, store: &mut Store) -> Result<()> {
        let Some(file) = self.file() else { return Ok(()) };
        match store.audit_head()? {
            Some((seq, hash)) => atomic::write(&file, format!("{seq}:{hash}\n").as_bytes()),
            None => Ok(()),
        }
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
}
