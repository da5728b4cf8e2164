//! Training by a command on this machine. No shell reads it. It outlives the process that starts it: a supervisor of its
//! own stops it when its time is up, keeps the end of its output, and writes down how it ended.
//!
//! In the folder of a run: `task.json` (what to run), `event.json` (the event), `lock` (held as long as the supervisor,
//! or any process of the command that keeps its standard input, lives), `started` (never started twice), `group` (the
//! process group), `output.log` and `output.1.log` (the latest output), `answer.json` (what the command says it cost, and
//! its new baseline, if it does), `cancel` (asks the supervisor to stop it), `result.json` (how it ended).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Ended, Executor, Outcome, Progress, Run, Said};
use crate::atomic;
use crate::error::{Error, Result};
use crate::fleet;
use crate::http::Failure;

/// The executor.
pub struct Local<'a> {
    /// What to run.
    pub command: &'a fleet::Command,
    /// What supervises it: a program that calls [`supervise`] when it is given `supervise FOLDER`.
    pub program: &'a Path,
}

/// What a supervisor is told.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    arguments: Vec<String>,
    folder: PathBuf,
    variables: Vec<(String, String)>,
    /// How long it may take.
    within: SignedDuration,
    log_bytes: u64,
}

/// How long a command has to end when it is asked to, before it is made to.
const GRACE: Duration = Duration::from_secs(10);

/// A supervisor that has not stopped its command so long after its time is gone.
const OVERDUE: SignedDuration = SignedDuration::from_secs(60);

impl Executor for Local<'_> {
    fn start(&self, run: &Run, now: Timestamp) -> std::result::Result<(), Failure> {
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
        for (name, path) in [("DRIFTSWEEP_EVENT_FILE", "event.json"), ("DRIFTSWEEP_ANSWER_FILE", "answer.json")] {
            variables.push((name.into(), file(path).display().to_string()));
        }
        let task = Task {
            arguments: self.command.arguments.iter().map(|argument| in_place(argument)).collect(),
            // The folder of a fleet file that was named without one is empty: here.
            folder: std::path::absolute(Path::new(".").join(&self.command.folder))
                .map_err(|e| Failure::passing(format!("{}: {e}", self.command.folder.display())))?,
            variables,
            within: run.stop_at.duration_since(now),
            log_bytes: self.command.log_bytes,
        };
        let task = serde_json::to_vec_pretty(&task).map_err(|e| Failure::lasting(e.to_string()))?;
        atomic::write(&file("event.json"), run.event.as_bytes())?;
        atomic::write(&file("task.json"), &task)?;
        let mut supervisor = Command::new(self.program);
        supervisor.arg("supervise").arg(&run.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        for name in &run.hidden {
            supervisor.env_remove(name);
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut supervisor, 0);
        let spawned = supervisor.spawn();
        // Its end is known by its lock and its result, not by us; but it is not to stay a zombie while we live.
        let mut child = spawned.map_err(|e| Failure::passing(format!("{}: {e}", self.program.display())))?;
        thread::spawn(move || drop(child.wait()));
        Ok(())
    }

    fn poll(&self, run: &Run, now: Timestamp) -> std::result::Result<Progress, Failure> {
        let file = |name: &str| run.folder.join(name);
        let result = || -> std::result::Result<Option<Progress>, Failure> {
            let Ok(bytes) = fs::read(file("result.json")) else { return Ok(None) };
            let ended: Ended =
                serde_json::from_slice(&bytes).map_err(|e| Failure::passing(format!("result.json: {e}")))?;
            let said = fs::read(file("answer.json")).ok().and_then(|bytes| serde_json::from_slice::<Said>(&bytes).ok());
            let baseline = said.as_ref().and_then(Said::baseline);
            Ok(Some(Progress::Ended(Ended { cost: said.and_then(|said| said.cost()), baseline, ..ended })))
        };
        if let Some(ended) = result()? {
            return Ok(ended);
        }
        let Ok(lock) = OpenOptions::new().read(true).write(true).open(file("lock")) else {
            if run.seen {
                let reason =
                    "its folder is not here: tick on the machine, and with the --state, that it was started with";
                return Err(Failure::passing(reason));
            }
            return Ok(Progress::NotStarted);
        };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                if now.duration_since(run.stop_at) > OVERDUE {
                    // Whoever holds the lock is of that group, or its supervisor: the number is still theirs.
                    end_group(&file("group"), true);
                }
                Ok(Progress::Running)
            }
            Err(TryLockError::Error(e)) => Err(Failure::passing(format!("{}: {e}", file("lock").display()))),
            Ok(()) if !file("started").exists() => Ok(Progress::NotStarted),
            // It may have ended in the meantime.
            Ok(()) => Ok(result()?.unwrap_or_else(|| {
                let reason = "it is gone without a result; was the machine restarted, or the supervisor killed?";
                Progress::Ended(Ended::new(Outcome::Failed, reason))
            })),
        }
    }

    fn cancel(&self, run: &Run, _: Timestamp) -> std::result::Result<(), Failure> {
        Ok(atomic::write(&run.folder.join("cancel"), b"")?)
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

/// Runs the command of a run's folder, unless that was done already, and writes down how it ended.
///
/// # Errors
/// [`Error::Write`], [`Error::Unreadable`] for the folder's files.
pub fn supervise(folder: &Path, clock: &dyn Fn() -> Timestamp) -> Result<()> {
    let file = |name: &str| folder.join(name);
    let failed = |name: &'static str| move |source| Error::Write { path: folder.join(name), source };
    let lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(file("lock"));
    let lock = lock.map_err(failed("lock"))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let bytes = fs::read(file("task.json")).map_err(|e| Error::io(&file("task.json"), &e))?;
    let task: Task = serde_json::from_slice(&bytes)
        .map_err(|e| Error::Unreadable { path: file("task.json"), reason: e.to_string() })?;
    match OpenOptions::new().write(true).create_new(true).open(file("started")) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other.and_then(|started| started.sync_all()).map_err(failed("started"))?,
    }
    let begun = clock();
    // Held until the result is there: a run whose lock is free and that has no result is gone.
    let in_command = lock.try_clone().map_err(failed("lock"))?;
    let ended = run(folder, &task, in_command, begun, clock);
    let took = Some(clock().duration_since(begun).max(SignedDuration::ZERO));
    let result = serde_json::to_vec_pretty(&Ended { took, ..ended })
        .map_err(|e| Error::BadValue { what: "result".into(), reason: e.to_string() })?;
    atomic::write(&file("result.json"), &result)?;
    drop(lock);
    Ok(())
}

