//! `driftsweep init`: what it writes can be swept as it stands.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use driftsweep::snapshot::table::{CellType, Cells, TableWriter};
use jiff::ToSpan;
use jiff::civil::Date;
use polars::prelude::{DataFrame, IntoColumn, NamedFrom, Series};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{dataset, write_parquet};

/// Runs `driftsweep` in a folder.
fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_driftsweep")).args(args).current_dir(folder).output().unwrap()
}

/// What a command writes to standard output, and to standard error, on success.
fn said(folder: &Path, args: &[&str]) -> (String, String) {
    let output = run(folder, args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}{stderr}", String::from_utf8_lossy(&output.stdout));
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

fn refused(folder: &Path, args: &[&str], code: i32, words: &str) {
    let output = run(folder, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(words), "{args:?}: '{words}' is not in {stderr}");
}

/// A number from 0 to 1 for a row.
fn spread(row: usize) -> f64 {
    (row.wrapping_mul(2_654_435_761) >> 7) as f64 % 1009.0 / 1009.0
}

/// A table of a number and a text, as its extension says.
fn write(path: &Path, rows: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (x, c): (Vec<f64>, Vec<&str>) = (0..rows).map(|row| (spread(row), ["a", "b"][row % 2])).unzip();
    if path.extension().unwrap() == "csv" {
        let lines: Vec<String> = x.iter().zip(c).map(|(x, c)| format!("{x},{c}")).collect();
        return fs::write(path, format!("x,c\n{}\n", lines.join("\n"))).unwrap();
    }
    let columns = vec![Series::new("x".into(), x).into_column(), Series::new("c".into(), c).into_column()];
    write_parquet(&mut DataFrame::new_infer_height(columns).unwrap(), path, 500);
}

/// The model of a fleet file that `init` wrote to standard output.
fn model(text: &str) -> toml::Table {
    let table: toml::Table = toml::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    table["model"].as_array().unwrap()[0].as_table().unwrap().clone()
}

#[test]
fn a_snapshot_a_day_is_named_by_its_day_however_it_is_laid_out() {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let cases: [(&str, &[&str], &str); 11] = [
        ("%Y-%m-%d", &["date=DAY/part-0.parquet", "date=DAY/part-1.parquet"], "date={day}/"),
        ("%Y-%m-%d", &["DAY.parquet"], "{day}.parquet"),
        ("%Y-%m-%d", &["churn-DAY.csv"], "churn-{day}.csv"),
        ("%Y%m%d", &["DAY/x.parquet"], "{day:%Y%m%d}/"),
        ("%Y%m%d", &["DAY.csv"], "{day:%Y%m%d}.csv"),
        ("%Y/%m/%d", &["DAY/x.parquet"], "{day:%Y/%m/%d}/"),
        ("%Y/%m/%d", &["DAY.parquet"], "{day:%Y/%m/%d}.parquet"),
        ("year=%Y/month=%m/day=%d", &["DAY/x.parquet"], "year={day:%Y}/month={day:%m}/day={day:%d}/"),
        ("%Y/%m/%Y-%m-%d", &["DAY/x.parquet"], "{day:%Y}/{day:%m}/{day}/"),
        ("%Y-%m-%d", &["dt=DAY/hour=00/x.parquet", "dt=DAY/hour=23/x.parquet"], "dt={day}/"),
        ("%Y-%m-%d", &["DAY_a.parquet", "DAY_b.parquet"], "{day}*.parquet"),
    ];
    for (format, files, wanted) in cases {
        let folder = TempDir::new().unwrap();
        let folder = folder.path();
        write(&folder.join("train.parquet"), 3000);
        let day = |day: Date| day.strftime(format).to_string();
        // Up to today, which is not over; a sweep reads the day before.
        for back in 0..4 {
            for file in files {
                let date = today.checked_sub(i64::from(back).days()).unwrap();
                write(&folder.join("production").join(file.replace("DAY", &day(date))), 2000 + back as usize);
            }
        }
        let wanted = format!("production/{wanted}");
        // As a folder, with and without its slash, and written to a file in another folder.
        let (text, stderr) = said(folder, &["init", "train.parquet", "production", "--name", "m"]);
        assert_eq!(model(&text)["current"].as_str(), Some(&*wanted), "{text}");
        assert!(stderr.contains("4 days") && stderr.contains(&wanted), "{stderr}");
        assert!(text.contains("# current = \"production\" # as given"), "{text}");
        let args = ["init", "train.parquet", "production/", "-o", "fleets/a.toml"];
        let (_, stderr) = said(folder, &args);
        let (doctor, _) = said(folder, &["doctor", "fleets/a.toml"]);
        let yesterday_rows = files.len() * 2001;
        assert!(doctor.contains(&format!("3000 and {yesterday_rows} rows")), "{wanted}: {doctor}");
        // The command that it names sweeps the newest day.
        let command = stderr.lines().find(|line| line.starts_with("  driftsweep")).unwrap();
        let command = command.split('#').next().unwrap();
        let mut command: Vec<&str> = command.split_whitespace().skip(1).collect();
        command.extend(["--format", "json"]);
        let report: Value = serde_json::from_str(&said(folder, &command).0).unwrap();
        assert_eq!(report["models"][0]["rows"]["current"], files.len() * 2000, "{wanted}");
        assert_eq!(report["models"][0]["features"].as_array().unwrap().len(), 2, "{wanted}");
        // The day itself, and the pattern with {day}, lead to the same.
        let end = wanted.rfind('}').unwrap();
        let one = wanted[end..].find('/').map_or_else(
            || format!("production/{}", files[0].replace("DAY", &day(today))),
            |_| format!("production/{}/", files[0].split('/').next().unwrap().replace("DAY", &day(today))),
        );
        if !wanted.contains('*') {
            let (text, _) = said(folder, &["init", "train.parquet", &one]);
            assert_eq!(model(&text)["current"].as_str(), Some(&*wanted), "{one}");
        }
        let (text, _) = said(folder, &["init", "train.parquet", &wanted]);
        assert_eq!(model(&text)["current"].as_str(), Some(&*wanted));
        assert!(!text.contains("as it was given"), "{text}");
    }
}

#[test]
fn a_path_that_may_not_be_one_a_day_stays_as_it_was_given_and_that_is_said() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    write(&folder.join("train.parquet"), 3000);
    for file in ["plain/a.parquet", "some/2026-11-23.parquet", "some/rest.parquet", "two/a-2026-11-23.parquet"] {
        write(&folder.join(file), 1000);
    }
    for file in ["two/b-2026-11-23.parquet", "range/2026-11-01_2026-11-30.parquet", "hours/2026-11-23T05.parquet"] {
        write(&folder.join(file), 1000);
    }
    for (current, words) in [
        ("plain/", ""),
        ("plain/a.parquet", ""),
        ("some/", "some of its files name a day, others do not"),
        ("two/", "in several ways"),
        ("range/", "names several days"),
        ("range/2026-11-01_2026-11-30.parquet", "names several days"),
        ("hours/", "a time of day"),
    ] {
        let (text, stderr) = said(folder, &["init", "train.parquet", current]);
        assert_eq!(model(&text)["current"].as_str(), Some(current), "{text}");
        assert!(stderr.contains(words) && stderr.is_empty() == words.is_empty(), "{current}: {stderr}");
    }
    refused(folder, &["init", "train.parquet", "none/date={day}/"], 3, "none/date={day}/");
    refused(folder, &["init", "train.parquet", "some/{day:%!}"], 2, "{day:%Y/%m/%d}");
    refused(folder, &["init", "train.parquet", "none/"], 3, "none/");
}

