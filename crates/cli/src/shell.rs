//! `driftsweep completions` and `man`: what is installed beside the program.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use driftsweep_common::error::Error;
use driftsweep_report::output::Document;

use super::write;

#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Args)]
pub struct ManArgs {
    /// Folder for one page a command, driftsweep-sweep.1 and so on, instead of the first page on standard output
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Prints the completions of a shell.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "driftsweep", &mut script);
    write(Document::exact(String::from_utf8(script)?))?;
    Ok(0)
}

/// Writes manual pages.
pub fn man(args: &ManArgs, command: Command) -> anyhow::Result<u8> {
    let Some(folder) = &args.output else {
        write(Document::exact(page(command)?))?;
        return Ok(0);
    };
    let failed = |source| Error::Write { path: folder.clone(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    Ok(0)
}

fn page(command: Command) -> anyhow::Result<String> {
    let mut text = Vec::new();
    let failed = |source| Error::Write { path: "manual page".into(), source };
    clap_mangen::Man::new(command).render(&mut text).map_err(failed)?;
    Ok(String::from_utf8(text)?)
}
