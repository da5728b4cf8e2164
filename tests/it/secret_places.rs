//! A secret in every place of the fleet file and of the command line, in every form, where it goes wrong in every way: it is
//! found in nothing that is said or kept.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use driftsweep::model::Options;
use driftsweep_fleet::Fleet;
use tempfile::TempDir;

use crate::support::data::all_below;

/// The secret.
const SECRET: &str = "HiddenZq7x41w";

/// Addresses with the secret in them.
fn addresses() -> Vec<String> {
    [
        "https://ana:SECRET@127.0.0.1:9/x.csv",
        "HTTPS://ana:SECRET@127.0.0.1:9/x.csv",
        "https:/ana:SECRET@127.0.0.1:9/x.csv",
        "https:ana:SECRET@127.0.0.1:9/x.csv",
        "//ana:SECRET@127.0.0.1:9/x.csv",
        "ana:SECRET@127.0.0.1/x.csv",
        "https://SECRET@127.0.0.1:9/x.csv",
        "https://ana:SECRET/x.csv",
        "https://ana:a\"b/c?d{SECRET@127.0.0.1:9/x.csv",
        "https://127.0.0.1:9/x.csv?sig=a{day}SECRET",
        "https://127.0.0.1:9/x.csv?sig=a\u{1}\t SECRET&x=1",
        "https://127.0.0.1:9/{day}/x.csv?a=1&sig=SECRET#rows=1..2",
        "https://127.0.0.1:9/x.csv#access_token=SECRET",
        "https://ana%3ASECRET%40127.0.0.1/x.csv",
        "https%3A%2F%2Fana%3ASECRET%40127.0.0.1%2Fx.csv",
        "https://ana:SECRET@[::1]:9/x.csv",
        "https://bücher:SECRET@127.0.0.1:9/ü.csv",
        "s3://key:SECRET@bucket/x.parquet",
        "s3://bucket/x.parquet?X-Amz-Security-Token=SECRET",
        "abfss://container@account:SECRET/x.csv",
        "jdbc:postgresql://127.0.0.1:9/db?user=a&password=SECRET",
        "jdbc:sqlserver://127.0.0.1:9;user=a;password=SECRET",
        "postgres://ana:SECRET@127.0.0.1:9/db",
        "smtp://ana:SECRET@127.0.0.1:9",
        "data/https:/ana:SECRET@127.0.0.1/x.csv",
    ]
    .map(|address| address.replace("SECRET", SECRET))
    .into()
}

/// What may stand in a place where another kind of value is wanted.
fn values() -> Vec<String> {
    let more = [
        "SECRET",
        "x --password SECRET",
        "https://hooks.example.org/services/SECRET",
        "SECRET`, expected `x",
        "TOKEN=SECRET",
    ];
    addresses().into_iter().chain(more.map(|text| text.replace("SECRET", SECRET))).collect()
}

const HEAD: &str = "name = \"f\"\n[approval]\napprovers = [[\"ana\"]]\n";
const MODEL: &str = "[[model]]\nname = \"m\"\nbaseline = \"a.csv\"\ncurrent = \"b.csv\"\n";

