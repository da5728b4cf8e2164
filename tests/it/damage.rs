//! Damaged files: bytes are changed in thousands of ways, and the program must neither abort nor hang, nor give other figures
//! where a checksum covers what was changed. `DRIFTSWEEP_TEST_MUTATIONS=10000` makes it a long test; the seeds are fixed.
//! `DRIFTSWEEP_TEST_PROGRAM` names another version to try them on.
//!
//! Each damaged file is a model of one fleet, so that one process meets hundreds of them; if it dies, the fleet is halved until
//! it is known which file did it. The process has 4 GiB of address space: memory that a file asks for in vain is an abort.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use safetensors::tensor::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use driftsweep::model::Options;
use driftsweep::sweep::SweepReport;
use driftsweep_fleet::Fleet;
use jiff::Timestamp;

use crate::support::data::{compare, feature, run};
use crate::support::journals::SweptFleet;
use crate::support::seal;

/// Damaged files of each format in an ordinary run.
const ORDINARY: usize = 300;

/// Files in one fleet, and the time it may take.
const FLEET: usize = 250;
const PATIENCE: Duration = Duration::from_secs(60);

fn files() -> PathBuf {
    crate::support::data::root().join("tests/damage")
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// A sound file.
struct Sound {
    name: String,
    bytes: Vec<u8>,
    /// Where its lengths and counts are.
    lengths: Vec<Range<usize>>,
    /// Bytes that a checksum covers.
    covered: Vec<Range<usize>>,
    /// The footer of a Parquet file, whose length follows it.
    footer: Option<Range<usize>>,
}

impl Sound {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let n = bytes.len();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        Self {
            name,
            lengths: vec![0..n.min(2000), n.saturating_sub(2000)..n],
            covered: Vec::new(),
            footer: None,
            bytes,
        }
    }

    fn all(extension: &str) -> Vec<Self> {
        let pages: Value = serde_json::from_slice(&fs::read(files().join("pages.json")).unwrap()).unwrap();
        let mut paths: Vec<_> = fs::read_dir(files()).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == extension));
        paths.sort();
        let with_pages = |path: &PathBuf| {
            let mut sound = Self::read(path);
            if let Some(known) = pages.get(&sound.name) {
                let range = |x: &Value| x[0].as_u64().unwrap() as usize..x[1].as_u64().unwrap() as usize;
                let ranges = |key: &str| known[key].as_array().unwrap().iter().map(range).collect::<Vec<_>>();
                let footer = range(&known["footer"]);
                sound.lengths = [ranges("headers"), vec![footer.clone(), footer.end..footer.end + 8]].concat();
                sound.footer = Some(footer);
                if sound.name.contains("checksums") {
                    sound.covered = ranges("pages");
                }
            }
            sound
        };
        paths.iter().map(with_pages).collect()
    }

    /// Damages a copy. Whether a checksum covers every byte that was changed.
    fn damaged(&self, random: &mut Random) -> (Vec<u8>, bool) {
        let mut bytes = self.bytes.clone();
        for _ in 0..[1, 1, 1, 2, 4][random.below(5)] {
            self.damage(&mut bytes, random);
        }
        let covers = |at: &usize| self.covered.iter().any(|range| range.contains(at));
        let changed: Vec<usize> = (0..bytes.len()).filter(|&at| self.bytes.get(at) != Some(&bytes[at])).collect();
        let covered = bytes.len() == self.bytes.len() && !changed.is_empty() && changed.iter().all(covers);
        (bytes, covered)
    }

    fn damage(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        // Half of the time where lengths are, the other half anywhere.
        let range = if random.below(2) == 0 { random.of(&self.lengths).clone() } else { 0..bytes.len() };
        let at = (range.start + random.below(range.len())).min(bytes.len() - 1);
        let put = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
            for (old, new) in bytes[at..].iter_mut().zip(new) {
                *old = *new;
            }
        };
        match random.below(10) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = *random.of(&[0, 1, 2, 0x0F, 0x15, 0x19, 0x3C, 0x7F, 0x80, 0xFC, 0xFE, 0xFF]),
            // A number of variable length: as large as its bytes allow, or -1.
            3 => {
                let mut number = vec![*random.of(&[0xFF, 0x80]); random.below(5)];
                number.push(*random.of(&[0x7F, 0x0F, 0x01]));
                put(bytes, at, &number);
            }
            // A number of fixed length.
            4 | 5 => {
                let number = *random.of(&[
                    -1,
                    0,
                    i32::MAX.into(),
                    i32::MIN.into(),
                    i64::MAX,
                    i64::MIN,
                    1 << 31,
                    1 << 40,
                    1 << 56,
                ]);
                let width = *random.of(&[4, 8]);
                put(bytes, at & !3, &i64::to_le_bytes(number)[..width]);
            }
            // Bytes more or less; in the footer of a Parquet file with the length that then is right.
            6 => {
                let number = [vec![0xFF; random.below(9)], vec![*random.of(&[0x7F, 0x01])]].concat();
                let (from, old) = match &self.footer {
                    Some(footer) if bytes.len() == self.bytes.len() => {
                        (footer.start + random.below(footer.len()), footer.len())
                    }
                    _ => (at, 0),
                };
                let removed = random.below(3).min(bytes.len() - from);
                let new = (old + number.len() - removed) as u32;
                bytes.splice(from..from + removed, number);
                if old > 0 {
                    let end = bytes.len();
                    bytes[end - 8..end - 4].copy_from_slice(&new.to_le_bytes());
                }
            }
            7 => bytes.truncate(at.max(1)),
            8 => {
                let new = vec![*random.of(&[0, 0xFF]); 1 + random.below(64)];
                put(bytes, at, &new);
            }
            _ => {
                let from = random.below(bytes.len());
                let new = bytes[from..(from + 1 + random.below(200)).min(bytes.len())].to_vec();
                put(bytes, at, &new);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// An error of the model, or a status of a column.
    Refused,
    Same,
    Other,
    Abort,
    Hang,
}

