//! `farebox settle`

use std::error::Error;

use clap::Args;

use super::confirm::ConfirmArguments;
use super::desk::DeskArguments;
use crate::admin::Listing;

/// The examples in the help.
const EXAMPLES: &str = "\
Examples:
  farebox settle --all
  farebox settle --all --yes && farebox channels --state closing";

/// What is settled.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Really all: for one channel there is `farebox close`
    #[arg(long, required = true)]
    all: bool,
    #[command(flatten)]
    confirm: ConfirmArguments,
    #[command(flatten)]
    desk: DeskArguments,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let desk = arguments.desk.desk()?;
    let open: Listing = desk.get("/channels", &[("state", "open".to_owned())]).await?.value;
    if !open.channels.is_empty() {
        arguments.confirm.ask(&format!("Close {}?", told(&open)))?;
    }
    let closed: Listing = desk.post("/settle", &()).await?.value;
    if closed.channels.is_empty() {
        println!("there are no open channels");
        return Ok(());
    }
    println!("closed {}", told(&closed));
    for view in &closed.channels {
        let settlement = view.settlement_txid.as_deref().unwrap_or("no settlement yet");
        println!("{}  {} sat  {settlement}", view.channel, view.paid_sat);
    }
    Ok(())
}

/// Returns how many channels there are, and what is settled.
fn told(listing: &Listing) -> String {
    let total = listing.total;
    let noun = if total.channels == 1 { "channel" } else { "channels" };
    format!("{} {noun} for {} sat", total.channels, total.paid_sat)
}