/// Fleet files with `VALUE` where a text is wanted.
fn texts() -> Vec<String> {
    let model = |more: &str| format!("{HEAD}{MODEL}{more}\n");
    let labels = |more: &str| {
        model(&format!("[model.labels]\nid = \"id\"\ntime = \"t\"\nlabel = \"y\"\nprediction = \"p\"\n{more}"))
    };
    let retrain = |more: &str| model(&format!("[model.retrain]\n{more}"));
    let notify = |more: &str| format!("{HEAD}[[notify]]\nname = \"n\"\n{more}\n{MODEL}");
    let mut all = vec![
        format!("sweep = VALUE\n{HEAD}{MODEL}"),
        format!("time_zone = VALUE\n{HEAD}{MODEL}"),
        format!("wait_for_data = VALUE\n{HEAD}{MODEL}"),
        format!("{HEAD}[budget]\ncurrency = VALUE\n{MODEL}"),
        format!("{HEAD}answer_within = VALUE\n{MODEL}"),
        format!("{HEAD}[approval.keys]\nana = VALUE\n{MODEL}"),
        format!("{HEAD}[[model]]\nname = \"m\"\nbaseline = VALUE\ncurrent = \"b.csv\"\n"),
        format!("{HEAD}[[model]]\nname = \"m\"\nbaseline = \"a.csv\"\ncurrent = VALUE\n"),
        format!("{HEAD}[[model]]\nname = \"m\"\nbaseline = \"a.csv\"\ncurrent = {{ one = VALUE, two = \"b.csv\" }}\n"),
        model("time = VALUE\nwindows = [\"day\"]"),
        model("time = \"t\"\nwindows = [VALUE]"),
        model("time_zone = VALUE"),
        model("slice_by = [VALUE]"),
        model("features = [VALUE]"),
        model("exclude = [VALUE]"),
        model("metrics = [VALUE]"),
        model("convention = VALUE"),
        model("[model.trigger]\nschedule = VALUE"),
        model("[model.trigger.drift]\npersistence = VALUE"),
        model("[model.segment.s]\nx = VALUE"),
        labels("predictions = VALUE"),
        labels("from = VALUE"),
        labels("reference = VALUE"),
        labels("delay = VALUE"),
        retrain("command = [VALUE]"),
        retrain("command = [\"true\"]\nfolder = VALUE"),
        retrain("command = [\"true\"]\nenv = [VALUE]"),
        retrain("command = [\"true\"]\nteam = VALUE"),
        retrain("command = [\"true\"]\ntimeout = VALUE"),
        retrain("kubernetes = { manifest = VALUE }"),
        notify("file = VALUE"),
        notify("file = \"told.jsonl\"\ntemplate = VALUE"),
        notify("email = { host = VALUE, from = \"a@b.c\", to = [\"a@b.c\"] }"),
        notify("email = { host = \"127.0.0.1\", port = 9, security = \"none\", from = VALUE, to = [\"a@b.c\"] }"),
        notify("email = { host = \"127.0.0.1\", port = 9, security = \"none\", from = \"a@b.c\", to = [VALUE] }"),
        notify("kafka = { brokers = VALUE, topic = \"t\" }"),
    ];
    for (key, rest) in [
        ("url", ""),
        ("url_env", ""),
        ("url_file", ""),
        ("secret_env", "url = \"http://127.0.0.1:9\", "),
        ("secret_file", "url = \"http://127.0.0.1:9\", "),
    ] {
        all.push(retrain(&format!("webhook = {{ {rest}{key} = VALUE }}")));
        all.push(notify(&format!("webhook = {{ {rest}{key} = VALUE }}")));
    }
    all.push(retrain("webhook = { url = \"http://127.0.0.1:9\", results = VALUE }"));
    for key in ["url", "url_env", "token_env", "token_file"] {
        let url = if key.starts_with("url") { "" } else { "url = \"http://127.0.0.1:9\", " };
        all.push(retrain(&format!("airflow = {{ {url}dag = \"d\", {key} = VALUE }}")));
    }
    for key in ["password_env", "password_file"] {
        all.push(retrain(&format!(
            "airflow = {{ url = \"http://127.0.0.1:9\", dag = \"d\", user = \"u\", {key} = VALUE }}"
        )));
        all.push(notify(&format!(
            "email = {{ host = \"127.0.0.1\", port = 9, from = \"a@b.c\", to = [\"a@b.c\"], user = \"u\", {key} = VALUE }}"
        )));
    }
    all
}

