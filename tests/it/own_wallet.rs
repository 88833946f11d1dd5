//! The client's own wallet, on a real bitcoind.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use bitcoin::{Address, Amount, FeeRate, Network, ScriptBuf};
use farebox::regtest::Regtest;
use farebox_chain::{Bitcoind, Chain, ChainError, Joined, Wallet};
use farebox_channel::Kind;
use farebox_client::{
    Balance, ChannelFile, OwnWallet, Passphrase, PayingClient, Policy, WalletError, Words,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{client, run, text};
use crate::support::World;

const RATE: FeeRate = FeeRate::from_sat_per_vb_u32(2);

/// A node with coins, and a file with a wallet that has none.
async fn stand() -> (Regtest, TempDir) {
    let node = Regtest::start().await.unwrap();
    node.create_wallets().await.unwrap();
    let folder = TempDir::new().unwrap();
    create(&node, folder.path(), &Words::random().unwrap(), None).await.unwrap();
    (node, folder)
}

async fn create(
    node: &Regtest,
    folder: &Path,
    words: &Words,
    birthday: Option<u32>,
) -> Result<(), WalletError> {
    let file = ChannelFile::open(&folder.join("channels.sqlite")).unwrap();
    let passphrase = Passphrase::new("right");
    OwnWallet::create(node.node(None), file, words.clone(), passphrase, birthday).await
}

/// Opens the wallet as a new process would, with somebody who says this when asked.
fn open(node: &Regtest, folder: &Path, says: &'static str) -> OwnWallet<Bitcoind> {
    let file = ChannelFile::open(&folder.join("channels.sqlite")).unwrap();
    let ask = move || match says {
        "" => Err("nobody is there".to_owned()),
        says => Ok(Passphrase::new(says)),
    };
    OwnWallet::open(node.node(None), file, ask).unwrap()
}

/// Sends coins to an address.
async fn send(node: &Regtest, address: &Address, sat: u64) {
    let btc = Amount::from_sat(sat).to_btc();
    let wallet = node.node(Some("client"));
    let _txid: String = wallet.call("sendtoaddress", json!([address, btc])).await.unwrap();
}

fn free(sat: u64) -> Balance {
    Balance { free: Amount::from_sat(sat), ..Balance::default() }
}

/// A script of somebody's.
fn script() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&ScriptBuf::new().wscript_hash())
}

#[tokio::test]
async fn coins_arrive_once_they_are_mined_and_pay_a_contract_that_the_node_takes() {
    let (node, folder) = stand().await;
    let wallet = open(&node, folder.path(), "right");
    let address = wallet.fresh_address().await.unwrap();
    send(&node, &address, 100_000).await;
    assert_eq!(wallet.balance().await.unwrap(), free(0), "not mined yet");
    node.mine(1).await.unwrap();
    assert_eq!(wallet.balance().await.unwrap(), free(100_000));

    let contract = wallet.fund(script(), 60_000, RATE).await.unwrap();
    let locked = wallet.balance().await.unwrap();

    assert_eq!(locked, Balance { locked: Amount::from_sat(100_000), ..free(0) });
    assert_eq!(contract.output[0].value.to_sat(), 60_000);
    let is_native =
        |input: &bitcoin::TxIn| input.script_sig.is_empty() && !input.witness.is_empty();
    assert!(contract.input.iter().all(is_native));
    node.node(None).broadcast(contract.clone()).await.unwrap();
    node.mine(1).await.unwrap();
    let change = contract.output[1].value.to_sat();
    let fee = 100_000 - 60_000 - change;
    // A signature may be a byte or two shorter than it was taken to be.
    let least = contract.weight().to_wu().div_ceil(2);
    assert!((least..=least + 1).contains(&fee), "{fee} sat for 2 sat/vB of {least}");
    assert_eq!(wallet.balance().await.unwrap(), free(change));
}

#[tokio::test]
async fn a_locked_coin_is_spent_by_nothing_else_until_it_is_released() {
    let (node, folder) = stand().await;
    let wallet = open(&node, folder.path(), "right");
    send(&node, &wallet.fresh_address().await.unwrap(), 100_000).await;
    node.mine(1).await.unwrap();
    let contract = wallet.fund(script(), 60_000, RATE).await.unwrap();

    let second = wallet.fund(script(), 30_000, RATE).await;
    wallet.release(contract).await.unwrap();

    assert!(matches!(second, Err(ChainError::TooFewCoins { available_sat: 0, .. })), "{second:?}");
    assert_eq!(wallet.balance().await.unwrap(), free(100_000));
    wallet.fund(script(), 30_000, RATE).await.unwrap();
}

