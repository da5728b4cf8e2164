//! A fleet file is refused with a message, or it gives a plan for a sweep at any time.
#![no_main]

use std::path::Path;

use driftsweep_fleet::Fleet;
use driftsweep_fuzz::{options, start};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: start(), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Fleet::parse(text, Path::new("fleet.toml"), &options(1 << 30)) {
        Ok(fleet) => {
            for as_of in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
                let _ = fleet.at(as_of).plan(as_of);
            }
        }
        Err(error) => assert!(error.to_string().contains("fleet.toml"), "{error}: it does not name the file"),
    }
});
