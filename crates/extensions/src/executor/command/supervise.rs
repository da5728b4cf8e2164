//! The supervisor of a command: a process of its own that outlives the tick. It runs the command once, stops it at its
//! timeout, keeps the end of its output, and writes its result.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::environment;
use super::processes::{GroupLeader, RunProcesses};
use crate::executor::files;
use crate::executor::{RESULTS, RunOutcome, RunResult};
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};

/// The task of a supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SupervisorTask {
    pub(super) arguments: Vec<String>,
    pub(super) folder: PathBuf,
    pub(super) variables: Vec<(String, String)>,
    /// Variables that the fleet file names for it; their values are in the supervisor's environment, not here.
    #[serde(default)]
    pub(super) env: Vec<String>,
    /// How long it may take.
    pub(super) within: SignedDuration,
    pub(super) log_bytes: u64,
}

/// The result of a run, as its supervisor writes it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ResultFile {
    #[serde(flatten)]
    pub(super) ended: RunResult,
    /// The key of the run. Older versions have none.
    #[serde(default)]
    pub(super) key: String,
}

/// What a `cancel` must hold: only a process with the key of the run can write it, and it does not reveal the key.
pub(super) fn cancel_token(key: &str) -> String {
    atomic::hex(&Sha256::digest(format!("cancel {key}")))
}

/// The time that a command has to end when asked, before it is killed.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// The heartbeat file of a supervisor.
pub(super) const HEARTBEAT_FILE: &str = "alive";

/// How often it is written.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How often the supervisor checks whether the command has ended or must be stopped.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The longest time of attempts to write a result.
const RESULT_RETRY_LIMIT: Duration = Duration::from_secs(7 * 86_400);

/// The longest delay between two attempts.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Runs the command of a run's folder, unless that was done already, and writes its result, with the key of the run.
/// `elapsed` gives the running time of this process, by a monotonic clock. This process must do nothing else: all its
/// descendants are treated as processes of the command.
///
/// # Errors
/// [`Error::Write`], [`Error::Unreadable`] for the folder's files.
pub fn supervise(folder: &Path, key: &str, elapsed: &dyn Fn() -> Duration) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, getpid, set_child_subreaper, set_dumpable_behavior};
        // Orphans of the command become children of this process. If the system refuses this, they are still known by
        // their group and variable.
        let _ = set_child_subreaper(Some(getpid()));
        // The key is in the memory of this process: no other process of the user may read it there.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
    supervise_with(folder, key, elapsed, true)
}

/// The same; `alone` says whether all descendants of this process belong to the command.
fn supervise_with(folder: &Path, key: &str, elapsed: &dyn Fn() -> Duration, alone: bool) -> Result<()> {
    let file = |name: &str| folder.join(name);
    let failed = |name: &'static str| move |source| Error::Write { path: folder.join(name), source };
    let lock = atomic::lock_file(&file("lock"), true).map_err(failed("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        // Another supervisor holds it.
        Err(fs::TryLockError::WouldBlock) => return Ok(()),
        Err(fs::TryLockError::Error(e)) => return Err(failed("lock")(e)),
    }
    if file("started").exists() {
        return Ok(());
    }
    let unreadable = |reason: String| Error::Unreadable { path: file("task.json").into(), reason };
    let bytes =
        atomic::read_external(&file("task.json"), files::MAX_TASK_BYTES).map_err(|e| unreadable(e.to_string()))?;
    let bytes = bytes.ok_or_else(|| unreadable("it is not there".into()))?;
    let task: SupervisorTask = serde_json::from_slice(&bytes).map_err(|e| unreadable(e.to_string()))?;
    // Without room for its result nothing is started: the next tick tries again.
    let reserve = ReservedSpace::new(folder)?;
    let heart = start_heartbeat(&file(HEARTBEAT_FILE)).map_err(failed(HEARTBEAT_FILE))?;
    let supervisor = GroupLeader::of(std::process::id()).map_err(failed("started"))?;
    supervisor.note(&file("started"))?;
    // Held until the result is written: a run with a free lock and no result is dead.
    let begun = elapsed();
    let ended = run(folder, (&task, key), (supervisor, alone), &lock, elapsed);
    let took = SignedDuration::try_from(elapsed().saturating_sub(begun)).ok();
    let written = ResultFile { ended: RunResult { took, ..ended }, key: key.into() };
    let result =
        RESULTS.write(&written).map_err(|e| Error::BadValue { what: "result".into(), reason: e.to_string() })?;
    retry(&mut || reserve.write(result.as_bytes()), &mut |pause| thread::sleep(pause))?;
    drop(heart);
    drop(lock);
    Ok(())
}

/// Writes a file every few seconds, until what is returned is dropped or this process ends: others see from its time
/// that the supervisor is alive.
fn start_heartbeat(path: &Path) -> std::io::Result<Sender<()>> {
    let mut file = files::create(path)?;
    file.write_all(b"1")?;
    let (heart, stopped) = channel::<()>();
    thread::spawn(move || {
        while stopped.recv_timeout(HEARTBEAT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            // In place: this needs no space on a full disk.
            let _ = file.rewind().and_then(|()| file.write_all(b"1")).and_then(|()| file.sync_data());
        }
    });
    Ok(heart)
}

/// Retries with increasing delays, for up to a week.
fn retry(attempt: &mut dyn FnMut() -> Result<()>, rest: &mut dyn FnMut(Duration)) -> Result<()> {
    let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(100));
    loop {
        match attempt() {
            Err(_) if waited < RESULT_RETRY_LIMIT => rest(pause),
            done => return done,
        }
        waited += pause;
        pause = (pause * 2).min(MAX_RETRY_DELAY);
    }
}

