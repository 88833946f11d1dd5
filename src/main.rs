//! The `farebox` program.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Requests come and go with many small pieces of memory, which this allocator is quicker with.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    farebox::cli::main()
}
