//! Converts Arrow arrays to keys or category counts: the only place that knows both forms.

use polars_arrow::array::{
    Array, BinaryArray, BinaryViewArray, BooleanArray, DictionaryArray, DictionaryKey, PrimitiveArray, Utf8Array,
    Utf8ViewArray,
};
use polars_arrow::datatypes::ArrowDataType;
use polars_arrow::types::NativeType;

use super::types::{KeyEncoding, per_second};
use crate::count::key::{Key, key_f32, key_f64, key_i32, key_i64};
use crate::count::tally::Moments;
use crate::count::{CategoryCounts, Counter, Domain, KeyVec, Tally};

/// The keys of a chunk: nulls and NaN are counted and skipped. `None` if the array does not hold numbers
/// that the domain covers.
pub(crate) fn keys_of(array: &dyn Array, reading: KeyEncoding, with_moments: bool) -> Option<(KeyVec, Tally)> {
    let domain = reading.domain;
    // Without values any type is accepted: writers give a column of nulls an arbitrary type.
    let keys = if array.null_count() == array.len() { KeyVec::new(domain) } else { convert(array, reading)? };
    let mut tally = Tally { rows: array.len() as u64, null: array.null_count() as u64, ..Tally::default() };
    tally.nan = tally.values() - keys.len() as u64;
    if domain.is_float() {
        (tally.neg_inf, tally.pos_inf) = match &keys {
            KeyVec::U32(keys) => infinities(keys, domain),
            KeyVec::U64(keys) => infinities(keys, domain),
        };
    }
    if with_moments {
        tally.moments = Some(match &keys {
            KeyVec::U32(keys) => moments(keys, domain),
            KeyVec::U64(keys) => moments(keys, domain),
        });
    }
    Some((keys, tally))
}

fn convert(array: &dyn Array, reading: KeyEncoding) -> Option<KeyVec> {
    let domain = reading.domain;
    macro_rules! keys {
        ($ty:ty, U32, $key:expr) => {
            Some(KeyVec::U32(dense(array.as_any().downcast_ref::<PrimitiveArray<$ty>>()?, $key)))
        };
        ($ty:ty, U64, $key:expr) => {
            Some(KeyVec::U64(dense(array.as_any().downcast_ref::<PrimitiveArray<$ty>>()?, $key)))
        };
    }
    macro_rules! small_int {
        ($ty:ty) => {
            match domain {
                Domain::I32 => keys!($ty, U32, |x| key_i32(x.into())),
                Domain::I64 => keys!($ty, U64, |x| key_i64(x.into())),
                Domain::F32 => keys!($ty, U32, |x| key_f32(x as f32)),
                Domain::F64 => keys!($ty, U64, |x| key_f64(x.into())),
                Domain::U64 => whole_numbers(array, domain),
            }
        };
    }
    macro_rules! wide_int {
        ($ty:ty) => {
            match domain {
                Domain::I64 => keys!($ty, U64, |x| key_i64(x as i64)),
                Domain::F32 => keys!($ty, U32, |x| key_f32(x as f32)),
                Domain::F64 => keys!($ty, U64, |x| key_f64(x as f64)),
                Domain::I32 | Domain::U64 => whole_numbers(array, domain),
            }
        };
    }
    use ArrowDataType as T;
    match (reading.per_second, per_second(array.dtype())) {
        (Some(to), Some(from)) if from != to => return rescaled(array, (from, to), domain),
        _ => {}
    }
    match (array.dtype(), domain) {
        (T::Float32, Domain::F32) => keys!(f32, U32, key_f32),
        (T::Float32, Domain::F64) => keys!(f32, U64, |x| key_f64(x.into())),
        (T::Float64, Domain::F32) => keys!(f64, U32, |x| key_f32(nearest_f32(x))),
        (T::Float64, Domain::F64) => keys!(f64, U64, key_f64),
        (T::Int8, _) => small_int!(i8),
        (T::Int16, _) => small_int!(i16),
        (T::Int32 | T::Date32 | T::Time32(_), _) => match domain {
            Domain::F32 => keys!(i32, U32, |x| key_f32(x as f32)),
            Domain::I32 => keys!(i32, U32, key_i32),
            _ => wide_int!(i32),
        },
        (T::UInt8, _) => small_int!(u8),
        (T::UInt16, _) => small_int!(u16),
        (T::UInt32, _) => wide_int!(u32),
        (T::Int64 | T::Timestamp(..) | T::Date64 | T::Time64(_) | T::Duration(_), _) => wide_int!(i64),
        (T::UInt64, Domain::U64) => keys!(u64, U64, |x| x),
        (T::UInt64, Domain::F32) => keys!(u64, U32, |x| key_f32(x as f32)),
        (T::UInt64, Domain::F64) => keys!(u64, U64, |x| key_f64(x as f64)),
        (T::Decimal(_, scale), Domain::F32 | Domain::F64) => {
            // Exact up to 2^53 and 22 decimals, as both operands of the division then are.
            let unit = 10f64.powi(i32::try_from(*scale).ok()?);
            if domain == Domain::F32 {
                keys!(i128, U32, move |x| key_f32(nearest_f32(x as f64 / unit)))
            } else {
                keys!(i128, U64, move |x| key_f64(x as f64 / unit))
            }
        }
        (T::Float32 | T::Float64 | T::UInt64 | T::Decimal(..), Domain::I32 | Domain::I64 | Domain::U64) => {
            whole_numbers(array, domain)
        }
        _ => None,
    }
}

