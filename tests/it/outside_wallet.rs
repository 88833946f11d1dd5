//! Contracts paid by a wallet that the program cannot reach: bitcoind's, by hand.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use bitcoin::Address;
use farebox::regtest::Regtest;
use farebox_chain::{Chain, Wallet};
use farebox_channel::Kind;
use farebox_client::{ChannelFile, Stage};
use serde_json::{Value, json};

use crate::program::{self, client, run, text};
use crate::support::{Gateway, Tap, World, set_median_time_past, until};

/// Starts `farebox pay` for a wallet elsewhere, and returns what it asks for as soon as it does.
async fn pay(world: &World, arguments: &[&str]) -> (Child, Vec<String>) {
    let back = world.wallet().fresh_address().await.unwrap().to_string();
    let url = world.gateway.url("/paid/x");
    let mut program = client(world, &["pay", &url, "--outside", &back]);
    program.args(arguments);
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = program.spawn().unwrap();
    let mut words = BufReader::new(program.stderr.take().unwrap());
    let told = tokio::task::spawn_blocking(move || {
        let mut told = Vec::new();
        let is_last = |line: &String| line.starts_with("bitcoin:") || line.contains("do NOT send");
        while !told.last().is_some_and(is_last) {
            let mut line = String::new();
            assert_ne!(words.read_line(&mut line).unwrap(), 0, "{told:?}");
            told.push(line.trim().to_owned());
        }
        // Whoever hangs up on the rest would end the program.
        std::thread::spawn(move || std::io::copy(&mut words, &mut std::io::sink()));
        told
    });
    (program, told.await.unwrap())
}

/// Returns the address and the amount in bitcoin that was shown.
fn invoice(told: &[String]) -> (String, String) {
    told.iter().find_map(|line| program::invoice(line)).unwrap()
}

/// Has somebody asked by a program that is killed then, and returns what it asks for.
async fn cut_off(world: &World, arguments: &[&str]) -> Vec<String> {
    let (mut program, told) = pay(world, arguments).await;
    program.kill().unwrap();
    program.wait().unwrap();
    told
}

/// A world in which somebody was asked to pay, and whose program and gateway are gone since.
async fn deserted(mut world: World) -> (World, Vec<String>) {
    let told = cut_off(&world, &[]).await;
    world.gateway.kill();
    (world, told)
}

/// Reads what was saved before an address was shown.
fn recovery(world: &World, address: &str) -> Value {
    let folder = world.file("channels.sqlite.recovery");
    let file = std::fs::read_to_string(folder.join(format!("{address}.json"))).unwrap();
    serde_json::from_str(&file).unwrap()
}

/// Returns how many blocks were fetched.
fn looked(tap: &Tap) -> usize {
    tap.calls().iter().filter(|method| *method == "getblock").count()
}

async fn ended(program: Child) -> String {
    let ended = tokio::task::spawn_blocking(move || program.wait_with_output().unwrap());
    text(&ended.await.unwrap().stdout).to_owned()
}

#[tokio::test]
async fn any_wallet_funds_a_channel_by_paying_an_address() {
    let world = World::start().await;
    let (program, told) = pay(&world, &[]).await;
    let (address, amount) = invoice(&told);

    let mining = world.keep_mining();
    let sent = world.wallet().call::<String>("sendtoaddress", json!([address, amount])).await;
    sent.unwrap();
    let answer = ended(program).await;
    drop(mining);

    assert_eq!(answer, "hello\n");
    let record = ChannelFile::open(&world.file("channels.sqlite")).unwrap();
    let record = record.channels().unwrap().remove(0);
    assert!(matches!(record.stage, Stage::Open(_)));
    assert_eq!(record.contract().terms.address().to_string(), address);
}

#[tokio::test]
async fn an_address_that_was_paid_after_the_program_was_killed_is_found_again() {
    let world = World::start().await;
    let (address, amount) = invoice(&cut_off(&world, &[]).await);
    let sent = world.wallet().call::<String>("sendtoaddress", json!([address, amount])).await;
    sent.unwrap();
    world.mine(1).await;

    let url = world.gateway.url("/paid/x");
    let back = world.wallet().fresh_address().await.unwrap().to_string();
    let again = client(&world, &["pay", &url, "--outside", &back]);
    let again = run(again).await;

    assert_eq!(text(&again.stdout), "hello\n", "{again:?}");
    assert!(!text(&again.stderr).contains("pay exactly"), "nobody is asked twice: {again:?}");
    let file = ChannelFile::open(&world.file("channels.sqlite")).unwrap();
    let records = file.channels().unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].contract().terms.address().to_string(), address);
}

