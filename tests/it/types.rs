//! Every type of a baseline against every type of a current column, with the baseline as it is and frozen, in several
//! encodings: the right figure or a named status, never another figure.

use std::path::Path;

use driftsweep::{BaselineBuilder, BaselineSource, ColumnUse, Comparer, CpuCounter, Feature, Kind, Options, Snapshot};
use driftsweep_common::error::Status;
use polars_arrow::array::{
    Array, BinaryViewArray, BooleanArray, DictionaryArray, ListArray, NullArray, PrimitiveArray, Utf8Array,
    Utf8ViewArray,
};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field, TimeUnit};
use polars_arrow::io::ipc::write::{Compression, FileWriter as IpcWriter, WriteOptions as IpcOptions};
use polars_arrow::offset::OffsetsBuffer;
use polars_arrow::record_batch::RecordBatch;
use polars_parquet::read::fallible_streaming_iterator;
use polars_parquet::write::{
    CompressionOptions, DynIter, DynStreamingIterator, Encoding, FileWriter, ParquetType, StatisticsOptions, Version,
    WriteOptions, array_to_columns, compress, get_dtype_encoding,
};
use tempfile::TempDir;

/// What the values of a type are compared as.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Family {
    Number,
    Flag,
    Text,
    Binary,
    Time,
    Date,
    Null,
    Nested,
}
use Family::*;

const TYPES: [(&str, Family); 24] = [
    ("int8", Number),
    ("int16", Number),
    ("int32", Number),
    ("int64", Number),
    ("uint8", Number),
    ("uint16", Number),
    ("uint32", Number),
    ("uint64", Number),
    ("float32", Number),
    ("float64", Number),
    ("decimal(10,0)", Number),
    ("decimal(10,2)", Number),
    ("decimal(30,0)", Number),
    ("bool", Flag),
    ("text", Text),
    ("large text", Text),
    ("dictionary", Text),
    ("binary", Binary),
    ("time[s]", Time),
    ("time[ms]", Time),
    ("time[us]", Time),
    ("time[ns]", Time),
    ("date", Date),
    ("null", Null),
];

const NESTED: &str = "list";

/// Parquet has no times in seconds.
fn types(encoded: Encoded) -> impl Iterator<Item = (&'static str, Family)> {
    let has = move |(name, _): &(&str, Family)| matches!(encoded, Encoded::Ipc(_)) || *name != "time[s]";
    TYPES.into_iter().chain([(NESTED, Nested)]).filter(has)
}

