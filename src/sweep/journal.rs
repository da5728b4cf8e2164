//! The journal of a sweep: what has been compared so far, so that a killed sweep can be resumed.
//!
//! One file, only ever appended to: a header, then one record per group of features that share columns. A record
//! carries its length and its checksum, so that a truncated one is detected and dropped. A record is found by the
//! fingerprint of everything its figures depend on: after any change it is compared again.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::report::Feature;
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage::limit;
use driftsweep_common::versioned::{Format, FormatError};

/// The result of a group of features.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupResult {
    /// Columns that were read for it.
    pub reads: usize,
    /// Features, each with its task and its place.
    pub features: Vec<(usize, usize, Feature)>,
}

/// Which group of which shard.
#[derive(Clone, Copy)]
pub struct GroupId<'a> {
    /// Fingerprint of the shard.
    pub shard: &'a str,
    /// Position of the group in it.
    pub group: usize,
}

impl GroupId<'_> {
    fn key(self) -> u128 {
        xxh3_128(format!("{} {}", self.shard, self.group).as_bytes())
    }
}

/// The header of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct JournalHeader {
    version: u32,
    /// Name of the fleet.
    fleet: String,
    /// The time the sweep counts as, RFC 3339.
    as_of: String,
}

impl JournalHeader {
    /// The header of a journal that can be resumed; `None` for one of an earlier version, or one that cannot be read.
    fn of(content: &[u8]) -> std::result::Result<Option<Self>, FormatError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        // A later header may have other fields.
        let Ok(Version { version }) = rmp_serde::from_slice(content) else { return Ok(None) };
        FORMAT.check(version.into())?;
        Ok((version == FORMAT.version()).then(|| rmp_serde::from_slice(content).ok()).flatten())
    }
}

/// The version is increased whenever the same data would be compared in another way than before: what an earlier program
/// has compared is compared again.
const FORMAT: Format = Format::of_version("journals", 2);

/// Bytes before the content of a record: length, checksum, key.
const PREFIX: usize = 4 + 8 + 16;

/// The journal of a running sweep. As long as it is open, no other process can open it.
///
/// ```
/// use driftsweep::{CpuCounter, Journal, Model, SweepPlan, SweepRun};
///
/// # fn main() -> driftsweep::Result<()> {
/// let model = Model::new("weather", "datasets/nycflights13/weather-2013-01.parquet", "datasets/nycflights13/weather-2013-07.parquet");
/// let plan = SweepPlan::new("fleet", [&model], jiff::Timestamp::UNIX_EPOCH);
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let journal = Journal::open(folder, "fleet", "1970-01-01T00:00:00Z", |_| false)?;
/// // After a kill, the same lines go on from what the journal has.
/// let report = SweepRun { journal: Some(&journal), ..SweepRun::new(&CpuCounter) }.sweep(&plan);
/// journal.finish()?;
/// assert_eq!(report.summary.failed, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    as_of: String,
    /// Where the content of each record of an earlier run is.
    known: HashMap<u128, (u64, usize)>,
    file: Mutex<Appender>,
}

#[derive(Debug)]
struct Appender {
    file: File,
    /// The first failure of an append; there are no appends after it.
    failure: Option<String>,
}

impl Journal {
    /// Opens the journal of a fleet in a folder, which is made where it is missing. `as_of` is the time that the sweep
    /// counts as; `continues` says whether a sweep with an earlier time is resumed, and keeps its time then.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process has it open; [`Error::Unreadable`] where a newer program wrote it;
    /// [`Error::Write`].
    pub fn open(folder: &Path, fleet: &str, as_of: &str, continues: impl Fn(&str) -> bool) -> Result<Self> {
        let path = folder.join("sweep.journal");
        let failed = |source| Error::Write { path: path.clone(), source };
        atomic::private_folder(folder).map_err(failed)?;
        // It contains figures of the data.
        let mut options = atomic::private_options();
        options.read(true).append(true).create(true);
        let file = atomic::open_regular(&path, &mut options).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: folder.into() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let (header, known, end) = scan(&file).map_err(failed)?;
        if header.is_none() && !may_be_journal(&file).map_err(failed)? {
            return Err(failed(std::io::Error::other("the file exists and is not a journal of driftsweep")));
        }
        let header = header.map_or(Ok(None), |header| JournalHeader::of(&header)).map_err(|e| {
            let or = if matches!(e, FormatError::Newer { .. }) { ", or" } else { ";" };
            let reason = format!("{e}{or} delete the file: the sweep then starts from the beginning");
            Error::Unreadable { path: path.as_path().into(), reason }
        })?;
        let (as_of, known) = match header {
            Some(header) if header.fleet == fleet && continues(&header.as_of) => {
                file.set_len(end).map_err(failed)?;
                (header.as_of, known)
            }
            _ => {
                file.set_len(0).map_err(failed)?;
                let header = JournalHeader { version: FORMAT.version(), fleet: fleet.into(), as_of: as_of.into() };
                append(&file, 0, &header).map_err(failed)?;
                (header.as_of, HashMap::new())
            }
        };
        Ok(Self { path, as_of, known, file: Mutex::new(Appender { file, failure: None }) })
    }

