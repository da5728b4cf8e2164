//! From event to trained model: approval from the command line, thousands of events under kills and bad endpoints, budgets,
//! an audit that was edited, names that mean harm; on both stores.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftsweep::model::Options;
use driftsweep_extensions::http::Http;
use driftsweep_fleet::{Fleet, Money};
use driftsweep_ops::retrain::JobState;
use driftsweep_ops::retrain::budget::BudgetScope;
use driftsweep_ops::scheduler::{self, ApprovalAnswer};
use driftsweep_ops::store::{RunRecord, Store};
use jiff::{SignedDuration, Timestamp};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::support::data::all_below;
use crate::support::jobs::{Yard, add_event, chance, open, pass, sql};
use crate::support::output::all_output;
use crate::support::server::answer;
use crate::support::world::World;
use crate::support::{at, server};

#[test]
fn a_job_is_asked_for_escalated_approved_run_and_paid_from_the_command_line() {
    // A cost of ten hours at $60 is more than is spent without asking.
    let retrain = "[approval]\napprovers = [[\"ana\", \"bo\"], [\"cto\"]]\n[budget]\nmonth = 2000\n[[notify]]\nname = \"log\"\n\
                   file = \"told.jsonl\"\n[defaults.retrain]\ncpu_hours = 10\ncpu_rate = 60\ncommand = [\"sh\", \"-c\", \"echo \
                   training $DRIFTSWEEP_MODEL; echo '{\\\"cost\\\": 612.5}' > $DRIFTSWEEP_ANSWER_FILE\"]\n";
    let world = World::new(1, retrain);
    for (i, store) in world.stores().iter().enumerate() {
        let _ = fs::remove_file(world.folder.path().join("told.jsonl"));
        let state = world.folder.path().join(format!("state{i}"));
        let file = world.fleet_file().display().to_string();
        let run = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
            command.args(args).arg(&file).arg("--state").arg(&state);
            command.env("DRIFTSWEEP_STORE", store).env_remove("USER").output().unwrap()
        };
        let tick = |now: &str| {
            let output = run(&["tick", "--format", "json", "--threads", "1", "--now", now]);
            assert!(output.status.success(), "{}", all_output(&output));
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        };
        tick("2026-01-02T03:00:00Z");
        tick("2026-01-03T03:00:00Z");
        let ticked = tick("2026-01-04T03:00:00Z");
        // It was requested and costed on its way: a job counts once, by what has become of it.
        assert_eq!(ticked["jobs"]["states"], json!({ "awaiting_approval": 1 }));
        let ticked = tick("2026-01-04T03:00:00Z");
        assert_eq!(ticked["jobs"]["states"], json!({}), "nothing twice");
        let jobs = || -> Vec<Value> {
            serde_json::from_slice(&run(&["jobs", "list", "--all", "--format", "json"]).stdout).unwrap()
        };
        let [job] = &jobs()[..] else { panic!("{:?}", jobs()) };
        assert_eq!(job["state"]["state"], "awaiting_approval");
        let id = job["id"].as_str().unwrap().to_owned();
        let page = all_output(&run(&["jobs", "show", &id[..8]]));
        for wanted in [
            "the drift trigger",
            "above 0.15",
            "expected cost $600.00",
            "requested from: ana, bo (level 1 of 2)",
            "more than $500.00",
        ] {
            assert!(page.contains(wanted), "{wanted} is not in\n{page}");
        }
        // Asked on the fourth at three, so answers are due by seven.
        tick("2026-01-04T06:59:59Z");
        assert_eq!(jobs()[0]["state"]["level"], 0);
        tick("2026-01-04T07:00:00Z");
        assert_eq!(jobs()[0]["state"]["level"], 1);
        let decide = |word: &str, who: &[&str]| {
            run(&[&[word, &id[..8], "--reason", "it pays", "--now", "2026-01-04T08:00:00Z"], who].concat())
        };
        for who in ["eve", "ana", "CTO"] {
            let refused = decide("approve", &["--by", who]);
            assert_eq!(refused.status.code(), Some(2), "{who}: {}", all_output(&refused));
            assert!(all_output(&refused).contains("it may be answered by cto"), "{}", all_output(&refused));
        }
        assert!(all_output(&decide("approve", &[])).contains("--by"));
        assert!(all_output(&decide("approve", &["--by", ""])).contains("--by: must not be empty"));
        assert_eq!(decide("reject", &["--by", "eve"]).status.code(), Some(2));
        assert!(decide("approve", &["--by", "cto"]).status.success());
        assert!(
            all_output(&decide("approve", &["--by", "cto"])).contains("there is no approval request"),
            "once is enough"
        );
        tick("2026-01-04T08:01:00Z");
        let mut minute = 1;
        while jobs()[0]["state"]["state"] != "succeeded" {
            assert!(minute < 50, "{:?}", jobs());
            std::thread::sleep(Duration::from_millis(100));
            minute += 1;
            tick(&format!("2026-01-04T08:{minute:02}:00Z"));
        }
        let log = fs::read_to_string(state.join("jobs").join(&id).join("1/output.log")).unwrap();
        assert_eq!(log, "training model-00000\n");
        let budget = run(&["budget", "--format", "json", "--now", "2026-01-05"]);
        let budget: Value = serde_json::from_slice(&budget.stdout).unwrap();
        assert_eq!((&budget["budgets"][0]["spent"], &budget["budgets"][0]["committed"]), (&json!(612.5), &json!(0.0)));
        let events = all_output(&run(&["events", "list", "--all"]));
        assert!(events.contains("trained"), "{events}");
        // What it did cost is learned from.
        let economics: Value = serde_json::from_slice(&run(&["economics", "--format", "json"]).stdout).unwrap();
        assert_eq!(economics[0]["estimate"]["runs"], 1);
        let verified = run(&["audit", "verify"]);
        assert!(verified.status.success(), "{}", all_output(&verified));
        let audit = run(&["audit", "export"]);
        let records: Vec<Value> =
            String::from_utf8(audit.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let records: Vec<&Value> = records.iter().filter(|record| record["kind"] != "store.write").collect();
        let kinds: Vec<&str> = records.iter().map(|record| record["kind"].as_str().unwrap()).collect();
        let wanted = [
            "store.create",
            "event.open",
            "job.request",
            "job.cost",
            "job.ask",
            "job.escalate",
            "job.approve",
            "job.queue",
            "job.start",
            "job.succeed",
        ];
        assert_eq!(kinds, wanted);
        assert_eq!((&records[6]["actor"], &records[5]["actor"]), (&json!("cto"), &json!("driftsweep")));
        // Everybody who wants to know was told, once.
        let told = fs::read_to_string(world.folder.path().join("told.jsonl")).unwrap();
        let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<&str> = told.iter().map(|event| event["data"]["kind"].as_str().unwrap()).collect();
        assert_eq!(
            told,
            ["store.create", "event.open", "job.ask", "job.escalate", "job.approve", "job.start", "job.succeed"]
        );
    }
}

