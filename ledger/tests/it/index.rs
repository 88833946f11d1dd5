//! The ways to find channels: each answers as a look at all of them would, also after reopening.

use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, absolute, block, transaction};
use bitcoin::{
    Block, BlockHash, CompactTarget, OutPoint, Transaction, TxIn, TxMerkleNode, TxOut, Txid,
};
use farebox_channel::gateway::{
    Account, Cause, Channel, Closing, Input, Mined, Open, Pending, Spender,
};
use farebox_channel::{Clock, Contract, Kind, Msat, Sat, Terms, Timestamp, VerifiedPayment};
use farebox_ledger::{Cursor, Ledger, Totals, Touched};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::sample::select;
use secp256k1::{SECP256K1, SecretKey};

use crate::support::{
    Books, account, charge, contract, every_state, law, now, open, outpoint, paid, pending, rules,
    sat,
};

/// How many channels a run has.
const CHANNELS: usize = 8;

/// What happens to one of the channels.
#[derive(Clone, Debug)]
enum Event {
    Charge,
    Expire,
    Confirmed(u32),
    Unconfirmed,
    Spent(u32, Spender),
    Unspent,
    Deepened(u32),
    WriteOff,
    Exhaust,
}

fn event() -> impl Strategy<Value = Event> {
    let spenders = vec![Spender::Settlement, Spender::Refund, Spender::DoubleSpend];
    prop_oneof![
        2 => Just(Event::Charge),
        1 => Just(Event::Expire),
        4 => (200..206_u32).prop_map(Event::Confirmed),
        2 => Just(Event::Unconfirmed),
        2 => (202..208_u32, select(spenders)).prop_map(|(height, by)| Event::Spent(height, by)),
        2 => Just(Event::Unspent),
        1 => (205..215_u32).prop_map(Event::Deepened),
        1 => Just(Event::WriteOff),
        1 => Just(Event::Exhaust),
    ]
}

fn input(event: &Event, channel: &Channel) -> Input {
    match event {
        Event::Charge => charge(channel, 1_000),
        Event::Expire => Input::Expire(Cause::Expiring),
        Event::Confirmed(height) => Input::Confirmed { height: *height, confirmations: 1 },
        Event::Unconfirmed => Input::Unconfirmed,
        Event::Spent(height, by) => {
            let txid = Txid::from_byte_array([0x77; 32]);
            let settled = if *by == Spender::Settlement { sat(1_000) } else { Sat::ZERO };
            Input::Spent(Mined { txid, height: *height, by: *by, settled })
        }
        Event::Unspent => Input::Unspent,
        Event::Deepened(height) => Input::Deepened { height: *height },
        Event::WriteOff => Input::WriteOff,
        Event::Exhaust => {
            let payment = paid(channel.contract(), crate::support::CAPACITY);
            let all = payment.paid().to_msat().checked_sub(channel.account().spent);
            Input::Pay { payment, price: all.unwrap() }
        }
    }
}

fn numbered(number: usize) -> Contract {
    contract(Kind::Cltv, u8::try_from(number + 1).unwrap())
}

/// A coin that contracts are made of. Some are the same.
fn coin(number: usize) -> OutPoint {
    let number = u8::try_from(number / 2).unwrap();
    OutPoint { txid: Txid::from_byte_array([0xc0 + number; 32]), vout: 0 }
}

/// A channel that is pending, or served although its contract is in no block.
fn start(number: usize, is_trusted: bool) -> Channel {
    let contract = numbered(number);
    if !is_trusted {
        return pending(contract);
    }
    let payment = paid(&contract, 1_000);
    let coins = Arc::new([coin(number), coin(number + 1)]);
    Channel::Open(Open { account: Account { coins, ..account(contract, payment) }, height: None })
}

