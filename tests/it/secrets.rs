//! Secrets of every kind are planted everywhere one can be given, nights are run in which everything fails that can, and every
//! place is searched for them afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::{AnyConnection, Connection, Row};

use crate::support::data::all_below;
use crate::support::server;
use crate::support::server::{Request, answer, http};
use crate::support::world::World;

/// Places that were searched at least: a search that finds nothing because it looks at nothing is none.
const LEAST_PLACES: usize = 250;

/// A secret of each kind, by a name that tells it.
struct Planted(BTreeMap<&'static str, String>);

impl Planted {
    fn new() -> Self {
        let kinds = [
            "store password",
            "PGPASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            "password in an address",
            "signature of a link",
            "fragment of a link",
            "address of a channel",
            "secret of a channel",
            "password of e-mail",
            "address of a training",
            "secret of a training",
            "password of Airflow",
            "token of Airflow",
            "token of Kubernetes",
            "password of Kafka",
        ];
        Self(kinds.iter().enumerate().map(|(i, kind)| (*kind, format!("Hidden{i:02}zQ7x{i:02}w"))).collect())
    }

    fn get(&self, kind: &str) -> &str {
        &self.0[kind]
    }

    /// A secret as it may be written down: as it is, in hexadecimal, and in base64 wherever it stands in what is encoded.
    fn forms(secret: &str) -> Vec<String> {
        let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let coded = (0..3).map(|shift| {
            let coded = STANDARD.encode([vec![b'x'; shift], secret.into()].concat());
            // Characters that what stands before and after it decide, too, are left out.
            coded[(shift * 8).div_ceil(6)..(shift + secret.len()) * 8 / 6].to_owned()
        });
        coded.chain([secret.to_owned(), hex]).collect()
    }

    fn in_text(&self, text: &[u8]) -> Option<(&'static str, String)> {
        // What is not UTF-8 is replaced; the forms are ASCII.
        let text = String::from_utf8_lossy(text);
        for (kind, secret) in &self.0 {
            for form in Self::forms(secret) {
                if let Some(at) = text.find(&form) {
                    let around = &text.as_bytes()[at.saturating_sub(150)..(at + 60).min(text.len())];
                    return Some((kind, String::from_utf8_lossy(around).into_owned()));
                }
            }
        }
        None
    }
}

/// What was searched, and what was found.
#[derive(Default)]
struct Search {
    places: usize,
    found: Vec<String>,
}

impl Search {
    fn look(&mut self, planted: &Planted, place: &str, bytes: &[u8]) {
        self.places += 1;
        if let Some((kind, around)) = planted.in_text(bytes) {
            self.found.push(format!("{place} shows the {kind}: {around}"));
        }
    }
}

type Kept = Arc<Mutex<Vec<Request>>>;

/// A server that keeps what it is sent.
fn keeping(reply: impl Fn(&Request) -> server::Answer + Send + Sync + 'static) -> (String, Kept) {
    let kept = Kept::default();
    let log = kept.clone();
    let url = http(move |request| {
        log.lock().unwrap().push(request.clone());
        reply(request)
    });
    (url, kept)
}

/// Everything that a request holds, as a careless server repeats it: plain, as XML, and what stands behind `Basic`.
fn echo(status: u16) -> impl Fn(&Request) -> server::Answer + Send + Sync {
    move |request| {
        let basic = request.headers.get("authorization").and_then(|value| value.strip_prefix("Basic "));
        let basic = basic.and_then(|pair| STANDARD.decode(pair).ok()).unwrap_or_default();
        let all = format!("{} {} {:?} {}", request.method, request.path, request.headers, request.body);
        let token = request.headers.get("x-amz-security-token").cloned().unwrap_or_default();
        answer(
            status,
            format!(
                "<Error><Code>Refused</Code><SessionToken>{token}</SessionToken>{all} {}</Error>",
                String::from_utf8_lossy(&basic)
            ),
        )
    }
}

struct Night {
    world: World,
    planted: Planted,
    store: String,
    variables: Vec<(&'static str, String)>,
    good: Kept,
    letters: Arc<Mutex<Vec<String>>>,
}

impl Night {
    fn new(store: Option<&str>) -> Self {
        let planted = Planted::new();
        let secret = |kind: &str| planted.get(kind).to_owned();
        let (good_url, good) = keeping(|_| answer(200, "{}"));
        let (bad_url, _) = keeping(echo(500));
        let (train_url, _) = keeping(echo(403));
        let (airflow_url, _) = keeping({
            let token = secret("token of Airflow");
            move |request| match request.path.as_str() {
                "/auth/token" => answer(201, serde_json::json!({ "access_token": token })),
                _ => echo(401)(request),
            }
        });
        let (data_url, _) = keeping(echo(400));
        let (port, letters) = server::smtp();
        let kube_url = http(echo(403));
        let world = World::new(10, "");
        let folder = world.folder.path();
        fs::write(folder.join("mail.secret"), secret("password of e-mail")).unwrap();
        fs::write(folder.join("train.secret"), secret("secret of a training")).unwrap();
        let user = data_url.replace("://", &format!("://ana:{}@", secret("password in an address")));
        let query = format!("sig={}", secret("signature of a link"));
        let fragment = secret("fragment of a link");
        let environment = "env; cat /proc/self/environ /proc/$PPID/environ;";
        let command = format!(
            "command = [\"sh\", \"-c\", \"{environment} cat /proc/self/cmdline /proc/$PPID/cmdline; echo trained; echo \
             '{{\\\"cost\\\": 3}}' > $DRIFTSWEEP_ANSWER_FILE\"]"
        );
        // It names a baseline whose address holds secrets. The arguments of a command are kept, so it does so by a script.
        let answer = format!("{{\"baseline\": \"{user}/new.baseline?{query}\"}}");
        fs::write(folder.join("new.sh"), format!("echo '{answer}' > $DRIFTSWEEP_ANSWER_FILE\n")).unwrap();
        let trainings = [
            command,
            "webhook = { url_env = \"TRAIN_URL\", secret_file = \"train.secret\" }".into(),
            format!(
                "airflow = {{ url = \"{airflow_url}\", dag = \"d\", user = \"me\", password_env = \"AIRFLOW_PASSWORD\" }}"
            ),
            "command = [\"sh\", \"new.sh\"]".into(),
            format!(
                "airflow = {{ url = \"{airflow_url}\", dag = \"d\", user = \"me\", password_env = \"AIRFLOW_PASSWORD\", api = 1 }}"
            ),
            // Where this build cannot start it, that is said.
            "kubernetes = { manifest = \"job.yaml\" }".into(),
        ];
        let kube = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": kube_url } }],
            "users": [{ "name": "u", "user": { "token": secret("token of Kubernetes") } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u", "namespace": "ml" } }],
        });
        fs::write(folder.join("kubeconfig"), kube.to_string()).unwrap();
        let manifest = "apiVersion: batch/v1\nkind: Job\nspec:\n  template:\n    spec:\n      containers:\n      - {name: t, image: i}\n";
        fs::write(folder.join("job.yaml"), manifest).unwrap();
        let text = fs::read_to_string(world.fleet_file()).unwrap();
        let (head, models) = text.split_once("[[model]]").unwrap();
        let head = format!(
            "{head}wait_for_data = \"1h\"\n[approval]\napprovers = [[\"ana\"]]\n[defaults.trigger]\ndrift.persistence = \"1 of 1\"\n\
             [[notify]]\nname = \"log\"\nfile = \"told.jsonl\"\n\
             [[notify]]\nname = \"good\"\nwebhook = {{ url = \"{good_url}\" }}\n\
             [[notify]]\nname = \"bad\"\nwebhook = {{ url_env = \"HOOK_URL\", secret_env = \"HOOK_SECRET\" }}\n\
             [[notify]]\nname = \"queue\"\nkafka = {{ brokers = \"127.0.0.1:9\", topic = \"t\", settings = {{ \"message.timeout.ms\" = \
             \"300\" }}, secrets_env = {{ \"sasl.password\" = \"KAFKA_PASSWORD\" }} }}\n\
             [[notify]]\nname = \"mail\"\nemail = {{ host = \"127.0.0.1\", port = {port}, security = \"none\", from = \
             \"a@example.org\", to = [\"b@example.org\"] }}\n\
             [[notify]]\nname = \"mail with login\"\nemail = {{ host = \"127.0.0.1\", port = {port}, security = \"tls\", from = \
             \"a@example.org\", to = [\"b@example.org\"], user = \"me\", password_file = \"mail.secret\" }}\n"
        );
        let mut text = head;
        for (i, model) in models.split("[[model]]").enumerate() {
            let currents = [
                "s3://bucket/x.csv".to_owned(),
                format!("{user}/x.csv?{query}#{fragment}"),
                format!("{data_url}/day.parquet?{query}"),
                format!("{user}/day-*.parquet"),
            ];
            let model = match i {
                6.. => {
                    let own = model.split("current = ").next().unwrap();
                    format!("{own}current = \"{}\"\n", currents[i - 6])
                }
                _ => model.to_owned(),
            };
            text += &format!("[[model]]{model}");
            match trainings.get(i) {
                Some(training) => {
                    let costs = "cpu_hours = 1\ncpu_rate = 1\nretries = 1\nbackoff = \"1m\"";
                    text += &format!("[model.retrain]\n{costs}\n{training}\n");
                }
                // Labels that stand in a table of their own, which nobody can read.
                None if i == 9 => {
                    text += &format!(
                        "[model.labels]\npredictions = \"{user}/p.csv\"\nfrom = \"{data_url}/l.csv?{query}\"\nid = \"id\"\n\
                         time = \"t\"\nlabel = \"y\"\nprediction = \"p\"\n"
                    );
                }
                None => {}
            }
        }
        text += &format!(
            "[[model]]\nname = \"of the other side\"\nbaseline = \"{user}/b.baseline?{query}\"\ncurrent = \"baseline/table-00000.parquet\"\n"
        );
        fs::write(world.fleet_file(), text).unwrap();
        let key = format!("whsec_{}", STANDARD.encode(secret("secret of a channel")));
        let variables = vec![
            ("PGPASSWORD", secret("PGPASSWORD")),
            ("AWS_ENDPOINT", data_url),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".into()),
            ("AWS_SECRET_ACCESS_KEY", secret("AWS_SECRET_ACCESS_KEY")),
            ("AWS_SESSION_TOKEN", secret("AWS_SESSION_TOKEN")),
            ("AZURE_STORAGE_ACCOUNT_NAME", "account".into()),
            ("AZURE_STORAGE_ACCOUNT_KEY", STANDARD.encode(secret("AZURE_STORAGE_ACCOUNT_KEY"))),
            (
                "GOOGLE_SERVICE_ACCOUNT_KEY",
                format!("{{\"private_key\": \"{}\"}}", secret("GOOGLE_SERVICE_ACCOUNT_KEY")),
            ),
            ("HOOK_URL", format!("{bad_url}/{}", secret("address of a channel"))),
            ("HOOK_SECRET", key),
            ("TRAIN_URL", format!("{train_url}/{}", secret("address of a training"))),
            ("AIRFLOW_PASSWORD", secret("password of Airflow")),
            ("KAFKA_PASSWORD", secret("password of Kafka")),
            ("KUBECONFIG", folder.join("kubeconfig").display().to_string()),
            ("DRIFTSWEEP_IO_TIMEOUT", "500ms".into()),
        ];
        let store = match store {
            Some(store) => store.to_owned(),
            None => folder.join("state/driftsweep.sqlite").display().to_string(),
        };
        let planted = match store.split_once("://").and_then(|(_, rest)| rest.split_once('@')?.0.split_once(':')) {
            Some((_, password)) => {
                let mut planted = planted;
                planted.0.insert("store password", password.to_owned());
                planted
            }
            None => planted,
        };
        Self { world, planted, store, variables, good, letters }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.folder.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).current_dir(self.world.folder.path());
        command.env_remove("DRIFTSWEEP_TEST_POSTGRES").env("DRIFTSWEEP_STORE", &self.store);
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).env("USER", "ana").output().unwrap()
    }
}

