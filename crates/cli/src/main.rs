//! The command line: one file a subcommand. The only user of clap, and the owner of the clock.

/// Answers the user of the command, on standard error.
macro_rules! say {
    ($($words:tt)*) => { $crate::message::write_message($crate::message::LogLevel::Answer, &format!($($words)*)) };
}

/// Reports additional actions on standard error.
macro_rules! info {
    ($($words:tt)*) => { $crate::message::write_message($crate::message::LogLevel::Info, &format!($($words)*)) };
}

/// Reports on standard error what is done, where details are wanted.
macro_rules! detail {
    ($($words:tt)*) => { $crate::message::write_message($crate::message::LogLevel::Detail, &format!($($words)*)) };
}

/// Warns on standard error.
macro_rules! warn {
    ($($words:tt)*) => { $crate::message::write_message($crate::message::LogLevel::Warn, &format!($($words)*)) };
}

/// Reports a failure on standard error.
macro_rules! error {
    ($($words:tt)*) => { $crate::message::write_message($crate::message::LogLevel::Error, &format!($($words)*)) };
}

mod audit;
mod baseline;
mod baselines;
mod bench;
mod budget;
mod calibrate;
mod canary;
mod checkpoint;
mod compare;
mod decision;
mod demo;
mod doctor;
mod events;
mod explain;
mod features;
mod fleet_store;
mod gate;
mod generate;
mod history;
mod init;
mod job_page;
mod jobs;
pub mod message;
mod metrics;
mod model_card;
mod models;
mod mute;
#[cfg(feature = "pipeline")]
mod output_folder;
mod past_sweep;
mod report;
mod rollout;
mod rollout_page;
mod shell;
mod signing;
mod simulate;
mod sink;
mod state;
mod state_users;
mod status;
mod sweep;
mod tick;
mod time_arg;
mod train;
mod validate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use driftsweep::count::{Backend, ChosenCounter, Counter, Workload, gpu};
use driftsweep::metric::MetricSet;
use driftsweep::model::Options;
use driftsweep::sweep::Engine;
use driftsweep_common::address::{self, looks_like_address};
use driftsweep_common::error::Error;
use driftsweep_extensions::value::listed;
use driftsweep_fleet::{Fleet, Model};
use driftsweep_report::report::{RenderOptions, Report, ReportFormat};
use indicatif::{ProgressBar, ProgressStyle};
use message::Verbosity;
use sink::{write, write_json};

/// Compares what models see with what they were trained on: exact drift metrics over thousands of features.
#[derive(Parser)]
#[command(name = "driftsweep", version, bin_name = "driftsweep", max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    /// How messages on standard error are written: plain, text (with time and level) or json (one object a line)
    /// [default: $DRIFTSWEEP_LOG, or plain]
    #[arg(long, global = true, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    log: Option<message::LogFormat>,
    /// Show only results, warnings and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Show in detail what is done
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   internal error
  2   wrong usage: unknown flag, metric, value out of range
  3   input cannot be read: no such file, wrong format, no rows, no common column
  4   mistake in a fleet file
  5   baseline file not understood
  6   backend not available
  7   output cannot be written
  10  done, drift found (with --fail-on-drift) or events opened (with --fail-on-event)
  11  done, but some features or models could not be compared, or rows of the store could not be read, or doctor found what would fail; kept until the next sweep, or until acknowledged; or a clock was ahead
  12  done in part: the deadline came before some models
  13  the same sweep, or another tick of the fleet, is running already
  14  the store cannot be used
  15  the audit was tampered with
  16  a gate failed: the candidate is rejected (gate); or it is worse in production (canary)
  17  no gate failed, and one had too few data (gate); neither is shown yet (canary); or nothing could be tested (features verify)
  18  features see the future (features verify), or differ from what serving logged (features, train)";

/// Done, drift found or events opened.
const DRIFT: u8 = 10;
/// Done, but some features or models could not be compared.
const PARTIAL: u8 = 11;
/// Another process is running already.
const BUSY: u8 = 13;

