//! Boosted trees: what they learn, their bytes, and that XGBoost predicts the same from them.
#![cfg(feature = "boosting")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test that cannot go on has failed.

mod common;

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;

use common::{Random, auc, planted};
use driftsweep_trainers::boosting::{BatchModel, BatchTrainer};
use driftsweep_trainers::{
    BatchSettings, Categories, Column, Error, FitOptions, Fitted, Model, Objective, OnlineSettings, Position, Settings,
    Table, Target, Trainer, load,
};
use serde_json::{Value, json};

fn small() -> BatchSettings {
    BatchSettings { rounds: 20, depth: 4, learning_rate: 0.3, early_stopping_share: 0.0, ..BatchSettings::default() }
}

fn fit(settings: &BatchSettings, table: &Table, target: &Target) -> Fitted {
    BatchTrainer::new(settings.clone()).unwrap().fit(table, target, &FitOptions::default()).unwrap()
}

fn refused(table: &Table, target: &Target) -> String {
    let trainer = BatchTrainer::new(small()).unwrap();
    trainer.fit(table, target, &FitOptions::default()).err().unwrap().to_string()
}

fn numbers(values: &[f64]) -> Table {
    Table::new([("a".to_owned(), Column::Numbers(values.to_vec()))]).unwrap()
}

#[test]
fn a_rule_that_no_single_column_tells_is_learned() {
    let (table, target) = planted(3000, 1, Objective::Binary);
    let (test, truth) = planted(2000, 2, Objective::Binary);
    let model = fit(&small(), &table, &target).model;
    let found = auc(&model.predict(&test).unwrap(), truth.values());
    let online = Settings::Online(OnlineSettings::default()).trainer().unwrap();
    let linear = online.fit(&table, &target, &FitOptions::default()).unwrap().model.predict(&test).unwrap();
    let linear = auc(&linear, truth.values());
    assert!(found > 0.92 && linear < 0.80, "{found} {linear}");
}

#[test]
fn a_number_is_predicted_within_its_noise() {
    let (table, target) = planted(3000, 1, Objective::Regression);
    let (test, truth) = planted(1000, 2, Objective::Regression);
    let predictions = fit(&BatchSettings { rounds: 60, ..small() }, &table, &target).model.predict(&test).unwrap();
    let errors = predictions.iter().zip(truth.values()).map(|(p, t)| (p - t).powi(2));
    let error = (errors.sum::<f64>() / 1000.0).sqrt();
    let mean = truth.values().iter().sum::<f64>() / 1000.0;
    let spread = (truth.values().iter().map(|t| (t - mean).powi(2)).sum::<f64>() / 1000.0).sqrt();
    // A twentieth of rows lacks its city, which is worth up to 20.
    assert!(error < 0.25 * spread, "{error} {spread}");
}

#[test]
fn that_a_value_is_missing_is_learned() {
    // Numbers say nothing, and of those that are missing all are positive.
    let values: Vec<f64> = (0..600).map(|i| if i % 3 == 0 { f64::NAN } else { (i * 37 % 101) as f64 }).collect();
    let labels = values.iter().map(|value| f64::from(u8::from(value.is_nan()))).collect();
    let model = fit(&small(), &numbers(&values), &Target::new(Objective::Binary, labels).unwrap()).model;
    let found = model.predict(&numbers(&[f64::NAN, 0.0, 50.0, 100.0])).unwrap();
    assert!(found[0] > 0.95 && found[1..].iter().all(|p| *p < 0.05), "{found:?}");
}

#[test]
fn categories_are_told_apart_in_sets_and_unknown_ones_are_missing() {
    // Of twelve categories every second is positive; no order of names tells which, but a set does.
    let names: Vec<Option<String>> = (0..600).map(|i| Some(format!("c{:02}", i % 12))).collect();
    let labels = (0..600).map(|i| f64::from(i % 2)).collect();
    let table = |rows: &[Option<String>]| {
        Table::new([("c".to_owned(), Column::Categories(Categories::from_rows(rows)))]).unwrap()
    };
    let settings = BatchSettings { rounds: 30, depth: 1, ..small() };
    let model = fit(&settings, &table(&names), &Target::new(Objective::Binary, labels).unwrap()).model;
    let found = model.predict(&table(&names[..12])).unwrap();
    // One split of a depth of 1 is enough.
    assert!(found.iter().enumerate().all(|(i, p)| if i % 2 == 1 { *p > 0.95 } else { *p < 0.05 }), "{found:?}");
    let unknown = model.predict(&table(&[Some("new".into()), None])).unwrap();
    assert_eq!(unknown[0], unknown[1]);
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    let (table, target) = planted(30_000, 3, Objective::Binary);
    let settings = BatchSettings { rounds: 8, depth: 6, subsample: 0.8, early_stopping_share: 0.1, ..small() };
    let trainer = BatchTrainer::new(settings).unwrap();
    let bytes = [1, 2, 8].map(|threads| {
        let options = FitOptions { threads: NonZeroUsize::new(threads).unwrap(), ..FitOptions::default() };
        trainer.fit(&table, &target, &options).unwrap().model.to_bytes().unwrap()
    });
    assert!(bytes[0] == bytes[1] && bytes[0] == bytes[2]);
}

