//! `farebox demo`

use std::error::Error;
use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use farebox_channel::Kind;
use serde::Serialize;

use crate::demo::{Demo, DemoError, Outcome, Plan, Stage};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many requests to pay for on each channel
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,
    /// Which kinds of contract to show
    #[arg(long, value_enum, default_value_t = Kinds::Both)]
    kind: Kinds,
    /// Exit after the settlements, on a terminal too
    #[arg(long)]
    once: bool,
    /// Print a summary as JSON, as the last line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kinds {
    Refund,
    Cltv,
    Both,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    channels: &'a [Outcome],
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let kinds = match arguments.kind {
        Kinds::Refund => vec![Kind::Refund],
        Kinds::Cltv => vec![Kind::Cltv],
        Kinds::Both => Kind::ALL.to_vec(),
    };
    let stage = Stage::new(|line| println!("{line}"));
    let plan = Plan { requests: arguments.requests, kinds };
    let shown = async {
        let demo = Demo::start(plan, stage.clone()).await?;
        let outcomes = demo.run().await?;
        Ok::<_, DemoError>((demo, outcomes))
    };
    let (demo, outcomes) = tokio::select! {
        shown = shown => shown?,
        () = super::stopped() => return Err("stopped; nothing is left running".into()),
    };
    stage.table(&outcomes);
    let stays = std::io::stdout().is_terminal() && !arguments.once;
    if stays {
        println!();
        println!("Everything is still running. See what an unpaid request gets:");
        println!("  curl -i {}", demo.url());
        println!("Pay for one from another terminal:");
        println!("  {}", demo.pay_command());
        println!("Ctrl-C ends it all.");
        super::stopped().await;
        println!();
    }
    demo.end().await;
    if arguments.json {
        println!("{}", serde_json::to_string(&Summary { channels: &outcomes })?);
    }
    Ok(())
}
