//! The processes of a run: recorded in its folder so that no others are mistaken for them, found, and terminated.
//!
//! A PID alone does not identify a process: after a restart of the machine, or in another container that shares the
//! folder, it belongs to another process. So the boot, the PID namespace and the start time of the group's leader are
//! noted with it, and a signal is sent only where all of them still agree. A process that has left the group is known
//! by a variable that only this run has in its environment. On Linux the supervisor also knows all its descendants:
//! orphans of the command become its children, in whatever group, session and environment. Unknown are processes that
//! another service has started for the command (a container service, `at`, systemd); and on other systems, or once the
//! supervisor was killed, those that have left the group and cleared their environment.

#[cfg(target_os = "linux")]
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::executor::files;
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};

/// A process that leads a group, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLeader {
    /// The boot ID of the machine: no process survives a reboot.
    boot: String,
    /// The PID namespace: in another one its PID means another process.
    namespace: String,
    /// Its number, which is that of its group.
    number: i32,
    /// When it was started, in clock ticks since the boot.
    began: u64,
}

/// Where the processes of a run may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessScope {
    /// Here.
    Here,
    /// They ended: the machine has been restarted since.
    Restarted,
    /// In another container, or on another machine: not visible from here.
    Elsewhere,
}

/// What is known of the processes of a run.
#[derive(Clone, Debug)]
pub struct RunProcesses {
    supervisor: GroupLeader,
    command: Option<GroupLeader>,
    /// A variable that only this run has, as `NAME=VALUE`: its answer file has a path that no other run has.
    variable: Option<Vec<u8>>,
    /// The supervisor: all its descendants belong to the run, including orphans of the command.
    top: Option<i32>,
    /// The lock of the run: a process that has it open belongs to the run.
    lock: Option<PathBuf>,
}

/// What is read of a task.
#[derive(Deserialize)]
struct Variables {
    variables: Vec<(String, String)>,
}

/// The delay between two checks of processes that are being stopped.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long a process may take to replace its program, and the delay between two checks.
#[cfg(target_os = "linux")]
const MAX_EXEC: Duration = Duration::from_millis(500);
#[cfg(target_os = "linux")]
const EXEC_POLL: Duration = Duration::from_millis(1);

impl GroupLeader {
    /// The process with a number, which leads its group.
    ///
    /// # Errors
    /// If the system does not say so.
    pub fn of(number: u32) -> io::Result<Self> {
        let number = i32::try_from(number).map_err(io::Error::other)?;
        let (boot, namespace) = here()?;
        #[cfg(target_os = "linux")]
        let began = ProcessStat::of(number)?.began;
        #[cfg(not(target_os = "linux"))]
        let began = 0;
        Ok(Self { boot, namespace, number, began })
    }

    /// Records it in a file.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn note(&self, path: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self)
            .map_err(|e| Error::BadValue { what: path.display().to_string(), reason: e.to_string() })?;
        atomic::write_private(path, &bytes)
    }

    fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&atomic::read_external(path, files::MAX_ANSWER_BYTES).ok()??).ok()
    }

    /// Whether its PID still refers to it. A process that has ended keeps its PID until its parent has collected its
    /// exit status.
    #[cfg(target_os = "linux")]
    fn is_there(&self) -> bool {
        ProcessStat::of(self.number).is_ok_and(|stat| stat.began == self.began)
    }
}

/// The boot of this machine, and the PID namespace of this process.
#[cfg(target_os = "linux")]
fn here() -> io::Result<(String, String)> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    Ok((boot, namespace_of("self")?))
}

/// Where the system does not provide this, only the lock of a run shows whether it is running.
#[cfg(not(target_os = "linux"))]
fn here() -> io::Result<(String, String)> {
    Ok(Default::default())
}

#[cfg(target_os = "linux")]
fn namespace_of(process: &str) -> io::Result<String> {
    Ok(fs::read_link(format!("/proc/{process}/ns/pid"))?.to_string_lossy().into_owned())
}

/// The status of a process in /proc.
#[cfg(target_os = "linux")]
struct ProcessStat {
    ended: bool,
    parent: i32,
    group: i32,
    began: u64,
    /// The address of its code; 0 until its program is in place, and for a thread of the kernel.
    code: u64,
}