#[derive(Subcommand)]
enum Command {
    /// Compares two snapshots feature by feature
    Compare(compare::CompareArgs),
    /// Compares every model of a fleet with its baseline
    Sweep(sweep::SweepArgs),
    /// Does everything that is due: the sweep, its triggers, and scheduled trainings. For cron
    Tick(tick::TickArgs),
    /// Shows the result of the last sweep and what is waiting, with an exit code; or acknowledges it
    Status(status::StatusArgs),
    /// Shows why the triggers of a model fired, or did not
    Explain(explain::ExplainArgs),
    /// Recommends thresholds for a wanted number of false alarms a night, and shows which past alarms would remain
    Calibrate(calibrate::CalibrateArgs),
    /// Lists the retrain events, or closes one
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Mutes triggers of a model for a while: they open no events
    Mute(mute::MuteArgs),
    /// Unmutes triggers of a model
    Unmute(mute::UnmuteArgs),
    /// Lists training jobs, shows one in detail, or cancels one
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Lists the versions of trained models, shows or registers one, and says which one is in production
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Shows releases of candidates, and lets a person decide about one: promote, hold, resume, roll back
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Approves a job that waits for approval
    Approve(jobs::ApproveArgs),
    /// Rejects a job that waits for approval
    Reject(jobs::RejectArgs),
    /// Shows what is spent, reserved and forecast this month
    Budget(budget::BudgetArgs),
    /// Shows the cost and gain of retraining each model, and missing inputs
    Economics(budget::EconomicsArgs),
    /// Shows, checks or exports the audit records
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Lists or sends messages that are not sent yet
    #[command(subcommand)]
    Outbox(audit::OutboxCommand),
    /// Runs the command of a training
    #[command(hide = true)]
    Supervise(jobs::SuperviseArgs),
    /// Shows the results of past sweeps
    History(history::HistoryArgs),
    /// Writes the report of the last sweep, or of a past one, with its events, retrains and history: an HTML page
    Report(report::ReportArgs),
    /// Writes gauges of the last sweep, its triggers and retrains for Prometheus, or sends them
    Metrics(metrics::MetricsArgs),
    /// Freezes training snapshots into baseline files; lists, sets and restores the baselines of models
    #[command(subcommand)]
    Baseline(baseline::BaselineCommand),
    /// Writes a fleet file from snapshots: infers types; excludes ids, times, labels and predictions
    Init(init::InitArgs),
    /// Checks fleet files, without their data
    Validate(validate::ValidateArgs),
    /// Prints the JSON Schema of fleet files, for editors
    Schema,
    /// Prints the completions of a shell
    Completions(shell::CompletionsArgs),
    /// Writes manual pages
    Man(shell::ManArgs),
    /// Sweeps a demo fleet with real data
    Demo(demo::DemoArgs),
    /// Measures counting on the CPU and the GPU with generated columns
    Bench(bench::BenchArgs),
    /// Judges a candidate against the champion on the same labelled rows (exit code 16 if it is rejected, 17 for want of data)
    Gate(gate::GateArgs),
    /// Judges a candidate that serves a part of the traffic, look by look (exit code 16: take it back; 17: go on looking)
    Canary(canary::CanaryArgs),
    /// Shows a feature set, writes its training sets, tests that it does not see the future, or compares it with what was served
    #[command(subcommand)]
    Features(features::FeaturesCommand),
    /// Trains a candidate on a feature set, and predicts the rows that its gates are judged by: for `command` of a model
    Train(train::TrainArgs),
    /// Replays the past of a model under policies of retraining: what each would have cost and gained
    Simulate(simulate::SimulateArgs),
    /// Shows what this build and this machine can do, and checks a fleet file
    Doctor(doctor::DoctorArgs),
}

/// Flags of every command that counts.
#[derive(Args)]
struct EngineArgs {
    /// The backend that counts; all give the same integers [default: $DRIFTSWEEP_BACKEND, or auto]
    #[arg(long, value_parser = PossibleValuesParser::new(Backend::names()).try_map(|name| name.parse::<Backend>()))]
    backend: Option<Backend>,
    /// GPU to use: its index or a part of its name, as doctor lists them [default: $DRIFTSWEEP_ADAPTER, or the best]
    #[arg(long, value_name = "NAME|INDEX")]
    adapter: Option<String>,
    /// Most GPU memory for keys; the rest is counted by the CPU [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    gpu_memory: Option<bytesize::ByteSize>,
    /// Worker threads [default: one per core, eight where snapshots come from an object store]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Memory limit, for example 4GiB; columns that do not fit are read twice [default: 256MiB per thread]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<bytesize::ByteSize>,
}

/// What is read by people, or by programs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TextFormat {
    Table,
    Json,
}

/// A number of bytes.
fn size(text: &str) -> Result<bytesize::ByteSize, String> {
    text.parse().map_err(|_| "it is not a size such as 512MiB or 4GB".to_owned())
}

