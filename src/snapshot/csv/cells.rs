//! What the fields of a CSV column are, and the column as an array.

use polars_arrow::array::{Array, BooleanArray, MutableBinaryViewArray, NullArray, PrimitiveArray};
use polars_arrow::datatypes::ArrowDataType;

use super::records::Block;
use crate::snapshot::table::CellType;

/// What a field looks like, blanks around it left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Nothing, or what stands for a missing value: see [`is_missing`].
    Missing,
    /// `true` or `false`.
    Flag,
    /// An integer from 0 to 2^63 - 1.
    Integer,
    /// An integer from -2^63 to -1.
    Negative,
    /// An integer from 2^63 to 2^64 - 1.
    Large,
    /// Any other integer.
    Huge,
    /// A number that has neither point nor comma: `1e5`, `inf`.
    Exponent,
    /// A number with a decimal point.
    Point,
    /// `1.234`: a decimal point, or one between thousands.
    PointOrThousands,
    /// A number with a decimal comma.
    Comma,
    /// `1,234`: a decimal comma, or one between thousands.
    CommaOrThousands,
    /// Anything else.
    Other,
}

const SHAPES: usize = 12;

/// Where the second pass does not find what the first one found.
pub const CHANGED: &str = "the file was changed while it was read; write snapshots beside and rename them";

/// Characters of a value that messages show.
const SHOWN: usize = 40;

/// What a column is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only missing values.
    Null,
    /// Booleans.
    Flag,
    /// 64-bit integers.
    Signed,
    /// 64-bit integers, none negative.
    Unsigned,
    /// Doubles.
    Float,
    /// Doubles with a decimal comma.
    CommaFloat,
    /// Text.
    Text,
}

impl Kind {
    /// How it is stored.
    pub fn cell_type(self) -> CellType {
        match self {
            Self::Null => CellType::Null,
            Self::Flag => CellType::Bool,
            Self::Signed => CellType::Signed,
            Self::Unsigned => CellType::Int,
            Self::Float | Self::CommaFloat => CellType::Float,
            Self::Text => CellType::Text,
        }
    }
}

/// How many fields of a column have which shape, and the first of each.
#[derive(Clone, Default)]
pub struct Seen {
    counts: [u64; SHAPES],
    firsts: [Option<Example>; SHAPES],
}

/// A field and the line of its record.
#[derive(Clone)]
struct Example {
    line: u64,
    value: String,
}

impl Seen {
    /// Takes note of the fields of a column. With `commas`, a comma may be a decimal comma.
    pub fn update(&mut self, block: &Block, column: usize, commas: bool) {
        for (row, field) in block.column(column).enumerate() {
            let shape = shape(field, commas) as usize;
            if self.counts[shape] == 0 {
                let value = String::from_utf8_lossy(field).chars().take(SHOWN).collect();
                self.firsts[shape] = Some(Example { line: block.line(row), value });
            }
            self.counts[shape] += 1;
        }
    }

    fn any(&self, shapes: &[Shape]) -> bool {
        shapes.iter().any(|&shape| self.counts[shape as usize] > 0)
    }

    fn is_text(&self) -> bool {
        self.any(&[Shape::Other]) || (self.any(&[Shape::Flag]) && self.any(&NUMBERS))
    }

    /// Whether it shows that the file writes decimals with a comma.
    pub fn shows_commas(&self) -> bool {
        self.any(&[Shape::Comma]) && !self.is_text() && !self.any(&POINTS)
    }

