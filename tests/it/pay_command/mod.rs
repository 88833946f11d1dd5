//! `farebox pay` as people and scripts run it: its flags, its question, what it tells, and how it ends.

mod asking;
mod codes;
mod curl;
mod dry_run;
mod telling;
pub(crate) mod terminal;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::program::{client, run, text};
use crate::support::World;

/// Returns `farebox pay` of a path at the gateway, which asks nothing.
fn pay(world: &World, path: &str, arguments: &[&str]) -> Command {
    let url = world.gateway.url(path);
    client(world, &[&["pay", &url, "--yes"], arguments].concat())
}

/// Runs it, with words on its standard input.
async fn run_with_input(mut program: Command, words: &str) -> Output {
    use std::io::Write;
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = program.spawn().unwrap();
    program.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
    tokio::task::spawn_blocking(move || program.wait_with_output().unwrap()).await.unwrap()
}

/// Opens a channel, so that later requests are answered at once.
async fn open(world: &World) {
    let mining = world.keep_mining();
    let opened = run(pay(world, "/paid/x", &[])).await;
    drop(mining);
    assert!(opened.status.success(), "{opened:?}");
}

/// Returns the last line as JSON.
pub(crate) fn last_json(words: &[u8]) -> Value {
    serde_json::from_str(text(words).lines().last().unwrap()).unwrap()
}

/// Returns how many satoshi the client's wallet has.
async fn balance(world: &World) -> u64 {
    let coins: f64 = world.wallet().call("getbalance", serde_json::json!([])).await.unwrap();
    format!("{:.0}", coins * 1e8).parse().unwrap()
}
