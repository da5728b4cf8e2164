//! Names that mean harm, through every command and every format: nothing that comes from data steers a terminal, forges a
//! line, runs in a spreadsheet or keeps the rest from being done.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use driftsweep::snapshot::table::{Cells, to_parquet};
use driftsweep_common::escape::is_invisible;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{all_below, read_parquet};
use crate::support::needs::postgres;

/// What a forged line would begin with.
const FORGED: &str = "FORGED";

/// Names of columns, and values of categories.
fn names() -> Vec<String> {
    let long = "long".repeat(2500);
    [
        "\u{1b}[31mred\u{1b}[0m",
        "\u{1b}]0;title\u{7}",
        "line\nFORGED: 0 drifted",
        "carriage\rFORGED",
        "crlf\r\nFORGED",
        "tab\tx",
        "nul\0x",
        "delete\u{7f}",
        "next\u{85}FORGED",
        "csi\u{9b}2J",
        "\u{202e}gpj.exe",
        "zero\u{200b}width",
        "\u{2028}FORGED",
        "\u{feff}mark",
        "tag\u{e0041}",
        "=cmd|'/C calc'!A0",
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "x;=1+1",
        "<script>alert(1)</script>",
        "{% for %}{{ name }}",
        "quote'\"\\",
        "",
        "   ",
        &long,
    ]
    .map(str::to_owned)
    .into()
}

/// The same as names of models, teams and people: neither empty, nor endless, nor with a zero byte, which are refused.
fn proper() -> Vec<String> {
    names().into_iter().filter(|name| !name.trim().is_empty() && name.len() <= 256 && !name.contains('\0')).collect()
}