impl EngineArgs {
    /// Starts the worker threads; more where most of them wait for an object store.
    fn start(&self, remote: bool) -> anyhow::Result<Options> {
        if self.threads.is_some_and(|threads| !(1..=1024).contains(&threads)) {
            return Err(invalid_value("--threads", "must be between 1 and 1024"));
        }
        if self.memory.is_some_and(|memory| memory.as_u64() < 16 << 20) {
            return Err(invalid_value("--memory", "must be 16MiB or more"));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or(if remote { (8 * cores).min(64) } else { cores });
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start worker threads")?;
        let mut options = Options::new();
        if let Some(memory) = self.memory {
            options.memory = usize::try_from(memory.as_u64()).unwrap_or(usize::MAX);
        }
        Ok(options)
    }

    /// Chooses the backend.
    fn counter(&self, workload: impl FnOnce() -> Workload) -> anyhow::Result<ChosenCounter> {
        let (choice, memory) = self.device()?;
        let chosen = self.backend()?.counter(workload, &choice, memory)?;
        detail!("counted by {}: {}", chosen.counter.name(), chosen.reason);
        Ok(chosen)
    }

    /// The backend: the flag first, then the environment.
    fn backend(&self) -> anyhow::Result<Backend> {
        self.backend.map_or_else(backend_of_environment, Ok)
    }

    /// Which GPU, and how much of its memory.
    fn device(&self) -> anyhow::Result<(gpu::DeviceChoice, u64)> {
        let adapter = self.adapter.clone().or_else(|| variable(gpu::ADAPTER_VARIABLE));
        let memory = self.gpu_memory.map_or(gpu::DEFAULT_MEMORY, |memory| memory.as_u64());
        if memory < 1 << 20 {
            return Err(invalid_value("--gpu-memory", "must be 1MiB or more"));
        }
        Ok((gpu::DeviceChoice { adapter, known_absent: !may_have_gpu(), ..gpu::DeviceChoice::default() }, memory))
    }
}

fn backend_of_environment() -> anyhow::Result<Backend> {
    let Some(name) = variable(BACKEND_VARIABLE) else { return Ok(Backend::Auto) };
    let known = listed(&Backend::names().collect::<Vec<_>>(), "or");
    name.to_lowercase().parse().map_err(|_| invalid_value(BACKEND_VARIABLE, &format!("'{name}' is not {known}")))
}

/// Whether a fleet file names data at an address. The number of reader threads depends on it, before the file is
/// parsed.
fn names_objects(fleet: &Path) -> bool {
    // Its errors are reported when it is parsed.
    let text = Fleet::text(fleet).unwrap_or_default();
    toml::from_str::<toml::Table>(&text).is_ok_and(|table| names_address(&toml::Value::Table(table)))
}

fn names_address(value: &toml::Value) -> bool {
    match value {
        toml::Value::String(text) => text.contains("://"),
        toml::Value::Array(values) => values.iter().any(names_address),
        // Addresses of executors and of channels hold no data.
        toml::Value::Table(table) => {
            table.iter().any(|(key, value)| !matches!(&**key, "retrain" | "notify") && names_address(value))
        }
        _ => false,
    }
}

/// Whether the kernel shows a GPU; on systems other than Linux only the driver knows.
fn may_have_gpu() -> bool {
    let shown = |pattern| glob::glob(pattern).is_ok_and(|mut found| found.next().is_some());
    !cfg!(target_os = "linux") || ["/dev/dri/renderD*", "/dev/nvidia[0-9]*", "/dev/dxg"].into_iter().any(shown)
}

/// A variable of the environment, if it is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Records in a report why its backend was chosen, and warns where a device failed.
fn note(engine: &mut Engine, chosen: ChosenCounter) {
    engine.reason = Some(chosen.reason);
    warn_of_failure(&*chosen.counter);
}

fn warn_of_failure(counter: &dyn Counter) {
    if let Some(failure) = counter.usage().and_then(|usage| usage.failure) {
        warn!("GPU: {failure}; the CPU took over, with the same result");
    }
}

/// The variable for `--backend`.
const BACKEND_VARIABLE: &str = "DRIFTSWEEP_BACKEND";

/// Flags of every command that reports.
#[derive(Args)]
struct OutputArgs {
    #[arg(long, value_name = "FORMAT", help = format!("{} [default: that of the name of --output, or table]", listed(&ReportFormat::ALL.map(|format| format.name), "or")))]
    format: Option<ReportFormat>,
    /// File to write instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Most features shown in a table, most drifted first; 0 for all [default: 40; of a fleet only those that drifted,
    /// failed, or cannot be judged until that is corrected]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Exit with 10 if a feature drifted
    #[arg(long)]
    fail_on_drift: bool,
}

/// The default number of features in a table.
const TOP: usize = 40;

impl OutputArgs {
    /// The format: the one that is given, or that of the name of the file.
    fn format(&self) -> ReportFormat {
        self.format.unwrap_or_else(|| {
            let extension = self.output.as_ref().and_then(|path| path.extension()?.to_str());
            ReportFormat::of_extension(extension.unwrap_or_default())
        })
    }