/// Disk space reserved for the result: a successful training must be able to report it even if it has filled the disk.
struct ReservedSpace<'a> {
    folder: &'a Path,
}

/// The largest result.
const RESERVED_BYTES: usize = 32 << 10;

impl<'a> ReservedSpace<'a> {
    fn new(folder: &'a Path) -> Result<Self> {
        let path = folder.join("reserve");
        // Bytes that no file system skips or compresses.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = Vec::with_capacity(RESERVED_BYTES);
        while bytes.len() < RESERVED_BYTES {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&(state ^ (state >> 31)).to_le_bytes());
        }
        let write = || {
            let mut file = files::create(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(|source| Error::Write { path: path.clone(), source })?;
        Ok(Self { folder })
    }

    /// Writes the result: to a new file, or else into the reserved space, or else in place of the older log.
    fn write(&self, result: &[u8]) -> Result<()> {
        let path = self.folder.join("result.json");
        let reserve = self.folder.join("reserve");
        // Anything that the command has put there is removed.
        files::remove_folder(&path).map_err(|source| Error::Write { path: path.clone(), source })?;
        if atomic::write_private(&path, result).is_ok() || Self::fill(&reserve, &path, result).is_ok() {
            let _ = fs::remove_file(&reserve);
            return Ok(());
        }
        // Some file systems need free space even to overwrite.
        let _ = fs::remove_file(self.folder.join("output.1.log"));
        let _ = fs::remove_file(&reserve);
        atomic::write_private(&path, result)
    }

    fn fill(reserve: &Path, path: &Path, result: &[u8]) -> std::io::Result<()> {
        let mut file = atomic::open_regular(reserve, OpenOptions::new().write(true))?;
        file.write_all(result)?;
        file.set_len(result.len() as u64)?;
        file.sync_all()?;
        fs::rename(reserve, path)
    }
}

fn run(
    folder: &Path,
    (task, key): (&SupervisorTask, &str),
    (supervisor, alone): (GroupLeader, bool),
    lock: &File,
    elapsed: &dyn Fn() -> Duration,
) -> RunResult {
    let failed = |reason: String| RunResult::new(RunOutcome::Failed, reason);
    let Some((program, arguments)) = task.arguments.split_first() else { return failed("no command".into()) };
    let log = Arc::new(Mutex::new(Log::new(folder, task.log_bytes)));
    let begun = elapsed();
    let mut child = match start(task, program, arguments, lock) {
        Ok(child) => child,
        Err(e) => {
            return failed(format!(
                "'{}' in {}: {e}",
                driftsweep_common::escape::for_display(program),
                task.folder.display()
            ));
        }
    };
    // Its PID stays valid until its exit status is read, below.
    let leader = GroupLeader::of(child.id()).ok();
    if let Some(leader) = &leader {
        // If this cannot be written, its processes are still known by their variable.
        let _ = leader.note(&folder.join("group"));
    }
    let traces = RunProcesses::new(&task.variables, supervisor, leader);
    let traces = if alone { traces.with_all_below_this_process() } else { traces };
    let cancel_token = cancel_token(key);
    let is_called_off = || {
        let found = atomic::read_external(&folder.join("cancel"), files::MAX_ANSWER_BYTES).ok().flatten();
        found.is_some_and(|found| found == cancel_token.as_bytes())
    };
    let pipes: [Option<Box<dyn Read + Send>>; 2] =
        [child.stdout.take().map(|p| Box::new(p) as _), child.stderr.take().map(|p| Box::new(p) as _)];
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

    let mut stopped = None;
    while !has_ended(&mut child) {
        thread::sleep(POLL_INTERVAL);
        if alone {
            super::processes::reap_orphans(child.id());
        }
        if is_called_off() {
            stopped = Some(RunOutcome::Cancelled);
        } else if SignedDuration::try_from(elapsed().saturating_sub(begun)).is_ok_and(|took| took >= task.within) {
            stopped = Some(RunOutcome::TimedOut);
        }
        if stopped.is_some() {
            end_group(&child, false);
            let asked = elapsed();
            while !has_ended(&mut child) && elapsed().saturating_sub(asked) < GRACE {
                thread::sleep(POLL_INTERVAL);
            }
            break;
        }
    }
    // Remaining processes are stopped: signalled before the exit status is read, while the PID is still valid.
    end_group(&child, true);
    traces.kill(GRACE);
    let asked = elapsed();
    while !has_ended(&mut child) && elapsed().saturating_sub(asked) < GRACE {
        thread::sleep(POLL_INTERVAL);
    }
    let status = if has_ended(&mut child) { Some(child.wait()) } else { None };
    let _ = all_written.recv_timeout(Duration::from_secs(2));
    match (stopped, status) {
        (Some(RunOutcome::TimedOut), _) => RunResult::new(RunOutcome::TimedOut, "it took longer than its timeout"),
        (Some(outcome), _) => RunResult::new(outcome, "it was stopped"),
        (None, Some(Ok(status))) if status.success() => RunResult::new(RunOutcome::Succeeded, ""),
        (None, Some(Ok(status))) => failed(describe(status, &folder.join("output.log"))),
        (None, Some(Err(e))) => failed(e.to_string()),
        (None, None) => failed("its result is unknown".into()),
    }
}

fn start(task: &SupervisorTask, program: &str, arguments: &[String], lock: &File) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&task.folder);
    command.env_clear().envs(environment::variables_for(&task.env));
    command.envs(task.variables.iter().map(|(name, value)| (name, value)));
    // The command inherits the lock: as long as it is held, the run is alive.
    command.stdin(Stdio::from(lock.try_clone()?)).stdout(Stdio::piped()).stderr(Stdio::piped());
    // And under a second number, for commands that close their standard input or read something else there.
    let second = lock.try_clone()?;
    #[cfg(unix)]
    {
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        rustix::io::fcntl_setfd(&second, rustix::io::FdFlags::empty())?;
    }
    let child = command.spawn();
    drop(second);
    child
}

