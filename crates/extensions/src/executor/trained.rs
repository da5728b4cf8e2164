//! The model that a training has made, as its answer describes it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use driftsweep_common::address::redacted;

/// A trained model. Only its source is required: any program can give that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedModel {
    /// Where it lies: a folder, a file or an address. A relative path is relative to the folder in which the training ran.
    pub source: String,
    /// SHA-256 of its artefact, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trainer: Option<String>,
    /// The feature set that it learned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_set: Option<String>,
    /// The version of these features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_version: Option<String>,
    /// The rows that it learned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingWindow>,
    /// Figures on its validation set, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

/// The rows that a model learned from: those of predictions from a time, up to before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingWindow {
    /// The first time; absent for all rows before the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// The end.
    pub to: Timestamp,
    /// How many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// The version of a model that is in production.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Champion {
    /// Its number in the registry.
    pub version: u64,
    /// Where it lies.
    pub source: String,
    /// SHA-256 of its artefact.
    pub digest: Option<String>,
}

/// No path or address is longer.
const MAX_SOURCE_BYTES: usize = 4096;

/// Names and versions are not longer.
const MAX_NAME_BYTES: usize = 256;

/// A training has no more figures.
const MAX_METRICS: usize = 100;

/// Larger numbers are not exact in JSON.
const MAX_ROWS: u64 = 1 << 53;

impl TrainedModel {
    /// Checks what a training or a person says of a model.
    ///
    /// # Errors
    /// Which key is wrong, and what it must be.
    pub fn check(&self) -> Result<(), String> {
        let Self { source, digest, trainer, feature_set, feature_version, training, metrics } = self;
        if source.is_empty() || source.len() > MAX_SOURCE_BYTES || source.contains('\0') {
            return Err("source is no path; give that of a folder or a file, or an address".into());
        }
        if redacted(source) != *source {
            return Err(
                "source is an address that holds a secret, which the store must not keep; give one that takes its \
                        credentials from the environment (s3://, gs://, az://)"
                    .into(),
            );
        }
        if digest.as_ref().is_some_and(|digest| !is_sha256(digest)) {
            return Err("digest is no SHA-256; give 64 hexadecimal digits in lower case".into());
        }
        for (key, name) in [("trainer", trainer), ("feature_set", feature_set), ("feature_version", feature_version)] {
            if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0')) {
                return Err(format!("{key} is empty, or longer than {MAX_NAME_BYTES} bytes, or holds a zero byte"));
            }
        }
        if training.is_some_and(|window| window.rows.is_some_and(|rows| rows > MAX_ROWS)) {
            return Err(format!("training has more than {MAX_ROWS} rows"));
        }
        if training.is_some_and(|window| window.from.is_some_and(|from| from > window.to)) {
            return Err("training ends before it begins; give from and to, times such as 2026-01-31T00:00:00Z".into());
        }
        if metrics.len() > MAX_METRICS {
            return Err(format!("metrics has {} figures; give at most {MAX_METRICS}", metrics.len()));
        }
        match metrics.iter().find(|(name, value)| name.len() > MAX_NAME_BYTES || !value.is_finite()) {
            Some(_) => Err("metrics has a name that is too long, or a figure that is no finite number".into()),
            None => Ok(()),
        }
    }
}

/// Whether a text is a SHA-256 in lower-case hexadecimal digits.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