fn run(folder: &Path, task: &Task, lock: File, begun: Timestamp, clock: &dyn Fn() -> Timestamp) -> Ended {
    let failed = |reason: String| Ended::new(Outcome::Failed, reason);
    let Some((program, arguments)) = task.arguments.split_first() else { return failed("no command".into()) };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&task.folder).envs(task.variables.iter().map(|(name, value)| (name, value)));
    // The lock lives on in the command: as long as it does, the run is not gone.
    command.stdin(Stdio::from(lock)).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return failed(format!("'{}' in {}: {e}", program.escape_debug(), task.folder.display())),
    };
    let group = folder.join("group");
    let _ = atomic::write(&group, child.id().to_string().as_bytes());
    let pipes: [Option<Box<dyn Read + Send>>; 2] =
        [child.stdout.take().map(|p| Box::new(p) as _), child.stderr.take().map(|p| Box::new(p) as _)];
    let log = std::sync::Arc::new(std::sync::Mutex::new(Log::new(folder, task.log_bytes)));
    let (written, all_written) = channel::<()>();
    for mut pipe in pipes.into_iter().flatten() {
        let (log, written) = (log.clone(), written.clone());
        thread::spawn(move || {
            let mut buffer = [0; 1 << 14];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                if let Ok(mut log) = log.lock() {
                    log.write(&buffer[..n]);
                }
            }
            drop(written);
        });
    }
    drop(written);
    let (ends, end) = channel();
    thread::spawn(move || ends.send(child.wait()));

    const SLICE: Duration = Duration::from_millis(200);
    let mut stopped = None;
    let status = loop {
        match end.recv_timeout(SLICE) {
            Ok(status) => break Some(status),
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if folder.join("cancel").exists() {
            stopped = Some(Outcome::Cancelled);
        } else if clock().duration_since(begun) >= task.within {
            stopped = Some(Outcome::TimedOut);
        }
        if stopped.is_some() {
            end_group(&group, false);
            break end.recv_timeout(GRACE).ok().or_else(|| {
                end_group(&group, true);
                end.recv_timeout(GRACE).ok()
            });
        }
    };
    // Nothing that it left behind goes on.
    end_group(&group, true);
    let _ = all_written.recv_timeout(Duration::from_secs(2));
    match (stopped, status) {
        (Some(Outcome::TimedOut), _) => Ended::new(Outcome::TimedOut, "it took longer than its timeout"),
        (Some(outcome), _) => Ended::new(outcome, "it was stopped"),
        (None, Some(Ok(status))) if status.success() => Ended::new(Outcome::Succeeded, ""),
        (None, Some(Ok(status))) => failed(describe(status, &folder.join("output.log"))),
        (None, Some(Err(e))) => failed(e.to_string()),
        (None, None) => failed("nobody knows how it ended".into()),
    }
}

fn describe(status: ExitStatus, log: &Path) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("it was ended by signal {signal}; its output is in {}", log.display());
    }
    format!("exit code {}; its output is in {}", status.code().unwrap_or(-1), log.display())
}

/// Asks a process group to end, or makes it.
fn end_group(file: &Path, at_once: bool) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process_group};
        let number = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        if let Some(group) = number.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, if at_once { Signal::KILL } else { Signal::TERM });
        }
    }
    #[cfg(not(unix))]
    let _ = (file, at_once);
}

/// The end of an output: at most so many bytes of it, in two files.
struct Log {
    path: PathBuf,
    older: PathBuf,
    file: Option<File>,
    bytes: u64,
    most: u64,
}

impl Log {
    fn new(folder: &Path, most: u64) -> Self {
        let path = folder.join("output.log");
        let file = File::create(&path).ok();
        Self { path, older: folder.join("output.1.log"), file, bytes: 0, most: most / 2 }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.bytes + bytes.len() as u64 > self.most && self.bytes > 0 {
            let _ = fs::rename(&self.path, &self.older);
            self.file = File::create(&self.path).ok();
            self.bytes = 0;
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(bytes);
        }
        self.bytes += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_put_in_place_once_and_not_read_again() {
        let known = [("{model}", "a {job} $(b)".to_owned()), ("{job}", "7".to_owned())];
        assert_eq!(replace("--{model}/{job}{{job}} {other} {", &known), "--a {job} $(b)/7{7} {other} {");
    }

    #[test]
    fn a_log_keeps_the_end_of_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::new(folder.path(), 2000);
        (0..1000).for_each(|i| log.write(format!("line {i:04}\n").as_bytes()));
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let kept = read("output.1.log") + &read("output.log");
        assert!(kept.ends_with("line 0999\n") && (1000..=2000).contains(&kept.len()), "{}", kept.len());
    }
}
