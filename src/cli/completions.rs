//! `farebox completions`

use std::error::Error;
use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  farebox completions bash > /etc/bash_completion.d/farebox
  farebox completions fish > ~/.config/fish/completions/farebox.fish")]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // The library panics where it cannot write.
    let mut script = Vec::new();
    generate(arguments.shell, &mut super::Arguments::command(), "farebox", &mut script);
    Ok(io::stdout().write_all(&script)?)
}
