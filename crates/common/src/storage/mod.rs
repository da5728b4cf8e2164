//! Files on a local disk or in an object store (`s3://`, `gs://`, `az://`, `abfss://`, `http://`, `https://`): listed,
//! read in ranges, and written as a whole. The only user of the object store library; everything is blocking, like the
//! rest of the crate.

#[cfg(feature = "cloud")]
mod client;
pub mod limit;
mod local;
#[cfg(feature = "cloud")]
mod remote;
#[cfg(not(feature = "cloud"))]
#[path = "without.rs"]
mod remote;
#[cfg(feature = "cloud")]
mod timeouts;

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

pub use crate::address::is_remote;
use crate::address::{extension, split_query};
use crate::atomic;
use crate::error::{Error, Result};

/// A path below a folder, which may be an address.
pub fn join(folder: &Path, name: &str) -> PathBuf {
    if is_remote(folder) {
        let address = folder.to_string_lossy();
        let (place, query) = split_query(&address);
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        PathBuf::from(format!("{}/{name}{query}", place.trim_end_matches('/')))
    } else {
        folder.join(name)
    }
}

/// An open file. Reads give the content at the time it was opened, or an error.
pub struct StoredFile {
    kind: Kind,
    length: u64,
    version: String,
}

enum Kind {
    Local(local::LocalFile),
    Remote(remote::Object),
}

impl StoredFile {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Unreadable`] with the reason.
    pub fn open(path: &Path) -> Result<Self> {
        if is_remote(path) {
            let (object, length, version) = remote::Object::open(path)?;
            Ok(Self { kind: Kind::Remote(object), length, version })
        } else {
            let (file, length, version) = local::LocalFile::open(path)?;
            Ok(Self { kind: Kind::Local(file), length, version })
        }
    }

    /// Its size in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// A version that changes when its content does: the modification time, or the entity tag.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// The reason: it was truncated or changed since it was opened, or cannot be reached.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> std::result::Result<(), String> {
        match &self.kind {
            Kind::Local(file) => file.read_exact_at(bytes, offset),
            Kind::Remote(object) => object.read_exact_at(bytes, offset),
        }
    }

    /// Reads it from the start; seeking is cheap, small reads of an object are not.
    pub fn reader(&self) -> Reader<'_> {
        Reader { file: self, at: 0 }
    }
}

/// A position in a [`StoredFile`].
pub struct Reader<'a> {
    file: &'a StoredFile,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let left = self.file.length.saturating_sub(self.at);
        let n = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if n > 0 {
            self.file.read_exact_at(&mut bytes[..n], self.at).map_err(std::io::Error::other)?;
            self.at += n as u64;
        }
        Ok(n)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Bytes of a whole file that are read at once.
const STEP: u64 = 64 << 20;

/// A whole file. A wrong length does not use more memory than the actual content.
///
/// # Errors
/// Those of [`StoredFile::open`]; [`Error::Unreadable`] where it is larger than [`limit::max_part_bytes`].
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let file = StoredFile::open(path)?;
    let unreadable = |reason| Error::Unreadable { path: path.into(), reason };
    if file.length > limit::max_part_bytes() {
        let reason = format!("{} bytes, more than fit into the memory of this process", file.length);
        return Err(unreadable(reason));
    }
    let mut bytes = Vec::new();
    loop {
        let from = bytes.len();
        let step = STEP.min(file.length - from as u64);
        if step == 0 {
            return Ok(bytes);
        }
        bytes.resize(from + step as usize, 0);
        file.read_exact_at(&mut bytes[from..], from as u64).map_err(unreadable)?;
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
/// [`Error::Write`]; an existing file is then unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if is_remote(path) { remote::write(path, bytes) } else { atomic::write(path, bytes) }
}

/// An object that was listed.
pub struct ListedObject {
    /// Its address.
    pub path: PathBuf,
    /// Its name below the listed address, unescaped.
    pub below: String,
}

/// An object for libraries that read objects themselves.
#[cfg(feature = "cloud")]
pub struct StoredObject {
    /// Its store.
    pub store: std::sync::Arc<dyn object_store::ObjectStore>,
    /// A name of the store, as in a host: the same for the same store.
    pub store_name: String,
    /// Its key, with characters escaped that have a meaning in an address.
    pub key: String,
}

/// The store and the key of a remote path.
///
/// # Errors
/// [`Error::Unreadable`]: the address is none, or a signed link.
#[cfg(feature = "cloud")]
pub fn object(path: &Path) -> Result<StoredObject> {
    remote::object(path)
}

/// The objects below an address, in order of their addresses.
///
/// # Errors
/// [`Error::NotFound`] where there are none; [`Error::Unreadable`] with the reason.
pub fn list_remote(folder: &str) -> Result<Vec<ListedObject>> {
    remote::list(folder)
}

/// Whether there is an object below an address with a wanted name; `false` if that is unknown.
pub fn has_object(folder: &str, wanted: impl Fn(&str) -> bool + Sync) -> bool {
    remote::has_object(folder, wanted)
}

/// The files below a folder, at any depth.
///
/// # Errors
/// [`Error::NotFound`], or [`Error::Unreadable`] with the reason.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    if is_remote(folder) {
        let listed = remote::list(&folder.to_string_lossy())?;
        Ok(listed.into_iter().map(|object| object.path).collect())
    } else {
        local::list(folder)
    }
}

/// A local copy of an object, gone when dropped: for formats that are not read in ranges.
///
/// # Errors
/// Those of [`StoredFile::open`]; [`Error::Write`].
pub fn download(path: &Path) -> Result<TempPath> {
    let file = StoredFile::open(path)?;
    let suffix = extension(path).map_or(String::new(), |extension| format!(".{extension}"));
    let failed = |source| Error::Write { path: std::env::temp_dir(), source };
    let mut copy = tempfile::Builder::new().prefix("driftsweep-").suffix(&suffix).tempfile().map_err(failed)?;
    let mut block = vec![0; 8 << 20];
    let mut at = 0;
    while at < file.length {
        let n = (file.length - at).min(block.len() as u64) as usize;
        let unreadable = |reason| Error::Unreadable { path: path.into(), reason };
        file.read_exact_at(&mut block[..n], at).map_err(unreadable)?;
        copy.write_all(&block[..n]).map_err(failed)?;
        at += n as u64;
    }
    Ok(copy.into_temp_path())
}
