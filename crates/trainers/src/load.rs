use crate::container::{Format, NO_MODEL, format_of};
use crate::error::Result;
use crate::model::Model;
use crate::online::{self, OnlineModel};

/// A model of any trainer from its artefact.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format) where the bytes are no artefact, are damaged, or of another version;
/// [`Error::NotBuilt`](crate::Error::NotBuilt) for boosted trees and hybrids in a build without the cargo feature `boosting`.
pub fn load(bytes: &[u8]) -> Result<Box<dyn Model>> {
    // A safetensors file starts with a length, whose bytes may look like the start of JSON.
    if bytes.trim_ascii_start().first() == Some(&b'{') && format_of(bytes).is_none() {
        return trees(bytes);
    }
    match format_of(bytes).as_deref() {
        Some(name) if name == online::FORMAT.name => Ok(Box::new(OnlineModel::from_bytes(bytes)?)),
        Some(HYBRID) => hybrid(bytes),
        Some(name) => Err(ANY.error(format!("the format {name:?} is not known; use the build that wrote it"))),
        None => Err(ANY.error(NO_MODEL)),
    }
}

/// What is named where the format is not known.
const ANY: Format = Format { name: "model", version: 1 };

const HYBRID: &str = "driftsweep-hybrid";

#[cfg(feature = "boosting")]
fn trees(bytes: &[u8]) -> Result<Box<dyn Model>> {
    Ok(Box::new(crate::boosting::BatchModel::from_bytes(bytes)?))
}

#[cfg(feature = "boosting")]
fn hybrid(bytes: &[u8]) -> Result<Box<dyn Model>> {
    Ok(Box::new(crate::hybrid::HybridModel::from_bytes(bytes)?))
}

#[cfg(not(feature = "boosting"))]
fn trees(_: &[u8]) -> Result<Box<dyn Model>> {
    Err(crate::Error::NotBuilt("batch"))
}

#[cfg(not(feature = "boosting"))]
fn hybrid(_: &[u8]) -> Result<Box<dyn Model>> {
    Err(crate::Error::NotBuilt("hybrid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn what_is_no_model_is_refused() {
        for bytes in [&b""[..], b"no model", b"\x02\0\0\0\0\0\0\0{}", &[255; 40]] {
            let error = load(bytes).err().unwrap();
            assert!(matches!(&error, Error::Format { .. }), "{bytes:?}: {error}");
            assert!(error.to_string().contains("no model of driftsweep"), "{error}");
        }
        let json = load(b"{\"learner\": {}}").err().unwrap().to_string();
        let wanted = if cfg!(feature = "boosting") { "no model of driftsweep" } else { "cargo feature `boosting`" };
        assert!(json.contains(wanted), "{json}");
    }
}
