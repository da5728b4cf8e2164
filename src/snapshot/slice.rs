//! Parts of a snapshot: the rows for which some conditions hold.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::mem::{Discriminant, discriminant};

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use polars_arrow::array::{Array, BooleanArray, DictionaryArray, PrimitiveArray, Utf8Array, Utf8ViewArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::{ArrowDataType, TimeUnit};
use polars_compute::filter::filter_with_bitmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Chunk, Column, ColumnType, Snapshot, keys};
use driftsweep_common::error::{Error, Result};

/// Rows for which every condition holds.
///
/// ```
/// use driftsweep::{Slice, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// use driftsweep::snapshot::{Condition, Test};
///
/// let weather = Snapshot::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// let at_jfk = Condition { column: "origin".into(), test: Test::Among(vec!["JFK".into()]) };
/// let parts = weather.sliced(&[Slice(vec![at_jfk])])?;
/// assert!(parts[0].rows() > 700 && parts[0].rows() < weather.rows());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slice(pub Vec<Condition>);

/// A condition on the value of a column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// The column.
    pub column: String,
    /// The test of its value.
    pub test: Test,
}

/// A test of a value. A missing value passes [`Test::Missing`] only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// One of these, written as text: strings, booleans or integers.
    Among(Vec<String>),
    /// A number not below `from` and below `below`, where they are given.
    Between {
        /// The lower bound, included.
        from: Option<Bound>,
        /// The upper bound, excluded.
        below: Option<Bound>,
    },
    /// A time from the first on and before the second: microseconds since 1970, in UTC.
    During {
        /// For timestamps.
        times: (i64, i64),
        /// For dates, which have no zone and no time of day: the same in local time, treated as UTC. Absent where dates
        /// cannot decide it.
        wall: Option<(i64, i64)>,
    },
    /// Missing, or not.
    Missing(bool),
}

/// A number as written: integers beyond 2^53 are not exact as doubles. Two are equal where they are the same bits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Bound {
    /// An integer.
    Integer(i64),
    /// Any other number.
    Number(f64),
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}

impl Eq for Bound {}

impl Hash for Bound {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits().hash(state);
    }
}

impl Bound {
    /// Whether it is an integer, and its bits.
    fn bits(self) -> (bool, u64) {
        match self {
            Self::Integer(x) => (true, x.cast_unsigned()),
            Self::Number(x) => (false, x.to_bits()),
        }
    }

    /// As a double.
    pub fn number(self) -> f64 {
        match self {
            Self::Integer(x) => x as f64,
            Self::Number(x) => x,
        }
    }

    /// The smallest integer that is not below it.
    fn ceiling(self) -> i128 {
        match self {
            Self::Integer(x) => x.into(),
            Self::Number(x) => x.ceil() as i128,
        }
    }
}

impl Snapshot {
    /// Parts of the snapshot, in the order of the slices. The columns of the conditions are read once for all of them.
    ///
    /// # Errors
    /// For all slices: [`Error::NoColumn`], [`Error::UnreadableColumn`]; [`Error::BadValue`] where a column has a type
    /// that the condition does not support.
    pub fn sliced(&self, slices: &[Slice]) -> Result<Vec<Self>> {
        let mut columns = HashMap::new();
        for condition in slices.iter().flat_map(|slice| &slice.0) {
            let column = self.column(&condition.column)?;
            columns.insert(condition.reading(), condition.test.read_from(column));
        }
        let masks = (0..self.chunks.len()).into_par_iter().map(|i| {
            let read = |(&reading, &column)| Ok((reading, self.read(column, i, true)?));
            let arrays: HashMap<TestedColumn, Vec<Box<dyn Array>>> = columns.iter().map(read).collect::<Result<_>>()?;
            slices.iter().map(|slice| self.mask(slice, &arrays, i)).collect::<Result<Vec<Bitmap>>>()
        });
        let masks: Vec<Vec<Bitmap>> = masks.collect::<Result<_>>()?;
        let mut parts: Vec<Self> =
            slices.iter().map(|_| Self { table: self.table.clone(), chunks: Vec::new(), rows: 0 }).collect();
        for (chunk, masks) in self.chunks.iter().zip(masks) {
            for (part, mask) in parts.iter_mut().zip(masks) {
                let rows = mask.set_bits();
                let selection = match &chunk.selection {
                    _ if rows == 0 => continue,
                    None if rows == chunk.rows => None,
                    None => Some(mask),
                    // A part of a part.
                    Some(outer) => {
                        let mut inner = mask.iter();
                        Some(outer.iter().map(|kept| kept && inner.next().unwrap_or(false)).collect())
                    }
                };
                part.rows += rows as u64;
                part.chunks.push(Chunk { rows, selection, ..chunk.clone() });
            }
        }
        Ok(parts)
    }

