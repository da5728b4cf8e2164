//! What a command has printed, and what its messages say.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

/// Both streams of a command.
pub fn all_output(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), error_output(output))
}

/// The standard error of a command.
pub fn error_output(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", error_output(output)))
}

/// Lines of the channel that a world's fleet file names `told.jsonl`.
pub fn told(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("told.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn kinds(told: &[Value]) -> Vec<&str> {
    told.iter().map(|event| event["data"]["kind"].as_str().unwrap()).collect()
}

pub const CHANNEL: &str = "[[notify]]\nname = \"lines\"\nfile = \"told.jsonl\"\n";

/// Checks the exit code of a command, and that words are in what it says, which is returned.
pub fn says(output: &Output, code: i32, words: &[&str]) -> String {
    let text = all_output(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    words.iter().for_each(|words| assert!(text.contains(words), "'{words}' is not in {text}"));
    text
}
