//! The type of the fields of a CSV column, and the column as an array.

use polars_arrow::array::{
    Array, BooleanArray, MutableBinaryViewArray, MutableBooleanArray, MutablePrimitiveArray, NullArray, PrimitiveArray,
};
use polars_arrow::datatypes::ArrowDataType;

use std::path::Path;

use super::records::Block;
use crate::snapshot::TextReason;
use crate::snapshot::table::CellType;

/// The form of a field, without surrounding spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldShape {
    /// Empty, or a text for a missing value: see [`is_missing`].
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
    /// A number with thousands separators, or with a decimal comma where commas separate fields.
    Separated,
    /// Anything else.
    Other,
}

const SHAPES: usize = 13;

/// The error when the second pass does not find the values of the first one.
pub(crate) const CHANGED: &str =
    "the file was changed while it was read; write snapshots under another name and rename them";

/// Most characters of a value in a message.
const MAX_SHOWN_CHARS: usize = 40;

/// The type that a column is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CsvKind {
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
    /// Text that is always in quotes, so that an unquoted text for a missing value is a missing value.
    QuotedText,
}

impl CsvKind {
    /// How it is stored.
    pub(crate) fn cell_type(self) -> CellType {
        match self {
            Self::Null => CellType::Null,
            Self::Flag => CellType::Bool,
            Self::Signed => CellType::Signed,
            Self::Unsigned => CellType::Int,
            Self::Float | Self::CommaFloat => CellType::Float,
            Self::Text | Self::QuotedText => CellType::Text,
        }
    }
}

/// Counts of the forms of the fields of a column, with the first field of each form.
#[derive(Clone, Default)]
pub(crate) struct FieldShapeCounts {
    counts: [u64; SHAPES],
    firsts: [Option<Example>; SHAPES],
    /// Whether a value that is not missing stands without quotes.
    bare: bool,
}

/// A field and the line of its record.
#[derive(Clone)]
struct Example {
    line: u64,
    value: String,
}

impl FieldShapeCounts {
    /// Counts the fields of a column. With `commas`, a comma may be a decimal comma.
    pub fn update(&mut self, block: &Block, column: usize, commas: bool) {
        for (row, field) in block.column(column).enumerate() {
            let shape = shape(field, commas);
            self.bare = self.bare || (shape != FieldShape::Missing && !block.is_quoted(column, row));
            let shape = shape as usize;
            if self.counts[shape] == 0 {
                self.firsts[shape] = Some(Example { line: block.line(row), value: shown(field) });
            }
            self.counts[shape] += 1;
        }
    }

    fn any(&self, shapes: &[FieldShape]) -> bool {
        shapes.iter().any(|&shape| self.counts[shape as usize] > 0)
    }

    fn is_text(&self) -> bool {
        self.any(&[FieldShape::Other, FieldShape::Separated]) || (self.any(&[FieldShape::Flag]) && self.any(&NUMBERS))
    }

    /// Whether it shows that the file writes decimals with a comma.
    pub(crate) fn shows_commas(&self) -> bool {
        self.any(&[FieldShape::Comma]) && !self.is_text() && !self.any(&POINTS)
    }

    /// What the column is read as. `commas`: whether a column shows that the file writes decimals with a comma.
    pub fn kind(&self, commas: bool) -> CsvKind {
        match self.decide(commas) {
            Ok(kind) => kind,
            Err(_) if self.bare => CsvKind::Text,
            Err(_) => CsvKind::QuotedText,
        }
    }

    /// The reason why a column is text, if it is.
    pub fn note(&self, path: &Path, commas: bool) -> Option<TextReason> {
        let (shape, why) = self.decide(commas).err()?;
        let Example { line, value } = self.firsts[shape as usize].as_ref()?;
        let values: u64 = self.counts.iter().sum::<u64>() - self.counts[FieldShape::Missing as usize];
        let numbers: u64 =
            NUMBERS.iter().chain([&FieldShape::Separated]).map(|&shape| self.counts[shape as usize]).sum();
        let nearly_numbers = 10 * numbers >= 9 * values;
        Some(TextReason { text: format!("{}, line {line}: '{value}' {why}", path.display()), nearly_numbers })
    }

