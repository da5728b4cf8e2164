//! Hive partitions: a folder `key=value` gives the files in it a column of that value.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use jiff::civil::Date;
use percent_encoding::percent_decode_str;
use polars_arrow::array::{Array, BooleanArray, NullArray, PrimitiveArray, Utf8ViewArray};
use polars_arrow::datatypes::ArrowDataType;

use super::ColumnType;
use crate::count::Domain;

/// Keys and values, outermost first.
pub(crate) type Partitions = Vec<(String, String)>;

/// The name that Hive and Spark use for the partition of rows without a value.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The key and the value that the name of a folder gives, if it gives one.
pub(crate) fn of_folder(name: &str) -> Option<(String, String)> {
    let (key, value) = name.split_once('=')?;
    (!key.is_empty()).then(|| (unescaped(key), unescaped(value)))
}

/// Adds the partition of a folder to those of the folders it is in. Of two with the same key the inner one is used.
pub fn inside(outer: &Partitions, name: &str) -> Partitions {
    let mut partitions = outer.clone();
    if let Some((key, value)) = of_folder(name) {
        partitions.retain(|(known, _)| *known != key);
        partitions.push((key, value));
    }
    partitions
}

/// Text with its escapes (`%20`) resolved. Text that is not escaped stays as it is, and so does all of it where the
/// escapes give no UTF-8.
pub fn unescaped(text: &str) -> String {
    percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), Cow::into_owned)
}

/// The types that all values of a key allow. A value is text on disk: its type is not stored, and must not depend on
/// the values of a particular night.
pub(crate) struct PartitionTypes {
    /// The default type: dates, integers or text.
    pub own: ColumnType,
    /// The other type, for a comparison with a column of that type: dates and integers are text, too; text may be
    /// integers with leading zeros (`month=07`), other numbers, or booleans.
    pub other: Option<ColumnType>,
}

/// The values of each key, over all files.
#[derive(Default)]
pub(crate) struct PartitionValues<'a>(HashMap<&'a str, BTreeSet<&'a str>>);

impl<'a> PartitionValues<'a> {
    /// Adds a value of a key.
    pub fn add(&mut self, key: &'a str, value: &'a str) {
        let values = self.0.entry(key).or_default();
        if value != NO_VALUE {
            values.insert(value);
        }
    }

    /// How the values of a key can be read, if it is one.
    pub fn readings(&self, key: &str) -> Option<PartitionTypes> {
        self.0.get(key).map(readings)
    }
}

fn readings(values: &BTreeSet<&str>) -> PartitionTypes {
    let all = |is: fn(&str) -> bool| values.iter().all(|value| is(value));
    let days = ColumnType::Temporal(Domain::I32, "days".into());
    let integers = ColumnType::Numeric(Domain::I64);
    let widths: BTreeSet<usize> = values.iter().map(|value| value.len()).collect();
    let (own, other) = if values.is_empty() {
        (ColumnType::Null, None)
    } else if all(|value| day(value).is_some()) {
        (days, Some(ColumnType::Text))
    } else if all(is_integer) {
        (integers, Some(ColumnType::Text))
    } else {
        let is_padded = |value: &str| value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<i64>().is_ok();
        let other = if all(is_padded) {
            // All with the same width, or 7 and 007 would become equal.
            (widths.len() == 1).then_some(integers)
        } else if all(|value| number(value).is_some()) {
            Some(ColumnType::Numeric(Domain::F64))
        } else {
            all(|value| flag(value).is_some()).then_some(ColumnType::Boolean)
        };
        (ColumnType::Text, other)
    };
    PartitionTypes { own, other }
}

/// A date as `2026-11-25`, in days since 1970.
fn day(value: &str) -> Option<i32> {
    let is_iso = value.len() == 10
        && value.bytes().enumerate().all(|(i, byte)| match i {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let date: Date = is_iso.then(|| value.parse().ok()).flatten()?;
    date.since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1))).ok().map(|span| span.get_days())
}

/// A number with a fraction or an exponent, or an integer in its normal form: no infinity, no `007`, and no integer
/// that a double cannot represent.
fn number(value: &str) -> Option<f64> {
    let is_number = value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && value.contains(['.', 'e', 'E']);
    (is_number || is_integer(value)).then(|| value.parse::<f64>().ok()).flatten().filter(|x| x.is_finite())
}