/// The nearest single-precision number; a finite one for a finite one.
fn nearest_f32(x: f64) -> f32 {
    let nearest = x as f32;
    if nearest.is_infinite() && x.is_finite() { f32::MAX.copysign(nearest) } else { nearest }
}

/// Times in another unit: rounded down to whole units.
fn rescaled(array: &dyn Array, (from, to): (u64, u64), domain: Domain) -> Option<KeyVec> {
    let scaled = |x: i128| (x * i128::from(to)).div_euclid(from.into());
    integer_keys(integers(array)?.into_iter().flatten().map(scaled), domain)
}

/// The keys of integers; `None` where the domain does not have one of them.
fn integer_keys(mut values: impl Iterator<Item = i128>, domain: Domain) -> Option<KeyVec> {
    match domain {
        Domain::I32 => Some(KeyVec::U32(values.map(|x| i32::try_from(x).ok().map(key_i32)).collect::<Option<_>>()?)),
        Domain::I64 => Some(KeyVec::U64(values.map(|x| i64::try_from(x).ok().map(key_i64)).collect::<Option<_>>()?)),
        Domain::U64 => Some(KeyVec::U64(values.map(|x| u64::try_from(x).ok()).collect::<Option<_>>()?)),
        Domain::F32 | Domain::F64 => values.next().is_none().then(|| KeyVec::new(domain)),
    }
}

/// Numbers that are integers, in any stored type, without NaN: writers without nullable integers store floats,
/// databases decimals. `None` where a value is not an integer of the domain.
fn whole_numbers(array: &dyn Array, domain: Domain) -> Option<KeyVec> {
    integer_keys(whole_values(array).ok()?.into_iter(), domain)
}

/// The integers of an array of numbers, without what is missing.
///
/// # Errors
/// The first value that is no integer, as text; empty if these are no numbers.
fn whole_values(array: &dyn Array) -> Result<Vec<i128>, String> {
    if let (ArrowDataType::Decimal(_, scale), Some(array)) =
        (array.dtype(), array.as_any().downcast_ref::<PrimitiveArray<i128>>())
    {
        let unit = u32::try_from(*scale).ok().and_then(|scale| 10i128.checked_pow(scale)).ok_or_else(String::new)?;
        let whole = |&x: &i128| match x % unit {
            0 => Ok(x / unit),
            _ => Err((x as f64 / unit as f64).to_string()),
        };
        return array.iter().flatten().map(whole).collect();
    }
    if let Some(values) = integers(array) {
        return Ok(values.into_iter().flatten().collect());
    }
    // Beyond 2^53 a double (a single-precision number beyond 2^24) represents several integers, so the original is
    // unknown.
    let most = if array.dtype() == &ArrowDataType::Float32 { 2f64.powi(24) } else { 2f64.powi(53) };
    let whole = |x: f64| if x.trunc() == x && x.abs() <= most { Ok(x as i128) } else { Err(x.to_string()) };
    let values = doubles(array).ok_or_else(String::new)?;
    values.into_iter().flatten().filter(|x| !x.is_nan()).map(whole).collect()
}

/// The first value of an array that is not an integer in the domain, as text.
pub(crate) fn first_unsupported(array: &dyn Array, domain: Domain) -> Option<String> {
    match whole_values(array) {
        Err(value) => Some(value).filter(|value| !value.is_empty()),
        Ok(values) => {
            values.into_iter().find(|&x| integer_keys([x].into_iter(), domain).is_none()).map(|x| x.to_string())
        }
    }
}

