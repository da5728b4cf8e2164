//! Files that are none where a file is named: every argument that names one to be read gives a clear message and an exit code,
//! within seconds.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::hostile::commands;

/// No command waits, or reads, for longer.
const SECONDS: u64 = 30;

/// What stands in the place of a file; each name tells it.
const KINDS: [&str; 9] = ["pipe", "socket", "device", "endless", "folder", "loop", "empty", "bytes", "huge"];

fn make(kind: &str, path: &Path) {
    match kind {
        "pipe" => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        "socket" => drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        "device" => std::os::unix::fs::symlink("/dev/null", path).unwrap(),
        "endless" => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        "folder" => fs::create_dir(path).unwrap(),
        "loop" => std::os::unix::fs::symlink(path, path).unwrap(),
        "empty" => fs::write(path, "").unwrap(),
        "bytes" => fs::write(path, b"\xff\xfe[\0[\xffm").unwrap(),
        // It takes no room on the disk.
        "huge" => File::create(path).unwrap().set_len(3 << 30).unwrap(),
        other => panic!("{other}"),
    }
}

/// A folder with a fleet of one model.
struct Place(TempDir);

const MODEL: &str = "[[model]]\nname = \"m\"\nbaseline = \"a.csv\"\ncurrent = \"b.csv\"\n";

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        let rows: String = (0..1200).map(|i| format!("{}\n", i % 17)).collect();
        for name in ["a.csv", "b.csv"] {
            fs::write(place.path(name), format!("x\n{rows}")).unwrap();
        }
        fs::write(place.path("fleet.toml"), format!("name = \"f\"\n{MODEL}")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).current_dir(self.0.path()).envs(variables.iter().copied());
        command.env("USER", "ana").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > Duration::from_secs(SECONDS) {
                child.kill().unwrap();
                panic!("{args:?} does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output().unwrap()
    }
}

/// Commands that read a fleet file, with `FILE` in its place.
const FLEETS: [&[&str]; 27] = [
    &["status", "FILE"],
    &["status", "FILE", "--acknowledge", "--reason", "r"],
    &["doctor", "FILE"],
    &["sweep", "FILE"],
    &["tick", "FILE"],
    &["calibrate", "FILE"],
    &["explain", "m", "FILE"],
    &["mute", "m", "FILE", "--for", "1d", "--reason", "r"],
    &["unmute", "m", "FILE", "--reason", "r"],
    &["jobs", "list", "FILE"],
    &["jobs", "show", "j", "FILE"],
    &["jobs", "cancel", "j", "FILE", "--reason", "r"],
    &["approve", "j", "FILE", "--reason", "r"],
    &["reject", "j", "FILE", "--reason", "r"],
    &["budget", "FILE"],
    &["economics", "FILE"],
    &["events", "list", "FILE"],
    &["events", "close", "e", "FILE", "--outcome", "trained"],
    &["history", "FILE", "--since", "2026-01-01"],
    &["baseline", "list", "FILE"],
    &["baseline", "set", "m", "a.csv", "FILE", "--reason", "r"],
    &["baseline", "restore", "m", "FILE", "--reason", "r"],
    &["baseline", "build", "--fleet", "FILE", "-o", "out"],
    &["init", "a.csv", "b.csv", "--append", "FILE"],
    &["gate", "a.csv", "b.csv", "a.csv", "--model", "m", "--fleet", "FILE"],
    &["outbox", "list", "FILE"],
    &["outbox", "send", "FILE"],
];

/// A record by its number and hash; there is none.
const HEAD: &str = "1:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const MORE_FLEETS: [&[&str]; 28] = [
    &["report", "FILE"],
    &["metrics", "FILE"],
    &["validate", "FILE"],
    &["outbox", "retry", "FILE"],
    &["audit", "show", "FILE"],
    &["audit", "verify", "FILE"],
    &["audit", "export", "FILE"],
    &["audit", "accept", "FILE", "--reason", "r", "--head", HEAD],
    &["features", "show", "FILE"],
    &["features", "materialize", "FILE", "--output", "out"],
    &["features", "verify", "FILE"],
    &["features", "skew", "FILE"],
    &["train", "FILE", "--model", "m", "--output", "out"],
    &["rollout", "list", "FILE"],
    &["rollout", "show", "m", "FILE"],
    &["rollout", "start", "m", "1", "FILE", "--reason", "r"],
    &["rollout", "promote", "m", "FILE", "--reason", "r"],
    &["rollout", "hold", "m", "FILE", "--reason", "r"],
    &["rollout", "resume", "m", "FILE", "--reason", "r"],
    &["rollout", "rollback", "m", "FILE", "--reason", "r"],
    &["simulate", "FILE", "--model", "m", "--from", "2026-01-01", "--to", "2026-02-01"],
    &["models", "list", "FILE"],
    &["models", "show", "m", "1", "FILE"],
    &["models", "register", "m", "s3://a/b", "FILE", "--reason", "r"],
    &["models", "promote", "m", "1", "FILE", "--reason", "r"],
    &["models", "retire", "m", "1", "FILE", "--reason", "r"],
    &["models", "alias", "m", "blue", "1", "FILE", "--reason", "r"],
    &["models", "unalias", "m", "blue", "FILE", "--reason", "r"],
];

