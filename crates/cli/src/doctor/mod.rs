//! `driftsweep doctor`: what this machine can do, and what would fail in a nightly run, without counting or writing
//! anything.

mod approval;
mod connections;
mod decoding;
mod finding;
mod fleet;
mod locations;

use std::path::PathBuf;

use clap::Args;
use driftsweep::count::gpu;
use driftsweep::model::Options;
use driftsweep_fleet::Trigger;
use driftsweep_report::output::Page;
use driftsweep_report::report::counted;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::TextFormat;
use super::fleet_store::{StoreArgs, read_fleet};
use super::time_arg::{TimeArg, now_or};
use fleet::FleetCheck;

#[derive(Args)]
pub struct DoctorArgs {
    /// A fleet file: everything that would fail at night is found (exit code 11), and nothing is counted or written
    #[arg(value_name = "FLEET")]
    fleet: Option<PathBuf>,
    /// The time of the sweep, which determines the days in paths and windows: a time such as 2026-01-31T02:00:00Z;
    /// without a zone it is read in the fleet's `time_zone`, and a day alone is its beginning there [default: now]
    #[arg(long, value_name = "TIME", requires = "fleet")]
    now: Option<TimeArg>,
    /// Sends a test message through each channel of the fleet, and reports which were accepted
    #[arg(long, requires = "fleet")]
    channels: bool,
    /// Measures the chosen adapter: upload, memory, counting
    #[arg(long)]
    measure: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
    #[command(flatten)]
    store: StoreArgs,
}

pub fn run(args: &DoctorArgs) -> anyhow::Result<u8> {
    let mut page = Page::new();
    let machine = machine(args, &mut page);
    let checked = match (&machine, &args.fleet) {
        (Ok(_), Some(path)) => Some(check(args, path)),
        _ => None,
    };
    if args.format == TextFormat::Json {
        let (machine, checked) = (machine?, checked.transpose()?);
        super::write_json(&json!({ "machine": machine, "fleet": checked }))?;
        return Ok(code(checked.as_ref()));
    }
    if let Some(Ok(checked)) = &checked {
        self::page(&mut page, checked);
    }
    super::write(page)?;
    machine?;
    Ok(code(checked.transpose()?.as_ref()))
}

fn check(args: &DoctorArgs, path: &std::path::Path) -> anyhow::Result<FleetCheck> {
    let declared = read_fleet(path, &Options::new())?;
    // Problems of the store are found when it is opened.
    let fleet = args.store.with_baselines(path, declared.clone()).unwrap_or(declared);
    let now = now_or(args.now.as_ref(), &fleet.zone, Timestamp::now())?;
    Ok(fleet::check(path, &fleet, now, &args.store, args.channels)?)
}

fn code(checked: Option<&FleetCheck>) -> u8 {
    match checked {
        Some(checked) if checked.summary.failing + checked.summary.broken > 0 => super::PARTIAL,
        _ => 0,
    }
}

/// What this build and this machine can do, for programs.
#[derive(Serialize)]
struct Machine {
    version: &'static str,
    threads: usize,
    adapters: Vec<String>,
    /// Whether files can be unpacked.
    temporary: bool,
}

fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

