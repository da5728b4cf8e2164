//! What goes over a wire: trainings at other programs, and messages to people and programs, against servers that answer as
//! the real ones do, fail, or are slow.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use driftsweep::model::Options;
use driftsweep_extensions::executor::{Champion, Logins, RunOutcome, RunStatus, TrainingRun};
use driftsweep_extensions::http::Http;
use driftsweep_fleet::Fleet;
use driftsweep_ops::executor;
use driftsweep_ops::notify::{self, AuditedFact};
use driftsweep_ops::store::Store;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::server;
use crate::support::server::{Request, answer};

fn fleet(folder: &Path, head: &str, retrain: &str) -> Fleet {
    let text = format!(
        "name = \"my fleet\"\n[approval]\napprovers = [[\"ana\"]]\n{head}\n[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n\
         [model.retrain]\n{retrain}\n"
    );
    let file = folder.join("fleet.toml");
    fs::write(&file, &text).unwrap();
    Fleet::read(&file, &Options::new()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn run(folder: &Path) -> TrainingRun {
    let now = Timestamp::from_second(1_790_000_000).unwrap();
    TrainingRun {
        fleet: "my fleet".into(),
        model: "m $(x) ü".into(),
        job: "0123abcd".into(),
        attempt: 2,
        trigger: "drift".into(),
        event: json!({ "id": "0123abcd" }).to_string(),
        folder: folder.join("run"),
        started_at: now,
        stop_at: now + SignedDuration::from_hours(1),
        late: SignedDuration::from_hours(-1),
        key: String::new(),
        seen: false,
        champion: Some(Champion { version: 3, source: "models/3".into(), digest: None }),
    }
}

/// What went wrong, if something did.
type Reply = Result<(), String>;

type Kept = Arc<Mutex<Vec<Request>>>;

/// A server that keeps what it is sent, and always answers the same.
fn keeping(status: u16, body: &'static str) -> (String, Kept) {
    let kept: Kept = Arc::default();
    let log = kept.clone();
    let url = server::http(move |request| {
        log.lock().unwrap().push(request.clone());
        answer(status, body)
    });
    (url, kept)
}

/// Starts, asks and stops as a scheduler does; what comes back of each.
fn drive(
    fleet: &Fleet,
    folder: &Path,
) -> (impl Fn() -> Result<RunStatus, String>, impl Fn() -> Reply, impl Fn() -> Reply) {
    drive_run(fleet, run(folder))
}

fn drive_run(
    fleet: &Fleet,
    run: TrainingRun,
) -> (impl Fn() -> Result<RunStatus, String>, impl Fn() -> Reply, impl Fn() -> Reply) {
    let retrain = Arc::new(fleet.models[0].retrain.clone().unwrap());
    let http = Arc::new(Http::new().unwrap());
    let run = Arc::new(run);
    let logins = Arc::new(Logins::default());
    let now = run.started_at;
    let with = move |retrain: &driftsweep_fleet::RetrainConfig,
                     (http, logins): (&Http, &Logins),
                     run: &TrainingRun,
                     what: u8| {
        let executor = executor::of(retrain, http, Path::new("driftsweep"), logins);
        match what {
            0 => executor.poll(run, now),
            1 => executor.start(run, now).map(|()| RunStatus::Running),
            _ => executor.cancel(run, now).map(|()| RunStatus::Running),
        }
        .map_err(|failure| format!("{}{}", if failure.permanent { "lasting: " } else { "" }, failure.reason))
    };
    let of = move |what| {
        let (retrain, http, logins, run) = (retrain.clone(), http.clone(), logins.clone(), run.clone());
        move || with(&retrain, (&http, &logins), &run, what)
    };
    let (poll, start, cancel) = (of(0), of(1), of(2));
    (poll, move || start().map(drop), move || cancel().map(drop))
}

#[test]
fn a_webhook_is_signed_asked_by_the_runs_name_and_believed_only_in_its_own_words() {
    let folder = TempDir::new().unwrap();
    let kept: Kept = Arc::default();
    let state: Arc<Mutex<(u16, String)>> = Arc::new(Mutex::new((404, "unknown".into())));
    let url = server::http({
        let (kept, state) = (kept.clone(), state.clone());
        move |request| {
            kept.lock().unwrap().push(request.clone());
            let (status, body) = state.lock().unwrap().clone();
            if request.method == "GET" { answer(status, body) } else { answer(202, "{}") }
        }
    });
    fs::write(folder.path().join("secret"), "s3cr3t\n").unwrap();
    let fleet =
        fleet(folder.path(), "", &format!("webhook = {{ url = \"{url}/train?team=risk\", secret_file = \"secret\" }}"));
    let (poll, start, cancel) = drive(&fleet, folder.path());
    assert_eq!(poll(), Ok(RunStatus::NotStarted));
    start().unwrap();
    let sent = kept.lock().unwrap().last().cloned().unwrap();
    assert_eq!((&*sent.method, &*sent.path), ("POST", "/train?team=risk"));
    assert_eq!((&*sent.headers["webhook-id"], &*sent.headers["idempotency-key"]), ("0123abcd-2", "0123abcd-2"));
    assert_eq!(sent.headers["webhook-timestamp"], "1790000000");
    // As a receiver checks it: python3 -c "import hmac,base64; ..." over "id.time.body".
    assert!(sent.headers["webhook-signature"].starts_with("v1,"));
    let body: Value = serde_json::from_str(&sent.body).unwrap();
    assert_eq!((&body["model"], &body["event"]["id"]), (&json!("m $(x) ü"), &json!("0123abcd")));
    let say = |status: u16, body: Value| *state.lock().unwrap() = (status, body.to_string());
    say(200, json!({ "state": "queued" }));
    assert_eq!(poll(), Ok(RunStatus::Running));
    assert_eq!(kept.lock().unwrap().last().unwrap().path, "/train/0123abcd-2?team=risk");
    say(200, json!({ "state": "failed", "reason": "no memory", "cost": 12.345, "seconds": 90 }));
    let Ok(RunStatus::Ended(ended)) = poll() else { panic!() };
    assert_eq!((ended.outcome, &*ended.reason), (RunOutcome::Failed, "no memory"));
    assert_eq!((ended.cost.unwrap().cents(), ended.took), (1235, Some(SignedDuration::from_secs(90))));
    say(200, json!({ "state": "succeeded", "cost": -3 }));
    assert!(matches!(poll(), Ok(RunStatus::Ended(ended)) if ended.cost.is_none()), "that is no cost");
    for (status, body) in [(200, json!({ "state": "done" })), (200, json!("yes")), (500, json!({})), (429, json!({}))] {
        say(status, body.clone());
        assert!(poll().is_err_and(|e| !e.starts_with("lasting")), "{status} {body}: it may come right");
    }
    say(403, json!({}));
    assert!(poll().unwrap_err().starts_with("lasting: status 403"));
    cancel().unwrap();
    assert_eq!(kept.lock().unwrap().last().unwrap().method, "DELETE");
}

#[test]
fn a_webhook_may_leave_its_result_in_a_file() {
    let folder = TempDir::new().unwrap();
    let url = server::http(|_| answer(202, ""));
    let fleet = fleet(folder.path(), "", &format!("webhook = {{ url = \"{url}\", results = \"results\" }}"));
    let (poll, start, _) = drive(&fleet, folder.path());
    assert_eq!(poll(), Ok(RunStatus::NotStarted));
    start().unwrap();
    assert_eq!(poll(), Ok(RunStatus::Running));
    fs::create_dir(folder.path().join("results")).unwrap();
    let file = folder.path().join("results/0123abcd-2.json");
    fs::write(&file, "{\"state\": \"succ").unwrap();
    assert!(poll().is_err(), "half of it is nothing yet");
    // What is no file, or larger than an answer, is none, and is not waited for.
    fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    assert!(poll().unwrap_err().contains("not a regular file"));
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    assert!(poll().unwrap_err().contains("not a regular file"));
    fs::remove_file(&file).unwrap();
    fs::write(&file, format!("{{\"state\": \"succeeded\"{}}}", " ".repeat(70_000))).unwrap();
    assert!(poll().unwrap_err().contains("more than 65536 bytes"));
    fs::write(&file, "{\"state\": \"succeeded\", \"cost\": 3}").unwrap();
    assert!(matches!(poll(), Ok(RunStatus::Ended(ended)) if ended.outcome == RunOutcome::Succeeded));
    // Where the mark that it was sent is not, it was sent all the same.
    let elsewhere =
        TrainingRun { folder: folder.path().join("elsewhere"), job: "other".into(), seen: true, ..run(folder.path()) };
    assert_eq!(drive_run(&fleet, elsewhere).0(), Ok(RunStatus::Running));
}

/// Airflow 3.0 and 2.10 as their API references have them; `tests/airflow.sh` asks a real one.
#[test]
fn airflow_is_asked_as_its_api_has_it() {
    for version_1 in [false, true] {
        let folder = TempDir::new().unwrap();
        let kept: Kept = Arc::default();
        let runs: Arc<Mutex<HashMap<String, &str>>> = Arc::default();
        let url = server::http({
            let (kept, runs) = (kept.clone(), runs.clone());
            move |request| {
                kept.lock().unwrap().push(request.clone());
                if request.path == "/auth/token" {
                    let body: Value = serde_json::from_str(&request.body).unwrap();
                    let fine = body == json!({ "username": "me", "password": "s3cr3t" });
                    return if fine { answer(201, json!({ "access_token": "tok" })) } else { answer(401, "") };
                }
                let wanted = if version_1 { "Basic bWU6czNjcjN0" } else { "Bearer tok" };
                if request.headers.get("authorization").is_none_or(|given| given != wanted) {
                    return answer(401, json!({ "detail": "Unauthorized" }));
                }
                let base = format!("/api/{}/dags/train%20it/dagRuns", if version_1 { "v1" } else { "v2" });
                let Some(rest) = request.path.strip_prefix(&base) else {
                    return answer(404, json!({ "detail": "no DAG" }));
                };
                let mut runs = runs.lock().unwrap();
                let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
                match (&*request.method, rest.trim_start_matches('/')) {
                    ("POST", "") => {
                        // Version 2 asks for a logical date, if only for none.
                        if version_1 == body.get("logical_date").is_some() {
                            return answer(422, json!({ "detail": "logical_date" }));
                        }
                        let id = body["dag_run_id"].as_str().unwrap().to_owned();
                        if runs.insert(id, "queued").is_some() {
                            return answer(409, json!({ "detail": "DAGRun already exists" }));
                        }
                        answer(200, body)
                    }
                    ("PATCH", id) => {
                        assert_eq!(body, json!({ "state": "failed" }));
                        runs.insert(id.into(), "failed");
                        answer(200, "{}")
                    }
                    (_, id) => match runs.get(id) {
                        Some(state) => answer(
                            200,
                            json!({
                                "dag_run_id": id, "state": state,
                                "start_date": "2026-11-24T02:00:00.123456Z", "end_date": "2026-11-24T02:30:00.123456Z",
                            }),
                        ),
                        None => answer(404, json!({ "detail": "not found" })),
                    },
                }
            }
        });
        fs::write(folder.path().join("password"), "s3cr3t").unwrap();
        let api = if version_1 { ", api = 1" } else { "" };
        let fleet = fleet(
            folder.path(),
            "",
            &format!(
                "airflow = {{ url = \"{url}\", dag = \"train it\", user = \"me\", password_file = \"password\"{api} }}"
            ),
        );
        let (poll, start, cancel) = drive(&fleet, folder.path());
        assert_eq!(poll(), Ok(RunStatus::NotStarted));
        start().unwrap();
        start().unwrap();
        assert_eq!(runs.lock().unwrap().len(), 1, "once");
        assert_eq!(poll(), Ok(RunStatus::Running));
        runs.lock().unwrap().insert("0123abcd-2".into(), "success");
        let Ok(RunStatus::Ended(ended)) = poll() else { panic!() };
        assert_eq!((ended.outcome, ended.took), (RunOutcome::Succeeded, Some(SignedDuration::from_mins(30))));
        cancel().unwrap();
        assert!(matches!(poll(), Ok(RunStatus::Ended(ended)) if ended.outcome == RunOutcome::Failed));
        let logins = kept.lock().unwrap().iter().filter(|request| request.path == "/auth/token").count();
        assert_eq!(logins, usize::from(!version_1), "once in a pass");
        // What it knew before is not there to be started again.
        let seen = TrainingRun { seen: true, job: "deleted".into(), ..run(folder.path()) };
        assert_eq!(drive_run(&fleet, seen).0(), Ok(RunStatus::Lost));
    }
}

#[test]
fn a_place_that_lets_nobody_in_is_asked_once_in_a_pass() {
    let folder = TempDir::new().unwrap();
    let (url, kept) = keeping(503, "later");
    fs::write(folder.path().join("password"), "s3cr3t").unwrap();
    let retrain =
        format!("airflow = {{ url = \"{url}\", dag = \"train\", user = \"me\", password_file = \"password\" }}");
    let fleet = fleet(folder.path(), "", &retrain);
    let (poll, start, cancel) = drive(&fleet, folder.path());
    for said in [poll().map(drop), start(), cancel()] {
        assert_eq!(said, Err("status 503: later".into()));
    }
    assert_eq!(kept.lock().unwrap().len(), 1);
}

#[test]
fn a_webhook_that_has_forgotten_a_run_is_told_apart_from_one_that_never_knew_it() {
    let folder = TempDir::new().unwrap();
    let status = Arc::new(Mutex::new(404));
    let url = server::http({
        let status = status.clone();
        move |_| answer(*status.lock().unwrap(), "")
    });
    let fleet = fleet(folder.path(), "", &format!("webhook = {{ url = \"{url}\" }}"));
    for (code, seen, wanted) in [
        (404, false, RunStatus::NotStarted),
        (404, true, RunStatus::Lost),
        (410, false, RunStatus::Lost),
        (410, true, RunStatus::Lost),
    ] {
        *status.lock().unwrap() = code;
        assert_eq!(drive_run(&fleet, TrainingRun { seen, ..run(folder.path()) }).0(), Ok(wanted), "{code} {seen}");
    }
}

/// The API of Kubernetes 1.33 as its reference has it: what it answers to a Job that is made, made again, looked for,
/// done, failed, too late, and deleted.
#[cfg(feature = "kubernetes")]
#[test]
fn kubernetes_makes_a_job_of_the_manifest_once_and_tells_how_it_ended() {
    let folder = TempDir::new().unwrap();
    let jobs: Arc<Mutex<HashMap<String, Value>>> = Arc::default();
    let url = server::http({
        let jobs = jobs.clone();
        move |request| {
            let status = |code: u16, reason: &str| {
                answer(
                    code,
                    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": code }),
                )
            };
            if request.headers.get("authorization").is_none_or(|given| given != "Bearer tok") {
                return status(401, "Unauthorized");
            }
            let path = request.path.split('?').next().unwrap().to_owned();
            let Some(rest) = path.strip_prefix("/apis/batch/v1/namespaces/ml/jobs") else {
                return status(404, "NotFound");
            };
            let mut jobs = jobs.lock().unwrap();
            match (&*request.method, rest.trim_start_matches('/')) {
                ("POST", "") => {
                    let job: Value = serde_json::from_str(&request.body).unwrap();
                    let name = job["metadata"]["name"].as_str().unwrap().to_owned();
                    if jobs.contains_key(&name) {
                        return status(409, "AlreadyExists");
                    }
                    jobs.insert(name, job.clone());
                    answer(201, job)
                }
                ("DELETE", name) if jobs.remove(name).is_some() => {
                    answer(200, json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }))
                }
                (_, name) => jobs.get(name).map_or_else(|| status(404, "NotFound"), |job| answer(200, job)),
            }
        }
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "other",
        "clusters": [{ "name": "c", "cluster": { "server": url } }],
        "users": [{ "name": "u", "user": { "token": "tok" } }],
        "contexts": [
            { "name": "test", "context": { "cluster": "c", "user": "u", "namespace": "ml" } },
            { "name": "other", "context": { "cluster": "gone", "user": "u" } },
        ],
    });
    // The library finds its configuration by the environment: a process of its own.
    let kubeconfig = folder.path().join("kubeconfig");
    fs::write(&kubeconfig, config.to_string()).unwrap();
    fs::write(
        folder.path().join("job.yaml"),
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  generateName: train-\n  labels: {team: risk}\nspec:\n  template:\n    spec:\n      \
         containers:\n      - name: train\n        image: registry.example.com/train:1\n        args: [\"$(DRIFTSWEEP_MODEL)\"]\n        env:\n        \
         - {name: DRIFTSWEEP_MODEL, value: nobody}\n        - {name: KEEP, value: \"1\"}\n",
    )
    .unwrap();
    let file = folder.path().join("fleet.toml");
    fleet(
        folder.path(),
        "",
        "timeout = \"2h\"\nbackoff = \"1s\"\nkubernetes = { manifest = \"job.yaml\", context = \"test\" }",
    );
    let text = fs::read_to_string(&file).unwrap();
    let store = folder.path().join("store.sqlite").display().to_string();
    let tick = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(["tick", "--threads", "1", "--store", &store]).arg(&file).env("KUBECONFIG", &kubeconfig);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let mut memory = Store::open(&store, "my fleet").unwrap();
    let now = Timestamp::now();
    let event = driftsweep_ops::store::RetrainEvent {
        id: "0123abcd".into(),
        model: "m".into(),
        trigger: "drift".into(),
        triggered_at: now,
        body: json!({ "id": "0123abcd", "price": "$(HOME) $5" }).to_string(),
        closed: None,
    };
    memory.add_event(&event).unwrap();
    tick();
    tick();
    let name = "driftsweep-0123abcd-1".to_owned();
    let job = jobs.lock().unwrap().get(&name).cloned().unwrap_or_else(|| panic!("{}\n{text}", tick()));
    let spec = &job["spec"];
    assert_eq!((&spec["backoffLimit"], &spec["activeDeadlineSeconds"]), (&json!(0), &json!(7200)));
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never");
    assert_eq!(
        job["metadata"]["labels"],
        json!({ "app.kubernetes.io/managed-by": "driftsweep", "driftsweep.io/job": "0123abcd", "team": "risk" })
    );
    assert!(job["metadata"].get("generateName").is_none());
    let env = spec["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let value = |name: &str| env.iter().filter(|v| v["name"] == name).map(|v| v["value"].clone()).collect::<Vec<_>>();
    assert_eq!((value("DRIFTSWEEP_MODEL"), value("KEEP")), (vec![json!("m")], vec![json!("1")]));
    assert!(
        value("DRIFTSWEEP_EVENT")[0].as_str().unwrap().contains("$$(HOME) $$5"),
        "nothing in it stands for a variable"
    );
    let state = |memory: &mut Store| memory.jobs("0123abcd").unwrap().remove(0).job;
    assert_eq!(state(&mut memory).state.name(), "running");
    let end = |name: &str, condition: Value| {
        let times = json!({ "startTime": "2026-11-24T02:00:00Z", "completionTime": "2026-11-24T02:20:00Z" });
        let mut jobs = jobs.lock().unwrap();
        let job = jobs.get_mut(name).unwrap();
        job["status"] = times;
        job["status"]["conditions"] = json!([condition]);
    };
    end(
        &name,
        json!({ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit" }),
    );
    tick();
    assert_eq!(state(&mut memory).state.name(), "queued", "tried again");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    tick();
    end("driftsweep-0123abcd-2", json!({ "type": "Complete", "status": "True" }));
    tick();
    assert_eq!(state(&mut memory).state.name(), "succeeded", "{:?}", state(&mut memory));
}

fn tell(fleet: &Fleet, store: &mut Store, n: usize, now: Timestamp) {
    for i in 0..n {
        let body = json!({ "model": "m\nx", "trigger": "drift", "reason": format!("reason {i}") });
        store
            .transaction(|store| {
                notify::record(
                    fleet,
                    store,
                    AuditedFact { at: now, actor: "driftsweep", kind: "event.open", subject: &format!("e{i}"), body },
                )
            })
            .unwrap();
    }
}

#[test]
fn messages_reach_files_chats_and_letter_boxes_and_a_bad_channel_holds_up_no_other() {
    let folder = TempDir::new().unwrap();
    let kept: Kept = Arc::default();
    let broken = Arc::new(Mutex::new(true));
    let url = server::http({
        let (kept, broken) = (kept.clone(), broken.clone());
        move |request| {
            kept.lock().unwrap().push(request.clone());
            if request.path == "/bad" && *broken.lock().unwrap() { answer(503, "later") } else { answer(200, "ok") }
        }
    });
    let (port, letters) = server::smtp();
    let head = format!(
        "[[notify]]\nname = \"lines\"\nfile = \"log/told.jsonl\"\n[[notify]]\nname = \"chat\"\nwebhook = {{ url = \"{url}/chat\" }}\n\
         template = \"{{{{ figures.model }}}}: {{{{ figures.reason }}}} ({{{{ kind }}}})\"\n[[notify]]\nname = \"bad\"\nwebhook = {{ url = \
         \"{url}/bad\", format = \"cloudevent\" }}\n[[notify]]\nname = \"mail\"\nemail = {{ host = \"127.0.0.1\", port = {port}, security = \
         \"none\", from = \"driftsweep@example.com\", to = [\"Ana <ana@example.com>\"] }}\n[[notify]]\nname = \"nobody\"\nabout = [\"budget\"]\n\
         file = \"never\"\n[[notify]]\nname = \"wrong\"\nwebhook = {{ url = \"{url}/wrong\" }}\ntemplate = \"{{{{ unclosed\"\n"
    );
    let fleet = fleet(folder.path(), &head, "command = [\"true\"]");
    let mut store = Store::open(&folder.path().join("s.sqlite").display().to_string(), &fleet.name).unwrap();
    let http = Http::new().unwrap();
    let mut now = Timestamp::from_second(1_790_000_000).unwrap();
    tell(&fleet, &mut store, 5, now);
    let delivered = notify::deliver(&fleet, &mut store, &http, now, &|| false).unwrap();
    // The bad channel is tried three times and then left alone.
    assert_eq!((delivered.sent, delivered.put_off, delivered.dead), (20, 3, 0));
    let lines = fs::read_to_string(folder.path().join("log/told.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(
        (&lines[0]["specversion"], &lines[0]["type"], &lines[0]["id"]),
        (&json!("1.0"), &json!("io.driftsweep.event.open"), &json!("my fleet-1"))
    );
    let of = |path: &str| kept.lock().unwrap().iter().filter(|r| r.path == path).cloned().collect::<Vec<_>>();
    let chat: Value = serde_json::from_str(&of("/chat")[0].body).unwrap();
    assert_eq!(chat, json!({ "text": "m\\nx: reason 0 (event.open)" }));
    // A template that is none keeps nobody from being told.
    let told: Value = serde_json::from_str(&of("/wrong")[0].body).unwrap();
    let told = told["text"].as_str().unwrap();
    assert!(told.contains("retraining is requested") && told.contains("template of channel 'wrong'"), "{told}");
    let letter = letters.lock().unwrap()[0].clone();
    assert!(letter.contains("Subject: [my fleet] m\\nx: retraining is requested"), "{letter}");
    assert!(
        letter.contains("Message-ID: <driftsweep-my-fleet-1@example.com>") && letter.contains("reason 0"),
        "{letter}"
    );
    assert!(!folder.path().join("never").exists());
    // Later and later, until it is put aside; then it is mended, and somebody asks for it again.
    let mut passes = 0;
    while !store.messages_in("pending").unwrap().is_empty() {
        now += SignedDuration::from_hours(30);
        notify::deliver(&fleet, &mut store, &http, now, &|| false).unwrap();
        passes += 1;
        assert!(passes < 60);
    }
    let dead = store.messages_in("dead").unwrap();
    let bad: Vec<_> = dead.iter().filter(|message| message.channel == "bad").collect();
    assert_eq!((bad.len(), bad[0].attempts), (5, 12));
    assert_eq!(bad[0].error.as_deref(), Some("status 503: later"));
    *broken.lock().unwrap() = false;
    for message in bad {
        store
            .set_message(&driftsweep_ops::store::OutboxMessage {
                state: "pending".into(),
                attempts: 0,
                next_at: now,
                ..message.clone()
            })
            .unwrap();
    }
    assert_eq!(notify::deliver(&fleet, &mut store, &http, now, &|| false).unwrap().sent, 5);
    let event = of("/bad").pop().unwrap();
    assert_eq!(event.headers["content-type"], "application/cloudevents+json");
    assert_eq!(serde_json::from_str::<Value>(&event.body).unwrap()["subject"], "e4");
    assert_eq!(event.headers["webhook-id"], "my fleet-5");
}

#[test]
fn a_store_that_cannot_be_written_has_no_message_sent_by_every_tick() {
    let folder = TempDir::new().unwrap();
    let (url, kept) = keeping(200, "ok");
    // A name that is no header as it is.
    let head = format!("[[notify]]\nname = \"ünï\"\nwebhook = {{ url = \"{url}/chat\" }}\n");
    let fleet = Fleet { name: "flotte é".into(), ..fleet(folder.path(), &head, "command = [\"true\"]") };
    let place = folder.path().join("s.sqlite").display().to_string();
    let mut store = Store::open(&place, &fleet.name).unwrap();
    let (http, now) = (Http::new().unwrap(), Timestamp::from_second(1_790_000_000).unwrap());
    tell(&fleet, &mut store, 3, now);
    crate::support::jobs::sql(
        &place,
        "CREATE TRIGGER full BEFORE UPDATE ON outbox BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    );
    for _ in 0..3 {
        let failed = notify::deliver(&fleet, &mut store, &http, now, &|| false).unwrap_err();
        assert!(failed.to_string().contains("disk is full"), "{failed}");
    }
    assert_eq!(kept.lock().unwrap().len(), 0);
    crate::support::jobs::sql(&place, "DROP TRIGGER full");
    assert_eq!(notify::deliver(&fleet, &mut store, &http, now, &|| false).unwrap().sent, 3);
    let sent = kept.lock().unwrap();
    assert_eq!((sent.len(), &*sent[0].headers["webhook-id"]), (3, "flotte %C3%A9-1"));
}

/// What a message of each kind must say.
#[cfg(feature = "kafka")]
fn wanted(kind: &str) -> &'static [&'static str] {
    match kind {
        "event.open" => &["churn: retraining is requested by its drift trigger: 2 of 40 columns drift"],
        "event.refuse" => &["churn", "drift", "no event was opened", "table mute"],
        "job.ask" | "job.escalate" => {
            &["churn: approval of retraining is needed:", "Expected cost", "ana, bo", "driftsweep approve"]
        }
        "job.ask_again" => &[
            "churn: approval of retraining is needed:",
            "repeated because nobody who was asked before may answer any more",
            "driftsweep approve",
        ],
        "job.approve" => &["churn: retraining was approved by", "it pays"],
        "job.reject" => &["churn: retraining was rejected by ana: new features next week"],
        "job.expire" => &["churn: the request for retraining has expired: nobody has answered"],
        "job.start" => &["churn: training started, attempt 1"],
        "job.gate" => &["churn", "a candidate was trained"],
        "job.reject_by_gate" => {
            &["churn", "rejected by its gates", "$612.50", "auc.better_by", "at least 0.0100 wanted"]
        }
        "job.succeed" => &["churn: trained; cost:"],
        "job.retry" => &["churn: training failed, and is retried after 2026-11-26T03:10:00Z: exit code 1"],
        "job.fail" => &["churn: training failed", "exit code 1"],
        "job.time_out" => &["churn: training was stopped at its timeout", "exit code 1"],
        "job.cancel" => &["churn: training was cancelled", "exit code 1"],
        "model.promote" => &["churn: version 3 is the champion, in place of version 2", "better in every month"],
        "model.retire" => &["churn: version 3 was retired", "better in every month"],
        "rollout.begin" => &["churn: the release of version 3 has begun", "a share of 0.25"],
        "rollout.ask" => &[
            "churn: version 3 needs approval to enter stage 'full': quality",
            "driftsweep rollout promote",
            "must be signed: add --sign KEYFILE",
        ],
        "rollout.unapproved" => &[
            "churn: the release of version 3 does not go on: the approval of stage '25 %' by 'ana' does not count",
            "driftsweep rollout promote",
            "must be signed: add --sign KEYFILE",
        ],
        "rollout.approve" => &["churn: stage '25 %' of the release of version 3 is approved again"],
        "rollout.promote" => &["churn: version 3 enters stage '25 %'", "0.9012 of 5120 rows"],
        "rollout.hold" => &["churn: the release of version 3 is held", "driftsweep rollout resume"],
        "rollout.resume" => &["churn: the release of version 3 goes on"],
        "rollout.roll_back" => &["churn: version 3 is taken back", "0.9012 of 5120 rows"],
        "rollout.settle" => &["churn: version 3 is released"],
        "rollout.traffic" => &["churn: the candidate had a share of 0.5", "changed from outside"],
        "rollout.traffic_failed" => &["churn: traffic of version 3 could not be set", "status 503", "tries again"],
        "baseline.set" => &["churn: a new baseline was set: baselines/churn-2.baseline", "the training of 2026-11-20"],
        "baseline.restore" => &["churn: a former baseline was restored"],
        "budget.warning" => &["are spent or reserved for 2026-11; forecast"],
        "performance.warning" => {
            &["churn: accuracy 0.914 (0.909 to 0.919, 10000 rows)", "warning level 0.92", "at 0.9 it triggers"]
        }
        "data.late" => &[
            "data are late; waiting for them (1 model)",
            "churn: current: production",
            "; retried until 2026-11-26T10:00:00Z",
        ],
        "data.arrived" => &["late data have arrived"],
        "data.missing" => &["data are missing; the sweep was judged without them", "churn: current: production"],
        "data.unreadable" => &["data cannot be read", "churn: current: production"],
        "data.schema" => &["columns were added, removed or changed their type"],
        "data.baseline" => &["the baseline cannot be used; drift is not judged"],
        "data.fleet_file" => &["the fleet file has a mistake that its data show"],
        "data.labels" => &["labels cannot be used"],
        "data.not_judged" => &["nothing could be judged for a week"],
        "store.create" => &["a new store was created"],
        "clock.ahead" => &["records with times up to 2026-12-24T02:00:00Z are undone"],
        other => panic!("{other} is a new kind of message; say here what it must say"),
    }
}

#[cfg(feature = "kafka")]
#[test]
fn every_kind_of_message_is_told_by_every_kind_of_channel() {
    use driftsweep_fleet::ChannelTarget;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::{ClientConfig, Message};
    let folder = TempDir::new().unwrap();
    let (url, kept) = keeping(200, "ok");
    let (port, letters) = server::smtp();
    let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
    cluster.create_topic("events", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let head = format!(
        "[[notify]]\nname = \"lines\"\nfile = \"told.jsonl\"\n[[notify]]\nname = \"chat\"\nwebhook = {{ url = \"{url}/chat\" }}\n\
         [[notify]]\nname = \"cloudevents\"\nwebhook = {{ url = \"{url}/ce\", format = \"cloudevent\" }}\n[[notify]]\nname = \"mail\"\n\
         email = {{ host = \"127.0.0.1\", port = {port}, security = \"none\", from = \"d@example.com\", to = [\"a@example.com\"] }}\n\
         [[notify]]\nname = \"kafka\"\nkafka = {{ brokers = \"{brokers}\", topic = \"events\", settings = {{ \"linger.ms\" = \"1\" }} }}\n"
    );
    let fleet = fleet(folder.path(), &head, "command = [\"true\"]");
    // No channel is left out.
    for name in ChannelTarget::NAMES {
        assert!(fleet.channels.iter().any(|channel| channel.target.name() == *name), "{name} is not told");
    }
    let chats = fleet.channels.iter().filter(|channel| channel.target.settings().is_chat()).count();
    assert_eq!((fleet.channels.len(), chats), (5, 1));
    let mut store = Store::open(&folder.path().join("s.sqlite").display().to_string(), &fleet.name).unwrap();
    let now = Timestamp::from_second(1_790_000_000).unwrap();
    let kinds = notify::KINDS;
    for kind in kinds {
        let fact = AuditedFact { at: now, actor: "ana", kind: kind.name, subject: "0123abcd", body: kind.example() };
        store.transaction(|store| notify::record(&fleet, store, fact)).unwrap();
    }
    let delivered = notify::deliver(&fleet, &mut store, &Http::new().unwrap(), now, &|| false).unwrap();
    assert_eq!((delivered.sent, delivered.put_off, delivered.dead), (5 * kinds.len(), 0, 0));
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &brokers).set("group.id", "t").create().unwrap();
    let mut partitions = rdkafka::TopicPartitionList::new();
    partitions.add_partition_offset("events", 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    let lines = fs::read_to_string(folder.path().join("told.jsonl")).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let of = |path: &str| kept.lock().unwrap().iter().filter(|r| r.path == path).cloned().collect::<Vec<_>>();
    let (chats, events) = (of("/chat"), of("/ce"));
    let letters = letters.lock().unwrap();
    for (i, kind) in kinds.iter().enumerate() {
        let message = consumer.poll(std::time::Duration::from_secs(20)).expect("a message").unwrap();
        let chat: Value = serde_json::from_str(&chats[i].body).unwrap();
        let chat = chat["text"].as_str().unwrap();
        // As a letter comes: lines of at most 76 characters, softly broken.
        let letter = letters[i].replace("=\r\n", "").replace("\r\n", "\n");
        for word in wanted(kind.name) {
            assert!(chat.contains(word), "{}: {chat}", kind.name);
            assert!(letter.contains(word), "{}: {letter}", kind.name);
        }
        assert!(chat.starts_with("[my fleet] ") && !chat.contains("undefined") && !chat.contains(": \n"), "{chat}");
        for json in [lines[i].as_bytes(), events[i].body.as_bytes(), message.payload().unwrap()] {
            let event: Value = serde_json::from_slice(json).unwrap();
            assert_eq!(event["type"], format!("io.driftsweep.{}", kind.name));
            assert_eq!(
                (&event["data"]["topic"], &event["data"]["figures"]),
                (&json!(kind.topic.name()), &kind.example())
            );
        }
    }
    // A channel chooses by topic, and every topic has a kind.
    for &topic in driftsweep_fleet::Topic::ALL {
        assert!(kinds.iter().any(|kind| kind.topic == topic), "{}", topic.name());
    }
}

#[cfg(feature = "kafka")]
#[test]
fn messages_reach_kafka() {
    use rdkafka::ClientConfig;
    use rdkafka::Message;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
    cluster.create_topic("events", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let folder = TempDir::new().unwrap();
    let head = format!(
        "[[notify]]\nname = \"k\"\nkafka = {{ brokers = \"{brokers}\", topic = \"events\", settings = {{ \"linger.ms\" = \"1\" }} }}\n\
         [[notify]]\nname = \"gone\"\nkafka = {{ brokers = \"127.0.0.1:1\", topic = \"events\", settings = {{ \"message.timeout.ms\" = \"500\" }} }}\n"
    );
    let fleet = fleet(folder.path(), &head, "command = [\"true\"]");
    let mut store = Store::open(&folder.path().join("s.sqlite").display().to_string(), &fleet.name).unwrap();
    let now = Timestamp::from_second(1_790_000_000).unwrap();
    tell(&fleet, &mut store, 4, now);
    let delivered = notify::deliver(&fleet, &mut store, &Http::new().unwrap(), now, &|| false).unwrap();
    assert_eq!((delivered.sent, delivered.put_off), (4, 3));
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("group.id", "test")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let mut partitions = rdkafka::TopicPartitionList::new();
    partitions.add_partition_offset("events", 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    let mut subjects = Vec::new();
    while subjects.len() < 4 {
        let message = consumer.poll(std::time::Duration::from_secs(20)).expect("a message").unwrap();
        let event: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
        assert_eq!(message.key(), Some(event["subject"].as_str().unwrap().as_bytes()));
        subjects.push(event["subject"].as_str().unwrap().to_owned());
    }
    assert_eq!(subjects, ["e0", "e1", "e2", "e3"]);
}