/// Commands that read data, with `FILE` in its place.
const DATA: [&[&str]; 11] = [
    &["canary", "FILE", "--prior", "0.9"],
    &["compare", "FILE", "b.csv"],
    &["compare", "a.csv", "FILE"],
    &["init", "FILE", "b.csv"],
    &["init", "a.csv", "FILE"],
    &["baseline", "build", "FILE", "-o", "x.baseline"],
    &["baseline", "set", "m", "FILE", "fleet.toml", "--reason", "r"],
    &["gate", "FILE", "b.csv", "a.csv", "--id", "x", "--label", "x", "--score", "x"],
    &["gate", "a.csv", "FILE", "a.csv", "--id", "x", "--label", "x", "--score", "x"],
    &["gate", "a.csv", "b.csv", "FILE", "--id", "x", "--label", "x", "--score", "x"],
    &["gate", "a.csv", "b.csv", "a.csv", "--id", "x", "--label", "x", "--score", "x", "--features", "FILE"],
];

/// Those that read something else.
const OTHERS: [&[&str]; 6] = [
    &["baseline", "show", "FILE"],
    &["tick", "fleet.toml", "--checkpoint", "FILE"],
    &["audit", "verify", "fleet.toml", "--checkpoint", "FILE"],
    &["status", "fleet.toml", "--store", "FILE"],
    &["tick", "fleet.toml", "--state", "FILE"],
    &["history", "fleet.toml", "--history", "FILE"],
];