#[tokio::test]
async fn what_nobody_pays_is_waited_for_no_longer_than_wished_and_is_listed() {
    let world = World::start().await;
    let (url, back) = (world.gateway.url("/paid/x"), world.wallet().fresh_address().await.unwrap());
    let back = back.to_string();
    let tap = Tap::start(&world.node.url());
    let arguments = ["pay", &url, "--outside", &back, "--max-wait", "1s", "--json"];
    let pay = || {
        let mut program = client(&world, &arguments);
        program.env("FAREBOX_BITCOIND_URL", tap.url());
        run(program)
    };

    let ended = pay().await;

    assert_eq!(ended.status.code(), Some(8), "{ended:?}");
    let listed = run(client(&world, &["wallet", "channels"])).await;
    let line = text(&listed.stdout).lines().nth(1).unwrap().to_owned();
    let words: Vec<_> = line.split_whitespace().collect();
    let address = words[0].parse::<Address<_>>().unwrap().assume_checked();
    assert!(text(&ended.stderr).contains(&address.to_string()), "{ended:?}: {line}");
    assert_eq!(words[1..5], ["cltv", "asked", "50000", "0"], "{line}");

    // Each run looks at the blocks that are new, and at a few that a reorg might change.
    world.node.mine(60).await.unwrap();
    assert_eq!(pay().await.status.code(), Some(8));
    let before = looked(&tap);
    assert!(before >= 60, "{before}");
    assert_eq!(pay().await.status.code(), Some(8));
    assert!(looked(&tap) - before < 20, "{before} and {}", looked(&tap));
}

#[tokio::test]
async fn an_address_that_was_paid_after_everybody_has_gone_is_refunded_by_bitcoind_alone() {
    let (world, told) = deserted(World::start().await).await;
    let (address, amount) = invoice(&told);
    let contract = world.wallet().call::<String>("sendtoaddress", json!([address, amount])).await;
    let contract = contract.unwrap();
    world.node.mine(1).await.unwrap();
    let recovery = recovery(&world, &address);

    let node = world.node.node(None);
    let told: Value =
        node.call("getdescriptorinfo", json!([recovery["descriptor"]])).await.unwrap();
    let checksum = told["checksum"].as_str().unwrap();
    let descriptor = format!("{}#{checksum}", recovery["descriptor"].as_str().unwrap());
    let _made: Value = node.call("createwallet", json!(["rescue", false, true])).await.unwrap();
    let rescue = world.node.node(Some("rescue"));
    let import = json!([[{ "desc": descriptor, "timestamp": 0 }]]);
    let _imported: Value = rescue.call("importdescriptors", import).await.unwrap();
    let expiry = recovery["valid_after"].as_u64().unwrap();
    set_median_time_past(&world.node, expiry + 1).await;
    let coins: Vec<Value> = rescue.call("listunspent", json!([])).await.unwrap();
    assert_eq!(coins[0]["txid"], contract);
    let input = json!([{
        "txid": contract, "vout": coins[0]["vout"], "sequence": 0xffff_fffd_u32
    }]);
    let back = world.wallet().fresh_address().await.unwrap();
    let output = json!([{ back.to_string(): 0.0001 }]);
    let psbt: Value = rescue.call("createpsbt", json!([input, output, expiry])).await.unwrap();
    let signed: Value = rescue.call("walletprocesspsbt", json!([psbt])).await.unwrap();
    assert_eq!(signed["complete"], true, "{signed}");
    let sent = node.call::<String>("sendrawtransaction", json!([signed["hex"], 0])).await;
    assert!(sent.is_ok(), "{sent:?}");
}

