//! The entry that each artefact has, with its format, version, header and SHA-256; and artefacts that are safetensors files, with
//! the entry in their metadata. It is the only one there, as the library writes several in no fixed order, and equal models must
//! have equal bytes.

use std::collections::HashMap;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The name of the entry.
pub(crate) const ENTRY: &str = "driftsweep";

/// The message about bytes that have no entry.
pub(crate) const NO_MODEL: &str = "it is no model of driftsweep, or it is cut short";

/// A format, with the only version that is read and written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
}

/// The name and version that stand in an artefact.
#[derive(Serialize, Deserialize)]
struct Stamp {
    format: String,
    version: u32,
}

/// The entry.
#[derive(Serialize, Deserialize)]
struct Entry<H> {
    #[serde(flatten)]
    stamp: Stamp,
    /// SHA-256 of the header as JSON, followed by the data beside it: the tensors' bytes, or the trees.
    sha256: String,
    header: H,
}

impl Format {
    pub(crate) fn error(self, reason: impl ToString) -> Error {
        Error::Format { format: self.name, reason: reason.to_string() }
    }

    /// Refuses another format and another version.
    fn check(self, found: &str, version: u32) -> Result<()> {
        if found != self.name {
            return Err(self.error(format!("it is of the format {found:?}")));
        }
        match version == self.version {
            true => Ok(()),
            false => Err(self.error(format!(
                "it has version {version}, and this build reads version {}; use the build that wrote it, or train anew",
                self.version
            ))),
        }
    }

    /// A file of a header and tensors of one dimension or two.
    pub(crate) fn write<H: Serialize>(self, header: &H, tensors: &[(&str, Tensor)]) -> Result<Vec<u8>> {
        let views = tensors.iter().map(|(name, tensor)| Ok((*name, tensor.view()?)));
        let views: Vec<_> = views.collect::<std::result::Result<_, SafeTensorError>>().map_err(|e| self.error(e))?;
        // The bytes in the order of the file, which the library chooses.
        let bare = safetensors::serialize(views.clone(), None).map_err(|e| self.error(e))?;
        let metadata = HashMap::from([(ENTRY.to_owned(), self.entry(header, data_of(&bare))?)]);
        safetensors::serialize(views, Some(metadata)).map_err(|e| self.error(e))
    }

    /// The header and the tensors of such a file.
    pub(crate) fn read<H: DeserializeOwned>(self, bytes: &[u8]) -> Result<(H, SafeTensors<'_>)> {
        let entry = entry_of(bytes).ok_or_else(|| self.error(NO_MODEL))?;
        let header = self.header(&entry, data_of(bytes))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| self.error(damaged(e)))?;
        Ok((header, tensors))
    }

    /// The entry of a header and of the data beside it, as JSON.
    pub(crate) fn entry<H: Serialize>(self, header: &H, data: &[u8]) -> Result<String> {
        let header = serde_json::to_value(header).map_err(|e| self.error(e))?;
        let sha256 = digest(&header, data);
        let stamp = Stamp { format: self.name.to_owned(), version: self.version };
        serde_json::to_string(&Entry { stamp, sha256, header }).map_err(|e| self.error(e))
    }

    /// The header of an entry, which must fit the data beside it.
    pub(crate) fn header<H: DeserializeOwned>(self, entry: &str, data: &[u8]) -> Result<H> {
        let stamp: Stamp = serde_json::from_str(entry).map_err(|e| self.error(damaged(e)))?;
        self.check(&stamp.format, stamp.version)?;
        let entry: Entry<serde_json::Value> = serde_json::from_str(entry).map_err(|e| self.error(damaged(e)))?;
        if digest(&entry.header, data) != entry.sha256 {
            return Err(self.error(damaged("its content does not match its SHA-256")));
        }
        serde_json::from_value(entry.header).map_err(|e| self.error(damaged(e)))
    }

    /// A tensor of 64-bit floats.
    pub(crate) fn floats(self, tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f64>> {
        let view = tensors.tensor(name).map_err(|e| self.error(damaged(e)))?;
        match view.dtype() {
            Dtype::F64 => Ok(view.data().as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()),
            _ => Err(self.error(damaged(format!("{name} does not hold 64-bit floats")))),
        }
    }

    /// A tensor of 64-bit unsigned integers.
    pub(crate) fn integers(self, tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<u64>> {
        let view = tensors.tensor(name).map_err(|e| self.error(damaged(e)))?;
        match view.dtype() {
            Dtype::U64 => Ok(view.data().as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()),
            _ => Err(self.error(damaged(format!("{name} does not hold 64-bit integers")))),
        }
    }
}

/// A tensor to write.
pub(crate) struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    fn view(&self) -> std::result::Result<TensorView<'_>, SafeTensorError> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes)
    }

    /// Floats in rows of `width`.
    pub(crate) fn floats(values: &[f64], width: usize) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F64, shape: vec![values.len() / width, width], bytes }
    }

    /// Integers.
    pub(crate) fn integers(values: &[u64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::U64, shape: vec![values.len()], bytes }
    }

    /// Bytes.
    #[cfg(feature = "boosting")]
    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self { dtype: Dtype::U8, shape: vec![bytes.len()], bytes }
    }
}