/// The features of a model, but for what depends on the other models; nothing if any of it was refused.
fn figures(model: &Value) -> Option<Value> {
    let refused = model.get("error").is_some();
    let features = model["features"].as_array()?;
    let failed = ["unreadable", "type_changed", "missing_column", "internal_error"];
    if refused || features.iter().any(|feature| failed.contains(&feature["status"].as_str().unwrap())) {
        return None;
    }
    let of = |feature: &Value| {
        ["name", "status", "counts_hash", "baseline", "current"].map(|key| feature[key].clone()).to_vec().into()
    };
    Some(features.iter().map(of).collect::<Vec<Value>>().into())
}

/// Which side of a comparison the damaged files are.
#[derive(Clone, Copy)]
enum Side {
    Baseline,
    Current,
}

struct Trial<'a> {
    folder: &'a Path,
    side: Side,
    /// The sound file that stands on the other side.
    other: PathBuf,
}

impl Trial<'_> {
    /// Sweeps a fleet of these files. `None` if the process died.
    fn sweep(&self, files: &[PathBuf]) -> Result<Vec<Option<Value>>, Outcome> {
        let mut fleet = String::from("[defaults.thresholds]\nmin_rows = 1\n");
        for (i, file) in files.iter().enumerate() {
            let (baseline, current) = match self.side {
                Side::Baseline => (file, &self.other),
                Side::Current => (&self.other, file),
            };
            fleet += &format!("[[model]]\nname = \"m{i:05}\"\nbaseline = {baseline:?}\ncurrent = {current:?}\n");
        }
        let path = self.folder.join("fleet.toml");
        fs::write(&path, fleet).unwrap();
        let output = self.folder.join("report.json");
        let _ = fs::remove_file(&output);
        let program =
            std::env::var("DRIFTSWEEP_TEST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_driftsweep").into());
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -v 4194304; ulimit -c 0; exec \"$0\" \"$@\"", &program, "sweep"])
            .arg(&path)
            .args(["--no-state", "--threads", "2", "--backend", "cpu", "--format", "json", "--output"])
            .arg(&output)
            .stdout(Stdio::null())
            .stderr(File::create(self.folder.join("said")).unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                return Err(Outcome::Hang);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let Ok(report) = fs::read(&output) else { return Err(Outcome::Abort) };
        assert!(status.code().is_some(), "a report, and then {status}");
        let report: Value = serde_json::from_slice(&report).unwrap();
        let models: BTreeMap<&str, &Value> = report["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| (model["model"].as_str().unwrap(), model))
            .collect();
        assert_eq!(models.len(), files.len());
        Ok(models.into_values().map(figures).collect())
    }

    /// What came of each file.
    fn outcomes(&self, files: &[PathBuf], sound: &[&Value]) -> Vec<Outcome> {
        match self.sweep(files) {
            Ok(found) => {
                let outcome = |(found, sound): (Option<Value>, &&Value)| match found {
                    None => Outcome::Refused,
                    Some(found) if found == **sound => Outcome::Same,
                    Some(_) => Outcome::Other,
                };
                found.into_iter().zip(sound).map(outcome).collect()
            }
            Err(outcome) if files.len() == 1 => vec![outcome],
            Err(_) => {
                let half = files.len() / 2;
                [self.outcomes(&files[..half], &sound[..half]), self.outcomes(&files[half..], &sound[half..])].concat()
            }
        }
    }
}

