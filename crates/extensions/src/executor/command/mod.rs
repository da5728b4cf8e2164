//! Training by a command on this machine: `command` in the fleet file, with `folder`, `log_bytes` and `env` beside it.

pub mod check;
pub mod environment;
mod processes;
mod run;
mod supervise;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use run::read_key;
pub use supervise::supervise;

use super::{Executor, ExecutorSettings, ExecutorTable, ExecutorTools, TableContext};
use crate::check::{Findings, Severity};
use crate::value::{Validated, local};

/// A command and its arguments; no shell reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandConfig {
    /// The program, and its arguments, in which placeholders such as `{model}` are replaced.
    pub arguments: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// How many bytes of its latest output are kept.
    pub log_bytes: u64,
    /// Environment variables that it gets in addition to those of every command: its credentials.
    #[serde(default)]
    pub env: Vec<String>,
}

/// The program and its arguments in the fleet file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct CommandTable(Vec<String>);

/// The keys beside `command`: each is taken from the nearest table.
#[derive(Clone, Debug, Default)]
pub struct CommandKeys {
    /// Where the command runs.
    pub folder: Option<String>,
    /// How many bytes of its output are kept.
    pub log_bytes: Option<u64>,
    /// Environment variables that it gets.
    pub env: Option<Vec<String>>,
}

/// Bytes of output that are kept unless the fleet file says so, and the fewest.
const LOG_BYTES: u64 = 10 << 20;
const FEWEST_LOG_BYTES: u64 = 1 << 10;

impl ExecutorTable for CommandTable {
    type Settings = CommandConfig;

    fn resolve(&self, TableContext { folder, command }: TableContext<'_>) -> Validated<CommandConfig> {
        let Self(arguments) = self;
        if arguments.first().is_none_or(|program| program.trim().is_empty()) {
            return Err("command runs nothing: its first word is the program".to_owned());
        }
        if arguments.iter().any(|argument| argument.contains('\0')) {
            return Err("command holds a zero byte".to_owned());
        }
        Ok(CommandConfig {
            arguments: arguments.clone(),
            folder: match &command.folder {
                Some(own) => local("folder", own, folder)?,
                None => folder.to_owned(),
            },
            log_bytes: command.log_bytes.unwrap_or(LOG_BYTES).max(FEWEST_LOG_BYTES),
            env: command.env.iter().flatten().map(|name| variable(name)).collect::<Validated<_>>()?,
        })
    }
}

/// The name of a variable that a command is given. No patterns: one such as `AWS_*` may pass secrets by accident.
fn variable(name: &str) -> Validated<String> {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match name {
        "" => Err("env holds an empty name; give the names of variables".into()),
        _ if name.contains(['*', '?', '[']) => {
            Err("env contains a pattern, which could pass secrets by accident; give each name, such as \
             \"AWS_ACCESS_KEY_ID\""
                .into())
        }
        // An invalid name is not repeated: it may be a secret.
        _ if name.contains('=') => {
            Err("env gives a value with a name; give the name alone, and set the variable where driftsweep is started"
                .into())
        }
        _ if name.len() <= 256 && is_name(name) && !name.starts_with(|first: char| first.is_ascii_digit()) => {
            Ok(name.to_owned())
        }
        _ => Err("env contains an invalid name of a variable: letters, digits and _ only".into()),
    }
}

impl ExecutorSettings for CommandConfig {
    /// All commands run on this machine.
    fn place(&self) -> Value {
        Value::Null
    }

    fn open<'a>(&'a self, tools: ExecutorTools<'a>) -> Box<dyn Executor + 'a> {
        Box::new(run::CommandExecutor { command: self, program: tools.program })
    }

    fn check(&self, findings: &mut Findings) {
        let path = std::env::var("PATH").unwrap_or_default();
        match check::command(self, &path) {
            Err(reason) => findings.add(Severity::Broken, "retrain", reason),
            Ok(()) => check::missing_file_arguments(self)
                .into_iter()
                .for_each(|reason| findings.add(Severity::Warning, "retrain", reason)),
        }
        for word in check::unknown_placeholders(self) {
            let known = run::PLACEHOLDERS.join(", ");
            let reason =
                format!("no placeholder is called {{{word}}}: the command gets it as it is; those are {known}");
            findings.add(Severity::Warning, "retrain.command", reason);
        }
        for name in check::unset(self) {
            let reason = format!("the variable {name} is not set here, so the command does not get it; set it");
            findings.add(Severity::Warning, "retrain.env", reason);
        }
    }

    fn answer_folder(&self) -> Option<&Path> {
        Some(&self.folder)
    }

    fn uses_command_keys(&self) -> bool {
        true
    }
}