/// Runs a command with a file of a kind, and looks at what it says: on one line, with the name of the file.
fn refused(place: &Place, args: &[&str], kind: &str, extension: &str, codes: &[i32]) -> String {
    let name = format!("{kind}{extension}");
    let path = place.path(&name);
    if fs::symlink_metadata(&path).is_err() {
        make(kind, &path);
    }
    let args: Vec<&str> = args.iter().map(|&arg| if arg == "FILE" { &*name } else { arg }).collect();
    let output = place.run(&args, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(codes.contains(&output.status.code().unwrap()), "{args:?}: {:?} {said}", output.status.code());
    let line = said.lines().find(|line| line.contains(&name));
    assert!(line.is_some(), "{args:?} does not name the file: {said}");
    assert!(!said.contains("panicked") && !said.contains("internal error"), "{args:?}: {said}");
    said
}

#[test]
fn a_fleet_file_that_is_none_is_refused_at_once_by_every_command() {
    let place = Place::new();
    for args in FLEETS.iter().chain(&MORE_FLEETS) {
        for (kind, code, words) in [
            ("pipe", 3, "it is not a regular file; name one"),
            ("socket", 3, "it is not a regular file; name one"),
            ("device", 3, "it is not a regular file; name one"),
            ("endless", 3, "it is not a regular file; name one"),
            ("folder", 3, "it is a folder; name a file"),
            ("loop", 3, "symbolic links"),
            ("huge", 3, "more than any fleet file; name the fleet file"),
            ("bytes", 4, "it is not UTF-8 text; save the file as UTF-8"),
            ("empty", 4, "no models; add a [[model]]"),
        ] {
            let said = refused(&place, args, kind, "", &[code]);
            assert!(said.contains(words), "{args:?}: {said}");
        }
        // A model may be added to a file that is not there yet.
        if args[0] == "init" {
            continue;
        }
        let args: Vec<&str> = args.iter().map(|&arg| if arg == "FILE" { "no-such.toml" } else { arg }).collect();
        let output = place.run(&args, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{args:?}: {said}");
        assert!(said.contains("no-such.toml: no such file; name the fleet file"), "{said}");
    }
}

#[test]
fn a_fleet_file_in_another_encoding_is_refused_and_one_with_a_mark_is_read() {
    let place = Place::new();
    let text = fs::read_to_string(place.path("fleet.toml")).unwrap();
    fs::write(place.path("mark.toml"), format!("\u{feff}{text}")).unwrap();
    fs::write(place.path("crlf.toml"), text.replace('\n', "\r\n")).unwrap();
    for name in ["mark.toml", "crlf.toml"] {
        assert_eq!(place.run(&["sweep", name, "--no-state"], &[]).status.code(), Some(0), "{name}");
    }
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // Without its first mark such a text is UTF-8 with zero bytes in it.
    fs::write(place.path("wide.toml"), &wide).unwrap();
    fs::write(place.path("marked.toml"), [b"\xff\xfe", &wide[..]].concat()).unwrap();
    for (name, words) in [("wide.toml", "contains zero bytes"), ("marked.toml", "save the file as UTF-8")] {
        let output = place.run(&["status", name], &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(4) && said.contains(words), "{said}");
    }
}

#[test]
fn data_that_are_no_file_are_refused_at_once_by_every_command() {
    let place = Place::new();
    for args in DATA {
        for extension in ["", ".csv", ".tsv", ".parquet", ".arrow"] {
            for kind in KINDS {
                // A file of data may be large, and what is in it decides how long it takes.
                if kind == "huge" && extension != ".parquet" {
                    continue;
                }
                let said = refused(&place, args, kind, extension, &[3]);
                if ["pipe", "socket", "device", "endless"].contains(&kind) {
                    assert!(said.contains("neither a regular file nor a folder; name one"), "{args:?} {kind}: {said}");
                }
            }
        }
    }
}

#[test]
fn other_files_that_are_none_are_refused_at_once() {
    let place = Place::new();
    // A store that `audit verify` finds.
    assert_eq!(place.run(&["tick", "fleet.toml", "--now", "2026-01-02T03:00:00Z"], &[]).status.code(), Some(0));
    for args in OTHERS {
        let (flag, kinds) = (args[args.len() - 2], KINDS);
        for kind in kinds {
            let extension = if args[0] == "baseline" { ".baseline" } else { "" };
            let codes: &[i32] = match flag {
                "--checkpoint" => &[2],
                "--store" => &[14],
                // A folder is what is wanted.
                "--state" | "--history" if kind == "folder" => continue,
                "--state" => &[3, 7, 13, 14],
                "--history" => &[3],
                _ => &[3, 5],
            };
            refused(&place, args, kind, extension, codes);
        }
    }
    for (name, code) in [("DRIFTSWEEP_CHECKPOINT", 2), ("DRIFTSWEEP_STORE", 14)] {
        let output = place.run(&["tick", "fleet.toml"], &[(name, "pipe")]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && said.contains("not a regular file"), "{name}: {said}");
    }
}

/// Arguments that name something to be read, by the names of their values in the help.
const READ: [&str; 9] = ["LOOKS", "FLEET", "FILE", "KEYFILE", "DIR", "SNAPSHOT", "PATH|URL", "BASELINE", "CURRENT"];

#[test]
fn every_argument_that_names_a_file_is_tested_with_what_is_none() {
    let mut tested: BTreeSet<String> = BTreeSet::new();
    for args in FLEETS.iter().chain(&MORE_FLEETS).chain(&DATA).chain(&OTHERS) {
        let at = args.iter().position(|arg| *arg == "FILE").unwrap();
        let command: Vec<&str> =
            args.iter().copied().take_while(|arg| !arg.starts_with('-') && *arg != "FILE").collect();
        match args[at - 1].strip_prefix("--") {
            Some(flag) => tested.insert(format!("--{flag}")),
            None => tested.insert(command[..command.len().min(2)].join(" ")),
        };
        // By the command alone, where a positional argument comes first.
        tested.insert(command[0].to_owned());
    }
    let elsewhere = [
        // Written, not read: tests/it/pipes.rs.
        "--output",
        "--index",
        "--keep",
        // Signatures, statements and keys: tests/it/signatures.rs.
        "--sign",
        "--statement",
        "--signature",
        // An empty one is good: tests/it/gates.rs.
        "--rules",
        // Folders of examples: what is in them is read as any fleet is.
        "--data",
        // Folders of models: tests/it/trainings.rs. And one for temporary files.
        "--champion",
        "--resume",
        "--scratch",
    ];
    for command in commands() {
        let help = crate::support::data::run(command.split(' ').chain(["--help"]));
        for line in String::from_utf8(help.stdout).unwrap().lines().map(str::trim_start) {
            let named =
                READ.iter().any(|name| line.contains(&format!("<{name}>")) || line.contains(&format!("[{name}]")));
            if !named || line.starts_with("Usage") {
                continue;
            }
            let flag = line.split([' ', ',']).find(|word| word.starts_with("--"));
            match flag {
                Some(flag) => {
                    assert!(
                        tested.contains(flag) || elsewhere.contains(&flag),
                        "{command} {flag} is not tested: {line}"
                    );
                }
                None if line.starts_with(['<', '[']) && command != "bench generate" => {
                    let first = command.split(' ').next().unwrap();
                    assert!(tested.contains(&command) || tested.contains(first), "{command} is not tested: {line}");
                }
                None => {}
            }
        }
    }
}