fn wanted() -> usize {
    std::env::var("DRIFTSWEEP_TEST_MUTATIONS").map_or(ORDINARY, |n| n.parse().unwrap())
}

/// Damages these files so many times, and counts what came of it.
fn mutate(format: &str, side: Side, sounds: &[Sound], other: PathBuf) {
    let folder = TempDir::new().unwrap();
    let trial = Trial { folder: folder.path(), side, other };
    let write = |name: String, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let paths: Vec<_> = sounds.iter().map(|sound| write(sound.name.clone(), &sound.bytes)).collect();
    let expected = trial.sweep(&paths).unwrap();
    let expected: Vec<Value> =
        expected.into_iter().map(|found| found.unwrap_or_else(|| panic!("a sound file is read"))).collect();

    let mut random = Random(format.len() as u64);
    let mut counts: BTreeMap<(Outcome, bool), usize> = BTreeMap::new();
    let mut failures = Vec::new();
    let (mut done, all) = (0, wanted());
    while done < all {
        let (mut paths, mut known, mut covered) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..FLEET.min(all - done) {
            let which = random.below(sounds.len());
            let (bytes, is_covered) = sounds[which].damaged(&mut random);
            paths.push(write(format!("{i:03}-{}", sounds[which].name), &bytes));
            known.push(&expected[which]);
            covered.push(is_covered);
        }
        let outcomes = trial.outcomes(&paths, &known);
        for ((path, outcome), covered) in paths.iter().zip(outcomes).zip(covered) {
            *counts.entry((outcome, covered)).or_default() += 1;
            if matches!(outcome, Outcome::Abort | Outcome::Hang) || (outcome == Outcome::Other && covered) {
                let kept = std::env::temp_dir()
                    .join(format!("driftsweep-damage-{done}-{outcome:?}-{}", path.file_name().unwrap().display()));
                fs::copy(path, &kept).unwrap();
                failures.push((outcome, kept));
            }
        }
        done += paths.len();
    }
    eprintln!("{format}: {all} damaged files; by outcome, and whether a checksum covered the damage: {counts:?}");
    assert!(failures.is_empty(), "{format}: {counts:?}; kept: {failures:#?}");
}