    /// Refuses an output that could not be written, before any work.
    fn check(&self) -> anyhow::Result<()> {
        let format = self.format();
        if self.output.is_none() && !format.is_for_terminal && sink::is_terminal() {
            return Err(invalid_value(
                &format!("--format {}", format.name),
                "is not for a terminal; add --output FILE",
            ));
        }
        Ok(())
    }

    /// Writes a report.
    fn write(&self, report: Report<'_>, options: &RenderOptions<'_>) -> anyhow::Result<()> {
        let document = self.format().render(report, options)?;
        match &self.output {
            Some(path) => sink::write_file(path, &document),
            None => write(document),
        }
    }

    fn code(&self, drifted: bool, partial: bool) -> u8 {
        match (self.fail_on_drift && drifted, partial) {
            (true, _) => DRIFT,
            (false, true) => PARTIAL,
            (false, false) => 0,
        }
    }
}

/// A fleet file in a command that a message shows: empty for the one that is read by default.
fn fleet_argument(path: &Path) -> String {
    match path.to_str() {
        Some("fleet.toml") => String::new(),
        Some(plain) if plain.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-:@+".contains(&b)) => {
            format!(" {plain}")
        }
        _ => format!(" '{}'", path.display().to_string().replace('\'', r"'\''")),
    }
}

/// The model with a name.
fn model_of<'a>(fleet: &'a Fleet, name: &str) -> anyhow::Result<&'a Model> {
    fleet.model(name).ok_or_else(|| Error::unknown("model", name, fleet.models.iter().map(|model| &*model.name)).into())
}

/// Refuses the name of a model of which nothing is known: it is not in the fleet file, and nothing was `found` of one that
/// was there before.
fn known_model(fleet: &Fleet, name: Option<&str>, found: bool) -> anyhow::Result<()> {
    match name {
        Some(name) if !found => model_of(fleet, name).map(drop),
        _ => Ok(()),
    }
}

/// Refuses an output that would overwrite one of the inputs.
fn check_not_an_input<'a>(output: Option<&Path>, inputs: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<()> {
    let Some(output) = output else { return Ok(()) };
    let Ok(target) = output.canonicalize() else { return Ok(()) };
    match inputs.into_iter().find(|input| input.canonicalize().is_ok_and(|input| input == target)) {
        Some(input) => Err(invalid_value("--output", &format!("{} is an input; choose another file", input.display()))),
        None => Ok(()),
    }
}

fn invalid_value(what: &str, reason: &str) -> anyhow::Error {
    Error::BadValue { what: what.into(), reason: reason.into() }.into()
}

fn metric_set(names: &[String]) -> anyhow::Result<Option<MetricSet>> {
    if names.is_empty() {
        return Ok(None);
    }
    Ok(Some(names.iter().map(|name| name.parse()).collect::<Result<_, Error>>()?))
}

/// A bar on a terminal, nothing in a pipe.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        Self::of("features")
    }

    fn of(what: &str) -> Self {
        let bar = if message::shows_progress() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template(&format!("{{wide_bar}} {{pos}}/{{len}} {what}, {{eta}} left")) {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl driftsweep::sweep::SweepProgress for Bar {
    fn planned(&self, features: usize) {
        self.0.set_length(features as u64);
        // Without a length there is nothing to show.
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&self) {
        self.0.inc(1);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Makes glibc keep freed memory for reuse. Decoded chunks are allocated and freed by the megabyte, and new pages from
/// the kernel cost as much as decoding into them. Freeing one large block raises the size up to which glibc serves from
/// its heaps, and twice that is what it keeps; it has no effect with other allocators.
fn keep_freed_pages() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(24 << 20)));
}

fn main() -> ExitCode {
    keep_freed_pages();
    std::panic::set_hook(Box::new(|panic| {
        // A panic of a decoder on a damaged file is reported as an error of that file.
        if !driftsweep::snapshot::is_decoding() {
            message::report_panic(panic);
        }
    }));
    run()
}

fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return message::usage(&with_escaped_arguments(error)),
    };
    let verbosity = match (cli.quiet, cli.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    let outcome =
        match message::choose(cli.log, verbosity).and_then(|()| check_location_variables()).map(|()| cli.command) {
            Err(error) => Err(error.into()),
            Ok(command) => dispatch(command),
        };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Errors of this crate already include their causes.
            let text = error.downcast_ref::<Error>().map_or_else(|| format!("{error:#}"), Error::to_string);
            error!("{text}");
            ExitCode::from(error.downcast_ref::<Error>().map_or(1, Error::exit_code))
        }
    }
}

