//! `model.json` in the folder of a trained model, and the files of its artefact.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::executor::{TrainedModel, TrainingWindow};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What is known of the model, in its folder.
pub const CARD: &str = "model.json";

/// The folder of the artefact, in that of its model.
pub const ARTEFACT_FOLDER: &str = "model";

/// Bytes of a card.
const MAX_CARD_BYTES: u64 = 16 << 20;

/// Bytes that are hashed at a time.
const BUFFER_BYTES: usize = 1 << 16;

fn unreadable(path: &Path, reason: impl ToString) -> Error {
    Error::Unreadable { path: path.into(), reason: reason.to_string() }
}

/// The card of a trained model.
///
/// # Errors
/// [`Error::Unreadable`].
pub fn read(folder: &Path) -> Result<Value> {
    let path = folder.join(CARD);
    let text = atomic::read_text(&path, MAX_CARD_BYTES)
        .map_err(|e| unreadable(&path, format!("{e}; name the folder of a model that `driftsweep train` made")))?;
    serde_json::from_str(&text).map_err(|e| unreadable(&path, format!("it is no card of a model: {e}")))
}

/// What a card says of its model, for the registry. What is malformed in it is left out.
pub fn trained(card: &Value, source: &str) -> TrainedModel {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let window = |value: &Value| {
        let window = TrainingWindow {
            from: value["from"].as_str().and_then(|from| from.parse().ok()),
            to: value["to"].as_str()?.parse().ok()?,
            rows: value["labelled"].as_u64(),
        };
        Some(window)
    };
    TrainedModel {
        source: source.into(),
        digest: text(&card["digest"]),
        trainer: text(&card["trainer"]["kind"]),
        feature_set: text(&card["feature_set"]),
        feature_version: text(&card["feature_version"]),
        training: window(&card["training"]),
        metrics: Deserialize::deserialize(&card["metrics"]).unwrap_or_default(),
    }
}

/// SHA-256 over the digests of all files of an artefact.
pub fn digest_of(files: &IndexMap<String, String>) -> String {
    let mut hash = Sha256::new();
    files.iter().for_each(|(name, digest)| hash.update(format!("{digest}  {name}\n")));
    atomic::hex(&hash.finalize())
}

/// SHA-256 of bytes.
#[cfg(feature = "pipeline")]
pub fn digest(bytes: &[u8]) -> String {
    atomic::hex(&Sha256::digest(bytes))
}

/// SHA-256 of each file below a folder, by its path there.
///
/// # Errors
/// [`Error::Unreadable`], also for what is neither a file nor a folder.
pub fn digests(folder: &Path) -> Result<IndexMap<String, String>> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(|e| unreadable(&next, e))? {
            let path = entry.map_err(|e| unreadable(&next, e))?.path();
            // A link may lead anywhere, and a pipe would wait for its other end.
            let known = fs::symlink_metadata(&path).map_err(|e| unreadable(&path, e))?;
            match (known.is_dir(), known.is_file()) {
                (true, _) => folders.push(path),
                (_, true) => files.push(path),
                _ => {
                    let reason =
                        "it is neither a file nor a folder; an artefact has only these: copy what a link leads to";
                    return Err(unreadable(&path, reason));
                }
            }
        }
    }
    files.sort();
    let digest = |path: PathBuf| {
        let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        Ok((name, file_digest(&path).map_err(|e| unreadable(&path, e))?))
    };
    files.into_iter().map(digest).collect()
}

/// SHA-256 of a file.
fn file_digest(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash) = (atomic::open_external(path)?, Sha256::new());
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(atomic::hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Refuses a model whose artefact is not the one of its card.
///
/// # Errors
/// [`Error::Unreadable`].
pub fn check_artefact(folder: &Path, card: &Value) -> Result<()> {
    let artefact = folder.join(ARTEFACT_FOLDER);
    match card["digest"].as_str() == Some(&*digest_of(&digests(&artefact)?)) {
        true => Ok(()),
        false => {
            Err(unreadable(&artefact, format!("it is not the artefact that {CARD} describes; it was changed since")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_artefact_is_known_by_all_of_its_files_and_holds_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(ARTEFACT_FOLDER).join(name);
        fs::create_dir_all(at("trees")).unwrap();
        fs::write(at("model.bin"), vec![7; 3 * BUFFER_BYTES + 1]).unwrap();
        fs::write(at("trees/1"), "x").unwrap();
        let files = digests(&folder.path().join(ARTEFACT_FOLDER)).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["model.bin", "trees/1"]);
        assert_eq!(files["trees/1"], atomic::hex(&Sha256::digest("x")));
        assert_eq!(files["model.bin"], atomic::hex(&Sha256::digest(vec![7; 3 * BUFFER_BYTES + 1])));
        let card = json!({ "digest": digest_of(&files) });
        check_artefact(folder.path(), &card).unwrap();
        for change in
            [&|| fs::write(at("trees/1"), "y").unwrap(), &|| fs::rename(at("trees/1"), at("trees/2")).unwrap()]
                as [&dyn Fn(); 2]
        {
            change();
            assert!(check_artefact(folder.path(), &card).unwrap_err().to_string().contains("changed since"));
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/", at("loop")).unwrap();
            assert!(digests(folder.path()).unwrap_err().to_string().contains("neither a file nor a folder"));
            fs::remove_file(at("loop")).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
            assert!(digests(folder.path()).unwrap_err().to_string().contains("neither a file nor a folder"));
        }
    }
}