#[test]
fn damaged_parquet_files_are_refused_or_read_and_never_stop_a_sweep() {
    mutate("parquet", Side::Current, &Sound::all("parquet"), files().join("none-v1-plain.parquet"));
}

#[test]
fn damaged_arrow_files_are_refused_or_read_and_never_stop_a_sweep() {
    mutate("arrow", Side::Current, &Sound::all("arrow"), files().join("none-v1-plain.parquet"));
}

#[test]
fn damaged_csv_files_are_refused_or_read_and_never_stop_a_sweep() {
    mutate("csv", Side::Current, &Sound::all("csv"), files().join("plain.csv"));
}

#[test]
fn damaged_baselines_are_refused_and_never_stop_a_sweep() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("built.baseline");
    let training = files().join("none-v1-plain.parquet");
    let built = run(["baseline", "build", training.to_str().unwrap(), "-o", path.to_str().unwrap()]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mut sound = Sound::read(&path);
    let hash = |bytes: &[u8]| {
        SafeTensors::read_metadata(bytes).unwrap().1.metadata().as_ref().unwrap()["content_hash"].clone()
    };
    assert_eq!(hash(&seal::baseline(&sound.bytes).unwrap()), hash(&sound.bytes), "a sound file has its hash already");
    // Its hash covers everything.
    sound.covered = std::iter::once(0..sound.bytes.len()).collect();
    mutate("baseline", Side::Baseline, &[sound], training);
}

#[test]
fn a_baseline_with_values_that_its_type_cannot_have_is_a_status_of_its_feature() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("other.baseline").display().to_string();
    assert!(run(["baseline", "build", &sound_file(), "-o", &path]).status.success());
    let (mut bytes, from) = (fs::read(&path).unwrap(), br#"domain\":\"i64\""#);
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + from.len()].copy_from_slice(br#"domain\":\"i32\""#);
    fs::write(&path, seal::baseline(&bytes).unwrap()).unwrap();
    let report = compare(&path, &sound_file(), &["--min-rows", "1"]);
    let wide = feature(&report, "wide");
    assert_eq!(wide["status"], "unreadable");
    let detail = wide["detail"].as_str().unwrap();
    assert!(detail.contains("other.baseline") && detail.contains("its type cannot have"), "{detail}");
    assert_eq!(feature(&report, "whole")["status"], "ok");
}

/// A fleet that was swept, and its journal.
fn swept(folder: &Path) -> SweptFleet {
    SweptFleet::new(
        folder,
        &files().join("none-v1-plain.parquet"),
        &files().join("zstd-v1-delta.parquet"),
        &Options::new(),
    )
}

fn feature_names(report: &SweepReport) -> Vec<&str> {
    report.models.iter().flat_map(|model| &model.features).map(|feature| feature.name.as_str()).collect()
}

/// Sweeps with a damaged journal, and once more with the checksums made right, which no damage does by itself. Whether the
/// file was taken for a journal.
fn resume(swept: &SweptFleet, journal: &[u8]) -> bool {
    let report = swept.resume(journal);
    assert!(report.as_ref().is_none_or(|report| *report == swept.report), "a damaged journal changed the figures");
    if let Some(forged) = swept.resume(&seal::journal(journal, &swept.keys)) {
        assert_eq!(feature_names(&forged), feature_names(&swept.report));
    }
    report.is_some()
}

#[test]
fn damaged_journals_change_nothing_that_a_sweep_finds() {
    let folder = TempDir::new().unwrap();
    let swept = swept(folder.path());
    let bytes = swept.journal.clone();
    let records = seal::records(&bytes);
    assert_eq!(records.len(), 8, "a header, and a record for each column");
    let lengths = records.into_iter().map(|record| record.start..record.start + 4).collect();
    let name = "sweep.journal".to_owned();
    let sound = Sound { name, lengths, covered: Vec::new(), footer: None, bytes };
    let mut random = Random(7);
    let taken = (0..wanted()).filter(|_| resume(&swept, &sound.damaged(&mut random).0)).count();
    assert!(taken > wanted() / 2, "only {taken} of {} were taken for journals", wanted());
    eprintln!("journal: {} damaged files; {taken} gave the same figures, the others were refused", wanted());
}