#[test]
fn bytes_and_predictions_survive_a_round_trip() {
    for objective in [Objective::Binary, Objective::Regression] {
        let (table, target) = planted(800, 4, objective);
        let model = fit(&small(), &table, &target).model;
        let bytes = model.to_bytes().unwrap();
        let loaded = load(&bytes).unwrap();
        assert!(loaded.to_bytes().unwrap() == bytes);
        assert_eq!(loaded.objective(), objective);
        assert_eq!(loaded.predict(&table).unwrap(), model.predict(&table).unwrap());
    }
}

#[test]
fn right_children_follow_left_ones_as_xgboost_expects() {
    let (table, target) = planted(1500, 13, Objective::Binary);
    let bytes = fit(&small(), &table, &target).model.to_bytes().unwrap();
    let file: Value = serde_json::from_slice(&bytes).unwrap();
    let mut splits_of_categories = 0;
    for tree in file.pointer("/learner/gradient_booster/model/trees").unwrap().as_array().unwrap() {
        let list =
            |key: &str| tree[key].as_array().unwrap().iter().map(|node| node.as_i64().unwrap()).collect::<Vec<_>>();
        for (left, right) in list("left_children").into_iter().zip(list("right_children")) {
            assert!(right == left + 1 || (left, right) == (-1, -1), "{left} {right}");
        }
        splits_of_categories += list("categories_nodes").len();
    }
    assert!(splits_of_categories > 5, "{splits_of_categories}");
}

#[test]
fn bytes_do_not_depend_on_how_categories_are_numbered() {
    let (table, target) = planted(500, 5, Objective::Binary);
    let recoded = table.columns().map(|(name, column)| {
        let column = match column {
            Column::Numbers(_) => column.clone(),
            Column::Categories(c) => {
                // Backwards, and with one that no row has.
                let values = c.values().iter().rev().cloned().chain(["none".to_owned()]).collect();
                let last = c.values().len() as u32 - 1;
                let codes = c.codes().iter().map(|code| code.map(|code| last - code)).collect();
                Column::Categories(Categories::from_codes(values, codes).unwrap())
            }
        };
        (name.to_owned(), column)
    });
    let recoded = Table::new(recoded).unwrap();
    let [one, two] = [&table, &recoded].map(|table| fit(&small(), table, &target).model.to_bytes().unwrap());
    assert!(one == two);
}

#[test]
fn predictions_find_columns_by_name_and_refuse_those_that_lack_or_differ() {
    let (table, target) = planted(500, 6, Objective::Binary);
    let model = fit(&small(), &table, &target).model;
    let columns: Vec<(String, Column)> =
        table.columns().map(|(name, column)| (name.to_owned(), column.clone())).collect();
    let reversed = Table::new(columns.iter().rev().cloned()).unwrap();
    assert_eq!(model.predict(&reversed).unwrap(), model.predict(&table).unwrap());
    let lacks = Table::new(columns.iter().filter(|(name, _)| name != "x3").cloned()).unwrap();
    assert_eq!(model.predict(&lacks).unwrap_err(), Error::MissingColumn { name: "x3".into() });
    let other = columns.iter().map(|(name, column)| match name.as_str() {
        "city" => (name.clone(), Column::Numbers(vec![1.0; 500])),
        _ => (name.clone(), column.clone()),
    });
    let error = model.predict(&Table::new(other).unwrap()).unwrap_err().to_string();
    assert!(error.contains("\"city\" holds numbers"), "{error}");
    let empty = Table::new(columns.iter().map(|(name, column)| match column {
        Column::Numbers(_) => (name.clone(), Column::Numbers(Vec::new())),
        Column::Categories(_) => (name.clone(), Column::Categories(Categories::default())),
    }));
    assert_eq!(model.predict(&empty.unwrap()).unwrap(), Vec::<f64>::new());
}