fn is_integer(value: &str) -> bool {
    value.parse::<i64>().is_ok_and(|x| x.to_string() == value)
}

fn flag(value: &str) -> Option<bool> {
    value.to_ascii_lowercase().parse().ok()
}

/// A constant column of a type, with a number of rows.
pub fn constant(value: &str, kind: &ColumnType, rows: usize) -> Box<dyn Array> {
    if value == NO_VALUE {
        return Box::new(NullArray::new(ArrowDataType::Null, rows));
    }
    macro_rules! rows_of {
        ($value:expr, $dtype:ident) => {
            Box::new(PrimitiveArray::new(ArrowDataType::$dtype, vec![$value; rows].into(), None))
        };
    }
    match kind {
        ColumnType::Numeric(_) if let Ok(x) = value.parse::<i64>() => rows_of!(x, Int64),
        ColumnType::Numeric(_) if let Some(x) = number(value) => rows_of!(x, Float64),
        ColumnType::Temporal(..) if let Some(x) = day(value) => rows_of!(x, Date32),
        ColumnType::Boolean if let Some(x) = flag(value) => Box::new(BooleanArray::from_slice(vec![x; rows])),
        _ => Box::new(Utf8ViewArray::from_slice_values(vec![value; rows])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved_where_they_are_some() {
        for (text, wanted) in [
            ("New%20York", "New York"),
            ("San%20Jos%C3%A9", "San José"),
            ("A%2FB", "A/B"),
            ("100%", "100%"),
            ("%zz%2", "%zz%2"),
            ("Z%FCrich", "Z%FCrich"),
            ("50%25", "50%"),
            ("é%41", "éA"),
        ] {
            assert_eq!(unescaped(text), wanted);
        }
        assert_eq!(of_folder("first%20name=a=b"), Some(("first name".into(), "a=b".into())));
        assert_eq!(of_folder("=x"), None);
        assert_eq!(inside(&vec![("a".into(), "1".into())], "a=2"), [("a".into(), "2".into())]);
    }

    #[test]
    fn all_values_together_decide_the_type() {
        let (integers, floats) = (ColumnType::Numeric(Domain::I64), ColumnType::Numeric(Domain::F64));
        let days = ColumnType::Temporal(Domain::I32, "days".into());
        let text = ColumnType::Text;
        for (values, own, other) in [
            (&["12", "-3", "0"][..], integers.clone(), Some(text.clone())),
            (&["12", NO_VALUE], integers.clone(), Some(text.clone())),
            (&["2026-11-25", "2024-02-29"], days, Some(text.clone())),
            (&["2026-11-25", "2026-02-30"], text.clone(), None),
            (&["2026-11-25", "12"], text.clone(), None),
            (&["12", "007"], text.clone(), None),
            (&["01", "12"], text.clone(), Some(integers)),
            (&["+5"], text.clone(), None),
            (&["-0"], text.clone(), None),
            (&["12", "A7"], text.clone(), None),
            (&["99999999999999999999"], text.clone(), None),
            (&["0.5", "-1", "1e3"], text.clone(), Some(floats)),
            (&["0.5", "007"], text.clone(), None),
            (&["inf", "nan"], text.clone(), None),
            (&["true", "False"], text, Some(ColumnType::Boolean)),
            (&[NO_VALUE], ColumnType::Null, None),
        ] {
            let mut known = PartitionValues::default();
            values.iter().for_each(|value| known.add("k", value));
            let found = known.readings("k").unwrap();
            assert_eq!((&found.own, &found.other), (&own, &other), "{values:?}");
            for (kind, value) in
                [Some(found.own), found.other].iter().flatten().flat_map(|k| values.iter().map(move |v| (k, v)))
            {
                let array = constant(value, kind, 3);
                let is = ColumnType::of(array.dtype());
                assert!(is == ColumnType::Null || kind.common(&is).is_some(), "{value} as {kind:?}: {is:?}");
            }
        }
        assert_eq!((day("1970-01-02"), day("1969-12-31"), day("20261125")), (Some(1), Some(-1), None));
    }
}