    /// Which rows of chunk `i` belong to a slice.
    fn mask(&self, slice: &Slice, arrays: &HashMap<TestedColumn<'_>, Vec<Box<dyn Array>>>, i: usize) -> Result<Bitmap> {
        let mut mask = vec![true; self.chunks[i].rows];
        for condition in &slice.0 {
            let mut start = 0;
            for array in arrays.get(&condition.reading()).into_iter().flatten() {
                let part = &mut mask[start..start + array.len()];
                keep_where(&**array, &condition.test, part).ok_or_else(|| Error::BadValue {
                    what: format!("{}, column '{}'", self.spec(), condition.column),
                    reason: condition.test.refusal(
                        array.dtype(),
                        &self
                            .column(&condition.column)
                            .map_or_else(|_| format!("{:?}", array.dtype()), |column| column.kind.name()),
                    ),
                })?;
                start += array.len();
            }
        }
        Ok(mask.into_iter().collect())
    }
}

/// A column, and the kind of test it is read for: partition values can have several types.
type TestedColumn<'a> = (&'a str, Discriminant<Test>);

impl Condition {
    fn reading(&self) -> TestedColumn<'_> {
        (&self.column, discriminant(&self.test))
    }
}

impl Test {
    /// A column in a type that can be tested. Partition values are text on disk: `month=07` is both "07" and 7, and may
    /// also be a date.
    fn read_from<'a>(&self, column: &'a Column) -> &'a Column {
        let found = match self {
            Self::Among(_) => {
                let is_float = |kind: &ColumnType| matches!(kind, ColumnType::Numeric(domain) if domain.is_float());
                column.other.as_deref().filter(|other| !is_float(&other.kind))
            }
            Self::Between { .. } => column.reading(|kind| matches!(kind, ColumnType::Numeric(_))),
            Self::During { .. } => column.reading(|kind| matches!(kind, ColumnType::Temporal(..))),
            Self::Missing(_) => None,
        };
        found.unwrap_or(column)
    }

    /// From a time on and before another; a date counts as its midnight, by the clock of a zone.
    pub fn during(since: Timestamp, before: Timestamp, zone: &TimeZone) -> Self {
        let wall = |at: Timestamp| zone.to_datetime(at).to_zoned(TimeZone::UTC).map_or(at, |z| z.timestamp());
        Self::During {
            times: (since.as_microsecond(), before.as_microsecond()),
            wall: Some((wall(since).as_microsecond(), wall(before).as_microsecond())),
        }
    }

    /// From a time on and before another, and of dates from a day on and before another; columns of dates are refused
    /// if no days are given.
    pub(crate) fn during_days(since: Timestamp, before: Timestamp, days: Option<(Date, Date)>) -> Self {
        Self::During {
            times: (since.as_microsecond(), before.as_microsecond()),
            wall: days.map(|(first, end)| (microseconds_of_day(first), microseconds_of_day(end))),
        }
    }

    /// Why values of a type, with its name, cannot be tested.
    fn refusal(&self, dtype: &ArrowDataType, name: &str) -> String {
        let what = match self {
            Self::During { .. } if name == ColumnType::Text.name() => {
                return "holds text that is not a time (ISO 8601), or days where times are wanted; name a column of times".into();
            }
            Self::During { wall: None, .. } if is_date(dtype) => {
                return "holds dates, which have no time of day; compare windows of whole days: \"day\", \"week\", \
                        \"month\", or a length in days such as \"7d\""
                    .into();
            }
            Self::Among(_) => "value; only strings, booleans and integers can",
            Self::Between { .. } => "size; only numbers can",
            Self::During { .. } => "time; only dates and timestamps can",
            Self::Missing(_) => "whether it is missing",
        };
        format!("holds {name}, which cannot be sliced by {what}")
    }
}

