//! Writing files so that a reader sees either the old or the new content, never a part; and the lock files of processes
//! that must not run at the same time.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::address::redacted;
use crate::error::{Error, Result};

/// How the name of a temporary file begins: files left behind by a killed writer are recognised by it.
const TEMPORARY_PREFIX: &str = ".driftsweep-";

/// A temporary file that is younger may belong to a writer that has not locked it yet.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// Writes beside the target, syncs, and renames over it. A link keeps pointing where it points, and what is not
/// a regular file (a pipe, a device) is written to, not replaced. An existing file keeps its mode, and its owner where that
/// is allowed; a new one gets the mode that the user's umask leaves.
///
/// # Errors
/// [`Error::Write`]; a regular target is then as it was.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| Error::Write { path: path.into(), source };
    let resolved = std::fs::canonicalize(path);
    let path = resolved.as_deref().unwrap_or(path);
    let target = std::fs::metadata(path).ok();
    if target.as_ref().is_some_and(|target| !target.is_file() && !target.is_dir()) {
        return open_special(path).and_then(|mut file| file.write_all(bytes)).map_err(failed);
    }
    replace_file(path, bytes, target, false).map_err(failed)
}

/// The same for a file that only its owner may read. It replaces whatever has its name: a link is replaced, not
/// followed, and a pipe is not written to.
///
/// # Errors
/// [`Error::Write`]; a regular target is then as it was.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_file(path, bytes, None, true).map_err(|source| Error::Write { path: path.into(), source })
}

fn replace_file(path: &Path, bytes: &[u8], target: Option<std::fs::Metadata>, private: bool) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    no_address(path)?;
    std::fs::create_dir_all(folder)?;
    // A temporary file is private unless something else is requested. It is a new one, never an existing file or a
    // link.
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    #[cfg(unix)]
    if !private && target.is_none() {
        use std::os::unix::fs::PermissionsExt;
        // The system applies the umask when it creates the file. To read the umask instead, a program must set it, and
        // that changes it for its other threads.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    // Locked while this writer runs: others see from it that the file is in use. On file systems without locks only the
    // age decides.
    let _ = file.as_file().try_lock();
    remove_stale_files(folder, file.as_file());
    file.write_all(bytes)?;
    #[cfg(unix)]
    if let Some(target) = target.filter(std::fs::Metadata::is_file) {
        use std::os::unix::fs::{MetadataExt, fchown};
        // Only root may change the owner of a file, and some file systems have no owners. The mode is set last: a
        // change of owner resets it.
        let _ = fchown(file.as_file(), Some(target.uid()), Some(target.gid()));
        file.as_file().set_permissions(target.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    File::open(folder).and_then(|folder| folder.sync_all())
}

/// Refuses to make a file or a folder whose name would be an address with a secret in it, such as `https:/user:password@host`.
///
/// # Errors
/// What is wrong, without the name.
pub fn no_address(path: &Path) -> io::Result<()> {
    match path.to_string_lossy() == redacted(path) || path.exists() {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it looks like an address with a secret, and would become a file name; give a path, or write the address \
             with :// and without the secret",
        )),
    }
}

/// Removes the temporary files that killed writers have left in a folder; once per folder and process, because a folder
/// may hold many files. `own` is a file that was made there just now: its time is that of the folder's own clock.
fn remove_stale_files(folder: &Path, own: &File) {
    static CLEANED_FOLDERS: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let new = {
        let mut seen = CLEANED_FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get_or_insert_default().insert(folder.to_owned())
    };
    let Some(now) = own.metadata().and_then(|own| own.modified()).ok().filter(|_| new) else { return };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_temporary = entry.file_name().as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes());
        // The name itself is examined, not the target of a link.
        let Some(known) = entry.metadata().ok().filter(|known| is_temporary && known.is_file()) else { continue };
        let age = known.modified().ok().and_then(|then| now.duration_since(then).ok());
        if age.is_none_or(|age| age < STALE_AFTER) {
            continue;
        }
        let path = entry.path();
        if open_regular(&path, OpenOptions::new().read(true)).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Opens a lock file, which is made where it is missing. It is never emptied; a link in its place is not followed, and a pipe,
/// a device or a folder is refused. `private` makes a new one that only its owner may read.
///
/// # Errors
/// If it cannot be opened, or is no regular file.
pub fn lock_file(path: &Path, private: bool) -> io::Result<File> {
    let mut options = if private { self::private_options() } else { OpenOptions::new() };
    options.create(true).truncate(false).read(true).write(true);
    open_regular(path, &mut options)
}