#[test]
fn the_last_rows_say_how_many_rounds_and_all_rows_are_learned_from() {
    let (table, target) = planted(1500, 7, Objective::Binary);
    let stopping = BatchSettings {
        rounds: 500,
        learning_rate: 0.5,
        early_stopping_share: 0.2,
        early_stopping_rounds: 10,
        ..small()
    };
    let fitted = fit(&stopping, &table, &target);
    let rounds = fitted.report.rounds.unwrap();
    assert_eq!((fitted.report.learned, fitted.report.held_out), (1500, 300));
    assert!((2..100).contains(&rounds), "{rounds}");
    // Grown from the rows before, one round more or less is no better on the rows held out.
    let (train, labels) = (table.slice(0..1200), target.slice(0..1200));
    let (last, truth) = (table.slice(1200..1500), target.slice(1200..1500));
    let fixed = |rounds| BatchSettings { rounds, early_stopping_share: 0.0, ..stopping.clone() };
    let loss = |rounds| {
        let predictions = fit(&fixed(rounds), &train, &labels).model.predict(&last).unwrap();
        let of = |(p, label): (&f64, &f64)| -(if *label == 1.0 { *p } else { 1.0 - p }).ln();
        predictions.iter().zip(truth.values()).map(of).sum::<f64>()
    };
    assert!(loss(rounds) <= loss(rounds - 1) && loss(rounds) <= loss(rounds + 1));
    // So many rounds from all rows are the model.
    let whole = fit(&fixed(rounds), &table, &target).model;
    assert_eq!(whole.predict(&last).unwrap(), fitted.model.predict(&last).unwrap());
}

#[test]
fn what_cannot_be_learned_is_refused() {
    let labels = |values: &[f64]| Target::new(Objective::Binary, values.to_vec()).unwrap();
    assert!(refused(&numbers(&[1.0, 2.0]), &labels(&[1.0, 1.0])).contains("all 2 rows that are learned from are 1"));
    assert!(refused(&numbers(&[1.0, 1e39]), &labels(&[1.0, 0.0])).contains("column \"a\": row 1"));
    assert!(refused(&numbers(&[1.0, 2.0]), &labels(&[1.0])).contains("1 values, and the table 2 rows"));
    let large = Target::new(Objective::Regression, vec![1.0, 1e39]).unwrap();
    assert!(refused(&numbers(&[1.0, 2.0]), &large).contains("row 1 is beyond"));
    // One row, of which half would be held out, is learned from.
    let half = BatchSettings { early_stopping_share: 0.5, ..small() };
    let one = Target::new(Objective::Regression, vec![7.0]).unwrap();
    assert_eq!(fit(&half, &numbers(&[1.0]), &one).model.predict(&numbers(&[1.0])).unwrap(), [7.0]);
    let trainer = BatchTrainer::new(small()).unwrap();
    let state = FitOptions { state: Some(b""), ..FitOptions::default() };
    assert!(
        trainer.fit(&numbers(&[1.0, 2.0]), &labels(&[1.0, 0.0]), &state).err().unwrap().to_string().contains("state")
    );
    let order = [2, 1].map(|time| Position { time, id: String::new() });
    let order = FitOptions { positions: Some(&order), ..FitOptions::default() };
    assert!(
        trainer.fit(&numbers(&[1.0, 2.0]), &labels(&[1.0, 0.0]), &order).err().unwrap().to_string().contains("sort")
    );
}

#[test]
fn columns_without_values_are_learned_around() {
    let (table, target) = planted(300, 8, Objective::Binary);
    let empty = [
        ("nan".to_owned(), Column::Numbers(vec![f64::NAN; 300])),
        ("none".to_owned(), Column::Categories(Categories::from_rows::<&str>(&[None; 300]))),
    ];
    let columns = table.columns().map(|(name, column)| (name.to_owned(), column.clone()));
    let wider = Table::new(columns.chain(empty)).unwrap();
    let [narrow, wide] = [&table, &wider].map(|table| fit(&small(), table, &target).model.predict(table).unwrap());
    assert_eq!(narrow, wide);
}

