//! `driftsweep init`

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use driftsweep::address::shown;
use driftsweep::fleet::guess::{Role, roles};
use driftsweep::snapshot::Snapshot;
use driftsweep::storage;

#[derive(Args)]
pub struct InitArgs {
    /// What the model was trained on: a file, a glob or a directory
    #[arg(value_name = "REF")]
    baseline: String,
    /// What it sees now
    #[arg(value_name = "CUR")]
    current: String,
    /// Name of the model
    #[arg(long, default_value = "model", value_name = "NAME")]
    name: String,
    /// File to write instead of standard output; paths in it are relative to it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file if it is there
    #[arg(long)]
    force: bool,
}

pub fn run(args: &InitArgs) -> anyhow::Result<u8> {
    if let Some(path) = args.output.as_deref().filter(|path| path.exists() && !args.force) {
        return Err(super::bad(
            "--output",
            &format!("{} is there already; add --force to overwrite it", path.display()),
        ));
    }
    let (baseline, current) = (Snapshot::open(&args.baseline)?, Snapshot::open(&args.current)?);
    let guesses = roles(&baseline, &current)?;
    let quoted = |text: &str| toml::Value::String(text.into()).to_string();
    // Paths in a fleet file are relative to the file, those given here to the working directory.
    // What is secret in an address belongs into no file that others read.
    let anchored = |spec: &str| match &args.output {
        _ if shown(spec) != spec => shown(spec),
        Some(_) if !storage::is_remote(spec) => {
            std::path::absolute(spec).map_or_else(|_| spec.to_owned(), |path| path.to_string_lossy().into_owned())
        }
        _ => spec.to_owned(),
    };

    let mut text = String::from("# What each setting means: driftsweep's README, \"The fleet file\".\n\n[[model]]\n");
    if [&args.baseline, &args.current].into_iter().any(|spec| shown(spec) != *spec) {
        writeln!(
            text,
            "# Secret parts of addresses are left out (…): put them in, or better use the store's own address."
        )?;
    }
    writeln!(text, "name = {}", quoted(&args.name))?;
    writeln!(text, "baseline = {}", quoted(&anchored(&args.baseline)))?;
    writeln!(text, "current = {}", quoted(&anchored(&args.current)))?;
    writeln!(text, "exclude = [")?;
    for guess in guesses.iter().filter(|guess| guess.role != Role::Feature) {
        writeln!(text, "  {}, # {}: {}", quoted(&guess.column), guess.role.name(), guess.reason)?;
    }
    writeln!(text, "]\n")?;
    writeln!(text, "# Features:")?;
    for guess in guesses.iter().filter(|guess| guess.role == Role::Feature) {
        writeln!(text, "#   {}: {}", guess.column.escape_default(), guess.reason)?;
    }
    match &args.output {
        Some(path) => {
            driftsweep::atomic::write(path, text.as_bytes())?;
            eprintln!("wrote {}; look through `exclude`, then: driftsweep sweep {0}", path.display());
        }
        None => super::write_stdout(text.as_bytes())?,
    }
    Ok(0)
}