/// Nulls and NaN of an array of any type.
pub fn missing(array: &dyn Array) -> Tally {
    let rows = array.len() as u64;
    let mut tally = Tally { rows, null: array.null_count() as u64, ..Tally::default() };
    if array.dtype() == &ArrowDataType::Null {
        tally.null = rows;
    } else if let Some((codes, texts)) = codes(array) {
        tally.null = codes.iter().filter(|code| code.is_none_or(|code| texts[code].is_none())).count() as u64;
    } else if matches!(array.dtype(), ArrowDataType::Float32 | ArrowDataType::Float64) {
        let nan = doubles(array).into_iter().flatten().flatten().filter(|x| x.is_nan()).count();
        tally.nan = nan as u64;
    }
    tally
}

/// The keys of all values that are neither null nor NaN.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2", "x86_64+avx2+bmi1+bmi2"))]
fn dense<T: NativeType + PartialOrd, K: Key, F: Fn(T) -> K>(array: &PrimitiveArray<T>, key: F) -> Vec<K> {
    let values = array.values().as_slice();
    // Only NaN is not equal to itself; the scan is a vector compare, and folds away for integers.
    #[allow(clippy::eq_op)]
    let has_nan = values.iter().fold(false, |seen, x| seen | (x != x));
    let validity = array.validity().filter(|v| v.unset_bits() > 0);
    if validity.is_none() && !has_nan {
        let mut keys = Vec::with_capacity(values.len());
        keys.extend(values.iter().map(|&x| key(x)));
        return keys;
    }
    // Branch-free compaction: every key is written, only kept ones advance the end.
    let mut keys = vec![K::narrow(0); values.len()];
    let mut n = 0;
    #[allow(clippy::eq_op)]
    let mut keep = |x: T, valid: bool| {
        keys[n] = key(x);
        n += usize::from(valid & (x == x));
    };
    match validity {
        Some(validity) => values.iter().zip(validity.iter()).for_each(|(&x, valid)| keep(x, valid)),
        None => values.iter().for_each(|&x| keep(x, true)),
    }
    keys.truncate(n);
    keys
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2", "x86_64+avx2+bmi1+bmi2"))]
fn infinities<K: Key>(keys: &[K], domain: Domain) -> (u64, u64) {
    let (lo, hi) = domain.range();
    let (lo, hi) = (K::narrow(lo), K::narrow(hi));
    // Nearly always there are none: two vector reductions tell.
    let (least, most) = keys.iter().fold((hi, lo), |(least, most), &key| (least.min(key), most.max(key)));
    if least > lo && most < hi {
        return (0, 0);
    }
    let count = |wanted: K| keys.iter().filter(|&&key| key == wanted).count() as u64;
    (count(lo), count(hi))
}

fn moments<K: Key>(keys: &[K], domain: Domain) -> Moments {
    let mut values = Vec::with_capacity(keys.len().min(1 << 12));
    keys.chunks(1 << 12).fold(Moments::default(), |sum, block| {
        values.clear();
        domain.values(block, &mut values);
        if domain.is_float() && values.iter().any(|x| x.is_infinite()) {
            values.retain(|x| x.is_finite());
        }
        sum.merge(Moments::of(&values))
    })
}

/// The strings of an array, nulls as empty ones; `None` if it holds something else.
pub fn texts(array: &dyn Array) -> Option<Vec<String>> {
    let array = array.as_any().downcast_ref::<Utf8ViewArray>()?;
    Some(array.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}

/// The numbers or flags of an array as doubles; `None` if it holds something else.
pub fn doubles(array: &dyn Array) -> Option<Vec<Option<f64>>> {
    let any = array.as_any();
    if let Some(array) = any.downcast_ref::<PrimitiveArray<f64>>() {
        return Some(array.iter().map(|x| x.copied()).collect());
    }
    if let Some(array) = any.downcast_ref::<PrimitiveArray<f32>>() {
        return Some(array.iter().map(|x| x.map(|&x| x.into())).collect());
    }
    if let Some(array) = any.downcast_ref::<BooleanArray>() {
        return Some(array.iter().map(|x| x.map(|x| f64::from(u8::from(x)))).collect());
    }
    if let ArrowDataType::Decimal(_, scale) = array.dtype() {
        let unit = 10f64.powi(i32::try_from(*scale).ok()?);
        let array = any.downcast_ref::<PrimitiveArray<i128>>()?;
        return Some(array.iter().map(|x| x.map(|&x| x as f64 / unit)).collect());
    }
    Some(integers(array)?.into_iter().map(|x| x.map(|x| x as f64)).collect())
}

/// The integers of an array, or those its times are stored as; `None` if it holds something else.
pub fn integers(array: &dyn Array) -> Option<Vec<Option<i128>>> {
    macro_rules! try_type {
        ($($ty:ty),*) => {
            $(if let Some(array) = array.as_any().downcast_ref::<PrimitiveArray<$ty>>() {
                return Some(array.iter().map(|x| x.map(|&x| x.into())).collect());
            })*
        };
    }
    try_type!(i64, i32, u64, u32, i16, u16, i8, u8);
    None
}

/// Counts the categories of a chunk: strings, dictionaries of strings, booleans, and integers as their text.
/// `None` if the array holds something else.
pub(crate) fn count_categories(counter: &dyn Counter, array: &dyn Array, into: &mut CategoryCounts) -> Option<Tally> {
    let any = array.as_any();
    if let Some(array) = any.downcast_ref::<Utf8ViewArray>() {
        count_text(array.iter().flatten(), into);
    } else if let Some(array) = any.downcast_ref::<Utf8Array<i64>>() {
        count_text(array.iter().flatten(), into);
    } else if let Some(array) = any.downcast_ref::<Utf8Array<i32>>() {
        count_text(array.iter().flatten(), into);
    } else if let Some(array) = any.downcast_ref::<BooleanArray>() {
        let nulls = array.null_count();
        let trues = match array.validity() {
            Some(validity) => (array.values() & validity).set_bits(),
            None => array.values().set_bits(),
        };
        let falses = array.len() - nulls - trues;
        for (name, count) in [("false", falses), ("true", trues)] {
            if count > 0 {
                into.add(name, count as u64);
            }
        }
    } else if let ArrowDataType::Dictionary(..) = array.dtype() {
        let found = count_dictionary::<u32>(counter, array, into)
            .or_else(|| count_dictionary::<u8>(counter, array, into))
            .or_else(|| count_dictionary::<u16>(counter, array, into))
            .or_else(|| count_dictionary::<i8>(counter, array, into))
            .or_else(|| count_dictionary::<i16>(counter, array, into))
            .or_else(|| count_dictionary::<i32>(counter, array, into))
            .or_else(|| count_dictionary::<i64>(counter, array, into))
            .or_else(|| count_dictionary::<u64>(counter, array, into));
        let null = found?;
        return Some(Tally { rows: array.len() as u64, null, ..Tally::default() });
    } else if let Some(bytes) = utf8(array) {
        count_text(bytes?.into_iter().flatten(), into);
    } else {
        // Integers on request, also those stored as floats or decimals: runs of equal values are counted.
        let mut values = whole_values(array).ok()?;
        let tally = Tally { nan: missing(array).nan, ..Tally::default() };
        values.sort_unstable();
        for run in values.chunk_by(|a, b| a == b) {
            into.add(&run[0].to_string(), run.len() as u64);
        }
        return Some(Tally { rows: array.len() as u64, null: array.null_count() as u64, ..tally });
    }
    Some(Tally { rows: array.len() as u64, null: array.null_count() as u64, ..Tally::default() })
}

/// The values of an array of bytes as text, `None` within if one is not UTF-8; `None` if it holds something else.
pub(crate) fn utf8(array: &dyn Array) -> Option<Option<Vec<Option<&str>>>> {
    let any = array.as_any();
    macro_rules! try_type {
        ($($ty:ty),*) => {
            $(if let Some(array) = any.downcast_ref::<$ty>() {
                let all = array.iter().map(|bytes| bytes.map(std::str::from_utf8).transpose().ok());
                return Some(all.collect());
            })*
        };
    }
    try_type!(BinaryViewArray, BinaryArray<i32>, BinaryArray<i64>);
    None
}

fn count_text<'a>(values: impl Iterator<Item = &'a str>, into: &mut CategoryCounts) {
    // Neighbours are often equal (sorted or bursty data): count a run before looking anything up.
    let mut run: Option<(&str, u64)> = None;
    for value in values {
        match &mut run {
            Some((name, count)) if *name == value => *count += 1,
            _ => {
                if let Some((name, count)) = run.replace((value, 1)) {
                    into.add(name, count);
                }
            }
        }
    }
    if let Some((name, count)) = run {
        into.add(name, count);
    }
}

/// Codes, and the texts they stand for.
type Coded<'a> = (Vec<Option<usize>>, Vec<Option<&'a str>>);

