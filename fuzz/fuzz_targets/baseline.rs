//! A baseline file is refused, or unpacked and compared; as it is, and put together again with the hash that belongs to its
//! content.
#![no_main]

use std::sync::OnceLock;

use driftsweep::snapshot::Snapshot;
use driftsweep::snapshot::table::{Cells, to_parquet};
use driftsweep_fuzz::{baseline, seal, start, write};
use libfuzzer_sys::fuzz_target;

static CURRENT: OnceLock<Snapshot> = OnceLock::new();

/// Columns of the names and types of the seeds.
fn current() -> Snapshot {
    let column = |name| {
        let cells = match name {
            "u64" => Cells::Int((0..20).chain([u64::MAX]).collect()),
            "f32" | "single" => Cells::Float32((0..21).map(|i| Some(i as f32 / 7.0)).collect()),
            "f64" | "share" => Cells::Float((0..21).map(|i| (i > 2).then_some(f64::from(i) / 7.0)).collect()),
            "bool" | "flag" => Cells::Bool((0..21).map(|i| i % 3 == 0).collect()),
            "text" | "plan" | "cat" => Cells::Text((0..21).map(|i| format!("north-{}", i % 4)).collect()),
            _ => Cells::Signed((0..21).map(|i| (i % 5 > 0).then_some(i * 1000 - 4000)).collect()),
        };
        (name, cells)
    };
    let names = "i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 bool text cat catint whole wide share single plan flag";
    let bytes = to_parquet(names.split(' ').map(column).collect()).expect("a sound table");
    let path = driftsweep_fuzz::folder().join("current.parquet");
    std::fs::write(&path, bytes).expect("the file is written");
    Snapshot::open(path.to_str().expect("a path in UTF-8")).expect("a sound file")
}

fuzz_target!(init: start(), |data: &[u8]| {
    let current = CURRENT.get_or_init(current);
    baseline(&write("input.baseline", data), current);
    if let Some(sealed) = seal::baseline(data) {
        baseline(&write("input.baseline", &sealed), current);
    }
});
