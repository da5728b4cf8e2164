//! What a training command cannot do: against commands that mean harm, or are careless.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use driftsweep_common::error::Error;
use jiff::SignedDuration;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::jobs::open;
use crate::support::output::all_output;
use crate::support::processes::{leader, lives, supervise, until};
use crate::support::script::Place;

fn kill(number: i32) {
    kill_process(Pid::from_raw(number).unwrap(), Signal::KILL).unwrap();
}

/// The folder of a run, as a command that looks for it finds it.
const LOOK: &str = "D=${DRIFTSWEEP_ANSWER_FILE%/exchange/answer.json}; ";

/// A result as a command might write it.
const FORGED: &str = "echo '{\"outcome\": \"succeeded\", \"reason\": \"\", \"took\": null, \"cost\": null, \"baseline\": null, \
                      \"key\": \"0000\"}' > $D/result.json; ";

#[test]
fn a_result_that_the_command_wrote_itself_does_not_count() {
    // While it runs, and when it ends otherwise.
    let place = Place::new(&format!("{LOOK}{FORGED}: > forged; while [ ! -e go ]; do sleep 0.02; done; exit 3"));
    place.pass();
    until("it has forged its result", || place.path("forged").exists());
    assert_eq!(place.pass().failures, []);
    assert_eq!(place.job().state.name(), "running", "it still runs");
    fs::write(place.path("go"), "").unwrap();
    place.ends();
    assert!(place.job().state.reason().contains("exit code 3"), "{:?}", place.job());

    // And when its supervisor is killed, with a key or without.
    for forged in [FORGED.to_owned(), FORGED.replace(", \"key\": \"0000\"", ""), "echo junk > $D/result.json; ".into()]
    {
        let place = Place::new(&format!("{LOOK}{forged}: > forged; exec sleep 1000"));
        place.pass();
        until("it has forged its result", || place.path("forged").exists() && place.run().join("group").exists());
        let (supervisor, command) = (leader(&place.run().join("started")), leader(&place.run().join("group")));
        kill(supervisor);
        until("the supervisor is dead", || !lives(supervisor));
        kill(command);
        place.ends();
        assert_eq!(place.job().state.name(), "failed", "{forged}");
        assert!(place.job().state.reason().contains("not written by its supervisor"), "{:?}", place.job());
    }
}

#[test]
fn whatever_a_command_puts_in_the_place_of_a_result_gives_way_and_no_link_is_followed() {
    for script in [
        "mkdir -p $D/result.json/inner; : > $D/result.json/inner/x",
        "mkfifo $D/result.json",
        "ln -s $PWD/victim $D/result.json",
        "ln -s nowhere $D/result.json",
        "rm $D/reserve; ln -s $PWD/victim $D/reserve",
        "rm $D/reserve; mkfifo $D/reserve",
        "ln -s $PWD/victim $D/output.1.log; seq 5000",
        "rm $D/output.log; ln -s $PWD/victim $D/output.log; seq 5000",
        "rm $D/alive; ln -s $PWD/victim $D/alive",
    ] {
        let place = Place::with("log_bytes = 2048", &format!("{LOOK}{script}; exit 0"));
        fs::write(place.path("victim"), "untouched").unwrap();
        place.ends();
        assert_eq!(place.job().state.name(), "succeeded", "{script}: {:?}", place.job());
        assert_eq!(fs::read_to_string(place.path("victim")).unwrap(), "untouched", "{script}");
        assert!(fs::symlink_metadata(place.run().join("result.json")).unwrap().is_file(), "{script}");
    }
}

#[test]
fn the_page_of_a_job_neither_follows_nor_waits_for_what_a_command_has_put_in_the_place_of_its_output() {
    for script in ["mkfifo $D/output.1.log", "ln -s $PWD/victim $D/output.1.log", "echo fine"] {
        let place = Place::new(&format!("{LOOK}{script}; exit 1"));
        fs::write(place.path("victim"), "of somebody else").unwrap();
        place.ends();
        let page =
            all_output(&place.program(&["jobs", "show", "event", "--state", "state", "--store", &place.store], &[]));
        assert!(page.contains("exit code 1") && !page.contains("of somebody else"), "{page}");
        assert_eq!(page.contains("  fine"), script == "echo fine", "{page}");
    }
}

