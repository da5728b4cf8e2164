//! What some tests need beside a Rust toolchain. Where it is missing, those tests are left out, and a line says so. All must
//! be there where `DRIFTSWEEP_TEST_ALL` is set, as `tests/all.sh` does: but for those whose own variable leaves them out.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use driftsweep::count::gpu::{DeviceChoice, GpuCounter};

/// The device memory that tests use.
pub const GPU_MEMORY: u64 = 64 << 20;

fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| !value.is_empty())
}

/// What was found, unless a variable leaves it out; without it the tests fail where all must be there.
fn found<T>(variable: &str, tests: &str, find: impl FnOnce() -> Result<T, String>) -> Option<T> {
    let missing = match is_set(variable) {
        true => format!("{variable} is set"),
        false => match find() {
            Ok(found) => return Some(found),
            Err(reason) => reason,
        },
    };
    let all = is_set("DRIFTSWEEP_TEST_ALL") && !is_set(variable);
    assert!(!all, "{tests}: {missing}; {variable}=1 leaves these tests out");
    // Not by a macro: what those print is shown for failed tests only.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {tests}: {missing}");
    None
}

/// The address of the PostgreSQL server for tests.
pub fn postgres() -> Option<String> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        let address = std::env::var("DRIFTSWEEP_TEST_POSTGRES");
        address.map_err(|_| "no server is named; `bash tests/postgres.sh cargo test` starts one".to_owned())
    };
    SERVER.get_or_init(|| found("DRIFTSWEEP_TEST_NO_POSTGRES", "stores on PostgreSQL", find)).clone()
}

/// The device under test, opened once.
pub fn gpu() -> Option<&'static GpuCounter> {
    static DEVICE: OnceLock<Option<GpuCounter>> = OnceLock::new();
    let find = || GpuCounter::open(&DeviceChoice::default(), GPU_MEMORY).map_err(|e| e.to_string());
    DEVICE.get_or_init(|| found("DRIFTSWEEP_TEST_NO_GPU", "counting on a GPU", find)).as_ref()
}

/// Whether a program is there.
fn program(name: &str, arg: &str, package: &str) -> Result<(), String> {
    let run = Command::new(name).arg(arg).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.map(drop).map_err(|e| format!("{name}: {e}; install {package}"))
}

/// Whether there is an nginx.
pub fn nginx() -> bool {
    static PROGRAM: OnceLock<Option<()>> = OnceLock::new();
    let find = || program("nginx", "-v", "nginx-light");
    PROGRAM.get_or_init(|| found("DRIFTSWEEP_TEST_NO_NGINX", "traffic divided by nginx", find)).is_some()
}

/// Whether there is an `ssh-keygen`.
pub fn ssh_keygen() -> bool {
    static PROGRAM: OnceLock<Option<()>> = OnceLock::new();
    let find = || program("ssh-keygen", "-?", "openssh-client");
    let keygen = PROGRAM.get_or_init(|| found("DRIFTSWEEP_TEST_NO_SSH_KEYGEN", "signatures by ssh-keygen", find));
    keygen.is_some()
}

/// Whether there are `promtool`, and Prometheus' exporter for machines and its gateway for pushed metrics.
pub fn prometheus() -> bool {
    static PROGRAMS: OnceLock<Option<()>> = OnceLock::new();
    let find = || {
        program("promtool", "--version", "prometheus")?;
        program("prometheus-node-exporter", "--version", "prometheus-node-exporter")?;
        program("prometheus-pushgateway", "--version", "prometheus-pushgateway")
    };
    PROGRAMS.get_or_init(|| found("DRIFTSWEEP_TEST_NO_PROMETHEUS", "metrics in Prometheus", find)).is_some()
}

/// The name of a browser that can be driven: Chromium.
pub fn chromium() -> Option<&'static str> {
    static PROGRAM: OnceLock<Option<&'static str>> = OnceLock::new();
    let find = || {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let found = names.into_iter().find(|name| program(name, "--version", "").is_ok());
        found.ok_or_else(|| "there is no chromium; install it".to_owned())
    };
    *PROGRAM.get_or_init(|| found("DRIFTSWEEP_TEST_NO_CHROMIUM", "HTML reports in Chromium", find))
}

/// Whether there is a `systemd-analyze`.
pub fn systemd() -> bool {
    static PROGRAM: OnceLock<Option<()>> = OnceLock::new();
    let find = || program("systemd-analyze", "--version", "systemd");
    PROGRAM.get_or_init(|| found("DRIFTSWEEP_TEST_NO_SYSTEMD", "units of systemd", find)).is_some()
}
