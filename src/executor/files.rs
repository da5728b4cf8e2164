//! The files of a run. Only their owner may read them, and what others write there is read with care.

use std::fs::{self, OpenOptions};
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

/// How a file is opened that only its owner may read.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
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
