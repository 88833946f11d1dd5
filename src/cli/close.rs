//! `farebox close`

use std::error::Error;

use bitcoin::OutPoint;
use clap::Args;

use super::confirm::ConfirmArguments;
use super::desk::DeskArguments;
use crate::admin::{ChannelView, Closed};

/// The examples in the help.
const EXAMPLES: &str = "\
Examples:
  farebox close 4a5e…33b:0
  farebox close 4a5e…33b:0 --yes --config /etc/farebox/farebox.toml";

/// Which channel is closed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The channel: txid:vout of its contract
    #[arg(value_name = "ID")]
    channel: OutPoint,
    #[command(flatten)]
    confirm: ConfirmArguments,
    #[command(flatten)]
    desk: DeskArguments,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let desk = arguments.desk.desk()?;
    let path = format!("/channels/{}", arguments.channel);
    let view: ChannelView = desk.get(&path, &[]).await?.value;
    if view.state == "open" {
        let (channel, paid_sat) = (&view.channel, view.paid_sat);
        arguments.confirm.ask(&format!("Close channel {channel} for {paid_sat} sat?"))?;
    }
    let closed: Closed = desk.post(&format!("{path}/close"), &()).await?.value;
    println!("{}", told(&closed));
    Ok(())
}

/// Says what became of the channel.
fn told(Closed { is_closed_now, channel: view }: &Closed) -> String {
    let (channel, paid_sat) = (&view.channel, view.paid_sat);
    let already = if *is_closed_now { "" } else { " already" };
    match (view.state.as_str(), &view.settlement_txid) {
        ("closing", Some(txid)) => {
            format!("channel {channel} is closing{already} for {paid_sat} sat with {txid}")
        }
        ("closing", None) => format!(
            "channel {channel} is closing{already} for {paid_sat} sat; its settlement is built \
             once that is possible"
        ),
        (state, Some(txid)) => format!("channel {channel} is {state}{already}, with {txid}"),
        (state, None) => format!("channel {channel} is {state}{already}"),
    }
}
