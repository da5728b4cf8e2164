//! The online learner against river and McMahan's algorithm, and what its state promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test that cannot go on has failed.

use driftsweep_trainers::online::{OnlineModel, OnlineTrainer};
use driftsweep_trainers::{
    AdaGradSettings, Categories, Column, Error, FitOptions, FtrlSettings, Model, Objective, OnlineSettings, Optimizer,
    Position, SgdSettings, Table, Target, Trainer,
};

const ROWS: usize = 240;

/// The rows of tests/reference/online.py: two numbers, the second of which is sometimes missing, and a category.
fn rows(range: std::ops::Range<usize>) -> Table {
    let a = range.clone().map(|i| (i * 37 % 101) as f64 / 10.0).collect();
    let b = |i: usize| if i % 7 == 3 { f64::NAN } else { (i * 53 % 97) as f64 / 97.0 - 0.25 };
    let c: Vec<_> = range.clone().map(|i| Some(["x", "y", "z"][i * i % 3])).collect();
    let columns = [
        ("a", Column::Numbers(a)),
        ("b", Column::Numbers(range.map(b).collect())),
        ("c", Column::Categories(Categories::from_rows(&c))),
    ];
    Table::new(columns.map(|(name, column)| (name.to_owned(), column))).unwrap()
}

fn target(range: std::ops::Range<usize>, objective: Objective) -> Target {
    let value = |i: usize| {
        let b = if i % 7 == 3 { 0.5 } else { (i * 53 % 97) as f64 / 97.0 - 0.25 };
        let c = if (i * i).is_multiple_of(3) { 1.5 } else { 0.0 };
        let value = 0.4 * ((i * 37 % 101) as f64 / 10.0) - 3.0 * b + c + (i * 29 % 31) as f64 / 31.0;
        match objective {
            Objective::Binary => f64::from(u8::from(value > 2.5)),
            Objective::Regression => value * 10.0 + 40.0,
        }
    };
    Target::new(objective, range.map(value).collect()).unwrap()
}

fn positions(range: std::ops::Range<usize>) -> Vec<Position> {
    // Three rows have the same time.
    range.map(|i| Position { time: i as i64 / 3, id: format!("row-{i:04}") }).collect()
}

fn sgd(learning_rate: f64, power: f64, l2: f64) -> Optimizer {
    Optimizer::Sgd(SgdSettings { learning_rate, power, l2 })
}

fn adagrad(learning_rate: f64, l2: f64) -> Optimizer {
    Optimizer::AdaGrad(AdaGradSettings { learning_rate, l2, ..AdaGradSettings::default() })
}

fn ftrl(alpha: f64, beta: f64, l1: f64, l2: f64) -> Optimizer {
    Optimizer::Ftrl(FtrlSettings { alpha, beta, l1, l2 })
}

fn settings(optimizer: Optimizer, standardize: bool) -> OnlineSettings {
    OnlineSettings { optimizer, standardize, standardize_target: false, ..OnlineSettings::default() }
}

fn fit(settings: &OnlineSettings, range: std::ops::Range<usize>, objective: Objective) -> Box<dyn Model> {
    let trainer = OnlineTrainer::new(settings.clone()).unwrap();
    trainer.fit(&rows(range.clone()), &target(range, objective), &FitOptions::default()).unwrap().model
}

fn agrees(settings: &OnlineSettings, objective: Objective, wanted: [f64; 4]) {
    let found = fit(settings, 0..ROWS, objective).predict(&rows(0..4)).unwrap();
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() <= 1e-12 * wanted.abs().max(1.0), "{settings:?}: {found} {wanted}");
    }
}

#[test]
fn logistic_regression_agrees_with_river() {
    let binary = |settings: OnlineSettings, wanted| agrees(&settings, Objective::Binary, wanted);
    // logistic(SGD(0.05))
    binary(
        settings(sgd(0.05, 0.0, 0.0), false),
        [0.5023878890204952, 0.19708118884984643, 0.3771951461269752, 0.48771696645504914],
    );
    // scaler | logistic(SGD(0.05))
    binary(
        settings(sgd(0.05, 0.0, 0.0), true),
        [0.4854213690168765, 0.15110651599811886, 0.8305908463043528, 0.1919827489973213],
    );
    // scaler | logistic(SGD(Inverse(0.5, 0.5)), l2=0.01, intercept_lr=0.1)
    binary(
        OnlineSettings { intercept_learning_rate: 0.1, ..settings(sgd(0.5, 0.5, 0.01), true) },
        [0.40480211808474226, 0.13872478032268226, 0.834228510692915, 0.1451265399116044],
    );
    // logistic(Ada(0.1))
    binary(
        settings(adagrad(0.1, 0.0), false),
        [0.5117565474051736, 0.33285153138708057, 0.5646551226601776, 0.49584647408554144],
    );
    // scaler | logistic(Ada(0.1), l2=0.05)
    binary(
        settings(adagrad(0.1, 0.05), true),
        [0.45267092008592286, 0.23946888069936487, 0.7360227778261462, 0.26328255936425066],
    );
}

