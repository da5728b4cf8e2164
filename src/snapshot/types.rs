//! What a column can hold.

use polars_arrow::datatypes::ArrowDataType;
use serde::{Deserialize, Serialize};

use crate::count::Domain;

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Numbers.
    Numeric(Domain),
    /// Booleans: two categories.
    Boolean,
    /// Strings and dictionaries of strings.
    Text,
    /// Dates, times, timestamps and durations: numbers on request. Holds the unit.
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
            T::Float64 | T::Decimal(..) => Self::Numeric(Domain::F64),
            T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 => Self::Numeric(Domain::I32),
            T::UInt32 | T::Int64 => Self::Numeric(Domain::I64),
            T::UInt64 => Self::Numeric(Domain::U64),
            T::Boolean => Self::Boolean,
            T::Utf8 | T::LargeUtf8 | T::Utf8View => Self::Text,
            T::Dictionary(_, values, _) => match Self::of(values) {
                Self::Text => Self::Text,
                _ => Self::Unsupported(format!("{dtype:?}")),
            },
            T::Date32 => Self::Temporal(Domain::I32, "days".into()),
            T::Time32(unit) => Self::Temporal(Domain::I32, format!("{unit:?}").to_lowercase()),
            T::Date64 => Self::Temporal(Domain::I64, "millisecond".into()),
            T::Timestamp(unit, _) | T::Time64(unit) | T::Duration(unit) => {
                Self::Temporal(Domain::I64, format!("{unit:?}").to_lowercase())
            }
            T::Null => Self::Null,
            T::Float16 | T::FixedSizeBinary(2) => Self::Unsupported("float16 (or two bytes)".into()),
            other => Self::Unsupported(format!("{other:?}")),
        }
    }

    /// The type in which values of both can be compared, if there is one.
    pub fn common(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a.clone()),
            (Self::Numeric(a), Self::Numeric(b)) => Some(Self::Numeric(a.common(*b))),
            (Self::Null, other) | (other, Self::Null) => Some(other.clone()),
            _ => None,
        }
    }

    /// What reports and messages call it.
    pub fn name(&self) -> String {
        match self {
            Self::Numeric(Domain::F32) => "float32".into(),
            Self::Numeric(Domain::F64) => "float64".into(),
            Self::Numeric(Domain::I32) => "int32".into(),
            Self::Numeric(Domain::I64) => "int64".into(),
            Self::Numeric(Domain::U64) => "uint64".into(),
            Self::Boolean => "boolean".into(),
            Self::Text => "string".into(),
            Self::Temporal(_, unit) => format!("time[{unit}]"),
            Self::Null => "null".into(),
            Self::Mixed(types) => format!("mixed ({types})"),
            Self::Unsupported(dtype) => dtype.clone(),
        }
    }
}
