//! `farebox channels`

use std::error::Error;

use bitcoin::OutPoint;
use clap::Args;
use farebox_channel::message::StateName;

use super::desk::{Answer, DeskArguments};
use super::span;
use crate::admin::{ChannelView, Listing, MARKS};

/// The examples in the help.
const EXAMPLES: &str = "\
Examples:
  farebox channels
  farebox channels --state open,closing --within 12h
  farebox channels --json | jq '.total.at_stake_sat'
  farebox channels 4a5e…33b:0";

/// Which channels are shown, and how.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Show this channel with all that is known of it: txid:vout of its contract
    #[arg(value_name = "ID", conflicts_with_all = ["state", "within", "client"])]
    channel: Option<OutPoint>,
    /// List channels in these states only: pending, late, open, closing, settled, lost
    #[arg(long, value_name = "STATES", value_delimiter = ',')]
    state: Vec<StateName>,
    /// List channels only that expire within this time, or have expired: 12h, 3d
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    within: Option<u64>,
    /// List channels of one client's key only, or of keys that begin so
    #[arg(long, value_name = "HEX")]
    client: Option<String>,
    /// Print the gateway's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    desk: DeskArguments,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let desk = arguments.desk.desk()?;
    if let Some(channel) = arguments.channel {
        let path = format!("/channels/{channel}");
        let Answer { text, value } = desk.get::<ChannelView>(&path, &[]).await?;
        print!("{}", if arguments.json { text } else { block(&value) });
        return Ok(());
    }
    let mut query = Vec::new();
    if !arguments.state.is_empty() {
        let states: Vec<&str> = arguments.state.iter().map(|state| state.as_str()).collect();
        query.push(("state", states.join(",")));
    }
    if let Some(within) = arguments.within {
        query.push(("within", within.to_string()));
    }
    if let Some(client) = arguments.client {
        query.push(("client", client));
    }
    let Answer { text, value } = desk.get::<Listing>("/channels", &query).await?;
    if arguments.json {
        print!("{text}");
    } else if value.channels.is_empty() && query.is_empty() {
        println!("there are no channels");
    } else if value.channels.is_empty() {
        println!("there are no such channels");
    } else {
        print!("{}", table(&value));
    }
    Ok(())
}

/// A column of the list: its heading, how wide it is, and whether it has numbers.
struct Column {
    heading: String,
    width: usize,
    is_number: bool,
}

/// Returns channels as a table with a last line for all.
fn table(listing: &Listing) -> String {
    let texts = ["channel", "state", "kind"];
    let numbers = ["capacity sat", "paid sat", "spent msat", "at stake sat"];
    let marks = MARKS.map(|mark| format!("{} in", mark.verb));
    let column = |heading: String, is_number| {
        let width = heading.chars().count();
        Column { heading, width, is_number }
    };
    let mut columns: Vec<Column> = Vec::new();
    columns.extend(texts.map(|heading| column(heading.to_owned(), false)));
    columns.extend(numbers.map(|heading| column(heading.to_owned(), true)));
    columns.push(column("expires in".to_owned(), false));
    columns.extend(marks.map(|heading| column(heading, false)));
    columns.push(column("settlement".to_owned(), false));
    let rows: Vec<Vec<String>> = listing.channels.iter().map(row).collect();
    for row in &rows {
        for (column, cell) in columns.iter_mut().zip(row) {
            column.width = column.width.max(cell.chars().count());
        }
    }
    let headings: Vec<String> = columns.iter().map(|column| column.heading.clone()).collect();
    let mut text = line(&columns, &headings);
    for row in &rows {
        text.push_str(&line(&columns, row));
    }
    let total = listing.total;
    let noun = if total.channels == 1 { "channel" } else { "channels" };
    text.push_str(&format!(
        "{} {noun}: {} sat locked, {} sat paid, {} sat at stake, {} sat lost\n",
        total.channels, total.locked_sat, total.paid_sat, total.at_stake_sat, total.lost_sat
    ));
    for alarm in &listing.alarms {
        text.push_str(&format!("alarm: {alarm}\n"));
    }
    text
}

/// Returns what stands in the row of a channel.
fn row(view: &ChannelView) -> Vec<String> {
    let mut row = vec![view.channel.clone(), view.state.clone(), view.kind.clone()];
    let numbers = [view.capacity_sat, view.paid_sat, view.spent_msat, view.at_stake_sat];
    row.extend(numbers.map(|number| number.to_string()));
    row.push(span::words(view.expires_in_secs));
    row.extend(MARKS.iter().map(|mark| or_dash(view.until(mark).map(span::words))));
    row.push(or_dash(view.settlement_txid.clone()));
    row
}

fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".to_owned())
}

/// Returns cells as a line of a table.
fn line(columns: &[Column], cells: &[String]) -> String {
    let padded = columns.iter().zip(cells).map(|(column, cell)| {
        let width = column.width;
        if column.is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    });
    let line = padded.collect::<Vec<_>>().join("  ");
    format!("{}\n", line.trim_end())
}

/// Returns all that is known of a channel, a line for each thing.
fn block(view: &ChannelView) -> String {
    let mut lines = vec![
        ("channel".to_owned(), view.channel.clone()),
        ("state".to_owned(), view.state.clone()),
        ("kind".to_owned(), view.kind.clone()),
        ("capacity".to_owned(), format!("{} sat", view.capacity_sat)),
        ("paid".to_owned(), format!("{} sat", view.paid_sat)),
        ("spent".to_owned(), format!("{} msat", view.spent_msat)),
        ("credit".to_owned(), format!("{} msat", view.credit_msat)),
        ("at stake".to_owned(), format!("{} sat", view.at_stake_sat)),
        ("lost".to_owned(), format!("{} sat", view.lost_sat)),
        ("expires at".to_owned(), format!("{} (Unix time)", view.expires_at)),
        ("expires in".to_owned(), span::words(view.expires_in_secs)),
    ];
    lines.extend(
        MARKS
            .iter()
            .map(|mark| (format!("{} in", mark.verb), or_dash(view.until(mark).map(span::words)))),
    );
    let fee = view.settlement_fee_sat.map(|fee| format!("{fee} sat"));
    lines.extend([
        ("client key".to_owned(), view.client_key.clone()),
        ("payout address".to_owned(), or_dash(view.payout_address.clone())),
        ("cause".to_owned(), or_dash(view.cause.clone())),
        ("settlement txid".to_owned(), or_dash(view.settlement_txid.clone())),
        ("settlement fee".to_owned(), or_dash(fee)),
        ("mined height".to_owned(), or_dash(view.mined_height.map(|height| height.to_string()))),
        ("spent by".to_owned(), or_dash(view.spent_by.clone())),
    ]);
    if view.is_stale {
        let words = "from a backup; its client has not shown its newest payment since";
        lines.push(("record".to_owned(), words.to_owned()));
    }
    lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}
