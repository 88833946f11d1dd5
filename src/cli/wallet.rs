//! `farebox wallet`

use std::error::Error;
use std::io::{self, IsTerminal, Read, Write};

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, FeeRate, OutPoint};
use clap::{Args, Subcommand};
use farebox_chain::Wallet;
use farebox_channel::Kind;
use farebox_client::{
    Balance, ChannelFile, Invoice, OwnWallet, PayingClient, Policy, Record, Recovery, Refunding,
    Stage, WalletError, Words,
};
use zeroize::Zeroizing;

use super::funds::{FundsArguments, code};
use super::history;
use super::node::{FileArguments, NodeArguments, WalletArguments};
use super::{say, span};

/// The examples in the help.
const EXAMPLES: &str = "\
Examples:
  farebox wallet new
  farebox wallet balance
  farebox wallet history --since 30d > month.csv
  farebox wallet close 4a5e…33b:0
  farebox wallet refund --wait";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    file: FileArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a wallet of your own, for a node that has none
    ///
    /// Prints twelve words. Write them down: with them any wallet (BIP-0084) gets your coins back,
    /// and whoever has them has the coins. The file keeps them sealed with a passphrase, which is
    /// asked for whenever a channel is opened.
    New(NewArguments),
    /// Print a fresh address of your own wallet
    Address {
        #[command(flatten)]
        funds: FundsArguments,
    },
    /// Print what your own wallet has
    Balance {
        #[command(flatten)]
        funds: FundsArguments,
    },
    /// List your channels, and the contracts that another wallet was asked to pay (`asked`)
    Channels,
    /// List the requests that you have paid for
    ///
    /// Each with its time in Unix seconds, its server, method and path, the channel that has paid,
    /// the price that was agreed to, what it has cost in the end, and how it has ended: `paid`, or
    /// `unknown` where its answer was lost or goes on. Rows are kept for a year.
    History(history::Arguments),
    /// Take back the coins of all channels that have expired, without the gateway
    ///
    /// Broadcasts the refund of each channel whose expiry the median time past is beyond, unless
    /// its contract is spent, and replaces it by dearer ones until it is mined. With a channel,
    /// nothing is broadcast: its signed refund is printed, for any node to broadcast after the
    /// expiry.
    Refund {
        /// The channel: txid:vout of its contract
        channel: Option<OutPoint>,
        /// The fee rate in sat/vB of a refund that is printed
        #[arg(long, value_name = "SAT_PER_VB", default_value_t = 5, requires = "channel")]
        fee_rate: u32,
        /// Go on until all refunds are mined
        #[arg(long, conflicts_with = "channel")]
        wait: bool,
        #[command(flatten)]
        node: NodeArguments,
        #[command(flatten)]
        bitcoind: WalletArguments,
    },
    /// Print what gets the coins of a channel back with a node alone, as JSON
    ///
    /// A file with the same is made beside the channel file before each contract is shown. It
    /// holds a secret key: whoever has it can take the coins, once the channel has expired.
    Export {
        /// The channel: txid:vout of its contract
        channel: OutPoint,
    },
    /// Close a channel for what is spent
    Close {
        /// The channel: txid:vout of its contract
        channel: OutPoint,
        #[command(flatten)]
        node: NodeArguments,
    },
}

#[derive(Debug, Args)]
struct NewArguments {
    /// Read the words of an older wallet from standard input, instead of making new ones
    #[arg(long, requires = "birthday")]
    restore: bool,
    /// The block from which on coins are looked for
    #[arg(long, value_name = "HEIGHT", requires = "restore")]
    birthday: Option<u32>,
    #[command(flatten)]
    funds: FundsArguments,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let file = arguments.file.open()?;
    let mut stdout = io::stdout();
    match arguments.command {
        Command::New(arguments) => new(arguments, file).await?,
        Command::Address { funds } => show(&funds.own(&file)?.fresh_address().await?)?,
        Command::Balance { funds } => {
            let Balance { free, locked, immature } = funds.own(&file)?.balance().await?;
            writeln!(stdout, "{:>15} sat free", free.to_sat())?;
            let locked = locked.to_sat();
            writeln!(stdout, "{locked:>15} sat in contracts that are not mined yet")?;
            writeln!(stdout, "{:>15} sat mined, and not spendable yet", immature.to_sat())?;
        }
        Command::Channels => list(&file)?,
        Command::History(arguments) => history::run(&arguments, &file)?,
        Command::Refund { channel: Some(channel), fee_rate, .. } => {
            let rate = FeeRate::from_sat_per_vb_u32(fee_rate);
            let refund = find(&file, channel)?.refund_transaction(rate)?;
            writeln!(stdout, "{}", serialize_hex(&refund))?;
        }
        Command::Refund { channel: None, wait, node, bitcoind, .. } => {
            let node = node.node(bitcoind.name().as_deref())?;
            let client = PayingClient::new(node, file, Policy::new(Kind::Cltv))?;
            let refunds = client.refund_due().await?;
            let told = tell_refunds(&refunds);
            if wait {
                // Also where nobody reads any more.
                client.refund_all().await?;
            }
            told?;
        }
        Command::Export { channel } => {
            write!(stdout, "{}", Recovery::of(&find(&file, channel)?)?.document())?;
        }
        Command::Close { channel, node } => close(file, channel, &node).await?,
    }
    Ok(())
}

