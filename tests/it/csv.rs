//! CSV files as other tools and people write them, end to end.

use std::fmt::Write;
use std::fs;

use driftsweep::metric::Metric;
use polars::prelude::{DataFrame, NamedFrom, Series};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{compare, feature, run, write_parquet};

fn field(case: &str, name: &str) -> String {
    let path = crate::support::data::root().join("tests/field").join(case).join(name);
    path.display().to_string()
}

fn file(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

/// The message of a comparison that is refused.
fn refusal(baseline: &str, current: &str) -> String {
    let output = run(["compare", baseline, current]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

/// A file compared with itself.
fn itself(path: &str) -> Value {
    compare(path, path, &["--min-rows", "1"])
}

fn types(report: &Value) -> Vec<(&str, &str)> {
    let features = report["features"].as_array().unwrap().iter();
    let mut types: Vec<_> =
        features.map(|f| (f["name"].as_str().unwrap(), f["current"]["type"].as_str().unwrap())).collect();
    types.sort_unstable();
    types
}

#[test]
fn missing_values_are_null_however_they_are_marked_and_drift_is_found() {
    let metrics = ["--metrics", "psi,js,ks,missing"];
    let of = |baseline: &str, current: &str| {
        compare(&field("csv-na-text", baseline), &field("csv-na-text", current), &metrics)["features"].clone()
    };
    let blank = of("train_blank.csv", "today_blank.csv");
    let report = Value::from_iter([("features", blank.clone())]);
    let income = feature(&report, "income");
    assert_eq!((&income["status"], &income["kind"]), (&"ok".into(), &"numeric".into()));
    assert_eq!((&income["baseline"]["null"], &income["current"]["null"]), (&1.into(), &1.into()));
    // scipy.stats.ks_2samp(train.income.dropna(), today.income.dropna()), and of k
    assert_eq!(income["metrics"]["ks"]["statistic"], 0.9979989994997499);
    assert_eq!(feature(&report, "k")["metrics"]["ks"]["statistic"], 0.0105);
    assert_eq!(feature(&report, "k")["baseline"]["type"], "int64");
    assert_eq!((&income["verdict"]["drifted"], &income["baseline"]["type"]), (&true.into(), &"float64".into()));
    assert_eq!(of("train_na.csv", "today_na.csv"), blank);
    assert_eq!(of("train_quoted.csv", "today_quoted.csv"), blank);
    // pandas stores the missing value as a null.
    assert_eq!(of("train.parquet", "today_na.csv"), blank);

    let folder = TempDir::new().unwrap();
    let frozen = folder.path().join("train.baseline").display().to_string();
    assert!(run(["baseline", "build", &field("csv-na-text", "train_na.csv"), "-o", &frozen]).status.success());
    let drifted = compare(&frozen, &field("csv-na-text", "today_quoted.csv"), &metrics);
    assert_eq!(feature(&drifted, "income")["verdict"]["drifted"], true);
    assert_eq!(feature(&drifted, "income")["metrics"]["psi"], income["metrics"]["psi"]);
}

#[test]
fn labels_that_are_marked_as_missing_are_those_that_are_left_blank() {
    let (blank, na) = (field("labels-na-pending", "labels_blank.csv"), field("labels-na-pending", "labels_na.csv"));
    let report = compare(&blank, &na, &[]);
    assert_eq!(types(&report), [("churned", "int64"), ("request_id", "int64")]);
    let churned = feature(&report, "churned");
    // pandas: 1500 rows, 615 of them NaN, 471 ones
    assert_eq!((&churned["baseline"]["null"], &churned["current"]["null"]), (&615.into(), &615.into()));
    assert_eq!(churned["metrics"]["ks"]["statistic"], 0.0);
    assert_eq!(churned["current"]["mean"].as_f64().unwrap(), 471.0 / 885.0);
}

#[test]
fn semicolons_and_decimal_commas_are_recognised() {
    let of = |baseline: &str, current: &str| {
        let (a, b) = (field("csv-semicolon", baseline), field("csv-semicolon", current));
        compare(&a, &b, &["--metrics", "psi,js,ks,missing,moments"])
    };
    let points = of("train.csv", "today.csv");
    assert_eq!(types(&points), [("income", "float64"), ("k", "int64")]);
    // scipy.stats.ks_2samp
    assert_eq!(feature(&points, "income")["metrics"]["ks"]["statistic"], 0.019333333333333334);
    assert_eq!(feature(&points, "k")["metrics"]["ks"]["statistic"], 0.034666666666666665);
    let mean = feature(&points, "income")["baseline"]["mean"].as_f64().unwrap();
    assert!((mean - 30059.4005).abs() < 1e-4, "{mean}");
    for commas in [of("train_comma.csv", "today_comma.csv"), of("train.csv", "today_comma.csv")] {
        assert_eq!(commas["features"], points["features"]);
    }
}

/// One column of each type, as Parquet and as CSV.
fn both_forms(folder: &TempDir, name: &str, shift: i64) -> (String, String) {
    let rows = 0..3000i64;
    let some = |every: i64, i: i64| (i % every != 0).then_some(i);
    let int: Vec<Option<i64>> = rows.clone().map(|i| some(7, i).map(|i| (i * 7919 + shift) % 1000 - 300)).collect();
    let big: Vec<Option<i64>> = rows.clone().map(|i| some(11, i).map(|i| i64::MAX - (i + shift) % 1000)).collect();
    let large: Vec<Option<u64>> =
        rows.clone().map(|i| some(5, i).map(|i| u64::MAX - (i + shift) as u64 % 99)).collect();
    let float: Vec<Option<f64>> = rows
        .clone()
        .map(|i| some(13, i).map(|i| ((i * 31 + shift) as f64).sin() * 10f64.powi((i % 40) as i32 - 20)))
        .collect();
    let whole: Vec<Option<f64>> = rows.clone().map(|i| some(3, i).map(|i| (i % 50 + shift) as f64)).collect();
    let flag: Vec<Option<bool>> = rows.clone().map(|i| some(9, i).map(|i| (i + shift) % 4 == 0)).collect();
    let names = ["red, \"deep\"", "green\nish", "NA", " padded ", "größe", "None"];
    let text: Vec<Option<&str>> = rows.map(|i| some(6, i).map(|i| names[((i / 7 + shift) % 6) as usize])).collect();
    let mut csv = String::from("int,big,large,float,whole,flag,text,none\n");
    for i in 0..int.len() {
        let marker = ["", "NA", "nan", "\"\"", "NULL"][i % 5];
        let shown = |value: Option<String>| value.unwrap_or(marker.into());
        let quoted = text[i].map_or(String::new(), |text| format!("\"{}\"", text.replace('"', "\"\"")));
        let _ = writeln!(
            csv,
            "{},{},{},{},{},{},{quoted},{marker}",
            shown(int[i].map(|x| x.to_string())),
            shown(big[i].map(|x| x.to_string())),
            shown(large[i].map(|x| x.to_string())),
            shown(float[i].map(|x| format!("{x:?}"))),
            shown(whole[i].map(|x| format!("{x:?}"))),
            shown(flag[i].map(|x| x.to_string())),
        );
    }
    let columns = vec![
        Series::new("int".into(), int),
        Series::new("big".into(), big),
        Series::new("large".into(), large),
        Series::new("float".into(), float),
        Series::new("whole".into(), whole),
        Series::new("flag".into(), flag),
        Series::new("text".into(), text),
        Series::new("none".into(), vec![None::<f64>; 3000]),
    ];
    let mut frame = DataFrame::new_infer_height(columns.into_iter().map(Into::into).collect()).unwrap();
    let parquet = folder.path().join(format!("{name}.parquet"));
    // One row group as for CSV: sums of doubles are by chunk.
    write_parquet(&mut frame, &parquet, 3000);
    (parquet.display().to_string(), file(folder, &format!("{name}.csv"), csv))
}

#[test]
fn parquet_and_csv_of_the_same_values_give_the_same_figures_live_and_frozen() {
    let folder = TempDir::new().unwrap();
    let (train, train_csv) = both_forms(&folder, "train", 0);
    let (today, today_csv) = both_forms(&folder, "today", 3);
    let metrics = Metric::ALL.map(Metric::name).join(",");
    let figures = |baseline: &str, current: &str| {
        let mut features = compare(baseline, current, &["--metrics", &metrics])["features"].clone();
        // What a column without values is called is another matter.
        for feature in features.as_array_mut().unwrap() {
            if feature["name"] == "none" {
                assert_eq!(feature["status"], "all_null");
                feature["kind"] = Value::Null;
                feature["baseline"]["type"] = Value::Null;
                feature["current"]["type"] = Value::Null;
                feature["counts_hash"] = Value::Null;
            }
        }
        features
    };
    let wanted = figures(&train, &today);
    for name in ["int", "big", "large", "float", "whole", "flag", "text"] {
        let report = Value::from_iter([("features", wanted.clone())]);
        assert_eq!(feature(&report, name)["status"], "ok", "{name}");
    }
    for (a, b) in [(&train, &today_csv), (&train_csv, &today), (&train_csv, &today_csv)] {
        same(&figures(a, b), &wanted, &format!("{a} {b}"));
    }
    let frozen = |source: &str, name: &str| {
        let path = folder.path().join(name).display().to_string();
        let output = run(["baseline", "build", source, "-o", &path]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path
    };
    let (parquet, csv) = (frozen(&train, "parquet.baseline"), frozen(&train_csv, "csv.baseline"));
    let wanted = figures(&parquet, &today);
    for (a, b) in [(&parquet, &today_csv), (&csv, &today), (&csv, &today_csv)] {
        same(&figures(a, b), &wanted, &format!("{a} {b}"));
    }
}

/// Asserts that features are the same, and shows only those that are not.
fn same(found: &Value, wanted: &Value, what: &str) {
    for (found, wanted) in found.as_array().unwrap().iter().zip(wanted.as_array().unwrap()) {
        assert_eq!(found, wanted, "{what}");
    }
}

#[test]
fn types_do_not_depend_on_where_in_the_file_a_value_stands() {
    let folder = TempDir::new().unwrap();
    // The start by which types are guessed is 16 MiB long.
    let rows = 1_200_000u64;
    let mut csv = String::from("float,late,text,flag,large\n");
    for i in 0..rows {
        let _ = writeln!(csv, "{},NA,{},true,{i}", i % 1000, i % 10);
    }
    assert!(csv.len() > 20 << 20);
    csv.push_str("0.5,7,n.a.,NA,9223372036854775808\nNA,,1,false,1");
    let path = file(&folder, "late.csv", csv);
    let report = itself(&path);
    let wanted =
        [("flag", "boolean"), ("float", "float64"), ("large", "uint64"), ("late", "int64"), ("text", "string")];
    assert_eq!(types(&report), wanted);
    assert_eq!(report["rows"]["current"], rows + 2);
    let of = |name: &str, figure: &str| feature(&report, name)["current"][figure].clone();
    assert_eq!((of("float", "null"), of("flag", "null"), of("late", "null")), (1.into(), 1.into(), (rows + 1).into()));
    assert_eq!(of("float", "max"), 999.0);
    assert_eq!(of("text", "categories"), 11);
    let numbers = file(&folder, "numbers.csv", "text\n1\n2\n");
    let refused = compare(&numbers, &path, &[]);
    let detail = feature(&refused, "text")["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("late.csv, line {}: 'n.a.' is not a number", rows + 2)), "{detail}");
}

#[test]
fn a_value_that_makes_a_column_text_is_named_with_its_file_and_line() {
    let folder = TempDir::new().unwrap();
    let numbers = file(&folder, "train.csv", "x,y\n1,2\n2,3\n");
    let today = file(&folder, "today.csv", "x,y\n1,\"a\nb\"\n\nn.a.,5\n2,6\n");
    let detail = |baseline: &str, current: &str, name: &str| {
        let report = compare(baseline, current, &["--min-rows", "1"]);
        assert_eq!(feature(&report, name)["status"], "type_changed", "{name}");
        feature(&report, name)["detail"].as_str().unwrap().to_owned()
    };
    let found = detail(&numbers, &today, "x");
    assert!(found.contains("today.csv, line 5: 'n.a.' is not a number"), "{found}");
    let found = detail(&numbers, &today, "y");
    assert!(found.contains("today.csv, line 2: 'a\nb' is not a number"), "{found}");
    // The baseline may be the one, a frozen one may be compared with, and one file of many may hold it.
    let found = detail(&today, &numbers, "x");
    assert!(found.contains("today.csv, line 5: 'n.a.'"), "{found}");
    let frozen = folder.path().join("train.baseline").display().to_string();
    assert!(run(["baseline", "build", &numbers, "-o", &frozen]).status.success());
    assert!(detail(&frozen, &today, "x").contains("today.csv, line 5: 'n.a.'"));
    let both = folder.path().join("t*.csv").display().to_string();
    assert!(detail(&numbers, &both, "x").contains("today.csv, line 5: 'n.a.'"));
    // Thousands are never taken for decimals.
    let amounts = file(&folder, "amounts.csv", "x;y\n1.234,56;1.234\n2,5;2.000\n");
    let found = detail(&numbers, &amounts, "x");
    assert!(found.contains("amounts.csv, line 2: '1.234,56'") && found.contains("decimal point"), "{found}");
}

#[test]
fn numbers_that_a_few_values_make_text_are_not_compared_by_category_unless_asked() {
    let folder = TempDir::new().unwrap();
    // A marker that is not known, on both sides; one, in many, would hide any drift.
    let incomes = |name: &str, shift: u32| {
        let rows = (0..2000)
            .map(|i| format!("{}.{:02},{}\n", shift + i * 37 % 9973, i % 100, ["38", "40", "XL"][i as usize % 3]));
        file(&folder, name, format!("income,size\n{}n.a.,XL\n", rows.collect::<String>()))
    };
    let (train, today) = (incomes("train.csv", 0), incomes("today.csv", 90_000));
    let report = compare(&train, &today, &[]);
    let income = feature(&report, "income");
    assert_eq!(income["status"], "unreadable");
    let detail = income["detail"].as_str().unwrap();
    assert!(detail.contains("train.csv, line 2002: 'n.a.' is not a number"), "{detail}");
    assert_eq!(feature(&report, "size")["status"], "ok");
    let asked = compare(&train, &today, &["--categorical", "income"]);
    assert_eq!(
        (&feature(&asked, "income")["status"], &feature(&asked, "income")["kind"]),
        (&"ok".into(), &"categorical".into())
    );
    let frozen = folder.path().join("train.baseline").display().to_string();
    let built = run(["baseline", "build", &train, "-o", &frozen]);
    assert!(String::from_utf8_lossy(&built.stderr).contains("line 2002: 'n.a.' is not a number"));
    assert_eq!(feature(&compare(&frozen, &today, &[]), "income")["status"], "unreadable");
    // Thousands that are set apart are numbers, too.
    let amounts = (0..2000).map(|i| format!("\"{},{:03}.5\"\n", 1 + i / 100, i % 100)).collect::<String>();
    let amounts = file(&folder, "amounts.csv", format!("x\n{amounts}"));
    let detail = feature(&itself(&amounts), "x")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("amounts.csv, line 2: '1,000.5'") && detail.contains("thousands"), "{detail}");
}

#[test]
fn a_column_of_markers_and_a_file_of_a_header_have_no_types() {
    let folder = TempDir::new().unwrap();
    let values = file(&folder, "values.csv", "x,t,b\n1,a,true\n2,b,false\n");
    let nothing = file(&folder, "nothing.csv", "x,t,b\nNA,,None\n,NA,nan\n");
    let report = compare(&values, &nothing, &["--min-rows", "1"]);
    for name in ["x", "t", "b"] {
        let found = feature(&report, name);
        assert_eq!((&found["status"], &found["current"]["null"]), (&"all_null".into(), &2.into()), "{found}");
        assert_eq!(found["current"]["type"], "null");
    }
    let message = refusal(&values, &file(&folder, "header.csv", "x,t,b"));
    assert!(message.contains("header.csv") && message.contains("no rows"), "{message}");
    // Beside other files it changes nothing.
    let parts = folder.path().join("parts");
    fs::create_dir(&parts).unwrap();
    for name in ["values.csv", "nothing.csv", "header.csv"] {
        fs::copy(folder.path().join(name), parts.join(name)).unwrap();
    }
    let report = compare(&values, parts.to_str().unwrap(), &["--min-rows", "1"]);
    assert_eq!(report["rows"]["current"], 4);
    for name in ["x", "t", "b"] {
        assert_eq!(feature(&report, name)["status"], "ok");
    }
}

#[test]
fn only_an_empty_field_is_missing_in_a_column_of_text() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "text.csv", "country,x\nNA,1\nDE,NA\n,2\n\"\",3\nNone,4\n");
    let country = feature(&itself(&path), "country").clone();
    assert_eq!((&country["current"]["null"], &country["current"]["categories"]), (&2.into(), &3.into()));
    // R puts text in quotes and missing values not.
    let path = file(&folder, "r.csv", "\"country\",\"x\"\n\"NA\",1\nNA,NA\n\"DE\",2\n\"\",3\n\"12\",4\n");
    let country = feature(&itself(&path), "country").clone();
    assert_eq!((&country["current"]["null"], &country["current"]["categories"]), (&2.into(), &3.into()));
}

#[test]
fn what_is_not_csv_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let good = file(&folder, "good.csv", "x,y\n1,2\n");
    let (parquet, _) = both_forms(&folder, "p", 0);
    let parquet = fs::read(parquet).unwrap();
    let gzip = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3];
    let zstd = [0x28, 0xB5, 0x2F, 0xFD, 4, 0, 0];
    for (name, content, words) in [
        ("ragged.csv", &b"x,y\n1,2\n3\n"[..], &["line 3", "1 fields where the header has 2"][..]),
        ("open.csv", b"x,y\n1,\"2\n3,4\n", &["line 2", "quote is left open"]),
        ("twice.csv", b"x,x\n1,2\n", &["two columns are called 'x'"]),
        ("unnamed.csv", b",x,\n1,2,3\n", &["two columns are called ''"]),
        ("latin.csv", b"x,y\n1,2\n1,caf\xE9\n", &["line 3", "caf", "convert the file to UTF-8"]),
        ("late_nul.csv", b"x,y\n1,\0\n", &["NUL"]),
        ("either.csv", b"a (b, c);x\n1,5;2\n", &["',' or ';'"]),
        ("really.csv", &parquet, &["Parquet", ".parquet"]),
        ("today.csv.gz", &gzip, &["gzip", "unpack"]),
        ("zipped.csv", &gzip, &["gzip", "unpack"]),
        ("today.csv.zst", &zstd, &["zstd", "unpack"]),
        ("today.parquet.gz", &gzip, &["gzip", "unpack"]),
        ("sheet.csv", b"PK\x03\x04\x14\0\x06\0", &["Excel"]),
        ("really.parquet", b"x,y\n1,2\n", &["text", ".csv"]),
        ("really.txt", b"x,y\n1,2\n", &["text", ".csv"]),
        ("really.arrow", &parquet, &["Parquet", ".parquet"]),
    ] {
        let path = file(&folder, name, content);
        let message = refusal(&good, &path);
        for word in words.iter().chain([&name]) {
            assert!(message.contains(word), "{name}: '{word}' is not in: {message}");
        }
    }
}