/// The codes and the texts of a dictionary of strings; `None` if the array is something else. Codes are below the number
/// of texts.
pub fn codes(array: &dyn Array) -> Option<Coded<'_>> {
    macro_rules! try_key {
        ($($key:ty),*) => {
            $(if let Some(array) = array.as_any().downcast_ref::<DictionaryArray<$key>>() {
                let texts = dictionary_texts(&**array.values())?;
                let known = |code: usize| (code < texts.len()).then_some(code);
                return Some((array.keys_iter().map(|code| code.and_then(known)).collect(), texts));
            })*
        };
    }
    try_key!(u32, u8, u16, u64, i8, i16, i32, i64);
    None
}

fn dictionary_texts(values: &dyn Array) -> Option<Vec<Option<&str>>> {
    let any = values.as_any();
    if let Some(texts) = any.downcast_ref::<Utf8ViewArray>() {
        return Some(texts.iter().collect());
    }
    if let Some(texts) = any.downcast_ref::<Utf8Array<i64>>() {
        return Some(texts.iter().collect());
    }
    Some(any.downcast_ref::<Utf8Array<i32>>()?.iter().collect())
}

/// Counts dictionary indices first, and looks every distinct text up once. The number of nulls, which may be
/// null indices or indices of a null; `None` if it is another kind of dictionary.
fn count_dictionary<K: DictionaryKey>(
    counter: &dyn Counter,
    array: &dyn Array,
    into: &mut CategoryCounts,
) -> Option<u64> {
    let array = array.as_any().downcast_ref::<DictionaryArray<K>>()?;
    let distinct = array.values().len();
    u32::try_from(distinct).ok()?;
    let counts = counter.count_codes(array.keys_iter().flatten().map(|index| index as u32).collect(), distinct);
    let mut null = array.null_count() as u64;
    let texts = dictionary_texts(&**array.values())?;
    for (text, count) in texts.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
        match text {
            Some(text) => into.add(text, count),
            None => null += count,
        }
    }
    Some(null)
}

