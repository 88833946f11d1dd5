//! `farebox serve`

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

use crate::app::{App, StoreAge};
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "farebox.toml")]
    config: PathBuf,
    /// The store was restored from a backup, or is lost. Give this once, at the first start after
    /// it: all credit counts as spent, and clients show their newest payment before they are
    /// served again
    #[arg(long)]
    restored: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let config = Config::load(&arguments.config)?;
    let age = if arguments.restored { StoreAge::Restored } else { StoreAge::Current };
    let app = App::start(config, age).await?;
    // Whoever has started this program reads here where it listens.
    println!("listening on http://{}", app.address());
    app.serve(super::stopped()).await?;
    Ok(())
}