/// Every row of every table of a store, as text.
fn rows(store: &str) -> Vec<(String, Vec<u8>)> {
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = AnyConnection::connect(store).await.unwrap();
        // Other tests keep copies of tables there for a while.
        let sql = "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = 'public' \
                   AND table_name NOT LIKE 'kept%'";
        let tables = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
        let mut found = Vec::new();
        for table in tables {
            let table: String = table.get(0);
            let sql = format!("SELECT CAST(t AS TEXT) FROM \"{table}\" t");
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
            let text: Vec<String> = rows.iter().map(|row| row.get::<String, _>(0)).collect();
            found.push((table, text.join("\n").into_bytes()));
        }
        found
    })
}

#[test]
fn no_secret_is_found_anywhere_after_a_night_in_which_everything_fails() {
    for postgres in [None, crate::support::needs::postgres()] {
        let night = Night::new(postgres.as_deref());
        let mut search = Search::default();
        let (user, query) = (night.planted.get("password in an address"), night.planted.get("signature of a link"));
        let address = format!("http://ana:{user}@127.0.0.1:9/x.csv?sig={query}#t={query}");
        let other = format!("ftp://ana:{user}@127.0.0.1:9/x.csv?sig={query}");
        let state = ["--state", "state"];
        let mut commands: Vec<Vec<String>> = Vec::new();
        let mut add = |args: &[&str], more: &[&str]| {
            commands.push(args.iter().chain(more).map(|arg| (*arg).to_owned()).collect());
        };
        add(&["doctor", "fleet.toml"], &state);
        add(&["doctor", "fleet.toml", "--format", "json"], &state);
        // Nights: data are waited for, the time is up, trainings start and fail, what failed is tried again.
        let times = [
            ("2026-01-02T02:10:00Z", "plain"),
            ("2026-01-02T03:30:00Z", "text"),
            ("2026-01-03T02:10:00Z", "json"),
            ("2026-01-03T03:30:00Z", "plain"),
            ("2026-01-03T03:40:00Z", "plain"),
            ("2026-01-03T04:40:00Z", "json"),
        ];
        for (i, (time, log)) in times.iter().enumerate() {
            let format = if i % 2 == 0 { "table" } else { "json" };
            add(&["tick", "fleet.toml", "--now", time, "--log", log, "--format", format, "--threads", "1"], &state);
        }
        for format in ["table", "json"] {
            for command in [
                &["status"][..],
                &["jobs", "list", "--all"],
                &["events", "list", "--all"],
                &["outbox", "list"],
                &["budget"],
                &["economics"],
                &["audit", "show"],
                &["audit", "verify"],
                &["baseline", "list"],
                &["calibrate"],
            ] {
                let format: &[&str] = if command == ["audit", "show"] { &[] } else { &["--format", format] };
                add(&[command, &["fleet.toml"], format].concat(), &state);
            }
            for model in ["model-00000", "model-00006", "model-00007", "model-00009", "of the other side"] {
                add(&["explain", model, "fleet.toml", "--format", format], &state);
            }
        }
        for format in ["table", "json", "csv", "parquet"] {
            let file = format!("report.{format}");
            add(
                &["sweep", "fleet.toml", "--format", format, "--threads", "1"],
                &["--now", "2026-01-04T02:00:00Z", "-o", &file, "--state", "other"],
            );
        }
        add(&["sweep", "fleet.toml", "--explain"], &[]);
        add(&["sweep", "fleet.toml", "--dry-run"], &[]);
        add(&["sweep", "fleet.toml", "--threads", "1", "--now", "2026-01-04T02:00:00Z", "--history", &address], &state);
        add(&["audit", "export", "fleet.toml"], &state);
        add(&["outbox", "send", "fleet.toml"], &state);
        add(&["history", "fleet.toml", "--format", "json"], &state);
        add(&["history", "fleet.toml", "--history", &address], &[]);
        add(&["baseline", "build", &address, "-o", "x.baseline"], &[]);
        add(&["baseline", "build", "--fleet", "fleet.toml", "-o", "frozen"], &[]);
        add(&["baseline", "build", "baseline/table-00000.parquet", "-o", &address], &[]);
        add(&["baseline", "show", &address], &[]);
        add(&["baseline", "set", "model-00000", &address, "fleet.toml", "--reason", "r", "--by", "ana"], &state);
        let password = night.planted.get("store password");
        for store in ["postgres", "mysql", "POSTGRES"] {
            let store = format!("{store}://me:{password}@127.0.0.1:9/db?password={password}");
            add(&["status", "fleet.toml", "--store", &store], &state);
            add(&["tick", "fleet.toml", "--store", &store, "--log", "json"], &state);
            add(&["status", "fleet.toml", &store, "x"], &state);
        }
        for place in [&address, &other] {
            for log in ["plain", "text", "json"] {
                add(&["--log", log, "compare", "baseline/table-00000.parquet", place], &[]);
                add(&["--log", log, "compare", place, place, place], &[]);
                add(&["--log", log, "compare", "--metrics", place, place, place], &[]);
                add(&["--log", log, "status", "fleet.toml", "--now", place], &[]);
            }
            add(&["sweep", place], &[]);
            add(&["tick", "fleet.toml", "--store", place], &[]);
            add(&["init", place, place], &[]);
        }
        let mut ran: Vec<(String, String)> = Vec::new();
        for args in &commands {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = night.run(&args);
            let name = args.join(" ");
            search.look(&night.planted, &format!("standard output of '{name}'"), &output.stdout);
            search.look(&night.planted, &format!("standard error of '{name}'"), &output.stderr);
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            // Neither a defect nor a mistake in the fleet file.
            assert!(!matches!(output.status.code(), Some(1 | 4) | None), "{name}: {text}");
            ran.push((name, text));
        }
        // Each job's page, with the end of its log.
        let jobs = night.run(&["jobs", "list", "fleet.toml", "--all", "--format", "json", "--state", "state"]);
        let jobs: serde_json::Value = serde_json::from_slice(&jobs.stdout).unwrap();
        let jobs = jobs.as_array().or_else(|| jobs["jobs"].as_array()).cloned().unwrap_or_default();
        assert!(jobs.len() >= 4, "trainings were tried: {jobs:?}");
        for job in &jobs {
            let id = job["id"].as_str().or_else(|| job["job"]["id"].as_str()).unwrap();
            for format in ["table", "json"] {
                let page = night.run(&["jobs", "show", id, "fleet.toml", "--format", format, "--state", "state"]);
                assert_eq!(page.status.code(), Some(0), "{}", String::from_utf8_lossy(&page.stderr));
                search.look(&night.planted, &format!("page of job {id}"), &page.stdout);
            }
        }
        // Files, the store's own among them. The fleet file and the files of secrets hold what was put there.
        let mode = |path: PathBuf| Some((path.symlink_metadata().ok()?.permissions().mode() & 0o777, path));
        let found: Vec<_> = all_below(night.world.folder.path()).into_iter().filter_map(mode).collect();
        let given = ["fleet.toml", "mail.secret", "train.secret", "kubeconfig", "new.sh"];
        for (mode, path) in &found {
            let name = path.strip_prefix(night.world.folder.path()).unwrap();
            let in_state = name.starts_with("state") || name.starts_with("other");
            let private = match path.is_dir() {
                true => name == Path::new("state") || name == Path::new("other"),
                false => in_state && path.extension().is_some_and(|e| e == "sqlite" || e == "journal"),
            };
            if private {
                search.places += 1;
                if mode & 0o077 != 0 {
                    search.found.push(format!("{} has mode {mode:o}", name.display()));
                }
            }
            // A command's answer is the command's own file.
            let is_own = name.components().any(|part| part.as_os_str().to_string_lossy().starts_with("answer"));
            if path.is_file() && !is_own && !given.contains(&name.to_str().unwrap_or_default()) {
                search.look(&night.planted, &name.display().to_string(), &fs::read(path).unwrap());
            }
        }
        if let Some(postgres) = &postgres {
            for (table, text) in rows(postgres) {
                search.look(&night.planted, &format!("table {table}"), &text);
            }
        }
        // What others are told.
        let good = night.good.lock().unwrap().clone();
        assert!(good.len() > 5, "the good channel was told: {}", good.len());
        for request in &good {
            search.look(&night.planted, "a message to another address", format!("{request:?}").as_bytes());
        }
        let letters = night.letters.lock().unwrap().clone();
        assert!(!letters.is_empty());
        for letter in &letters {
            search.look(&night.planted, "a letter", letter.replace("=\r\n", "").as_bytes());
        }
        assert!(search.found.is_empty(), "{} findings:\n{}", search.found.len(), search.found.join("\n"));
        // The night was as bad as it was meant to be.
        let all: String = ran.iter().map(|(_, text)| text.as_str()).collect();
        let told = fs::read_to_string(night.path("told.jsonl")).unwrap();
        for word in ["code Refused", "status 500", "/x.csv", "://…@127.0.0.1", "must not keep"] {
            assert!(all.contains(word), "'{word}' was never said");
        }
        assert!(told.contains("data.unreadable") && told.contains("job.start"), "{told:.3000}");
        assert!(search.places >= LEAST_PLACES, "only {} places were searched", search.places);
        eprintln!("{} places searched for {} secrets", search.places, night.planted.0.len());
    }
}

#[test]
fn the_search_finds_what_it_searches_for() {
    let planted = Planted::new();
    for secret in planted.0.values() {
        let around = |before: &str| STANDARD.encode(format!("{before}{secret}, and more"));
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for form in [secret.clone(), around(""), around("a"), around("ab"), hex] {
            let mut search = Search::default();
            search.look(&planted, "here", format!("\0\u{1}x{form}y").as_bytes());
            assert_eq!((search.places, search.found.len()), (1, 1), "{form}");
        }
    }
}