#[test]
fn records_of_other_features_are_not_taken_from_a_journal() {
    let folder = TempDir::new().unwrap();
    let swept = swept(folder.path());
    let mut keys = swept.keys.clone();
    keys[1..].rotate_left(1);
    let report = swept.resume(&seal::journal(&swept.journal, &keys)).unwrap();
    assert_eq!(report, swept.report);
}

/// What is in a folder below this one.
fn folder_of(name: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(files().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name}");
    paths
}

/// Inputs that fuzz/run.sh kept because each reaches other code than those before it.
#[test]
fn inputs_that_fuzzing_kept_never_stop_a_sweep() {
    let plain = files().join("none-v1-plain.parquet");
    let formats = [
        ("parquet", "parquet", Side::Current, plain.clone()),
        ("ipc", "arrow", Side::Current, plain.clone()),
        ("csv", "csv", Side::Current, files().join("plain.csv")),
        ("baseline", "baseline", Side::Baseline, plain),
    ];
    for (format, extension, side, other) in formats {
        let folder = TempDir::new().unwrap();
        let mut paths = Vec::new();
        for kept in folder_of(&format!("corpus/{format}")) {
            let bytes = fs::read(kept).unwrap();
            let sealed = if format == "baseline" { seal::baseline(&bytes) } else { None };
            for bytes in [Some(bytes), sealed].into_iter().flatten() {
                let path = folder.path().join(format!("{:04}.{extension}", paths.len()));
                fs::write(&path, bytes).unwrap();
                paths.push(path);
            }
        }
        let trial = Trial { folder: folder.path(), side, other };
        for part in paths.chunks(FLEET) {
            let outcomes = trial.outcomes(part, &vec![&Value::Null; part.len()]);
            let stopped =
                part.iter().zip(outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Abort | Outcome::Hang));
            let stopped: Vec<_> = stopped.collect();
            assert!(stopped.is_empty(), "{format}: {stopped:?}");
        }
    }
}

#[test]
fn journals_that_fuzzing_kept_change_nothing_that_a_sweep_finds() {
    let folder = TempDir::new().unwrap();
    let swept = swept(folder.path());
    for kept in folder_of("corpus/journal") {
        resume(&swept, &fs::read(kept).unwrap());
    }
}

