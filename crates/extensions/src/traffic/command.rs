//! Traffic by a command: `command` in the fleet file.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::{Traffic, TrafficAdapterTable, TrafficSettings, TrafficTools, WantedTraffic};
use crate::check::{Findings, Severity};
use crate::executor::command::environment::variables_for;
use crate::http::RequestFailure;
use crate::value::Validated;
use driftsweep_common::address::sanitized;

/// A command that divides traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandConfig {
    /// The program and its arguments; no shell reads them.
    pub set: Vec<String>,
    /// The same to print the share of the candidate, if that is set.
    pub get: Option<Vec<String>>,
    /// Environment variables that it gets in addition to those of every command.
    pub env: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
}

/// The table `command` of `[model.rollout.traffic]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CommandTable {
    /// The program that divides traffic, and its arguments. It is told how by variables such as DRIFTSWEEP_SHARE.
    set: Vec<String>,
    /// The program that prints the share of the candidate which is set now, from 0 to 1.
    get: Option<Vec<String>>,
    /// Environment variables that it gets besides the usual ones.
    env: Option<Vec<String>>,
}

/// A command, checked.
pub(super) fn words(what: &str, words: &[String]) -> Validated<Vec<String>> {
    match words.first() {
        Some(program) if !program.trim().is_empty() && words.iter().all(|word| !word.contains('\0')) => {
            Ok(words.to_vec())
        }
        _ => Err(format!("{what} runs nothing: its first word is the program")),
    }
}

impl TrafficAdapterTable for CommandTable {
    type Settings = CommandConfig;

    fn resolve(&self, folder: &Path) -> Validated<CommandConfig> {
        Ok(CommandConfig {
            set: words("command.set", &self.set)?,
            get: self.get.as_ref().map(|get| words("command.get", get)).transpose()?,
            env: self.env.clone().unwrap_or_default(),
            folder: folder.to_owned(),
        })
    }
}

impl TrafficSettings for CommandConfig {
    fn open<'a>(&'a self, _: TrafficTools<'a>) -> Box<dyn Traffic + 'a> {
        Box::new(CommandTraffic { command: self })
    }

    fn check(&self, findings: &mut Findings) {
        for words in [Some(&self.set), self.get.as_ref()].into_iter().flatten() {
            program(&words[0], &self.folder, findings);
        }
        for name in self.env.iter().filter(|name| std::env::var_os(name).is_none()) {
            let reason = format!("the variable {name} is not set here, so the command does not get it; set it");
            findings.add(Severity::Warning, "rollout.traffic.command", reason);
        }
    }
}

/// Whether a program can be found.
pub(super) fn program(name: &str, folder: &Path, findings: &mut Findings) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = match name.contains(std::path::MAIN_SEPARATOR) {
        true => folder.join(name).exists(),
        false => std::env::split_paths(&path).any(|folder| folder.join(name).exists()),
    };
    if !there {
        let reason = format!("{name}: there is no such program here; install it, or give its path");
        findings.add(Severity::Broken, "rollout.traffic", reason);
    }
}

/// A command that divides traffic takes no longer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often a command is asked whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How many times something is asked for within a time.
pub(super) fn polls(time: Duration, interval: Duration) -> u128 {
    time.as_millis() / interval.as_millis().max(1)
}

/// The most that is kept of what a command prints.
const MAX_OUTPUT_BYTES: u64 = 64 << 10;

