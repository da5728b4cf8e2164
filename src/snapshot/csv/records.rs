//! CSV text as records of fields (RFC 4180), a block of whole records at a time.
//!
//! What quotes do must be certain: a quote left open, or text after a closing quote, would shift or swallow records, so
//! both are errors that name the line.

use std::io::Read;

use crate::snapshot::magic;

/// Bytes read at a time.
const BLOCK: usize = 16 << 20;

/// Bytes read before the separator and the header are looked for.
const HEAD: usize = 1 << 20;

/// Bytes in which a record must end.
const LONGEST: usize = 256 << 20;

/// Records after the header by which a separator is chosen.
const SAMPLE: usize = 100;

/// What may separate fields.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The records of a CSV file after its header.
pub struct Records<R> {
    input: R,
    separator: u8,
    names: Vec<String>,
    /// Bytes read that no block has held yet.
    carry: Vec<u8>,
    /// Whether the input has no more bytes than those.
    ended: bool,
    /// The line at which the next record starts, from 1.
    line: u64,
}

/// Whole records, as fields by column.
#[derive(Default)]
pub struct Block {
    bytes: Vec<u8>,
    /// By column and row: where the field starts and ends.
    fields: Vec<Vec<(u32, u32)>>,
    /// By row: the line at which it starts, from 1.
    lines: Vec<u64>,
}

impl Block {
    /// How many records.
    pub fn rows(&self) -> usize {
        self.lines.len()
    }

    /// The fields of a column without their quotes, from the first record to the last.
    pub fn column(&self, column: usize) -> impl ExactSizeIterator<Item = &[u8]> {
        self.fields[column].iter().map(|&(start, end)| &self.bytes[start as usize..end as usize])
    }

    /// The line at which a record starts, from 1.
    pub fn line(&self, row: usize) -> u64 {
        self.lines[row]
    }
}