/// Small whole numbers, some missing, as a column of a type.
fn column(name: &str, values: &[Option<i64>]) -> Box<dyn Array> {
    macro_rules! numbers {
        ($ty:ty) => {
            PrimitiveArray::<$ty>::from(values.iter().map(|x| x.map(|x| x as $ty)).collect::<Vec<_>>()).boxed()
        };
    }
    let decimals = |digits, scale: usize| {
        let unit = 10i128.pow(scale as u32);
        let array =
            PrimitiveArray::<i128>::from(values.iter().map(|x| x.map(|x| i128::from(x) * unit)).collect::<Vec<_>>());
        array.to(ArrowDataType::Decimal(digits, scale)).boxed()
    };
    let times = |unit, per_second: i64| {
        let array = PrimitiveArray::<i64>::from(values.iter().map(|x| x.map(|x| x * per_second)).collect::<Vec<_>>());
        array.to(ArrowDataType::Timestamp(unit, None)).boxed()
    };
    let texts: Vec<Option<String>> = values.iter().map(|x| x.map(|x| format!("c{x}"))).collect();
    match name {
        "int8" => numbers!(i8),
        "int16" => numbers!(i16),
        "int32" => numbers!(i32),
        "int64" => numbers!(i64),
        "uint8" => numbers!(u8),
        "uint16" => numbers!(u16),
        "uint32" => numbers!(u32),
        "uint64" => numbers!(u64),
        "float32" => numbers!(f32),
        "float64" => numbers!(f64),
        "decimal(10,0)" => decimals(10, 0),
        "decimal(10,2)" => decimals(10, 2),
        "decimal(30,0)" => decimals(30, 0),
        "bool" => BooleanArray::from(values.iter().map(|x| x.map(|x| x > 4)).collect::<Vec<_>>()).boxed(),
        "text" => Utf8ViewArray::from_slice(texts).boxed(),
        "large text" => Utf8Array::<i64>::from(texts).boxed(),
        "dictionary" => {
            let codes = PrimitiveArray::<u32>::from(values.iter().map(|x| x.map(|x| x as u32)).collect::<Vec<_>>());
            let names = Utf8ViewArray::from_slice_values((0..10).map(|x| format!("c{x}")).collect::<Vec<_>>());
            DictionaryArray::try_from_keys(codes, names.boxed(), false).unwrap().boxed()
        }
        "binary" => {
            BinaryViewArray::from_slice(texts.iter().map(|t| t.as_ref().map(String::as_bytes)).collect::<Vec<_>>())
                .boxed()
        }
        "time[s]" => times(TimeUnit::Second, 1),
        "time[ms]" => times(TimeUnit::Millisecond, 1_000),
        "time[us]" => times(TimeUnit::Microsecond, 1_000_000),
        "time[ns]" => times(TimeUnit::Nanosecond, 1_000_000_000),
        "date" => {
            let array = PrimitiveArray::<i32>::from(values.iter().map(|x| x.map(|x| x as i32)).collect::<Vec<_>>());
            array.to(ArrowDataType::Date32).boxed()
        }
        "null" => NullArray::new(ArrowDataType::Null, values.len()).boxed(),
        NESTED => {
            let offsets: OffsetsBuffer<i64> = (0..=values.len() as i64).collect::<Vec<_>>().try_into().unwrap();
            let dtype = ListArray::<i64>::default_datatype(ArrowDataType::Int64);
            ListArray::new(dtype, offsets, numbers!(i64), None).boxed()
        }
        other => panic!("{other}"),
    }
}

#[derive(Clone, Copy, Debug)]
enum Encoded {
    Plain,
    Dictionary,
    Delta,
    Ipc(Option<Compression>),
}

fn write(path: &Path, columns: Vec<(String, Box<dyn Array>)>, encoded: Encoded) {
    let field = |(name, array): &(String, Box<dyn Array>)| {
        let field = Field::new(name.as_str().into(), array.dtype().clone(), true);
        (field.name.clone(), field)
    };
    let schema: ArrowSchema = columns.iter().map(field).collect();
    let rows = columns[0].1.len();
    let file = std::fs::File::create(path).unwrap();
    if let Encoded::Ipc(compression) = encoded {
        let mut writer = IpcWriter::try_new(file, schema.clone().into(), None, IpcOptions { compression }).unwrap();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        writer.write(&RecordBatch::new(rows, schema.into(), arrays), None).unwrap();
        return writer.finish().unwrap();
    }
    let options = WriteOptions {
        statistics: StatisticsOptions::empty(),
        version: Version::V1,
        compression: CompressionOptions::Snappy,
        data_page_size: Some(1000),
    };
    let mut writer = FileWriter::try_new(file, schema, options).unwrap();
    let types: Vec<ParquetType> = writer.parquet_schema().fields().to_vec();
    let encode = |array: &dyn Array, parquet_type: &ParquetType, encoding| {
        let pages = array_to_columns(array, parquet_type.clone(), options, &[encoding])?;
        let pages = pages.into_iter().flatten().map(|page| compress(page?, Vec::new(), options.compression));
        pages.collect::<Result<Vec<_>, _>>()
    };
    let pages: Vec<_> = columns
        .iter()
        .zip(&types)
        .map(|((_, array), parquet_type)| {
            let usual = get_dtype_encoding(array.dtype())[0];
            let wanted = match (encoded, array.dtype()) {
                (_, ArrowDataType::Dictionary(..) | ArrowDataType::List(_) | ArrowDataType::LargeList(_)) => usual,
                (Encoded::Dictionary, _) => Encoding::RleDictionary,
                (Encoded::Delta, ArrowDataType::Int32 | ArrowDataType::Int64) => Encoding::DeltaBinaryPacked,
                (Encoded::Delta, ArrowDataType::LargeUtf8) => Encoding::DeltaLengthByteArray,
                _ => Encoding::Plain,
            };
            encode(&**array, parquet_type, wanted).or_else(|_| encode(&**array, parquet_type, usual)).unwrap()
        })
        .collect();
    let columns = pages.iter().map(|pages| {
        let pages = pages.iter().map(Ok::<_, polars::prelude::PolarsError>);
        Ok(DynStreamingIterator::new(fallible_streaming_iterator::convert(pages)))
    });
    writer.write(rows as u64, DynIter::new(columns)).unwrap();
    writer.end(None).unwrap();
}