/// Runs a command, and gives what it printed. Its output goes to a file: a child that it leaves behind cannot keep a pipe open.
/// `secrets` are not shown of it.
///
/// # Errors
/// [`RequestFailure`] where it cannot be run, fails, or takes too long.
pub(super) fn run(
    words: &[String],
    folder: &Path,
    variables: impl IntoIterator<Item = (String, std::ffi::OsString)>,
    secrets: &[String],
) -> Result<String, RequestFailure> {
    let name = &words[0];
    let wrong = |reason: String| RequestFailure::transient(format!("{name}: {reason}"));
    let failed = |e: std::io::Error| wrong(e.to_string());
    let mut output = tempfile::tempfile().map_err(failed)?;
    let mut command = Command::new(name);
    command.args(&words[1..]).env_clear().envs(variables).stdin(Stdio::null());
    if !folder.as_os_str().is_empty() {
        command.current_dir(folder);
    }
    command.stdout(output.try_clone().map_err(failed)?).stderr(output.try_clone().map_err(failed)?);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(failed)?;
    let mut status = child.try_wait().map_err(failed)?;
    for _ in 0..polls(TIMEOUT, POLL_INTERVAL) {
        if status.is_some() {
            break;
        }
        std::thread::sleep(POLL_INTERVAL);
        status = child.try_wait().map_err(failed)?;
    }
    if status.is_none() {
        stop(&mut child);
    }
    std::io::Seek::rewind(&mut output).map_err(failed)?;
    let mut bytes = Vec::new();
    output.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    match status {
        Some(status) if status.success() => Ok(text),
        Some(status) => Err(wrong(format!("{status}: {}", shown(&text, secrets)))),
        None => Err(wrong(format!("it takes longer than {} seconds, and was stopped", TIMEOUT.as_secs()))),
    }
}

/// What a command printed, without the secrets that it was given, and not without end.
fn shown(text: &str, secrets: &[String]) -> String {
    const MAX_CHARS: usize = 500;
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    sanitized(text, &secrets).chars().take(MAX_CHARS).collect()
}

/// Stops a command and the processes that it started.
fn stop(child: &mut std::process::Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The adapter.
pub struct CommandTraffic<'a> {
    command: &'a CommandConfig,
}

impl CommandTraffic<'_> {
    /// The values of the variables that the fleet file names.
    fn secrets(&self) -> Vec<String> {
        let values = self.command.env.iter().filter_map(|name| std::env::var(name).ok());
        values.filter(|value| !value.is_empty()).collect()
    }

    fn run(&self, words: &[String], wanted: &WantedTraffic) -> Result<String, RequestFailure> {
        let told = wanted.variables().into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        run(words, &self.command.folder, variables_for(&self.command.env).into_iter().chain(told), &self.secrets())
    }
}

impl Traffic for CommandTraffic<'_> {
    fn apply(&self, wanted: &WantedTraffic) -> Result<(), RequestFailure> {
        self.run(&self.command.set, wanted).map(drop)
    }

    fn share(&self, wanted: &WantedTraffic) -> Result<Option<f64>, RequestFailure> {
        let Some(get) = &self.command.get else { return Ok(None) };
        let text = self.run(get, wanted)?;
        match text.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Some(share)),
            _ => Err(RequestFailure::transient(format!(
                "{}: it printed '{}', which is no share from 0 to 1",
                get[0],
                shown(&text, &self.secrets())
            ))),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::traffic::wanted;

    #[test]
    fn a_command_is_told_the_share_and_what_it_prints_is_the_share_that_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let shell = |script: &str| vec!["sh".to_owned(), "-c".into(), script.into()];
        let command = CommandConfig {
            set: shell("echo $DRIFTSWEEP_SHARE $DRIFTSWEEP_CANDIDATE $DRIFTSWEEP_PRODUCTION $DRIFTSWEEP_ROLLOUT > set"),
            get: Some(shell("cut -d' ' -f1 set")),
            env: Vec::new(),
            folder: folder.path().into(),
        };
        let traffic = CommandTraffic { command: &command };
        assert!(traffic.share(&wanted(0.05, 1)).is_err());
        traffic.apply(&wanted(0.05, 1)).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("set")).unwrap(), "0.05 3 2 churn-3\n");
        assert_eq!(traffic.share(&wanted(0.05, 1)).unwrap(), Some(0.05));
        let failing = CommandConfig { set: shell("echo no room; exit 3"), ..command.clone() };
        let failure = CommandTraffic { command: &failing }.apply(&wanted(0.05, 1)).unwrap_err();
        assert!(failure.reason.contains("exit status: 3: no room") && !failure.permanent, "{failure:?}");
        let missing = CommandConfig { set: vec!["no-such-program".into()], ..command };
        assert!(CommandTraffic { command: &missing }.apply(&wanted(0.05, 1)).is_err());
    }
}
