//! The mean of an online and a batch model: what is fitted on which rows, and what the artefact holds.
#![cfg(feature = "boosting")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test that cannot go on has failed.

mod common;

use std::num::NonZeroUsize;

use common::{auc, planted};
use driftsweep_trainers::boosting::BatchModel;
use driftsweep_trainers::calibrate::Platt;
use driftsweep_trainers::hybrid::{HybridModel, Pair};
use driftsweep_trainers::online::OnlineModel;
use driftsweep_trainers::{
    BatchSettings, Error, FitOptions, Fitted, HybridSettings, Model, Objective, OnlineSettings, Position, Settings,
    Table, Target, load,
};

fn settings() -> HybridSettings {
    let batch = BatchSettings {
        rounds: 20,
        depth: 4,
        learning_rate: 0.3,
        early_stopping_share: 0.0,
        ..BatchSettings::default()
    };
    HybridSettings { batch, ..HybridSettings::default() }
}

fn fit(settings: Settings, table: &Table, target: &Target) -> Fitted {
    settings.trainer().unwrap().fit(table, target, &FitOptions::default()).unwrap()
}

fn hybrid(settings: &HybridSettings, table: &Table, target: &Target) -> HybridModel {
    let bytes = fit(Settings::Hybrid(settings.clone()), table, target).model.to_bytes().unwrap();
    HybridModel::from_bytes(&bytes).unwrap()
}

/// The rows of a range.
fn range(table: &Table, target: &Target, range: std::ops::Range<usize>) -> (Table, Target) {
    (table.slice(range.clone()), target.slice(range))
}

#[test]
fn the_calibration_is_fitted_on_the_last_rows_and_the_members_on_all() {
    let (table, target) = planted(1000, 21, Objective::Binary);
    let model = hybrid(&settings(), &table, &target);
    let members = [Settings::Online(OnlineSettings::default()), Settings::Batch(settings().batch)];
    let of = |(table, target): &(Table, Target)| members.clone().map(|member| fit(member, table, target).model);
    // The members are those that are fitted to all rows, by themselves.
    let all = of(&(table.clone(), target.clone()));
    assert!(all[0].to_bytes().unwrap() == model.online().to_bytes().unwrap());
    assert!(all[1].to_bytes().unwrap() == model.batch().to_bytes().unwrap());
    // The calibrations are those of members that are fitted to the rows before.
    let earlier = of(&range(&table, &target, 0..800));
    let (last, truth) = range(&table, &target, 800..1000);
    let wanted = earlier.map(|member| Platt::fit(&member.predict(&last).unwrap(), truth.values()).unwrap());
    assert_eq!(model.calibration(), Some(Pair { online: wanted[0], batch: wanted[1] }));
    // The prediction is the weighted mean.
    let (test, _) = planted(50, 22, Objective::Binary);
    let [online, batch] = all.map(|member| member.predict(&test).unwrap());
    for ((found, online), batch) in model.predict(&test).unwrap().iter().zip(online).zip(batch) {
        let mean = 0.3 * wanted[0].apply(online) + 0.7 * wanted[1].apply(batch);
        assert!((found - mean).abs() < 1e-15, "{found} {mean}");
    }
}

#[test]
fn the_mean_tells_classes_apart_and_its_probabilities_hold() {
    let (table, target) = planted(3000, 23, Objective::Binary);
    let (test, truth) = planted(3000, 24, Objective::Binary);
    // Trees that learn the noise: far too sure of themselves without a calibration.
    let batch = BatchSettings { rounds: 80, depth: 8, min_child_weight: 0.1, lambda: 0.01, ..settings().batch };
    let model = hybrid(&HybridSettings { batch, online_weight: 0.0, ..settings() }, &table, &target);
    let found = model.predict(&test).unwrap();
    assert!(auc(&found, truth.values()) > 0.9);
    let brier = |p: &[f64]| p.iter().zip(truth.values()).map(|(p, y)| (p - y).powi(2)).sum::<f64>() / 3000.0;
    let loss = |p: &[f64]| {
        let of = |(p, y): (&f64, &f64)| -(if *y == 1.0 { *p } else { 1.0 - p }).max(1e-9).ln();
        p.iter().zip(truth.values()).map(of).sum::<f64>() / 3000.0
    };
    let raw = model.batch().predict(&test).unwrap();
    assert!(loss(&found) < 0.8 * loss(&raw) && brier(&found) < brier(&raw), "{} {}", loss(&found), loss(&raw));
}