#[test]
fn a_command_cannot_call_itself_off_and_cannot_keep_others_from_doing_so() {
    for own in [": > $D/cancel", "echo 0000 > $D/cancel", "mkfifo $D/cancel", "mkdir $D/cancel"] {
        let place = Place::new(&format!("{LOOK}{own}; sleep 0.5; exit 0"));
        place.ends();
        assert_eq!(place.job().state.name(), "succeeded", "{own}");
    }
    for own in ["mkdir -p $D/cancel/x", "mkfifo $D/cancel", "ln -s $PWD/victim $D/cancel"] {
        let place = Place::new(&format!("{LOOK}{own}; : > done; exec sleep 1000"));
        fs::write(place.path("victim"), "untouched").unwrap();
        place.pass();
        until("it has begun", || place.path("done").exists());
        let args = ["jobs", "cancel", "event", "fleet.toml", "--by", "ana", "--reason", "x", "--state", "state"];
        let output = place.program(&[&args[..], &["--store", &place.store]].concat(), &[]);
        assert!(output.status.success(), "{}", all_output(&output));
        place.ends();
        assert_eq!(place.job().state.name(), "cancelled", "{own}");
        assert_eq!(fs::read_to_string(place.path("victim")).unwrap(), "untouched");
    }
}

#[test]
fn a_command_that_removes_the_traces_of_its_start_is_not_started_again() {
    for removed in ["started", "started group", "started lock", "started group lock task.json"] {
        let paths: Vec<String> = removed.split(' ').map(|name| format!("$D/{name}")).collect();
        let place = Place::new(&format!(
            "{LOOK}echo x >> ran; echo $$ > live; while [ ! -e go ]; do sleep 0.02; done; rm -f {}; : > gone; exec sleep 1000",
            paths.join(" ")
        ));
        place.pass();
        until("it has begun", || place.run().join("group").exists());
        let supervisor = leader(&place.run().join("started"));
        fs::write(place.path("go"), "").unwrap();
        until("it has removed them", || place.path("gone").exists());
        kill(supervisor);
        until("the supervisor is dead", || !lives(supervisor));
        kill(fs::read_to_string(place.path("live")).unwrap().trim().parse().unwrap());
        for _ in 0..20 {
            place.pass();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(fs::read_to_string(place.path("ran")).unwrap(), "x\n", "without {removed} it was started again");
    }
}

#[test]
fn the_key_of_a_run_is_in_none_of_its_files_and_is_not_shown() {
    let place = Place::new(
        "cat /proc/self/environ /proc/$PPID/environ > seen; : > begun; while [ ! -e go ]; do sleep 0.02; done",
    );
    place.pass();
    until("it has begun", || place.path("begun").exists());
    let key = place.job().key.unwrap();
    assert_eq!(key.len(), 64);
    let holds =
        |path: &Path| fs::read(path).unwrap_or_default().windows(key.len()).any(|window| window == key.as_bytes());
    let mut files = vec![place.path("seen")];
    for folder in [place.run(), place.run().join("exchange")] {
        files.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    for file in files {
        assert!(!holds(&file), "{}", file.display());
    }
    for args in [
        &["jobs", "show", "event", "--format", "json"][..],
        &["jobs", "show", "event"],
        &["jobs", "list", "--format", "json"],
        &["audit", "export"],
    ] {
        let output = place.program(&[args, &["fleet.toml", "--store", &place.store]].concat(), &[]);
        assert!(output.status.success() && all_output(&output).contains("event"), "{args:?}: {}", all_output(&output));
        assert!(!all_output(&output).contains(&key), "{args:?}");
    }
    fs::write(place.path("go"), "").unwrap();
    place.ends();
    assert_eq!((place.job().state.name(), place.job().key), ("succeeded", None));
    // A supervisor that is given no key starts nothing.
    let folder = place.path("other");
    fs::create_dir(&folder).unwrap();
    fs::copy(place.run().join("task.json"), folder.join("task.json")).unwrap();
    let output = place.program(&["supervise", &folder.display().to_string()], &[]);
    assert!(!output.status.success() && all_output(&output).contains("started by a tick"), "{}", all_output(&output));
    assert!(!folder.join("started").exists());
}

/// Closes all that a shell was given but the first three, and its standard input.
const CLOSE: &str = "exec 0</dev/null; for fd in /proc/$$/fd/*; do n=${fd##*/}; [ $n -gt 2 ] && [ $n -lt 10 ] && eval \"exec $n<&-\"; done; ";

#[test]
fn what_a_command_leaves_behind_is_ended_with_it_wherever_it_has_gone() {
    let hide = format!("setsid env -i /bin/sh -c '{CLOSE}echo $$ >> live; exec sleep 1000' >/dev/null 2>&1 &");
    let twice = format!(
        "setsid env -i /bin/sh -c '{CLOSE}setsid /bin/sh -c \"echo \\$\\$ >> live; exec sleep 1000\" & exit' >/dev/null 2>&1 &"
    );
    let deaf = format!(
        "setsid env -i /bin/sh -c '{CLOSE}trap \"\" TERM HUP; echo $$ >> live; while :; do sleep 0.1; done' >/dev/null 2>&1 &"
    );
    let wait = "until [ -s live ]; do sleep 0.02; done; ";
    for (hides, ends, wanted) in [
        (&hide, "exit 0", "succeeded"),
        (&twice, "exit 0", "succeeded"),
        (&deaf, "exit 0", "succeeded"),
        (&hide, "exit 1", "failed"),
        (&hide, "kill -9 $$", "failed"),
        (&hide, "exec sleep 1000", "timed_out"),
    ] {
        let place = Place::new(&format!("{hides} {wait}{ends}"));
        let place = if wanted == "timed_out" { place.changed("timeout = \"1h\"", "timeout = \"2s\"") } else { place };
        place.ends();
        assert_eq!(place.job().state.name(), wanted, "{:?}", place.job());
        let left: i32 = fs::read_to_string(place.path("live")).unwrap().trim().parse().unwrap();
        assert!(!lives(left), "it lives on after '{ends}': {hides}");
    }
}

#[test]
fn what_has_ended_under_a_supervisor_does_not_stay_listed_while_the_command_goes_on() {
    let place = Place::new(
        "for i in 1 2 3 4 5 6; do (setsid sh -c 'sleep 0.2' &); done; : > begun; while [ ! -e go ]; do sleep 0.02; done",
    );
    place.pass();
    until("it has begun", || place.path("begun").exists());
    let supervisor = leader(&place.run().join("started"));
    let is_child = |stat: &String| {
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&supervisor.to_string()))
    };
    until("the command alone is below it", || {
        let all = fs::read_dir("/proc").unwrap();
        let stats = all.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        stats.filter(is_child).count() == 1
    });
    fs::write(place.path("go"), "").unwrap();
    place.ends();
    assert_eq!(place.job().state.name(), "succeeded");
}

