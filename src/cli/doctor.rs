//! `driftsweep doctor`

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use driftsweep::count::gpu;
use driftsweep::fleet::{Fleet, Options};
use driftsweep::sweep::{Plan, Rows};

use super::memory::StoreArgs;

#[derive(Args)]
pub struct DoctorArgs {
    /// A fleet file to check: every snapshot is opened, nothing is counted
    #[arg(value_name = "FLEET")]
    fleet: Option<PathBuf>,
    /// Measures the chosen adapter: upload, memory, counting
    #[arg(long)]
    measure: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub fn run(args: &DoctorArgs) -> anyhow::Result<u8> {
    let mut text = String::new();
    let code = check(args, &mut text);
    super::write_text(&text)?;
    code
}

fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

fn check(args: &DoctorArgs, text: &mut String) -> anyhow::Result<u8> {
    writeln!(text, "driftsweep {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(text, "threads    {}", rayon::current_num_threads())?;
    let adapters = gpu::adapters();
    if adapters.is_empty() {
        writeln!(text, "adapters   none; counting on the CPU. For a GPU install its Vulkan driver and loader")?;
    }
    for adapter in &adapters {
        let timed = if adapter.timestamps { "times its shaders" } else { "does not time its shaders" };
        writeln!(
            text,
            "adapter {}  {} ({}, {}, {}): {} of workgroup memory, bindings of up to {}, {timed}",
            adapter.index,
            adapter.name,
            adapter.kind,
            adapter.backend,
            adapter.driver,
            bytes(adapter.workgroup_memory.into()),
            bytes(adapter.binding),
        )?;
    }
    let adapter = super::variable(gpu::ADAPTER_VARIABLE);
    let choice = gpu::Choice { adapter, ..gpu::Choice::default() };
    let shown = |choice: &gpu::Choice| gpu::chosen(&adapters, choice).map_or("none".into(), |a| a.index.to_string());
    super::backend_of_environment()?;
    let auto = gpu::Choice { hardware_only: true, ..choice.clone() };
    if let (Some(name), None) = (&choice.adapter, gpu::chosen(&adapters, &choice)) {
        return Err(super::bad(gpu::ADAPTER_VARIABLE, &format!("no adapter is called '{name}'")));
    }
    writeln!(text, "chosen     adapter {} by --backend gpu, {} by --backend auto", shown(&choice), shown(&auto))?;
    if args.measure {
        let gpu = gpu::GpuCounter::open(&choice, gpu::DEFAULT_MEMORY)?;
        writeln!(text, "measured   {}: {}", gpu.adapter().name, super::bench::measure(&gpu)?)?;
    }
    let temporary = std::env::temp_dir();
    match tempfile::tempfile() {
        Ok(_) => writeln!(text, "temporary  {} (writable; CSV files are unpacked there)", temporary.display())?,
        Err(e) => writeln!(text, "temporary  {} NOT WRITABLE: {e}; set TMPDIR", temporary.display())?,
    }
    let Some(path) = &args.fleet else { return Ok(0) };

    let fleet = args.store.with_baselines(path, Fleet::read(path, &Options::new())?)?;
    writeln!(text, "fleet      {}: {} models", fleet.name, fleet.models.len())?;
    let mut broken = 0;
    let now = jiff::Timestamp::now();
    for planned in Plan::new(&fleet.at(now), now).survey().comparisons {
        let place = [&planned.model, &planned.window, &planned.segment].map(String::as_str).join(" ");
        match planned.error {
            None => {
                let Rows { baseline, current } = planned.rows;
                writeln!(text, "  ok       {}: {baseline} and {current} rows", place.trim_end())?;
            }
            Some(reason) => {
                broken += 1;
                writeln!(text, "  BROKEN   {}: {reason}", place.trim_end())?;
            }
        }
    }
    Ok(if broken > 0 { super::PARTIAL } else { 0 })
}
