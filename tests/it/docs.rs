//! What the documents show: commands have the flags they are shown with, and manifests are what they claim to be.

use std::fs;
use std::process::Command;

fn read(name: &str) -> String {
    fs::read_to_string(crate::support::data::root().join(name)).unwrap()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The words of a command line, quotes read as a shell does.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (None, '"' | '\'') => (quote, begun) = (Some(c), true),
            (Some(q), c) if c == q => quote = None,
            (None, c) if c.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (None, '#') if !begun => break,
            (_, c) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[test]
fn every_command_that_is_shown_has_the_flags_it_is_shown_with() {
    let mut shown = Vec::new();
    for name in ["README.md", "docs/schedulers.md", "docs/security.md"] {
        for block in blocks(&read(name), "sh") {
            for line in block.lines() {
                if let Some(at) = line.find("driftsweep ") {
                    shown.push(words(&line[at + "driftsweep ".len()..]));
                }
            }
        }
        for line in read(name).lines() {
            let line = line.trim();
            if let Some(args) = line.strip_prefix("args: [").and_then(|rest| rest.strip_suffix(']')) {
                shown.push(words(&args.replace(',', " ")));
            } else if let Some(rest) = line.strip_prefix("bash_command=\"driftsweep ") {
                shown.push(words(rest.trim_end_matches(['"', ','])));
            } else if let Some(rest) = line.strip_prefix("ExecStart=/usr/local/bin/driftsweep ") {
                shown.push(words(rest));
            }
        }
    }
    assert!(shown.len() > 30, "only {} commands were found", shown.len());
    for args in shown {
        // Help is shown only if all before it is understood.
        let output = Command::new(env!("CARGO_BIN_EXE_driftsweep")).args(&args).arg("--help").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_promise_of_the_documents_names_a_test_that_there_is() {
    let root = crate::support::data::root();
    let all = ["src", "crates", "tests"].into_iter().flat_map(crate::support::data::sources);
    let code: String = all.map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut named = 0;
    for entry in fs::read_dir(root.join("docs")).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let text = fs::read_to_string(entry.path()).unwrap();
        for comment in text.split("<!-- test: ").skip(1) {
            for test in comment.split(" -->").next().unwrap().split(", ") {
                assert!(code.contains(&format!("fn {test}() {{")), "{test}");
                named += 1;
            }
        }
    }
    assert!(named > 80, "only {named} promises were found");
}

#[cfg(feature = "kubernetes")]
#[test]
fn the_cron_job_that_is_shown_is_one() {
    use k8s_openapi::api::batch::v1::CronJob;
    let shown = blocks(&read("docs/schedulers.md"), "yaml");
    let jobs: Vec<&String> = shown.iter().filter(|block| block.contains("kind: CronJob")).collect();
    assert_eq!(jobs.len(), 1);
    let job: CronJob = serde_saphyr::from_str(jobs[0]).unwrap();
    let spec = job.spec.unwrap();
    let job = spec.job_template.spec.unwrap();
    let rules = job.pod_failure_policy.unwrap().rules;
    let codes: Vec<i32> = rules.iter().flat_map(|rule| rule.on_exit_codes.as_ref().unwrap().values.clone()).collect();
    // A retry neither hides what was found nor fails over another tick.
    assert!([10, 11, 13].iter().all(|code| codes.contains(code)), "{codes:?}");
    assert_eq!(job.template.spec.unwrap().restart_policy.as_deref(), Some("Never"));
}
