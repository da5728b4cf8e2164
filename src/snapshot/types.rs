//! Types of columns.

use polars_arrow::datatypes::{ArrowDataType, Field, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::count::Domain;

/// How the values of a column become keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyEncoding {
    /// What the keys stand for.
    pub domain: Domain,
    /// Units in a second that times are counted in.
    pub per_second: Option<u64>,
}

impl From<Domain> for KeyEncoding {
    fn from(domain: Domain) -> Self {
        Self { domain, per_second: None }
    }
}

/// The unit of dates, which is not compatible with other times.
const DAYS: &str = "days";

/// How many units a second has, and the quantity; `None` for days.
fn unit_of(unit: &str) -> Option<(u64, &str)> {
    let (unit, what) = unit.split_once(' ').unwrap_or((unit, ""));
    Some((units_in_a_second(unit)?, what))
}

fn units_in_a_second(unit: &str) -> Option<u64> {
    Some(match unit {
        "second" => 1,
        "millisecond" => 1_000,
        "microsecond" => 1_000_000,
        "nanosecond" => 1_000_000_000,
        _ => return None,
    })
}

/// The name of a unit: it is stored in baselines.
fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "second",
        TimeUnit::Millisecond => "millisecond",
        TimeUnit::Microsecond => "microsecond",
        TimeUnit::Nanosecond => "nanosecond",
    }
}

/// The name of a type that cannot be compared. It is stored in baselines, and says whether the type has changed.
fn other_name(dtype: &ArrowDataType) -> String {
    use ArrowDataType as T;
    let inner = |dtype: &ArrowDataType| ColumnType::of(dtype).name();
    let named = |field: &Field| format!("{}: {}", field.name, inner(&field.dtype));
    match dtype {
        T::List(field) | T::LargeList(field) => format!("list of {}", inner(&field.dtype)),
        T::FixedSizeList(field, length) => format!("list of {length} {}", inner(&field.dtype)),
        T::Struct(fields) => format!("struct ({})", fields.iter().map(named).collect::<Vec<_>>().join(", ")),
        T::Map(entries, _) => format!("map of {}", inner(&entries.dtype)),
        T::Union(union) => format!("union ({})", union.fields.iter().map(named).collect::<Vec<_>>().join(", ")),
        T::Dictionary(_, values, _) => format!("dictionary of {}", inner(values)),
        T::Extension(extension) => format!("extension {} of {}", extension.name, inner(&extension.inner)),
        T::FixedSizeBinary(length) => format!("{length} bytes"),
        T::Decimal32(digits, _) | T::Decimal64(digits, _) | T::Decimal256(digits, _) => {
            format!("decimal of {digits} digits")
        }
        T::Int128 => "int128".into(),
        T::UInt128 => "uint128".into(),
        T::Interval(IntervalUnit::YearMonth) => "interval of months".into(),
        T::Interval(_) => "interval".into(),
        _ => ColumnType::UNKNOWN.into(),
    }
}

/// How many units a second of an array of times has; `None` for dates and what is no time.
pub(super) fn per_second(dtype: &ArrowDataType) -> Option<u64> {
    match ColumnType::of(dtype) {
        ColumnType::Temporal(_, unit) => unit_of(&unit).map(|(per_second, _)| per_second),
        _ => None,
    }
}

/// The type of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Numbers.
    Numeric(Domain),
    /// Booleans: two categories.
    Boolean,
    /// Strings and dictionaries of strings.
    Text,
    /// Bytes: text, where they are UTF-8 and the other side of a comparison is text.
    Binary,
    /// Dates, times, timestamps and durations: numbers on request. With the unit, and the quantity if it is not a point
    /// in time.
    Temporal(Domain, String),
    /// Only nulls.
    Null,
    /// Types that differ between the files of one snapshot.
    Mixed(String),
    /// Anything else.
    Unsupported(String),
}

impl ColumnType {
    pub(super) fn of(dtype: &ArrowDataType) -> Self {
        use ArrowDataType as T;
        match dtype {
            T::Float32 => Self::Numeric(Domain::F32),
            T::Decimal(digits, _) if *digits > 38 => Self::Unsupported(format!("decimal of {digits} digits")),
            T::Decimal(digits, 0) if *digits <= 18 => Self::Numeric(Domain::I64),
            T::Float64 | T::Decimal(..) => Self::Numeric(Domain::F64),
            T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 => Self::Numeric(Domain::I32),
            T::UInt32 | T::Int64 => Self::Numeric(Domain::I64),
            T::UInt64 => Self::Numeric(Domain::U64),
            T::Boolean => Self::Boolean,
            T::Utf8 | T::LargeUtf8 | T::Utf8View => Self::Text,
            T::Binary | T::LargeBinary | T::BinaryView => Self::Binary,
            T::Dictionary(_, values, _) => match Self::of(values) {
                Self::Text => Self::Text,
                _ => Self::Unsupported(other_name(dtype)),
            },
            T::Date32 => Self::Temporal(Domain::I32, DAYS.into()),
            T::Time32(unit) => Self::Temporal(Domain::I32, format!("{} of a day", unit_name(*unit))),
            T::Time64(unit) => Self::Temporal(Domain::I64, format!("{} of a day", unit_name(*unit))),
            T::Date64 => Self::Temporal(Domain::I64, unit_name(TimeUnit::Millisecond).into()),
            T::Timestamp(unit, _) => Self::Temporal(Domain::I64, unit_name(*unit).into()),
            T::Duration(unit) => Self::Temporal(Domain::I64, format!("{} of duration", unit_name(*unit))),
            T::Null => Self::Null,
            T::Float16 | T::FixedSizeBinary(2) => Self::Unsupported("float16 (or two bytes)".into()),
            other => Self::Unsupported(other_name(other)),
        }
    }

