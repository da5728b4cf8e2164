//! `driftsweep train`, alone and as the training of a job: sets, artefact, predictions, and the gates that follow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use driftsweep_ops::retrain::JobState;
use driftsweep_training::gate::Verdict;
use serde_json::{Value, json};

use crate::support::data::{dataset, read_parquet};
use crate::support::flights;
use crate::support::jobs::{add_event, open};
use crate::support::output::{all_output, says};
use crate::support::processes::until;
use crate::support::script::Place;

const BINARY: &str = env!("CARGO_BIN_EXE_driftsweep");
const NOW: &str = "2013-05-11T00:00:00Z";

/// The example of the repository in a folder of its own, with a shorter training period and other changes.
fn fleet(folder: &Path, changes: &[(&str, &str)]) -> PathBuf {
    flights::fleet(folder, &[&[("training = \"90d\"", "training = \"30d\"")], changes].concat())
}

fn train(fleet: &Path, output: &Path, more: &[&str]) -> Output {
    train_at(NOW, fleet, output, more)
}

fn train_at(now: &str, fleet: &Path, output: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("train").arg(fleet).args(["--model", "lateness", "--now", now, "--output"]).arg(output).args(more);
    command.output().unwrap()
}

fn card(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("model.json")).unwrap()).unwrap()
}

#[test]
fn each_trainer_leaves_a_candidate_with_its_figures_and_the_same_rows_give_the_same_model() {
    for (kind, least) in [("batch", 0.69), ("online", 0.62), ("hybrid", 0.69)] {
        let folder = tempfile::tempdir().unwrap();
        let trainer = format!("feature_set = \"lateness\"\ntrainer = {{ kind = \"{kind}\" }}");
        let fleet = fleet(folder.path(), &[("feature_set = \"lateness\"\n", &format!("{trainer}\n"))]);
        let [first, again] = ["first", "again"].map(|name| folder.path().join(name));
        says(&train(&fleet, &first, &["--threads", "1"]), 0, &["Trained on", "auc"]);
        says(&train(&fleet, &again, &["--threads", "2"]), 0, &[]);
        let (card, other) = (card(&first), card(&again));
        assert_eq!(card["digest"], other["digest"], "{kind}");
        assert_eq!(card["trainer"]["kind"], kind);
        assert!(card["metrics"]["auc"].as_f64().unwrap() > least, "{kind}: {}", card["metrics"]);
        let candidate = read_parquet(&first.join("candidate.parquet"));
        assert_eq!(candidate.height() as u64, card["validation"]["labelled"].as_u64().unwrap());
        assert_eq!(candidate.get_column_names(), ["id", "prediction", "score"]);
    }
}

