//! Writes a baseline file of every sound Parquet file, and the journal of a sweep, as seeds: `seeds FOLDER`.

use std::path::{Path, PathBuf};

use driftsweep::baseline::BaselineBuilder;
use driftsweep::count::CpuCounter;
use driftsweep::snapshot::Snapshot;
use driftsweep_fuzz::journals::SweptFleet;
use driftsweep_fuzz::options;

fn main() {
    let target = PathBuf::from(std::env::args().nth(1).expect("the folder for the seeds"));
    let files = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/damage"));
    let [baselines, journals] = ["baseline", "journal"].map(|name| target.join(name));
    for folder in [&baselines, &journals] {
        std::fs::create_dir_all(folder).expect("the folder is made");
    }
    let options = options(1 << 30);
    let mut parquet: Vec<PathBuf> = std::fs::read_dir(target.join("parquet"))
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("a file").path())
        .collect();
    parquet.push(files.join("none-v1-plain.parquet"));
    for path in &parquet {
        // Damaged files are among them.
        let Ok(snapshot) = Snapshot::open(path.to_str().expect("a path in UTF-8")) else { continue };
        let built =
            BaselineBuilder::new(&snapshot).options(&options).created_at("2026-01-01T00:00:00Z").build(&CpuCounter);
        let name = path.file_name().expect("a name").to_str().expect("a name in UTF-8");
        let _ = built.expect("without segments").write(&baselines.join(format!("{name}.baseline")));
    }
    let sound = files.join("none-v1-plain.parquet");
    let work = tempfile::tempdir().expect("a temporary folder");
    for other in ["zstd-v1-delta.parquet", "plain.csv", "zstd.arrow"] {
        let swept = SweptFleet::new(work.path(), &sound, &files.join(other), &options);
        std::fs::write(journals.join(format!("{other}.journal")), &swept.journal).expect("the file is written");
    }
}