    /// The name of a type that cannot be compared and is not known.
    pub(crate) const UNKNOWN: &str = "unknown type";

    /// Whether both are the same type, as far as that is known.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unsupported(a), Self::Unsupported(b)) => {
                a == b || [a, b].into_iter().any(|name| name == Self::UNKNOWN)
            }
            _ => self == other,
        }
    }

    /// The type in which values of both can be compared, if there is one: numbers at the precision that both have, times
    /// in the coarser unit.
    pub fn common(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a.clone()),
            (Self::Numeric(a), Self::Numeric(b)) => Some(Self::Numeric(a.common(*b))),
            (Self::Text, Self::Binary) | (Self::Binary, Self::Text) => Some(Self::Text),
            (Self::Temporal(a, unit), Self::Temporal(b, other)) => {
                let (of, of_other) = (unit_of(unit)?, unit_of(other)?);
                let coarser = if of.0 <= of_other.0 { unit } else { other };
                (of.1 == of_other.1).then(|| Self::Temporal(a.common(*b), coarser.clone()))
            }
            (Self::Null, other) | (other, Self::Null) => Some(other.clone()),
            _ => None,
        }
    }

    /// How its values become keys; `None` if they are neither numbers nor times.
    pub fn reading(&self) -> Option<KeyEncoding> {
        match self {
            Self::Numeric(domain) => Some(KeyEncoding { domain: *domain, per_second: None }),
            Self::Temporal(domain, unit) => {
                Some(KeyEncoding { domain: *domain, per_second: unit_of(unit).map(|(per_second, _)| per_second) })
            }
            _ => None,
        }
    }

    /// Its name in reports and messages.
    pub fn name(&self) -> String {
        match self {
            Self::Numeric(Domain::F32) => "float32".into(),
            Self::Numeric(Domain::F64) => "float64".into(),
            Self::Numeric(Domain::I32) => "int32".into(),
            Self::Numeric(Domain::I64) => "int64".into(),
            Self::Numeric(Domain::U64) => "uint64".into(),
            Self::Boolean => "boolean".into(),
            Self::Text => "string".into(),
            Self::Binary => "binary".into(),
            Self::Temporal(_, unit) => format!("time[{unit}]"),
            Self::Null => "null".into(),
            Self::Mixed(types) => format!("mixed ({types})"),
            Self::Unsupported(dtype) => dtype.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_meet_in_the_coarser_unit_of_the_same_thing() {
        let time = |unit: &str| ColumnType::Temporal(Domain::I64, unit.into());
        assert_eq!(time("nanosecond").common(&time("millisecond")), Some(time("millisecond")));
        assert_eq!(time("second").common(&time("second of duration")), None);
        let dates = ColumnType::Temporal(Domain::I32, DAYS.into());
        assert_eq!(dates.common(&time("second")), None);
        assert_eq!(dates.common(&dates), Some(dates.clone()));
        assert_eq!(time("microsecond").reading().unwrap().per_second, Some(1_000_000));
        assert_eq!(dates.reading().unwrap().per_second, None);
    }

    #[test]
    fn types_that_cannot_be_compared_have_names_of_their_own() {
        use ArrowDataType as T;
        let field = |name: &str, dtype: T| Field::new(name.into(), dtype, true);
        let list = T::LargeList(Box::new(field("item", T::Int64)));
        let lists = T::List(Box::new(field("item", list.clone())));
        let both = T::Struct(vec![field("a", T::Utf8View), field("b", list.clone())]);
        for (dtype, name) in [
            (list, "list of int64"),
            (lists, "list of list of int64"),
            (both, "struct (a: string, b: list of int64)"),
            (T::FixedSizeBinary(3), "3 bytes"),
            (T::Decimal256(60, 2), "decimal of 60 digits"),
        ] {
            assert_eq!(ColumnType::of(&dtype), ColumnType::Unsupported(name.into()));
        }
        let [one, other, unknown] =
            ["3 bytes", "int128", ColumnType::UNKNOWN].map(|name| ColumnType::Unsupported(name.into()));
        assert!(one.is_same(&one) && !one.is_same(&other) && one.is_same(&unknown) && unknown.is_same(&other));
        assert!(!unknown.is_same(&ColumnType::Text));
    }
}