#[test]
fn an_online_model_goes_on_where_it_ended_and_learns_no_row_twice() {
    let folder = tempfile::tempdir().unwrap();
    let change = [("feature_set = \"lateness\"\n", "feature_set = \"lateness\"\ntrainer = { kind = \"online\" }\n")];
    let fleet = fleet(folder.path(), &change);
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    says(&train(&fleet, &first, &[]), 0, &[]);
    let resume = ["--resume", first.to_str().unwrap()];
    says(&train(&fleet, &second, &resume), 0, &[]);
    let (before, after) = (card(&first), card(&second));
    assert_eq!(after["fit"]["learned"], 0);
    assert_eq!(after["fit"]["skipped"], before["fit"]["learned"]);
    assert_eq!(before["digest"], after["digest"]);
    // A folder is used again by the same command, and not where it is one of those that are read.
    says(&train(&fleet, &second, &resume), 0, &[]);
    says(&train(&fleet, &first, &resume), 2, &["is the folder of --resume; choose another folder"]);
    let other = folder.path().join("other");
    fs::create_dir_all(other.join("model")).unwrap();
    fs::write(other.join("model/thesis.txt"), "mine").unwrap();
    says(&train(&fleet, &other, &[]), 2, &["which no command of driftsweep has written there"]);
    assert_eq!(fs::read_to_string(other.join("model/thesis.txt")).unwrap(), "mine");
    // Neither is a model judged by rows that it has learned, nor are features of another version learned on.
    let earlier = folder.path().join("earlier");
    let refused = train_at("2013-04-20T00:00:00Z", &fleet, &earlier, &resume);
    says(&refused, 2, &["it would be judged by what it has learned"]);
    let other = folder.path().join("changed.toml");
    fs::write(&other, fs::read_to_string(&fleet).unwrap().replace("within = \"3h\"", "within = \"4h\"")).unwrap();
    says(&train(&other, &earlier, &resume), 2, &["another version of the features"]);
    assert!(!earlier.join("model.json").exists());
    // A folder of a champion that is not there is no champion.
    let none = folder.path().join("none");
    says(
        &train(&fleet, &earlier, &["--champion", none.to_str().unwrap()]),
        0,
        &["there is no champion to compare with"],
    );
    assert!(earlier.join("candidate.parquet").exists() && !earlier.join("champion.parquet").exists());
    // A week later there are new rows.
    let third = folder.path().join("third");
    says(&train_at("2013-05-18T00:00:00Z", &fleet, &third, &resume), 0, &[]);
    let learned = card(&third)["fit"]["learned"].as_u64().unwrap();
    assert_eq!(learned, before["validation"]["labelled"].as_u64().unwrap());
}

/// The folders of the steps below an output, in the order of time.
fn steps(output: &Path) -> Vec<PathBuf> {
    let mut steps: Vec<PathBuf> = fs::read_dir(output).unwrap().map(|entry| entry.unwrap().path()).collect();
    steps.retain(|path| path.is_dir());
    steps.sort();
    steps
}

/// The scores of a file of predictions.
fn scores(path: &Path) -> Vec<f64> {
    read_parquet(path).column("score").unwrap().f64().unwrap().into_no_null_iter().collect()
}

/// The example with an online trainer.
fn online_fleet(folder: &Path) -> PathBuf {
    let change = [("feature_set = \"lateness\"\n", "feature_set = \"lateness\"\ntrainer = { kind = \"online\" }\n")];
    fleet(folder, &change)
}

#[test]
fn an_online_model_follows_new_labels_and_predicts_each_row_by_what_was_known_then() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = online_fleet(folder.path());
    let [nights, at_once] = ["nights", "at-once"].map(|name| folder.path().join(name));
    says(&train(&fleet, &nights, &["--online"]), 0, &["predicted before it was learned"]);
    let [first] = &steps(&nights)[..] else { panic!() };
    assert!(first.ends_with("20130509T000000Z"), "{}", first.display());
    // Again, and again after an interrupted step.
    let before = card(first);
    fs::create_dir_all(nights.join(".driftsweep-step-1/model")).unwrap();
    says(
        &train(&fleet, &nights, &["--online"]),
        0,
        &["no new label of predictions since 2013-05-09T00:00:00Z is known"],
    );
    assert_eq!(steps(&nights), std::slice::from_ref(first));
    assert_eq!(card(first), before);
    // A folder of its own that begins in the same way.
    fs::create_dir(&at_once).unwrap();
    assert!(Command::new("cp").arg("-r").arg(first).arg(&at_once).status().unwrap().success());
    for night in ["12", "13", "14", "15"] {
        let champion = ["--online", "--champion", first.to_str().unwrap()];
        says(&train_at(&format!("2013-05-{night}T00:00:00Z"), &fleet, &nights, &champion), 0, &[]);
    }
    says(&train_at("2013-05-15T00:00:00Z", &fleet, &at_once, &["--online"]), 0, &[]);
    let (nights, at_once) = (steps(&nights), steps(&at_once));
    assert_eq!((nights.len(), at_once.len()), (5, 2));
    // Night by night or at once: the same rows are learned once, and predicted by the same states.
    let (last, whole) = (card(&nights[4]), card(&at_once[1]));
    assert_eq!((&last["digest"], &last["lag"]), (&whole["digest"], &whole["lag"]));
    let to = json!("2013-05-13T00:00:00Z");
    assert_eq!((&last["training"]["from"], &last["training"]["to"]), (&before["training"]["from"], &to));
    assert_eq!(last["training"]["labelled"], whole["training"]["labelled"]);
    let learned = |step: &PathBuf| card(step)["fit"]["learned"].as_u64().unwrap();
    assert_eq!(nights[1..].iter().map(learned).sum::<u64>(), learned(&at_once[1]));
    let by_night: Vec<f64> = nights[1..].iter().flat_map(|step| scores(&step.join("candidate.parquet"))).collect();
    assert_eq!(by_night, scores(&at_once[1].join("candidate.parquet")));
    // Labels are known after two days. So the model of the first step, which has learned predictions up to the 9th, predicts those
    // of the 11th, and no others.
    for (step, same) in nights[1..].iter().zip([false, false, true, false]) {
        let [own, of_first] = ["candidate.parquet", "champion.parquet"].map(|name| scores(&step.join(name)));
        assert_eq!(own == of_first, same, "{}", step.display());
    }
}