const ROWS: i64 = 2000;

/// Zero to nine, evenly; every 50th is missing.
fn before() -> Vec<Option<i64>> {
    (0..ROWS).map(|i| (i % 50 != 7).then_some(i % 10)).collect()
}

/// Zero to nine, the larger the more often; every 25th is missing.
fn now() -> Vec<Option<i64>> {
    (0..ROWS).map(|i| (i % 25 != 3).then_some((((i % 100) as f64).sqrt()) as i64)).collect()
}

/// The Kolmogorov-Smirnov distance of the two, by its definition.
fn distance() -> f64 {
    let [a, b] = [before(), now()].map(|values| values.into_iter().flatten().collect::<Vec<i64>>());
    ks(&a, &b)
}

/// All pairs of types as columns of two files, compared with the baseline as it is and frozen.
fn matrix(encoded: Encoded, kind: Option<Kind>, of: impl Fn(Family) -> bool) -> [Vec<Feature>; 2] {
    let folder = TempDir::new().unwrap();
    let pairs: Vec<(&str, &str)> = types(encoded)
        .filter(|(_, family)| of(*family))
        .flat_map(|(was, _)| types(encoded).filter(|(_, family)| of(*family)).map(move |(is, _)| (was, is)))
        .collect();
    let extension = if matches!(encoded, Encoded::Ipc(_)) { "arrow" } else { "parquet" };
    let [train, today] = ["train", "today"].map(|name| folder.path().join(format!("{name}.{extension}")));
    let (before, now) = (before(), now());
    write(&train, pairs.iter().map(|(was, is)| (format!("{was}|{is}"), column(was, &before))).collect(), encoded);
    write(&today, pairs.iter().map(|(was, is)| (format!("{was}|{is}"), column(is, &now))).collect(), encoded);
    let (train, options) = (train.to_str().unwrap(), Options::new());
    let current = Snapshot::open(today.to_str().unwrap()).unwrap();
    let frozen = folder.path().join("train.baseline");
    let snapshot = Snapshot::open(train).unwrap();
    let column_use = ColumnUse::read_as(kind);
    let built = BaselineBuilder::new(&snapshot).columns(|_| column_use).options(&options).build(&CpuCounter).unwrap();
    built.write(&frozen).unwrap();
    [train, frozen.to_str().unwrap()].map(|baseline| {
        let source = BaselineSource::open(baseline).unwrap();
        let comparer = Comparer::new(&source, &current).columns(|_| column_use).options(&options);
        let compared = comparer.run(&CpuCounter).unwrap();
        assert_eq!(compared.features.len(), pairs.len());
        compared.features
    })
}

fn family(name: &str) -> Family {
    types(Encoded::Ipc(None)).find(|(known, _)| *known == name).unwrap().1
}

fn encodings() -> [Encoded; 6] {
    let compressed = [Compression::LZ4, Compression::ZSTD(Default::default())].map(|codec| Encoded::Ipc(Some(codec)));
    [Encoded::Plain, Encoded::Dictionary, Encoded::Delta, Encoded::Ipc(None), compressed[0], compressed[1]]
}