/// Fleet files with `VALUE` where another kind of value is wanted, or none.
fn misplaced() -> Vec<String> {
    let model = |more: &str| format!("{HEAD}{MODEL}{more}\n");
    let mut all = Vec::new();
    for key in ["budget", "queue", "approval", "defaults", "model", "notify", "nonsense"] {
        all.push(format!("{key} = VALUE\n{MODEL}"));
    }
    for setting in [
        "windows",
        "slice_by",
        "segment",
        "features",
        "exclude",
        "metrics",
        "bins",
        "category_limit",
        "importance",
        "thresholds",
        "trigger",
        "labels",
        "retrain",
        "feature",
        "nonsense",
        "password",
    ] {
        all.push(model(&format!("{setting} = VALUE")));
    }
    for setting in ["psi", "min_rows", "above_noise"] {
        all.push(model(&format!("[model.thresholds]\n{setting} = VALUE")));
    }
    for setting in [
        "command",
        "env",
        "webhook",
        "kubernetes",
        "airflow",
        "stakes",
        "retries",
        "log_bytes",
        "gpu_hours",
        "budget",
        "password",
        "webhook.format",
        "webhook.url_env.x",
        "airflow.api",
    ] {
        all.push(model(&format!("[model.retrain]\n{setting} = VALUE")));
    }
    for setting in [
        "about",
        "webhook",
        "email",
        "kafka",
        "webhook.format",
        "email.security",
        "email.port",
        "email.to",
        "kafka.settings",
        "kafka.secrets_env",
    ] {
        all.push(format!("{HEAD}[[notify]]\nname = \"n\"\n{setting} = VALUE\n{MODEL}"));
    }
    all.push(format!("{HEAD}[[notify]]\nname = \"n\"\nabout = [VALUE]\n{MODEL}"));
    for setting in ["off", "drift", "performance", "volume", "drift.share", "off.x"] {
        all.push(model(&format!("[model.trigger]\n{setting} = VALUE")));
    }
    all.push(model("[model.trigger]\noff = [VALUE]"));
    all.push(model("[model.feature.x]\nkind = VALUE"));
    all.push(model("[model.labels]\nlabel = \"y\"\nclasses = VALUE"));
    for setting in ["keys", "signatures", "on_expiry", "automatic", "above"] {
        all.push(format!("{HEAD}{setting} = VALUE\n{MODEL}"));
    }
    // Where another kind of value stands, and the secret beside it on the line.
    all.push(format!("{HEAD}[[notify]]\nname = \"n\"\nwebhook = {{ url = 3, secret_env = VALUE }}\n{MODEL}"));
    all.push(format!("{HEAD}[[notify]]\nname = \"n\"\nwebhook = {{ url_env = VALUE, nonsense = 3 }}\n{MODEL}"));
    all
}

/// Fleet files that are not TOML, with the secret in them.
fn broken() -> Vec<String> {
    let mut all = Vec::new();
    for address in values().iter().filter(|value| !value.contains('\u{1}')) {
        for line in [
            "url = ADDRESS",
            "url = \"ADDRESS",
            "url = ['ADDRESS'",
            "ADDRESS",
            "ADDRESS = 3",
            "url = 'ADDRESS' x",
            "[ADDRESS",
            "url = \"ADDRESS\\q\"",
        ] {
            // A word is taken for a misspelt key, and repeated.
            if line != "ADDRESS = 3" || address != SECRET {
                all.push(format!("{HEAD}{MODEL}{}\n", line.replace("ADDRESS", address)));
            }
        }
    }
    all
}

fn quoted(value: &str) -> String {
    toml::Value::from(value).to_string()
}

#[test]
fn no_message_about_a_fleet_file_holds_a_secret_of_it() {
    let mut refused = 0;
    let mut look = |text: &str| {
        let Err(error) = Fleet::parse(text, Path::new("f.toml"), &Options::new()) else { return };
        let said = format!("{error} {error:?}");
        assert!(!said.contains(SECRET) && said.starts_with("f.toml:"), "{text}\n{said}");
        refused += 1;
    };
    let all = texts().into_iter().map(|template| (template, addresses()));
    for (template, values) in all.chain(misplaced().into_iter().map(|template| (template, values()))) {
        values.iter().for_each(|value| look(&template.replace("VALUE", &quoted(value))));
    }
    broken().iter().for_each(|text| look(text));
    assert!(refused > 2000, "{refused}");
}

#[test]
fn a_mistake_names_key_and_line_and_what_is_wanted() {
    for (text, wanted) in [
        (
            "[[notify]]\nname = \"n\"\nwebhook = \"https://hooks/TOKEN\"\n",
            "f.toml:3: notify.webhook must be a table, not a string",
        ),
        (
            "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n[model.retrain]\ncommand = \"x --pw S\"\n",
            "f.toml:6: model.retrain.command must be a list, not a string",
        ),
        (
            "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n[model.retrain]\nenv = \"S\"\n",
            "f.toml:6: model.retrain.env must be a list, not a string",
        ),
        (
            "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n[model.retrain]\nretries = -3\n",
            "f.toml:6: model.retrain.retries must be a whole number of 0 or more",
        ),
        (
            "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n[model.retrain]\nstakes = \"S\"\n",
            "f.toml:6: model.retrain.stakes: unknown name; known: low, normal, high",
        ),
        (
            "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = [\"S\"]\n",
            "f.toml:4: model.current: give a path, or a table of windows",
        ),
        (
            "[approval]\nautomatic = [\n  { up_to = 3 },\n  { up_to = \"S\" },\n]\n",
            "f.toml:4: approval.automatic.up_to must be a number, not a string",
        ),
    ] {
        let said = Fleet::parse(text, Path::new("f.toml"), &Options::new()).unwrap_err().to_string();
        assert!(said.starts_with(wanted), "{said}");
    }
}