#[test]
fn an_online_model_is_not_continued_with_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = online_fleet(folder.path());
    let steps_folder = folder.path().join("steps");
    says(&train(&fleet, &steps_folder, &["--online"]), 0, &[]);
    let first = steps(&steps_folder).remove(0);
    let text = fs::read_to_string(&fleet).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let path = folder.path().join("changed.toml");
        fs::write(&path, text.replace(from, to)).unwrap();
        path
    };
    let follow = |fleet: &Path| train_at("2013-05-12T00:00:00Z", fleet, &steps_folder, &["--online"]);
    for (from, to, words) in [
        ("within = \"3h\"", "within = \"4h\"", "another version of the features"),
        ("column = \"late\"", "column = \"1 - late\"", "another label"),
        ("kind = \"online\"", "kind = \"batch\"", "only the trainer `online` follows"),
        ("kind = \"online\"", "kind = \"online\", hash_bits = 9", "other settings"),
    ] {
        says(&follow(&changed(from, to)), 2, &[words]);
    }
    says(&train(&fleet, &first, &["--online"]), 2, &["is the folder of a model"]);
    // In the way, before anything is computed.
    fs::create_dir(steps_folder.join("20130510T000000Z")).unwrap();
    says(&follow(&fleet), 2, &["is in the way, and is no step; remove it"]);
    fs::remove_dir(steps_folder.join("20130510T000000Z")).unwrap();
    fs::write(steps_folder.join(".driftsweep-step-x"), "a file of another program").unwrap();
    for name in ["model/model.bin", "lag.bin", "model.json"] {
        let known = fs::read(first.join(name)).unwrap();
        fs::write(first.join(name), "other").unwrap();
        says(
            &follow(&fleet),
            3,
            &["the last step cannot be continued", "remove this folder, to go on from the step before"],
        );
        fs::write(first.join(name), known).unwrap();
    }
    // A card that says less than was learned.
    let known = fs::read_to_string(first.join("model.json")).unwrap();
    fs::write(first.join("model.json"), known.replace("2013-05-09T00:00:00Z", "2013-05-07T00:00:00Z")).unwrap();
    says(&follow(&fleet), 2, &["rows were learned before, which model.json does not say"]);
    fs::write(first.join("model.json"), known).unwrap();
    says(&follow(&fleet), 0, &[]);
    assert!(steps_folder.join(".driftsweep-step-x").exists());
}