impl<R: Read> Records<R> {
    /// Reads the header. Fields are separated by `usual` if the header line holds it; see [`separator`].
    ///
    /// # Errors
    /// A message: what the file is instead of CSV, or what is wrong in its first lines.
    pub fn open(input: R, usual: u8) -> Result<Self, String> {
        let mut records = Self { input, separator: usual, names: Vec::new(), carry: Vec::new(), ended: false, line: 1 };
        records.read(HEAD)?;
        if let Some(reason) = not_csv(&records.carry) {
            return Err(reason);
        }
        if records.carry.starts_with(b"\xEF\xBB\xBF") {
            records.carry.drain(..3);
        }
        // Excel's own way to name the separator.
        let named = match &records.carry[..] {
            [b's', b'e', b'p', b'=', separator, b'\n', ..] => Some((*separator, 6)),
            [b's', b'e', b'p', b'=', separator, b'\r', b'\n', ..] => Some((*separator, 7)),
            _ => None,
        };
        let named = named.filter(|(separator, _)| SEPARATORS.contains(separator));
        if let Some((_, length)) = named {
            records.carry.drain(..length);
            records.line += 1;
        }
        loop {
            let blank = blank_lines(&records.carry);
            records.carry.drain(..blank.0);
            records.line += blank.1;
            if records.carry.is_empty() && records.ended {
                return Err("empty file; a CSV file needs at least a header line".into());
            }
            // The longest that a record by any separator can be is one of all lines up to the last.
            let whole = SEPARATORS
                .iter()
                .all(|&by| !matches!(split(&records.carry, 0, by, records.ended, &mut |_, _, _| {}), Ok(None)));
            if whole {
                break;
            }
            records.read(BLOCK)?;
        }
        records.separator = match named {
            Some((separator, _)) => separator,
            None => separator(&records.carry, records.ended, usual)?,
        };
        let mut names = Vec::new();
        let bytes = &records.carry;
        let found = split(bytes, 0, records.separator, records.ended, &mut |start, end, doubled| {
            let name = String::from_utf8(bytes[start..end].to_vec());
            names.push(name.map(|name| if doubled { name.replace("\"\"", "\"") } else { name }));
        });
        let (end, lines) = found.map_err(|wrong| wrong.at(records.line))?.unwrap_or((bytes.len(), 0));
        let not_utf8 = |_| format!("line {}: not UTF-8 text; convert the file to UTF-8", records.line);
        records.names = names.into_iter().collect::<Result<_, _>>().map_err(not_utf8)?;
        records.carry.drain(..end);
        records.line += lines;
        Ok(records)
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What separates the fields.
    pub fn separator(&self) -> u8 {
        self.separator
    }

    /// Reads about 16 MiB of records into the block; `false` if there are no more.
    ///
    /// # Errors
    /// A message that names the line.
    pub fn fill(&mut self, block: &mut Block) -> Result<bool, String> {
        let width = self.names.len();
        block.fields.resize_with(width, Vec::new);
        loop {
            self.read(BLOCK)?;
            block.fields.iter_mut().for_each(Vec::clear);
            block.lines.clear();
            std::mem::swap(&mut block.bytes, &mut self.carry);
            let bytes = &block.bytes;
            let (mut at, mut doubled) = (0, Vec::new());
            while at < bytes.len() {
                // A line without anything is a value only where there is one column: a missing one.
                if width > 1
                    && let (length @ 1.., lines) = blank_lines(&bytes[at..])
                {
                    (at, self.line) = (at + length, self.line + lines);
                    continue;
                }
                let row = block.lines.len();
                let mut found = 0;
                let mut field = |start: usize, end: usize, has_doubled: bool| {
                    if let Some(column) = block.fields.get_mut(found) {
                        column.push((start as u32, end as u32));
                        if has_doubled {
                            doubled.push((found, row));
                        }
                    }
                    found += 1;
                };
                let record = split(bytes, at, self.separator, self.ended, &mut field);
                let Some((end, lines)) = record.map_err(|wrong| wrong.at(self.line))? else { break };
                if found != width {
                    return Err(self.ragged(found));
                }
                block.lines.push(self.line);
                (at, self.line) = (end, self.line + lines);
            }
            let rows = block.rows();
            block.fields.iter_mut().for_each(|fields| fields.truncate(rows));
            self.carry.clear();
            self.carry.extend_from_slice(&block.bytes[at..]);
            for (column, row) in doubled.into_iter().filter(|&(_, row)| row < rows) {
                let (start, end) = &mut block.fields[column][row];
                *end = *start + undouble(&mut block.bytes[*start as usize..*end as usize]) as u32;
            }
            if rows > 0 || self.ended {
                return Ok(rows > 0);
            }
        }
    }

    fn ragged(&self, found: usize) -> String {
        let separator = shown(self.separator);
        format!(
            "line {}: {found} fields where the header has {} (separated by {separator}); a field that holds the separator must be in quotes",
            self.line,
            self.names.len()
        )
    }

    /// Reads so many more bytes, or to the end.
    fn read(&mut self, bytes: usize) -> Result<(), String> {
        if self.carry.len() >= LONGEST {
            return Err(format!("line {}: does not end within 256 MiB; is a quote left open?", self.line));
        }
        let before = self.carry.len();
        let read = (&mut self.input).take(bytes as u64).read_to_end(&mut self.carry).map_err(|e| e.to_string())?;
        self.ended = read < bytes;
        // What the head is instead, it says itself.
        if before > 0 && self.carry[before..].contains(&0) {
            return Err(NUL.into());
        }
        Ok(())
    }
}

const NUL: &str = "holds NUL bytes, so it is not CSV text; look at what wrote it";

/// What else this is, if it is seen to be.
fn not_csv(head: &[u8]) -> Option<String> {
    if head.starts_with(&[0xFF, 0xFE]) || head.starts_with(&[0xFE, 0xFF]) {
        return Some("UTF-16 text; convert it to UTF-8".into());
    }
    if let Some(format) = magic::format_of(head) {
        return Some(format!("is {format}"));
    }
    if head.contains(&0) {
        return Some(NUL.into());
    }
    if head.contains(&b'\r') && !head.contains(&b'\n') {
        return Some("its lines end in CR alone; convert them to LF".into());
    }
    None
}

/// How messages name a separator.
fn shown(separator: u8) -> String {
    if separator == b'\t' { "tabs".into() } else { format!("'{}'", char::from(separator)) }
}

/// Bytes and number of the lines without anything that come first.
fn blank_lines(bytes: &[u8]) -> (usize, u64) {
    let (mut at, mut lines) = (0, 0);
    loop {
        at += match &bytes[at..] {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return (at, lines),
        };
        lines += 1;
    }
}

/// What quotes must not do.
enum Wrong {
    /// A quoted field does not end.
    Open,
    /// A closing quote is followed by text.
    Followed,
}

impl Wrong {
    fn at(self, line: u64) -> String {
        match self {
            Self::Open => format!("line {line}: a quote is left open to the end of the file"),
            Self::Followed => {
                format!("line {line}: text follows a closing quote; a quote inside a quoted field must be doubled")
            }
        }
    }
}

/// Finds the fields of the record at `at`: calls `field` with the start and the end of each, and whether it holds
/// doubled quotes. Gives the position after the record and how many lines it took; `None` if the record
/// may go on beyond the bytes, which with `last` it does not.
fn split(
    bytes: &[u8],
    mut at: usize,
    separator: u8,
    last: bool,
    field: &mut impl FnMut(usize, usize, bool),
) -> Result<Option<(usize, u64)>, Wrong> {
    let mut lines = 1;
    loop {
        if bytes.get(at) != Some(&b'"') {
            let length = bytes[at..].iter().position(|&b| b == separator || b == b'\n');
            let Some(end) = length.map(|length| at + length) else {
                if last {
                    field(at, without_cr(bytes, at, bytes.len()), false);
                }
                return Ok(last.then_some((bytes.len(), lines)));
            };
            if bytes[end] == b'\n' {
                field(at, without_cr(bytes, at, end), false);
                return Ok(Some((end + 1, lines)));
            }
            field(at, end, false);
            at = end + 1;
            continue;
        }
        let (start, mut doubled) = (at + 1, false);
        at = start;
        loop {
            match bytes.get(at) {
                Some(b'"') if bytes.get(at + 1) == Some(&b'"') => {
                    doubled = true;
                    at += 2;
                }
                Some(b'"') => break,
                Some(&byte) => {
                    lines += u64::from(byte == b'\n');
                    at += 1;
                }
                None if last => return Err(Wrong::Open),
                None => return Ok(None),
            }
        }
        field(start, at, doubled);
        match &bytes[at + 1..] {
            [next, ..] if *next == separator => at += 2,
            [b'\n', ..] => return Ok(Some((at + 2, lines))),
            [b'\r', b'\n', ..] => return Ok(Some((at + 3, lines))),
            [] | [b'\r'] if last => return Ok(Some((bytes.len(), lines))),
            [] | [b'\r'] => return Ok(None),
            _ => return Err(Wrong::Followed),
        }
    }
}

/// The end of an unquoted field at the end of a line.
fn without_cr(bytes: &[u8], start: usize, end: usize) -> usize {
    end - usize::from(bytes[start..end].ends_with(b"\r"))
}

/// Makes one quote of each two; how many bytes are left.
fn undouble(field: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    while from < field.len() {
        field[to] = field[from];
        from += if field[from] == b'"' { 2 } else { 1 };
        to += 1;
    }
    to
}

/// The separator of the fields: one that the header line holds (outside quotes), and, unless it is the usual one, that
/// lines after it hold, too. Of several it is the one by which the first lines have as many fields as the header. Without
/// any, the file has one column.
fn separator(head: &[u8], last: bool, usual: u8) -> Result<u8, String> {
    let mut found = Vec::new();
    for by in SEPARATORS {
        let mut counts = Vec::new();
        let mut at = 0;
        while at < head.len() && counts.len() <= SAMPLE {
            if let (length @ 1.., _) = blank_lines(&head[at..]) {
                at += length;
                continue;
            }
            let mut count = 0;
            match split(head, at, by, last, &mut |_, _, _| count += 1) {
                Ok(Some((end, _))) => at = end,
                Ok(None) => break,
                // By the right separator, quotes are where they should be.
                Err(_) => count = 0,
            }
            counts.push(count);
            if count == 0 {
                break;
            }
        }
        let Some((&header, lines)) = counts.split_first() else { continue };
        let held = by == usual || lines.is_empty() || lines.iter().any(|&count| count != 1);
        if header > 1 && held {
            found.push((by, lines.iter().all(|&count| count == header)));
        }
    }
    let agreeing: Vec<u8> = found.iter().filter(|(_, agrees)| *agrees).map(|(by, _)| *by).collect();
    match (&found[..], &agreeing[..]) {
        ([], _) => Ok(usual),
        ([(only, _)], _) | (_, [only]) => Ok(*only),
        (_, []) => Ok(found.iter().find(|(by, _)| *by == usual).map_or(found[0].0, |_| usual)),
        (_, several) if usual == b'\t' && several.contains(&usual) => Ok(usual),
        (_, several) => {
            let shown: Vec<String> = several.iter().map(|&by| shown(by)).collect();
            Err(format!(
                "its fields may be separated by {}; both fit its first lines. Put fields that hold the other in quotes, or start the file with a line such as sep=;",
                shown.join(" or ")
            ))
        }
    }
}
