//! The `driftsweep` command.

mod cli;

use std::process::ExitCode;

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
            cli::message::report_panic(panic);
        }
    }));
    cli::run()
}