/// The answer of a step is lost: the job is tried again.
#[test]
fn a_step_that_a_job_has_made_is_answered_with_again_and_not_made_twice() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = online_fleet(folder.path());
    let (output, answer) = (folder.path().join("steps"), folder.path().join("answer.json"));
    let step = |job: &str, now: &str| {
        let mut command = Command::new(BINARY);
        command
            .arg("train")
            .arg(&fleet)
            .args(["--model", "lateness", "--now", now, "--online", "--output"])
            .arg(&output);
        command.env("DRIFTSWEEP_JOB", job).env("DRIFTSWEEP_ANSWER_FILE", &answer).output().unwrap()
    };
    says(&step("one", NOW), 0, &[]);
    let first: Value = serde_json::from_slice(&fs::read(&answer).unwrap()).unwrap();
    assert_eq!(first["model"]["source"], json!(output.join("20130509T000000Z").display().to_string()));
    fs::remove_file(&answer).unwrap();
    says(&step("one", NOW), 0, &["this job has made", "20130509T000000Z before"]);
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&answer).unwrap()).unwrap(), first);
    // Another job has nothing to judge.
    says(&step("two", NOW), 3, &["nothing to learn or to judge; train later"]);
    assert_eq!(steps(&output).len(), 1);
}

#[test]
fn a_candidate_of_numbers_names_no_features_which_its_gates_would_refuse() {
    let folder = tempfile::tempdir().unwrap();
    for (label, of_numbers) in [("CAST(arr_delay > 15 AS DOUBLE)", false), ("CAST(arr_delay AS DOUBLE)", true)] {
        let fleet = fleet(folder.path(), &[("CAST(arr_delay > 15 AS DOUBLE)", label)]);
        let (output, answer) = (folder.path().join(of_numbers.to_string()), folder.path().join("answer.json"));
        let mut command = Command::new(BINARY);
        command
            .arg("train")
            .arg(&fleet)
            .args(["--model", "lateness", "--now", NOW, "--baseline", "--output"])
            .arg(&output);
        says(&command.env("DRIFTSWEEP_ANSWER_FILE", &answer).output().unwrap(), 0, &[]);
        let answer: Value = serde_json::from_slice(&fs::read(&answer).unwrap()).unwrap();
        assert_eq!(answer["validation"]["features"].is_string(), !of_numbers, "{answer}");
        assert_eq!(answer["baseline"], output.join("training.parquet").display().to_string());
    }
}

/// A champion that has learned rows of the validation set is not judged by them.
#[test]
fn rows_that_the_champion_has_learned_judge_neither_model() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = fleet(folder.path(), &[]);
    let [champion, part, all] = ["champion", "part", "all"].map(|name| folder.path().join(name));
    // It has learned predictions up to the 2nd.
    says(&train(&fleet, &champion, &[]), 0, &[]);
    let with = ["--champion", champion.to_str().unwrap()];
    says(
        &train_at("2013-05-06T00:00:00Z", &fleet, &part, &with),
        0,
        &["up to 2013-05-02T00:00:00Z", "judge neither model"],
    );
    let labels = read_parquet(&part.join("labels.parquet")).height() as u64;
    assert!(labels > 0 && labels < card(&part)["validation"]["labelled"].as_u64().unwrap() / 2, "{labels}");
    assert_eq!(labels as usize, scores(&part.join("champion.parquet")).len());
    says(
        &train_at("2013-05-03T00:00:00Z", &fleet, &all, &with),
        2,
        &["has learned all rows of the validation set", "train later"],
    );
    let text = fs::read_to_string(&fleet).unwrap();
    let other = folder.path().join("other.toml");
    fs::write(&other, text.replace("column = \"late\"", "column = \"1 - late\"")).unwrap();
    says(&train(&other, &all, &with), 2, &["the champion has learned another label"]);
}

