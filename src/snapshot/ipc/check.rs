//! The metadata of an Arrow IPC file, checked against the file before the decoder uses its lengths.

use std::collections::HashMap;
use std::io::{BufReader, Error, Read, Result as IoResult, Seek, SeekFrom};

use polars_arrow::io::ipc::format::ipc::planus::{ReadAsRoot, Result as Parsed, Vector};
use polars_arrow::io::ipc::format::ipc::{
    Block, CompressionType, FieldRef, FooterRef, KeyValueRef, MessageHeaderRef, MessageRef, RecordBatchRef,
};

use crate::snapshot::parquet::{Compression, max_decompressed};
use driftsweep_common::storage::{Reader, StoredFile, limit};

/// Length of the footer and the format's name, at the end of the file.
const TRAILER: u64 = 10;

/// Fields nested deeper than this are refused: the decoder is recursive.
const DEEPEST: usize = 64;

/// Most bytes of a decoded value: a reference to a text.
const VALUE_BYTES: u64 = 16;

type Validated<T> = std::result::Result<T, String>;

/// The footer.
pub fn footer(file: &StoredFile) -> Validated<Vec<u8>> {
    let length = file.length();
    if length < TRAILER {
        return Err(format!("it has {length} bytes"));
    }
    let mut trailer = [0; TRAILER as usize];
    file.read_exact_at(&mut trailer, length - TRAILER)?;
    let [a, b, c, d, name @ ..] = trailer;
    if name != *b"ARROW1" {
        return Err("it does not end in ARROW1".into());
    }
    let wanted = u64::from(u32::from_le_bytes([a, b, c, d]));
    if wanted > length - TRAILER || wanted > limit::max_part_bytes() {
        return Err(format!("its footer claims {wanted} bytes, the file has {length}"));
    }
    let mut footer = vec![0; wanted as usize];
    file.read_exact_at(&mut footer, length - TRAILER - wanted)?;
    schema(&footer).map_err(|e| e.to_string())??;
    Ok(footer)
}

/// Checks how deep the fields are nested, and how long all texts are: parts of the footer can be named more than once.
fn schema(footer: &[u8]) -> Parsed<Validated<()>> {
    // A footer may repeat texts, within a limit.
    let mut budget = (64 << 20) + 16 * footer.len();
    let footer = FooterRef::read_as_root(footer)?;
    let Some(schema) = footer.schema()? else { return Ok(Err("it has no schema".into())) };
    let found = texts(footer.custom_metadata()?, &mut budget)?
        && texts(schema.custom_metadata()?, &mut budget)?
        && fields(schema.fields()?, 0, &mut budget)?;
    let refused = || format!("its schema is larger than its footer, or nested more than {DEEPEST} deep");
    Ok(if found { Ok(()) } else { Err(refused()) })
}

type Refs<'a, T> = Option<Vector<'a, Parsed<T>>>;