#[test]
fn linear_regression_agrees_with_river() {
    let regression = |settings: OnlineSettings, wanted| agrees(&settings, Objective::Regression, wanted);
    // linear(SGD(0.005))
    regression(
        settings(sgd(0.005, 0.0, 0.0), false),
        [39.778851974210795, 51.52562112926795, 73.45927842093711, 44.7353958162041],
    );
    // scaler | linear(SGD(0.02), l2=0.1, clip_gradient=20)
    regression(
        OnlineSettings { clip_gradient: 20.0, ..settings(sgd(0.02, 0.0, 0.1), true) },
        [56.215202776901634, 51.39494312216935, 77.1367094668239, 46.69987556637032],
    );
    // scaler | linear(Ada(0.5))
    regression(
        settings(adagrad(0.5, 0.0), true),
        [56.97260136935642, 58.393202449171696, 66.51119080342052, 55.9306523272239],
    );
    // scaler | target scaler(linear(Ada(0.1)))
    regression(
        OnlineSettings { standardize_target: true, ..settings(adagrad(0.1, 0.0), true) },
        [66.16929902129864, 50.37154102264293, 78.74769552608883, 55.1943833066977],
    );
}

#[test]
fn ftrl_agrees_with_the_algorithm_of_its_paper() {
    // FTRL(0.1, 1, 0, 0)
    agrees(
        &settings(ftrl(0.1, 1.0, 0.0, 0.0), false),
        Objective::Binary,
        [0.44676990894892804, 0.34475147317373833, 0.544108051969758, 0.4519531562840765],
    );
    // scaler | FTRL(0.3, 0.5, 0.8, 2)
    agrees(
        &settings(ftrl(0.3, 0.5, 0.8, 2.0), true),
        Objective::Binary,
        [0.48360255672489605, 0.11119408071500742, 0.8550584590015129, 0.15700503465784146],
    );
    // scaler | linear FTRL(2, 1, 0.5, 0.1)
    agrees(
        &settings(ftrl(2.0, 1.0, 0.5, 0.1), true),
        Objective::Regression,
        [48.43793295476819, 50.79192156319236, 71.7281054589272, 43.663266438132084],
    );
}

#[test]
fn a_great_l1_penalty_leaves_no_weights() {
    let model = fit(&settings(ftrl(0.1, 1.0, 1e6, 0.0), true), 0..ROWS, Objective::Binary);
    let predictions = model.predict(&rows(0..20)).unwrap();
    assert!(predictions.iter().all(|p| *p == predictions[0] && *p != 0.5), "the intercept alone: {predictions:?}");
}

#[test]
fn learning_in_parts_gives_the_bytes_of_learning_at_once() {
    for optimizer in [sgd(0.05, 0.5, 0.01), adagrad(0.1, 0.01), ftrl(0.1, 1.0, 0.1, 0.1)] {
        for objective in [Objective::Binary, Objective::Regression] {
            let settings = OnlineSettings {
                missing_indicator: true,
                standardize_target: true,
                ..settings(optimizer.clone(), true)
            };
            let trainer = OnlineTrainer::new(settings).unwrap();
            let learn = |range: std::ops::Range<usize>, state: Option<&[u8]>| {
                let positions = positions(range.clone());
                let options = FitOptions { positions: Some(&positions), state, ..FitOptions::default() };
                let fitted = trainer.fit(&rows(range.clone()), &target(range, objective), &options).unwrap();
                fitted.model.to_bytes().unwrap()
            };
            let at_once = learn(0..ROWS, None);
            for cut in [1, 2, 100, ROWS - 1] {
                assert!(learn(cut..ROWS, Some(&learn(0..cut, None))) == at_once, "{optimizer:?} {objective:?} {cut}");
            }
            let loaded = OnlineModel::from_bytes(&at_once).unwrap();
            assert_eq!(loaded.to_bytes().unwrap(), at_once);
            assert_eq!((loaded.learned(), loaded.last()), (ROWS as u64, positions(0..ROWS).last()));
        }
    }
}