/// A folder in which the program is run, and in which nothing of a secret may be left.
struct Place {
    folder: TempDir,
    found: Vec<String>,
    looked: usize,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: TempDir::new().unwrap(), found: Vec::new(), looked: 0 };
        let rows: String = (0..1200).map(|i| format!("{i},{},2026-01-01T00:00:00Z,1,1\n", i % 17)).collect();
        for name in ["a.csv", "b.csv"] {
            fs::write(place.folder.path().join(name), format!("id,x,t,y,p\n{rows}")).unwrap();
        }
        place
    }

    fn run(&mut self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).current_dir(self.folder.path()).env("USER", "ana").env("DRIFTSWEEP_IO_TIMEOUT", "300ms");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        for (what, bytes) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
            self.look(&format!("{what} of {args:?} {variables:?}"), bytes);
        }
        assert!(!matches!(output.status.code(), None | Some(1 | 101)), "{args:?}: {output:?}");
        output
    }

    fn look(&mut self, what: &str, bytes: &[u8]) {
        self.looked += 1;
        if bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
            self.found.push(format!("{what}: {:.600}", String::from_utf8_lossy(bytes)));
        }
    }

    /// Looks at the names and the content of all files.
    fn look_around(&mut self, folder: &Path) {
        for path in all_below(folder) {
            let name = path.file_name().unwrap();
            self.look(&format!("the name of {}", path.display()), name.as_encoded_bytes());
            if path.is_file() && name != "fleet.toml" {
                let bytes = fs::read(&path).unwrap();
                self.look(&path.display().to_string(), &bytes);
            }
        }
    }

    fn finish(mut self, least: usize) {
        let folder = self.folder.path().to_owned();
        self.look_around(&folder);
        assert!(self.found.is_empty(), "{} findings:\n{}", self.found.len(), self.found.join("\n"));
        assert!(self.looked >= least, "{}", self.looked);
    }
}

#[test]
fn no_secret_of_a_fleet_file_is_said_or_kept_by_the_program() {
    let mut place = Place::new();
    let here = texts().len();
    let templates: Vec<String> = texts().into_iter().chain(misplaced()).collect();
    let (addresses, values) = (addresses(), values());
    for (i, template) in templates.iter().enumerate() {
        // Arguments of commands and names of columns are kept as they are, as documented.
        let kept =
            ["command = [VALUE]", "\ntime = VALUE", "slice_by = [VALUE]", "features = [VALUE]", "exclude = [VALUE]"];
        if kept.iter().any(|kept| template.contains(kept)) {
            continue;
        }
        // Each place with another form; the places of data with all.
        let is_data =
            ["baseline = VALUE", "current = VALUE", "predictions = VALUE"].iter().any(|key| template.contains(key));
        let forms: Vec<&String> = match is_data {
            true => addresses.iter().collect(),
            false if i < here => vec![&addresses[i % addresses.len()]],
            false => vec![&values[i % values.len()]],
        };
        for (n, form) in forms.into_iter().enumerate() {
            fs::write(place.folder.path().join("fleet.toml"), template.replace("VALUE", &quoted(form))).unwrap();
            let log = ["plain", "text", "json"][(i + n) % 3];
            if place.run(&["doctor", "fleet.toml", "--log", log], &[]).status.code() == Some(4) {
                continue;
            }
            place.run(
                &["sweep", "fleet.toml", "--threads", "1", "--format", "json", "-o", "report.json", "--log", log],
                &[],
            );
            let _ = fs::remove_dir_all(place.folder.path().join(".driftsweep"));
            let night = ["--now", "2026-01-02T02:10:00Z"];
            place.run(&[&["tick", "fleet.toml", "--threads", "1", "--log", log][..], &night].concat(), &[]);
            let later = ["--now", "2026-01-02T23:10:00Z"];
            place.run(&[&["tick", "fleet.toml", "--threads", "1", "--log", log][..], &later].concat(), &[]);
            if n == 0 {
                place.run(&["status", "fleet.toml"], &[]);
                place.run(&["audit", "show", "fleet.toml"], &[]);
            }
            let folder = place.folder.path().join(".driftsweep");
            if folder.exists() {
                let before = place.found.len();
                place.look_around(&folder);
                // Which setting it was.
                place.found[before..].iter_mut().for_each(|found| found.insert_str(0, &format!("{template}\n")));
            }
        }
    }
    place.finish(500);
}

