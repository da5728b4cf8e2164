//! Makes the checksums of a damaged file right again, so that what lies behind them is tested too. The fuzz targets use it
//! as well.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of all lists of a baseline file that is put together again, at most.
const MOST: usize = 1 << 20;

/// A baseline file put together again from its parts, as far as they can be read: with the lengths that are right, and the
/// content hash that belongs to its content. Lists that are cut short end in zeros.
pub fn baseline(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut parts = serde_json::Deserializer::from_slice(bytes.get(8..)?).into_iter::<Map<String, Value>>();
    let header = parts.next()?.ok()?;
    let after = &bytes[8 + parts.byte_offset()..];
    let body = &after[after.iter().take_while(|&&byte| byte == b' ').count()..];
    let mut metadata: HashMap<String, String> = serde_json::from_value(header.get("__metadata__")?.clone()).ok()?;
    let mut lists = BTreeMap::new();
    let mut total = 0usize;
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let dtype: Dtype = serde_json::from_value(entry.get("dtype")?.clone()).ok()?;
        let shape: Vec<usize> = serde_json::from_value(entry.get("shape")?.clone()).ok()?;
        let from: usize = serde_json::from_value(entry.get("data_offsets")?.get(0)?.clone()).ok()?;
        let values = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length))?;
        let length = values.checked_mul(dtype.bitsize())?.div_ceil(8);
        total = total.checked_add(length).filter(|&total| total <= MOST)?;
        let mut list: Vec<u8> = body.iter().skip(from).take(length).copied().collect();
        list.resize(length, 0);
        lists.insert(name.as_str(), (dtype, shape, list));
    }
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for key in ["format", "version", "header", "features"] {
        part(metadata.get(key).map_or(&[][..], |text| text.as_bytes()));
    }
    for (name, (_, _, list)) in &lists {
        part(name.as_bytes());
        part(list);
    }
    let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    metadata.insert("content_hash".into(), hash);
    let views = lists
        .iter()
        .map(|(name, (dtype, shape, list))| Some((*name, TensorView::new(*dtype, shape.clone(), list).ok()?)));
    safetensors::serialize(views.collect::<Option<Vec<_>>>()?, Some(metadata)).ok()
}

/// Bytes before the content of a record of a journal: length, checksum, key.
const PREFIX: usize = 4 + 8 + 16;

/// Where the records of a journal are, by their lengths.
pub fn records(journal: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(length) = journal.get(start..start + 4) {
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        let end = start + PREFIX + length;
        if end > journal.len() {
            break;
        }
        found.push(start..end);
        start = end;
    }
    found
}

/// The key of a record.
pub fn key(record: &[u8]) -> [u8; 16] {
    record[12..PREFIX].try_into().unwrap_or_default()
}

/// A journal whose records have the keys that are given, the header's first, and the checksums that belong to them and to
/// what they hold.
pub fn journal(bytes: &[u8], keys: &[[u8; 16]]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    for (i, record) in records(bytes).into_iter().enumerate() {
        let record = &mut sealed[record];
        if let Some(key) = keys.get(i) {
            record[12..PREFIX].copy_from_slice(key);
        }
        let low = u64::from_le_bytes(record[12..20].try_into().unwrap_or_default());
        let sum = xxh3_64(&record[PREFIX..]) ^ low;
        record[4..12].copy_from_slice(&sum.to_le_bytes());
    }
    sealed
}
