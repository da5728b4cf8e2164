//! The baseline file: integers as tensors, everything else as JSON in the metadata.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytemuck::pod_collect_to_vec;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Baseline, Frozen, FrozenFeature, Header, VERSION};
use crate::atomic::{self, hex};
use crate::count::cells::CellMapParts;
use crate::count::{Categories, CellCounts, CellMap, CellSet, Domain, Ecdf, KeyRuns, Tally};
use crate::error::{Error, Result, Status};
use crate::snapshot::ColumnType;

const FORMAT: &str = "driftsweep-baseline";

/// The part of a feature that is not a list of integers.
#[derive(Serialize, Deserialize)]
struct FeatureHeader {
    name: String,
    dtype: ColumnType,
    tally: Tally,
    data: DataHeader,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DataHeader {
    Numeric { domain: Domain, origin: u64, coarse_shift: u32, with_offsets: bool },
    Categorical { pooled: u64, threshold: Option<u64> },
    Refused { status: Status, detail: String },
}

/// A list of unsigned integers as the narrowest tensor that holds it.
struct Integers {
    dtype: Dtype,
    len: usize,
    bytes: Vec<u8>,
}

impl Integers {
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

fn widen(view: &TensorView<'_>) -> Option<Vec<u64>> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::U8 => bytes.iter().map(|&x| x.into()).collect(),
        Dtype::U16 => pod_collect_to_vec::<u8, u16>(bytes).into_iter().map(|x| u16::from_le(x).into()).collect(),
        Dtype::U32 => pod_collect_to_vec::<u8, u32>(bytes).into_iter().map(|x| u32::from_le(x).into()).collect(),
        Dtype::U64 => pod_collect_to_vec::<u8, u64>(bytes).into_iter().map(u64::from_le).collect(),
        _ => return None,
    })
}

pub fn write(baseline: &Baseline, path: &Path) -> Result<()> {
    let mut tensors: Vec<(String, Integers)> = Vec::new();
    let mut headers = Vec::new();
    for (i, feature) in baseline.features.iter().enumerate() {
        let mut add = |name: &str, values: &[u64]| tensors.push((format!("{i}/{name}"), Integers::narrow(values)));
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
            name: feature.name.clone(),
            dtype: feature.dtype.clone(),
            tally: feature.tally,
            data,
        });
    }

    let failed =
        |e: &dyn std::fmt::Display| Error::Baseline { path: path.into(), reason: format!("cannot be encoded: {e}") };
    let json = |value: serde_json::Result<String>| value.map_err(|e| failed(&e));
    let mut metadata = HashMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("version".to_owned(), VERSION.to_string()),
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
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| failed(&e))?;
    atomic::write(path, &bytes)
}

/// SHA-256 over the metadata (but the hash itself) and every tensor, in the order of their names.
fn content_hash<'a>(metadata: &HashMap<String, String>, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for key in ["format", "version", "header", "features"] {
        part(metadata.get(key).map_or(&[][..], |text| text.as_bytes()));
    }
    for (name, bytes) in tensors {
        part(name.as_bytes());
        part(bytes);
    }
    hex(&hash.finalize())
}

pub fn read(path: &Path) -> Result<Baseline> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, &e))?;
    decode(&bytes).map_err(|reason| Error::Baseline { path: path.into(), reason })
}