/// An endpoint that trains, and forgets now and then that it does.
#[derive(Default)]
struct Place {
    /// The runs that it remembers: one that is asked for again is not started again.
    remembered: HashSet<String>,
    /// Processes that were really started, whatever it remembers, by the name of the run.
    started: HashMap<String, usize>,
    /// How often it was asked to start a run.
    asked: HashMap<String, usize>,
    /// How many runs it has forgotten.
    forgotten: usize,
}

impl Place {
    fn start(&mut self, run: &str) {
        *self.asked.entry(run.into()).or_default() += 1;
        if self.remembered.insert(run.into()) {
            *self.started.entry(run.into()).or_default() += 1;
        }
    }

    /// Forgets a few of the runs that the store knows it to have known: of others nobody could tell.
    fn forget(&mut self, store: &mut Store, random: &mut Pcg64, one_in: u64) {
        for run in store.runs_under_way().unwrap().iter().filter(|run| run.seen) {
            if chance(random, one_in) && self.remembered.remove(&format!("{}-{}", run.job, run.attempt)) {
                self.forgotten += 1;
            }
        }
    }
}

/// The storm: events for many models, kills between any two steps, an endpoint that answers late, wrongly, or not at
/// all, forgets runs, and loses words on the way. How many events there are: `DRIFTSWEEP_TEST_EVENTS` [default: 600].
#[test]
fn of_thousands_of_events_under_kills_and_bad_endpoints_no_job_is_lost_none_run_twice_and_budgets_hold() {
    let events: usize = std::env::var("DRIFTSWEEP_TEST_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(600);
    let models = 500.min(events / 4);
    let names: Vec<String> = (0..models).map(|i| format!("model {i}")).collect();
    let place: Arc<Mutex<Place>> = Arc::default();
    let random = Arc::new(Mutex::new(Pcg64::seed_from_u64(7)));
    let url = server::http({
        let place = place.clone();
        move |request| {
            let dice = random.lock().unwrap().next_u64();
            if dice % 97 == 0 {
                std::thread::sleep(Duration::from_millis(30));
            }
            let cut = || server::Answer::default();
            let mut place = place.lock().unwrap();
            match &*request.method {
                "POST" if dice % 11 == 0 => answer(503, "busy"),
                "POST" => {
                    place.start(&request.headers["webhook-id"]);
                    // The word is lost on its way back.
                    if dice % 7 == 0 { cut() } else { answer(202, "{}") }
                }
                _ if dice % 13 == 0 => cut(),
                _ => match place.remembered.get(request.path.trim_start_matches('/')) {
                    None => answer(404, "unknown"),
                    // It does not know yet what it knows.
                    Some(_) if dice % 17 == 0 => answer(404, "unknown"),
                    Some(_) if dice % 3 == 0 => answer(200, json!({ "state": "running" })),
                    Some(_) if dice % 5 == 0 => {
                        answer(200, json!({ "state": "failed", "reason": "no luck", "cost": 20 }))
                    }
                    Some(_) => answer(200, json!({ "state": "succeeded", "cost": 50 })),
                },
            }
        }
    });
    // Each run is expected to cost $50, and up to $85 are set aside: a month's budget does not do for all.
    let month = 50.0 * events as f64 * 0.9;
    let yard = Yard::new(
        &names,
        &format!(
            "[approval]\napprovers = [[\"ana\"]]\n[budget]\nmonth = {month}\n[queue]\nmax_concurrent = 64\n[[notify]]\nname = \"dead\"\n\
             about = [\"budget\", \"approval\"]\nwebhook = {{ url = \"http://127.0.0.1:1/\" }}\n[defaults.retrain]\ncpu_hours = 1\n\
             cpu_rate = 50\nretries = 3\nbackoff = \"1m\"\ntimeout = \"30d\"\ndeadline = \"60d\"\nwebhook = {{ url = \"{url}\" }}\n"
        ),
    );
    let http = Http::new().unwrap();
    for store in yard.stores() {
        *place.lock().unwrap() = Place::default();
        let (fleet, state) = yard.in_store(&store);
        let mut random = Pcg64::seed_from_u64(11);
        let mut now = at("2026-03-02T00:00:00Z");
        let (mut made, mut kills, mut overrun) = (0, 0, Money::ZERO);
        let mut ids = HashSet::new();
        for round in 0.. {
            assert!(round < 5000, "it never ends");
            now += SignedDuration::from_secs(120);
            {
                // New events for models that have none, some of them delivered twice.
                let mut store = open(&store, &fleet);
                let busy: HashSet<String> = store.open_events().unwrap().into_iter().map(|event| event.model).collect();
                for model in names.iter().filter(|name| !busy.contains(*name)) {
                    if made < events {
                        let id = format!("{made:08x}");
                        add_event(&mut store, &id, model, now);
                        ids.insert(id);
                        made += 1;
                    }
                }
                for waiting in store.jobs_in("awaiting_approval").unwrap() {
                    // Only what is named is allowed; some are not answered, some refused.
                    let JobState::AwaitingApproval(request) = &waiting.job.state else { panic!() };
                    let by = request.overruns().iter().map(|overrun| overrun.by).max().unwrap();
                    let id = &waiting.job.id;
                    let less = scheduler::decide(
                        &fleet,
                        &mut store,
                        id,
                        ApprovalAnswer::Approve(None),
                        ("ana", "x"),
                        None,
                        now,
                    );
                    let less = less.unwrap_err().to_string();
                    assert!(less.contains("--overrun"), "{less}");
                    let word =
                        if chance(&mut random, 3) { ApprovalAnswer::Reject } else { ApprovalAnswer::Approve(Some(by)) };
                    if !chance(&mut random, 4) {
                        scheduler::decide(&fleet, &mut store, id, word, ("ana", "x"), None, now).unwrap();
                        overrun = if word == ApprovalAnswer::Reject { overrun } else { overrun.max(by) };
                    }
                }
            }
            let mut quiet = |_: &str| ();
            let mut killing = |_: &str| {
                if chance(&mut random, 150) {
                    panic!("killed")
                }
            };
            let killed = catch_unwind(AssertUnwindSafe(|| pass(&fleet, &store, &state, &http, now, &mut killing)));
            kills += usize::from(killed.is_err());
            if killed.is_err() {
                pass(&fleet, &store, &state, &http, now, &mut quiet);
            }
            let mut store = open(&store, &fleet);
            place.lock().unwrap().forget(&mut store, &mut random, 20);
            let ledger = scheduler::ledger(&fleet, &mut store, now).unwrap();
            let standing = scheduler::budget_statuses(&fleet, &ledger, now).remove(0);
            assert_eq!(standing.scope, BudgetScope::Fleet);
            assert!(standing.spent + standing.committed <= standing.budget + overrun, "{standing:?} {overrun:?}");
            let counts: BTreeMap<String, u64> = store.job_counts().unwrap().into_iter().collect();
            let done: u64 = ["succeeded", "failed", "rejected", "expired"].iter().filter_map(|s| counts.get(*s)).sum();
            if made == events && done == events as u64 {
                eprintln!("{events} events, {round} rounds, {kills} kills: {counts:?}; overrun {overrun:?}");
                break;
            }
        }
        let mut store = open(&store, &fleet);
        let jobs = store.jobs("").unwrap();
        assert_eq!(jobs.iter().map(|v| v.job.id.clone()).collect::<HashSet<_>>(), ids, "one job an event, none lost");
        let runs = store.runs_between(Timestamp::MIN, Timestamp::MAX).unwrap();
        let place = place.lock().unwrap();
        let started: HashMap<String, &RunRecord> =
            runs.iter().map(|run| (format!("{}-{}", run.job, run.attempt), run)).collect();
        assert_eq!(started.len(), runs.len());
        assert!(runs.iter().all(|run| run.ended.is_some()), "no run is forgotten");
        assert!(place.started.keys().all(|run| started.contains_key(run)), "nothing ran that was not noted");
        let twice: Vec<_> = place.started.iter().filter(|(_, starts)| **starts > 1).collect();
        assert!(twice.is_empty(), "started twice: {twice:?}");
        assert!(place.asked.values().any(|asked| *asked > 1), "some were asked for twice");
        assert!(place.forgotten > 0, "some were forgotten");
        for versioned in &jobs {
            let own: Vec<&&RunRecord> = started.values().filter(|run| run.job == versioned.job.id).collect();
            let good =
                own.iter().filter(|run| run.ended.as_ref().is_some_and(|(_, outcome, _)| outcome == "succeeded"));
            assert_eq!(
                good.count(),
                usize::from(versioned.job.state == JobState::Succeeded),
                "trained once or not at all"
            );
            let cost: Money = own.iter().filter_map(|run| Some(run.ended.as_ref()?.2)).sum();
            assert_eq!(cost, versioned.job.spent);
        }
        assert!(kills > 0);
        let verified = store.verify_audit(&[]).unwrap();
        assert_eq!(verified.problems, Vec::<String>::new());
        let warnings = {
            let mut n = 0;
            store
                .audit(&BudgetScope::Fleet.to_string(), |record| {
                    n += usize::from(record.kind == "budget.warning");
                    Ok(())
                })
                .unwrap();
            n
        };
        assert!((1..=2).contains(&warnings), "80 % is told once a month: {warnings}");
    }
}

#[test]
fn an_audit_that_was_edited_cut_or_put_in_another_order_is_found_and_the_record_named() {
    let yard = Yard::new(
        &["a".into(), "b".into()],
        "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\ncommand = [\"true\"]\nstakes = \"high\"\n",
    );
    let http = Http::new().unwrap();
    for store in yard.stores() {
        let (fleet, state) = yard.in_store(&store);
        let now = at("2026-03-02T00:00:00Z");
        for model in ["a", "b"] {
            add_event(&mut open(&store, &fleet), &format!("{model}{}", fleet.name), model, now);
        }
        pass(&fleet, &store, &state, &http, now, &mut |_| ());
        let verify = |expected: &[(u64, &str)]| open(&store, &fleet).verify_audit(expected).unwrap();
        let whole = verify(&[]);
        // The events were put into the store without a record of their own.
        assert_eq!((whole.records, whole.problems.len()), (8, 0));
        let head = whole.head.clone().unwrap();
        assert!(verify(&[(head.0, &head.1)]).problems.is_empty());
        let name = &fleet.name;
        let copy = format!(
            "CREATE TABLE kept_{} AS SELECT * FROM audit WHERE fleet = '{name}'",
            name.replace(['.', '-'], "_")
        );
        let kept = format!("kept_{}", name.replace(['.', '-'], "_"));
        sql(&store, &copy);
        let cases = [
            (format!("UPDATE audit SET actor = 'ana' WHERE fleet = '{name}' AND seq = 5"), "record 5 (job.cost"),
            (
                format!(
                    "UPDATE audit SET body = replace(body, 'high_stakes', 'low_stakes') WHERE fleet = '{name}' AND seq = 7"
                ),
                "record 7 (job.ask",
            ),
            (format!("UPDATE audit SET at = at + 1 WHERE fleet = '{name}' AND seq = 3"), "record 3 (job.request"),
            (format!("UPDATE audit SET body = 'x' WHERE fleet = '{name}' AND seq = 6"), "record 6 was edited"),
            (format!("DELETE FROM audit WHERE fleet = '{name}' AND seq = 2"), "record 2 is missing"),
            (format!("DELETE FROM audit WHERE fleet = '{name}' AND seq >= 7"), "records 7 to 8 are missing at the end"),
            (format!("UPDATE audit SET seq = 9 - seq WHERE fleet = '{name}' AND seq IN (4, 5)"), "record 4 ("),
            (format!("DELETE FROM audit WHERE fleet = '{name}'"), "records 1 to 8 are missing at the end"),
        ];
        for (statement, wanted) in cases {
            if statement.contains("9 - seq") {
                // Two rows change places: by way of a number that is free.
                for (from, to) in [(4, 99), (5, 4), (99, 5)] {
                    sql(&store, &format!("UPDATE audit SET seq = {to} WHERE fleet = '{name}' AND seq = {from}"));
                }
            } else {
                assert!(sql(&store, &statement) > 0, "{statement}");
            }
            let found = verify(&[]).problems;
            assert!(found.iter().any(|problem| problem.contains(wanted)), "{statement}: {found:?}");
            sql(&store, &format!("DELETE FROM audit WHERE fleet = '{name}'"));
            sql(&store, &format!("INSERT INTO audit SELECT * FROM {kept}"));
            assert!(verify(&[]).problems.is_empty());
        }
        // Who can write everything can write it anew; a head that was kept elsewhere tells.
        assert!(!verify(&[(8, "another")]).problems.is_empty());
        assert!(!verify(&[(9, "later")]).problems.is_empty());
        sql(&store, &format!("DROP TABLE {kept}"));
    }
}

#[test]
fn names_and_commands_that_mean_harm_are_text_and_secrets_appear_nowhere() {
    const SECRET: &str = "hunter2-tr0ub4dor";
    let long = "x".repeat(200);
    let names: Vec<String> = [
        "plain",
        "a b",
        "it's \"quoted\"",
        "$(touch pwned)",
        "`touch pwned`; touch pwned",
        "../../../pwned",
        "/etc/passwd",
        "line\nbreak\r\n",
        "{job}{answer_file}",
        "-rf",
        "ünï/code\u{202e}",
        "'; DROP TABLE job; --",
        "a\tb\u{1b}[31m",
        &long,
    ]
    .map(str::to_owned)
    .into();
    let told = server::http(|request| {
        let fine = request.headers.contains_key("webhook-signature") && request.path.contains(SECRET);
        answer(if fine { 500 } else { 200 }, format!("your path was {}", request.path))
    });
    let head = "[approval]\napprovers = [[\"ana\"]]\n[queue]\nmax_concurrent = 100\n[[notify]]\nname = \"chat\"\nwebhook = { url_env = \"CHAT_URL\", \
         secret_env = \"CHAT_SECRET\" }\n[[notify]]\nname = \"mail\"\nemail = { host = \"127.0.0.1\", port = 1, security = \"starttls\", from = \
         \"a@b.c\", to = [\"d@e.f\"], user = \"me\", password_file = \"password\" }\n[[notify]]\nname = \"lines\"\nfile = \"told.jsonl\"\n\
         [defaults.retrain]\nretries = 0\ncommand = [\"sh\", \"-c\", \"printf '%s\\\\0' \\\"$@\\\"; env\", \"sh\", \"{model}\", \"--model={model};x\", \"$HOME `id`\"]\n";
    let yard = Yard::new(&names, head);
    fs::write(yard.folder.path().join("password"), format!("{SECRET}\n")).unwrap();
    let file = yard.folder.path().join("fleet.toml").display().to_string();
    for (i, store) in yard.stores().iter().enumerate() {
        let state = yard.folder.path().join(format!("state{i}"));
        let now = Timestamp::now();
        for (i, model) in names.iter().enumerate() {
            add_event(&mut open(store, &yard.fleet), &format!("{i:032x}"), model, now);
        }
        let mut everything = String::new();
        let mut run = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
            command.args(args).arg(&file).arg("--state").arg(&state).current_dir(yard.folder.path());
            command.env("DRIFTSWEEP_STORE", store).env("USER", "ana");
            command.env("CHAT_URL", format!("{told}/hook/{SECRET}")).env("CHAT_SECRET", SECRET);
            let output = command.output().unwrap();
            everything += &all_output(&output);
            output
        };
        for _ in 0..100 {
            run(&["tick", "--threads", "1"]);
            let left: Value = serde_json::from_slice(&run(&["jobs", "list", "--format", "json"]).stdout).unwrap();
            if left.as_array().unwrap().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        run(&["outbox", "list", "--format", "json"]);
        run(&["audit", "show"]);
        run(&["audit", "export"]);
        run(&["jobs", "list", "--all"]);
        run(&["economics"]);
        for (i, name) in names.iter().enumerate() {
            let job = format!("{i:032x}");
            let page = all_output(&run(&["jobs", "show", &job]));
            let log = fs::read(state.join("jobs").join(&job).join("1/output.log"));
            let log = log.unwrap_or_else(|e| panic!("{name:?}: {e}: {page}"));
            let text = String::from_utf8(log).unwrap();
            let arguments: Vec<&str> = text.splitn(4, '\0').collect();
            assert_eq!(arguments[..3], [name.as_str(), &format!("--model={name};x"), "$HOME `id`"]);
            assert!(arguments[3].contains(&format!("DRIFTSWEEP_MODEL={name}\n")));
            assert!(!arguments[3].contains("CHAT_") && !arguments[3].contains("DRIFTSWEEP_STORE"), "{}", arguments[3]);
        }
        let mut verified = open(store, &yard.fleet).verify_audit(&[]).unwrap();
        assert_eq!(verified.problems.drain(..).next(), None);
        // Neither in what was said nor in what was kept; messages did fail, and said why.
        assert!(everything.contains("status 500"), "{everything}");
        assert!(!everything.contains(SECRET) && !everything.contains("\u{1b}["), "{everything}");
        let files = all_below(yard.folder.path());
        for file in
            files.iter().filter(|file| file.is_file() && file.file_name().is_some_and(|name| name != "password"))
        {
            let bytes = fs::read(file).unwrap();
            assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{}", file.display());
            assert!(!file.ends_with("pwned"), "{}", file.display());
        }
        let messages = open(store, &yard.fleet).messages_in("pending").unwrap();
        assert!(!messages.is_empty() && !format!("{messages:?}").contains(SECRET));
        assert!(!yard.folder.path().parent().unwrap().join("pwned").exists());
        let _ = fs::remove_file(yard.folder.path().join("told.jsonl"));
    }
}

#[test]
fn a_fleet_file_that_asks_for_the_impossible_says_so() {
    let fleet = |head: &str, retrain: &str| {
        let text =
            format!("{head}\n[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n[model.retrain]\n{retrain}\n");
        Fleet::parse(&text, Path::new("f.toml"), &Options::new()).map(drop).map_err(|e| e.to_string())
    };
    let ana = "[approval]\napprovers = [[\"ana\"]]";
    assert_eq!(fleet(ana, "command = [\"x\"]"), Ok(()));
    for (head, retrain, wanted) in [
        ("", "command = [\"x\"]", "there are no approvers"),
        (ana, "command = []", "runs nothing"),
        (ana, "gpu_hours = 3", "names no executor"),
        (ana, "command = [\"x\"]\nwebhook = { url = \"https://a\" }", "give one of"),
        (ana, "webhook = { url = \"https://me:pw@host/x\" }", "holds a user or password"),
        (ana, "webhook = { url = \"ftp://host\" }", "https://"),
        (ana, "command = [\"x\"]\ngpu_hours = -1", "gpu_hours = -1"),
        (ana, "command = [\"x\"]\nretries = 99", "between 0 and 20"),
        (ana, "airflow = { url = \"http://a\", dag = \"d\", user = \"u\" }", "go together"),
        ("[approval]\napprovers = [[]]", "command = [\"x\"]", "could never answer"),
        (&format!("{ana}\n[budget]\nmonth = -5"), "command = [\"x\"]", "not an amount"),
        (&format!("{ana}\n[[notify]]\nname = \"a\""), "command = [\"x\"]", "give one of file"),
        (
            &format!("{ana}\n[[notify]]\nname = \"a\"\nfile = \"x\"\n[[notify]]\nname = \"a\"\nfile = \"y\""),
            "command = [\"x\"]",
            "is taken",
        ),
        (
            &format!(
                "{ana}\n[[notify]]\nname = \"a\"\nkafka = {{ brokers = \"b\", topic = \"t\", settings = {{ \"sasl.password\" = \"x\" }} }}"
            ),
            "command = [\"x\"]",
            "secrets_env",
        ),
    ] {
        let error = fleet(head, retrain).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}
