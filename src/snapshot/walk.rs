//! The files below a folder on a disk, each once.
//!
//! Real folders are walked first, then unseen ones behind symbolic links: so a link `latest` beside `date=2026-11-25`
//! counts no row twice, the partitions are those of the real folder, and cycles of links end. A broken link is an
//! error: its rows are missing.

use std::collections::{HashMap, VecDeque};
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::lakehouse::TableFormat;
use super::partition::{self, Partitions};
use super::pattern::{Pattern, PatternPositions};
use driftsweep_common::error::{Error, Result};

/// Device and inode: they identify a file or folder under every name.
type Identity = (u64, u64);

fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino())
}

struct Folder {
    path: PathBuf,
    places: PatternPositions,
    partitions: Partitions,
    identity: Identity,
}

struct FoundFile {
    path: PathBuf,
    partitions: Partitions,
    identity: Identity,
    /// Whether it has other names, and whether this one is a symbolic link.
    shared: bool,
    linked: bool,
}

struct Walk<'a> {
    pattern: &'a Pattern,
    /// The start folder, without links.
    top: PathBuf,
    /// Folders that were walked, with their positions in the pattern.
    seen: HashMap<Identity, Vec<PatternPositions>>,
    /// Folders behind links, to be walked later.
    links: VecDeque<Folder>,
    found: Vec<FoundFile>,
    /// Tables of other formats: the folder that was walked, and the table itself.
    tables: Vec<(PathBuf, PathBuf, TableFormat)>,
}

/// The files below a folder that match a pattern, sorted, with the partitions of the folders they are in; none where there
/// is no such folder.
///
/// # Errors
/// A folder that cannot be read, a broken link, or a folder that belongs to a table format.
pub fn files(top: &Path, pattern: &Pattern, partitions: Partitions) -> Result<Vec<(PathBuf, Partitions)>> {
    let failed = |e: std::io::Error| Error::io(top, &e);
    let real = match readable(top).canonicalize() {
        Ok(real) if real.is_dir() => real,
        Ok(_) => return Ok(Vec::new()),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let identity = identity(&std::fs::metadata(&real).map_err(failed)?);
    let tables = TableFormat::above(&real).map(|(table, format)| (top.to_path_buf(), table, format));
    let mut walk = Walk {
        pattern,
        top: real,
        seen: HashMap::new(),
        links: VecDeque::new(),
        found: Vec::new(),
        tables: tables.into_iter().collect(),
    };
    walk.folder(Folder { path: top.into(), places: pattern.start(), partitions, identity })?;
    while let Some(folder) = walk.links.pop_front() {
        walk.folder(folder)?;
    }
    let found = once(walk.found);
    let of_table =
        |(walked, ..): &&(PathBuf, PathBuf, TableFormat)| found.iter().any(|(path, _)| path.starts_with(walked));
    match walk.tables.iter().find(of_table) {
        Some((_, table, format)) => Err(format.refusal(table)),
        None => Ok(found),
    }
}

/// A folder as the system takes it: the one of a pattern without any is the working directory.
fn readable(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

impl Walk<'_> {
    fn folder(&mut self, folder: Folder) -> Result<()> {
        let failed = |e: std::io::Error| Error::io(&folder.path, &e);
        let seen = self.seen.entry(folder.identity).or_default();
        if seen.contains(&folder.places) {
            return Ok(());
        }
        // A pattern may match files on a second path to a folder that it did not match on the first.
        let again = !seen.is_empty();
        seen.push(folder.places.clone());
        let entries = std::fs::read_dir(readable(&folder.path)).map_err(failed)?;
        let mut entries: Vec<_> = entries.collect::<std::io::Result<_>>().map_err(failed)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (os_name, path) = (entry.file_name(), folder.path.join(entry.file_name()));
            let name = os_name.to_string_lossy();
            if let Some(format) = TableFormat::of_folder(&folder.path, &name) {
                self.tables.push((folder.path.clone(), readable(&folder.path).into(), format));
            }
            let places = self.pattern.folder(&folder.places, &name);
            let wanted = self.pattern.file(&folder.places, &name);
            if places.is_empty() && !wanted {
                continue;
            }
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_file() && !wanted {
                continue;
            }
            let metadata = std::fs::metadata(&path).map_err(|e| match kind.is_symlink() {
                true => Error::Unreadable {
                    path: path.as_path().into(),
                    reason: format!("a broken link ({e}); restore its target, or remove it"),
                },
                false => Error::io(&path, &e),
            })?;
            let identity = identity(&metadata);
            if !metadata.is_dir() {
                if wanted && metadata.is_file() {
                    let (partitions, linked) = (folder.partitions.clone(), again || kind.is_symlink());
                    self.found.push(FoundFile { path, partitions, identity, shared: metadata.nlink() > 1, linked });
                }
                continue;
            }
            if places.is_empty() {
                continue;
            }
            if os_name.to_str().is_none() && name.contains('=') {
                let reason = "the name of a partition must be UTF-8; rename the folder".into();
                return Err(Error::Unreadable { path: path.into(), reason });
            }
            let partitions = partition::inside(&folder.partitions, &name);
            let inner = Folder { path, places, partitions, identity };
            if kind.is_symlink() { self.link(inner)? } else { self.folder(inner)? }
        }
        Ok(())
    }

    /// Queues a folder behind a link.
    fn link(&mut self, folder: Folder) -> Result<()> {
        let real = folder.path.canonicalize().map_err(|e| Error::io(&folder.path, &e))?;
        // A link to the start folder, or to a parent of it.
        if !self.top.starts_with(&real) {
            self.tables.extend(TableFormat::above(&real).map(|(table, format)| (folder.path.clone(), table, format)));
            self.links.push_back(folder);
        }
        Ok(())
    }
}

/// Each file once, sorted. A symbolic link to a file that is included already adds nothing. A hard link does if it has
/// other partitions: some tools store unchanged days that way.
fn once(mut found: Vec<FoundFile>) -> Vec<(PathBuf, Partitions)> {
    found.sort_by(|a, b| (a.linked, &a.path).cmp(&(b.linked, &b.path)));
    let mut known: HashMap<Identity, Vec<Partitions>> = HashMap::new();
    let any_links = found.iter().any(|file| file.linked);
    found.retain(|file| {
        if !file.shared && !any_links {
            return true;
        }
        let others = known.entry(file.identity).or_default();
        let new = if file.linked { others.is_empty() } else { !others.contains(&file.partitions) };
        if new {
            others.push(file.partitions.clone());
        }
        new
    });
    let mut files: Vec<_> = found.into_iter().map(|file| (file.path, file.partitions)).collect();
    files.sort();
    files
}