#[test]
fn a_header_may_have_one_column_without_a_name_and_a_byte_order_mark() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "unnamed.csv", "\u{feff},x\r\n0.5,1.5\r\n1,2.5");
    assert_eq!(types(&itself(&path)), [("", "float64"), ("x", "float64")]);
    // What pandas writes with its index, which is left out.
    let path = file(&folder, "index.csv", "\u{feff},x\r\n0,1.5\r\n1,2.5");
    assert_eq!(types(&itself(&path)), [("x", "float64")]);
    let tabs = file(&folder, "tabs.tsv", "a b\tc, d\n1\t2,5\n");
    assert_eq!(types(&itself(&tabs)), [("a b", "int64"), ("c, d", "float64")]);
    let bars = file(&folder, "bars.csv", "a|b\n1|2.5\n");
    assert_eq!(types(&itself(&bars)), [("a", "int64"), ("b", "float64")]);
}

#[test]
fn a_folder_of_csv_files_takes_the_types_of_all() {
    let folder = TempDir::new().unwrap();
    let parts = folder.path().join("parts");
    fs::create_dir(&parts).unwrap();
    for (name, content) in [("1.csv", "x;y\n1;NA\n2;NA\n"), ("2.csv", "x,y\n0.5,1\n"), ("3.csv", "x\ty\nNA\t2\n")] {
        fs::write(parts.join(name), content).unwrap();
    }
    let report = itself(parts.to_str().unwrap());
    assert_eq!(types(&report), [("x", "float64"), ("y", "int64")]);
    assert_eq!(feature(&report, "y")["current"]["null"], 2);
}
