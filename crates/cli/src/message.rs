//! Messages on standard error: always one line each, in the requested format.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::ValueEnum;
use driftsweep_common::address::without_secrets;
use driftsweep_common::error::Error;
use driftsweep_common::escape;
use driftsweep_report::output::MAX_LINE_CHARS;
use jiff::Timestamp;
use serde_json::json;

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people at a terminal.
    #[default]
    Plain,
    /// With time and level.
    Text,
    /// One JSON object a line: time, level, message.
    Json,
}

/// The level of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// A command has failed.
    Error,
    /// Needs attention; the command continues.
    Warn,
    /// Progress and results.
    Info,
    /// The answer to the user of the command: without the name of the program before it.
    Answer,
    /// What a command does in detail, on request.
    Detail,
}

/// Which messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// Everything but details.
    #[default]
    Normal,
    /// Everything.
    Verbose,
}

impl Verbosity {
    fn shows(self, level: LogLevel) -> bool {
        match level {
            LogLevel::Error | LogLevel::Warn => true,
            LogLevel::Info | LogLevel::Answer => self != Self::Quiet,
            LogLevel::Detail => self == Self::Verbose,
        }
    }
}

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info | Self::Answer => "info",
            Self::Detail => "debug",
        }
    }
}

/// The variable for `--log`.
pub const VARIABLE: &str = "DRIFTSWEEP_LOG";

static FORMAT: OnceLock<LogFormat> = OnceLock::new();
static VERBOSITY: OnceLock<Verbosity> = OnceLock::new();

/// Chooses which messages are written, and how: the flag first, then the environment.
///
/// # Errors
/// [`Error::UnknownName`] for an unknown format.
pub fn choose(flag: Option<LogFormat>, verbosity: Verbosity) -> Result<(), Error> {
    let _ = VERBOSITY.set(verbosity);
    let format = match (flag, super::variable(VARIABLE)) {
        (Some(format), _) => format,
        (None, None) => LogFormat::default(),
        (None, Some(name)) => LogFormat::from_str(&name, true)
            .map_err(|_| Error::unknown("format of messages in $DRIFTSWEEP_LOG", &name, ["plain", "text", "json"]))?,
    };
    let _ = FORMAT.set(format);
    Ok(())
}

/// Where a program that this one starts prints: to standard error, as standard output is for documents.
#[cfg(feature = "pipeline")]
pub fn for_programs() -> std::process::Stdio {
    std::process::Stdio::from(std::io::stderr())
}

/// Reports a panic as a message, too: it may quote a value from a file. With a backtrace, if `RUST_BACKTRACE` is set.
pub fn report_panic(panic: &PanicHookInfo<'_>) {
    write_message(LogLevel::Error, &format!("internal error: {panic}"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        backtrace.to_string().lines().for_each(|line| write_message(LogLevel::Answer, line));
    }
}

/// Whether only warnings and errors are written.
pub fn is_quiet() -> bool {
    verbosity() == Verbosity::Quiet
}

fn verbosity() -> Verbosity {
    VERBOSITY.get().copied().unwrap_or_default()
}

/// Whether progress is shown: on a terminal, unless only warnings and errors are wanted.
pub fn shows_progress() -> bool {
    std::io::stderr().is_terminal() && !is_quiet()
}

/// Writes a message: text from files is always escaped.
pub fn write_message(level: LogLevel, message: &str) {
    if !verbosity().shows(level) {
        return;
    }
    let format = FORMAT.get().copied().unwrap_or_default();
    // Errors of writing to standard error are ignored.
    let message = without_secrets(message);
    let _ = writeln!(
        std::io::stderr(),
        "{}",
        line(format, level, Timestamp::now(), &escape::truncated(&message, MAX_LINE_CHARS))
    );
}

fn line(format: LogFormat, level: LogLevel, now: Timestamp, message: &str) -> String {
    let time = now.strftime("%Y-%m-%dT%H:%M:%SZ");
    match format {
        LogFormat::Plain if level == LogLevel::Answer => message.to_owned(),
        LogFormat::Plain => format!("driftsweep: {message}"),
        LogFormat::Text => format!("{time} {} {}", level.name().to_uppercase(), message.trim_start()),
        // It is escaped already.
        LogFormat::Json => {
            json!({ "time": time.to_string(), "level": level.name(), "message": message.trim_start() }).to_string()
        }
    }
}

/// The message for a command line that is not understood or asks for help. The format of messages has to be searched in
/// it.
pub fn usage(error: &clap::Error) -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let after = args.iter().position(|arg| arg == "--log").and_then(|at| args.get(at + 1)).map(String::as_str);
    let named = after.or_else(|| args.iter().find_map(|arg| arg.strip_prefix("--log=")));
    let flag = named.and_then(|name| LogFormat::from_str(name, true).ok());
    // An error message for a wrong command line must not fail itself.
    let plain = choose(flag, Verbosity::Normal).is_err() || FORMAT.get() == Some(&LogFormat::Plain);
    if !error.use_stderr() {
        error.exit();
    }
    // It quotes arguments, which may be the address of a store with a password.
    let text = error.render().to_string();
    let text = without_secrets(&text);
    if plain {
        let _ = write!(std::io::stderr(), "{text}");
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    write_message(LogLevel::Error, lines.join(" ").trim_start_matches("error: "));
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_with_its_time_and_level_where_that_was_asked_for() {
        let now: Timestamp = "2026-11-26T02:00:03.7Z".parse().unwrap();
        let said = |format, level| line(format, level, now, "  it's \"late\"");
        assert_eq!(said(LogFormat::Plain, LogLevel::Warn), "driftsweep:   it's \"late\"");
        assert_eq!(said(LogFormat::Plain, LogLevel::Answer), "  it's \"late\"");
        assert_eq!(said(LogFormat::Text, LogLevel::Warn), "2026-11-26T02:00:03Z WARN it's \"late\"");
        assert_eq!(said(LogFormat::Text, LogLevel::Answer), "2026-11-26T02:00:03Z INFO it's \"late\"");
        assert_eq!(
            said(LogFormat::Json, LogLevel::Error),
            r#"{"time":"2026-11-26T02:00:03Z","level":"error","message":"it's \"late\""}"#
        );
    }
}