/// The rows of an array at which the mask is set.
pub(crate) fn filtered(array: &dyn Array, mask: &Bitmap) -> Box<dyn Array> {
    macro_rules! dictionary {
        ($($key:ty),*) => {
            $(if let Some(array) = array.as_any().downcast_ref::<DictionaryArray<$key>>() {
                let keys = filter_with_bitmap(array.keys(), mask);
                let keys = keys.as_any().downcast_ref::<PrimitiveArray<$key>>().cloned();
                let new = keys.and_then(|keys| {
                    DictionaryArray::try_new(array.dtype().clone(), keys, array.values().clone()).ok()
                });
                if let Some(new) = new {
                    return new.boxed();
                }
            })*
        };
    }
    dictionary!(u32, u8, u16, u64, i8, i16, i32, i64);
    // Two kinds that the library cannot filter, or only by losing their type.
    macro_rules! texts {
        ($($offset:ty),*) => {
            $(if let Some(array) = array.as_any().downcast_ref::<Utf8Array<$offset>>() {
                let kept: Vec<Option<&str>> =
                    array.iter().zip(mask.iter()).filter_map(|(text, kept)| kept.then_some(text)).collect();
                return Utf8ViewArray::from_slice(kept).boxed();
            })*
        };
    }
    texts!(i32, i64);
    let filtered = filter_with_bitmap(array, mask);
    // Times, days and decimals are returned as their stored integers.
    macro_rules! as_before {
        ($($ty:ty),*) => {
            $(if let Some(stored) = filtered.as_any().downcast_ref::<PrimitiveArray<$ty>>()
                && filtered.dtype() != array.dtype()
            {
                return stored.clone().to(array.dtype().clone()).boxed();
            })*
        };
    }
    as_before!(i128, i64, i32);
    filtered
}

/// Clears `kept` where the test fails; `None` where the test does not support the type of the array.
fn keep_where(array: &dyn Array, test: &Test, kept: &mut [bool]) -> Option<()> {
    match test {
        Test::Missing(wanted) => {
            let nan = keys::doubles(array);
            let texts = keys::codes(array);
            for (i, kept) in kept.iter_mut().enumerate() {
                let nan = nan.as_ref().is_some_and(|values| values[i].is_some_and(f64::is_nan));
                let no_text =
                    texts.as_ref().is_some_and(|(codes, texts)| codes[i].is_none_or(|at| texts[at].is_none()));
                *kept &= (array.is_null(i) || nan || no_text) == *wanted;
            }
        }
        _ if array.dtype() == &ArrowDataType::Null => kept.fill(false),
        Test::Between { from, below } => {
            if microseconds(array.dtype()).is_some() {
                return None;
            }
            if let Some(found) = keys::integers(array) {
                let (from, below) = (from.map(Bound::ceiling), below.map(Bound::ceiling));
                let inside = |x: i128| from.is_none_or(|from| x >= from) && below.is_none_or(|below| x < below);
                kept.iter_mut().zip(found).for_each(|(kept, x)| *kept &= x.is_some_and(inside));
                return Some(());
            }
            let (from, below) = (from.map(Bound::number), below.map(Bound::number));
            let inside = |x: f64| from.is_none_or(|from| x >= from) && below.is_none_or(|below| x < below);
            kept.iter_mut().zip(keys::doubles(array)?).for_each(|(kept, x)| *kept &= x.is_some_and(inside));
        }
        Test::During { times, wall } => {
            let Some(unit) = microseconds(array.dtype()) else { return during_of_texts(array, *times, *wall, kept) };
            let (from, before) = if is_date(array.dtype()) { wall.as_ref()? } else { times };
            let inside = |x: i128| {
                let at = (x * unit.0).div_euclid(unit.1);
                at >= i128::from(*from) && at < i128::from(*before)
            };
            for (kept, x) in kept.iter_mut().zip(keys::integers(array)?) {
                *kept &= x.is_some_and(inside);
            }
        }
        Test::Among(wanted) => among(array, wanted, kept)?,
    }
    Some(())
}