#[tokio::test]
async fn after_a_restart_coins_are_free_whose_contract_is_not_on_record() {
    let (node, folder) = stand().await;
    let wallet = open(&node, folder.path(), "right");
    send(&node, &wallet.fresh_address().await.unwrap(), 100_000).await;
    node.mine(1).await.unwrap();
    wallet.fund(script(), 60_000, RATE).await.unwrap();
    assert_eq!(wallet.balance().await.unwrap().free, Amount::ZERO);
    drop(wallet);

    let wallet = open(&node, folder.path(), "right");

    assert_eq!(wallet.balance().await.unwrap(), free(100_000));
}

#[tokio::test]
async fn addresses_stay_within_the_gap_that_other_wallets_look_beyond() {
    let (node, folder) = stand().await;
    let wallet = open(&node, folder.path(), "right");
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..40 {
        told.insert(wallet.fresh_address().await.unwrap().to_string());
    }

    assert_eq!(told.len(), 15);
}

#[tokio::test]
async fn without_the_passphrase_addresses_are_told_and_no_coin_moves() {
    let (node, folder) = stand().await;
    let wallet = open(&node, folder.path(), "wrong");
    let first = wallet.fresh_address().await.unwrap();
    send(&node, &first, 100_000).await;
    node.mine(1).await.unwrap();

    let refused = wallet.fund(script(), 60_000, RATE).await;
    assert_eq!(refused, Err(ChainError::Wallet("the passphrase is wrong".to_owned())));
    drop(wallet);
    let wallet = open(&node, folder.path(), "");
    let refused = wallet.fund(script(), 60_000, RATE).await.unwrap_err();
    assert!(refused.to_string().contains("nobody is there"), "{refused}");

    assert_eq!(wallet.balance().await.unwrap(), free(100_000));
    assert_ne!(wallet.fresh_address().await.unwrap(), first);
}

#[tokio::test]
async fn a_reorg_takes_coins_away_and_brings_others() {
    let (node, folder) = stand().await;
    let wallet = open(&node, folder.path(), "right");
    let address = wallet.fresh_address().await.unwrap();
    send(&node, &address, 100_000).await;
    node.mine(1).await.unwrap();
    assert_eq!(wallet.balance().await.unwrap(), free(100_000));

    let client = node.node(None);
    let tip = client.tip().await.unwrap().hash;
    let _none: () = client.call("invalidateblock", json!([tip])).await.unwrap();
    let somebody = node.node(Some("client")).fresh_address().await.unwrap();
    let _block: Value = client.call("generateblock", json!([somebody, []])).await.unwrap();
    assert_eq!(wallet.balance().await.unwrap(), free(0));

    send(&node, &address, 50_000).await;
    node.mine(2).await.unwrap();
    assert_eq!(wallet.balance().await.unwrap(), free(150_000));
}

#[tokio::test]
async fn the_words_alone_bring_a_wallet_back() {
    let (node, folder) = stand().await;
    let (words, lost) = (Words::random().unwrap(), TempDir::new().unwrap());
    create(&node, lost.path(), &words, None).await.unwrap();
    // Its first coins come in this very block.
    let birthday = node.node(None).tip().await.unwrap().height + 1;
    let wallet = open(&node, lost.path(), "right");
    let contract = {
        send(&node, &wallet.fresh_address().await.unwrap(), 100_000).await;
        send(&node, &wallet.fresh_address().await.unwrap(), 20_000).await;
        node.mine(1).await.unwrap();
        wallet.fund(script(), 60_000, RATE).await.unwrap()
    };
    node.node(None).broadcast(contract.clone()).await.unwrap();
    node.mine(1).await.unwrap();
    let had = wallet.balance().await.unwrap();
    drop((wallet, lost));

    let told: Vec<_> = words.iter().collect();
    let (words, new) = (Words::read(&told.join(" ")).unwrap(), TempDir::new().unwrap());
    create(&node, new.path(), &words, Some(birthday)).await.unwrap();

    assert_eq!(open(&node, new.path(), "right").balance().await.unwrap(), had);
    drop(folder);
}

#[tokio::test]
async fn a_file_keeps_the_wallet_that_it_has() {
    let (node, folder) = stand().await;
    let before = open(&node, folder.path(), "right").fresh_address().await.unwrap();

    let again = create(&node, folder.path(), &Words::random().unwrap(), None).await;

    assert!(matches!(again, Err(WalletError::Exists)), "{again:?}");
    let wallet = open(&node, folder.path(), "right");
    assert_eq!(wallet.network(), Network::Regtest);
    assert_ne!(wallet.fresh_address().await.unwrap(), before);
}