/// A block that makes the first channel's contract, spends the second one's, and spends a coin.
fn block(coins: &[OutPoint]) -> Block {
    let transaction = |inputs: &[OutPoint], number: u64| Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: inputs
            .iter()
            .map(|coin| TxIn { previous_output: *coin, ..TxIn::default() })
            .collect(),
        output: vec![TxOut { value: Amount::from_sat(number), script_pubkey: ScriptBuf::new() }],
    };
    let txdata =
        coins.iter().zip(1..).map(|(coin, number)| transaction(&[*coin], number)).collect();
    let header = block::Header {
        version: block::Version::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 0,
        bits: CompactTarget::from_consensus(0),
        nonce: 0,
    };
    Block { header, txdata }
}

fn outpoints(channels: &[Channel]) -> Vec<OutPoint> {
    let mut outpoints: Vec<_> = channels.iter().map(outpoint).collect();
    outpoints.sort_unstable();
    outpoints
}

/// Returns from when on a channel is due.
fn wakes_at(channel: &Channel) -> Option<Timestamp> {
    let begin = Timestamp::new(0);
    let clock = Clock { median_time_past: begin, wall: begin };
    channel.due(clock, &rules()).map(|_| begin).or_else(|| channel.mark(&rules()))
}

/// Compares each index with a look at all channels.
fn check(ledger: &Ledger) {
    let is_spent = |it: &Channel| matches!(it, Channel::Closing(Closing { mined: Some(_), .. }));
    let is_closing = |it: &Channel| matches!(it, Channel::Closing(Closing { mined: None, .. }));
    let is_pending = |it: &Channel| matches!(it, Channel::Pending(_));
    let is_trusted = |it: &Channel| matches!(it, Channel::Open(Open { height: None, .. }));
    assert_eq!(ledger.spent(), ledger.select(is_spent));
    assert_eq!(ledger.closing(), ledger.select(is_closing));
    assert_eq!(ledger.waiting(), ledger.select(is_pending));
    assert_eq!(ledger.trusted(), ledger.select(is_trusted));
    assert_eq!(ledger.pending(), ledger.waiting().len());
    let start = now().now().get();
    for seconds in [0, start, start + 140_000, start + 172_800, u64::MAX] {
        let at = Timestamp::new(seconds);
        let is_due = |it: &Channel| wakes_at(it).is_some_and(|wakes_at| wakes_at <= at);
        let due = ledger.due(at);
        assert_eq!(outpoints(&due), outpoints(&ledger.select(is_due)));
        assert!(due.is_sorted_by_key(wakes_at), "the most urgent comes first");
    }
    for height in 199..216 {
        let is_from = |at: Option<u32>| at.is_some_and(|at| at >= height);
        let mined = |it: &Channel| it.mined().map(|mined| mined.height);
        let has_changed = |it: &Channel| is_from(it.height()) || is_from(mined(it));
        assert_eq!(ledger.changed_from(height), ledger.select(has_changed));
    }
    let all = ledger.select(|_| true);
    let sum = all.iter().map(Totals::of).fold(Totals::default(), Totals::plus);
    assert_eq!(ledger.totals(), sum);
    assert_eq!(ledger.next_mark(), all.iter().filter_map(wakes_at).min());
    check_touches(ledger);
}

fn check_touches(ledger: &Ledger) {
    let all = ledger.select(|_| true);
    let mut spent: Vec<OutPoint> = all.iter().map(outpoint).collect();
    spent.extend((0..=CHANNELS).map(coin));
    spent.dedup();
    let block = block(&spent);
    let told: Vec<_> = ledger.touched(&block).iter().map(|it| (it.channel, it.how)).collect();
    let mut expected = vec![];
    for coin in spent {
        expected
            .extend(all.iter().filter(|it| outpoint(it) == coin).map(|_| (coin, Touched::Spent)));
        let is_made = |it: &&Channel| {
            let is_unmined = it.height().is_none() && !matches!(it, Channel::Ended(_));
            is_unmined && it.account().coins.contains(&coin)
        };
        let made = all.iter().filter(is_made);
        expected.extend(made.map(|it| (outpoint(it), Touched::DoubleSpent)));
    }
    assert_eq!(told, expected);
}

