//! Training by a command on this machine. No shell reads it. It outlives the process that starts it: a supervisor of its
//! own stops it when its time is up, keeps the end of its output, and writes down how it ended.
//!
//! In the folder of a run: `task.json` (what to run), `event.json` (the event), `lock` (held as long as the supervisor,
//! or any process of the command that has not closed it, lives), `started` (never started twice; who supervises it),
//! `group` (the command's process group), `reserve` (room for the result), `output.log` and `output.1.log` (the latest
//! output), `answer.json` (what the command says it cost, and its new baseline, if it does), `cancel` (asks the supervisor
//! to stop it), `result.json` (how it ended).

use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use jiff::{SignedDuration, Timestamp};

pub use super::supervise::supervise;

use super::files::{self, MOST_ANSWER};
use super::processes::{ANSWER_FILE, Reach, Traces};
use super::supervise::{GRACE, Task};
use super::{Ended, Executor, Outcome, Progress, Run, Said};
use crate::atomic;
use crate::fleet;
use crate::http::Failure;

/// The executor.
pub struct Local<'a> {
    /// What to run.
    pub command: &'a fleet::Command,
    /// What supervises it: a program that calls [`supervise`] when it is given `supervise FOLDER`.
    pub program: &'a Path,
}

/// A supervisor that has not stopped its command so long after its time is gone.
const OVERDUE: SignedDuration = SignedDuration::from_secs(60);

impl Executor for Local<'_> {
    fn start(&self, run: &Run, _: Timestamp) -> Result<(), Failure> {
        let file = |name: &str| run.folder.join(name);
        if file("started").exists() {
            return Ok(());
        }
        let in_place = |text: &str| {
            let known = [
                ("{model}", run.model.clone()),
                ("{fleet}", run.fleet.clone()),
                ("{job}", run.job.clone()),
                ("{attempt}", run.attempt.to_string()),
                ("{run}", run.name()),
                ("{trigger}", run.trigger.clone()),
                ("{event_file}", file("event.json").display().to_string()),
                ("{answer_file}", file("answer.json").display().to_string()),
            ];
            replace(text, &known)
        };
        let mut variables: Vec<(String, String)> =
            run.variables().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for (name, path) in [("DRIFTSWEEP_EVENT_FILE", "event.json"), (ANSWER_FILE, "answer.json")] {
            variables.push((name.into(), file(path).display().to_string()));
        }
        let task = Task {
            arguments: self.command.arguments.iter().map(|argument| in_place(argument)).collect(),
            // The folder of a fleet file that was named without one is empty: here.
            folder: std::path::absolute(Path::new(".").join(&self.command.folder))
                .map_err(|e| Failure::passing(format!("{}: {e}", self.command.folder.display())))?,
            variables,
            within: -run.late,
            log_bytes: self.command.log_bytes,
        };
        let task = serde_json::to_vec_pretty(&task).map_err(|e| Failure::lasting(e.to_string()))?;
        files::make_folder(&run.folder).map_err(|e| Failure::passing(format!("{}: {e}", run.folder.display())))?;
        atomic::write_private(&file("event.json"), run.event.as_bytes())?;
        atomic::write_private(&file("task.json"), &task)?;
        let mut supervisor = Command::new(self.program);
        supervisor.arg("supervise").arg(&run.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        for name in &run.hidden {
            supervisor.env_remove(name);
        }
        // Should this be a part of another training: what ends that one must not take the supervisor for one of its own.
        supervisor.env_remove(ANSWER_FILE);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut supervisor, 0);
        let spawned = supervisor.spawn();
        // Its end is known by its lock and its result, not by us; but it is not to stay a zombie while we live.
        let mut child = spawned.map_err(|e| Failure::passing(format!("{}: {e}", self.program.display())))?;
        thread::spawn(move || drop(child.wait()));
        Ok(())
    }

    fn poll(&self, run: &Run, _: Timestamp) -> Result<Progress, Failure> {
        let file = |name: &str| run.folder.join(name);
        if let Some(ended) = result(run)? {
            return Ok(ended);
        }
        let passing = |e: io::Error| Failure::passing(format!("{}: {e}", file("lock").display()));
        let lock = match files::private().read(true).write(true).open(file("lock")) {
            Ok(lock) => lock,
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(passing(e)),
            // On another machine, or with another folder, it may well be under way. What is there and has no lock never began.
            Err(_) if run.seen && !file("task.json").exists() => {
                let reason =
                    "its folder is not here: tick on the machine, and with the --state, that it was started with";
                return Err(Failure::passing(reason));
            }
            Err(_) => return Ok(Progress::NotStarted),
        };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                if run.late > OVERDUE
                    && let Some(traces) = Traces::read(&run.folder)
                {
                    traces.kill(GRACE);
                }
                Ok(Progress::Running)
            }
            Err(TryLockError::Error(e)) => Err(passing(e)),
            // Whatever was asked before: its command has never begun.
            Ok(()) if !file("started").exists() => Ok(Progress::NotStarted),
            // It may have ended in the meantime.
            Ok(()) => match result(run)? {
                Some(ended) => Ok(ended),
                None => without_supervisor(run),
            },
        }
    }

    fn cancel(&self, run: &Run, _: Timestamp) -> Result<(), Failure> {
        Ok(atomic::write_private(&run.folder.join("cancel"), b"")?)
    }
}

