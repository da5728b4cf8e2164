//! Makes the checksums of a damaged file right again, so that what lies behind them is tested too. The fuzz targets use it
//! as well.

use std::collections::HashMap;
use std::ops::Range;

use safetensors::tensor::SafeTensors;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

/// A baseline file with the content hash that belongs to its content; nothing where it is not a file of that format.
pub fn baseline(bytes: &[u8]) -> Option<Vec<u8>> {
    let (length, tensors) = SafeTensors::read_metadata(bytes).ok()?;
    let metadata: &HashMap<String, String> = tensors.metadata().as_ref()?;
    let stored = metadata.get("content_hash").filter(|hash| hash.len() == 64)?;
    let start = length.checked_add(8)?;
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for key in ["format", "version", "header", "features"] {
        part(metadata.get(key).map_or(&[][..], |text| text.as_bytes()));
    }
    let mut names = tensors.offset_keys();
    names.sort_unstable();
    for name in &names {
        let (from, to) = tensors.info(name)?.data_offsets;
        part(name.as_bytes());
        part(bytes.get(start.checked_add(from)?..start.checked_add(to)?)?);
    }
    let right: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let at = bytes.windows(64).position(|window| window == stored.as_bytes())?;
    let mut sealed = bytes.to_vec();
    sealed[at..at + 64].copy_from_slice(right.as_bytes());
    Some(sealed)
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