    /// The type, or the form of the values that make it text with the reason.
    fn decide(&self, commas: bool) -> Result<CsvKind, (FieldShape, &'static str)> {
        use FieldShape as S;
        let numbers = self.any(&NUMBERS);
        if self.is_text() {
            let flags = self.any(&[S::Flag]) && !numbers && !self.any(&[S::Separated]);
            return Err(match [S::Other, S::Separated].into_iter().find(|&shape| self.any(&[shape])) {
                Some(S::Separated) => (S::Separated, SEPARATED),
                Some(other) => (other, if flags { "is neither true nor false" } else { "is not a number" }),
                None => (S::Flag, "is not a number"),
            });
        }
        if !numbers {
            return Ok(if self.any(&[S::Flag]) { CsvKind::Flag } else { CsvKind::Null });
        }
        if self.any(&COMMAS) {
            let comma = if self.any(&[S::Comma]) { S::Comma } else { S::CommaOrThousands };
            return match comma {
                _ if self.any(&POINTS) => Err((comma, "has a comma, and other numbers of the column have a point")),
                S::CommaOrThousands if !commas => {
                    Err((comma, "has a comma before decimals or between thousands; write it without"))
                }
                _ => Ok(CsvKind::CommaFloat),
            };
        }
        if commas && self.any(&[S::PointOrThousands]) && !self.any(&[S::Point]) {
            let why = "has a point before decimals or between thousands, and other columns have decimal commas";
            return Err((S::PointOrThousands, why));
        }
        if self.any(&POINTS) || self.any(&[S::Exponent]) {
            return Ok(CsvKind::Float);
        }
        if self.any(&[S::Huge]) {
            return Err((S::Huge, "does not fit an integer of 64 bits"));
        }
        match (self.any(&[S::Large]), self.any(&[S::Negative])) {
            (true, true) => Err((S::Large, "does not fit a signed integer of 64 bits, and other values are negative")),
            (true, false) => Ok(CsvKind::Unsigned),
            _ => Ok(CsvKind::Signed),
        }
    }
}

const COMMAS: [FieldShape; 2] = [FieldShape::Comma, FieldShape::CommaOrThousands];
const POINTS: [FieldShape; 2] = [FieldShape::Point, FieldShape::PointOrThousands];
const NUMBERS: [FieldShape; 9] = [
    FieldShape::Integer,
    FieldShape::Negative,
    FieldShape::Large,
    FieldShape::Huge,
    FieldShape::Exponent,
    FieldShape::Point,
    FieldShape::PointOrThousands,
    FieldShape::Comma,
    FieldShape::CommaOrThousands,
];

/// Whether a field, without surrounding spaces, is a text for a missing number or boolean: what pandas, R, polars,
/// Excel and databases write, in any case of the letters.
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

fn shape(field: &[u8], commas: bool) -> FieldShape {
    let field = field.trim_ascii();
    match field {
        [b'0'..=b'9' | b'+' | b'-' | b'.' | b',', ..] => number_shape(field, commas),
        [b't' | b'T' | b'f' | b'F', ..] if flag(field).is_some() => FieldShape::Flag,
        [b'i' | b'I', ..] if float(field).is_some() => FieldShape::Exponent,
        [b't' | b'T' | b'f' | b'F' | b'i' | b'I', ..] => FieldShape::Other,
        _ if is_missing(field) => FieldShape::Missing,
        _ => FieldShape::Other,
    }
}

/// The form of a field that starts like a number.
fn number_shape(field: &[u8], commas: bool) -> FieldShape {
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
                b'.' if thousands => FieldShape::PointOrThousands,
                b'.' => FieldShape::Point,
                _ if !commas || (!plain && comma_float(field).is_none()) => rest(field),
                _ if thousands => FieldShape::CommaOrThousands,
                _ => FieldShape::Comma,
            }
        }
        _ if float(field).is_some() => FieldShape::Exponent,
        _ => rest(field),
    }
}

