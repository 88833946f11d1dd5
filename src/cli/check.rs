//! `farebox check`

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

use crate::asking;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "farebox.toml")]
    config: PathBuf,
    /// Print nothing where all is well
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let config = Config::load(&arguments.config)?;
    // What the files say that the configuration names is part of it.
    if let Some(identity) = &config.tls {
        identity.load()?;
    }
    for setup in &config.upstreams {
        setup.trust()?;
    }
    for ask in config.routes.routes().filter_map(|route| route.ask.as_ref()) {
        asking::trust(ask)?;
    }
    if !arguments.quiet {
        println!("# {}, with all that it leaves out", arguments.config.display());
        print!("{}", config.effective);
    }
    Ok(())
}
