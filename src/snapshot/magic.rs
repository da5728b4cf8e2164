//! The format of a file by its first bytes, for messages about files with a wrong extension.

use std::path::Path;

use driftsweep_common::error::Error;
use driftsweep_common::storage::StoredFile;

/// Bytes that are examined.
const HEAD: usize = 512;

/// Formats by their first bytes, each with the remedy. Those that consist of letters could also begin a text.
const FORMATS: [(&[u8], &str); 11] = [
    (b"PAR1", "a Parquet file; give it a name that ends in .parquet"),
    (b"ARROW1", "an Arrow IPC file; give it a name that ends in .arrow"),
    (b"FEA1", "a Feather file of version 1; convert it to Parquet"),
    (&[0x1F, 0x8B], "compressed (gzip); unpack it first"),
    (&[0x28, 0xB5, 0x2F, 0xFD], "compressed (zstd); unpack it first"),
    (&[0x04, 0x22, 0x4D, 0x18], "compressed (lz4); unpack it first"),
    (&[0xFD, b'7', b'z', b'X', b'Z'], "compressed (xz); unpack it first"),
    (b"BZh", "compressed (bzip2); unpack it first"),
    (b"PK\x03\x04", "a zip archive or an Excel sheet; unpack it, or save it as CSV"),
    (&[0xD0, 0xCF, 0x11, 0xE0], "an old Excel sheet or another Office file; save it as CSV"),
    (b"SQLite format 3", "an SQLite database; export its table as Parquet or CSV"),
];

/// The format that these first bytes show, and the remedy.
pub(crate) fn format_of(head: &[u8]) -> Option<&'static str> {
    let found = FORMATS.iter().find(|(magic, _)| head.starts_with(magic));
    found.filter(|(magic, _)| !magic.is_ascii() || !is_text(head)).map(|(_, format)| *format)
}

/// The error of a file at `local` that does not have the expected format, with its actual format, if its first bytes
/// show it.
pub(crate) fn with_actual_format(expected: &str, local: &Path, error: Error) -> Error {
    match (error, other_than(expected, local)) {
        (Error::Unreadable { path, .. }, Some(other)) => {
            Error::Unreadable { path, reason: format!("not a readable {expected} file: it is {other}") }
        }
        (error, _) => error,
    }
}

fn other_than(expected: &str, path: &Path) -> Option<String> {
    let file = StoredFile::open(path).ok()?;
    let mut head = vec![0; HEAD.min(usize::try_from(file.length()).ok()?)];
    file.read_exact_at(&mut head, 0).ok()?;
    match format_of(&head) {
        Some(format) if format.split(';').next()?.contains(expected) => None,
        Some(format) => Some(format.into()),
        None if !head.is_empty() && is_text(&head) => {
            Some("text; if it is CSV, give it a name that ends in .csv".into())
        }
        None => None,
    }
}

/// Whether these are bytes of text: no control characters except white space.
fn is_text(head: &[u8]) -> bool {
    head.iter().take(HEAD).all(|&byte| byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_from_text_that_begins_like_them() {
        assert!(format_of(b"PAR1\x15\x04\x15").unwrap().contains("Parquet"));
        assert!(format_of(&[0x1F, 0x8B, 8, 0]).unwrap().contains("gzip"));
        assert!(format_of(&[0x28, 0xB5, 0x2F, 0xFD, b'$', b'A']).unwrap().contains("zstd"));
        assert!(format_of(b"PK\x03\x04").unwrap().contains("Excel"));
        for text in [&b"PAR1,x\n1,2\n"[..], b"BZh,x\n", b"", b"x"] {
            assert_eq!(format_of(text), None);
        }
    }
}