/// Keeps the rows whose text passes; `None` where the array holds no text.
fn keep_texts(array: &dyn Array, kept: &mut [bool], mut passes: impl FnMut(Option<&str>) -> bool) -> Option<()> {
    let any = array.as_any();
    macro_rules! texts {
        ($array:expr) => {
            kept.iter_mut().zip($array.iter()).for_each(|(kept, text)| *kept &= passes(text))
        };
    }
    if let Some((codes, texts)) = keys::codes(array) {
        // Once per distinct text.
        let missing = passes(None);
        let table: Vec<bool> = texts.into_iter().map(passes).collect();
        kept.iter_mut().zip(codes).for_each(|(kept, code)| *kept &= code.map_or(missing, |code| table[code]));
    } else if let Some(array) = any.downcast_ref::<Utf8ViewArray>() {
        texts!(array);
    } else if let Some(array) = any.downcast_ref::<Utf8Array<i64>>() {
        texts!(array);
    } else if let Some(array) = any.downcast_ref::<Utf8Array<i32>>() {
        texts!(array);
    } else {
        return None;
    }
    Some(())
}

/// Keeps the rows whose text is a time in the interval; `None` where the array holds no text, or one that is no time.
fn during_of_texts(array: &dyn Array, times: (i64, i64), wall: Option<(i64, i64)>, kept: &mut [bool]) -> Option<()> {
    let mut all_are_times = true;
    keep_texts(array, kept, |text| {
        let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return false };
        let (at, interval) = match PointInTime::parse(text) {
            Some(PointInTime::Time(at)) => (at.as_microsecond(), Some(times)),
            Some(PointInTime::Day(day)) => (microseconds_of_day(day), wall),
            None => (0, None),
        };
        all_are_times &= interval.is_some();
        interval.is_some_and(|(from, before)| (from..before).contains(&at))
    })?;
    all_are_times.then_some(())
}

/// A text as a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointInTime {
    /// A time.
    Time(Timestamp),
    /// A day, whose midnight depends on a time zone.
    Day(Date),
}

impl PointInTime {
    /// ISO 8601; without a zone it is in UTC. `None` for another text.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() <= "2026-01-31".len() {
            return text.parse().ok().map(Self::Day);
        }
        let time = || text.parse::<Timestamp>().ok();
        let in_utc = || Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
        time().or_else(in_utc).map(Self::Time)
    }
}

/// The midnight of a day by a clock without a zone, in microseconds since 1970.
fn microseconds_of_day(day: Date) -> i64 {
    let epoch = jiff::civil::date(1970, 1, 1);
    i64::try_from(day.duration_since(epoch).as_micros()).unwrap_or(i64::MAX)
}