#[test]
fn nothing_that_others_have_written_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = fleet(folder.path(), &[]);
    for name in ["labels.parquet", "training.parquet", "manifest.json", "model.json", "model/weights"] {
        let output = folder.path().join("out");
        let path = output.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{\"a\": 1}").unwrap();
        says(&train(&fleet, &output, &[]), 2, &["which no command of driftsweep has written there"]);
        let mut command = Command::new(BINARY);
        command.args(["features", "materialize"]).arg(&fleet).args(["--now", NOW, "--output"]).arg(&output);
        if ["training.parquet", "manifest.json"].contains(&name) {
            says(&command.output().unwrap(), 2, &["which no command of driftsweep has written there"]);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\": 1}");
        fs::remove_dir_all(&output).unwrap();
    }
    // A table of the feature set in a folder that was used before.
    let output = folder.path().join("out");
    fs::create_dir(&output).unwrap();
    fs::write(output.join(".driftsweep-lock"), "").unwrap();
    fs::copy(dataset("nycflights13/weather-2013-05.parquet"), output.join("labels.parquet")).unwrap();
    let text = fs::read_to_string(&fleet).unwrap();
    let weather = format!("{}/nycflights13/weather-2013-*.parquet", dataset("").display());
    let weather = weather.replace("//", "/");
    assert!(text.contains(&weather), "{weather}");
    fs::write(&fleet, text.replace(&weather, output.join("labels.parquet").to_str().unwrap())).unwrap();
    says(&train(&fleet, &output, &[]), 2, &["labels.parquet is an input; choose another folder"]);
}

#[test]
fn one_training_at_a_time_writes_into_a_folder_and_mistakes_are_found_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    fs::create_dir_all(&output).unwrap();
    let lock = fs::File::create(output.join(".driftsweep-lock")).unwrap();
    lock.lock().unwrap();
    let honest = fleet(folder.path(), &[]);
    says(&train(&honest, &output, &[]), 13, &["another command of driftsweep is writing into this folder"]);
    drop(lock);
    // A feature that is called as the label is in the fleet file would hide it from the gate of leakage.
    let text = fs::read_to_string(&honest).unwrap();
    let labels = "\n[model.labels]\npredictions = \"p\"\nfrom = \"l\"\nid = \"id\"\ntime = \"at\"\nlabel = \"temp\"\n\
                  prediction = \"said\"\nscore = \"score\"\n";
    let hidden = folder.path().join("hidden.toml");
    fs::write(&hidden, text.clone() + labels).unwrap();
    says(&train(&hidden, &output, &[]), 3, &["column 'temp'", "give the feature another name"]);
    // One class.
    let one = folder.path().join("one.toml");
    fs::write(&one, text.replace("CAST(arr_delay > 15 AS DOUBLE)", "CAST(arr_delay > 1500 AS DOUBLE)")).unwrap();
    says(&train(&one, &output, &[]), 2, &["labels of the training set are 0", "learns from both"]);
    // Settings out of their range are found without data.
    let wrong = folder.path().join("wrong.toml");
    let trainer = "feature_set = \"lateness\"\ntrainer = { kind = \"batch\", depth = 99 }\n";
    fs::write(&wrong, text.replace("feature_set = \"lateness\"\n", trainer)).unwrap();
    let validated = Command::new(BINARY).arg("validate").arg(&wrong).output().unwrap();
    says(&validated, 4, &["`depth` is 99", "from 1 to 24"]);
}

#[test]
fn programs_of_the_user_train_and_predict_by_files() {
    let folder = tempfile::tempdir().unwrap();
    let command = |predict: &str| {
        format!(
            "feature_set = \"lateness\"\ntrainer_command = {{ fit = [\"sh\", \"-c\", \"test -s $DRIFTSWEEP_TRAINING && echo model > \
             $DRIFTSWEEP_MODEL_FOLDER/weights\"], predict = [\"sh\", \"-c\", '''{predict}'''] }}\n"
        )
    };
    let output = folder.path().join("out");
    for (predict, words) in [
        ("exit 3", "trainer_command.predict: 'sh' failed"),
        ("true", "DRIFTSWEEP_SCORES names"),
        ("cp $DRIFTSWEEP_ROWS $DRIFTSWEEP_SCORES", "no column 'score'; write row_id and score"),
    ] {
        let fleet = fleet(folder.path(), &[("feature_set = \"lateness\"\n", &command(predict))]);
        let failed = train(&fleet, &output, &[]);
        assert_ne!(failed.status.code(), Some(0));
        assert!(all_output(&failed).contains(words), "{predict}: {}", all_output(&failed));
        assert!(!output.join("model.json").exists());
    }
}

