//! Money and evidence as people and programs read them: units and currency, what a loss is worth, the page of a job.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use driftsweep_fleet::Money;
use driftsweep_ops::retrain::{CostEstimate, Job};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::jobs::{Yard, open, sql};
use crate::support::output::all_output;
use crate::support::world::{World, loans};

/// Runs the program for a fleet file, with its state and its store.
fn run(file: &Path, state: &Path, store: Option<&str>, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    command.args(args).arg(file).arg("--state").arg(state).env_remove("USER");
    match store {
        Some(store) => command.env("DRIFTSWEEP_STORE", store),
        None => command.env_remove("DRIFTSWEEP_STORE"),
    };
    command.output().unwrap()
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", all_output(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Numbers of amounts that have no decimal point.
fn whole_amounts(text: &str) -> Vec<&str> {
    let names =
        ["\"spent\":", "\"committed\":", "\"budget\":", "\"expected\":", "\"forecast\":", "\"gain\":", "\"cost\":"];
    let amounts = text.lines().filter(|line| names.iter().any(|name| line.trim_start().starts_with(name)));
    amounts.filter(|line| line.contains(|c: char| c.is_ascii_digit()) && !line.contains('.')).collect()
}

#[test]
fn amounts_are_in_the_fleets_currency_for_people_and_in_its_units_for_programs() {
    let retrain = "[approval]\napprovers = [[\"ana\"]]\n[budget]\nmonth = 700\ncurrency = \"EUR\"\n[[notify]]\nname = \"log\"\n\
                   file = \"told.jsonl\"\n[defaults.trigger.drift]\npersistence = \"1 of 1\"\n[defaults.retrain]\ncpu_hours = 10\n\
                   cpu_rate = 60\nbudget = 500\ncommand = [\"sh\", \"-c\", \"echo '{\\\"cost\\\": 612}' > $DRIFTSWEEP_ANSWER_FILE\"]\n";
    let world = World::new(1, retrain);
    for (i, store) in world.stores().iter().enumerate() {
        let _ = fs::remove_file(world.folder.path().join("told.jsonl"));
        let state = world.folder.path().join(format!("state{i}"));
        let run = |args: &[&str]| run(&world.fleet_file(), &state, Some(store), args);
        let tick = |now: &str| json_of(&run(&["tick", "--format", "json", "--threads", "1", "--now", now]));
        tick("2026-01-02T03:00:00Z");
        tick("2026-01-03T03:00:00Z");
        let jobs = || json_of(&run(&["jobs", "list", "--all", "--format", "json"]));
        let id = jobs()[0]["id"].as_str().unwrap().to_owned();
        let answer = |now: &str, more: &[&str]| {
            run(&[&["approve", &id, "--by", "ana", "--reason", "x", "--now", now], more].concat())
        };
        assert!(all_output(&run(&["jobs", "show", &id])).contains("its cost may be EUR 600.00, more than EUR 500.00"));
        assert!(answer("2026-01-03T03:10:00Z", &[]).status.success());
        // The budgets of fleet and model would be overrun: that is asked, in the same currency.
        tick("2026-01-03T03:11:00Z");
        let asked = all_output(&run(&["jobs", "show", &id]));
        assert!(asked.contains("2026-01, EUR 500.00, would be overrun by EUR "), "{asked}");
        for (more, words) in [(&[][..], "by EUR "), (&["--overrun", "1"], "is less than the overrun of EUR ")] {
            let refused = all_output(&answer("2026-01-03T03:11:30Z", more));
            assert!(refused.contains(words) && !refused.contains('$'), "{refused}");
        }
        assert!(answer("2026-01-03T03:11:30Z", &["--overrun", "600"]).status.success());
        for minute in 12..59 {
            tick(&format!("2026-01-03T03:{minute}:00Z"));
            if jobs()[0]["state"]["state"] == "succeeded" {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(jobs()[0]["spent"], json!(612.0));
        for args in
            [&["jobs", "list", "--all"][..], &["jobs", "show", &id], &["budget", "--now", "2026-01-04"], &["economics"]]
        {
            let people = all_output(&run(args));
            assert!(people.contains("EUR ") && !people.contains('$'), "{people}");
            let programs = run(&[args, &["--format", "json"]].concat());
            let text = String::from_utf8_lossy(&programs.stdout);
            assert_eq!(whole_amounts(&text), [""; 0], "{text}");
        }
        let budget = json_of(&run(&["budget", "--now", "2026-01-04", "--format", "json"]));
        assert_eq!((&budget["currency"], &budget["budgets"][0]["spent"]), (&json!("EUR"), &json!(612.0)));
        // In the audit amounts are texts, whose unit no canonical form changes.
        let audit = run(&["audit", "export"]).stdout;
        let audit = String::from_utf8(audit).unwrap();
        let end: Value =
            serde_json::from_str(audit.lines().find(|line| line.contains("\"job.succeed\"")).unwrap()).unwrap();
        assert_eq!(end["body"]["cost"], "612.00");
        assert!(run(&["audit", "verify"]).status.success());
        let told = fs::read_to_string(world.folder.path().join("told.jsonl")).unwrap();
        assert!(told.contains("EUR 612.00") && !told.contains("$6"), "{told}");
    }
    for wrong in ["", "TOOLONGNAME", "1"] {
        let text = fs::read_to_string(world.fleet_file()).unwrap().replace("\"EUR\"", &format!("\"{wrong}\""));
        fs::write(world.folder.path().join("wrong.toml"), text).unwrap();
        let refused = run(&world.folder.path().join("wrong.toml"), &world.folder.path().join("w"), None, &["budget"]);
        assert_eq!(refused.status.code(), Some(4));
        assert!(
            all_output(&refused).contains("is not a symbol or code of 1 to 8 characters"),
            "{}",
            all_output(&refused)
        );
    }
}

#[test]
fn jobs_that_an_older_version_has_stored_in_hundredths_are_read_rightly() {
    let yard = Yard::new(&["a".into()], "");
    for store in yard.stores() {
        let (fleet, _) = yard.in_store(&store);
        let now: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        let mut job = Job::request("e", "a", "drift", now, now + SignedDuration::from_hours(48));
        (job.estimate, job.spent) =
            (Some(CostEstimate::new(Money::from_cents(60_000), &[])), Money::from_cents(61_250));
        assert!(open(&store, &fleet).add_job(&job).unwrap());
        let read = || open(&store, &fleet).jobs("").unwrap().remove(0).job;
        assert_eq!(read(), job);
        let new = serde_json::to_value(&job).unwrap();
        assert_eq!((&new["spent"], &new["estimate"]["expected"]), (&json!(612.5), &json!(600.0)));
        let mut old = new.clone();
        old["spent"] = 61_250.into();
        for field in ["declared", "expected", "low", "high"] {
            let cents = serde_json::from_value::<Money>(new["estimate"][field].clone()).unwrap().cents();
            old["estimate"][field] = cents.into();
        }
        let changed = sql(&store, &format!("UPDATE job SET body = '{old}' WHERE fleet = '{}'", fleet.name));
        assert_eq!((changed, read()), (1, job));
    }
}

/// A night of numbers that a model predicts too low by as much as `error`, with their true values.
fn predictions(error: f64) -> String {
    let mut text = "at,x,predicted,truth\n".to_owned();
    for i in 0..480 {
        let (day, hour) = (1 + i / 48, (i % 48) / 2);
        let truth = 5000 + (i * 7919) % 1000;
        let predicted = f64::from(truth) - error;
        text += &format!("2026-01-{day:02}T{hour:02}:{:02}:00Z,{},{predicted},{truth}\n", 30 * (i % 2), i % 97);
    }
    text
}

#[test]
fn an_error_of_62_percent_more_is_a_loss_of_62_points_whatever_its_unit() {
    let folder = TempDir::new().unwrap();
    let model = |name: &str, error: f64, more: &str| {
        fs::write(folder.path().join(format!("{name}.csv")), predictions(error)).unwrap();
        fs::write(folder.path().join("training.csv"), predictions(0.0)).unwrap();
        format!("[[model]]\nname = \"{name}\"\nbaseline = \"training.csv\"\ncurrent = \"{name}.csv\"\n{more}\n")
    };
    let labels = "[model.labels]\ntime = \"at\"\nlabel = \"truth\"\nprediction = \"predicted\"\n\
                  [model.trigger.performance]\nmetric = \"mae\"\nlevel = 100000\nwithin = \"14d\"\n";
    let worth = |expected: &str| {
        format!(
            "{labels}[model.retrain]\ncommand = [\"true\"]\nvalue_per_point_per_day = 10\nvalid_for = \"10d\"\nexpected = {expected}\n"
        )
    };
    let text = format!(
        "[approval]\napprovers = [[\"ana\"]]\n{}{}{}{}",
        model("units", 162.0, &worth("100")),
        model("thousandths", 0.162, &worth("0.1")),
        model("nothing", 162.0, &worth("0")),
        model("unknown", 1.0, "[model.retrain]\ncommand = [\"true\"]\n"),
    );
    let file = folder.path().join("fleet.toml");
    fs::write(&file, text).unwrap();
    let run = |args: &[&str]| run(&file, &folder.path().join("state"), None, args);
    let ticked = run(&["tick", "--now", "2026-01-11T01:00:00Z"]);
    assert!(ticked.status.success(), "{}", all_output(&ticked));
    let lines = json_of(&run(&["economics", "--format", "json"]));
    let line = |name: &str| lines.as_array().unwrap().iter().find(|line| line["model"] == name).unwrap();
    for name in ["units", "thousandths"] {
        let worth = &line(name)["worth"];
        assert!((worth["points"].as_f64().unwrap() - 62.0).abs() < 0.01, "{name}: {worth}");
        assert_eq!((&worth["stale_a_day"], &worth["gain"]), (&json!(620.0), &json!(6200.0)), "{name}: {worth}");
        assert_eq!(line(name)["remedies"], json!([]));
    }
    assert_eq!(
        (&line("nothing")["advice"], &line("nothing")["worth"]["missing"]),
        (&json!("unknown"), &json!(["reference"]))
    );
    assert_eq!(line("unknown")["worth"]["missing"], json!(["point_a_day", "labels"]));
    let people = all_output(&run(&["economics"]));
    for words in [
        "a point is one percent of the reference mae",
        "a point is a hundredth of accuracy",
        "nothing: the reference of the error metric is 0 or less",
        "unknown: value_per_point_per_day is not set",
        "unknown: no labels are declared",
    ] {
        assert!(people.contains(words), "{words}: {people}");
    }
    // The former names of the keys say the same, with one hint.
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("value_per_point_per_day", "point_a_day").replace("valid_for", "holds")).unwrap();
    let former = run(&["economics", "--format", "json"]);
    assert_eq!((json_of(&former), former.status.code()), (lines, Some(0)));
    let hints = String::from_utf8_lossy(&former.stderr);
    let wanted = "in use: point_a_day is now value_per_point_per_day, holds is now valid_for; rename them\n";
    assert!(hints.matches("former names").count() == 1 && hints.ends_with(wanted), "{hints}");
}

#[test]
fn an_approver_reads_how_far_performance_has_fallen_and_over_how_many_rows() {
    let folder = TempDir::new().unwrap();
    let policy = "label_time = \"came\"\ndelay = \"40d\"\n[model.trigger.performance]\nlevel = 0.99\n[model.trigger]\n\
                  off = [\"drift\"]\n[model.retrain]\ncommand = [\"true\"]\nstakes = \"high\"\nvalue_per_point_per_day = 10\nexpected = 0.97\n\
                  [approval]\napprovers = [[\"ana\"]]\n[[notify]]\nname = \"log\"\nfile = \"told.jsonl\"\n";
    let file = loans(folder.path(), policy);
    let run = |args: &[&str]| run(&file, &folder.path().join("state"), None, args);
    let ticked = run(&["tick", "--now", "2019-02-01T04:00:00Z"]);
    assert!(ticked.status.success(), "{}", all_output(&ticked));
    let jobs = json_of(&run(&["jobs", "list", "--format", "json"]));
    let page = all_output(&run(&["jobs", "show", jobs[0]["id"].as_str().unwrap()]));
    let figure =
        page.lines().find(|line| line.trim_start().starts_with("accuracy 0.9")).unwrap_or_else(|| panic!("{page}"));
    assert!(figure.contains(" at 95 % confidence, over ") && figure.ends_with(" rows"), "{figure}");
    assert!(page.contains("it triggers where the whole interval is below 0.99 (model"), "{page}");
    assert!(page.contains("a point is a hundredth of accuracy"), "{page}");
    let told = fs::read_to_string(folder.path().join("told.jsonl")).unwrap();
    let ask = told.lines().find(|line| line.contains("io.driftsweep.job.ask")).unwrap();
    let ask: Value = serde_json::from_str(ask).unwrap();
    assert_eq!(ask["data"]["figures"]["evidence"][0], figure.trim());
}

#[test]
fn the_page_of_a_job_shows_both_distributions_the_output_that_failed_and_whose_turn_it_is() {
    // Two trainings, one at a time: the first fails, with more output than is shown.
    let script = "for i in $(seq 30); do printf 'line %s \\033[31m\\n' $i; done; sleep 1; exit 3";
    let head = format!(
        "[approval]\napprovers = [[\"ana\"]]\n[queue]\nmax_concurrent = 1\n[defaults.trigger.drift]\npersistence = \"1 of 1\"\n\
         [defaults.retrain]\nretries = 0\ncommand = [\"sh\", \"-c\", {}]\n",
        toml::Value::from(script)
    );
    let world = World::new(2, &head);
    for (i, store) in world.stores().iter().enumerate() {
        let state = world.folder.path().join(format!("state{i}"));
        let run = |args: &[&str]| run(&world.fleet_file(), &state, Some(store), args);
        for now in ["2026-01-02T03:00:00Z", "2026-01-03T03:00:00Z"] {
            let ticked = run(&["tick", "--threads", "1", "--now", now]);
            assert!(ticked.status.success(), "{}", all_output(&ticked));
        }
        let in_state = |state: &str| json_of(&run(&["jobs", "list", "--all", "--in", state, "--format", "json"]));
        let page = |job: &Value| all_output(&run(&["jobs", "show", job["id"].as_str().unwrap()]));
        let (running, queued) = (in_state("running"), in_state("queued"));
        assert!(page(&queued[0]).contains("waits for a free slot: fleet (1 of 1) in use"), "{}", page(&queued[0]));
        let shown = page(&running[0]);
        let bars = shown.lines().find(|line| line.contains('█') && line.contains(" → "));
        let bars = bars.unwrap_or_else(|| panic!("{shown}"));
        assert!(bars.chars().filter(|c| ('▁'..='█').contains(c)).count() >= 10, "{bars}");
        std::thread::sleep(Duration::from_millis(1500));
        for minute in 1..59 {
            assert!(run(&["tick", "--now", &format!("2026-01-03T03:{minute:02}:00Z")]).status.success());
            if in_state("failed").as_array().unwrap().len() == 2 {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let shown = page(&running[0]);
        assert!(shown.contains("last lines of its output"), "{shown}");
        assert!(
            shown.contains("line 11 \\u{1b}[31m") && shown.contains("line 30 ") && !shown.contains("line 10 "),
            "{shown}"
        );
        assert!(!shown.contains('\u{1b}'));
    }
}
