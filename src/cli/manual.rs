//! `farebox manual`

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  farebox manual /usr/local/share/man/man1")]
pub(super) struct Arguments {
    /// The folder for the pages
    folder: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { folder } = arguments;
    let failed = |error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(super::Arguments::command(), folder).map_err(failed)?;
    Ok(())
}