#[cfg(target_os = "linux")]
impl ProcessStat {
    fn of(number: i32) -> io::Result<Self> {
        let text = fs::read(format!("/proc/{number}/stat"))?;
        let text = String::from_utf8_lossy(&text);
        // A name of a command may hold anything, also brackets and spaces.
        let rest = text.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        match (words.first(), number(1), number(2), number(19), number(23)) {
            (Some(state), Some(parent), Some(group), Some(began), Some(code)) => Ok(Self {
                ended: matches!(*state, "Z" | "X"),
                parent: i32::try_from(parent).unwrap_or_default(),
                group: i32::try_from(group).unwrap_or_default(),
                began,
                code,
            }),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a line of /proc is not understood")),
        }
    }
}

/// A process with an open handle: a signal reaches it and no other, even if its PID is reused.
#[cfg(target_os = "linux")]
struct Process {
    number: i32,
    /// `None` where the system or the container does not support this.
    handle: Option<std::os::fd::OwnedFd>,
}

impl RunProcesses {
    /// Of the run in a folder; `None` if its supervisor is not recorded there.
    pub fn read(folder: &Path) -> Option<Self> {
        let supervisor = GroupLeader::read(&folder.join("started"))?;
        // The same folder may have another name where this process looks at it.
        let task = atomic::read_external(&folder.join("task.json"), files::MAX_TASK_BYTES).ok()??;
        let task: Variables = serde_json::from_slice(&task).ok()?;
        Some(Self::new(&task.variables, supervisor, GroupLeader::read(&folder.join("group"))))
    }

    /// Of a run by the variables of its command, its supervisor, and the command itself if that has begun.
    pub fn new(variables: &[(String, String)], supervisor: GroupLeader, command: Option<GroupLeader>) -> Self {
        let variable = variables.iter().find(|(name, _)| name == ANSWER_FILE);
        let variable = variable.map(|(name, value)| format!("{name}={value}").into_bytes());
        Self { supervisor, command, variable, top: None, lock: None }
    }

    /// With all processes that this process, its supervisor, has below it: also those that have left the group and the
    /// session, and that have cleared their environment.
    pub fn with_all_below_this_process(self) -> Self {
        Self { top: i32::try_from(std::process::id()).ok(), ..self }
    }

    /// With all processes but the supervisor that have the lock of the run open: commands inherit it, and few close it.
    /// This process must not have it open.
    pub fn with_lock_holders(self, lock: &Path) -> Self {
        Self { lock: Some(lock.to_owned()), ..self }
    }

    /// Where its processes are to be looked for.
    pub fn scope(&self) -> ProcessScope {
        match here() {
            Ok((boot, _)) if boot != self.supervisor.boot => ProcessScope::Restarted,
            Ok((_, namespace)) if namespace == self.supervisor.namespace => ProcessScope::Here,
            _ => ProcessScope::Elsewhere,
        }
    }

    /// Asks its processes to end, and kills them if they have not after a while; returns the PIDs of those that are
    /// left.
    pub fn end(&self, grace: Duration) -> Vec<i32> {
        if self.signal(false).is_empty() {
            return Vec::new();
        }
        let mut waited = Duration::ZERO;
        while waited < grace && !self.remaining().is_empty() {
            std::thread::sleep(POLL_INTERVAL);
            waited += POLL_INTERVAL;
        }
        self.kill(grace)
    }

    /// Kills its processes; returns the PIDs of those that are left after a while.
    pub fn kill(&self, patience: Duration) -> Vec<i32> {
        let mut waited = Duration::ZERO;
        loop {
            // Those that were started in the meantime, too.
            let left = self.signal(true);
            if left.is_empty() || waited >= patience {
                return left;
            }
            std::thread::sleep(POLL_INTERVAL);
            waited += POLL_INTERVAL;
        }
    }

    /// The numbers of its processes.
    pub fn remaining(&self) -> Vec<i32> {
        self.processes().into_iter().map(|process| process.number).collect()
    }