#[test]
fn a_regression_is_the_weighted_mean_of_numbers() {
    let (table, target) = planted(600, 25, Objective::Regression);
    let model = hybrid(&HybridSettings { online_weight: 0.5, ..settings() }, &table, &target);
    assert_eq!((model.calibration(), model.weights()), (None, Pair { online: 0.5, batch: 0.5 }));
    let (online, batch) = (model.online().predict(&table).unwrap(), model.batch().predict(&table).unwrap());
    let means = online.iter().zip(batch).map(|(online, batch)| 0.5 * online + 0.5 * batch);
    assert!(model.predict(&table).unwrap().into_iter().eq(means));
}

#[test]
fn bytes_hold_both_members_and_do_not_depend_on_threads() {
    let (table, target) = planted(800, 26, Objective::Binary);
    let trainer = Settings::Hybrid(settings()).trainer().unwrap();
    let positions: Vec<Position> = (0..800).map(|i| Position { time: i / 4, id: format!("{i:04}") }).collect();
    let fitted = [1, 2, 8].map(|threads| {
        let threads = NonZeroUsize::new(threads).unwrap();
        trainer.fit(&table, &target, &FitOptions { threads, positions: Some(&positions), state: None }).unwrap()
    });
    let bytes = fitted.each_ref().map(|fitted| fitted.model.to_bytes().unwrap());
    assert!(bytes[0] == bytes[1] && bytes[0] == bytes[2]);
    let report = fitted[0].report;
    assert_eq!((report.learned, report.held_out, report.skipped, report.rounds), (800, 160, 0, Some(20)));
    let loaded = load(&bytes[0]).unwrap();
    assert!(loaded.to_bytes().unwrap() == bytes[0]);
    assert_eq!(loaded.predict(&table).unwrap(), fitted[0].model.predict(&table).unwrap());
    // Each member can be taken out, and the online one be continued.
    let model = HybridModel::from_bytes(&bytes[0]).unwrap();
    let (online, batch) = (model.online().to_bytes().unwrap(), model.batch().to_bytes().unwrap());
    assert!(BatchModel::from_bytes(&batch).is_ok());
    assert_eq!(OnlineModel::from_bytes(&online).unwrap().last(), positions.last());
    let holds = |part: &[u8]| bytes[0].windows(part.len()).any(|window| window == part);
    assert!(holds(&online) && holds(&batch));
}

#[test]
fn damage_too_few_rows_and_a_state_are_refused() {
    let (table, target) = planted(100, 27, Objective::Binary);
    let bytes = fit(Settings::Hybrid(settings()), &table, &target).model.to_bytes().unwrap();
    for at in (8..bytes.len()).step_by(bytes.len() / 97) {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        assert!(
            matches!(HybridModel::from_bytes(&changed), Err(Error::Format { .. })) || bytes[at] == b' ',
            "byte {at}"
        );
        assert!(HybridModel::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
    let trainer = Settings::Hybrid(settings()).trainer().unwrap();
    let refused = |table: &Table, target: &Target, state| {
        trainer.fit(table, target, &FitOptions { state, ..FitOptions::default() }).err().unwrap().to_string()
    };
    assert!(refused(&table, &target, Some(&bytes)).contains("state"));
    let (two, labels) = range(&table, &target, 0..2);
    assert!(refused(&two, &labels, None).contains("too few"));
    // The last rows are all of one class.
    let values = (0..100).map(|i| f64::from(i % 2 * i32::from(i < 80))).collect();
    let ending = Target::new(Objective::Binary, values).unwrap();
    assert!(refused(&table, &ending, None).contains("the 20 rows for the calibration are all of one class"));
}