#[test]
fn a_process_that_holds_the_lock_of_a_run_long_after_its_time_is_ended() {
    // Its supervisor was killed; it has left the session and cleared its environment, but not closed what it was given.
    let hide = "setsid env -i /bin/sh -c 'echo $$ >> live; exec sleep 1000' &";
    let place = Place::new(&format!(
        "{hide} until [ -s live ]; do sleep 0.02; done; while [ ! -e go ]; do sleep 0.02; done; kill -9 $$"
    ));
    place.pass();
    until("it hides", || fs::read_to_string(place.path("live")).is_ok_and(|text| !text.trim().is_empty()));
    let supervisor = leader(&place.run().join("started"));
    let hidden: i32 = fs::read_to_string(place.path("live")).unwrap().trim().parse().unwrap();
    kill(supervisor);
    until("the supervisor is dead", || !lives(supervisor));
    fs::write(place.path("go"), "").unwrap();
    let command = leader(&place.run().join("group"));
    until("the command is gone", || !lives(command));
    place.pass();
    assert!(lives(hidden) && place.job().state.name() == "running", "it is under way as long as it holds the lock");
    place.pass_at(place.now + SignedDuration::from_mins(70));
    assert!(!lives(hidden));
    assert_eq!(place.job().state.name(), "timed_out");
}

