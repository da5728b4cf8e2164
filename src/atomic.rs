//! Writing files so that a reader sees the old one or the new one, never half of one.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes beside the target, syncs, and renames over it. A link keeps pointing where it points, and what is not
/// a regular file (a pipe, a device) is written to, not replaced. An existing file keeps its mode, and its owner where that
/// is allowed; a new one gets the mode that the user's umask leaves.
///
/// # Errors
/// [`Error::Write`]; a regular target is then as it was.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    put(path, bytes, false)
}

/// The same for a file that only its owner may read.
///
/// # Errors
/// [`Error::Write`]; a regular target is then as it was.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    put(path, bytes, true)
}

fn put(path: &Path, bytes: &[u8], private: bool) -> Result<()> {
    let failed = |source| Error::Write { path: path.into(), source };
    let resolved = std::fs::canonicalize(path);
    let path = resolved.as_deref().unwrap_or(path);
    let target = std::fs::metadata(path).ok();
    if target.as_ref().is_some_and(|target| !target.is_file() && !target.is_dir()) {
        return std::fs::OpenOptions::new().write(true).open(path).and_then(|mut f| f.write_all(bytes)).map_err(failed);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    // A temporary file is private unless something else is asked for.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".driftsweep-");
    #[cfg(unix)]
    if !private && target.is_none() {
        use std::os::unix::fs::PermissionsExt;
        // The system takes the umask off when it creates the file. To read the umask instead, a program must set it, and
        // that changes it for its other threads.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    #[cfg(unix)]
    if let Some(target) = target.filter(|target| !private && target.is_file()) {
        use std::os::unix::fs::{MetadataExt, fchown};
        // Only root may give a file away, and some file systems know no owners. The mode comes last: a new owner changes it.
        let _ = fchown(file.as_file(), Some(target.uid()), Some(target.gid()));
        file.as_file().set_permissions(target.permissions()).map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// How a file is opened that only its owner may read, if it is made.
pub fn private() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a folder, and those around it, so that only their owner can look into them. One that is there stays as it is.
///
/// # Errors
/// If it cannot be made.
pub fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_its_target_and_a_pipe_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write(&link, b"new").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert!(link.is_symlink());
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        write(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(matches!(write(folder.path(), b"x"), Err(Error::Write { .. })), "a folder is not a file");
    }
    #[cfg(unix)]
    #[test]
    fn a_file_keeps_its_mode_and_a_new_one_has_what_the_umask_leaves() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().mode() & 0o7777;
        for kept in [0o600, 0o640, 0o664, 0o444] {
            let path = folder.path().join("kept");
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, "old").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(kept)).unwrap();
            // Only root can give a file to somebody else.
            let given = chown(&path, Some(12_345), Some(12_345)).is_ok();
            write(&path, b"new").unwrap();
            assert_eq!(mode("kept"), kept);
            assert_eq!(std::fs::metadata(&path).unwrap().uid() == 12_345, given);
        }
        // What an ordinary program's new file gets.
        std::fs::write(folder.path().join("ordinary"), "x").unwrap();
        write(&folder.path().join("new"), b"x").unwrap();
        assert_eq!(mode("new"), mode("ordinary"));
        write_private(&folder.path().join("private"), b"x").unwrap();
        write_private(&folder.path().join("new"), b"x").unwrap();
        assert_eq!((mode("private"), mode("new")), (0o600, 0o600));
    }
}