/// Opens a regular file by its own name: a link is not followed, and opening never waits for a pipe.
///
/// # Errors
/// If it cannot be opened, or is no regular file.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    set_nonblocking(options, Symlinks::Refused);
    let file = options.open(path).map_err(|e| match std::fs::symlink_metadata(path) {
        Ok(known) if known.is_symlink() => io::Error::new(
            e.kind(),
            "it is a symbolic link, which is not followed; put a regular file in its place, or remove it",
        ),
        _ => e,
    })?;
    // The open file is checked, not its name: the name may refer to another file by now.
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file; remove it")) }
}

/// Opens a file that another program or a person wrote, for reading. A link is followed. A pipe, a device or a folder is
/// refused, and never waited for.
///
/// # Errors
/// If it cannot be opened, or is no regular file ([`io::ErrorKind::InvalidInput`]).
pub fn open_external(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    set_nonblocking(&mut options, Symlinks::Followed);
    let refused = |reason: &str| io::Error::new(io::ErrorKind::InvalidInput, reason);
    const NOT_REGULAR: &str = "it is not a regular file; name one";
    // A socket cannot even be opened.
    let file = options.open(path).map_err(|e| if has_no_reader(&e) { refused(NOT_REGULAR) } else { e })?;
    // The open file is checked, not its name: the name may refer to another file by now.
    match file.metadata()? {
        known if known.is_file() => Ok(file),
        known if known.is_dir() => Err(refused("it is a folder; name a file")),
        _ => Err(refused(NOT_REGULAR)),
    }
}

/// The bytes of a small file that was opened.
///
/// # Errors
/// If it cannot be read, or has more than `most` bytes ([`io::ErrorKind::FileTooLarge`]).
pub fn read_limited(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes"))),
        false => Ok(bytes),
    }
}

/// The bytes of a small file that another program or a person wrote; `None` if there is none.
///
/// # Errors
/// Those of [`open_external`] and [`read_limited`].
pub fn read_external(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    match open_external(path) {
        Ok(file) => read_limited(file, most).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// How a file is opened that only its owner may read, if it is made.
pub fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a folder, and those around it, so that only their owner can look into them. One that is there stays as it is.
///
/// # Errors
/// If it cannot be made.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    no_address(folder)?;
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// The text of a small file that another program or a person wrote.
///
/// # Errors
/// Those of [`open_external`] and [`read_limited`], and if it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let bytes = read_limited(open_external(path)?, most)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Adds a line at the end of a regular file, which is made, with its folder, if it is not there. A pipe, a device or a
/// folder is refused: it may have no reader, and a line written to it is not kept.
///
/// # Errors
/// If it is no regular file, or cannot be written.
pub fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    set_nonblocking(&mut options, Symlinks::Followed);
    no_address(path)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let not_regular = || io::Error::other("is not a regular file; name one");
    let mut file = options.open(path).map_err(|e| match has_no_reader(&e) || path.is_dir() {
        true => not_regular(),
        false => e,
    })?;
    // The open file is checked, not its name: the name may refer to another file by now.
    if !file.metadata()?.is_file() {
        return Err(not_regular());
    }
    // One write per line, so that lines of several writers do not mix.
    file.write_all(line).and_then(|()| file.sync_data())
}

/// Whether a link in place of a file is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Symlinks {
    Followed,
    Refused,
}

/// Opening a pipe waits for its other end otherwise.
fn set_nonblocking(options: &mut OpenOptions, links: Symlinks) {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = if links == Symlinks::Refused { OFlags::NOFOLLOW | OFlags::NONBLOCK } else { OFlags::NONBLOCK };
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags.bits() as i32);
    }
    #[cfg(not(unix))]
    let _ = (options, links);
}

/// Whether a pipe could not be opened because it has no reader.
fn has_no_reader(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error());
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

/// How often opening a pipe without a reader is tried, and the delay between attempts: ten seconds in all.
const OPEN_ATTEMPTS: u32 = 500;
const OPEN_RETRY_DELAY: Duration = Duration::from_millis(20);