fn among(array: &dyn Array, wanted: &[String], kept: &mut [bool]) -> Option<()> {
    let any = array.as_any();
    let is_wanted = |text: Option<&str>| text.is_some_and(|text| wanted.iter().any(|wanted| wanted == text));
    if keep_texts(array, kept, is_wanted).is_some() {
        return Some(());
    }
    if let Some(array) = any.downcast_ref::<BooleanArray>() {
        // Programs write booleans in folder names in different ways: true, True.
        let is_wanted =
            |flag: bool| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(if flag { "true" } else { "false" }));
        kept.iter_mut().zip(array.iter()).for_each(|(kept, flag)| *kept &= flag.is_some_and(is_wanted));
    } else if let Some(found) = keys::integers(array) {
        if microseconds(array.dtype()).is_some() {
            return None;
        }
        let wanted: Vec<i128> = wanted.iter().filter_map(|text| text.parse().ok()).collect();
        kept.iter_mut().zip(found).for_each(|(kept, x)| *kept &= x.is_some_and(|x| wanted.contains(&x)));
    } else {
        // Integers that were stored as floats because some are missing.
        let found = keys::doubles(array).filter(|_| matches!(array.dtype(), ArrowDataType::Float64))?;
        let wanted: Option<Vec<i64>> = wanted.iter().map(|text| text.parse().ok()).collect();
        let wanted: Vec<f64> = wanted?.into_iter().map(|x| x as f64).collect();
        kept.iter_mut().zip(found).for_each(|(kept, x)| *kept &= x.is_some_and(|x| wanted.contains(&x)));
    }
    Some(())
}

/// Whether a type holds days without a time of day.
pub(super) fn is_date(dtype: &ArrowDataType) -> bool {
    matches!(dtype, ArrowDataType::Date32 | ArrowDataType::Date64)
}