    /// What the column is read as, and why as text, if it is. `commas`: whether another column shows that decimals
    /// are written with a comma.
    pub fn kind(&self, commas: bool) -> (Kind, Option<String>) {
        use Shape as S;
        let text = |shape: Shape, why: &str| {
            let example = self.firsts[shape as usize].as_ref();
            (Kind::Text, example.map(|found| format!("line {}: '{}' {why}", found.line, found.value)))
        };
        if self.is_text() {
            let (shape, numbers) = (if self.any(&[S::Other]) { S::Other } else { S::Flag }, self.any(&NUMBERS));
            let flags = self.any(&[S::Flag]) && !numbers;
            return text(shape, if flags { "is neither true nor false" } else { "is not a number" });
        }
        if !self.any(&NUMBERS) {
            return (if self.any(&[S::Flag]) { Kind::Flag } else { Kind::Null }, None);
        }
        if self.any(&COMMAS) {
            let comma = if self.any(&[S::Comma]) { S::Comma } else { S::CommaOrThousands };
            return match (self.any(&POINTS), comma) {
                (true, _) => text(comma, "has a comma, and other numbers of the column have a point"),
                (_, S::CommaOrThousands) if !commas => {
                    text(comma, "may be a number with decimals or with thousands; write it without the comma")
                }
                _ => (Kind::CommaFloat, None),
            };
        }
        if commas && self.any(&[S::PointOrThousands]) && !self.any(&[S::Point]) {
            let why = "may be a number with decimals or with thousands, as other columns have decimal commas; write it without the point";
            return text(S::PointOrThousands, why);
        }
        if self.any(&POINTS) || self.any(&[S::Exponent]) {
            return (Kind::Float, None);
        }
        if self.any(&[S::Huge]) {
            return text(S::Huge, "does not fit an integer of 64 bits");
        }
        match (self.any(&[S::Large]), self.any(&[S::Negative])) {
            (true, true) => {
                text(S::Large, "does not fit an integer of 64 bits with a sign, and the column has negative ones")
            }
            (true, false) => (Kind::Unsigned, None),
            _ => (Kind::Signed, None),
        }
    }
}

const COMMAS: [Shape; 2] = [Shape::Comma, Shape::CommaOrThousands];
const POINTS: [Shape; 2] = [Shape::Point, Shape::PointOrThousands];
const NUMBERS: [Shape; 9] = [
    Shape::Integer,
    Shape::Negative,
    Shape::Large,
    Shape::Huge,
    Shape::Exponent,
    Shape::Point,
    Shape::PointOrThousands,
    Shape::Comma,
    Shape::CommaOrThousands,
];

/// Whether a field, blanks around it left out, stands for a missing number or boolean: what pandas, R, polars, Excel
/// and databases write, in any case of the letters.
fn is_missing(field: &[u8]) -> bool {
    const MARKERS: [&[u8]; 13] = [
        b"na", b"n/a", b"nan", b"null", b"none", b"<na>", b"#n/a", b"#na", b"-nan", b"+nan", b"\\n", b"1.#qnan",
        b"-1.#ind",
    ];
    field.is_empty() || (field.len() < 8 && MARKERS.iter().any(|marker| field.eq_ignore_ascii_case(marker)))
}