#[test]
fn a_model_is_added_to_a_fleet_file_of_which_everything_stays() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    for name in ["a.parquet", "b.parquet", "other/c.parquet"] {
        write(&folder.join(name), 3000);
    }
    let first = "# Of the whole fleet.\nsweep = \"0 2 * * *\"   # at night\n\n[defaults.thresholds]\npsi = 0.3\n\n\
                 [[model]]\nname = 'one'   # the first\nbaseline = \"../a.parquet\"\ncurrent = \"../b.parquet\"";
    fs::create_dir(folder.join("fleets")).unwrap();
    let file = folder.join("fleets/fleet.toml");
    fs::write(&file, first).unwrap();
    let add = |name: &'static str| ["init", "a.parquet", "other/", "--name", name, "--append", "fleets/fleet.toml"];
    let (stdout, stderr) = said(folder, &add("two"));
    assert!(stdout.is_empty() && stderr.contains("added model 'two'"), "{stderr}");
    said(folder, &add("three"));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&format!("{first}\n\n[[model]]\nname = \"two\"\n")), "{text}");
    assert!(text.contains("current = \"../other/\"") && !text.contains(folder.to_str().unwrap()), "{text}");
    let (report, _) = said(folder, &["sweep", "fleets/fleet.toml", "--format", "json", "--no-state"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["summary"]["models"], 3);
    said(folder, &["doctor", "fleets/fleet.toml"]);

    refused(folder, &add("two"), 2, "a model 'two' already");
    refused(folder, &add(""), 4, "a model needs a name");
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "a refusal leaves the file as it was");
    // A file that is not a fleet file is not made worse, and one that is not there is made.
    fs::write(folder.join("wrong.toml"), "[[model]\n").unwrap();
    refused(folder, &["init", "a.parquet", "b.parquet", "--append", "wrong.toml"], 4, "wrong.toml");
    said(folder, &["init", "a.parquet", "b.parquet", "--append", "new.toml"]);
    said(folder, &["doctor", "new.toml"]);
    // Line ends, and a list of models in one value.
    fs::write(folder.join("crlf.toml"), first.replace('\n', "\r\n").replace("../", "")).unwrap();
    said(folder, &["init", "a.parquet", "b.parquet", "--append", "crlf.toml"]);
    let crlf = fs::read_to_string(folder.join("crlf.toml")).unwrap();
    assert_eq!(crlf.matches('\n').count(), crlf.matches("\r\n").count());
    let inline = "model = [{ name = \"one\", baseline = \"a.parquet\", current = \"b.parquet\" }]\n";
    fs::write(folder.join("inline.toml"), inline).unwrap();
    refused(folder, &["init", "a.parquet", "b.parquet", "--append", "inline.toml"], 4, "inline.toml");
    assert_eq!(fs::read_to_string(folder.join("inline.toml")).unwrap(), inline);
}

