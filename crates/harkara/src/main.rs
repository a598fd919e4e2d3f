//! The program: parses its arguments and picks a command; nothing else lives here.

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    harkara::cli::run(harkara::cli::Arguments::parse())
}
