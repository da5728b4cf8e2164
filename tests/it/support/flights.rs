//! The flights of the repository, with the feature set and the gates of datasets/flights.toml.

use std::fs;
use std::path::{Path, PathBuf};

use super::data::dataset;

/// The example of the repository in a folder of its own, with changes.
pub fn fleet(folder: &Path, changes: &[(&str, &str)]) -> PathBuf {
    let text = fs::read_to_string(dataset("flights.toml")).unwrap();
    let data = dataset("nycflights13");
    let mut text = text.replace("nycflights13/", &format!("{}/", data.display()));
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let path = folder.join("flights.toml");
    fs::write(&path, text).unwrap();
    path
}