async fn a_psbt_funds_a_channel(kind: &str) {
    let world = World::start().await;
    let (mut program, told) = pay(&world, &["--psbt", "--kind", kind]).await;
    let (address, amount) = invoice(&told);
    let wallet = world.wallet();
    let output = json!([{ address.clone(): amount }]);
    let options = json!({ "change_type": "bech32", "replaceable": kind == "cltv" });
    let made: Value =
        wallet.call("walletcreatefundedpsbt", json!([[], output, 0, options])).await.unwrap();
    let signed: Value = wallet.call("walletprocesspsbt", json!([made["psbt"]])).await.unwrap();
    assert!(world.node.node(None).mempool().await.unwrap().is_empty(), "nothing was sent");
    let is_scanned = told.iter().any(|line| line.contains("bitcoin:"));
    assert!(!is_scanned, "a wallet that scans it would send it: {told:?}");

    let mining = world.keep_mining();
    let mut stdin = program.stdin.take().unwrap();
    writeln!(stdin, "{}", signed["psbt"].as_str().unwrap()).unwrap();
    let answer = ended(program).await;
    drop(mining);

    assert_eq!(answer, "hello\n");
    let file = ChannelFile::open(&world.file("channels.sqlite")).unwrap();
    let contract = file.channels().unwrap().remove(0).contract().clone();
    let address: Address<_> = address.parse().unwrap();
    assert_eq!(contract.terms.address(), address.assume_checked());
    assert_eq!(contract.terms.kind.as_str(), kind);
    until("the contract is mined", async || {
        world.node.node(None).confirmed(contract.outpoint).await.unwrap().is_some()
    })
    .await;
}

#[tokio::test]
async fn a_psbt_funds_a_refund_channel_before_anybody_has_seen_it() {
    a_psbt_funds_a_channel("refund").await;
}

#[tokio::test]
async fn a_psbt_funds_a_cltv_channel() {
    a_psbt_funds_a_channel("cltv").await;
}