#[test]
fn an_example_that_comes_again_is_skipped_and_counted() {
    let trainer = OnlineTrainer::new(OnlineSettings::default()).unwrap();
    let learn = |range: std::ops::Range<usize>, state: Option<&[u8]>| {
        let positions = positions(range.clone());
        let options = FitOptions { positions: Some(&positions), state, ..FitOptions::default() };
        let fitted = trainer.fit(&rows(range.clone()), &target(range, Objective::Binary), &options).unwrap();
        (fitted.model.to_bytes().unwrap(), fitted.report.learned, fitted.report.skipped)
    };
    let (first, learned, skipped) = learn(0..100, None);
    assert_eq!((learned, skipped), (100, 0));
    // The same rows again, and rows of which forty are new.
    assert_eq!(learn(0..100, Some(&first)), (first.clone(), 0, 100));
    let (overlap, learned, skipped) = learn(50..140, Some(&first));
    assert_eq!((learned, skipped), (40, 50));
    assert!(overlap == learn(0..140, None).0);
    // Twice in one call.
    let order: Vec<Position> = vec![positions(0..1)[0].clone(); 2];
    let options = FitOptions { positions: Some(&order), ..FitOptions::default() };
    let report = trainer.fit(&rows(0..2), &target(0..2, Objective::Binary), &options).unwrap().report;
    assert_eq!((report.learned, report.skipped), (1, 1));
}

#[test]
fn a_state_is_continued_only_as_it_was_begun() {
    let trainer = OnlineTrainer::new(OnlineSettings::default()).unwrap();
    let positions = positions(0..10);
    let with = FitOptions { positions: Some(&positions), ..FitOptions::default() };
    let (table, binary) = (rows(0..10), target(0..10, Objective::Binary));
    let state = trainer.fit(&table, &binary, &with).unwrap().model.to_bytes().unwrap();
    let refused = |trainer: &OnlineTrainer, table: &Table, target: &Target, options: &FitOptions| {
        let options = FitOptions { state: Some(&state), ..*options };
        trainer.fit(table, target, &options).err().unwrap().to_string()
    };
    let other = OnlineTrainer::new(OnlineSettings { hash_bits: 17, ..OnlineSettings::default() }).unwrap();
    assert!(refused(&other, &table, &binary, &with).contains("other settings"));
    let regression = target(0..10, Objective::Regression);
    assert!(refused(&trainer, &table, &regression, &with).contains("Binary"));
    assert!(refused(&trainer, &table, &binary, &FitOptions::default()).contains("these rows have none"));
    let narrow = Table::new(table.columns().skip(1).map(|(name, column)| (name.to_owned(), column.clone()))).unwrap();
    assert!(refused(&trainer, &narrow, &binary, &with).contains("\"a\" is missing"));
    let without = trainer.fit(&table, &binary, &FitOptions::default()).unwrap().model.to_bytes().unwrap();
    let options = FitOptions { state: Some(&without), ..with };
    assert!(trainer.fit(&table, &binary, &options).err().unwrap().to_string().contains("without positions"));
}

#[test]
fn missing_numbers_add_nothing_and_an_indicator_learns_them() {
    let numbers = |values: Vec<f64>| Table::new([("a".to_owned(), Column::Numbers(values))]).unwrap();
    // A missing number means 1, and numbers say nothing.
    let values: Vec<f64> = (0..400).map(|i| if i % 2 == 0 { f64::NAN } else { (i * 7 % 11) as f64 }).collect();
    let labels = Target::new(Objective::Binary, (0..400).map(|i| f64::from(u8::from(i % 2 == 0))).collect()).unwrap();
    let probe = numbers(vec![f64::NAN, 5.0]);
    let of = |missing_indicator| {
        let settings = OnlineSettings { missing_indicator, ..OnlineSettings::default() };
        let trainer = OnlineTrainer::new(settings).unwrap();
        let fitted = trainer.fit(&numbers(values.clone()), &labels, &FitOptions::default()).unwrap();
        fitted.model.predict(&probe).unwrap()
    };
    let (without, with) = (of(false), of(true));
    // The mean of numbers is 5, so that both rows are at the mean.
    assert!((without[0] - without[1]).abs() < 0.02, "{without:?}");
    assert!(with[0] > 0.6 && with[1] < 0.45, "{with:?}");
}

