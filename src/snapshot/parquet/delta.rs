//! Numbers and lengths of texts that are encoded as deltas, decoded only to check their number and size: the decoder
//! allocates memory by these numbers. See `Encodings.md` of the Parquet format.

use super::thrift::{varint, zigzag};

type Validated<T> = Result<T, &'static str>;

/// The start of a list of deltas.
struct DeltaHeader {
    per_block: u64,
    miniblocks: u64,
    total: u64,
}

/// Reads the header of a list with a limit on its values.
fn header(bytes: &mut &[u8], most: usize) -> Validated<DeltaHeader> {
    let mut number = || varint(bytes).ok_or("a list of deltas that is cut short");
    let header = DeltaHeader { per_block: number()?, miniblocks: number()?, total: number()? };
    if header.total > most as u64 { Err("more deltas than values") } else { Ok(header) }
}

/// Checks how many numbers a page has, against a limit.
///
/// # Errors
/// A message with the problem.
pub(crate) fn check_numbers(mut page: &[u8], most: usize) -> Validated<()> {
    header(&mut page, most).map(drop)
}

/// Checks the lengths of the texts of a page, up to a limit, each of which may share a prefix with the one before it;
/// returns their total bytes.
///
/// # Errors
/// A message with the problem.
pub(crate) fn check_texts(mut page: &[u8], most: usize, with_prefixes: bool) -> Validated<u64> {
    let prefixes = if with_prefixes { Some(numbers(&mut page, most)?) } else { None };
    let suffixes = numbers(&mut page, most)?;
    if prefixes.as_ref().is_some_and(|prefixes| prefixes.len() != suffixes.len()) {
        return Err("more starts of texts than ends, or fewer");
    }
    let (mut before, mut all, mut taken) = (0u64, 0u64, 0u64);
    for (i, &suffix) in suffixes.iter().enumerate() {
        let prefix = prefixes.as_ref().map_or(0, |prefixes| prefixes[i]);
        let (Ok(prefix), Ok(suffix)) = (u64::try_from(prefix), u64::try_from(suffix)) else {
            return Err("a text of negative length");
        };
        taken = taken.saturating_add(suffix);
        if prefix > before || taken > page.len() as u64 {
            return Err("a text that is longer than its page");
        }
        before = prefix + suffix;
        all = all.saturating_add(before);
    }
    Ok(all)
}

/// The numbers of the list at the start of these bytes, which are consumed.
fn numbers(bytes: &mut &[u8], most: usize) -> Validated<Vec<i64>> {
    const CUT: &str = "a list of deltas that is cut short";
    let DeltaHeader { per_block, miniblocks, total } = header(bytes, most)?;
    let mut last = varint(bytes).map(zigzag).ok_or(CUT)?;
    let per_miniblock =
        per_block.checked_div(miniblocks).filter(|n| *n > 0 && n % 8 == 0).ok_or("empty blocks of deltas")?;
    let mut found = Vec::new();
    if total > 0 {
        found.push(last);
    }
    while (found.len() as u64) < total {
        let smallest = varint(bytes).map(zigzag).ok_or(CUT)?;
        let widths = bytes.split_off(..usize::try_from(miniblocks).map_err(|_| CUT)?).ok_or(CUT)?;
        for &width in widths {
            let wanted = (total - found.len() as u64).min(per_miniblock);
            if wanted == 0 {
                break;
            }
            if width > 64 {
                return Err("deltas of more than 64 bits");
            }
            let length = per_miniblock.checked_mul(width.into()).map(|bits| bits / 8).ok_or(CUT)?;
            let packed = bytes.split_off(..usize::try_from(length).map_err(|_| CUT)?).ok_or(CUT)?;
            for i in 0..wanted {
                last = last.wrapping_add(smallest).wrapping_add(unpack(packed, i, width) as i64);
                found.push(last);
            }
        }
    }
    Ok(found)
}

/// Number `i` of numbers that are packed with a bit width.
fn unpack(packed: &[u8], i: u64, width: u8) -> u64 {
    let from = i * u64::from(width);
    let packed = packed.get((from / 8) as usize..).unwrap_or_default();
    let word = match packed.first_chunk() {
        Some(word) => u128::from_le_bytes(*word),
        None => {
            let mut word = [0; 16];
            word[..packed.len()].copy_from_slice(packed);
            u128::from_le_bytes(word)
        }
    };
    ((word >> (from % 8)) & ((1 << width) - 1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of 128 values in 4 miniblocks: the lengths 5, 6, 7, 5 as a first value, a smallest delta of -2 and deltas of
    /// two bits (3, 3, 0), least significant bit first.
    fn lengths() -> Vec<u8> {
        let mut bytes = vec![0x80, 1, 4, 4, 10, 3, 2, 0, 0, 0, 0b0000_1111];
        bytes.extend([0; 7]);
        bytes
    }

    #[test]
    fn lengths_are_read_and_what_follows_is_left() {
        let bytes = [lengths(), b"rest".to_vec()].concat();
        let mut left = bytes.as_slice();
        assert_eq!(numbers(&mut left, 4).unwrap(), [5, 6, 7, 5]);
        assert_eq!(left, b"rest");
        for cut in 0..lengths().len() {
            assert!(numbers(&mut &bytes[..cut], 4).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn texts_must_fit_into_their_page_and_be_as_many_as_its_values() {
        let page = |text: usize| [lengths(), vec![b'x'; text]].concat();
        assert_eq!(check_texts(&page(23), 4, false), Ok(23));
        assert!(check_texts(&page(22), 4, false).unwrap_err().contains("longer"));
        assert!(check_texts(&page(23), 3, false).unwrap_err().contains("more deltas"));
        assert!(check_numbers(&lengths(), 3).is_err());
        assert_eq!(check_numbers(&lengths(), 4), Ok(()));
        // The first text has nothing before it that it could start as.
        let both = [lengths(), lengths(), vec![b'x'; 23]].concat();
        assert!(check_texts(&both, 4, true).unwrap_err().contains("longer"));
        // A first value of 2^40.
        let long = [0x80, 1, 4, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
        assert!(check_texts(&long, 4, false).unwrap_err().contains("longer"));
        // No miniblocks, and blocks without values.
        assert!(check_texts(&[0x80, 1, 0, 2, 10, 3], 4, false).is_err());
        assert!(check_texts(&[0, 4, 2, 10, 3, 0, 0, 0, 0], 4, false).is_err());
    }
}