#[test]
fn lock_files_are_neither_emptied_nor_reached_through_links() {
    // Of a run.
    let place = Place::new("true");
    fs::write(place.path("victim"), "untouched").unwrap();
    fs::create_dir_all(place.run()).unwrap();
    symlink(place.path("victim"), place.run().join("lock")).unwrap();
    fs::write(place.run().join("task.json"), "{}").unwrap();
    let told = all_output(&supervise(&place.run()));
    assert!(told.contains("lock") && told.contains("symbolic link"), "{told}");
    let passed = place.pass();
    assert!(passed.failures[0].reason.contains("symbolic link"), "{passed:?}");
    // Of the store.
    let place = Place::new("true");
    fs::write(place.path("victim"), "untouched").unwrap();
    let locks: Vec<PathBuf> = fs::read_dir(place.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "lock"))
        .collect();
    place.pass();
    let all: Vec<PathBuf> = fs::read_dir(place.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "lock"))
        .collect();
    assert!(all.len() > locks.len(), "{all:?}");
    for lock in &all {
        fs::remove_file(lock).unwrap();
        symlink(place.path("victim"), lock).unwrap();
    }
    let output = place.program(&["tick", "--threads", "1", "--state", "state", "--store", &place.store], &[]);
    assert!(!output.status.success() && all_output(&output).contains("symbolic link"), "{}", all_output(&output));
    assert_eq!(fs::read_to_string(place.path("victim")).unwrap(), "untouched");
    // One word of another program in a lock file stays there.
    for lock in &all {
        fs::remove_file(lock).unwrap();
        fs::write(lock, "a word").unwrap();
    }
    place.ends();
    for lock in &all {
        assert_eq!(fs::read_to_string(lock).unwrap(), "a word", "{}", lock.display());
    }
    // Of a sweep.
    let state = place.path("swept");
    fs::create_dir(&state).unwrap();
    symlink(place.path("victim"), state.join("sweep.journal")).unwrap();
    let failed = driftsweep::sweep::Journal::open(&state, "f", "2026-01-01T00:00:00Z", |_| true).unwrap_err();
    assert!(failed.to_string().contains("symbolic link"), "{failed}");
    assert_eq!(fs::read_to_string(place.path("victim")).unwrap(), "untouched");
}

#[test]
fn a_store_that_is_named_through_a_link_has_the_same_locks() {
    let place = Place::new("true");
    let link = place.path("link.sqlite");
    symlink(&place.store, &link).unwrap();
    let link = link.display().to_string();
    open(&place.store, &place.yard.fleet)
        .with_lock("jobs", |_| {
            let other = open(&link, &place.yard.fleet).with_lock("jobs", |_| Ok(()));
            assert!(matches!(other, Err(Error::Locked { .. })));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_place_whose_name_is_not_utf_8_is_refused_in_words_and_no_other_is_made() {
    let place = Place::new("true");
    let odd = std::ffi::OsString::from_vec(b"caf\xe9".to_vec());
    let before = || fs::read_dir(place.path("")).unwrap().count();
    let count = before();
    let run = |change: &dyn Fn(&mut Command)| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(["tick", "--threads", "1", "--store", &place.store]).current_dir(place.path(""));
        change(&mut command);
        let output = command.output().unwrap();
        (output.status.code(), all_output(&output))
    };
    let flags: [&dyn Fn(&mut Command); 4] = [
        &|command| {
            command.arg("--state").arg(&odd);
        },
        &|command| {
            command.arg("--state").arg("state").arg("--history").arg(&odd);
        },
        &|command| {
            command.env("DRIFTSWEEP_STATE", &odd);
        },
        &|command| {
            command.env("DRIFTSWEEP_STORE", &odd);
        },
    ];
    for (number, change) in flags.into_iter().enumerate() {
        let (code, told) = run(change);
        assert!(code == Some(2) && told.contains("UTF-8"), "{number}: {code:?} {told}");
        assert_eq!(before(), count, "{number}: nothing is made");
    }
    // A fleet file in such a folder, or with such a name, however it is named.
    let folder = place.path("").join(&odd);
    fs::create_dir(&folder).unwrap();
    fs::copy(place.path("fleet.toml"), folder.join("fleet.toml")).unwrap();
    fs::copy(place.path("fleet.toml"), place.path("").join("caf\u{e9}.toml")).unwrap();
    let mut name = odd.clone();
    name.push(".toml");
    fs::copy(place.path("fleet.toml"), place.path("").join(&name)).unwrap();
    for (file, from) in [
        (folder.join("fleet.toml"), place.path("")),
        (PathBuf::from("fleet.toml"), folder.clone()),
        (PathBuf::from(&name), place.path("")),
    ] {
        let (code, told) = run(&|command| {
            command.current_dir(&from).arg(&file);
        });
        assert!(code.is_some_and(|code| code != 0) && told.contains("UTF-8"), "{}: {told}", file.display());
    }
    // UTF-8 beyond ASCII is fine.
    let state = place.path("éß 日本");
    let place = Place { state, ..place };
    place.ends();
    assert_eq!(place.job().state.name(), "succeeded", "{:?}", place.job());
    // A run that would have such a folder all the same is refused, and nothing is started.
    let state = place.path("").join(&odd).join("state");
    let place = Place { state, ..Place::new("true") };
    place.ends();
    assert!(place.job().state.reason().contains("not UTF-8"), "{:?}", place.job());
}