    #[cfg(target_os = "linux")]
    fn signal(&self, at_once: bool) -> Vec<i32> {
        use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};
        let processes = self.processes();
        let signal = if at_once { Signal::KILL } else { Signal::TERM };
        for process in &processes {
            // It may have ended in the meantime.
            let _ = match (&process.handle, Pid::from_raw(process.number)) {
                (Some(handle), _) => pidfd_send_signal(handle, signal),
                (None, Some(number)) => kill_process(number, signal),
                (None, None) => Ok(()),
            };
        }
        processes.into_iter().map(|process| process.number).collect()
    }

    /// Its processes that have not ended: those of its group, and those with its variable.
    #[cfg(target_os = "linux")]
    fn processes(&self) -> Vec<Process> {
        use rustix::io::Errno;
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let Ok((boot, namespace)) = here() else { return Vec::new() };
        let is_here = |leader: &GroupLeader| leader.boot == boot && leader.namespace == namespace;
        if !is_here(&self.supervisor) {
            return Vec::new();
        }
        let group = self.command.as_ref().filter(|leader| is_here(leader) && leader.is_there());
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse::<i32>().ok()).filter(|n| *n != own) else {
                continue;
            };
            // The handle is opened first and checked then: the checks apply to the process of the handle.
            let handle = match Pid::from_raw(number).map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
                Some(Ok(handle)) => Some(handle),
                Some(Err(Errno::NOSYS | Errno::PERM)) => None,
                _ => continue,
            };
            let Ok(stat) = ProcessStat::of(number) else { continue };
            if stat.ended {
                continue;
            }
            let in_group = group.is_some_and(|leader| leader.number == stat.group);
            let known = in_group || self.top.is_some_and(|top| is_below(&stat, top));
            if known || ((self.has_variable(number) || self.holds_lock(number)) && is_in(number, &namespace)) {
                found.push(Process { number, handle });
            }
        }
        found
    }

    #[cfg(target_os = "linux")]
    fn has_variable(&self, number: i32) -> bool {
        let Some(own) = &self.variable else { return false };
        environment(number).split(|&byte| byte == 0).any(|variable| variable == own)
    }
}

#[cfg(target_os = "linux")]
impl RunProcesses {
    /// Whether a process that is not the supervisor has the lock of the run open.
    fn holds_lock(&self, number: i32) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Some(lock) = self.lock.as_ref().filter(|_| number != self.supervisor.number) else { return false };
        let same = |place: &Path| {
            // Files with another name are skipped: a file on an unreachable server would block.
            let named = fs::read_link(place).is_ok_and(|target| target.file_name() == lock.file_name());
            let known = if named { fs::metadata(place).ok().zip(fs::metadata(lock).ok()) } else { None };
            known.is_some_and(|(open, own)| (open.dev(), open.ino()) == (own.dev(), own.ino()))
        };
        let open = fs::read_dir(format!("/proc/{number}/fd")).into_iter().flatten().flatten();
        open.map(|entry| entry.path()).any(|place| same(&place))
    }
}

/// The environment of a process; empty for a process of another user, which does not belong to the run.
///
/// While a process replaces its program (`execve`), its environment is empty for an instant: it is read again once the
/// program is in place. A thread of the kernel has no program, and never has an environment.
#[cfg(target_os = "linux")]
fn environment(number: i32) -> Vec<u8> {
    let mut waited = Duration::ZERO;
    let mut is_in_place = false;
    loop {
        let Ok(found) = fs::read(format!("/proc/{number}/environ")) else { return Vec::new() };
        if !found.is_empty()
            || is_in_place
            || waited >= MAX_EXEC
            || fs::read_link(format!("/proc/{number}/exe")).is_err()
        {
            return found;
        }
        // The address of its code is set after its environment.
        is_in_place = ProcessStat::of(number).is_ok_and(|stat| stat.code > 0);
        if !is_in_place {
            std::thread::sleep(EXEC_POLL);
            waited += EXEC_POLL;
        }
    }
}

/// Whether a process has another one above it.
#[cfg(target_os = "linux")]
fn is_below(stat: &ProcessStat, top: i32) -> bool {
    let mut parent = stat.parent;
    // No process has this many ancestors, unless some end during the check.
    for _ in 0..1000 {
        match parent {
            found if found == top => return true,
            ..=1 => return false,
            other => match ProcessStat::of(other) {
                Ok(above) => parent = above.parent,
                Err(_) => return false,
            },
        }
    }
    false
}

/// Collects the exit status of adopted processes, so that they do not stay zombies; not of its own child, whose status
/// is read elsewhere.
#[cfg(target_os = "linux")]
pub fn reap_orphans(child: u32) {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    if !matches!(waitid(WaitId::All, ended | WaitIdOptions::NOWAIT), Ok(Some(_))) {
        return;
    }
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(number) = number.filter(|number| u32::try_from(*number) != Ok(child)) else { continue };
        if ProcessStat::of(number).is_ok_and(|stat| stat.ended && stat.parent == own)
            && let Some(number) = Pid::from_raw(number)
        {
            let _ = waitid(WaitId::Pid(number), ended);
        }
    }
}

