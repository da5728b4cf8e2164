//! CSV text as records of fields (RFC 4180), a block of whole records at a time.
//!
//! Quoting must be unambiguous: an open quote, or text after a closing quote, could shift or hide records, so both are
//! errors that name the line.

use std::io::Read;

use crate::snapshot::magic;

/// Bytes read at a time: the size fits a processor's cache together with the positions of its fields.
const BLOCK: usize = 256 << 10;

/// Bytes read before searching the separator and the header.
const HEAD: usize = 1 << 20;

/// Bytes in which a record must end.
const MAX_RECORD_BYTES: usize = 256 << 20;

/// Records after the header by which a separator is chosen.
const SAMPLE: usize = 100;

/// Possible separators of fields.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The records of a CSV file after its header.
pub struct Records<R> {
    input: R,
    separator: u8,
    names: Vec<String>,
    /// Bytes that were read and are not in a block yet.
    carry: Vec<u8>,
    /// Bytes read at a time.
    block: usize,
    /// Whether the input has no more bytes than those.
    ended: bool,
    /// The line at which the next record starts, from 1.
    line: u64,
}

/// Whole records, as fields by column.
#[derive(Default)]
pub(crate) struct Block {
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

    /// Whether a field is in quotes.
    pub(crate) fn is_quoted(&self, column: usize, row: usize) -> bool {
        let (start, _) = self.fields[column][row];
        start > 0 && self.bytes[start as usize - 1] == b'"'
    }

    /// Bytes of text, about.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
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
    /// A message: the actual format of the file, or the error in its first lines.
    pub fn open(input: R, usual: u8) -> Result<Self, String> {
        Self::in_blocks(input, usual, BLOCK)
    }