/// The form of a field that starts like a number and is not one.
fn rest(field: &[u8]) -> FieldShape {
    match std::str::from_utf8(field) {
        _ if is_missing(field) => FieldShape::Missing,
        Ok(text) if has_separators(text) => FieldShape::Separated,
        _ => FieldShape::Other,
    }
}

fn integer_shape(field: &[u8], digits: usize) -> FieldShape {
    let negative = field[0] == b'-';
    if digits < 19 || parsed::<i64>(field).is_some() {
        return if negative { FieldShape::Negative } else { FieldShape::Integer };
    }
    if parsed::<u64>(field).is_some() { FieldShape::Large } else { FieldShape::Huge }
}

const SEPARATED: &str = "is not read as a number; write numbers with a decimal point and without thousands separators";

/// Whether a value is a number with a decimal comma or with thousands set apart, such as `1.234,56`, `1,234,567`, `1'234`.
fn has_separators(value: &str) -> bool {
    let digits = value.trim_start_matches(['+', '-']);
    let mut groups = digits
        .split([',', '.', '\'', ' ', '\u{a0}', '\u{202f}'])
        .map(|group| group.bytes().all(|byte| byte.is_ascii_digit()).then_some(group.len()));
    let Some(Some(1..=3)) = groups.next() else { return comma_float(value.as_bytes()).is_some() };
    // The last group may be decimals.
    let (mut before, mut count) = (Some(3), 0);
    for group in groups {
        if before != Some(3) {
            return false;
        }
        (before, count) = (group, count + 1);
    }
    match (before, count) {
        (Some(length), 1) => length == 3 || comma_float(value.as_bytes()).is_some(),
        (length, _) => length.is_some() && count > 1,
    }
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
    // A point is not a decimal point here.
    if field.contains(&b'.') {
        return None;
    }
    let text = std::str::from_utf8(field).ok()?;
    float(text.replacen(',', ".", 1).as_bytes())
}

/// The values of a column, while they are collected.
pub(crate) enum CsvValues {
    /// A number of missing values.
    Null(usize),
    /// Booleans.
    Flag(MutableBooleanArray),
    /// Integers.
    Signed(MutablePrimitiveArray<i64>),
    /// Integers, none negative.
    Unsigned(MutablePrimitiveArray<u64>),
    /// Doubles.
    Float(MutablePrimitiveArray<f64>),
    /// Doubles with a decimal comma.
    CommaFloat(MutablePrimitiveArray<f64>),
    /// Text.
    Text(MutableBinaryViewArray<str>),
    /// Text that is always in quotes.
    QuotedText(MutableBinaryViewArray<str>),
}

impl CsvValues {
    /// None yet.
    pub fn new(kind: CsvKind) -> Self {
        match kind {
            CsvKind::Null => Self::Null(0),
            CsvKind::Flag => Self::Flag(MutableBooleanArray::new()),
            CsvKind::Signed => Self::Signed(MutablePrimitiveArray::new()),
            CsvKind::Unsigned => Self::Unsigned(MutablePrimitiveArray::new()),
            CsvKind::Float => Self::Float(MutablePrimitiveArray::new()),
            CsvKind::CommaFloat => Self::CommaFloat(MutablePrimitiveArray::new()),
            CsvKind::Text => Self::Text(MutableBinaryViewArray::new()),
            CsvKind::QuotedText => Self::QuotedText(MutableBinaryViewArray::new()),
        }
    }

    /// Adds the fields of a column.
    ///
    /// # Errors
    /// A message that names the line: a field is not UTF-8 text, or is not of the kind, because the file was changed
    /// since it was scanned.
    pub fn extend(&mut self, block: &Block, column: usize) -> Result<(), String> {
        match self {
            Self::Null(rows) => each(block, column, |_| None::<()>, |_| *rows += 1),
            Self::Flag(values) => each(block, column, flag, |value| values.push(value)),
            Self::Signed(values) => each(block, column, parsed, |value| values.push(value)),
            Self::Unsigned(values) => each(block, column, parsed, |value| values.push(value)),
            Self::Float(values) => each(block, column, float, |value| values.push(value)),
            Self::CommaFloat(values) => each(block, column, comma_float, |value| values.push(value)),
            Self::Text(values) => texts(block, column, |_, field| field.is_empty(), values),
            Self::QuotedText(values) => {
                let missing = |row, field: &[u8]| {
                    field.is_empty() || (is_missing(field.trim_ascii()) && !block.is_quoted(column, row))
                };
                texts(block, column, missing, values)
            }
        }
    }