fn flag(field: &[u8]) -> Option<bool> {
    match field {
        b"true" | b"True" | b"TRUE" => Some(true),
        b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

fn shape(field: &[u8], commas: bool) -> Shape {
    let field = field.trim_ascii();
    match field {
        [b'0'..=b'9' | b'+' | b'-' | b'.' | b',', ..] => number_shape(field, commas),
        [b't' | b'T' | b'f' | b'F', ..] if flag(field).is_some() => Shape::Flag,
        [b'i' | b'I', ..] if float(field).is_some() => Shape::Exponent,
        [b't' | b'T' | b'f' | b'F' | b'i' | b'I', ..] => Shape::Other,
        _ if is_missing(field) => Shape::Missing,
        _ => Shape::Other,
    }
}

/// The shape of what starts as a number does.
fn number_shape(field: &[u8], commas: bool) -> Shape {
    let digits = |from: usize| field[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let start = usize::from(matches!(field[0], b'+' | b'-'));
    let whole = digits(start);
    let at = start + whole;
    match field.get(at) {
        None if whole > 0 => integer_shape(field, whole),
        Some(&mark @ (b'.' | b',')) => {
            let decimals = digits(at + 1);
            let end = at + 1 + decimals;
            let thousands = decimals == 3 && (1..=3).contains(&whole) && field[start] != b'0' && end == field.len();
            let plain = end == field.len() && whole + decimals > 0 && field.len() < 300;
            match mark {
                b'.' if !plain && float(field).is_none() => rest(field),
                b'.' if thousands => Shape::PointOrThousands,
                b'.' => Shape::Point,
                _ if !commas || (!plain && comma_float(field).is_none()) => rest(field),
                _ if thousands => Shape::CommaOrThousands,
                _ => Shape::Comma,
            }
        }
        _ if float(field).is_some() => Shape::Exponent,
        _ => rest(field),
    }
}

fn rest(field: &[u8]) -> Shape {
    if is_missing(field) { Shape::Missing } else { Shape::Other }
}

fn integer_shape(field: &[u8], digits: usize) -> Shape {
    let negative = field[0] == b'-';
    if digits < 19 || parsed::<i64>(field).is_some() {
        return if negative { Shape::Negative } else { Shape::Integer };
    }
    if parsed::<u64>(field).is_some() { Shape::Large } else { Shape::Huge }
}

fn parsed<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// The double nearest to a number; `None` for text, NaN, and a number beyond the largest double.
fn float(field: &[u8]) -> Option<f64> {
    let x: f64 = parsed(field)?;
    let spelled = || matches!(field, [b'i' | b'I', ..] | [_, b'i' | b'I', ..]);
    (x.is_finite() || (x.is_infinite() && spelled())).then_some(x)
}

fn comma_float(field: &[u8]) -> Option<f64> {
    // What could be a decimal point is none here.
    if field.contains(&b'.') {
        return None;
    }
    let text = std::str::from_utf8(field).ok()?;
    float(text.replacen(',', ".", 1).as_bytes())
}

/// A column as an array of its kind.
///
/// # Errors
/// A message that names the line: a field is not UTF-8 text, or is not of the kind, because the file was changed since
/// it was looked through.
pub fn array(block: &Block, column: usize, kind: Kind) -> Result<Box<dyn Array>, String> {
    Ok(match kind {
        Kind::Null => NullArray::new(ArrowDataType::Null, block.rows()).boxed(),
        Kind::Flag => BooleanArray::from(values(block, column, flag)?).boxed(),
        Kind::Signed => PrimitiveArray::from(values(block, column, parsed::<i64>)?).boxed(),
        Kind::Unsigned => PrimitiveArray::from(values(block, column, parsed::<u64>)?).boxed(),
        Kind::Float => PrimitiveArray::from(values(block, column, float)?).boxed(),
        Kind::CommaFloat => PrimitiveArray::from(values(block, column, comma_float)?).boxed(),
        Kind::Text => {
            let mut texts = MutableBinaryViewArray::<str>::with_capacity(block.rows());
            for (row, field) in block.column(column).enumerate() {
                let text = std::str::from_utf8(field).map_err(|_| {
                    let shown: String = String::from_utf8_lossy(field).chars().take(SHOWN).collect();
                    format!("line {}: '{shown}' is not UTF-8 text; convert the file to UTF-8", block.line(row))
                })?;
                texts.push((!text.is_empty()).then_some(text));
            }
            texts.freeze().boxed()
        }
    })
}

fn values<T>(block: &Block, column: usize, parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<Option<T>>, String> {
    let mut values = Vec::with_capacity(block.rows());
    for (row, field) in block.column(column).enumerate() {
        let field = field.trim_ascii();
        let value = parse(field);
        if value.is_none() && !is_missing(field) {
            let line = block.line(row);
            return Err(format!("line {line}: {CHANGED}"));
        }
        values.push(value);
    }
    Ok(values)
}
