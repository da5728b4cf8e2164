//! Which variables a training command is given: those of a list, those that the fleet file names, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use driftsweep::model::Options;
use driftsweep_extensions::executor::command::environment::INHERITED_VARIABLES;
use driftsweep_fleet::{ExecutorConfig, Fleet};
use driftsweep_ops::retrain::JobState;

use crate::support::output::all_output;
use crate::support::script::Place;

/// The variables in a file as `/proc` shows them.
fn variables(file: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(file).unwrap();
    let pairs = bytes.split(|&byte| byte == 0).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let at = pair.iter().position(|&byte| byte == b'=').unwrap();
            (String::from_utf8(pair[..at].to_vec()).unwrap(), pair[at + 1..].to_vec())
        })
        .collect()
}

#[test]
fn a_command_and_its_supervisor_get_the_listed_variables_those_that_are_named_and_no_others() {
    // What nobody but root can read is not there to be looked at.
    let script = "cat /proc/self/environ > own; cat /proc/$PPID/environ > above || : > above; env";
    let place = Place::with("env = [\"NAMED_TOKEN\", \"NAMED_BYTES\", \"NAMED_UNSET\"]", script);
    let secrets = [
        "PGPASSWORD",
        "PGUSER",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "KUBECONFIG",
        "SLACK_URL",
        "HTTPS_PROXY",
        "LD_PRELOADED",
        "NAMED_TOKEN_2",
        "named_token",
        "LC_SECRET",
    ];
    // Those that decide whether programs start at all keep the values that they have.
    let own: BTreeSet<&str> = ["PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ"].into();
    let listed: Vec<&str> = INHERITED_VARIABLES.iter().copied().filter(|name| !own.contains(name)).collect();
    let folder = place.path("").into_os_string();
    let odd = OsStr::from_bytes(b"\xff=\n ");
    let mut set: Vec<(&str, &OsStr)> = secrets.iter().map(|name| (*name, OsStr::new("hush"))).collect();
    set.extend(listed.iter().map(|name| (*name, folder.as_os_str())));
    set.extend([("NAMED_TOKEN", OsStr::new("a token")), ("NAMED_BYTES", odd)]);
    set.push(("DRIFTSWEEP_STORE", OsStr::new(&place.store)));
    let output = place.program(&["tick", "--threads", "1", "--wait", "1m", "--state", "state"], &set);
    assert_eq!(place.job().state, JobState::Succeeded, "{}", all_output(&output));

    let (own, above) = (variables(&place.path("own")), variables(&place.path("above")));
    for (name, seen) in [("the command", &own), ("its supervisor", &above)] {
        if name == "its supervisor" && seen.is_empty() {
            continue;
        }
        for given in &listed {
            assert_eq!(seen.get(*given).map(Vec::as_slice), Some(folder.as_bytes()), "{name} {given}");
        }
        assert_eq!((&*seen["NAMED_TOKEN"], &*seen["NAMED_BYTES"]), (&b"a token"[..], odd.as_bytes()), "{name}");
        let known = |found: &str| {
            INHERITED_VARIABLES.contains(&found)
                || ["NAMED_TOKEN", "NAMED_BYTES", "PWD", "OLDPWD", "SHLVL", "_"].contains(&found)
                || (found.starts_with("DRIFTSWEEP_") && found != "DRIFTSWEEP_STORE" && name == "the command")
        };
        let unknown: Vec<&String> = seen.keys().filter(|found| !known(found)).collect();
        assert!(unknown.is_empty(), "{name} is given {unknown:?}");
    }
    let of_the_run: Vec<&str> = own.keys().map(String::as_str).filter(|name| name.starts_with("DRIFTSWEEP_")).collect();
    let wanted =
        ["ANSWER_FILE", "ATTEMPT", "EVENT_FILE", "FLEET", "JOB", "MODEL", "RUN", "STARTED_AT", "STOP_AT", "TRIGGER"];
    assert_eq!(of_the_run, wanted.map(|name| format!("DRIFTSWEEP_{name}")));
    // Nor are they in a file of the run: what is named is in the environment alone.
    for entry in fs::read_dir(place.run()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap_or_default();
        let holds = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        assert!(!holds(b"hush"), "{}", path.display());
        let is_log = path.file_name().unwrap() == "output.log";
        assert_eq!(holds(b"a token"), is_log, "{}: the command itself has printed it", path.display());
    }
}

#[test]
fn variables_are_named_one_by_one_and_the_nearest_table_counts() {
    let model = "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n";
    let parse = |text: &str| Fleet::parse(text, Path::new("fleet.toml"), &Options::new());
    for (name, wanted) in [
        ("*", "contains a pattern"),
        ("AWS_*", "contains a pattern"),
        ("AWS_?", "contains a pattern"),
        ("[A-Z]", "contains a pattern"),
        ("", "an empty name"),
        ("TOKEN=hush", "gives a value"),
        ("1A", "an invalid name of a variable"),
        ("A B", "an invalid name of a variable"),
        ("A-B", "an invalid name of a variable"),
        ("Ä", "an invalid name of a variable"),
        ("A\u{0}B", "an invalid name of a variable"),
    ] {
        let name = toml::Value::from(name);
        let text = format!("{model}[model.retrain]\ncommand = [\"true\"]\nenv = [\"GOOD\", {name}]\n");
        let told = parse(&text).unwrap_err().to_string();
        assert!(told.contains(wanted) && told.contains("fleet.toml:"), "{name}: {told}");
        assert!(!told.contains("hush"), "{told}");
    }
    let webhook = format!("{model}[model.retrain]\nwebhook = {{ url = \"http://x\" }}\nenv = [\"A\"]\n");
    assert!(parse(&webhook).unwrap_err().to_string().contains("not trained by a command"));
    let text = format!(
        "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\ncommand = [\"true\"]\nenv = [\"SHARED\"]\n{model}\
         [[model]]\nname = \"own\"\nbaseline = \"a\"\ncurrent = \"b\"\n[model.retrain]\nenv = [\"OWN\"]\n\
         [[model]]\nname = \"none\"\nbaseline = \"a\"\ncurrent = \"b\"\n[model.retrain]\nenv = []\n\
         [[model]]\nname = \"command\"\nbaseline = \"a\"\ncurrent = \"b\"\n[model.retrain]\ncommand = [\"false\"]\n"
    );
    let named = |model: &driftsweep_fleet::Model| match &model.retrain.as_ref().unwrap().executor {
        ExecutorConfig::Command(command) => (command.arguments[0].clone(), command.env.clone()),
        other => panic!("{other:?}"),
    };
    let found: Vec<_> = parse(&text).unwrap().models.iter().map(named).collect();
    let wanted = [("true", vec!["SHARED"]), ("true", vec!["OWN"]), ("true", vec![]), ("false", vec!["SHARED"])];
    let wanted = wanted.map(|(program, env)| (program.to_owned(), env.into_iter().map(str::to_owned).collect()));
    assert_eq!(found, wanted);
}

#[test]
fn a_variable_that_is_named_and_not_set_is_found_before_the_night() {
    let place = Place::with("env = [\"TRAIN_TOKEN\"]", "true");
    let words = "the variable TRAIN_TOKEN is not set here";
    let without = all_output(&place.program(&["doctor", "fleet.toml"], &[]));
    assert!(without.contains("WARNING") && without.contains(words), "{without}");
    let with = all_output(&place.program(&["doctor", "fleet.toml"], &[("TRAIN_TOKEN", OsStr::new("x"))]));
    assert!(!with.contains(words), "{with}");
}
