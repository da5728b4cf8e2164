//! Values and shapes at the edges, end to end.

use std::path::Path;

use polars::prelude::{DataFrame, NamedFrom, Series};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{compare, feature, write_ipc, write_parquet};

/// Compares two columns called `x`.
fn compare_columns(a: Series, b: Series) -> Value {
    let folder = TempDir::new().unwrap();
    let (a, b) = (write(folder.path(), "a", a), write(folder.path(), "b", b));
    let report = compare(&a, &b, &["--min-rows", "1"]);
    feature(&report, "x").clone()
}

fn write(folder: &Path, name: &str, series: Series) -> String {
    let path = folder.join(format!("{name}.parquet"));
    let mut frame = DataFrame::new_infer_height(vec![series.with_name("x".into()).into()]).unwrap();
    write_parquet(&mut frame, &path, 1000);
    path.display().to_string()
}

fn floats(values: &[f64]) -> Series {
    Series::new("x".into(), values)
}

#[test]
fn a_constant_baseline_is_seen_to_change_by_the_tie_aware_index_only() {
    let x = compare_columns(floats(&[1.0; 50]), floats(&[2.0; 50]));
    assert_eq!(x["status"], "constant");
    assert_eq!(x["metrics"]["psi"]["reference_value"], 0.0);
    assert!(x["metrics"]["psi"]["value"].as_f64().unwrap() > 40.0);
    assert_eq!(x["metrics"]["psi"]["blind_bins"], 8);
    assert_eq!(x["metrics"]["ks"]["statistic"], 1.0);
    assert_eq!(x["current"]["above_range"], 50);
    let same = compare_columns(floats(&[1.0; 50]), floats(&[1.0; 70]));
    assert_eq!(same["metrics"]["psi"]["value"], 0.0);
    assert_eq!(same["verdict"]["drifted"], false);
}

#[test]
fn a_side_of_nulls_or_nan_is_a_status_and_its_missing_rate_counts() {
    let nulls = Series::new("x".into(), vec![None::<f64>; 30]);
    for missing in [nulls, floats(&[f64::NAN; 30])] {
        let x = compare_columns(floats(&[1.0; 40]), missing);
        assert_eq!(x["status"], "all_null");
        assert!(x["metrics"].get("psi").is_none());
        assert_eq!(x["metrics"]["missing"]["difference"], 1.0);
        assert_eq!(x["verdict"]["drifted"], true);
    }
}

#[test]
fn a_single_infinity_does_not_silence_a_convention() {
    let ramp = |shift: f64| (0..1500).map(|i| f64::from(i % 100) + shift).collect::<Vec<_>>();
    let with_infinity = [ramp(30.0), vec![f64::INFINITY]].concat();
    let folder = TempDir::new().unwrap();
    let (a, b) = (write(folder.path(), "a", floats(&ramp(0.0))), write(folder.path(), "b", floats(&with_infinity)));
    let report = compare(&a, &b, &["--convention", "evidently"]);
    let x = feature(&report, "x");
    // scipy.stats.wasserstein_distance(a, finite b) / np.std(a) = 30 / 28.86607004772212
    let found = x["metrics"]["convention"]["wasserstein"].as_f64().unwrap();
    assert!((found - 30.0 / 28.86607004772212).abs() < 1e-12, "{found}");
    assert_eq!(x["verdict"]["drifted"], true);
}

#[test]
fn a_convention_gives_no_figure_that_doubles_cannot_hold() {
    let folder = TempDir::new().unwrap();
    let conventional = |a: Series, b: Series, name: &str| {
        let (a, b) = (write(folder.path(), "a", a), write(folder.path(), "b", b));
        let report = compare(&a, &b, &["--convention", name]);
        feature(&report, "x").clone()
    };
    // A range beyond the largest double has no bins of equal width.
    let wide =
        |shift: f64| floats(&(0..1200).map(|i| (f64::from(i) / 600.0 - 1.0 + shift) * 1.7e308).collect::<Vec<_>>());
    for name in ["evidently", "nannyml", "tfdv", "azureml"] {
        assert!(conventional(wide(0.0), wide(0.0), name)["metrics"].get("convention").is_none(), "{name}");
    }
    // Integers of which doubles know only multiples of 128: the standard deviation is that of 0 .. 49.
    let large = |from: i64| {
        Series::new("x".into(), (0..2000).map(|i| 1_000_000_000_000_000_000 + (i + from) % 50).collect::<Vec<i64>>())
    };
    let x = conventional(large(0), large(3), "azureml");
    assert_eq!(x["metrics"]["convention"]["wasserstein"], 0.0);
    assert_eq!(x["verdict"]["drifted"], false);
}

