//! Thrift's compact protocol, checked: footers and page headers of Parquet files are read in it. The decoder trusts the
//! lengths that it finds, and allocates; here every length is checked against the bytes that are left, and every field
//! that the decoder reads against the expected type.

/// The expected type of a value. The decoder only uses a field's number, so the type must match the format.
pub(crate) enum ThriftType {
    Bool,
    Byte,
    /// Up to 32 bits. A tag other than 0 identifies the number for the callback.
    Int(u8),
    /// Up to 64 bits.
    Long(u8),
    Binary,
    /// The callback gets the name after each element.
    List(u8, &'static ThriftType),
    /// Fields by number; others are skipped.
    Struct(&'static [(i16, ThriftType)]),
}

/// Values nested deeper than this are refused.
const DEEPEST: usize = 32;

/// Reads from a slice.
pub(crate) struct Walker<'a, F> {
    left: &'a [u8],
    /// Elements of lists so far: each needs memory when it is decoded.
    elements: u64,
    /// Called with the name and the value of every named number and element.
    note: F,
}

impl<'a, F: FnMut(u8, i64) -> Result<(), String>> Walker<'a, F> {
    pub fn new(bytes: &'a [u8], note: F) -> Self {
        Self { left: bytes, elements: 0, note }
    }

    /// Walks over a struct; returns its bytes, and the number of elements of all its lists.
    pub(crate) fn walk(mut self, fields: &'static [(i16, ThriftType)]) -> Result<(usize, u64), String> {
        let all = self.left.len();
        self.fields(fields, 0)?;
        Ok((all - self.left.len(), self.elements))
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (&first, left) = self.left.split_first().ok_or("it ends in the middle of a value")?;
        self.left = left;
        Ok(first)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.left = self.left.get(bytes..).ok_or_else(|| format!("a value of {bytes} bytes reaches beyond its end"))?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, String> {
        varint(&mut self.left).ok_or_else(|| "a number that is cut short, or has more than 64 bits".into())
    }

    fn integer(&mut self, bits: u32) -> Result<i64, String> {
        let value = zigzag(self.varint()?);
        let fits = bits == 64 || (-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&value);
        fits.then_some(value).ok_or_else(|| format!("the number {value}, which takes more than {bits} bits"))
    }

    fn fields(&mut self, known: &'static [(i16, ThriftType)], depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("values nested more than {DEEPEST} deep"));
        }
        let mut id = 0i16;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0F;
            if kind == STOP {
                return Ok(());
            }
            id = match head >> 4 {
                0 => self.integer(16)? as i16,
                step => id.checked_add(step.into()).ok_or("a field number beyond all numbers")?,
            };
            match known.iter().find(|(known, _)| *known == id) {
                Some((_, shape)) => self.value(shape, kind, false, depth)?,
                None => self.unknown(kind, false, depth)?,
            }
        }
    }

    fn value(&mut self, shape: &'static ThriftType, kind: u8, in_list: bool, depth: usize) -> Result<(), String> {
        match (shape, kind) {
            (ThriftType::Bool, TRUE | FALSE) | (ThriftType::Byte, BYTE) | (ThriftType::Binary, BINARY) => {
                self.unknown(kind, in_list, depth)
            }
            (ThriftType::Int(name), I16 | I32) => self.integer(32).and_then(|value| self.named(*name, value)),
            (ThriftType::Long(name), I64) => self.integer(64).and_then(|value| self.named(*name, value)),
            (ThriftType::Struct(fields), STRUCT) => self.fields(fields, depth + 1),
            (ThriftType::List(name, element), LIST) => {
                let (count, kind) = self.list()?;
                for _ in 0..count {
                    self.value(element, kind, true, depth + 1)?;
                    self.named(*name, 0)?;
                }
                Ok(())
            }
            _ => Err(format!("a value of type {kind} where the format has another")),
        }
    }

    fn named(&mut self, name: u8, value: i64) -> Result<(), String> {
        if name == 0 { Ok(()) } else { (self.note)(name, value) }
    }

    /// Number and type of a list's elements, each of which takes at least a byte.
    fn list(&mut self) -> Result<(u64, u8), String> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { (head >> 4).into() };
        if count > self.left.len() as u64 {
            return Err(format!("a list of {count} elements in {} bytes", self.left.len()));
        }
        self.elements += count;
        Ok((count, head & 0x0F))
    }

    fn unknown(&mut self, kind: u8, in_list: bool, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("values nested more than {DEEPEST} deep"));
        }
        match kind {
            // A boolean field has its value in its type.
            TRUE | FALSE => self.skip(in_list.into()),
            BYTE => self.skip(1),
            I16 | I32 | I64 => self.varint().map(drop),
            DOUBLE => self.skip(8),
            BINARY => self.varint().and_then(|bytes| self.skip(bytes)),
            LIST | SET => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.unknown(kind, true, depth + 1))
            }
            STRUCT => self.fields(&[], depth + 1),
            // Parquet has no maps.
            other => Err(format!("a value of unknown type {other}")),
        }
    }
}

/// The number of variable length (LEB128) at the start of these bytes, which is consumed.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let &byte = bytes.split_off_first()?;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The signed number that is stored as this one.
pub(crate) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: &[(i16, ThriftType)] = &[
        (1, ThriftType::Int(1)),
        (2, ThriftType::List(2, &ThriftType::Struct(&[(1, ThriftType::Binary)]))),
        (3, ThriftType::Bool),
    ];

    fn walk(bytes: &[u8]) -> Result<(usize, Vec<(u8, i64)>), String> {
        let mut seen = Vec::new();
        let note = |name, value| {
            seen.push((name, value));
            Ok(())
        };
        let (bytes, _) = Walker::new(bytes, note).walk(SHAPE)?;
        Ok((bytes, seen))
    }

    #[test]
    fn what_is_well_formed_is_walked_to_its_end() {
        // 1: -3; 2: [{1: "ab"}, {}]; 3: true; 9: a list of two doubles; then a byte that is not part of it.
        let mut bytes = vec![0x15, 5, 0x19, 0x2C, 0x18, 2, b'a', b'b', 0, 0, 0x11, 0x69, 0x27];
        bytes.extend([0; 16]);
        bytes.extend([0, 77]);
        assert_eq!(walk(&bytes).unwrap(), (bytes.len() - 1, vec![(1, -3), (2, 0), (2, 0)]));
        for cut in 0..bytes.len() - 1 {
            assert!(walk(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_length_beyond_the_end_another_type_and_deep_nesting_are_refused() {
        // A list of 2^62 structs, text of 2^40 bytes, a number where text belongs, one of 40 bits where 32 belong.
        let long = [0xFF; 8].as_slice();
        assert!(walk(&[&[0x29, 0xFC], long, &[0x3F, 0]].concat()).unwrap_err().contains("a list of"));
        assert!(walk(&[0x48, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0]).unwrap_err().contains("beyond its end"));
        assert!(walk(&[0x18, 1, b'a', 0]).unwrap_err().contains("another"));
        assert!(walk(&[0x15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0]).unwrap_err().contains("32 bits"));
        assert!(walk(&[0x15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0]).is_err());
        assert!(walk(&[&[0x4C; 1000][..], &[0; 1000]].concat()).unwrap_err().contains("nested"));
        assert!(walk(&[&[0x49][..], &[0x19; 1000]].concat()).unwrap_err().contains("nested"));
    }
}