/// How `init` takes a column: left out as a role, or a feature; with what is written beside it.
fn taken(text: &str, column: &str) -> String {
    let excluded = format!("  \"{column}\", # ");
    let feature = format!("#   {column}: ");
    let line = text.lines().find_map(|line| match line.strip_prefix(&excluded) {
        Some(reason) => Some(format!("out: {reason}")),
        None => line.strip_prefix(&feature).map(|reason| format!("in: {reason}")),
    });
    line.unwrap_or_else(|| panic!("{column} is not in {text}"))
}

/// A CSV of columns by row.
type Cell<'a> = (&'a str, &'a dyn Fn(usize) -> String);

fn table(path: &Path, rows: usize, columns: &[Cell<'_>]) {
    let mut text = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",") + "\n";
    for row in 0..rows {
        let cells: Vec<String> = columns.iter().map(|(_, of)| of(row)).collect();
        writeln!(text, "{}", cells.join(",")).unwrap();
    }
    fs::write(path, text).unwrap();
}

#[test]
fn a_name_alone_leaves_no_column_out() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let among = |n: usize| move |row: usize| (row * 11 % n).to_string();
    let number = |from: f64, to: f64| move |row: usize| format!("{:.4}", from + (to - from) * spread(row));
    let unique = |row: usize| format!("c-{row}x{}", row * 31);
    let scrambled = |row: usize| (row * 7919 % 5003 + 5_000_000).to_string();
    let columns: [Cell<'_>; 26] = [
        // Features, whatever their names say.
        ("class", &among(3)),
        ("ticket_class", &among(3)),
        ("outcome", &among(7)),
        ("y", &number(-3.0, 3.0)),
        ("score", &number(0.0, 100.0)),
        ("credit_score", &number(300.0, 850.0)),
        ("risk_score", &number(0.0, 1.0)),
        ("probability_of_rain", &number(0.0, 1.0)),
        ("key", &among(12)),
        ("index", &number(90.0, 110.0)),
        ("grid_id", &among(40)),
        ("target_price", &number(5.0, 50.0)),
        ("actual_weight", &number(5.0, 50.0)),
        ("label_color", &among(5)),
        ("predicted_delivery_days", &among(9)),
        ("amount", &|row| (row * 7919 % 100_003 * 977).to_string()),
        // What their values agree with.
        ("customer_id", &unique),
        ("requestId", &scrambled),
        ("row_no", &|row| (row * 3 + 17).to_string()),
        ("free_text", &|row| format!("text {}", row * 17)),
        ("event_day", &|row| format!("2026-11-{:02}", row % 28 + 1)),
        ("date", &|row| (20_261_101 + row % 28).to_string()),
        ("y_true", &among(2)),
        ("y_pred", &|row| (row * 7 % 2).to_string()),
        ("pred_proba", &number(0.0, 1.0)),
        ("Unnamed: 0", &|row| row.to_string()),
    ];
    table(&folder.join("train.csv"), 3000, &columns);
    table(&folder.join("prod.csv"), 2000, &columns);
    let (text, _) = said(folder, &["init", "train.csv", "prod.csv"]);
    let doubt = "add it to `exclude` if it is";
    for (column, wanted, doubted) in [
        ("class", "in", true),
        ("ticket_class", "in", false),
        ("outcome", "in", true),
        ("y", "in", true),
        ("score", "in", true),
        ("credit_score", "in", true),
        ("risk_score", "in", true),
        ("probability_of_rain", "in", true),
        ("key", "in", true),
        ("index", "in", false),
        ("grid_id", "in", true),
        ("target_price", "in", true),
        ("actual_weight", "in", false),
        ("label_color", "in", true),
        ("predicted_delivery_days", "in", true),
        ("amount", "in", true),
        ("customer_id", "out: identifier: by its name, and 100 %", false),
        ("requestId", "out: identifier: by its name", false),
        ("row_no", "out: identifier: every number is larger", false),
        ("free_text", "out: identifier: nearly every text is different", false),
        ("event_day", "out: time", false),
        ("date", "out: time", false),
        ("y_true", "out: label: by its name, and it has 2 values", false),
        ("y_pred", "out: prediction: by its name, and it has the values of y_true", false),
        ("pred_proba", "out: prediction (score): by its name, and its values lie between 0 and 1", false),
        ("Unnamed: 0", "out: identifier: the row index", false),
    ] {
        let found = taken(&text, column);
        assert!(found.starts_with(wanted) && found.contains(doubt) == doubted, "{column}: {found}");
    }
    // A label is also what the current snapshot lacks; something else it lacks is left out with a word of warning.
    let lacks: Vec<Cell<'_>> =
        columns.iter().filter(|(name, _)| !["class", "amount"].contains(name)).copied().collect();
    table(&folder.join("lacks.csv"), 2000, &lacks);
    let (text, _) = said(folder, &["init", "train.csv", "lacks.csv"]);
    assert!(taken(&text, "class").starts_with("out: label: the current snapshot lacks it"), "{text}");
    assert!(taken(&text, "amount").starts_with("out: not in the current snapshot: if the model sees it"), "{text}");
    // Two values, and the name, are enough for a label.
    table(&folder.join("two.csv"), 2000, &[("outcome", &among(2)), ("x", &number(0.0, 1.0))]);
    let (text, _) = said(folder, &["init", "two.csv", "two.csv"]);
    assert!(taken(&text, "outcome").starts_with("out: label: by its name"), "{text}");
}

