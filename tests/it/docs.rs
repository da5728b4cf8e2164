//! What the documents show: commands have the flags they are shown with, and manifests are what they claim to be.

use std::fs;
use std::process::Command;

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
    let root = crate::support::data::root();
    let docs = crate::support::data::all_below(&root.join("docs"));
    let documents = docs.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    for document in documents.chain(["README.md", "CONTRIBUTING.md"].map(|name| root.join(name))) {
        for block in blocks(&fs::read_to_string(document).unwrap(), "sh") {
            for line in block.lines() {
                if let Some(at) = line.find("driftsweep ") {
                    shown.push(words(&line[at + "driftsweep ".len()..]));
                }
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

#[test]
fn every_link_of_the_documents_leads_to_a_file_and_a_heading() {
    let root = crate::support::data::root();
    let mut documents = crate::support::data::all_below(&root.join("docs"));
    documents.extend(["README.md", "CONTRIBUTING.md", "deploy/README.md"].map(|name| root.join(name)));
    let anchor = |heading: &str| -> String {
        let kept = heading.trim().to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    };
    let mut links = 0;
    for document in documents.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(document).unwrap();
        let outside_code = text.split("```").step_by(2);
        for link in outside_code.flat_map(|text| text.split("](").skip(1)).map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", document.display());
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let found = text
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(found, "{}: {link}", document.display());
            }
            links += 1;
        }
    }
    assert!(links > 60, "only {links} links were found");
    // Every chapter is in the table of contents.
    let summary = fs::read_to_string(root.join("docs/SUMMARY.md")).unwrap();
    for document in documents.iter().filter(|path| path.starts_with(root.join("docs"))) {
        let name = document.file_name().unwrap().to_str().unwrap();
        assert!(!name.ends_with(".md") || name == "SUMMARY.md" || summary.contains(&format!("({name})")), "{name}");
    }
}

#[test]
fn the_readme_is_short_and_its_lines_are_too() {
    let text = fs::read_to_string(crate::support::data::root().join("README.md")).unwrap();
    assert!(text.lines().count() <= 150);
    let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(long.is_empty(), "{long:?}");
}

/// Whether a text is as it is shown: a line `...` stands for any lines, and `[..]` for any text within a line.
fn is_as_shown(shown: &[&str], found: &[&str]) -> bool {
    let line_matches = |shown: &str, found: &str| {
        let mut parts = shown.split("[..]");
        let Some(mut rest) = found.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let parts: Vec<&str> = parts.collect();
        for (at, part) in parts.iter().enumerate() {
            if at + 1 == parts.len() {
                return rest.ends_with(part);
            }
            let Some(place) = rest.find(part) else { return false };
            rest = &rest[place + part.len()..];
        }
        rest.is_empty()
    };
    match (shown.split_first(), found.split_first()) {
        (None, None) => true,
        (Some((&"...", [])), _) => true,
        (Some((&"...", later)), _) => (0..=found.len()).any(|at| is_as_shown(later, &found[at..])),
        (Some((line, shown)), Some((other, found))) => line_matches(line, other) && is_as_shown(shown, found),
        _ => false,
    }
}

/// Sessions in documents: lines that begin with `$ ` are run by a shell in the repository, the others are what they print.
#[test]
fn every_session_that_is_shown_prints_what_is_shown() {
    let root = crate::support::data::root();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_driftsweep")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut run = 0;
    let documents = crate::support::data::all_below(&root.join("docs"));
    for document in documents.iter().chain([&root.join("README.md")]) {
        if document.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        for block in blocks(&fs::read_to_string(document).unwrap(), "console") {
            let state = tempfile::tempdir().unwrap();
            for session in format!("\n{block}").split("\n$ ").skip(1) {
                let (command, shown) = session.split_once('\n').unwrap_or((session, ""));
                let mut shell = Command::new("bash");
                shell.args(["-o", "pipefail", "-c", command]).current_dir(root).env("PATH", &path);
                shell.env("DRIFTSWEEP_STATE", state.path()).env("T", state.path()).env_remove("USER");
                let output = shell.output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
                let [shown, found] = [shown, &text].map(|text| text.trim_end().lines().collect::<Vec<_>>());
                assert!(
                    is_as_shown(&shown, &found),
                    "{}: {command}\nshown:\n{}\nfound:\n{text}",
                    document.display(),
                    shown.join("\n")
                );
                run += 1;
            }
        }
    }
    assert!(run > 8, "only {run} commands were run");
}