/// How a run ended, if it has.
fn result(run: &Run) -> Result<Option<Progress>, Failure> {
    // What is no file is no result.
    let Some(bytes) = files::read(&run.folder.join("result.json"), MOST_ANSWER).ok().flatten() else {
        return Ok(None);
    };
    let ended: Ended = serde_json::from_slice(&bytes).map_err(|e| Failure::passing(format!("result.json: {e}")))?;
    let said = files::read(&run.folder.join("answer.json"), MOST_ANSWER).ok().flatten();
    let said = said.and_then(|bytes| serde_json::from_slice::<Said>(&bytes).ok());
    let baseline = said.as_ref().and_then(Said::baseline);
    Ok(Some(Progress::Ended(Ended { cost: said.and_then(|said| said.cost()), baseline, ..ended })))
}

/// How far a run is whose supervisor is gone without a result. It has not ended before all of its processes have: another
/// attempt would run beside them.
fn without_supervisor(run: &Run) -> Result<Progress, Failure> {
    let unknown = |why: &str| {
        let reason = format!(
            "its supervisor is gone without a result, and {why}; it counts as under way until its time is up, at {}",
            run.stop_at
        );
        Err(Failure::passing(reason))
    };
    let gone =
        |why: &str| Ok(Progress::Ended(Ended::new(Outcome::Failed, format!("it is gone without a result; {why}"))));
    let Some(traces) = Traces::read(&run.folder) else {
        return unknown("its folder does not say where it ran");
    };
    match traces.reach() {
        Reach::Restarted => gone("the machine was restarted"),
        Reach::Elsewhere => unknown("it was started in another container, whose processes cannot be seen from here"),
        Reach::Here => match &traces.end(GRACE)[..] {
            [] => gone("was the supervisor killed?"),
            left => {
                let left: Vec<String> = left.iter().map(i32::to_string).collect();
                Err(Failure::passing(format!(
                    "its supervisor is gone, and it cannot be ended: processes {}",
                    left.join(", ")
                )))
            }
        },
    }
}

/// Puts values for names in a text, each once: what a value holds is not read again.
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
    fn a_value_is_put_in_place_once_and_not_read_again() {
        let known = [("{model}", "a {job} $(b)".to_owned()), ("{job}", "7".to_owned())];
        assert_eq!(replace("--{model}/{job}{{job}} {other} {", &known), "--a {job} $(b)/7{7} {other} {");
    }
}