#[test]
fn the_columns_of_real_data_are_taken_for_what_they_are() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| dataset(name).display().to_string();
    let (text, _) = said(
        folder.path(),
        &["init", &path("nycflights13/flights-2013-01.parquet"), &path("nycflights13/flights-2013-02.parquet")],
    );
    let left_out: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  \"")).collect();
    assert!(left_out.len() == 1 && left_out[0].starts_with("time_hour\""), "{text}");
    let (text, _) = said(
        folder.path(),
        &["init", &path("nycflights13/weather-2013-01.parquet"), &path("nycflights13/weather-2013-02.parquet")],
    );
    assert_eq!(text.lines().filter(|line| line.starts_with("  \"")).count(), 1, "{text}");

    // Predictions whose labels come in a table of their own, later.
    let args = ["init", &path("car_loan/reference.parquet"), &path("car_loan/production.parquet"), "-o", "fleet.toml"];
    said(folder.path(), &args);
    let text = fs::read_to_string(folder.path().join("fleet.toml")).unwrap();
    for (column, role) in [
        ("id", "out: identifier"),
        ("timestamp", "out: time"),
        ("repaid", "out: label"),
        ("y_pred", "out: prediction: "),
        ("y_pred_proba", "out: prediction (score)"),
        ("repaid_loan_on_prev_car", "in: boolean"),
        ("car_value", "in: float64"),
    ] {
        assert!(taken(&text, column).starts_with(role), "{text}");
    }
    let (head, block) = text.split_once("# [model.labels]\n").unwrap();
    let uncommented: String = block.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let labels = path("car_loan/production_labels.parquet");
    let uncommented = uncommented.replace("labels/*.parquet", &labels);
    fs::write(folder.path().join("fleet.toml"), format!("{head}[model.labels]\n{uncommented}")).unwrap();
    said(folder.path(), &["doctor", "fleet.toml"]);
    let (ticked, _) = said(folder.path(), &["tick", "fleet.toml", "--now", "2019-08-28", "--format", "json"]);
    let ticked: Value = serde_json::from_str(&ticked).unwrap();
    assert_eq!(ticked["status"]["failures"].as_object().unwrap().len(), 0, "{ticked}");
    let (explained, _) = said(folder.path(), &["explain", "model", "fleet.toml"]);
    assert!(explained.contains("accuracy") && explained.contains("with a label"), "{explained}");
}