/// Whether a command has ended; it may still be asked how.
#[cfg(unix)]
fn has_ended(child: &mut Child) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let Some(number) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return true };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(number), options) {
        Ok(found) => found.is_some(),
        // A signal came in between.
        Err(e) => e != rustix::io::Errno::INTR,
    }
}

#[cfg(not(unix))]
fn has_ended(child: &mut Child) -> bool {
    child.try_wait().is_ok_and(|status| status.is_some())
}

/// Asks the group of a command to end, or kills it. The exit status of the command must not have been read yet.
fn end_group(child: &Child, at_once: bool) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process_group};
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, if at_once { Signal::KILL } else { Signal::TERM });
        }
    }
    #[cfg(not(unix))]
    let _ = (child, at_once);
}

fn describe(status: ExitStatus, log: &Path) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("it was ended by signal {signal}; its output is in {}", log.display());
    }
    format!("exit code {}; its output is in {}", status.code().unwrap_or(-1), log.display())
}

/// The end of an output, limited in size, in two files.
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
        let file = Self::create(&path);
        Self { path, older: folder.join("output.1.log"), file, bytes: 0, most: most / 2 }
    }

    fn create(path: &Path) -> Option<File> {
        files::create(path).ok()
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.bytes + bytes.len() as u64 > self.most && self.bytes > 0 {
            let _ = fs::rename(&self.path, &self.older);
            self.file = Self::create(&self.path);
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
    fn a_log_keeps_the_end_of_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::new(folder.path(), 2000);
        (0..1000).for_each(|i| log.write(format!("line {i:04}\n").as_bytes()));
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let kept = read("output.1.log") + &read("output.log");
        assert!(kept.ends_with("line 0999\n") && (1000..=2000).contains(&kept.len()), "{}", kept.len());
    }

    #[test]
    fn a_result_that_cannot_be_written_is_tried_again_for_days() {
        let failed = || Err(Error::Backend("the disk is full".into()));
        let (mut tries, mut waited) = (0, Duration::ZERO);
        let mut attempt = || {
            tries += 1;
            if tries < 5000 { failed() } else { Ok(()) }
        };
        retry(&mut attempt, &mut |pause| waited += pause).unwrap();
        assert!(waited > Duration::from_secs(86_400), "{waited:?}");
        let mut waited = Duration::ZERO;
        assert!(retry(&mut || failed(), &mut |pause| waited += pause).is_err(), "in the end it gives up");
        assert!(waited > Duration::from_secs(6 * 86_400));
    }

    #[test]
    fn a_result_is_written_in_the_room_that_was_kept_for_it() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let reserve = ReservedSpace::new(folder.path()).unwrap();
        let known = fs::metadata(folder.path().join("reserve")).unwrap();
        assert!(
            known.len() as usize >= RESERVED_BYTES && known.blocks() * 512 >= known.len(),
            "not a hole in the file"
        );
        ReservedSpace::fill(&folder.path().join("reserve"), &folder.path().join("result.json"), b"{}").unwrap();
        let written = fs::metadata(folder.path().join("result.json")).unwrap();
        assert_eq!((written.ino(), written.len(), written.mode() & 0o777), (known.ino(), 2, 0o600));
        reserve.write(b"{\"again\": 1}").unwrap();
        assert_eq!(fs::read(folder.path().join("result.json")).unwrap(), b"{\"again\": 1}");
        // Nothing is written through what a command has put in the place of that room.
        let (victim, link) = (folder.path().join("victim"), folder.path().join("link"));
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert!(ReservedSpace::fill(&link, &folder.path().join("other.json"), b"{}").is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    }

    /// The wall clock plays no part: only the clock that is handed in does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_command_is_timed_by_the_clock_that_nobody_sets() {
        for (hours, wanted) in [(0, RunOutcome::Succeeded), (2, RunOutcome::TimedOut)] {
            let folder = tempfile::tempdir().unwrap();
            let task = SupervisorTask {
                arguments: ["sleep", "0.4"].map(str::to_owned).into(),
                folder: folder.path().into(),
                variables: Vec::new(),
                env: Vec::new(),
                within: SignedDuration::from_hours(1),
                log_bytes: 1000,
            };
            fs::write(folder.path().join("task.json"), serde_json::to_vec(&task).unwrap()).unwrap();
            let looks = std::cell::Cell::new(0);
            let elapsed = || {
                looks.set(looks.get() + 1);
                // A jump after the command has been started.
                if looks.get() > 2 { Duration::from_secs(3600 * hours) } else { Duration::ZERO }
            };
            supervise_with(folder.path(), "the key", &elapsed, false).unwrap();
            let result = fs::read(folder.path().join("result.json")).unwrap();
            let ResultFile { ended, key } = serde_json::from_slice(&result).unwrap();
            assert_eq!((ended.outcome, &*key), (wanted, "the key"));
            assert!(!folder.path().join("reserve").exists());
        }
    }
}