/// Plays one run, and looks at the indexes after each step.
async fn play(trusted: Vec<bool>, events: Vec<(usize, Event)>) {
    let books = Books::new();
    let (ledger, watch) = books.open();
    for (number, is_trusted) in trusted.into_iter().enumerate() {
        ledger.create(start(number, is_trusted)).await.unwrap();
    }
    check(&ledger);
    for (number, event) in events {
        let channel = ledger.channel(numbered(number).outpoint).unwrap();
        // What is refused changes nothing.
        let _refused = ledger.apply(outpoint(&channel), now(), input(&event, &channel)).await;
        check(&ledger);
    }
    let before = ledger.select(|_| true);
    watch.close(ledger);
    let (ledger, watch) = books.open();
    assert_eq!(ledger.select(|_| true), before);
    check(&ledger);
    watch.close(ledger);
}

#[test]
fn every_index_answers_as_a_look_at_all_channels_would() {
    let trusted = vec(prop_oneof![Just(true), Just(false)], CHANNELS);
    let events = vec((0..CHANNELS, event()), 0..60);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    law(25, (trusted, events), |(trusted, events)| runtime.block_on(play(trusted, events)));
}

#[tokio::test]
async fn a_contract_is_found_in_the_block_that_makes_it_until_that_is_known() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let made = block(&[coin(0)]);
    let made_at = OutPoint { txid: made.txdata[0].compute_txid(), vout: 0 };
    let channel = pending(Contract { outpoint: made_at, ..numbered(0) });
    ledger.create(channel).await.unwrap();
    let told: Vec<_> = ledger.touched(&made).iter().map(|it| (it.channel, it.how)).collect();
    assert_eq!(told, [(made_at, Touched::Mined)]);
    let confirmed = Input::Confirmed { height: 201, confirmations: 1 };
    ledger.apply(made_at, now(), confirmed).await.unwrap();
    assert_eq!(ledger.touched(&made).len(), 0);
    watch.close(ledger);
}

#[tokio::test]
async fn all_contracts_that_share_a_coin_are_told_of_its_double_spend() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let shared = coin(0);
    for number in 0..2 {
        let contract = numbered(number);
        let payment = paid(&contract, 1_000);
        let account = Account { coins: Arc::new([shared]), ..account(contract, payment) };
        ledger.create(Channel::Open(Open { account, height: None })).await.unwrap();
    }
    let block = block(&[shared]);
    let told = |ledger: &Ledger| ledger.touched(&block).len();
    assert_eq!(told(&ledger), 2);
    let confirmed = Input::Confirmed { height: 201, confirmations: 1 };
    ledger.apply(numbered(0).outpoint, now(), confirmed).await.unwrap();
    assert_eq!(told(&ledger), 1, "one of them is mined, and the other is still unsafe");
    let cursor = Cursor { height: 1, hash: BlockHash::all_zeros() };
    ledger.follow(cursor, now(), vec![]).await.unwrap();
    watch.close(ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_say_what_channels_hold_and_what_is_at_stake() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    assert_eq!((ledger.totals(), ledger.next_mark()), (Totals::default(), None));
    for channel in every_state(Kind::Cltv) {
        ledger.create(channel).await.unwrap();
    }
    let all = ledger.select(|_| true);
    let count = |is_it: fn(&Channel) -> bool| all.iter().filter(|it| is_it(it)).count() as u64;
    let of_open = |sum: fn(&Account) -> u64| -> u64 {
        let open = all.iter().filter(|it| matches!(it, Channel::Open(_)));
        open.map(|it| sum(it.account())).sum()
    };
    let closing = all.iter().filter(|it| matches!(it, Channel::Closing(_)));
    let totals = ledger.totals();
    let expected = Totals {
        pending: count(|it| matches!(it, Channel::Pending(_))),
        late: count(|it| matches!(it, Channel::Late(_))),
        open: count(|it| matches!(it, Channel::Open(_))),
        closing: count(|it| matches!(it, Channel::Closing(_))),
        ended: count(|it| matches!(it, Channel::Ended(_))),
        open_capacity_sat: of_open(|it| it.contract.capacity.get()),
        open_paid_sat: of_open(|it| it.payment.paid().get()),
        open_credit_msat: of_open(|it| it.credit().get()),
        closing_at_stake_sat: closing.map(|it| it.at_stake().get()).sum(),
        at_stake_sat: all.iter().map(|it| it.at_stake().get()).sum(),
        lost_sat: all.iter().map(|it| it.lost().get()).sum(),
    };
    assert_eq!(totals, expected);
    assert!(totals.closing_at_stake_sat > 0 && totals.at_stake_sat > totals.closing_at_stake_sat);
    assert_eq!(ledger.commits(), all.len() as u64, "one for each that was created");
    assert_eq!(ledger.commits(), watch.commits() as u64);
    watch.close(ledger);
    let (ledger, watch) = books.open();
    assert_eq!((ledger.totals(), ledger.commits()), (expected, 0));
    watch.close(ledger);
}

