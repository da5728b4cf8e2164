//! Writing a baseline file: integers as tensors, everything else as JSON in the metadata.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::file::{DataHeader, FeatureHeader, MAGIC, content_hash};
use super::{Baseline, FORMAT, Frozen};
use crate::snapshot::ColumnType;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage;

/// A list of unsigned integers as the narrowest tensor that holds it.
struct IntegerTensor {
    dtype: Dtype,
    len: usize,
    bytes: Vec<u8>,
}

impl IntegerTensor {
    fn narrow(values: &[u64]) -> Self {
        let largest = values.iter().copied().max().unwrap_or(0);
        let (dtype, bytes) = if largest <= u64::from(u8::MAX) {
            (Dtype::U8, values.iter().map(|&x| x as u8).collect())
        } else if largest <= u64::from(u16::MAX) {
            (Dtype::U16, values.iter().flat_map(|&x| (x as u16).to_le_bytes()).collect())
        } else if largest <= u64::from(u32::MAX) {
            (Dtype::U32, values.iter().flat_map(|&x| (x as u32).to_le_bytes()).collect())
        } else {
            (Dtype::U64, values.iter().flat_map(|&x| x.to_le_bytes()).collect())
        };
        Self { dtype, len: values.len(), bytes }
    }

    fn view(&self) -> std::result::Result<TensorView<'_>, safetensors::SafeTensorError> {
        TensorView::new(self.dtype, vec![self.len], &self.bytes)
    }
}

/// Writes a baseline, atomically.
pub(super) fn write(baseline: &Baseline, path: &Path) -> Result<()> {
    storage::write(path, &encode(baseline, path)?)
}

/// The bytes of its file.
pub(super) fn encode(baseline: &Baseline, path: &Path) -> Result<Vec<u8>> {
    let mut tensors: Vec<(String, IntegerTensor)> = Vec::new();
    let mut headers = Vec::new();
    for (i, feature) in baseline.features.iter().enumerate() {
        let mut add = |name: &str, values: &[u64]| tensors.push((format!("{i}/{name}"), IntegerTensor::narrow(values)));
        let data = match &feature.data {
            Frozen::Numeric(ecdf) => {
                let parts = ecdf.map().parts();
                add("shifts", &parts.shifts);
                add("counts", &(0..ecdf.map().len()).map(|cell| ecdf.count(cell)).collect::<Vec<_>>());
                if let Some(offsets) = ecdf.offsets() {
                    add("offsets", offsets);
                }
                let (resolved, runs) = ecdf.resolved();
                add("resolved", &resolved.iter().map(|cell| cell as u64).collect::<Vec<_>>());
                add("keys", runs.keys());
                add("key_counts", runs.counts());
                DataHeader::Numeric {
                    domain: ecdf.domain,
                    origin: parts.origin,
                    coarse_shift: parts.coarse_shift,
                    with_offsets: ecdf.offsets().is_some(),
                }
            }
            Frozen::Categorical(categories) => {
                let mut ends = Vec::with_capacity(categories.counts.len());
                let mut names = Vec::new();
                for (name, _) in &categories.counts {
                    names.extend(name.bytes().map(u64::from));
                    ends.push(names.len() as u64);
                }
                add("names", &names);
                add("name_ends", &ends);
                add("counts", &categories.counts.iter().map(|(_, count)| *count).collect::<Vec<_>>());
                DataHeader::Categorical { pooled: categories.pooled, threshold: categories.threshold }
            }
            Frozen::Refused(status, detail) => DataHeader::Refused { status: *status, detail: detail.clone() },
        };
        headers.push(FeatureHeader {
            segment: feature.segment.clone(),
            name: feature.name.clone(),
            dtype: feature.dtype.clone(),
            tally: feature.tally,
            data,
        });
    }

    let failed =
        |e: &dyn std::fmt::Display| Error::Baseline { path: path.into(), reason: format!("cannot be encoded: {e}") };
    let json = |value: serde_json::Result<String>| value.map_err(|e| failed(&e));
    let is_unsupported = |feature: &FeatureHeader| matches!(feature.dtype, ColumnType::Unsupported(_));
    let version = match (headers.iter().any(is_unsupported), baseline.header.segments.is_empty()) {
        (true, _) => FORMAT.version(),
        (false, false) => 2,
        (false, true) => 1,
    };
    let mut metadata = HashMap::from([
        ("format".to_owned(), MAGIC.to_owned()),
        ("version".to_owned(), version.to_string()),
        ("header".to_owned(), json(serde_json::to_string(&baseline.header))?),
        ("features".to_owned(), json(serde_json::to_string(&headers))?),
    ]);
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let hash = content_hash(&metadata, tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.bytes.as_slice())));
    metadata.insert("content_hash".to_owned(), hash);
    let views = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), tensor.view()?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| failed(&e))?;
    safetensors::serialize(views, Some(metadata)).map_err(|e| failed(&e))
}