/// The name of the format of bytes, where they are such a file.
pub(crate) fn format_of(bytes: &[u8]) -> Option<String> {
    Some(serde_json::from_str::<Stamp>(&entry_of(bytes)?).ok()?.format)
}

/// The message about damaged bytes.
pub(crate) fn damaged(reason: impl ToString) -> String {
    format!("it is damaged ({}); fetch it again, or train anew", reason.to_string())
}

/// SHA-256 of bytes, as hexadecimal digits.
pub(crate) fn sha256(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(header: &serde_json::Value, data: &[u8]) -> String {
    sha256(&[header.to_string().as_bytes(), data])
}

/// The tensors' bytes of a file: what follows the length of the header and the header.
fn data_of(bytes: &[u8]) -> &[u8] {
    let start = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length).saturating_add(8));
    usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or_default()
}

fn entry_of(bytes: &[u8]) -> Option<String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    metadata.metadata().as_ref()?.get(ENTRY).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { name: "test", version: 2 };

    fn file() -> Vec<u8> {
        let tensors = [("b", Tensor::floats(&[1.5, -2.0], 2)), ("a", Tensor::integers(&[7]))];
        FORMAT.write(&"a header", &tensors).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_equal_content_has_equal_bytes() {
        let bytes = file();
        assert_eq!(bytes, file());
        let (header, tensors) = FORMAT.read::<String>(&bytes).unwrap();
        assert_eq!(header, "a header");
        assert_eq!(FORMAT.floats(&tensors, "b").unwrap(), [1.5, -2.0]);
        assert_eq!(FORMAT.integers(&tensors, "a").unwrap(), [7]);
        assert!(FORMAT.floats(&tensors, "a").is_err() && FORMAT.floats(&tensors, "c").is_err());
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let bytes = file();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            // Spaces fill the header up, and the names of tensors are not in the hash: a changed name is not found.
            if let Ok((header, tensors)) = FORMAT.read::<String>(&changed) {
                let named = FORMAT.floats(&tensors, "b").is_ok() && FORMAT.integers(&tensors, "a").is_ok();
                assert!(!named, "byte {at} {header}");
            }
            assert!(FORMAT.read::<String>(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_format_and_version_are_named() {
        let other = Format { name: "other", version: 2 }.read::<String>(&file()).err().unwrap().to_string();
        assert!(other.contains("\"test\""), "{other}");
        let newer = Format { name: "test", version: 1 }.read::<String>(&file()).err().unwrap().to_string();
        assert!(newer.contains("version 2") && newer.contains("reads version 1"), "{newer}");
    }
}