/// On other systems no processes are adopted.
#[cfg(not(target_os = "linux"))]
pub fn reap_orphans(_: u32) {}

#[cfg(not(target_os = "linux"))]
impl RunProcesses {
    fn signal(&self, _: bool) -> Vec<i32> {
        Vec::new()
    }

    fn processes(&self) -> Vec<Process> {
        let _ = (&self.command, &self.variable, self.top, &self.lock);
        Vec::new()
    }
}

/// A process.
#[cfg(not(target_os = "linux"))]
struct Process {
    number: i32,
}

#[cfg(target_os = "linux")]
fn is_in(number: i32, namespace: &str) -> bool {
    namespace_of(&number.to_string()).is_ok_and(|its| its == namespace)
}

/// The variable that names the answer file to a command.
pub const ANSWER_FILE: &str = "DRIFTSWEEP_ANSWER_FILE";

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    fn sleeper(variables: &[(String, String)]) -> Child {
        let mut command = Command::new("sleep");
        command.arg("1000").process_group(0).stdin(Stdio::null()).envs(variables.iter().cloned());
        command.spawn().unwrap()
    }

    fn of_run(name: &str) -> Vec<(String, String)> {
        vec![(ANSWER_FILE.into(), format!("/nowhere/{}/{name}/answer.json", std::process::id()))]
    }

    /// All properties of a leader must match, or nothing is sent to its group.
    #[test]
    fn no_strangers_group_of_the_same_number_is_ended() {
        let me = GroupLeader::of(std::process::id()).unwrap();
        let mut stranger = sleeper(&[]);
        let known = GroupLeader::of(stranger.id()).unwrap();
        let others = [
            GroupLeader { boot: "another".into(), ..known.clone() },
            GroupLeader { namespace: "pid:[1]".into(), ..known.clone() },
            GroupLeader { began: known.began + 1, ..known.clone() },
        ];
        for other in others {
            let traces = RunProcesses::new(&of_run("a"), me.clone(), Some(other));
            assert_eq!(traces.end(Duration::from_millis(100)), [0; 0]);
            assert!(stranger.try_wait().unwrap().is_none(), "{traces:?}");
        }
        let elsewhere = [
            (GroupLeader { boot: "another".into(), ..me.clone() }, ProcessScope::Restarted),
            (GroupLeader { namespace: "pid:[1]".into(), ..me.clone() }, ProcessScope::Elsewhere),
        ];
        for (supervisor, reach) in elsewhere {
            let traces = RunProcesses::new(&of_run("a"), supervisor, Some(known.clone()));
            assert_eq!((traces.scope(), traces.remaining()), (reach, vec![]));
        }
        let own = RunProcesses::new(&of_run("a"), me, Some(known));
        assert_eq!((own.scope(), own.remaining()), (ProcessScope::Here, vec![stranger.id() as i32]));
        assert_eq!(own.end(Duration::from_secs(10)), [0; 0]);
        assert!(!stranger.wait().unwrap().success());
    }

    /// A child is given back to its parent before its new environment can be read, which takes longer where it is large: each
    /// is looked for at once.
    #[test]
    fn a_process_that_has_just_been_started_is_found() {
        let me = GroupLeader::of(std::process::id()).unwrap();
        for round in 0..200 {
            let mut variables = of_run(&format!("started-{round}"));
            variables.extend((0..round * 10).map(|number| (format!("VARIABLE_{number}"), "x".into())));
            let mut child = sleeper(&variables);
            let run = RunProcesses::new(&variables, me.clone(), None);
            assert!(run.has_variable(child.id() as i32), "{round}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_process_that_has_left_the_group_is_known_by_its_variable_alone() {
        let (mut own, mut other) = (sleeper(&of_run("b")), sleeper(&of_run("c")));
        let traces = RunProcesses::new(&of_run("b"), GroupLeader::of(std::process::id()).unwrap(), None);
        assert_eq!(traces.remaining(), [own.id() as i32]);
        assert_eq!(traces.kill(Duration::from_secs(10)), [0; 0]);
        assert!(!own.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