    fn in_blocks(input: R, usual: u8, block: usize) -> Result<Self, String> {
        let (names, carry) = (Vec::new(), Vec::new());
        let mut records = Self { input, separator: usual, names, carry, block, ended: false, line: 1 };
        records.read(HEAD.min(block))?;
        if let Some(reason) = not_csv(&records.carry) {
            return Err(reason);
        }
        if records.carry.starts_with(b"\xEF\xBB\xBF") {
            records.carry.drain(..3);
        }
        // Excel's notation for the separator.
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
            records.read(block.max(records.carry.len()))?;
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
    pub(crate) fn separator(&self) -> u8 {
        self.separator
    }

    /// Reads about 256 KiB of records into the block; `false` if there are no more.
    ///
    /// # Errors
    /// A message that names the line.
    pub fn fill(&mut self, block: &mut Block) -> Result<bool, String> {
        let width = self.names.len();
        block.fields.resize_with(width, Vec::new);
        loop {
            // Twice as much if not even one record is complete, so that a long one is not scanned often.
            self.read(self.block.max(self.carry.len()))?;
            block.fields.iter_mut().for_each(Vec::clear);
            block.lines.clear();
            std::mem::swap(&mut block.bytes, &mut self.carry);
            let bytes = &block.bytes;
            let (mut at, mut doubled) = (0, Vec::new());
            while at < bytes.len() {
                // An empty line is a value only where there is one column: a missing one.
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

    /// Reads a number of further bytes, or to the end.
    fn read(&mut self, bytes: usize) -> Result<(), String> {
        if self.carry.len() >= MAX_RECORD_BYTES {
            return Err(format!("line {}: does not end within 256 MiB; is a quote left open?", self.line));
        }
        let before = self.carry.len();
        let read = (&mut self.input).take(bytes as u64).read_to_end(&mut self.carry).map_err(|e| e.to_string())?;
        self.ended = read < bytes;
        // The first bytes may show another format.
        if before > 0 && self.carry[before..].contains(&0) {
            return Err(NUL.into());
        }
        Ok(())
    }
}

const NUL: &str = "contains NUL bytes, so it is not CSV text; check the program that wrote it";

/// The other format of a file, if it is recognised.
fn not_csv(head: &[u8]) -> Option<String> {
    if head.starts_with(&[0xFF, 0xFE]) || head.starts_with(&[0xFE, 0xFF]) {
        return Some("UTF-16 text; convert it to UTF-8".into());
    }
    if let Some(format) = magic::format_of(head) {
        return Some(format!("not CSV: it is {format}"));
    }
    if head.contains(&0) {
        return Some(NUL.into());
    }
    if head.strip_suffix(b"\r").unwrap_or(head).contains(&b'\r') && !head.contains(&b'\n') {
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

/// Errors of quoting.
enum QuoteError {
    /// A quoted field does not end.
    Open,
    /// A closing quote is followed by text.
    Followed,
}

impl QuoteError {
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
) -> Result<Option<(usize, u64)>, QuoteError> {
    let mut lines = 1;
    loop {
        if bytes.get(at) != Some(&b'"') {
            let Some(end) = find(bytes, at, separator) else {
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
            let Some(next) = find(bytes, at, b'"') else { return if last { Err(QuoteError::Open) } else { Ok(None) } };
            at = next;
            if bytes[at] == b'\n' {
                lines += 1;
                at += 1;
            } else if bytes.get(at + 1) == Some(&b'"') {
                doubled = true;
                at += 2;
            } else {
                break;
            }
        }
        field(start, at, doubled);
        match &bytes[at + 1..] {
            [next, ..] if *next == separator => at += 2,
            [b'\n', ..] => return Ok(Some((at + 2, lines))),
            [b'\r', b'\n', ..] => return Ok(Some((at + 3, lines))),
            [] | [b'\r'] if last => return Ok(Some((bytes.len(), lines))),
            [] | [b'\r'] => return Ok(None),
            _ => return Err(QuoteError::Followed),
        }
    }
}

/// The next separator (or quote) or end of a line: eight bytes at a time, because most of the time is spent here.
fn find(bytes: &[u8], mut at: usize, separator: u8) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    // The lowest byte that is zero has its highest bit set, and none below it.
    let zeros = |x: u64| x.wrapping_sub(ONES) & !x & (ONES << 7);
    let (separators, ends) = (ONES * u64::from(separator), ONES * u64::from(b'\n'));
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ separators) | zeros(word ^ ends);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes[at..].iter().position(|&byte| byte == separator || byte == b'\n');
    rest.map(|length| at + length)
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
                // With the right separator, quotes are valid.
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

#[cfg(test)]
mod tests {
    use super::*;

    type Table = (Vec<String>, Vec<(u64, Vec<String>)>);

    /// The names, and the line and fields of each record.
    fn read(text: &[u8], usual: u8, block: usize) -> Result<Table, String> {
        let mut records = Records::in_blocks(text, usual, block)?;
        let (mut rows, mut block) = (Vec::new(), Block::default());
        while records.fill(&mut block)? {
            let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
            let columns: Vec<Vec<String>> =
                (0..records.names().len()).map(|column| block.column(column).map(text).collect()).collect();
            rows.extend(
                (0..block.rows())
                    .map(|row| (block.line(row), columns.iter().map(|column| column[row].clone()).collect())),
            );
        }
        Ok((records.names().to_vec(), rows))
    }

    fn table(text: &str) -> Table {
        read(text.as_bytes(), b',', BLOCK).unwrap()
    }

    fn refusal(text: &str) -> String {
        read(text.as_bytes(), b',', BLOCK).unwrap_err()
    }

    #[test]
    fn quotes_line_ends_and_blank_lines_are_read_whatever_the_size_of_a_block() {
        let text = "\u{feff}a,\"b,c\",\"d \"\"e\"\"\"\r\n1,\"x,\r\ny\",z\n\n\r\n\"\",\"say \"\"so\"\"\",5\" pipe\r\n ,,\"\"\"\"\"\"";
        let row = |line: u64, fields: [&str; 3]| (line, fields.map(str::to_owned).to_vec());
        let rows =
            vec![row(2, ["1", "x,\r\ny", "z"]), row(6, ["", "say \"so\"", "5\" pipe"]), row(7, [" ", "", "\"\""])];
        let names = ["a", "b,c", "d \"e\""].map(str::to_owned).to_vec();
        for block in 3..text.len() + 2 {
            let found = read(text.as_bytes(), b',', block).unwrap();
            assert_eq!(found, (names.clone(), rows.clone()), "{block}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_the_csv_package_writes_is_read_as_it_was(
            rows in proptest::collection::vec(proptest::collection::vec("[ab\",;\r\n é]{0,6}", 3), 1..8),
            separator in proptest::sample::select(vec![b',', b';', b'\t', b'|']),
            always in proptest::bool::ANY,
            crlf in proptest::bool::ANY,
            block in 3usize..60,
        ) {
            let mut writer = ::csv::WriterBuilder::new()
                .delimiter(separator)
                .quote_style(if always { ::csv::QuoteStyle::Always } else { ::csv::QuoteStyle::Necessary })
                .terminator(if crlf { ::csv::Terminator::CRLF } else { ::csv::Terminator::Any(b'\n') })
                .from_writer(Vec::new());
            writer.write_record(["x", "y", "z"]).unwrap();
            rows.iter().for_each(|row| writer.write_record(row).unwrap());
            let found = read(&writer.into_inner().unwrap(), b',', block).unwrap();
            proptest::prop_assert_eq!(found.1.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), rows);
        }
    }

    #[test]
    fn a_blank_line_is_a_missing_value_where_there_is_one_column() {
        let values = |text| table(text).1.into_iter().map(|(_, mut row)| row.remove(0)).collect::<Vec<_>>();
        // What polars and pyarrow write for [1, null, 3, null], and pandas for [1, NaN].
        assert_eq!(values("x\n1\n\n3\n\n"), ["1", "", "3", ""]);
        assert_eq!(values("x\n1\n\"\"\n"), ["1", ""]);
        assert!(values("x\n").is_empty() && values("x").is_empty());
    }

    #[test]
    fn the_separator_is_the_one_in_the_header_line() {
        for (text, columns) in [
            ("a,b\n1,2\n", 2),
            ("a;b\n1;2\n", 2),
            ("a;b\n1,5;2\n", 2),
            ("a;b", 2),
            ("a\tb\n1\t2\n", 2),
            ("a|b\n1|2\n", 2),
            ("\"a\";\"b\"\n\"1,5\";\"2\"\n", 2),
            ("\"a;b\",c\n1,2\n", 2),
            ("\"a,b\";c\n1;2\n", 2),
            // Both are in the header line; the lines after it decide.
            ("income (EUR, net);k\n1;2\n", 2),
            ("a;b,c;d\n1,2\n", 2),
            ("sep=;\na, b;c\n1,5;2\n", 2),
            ("sep=|\r\na|c\r\n1|2\r\n", 2),
            // No line holds it: it belongs to the name.
            ("a|b\n1\n2\n", 1),
            ("a\n1\n2\n", 1),
        ] {
            assert_eq!(table(text).0.len(), columns, "{text}");
        }
        assert_eq!(read(b"a,b\tc\n1,2\t3\n", b'\t', BLOCK).unwrap().0, ["a,b", "c"]);
        assert_eq!(read(b"a,b\n1,2\n", b'\t', BLOCK).unwrap().0, ["a", "b"]);
        let either = refusal("income (EUR, net);k\n23157,22;0\n");
        assert!(either.contains("',' or ';'"), "{either}");
    }

    #[test]
    fn what_is_not_a_table_is_refused_with_its_line() {
        for (text, words) in [
            ("a,b\n1,2\n\n3\n", "line 4: 1 fields where the header has 2 (separated by ',')"),
            ("a;b\n1;2;3\n", "line 2: 3 fields where the header has 2 (separated by ';')"),
            ("a\n1,5\n", "line 2: 2 fields where the header has 1"),
            ("a,b\n\"x\ny\",2\n1,\"2\n3,4\n", "line 4: a quote is left open"),
            ("a,b\n1,\"2\"x\n", "line 2: text follows a closing quote"),
            ("a,b\n1,\"x \\\"y\\\" z\"\n", "must be doubled"),
            ("", "empty file"),
            ("\n\r\n", "empty file"),
            ("a,b\r1,2\r", "CR alone"),
            ("a,b\n1,\0\n", "NUL"),
        ] {
            let found = refusal(text);
            assert!(found.contains(words), "{text:?}: {found}");
        }
        assert!(read(b"\xFF\xFEa\0", b',', BLOCK).unwrap_err().contains("UTF-16"));
        assert!(read(b"a\xE9,b\n", b',', BLOCK).unwrap_err().contains("line 1: not UTF-8"));
    }
}