fn machine(args: &DoctorArgs, page: &mut Page) -> anyhow::Result<Machine> {
    page.line(format_args!("driftsweep {}", env!("CARGO_PKG_VERSION")));
    page.line(format_args!("threads    {}", rayon::current_num_threads()));
    let adapters = gpu::adapters();
    if adapters.is_empty() {
        page.line("adapters   none; counting on the CPU. For a GPU install its Vulkan driver and loader");
    }
    for adapter in &adapters {
        let timed = if adapter.timestamps { "times its shaders" } else { "does not time its shaders" };
        page.line(format_args!(
            "adapter {}  {} ({}, {}, {}): {} of workgroup memory, bindings of up to {}, {timed}",
            adapter.index,
            adapter.name,
            adapter.kind,
            adapter.backend,
            adapter.driver,
            bytes(adapter.workgroup_memory.into()),
            bytes(adapter.binding)
        ));
    }
    let adapter = super::variable(gpu::ADAPTER_VARIABLE);
    let choice = gpu::DeviceChoice { adapter, ..gpu::DeviceChoice::default() };
    let shown =
        |choice: &gpu::DeviceChoice| gpu::chosen(&adapters, choice).map_or("none".into(), |a| a.index.to_string());
    super::backend_of_environment()?;
    let auto = gpu::DeviceChoice { hardware_only: true, ..choice.clone() };
    if let (Some(name), None) = (&choice.adapter, gpu::chosen(&adapters, &choice)) {
        return Err(super::invalid_value(gpu::ADAPTER_VARIABLE, &format!("no adapter is called '{name}'")));
    }
    page.line(format_args!(
        "chosen     adapter {} by --backend gpu, {} by --backend auto",
        shown(&choice),
        shown(&auto)
    ));
    if args.measure {
        let gpu = gpu::GpuCounter::open(&choice, gpu::DEFAULT_MEMORY)?;
        page.line(format_args!("measured   {}: {}", gpu.adapter().name, super::bench::measure(&gpu)?));
    }
    let temporary = std::env::temp_dir();
    let unpacked = tempfile::tempfile();
    match &unpacked {
        Ok(_) => page.line(format_args!("temporary  {} (writable; CSV files are unpacked there)", temporary.display())),
        Err(e) => page.line(format_args!("temporary  {} NOT WRITABLE: {e}; set TMPDIR", temporary.display())),
    }
    Ok(Machine {
        version: env!("CARGO_PKG_VERSION"),
        threads: rayon::current_num_threads(),
        adapters: adapters.into_iter().map(|adapter| adapter.name).collect(),
        temporary: unpacked.is_ok(),
    })
}

/// What was found of a fleet, for people.
fn page(page: &mut Page, checked: &FleetCheck) {
    page.line(format_args!(
        "fleet      {}: {}, as of {}",
        checked.name,
        counted(checked.models.len(), "model"),
        checked.now
    ));
    for model in &checked.models {
        for comparison in &model.comparisons {
            let place = [&model.name, &comparison.window, &comparison.segment];
            let place: Vec<&str> = place.into_iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
            let place = place.join(" ");
            page.line(format_args!(
                "  ok       {place}: {} and {} rows, {} features",
                comparison.rows.baseline, comparison.rows.current, comparison.features
            ));
        }
    }
    triggers(page, checked);
    if let Some(approval) = &checked.approval {
        approval::lines(page, approval);
    }
    for channel in checked.channels.iter().filter(|channel| !channel.findings.is_broken()) {
        let test = channel.test.map_or("ready", |_| "a test message was accepted");
        page.line(format_args!("  ok       channel {}: {test}", channel.name));
    }
    finding::lines(page, checked.models.iter().map(|model| (&*model.name, &model.findings)));
    let channels: Vec<String> = checked.channels.iter().map(|channel| format!("channel {}", channel.name)).collect();
    let of_channels = channels.iter().map(String::as_str).zip(checked.channels.iter().map(|c| &c.findings));
    finding::lines(page, of_channels.chain([("fleet", &checked.findings)]));
    let s = &checked.summary;
    let mut line = format!("{}: {} ready, {} would fail tonight", counted(s.models, "model"), s.ready, s.failing);
    if s.broken > 0 {
        line += &format!("; also broken: {} (store, folders, channels)", s.broken);
    }
    if s.warnings > 0 {
        line += &format!("; {}", counted(s.warnings, "warning"));
    }
    page.line(line);
}

/// Which triggers can fire, models with the same triggers on one line.
fn triggers(page: &mut Page, checked: &FleetCheck) {
    let mut alike: Vec<(String, Vec<&str>)> = Vec::new();
    for model in &checked.models {
        let active: Vec<&str> = model.active.iter().copied().map(Trigger::name).collect();
        let active = if active.is_empty() { "none".into() } else { active.join(", ") };
        let inactive: Vec<String> =
            model.inactive.iter().map(|(trigger, reason)| format!("{}: off ({reason})", trigger.name())).collect();
        let line = [vec![active], inactive].concat().join("; ");
        match alike.iter_mut().find(|(known, _)| *known == line) {
            Some((_, names)) => names.push(&model.name),
            None => alike.push((line, vec![&model.name])),
        }
    }
    const MAX_LISTED: usize = 3;
    for (line, names) in alike {
        let shown = names[..names.len().min(MAX_LISTED)].join(", ");
        let more = if names.len() > MAX_LISTED {
            format!(" and {} more models", names.len() - MAX_LISTED)
        } else {
            String::new()
        };
        page.line(format_args!("  triggers {shown}{more}: {line}"));
    }
}
