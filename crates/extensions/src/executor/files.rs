//! The files of a run. Only their owner may read them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use driftsweep_common::address;
use driftsweep_common::atomic;

/// The largest answer.
pub const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// The largest task file: the arguments of a command may be long.
pub const MAX_TASK_BYTES: u64 = 16 << 20;

/// Makes a new file that only its owner may read, replacing whatever has its name: an existing file is never opened, so
/// a link is not followed and no other file is emptied.
///
/// # Errors
/// If it cannot be made.
pub fn create(path: &Path) -> io::Result<File> {
    remove_any(path)?;
    atomic::private_options().create_new(true).write(true).open(path)
}

/// Removes a file, pipe or folder from the folder of a run; of a link only the link itself.
///
/// # Errors
/// If it cannot be removed.
pub fn remove_any(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// Removes a folder in place of a file that is to be written. Anything else is replaced by writing.
///
/// # Errors
/// If it cannot be removed.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => remove_any(path),
        _ => Ok(()),
    }
}

/// A path of a run as text.
///
/// # Errors
/// That it is not UTF-8, and the remedy.
pub fn as_text(path: &Path) -> Result<&str, String> {
    address::as_text(path).map_err(|reason| format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_new_file_takes_the_place_of_anything_and_changes_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("target"), "untouched").unwrap();
        fs::create_dir_all(at("folder/inner")).unwrap();
        std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("made-by-link"), at("dangling")).unwrap();
        fs::hard_link(at("target"), at("second-name")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        for name in ["folder", "link", "dangling", "second-name", "pipe", "missing"] {
            std::io::Write::write_all(&mut create(&at(name)).unwrap(), b"new").unwrap();
            let known = fs::symlink_metadata(at(name)).unwrap();
            assert!(known.is_file() && known.len() == 3, "{name}");
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&known.permissions()) & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::read(at("target")).unwrap(), b"untouched");
        assert!(!at("made-by-link").exists());
    }
}
