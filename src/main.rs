//! The `farebox` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    farebox::cli::main()
}
