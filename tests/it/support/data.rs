//! Making small snapshots, and running the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use polars::io::SerReader;
use polars::prelude::{DataFrame, IpcWriter, ParquetReader, ParquetWriter, SerWriter};
use serde_json::Value;
use walkdir::{DirEntry, WalkDir};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// All files and folders below a folder, at any depth. What is removed in the meantime may be left out.
pub fn all_below(folder: &Path) -> Vec<PathBuf> {
    WalkDir::new(folder).min_depth(1).into_iter().flatten().map(DirEntry::into_path).collect()
}

/// All Rust sources below a folder of the repository.
pub fn sources(folder: &str) -> Vec<PathBuf> {
    all_below(&root().join(folder)).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

/// A file of the repository's data.
pub fn dataset(name: &str) -> PathBuf {
    root().join("datasets").join(name)
}

/// All columns but times, for which this build of polars has no frames.
pub fn read_parquet(path: &Path) -> DataFrame {
    let open = || ParquetReader::new(std::fs::File::open(path).unwrap());
    let schema = open().schema().unwrap();
    let names = schema.iter_values().filter(|field| !format!("{:?}", field.dtype).contains("Timestamp"));
    open().with_columns(Some(names.map(|field| field.name.to_string()).collect())).finish().unwrap()
}

/// Writes a Parquet file with row groups of so many rows.
pub fn write_parquet(frame: &mut DataFrame, path: &Path, row_group: usize) {
    ParquetWriter::new(std::fs::File::create(path).unwrap())
        .with_row_group_size(Some(row_group))
        .finish(frame)
        .unwrap();
}

pub fn write_ipc(frame: &mut DataFrame, path: &Path) {
    IpcWriter::new(std::fs::File::create(path).unwrap()).finish(frame).unwrap();
}

/// Runs `driftsweep` with these arguments.
pub fn run<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_driftsweep")).args(args).output().unwrap()
}

/// The JSON of a successful comparison.
pub fn compare(baseline: &str, current: &str, more: &[&str]) -> Value {
    let output = run(["compare", baseline, current, "--format", "json"].iter().chain(more));
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 11)), "{code:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A feature of a comparison by name.
pub fn feature<'a>(report: &'a Value, name: &str) -> &'a Value {
    let features = report["features"].as_array().unwrap();
    features.iter().find(|feature| feature["name"] == name).unwrap_or_else(|| panic!("no feature {name}"))
}

/// The README and the chapters of the documents, as one text.
pub fn documents() -> String {
    let is_chapter = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let chapters = all_below(&root().join("docs")).into_iter().filter(is_chapter);
    chapters.chain([root().join("README.md")]).map(|path| fs::read_to_string(path).unwrap()).collect()
}