fn toml(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// A folder with snapshots and a fleet of such names.
struct Stage {
    folder: TempDir,
    store: String,
    /// All that was shown as text.
    shown: String,
}

const ROWS: usize = 2600;

fn snapshot(shift: f64) -> Vec<u8> {
    let names = names();
    let numbers = Cells::Float((0..ROWS).map(|i| Some((i % 101) as f64 + shift)).collect());
    // Drift of the categories, too: which are frequent depends on the side.
    let common = usize::from(shift > 0.0) * 5;
    let category = |i: usize| if i.is_multiple_of(2) { common } else { (i / 2) % names.len() };
    let texts = Cells::Text((0..ROWS).map(|i| names[category(i)].clone()).collect());
    let times = Cells::Time((0..ROWS as i64).map(|i| 1_794_000_000_000_000 + i * 1_000_000).collect());
    let mut columns: Vec<(&str, Cells)> = names.iter().map(|name| (name.as_str(), numbers.clone())).collect();
    columns.extend([("cat", texts.clone()), ("said\u{1b}", texts.clone()), ("true\nFORGED", texts), ("at", times)]);
    // A column that each side has alone.
    let own = if shift > 0.0 { "new\nFORGED" } else { "gone\nFORGED" };
    columns.push((own, numbers));
    to_parquet(columns).unwrap()
}

/// A fleet file whose tables, features and columns have such names.
fn features() -> String {
    let evil = toml("evil\nFORGED\u{1b}[2J\u{202e}");
    let columns: Vec<String> = proper().iter().skip(2).map(|name| toml(name)).collect();
    format!(
        "[event_table.{evil}]\npath = \"train.parquet\"\nevent_time = \"at\"\ndelay = \"1s\"\n\
         [feature_set.{evil}]\ntraining = \"expanding\"\nvalidation = \"30m\"\n\
         [feature_set.{evil}.spine]\npath = \"now.parquet\"\nid = \"cat\"\ntime = \"at\"\ncolumns = [\"cat\", {}]\n\
         [feature_set.{evil}.latest.{evil}]\non = [\"cat\"]\ncolumns = {{ {evil} = \"'torn\\nFORGED\\u001b[2J'\" }}\n\
         [feature_set.{evil}.label]\ntable = {evil}\non = [\"cat\"]\ncolumn = \"1\"\nmaturity = \"0s\"\n\
         [feature_set.{evil}.serving]\npath = \"train.parquet\"\nid = \"cat\"\n\
         [[model]]\nname = {evil}\nbaseline = \"train.parquet\"\ncurrent = \"now.parquet\"\nfeature_set = {evil}\n",
        columns.join(", ")
    )
}

impl Stage {
    fn new(store: Option<String>) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        fs::write(path.join("train.parquet"), snapshot(0.0)).unwrap();
        fs::write(path.join("now.parquet"), snapshot(60.0)).unwrap();
        fs::write(path.join("torn\nFORGED\u{1b}[2J.parquet"), b"PAR1 no").unwrap();
        let people = toml(&proper()[2]);
        // Fleets that share a server have names of their own.
        let fleet = toml(&format!("fleet\n{FORGED}\u{1b}[2J {}", path.file_name().unwrap().to_string_lossy()));
        let mut text = format!(
            "name = {fleet}\nsweep = \"0 2 * * *\"\n[approval]\nabove = 0\napprovers = [[{people}, \"ana\"]]\n\
             [[notify]]\nname = {people}\nfile = \"told.jsonl\"\n\
             [[notify]]\nname = \"mail\\nFORGED\"\nemail = {{ host = \"127.0.0.1\", port = 1, security = \"none\", from = \"a@b.c\", to = [\"d@e.f\"] }}\n\
             [defaults.thresholds]\nmin_rows = 20\n[defaults.trigger.drift]\npersistence = \"1 of 1\"\n\
             [defaults.retrain]\nretries = 0\nteam = {people}\nresource = {people}\ngpu_hours = 1\ngpu_rate = 10\nvalue_per_point_per_day = 100\n\
             command = [\"sh\", \"-c\", \"printf 'line\\nFORGED\\\\033[31m\\\\n'; exit 1\"]\n"
        );
        for (i, name) in proper().iter().enumerate() {
            let name = toml(name);
            text += &format!("[[model]]\nname = {name}\nbaseline = \"train.parquet\"\ncurrent = \"now.parquet\"\n");
            // Two models compare all columns, the others some: a matrix of all would take minutes.
            let some = || names().iter().skip(i).step_by(9).map(|name| toml(name)).collect::<Vec<_>>().join(", ");
            text += &if i < 2 { "exclude = [\"at\"]\n".into() } else { format!("features = [\"cat\", {}]\n", some()) };
            if i == 0 {
                text += "slice_by = [\"cat\"]\n[model.labels]\nprediction = \"said\\u001b\"\nlabel = \"true\\nFORGED\"\ntime = \"at\"\n";
            }
        }
        text +=
            "[[model]]\nname = \"torn\"\nbaseline = \"train.parquet\"\ncurrent = \"torn\\nFORGED\\u001b[2J.parquet\"\n";
        fs::write(path.join("fleet.toml"), text).unwrap();
        fs::write(path.join("features.toml"), features()).unwrap();
        let store = store.unwrap_or_else(|| path.join("store.sqlite").display().to_string());
        Self { folder, store, shown: String::new() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn output(&self, args: &[OsString]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).current_dir(self.folder.path()).env("DRIFTSWEEP_STORE", &self.store);
        command.env("DRIFTSWEEP_STATE", self.path("state")).env("USER", "user\nFORGED\u{1b}[1m");
        command.env_remove("DRIFTSWEEP_LOG").output().unwrap()
    }

    /// Runs a command and looks at every byte of what it says: standard output.
    fn run<S: Into<OsString> + Clone>(&mut self, args: &[S]) -> String {
        let args: Vec<OsString> = args.iter().cloned().map(Into::into).collect();
        let output = self.output(&args);
        let code = output.status.code();
        assert!(
            !matches!(code, None | Some(1 | 101)),
            "{args:?}: {code:?} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let has = |word: &str| args.iter().any(|arg| arg == word);
        let short = !["json", "csv", "parquet", "init", "export", "--json"].into_iter().any(has);
        let said = String::from_utf8(output.stderr).unwrap();
        self.look(&said, true, &format!("messages of {args:?}"));
        if has("parquet") {
            return String::new();
        }
        let out = String::from_utf8(output.stdout).unwrap();
        // The data and the scripts of a page are long lines.
        let is_page = out.starts_with("<!doctype html>");
        self.look(&out, short && !is_page, &format!("output of {args:?}"));
        out
    }

    fn look(&mut self, text: &str, short: bool, what: &str) {
        let bad = text.char_indices().find(|&(_, c)| c != '\n' && is_invisible(c));
        let shown = |at: usize| text[..at].lines().last().unwrap_or_default().to_owned();
        assert!(bad.is_none(), "{what}: {:?} after {:?}", bad.unwrap().1, shown(bad.unwrap().0));
        for line in text.lines() {
            assert!(!line.trim_start().starts_with(FORGED), "{what}: a forged line\n{text:.3000}");
            assert!(!short || line.chars().count() < 5000, "{what}: {} characters in a line", line.chars().count());
        }
        self.shown += text;
    }

    fn json(&mut self, args: &[&str]) -> Value {
        let text = self.run(&[args, &["--format", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text:.500}"))
    }
}

/// The commands that can be run, as the help lists them.
pub(super) fn commands() -> BTreeSet<String> {
    fn below(command: &[&str], found: &mut BTreeSet<String>) {
        let output = crate::support::data::run(command.iter().chain(&["--help"]));
        let help = String::from_utf8(output.stdout).unwrap();
        let listed: Vec<&str> = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            // What a description goes on with stands further to the right.
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .collect();
        // `bench` can be run by itself, too.
        if listed.is_empty() || command == ["bench"] {
            found.insert(command.join(" "));
        }
        listed.iter().for_each(|name| below(&[command, &[*name]].concat(), found));
    }
    let mut found = BTreeSet::from(["supervise".to_owned()]);
    below(&[], &mut found);
    found
}

/// Commands by their names, each with the arguments that it is run with; they run in the order of the list.
fn cases(job: &dyn Fn(&str) -> String) -> Vec<(&'static str, Vec<Vec<String>>)> {
    let list = |all: &[&[&str]]| all.iter().map(|args| args.iter().map(|arg| (*arg).to_owned()).collect()).collect();
    let (evil, model) = ("evil\nFORGED\u{1b}[2J\u{202e}", &*proper()[0].clone());
    let formats = ["table", "json", "csv", "parquet"];
    let each = |args: &[&str]| -> Vec<Vec<String>> {
        let whole = |format: &&str| args.iter().chain(&["--format", *format]).map(|arg| (*arg).to_owned()).collect();
        formats.iter().map(whole).collect()
    };
    let both = |args: &[&str]| -> Vec<Vec<String>> { each(args)[..2].to_vec() };
    let pair = ["train.parquet", "now.parquet"];
    let mut compare = each(&pair);
    compare.extend(list(&[
        &["train.parquet", "now.parquet", "--top", "0"],
        &["train.parquet", "now.parquet", "--top", "0", "--convention", "evidently"],
        &["train.parquet", "now.parquet", "--exclude", evil],
        &["train.parquet", "now.parquet", "--metrics", evil],
        &["train.parquet", "torn\nFORGED\u{1b}[2J.parquet"],
        &["train.parquet", evil],
        &["train.parquet", "now.parquet", "--output", "missing\nFORGED/x.json", "--format", "json"],
    ]));
    let set = |more: &[&str]| -> Vec<Vec<String>> {
        let mut all = both(&[&["features.toml"], more].concat());
        all.extend(list(&[&[&[evil], more].concat(), &[&["features.toml", "--set", evil], more].concat()]));
        all
    };
    let train =
        |more: &[&str]| both(&[&["features.toml", "--model", evil, "--output", "set", "--now", LATER], more].concat());
    let mut sweep = each(&["fleet.toml"]);
    sweep.extend(list(&[
        &["fleet.toml", "--top", "0"],
        &["fleet.toml", "--dry-run", "--top", "0"],
        &["fleet.toml", "--explain", "--no-state"],
        &["fleet.toml", "--deadline", "0s", "--no-state"],
        &["fleet.toml", "--log", "json", "--no-state"],
        &["fleet.toml", "--log", "text", "--no-state"],
        &[evil],
    ]));
    fn with_time<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["fleet.toml", "--threads", "2", "--now", "2026-11-12T03:00:00Z"], more].concat()
    }
    let by = ["--by", &proper()[2].clone(), "--reason", evil].map(str::to_owned);
    let by: Vec<&str> = by.iter().map(String::as_str).collect();
    let decide = |job: &str, more: &[&str]| -> Vec<Vec<String>> {
        list(&[&[&[job, "fleet.toml"], &by[..], more].concat(), &[&[evil, "fleet.toml"], &by[..]].concat()])
    };
    let decide_version = |versions: &[&str]| -> Vec<Vec<String>> {
        let named = [(model, versions), (evil, &versions[..1])];
        let each = |(model, versions): (&str, &[&str])| {
            let args = versions.iter().map(|version| [&[model, *version, "fleet.toml"], &by[..]].concat());
            args.map(|args| args.into_iter().map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
        };
        named.into_iter().flat_map(each).collect()
    };
    let decide_rollout =
        || list(&[&[&[model, "fleet.toml"], &by[..]].concat(), &[&[evil, "fleet.toml"], &by[..]].concat()]);
    let mut explain: Vec<Vec<String>> = proper().iter().map(|name| vec![name.clone(), "fleet.toml".into()]).collect();
    explain.extend(list(&[&[evil, "fleet.toml"], &["torn", "fleet.toml"], &[model, "fleet.toml", "--quality"]]));
    explain.extend(both(&[model, "fleet.toml"]));
    let mut history = each(&["fleet.toml", "--top", "0", "--metrics", "all"]);
    history.extend(list(&[&["fleet.toml", "--model", evil], &["fleet.toml", "--feature", evil]]));
    vec![
        ("compare", compare),
        ("init", list(&[&pair, &[&pair[..], &["--name", evil, "--output", "made.toml"]].concat(), &[evil, evil]])),
        (
            "baseline build",
            list(&[
                &["train.parquet", "-o", "b.baseline"],
                &["--fleet", "fleet.toml", "-o", "built"],
                &[evil, "-o", evil],
            ]),
        ),
        ("baseline show", list(&[&["b.baseline"], &["b.baseline", "--json"], &["now.parquet"], &[evil]])),
        ("sweep", sweep),
        ("tick", {
            let mut all = list(&[&with_time(&[]), &with_time(&["--again", evil]), &with_time(&["--again", model])]);
            all.extend(both(&with_time(&["--quiet", "--fail-on-event"])));
            all
        }),
        ("doctor", both(&["fleet.toml"]).into_iter().chain(list(&[&["fleet.toml", "--channels"], &[evil]])).collect()),
        ("calibrate", both(&["fleet.toml", "--nights", "20"]).into_iter().chain(list(&[&[evil]])).collect()),
        ("explain", explain),
        (
            "mute",
            list(&[
                &[&[model, "fleet.toml", "--for", "9d"], &by[..]].concat(),
                &[&[evil, "fleet.toml", "--for", "9d"], &by[..]].concat(),
            ]),
        ),
        ("status", {
            let mut all = both(&["fleet.toml"]);
            all.extend(list(&[&[&["fleet.toml", "--acknowledge"], &by[..]].concat(), &["fleet.toml"]]));
            all
        }),
        ("unmute", list(&[&[model, "fleet.toml"], &[evil, "fleet.toml"]])),
        ("jobs list", both(&["fleet.toml"]).into_iter().chain(list(&[&["fleet.toml", "--model", evil]])).collect()),
        ("approve", decide(&job("approve"), &["--overrun", "1000"])),
        ("reject", decide(&job("reject"), &[])),
        ("jobs cancel", decide(&job("cancel"), &[])),
        ("jobs show", {
            let all: Vec<Vec<String>> =
                ["approve", "reject", "cancel"].iter().flat_map(|what| both(&[&job(what), "fleet.toml"])).collect();
            all.into_iter().chain(list(&[&[evil, "fleet.toml"]])).collect()
        }),
        ("budget", both(&["fleet.toml"])),
        ("economics", both(&["fleet.toml"])),
        (
            "events list",
            both(&["fleet.toml", "--all"]).into_iter().chain(list(&[&["fleet.toml", "--model", evil]])).collect(),
        ),
        (
            "events close",
            list(&[
                &[&job("reject"), "fleet.toml", "--outcome", "dismissed", "--note", evil],
                &[evil, "fleet.toml", "--outcome", "trained"],
            ]),
        ),
        ("baseline list", both(&["fleet.toml"]).into_iter().chain(list(&[&["fleet.toml", "--model", evil]])).collect()),
        (
            "baseline set",
            list(&[
                &[&[model, "b.baseline", "fleet.toml"], &by[..]].concat(),
                &[&[model, evil, "fleet.toml"], &by[..]].concat(),
            ]),
        ),
        (
            "baseline restore",
            list(&[&[&[model, "fleet.toml"], &by[..]].concat(), &[&[evil, "fleet.toml"], &by[..]].concat()]),
        ),
        (
            "models register",
            list(&[
                &[&[model, "s3://evil/\u{202e}FORGED\u{1b}[2J", "fleet.toml"], &by[..]].concat(),
                &[&[model, evil, "fleet.toml", "--digest", evil], &by[..]].concat(),
                &[&[evil, "train.parquet", "fleet.toml"], &by[..]].concat(),
            ]),
        ),
        (
            "models alias",
            list(&[
                &[&[model, "blue", "1", "fleet.toml"], &by[..]].concat(),
                &[&[model, evil, evil, "fleet.toml"], &by[..]].concat(),
            ]),
        ),
        ("models promote", decide_version(&["1", "latest", evil])),
        ("models list", both(&["fleet.toml"]).into_iter().chain(list(&[&["fleet.toml", "--model", evil]])).collect()),
        (
            "models show",
            both(&[model, "1", "fleet.toml"]).into_iter().chain(list(&[&[evil, "7", "fleet.toml"]])).collect(),
        ),
        ("models retire", decide_version(&["1", evil])),
        ("models unalias", decide_version(&["blue", evil])),
        ("rollout list", both(&["fleet.toml"]).into_iter().chain(list(&[&["fleet.toml", "--model", evil]])).collect()),
        ("rollout show", both(&[model, "fleet.toml"]).into_iter().chain(list(&[&[evil, "fleet.toml"]])).collect()),
        ("rollout start", decide_version(&["1", evil])),
        ("rollout promote", decide_rollout()),
        ("rollout hold", decide_rollout()),
        ("rollout resume", decide_rollout()),
        ("rollout rollback", decide_rollout()),
        ("history", history),
        ("report", {
            let mut all = each(&["fleet.toml"]);
            all.extend(list(&[
                &["fleet.toml"],
                &["fleet.toml", "--index", "pages"],
                &["fleet.toml", "--at", evil],
                &[evil],
            ]));
            all
        }),
        (
            "metrics",
            list(&[
                &["fleet.toml"],
                &["fleet.toml", "--features"],
                &["fleet.toml", "--output", evil],
                &["--push=x", "fleet.toml"],
                &[evil],
            ]),
        ),
        ("validate", list(&[&["fleet.toml"], &[evil]])),
        ("gate", {
            let files = ["train.parquet", "now.parquet", "train.parquet"];
            list(&[
                &[&files[..], &["--id", evil, "--label", evil, "--prediction", evil]].concat(),
                &[&files[..], &["--fleet", "fleet.toml", "--model", model]].concat(),
                &[&files[..], &["--fleet", "fleet.toml", "--model", evil]].concat(),
                &[&files[..], &["--rules", evil]].concat(),
                &[&files[..], &["--metric", evil]].concat(),
                &[evil, "-", evil, "--id", "id", "--label", "x", "--score", "y"],
            ])
        }),
        (
            "canary",
            list(&[&["now.parquet", "--prior", "0.9"], &[evil, "--prior", "0.9"], &["now.parquet", "--prior", evil]]),
        ),
        ("schema", list(&[&[]])),
        ("completions", list(&[&["bash"], &[evil]])),
        ("man", list(&[&[], &["--output", "pages"]])),
        ("outbox list", both(&["fleet.toml"])),
        ("outbox send", list(&[&["fleet.toml"]])),
        ("outbox retry", list(&[&["fleet.toml"]])),
        ("audit show", list(&[&["fleet.toml"], &["fleet.toml", "--subject", evil]])),
        ("audit verify", both(&["fleet.toml"]).into_iter().chain(list(&[&["fleet.toml", "--expect", evil]])).collect()),
        ("audit export", list(&[&["fleet.toml"]])),
        (
            "audit accept",
            list(&[
                &[&["fleet.toml", "--head", evil], &by[..]].concat(),
                &[&["fleet.toml", "--head", &format!("1:{}", "0".repeat(64))], &by[..]].concat(),
            ]),
        ),
        ("supervise", list(&[&[evil]])),
        ("demo", list(&[&["--data", evil]])),
        (
            "bench",
            list(&[
                &["--adapter", evil, "--backend", "gpu", "--rows", "0"],
                &["--adapter", evil, "--backend", "gpu", "--rows", "9"],
            ]),
        ),
        (
            "bench generate",
            list(&[
                &["made\nFORGED\u{1b}", "--models", "1", "--features", "2", "--rows", "50"],
                &["x", "--drift-kinds", evil],
            ]),
        ),
        ("features show", set(&[])),
        ("features materialize", set(&["--now", LATER, "--output", "set", "--allow-skew"])),
        ("features verify", set(&["--now", LATER])),
        ("features skew", set(&["--now", LATER])),
        ("train", [train(&["--allow-skew"]), train(&[])].concat()),
        (
            "simulate",
            list(&[
                &["features.toml", "--model", evil, "--from", "2026-11-10", "--to", LATER, "--every", "1h"],
                &["fleet.toml", "--model", model, "--from", "2026-11-10", "--to", LATER],
                &["fleet.toml", "--model", evil, "--from", evil, "--to", LATER],
            ]),
        ),
    ]
}

/// After all times of the snapshots.
const LATER: &str = "2026-11-12T00:00:00Z";

/// Commands that ask nothing of the store, or nothing that differs from others.
const STORELESS: [&str; 22] = [
    "simulate",
    "canary",
    "features show",
    "features materialize",
    "features verify",
    "features skew",
    "train",
    "compare",
    "init",
    "baseline show",
    "sweep",
    "doctor",
    "calibrate",
    "supervise",
    "demo",
    "bench",
    "bench generate",
    "gate",
    "validate",
    "schema",
    "completions",
    "man",
];

#[test]
fn no_command_shows_anything_from_data_but_escaped() {
    for store in [Some(None), postgres().map(Some)].into_iter().flatten() {
        let on_server = store.is_some();
        let mut stage = Stage::new(store);
        // Jobs have names only once there are some.
        let known = cases(&|_| "0".into());
        let tested: BTreeSet<String> = known.iter().map(|(command, _)| (*command).to_owned()).collect();
        assert_eq!(tested, commands(), "each command needs its case here");
        let mut jobs: BTreeMap<&str, String> = BTreeMap::new();
        for at in 0..known.len() {
            let (command, all) = cases(&|what| jobs.get(what).cloned().unwrap_or_else(|| "0".into())).swap_remove(at);
            // What asks nothing of the store says the same whatever store it is.
            if on_server && STORELESS.contains(&command) {
                continue;
            }
            for args in all {
                let words: Vec<String> = command.split(' ').map(str::to_owned).chain(args).collect();
                stage.run(&words);
            }
            if command == "tick" {
                let listed = stage.json(&["jobs", "list", "fleet.toml"]);
                let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
                let said = &stage.shown[stage.shown.len().saturating_sub(3000)..];
                assert!(ids.len() >= 3, "drift of every model was to open events: {listed}: {said}");
                jobs = ["approve", "reject", "cancel"].into_iter().zip(ids.into_iter().map(str::to_owned)).collect();
            }
        }
        // The command of the job that was approved writes such lines, too.
        for _ in 0..50 {
            stage.run(&["tick", "fleet.toml", "--now", "2026-11-12T03:05:00Z"]);
            if stage.run(&["jobs", "show", &jobs["approve"], "fleet.toml"]).contains("last lines of its output") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let page = stage.run(&["jobs", "show", &jobs["approve"], "fleet.toml"]);
        assert!(page.contains("  FORGED\\u{1b}[31m") || !page.contains("allowed"), "{page}");
        // Names are shown, and not left out.
        for part in
            ["\\u{1b}[31mred", "line\\nFORGED: 0 drifted", "csi\\u{9b}2J", "\\u{202e}gpj", "torn\\nFORGED\\u{1b}[2J"]
        {
            assert!(stage.shown.contains(part), "{part} was never shown");
        }
        // What the program wrote has names of its own.
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let files: Vec<String> = all_below(stage.folder.path()).into_iter().map(name).collect();
        let own = |name: &&String| name.contains(is_invisible) && !name.contains(FORGED);
        assert_eq!(files.iter().find(own), None, "{files:?}");
        assert_eq!(files.iter().filter(|name| name.ends_with(".baseline")).count(), proper().len() + 2, "{files:?}");
        // What is sent has no such lines either.
        let told = fs::read_to_string(stage.path("told.jsonl")).unwrap();
        assert!(told.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{told:.2000}");
    }
}

#[test]
fn no_argument_that_is_refused_is_repeated_as_it_is() {
    let mut stage = Stage::new(None);
    let mut hostile: Vec<OsString> = names().into_iter().filter(|name| !name.contains('\0')).map(Into::into).collect();
    #[cfg(unix)]
    hostile.push(std::os::unix::ffi::OsStringExt::from_vec(b"bytes\xff\x1b[31m\nFORGED\xc2".to_vec()));
    for command in commands() {
        let words: Vec<OsString> = command.split(' ').map(Into::into).collect();
        // Each name in another place: commands times names times places would take minutes.
        for (i, name) in hostile.iter().enumerate() {
            let mut flag = OsString::from("--no-such-");
            flag.push(name);
            let more: Vec<OsString> = match i % 4 {
                0 => vec![flag],
                1 => vec!["--format".into(), name.clone()],
                2 => vec!["--now".into(), name.clone()],
                _ => std::iter::repeat_n(name.clone(), 9).collect(),
            };
            for log in [&["--log", "json"][..], &[]] {
                let args: Vec<OsString> = log.iter().map(Into::into).chain(words.clone()).chain(more.clone()).collect();
                stage.run(&args);
            }
        }
    }
    assert!(stage.shown.contains("--no-such-\\u{1b}[31mred"), "what was wrong is named");
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_text_is_shown_and_read() {
    use std::os::unix::ffi::OsStringExt;
    let mut stage = Stage::new(None);
    let name = OsString::from_vec(b"bytes\xff\x1b[31m\nFORGED.parquet".to_vec());
    if fs::write(stage.folder.path().join(&name), snapshot(0.0)).is_err() {
        return; // A file system that has only names of text.
    }
    for args in [["baseline", "show"], ["sweep", "--no-state"], ["doctor", "--format=json"], ["history", "--top=1"]] {
        let args: Vec<OsString> = args.iter().map(Into::into).chain([name.clone()]).collect();
        stage.run(&args);
    }
    let output = OsString::from("--output");
    let table = OsString::from("--format=table");
    stage.run(&["compare".into(), "train.parquet".into(), "now.parquet".into(), table, output, name.clone()]);
    assert!(fs::read_to_string(stage.folder.path().join(&name)).unwrap().contains("drifted"), "it was written");
}

#[test]
fn reports_for_programs_have_every_name_and_spreadsheets_run_none() {
    let mut stage = Stage::new(None);
    let pair = ["compare", "train.parquet", "now.parquet"];
    let report = stage.json(&pair);
    let all: BTreeSet<String> = names().into_iter().collect();
    let found: BTreeSet<String> =
        report["features"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap().to_owned()).collect();
    assert!(all.is_subset(&found), "JSON has names as they are: {:?}", all.difference(&found));
    stage.run(&[&pair[..], &["--output", "report.parquet", "--format", "parquet"]].concat());
    let frame = read_parquet(&stage.path("report.parquet"));
    let column = frame.column("feature").unwrap().str().unwrap().clone();
    let found: BTreeSet<String> = column.iter().flatten().map(str::to_owned).collect();
    assert!(all.is_subset(&found), "Parquet has names as they are: {:?}", all.difference(&found));
    let csv = |text: &str| -> Vec<csv::StringRecord> {
        csv::Reader::from_reader(text.as_bytes()).into_records().map(Result::unwrap).collect()
    };
    let text = stage.run(&[&pair[..], &["--format", "csv"]].concat());
    let found: BTreeSet<String> = csv(&text).iter().map(|row| row[2].to_owned()).collect();
    for name in
        ["<script>alert(1)</script>", "quote'\"\\", "   ", "cat", "'=cmd|'/C calc'!A0", "'+1+1", "'-2+3", "x;'=1+1"]
    {
        assert!(found.contains(name), "{name} is not in {found:?}");
    }
    stage.run(&["sweep", "fleet.toml", "--format", "json"]);
    let tables = [
        text,
        stage.run(&["sweep", "fleet.toml", "--format", "csv", "--no-state"]),
        stage.run(&["history", "fleet.toml", "--format", "csv"]),
    ];
    for text in tables {
        let rows = csv(&text);
        assert!(rows.len() > 20);
        for cell in rows.iter().flatten() {
            let number = cell.parse::<f64>().is_ok();
            assert!(number || !cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell:?} would be run");
        }
    }
    let back = stage.run(&["compare", "now.parquet", "train.parquet", "--format", "csv"]);
    let below: usize = csv(&back).iter().flatten().filter(|cell| cell.parse::<f64>().is_ok_and(|x| x < 0.0)).count();
    assert!(below > 20 && !back.contains("'-6"), "figures below 0 are figures: {back:.1000}");
    // The same in a file as on a terminal's side: no colour.
    stage.run(&[&pair[..], &["--output", "report.txt"]].concat());
    let file = fs::read_to_string(stage.path("report.txt")).unwrap();
    stage.look(&file, true, "report.txt");
}

#[test]
fn names_of_ten_thousand_characters_make_no_wide_tables_and_no_endless_messages() {
    let mut stage = Stage::new(None);
    stage.run(&["sweep", "fleet.toml", "--format", "json"]);
    let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap_or_default();
    for args in [
        &["compare", "train.parquet", "now.parquet", "--top", "0"][..],
        &["sweep", "fleet.toml", "--top", "0", "--no-state"],
        &["history", "fleet.toml", "--top", "0"],
    ] {
        let text = stage.run(args);
        assert!(text.contains("longlong") && text.contains("characters left out"), "{args:?}: {text:.2000}");
        assert!(widest(&text) < 2500, "{args:?}: {} characters", widest(&text));
    }
    let long = "long".repeat(2500);
    let history = stage.json(&["history", "fleet.toml"]);
    assert!(
        history["entries"].as_array().unwrap().iter().any(|entry| entry["feature"] == long.as_str()),
        "whole for programs"
    );
}

#[test]
fn a_fleet_file_that_init_writes_for_such_names_is_read_back_and_swept() {
    let mut stage = Stage::new(None);
    let name = "evil\nFORGED\u{1b}[2J\u{202e}\u{a0}";
    let written = stage.run(&["init", "train.parquet", "now.parquet", "--name", name]);
    fs::write(stage.path("made.toml"), written).unwrap();
    let report = stage.json(&["sweep", "made.toml", "--no-state"]);
    assert_eq!(report["models"][0]["model"], name);
    assert_eq!(report["models"][0]["error"], Value::Null);
}