#[test]
fn files_that_are_cut_or_of_others_are_refused() {
    let (table, target) = planted(200, 9, Objective::Binary);
    let bytes = fit(&small(), &table, &target).model.to_bytes().unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 50) {
        assert!(matches!(BatchModel::from_bytes(&bytes[..at]), Err(Error::Format { .. })), "cut at {at}");
    }
    let change = |pointer: &str, value: Value| {
        let mut file: Value = serde_json::from_slice(&bytes).unwrap();
        *file.pointer_mut(pointer).unwrap() = value;
        BatchModel::from_bytes(file.to_string().as_bytes()).unwrap_err().to_string()
    };
    assert!(change("/learner/attributes", json!({})).contains("no model of driftsweep"));
    let attribute = "/learner/attributes/driftsweep";
    assert!(change(attribute, json!(r#"{"format":"driftsweep-batch","version":9}"#)).contains("version 9"));
    assert!(change(attribute, json!(r#"{"format":"other","version":1}"#)).contains("\"other\""));
    assert!(change("/learner/gradient_booster/model/trees/0/split_conditions/0", json!(0.5)).contains("SHA-256"));
    let wanted = BatchModel::from_bytes(&bytes).unwrap().predict(&table).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 200) {
        let mut changed = bytes.clone();
        changed[at] = if changed[at] == b'9' { b'-' } else { b'9' };
        // The version of XGBoost's format is not read, and a digit may be beyond what a number holds.
        if let Ok(model) = BatchModel::from_bytes(&changed) {
            assert_eq!(model.predict(&table).unwrap(), wanted, "byte {at}");
        }
    }
}

/// Runs a script of tests/reference on JSON, and reads its predictions.
fn python(script: &str, folder: &Path, input: &Value) -> Vec<f64> {
    let python = std::env::var_os("DRIFTSWEEP_TEST_PYTHON").expect("the path of a Python with xgboost 3.2");
    std::fs::write(folder.join("input.json"), input.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(script);
    let output = Command::new(python).arg(script).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The rows of a table, missing values as null.
fn as_json(table: &Table) -> Value {
    let column = |(name, column): (&str, &Column)| {
        let values: Vec<Value> = match column {
            Column::Numbers(values) => values.iter().map(|value| json!(value)).collect(),
            Column::Categories(c) => {
                c.codes().iter().map(|code| json!(code.map(|code| &c.values()[code as usize]))).collect()
            }
        };
        (name.to_owned(), Value::from(values))
    };
    table.columns().map(column).collect::<serde_json::Map<_, _>>().into()
}

/// On request, as it needs Python with xgboost 3.2 and numpy:
/// `DRIFTSWEEP_TEST_PYTHON=/path/to/python cargo test -p driftsweep-trainers --features boosting -- --ignored`
#[test]
#[ignore = "needs DRIFTSWEEP_TEST_PYTHON, a Python with xgboost"]
fn xgboost_predicts_the_same_from_the_file() {
    for objective in [Objective::Binary, Objective::Regression] {
        let (few, target) = planted(20_000, 10, objective);
        // Many categories, some of which are not in the training.
        let mut random = Random(11);
        let mut id = || (random.next() > 0.1).then(|| format!("id {}", (random.next().powi(2) * 2000.0) as u32));
        let ids: Vec<Option<String>> = (0..20_000).map(|_| id()).collect();
        let ids = ("id".to_owned(), Column::Categories(Categories::from_rows(&ids)));
        let many = few.columns().map(|(name, column)| (name.to_owned(), column.clone())).chain([ids]);
        let many = Table::new(many).unwrap();
        let forest = BatchSettings { depth: 9, rounds: 100, early_stopping_share: 0.0, ..BatchSettings::default() };
        for (table, settings) in [
            (&few, BatchSettings::default()),
            (&few, BatchSettings { subsample: 0.7, rounds: 50, depth: 3, ..BatchSettings::default() }),
            (&many, forest),
        ] {
            let (train, test) = (table.slice(0..15_000), table.slice(10_000..20_000));
            let model = fit(&settings, &train, &target.slice(0..15_000)).model;
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("model.json"), model.to_bytes().unwrap()).unwrap();
            let theirs = python("xgboost_predict.py", folder.path(), &as_json(&test));
            let ours = model.predict(&test).unwrap();
            assert_eq!(theirs.len(), ours.len());
            let differs = |(a, b): (&f64, &f64)| (a - b).abs() / a.abs().max(1.0);
            let largest = ours.iter().zip(&theirs).map(differs).fold(0.0, f64::max);
            assert!(largest < 1e-6, "{objective:?} {settings:?}: {largest}");
        }
    }
}

/// On request, as the test before.
#[test]
#[ignore = "needs DRIFTSWEEP_TEST_PYTHON, a Python with xgboost"]
fn xgboost_learns_the_same_from_the_rows() {
    for objective in [Objective::Binary, Objective::Regression] {
        let (table, target) = planted(4000, 12, objective);
        // Numbers with less than 256 distinct values: others are cut at other places.
        let coarse = table.columns().map(|(name, column)| match column {
            Column::Numbers(values) => {
                let values = values.iter().map(|value| (value * 25.0).round() / 25.0).collect();
                (name.to_owned(), Column::Numbers(values))
            }
            Column::Categories(_) => (name.to_owned(), column.clone()),
        });
        let table = Table::new(coarse).unwrap();
        let settings = BatchSettings { early_stopping_share: 0.0, rounds: 60, ..BatchSettings::default() };
        let trainer = Settings::Batch(settings).trainer().unwrap();
        let ours = trainer.fit(&table, &target, &FitOptions::default()).unwrap().model.predict(&table).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let input =
            json!({ "objective": objective, "columns": as_json(&table), "target": target.values(), "rounds": 60 });
        let theirs = python("xgboost_train.py", folder.path(), &input);
        let differs = |(a, b): (&f64, &f64)| (a - b).abs() / a.abs().max(1.0);
        let largest = ours.iter().zip(&theirs).map(differs).fold(0.0, f64::max);
        assert!(largest < 1e-6, "{objective:?}: {largest}");
    }
}