/// A copy of a sound file with other bytes for how many values `flag` has in the second row group: 130, in field 5 of its
/// metadata. In the footer only the number of the group's own rows looks the same and comes later.
fn with_other_number_of_values(folder: &Path, number: [u8; 2]) -> String {
    let mut bytes = fs::read(sound_file()).unwrap();
    let at = bytes.windows(3).enumerate().filter(|(_, window)| *window == [0x16, 0x84, 0x02]).map(|(at, _)| at);
    let at = at.collect::<Vec<_>>().into_iter().rev().nth(1).unwrap();
    bytes[at + 1..at + 3].copy_from_slice(&number);
    let path = folder.join("damaged.parquet");
    fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

fn sound_file() -> String {
    files().join("none-v1-plain.parquet").display().to_string()
}

#[test]
fn a_page_that_does_not_match_its_checksum_is_a_status_of_its_column() {
    let folder = TempDir::new().unwrap();
    for sound in Sound::all("parquet").iter().filter(|sound| !sound.covered.is_empty()) {
        let path = folder.path().join(&sound.name);
        let mut bytes = sound.bytes.clone();
        // The last page: of `flag` in the second row group.
        bytes[sound.covered.last().unwrap().end - 1] ^= 1;
        fs::write(&path, bytes).unwrap();
        let report = compare(&sound_file(), path.to_str().unwrap(), &["--min-rows", "1"]);
        let flag = feature(&report, "flag");
        assert_eq!(flag["status"], "unreadable", "{}", sound.name);
        let detail = flag["detail"].as_str().unwrap();
        for part in [sound.name.as_str(), "column 'flag'", "row group 1", "checksum", "restore"] {
            assert!(detail.contains(part), "{detail}");
        }
        assert_eq!(feature(&report, "plan")["status"], "ok");
    }
}

#[test]
fn a_footer_that_contradicts_itself_is_refused_with_file_and_column() {
    let folder = TempDir::new().unwrap();
    let refused = |number: [u8; 2], reason: &str| {
        let path = with_other_number_of_values(folder.path(), number);
        let output = run(["compare", &sound_file(), &path]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("damaged.parquet: not a readable Parquet file") && said.contains(reason), "{said}");
    };
    // Numbers of variable length, twice as large where they are positive: 131, and -1.
    refused([0x86, 0x02], "row group 1, column 'flag': 131 values in 130 rows");
    refused([0x81, 0x00], "row group 1, column 'flag': the number of its values is -1");
}

#[test]
fn lengths_that_no_memory_could_hold_are_refused() {
    let folder = TempDir::new().unwrap();
    // A baseline that claims a terabyte; the file system does not store what was never written.
    let sparse = folder.path().join("sparse.baseline");
    let mut file = File::create(&sparse).unwrap();
    file.write_all(&[&(1u64 << 30).to_le_bytes()[..], b"{"].concat()).unwrap();
    file.set_len(1 << 40).unwrap();
    let output = run(["compare", sparse.to_str().unwrap(), &sound_file()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("sparse.baseline") && said.contains("memory of this process"), "{said}");
}

#[test]
fn doctor_names_the_model_whose_file_is_damaged() {
    let folder = TempDir::new().unwrap();
    let path = with_other_number_of_values(folder.path(), [0x81, 0x00]);
    let fleet = folder.path().join("fleet.toml");
    let model = |name: &str, current: &str| {
        format!("[[model]]\nname = {name:?}\nbaseline = {:?}\ncurrent = {current:?}\n", sound_file())
    };
    fs::write(&fleet, model("good", &sound_file()) + &model("bad", &path)).unwrap();
    let output = run(["doctor", fleet.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("ok       good") && said.contains("BROKEN   bad: "), "{said}");
    assert!(said.contains("damaged.parquet") && said.contains("column 'flag'"), "{said}");
}

/// Files that made an earlier version abort, hang, or give other figures.
#[test]
fn what_stopped_a_sweep_once_does_not_again() {
    let folder = TempDir::new().unwrap();
    let is_baseline = |path: &PathBuf| path.extension().is_some_and(|e| e == "baseline");
    let (baselines, snapshots): (Vec<_>, Vec<_>) = folder_of("crashes").into_iter().partition(is_baseline);
    for (side, paths) in [(Side::Baseline, baselines), (Side::Current, snapshots)] {
        let trial = Trial { folder: folder.path(), side, other: files().join("none-v1-plain.parquet") };
        let outcomes = trial.outcomes(&paths, &vec![&Value::Null; paths.len()]);
        let failed: Vec<_> = paths.iter().zip(outcomes).filter(|(_, outcome)| *outcome != Outcome::Refused).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
}

#[test]
fn fleet_files_of_the_corpus_are_refused_by_name_or_give_a_plan() {
    let files = folder_of("corpus/fleet");
    let (mut read, mut refused) = (0, 0);
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        match Fleet::parse(&text, Path::new("fleet.toml"), &Options::new()) {
            Ok(fleet) => {
                let as_of = Timestamp::UNIX_EPOCH;
                assert!(!fleet.at(as_of).plan(as_of).fingerprint().0.is_empty(), "{}", file.display());
                read += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("fleet.toml"), "{}: {error}", file.display());
                refused += 1;
            }
        }
    }
    assert!(read > 0 && refused > 0, "{read} were read, {refused} refused");
}