/// Opens what is no regular file, such as a pipe or a device, for writing. Waiting for a pipe without a reader is
/// limited.
fn open_special(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    set_nonblocking(&mut options, Symlinks::Followed);
    let mut tries = 0;
    let file = loop {
        match options.open(path) {
            Err(e) if has_no_reader(&e) && tries < OPEN_ATTEMPTS => {
                tries += 1;
                std::thread::sleep(OPEN_RETRY_DELAY);
            }
            Err(e) if has_no_reader(&e) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "is a pipe, and no program reads from it"));
            }
            opened => break opened?,
        }
    };
    // The reader may be slower than this program.
    #[cfg(unix)]
    rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - rustix::fs::OFlags::NONBLOCK)?;
    Ok(file)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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
        // More than a pipe holds, and nobody reads at first.
        let large = vec![b'x'; 1 << 20];
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                std::thread::sleep(Duration::from_millis(200));
                std::fs::read(pipe).unwrap()
            }
        });
        write(&pipe, &large).unwrap();
        assert_eq!(reader.join().unwrap(), large);
        let begun = Instant::now();
        let error = write(&pipe, b"x").unwrap_err().to_string();
        assert!(error.contains("no program reads from it") && begun.elapsed() < Duration::from_secs(40), "{error}");
    }

    #[test]
    fn a_private_file_takes_the_place_of_a_link_and_of_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("target"), "untouched").unwrap();
        std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        for name in ["link", "pipe"] {
            write_private(&at(name), b"new").unwrap();
            assert!(std::fs::symlink_metadata(at(name)).unwrap().is_file(), "{name}");
            assert_eq!(std::fs::read(at(name)).unwrap(), b"new");
        }
        assert_eq!(std::fs::read(at("target")).unwrap(), b"untouched");
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let long_ago = std::time::SystemTime::now() - 2 * STALE_AFTER;
        let old = |name: &str| {
            let file = File::create(at(name)).unwrap();
            file.set_modified(long_ago).unwrap();
            file
        };
        drop(old(".driftsweep-left"));
        drop(old("a-file-of-somebody-else"));
        let written = old(".driftsweep-written");
        written.try_lock().unwrap();
        std::fs::write(at(".driftsweep-new"), "").unwrap();
        std::os::unix::fs::symlink("a-file-of-somebody-else", at(".driftsweep-link")).unwrap();
        std::fs::create_dir(at(".driftsweep-folder")).unwrap();
        write(&at("target"), b"x").unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let wanted = [
            ".driftsweep-folder",
            ".driftsweep-link",
            ".driftsweep-new",
            ".driftsweep-written",
            "a-file-of-somebody-else",
            "target",
        ];
        assert_eq!(left, wanted);
    }

    #[test]
    fn a_lock_file_is_never_emptied_nor_reached_through_a_link_or_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("held"), "a word of its holder").unwrap();
        lock_file(&at("held"), true).unwrap().try_lock().unwrap();
        assert_eq!(std::fs::read(at("held")).unwrap(), b"a word of its holder");
        std::os::unix::fs::symlink(at("held"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("made-by-link"), at("dangling")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        std::fs::create_dir(at("folder")).unwrap();
        for name in ["link", "dangling", "pipe", "folder"] {
            assert!(lock_file(&at(name), false).is_err(), "{name}");
        }
        assert!(!at("made-by-link").exists());
        use std::os::unix::fs::PermissionsExt;
        lock_file(&at("own"), true).unwrap();
        assert_eq!(std::fs::metadata(at("own")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn lines_are_added_to_regular_files_only_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::fs::write(at("file"), "one\n").unwrap();
        for (link, target) in [
            ("to-pipe", "pipe"),
            ("null", "/dev/null"),
            ("full", "/dev/full"),
            ("loop", "loop"),
            ("to-file", "file"),
            ("broken", "new"),
        ] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let begun = Instant::now();
        for bad in ["pipe", "socket", "folder", "to-pipe", "null", "full", "loop"] {
            assert!(append(&at(bad), b"line\n").is_err(), "{bad}");
        }
        // With a reader it is no place where a line is kept either.
        let _reader = OpenOptions::new().read(true).write(true).open(at("pipe")).unwrap();
        assert!(append(&at("pipe"), b"line\n").is_err());
        assert!(begun.elapsed() < Duration::from_secs(5));
        for good in ["file", "to-file", "broken", "fresh"] {
            append(&at(good), b"line\n").unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        assert_eq!(
            (read("file"), read("new"), read("fresh")),
            ("one\nline\nline\n".into(), "line\n".into(), "line\n".into())
        );
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

    #[cfg(unix)]
    #[test]
    fn only_a_small_regular_file_is_read_and_nothing_is_waited_for() {
        const MOST: u64 = 64 << 10;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::write(at("full"), vec![b'x'; MOST as usize]).unwrap();
        std::fs::write(at("large"), vec![b'x'; MOST as usize + 1]).unwrap();
        for (link, target) in [("zero", "/dev/zero"), ("loop", "loop"), ("broken", "nowhere"), ("linked", "full")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        for bad in ["pipe", "socket", "large", "zero", "loop", "."] {
            assert!(read_external(&at(bad), MOST).is_err(), "{bad}");
        }
        for missing in ["broken", "missing"] {
            assert!(read_external(&at(missing), MOST).unwrap().is_none(), "{missing}");
        }
        for good in ["full", "linked"] {
            assert_eq!(read_external(&at(good), MOST).unwrap().unwrap().len() as u64, MOST, "{good}");
        }
    }
}
