//! `farebox serve`

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{App, StoreAge};
use crate::config::Config;
use crate::observe::program;
use crate::reload::Reloader;

/// The number of files and sockets that the program would like to open, if it may.
const FILES_MAX: u64 = 65_536;

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
    let _log = program::start("info", config.observe.format)?;
    let age = if arguments.restored { StoreAge::Restored } else { StoreAge::Current };
    // Each connection needs a file, and so does the one behind it.
    if let Err(error) = rlimit::increase_nofile_limit(FILES_MAX) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let app = App::start(config, age).await?;
    let reloads = tokio::spawn(reload_when_asked(app.reloader(), arguments.config)?);
    let stopped = super::stopping()?;
    // Whoever has started this program reads here where it listens, and may stop it at once.
    println!("listening on {scheme}://{}", app.address());
    notify(&[NotifyState::Ready]);
    let stopped = async {
        stopped.await;
        notify(&[NotifyState::Stopping]);
    };
    let served = app.serve(stopped).await;
    reloads.abort();
    Ok(served?)
}

/// Puts the configuration in force anew on each SIGHUP, and notes when prices from before it lapse.
fn reload_when_asked(
    reloader: Reloader,
    config: PathBuf,
) -> io::Result<impl Future<Output = ()> + Send> {
    let mut asked = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                asked = asked.recv() => match asked {
                    Some(()) => reload(&reloader, &config),
                    None => return,
                },
                () = reloader.lapse() => {}
            }
        }
    })
}

/// Puts the configuration in force anew.
fn reload(reloader: &Reloader, config: &Path) {
    if let Ok(since) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, since]);
    }
    match reloader.reload(config) {
        Ok(waiting) if waiting.is_empty() => tracing::info!("the configuration was read again"),
        Ok(waiting) => tracing::warn!(
            "the configuration was read again; new values of {} wait for the next start",
            waiting.join(", ")
        ),
        Err(error) => tracing::error!(%error, "the configuration stays as it was"),
    }
    notify(&[NotifyState::Ready]);
}

/// Tells systemd how the program is, if it has started it.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd was not told how the gateway is");
    }
}
