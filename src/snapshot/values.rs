//! Single values, for the few columns that are joined row by row instead of being counted.

use polars_arrow::array::{Array, BooleanArray, PrimitiveArray, Utf8Array, Utf8ViewArray};
use polars_arrow::datatypes::ArrowDataType;

use super::{Column, Snapshot, keys, slice};
use driftsweep_common::error::Result;

/// A value of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowValue<'a> {
    /// Null or NaN.
    Missing,
    /// A string.
    Text(&'a str),
    /// A boolean.
    Flag(bool),
    /// An integer.
    Integer(i128),
    /// Any other number.
    Number(f64),
    /// A timestamp: microseconds since 1970, UTC where it names no zone.
    Time(i64),
    /// A day: microseconds from 1970 to its midnight, as if that were in UTC.
    Day(i64),
}

impl RowValue<'_> {
    /// As a number; flags are 0 and 1.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Flag(flag) => Some(f64::from(u8::from(flag))),
            Self::Integer(x) => Some(x as f64),
            Self::Number(x) => Some(x),
            _ => None,
        }
    }

    /// As text, equal for equal values: integers stored as floats are integers.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Missing => None,
            Self::Text(text) => Some(text.to_owned()),
            Self::Flag(flag) => Some(flag.to_string()),
            Self::Integer(x) => Some(x.to_string()),
            Self::Number(x) if x.fract() == 0.0 && x.abs() < 9e15 => Some((x as i64).to_string()),
            Self::Number(x) => Some(x.to_string()),
            Self::Time(at) | Self::Day(at) => Some(at.to_string()),
        }
    }
}

impl Snapshot {
    /// Calls a function with each value of a column, in order of the rows.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::UnreadableColumn`], also for a nested or binary column.
    pub fn each_value(&self, column: &Column, mut of: impl FnMut(RowValue<'_>)) -> Result<()> {
        (0..self.chunks.len()).try_for_each(|i| self.each_value_in(column, i, &mut of))
    }

    /// Chunks: parts of the rows that are read at once, in order.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The same for the rows of one chunk.
    ///
    /// # Errors
    /// Those of [`Snapshot::each_value`].
    pub fn each_value_in(&self, column: &Column, chunk: usize, mut of: impl FnMut(RowValue<'_>)) -> Result<()> {
        for array in self.read(column, chunk, false)? {
            visit(&*array, &mut of).ok_or_else(|| self.wrong_type(column, chunk, &format!("{:?}", array.dtype())))?;
        }
        Ok(())
    }
}

fn visit(array: &dyn Array, of: &mut impl FnMut(RowValue<'_>)) -> Option<()> {
    let any = array.as_any();
    macro_rules! texts {
        ($($ty:ty),*) => {
            $(if let Some(array) = any.downcast_ref::<$ty>() {
                array.iter().for_each(|text| of(text.map_or(RowValue::Missing, RowValue::Text)));
                return Some(());
            })*
        };
    }
    texts!(Utf8ViewArray, Utf8Array<i64>, Utf8Array<i32>);
    if let Some(texts) = keys::utf8(array) {
        texts?.into_iter().for_each(|text| of(text.map_or(RowValue::Missing, RowValue::Text)));
    } else if let Some((codes, texts)) = keys::codes(array) {
        codes
            .into_iter()
            .for_each(|code| of(code.and_then(|code| texts[code]).map_or(RowValue::Missing, RowValue::Text)));
    } else if let Some(array) = any.downcast_ref::<BooleanArray>() {
        array.iter().for_each(|flag| of(flag.map_or(RowValue::Missing, RowValue::Flag)));
    } else if array.dtype() == &ArrowDataType::Null {
        (0..array.len()).for_each(|_| of(RowValue::Missing));
    } else if let Some((factor, divisor)) = slice::microseconds(array.dtype()) {
        let value = if slice::is_date(array.dtype()) { RowValue::Day } else { RowValue::Time };
        let at = |x: i128| i64::try_from((x * factor).div_euclid(divisor)).map_or(RowValue::Missing, value);
        keys::integers(array)?.into_iter().for_each(|x| of(x.map_or(RowValue::Missing, at)));
    } else if let Some(found) = keys::integers(array) {
        found.into_iter().for_each(|x| of(x.map_or(RowValue::Missing, RowValue::Integer)));
    } else if let (ArrowDataType::Decimal(_, scale), Some(array)) =
        (array.dtype(), any.downcast_ref::<PrimitiveArray<i128>>())
    {
        // Identifiers are often exported as decimals, and must stay exact.
        let unit = 10i128.checked_pow(u32::try_from(*scale).ok()?)?;
        let whole = |&x: &i128| {
            if x % unit == 0 { RowValue::Integer(x / unit) } else { RowValue::Number(x as f64 / unit as f64) }
        };
        array.iter().for_each(|x| of(x.map_or(RowValue::Missing, whole)));
    } else if any.is::<PrimitiveArray<f64>>() || any.is::<PrimitiveArray<f32>>() {
        let found = keys::doubles(array)?.into_iter();
        found.for_each(|x| of(x.filter(|x| !x.is_nan()).map_or(RowValue::Missing, RowValue::Number)));
    } else {
        return None;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use polars_arrow::array::DictionaryArray;
    use polars_arrow::datatypes::TimeUnit;

    use super::*;

    fn values(array: &dyn Array) -> Vec<Option<String>> {
        let mut found = Vec::new();
        visit(array, &mut |value| found.push(value.text())).unwrap();
        found
    }

    #[test]
    fn what_is_the_same_reads_the_same_whatever_it_is_stored_as() {
        let wanted = [Some("1".to_owned()), None, Some("0".to_owned())];
        let texts = [Some("1"), None, Some("0")];
        let keys = PrimitiveArray::<u8>::from([Some(1), None, Some(0)]);
        let dictionary = Utf8ViewArray::from_slice([Some("0"), Some("1")]).boxed();
        for array in [
            PrimitiveArray::<i64>::from([Some(1), None, Some(0)]).boxed(),
            PrimitiveArray::<u8>::from([Some(1), None, Some(0)]).boxed(),
            PrimitiveArray::<f64>::from([Some(1.0), Some(f64::NAN), Some(0.0)]).boxed(),
            Utf8ViewArray::from_slice(texts).boxed(),
            Utf8Array::<i32>::from(texts).boxed(),
            DictionaryArray::try_from_keys(keys, dictionary, false).unwrap().boxed(),
        ] {
            assert_eq!(values(&*array), wanted, "{:?}", array.dtype());
        }
    }

    #[test]
    fn whole_decimals_are_integers_of_any_size() {
        let dtype = ArrowDataType::Decimal(38, 2);
        let big = 1_000_000_000_000_000_001i128;
        let array = PrimitiveArray::<i128>::new(dtype, vec![big * 100, 150].into(), None);
        assert_eq!(values(&array), [Some(big.to_string()), Some("1.5".to_owned())]);
    }

    #[test]
    fn times_are_microseconds_and_days_are_days() {
        let unit = ArrowDataType::Timestamp(TimeUnit::Nanosecond, None);
        let times = PrimitiveArray::new(unit, vec![1_999i64, -1].into(), None);
        let mut found = Vec::new();
        visit(&times, &mut |value| found.push(format!("{value:?}"))).unwrap();
        let days = PrimitiveArray::new(ArrowDataType::Date32, vec![1i32].into(), None);
        visit(&days, &mut |value| found.push(format!("{value:?}"))).unwrap();
        assert_eq!(found, ["Time(1)", "Time(-1)", "Day(86400000000)"]);
    }
}