/// Prints the channels, and what somebody was asked to pay.
fn list(file: &ChannelFile) -> Result<(), Box<dyn Error>> {
    let mut stdout = io::stdout();
    writeln!(
        stdout,
        "{:<68} {:<7} {:<7} {:>12} {:>12}  server",
        "channel", "kind", "stage", "locked sat", "paid sat"
    )?;
    for record in &file.channels()? {
        writeln!(stdout, "{}", row(record))?;
    }
    for (server, invoice) in &file.invoices()? {
        writeln!(stdout, "{}", unpaid_row(server, invoice))?;
    }
    Ok(())
}

/// Prints what was refunded.
fn tell_refunds(refunds: &[Refunding]) -> io::Result<()> {
    let mut stdout = io::stdout();
    if refunds.is_empty() {
        writeln!(stdout, "nothing has expired that is not spent")?;
    }
    for Refunding { channel, txid, fee } in refunds {
        writeln!(stdout, "{channel} is refunded with {txid}, for {} sat", fee.to_sat())?;
    }
    Ok(())
}

/// Closes a channel, and prints for what.
async fn close(
    file: ChannelFile,
    channel: OutPoint,
    node: &NodeArguments,
) -> Result<(), Box<dyn Error>> {
    let record = find(&file, channel)?;
    let terms = &record.contract().terms;
    if matches!(record.stage, Stage::Funded(_) | Stage::Held(_)) {
        let expiry = span::date(terms.expiry.get().into());
        let way = match file.may_be_shown(&channel)? {
            true => "`farebox pay` goes on with it until it expires",
            false => "its gateway has refused it",
        };
        return Err(format!(
            "the channel {channel} has never opened, so there is nothing to close: {way}, and \
             `farebox wallet refund` gets its coins back after {expiry}"
        )
        .into());
    }
    let client = PayingClient::new(node.node(None)?, file, Policy::new(terms.kind))?;
    let reply = client.close_channel(channel).await?;
    let mut stdout = io::stdout();
    match reply.settlement {
        Some(txid) => writeln!(stdout, "closing for {} with {txid}", reply.paid)?,
        None => writeln!(stdout, "closing for {}; the settlement is on its way", reply.paid)?,
    }
    Ok(())
}

/// Makes a wallet, and prints its words.
async fn new(arguments: NewArguments, file: ChannelFile) -> Result<(), Box<dyn Error>> {
    let NewArguments { restore, birthday, funds } = arguments;
    let words = if restore {
        let mut text = Zeroizing::new(String::new());
        io::stdin().read_to_string(&mut text)?;
        Words::read(&text)?
    } else {
        Words::random()?
    };
    if file.has_wallet()? {
        return Err(WalletError::Exists.into());
    }
    let passphrase = funds.passphrase.choose()?;
    if !restore {
        // Before anything is on record, so that no wallet is made whose words nobody has seen.
        let mut stdout = io::stdout();
        for word in words.iter() {
            writeln!(stdout, "{word}")?;
        }
        stdout.flush()?;
    }
    OwnWallet::create(funds.node.node(None)?, file, words, passphrase, birthday).await?;
    if restore {
        say("farebox: the wallet is restored; `farebox wallet balance` looks for its coins");
    } else {
        say("farebox: write these words down, in this order. They alone get your coins back, and \
             whoever has them has the coins.");
    }
    Ok(())
}

/// Prints an address, and for a person as something to scan.
fn show(address: &Address) -> Result<(), Box<dyn Error>> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{address}")?;
    if stdout.is_terminal() {
        writeln!(stdout, "{}", code(&address.to_qr_uri())?)?;
    }
    Ok(())
}

fn find(file: &ChannelFile, channel: OutPoint) -> Result<Record, Box<dyn Error>> {
    let found = file.channels()?.into_iter().find(|record| record.outpoint() == channel);
    Ok(found.ok_or_else(|| format!("there is no channel {channel} in the file"))?)
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

/// Returns what was asked for as such a line, with its address.
fn unpaid_row(server: &str, Invoice { address, amount }: &Invoice) -> String {
    let (address, amount) = (address.to_string(), amount.to_sat());
    format!("{address:<68} {:<7} {:<7} {amount:>12} {:>12}  {server}", "cltv", "asked", 0)
}