const LABELS: &str = "current = \"b.parquet\"\n[model.labels]\npredictions = \"c.csv\"\nfrom = \"l.csv\"\nid = \"id\"\ntime = \
                      \"at\"\nlabel = \"label\"\nprediction = \"prediction\"\nscore = \"score\"\n";

#[test]
fn a_job_trains_by_the_built_in_trainer_and_its_candidate_meets_its_gates() {
    let features = tempfile::tempdir().unwrap();
    let honest = fleet(features.path(), &[]);
    let leaky = tempfile::tempdir().unwrap();
    // The delay of the arrival among the features.
    let leaky = fleet(leaky.path(), &[("\"sched_arr_time\"]", "\"sched_arr_time\", \"arr_delay\"]")]);
    let earlier = features.path().join("champion");
    says(&train_at("2013-04-11T00:00:00Z", &honest, &earlier, &[]), 0, &[]);
    for (fleet, gates, champion, verdict, words) in [
        (&honest, "metrics = [{ metric = \"auc\", at_least = 0.65 }]", false, Verdict::Passed, "auc"),
        (
            &honest,
            "metrics = [{ metric = \"auc\", at_least = 0.65, significance = 0.05, margin = -0.2 }]",
            true,
            Verdict::Passed,
            "auc",
        ),
        // Accuracy of at least 0.90, and better by 0.01.
        (&honest, "", true, Verdict::Failed, "accuracy"),
        (&leaky, "metrics = [{ metric = \"auc\", at_least = 0.65 }]", false, Verdict::Failed, "arr_delay"),
    ] {
        let champion = if champion { format!("--champion {}", earlier.display()) } else { String::new() };
        let script =
            format!("{BINARY} train {} --model lateness --now {NOW} --output candidate {champion}", fleet.display());
        let head = format!("[defaults.gates]\n{gates}\n");
        let place = Place::with(&head, &script).changed("current = \"b.parquet\"\n", LABELS);
        place.ends();
        let job = place.job();
        let report = job.gates.clone();
        match verdict {
            Verdict::Passed => {
                assert_eq!(job.state, JobState::Succeeded, "{job:?}");
                assert!(report.unwrap().gates.iter().any(|gate| gate.name.contains(words)));
            }
            _ => {
                let JobState::RejectedByGate { reason } = &job.state else { panic!("{job:?}") };
                assert!(reason.contains(words), "{reason}");
            }
        }
    }
}

