//! The files of a run. Only their owner may read them, and what others write there is read with care.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// An answer is not larger.
pub const MOST_ANSWER: u64 = 64 << 10;

/// What a supervisor is told is not larger: the arguments of a command may be long.
pub const MOST_TASK: u64 = 16 << 20;

/// The bytes of a small file that another program wrote; `None` if there is none. A pipe, a device or a folder is no such
/// file, and is never waited for.
///
/// # Errors
/// If it cannot be read, is no regular file, or has more than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut options = OpenOptions::new();
    options.read(true);
    // Opening a pipe waits for its writer otherwise.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    // The file that was opened is asked, not its name: that may stand for another file by now.
    let known = file.metadata()?;
    let wrong = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    if !known.is_file() {
        return wrong("it is not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => wrong(format!("it has more than {most} bytes")),
        false => Ok(Some(bytes)),
    }
}

/// Makes a new file that only its owner may read, in place of whatever has its name: nothing that is there is opened, so a
/// link is not followed and no other file is emptied.
///
/// # Errors
/// If it cannot be made.
pub fn create(path: &Path) -> io::Result<File> {
    clear(path)?;
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Removes whatever has a name in the folder of a run: a file, a pipe, a folder; of a link the link alone.
///
/// # Errors
/// If it cannot be removed.
pub fn clear(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// Removes a folder that stands where a file is to be written. What else stands there is replaced by the writing.
///
/// # Errors
/// If it cannot be removed.
pub fn clear_folder(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => clear(path),
        _ => Ok(()),
    }
}

/// A path as text, for arguments, variables and JSON: there it must be whole, or it would name another file.
///
/// # Errors
/// That it is not UTF-8, and the remedy.
pub fn as_text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| {
        format!(
            "{}: the path is not UTF-8 text, so it cannot be handed on; rename the folder, or choose another one for the fleet \
             file or with --state",
            path.display()
        )
    })
}

/// Makes the folder of a run, if it is not there yet, so that only its owner can look into it.
///
/// # Errors
/// If it cannot be made.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        other => other,
    }
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

    #[cfg(unix)]
    #[test]
    fn only_a_small_regular_file_is_read_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        fs::write(at("full"), vec![b'x'; MOST_ANSWER as usize]).unwrap();
        fs::write(at("large"), vec![b'x'; MOST_ANSWER as usize + 1]).unwrap();
        for (link, target) in [("zero", "/dev/zero"), ("loop", "loop"), ("broken", "nowhere"), ("linked", "full")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        for bad in ["pipe", "socket", "large", "zero", "loop", "."] {
            assert!(read(&at(bad), MOST_ANSWER).is_err(), "{bad}");
        }
        for missing in ["broken", "missing"] {
            assert!(read(&at(missing), MOST_ANSWER).unwrap().is_none(), "{missing}");
        }
        for good in ["full", "linked"] {
            assert_eq!(read(&at(good), MOST_ANSWER).unwrap().unwrap().len() as u64, MOST_ANSWER, "{good}");
        }
    }
}