#[cfg(test)]
mod tests {
    use polars_arrow::bitmap::Bitmap;

    use super::*;
    use crate::count::CpuCounter;

    #[test]
    fn nulls_nans_and_infinities_are_tallied_apart() {
        let values = vec![1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 7.0, f64::NAN];
        let validity = Bitmap::from([true, true, true, true, true, false, false]);
        let array = PrimitiveArray::new(ArrowDataType::Float64, values.into(), Some(validity));
        let (keys, tally) = keys_of(&array, Domain::F64.into(), true).unwrap();
        let KeyVec::U64(keys) = keys else { panic!("wide keys") };
        assert_eq!(keys, [1.0, f64::INFINITY, f64::NEG_INFINITY, 0.0].map(key_f64));
        assert_eq!((tally.rows, tally.null, tally.nan), (7, 2, 1));
        assert_eq!((tally.neg_inf, tally.pos_inf), (1, 1));
        assert_eq!(tally.moments.unwrap().mean, 0.5);
    }

    #[test]
    fn decimals_are_their_nearest_double() {
        let array = PrimitiveArray::<i128>::new(ArrowDataType::Decimal(10, 2), vec![110i128, -5].into(), None);
        let (KeyVec::U64(keys), _) = keys_of(&array, Domain::F64.into(), false).unwrap() else { panic!("wide keys") };
        assert_eq!(keys, [key_f64(1.1), key_f64(-0.05)]);
    }

    #[test]
    fn integers_as_categories_are_counted_under_their_text() {
        let array = PrimitiveArray::<i32>::from([Some(-1), Some(3), None, Some(3)]);
        let mut counts = CategoryCounts::new(10);
        let tally = count_categories(&CpuCounter, &array, &mut counts).unwrap();
        assert_eq!(counts.finish().counts, [("-1".into(), 1), ("3".into(), 2)]);
        assert_eq!(tally.null, 1);
    }

    #[test]
    fn nulls_of_a_dictionary_are_missing_wherever_they_stand() {
        let values = Utf8ViewArray::from_slice([Some("a"), None]);
        let indices = PrimitiveArray::<u32>::from([Some(0), Some(1), None, Some(0)]);
        let array = DictionaryArray::try_from_keys(indices, values.boxed(), false).unwrap();
        let mut counts = CategoryCounts::new(10);
        let tally = count_categories(&CpuCounter, &array, &mut counts).unwrap();
        assert_eq!(counts.finish().counts, [("a".into(), 2)]);
        assert_eq!((tally.rows, tally.null), (4, 2));
    }
}
