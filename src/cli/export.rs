//! `farebox export-settlements`

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

use super::desk::{Answer, DeskArguments, write_private};
use crate::admin::{ExportRequest, Exported, Outcome};

/// The examples in the help.
const EXAMPLES: &str = "\
Examples:
  farebox export-settlements --output settlements.json
  farebox export-settlements --fee-rate 5 --fee-rate 100
  bitcoin-cli sendrawtransaction \"$(jq -r '.[0].transaction' settlements.json)\"";

/// What is signed, and where it goes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// A fee rate; may be given several times
    #[arg(
        long,
        value_name = "SAT_PER_VB",
        default_values_t = [2, 10, 50],
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    fee_rate: Vec<u32>,
    /// Write to this file instead, which only its owner can read
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    desk: DeskArguments,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let desk = arguments.desk.desk()?;
    let request = ExportRequest { rates_sat_per_vb: arguments.fee_rate };
    let Answer { text, value } =
        desk.post::<Vec<Exported>>("/export-settlements", &request).await?;
    let Some(path) = arguments.output else {
        print!("{text}");
        return Ok(());
    };
    write_private(&path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
    let signed = value.iter().filter(|it| matches!(it.outcome, Outcome::Signed { .. })).count();
    let left_out = value.len().saturating_sub(signed);
    println!("{signed} settlements in {}, {left_out} not worth their fee", path.display());
    Ok(())
}