    /// All of them.
    pub(crate) fn into_array(self) -> Box<dyn Array> {
        match self {
            Self::Null(rows) => NullArray::new(ArrowDataType::Null, rows).boxed(),
            Self::Flag(values) => BooleanArray::from(values).boxed(),
            Self::Signed(values) => PrimitiveArray::from(values).boxed(),
            Self::Unsigned(values) => PrimitiveArray::from(values).boxed(),
            Self::Float(values) | Self::CommaFloat(values) => PrimitiveArray::from(values).boxed(),
            Self::Text(values) | Self::QuotedText(values) => values.freeze().boxed(),
        }
    }
}

/// Calls `push` with the value of each field of a column, or `None` where it is missing.
fn each<T>(
    block: &Block,
    column: usize,
    parse: impl Fn(&[u8]) -> Option<T>,
    mut push: impl FnMut(Option<T>),
) -> Result<(), String> {
    for (row, field) in block.column(column).enumerate() {
        let field = field.trim_ascii();
        let value = parse(field);
        if value.is_none() && !is_missing(field) {
            return Err(format!("line {}: {CHANGED}", block.line(row)));
        }
        push(value);
    }
    Ok(())
}

/// Adds the fields of a column of text.
fn texts(
    block: &Block,
    column: usize,
    is_missing: impl Fn(usize, &[u8]) -> bool,
    into: &mut MutableBinaryViewArray<str>,
) -> Result<(), String> {
    for (row, field) in block.column(column).enumerate() {
        let text = std::str::from_utf8(field).map_err(|_| {
            format!("line {}: '{}' is not UTF-8 text; convert the file to UTF-8", block.line(row), shown(field))
        })?;
        into.push((!is_missing(row, field)).then_some(text));
    }
    Ok(())
}

