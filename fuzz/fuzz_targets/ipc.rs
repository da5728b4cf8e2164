//! An Arrow IPC file is refused, or compared with itself.
#![no_main]

use driftsweep_fuzz::{snapshot, start, write};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(init: start(), |data: &[u8]| -> Corpus { snapshot(&write("input.arrow", data)) });