/// From one champion to the next: nobody copies a folder.
#[test]
fn a_training_compares_its_candidate_with_the_champion_of_the_registry() {
    let features = tempfile::tempdir().unwrap();
    let honest = fleet(features.path(), &[]);
    let script = format!(
        "{BINARY} train {} --model lateness --now $(cat now) --output candidates/$DRIFTSWEEP_RUN",
        honest.display()
    );
    let gates =
        "[defaults.gates]\nmetrics = [{ metric = \"auc\", at_least = 0.65, significance = 0.05, margin = -0.02 }]\n";
    let place = Place::with(gates, &script).changed("current = \"b.parquet\"\n", LABELS);
    let models = |args: &[&str]| {
        let state = place.state.display().to_string();
        place.program(&[&["models"], args, &["--store", &place.store, "--state", &state]].concat(), &[])
    };
    let decided = ["--by", "ana", "--reason", "the first"];
    // The first one has nothing to be compared with, which is no pass: a person registers a model that was trained before.
    fs::write(place.path("now"), "2013-04-11T00:00:00Z").unwrap();
    let first = place.path("first");
    says(&train_at("2013-03-11T00:00:00Z", &honest, &first, &[]), 0, &[]);
    says(&models(&[&["register", "m", "first"], &decided[..]].concat()), 0, &["version 1 is registered"]);
    says(&models(&[&["promote", "m", "1"], &decided[..]].concat()), 0, &["version 1 is the champion"]);
    place.ends();
    assert_eq!(place.job().state, JobState::Succeeded, "{:?}", place.job());
    assert!(place.path("candidates/event-1/champion.parquet").exists());
    let gates = place.job().gates.unwrap();
    assert!(gates.gates.iter().any(|gate| gate.figures.contains_key("champion")), "{gates:?}");
    let shown =
        says(&models(&["show", "m", "latest"]), 0, &["version 2 of m", "accepted by its gates", "job        event"]);
    assert!(shown.contains("lateness, version ") && shown.contains("auc 0."), "{shown}");
    says(
        &models(&[&["promote", "m", "2"], &decided[..]].concat()),
        0,
        &["version 2 is the champion, in place of version 1"],
    );
    // The next one is compared with it. A champion whose folder was written over is found.
    fs::write(place.path("now"), "2013-05-11T00:00:00Z").unwrap();
    for (event, written_over) in [("later", false), ("last", true)] {
        if written_over {
            says(&train_at("2013-05-18T00:00:00Z", &honest, &place.path("candidates/event-1"), &[]), 0, &[]);
        }
        let now = place.now;
        add_event(&mut open(&place.store, &place.yard.fleet), event, "m", now);
        let mut job = None;
        until("it has ended", || {
            place.pass();
            job = open(&place.store, &place.yard.fleet).jobs(event).unwrap().pop().map(|versioned| versioned.job);
            job.as_ref().is_some_and(|job| job.state.is_final())
        });
        let job = job.unwrap();
        let run = place.path(&format!("candidates/{event}-1"));
        match written_over {
            false => assert!(job.gates.is_some() && run.join("champion.parquet").exists(), "{job:?}"),
            true => {
                assert!(matches!(job.state, JobState::Failed { .. }), "{job:?}");
                let log = fs::read_to_string(place.state.join("jobs/last/1/output.log")).unwrap();
                assert!(log.contains("another training has overwritten it"), "{log}");
            }
        }
    }
}

/// Runs on request: DRIFTSWEEP_TEST_PYTHON is a Python with scikit-learn, lightgbm, pandas and pyarrow.
#[test]
#[ignore = "needs DRIFTSWEEP_TEST_PYTHON, a Python with scikit-learn, lightgbm, pandas and pyarrow"]
fn the_examples_of_trainers_train_and_predict() {
    let python = std::env::var("DRIFTSWEEP_TEST_PYTHON").unwrap();
    for name in ["sklearn_trainer.py", "lightgbm_trainer.py"] {
        let folder = tempfile::tempdir().unwrap();
        let program = crate::support::data::root().join("deploy/trainers").join(name);
        let command = |what: &str| format!("[\"{python}\", \"{}\", \"{what}\"]", program.display());
        let change = format!(
            "feature_set = \"lateness\"\ntrainer_command = {{ fit = {}, predict = {} }}\n",
            command("fit"),
            command("predict")
        );
        let fleet = fleet(folder.path(), &[("feature_set = \"lateness\"\n", &change)]);
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        says(&train(&fleet, &first, &[]), 0, &["auc"]);
        says(&train(&fleet, &second, &["--champion", first.to_str().unwrap()]), 0, &[]);
        let card = card(&first);
        assert!(card["metrics"]["auc"].as_f64().unwrap() > 0.69, "{name}: {}", card["metrics"]);
        // The same program on the same rows: equal to itself as champion.
        let [candidate, champion] =
            ["candidate", "champion"].map(|name| read_parquet(&second.join(format!("{name}.parquet"))));
        assert!(candidate.equals(&champion), "{name}");
    }
}
