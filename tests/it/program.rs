//! The commands, as people run them.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, Denomination, Transaction};
use farebox_chain::Chain;
use serde_json::Value;

use crate::support::{PRICE_MSAT, World, terminate, until};

/// Returns the program with the options of a test's client.
pub(crate) fn client(world: &World, arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_farebox"));
    program
        .args(arguments)
        .env("FAREBOX_BITCOIND_URL", world.node.url())
        .env("FAREBOX_COOKIE_FILE", world.node.cookie_file())
        .env("FAREBOX_WALLET", "client")
        .env("FAREBOX_CHANNELS", world.file("channels.sqlite"));
    program
}

pub(crate) async fn run(mut program: Command) -> Output {
    tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Returns the address and the amount in bitcoin of a line that asks for a payment, or for a signature.
pub(crate) fn invoice(line: &str) -> Option<(String, String)> {
    let (_, asked) = line.split_once(" exactly ")?;
    let (sat, address) = asked.split_once(" sat to ")?;
    let amount = Amount::from_sat(sat.parse().ok()?);
    Some((address.to_owned(), amount.to_string_in(Denomination::Bitcoin)))
}

async fn pay_holds_the_refund_first_and_uses_its_channel_again(kind: &str) {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/paid/x");

    let mut first = client(&world, &["pay", &url, "--yes", "--kind", kind, "--print-refund"]);
    // Nobody else reads what is for this machine.
    first.env("http_proxy", "http://127.0.0.1:1").env_remove("no_proxy").env_remove("NO_PROXY");
    let first = run(first).await;
    assert!(first.status.success(), "{first:?}");
    assert_eq!(text(&first.stdout), "hello\n");
    let words = text(&first.stderr);
    let refund = words.lines().find(|line| line.starts_with("02000000")).unwrap();
    let refund: Transaction = deserialize_hex(refund).unwrap();
    let place = |what: &str| words.find(what).unwrap_or_else(|| panic!("{what}: {words}"));
    assert!(place("the refund is held") < place("the channel is open"));

    let second = run(client(&world, &["pay", &url, "--kind", kind])).await;
    assert!(second.status.success(), "{second:?}");
    assert!(!text(&second.stderr).contains("contract"), "{second:?}");
    let listed = run(client(&world, &["wallet", "channels"])).await;
    let channel = refund.input[0].previous_output.to_string();
    let line = text(&listed.stdout).lines().find(|line| line.starts_with(&channel)).unwrap();
    assert!(line.contains(kind) && line.contains("open"), "{line}");

    let again = run(client(&world, &["wallet", "refund", &channel])).await;
    let again: Transaction = deserialize_hex(text(&again.stdout).trim()).unwrap();
    assert_eq!(again.input[0].previous_output, refund.input[0].previous_output);
    assert_eq!(again.lock_time, refund.lock_time);
    let closed = run(client(&world, &["wallet", "close", &channel])).await;
    assert!(text(&closed.stdout).starts_with("closing for 400 sat with "), "{closed:?}");
}

#[tokio::test]
async fn pay_works_through_a_refund_channel() {
    pay_holds_the_refund_first_and_uses_its_channel_again("refund").await;
}

#[tokio::test]
async fn pay_works_through_a_cltv_channel() {
    pay_holds_the_refund_first_and_uses_its_channel_again("cltv").await;
}

#[tokio::test]
async fn pay_says_in_one_sentence_why_it_does_not() {
    let world = World::start().await;
    let url = world.gateway.url("/paid/x");
    let dear = world.gateway.url("/dear/x");
    let cases = [
        (vec!["pay", &dear, "--max-price", "4999"], "costs 5000000 msat, and at most 4999000 msat"),
        (vec!["pay", &url, "--capacity", "10"], "the gateway takes capacities from 50000 sat"),
        (vec!["pay", &url, "--lifetime", "10"], "the gateway takes lifetimes from 172800 s"),
        (vec!["pay", &url, "--budget", "399"], "400000 msat would be paid in all by then"),
        (vec!["pay", &url, "--budget-day", "399"], "400000 msat would be paid today (UTC)"),
        (vec!["pay", &url, "--budget-host", "399"], "400000 msat would be paid to this server"),
        (vec!["pay", &url, "--max-first-payment", "399"], "is 400 sat, and at most 399 sat"),
        (vec!["pay", &url, "--max-capacity", "49999"], "would lock 50000 sat, and at most 49999"),
        (vec!["pay", &url, "--max-lifetime", "9"], "for 172800 s, and at most 9 s are allowed"),
        (vec!["pay", "http://example.com/"], "neither https nor on this machine"),
        (vec!["pay", "http://127.0.0.1:1/"], "error sending request"),
        (vec!["pay", &url, "--yes", "--wallet", "gateway"], "the wallet has 0 sat"),
        (vec!["pay", &url, "--bitcoind-url", "http://127.0.0.1:1"], "bitcoind does not answer"),
        (vec!["wallet", "refund", "nonsense"], "invalid value 'nonsense'"),
    ];
    for (arguments, expected) in cases {
        let ended = run(client(&world, &arguments)).await;
        assert!(!ended.status.success(), "{arguments:?}");
        assert!(text(&ended.stderr).contains(expected), "{arguments:?}: {ended:?}");
    }
    assert!(world.node.node(None).mempool().await.unwrap().is_empty(), "no coin has moved");
    assert_eq!(world.api.hits(), 0);
}

#[tokio::test]
async fn pay_sends_what_curl_would_and_fails_when_the_service_does() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let echo = world.gateway.url("/paid/echo");
    let missing = world.gateway.url("/paid/missing");

    let fields = ["-X", "POST", "-H", "X-Mine: yes", "-d", "a body"];
    let echoed = run(client(&world, &[&["pay", &echo, "--yes"][..], &fields].concat())).await;
    assert_eq!(text(&echoed.stdout), "a body", "{echoed:?}");
    let asked = world.api.asked().remove(0);
    assert_eq!(
        (asked.method.as_str(), &asked.headers["x-mine"]),
        ("POST", &"yes".parse().unwrap())
    );
    let failed = run(client(&world, &["pay", &missing])).await;
    assert!(!failed.status.success());
    assert!(text(&failed.stderr).contains("404"), "{failed:?}");
}