    /// The time that the sweep counts as.
    pub fn as_of(&self) -> &str {
        &self.as_of
    }

    /// Groups that an earlier run had compared.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// The result of a group in an earlier run.
    pub fn find(&self, id: GroupId<'_>) -> Option<GroupResult> {
        let &(at, length) = self.known.get(&id.key())?;
        let mut content = vec![0; length];
        let appender = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        appender.file.read_exact_at(&mut content, at).ok()?;
        drop(appender);
        rmp_serde::from_slice(&content).ok()
    }

    /// Appends the result of a group.
    pub fn note(&self, id: GroupId<'_>, done: &GroupResult) {
        let mut appender = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if appender.failure.is_none() {
            appender.failure = append(&appender.file, id.key(), done).err().map(|e| e.to_string());
        }
    }

    /// Why the journal could not be written any further, if so: the sweep continues, but cannot be resumed from there.
    pub fn failure(&self) -> Option<String> {
        let appender = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        appender.failure.as_ref().map(|failure| format!("{}: {failure}", self.path.display()))
    }

    /// Empties the journal: the sweep is complete, and its results are written.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish(self) -> Result<()> {
        let appender = self.file.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The file itself is kept: it is the lock, and two processes must not hold locks on two files of one name.
        appender.file.set_len(0).map_err(|source| Error::Write { path: self.path, source })
    }
}

/// Appends a record in one write.
fn append(mut file: &File, key: u128, content: &impl Serialize) -> std::io::Result<()> {
    let content = rmp_serde::to_vec_named(content).map_err(std::io::Error::other)?;
    let length = u32::try_from(content.len()).map_err(std::io::Error::other)?;
    let mut record = Vec::with_capacity(PREFIX + content.len());
    record.extend(length.to_le_bytes());
    record.extend((xxh3_64(&content) ^ key as u64).to_le_bytes());
    record.extend(key.to_le_bytes());
    record.extend(content);
    file.write_all(&record)
}

/// Whether a file starts as a journal does, whose first record has the key 0; one cut short by a kill may.
fn may_be_journal(file: &File) -> std::io::Result<bool> {
    let mut start = [0; PREFIX];
    let n = file.read_at(&mut start, 0)?;
    Ok(start[..n].iter().skip(12).all(|&byte| byte == 0))
}

type Scanned = (Option<Vec<u8>>, HashMap<u128, (u64, usize)>, u64);

