//! A baseline file is refused, or unpacked and compared; as it is, and with the hash that belongs to its content.
#![no_main]

use std::sync::OnceLock;

use driftsweep::snapshot::Snapshot;
use driftsweep_fuzz::{baseline, seal, start, write};
use libfuzzer_sys::fuzz_target;

static CURRENT: OnceLock<Snapshot> = OnceLock::new();

fuzz_target!(init: start(), |data: &[u8]| {
    let current = CURRENT.get_or_init(|| {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/damage/none-v1-plain.parquet");
        Snapshot::open(&format!("{file}#rows=0..170")).expect("a sound file")
    });
    baseline(&write("input.baseline", data), current);
    if let Some(sealed) = seal::baseline(data) {
        baseline(&write("input.baseline", &sealed), current);
    }
});
