//! Training by a command on this machine. It is not run by a shell. It outlives the process that starts it: its own
//! supervisor stops it at its timeout, keeps the end of its output, and writes its result.
//!
//! In the folder of a run: `task.json` (what to run), `lock` (held as long as the supervisor, or any process of the
//! command that has not closed it, lives), `started` (marks it as started, so that it is never started twice; its
//! supervisor), `alive` (written every few seconds by the supervisor), `group` (the command's process group), `reserve`
//! (disk space for the result), `output.log` and `output.1.log` (the latest output), `cancel` (asks the supervisor to
//! stop it), `result.json` (how it ended). The command only gets the path of the folder `exchange` inside: `event.json`
//! (the event), `answer.json` (optional: its cost and its new baseline).
//!
//! # How far a result can be trusted
//!
//! Whatever runs as the same user can write these files. So a result counts only if it repeats the key of the run, and
//! a `cancel` only if it holds a hash of that key. The store has the key, and the supervisor is given it through a
//! pipe; it is in no file of the run before the result, in no environment, and other processes of the user cannot read
//! the supervisor's memory (on Linux, unless they are root). No program can protect processes of the same user from
//! each other: a command may end the supervisor, remove the files of its run, or read and change a store that is a
//! file. A forged result gains it nothing that exit code 0 would not gain.

use std::fs::{OpenOptions, TryLockError};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::CommandConfig;
use super::environment;
use super::processes::{ANSWER_FILE, ProcessScope, RunProcesses};
use super::supervise::{GRACE, HEARTBEAT_FILE, ResultFile, SupervisorTask, cancel_token};
use crate::executor::answer::RunAnswer;
use crate::executor::files::{self, MAX_ANSWER_BYTES};
use crate::executor::{Executor, RESULTS, RunOutcome, RunResult, RunStatus, TrainingRun};
use crate::http::RequestFailure;
use driftsweep_common::atomic;
use driftsweep_common::error::Error;
use driftsweep_common::versioned::FormatError;

/// The executor.
pub struct CommandExecutor<'a> {
    /// What to run.
    pub command: &'a CommandConfig,
    /// What supervises it: a program that calls [`supervise`](super::supervise()) when it is given `supervise FOLDER`, with what [`read_key`] reads
    /// from its standard input.
    pub program: &'a Path,
}

/// The time after the timeout after which a supervisor that has not stopped its command counts as dead.
const STOP_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);

/// The time without a heartbeat after which a supervisor counts as dead. It writes one every few seconds; but another
/// machine may see the times of a shared folder a minute late.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(300);

/// The key of a run, which a tick passes to the supervisor: one line.
///
/// # Errors
/// [`Error::BadValue`] if there is none, or not all of it: the tick was killed, or a person has started the supervisor.
pub fn read_key(from: &mut dyn BufRead) -> Result<String, Error> {
    let wrong = |reason: String| Error::BadValue { what: "key of the run".into(), reason };
    let mut line = String::new();
    from.take(1 << 10).read_line(&mut line).map_err(|e| wrong(e.to_string()))?;
    let key = line.strip_suffix('\n').map(str::to_owned);
    key.ok_or_else(|| wrong("standard input does not give it; a supervisor is started by a tick, not by hand".into()))
}

/// The folder with the event for the command, and for its answer.
fn exchange_folder(run: &TrainingRun) -> PathBuf {
    run.folder.join("exchange")
}

/// Whether the command of a run was started. Any of its files proves it: the command may have removed some of them, and
/// must not be started again.
fn was_started(run: &TrainingRun) -> bool {
    ["started", "group", "output.log"].into_iter().any(|name| run.folder.join(name).symlink_metadata().is_ok())
}