/// Finds the header, every whole record, and where the last of them ends.
fn scan(file: &File) -> std::io::Result<Scanned> {
    let size = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut header, mut known, mut end) = (None, HashMap::new(), 0u64);
    let mut content = Vec::new();
    while end + PREFIX as u64 <= size {
        let (mut length, mut sum, mut key) = ([0; 4], [0; 8], [0; 16]);
        reader.read_exact(&mut length)?;
        reader.read_exact(&mut sum)?;
        reader.read_exact(&mut key)?;
        let length = u32::from_le_bytes(length) as usize;
        let start = end + PREFIX as u64;
        if start + length as u64 > size || length as u64 > limit::max_part_bytes() {
            break;
        }
        content.resize(length, 0);
        reader.read_exact(&mut content)?;
        let key = u128::from_le_bytes(key);
        if u64::from_le_bytes(sum) != xxh3_64(&content) ^ key as u64 {
            break;
        }
        if end == 0 {
            header = Some(content.clone());
        } else {
            known.insert(key, (start, length));
        }
        end = start + length as u64;
    }
    Ok((header, known, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Rows;

    fn done(name: &str) -> GroupResult {
        let mut feature = Feature::failed(Rows { baseline: 1, current: 2 }, "x".into());
        feature.name = name.into();
        // What JSON could not hold.
        feature.baseline.min = Some(f64::NEG_INFINITY);
        GroupResult { reads: 3, features: vec![(0, 7, feature)] }
    }

    fn id(group: usize) -> GroupId<'static> {
        GroupId { shard: "s", group }
    }

    #[test]
    fn whole_records_are_found_again_and_one_cut_short_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "fleet", "monday", |_| true).unwrap();
        journal.note(id(0), &done("a"));
        journal.note(id(1), &done("b"));
        drop(journal);
        let path = folder.path().join("sweep.journal");
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let journal = Journal::open(folder.path(), "fleet", "tuesday", |_| true).unwrap();
            for (group, name) in [(0, "a"), (1, "b")] {
                assert!(journal.find(id(group)).is_none_or(|found| found == done(name)));
            }
            assert!(journal.known() < 2);
            journal.note(id(2), &done("c"));
            drop(journal);
            let journal = Journal::open(folder.path(), "fleet", "tuesday", |_| true).unwrap();
            assert_eq!(journal.find(id(2)), Some(done("c")), "cut at {cut}");
        }
        std::fs::write(&path, &whole).unwrap();
        let journal = Journal::open(folder.path(), "fleet", "tuesday", |as_of| as_of == "monday").unwrap();
        assert_eq!((journal.as_of(), journal.known()), ("monday", 2));
        assert_eq!(journal.find(id(1)), Some(done("b")));
        assert!(journal.find(GroupId { shard: "other", group: 1 }).is_none());
    }

    #[test]
    fn a_damaged_record_is_not_taken_for_what_was_compared() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "fleet", "monday", |_| true).unwrap();
        journal.note(id(0), &done("a"));
        journal.note(id(1), &done("b"));
        drop(journal);
        let path = folder.path().join("sweep.journal");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, damaged).unwrap();
            let Ok(journal) = Journal::open(folder.path(), "fleet", "tuesday", |_| true) else { continue };
            for (group, name) in [(0, "a"), (1, "b")] {
                assert!(journal.find(id(group)).is_none_or(|found| found == done(name)), "byte {at}");
            }
            assert!(journal.known() <= 2);
        }
    }

    #[test]
    fn a_journal_of_a_newer_program_is_refused_and_one_of_an_older_program_is_begun_anew() {
        #[derive(Serialize)]
        struct OtherHeader {
            version: u32,
            fleets: Vec<String>,
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.journal");
        let written = |version: u32| {
            let file = File::options().create(true).truncate(true).write(true).open(&path).unwrap();
            append(&file, 0, &OtherHeader { version, fleets: vec!["fleet".into()] }).unwrap();
            append(&file, id(0).key(), &done("a")).unwrap();
            std::fs::read(&path).unwrap()
        };
        let newer = written(FORMAT.version() + 1);
        let refused = Journal::open(folder.path(), "fleet", "monday", |_| true).unwrap_err().to_string();
        for words in ["sweep.journal: ", "a newer version of driftsweep", "has version 3", "or delete the file"] {
            assert!(refused.contains(words), "{words}: {refused}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), newer, "it is left as it was");
        written(FORMAT.version() - 1);
        let journal = Journal::open(folder.path(), "fleet", "monday", |_| true).unwrap();
        assert_eq!((journal.as_of(), journal.known()), ("monday", 0));
    }

    #[test]
    fn a_second_process_is_refused_and_another_night_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "fleet", "monday", |_| true).unwrap();
        journal.note(id(0), &done("a"));
        assert!(matches!(Journal::open(folder.path(), "fleet", "monday", |_| true), Err(Error::Busy { .. })));
        drop(journal);
        let journal = Journal::open(folder.path(), "fleet", "tuesday", |_| false).unwrap();
        assert_eq!((journal.as_of(), journal.known()), ("tuesday", 0));
        journal.finish().unwrap();
        assert_eq!(Journal::open(folder.path(), "fleet", "wednesday", |_| true).unwrap().as_of(), "wednesday");
    }
}
