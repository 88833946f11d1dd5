//! The command line: one file per command, and the only prints of the program.

#![expect(clippy::print_stdout, reason = "this is the command line")]

mod channels;
mod check;
mod close;
mod completions;
mod confirm;
mod demo;
mod desk;
mod exit;
mod export;
mod funds;
mod history;
mod limits;
mod manual;
mod node;
mod passphrase;
mod pay;
mod serve;
mod settle;
mod span;
mod wallet;

use std::error::Error;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::LogFormat;
use crate::observe::program;

/// A reverse proxy that charges per request over a payment channel.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put a price on an API: run the gateway
    Serve(serve::Arguments),
    /// Check a configuration, and print all that it means
    ///
    /// Reads the configuration and the certificates that it names, and prints it with every value
    /// that it leaves out, as TOML. Passwords are left out. Nothing is started, and the node is not
    /// asked. Ends with 1 and says what is wrong and where, if something is.
    Check(check::Arguments),
    /// List the running gateway's channels: how long they have, and what is at stake
    Channels(channels::Arguments),
    /// Close an open channel for all that its client has paid
    ///
    /// It serves no more requests from then on, and the gateway settles it. That cannot be taken
    /// back. Requests that are under way stay charged. A channel that is closing or has ended is
    /// left as it is, which is no failure.
    Close(close::Arguments),
    /// Close every open channel for all that its client has paid
    ///
    /// They serve no more requests from then on, and the gateway settles them. That cannot be
    /// taken back. Requests that are under way stay charged. The gateway goes on, and clients may
    /// open new channels at once.
    Settle(settle::Arguments),
    /// Sign settlements for a standby that has no keys
    ///
    /// Prints a JSON array: for each channel that is open or closing and whose contract is not
    /// spent, one transaction for each fee rate. Whoever has it can broadcast it with any node.
    /// Nothing on record changes.
    ///
    /// Broadcasting one closes its channel for what was paid when it was exported: what was paid
    /// later is lost. So the file is as good as closing everything. Keep it private, make it anew
    /// often, and broadcast from it only once the gateway is gone.
    ExportSettlements(export::Arguments),
    /// Pay for a request and print its answer
    ///
    /// Sends a request as curl does. Where it costs something, it is paid for through a channel with
    /// the server, and the first one opens that channel: some coins are locked, which is asked before,
    /// and the request waits for confirmations. What is not spent comes back when the channel is
    /// closed, or by itself after it has expired.
    ///
    /// The answer goes to standard output, and all that is told to standard error.
    Pay(Box<pay::Arguments>),
    /// Look after the coins and the channels of `farebox pay`
    Wallet(wallet::Arguments),
    /// Show a channel from the first 402 to its settlement, on a regtest chain of its own
    Demo(demo::Arguments),
    /// Print what completes this command line in a shell
    Completions(completions::Arguments),
    /// Write the manual, a page for each command
    Manual(manual::Arguments),
}

/// Runs the program, and says in one sentence what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let _log = match &command {
        // Its configuration says how its lines are written.
        Command::Serve(_) => None,
        Command::Check(_)
        | Command::Channels(_)
        | Command::Close(_)
        | Command::Settle(_)
        | Command::ExportSettlements(_)
        | Command::Pay(_)
        | Command::Wallet(_)
        | Command::Demo(_)
        | Command::Completions(_)
        | Command::Manual(_) => program::start("off", LogFormat::Text).ok(),
    };
    let ran = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| {
            let ran = runtime.block_on(run(command));
            // A call that waits for the node's next block is not waited for.
            runtime.shutdown_background();
            ran
        });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::tell(&*error),
    }
}

async fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Check(arguments) => check::run(&arguments),
        Command::Channels(arguments) => channels::run(arguments).await,
        Command::Close(arguments) => close::run(arguments).await,
        Command::Settle(arguments) => settle::run(arguments).await,
        Command::ExportSettlements(arguments) => export::run(arguments).await,
        Command::Pay(arguments) => pay::run(*arguments).await,
        Command::Wallet(arguments) => wallet::run(arguments).await,
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Manual(arguments) => manual::run(&arguments),
    }
}

/// Says something on standard error. Where nobody reads that any more, nothing is said.
fn say(words: &str) {
    let _unheard = writeln!(io::stderr(), "{words}");
}

/// Waits until the program is asked to stop.
async fn stopped() {
    match stopping() {
        Ok(stopped) => stopped.await,
        Err(_) => std::future::pending().await,
    }
}

/// Hears from now on when the program is asked to stop, by Ctrl-C or SIGTERM. What is returned
/// waits for it.
fn stopping() -> io::Result<impl Future<Output = ()> + Send> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
