//! The environment of a command: what every command gets, and what the fleet file adds.
//!
//! A tick often has credentials of its own: for the store, object stores and channels. A command that inherited them
//! could use them, and one that prints its environment would write them into its log. So it gets a fixed list without
//! secrets, and in addition only what `env` in the fleet file names.

use std::ffi::OsString;

/// Variables that every command is given, where they are set. None of them holds a secret by its purpose. Left out on purpose:
/// the addresses of proxies (`HTTPS_PROXY` may hold a user and a password), `LD_PRELOAD`, and `TERM` (there is no terminal).
pub const INHERITED_VARIABLES: &[&str] = &[
    // Who runs it, and where programs and temporary files are.
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    // Language and time zone.
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NUMERIC",
    "LC_TIME",
    "TZ",
    // Where languages find their libraries.
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONUNBUFFERED",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "JAVA_HOME",
    "R_LIBS",
    // Which devices it may use, and how many threads.
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    // Paths of certificates.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
];

/// The variables of this process that a command is given: [`INHERITED_VARIABLES`], and those that are named. Variables
/// that are not set are skipped.
pub fn variables_for(named: &[String]) -> Vec<(String, OsString)> {
    let names = INHERITED_VARIABLES.iter().copied().chain(named.iter().map(String::as_str));
    names.filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?))).collect()
}