/// How many microseconds a unit of a time column has, as a fraction.
pub(super) fn microseconds(dtype: &ArrowDataType) -> Option<(i128, i128)> {
    Some(match dtype {
        ArrowDataType::Date32 => (86_400_000_000, 1),
        ArrowDataType::Date64 => (1000, 1),
        ArrowDataType::Timestamp(TimeUnit::Second, _) => (1_000_000, 1),
        ArrowDataType::Timestamp(TimeUnit::Millisecond, _) => (1000, 1),
        ArrowDataType::Timestamp(TimeUnit::Microsecond, _) => (1, 1),
        ArrowDataType::Timestamp(TimeUnit::Nanosecond, _) => (1, 1000),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use polars_arrow::array::NullArray;

    use super::*;

    fn kept(array: &dyn Array, test: &Test) -> Option<Vec<usize>> {
        let mut mask = vec![true; array.len()];
        keep_where(array, test, &mut mask)?;
        Some((0..array.len()).filter(|&i| mask[i]).collect())
    }

    fn among(texts: &[&str]) -> Test {
        Test::Among(texts.iter().map(|text| text.to_string()).collect())
    }

    #[test]
    fn every_form_of_a_text_is_found_and_a_null_in_a_dictionary_is_missing() {
        let texts = [Some("a"), None, Some("b"), Some("a")];
        let codes = PrimitiveArray::<i8>::from([Some(0), Some(1), Some(2), None]);
        let dictionary = |values: Box<dyn Array>| DictionaryArray::try_from_keys(codes.clone(), values, false).unwrap();
        let plain = Utf8Array::<i32>::from([Some("a"), None, Some("b")]);
        for (array, a, missing) in [
            (Utf8ViewArray::from_slice(texts).boxed(), vec![0, 3], vec![1]),
            (Utf8Array::<i32>::from(texts).boxed(), vec![0, 3], vec![1]),
            (Utf8Array::<i64>::from(texts).boxed(), vec![0, 3], vec![1]),
            (dictionary(plain.boxed()).boxed(), vec![0], vec![1, 3]),
            (NullArray::new(ArrowDataType::Null, 4).boxed(), vec![], vec![0, 1, 2, 3]),
        ] {
            assert_eq!(kept(&*array, &among(&["a"])), Some(a), "{:?}", array.dtype());
            assert_eq!(kept(&*array, &Test::Missing(true)), Some(missing));
            let mask = Bitmap::from([false, false, true, true]);
            assert_eq!(filtered(&*array, &mask).len(), 2);
        }
    }

    #[test]
    fn integers_are_compared_as_integers() {
        let big = 1i64 << 53;
        let array = PrimitiveArray::<i64>::from_vec(vec![big, big + 1, big + 2]);
        let between = |from, below| Test::Between { from, below };
        assert_eq!(kept(&array, &between(Some(Bound::Integer(big + 1)), None)), Some(vec![1, 2]));
        assert_eq!(kept(&array, &between(None, Some(Bound::Integer(big + 1)))), Some(vec![0]));
        assert_eq!(kept(&array, &among(&["9007199254740993"])), Some(vec![1]));
        let small = PrimitiveArray::<u64>::from_vec(vec![1, 2, u64::MAX]);
        assert_eq!(kept(&small, &between(Some(Bound::Number(1.5)), None)), Some(vec![1, 2]));
        let floats = PrimitiveArray::<f64>::from([Some(1.0), None, Some(2.5), Some(f64::NAN)]);
        assert_eq!(kept(&floats, &among(&["1"])), Some(vec![0]));
        assert_eq!(kept(&floats, &Test::Missing(true)), Some(vec![1, 3]));
        assert_eq!(kept(&floats, &between(Some(Bound::Integer(2)), None)), Some(vec![2]));
        assert_eq!(kept(&floats, &among(&["x"])), None);
    }

    #[test]
    fn dates_are_days_by_the_clock_on_the_wall() {
        const DAY: i64 = 86_400_000_000;
        // The 10th of January 1970 in New York: five hours after midnight in UTC.
        let test =
            Test::During { times: (9 * DAY + DAY / 24 * 5, 10 * DAY + DAY / 24 * 5), wall: Some((9 * DAY, 10 * DAY)) };
        let dates = PrimitiveArray::new(ArrowDataType::Date32, vec![8i32, 9, 10].into(), None);
        assert_eq!(kept(&dates, &test), Some(vec![1]));
        let milliseconds = [8i64, 9, 10].map(|day| day * DAY / 1000).to_vec();
        let wide = PrimitiveArray::new(ArrowDataType::Date64, milliseconds.into(), None);
        assert_eq!(kept(&wide, &test), Some(vec![1]));
        // The days of a window, and none for one of hours.
        let zero = Timestamp::UNIX_EPOCH;
        let day = |day: i8| jiff::civil::date(1970, 1, day);
        assert_eq!(kept(&dates, &Test::during_days(zero, zero, Some((day(9), day(11))))), Some(vec![0, 1]));
        let hours = Test::during_days(zero, zero, None);
        assert!(kept(&dates, &hours).is_none() && hours.refusal(dates.dtype(), "date").contains("no time of day"));
        let unit = ArrowDataType::Timestamp(TimeUnit::Nanosecond, None);
        let first = (9 * DAY + DAY / 24 * 5) * 1000;
        let times = PrimitiveArray::new(unit, vec![first - 1, first, first + DAY * 1000].into(), None);
        assert_eq!(kept(&times, &test), Some(vec![1]));
    }

    #[test]
    fn decimals_stay_decimals() {
        let dtype = ArrowDataType::Decimal(10, 2);
        let array = PrimitiveArray::<i128>::new(dtype.clone(), vec![110, -5, 7].into(), None);
        let part = filtered(&array, &Bitmap::from([true, false, true]));
        assert_eq!((part.dtype(), part.len()), (&dtype, 2));
    }

    #[test]
    fn times_stay_times() {
        let dtype = ArrowDataType::Timestamp(TimeUnit::Millisecond, None);
        let array = PrimitiveArray::<i64>::new(dtype.clone(), vec![1, 2, 3].into(), None);
        assert_eq!(filtered(&array, &Bitmap::from([true, false, true])).dtype(), &dtype);
    }
}
