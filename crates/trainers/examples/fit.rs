//! Seconds that each trainer takes for 100,000 rows of 20 columns, two of which are categories.
//!
//! `cargo run --release -p driftsweep-trainers --features boosting --example fit -- THREADS`
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A program for developers.

#[path = "../tests/common/mod.rs"]
mod common;

use std::num::NonZeroUsize;
use std::time::Instant;

use common::{Random, auc, planted};
use driftsweep_trainers::{BatchSettings, Column, FitOptions, Objective, Settings, Table, Target};

const ROWS: usize = 100_000;

/// The planted rule, and fourteen columns of noise.
fn rows(seed: u64) -> (Table, Target) {
    let (table, target) = planted(ROWS, seed, Objective::Binary);
    let mut random = Random(seed + 1);
    let noise = (0..14).map(|i| (format!("noise{i}"), Column::Numbers((0..ROWS).map(|_| random.next()).collect())));
    let columns = table.columns().map(|(name, column)| (name.to_owned(), column.clone()));
    (Table::new(columns.chain(noise)).unwrap(), target)
}

fn main() {
    let threads = std::env::args().nth(1).map_or(2, |threads| threads.parse().unwrap());
    let options = FitOptions { threads: NonZeroUsize::new(threads).unwrap(), ..FitOptions::default() };
    let ((table, target), (test, truth)) = (rows(1), rows(2));
    let all = BatchSettings { early_stopping_share: 0.0, ..BatchSettings::default() };
    let default = |kind: &str| serde_json::from_value(serde_json::json!({ "kind": kind })).unwrap();
    for (name, settings) in [
        ("online", default("online")),
        ("batch, 200 rounds", Settings::Batch(all)),
        ("batch, stopped early", default("batch")),
        ("hybrid", default("hybrid")),
    ] {
        let start = Instant::now();
        let fitted = settings.trainer().unwrap().fit(&table, &target, &options).unwrap();
        let fit = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let predictions = fitted.model.predict(&test).unwrap();
        let predict = start.elapsed().as_secs_f64();
        let bytes = fitted.model.to_bytes().unwrap().len();
        let (auc, rounds) = (auc(&predictions, truth.values()), fitted.report.rounds.unwrap_or_default());
        println!("{name}: fit {fit:.2} s, predict {predict:.2} s, {bytes} bytes, AUC {auc:.4}, {rounds} rounds");
    }
}