impl Executor for CommandExecutor<'_> {
    fn start(&self, run: &TrainingRun, _: Timestamp) -> Result<(), RequestFailure> {
        if was_started(run) {
            return Ok(());
        }
        let transient = |path: &Path, e: io::Error| RequestFailure::transient(format!("{}: {e}", path.display()));
        let (event, answer) = (exchange_folder(run).join("event.json"), exchange_folder(run).join("answer.json"));
        let text = |path: &Path| files::as_text(path).map(str::to_owned).map_err(RequestFailure::permanent);
        let (event_text, answer_text) = (text(&event)?, text(&answer)?);
        let in_place = |text: &str| {
            let values = [
                run.model.clone(),
                run.fleet.clone(),
                run.job.clone(),
                run.attempt.to_string(),
                run.name(),
                run.trigger.clone(),
                run.started_at.to_string(),
                event_text.clone(),
                answer_text.clone(),
            ];
            let known: Vec<_> = PLACEHOLDERS.into_iter().zip(values).collect();
            replace(text, &known)
        };
        let mut variables: Vec<(String, String)> =
            run.variables().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        variables.push(("DRIFTSWEEP_EVENT_FILE".into(), event_text.clone()));
        variables.push((ANSWER_FILE.into(), answer_text.clone()));
        // The folder of a fleet file that was named without one is empty: here.
        let folder = std::path::absolute(Path::new(".").join(&self.command.folder))
            .map_err(|e| transient(&self.command.folder, e))?;
        text(&folder)?;
        let task = SupervisorTask {
            arguments: self.command.arguments.iter().map(|argument| in_place(argument)).collect(),
            folder,
            variables,
            env: self.command.env.clone(),
            within: -run.late,
            log_bytes: self.command.log_bytes,
        };
        let task = serde_json::to_vec_pretty(&task).map_err(|e| RequestFailure::permanent(e.to_string()))?;
        for folder in [run.folder.clone(), exchange_folder(run)] {
            atomic::private_folder(&folder).map_err(|e| transient(&folder, e))?;
        }
        atomic::write_private(&event, run.event.as_bytes())?;
        atomic::write_private(&run.folder.join("task.json"), &task)?;
        let mut supervisor = Command::new(self.program);
        supervisor.arg("supervise").arg(&run.folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // It runs for days, and its environment can be read all that time: it gets no more than the command.
        supervisor.env_clear().envs(environment::variables_for(&self.command.env));
        // If this runs inside of another training, whose variable the fleet file names, the variable of this run is
        // used.
        supervisor.env_remove(ANSWER_FILE);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut supervisor, 0);
        let mut child = supervisor.spawn().map_err(|e| transient(self.program, e))?;
        // A supervisor without the key does not start the command.
        let key_sent = child.stdin.take().map(|mut pipe| pipe.write_all(format!("{}\n", run.key).as_bytes()));
        // Its end is known from its lock and its result; waiting here only avoids a zombie process.
        thread::spawn(move || drop(child.wait()));
        key_sent
            .unwrap_or(Ok(()))
            .map_err(|e| RequestFailure::transient(format!("the key cannot be passed to its supervisor: {e}")))
    }

    fn poll(&self, run: &TrainingRun, _: Timestamp) -> Result<RunStatus, RequestFailure> {
        let file = |name: &str| run.folder.join(name);
        if let Some(ended) = result(run)? {
            return Ok(ended);
        }
        let transient = |e: io::Error| RequestFailure::transient(format!("{}: {e}", file("lock").display()));
        let lock = match atomic::open_regular(&file("lock"), OpenOptions::new().read(true).write(true)) {
            Ok(lock) => lock,
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(transient(e)),
            // On another machine, or with another folder, it may be running. A folder without a lock file means that it
            // was never started.
            Err(_) if run.seen && !file("task.json").exists() => {
                let reason =
                    "its folder is not here: run the tick on the machine and with the --state that it was started with";
                return Err(RequestFailure::transient(reason));
            }
            Err(_) if was_started(run) => return status_without_supervisor(run),
            Err(_) => return Ok(RunStatus::NotStarted),
        };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                // This process must not count among those that hold the lock.
                drop(lock);
                if run.late > STOP_TIMEOUT
                    && let Some(traces) = RunProcesses::read(&run.folder)
                {
                    traces.with_lock_holders(&file("lock")).kill(GRACE);
                }
                Ok(RunStatus::Running)
            }
            Err(TryLockError::Error(e)) => Err(transient(e)),
            // Its command was never started, whatever was requested before.
            Ok(()) if !was_started(run) => Ok(RunStatus::NotStarted),
            // It may have ended in the meantime.
            Ok(()) => match result(run)? {
                Some(ended) => Ok(ended),
                None => status_without_supervisor(run),
            },
        }
    }

    fn cancel(&self, run: &TrainingRun, _: Timestamp) -> Result<(), RequestFailure> {
        let path = run.folder.join("cancel");
        files::remove_folder(&path).map_err(|e| RequestFailure::transient(format!("{}: {e}", path.display())))?;
        Ok(atomic::write_private(&path, cancel_token(&run.key).as_bytes())?)
    }
}

/// How a run ended, if it has. A result without the key of the run was not written by its supervisor, and is ignored.
fn result(run: &TrainingRun) -> Result<Option<RunStatus>, RequestFailure> {
    let path = run.folder.join("result.json");
    let Ok(Some(bytes)) = atomic::read_external(&path, MAX_ANSWER_BYTES) else { return Ok(None) };
    let Ok(body) = serde_json::from_slice::<Value>(&bytes) else { return Ok(None) };
    // Results of older versions have no key.
    if body["key"].as_str().unwrap_or_default() != run.key {
        return Ok(None);
    }
    let ResultFile { ended, .. } = match RESULTS.read_value(&body) {
        Ok(result) => result,
        Err(newer @ FormatError::Newer { .. }) => {
            return Err(RequestFailure::transient(format!("{}: {newer}", path.display())));
        }
        Err(_) => return Ok(None),
    };
    // Runs that an older version has started have no folder for it.
    let place = if exchange_folder(run).exists() { exchange_folder(run) } else { run.folder.clone() };
    let answer = place.join("answer.json");
    let reply = match atomic::read_external(&answer, MAX_ANSWER_BYTES) {
        Ok(None) => RunAnswer::default(),
        Ok(Some(bytes)) => RunAnswer::of(&bytes).unwrap_or_else(RunAnswer::nothing),
        Err(e) => RunAnswer::nothing(e.to_string()),
    };
    Ok(Some(RunStatus::Ended(reply.of_command(&answer.display().to_string(), ended))))
}