#[test]
fn every_pair_of_types_has_its_right_figure_or_a_named_status_live_and_frozen() {
    let wanted = distance();
    for encoded in encodings() {
        for (features, how) in matrix(encoded, None, |_| true).into_iter().zip(["live", "frozen"]) {
            let reference =
                features.iter().find(|feature| feature.name == "int64|int64").unwrap().metrics.psi.clone().unwrap();
            let texts =
                features.iter().find(|feature| feature.name == "text|text").unwrap().metrics.js.clone().unwrap();
            for feature in &features {
                let (was, is) = feature.name.split_once('|').unwrap();
                let status = match (family(was), family(is)) {
                    (Null, _) => Status::AllNull,
                    (Time | Date, _) => Status::NotCompared,
                    (Binary | Nested, _) => Status::UnsupportedType,
                    (_, Null) => Status::AllNull,
                    (Number, Number) | (Flag, Flag) | (Text, Text | Binary) => Status::Ok,
                    _ => Status::TypeChanged,
                };
                let what = format!("{encoded:?} {how} {}: {:?} {:?}", feature.name, feature.status, feature.detail);
                assert_eq!(feature.status, status, "{what}");
                assert_eq!(feature.detail.is_some(), status != Status::Ok, "{what}");
                let metrics = &feature.metrics;
                match (family(was), status) {
                    (Number, Status::Ok) => {
                        assert_eq!(metrics.ks.as_ref().unwrap().statistic, wanted, "{what}");
                        assert_eq!(metrics.psi.as_ref().unwrap(), &reference, "{what}");
                        assert_eq!((feature.baseline.null, feature.current.null), (40, 80), "{what}");
                    }
                    (Text, Status::Ok) => assert_eq!(metrics.js.as_ref().unwrap(), &texts, "{what}"),
                    (Flag, Status::Ok) => assert!(metrics.js.is_some(), "{what}"),
                    (_, Status::AllNull) => assert!(metrics.missing.is_some() && metrics.psi.is_none(), "{what}"),
                    _ => assert!(metrics.psi.is_none() && metrics.js.is_none() && metrics.ks.is_none(), "{what}"),
                }
            }
        }
    }
}

#[test]
fn times_on_request_have_the_same_figures_in_every_unit() {
    let wanted = distance();
    for encoded in encodings() {
        for features in matrix(encoded, Some(Kind::Numeric), |family| matches!(family, Time | Date)) {
            for feature in &features {
                let (was, is) = feature.name.split_once('|').unwrap();
                let same = family(was) == family(is);
                assert_eq!(
                    feature.status,
                    if same { Status::Ok } else { Status::TypeChanged },
                    "{encoded:?} {}",
                    feature.name
                );
                assert_eq!(
                    feature.metrics.ks.as_ref().map(|ks| ks.statistic),
                    same.then_some(wanted),
                    "{}",
                    feature.name
                );
            }
        }
    }
}

#[test]
fn whole_numbers_on_request_are_the_same_categories_whatever_they_are_stored_as() {
    for encoded in encodings() {
        for features in matrix(encoded, Some(Kind::Categorical), |family| family == Number) {
            let wanted = features[0].metrics.js.clone().unwrap();
            for feature in &features {
                assert_eq!(feature.status, Status::Ok, "{encoded:?} {} {:?}", feature.name, feature.detail);
                assert_eq!(feature.metrics.js.as_ref().unwrap(), &wanted, "{encoded:?} {}", feature.name);
                assert_eq!(feature.current.unseen_rows, Some(0));
            }
        }
    }
}

/// One column called x on both sides, live and frozen.
fn compared(train: Box<dyn Array>, today: Box<dyn Array>, kind: Option<Kind>) -> [Feature; 2] {
    let folder = TempDir::new().unwrap();
    let [a, b] = ["train", "today"].map(|name| folder.path().join(format!("{name}.parquet")));
    write(&a, vec![("x".to_owned(), train)], Encoded::Plain);
    write(&b, vec![("x".to_owned(), today)], Encoded::Plain);
    let column_use = ColumnUse::read_as(kind);
    let (snapshot, current) =
        (Snapshot::open(a.to_str().unwrap()).unwrap(), Snapshot::open(b.to_str().unwrap()).unwrap());
    let frozen = folder.path().join("train.baseline");
    let built = BaselineBuilder::new(&snapshot).columns(|_| column_use).build(&CpuCounter).unwrap();
    built.write(&frozen).unwrap();
    [a, frozen].map(|baseline| {
        let source = BaselineSource::open(baseline.to_str().unwrap()).unwrap();
        let found = Comparer::new(&source, &current).columns(|_| column_use).run(&CpuCounter).unwrap();
        found.features.into_iter().next().unwrap()
    })
}

