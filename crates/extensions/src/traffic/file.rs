//! Traffic by a file with the weight of each version: `file` in the fleet file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{Traffic, TrafficAdapterTable, TrafficSettings, TrafficTools, WantedTraffic};
use crate::check::{self, Findings};
use crate::http::RequestFailure;
use crate::value::{Validated, local};
use driftsweep_common::atomic;

/// A weights file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// Its path.
    pub path: PathBuf,
}

/// The table `file` of `[model.rollout.traffic]`: its path.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct FileTable(String);

impl TrafficAdapterTable for FileTable {
    type Settings = FileConfig;

    fn resolve(&self, folder: &Path) -> Validated<FileConfig> {
        Ok(FileConfig { path: local("file", &self.0, folder)? })
    }
}

impl TrafficSettings for FileConfig {
    fn open<'a>(&'a self, _: TrafficTools<'a>) -> Box<dyn Traffic + 'a> {
        Box::new(WeightsFile { path: &self.path })
    }

    fn check(&self, findings: &mut Findings) {
        check::file("rollout.traffic.file", &self.path, findings);
    }
}

/// The format of a weights file.
const FORMAT: &str = "driftsweep.weights/1";

/// The largest weights file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The adapter. The file is replaced as a whole: a reader sees the former weights or the new ones.
pub struct WeightsFile<'a> {
    path: &'a Path,
}

impl WeightsFile<'_> {
    /// The weights that are set; `None` where there is no file.
    fn read(&self, model: &str) -> Result<Option<Value>, RequestFailure> {
        let wrong = |reason: String| RequestFailure::transient(format!("{}: {reason}", self.path.display()));
        let Some(bytes) = atomic::read_external(self.path, MAX_BYTES).map_err(|e| wrong(e.to_string()))? else {
            return Ok(None);
        };
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match value["format"] == FORMAT && value["model"] == model {
            true => Ok(Some(value)),
            false => Err(wrong("is no weights file of this model; it is left as it is; name another file".into())),
        }
    }
}

impl Traffic for WeightsFile<'_> {
    fn apply(&self, wanted: &WantedTraffic) -> Result<(), RequestFailure> {
        self.read(&wanted.model)?;
        let mut value = wanted.json();
        value["format"] = FORMAT.into();
        let text = format!("{value:#}\n");
        Ok(atomic::write(self.path, text.as_bytes())?)
    }

    fn share(&self, wanted: &WantedTraffic) -> Result<Option<f64>, RequestFailure> {
        let Some(set) = self.read(&wanted.model)? else {
            // Without a file, nothing has traffic but production.
            return Ok(Some(0.0));
        };
        let share = set["weights"][&wanted.candidate.name].as_f64().unwrap_or(0.0);
        let same = set["weights"] == wanted.json()["weights"];
        // Another version may have been given a weight.
        Ok(Some(if same || (share - wanted.share).abs() > super::SAME_SHARE { share } else { f64::NAN }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::wanted;

    #[test]
    fn weights_are_replaced_as_a_whole_and_a_file_of_others_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.json");
        let traffic = WeightsFile { path: &path };
        assert_eq!(traffic.share(&wanted(0.05, 1)).unwrap(), Some(0.0));
        for (sequence, share) in [(1, 0.05), (1, 0.05), (2, 0.25), (3, 0.0)] {
            traffic.apply(&wanted(share, sequence)).unwrap();
            assert_eq!(traffic.share(&wanted(share, sequence)).unwrap(), Some(share));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["weights"]["2"], &value["weights"]["3"], &value["sequence"]),
            (&1.0.into(), &0.0.into(), &3.into())
        );
        for other in ["{\"model\": \"churn\"}", "not JSON", &text.replace("churn", "other")] {
            std::fs::write(&path, other).unwrap();
            assert!(traffic.apply(&wanted(0.05, 4)).unwrap_err().reason.contains("left as it is"));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
        }
    }
}