/// The start of a field, for messages.
fn shown(field: &[u8]) -> String {
    String::from_utf8_lossy(field).chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::super::records::Records;
    use super::*;

    /// The kind of a column of these values, one a line, and why it is text.
    fn kind(values: &[&str], separator: char) -> (CsvKind, String) {
        let lines: String = values.iter().map(|value| format!("\"{value}\"{separator}a\n")).collect();
        let text = format!("x{separator}y\n{lines}");
        let mut records = Records::open(text.as_bytes(), b',').unwrap();
        let (mut block, mut seen) = (Block::default(), [FieldShapeCounts::default(), FieldShapeCounts::default()]);
        while records.fill(&mut block).unwrap() {
            seen.iter_mut().enumerate().for_each(|(column, seen)| seen.update(&block, column, separator != ','));
        }
        let commas = seen.iter().any(FieldShapeCounts::shows_commas);
        (seen[0].kind(commas), seen[0].note(Path::new(""), commas).map_or(String::new(), |note| note.text))
    }

    #[test]
    fn a_column_has_the_type_of_all_its_values_and_missing_ones_change_none() {
        let markers = [
            "", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>", "na", "\\N", "  ",
            " NA ",
        ];
        for (values, wanted) in [
            (&["1", "-2", "+3", " 4 ", "00123", "9223372036854775807", "-9223372036854775808"][..], CsvKind::Signed),
            (&["0", "1"], CsvKind::Signed),
            (&["18446744073709551615", "0"], CsvKind::Unsigned),
            (&["1", "2.5"], CsvKind::Float),
            (&[".5", "5.", "-1e5", "+1E-3", "1e308", "inf", "-inf", "Infinity", "-INF"], CsvKind::Float),
            (&["1e5"], CsvKind::Float),
            (&["18446744073709551616", "0.5"], CsvKind::Float),
            (&["1.234", "999"], CsvKind::Float),
            (&["true", "False", "TRUE"], CsvKind::Flag),
            (&[], CsvKind::Null),
        ] {
            assert_eq!(kind(values, ',').0, wanted, "{values:?}");
            for marker in markers {
                for values in [[values, &[marker]].concat(), [&[marker], values].concat()] {
                    assert_eq!(kind(&values, ',').0, wanted, "{values:?}");
                }
            }
        }
        assert_eq!(kind(&markers, ',').0, CsvKind::Null);
    }

    #[test]
    fn what_makes_a_column_text_is_named_with_its_line() {
        for (values, why) in [
            (&["1", "n.a.", "2"][..], "line 3: 'n.a.' is not a number"),
            (&["a", "NA"], "line 2: 'a' is not a number"),
            (&["1", "true"], "line 3: 'true' is not a number"),
            (&["true", "maybe"], "line 3: 'maybe' is neither true nor false"),
            (&["0x1F"], "line 2: '0x1F' is not a number"),
            (&["1", "1e400"], "line 3: '1e400' is not a number"),
            (&["12%"], "is not a number"),
            (&["-"], "is not a number"),
            (&["2026-11-01"], "is not a number"),
            (&["1", "18446744073709551616"], "line 3: '18446744073709551616' does not fit an integer of 64 bits"),
            (&["-1", "9223372036854775808"], "line 3: '9223372036854775808' does not fit a signed integer of 64 bits"),
            (&["1,234.56"], "without thousands separators"),
            (&["1.234.567"], "without thousands separators"),
            (&["1'234"], "without thousands separators"),
            (&["1234,56"], "write numbers with a decimal point"),
        ] {
            let (kind, found) = kind(values, ',');
            assert!(matches!(kind, CsvKind::Text | CsvKind::QuotedText), "{values:?}");
            assert!(found.contains(why), "{values:?}: {found}");
        }
    }

    #[test]
    fn decimal_commas_are_read_only_where_they_can_be_nothing_else() {
        for values in
            [&["1234,56", "1"][..], &["0,125"], &["1,5", "1,234"], &["-1,5e3", "NA", ""], &["5,", ",5", "inf"]]
        {
            assert_eq!(kind(values, ';').0, CsvKind::CommaFloat, "{values:?}");
        }
        for (values, why) in [
            (&["1,234", "12,500", "999"][..], "line 2: '1,234' has a comma before decimals or between thousands"),
            (&["1.5", "1,5"], "line 3: '1,5' has a comma, and other numbers of the column have a point"),
            (&["1.234,56", "1"], "without thousands separators"),
            (&["1,5", "n.a."], "line 3: 'n.a.' is not a number"),
        ] {
            let (kind, found) = kind(values, ';');
            assert!(matches!(kind, CsvKind::Text | CsvKind::QuotedText), "{values:?}");
            assert!(found.contains(why), "{values:?}: {found}");
        }
        // What one column shows settles what another leaves open.
        let file = |rows: &str| {
            let text = format!("x;y\n{rows}");
            let mut records = Records::open(text.as_bytes(), b',').unwrap();
            let (mut block, mut seen) = (Block::default(), [FieldShapeCounts::default(), FieldShapeCounts::default()]);
            records.fill(&mut block).unwrap();
            seen.iter_mut().enumerate().for_each(|(column, seen)| seen.update(&block, column, true));
            let commas = seen.iter().any(FieldShapeCounts::shows_commas);
            seen.map(|seen| seen.kind(commas))
        };
        assert_eq!(file("1,234;12,5\n"), [CsvKind::CommaFloat; 2]);
        assert_eq!(file("1.234;12,5\n"), [CsvKind::Text, CsvKind::CommaFloat]);
        assert_eq!(file("0.5;12,5\n"), [CsvKind::Float, CsvKind::CommaFloat]);
        assert_eq!(file("1.234;12\n"), [CsvKind::Float, CsvKind::Signed]);
    }
}