#[tokio::test]
async fn the_channels_of_many_keys_are_told_apart() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let channels: Vec<_> = (1..=60_u8)
        .map(|number| {
            let secret = SecretKey::from_slice(&[number / 2 + 1; 32]).unwrap();
            let contract = numbered(number.into());
            let terms = Terms { client_key: secret.public_key(SECP256K1), ..contract.terms };
            let payment = paid(&contract, 1_000);
            pending_of(Contract { terms, ..contract }, payment)
        })
        .collect();
    for channel in &channels {
        ledger.create(channel.clone()).await.unwrap();
    }
    for channel in &channels {
        let key = channel.contract().terms.client_key;
        let expected = ledger.select(|it| it.contract().terms.client_key == key);
        let mut found = ledger.channels_of(&key);
        found.sort_by_key(outpoint);
        assert_eq!(found, expected);
        assert!(found.contains(channel));
    }
    watch.close(ledger);
}

/// A channel whose payment nobody looks at.
fn pending_of(contract: Contract, payment: VerifiedPayment) -> Channel {
    Channel::Pending(Pending { account: account(contract, payment), height: None })
}

#[tokio::test]
async fn a_full_channel_is_due_once_its_credit_buys_nothing_any_more() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let full = contract(Kind::Cltv, 1);
    let everything = full.capacity;
    let payment = paid(&full, everything.get());
    let account = account(full, payment);
    let channel = Channel::Open(Open { account, height: Some(200) });
    ledger.create(channel.clone()).await.unwrap();
    let due = || ledger.due(now().now());

    ledger.set_cheapest(everything.to_msat());
    assert!(due().is_empty());
    let more = everything.to_msat().checked_add(Msat::new(1).unwrap()).unwrap();
    ledger.set_cheapest(more);
    assert_eq!(due(), std::slice::from_ref(&channel));
    assert_eq!(ledger.next_mark(), Some(Timestamp::new(0)));
    assert_eq!(channel.due(now(), &ledger.rules()), Some(Cause::Exhausted));
    let far = Timestamp::new(u64::MAX);
    assert_eq!(ledger.due(far), std::slice::from_ref(&channel), "it is told once");
    ledger.set_cheapest(everything.to_msat());
    assert!(due().is_empty());
    assert_eq!(channel.due(now(), &ledger.rules()), None);
    watch.close(ledger);
}

#[tokio::test]
async fn where_nothing_is_charged_no_channel_is_exhausted() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let channel = open(1, 1_000);
    ledger.create(channel.clone()).await.unwrap();
    let payment = paid(channel.contract(), crate::support::CAPACITY);
    let all = Input::Pay { payment, price: payment.paid().to_msat() };
    let spent = ledger.apply(outpoint(&channel), now(), all).await.unwrap();
    assert_eq!(ledger.due(now().now()), std::slice::from_ref(&spent));

    ledger.set_cheapest(Msat::ZERO);

    assert!(ledger.due(now().now()).is_empty());
    assert_eq!(spent.due(now(), &ledger.rules()), None);
    watch.close(ledger);
}