/// The Kolmogorov-Smirnov distance by its definition, of integer counts.
fn ks<T: PartialOrd + Copy>(a: &[T], b: &[T]) -> f64 {
    let upto = |values: &[T], x: T| values.iter().filter(|y| **y <= x).count() as i64;
    let (n, m) = (a.len() as i64, b.len() as i64);
    let gap = |&x: &T| (upto(a, x) * m - upto(b, x) * n).abs();
    a.iter().chain(b).map(gap).max().unwrap() as f64 / (n as f64 * m as f64)
}

fn statistic(feature: &Feature) -> f64 {
    assert_eq!(feature.status, Status::Ok, "{:?}", feature.detail);
    feature.metrics.ks.as_ref().unwrap().statistic
}

fn draws(seed: u64, n: usize) -> Vec<u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 33
    })
    .take(n)
    .collect()
}

#[test]
fn integers_beyond_the_width_of_the_baseline_are_counted_where_they_lie() {
    let narrow: Vec<i32> = draws(1, 1500).into_iter().map(|x| (x % 1000) as i32 - 500).collect();
    let wide: Vec<i64> = draws(2, 1500).into_iter().map(|x| (x % 3000) as i64 * 10_000_000 - 5_000_000_000).collect();
    let as_wide: Vec<i64> = narrow.iter().map(|&x| x.into()).collect();
    let wanted = ks(&as_wide, &wide);
    let floats: Vec<f64> = wide.iter().map(|&x| x as f64).collect();
    for today in [PrimitiveArray::from_vec(wide.clone()).boxed(), PrimitiveArray::from_vec(floats).boxed()] {
        for found in compared(PrimitiveArray::from_vec(narrow.clone()).boxed(), today, None) {
            assert_eq!(statistic(&found), wanted);
            assert_eq!(found.current.min, Some(*wide.iter().min().unwrap() as f64));
            assert_eq!(found.current.max, Some(*wide.iter().max().unwrap() as f64));
        }
    }
    // Extremes of the type, where there is nothing below.
    let lowest: Vec<i32> = draws(3, 1500).into_iter().map(|x| i32::MIN + (x % 50) as i32).collect();
    let as_wide: Vec<i64> = lowest.iter().map(|&x| x.into()).collect();
    for found in
        compared(PrimitiveArray::from_vec(lowest).boxed(), PrimitiveArray::from_vec(wide.clone()).boxed(), None)
    {
        assert_eq!(statistic(&found), ks(&as_wide, &wide));
    }
}

#[test]
fn unsigned_and_signed_integers_meet_or_are_refused_by_value() {
    let small: Vec<u64> = draws(4, 1500).into_iter().map(|x| x % 1000).collect();
    let signed: Vec<i64> = draws(5, 1500).into_iter().map(|x| (x % 1000) as i64 - 100).collect();
    let as_signed: Vec<i64> = small.iter().map(|&x| x as i64).collect();
    for found in compared(
        PrimitiveArray::from_vec(small.clone()).boxed(),
        PrimitiveArray::from_vec(signed.clone()).boxed(),
        None,
    ) {
        assert_eq!(statistic(&found), ks(&as_signed, &signed));
    }
    // Integers that no signed type has, against signed ones.
    let large: Vec<u64> = small.iter().map(|x| x * 1_000_000_000 + (1 << 63)).collect();
    let positive: Vec<i64> = signed.iter().map(|x| x + 200).collect();
    for found in
        compared(PrimitiveArray::from_vec(large.clone()).boxed(), PrimitiveArray::from_vec(positive).boxed(), None)
    {
        assert_eq!(statistic(&found), 1.0);
    }
    let [live, frozen] = compared(
        PrimitiveArray::from_vec(large.clone()).boxed(),
        PrimitiveArray::from_vec(signed.clone()).boxed(),
        None,
    );
    assert_eq!(statistic(&live), 1.0);
    assert_eq!(frozen.status, Status::TypeChanged);
    assert!(frozen.detail.as_ref().unwrap().contains("holds -"), "{:?}", frozen.detail);
    let [live, frozen] =
        compared(PrimitiveArray::from_vec(signed).boxed(), PrimitiveArray::from_vec(large).boxed(), None);
    assert_eq!(statistic(&live), 1.0);
    assert!(
        frozen.status == Status::TypeChanged && frozen.detail.as_ref().unwrap().contains("holds 9223"),
        "{frozen:?}"
    );
}

