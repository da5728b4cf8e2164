//! The pages of one column of one row group, checked before they are decoded: their headers, which determine how much
//! memory the decoder allocates, and their checksums, where the writer stored them.

use std::io::Cursor;

use polars::prelude::{PolarsError, PolarsResult};
use polars_buffer::Buffer;
use polars_parquet::parquet::compression::Compression;
use polars_parquet::parquet::page::split_buffer;
use polars_parquet::read::{BasicDecompressor, ColumnChunkMetadata, PageReader, PhysicalType};

use super::delta;
use super::format::{
    CHECKSUM, COMPRESSED, DATA_PAGE, DATA_PAGE_V2, DEFINITIONS_V2, DELTA_BINARY_PACKED, DELTA_BYTE_ARRAY,
    DELTA_LENGTH_BYTE_ARRAY, DICTIONARY_PAGE, DICTIONARY_VALUES, ENCODING, ENCODING_V2, NULLS_V2, PAGE_HEADER,
    PAGE_TYPE, REPETITIONS_V2, UNCOMPRESSED, VALUES, VALUES_V2,
};
use super::thrift::Walker;
use driftsweep_common::storage::limit;

/// Bytes that a decompressed page may take even if the footer gives less for the column.
const SMALL: u64 = 64 << 20;

/// A page header's numbers by name.
struct PageHeader([Option<i64>; 16]);

impl PageHeader {
    /// The header at the start of these bytes, and its length.
    fn read(bytes: &[u8]) -> Result<(Self, usize), String> {
        let mut numbers = [None; 16];
        let note = |name: u8, value| {
            numbers[usize::from(name)] = Some(value);
            Ok(())
        };
        let (length, _) = Walker::new(bytes, note).walk(PAGE_HEADER)?;
        Ok((Self(numbers), length))
    }

    fn number(&self, name: u8) -> Result<i64, String> {
        self.0[usize::from(name)].ok_or_else(|| "it lacks a number".into())
    }

    fn count(&self, name: u8) -> Result<u64, String> {
        let number = self.number(name)?;
        u64::try_from(number).map_err(|_| format!("it holds {number} where a count belongs"))
    }
}

/// Checks the pages of a column chunk. Whether they hold numbers or lengths that are encoded as deltas; these are to be checked
/// with [`check_deltas`].
///
/// # Errors
/// The reason: a header contradicts the chunk, or a page its checksum.
pub fn check(chunk: &[u8], column: &ColumnChunkMetadata) -> Result<bool, String> {
    let values = u64::try_from(column.num_values()).unwrap_or(0);
    let (mut at, mut seen, mut page, mut deltas) = (0, 0, 0, false);
    while seen < values {
        let one = check_page(&chunk[at..], column, page == 0);
        let (length, of_page, delta) = one.map_err(|reason| format!("page {page} is damaged: {reason}"))?;
        at += length;
        seen += of_page;
        page += 1;
        deltas |= delta;
    }
    if seen != values {
        return Err(format!("its pages hold {seen} values, its footer says {values}"));
    }
    Ok(deltas)
}

/// Checks the page at the start of these bytes. Its length with its header; how many values it holds; whether as deltas.
fn check_page(bytes: &[u8], column: &ColumnChunkMetadata, first: bool) -> Result<(usize, u64, bool), String> {
    let (header, start) = PageHeader::read(bytes)?;
    let stored = header.count(COMPRESSED)?;
    let length = usize::try_from(stored).unwrap_or(usize::MAX);
    let content = bytes[start..].get(..length).ok_or("it reaches beyond the bytes of its column")?;
    if let Ok(checksum) = header.number(CHECKSUM)
        && crc32fast::hash(content) != checksum as u32
    {
        return Err("its content does not match its checksum".into());
    }
    let decompressed = match column.compression() {
        Compression::Uncompressed => stored,
        codec => {
            let claimed = header.count(UNCOMPRESSED)?;
            let footer = u64::try_from(column.uncompressed_size()).unwrap_or(0);
            if claimed > max_decompressed(codec, stored) || claimed > footer.max(SMALL) {
                return Err(format!("{stored} bytes claim to be {claimed} when decompressed"));
            }
            claimed
        }
    };
    let (values, encoding) = match header.number(PAGE_TYPE)? {
        DATA_PAGE => (header.count(VALUES)?, header.number(ENCODING)?),
        DATA_PAGE_V2 => {
            let values = header.count(VALUES_V2)?;
            if header.count(NULLS_V2)? > values {
                return Err("it has more nulls than values".into());
            }
            if header.count(DEFINITIONS_V2)? + header.count(REPETITIONS_V2)? > stored {
                return Err("its levels reach beyond its content".into());
            }
            (values, header.number(ENCODING_V2)?)
        }
        DICTIONARY_PAGE if first => {
            let values = header.count(DICTIONARY_VALUES)?;
            let width = match column.physical_type() {
                PhysicalType::Boolean | PhysicalType::FixedLenByteArray(0) => 1,
                PhysicalType::Int32 | PhysicalType::Float | PhysicalType::ByteArray => 4,
                PhysicalType::Int64 | PhysicalType::Double => 8,
                PhysicalType::Int96 => 12,
                PhysicalType::FixedLenByteArray(width) => width as u64,
            };
            if values.saturating_mul(width) > decompressed {
                return Err(format!("a dictionary of {values} values in {decompressed} bytes"));
            }
            return Ok((start + length, 0, false));
        }
        other => return Err(format!("a page of type {other} where a data page belongs")),
    };
    let deltas = [DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY].contains(&encoding);
    Ok((start + length, values, deltas))
}

/// The largest possible decompressed size, by the format of each codec.
pub(crate) fn max_decompressed(codec: Compression, stored: u64) -> u64 {
    let ratio = match codec {
        Compression::Uncompressed => 1,
        Compression::Snappy => 32,
        Compression::Lz4 | Compression::Lz4Raw | Compression::Lzo => 256,
        Compression::Gzip => 1_032,
        Compression::Zstd => 1 << 16,
        Compression::Brotli => 1 << 20,
    };
    (64 << 10) + stored.saturating_mul(ratio)
}

/// Checks numbers and lengths of texts that are encoded as deltas, see [`delta`].
///
/// # Errors
/// A message with the problem.
pub(crate) fn check_deltas(chunk: Buffer<u8>, column: &ColumnChunkMetadata) -> PolarsResult<()> {
    let pages = PageReader::new(Cursor::new(chunk), column, Vec::new(), usize::MAX);
    let mut pages = BasicDecompressor::new(pages, Vec::new());
    pages.read_dict_page()?;
    let mut bytes = 0u64;
    while let Some(page) = pages.next() {
        let page = page?.decompress(&mut pages)?;
        let (content, most) = (split_buffer(&page)?.values, page.num_values());
        let checked = match i64::from(page.header().encoding().0) {
            DELTA_BINARY_PACKED => delta::check_numbers(content, most).map(|()| 0),
            DELTA_LENGTH_BYTE_ARRAY => delta::check_texts(content, most, false),
            DELTA_BYTE_ARRAY => delta::check_texts(content, most, true),
            _ => Ok(0),
        };
        bytes = bytes.saturating_add(checked.map_err(compute_error)?);
        if bytes > limit::max_part_bytes() {
            return Err(compute_error("its texts do not fit into the memory of this process"));
        }
        pages.reuse_page_buffer(page);
    }
    Ok(())
}

fn compute_error(reason: &str) -> PolarsError {
    PolarsError::ComputeError(reason.to_owned().into())
}