#[test]
fn no_secret_of_the_command_line_is_said_or_kept() {
    let mut place = Place::new();
    fs::write(place.folder.path().join("fleet.toml"), format!("{HEAD}{MODEL}")).unwrap();
    place.run(&["tick", "fleet.toml", "--now", "2026-01-02T02:10:00Z"], &[]);
    let mut forms = addresses();
    // Longer than what a message repeats of an argument.
    let long = "x".repeat(150);
    forms.push(format!("https://127.0.0.1:9/{long}?a={long}&sig={SECRET}{long}&b={SECRET}"));
    forms.push(format!("https://{long}:{long}{SECRET}@127.0.0.1:9/{long}{long}"));
    forms.push(format!("host=127.0.0.1 user=ana password={SECRET}"));
    for (i, form) in forms.iter().enumerate() {
        let log = ["plain", "text", "json"][i % 3];
        let words = form.contains("password=HiddenZq7x41w") && form.starts_with("host=");
        let mut commands: Vec<Vec<&str>> =
            vec![vec!["status", "fleet.toml", "--store", form], vec!["tick", "fleet.toml", "--store", form]];
        // The words of a connection are a place for a store only.
        if !words {
            commands.extend([
                vec!["status", form],
                vec!["doctor", form],
                vec!["sweep", form],
                vec!["history", form],
                vec!["status", "fleet.toml", form],
                vec!["nonsense", form],
                vec!["compare", form, "b.csv"],
                vec!["compare", "a.csv", form],
                vec!["compare", "a.csv", "b.csv", "--metrics", form],
                vec!["compare", "a.csv", "b.csv", "--format", form],
                vec!["compare", "a.csv", "b.csv", "--top", form],
                vec!["compare", "a.csv", "b.csv", "--format", "json", "--output", form],
                vec!["init", form, "b.csv"],
                vec!["init", "a.csv", form],
                vec!["init", "a.csv", "b.csv", "--output", form],
                vec!["init", "a.csv", "b.csv", "--append", form],
                vec!["baseline", "build", form, "-o", "x.baseline"],
                vec!["baseline", "build", "a.csv", "-o", form],
                vec!["baseline", "build", "--fleet", "fleet.toml", "-o", form],
                vec!["baseline", "show", form],
                vec!["baseline", "set", "m", form, "fleet.toml", "--reason", "r"],
                vec!["baseline", "list", "fleet.toml", "--model", form],
                vec!["explain", form, "fleet.toml"],
                vec!["tick", "fleet.toml", "--state", form],
                vec!["sweep", "fleet.toml", "--state", form],
                vec!["sweep", "fleet.toml", "--no-state", "--history", form],
                vec!["history", "fleet.toml", "--history", form],
                vec!["history", "fleet.toml", "--since", form],
                vec!["status", "fleet.toml", "--now", form],
                vec!["tick", "fleet.toml", "--checkpoint", form],
                vec!["audit", "verify", "fleet.toml", "--expect", form],
                vec!["approve", form, "fleet.toml", "--reason", "r"],
                vec!["approve", "j", "fleet.toml", "--reason", "r", "--sign", form],
                vec!["jobs", "show", form, "fleet.toml"],
            ]);
        }
        for args in commands {
            place.run(&[&["--log", log], &args[..]].concat(), &[]);
        }
        // A variable cannot hold every text.
        for name in
            ["DRIFTSWEEP_STORE", "DRIFTSWEEP_STATE", "DRIFTSWEEP_CHECKPOINT", "DRIFTSWEEP_LOG", "DRIFTSWEEP_BACKEND"]
        {
            if words && name != "DRIFTSWEEP_STORE" {
                continue;
            }
            place.run(&["tick", "fleet.toml"], &[(name, form)]);
        }
    }
    place.finish(1000);
}