#[test]
fn fractions_among_integers_are_numbers_live_and_a_changed_type_frozen() {
    let whole: Vec<i64> = draws(6, 1500).into_iter().map(|x| (x % 100) as i64).collect();
    let halves: Vec<f64> = draws(7, 1500).into_iter().map(|x| (x % 200) as f64 / 2.0).collect();
    let as_floats: Vec<f64> = whole.iter().map(|&x| x as f64).collect();
    let pair = || (PrimitiveArray::from_vec(whole.clone()).boxed(), PrimitiveArray::from_vec(halves.clone()).boxed());
    let [live, frozen] = compared(pair().0, pair().1, None);
    assert_eq!(statistic(&live), ks(&as_floats, &halves));
    assert!(
        frozen.status == Status::TypeChanged && frozen.detail.as_ref().unwrap().contains(".5, which is not an integer"),
        "{frozen:?}"
    );
    // As categories they are none on either side.
    for found in compared(pair().0, pair().1, Some(Kind::Categorical)) {
        assert_eq!(found.status, Status::TypeChanged, "{:?}", found.detail);
    }
    for found in compared(pair().1, pair().0, Some(Kind::Categorical)) {
        assert_eq!(found.status, Status::UnsupportedType, "{:?}", found.detail);
    }
}

#[test]
fn single_and_double_precision_agree_live_and_frozen_whatever_the_numbers() {
    // Prices, thirds (which are no decimals), and numbers of which no two are the same.
    let all: [fn(u64) -> f64; 3] = [|x| (x % 1000) as f64 / 100.0, |x| (x % 30) as f64 / 3.0, |x| x as f64 / 7.0e6];
    for of in all {
        let doubles: Vec<f64> = draws(8, 3000).into_iter().map(of).collect();
        let others: Vec<f64> = draws(9, 2500).into_iter().map(|x| of(x / 2 + x / 3)).collect();
        let [singles, other_singles] =
            [&doubles, &others].map(|all| all.iter().map(|&x| x as f32).collect::<Vec<f32>>());
        let wanted = ks(&singles, &other_singles);
        let same = [
            (PrimitiveArray::from_vec(singles.clone()).boxed(), PrimitiveArray::from_vec(others.clone()).boxed()),
            (
                PrimitiveArray::from_vec(doubles.clone()).boxed(),
                PrimitiveArray::from_vec(other_singles.clone()).boxed(),
            ),
        ];
        for (i, (train, today)) in same.into_iter().enumerate() {
            let [live, frozen] = compared(train, today, None);
            assert_eq!(statistic(&live), wanted, "{i}");
            let found = frozen.metrics.ks.as_ref().unwrap();
            let upper = found.upper.unwrap_or(found.statistic);
            assert!(found.statistic <= wanted + 1e-12 && wanted <= upper + 1e-12, "{i}: {found:?}, {wanted}");
            let psi = |feature: &Feature| feature.metrics.psi.as_ref().unwrap().value;
            assert!((psi(&live) - psi(&frozen)).abs() < 1e-9, "{i}: {} {}", psi(&live), psi(&frozen));
        }
    }
}