/// Checks that variables that hold locations are UTF-8: others would be treated as not set.
fn check_location_variables() -> Result<(), Error> {
    for name in [state::VARIABLE, fleet_store::VARIABLE] {
        if matches!(std::env::var(name), Err(std::env::VarError::NotUnicode(_))) {
            let (what, reason) = (name.to_owned(), "is not UTF-8 text; choose another place".into());
            return Err(Error::BadValue { what, reason });
        }
    }
    if variable(state::VARIABLE).is_some_and(|folder| looks_like_address(&folder)) {
        let (what, reason) = (state::VARIABLE.to_owned(), "must be a folder on a disk, not an address".into());
        return Err(Error::BadValue { what, reason });
    }
    Ok(())
}

/// The error for a command line, with its arguments escaped: messages of clap and of value parsers repeat them.
fn with_escaped_arguments(error: clap::Error) -> clap::Error {
    const MAX_ARGUMENT_CHARS: usize = 200;
    // Secrets are removed first: after shortening in the middle they could not be found.
    let shown = std::env::args_os()
        .map(|arg| driftsweep_common::escape::truncated(&address::redacted(&arg), MAX_ARGUMENT_CHARS).into_owned());
    // Bytes that are not text are refused and not repeated.
    Cli::try_parse_from(shown).err().unwrap_or(error)
}

fn dispatch(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Compare(args) => compare::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Tick(args) => tick::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Events(command) => events::run(&command),
        Command::Mute(args) => mute::run(&args),
        Command::Unmute(args) => mute::lift(&args),
        Command::Jobs(command) => jobs::run(&command),
        Command::Models(command) => models::run(&command),
        Command::Rollout(command) => rollout::run(&command),
        Command::Approve(args) => jobs::approve(&args),
        Command::Reject(args) => jobs::reject(&args),
        Command::Budget(args) => budget::run(&args),
        Command::Economics(args) => budget::economics(&args),
        Command::Audit(command) => audit::run(&command),
        Command::Outbox(command) => audit::outbox(&command),
        Command::Supervise(args) => jobs::supervise(&args),
        Command::History(args) => history::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Metrics(args) => metrics::run(&args),
        Command::Baseline(command) => baseline::run(&command),
        Command::Init(args) => init::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Schema => validate::schema(),
        Command::Completions(args) => shell::completions(&args, Cli::command()),
        Command::Man(args) => shell::man(&args, Cli::command()),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Canary(args) => canary::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Features(command) => features::run(&command),
        Command::Train(args) => train::run(&args),
        Command::Simulate(args) => simulate::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_data_call_for_threads_that_wait() {
        let names = |text: &str| names_address(&toml::Value::Table(toml::from_str(text).unwrap()));
        assert!(names("[[model]]\ncurrent = { week = \"s3://bucket/production/\" }"));
        assert!(names("[[model]]\n[model.labels]\nfrom = \"gs://bucket/labels/\""));
        assert!(!names("[[model]]\ncurrent = \"local/\"\n[model.retrain]\nwebhook = { url = \"https://a\" }"));
        assert!(!names("[[notify]]\nwebhook = { url = \"https://a\" }\n[[model]]\ncurrent = \"local/\""));
    }

    #[test]
    fn a_command_in_a_message_can_be_copied_whatever_the_fleet_file_is_called() {
        let argument = |path: &str| fleet_argument(Path::new(path));
        assert_eq!(argument("fleet.toml"), "");
        assert_eq!(argument("/srv/fleet-1.toml"), " /srv/fleet-1.toml");
        assert_eq!(argument("two words.toml"), " 'two words.toml'");
        assert_eq!(argument("it's.toml"), r" 'it'\''s.toml'");
    }
}
