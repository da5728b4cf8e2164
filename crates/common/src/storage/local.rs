//! Files on a local disk.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Most files that are kept open; others are opened again for every read.
const MAX_OPEN_FILES: usize = 512;
static OPEN_FILES: AtomicUsize = AtomicUsize::new(0);

/// Bytes are read with positioned reads, not through a memory map: a file that is replaced or truncated while it is
/// read gives an error instead of a signal, and memory use stays predictable.
pub struct LocalFile {
    path: PathBuf,
    kept: Option<File>,
    state: FileState,
}

/// Size, and time of the last change in seconds and nanoseconds since 1970.
type FileState = (u64, i64, i64);

fn state(found: &Metadata) -> FileState {
    (found.len(), found.mtime(), found.mtime_nsec())
}

impl LocalFile {
    pub fn open(path: &Path) -> Result<(Self, u64, String)> {
        let failed = |e: std::io::Error| Error::io(path, &e);
        // Opening a pipe would wait for its writer forever.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Error::Unreadable { path: path.into(), reason: "it is not a regular file; name one".into() });
        }
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let state = state(&found);
        let keep = OPEN_FILES.fetch_add(1, Ordering::Relaxed) < MAX_OPEN_FILES;
        if !keep {
            OPEN_FILES.fetch_sub(1, Ordering::Relaxed);
        }
        // A copy with the same modification time has another inode, or was created at another time.
        let ((bytes, seconds, nanoseconds), inode) = (state, found.ino());
        let (made, made_nanoseconds) = (found.ctime(), found.ctime_nsec());
        let version = format!("({bytes}, {seconds}, {nanoseconds}) {inode} ({made}, {made_nanoseconds})");
        Ok((Self { path: path.into(), kept: keep.then_some(file), state }, state.0, version))
    }

    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> std::result::Result<(), String> {
        let opened;
        let file = match &self.kept {
            Some(file) => file,
            None => {
                opened = File::open(&self.path).map_err(|e| e.to_string())?;
                &opened
            }
        };
        file.read_exact_at(bytes, offset)
            .map_err(|e| format!("{e}; the file was probably truncated or replaced while it was read"))?;
        // Wrong bytes might also decode.
        if state(&file.metadata().map_err(|e| e.to_string())?) != self.state {
            return Err(
                "the file was changed while it was read; write snapshots under another name and rename them".into()
            );
        }
        Ok(())
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if self.kept.is_some() {
            OPEN_FILES.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// All files below a folder.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Error::io(folder, &e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() { files.extend(list(&path)?) } else { files.push(path) }
    }
    files.sort();
    Ok(files)
}