#[tokio::test]
async fn the_demo_ends_with_a_table_that_adds_up_and_leaves_nothing_running() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_farebox"));
    program.args(["demo", "--once", "--json", "--requests", "20"]);

    let ended = run(program).await;

    assert!(ended.status.success(), "{ended:?}");
    let lines: Vec<&str> = text(&ended.stdout).lines().collect();
    let summary: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    let channels = summary["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 2);
    for (channel, kind) in channels.iter().zip(["refund", "cltv"]) {
        let sat = |name: &str| channel[name].as_u64().unwrap();
        assert_eq!(channel["kind"], kind);
        assert_eq!(channel["requests"], 20);
        assert_eq!(sat("paid_sat"), 430, "20 × {} msat", 21_500);
        assert_eq!(sat("client_sat"), sat("capacity_sat") - sat("paid_sat"));
        let parts = sat("client_sat") + sat("gateway_sat") + sat("fee_sat");
        assert_eq!(sat("capacity_sat"), parts);
        assert_eq!(channel["settlement_txid"].as_str().unwrap().len(), 64);
    }
    assert!(!is_anything_left(&demo_folder(&ended)));
}

#[tokio::test]
async fn a_demo_that_is_interrupted_leaves_nothing_running() {
    let started = Command::new(env!("CARGO_BIN_EXE_farebox"))
        .args(["demo", "--once", "--requests", "100000", "--kind", "cltv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = started.id();
    until("the demo's node runs", async || !children(pid).is_empty()).await;
    let nodes = children(pid);

    terminate(pid);
    let ended = tokio::task::spawn_blocking(|| started.wait_with_output().unwrap()).await.unwrap();

    assert!(!ended.status.success());
    assert!(text(&ended.stderr).contains("farebox: stopped"), "{ended:?}");
    until("the node is gone", async || {
        nodes.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    })
    .await;
}

/// Returns the processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let listed = std::fs::read_to_string(file).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Returns the port of the demo's node, which only its own processes name.
fn demo_folder(ended: &Output) -> String {
    let url = text(&ended.stdout).lines().find(|line| line.contains("http://127.0.0.1:")).unwrap();
    url.trim().split(' ').next().unwrap().to_owned()
}

/// Tells whether anybody still listens at a URL.
fn is_anything_left(url: &str) -> bool {
    std::net::TcpStream::connect(url.trim_start_matches("http://")).is_ok()
}

#[tokio::test]
async fn the_example_paywall_serves_a_paid_request() {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().parent().unwrap().join("examples/paywall");

    let ended = run(Command::new(example)).await;

    assert!(ended.status.success(), "{ended:?}");
    assert!(text(&ended.stdout).contains("receipt: paid=400, spent=2500, "), "{ended:?}");
}

#[test]
fn shells_complete_the_command_line_and_the_manual_has_a_page_for_each_command() {
    let farebox = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_farebox")).args(arguments).output().unwrap()
    };
    let folder = tempfile::tempdir().unwrap();

    let script = farebox(&["completions", "bash"]);
    let path = folder.path().join("farebox.bash");
    std::fs::write(&path, &script.stdout).unwrap();
    let read = Command::new("bash").arg("-n").arg(&path).output().unwrap();
    assert!(script.status.success() && read.status.success(), "{read:?}");
    assert!(text(&script.stdout).contains("--passphrase-file"));

    let pages = folder.path().join("man1");
    let written = farebox(&["manual", pages.to_str().unwrap()]);
    assert!(written.status.success(), "{written:?}");
    for page in ["farebox.1", "farebox-pay.1", "farebox-wallet-refund.1"] {
        let words = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(words.contains(".SH NAME"), "{page}: {words}");
    }
}

#[test]
fn every_command_explains_itself() {
    let explained = |arguments: &[&str]| {
        let ended = Command::new(env!("CARGO_BIN_EXE_farebox")).args(arguments).output().unwrap();
        assert!(ended.status.success(), "{arguments:?}");
        let words = text(&ended.stdout).to_owned();
        assert!(words.contains("Usage: farebox"), "{arguments:?}");
        words
    };
    explained(&["--help"]);
    for command in ["serve", "demo"] {
        explained(&[command, "--help"]);
    }
    let words = explained(&["pay", "--help"]);
    assert!(
        words.contains("Examples:\n  farebox pay") && words.contains("Exit codes:\n"),
        "{words}"
    );
    for command in ["channels", "close", "settle", "export-settlements"] {
        let words = explained(&[command, "--help"]);
        assert!(words.contains(&format!("Examples:\n  farebox {command}")), "{words}");
        assert!(words.contains("--socket"), "{words}");
    }
    assert_eq!(PRICE_MSAT % 1_000, 500, "the tests' price is not a whole number of satoshi");
}
