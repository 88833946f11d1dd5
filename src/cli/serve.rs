//! `farebox serve`

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

use crate::app::App;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "farebox.toml")]
    config: PathBuf,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let config = Config::load(&arguments.config)?;
    let app = App::start(config).await?;
    // Whoever has started this program reads here where it listens.
    println!("listening on http://{}", app.address());
    app.serve(super::stopped()).await?;
    Ok(())
}