#[test]
fn predictions_of_every_day_have_labels_in_a_block_that_loads() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let answers: Arc<[String]> = ["no".to_owned(), "yes".to_owned()].into();
    let write = |name: String, names: &[&str]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let rows = 3000;
        let codes = |times: u32| (0..rows as u32).map(|row| Some(row * times % 3 % 2)).collect();
        let columns = [
            ("x", CellType::Float, Cells::Float((0..rows).map(|row| Some(spread(row))).collect())),
            ("id", CellType::Signed, Cells::Signed((0..rows as i64).map(Some).collect())),
            ("at", CellType::Time, Cells::Time((0..rows as i64).map(|row| row * 1_000_000).collect())),
            ("prediction", CellType::Text, Cells::Names(codes(1), answers.clone())),
            ("paid", CellType::Text, Cells::Names(codes(2), answers.clone())),
        ];
        let columns: Vec<_> = columns.into_iter().filter(|column| names.contains(&column.0)).collect();
        let types: Vec<(&str, CellType)> = columns.iter().map(|column| (column.0, column.1)).collect();
        let mut writer = TableWriter::new(fs::File::create(path).unwrap(), &types).unwrap();
        writer.write(rows, columns.into_iter().map(|column| column.2).collect::<Vec<_>>()).unwrap();
        writer.finish().unwrap();
    };
    write("train.parquet".into(), &["x", "id", "at", "prediction", "paid"]);
    write("labels.parquet".into(), &["id", "paid"]);
    for back in 0..3 {
        let day = today.checked_sub(i64::from(back).days()).unwrap();
        write(format!("prod/date={day}/x.parquet"), &["x", "id", "at", "prediction"]);
    }
    let (text, _) = said(folder, &["init", "train.parquet", "prod/"]);
    let (head, block) = text.split_once("# [model.labels]\n").unwrap_or_else(|| panic!("{text}"));
    for line in ["# predictions = \"prod/date=*/\"", "# id = \"id\"", "# time = \"at\"", "# label = \"paid\""] {
        assert!(block.contains(line), "{line}: {text}");
    }
    let uncommented: String = block.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let uncommented = uncommented.replace("labels/*.parquet", "labels.parquet");
    fs::write(folder.join("fleet.toml"), format!("{head}[model.labels]\n{uncommented}")).unwrap();
    said(folder, &["doctor", "fleet.toml"]);
}

#[test]
fn columns_with_odd_names_make_a_file_that_loads() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let names = [
        "it's",
        "a \"b\"",
        "line\nbreak",
        "a.b",
        "größe",
        "日本",
        " ends in blanks  ",
        "tab\t",
        "#hash",
        "[x]",
        "a,b",
        "\\",
        "\u{202E}rtl",
        "=",
        "null\u{7f}",
        "'''",
        "\"\"\"",
        "__index_level_0__",
    ];
    let columns = |ids: bool| {
        names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let values: Vec<String> = (0..2000)
                    .map(|row| if ids { format!("{name}-{row}") } else { (row % (i + 2)).to_string() })
                    .collect();
                Series::new((*name).into(), values).into_column()
            })
            .chain([Series::new("plain".into(), (0..2000).map(spread).collect::<Vec<_>>()).into_column()])
            .collect::<Vec<_>>()
    };
    // As features, and then as identifiers, all of which are left out by name.
    for (ids, features) in [(false, names.len()), (true, 1)] {
        let mut frame = DataFrame::new_infer_height(columns(ids)).unwrap();
        for name in ["train.parquet", "prod.parquet"] {
            write_parquet(&mut frame, &folder.join(name), 500);
        }
        let args = ["init", "train.parquet", "prod.parquet", "--name", "it's\n\"x\".y ", "-o", "f.toml", "--force"];
        said(folder, &args);
        let text = fs::read_to_string(folder.join("f.toml")).unwrap();
        let table = model(&text);
        let excluded: Vec<&str> =
            table["exclude"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(excluded.len() + features, names.len() + 1, "{text}");
        // Each on a line of its own, with the reason beside it.
        assert_eq!(
            text.lines().filter(|line| line.starts_with("  \"") && line.contains(", # ")).count(),
            excluded.len()
        );
        said(folder, &["doctor", "f.toml"]);
        let (report, _) = said(folder, &["sweep", "f.toml", "--format", "json", "--no-state"]);
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["models"][0]["model"], "it's\n\"x\".y ");
        assert_eq!(report["models"][0]["features"].as_array().unwrap().len(), features);
    }
}