#[tokio::test]
async fn a_psbt_that_nobody_has_given_is_asked_for_again_and_counts_once() {
    let world = World::start().await;
    let first = invoice(&cut_off(&world, &["--psbt", "--kind", "cltv"]).await);

    assert_eq!(invoice(&cut_off(&world, &["--psbt", "--kind", "cltv"]).await), first);
    let file = ChannelFile::open(&world.file("channels.sqlite")).unwrap();
    assert_eq!(file.invoices().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refund_channel_is_not_funded_by_an_address() {
    let world = World::start().await;
    let back = world.wallet().fresh_address().await.unwrap().to_string();
    let url = world.gateway.url("/paid/x");
    let program = client(&world, &["pay", &url, "--outside", &back, "--kind", "refund"]);

    let refused = run(program).await;

    let words = text(&refused.stderr);
    assert!(
        words.ends_with("a `refund` contract is funded by a PSBT, not by an address\n"),
        "{words}"
    );
    assert!(!words.contains("bitcoin:"), "nobody is asked to pay");
    let both = ["pay", &url, "--outside", &back, "--wallet", "client"];
    let both = run(client(&world, &both)).await;
    assert!(text(&both.stderr).contains("cannot be used with '--wallet <NAME>'"), "{both:?}");
}

#[tokio::test]
async fn what_was_paid_besides_comes_back_after_the_expiry_without_anybody() {
    let (world, told) = deserted(World::start().await).await;
    let (address, amount) = invoice(&told);
    for _ in 0..2 {
        let sent = world.wallet().call::<String>("sendtoaddress", json!([address, amount])).await;
        sent.unwrap();
    }
    world.node.mine(1).await.unwrap();
    let recovery = recovery(&world, &address);
    set_median_time_past(&world.node, recovery["valid_after"].as_u64().unwrap() + 1).await;

    let refunded = run(client(&world, &["wallet", "refund"])).await;

    let told = text(&refunded.stdout);
    assert_eq!(
        told.lines().filter(|line| line.contains(" is refunded with ")).count(),
        2,
        "{told}"
    );
    assert_eq!(world.node.node(None).mempool().await.unwrap().len(), 2);

    // One that waits for a block then, and one that is sent later still.
    for _ in 0..2 {
        let sent = world.wallet().call::<String>("sendtoaddress", json!([address, amount])).await;
        let sent = sent.unwrap();
        let early = run(client(&world, &["wallet", "refund"])).await;
        assert!(!text(&early.stdout).contains(&sent), "it is in no block: {early:?}");
        world.node.mine(1).await.unwrap();
        let refunded = run(client(&world, &["wallet", "refund"])).await;
        assert!(text(&refunded.stdout).contains(&sent), "{refunded:?}");
        world.node.mine(1).await.unwrap();
    }
}

#[tokio::test]
async fn less_than_was_asked_for_is_no_channel() {
    let world = World::start().await;
    let (program, told) = pay(&world, &[]).await;
    let (address, amount) = invoice(&told);
    let sent = world.wallet().call::<String>("sendtoaddress", json!([address, 0.000_01])).await;
    sent.unwrap();
    world.mine(1).await;

    let mining = world.keep_mining();
    let sent = world.wallet().call::<String>("sendtoaddress", json!([address, amount])).await;
    let (sent, answer) = (sent.unwrap(), ended(program).await);
    drop(mining);

    assert_eq!(answer, "hello\n");
    let file = ChannelFile::open(&world.file("channels.sqlite")).unwrap();
    let [record] = file.channels().unwrap().try_into().unwrap();
    assert_eq!(record.outpoint().txid.to_string(), sent);
}

#[tokio::test]
async fn it_is_told_where_a_payment_may_be_in_a_block_that_the_node_has_pruned() {
    let node = Regtest::start_with("mempooltruc=enforce\nprune=1\nfastprune=1").await.unwrap();
    let (world, told) =
        deserted(World::start_on(node, Gateway::start, |config| config).await).await;
    let (address, amount) = invoice(&told);
    let expiry = recovery(&world, &address)["valid_after"].as_u64().unwrap();
    world.node.mine(700).await.unwrap();
    let _height: u32 = world.node.node(None).call("pruneblockchain", json!([420])).await.unwrap();
    set_median_time_past(&world.node, expiry + 1).await;

    let tap = Tap::start(&world.node.url());
    for most in [1_000, 20] {
        let mut refund = client(&world, &["wallet", "refund"]);
        refund.env("FAREBOX_BITCOIND_URL", tap.url());
        let (before, told) = (looked(&tap), run(refund).await);
        assert!(text(&told.stderr).contains("bitcoind has pruned block"), "{told:?}");
        assert!(looked(&tap) - before < most, "each block is looked at once: {before}");
    }
    assert!(recovery(&world, &address)["descriptor"].is_string());
    let sent = world.wallet().call::<String>("sendtoaddress", json!([address, amount])).await;
    world.node.mine(1).await.unwrap();
    let refunded = run(client(&world, &["wallet", "refund"])).await;
    assert!(text(&refunded.stdout).contains(&sent.unwrap()), "what can be is: {refunded:?}");
}

#[tokio::test]
async fn coins_that_were_sent_where_a_psbt_was_asked_for_are_found_and_their_key_is_on_record() {
    let world = World::start().await;
    for kind in ["refund", "cltv"] {
        let (address, amount) = invoice(&cut_off(&world, &["--psbt", "--kind", kind]).await);
        let sent = world.wallet().call::<String>("sendtoaddress", json!([address, amount])).await;
        sent.unwrap();
        let saved = ["channels.sqlite", "channels.sqlite-wal"].map(|name| world.file(name));
        let has_row =
            |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(&address);
        assert!(saved.into_iter().any(has_row), "{kind}");
    }

    // It waits for a block, and nobody is asked to sign for it once more.
    let (url, back) = (world.gateway.url("/paid/x"), world.wallet().fresh_address().await.unwrap());
    let psbt = ["pay", &url, "--outside", &back.to_string(), "--psbt"];
    let told = run(client(&world, &[&psbt[..], &["--max-wait", "1s"]].concat())).await;
    assert!(!text(&told.stderr).contains("do NOT send it"), "{told:?}");
    world.mine(1).await;
    let paid = run(client(&world, &["pay", &url, "--yes"])).await;

    assert_eq!(text(&paid.stdout), "hello\n", "{paid:?}");
    let file = ChannelFile::open(&world.file("channels.sqlite")).unwrap();
    let [record] = file.channels().unwrap().try_into().unwrap();
    assert_eq!(record.contract().terms.kind, Kind::Cltv, "what was sent is the channel");
    assert!(matches!(record.stage, Stage::Open(_)), "{record:?}");
}