/// Subtracts the bytes of these fields from the budget; returns whether it is sufficient.
fn fields<'a>(fields: Refs<'a, FieldRef<'a>>, depth: usize, budget: &mut usize) -> Parsed<bool> {
    for field in fields.into_iter().flatten() {
        let field = field?;
        let fits = depth < DEEPEST
            && take(budget, field.name()?)
            && texts(field.custom_metadata()?, budget)?
            && self::fields(field.children()?, depth + 1, budget)?;
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

fn texts<'a>(pairs: Refs<'a, KeyValueRef<'a>>, budget: &mut usize) -> Parsed<bool> {
    for pair in pairs.into_iter().flatten() {
        let pair = pair?;
        if !take(budget, pair.key()?) || !take(budget, pair.value()?) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn take(budget: &mut usize, text: Option<&str>) -> bool {
    let left = budget.checked_sub(8 + text.map_or(0, str::len));
    *budget = left.unwrap_or(0);
    left.is_some()
}

/// A record batch, or the one of a dictionary.
pub(crate) struct Batch {
    pub rows: usize,
    /// Positions of the compressed buffers in the file, and how long they are.
    compressed: HashMap<u64, (u64, Compression)>,
}

impl Batch {
    pub(crate) fn is_compressed(&self) -> bool {
        !self.compressed.is_empty()
    }
}

/// Checks the metadata of a record batch, or of a dictionary.
pub fn batch(file: &StoredFile, block: &Block, is_dictionary: bool) -> Validated<Batch> {
    let place = [block.offset, block.meta_data_length.into(), block.body_length].map(u64::try_from);
    let [Ok(offset), Ok(metadata), Ok(body)] = place else {
        return Err("a block with a negative position or length".into());
    };
    let start = offset.saturating_add(metadata);
    if start.saturating_add(body) > file.length() {
        return Err("a block lies beyond the end of the file".into());
    }
    let mut bytes = vec![0; metadata as usize];
    file.read_exact_at(&mut bytes, offset)?;
    let message = message(&bytes).ok_or("a block without a message")?;
    parse(message, start, body, is_dictionary).map_err(|e| e.to_string())?
}

/// The message of a block, without its length and the marker that newer writers put before it.
fn message(bytes: &[u8]) -> Option<&[u8]> {
    let bytes = bytes.strip_prefix(&[0xFF; 4]).unwrap_or(bytes);
    let (length, message) = bytes.split_first_chunk()?;
    message.get(..usize::try_from(i32::from_le_bytes(*length)).ok()?)
}

fn parse(message: &[u8], start: u64, body: u64, is_dictionary: bool) -> Parsed<Validated<Batch>> {
    let batch = match MessageRef::read_as_root(message)?.header()? {
        Some(MessageHeaderRef::RecordBatch(batch)) if !is_dictionary => Some(batch),
        Some(MessageHeaderRef::DictionaryBatch(batch)) if is_dictionary => batch.data()?,
        _ => None,
    };
    let Some(batch) = batch else { return Ok(Err("a block whose content does not match the footer".into())) };
    Ok(match check(batch, body)? {
        Ok(rows) => Ok(Batch { rows, compressed: compressed(batch, start)? }),
        Err(reason) => Err(reason),
    })
}

/// The rows of a batch with valid lengths.
fn check(batch: RecordBatchRef<'_>, body: u64) -> Parsed<Validated<usize>> {
    let fits =
        |rows: i64| u64::try_from(rows).is_ok_and(|rows| rows.saturating_mul(VALUE_BYTES) <= limit::max_part_bytes());
    let rows = batch.length()?;
    if !fits(rows) {
        return Ok(Err(format!("a batch of {rows} rows, more than fit into the memory of this process")));
    }
    for node in batch.nodes()?.into_iter().flatten() {
        let (length, nulls) = (node.length(), node.null_count());
        if !fits(length) || !(0..=length).contains(&nulls) {
            return Ok(Err(format!("a column of {length} rows and {nulls} nulls in a batch of {rows} rows")));
        }
    }
    for buffer in batch.buffers()?.into_iter().flatten() {
        let (offset, length) = (buffer.offset(), buffer.length());
        let end = u64::try_from(offset).ok().zip(u64::try_from(length).ok()).map(|(a, b)| a + b);
        if end.is_none_or(|end| end > body) {
            return Ok(Err(format!("a buffer of {length} bytes at {offset} in a batch of {body} bytes")));
        }
    }
    Ok(Ok(rows as usize))
}

fn compressed(batch: RecordBatchRef<'_>, start: u64) -> Parsed<HashMap<u64, (u64, Compression)>> {
    let Some(compression) = batch.compression()? else { return Ok(HashMap::new()) };
    let codec = match compression.codec()? {
        CompressionType::Lz4Frame => Compression::Lz4,
        CompressionType::Zstd => Compression::Zstd,
    };
    let buffers = batch.buffers()?.into_iter().flatten();
    // Negative ones have been refused.
    Ok(buffers.map(|buffer| (start + buffer.offset() as u64, (buffer.length() as u64, codec))).collect())
}

/// A file that the decoder reads. It seeks to the start of each buffer; a compressed one starts with the length of its
/// content, which is checked then: the decoder allocates it.
pub(crate) struct CheckedReader<'a> {
    file: &'a StoredFile,
    reader: BufReader<Reader<'a>>,
    compressed: HashMap<u64, (u64, Compression)>,
}

impl<'a> CheckedReader<'a> {
    /// For reading from these batches only.
    pub fn new(file: &'a StoredFile, batches: impl IntoIterator<Item = Batch>) -> Self {
        let compressed = batches.into_iter().flat_map(|batch| batch.compressed).collect();
        Self { file, reader: BufReader::new(file.reader()), compressed }
    }

    fn check(&self, at: u64) -> Validated<()> {
        let Some(&(stored, codec)) = self.compressed.get(&at) else { return Ok(()) };
        let Some(stored) = stored.checked_sub(8) else { return Ok(()) };
        let mut claimed = [0; 8];
        self.file.read_exact_at(&mut claimed, at)?;
        // -1: it is not compressed.
        match i64::from_le_bytes(claimed) {
            -1 => Ok(()),
            claimed
                if u64::try_from(claimed)
                    .is_ok_and(|x| x <= max_decompressed(codec, stored).min(limit::max_part_bytes())) =>
            {
                Ok(())
            }
            claimed => Err(format!("a buffer of {stored} bytes claims to be {claimed} when decompressed")),
        }
    }
}

impl Read for CheckedReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> IoResult<usize> {
        self.reader.read(bytes)
    }
}

impl Seek for CheckedReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        if let SeekFrom::Start(at) = to {
            self.check(at).map_err(Error::other)?;
        }
        self.reader.seek(to)
    }
}