fn decode(bytes: &[u8]) -> std::result::Result<Baseline, String> {
    let not_one = "not a baseline file; build one with `driftsweep baseline build`";
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| match e {
        safetensors::SafeTensorError::MetadataIncompleteBuffer => "cut short; build it again".to_owned(),
        _ => not_one.to_owned(),
    })?;
    let metadata = metadata.metadata().clone().ok_or(not_one)?;
    if metadata.get("format").map(String::as_str) != Some(FORMAT) {
        return Err(not_one.into());
    }
    let version = metadata.get("version").map_or("none", String::as_str);
    if version != VERSION.to_string() {
        return Err(format!(
            "baseline version {version}, this engine reads version {VERSION}; build it again or use the engine that wrote it"
        ));
    }
    let damaged = |what: &dyn std::fmt::Display| format!("damaged ({what}); build it again");
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
    let mut names = tensors.names();
    names.sort_unstable();
    let views = names
        .iter()
        .map(|name| Ok((*name, tensors.tensor(name)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| damaged(&e))?;
    let found = content_hash(&metadata, views.iter().map(|(name, view)| (*name, view.data())));
    if metadata.get("content_hash") != Some(&found) {
        return Err(damaged(&"its content does not match its hash"));
    }
    let text = |key: &str| metadata.get(key).ok_or_else(|| damaged(&format!("no {key}")));
    let header: Header = serde_json::from_str(text("header")?).map_err(|e| damaged(&e))?;
    let headers: Vec<FeatureHeader> = serde_json::from_str(text("features")?).map_err(|e| damaged(&e))?;
    crate::fleet::check_bins(header.bins).map_err(|reason| damaged(&reason))?;
    let features = headers
        .into_iter()
        .enumerate()
        .map(|(i, feature)| {
            let list = |name: &str| {
                let view = tensors.tensor(&format!("{i}/{name}")).map_err(|e| damaged(&e))?;
                widen(&view).ok_or_else(|| damaged(&format!("{i}/{name} is not a list of integers")))
            };
            let t = feature.tally;
            if t.null.checked_add(t.nan).is_none_or(|missing| missing > t.rows) {
                return Err(damaged(&"more missing values than rows"));
            }
            let data = decode_data(feature.data, t.values(), &list)
                .map_err(|reason| if reason.starts_with("damaged") { reason } else { damaged(&reason) })?;
            Ok(FrozenFeature { name: feature.name, dtype: feature.dtype, tally: feature.tally, data })
        })
        .collect::<std::result::Result<_, String>>()?;
    Ok(Baseline { header, features })
}

fn decode_data(
    header: DataHeader,
    values: u64,
    list: &dyn Fn(&str) -> std::result::Result<Vec<u64>, String>,
) -> std::result::Result<Frozen, String> {
    match header {
        DataHeader::Numeric { domain, origin, coarse_shift, with_offsets } => {
            let parts = CellMapParts { origin, coarse_shift, shifts: list("shifts")? };
            let map = Arc::new(CellMap::from_parts(&parts).ok_or("impossible cells")?);
            let counts =
                CellCounts { counts: list("counts")?, offsets: with_offsets.then(|| list("offsets")).transpose()? };
            let fits = |len: usize| len == map.len();
            if !fits(counts.counts.len()) || !counts.offsets.as_ref().is_none_or(|offsets| fits(offsets.len())) {
                return Err("counts and cells differ in number".into());
            }
            if !adds_up(&counts.counts, values) {
                return Err("counts and rows differ".into());
            }
            let mut resolved = CellSet::new(map.len());
            for cell in list("resolved")? {
                let cell = usize::try_from(cell).ok().filter(|&cell| cell < map.len()).ok_or("no such cell")?;
                resolved.insert(cell);
            }
            let runs = KeyRuns::from_parts(list("keys")?, list("key_counts")?).ok_or("keys out of order")?;
            let mut found = vec![0u64; map.len()];
            for (&key, &count) in runs.keys().iter().zip(runs.counts()) {
                let cell = map.cell(key) as usize;
                found[cell] = found[cell].checked_add(count).ok_or("impossible counts")?;
            }
            let cells: Arc<[_]> = map.iter().collect();
            let complete = |j: usize| found[j] == counts.counts[j] || cells[j].is_single();
            if !resolved.iter().all(complete) {
                return Err("keys of a cell are missing".into());
            }
            let mut ecdf = Ecdf::new(domain, map, cells, counts);
            ecdf.resolve(&resolved, runs);
            Ok(Frozen::Numeric(ecdf))
        }
        DataHeader::Categorical { pooled, threshold } => {
            let names: Vec<u8> = list("names")?.into_iter().map(|x| x as u8).collect();
            let names = String::from_utf8(names).map_err(|e| e.to_string())?;
            let (ends, counts) = (list("name_ends")?, list("counts")?);
            let mut start = 0;
            let counts = ends
                .into_iter()
                .zip(counts)
                .map(|(end, count)| {
                    let name = names.get(start..end as usize).ok_or("category names are cut short")?;
                    start = end as usize;
                    Ok((name.into(), count))
                })
                .collect::<std::result::Result<Vec<(Box<str>, u64)>, String>>()?;
            let all: Vec<u64> = counts.iter().map(|(_, count)| *count).chain([pooled]).collect();
            if !adds_up(&all, values) {
                return Err("counts and rows differ".into());
            }
            Ok(Frozen::Categorical(Categories { counts, pooled, threshold }))
        }
        DataHeader::Refused { status, detail } => Ok(Frozen::Refused(status, detail)),
    }
}

fn adds_up(counts: &[u64], total: u64) -> bool {
    counts.iter().try_fold(0u64, |sum, &count| sum.checked_add(count)) == Some(total)
}