#[test]
fn columns_may_come_in_another_order_and_categories_with_other_codes() {
    let model = fit(&OnlineSettings::default(), 0..ROWS, Objective::Binary);
    let table = rows(0..4);
    let Some(Column::Categories(c)) = table.column("c") else { panic!() };
    let names: Vec<String> = ["unused", "y", "x"].map(str::to_owned).to_vec();
    let code = |code: &Option<u32>| code.map(|code| if c.values()[code as usize] == "x" { 2 } else { 1 });
    let recoded = Categories::from_codes(names, c.codes().iter().map(code).collect()).unwrap();
    let reordered = Table::new([
        ("c".to_owned(), Column::Categories(recoded)),
        ("b".to_owned(), table.column("b").unwrap().clone()),
        ("more".to_owned(), Column::Numbers(vec![0.0; 4])),
        ("a".to_owned(), table.column("a").unwrap().clone()),
    ]);
    assert_eq!(model.predict(&reordered.unwrap()).unwrap(), model.predict(&table).unwrap());
}

#[test]
fn a_category_never_seen_adds_nothing() {
    let one = |value: Option<&str>| {
        let numbers = Column::Numbers(vec![1.0]);
        let categories = Column::Categories(Categories::from_rows(&[value]));
        let columns = [("a", numbers.clone()), ("b", numbers), ("c", categories)];
        Table::new(columns.map(|(name, column)| (name.to_owned(), column))).unwrap()
    };
    let model = fit(&OnlineSettings::default(), 0..ROWS, Objective::Binary);
    let [unknown, missing, known] = [Some("new"), None, Some("x")].map(|value| model.predict(&one(value)).unwrap()[0]);
    assert_eq!(unknown, missing);
    assert!(known > 1.2 * missing, "{known} {missing}");
}

#[test]
fn categories_that_share_a_bucket_share_a_weight() {
    let settings = OnlineSettings { hash_bits: 1, ..settings(sgd(0.1, 0.0, 0.0), true) };
    let same = || Column::Categories(Categories::from_rows(&[Some("same")]));
    let table = Table::new((0..3).map(|i| (format!("c{i}"), same()))).unwrap();
    let label = Target::new(Objective::Binary, vec![1.0]).unwrap();
    let trainer = OnlineTrainer::new(settings).unwrap();
    let model = trainer.fit(&table, &label, &FitOptions::default()).unwrap().model;
    let found = model.predict(&table).unwrap()[0];
    // One step from 0 moves the intercept by 0.01 · 0.5, and a weight of value k by 0.1 · 0.5 · k. Three features in two
    // buckets have the values 1 and 2, or 3; in buckets of their own the logit would be 0.005 + 3 · 0.05.
    let logit = (found / (1.0 - found)).ln();
    assert!([5.0, 9.0].iter().any(|squares| (logit - 0.005 - 0.05 * squares).abs() < 1e-12), "{logit}");
}

#[test]
fn divergence_is_an_error_with_its_row() {
    let settings = OnlineSettings { clip_gradient: f64::MAX, ..settings(sgd(10.0, 0.0, 0.0), false) };
    let trainer = OnlineTrainer::new(settings).unwrap();
    let range = 0..ROWS;
    let target = target(range.clone(), Objective::Regression);
    let error = trainer.fit(&rows(range), &target, &FitOptions::default()).err().unwrap();
    assert!(matches!(error, Error::Diverged { row } if row > 3), "{error}");
}

#[test]
fn damaged_states_are_refused() {
    let bytes = fit(&OnlineSettings::default(), 0..20, Objective::Binary).to_bytes().unwrap();
    assert!(OnlineModel::from_bytes(&bytes).is_ok());
    for at in (0..bytes.len()).step_by(5) {
        let mut changed = bytes.clone();
        changed[at] = changed[at].wrapping_add(1);
        let message = OnlineModel::from_bytes(&changed).err().map(|error| error.to_string());
        let padding = bytes[at] == b' ';
        assert!(padding || message.is_some_and(|m| m.starts_with("driftsweep-online")), "byte {at}");
    }
}
