//! `farebox wallet`

use std::error::Error;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{FeeRate, OutPoint};
use clap::{Args, Subcommand};
use farebox_client::{PayingClient, Policy, Record, Stage};

use super::node::{FileArguments, NodeArguments};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    file: FileArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List your channels
    Channels,
    /// Print the signed refund of a channel, for any node to broadcast after its expiry
    Refund {
        /// The channel: txid:vout of its contract
        channel: OutPoint,
        /// The fee rate in sat/vB
        #[arg(long, value_name = "SAT_PER_VB", default_value_t = 5)]
        fee_rate: u32,
    },
    /// Close a channel for what is spent
    Close {
        /// The channel: txid:vout of its contract
        channel: OutPoint,
        #[command(flatten)]
        node: NodeArguments,
    },
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let file = arguments.file.open()?;
    let channels = file.channels()?;
    let find = |outpoint: OutPoint| {
        let found = channels.iter().find(|record| record.outpoint() == outpoint);
        found.ok_or_else(|| format!("there is no channel {outpoint} in the file"))
    };
    match arguments.command {
        Command::Channels => {
            println!(
                "{:<68} {:<7} {:<7} {:>12} {:>12}  server",
                "channel", "kind", "stage", "locked sat", "paid sat"
            );
            for record in &channels {
                println!("{}", row(record));
            }
        }
        Command::Refund { channel, fee_rate } => {
            let rate = FeeRate::from_sat_per_vb_u32(fee_rate);
            let refund = find(channel)?.refund_transaction(rate)?;
            println!("{}", serialize_hex(&refund));
        }
        Command::Close { channel, node } => {
            let record = find(channel)?;
            let policy = Policy::new(record.contract().terms.kind);
            let client = PayingClient::new(node.node()?, file.clone(), policy)?;
            let reply = client.close_channel(channel).await?;
            match reply.settlement {
                Some(txid) => println!("closing for {} with {txid}", reply.paid),
                None => println!("closing for {}; the settlement is on its way", reply.paid),
            }
        }
    }
    Ok(())
}

/// Returns a channel as a line of the list.
fn row(record: &Record) -> String {
    let contract = record.contract();
    let (stage, paid) = match &record.stage {
        Stage::Funded(_) => ("funded", 0),
        Stage::Held(_) => ("held", 0),
        Stage::Open(purse) => ("open", purse.payment.paid.get()),
        Stage::Closing(purse, _) => ("closing", purse.final_amount().get()),
    };
    let outpoint = record.outpoint().to_string();
    let (kind, capacity) = (contract.terms.kind.as_str(), contract.capacity.get());
    format!("{outpoint:<68} {kind:<7} {stage:<7} {capacity:>12} {paid:>12}  {}", record.origin)
}
