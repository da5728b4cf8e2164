//! What the fuzz targets share: how a file is compared, and what must hold whatever is in it.

#[path = "../../tests/it/support/seal.rs"]
pub mod seal;

#[path = "../../tests/it/support/journals.rs"]
pub mod journals;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use driftsweep::count::CpuCounter;
use driftsweep::metric::Kind;
use driftsweep::model::{ColumnUse, Options};
use driftsweep::snapshot::{Snapshot, is_decoding};
use driftsweep::sweep::report::Side;
use driftsweep::sweep::{BaselineSource, Comparer, Comparison, Feature};
use driftsweep_common::error::Status;
use libfuzzer_sys::Corpus;

/// Rows of a snapshot that are compared in full. Few bytes may stand for many equal values: that takes long, and is right.
const MANY_ROWS: u64 = 20_000;

/// Called once. A panic of the library ends the process at once, also where the library would catch it; a decoder that gives
/// up on damaged data may panic, as in the program. One thread, so that what is found can be found again.
pub fn start() {
    let _ = rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
    drop(std::panic::take_hook());
    std::panic::set_hook(Box::new(|info| {
        if !is_decoding() {
            eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
            std::process::abort();
        }
    }));
}

/// A folder of this process. Where files in memory are wanted, TMPDIR says so.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a temporary folder").keep())
}

/// Writes the input to a file of this name.
pub fn write(name: &str, bytes: &[u8]) -> String {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("the file is written");
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// Options with so much memory.
pub fn options(memory: usize) -> Options {
    let mut options = Options::new();
    options.threads = 1;
    options.memory = memory;
    options.thresholds.min_rows = 1;
    options
}

fn figures(baseline: &BaselineSource, current: &Snapshot, kind: Option<Kind>, memory: usize) -> Option<Comparison> {
    let found = Comparer::new(baseline, current)
        .columns(|_| ColumnUse::read_as(kind))
        .options(&options(memory))
        .run(&CpuCounter);
    match found {
        Ok(found) => Some(found),
        Err(error) => {
            // What would be printed.
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// Opens a snapshot and compares it with itself, in every way in which its columns can be read.
pub fn snapshot(path: &str) -> Corpus {
    let snapshot = match Snapshot::open(path) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            assert!(error.to_string().contains(path), "{error}: it does not name the file");
            return Corpus::Keep;
        }
    };
    if snapshot.rows() > MANY_ROWS {
        for column in snapshot.columns().iter().take(2) {
            let _ = snapshot.missing(column);
        }
        return Corpus::Reject;
    }
    let baseline = BaselineSource::Live(snapshot.clone());
    let Some(held) = figures(&baseline, &snapshot, None, 1 << 30) else { return Corpus::Keep };
    // Read again for every pass instead of held in memory.
    let again = figures(&baseline, &snapshot, None, 1).expect("it was compared before");
    for (one, other) in held.features.iter().zip(&again.features) {
        let of = |feature: &Feature| (feature.name.clone(), feature.status, feature.counts_hash.clone());
        assert_eq!(of(one), of(other), "figures depend on the memory limit");
    }
    for kind in [Kind::Numeric, Kind::Categorical] {
        let asked = figures(&baseline, &snapshot, Some(kind), 1 << 30).expect("it was compared before");
        check_same(&asked);
    }
    check_same(&held);
    for column in snapshot.columns() {
        let _ = snapshot.texts(column);
        let _ = snapshot.numbers(column);
    }
    Corpus::Keep
}

/// Both sides of a comparison are one snapshot.
fn check_same(found: &Comparison) {
    for feature in &found.features {
        assert_ne!(feature.status, Status::InternalError);
        assert_eq!(feature.baseline.rows, feature.current.rows);
        if matches!(feature.status, Status::Ok | Status::Constant) {
            let missing = |side: &Side| (side.null, side.nan);
            assert_eq!(missing(&feature.baseline), missing(&feature.current), "{}", feature.name);
            if let Some(ks) = &feature.metrics.ks {
                assert!(ks.statistic == 0.0, "{}: D is {} between equal columns", feature.name, ks.statistic);
            }
            assert!(!feature.verdict.drifted, "{}: equal columns have drifted", feature.name);
        }
    }
}

/// Opens a baseline file, unpacks all of it, and compares it with a snapshot of the same columns.
pub fn baseline(path: &str, current: &Snapshot) {
    let source = match BaselineSource::open(path) {
        Ok(source) => source,
        Err(error) => return assert!(error.to_string().contains(path), "{error}: it does not name the file"),
    };
    let BaselineSource::Frozen(file) = &source else { unreachable!("the name says that it is a baseline") };
    let (mut options, hash) = (options(1 << 30), file.content_hash().to_owned());
    options.bins = file.header.bins;
    for segment in file.header.segments.iter().map(|segment| segment.name.as_str()).chain([""]) {
        for feature in file.features_of(segment) {
            let _ = feature.decode();
        }
    }
    let found = Comparer::new(&source, current).options(&options).run(&CpuCounter);
    let figures = found.map_or_else(|error| error.to_string(), |found| found.counts_hash);
    // The hash covers everything, so that two files with one hash give the same figures.
    static KNOWN: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let before = known.entry(hash).or_insert_with(|| figures.clone());
    assert_eq!(before, &figures, "two files with one content hash have different figures");
}
