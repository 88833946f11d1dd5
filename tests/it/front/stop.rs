//! A gateway that is asked to stop.

use std::net::TcpStream;

use super::curl::{ask, curl};
use super::gate::{Gate, free_address};
use super::slow_api::{PIECES, Reading, SlowApi};
use crate::support::until;

/// Starts a gateway before an API that ends its answers when it is told to.
async fn slow_gate(more: &str) -> (Gate, SlowApi, String) {
    let (slow, monitor) = (SlowApi::start(), free_address());
    let gate = Gate::start(|config| {
        let (before, rest) = config.split_once("[upstream]\nurl = \"http://").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        let limits = format!("[limits]\n{more}");
        let before = before.replace("[limits]\n", &limits);
        format!(
            "{before}[upstream]\nurl = \"http://{}\"{after}\n[monitor]\nlisten = \"{monitor}\"\n",
            slow.address
        )
    })
    .await;
    (gate, slow, format!("http://{monitor}/readyz"))
}

async fn lets_what_runs_end(name: &str) {
    let (mut gate, slow, readyz) = slow_gate("").await;
    assert_eq!(ask(&readyz, &[]).await.status, 200);
    let begun = Reading::begin(&gate.world.gateway.url("/free/x"), &[]).await;

    gate.signal(name);

    until("no more connections are accepted", async || {
        TcpStream::connect(&gate.world.gateway.host).is_err()
    })
    .await;
    let ended = curl().arg(gate.world.gateway.url("/free/y")).output().unwrap();
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    let ready = ask(&readyz, &[]).await;
    assert_eq!(ready.status, 503);
    assert_eq!((&ready.json()["ready"], &ready.json()["draining"]), (&false.into(), &true.into()));
    assert_eq!(gate.admin("/readyz").await.status, 503);
    slow.end();
    let (text, ended) = begun.end().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(text, PIECES.concat());
    assert!(gate.world.gateway.wait(), "the gateway ends well");
    assert!(!gate.log().contains("were cut off"), "{}", gate.log());
}

#[tokio::test]
async fn what_runs_at_a_sigterm_ends_and_nothing_new_is_taken() {
    lets_what_runs_end("TERM").await;
}

#[tokio::test]
async fn what_runs_at_ctrl_c_ends_and_nothing_new_is_taken() {
    lets_what_runs_end("INT").await;
}

#[tokio::test]
async fn what_runs_for_too_long_is_cut_off() {
    let (mut gate, _slow, _) = slow_gate("drain_secs = 1\n").await;
    let begun = Reading::begin(&gate.world.gateway.url("/free/x"), &[]).await;

    gate.signal("TERM");

    let (text, ended) = begun.end().await;
    assert_eq!((ended.status.code(), text.as_str()), (Some(18), PIECES[0]), "{ended:?}");
    assert!(gate.world.gateway.wait(), "the gateway ends well");
    gate.logged(&["WARN", "some requests did not end in time and were cut off"]).await;
}

#[tokio::test]
async fn a_gateway_that_is_stopped_as_soon_as_it_listens_ends_well() {
    let mut gate = Gate::start(|config| config).await;
    for name in ["TERM", "INT"] {
        gate.signal(name);
        assert!(gate.world.gateway.wait(), "{name}");
        gate.world.gateway.restart();
    }
}