/// The status of a run whose supervisor is dead without a result. It has ended only when all of its processes have:
/// another attempt would run at the same time.
///
/// Where its processes cannot be seen (another container, another machine, or this one before a restart) two facts show
/// that it has ended: its lock is free, so no process lives that inherited it; and there was no heartbeat for
/// [`HEARTBEAT_TIMEOUT`], which also works on file systems whose locks do not reach other machines. The exception is a
/// command that closes all inherited files, in a container that outlives its supervisor. Waiting until its timeout
/// would not end it either, but only delay every other run of the model.
fn status_without_supervisor(run: &TrainingRun) -> Result<RunStatus, RequestFailure> {
    let unknown = |why: &str| {
        let reason = format!(
            "its supervisor is dead without a result, and {why}; it counts as running until its timeout, at {}",
            run.stop_at
        );
        Err(RequestFailure::transient(reason))
    };
    let gone = |why: &str| {
        let forged = match run.folder.join("result.json").symlink_metadata() {
            Ok(_) => " (result.json was not written by its supervisor, and does not count)",
            Err(_) => "",
        };
        Ok(RunStatus::Ended(RunResult::new(RunOutcome::Failed, format!("it ended without a result{forged}; {why}"))))
    };
    let Some(traces) = RunProcesses::read(&run.folder) else {
        return unknown("its folder does not record where it ran");
    };
    let reach = traces.scope();
    if reach != ProcessScope::Here
        && let Some(silence) = time_since_heartbeat(run)
        && silence < HEARTBEAT_TIMEOUT
    {
        return Err(RequestFailure::transient(format!(
            "its supervisor, which is not visible from here, sent a heartbeat {} s ago; it counts as dead after {} s \
             without one",
            silence.as_secs(),
            HEARTBEAT_TIMEOUT.as_secs()
        )));
    }
    match reach {
        ProcessScope::Restarted => {
            gone("the machine was restarted, or it ran on another one, and it sends no heartbeats any more")
        }
        ProcessScope::Elsewhere if time_since_heartbeat(run).is_some() => {
            gone("its supervisor, in another container, sends no heartbeats any more; was the container stopped?")
        }
        ProcessScope::Elsewhere => {
            unknown("it was started in another container, whose processes are not visible from here")
        }
        ProcessScope::Here => match &traces.end(GRACE)[..] {
            [] => gone("was the supervisor killed?"),
            left => {
                let left: Vec<String> = left.iter().map(i32::to_string).collect();
                Err(RequestFailure::transient(format!(
                    "its supervisor is dead, and its processes cannot be stopped: {}",
                    left.join(", ")
                )))
            }
        },
    }
}

/// The time since the last heartbeat of the supervisor of a run, by the clock of its folder, which may differ from that
/// of this machine. `None` if there never was one, as in older versions, or if the folder's clock cannot be read.
fn time_since_heartbeat(run: &TrainingRun) -> Option<Duration> {
    let last = run.folder.join(HEARTBEAT_FILE).symlink_metadata().ok()?.modified().ok()?;
    let probe = run.folder.join("clock");
    let now = files::create(&probe).and_then(|mut file| {
        file.write_all(b"1")?;
        file.sync_all()?;
        file.metadata()?.modified()
    });
    let _ = files::remove_any(&probe);
    Some(now.ok()?.duration_since(last).unwrap_or_default())
}

/// What is replaced in the arguments of a command.
pub(super) const PLACEHOLDERS: [&str; 9] =
    ["{model}", "{fleet}", "{job}", "{attempt}", "{run}", "{trigger}", "{started_at}", "{event_file}", "{answer_file}"];

/// Replaces placeholders in a text, in one pass: values are not searched for placeholders.
fn replace(text: &str, known: &[(&str, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let found = known.iter().find(|(name, _)| rest.starts_with(name));
        let (value, length) = found.map_or(("{", 1), |(name, value)| (&**value, name.len()));
        out.push_str(value);
        rest = &rest[length..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_whole_line() {
        assert_eq!(read_key(&mut &b"abc\nmore"[..]).unwrap(), "abc");
        assert_eq!(read_key(&mut &b"\n"[..]).unwrap(), "");
        for cut in ["", "abc"] {
            assert!(read_key(&mut cut.as_bytes()).unwrap_err().to_string().contains("started by a tick"));
        }
    }

    #[test]
    fn a_value_is_put_in_place_once_and_not_read_again() {
        let known = [("{model}", "a {job} $(b)".to_owned()), ("{job}", "7".to_owned())];
        assert_eq!(replace("--{model}/{job}{{job}} {other} {", &known), "--a {job} $(b)/7{7} {other} {");
    }
}
