//! The `driftsweep` command.

mod cli;

use std::process::ExitCode;

/// Decoded chunks come and go by the megabyte; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // A decoder that gives up on a damaged file is reported as an error of that file.
        if !driftsweep::snapshot::is_guarded() {
            default_hook(info);
        }
    }));
    cli::run()
}
