//! Processes of training commands.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// The number of a process that is noted in the folder of a run.
pub fn leader(file: &Path) -> i32 {
    let noted: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    noted["number"].as_i64().unwrap() as i32
}

/// Waits until something is so, for a while.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("never: {what}");
}

/// Whether a process has not ended. Where nobody waits for it, what has ended is still listed.
pub fn lives(number: i32) -> bool {
    fs::read_to_string(format!("/proc/{number}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Runs the supervisor of a run as a tick does: its key comes through its standard input.
pub fn supervise(folder: &Path) -> std::process::Output {
    let mut supervisor = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    supervisor.arg("supervise").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut supervisor = supervisor.spawn().unwrap();
    std::io::Write::write_all(&mut supervisor.stdin.take().unwrap(), b"the key\n").unwrap();
    supervisor.wait_with_output().unwrap()
}