#[test]
fn nan_and_infinities_are_counted_apart_and_infinities_stay_ordered() {
    let a = floats(&[1.0, 2.0, 3.0, f64::INFINITY, f64::NAN, f64::NEG_INFINITY]);
    let x = compare_columns(a.clone(), a);
    let baseline = &x["baseline"];
    assert_eq!((&baseline["nan"], &baseline["pos_inf"], &baseline["neg_inf"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(x["metrics"]["ks"]["statistic"], 0.0);
    assert!(x["metrics"].get("wasserstein").is_none(), "the area is infinite");
    assert_eq!(baseline["mean"], 2.0);
}

#[test]
fn negative_zero_is_zero_and_denormals_are_not() {
    let x = compare_columns(floats(&[0.0, -0.0, 0.0, -0.0]), floats(&[0.0; 4]));
    assert_eq!(x["metrics"]["ks"]["statistic"], 0.0);
    let x = compare_columns(floats(&[5e-324; 4]), floats(&[0.0; 4]));
    assert_eq!(x["metrics"]["ks"]["statistic"], 1.0);
}

#[test]
fn one_row_a_side_is_compared() {
    let x = compare_columns(floats(&[1.0]), floats(&[2.0]));
    assert_eq!(x["metrics"]["ks"]["statistic"], 1.0);
    assert_eq!(x["metrics"]["ks"]["p_value"], 1.0);
    assert_eq!(x["metrics"]["wasserstein"]["value"], 1.0);
}

#[test]
fn integers_beyond_2_to_53_are_told_apart() {
    let base = 1i64 << 53;
    let a = Series::new("x".into(), vec![base; 10]);
    let x = compare_columns(a.clone(), Series::new("x".into(), vec![base + 1; 10]));
    assert_eq!(x["metrics"]["ks"]["statistic"], 1.0);
    let extremes = Series::new("x".into(), vec![i64::MIN, -1, 0, 1, i64::MAX]);
    let x = compare_columns(extremes.clone(), extremes);
    assert_eq!(x["metrics"]["ks"]["statistic"], 0.0);
    let x = compare_columns(Series::new("x".into(), vec![u64::MAX; 3]), Series::new("x".into(), vec![0u64; 3]));
    assert_eq!(x["metrics"]["ks"]["statistic"], 1.0);
}

#[test]
fn numbers_of_different_width_are_compared_other_types_are_refused() {
    let ints = Series::new("x".into(), vec![1i32, 2, 3]);
    let x = compare_columns(ints.clone(), floats(&[1.0, 2.0, 3.0]));
    assert_eq!(x["status"], "ok");
    assert_eq!(x["metrics"]["ks"]["statistic"], 0.0);
    assert_eq!((&x["baseline"]["type"], &x["current"]["type"]), (&"int32".into(), &"float64".into()));
    let x = compare_columns(ints, Series::new("x".into(), vec!["1", "2"]));
    assert_eq!(x["status"], "type_changed");
    assert!(x["detail"].as_str().unwrap().contains("int32"), "{}", x["detail"]);
}

#[test]
fn unseen_categories_are_counted() {
    let x = compare_columns(
        Series::new("x".into(), vec!["a", "b", "a"]),
        Series::new("x".into(), vec!["a", "c", "c", "d"]),
    );
    assert_eq!(x["kind"], "categorical");
    assert_eq!((&x["current"]["unseen_rows"], &x["current"]["unseen_categories"]), (&3.into(), &2.into()));
}

#[test]
fn a_million_categories_are_counted_and_a_limit_pools_without_losing_a_row() {
    let folder = TempDir::new().unwrap();
    let names = |from: u32| (from..from + 1_000_000).map(|i| format!("c{i}")).collect::<Vec<_>>();
    let a = write(folder.path(), "a", Series::new("x".into(), names(0)));
    let b = write(folder.path(), "b", Series::new("x".into(), names(500_000)));
    let x = feature(&compare(&a, &b, &["--metrics", "js,chi_square"]), "x").clone();
    assert_eq!(x["baseline"]["categories"], 1_000_000);
    assert_eq!(x["current"]["unseen_categories"], 500_000);
    let x = feature(&compare(&a, &b, &["--metrics", "js", "--category-limit", "1000"]), "x").clone();
    assert_eq!(x["baseline"]["categories"], 1000);
    assert_eq!(x["baseline"]["pooled_rows"], 999_000);
    assert!(x["current"].get("unseen_rows").is_none(), "cannot be told");
}

#[test]
fn a_column_sorted_by_itself_is_exact_when_it_does_not_fit_in_memory() {
    // Every row group holds another range, so no chunk is a fair sample of the column.
    let folder = TempDir::new().unwrap();
    let values = |shift: f64| floats(&(0..1_500_000).map(|i| f64::from(i) + shift).collect::<Vec<_>>());
    let (a, b) = (write(folder.path(), "a", values(0.0)), write(folder.path(), "b", values(150_000.0)));
    let small = feature(&compare(&a, &b, &["--memory", "16MiB"]), "x").clone();
    let large = feature(&compare(&a, &b, &["--memory", "4GiB"]), "x").clone();
    assert_eq!(small, large);
    assert_eq!(small["metrics"]["ks"]["statistic"], 0.1);
    assert_eq!(small["metrics"]["wasserstein"]["value"], 150_000.0);
}

#[test]
fn parquet_ipc_and_csv_give_the_same_counts() {
    let folder = TempDir::new().unwrap();
    let number = Series::new(
        "n".into(),
        (0..500).map(|i| if i % 7 == 0 { None } else { Some(f64::from(i) / 8.0) }).collect::<Vec<_>>(),
    );
    let count = Series::new("i".into(), (0..500i64).map(|i| i % 13).collect::<Vec<_>>());
    let text =
        Series::new("t".into(), (0..500).map(|i| ["red, \"deep\"", "green\nish", "blue"][i % 3]).collect::<Vec<_>>());
    let flag = Series::new("b".into(), (0..500).map(|i| i % 5 == 0).collect::<Vec<_>>());
    let mut frame = DataFrame::new_infer_height([number, count, text, flag].map(Into::into).to_vec()).unwrap();
    let path = |name: &str| folder.path().join(name);
    write_parquet(&mut frame, &path("a.parquet"), 100);
    write_ipc(&mut frame, &path("a.arrow"));
    let mut csv = String::from("n,i,t,b\n");
    for i in 0..500usize {
        let n = if i % 7 == 0 { String::new() } else { (i as f64 / 8.0).to_string() };
        let t = ["\"red, \"\"deep\"\"\"", "\"green\nish\"", "blue"][i % 3];
        csv += &format!("{n},{},{t},{}\n", i % 13, i % 5 == 0);
    }
    std::fs::write(path("a.csv"), csv).unwrap();
    let a = path("a.parquet").display().to_string();
    let hashes: Vec<Value> = ["a.parquet", "a.arrow", "a.csv"]
        .iter()
        .map(|name| compare(&a, &path(name).display().to_string(), &[])["counts_hash"].clone())
        .collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

#[test]
fn directories_globs_and_hive_partitions_are_one_snapshot() {
    let folder = TempDir::new().unwrap();
    let all: Vec<f64> = (0..3000).map(f64::from).collect();
    write(folder.path(), "whole", floats(&all));
    for (day, part) in all.chunks(1000).enumerate() {
        let sub = folder.path().join(format!("days/day={day}"));
        std::fs::create_dir_all(&sub).unwrap();
        write(&sub, "part", floats(part));
    }
    let whole = folder.path().join("whole.parquet").display().to_string();
    let days = folder.path().join("days").display().to_string();
    for spec in [days.clone(), format!("{days}/*/*.parquet"), format!("{days}/day=*")] {
        let report = compare(&whole, &spec, &[]);
        assert_eq!(report["rows"]["current"], 3000, "{spec}");
        assert_eq!(feature(&report, "x")["metrics"]["ks"]["statistic"], 0.0);
    }
    let report = compare(&days, &days, &[]);
    assert_eq!(feature(&report, "day")["baseline"]["max"], 2.0);
    let report = compare(&whole, &format!("{whole}#rows=1500..2500"), &[]);
    assert_eq!(report["rows"]["current"], 1000);
    assert_eq!(feature(&report, "x")["current"]["min"], 1500.0);
}

#[test]
fn rows_without_a_partition_key_are_null_and_floats_are_no_categories() {
    let folder = TempDir::new().unwrap();
    for key in ["1", "2", "__HIVE_DEFAULT_PARTITION__"] {
        let sub = folder.path().join(format!("k={key}"));
        std::fs::create_dir_all(&sub).unwrap();
        write(&sub, "part", floats(&[1.0, 2.5]));
    }
    let spec = folder.path().display().to_string();
    let report = compare(&spec, &spec, &["--categorical", "x"]);
    assert_eq!(feature(&report, "k")["baseline"]["null"], 2);
    assert_eq!(feature(&report, "k")["baseline"]["max"], 2.0);
    assert_eq!(feature(&report, "x")["status"], "unsupported_type");
    assert!(feature(&report, "x")["detail"].as_str().unwrap().contains("2.5 cannot be read as a category"));
}

#[test]
fn integers_near_2_to_60_have_percentiles_and_exact_distances() {
    let base = 1i64 << 60;
    let ints = |shift: i64| Series::new("x".into(), (0..5000i64).map(|i| base + i + shift).collect::<Vec<_>>());
    let x = compare_columns(ints(0), ints(100));
    assert_eq!(x["status"], "ok");
    assert_eq!(x["metrics"]["ks"]["statistic"], 0.02);
    assert_eq!(x["metrics"]["wasserstein"]["value"], 100.0);
    let counts = x["counts"]["bins"]["baseline"].as_array().unwrap();
    assert_eq!(counts.iter().map(|c| c.as_u64().unwrap()).sum::<u64>(), 5000);
    let same = compare_columns(ints(0), ints(0));
    assert_eq!(same["metrics"]["psi"]["value"], 0.0);
}

#[test]
fn tabs_separate_in_tsv_and_a_pattern_counts_no_row_twice() {
    let folder = TempDir::new().unwrap();
    let tsv = folder.path().join("a.tsv");
    std::fs::write(&tsv, "x\ty\n1\ta\n2\tb\n").unwrap();
    let tsv = tsv.display().to_string();
    let report = compare(&tsv, &tsv, &[]);
    assert_eq!(feature(&report, "x")["kind"], "numeric");
    for day in 0..2 {
        let sub = folder.path().join(format!("days/day={day}"));
        std::fs::create_dir_all(&sub).unwrap();
        write(&sub, "part", floats(&[1.0, 2.0]));
    }
    let days = folder.path().join("days").display().to_string();
    for pattern in ["", "/**", "/**/*", "/day=*", "/*/*.parquet"] {
        let report = compare(&days, &format!("{days}{pattern}"), &[]);
        assert_eq!(report["rows"]["current"], 4, "{pattern}");
        assert_eq!(feature(&report, "day")["current"]["max"], 1.0, "{pattern}");
    }
}

#[test]
fn a_feature_that_is_nearly_all_missing_is_drift_although_too_few_values_are_left() {
    let folder = TempDir::new().unwrap();
    let some = |every: usize| {
        Series::new("x".into(), (0..5000).map(|i| (i % every == 0).then_some(i as f64)).collect::<Vec<_>>())
    };
    let (a, b) = (write(folder.path(), "a", some(1)), write(folder.path(), "b", some(500)));
    let x = feature(&compare(&a, &b, &[]), "x").clone();
    assert_eq!(x["status"], "insufficient_data");
    assert_eq!(x["verdict"]["drifted"], true);
    assert!(x["verdict"]["reasons"][0].as_str().unwrap().starts_with("missing"), "{x}");
}
