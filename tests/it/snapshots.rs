//! What the command says, kept as text: the help of every command, and the messages of refusals with their exit codes.
//! `INSTA_UPDATE=always cargo test --test it -- snapshots` writes them anew, into tests/snapshots, for a person to read.

use std::fs;
use std::process::Command;

use driftsweep::snapshot::table::{Cells, to_parquet};
use tempfile::TempDir;

use super::hostile::commands;
use crate::support::data::root;

/// Compares a text with the one that is kept.
fn assert_kept(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().canonicalize().unwrap().join("tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Standard output, standard error and exit code of a command in a folder.
fn shown(folder: &TempDir, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    for variable in ["DRIFTSWEEP_LOG", "DRIFTSWEEP_STORE", "DRIFTSWEEP_STATE", "USER", "COLUMNS"] {
        command.env_remove(variable);
    }
    let output = command.current_dir(folder.path()).args(args).output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let quoted: Vec<String> =
        args.iter().map(|arg| if arg.contains(' ') { format!("'{arg}'") } else { (*arg).into() }).collect();
    let text = format!("$ driftsweep {}\n{out}{err}[exit code {}]\n", quoted.join(" "), output.status.code().unwrap());
    // Tests have temporary folders of their own.
    text.replace(&folder.path().display().to_string(), "FOLDER")
}

#[test]
fn the_help_of_every_command_is_the_one_that_is_kept() {
    let folder = TempDir::new().unwrap();
    let mut text = shown(&folder, &["--help"]);
    for command in commands().iter().filter(|command| !command.is_empty()) {
        let args: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        text += "\n";
        text += &shown(&folder, &args);
    }
    assert_kept("help", &text);
}

#[test]
fn the_messages_of_refusals_are_those_that_are_kept() {
    let folder = TempDir::new().unwrap();
    let table = |rows: usize| {
        let numbers = Cells::Float((0..rows).map(|i| Some((i % 101) as f64)).collect());
        let groups = Cells::Text((0..rows).map(|i| format!("group-{}", i % 4)).collect());
        to_parquet(vec![("age", numbers), ("group", groups)]).unwrap()
    };
    let other = to_parquet(vec![("other", Cells::Float(vec![Some(1.0)]))]).unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    put("a.parquet", &table(2000));
    put("b.parquet", &table(2000));
    put("none.parquet", &table(0));
    put("other.parquet", &other);
    put("cut.parquet", &table(2000)[..500]);
    put("text.csv", b"age,group\n1,a\n2\n");
    put("bad.baseline", b"not a baseline");
    let model = "[[model]]\nname = \"m\"\nbaseline = \"a.parquet\"\ncurrent = \"b.parquet\"\n";
    put("fleet.toml", format!("name = \"f\"\n{model}").as_bytes());
    for (name, text) in [
        ("syntax", "name = \"f\n".to_owned()),
        ("unknown-key", format!("{model}thresold = 3\n")),
        ("wrong-type", format!("{model}bins = \"ten\"\n")),
        ("two-names", format!("{model}{model}")),
        ("no-model", "name = \"f\"\n".to_owned()),
        ("no-current", "[[model]]\nname = \"m\"\nbaseline = \"a.parquet\"\n".to_owned()),
        ("out-of-range", format!("{model}[model.thresholds]\npsi = -1\n")),
        ("metric", format!("{model}metrics = [\"pis\"]\n")),
        ("zone", format!("time_zone = \"Mars/Base\"\n{model}")),
        ("schedule", format!("sweep = \"61 * * * *\"\n{model}")),
        ("window", format!("{model}time = \"t\"\nwindows = [\"7days\"]\n")),
        ("slice", format!("{model}slice_by = [\"group\", \"group\"]\n")),
        ("duration", format!("{model}[model.trigger]\ncooldown = \"soon\"\n")),
        ("money", format!("[budget]\nmonth = \"much\"\n{model}")),
        ("executor", format!("[approval]\napprovers = [[\"ana\"]]\n{model}[model.retrain]\nworkflow = \"x\"\n")),
        ("two-executors", format!("{model}[model.retrain]\ncommand = [\"a\"]\nwebhook = {{ url = \"http://h/\" }}\n")),
        ("channel", format!("[[notify]]\nname = \"n\"\n{model}")),
        ("approver", format!("[approval]\napprovers = \"ana\"\n{model}")),
    ] {
        put(&format!("{name}.toml"), text.as_bytes());
    }
    let mut cases: Vec<Vec<&str>> = [
        "",
        "swep fleet.toml",
        "compare",
        "compare a.parquet",
        "compare a.parquet missing.parquet",
        "compare a.parquet none.parquet",
        "compare a.parquet other.parquet",
        "compare a.parquet cut.parquet",
        "compare a.parquet text.csv",
        "compare bad.baseline b.parquet",
        "compare a.parquet b.parquet --metrics pis",
        "compare a.parquet b.parquet --format xml",
        "compare a.parquet b.parquet --bins 1",
        "compare a.parquet b.parquet --fdr 2",
        "compare a.parquet b.parquet --exclude age,nobody",
        "compare a.parquet b.parquet --convention evidentaly",
        "compare a.parquet b.parquet --memory 3X",
        "sweep missing.toml",
        "sweep fleet.toml --now yesterday",
        "sweep fleet.toml --deadline 1d1",
        "tick fleet.toml --wait soon",
        "status fleet.toml",
        "explain mm fleet.toml",
        "jobs list fleet.toml",
        "jobs show x fleet.toml",
        "approve x fleet.toml --by ana",
        "audit verify fleet.toml",
        "baseline build a.parquet",
        "baseline show bad.baseline",
        "mute fleet.toml m --for 5",
        "budget fleet.toml",
        "history fleet.toml",
        "events list fleet.toml",
        "init",
        "bench generate",
    ]
    .into_iter()
    .map(|line| line.split_whitespace().collect())
    .collect();
    let fleets = [
        "syntax.toml",
        "unknown-key.toml",
        "wrong-type.toml",
        "two-names.toml",
        "no-model.toml",
        "no-current.toml",
        "out-of-range.toml",
        "metric.toml",
        "zone.toml",
        "schedule.toml",
        "window.toml",
        "slice.toml",
        "duration.toml",
        "money.toml",
        "executor.toml",
        "two-executors.toml",
        "channel.toml",
        "approver.toml",
    ];
    cases.extend(fleets.iter().map(|fleet| vec!["sweep", fleet]));
    let texts: Vec<String> = cases.iter().map(|args| shown(&folder, args)).collect();
    assert_kept("refusals", &texts.join("\n"));
}