/// A client with a wallet of its own is paid answers, and its change comes back to it.
async fn a_client_pays_from_a_wallet_of_its_own(kind: Kind) {
    let world = World::start().await;
    let folder = TempDir::new().unwrap();
    create(&world.node, folder.path(), &Words::random().unwrap(), None).await.unwrap();
    let file = ChannelFile::open(&folder.path().join("channels.sqlite")).unwrap();
    let ask = || Ok(Passphrase::new("right"));
    let chain = world.node.node(None);
    let wallet = OwnWallet::open(chain.clone(), file.clone(), ask).unwrap();
    send(&world.node, &wallet.fresh_address().await.unwrap(), 500_000).await;
    world.mine(1).await;
    let mining = world.keep_mining();
    let joined = Joined { chain, wallet: wallet.clone() };
    let client = PayingClient::new(joined, file, Policy::new(kind)).unwrap();
    let url = world.gateway.url("/paid/x");

    for _ in 0..3 {
        assert_eq!(client.get(&url).await.unwrap().status(), 200);
    }
    let closing = client.close(&url).await.unwrap();
    world.mine_until_mined(closing.settlement.unwrap()).await;
    drop(mining);

    let fee = 500_000 - wallet.balance().await.unwrap().free.to_sat() - closing.paid.get();
    assert!((1..2_000).contains(&fee), "the contract has cost a fee of {fee} sat");
}

#[tokio::test]
async fn a_client_pays_through_a_refund_channel_from_a_wallet_of_its_own() {
    a_client_pays_from_a_wallet_of_its_own(Kind::Refund).await;
}

#[tokio::test]
async fn a_client_pays_through_a_cltv_channel_from_a_wallet_of_its_own() {
    a_client_pays_from_a_wallet_of_its_own(Kind::Cltv).await;
}

#[tokio::test]
async fn a_new_user_gets_from_nothing_to_a_paid_answer_with_the_program_alone() {
    let world = World::start().await;
    let passphrase = world.file("passphrase");
    std::fs::write(&passphrase, "right\n").unwrap();
    let farebox = async |arguments: &[&str]| {
        let mut program = client(&world, arguments);
        program.env_remove("FAREBOX_WALLET").env("FAREBOX_PASSPHRASE_FILE", &passphrase);
        run(program).await
    };

    let made = farebox(&["wallet", "new"]).await;
    let address = farebox(&["wallet", "address"]).await;
    let address: Address<_> = text(&address.stdout).trim().parse().unwrap();
    send(&world.node, &address.assume_checked(), 500_000).await;
    world.mine(1).await;
    let balance = farebox(&["wallet", "balance"]).await;
    let mining = world.keep_mining();
    let paid = farebox(&["pay", &world.gateway.url("/paid/x"), "--yes", "--close"]).await;
    drop(mining);

    assert_eq!(text(&made.stdout).lines().count(), 12, "{made:?}");
    assert!(text(&made.stderr).contains("write these words down"), "{made:?}");
    assert!(text(&balance.stdout).contains(" 500000 sat free"), "{balance:?}");
    assert_eq!(text(&paid.stdout), "hello\n", "{paid:?}");
    let again = farebox(&["wallet", "new"]).await;
    assert_eq!(text(&again.stderr), "farebox: the file holds a wallet already\n");
    let (before, words) = (balance, text(&made.stdout).to_owned());

    let restored = restore(&world, &passphrase, &words).await;
    assert!(restored.status.success(), "{restored:?}");
    let mut program = client(&world, &["wallet", "balance"]);
    program.env("FAREBOX_CHANNELS", world.file("restored.sqlite"));
    let after = run(program).await;
    let locked = "sat in contracts that are not mined yet";
    assert!(text(&after.stdout).contains(locked), "{after:?}");
    assert_ne!(text(&after.stdout), text(&before.stdout), "the channel has cost coins");
}

/// Has the program make a wallet of these words, in a file of its own.
async fn restore(world: &World, passphrase: &Path, words: &str) -> Output {
    let arguments = ["wallet", "new", "--restore", "--birthday", "100"];
    let mut program = client(world, &arguments);
    program
        .env("FAREBOX_CHANNELS", world.file("restored.sqlite"))
        .env("FAREBOX_PASSPHRASE_FILE", passphrase)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut program = program.spawn().unwrap();
    program.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
    tokio::task::spawn_blocking(move || program.wait_with_output().unwrap()).await.unwrap()
}
