//! The footer of a Parquet file: read, checked byte by byte, parsed, and checked against itself and the file.

use polars_buffer::Buffer;
use polars_parquet::parquet::read::deserialize_metadata;
use polars_parquet::read::{ColumnChunkMetadata, FileMetadata, PhysicalType};

use super::format::{CHILDREN, FILE};
use super::thrift::Walker;
use driftsweep_common::storage::{StoredFile, limit};

/// Bytes read at once to find the footer.
const FIRST_READ: u64 = 256 << 10;

/// Length of the footer and the format's name, at the end of the file.
const TRAILER: u64 = 8;

/// Groups nested deeper than this are refused: the decoder is recursive.
const DEEPEST: usize = 64;

/// Most bytes of a parsed list element.
const ELEMENT_BYTES: u64 = 512;

/// Most bytes of a decoded value: a reference to a text.
const VALUE_BYTES: u64 = 16;

/// Reads the footer.
///
/// # Errors
/// The reason: it is not a footer, or is inconsistent with itself or the file.
pub fn read(file: &StoredFile) -> Result<FileMetadata, String> {
    let footer = bytes(file)?;
    check_bytes(&footer)?;
    let metadata = crate::snapshot::catch_panics(|| Ok(deserialize_metadata(Buffer::from_vec(footer))?));
    let metadata = metadata.map_err(|e| e.to_string())?;
    check(&metadata, file.length())?;
    Ok(metadata)
}

fn bytes(file: &StoredFile) -> Result<Vec<u8>, String> {
    let length = file.length();
    if length < TRAILER + 4 {
        return Err(format!("it has {length} bytes"));
    }
    let mut end = vec![0; length.min(FIRST_READ) as usize];
    file.read_exact_at(&mut end, length - length.min(FIRST_READ))?;
    let Some((start, [a, b, c, d, b'P', b'A', b'R', b'1'])) = end.split_last_chunk() else {
        return Err("it does not end in PAR1".into());
    };
    let wanted = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
    let before = length - TRAILER;
    if wanted > before || wanted > limit::max_part_bytes() {
        return Err(format!("its footer claims {wanted} bytes, the file has {length}"));
    }
    Ok(match usize::try_from(wanted).ok().and_then(|wanted| start.len().checked_sub(wanted)) {
        Some(from) => start[from..].to_vec(),
        None => {
            let mut footer = vec![0; wanted as usize];
            file.read_exact_at(&mut footer, before - wanted)?;
            footer
        }
    })
}

/// Checks every length in the footer, and how deep the schema is nested.
fn check_bytes(footer: &[u8]) -> Result<(), String> {
    // Missing children of every incomplete group.
    let mut open: Vec<i64> = Vec::new();
    let mut children = 0;
    let note = |name, value| {
        if name == CHILDREN {
            children = value;
            return Ok(());
        }
        // The end of a schema element.
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            open.push(children);
        }
        children = 0;
        while open.pop_if(|left| *left == 0).is_some() {}
        if open.len() > DEEPEST { Err(format!("columns nested more than {DEEPEST} deep")) } else { Ok(()) }
    };
    let (_, elements) = Walker::new(footer, note).walk(FILE)?;
    if elements.saturating_mul(ELEMENT_BYTES) > limit::max_part_bytes() {
        return Err(format!("{elements} elements, more than fit into the memory of this process"));
    }
    Ok(())
}

fn check(metadata: &FileMetadata, length: u64) -> Result<(), String> {
    let mut rows = 0usize;
    for (i, group) in metadata.row_groups.iter().enumerate() {
        let in_group = group.num_rows();
        rows = rows.saturating_add(in_group);
        if needed(in_group as u64, PhysicalType::Int64) > limit::max_part_bytes() {
            return Err(format!("row group {i} claims {in_group} rows, more than fit into the memory of this process"));
        }
        for column in group.parquet_columns() {
            check_column(column, in_group as u64, length)
                .map_err(|reason| format!("row group {i}, column '{}': {reason}", name(column)))?;
        }
    }
    if rows != metadata.num_rows {
        return Err(format!("its row groups have {rows} rows, its footer says {}", metadata.num_rows));
    }
    Ok(())
}

fn name(column: &ColumnChunkMetadata) -> String {
    column.descriptor().path_in_schema.iter().map(|part| part.as_str()).collect::<Vec<_>>().join(".")
}

fn check_column(column: &ColumnChunkMetadata, rows: u64, length: u64) -> Result<(), String> {
    let count = |what: &str, number: i64| u64::try_from(number).map_err(|_| format!("{what} is {number}"));
    let values = count("the number of its values", column.num_values())?;
    count("the size of its pages", column.compressed_size())?;
    count("the size of its decompressed pages", column.uncompressed_size())?;
    count("the position of its pages", column.data_page_offset())?;
    count("the position of its dictionary", column.dictionary_page_offset().unwrap_or(0))?;
    if column.descriptor().descriptor.max_rep_level == 0 && values != rows {
        return Err(format!("{values} values in {rows} rows"));
    }
    if column.byte_range().end > length {
        return Err("its pages lie beyond the end of the file".into());
    }
    Ok(())
}

/// Most bytes of decoded values, without their text.
pub fn needed(values: u64, stored_as: PhysicalType) -> u64 {
    let width = match stored_as {
        PhysicalType::FixedLenByteArray(width) => VALUE_BYTES.max(width as u64),
        _ => VALUE_BYTES,
    };
    values.saturating_mul(width)
}
