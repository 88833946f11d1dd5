//! What is answered is on record, and is there again after the file was closed and opened.

use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network, OutPoint, ScriptBuf};
use farebox_channel::gateway::{Account, Cause, Channel, Input, Open, Pending, Refusal};
use farebox_channel::{
    Contract, Expiry, Keyring, Kind, Msat, Payment, Payout, Sat, Seed, Timestamp, VerifiedPayment,
};
use farebox_ledger::{Changes, Cursor, LedgerError, Loaded, Store};
use secp256k1::{SECP256K1, SecretKey};

use crate::support::{
    Books, charge, client_key, contract, every_state, msat, now, open, outpoint, paid, pending,
    sat, spent, step,
};

#[tokio::test]
async fn every_state_is_read_as_it_was_written() {
    for kind in Kind::ALL {
        let books = Books::new();
        let channels = every_state(kind);
        let (ledger, watch) = books.open();
        for channel in &channels {
            assert_eq!(ledger.create(channel.clone()).await.as_ref(), Ok(channel));
        }
        watch.close(ledger);
        assert_eq!(books.on_disk().channels, channels);
        let (ledger, watch) = books.open();
        for channel in &channels {
            assert_eq!(ledger.channel(outpoint(channel)).as_ref(), Some(channel));
        }
        watch.close(ledger);
    }
}

#[tokio::test]
async fn a_whole_life_is_on_record_step_by_step() {
    let books = Books::new();
    let channel = pending(contract(Kind::Refund, 1));
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    watch.close(ledger);
    let mut expected = channel;
    let confirmed = Input::Confirmed { height: 201, confirmations: 1 };
    let payment = paid(expected.contract(), 7_000);
    let pay = Input::Pay { payment, price: msat(6_500_001) };
    let close = Input::Close(paid(expected.contract(), 6_900));
    for input in
        [confirmed.clone(), Input::Unconfirmed, confirmed, pay, close, Input::Expire(Cause::Spent)]
    {
        let (ledger, watch) = books.open();
        expected = step(&expected, input.clone());
        let answered = ledger.apply(outpoint(&expected), now(), input).await;
        assert_eq!(answered.as_ref(), Ok(&expected));
        watch.close(ledger);
        assert_eq!(books.only(), expected);
    }
}

#[test]
fn a_state_takes_the_place_of_any_other() {
    let Channel::Open(plain) = open(1, 2_000) else { panic!("open") };
    let with = |account: Account| Channel::Open(Open { account, ..plain.clone() });
    let account = || plain.account.clone();
    let paying = Account {
        payment: paid(&plain.account.contract, 3_000),
        spent: msat(5),
        used_at: Timestamp::new(1_800_000_009),
        ..account()
    };
    let coins = Arc::new([plain.account.contract.outpoint]);
    let states = [
        Channel::Open(plain.clone()),
        with(Account { is_stale: true, ..account() }),
        with(Account { coins, ..account() }),
        with(paying),
        Channel::Open(Open { height: Some(202), ..plain.clone() }),
        Channel::Open(Open { height: None, ..plain.clone() }),
        Channel::Pending(Pending { account: account(), height: Some(201) }),
        step(&Channel::Open(plain.clone()), Input::Expire(Cause::Operator)),
    ];
    let books = Books::new();
    for before in &states {
        for after in &states {
            let mut store = books.store().unwrap();
            store.load().unwrap();
            for channel in [before, after] {
                let changes = Changes { channels: vec![channel], ..Changes::default() };
                store.commit(&changes).unwrap();
            }
            drop(store);
            assert_eq!(books.only(), *after);
        }
    }
}

#[tokio::test]
async fn the_greatest_values_are_read_as_they_were_written() {
    let books = Books::new();
    let mainnet = Keyring::new(Seed::new([1; 32]), Network::Bitcoin);
    let client = SecretKey::from_slice(&[3; 32]).unwrap().public_key(SECP256K1);
    let expiry = Expiry::new(2_147_483_647).unwrap();
    let mut script = vec![0x51, 32];
    script.extend([9; 32]);
    let contract = Contract {
        terms: mainnet.terms(Kind::Cltv, client, expiry),
        outpoint: OutPoint { vout: u32::MAX, ..outpoint(&open(255, 1_000)) },
        capacity: Sat::MAX,
        payout: Payout::new(ScriptBuf::from_bytes(script)).unwrap(),
    };
    let signature = open(1, 1_000).account().payment.payment().signature;
    let payment = VerifiedPayment::from_record(Payment { paid: Sat::MAX, signature });
    let (contract, spent, least) = (contract.into(), Msat::MAX, Sat::MAX);
    let account = Account {
        contract,
        payment,
        spent,
        least,
        is_stale: false,
        used_at: Timestamp::new(u64::from(u32::MAX)),
        coins: Arc::default(),
    };
    let channel = Channel::Open(Open { account, height: Some(u32::MAX) });
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let cursor = Cursor { height: u32::MAX, hash: BlockHash::from_byte_array([0xff; 32]) };
    ledger.follow(cursor, now(), vec![]).await.unwrap();
    watch.close(ledger);
    assert_eq!(
        books.on_disk(),
        Loaded {
            channels: vec![channel],
            cursor: Some(cursor),
            trail: vec![cursor],
            restored: None,
        }
    );
}

#[tokio::test]
async fn every_payment_that_was_answered_is_there_after_reopening() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    for request in 1..=50 {
        let paid = ledger.apply(outpoint(&channel), now(), charge(&channel, 777)).await.unwrap();
        assert_eq!(spent(&paid), request * 777);
        assert_eq!(ledger.channel(outpoint(&channel)), Some(paid));
    }
    watch.close(ledger);
    assert_eq!(spent(&books.only()), 50 * 777);
}

#[tokio::test]
async fn how_far_the_chain_is_followed_is_there_after_reopening() {
    let books = Books::new();
    let cursor = |height| {
        let hash = BlockHash::from_byte_array([u8::try_from(height % 256).unwrap(); 32]);
        Cursor { height, hash }
    };
    let (ledger, watch) = books.open();
    assert_eq!(ledger.resumed_at(), None);
    for height in [850_000, 850_001, 850_000] {
        ledger.follow(cursor(height), now(), vec![]).await.unwrap();
    }
    watch.close(ledger);
    let (ledger, watch) = books.open();
    assert_eq!(ledger.resumed_at(), Some(cursor(850_000)), "the latest, after a reorganisation");
    let trail: Vec<u32> = ledger.trail().iter().map(|block| block.height).collect();
    assert!(trail.is_sorted() && trail.last() == Some(&850_000), "{trail:?}");
    watch.close(ledger);
}

#[tokio::test]
async fn a_channel_that_is_on_record_is_left_as_it_is() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let first = open(1, 2_000);
    ledger.create(first.clone()).await.unwrap();
    let paid = ledger.apply(outpoint(&first), now(), charge(&first, 5)).await.unwrap();
    let again = open(1, 9_000);
    assert_eq!(ledger.create(again).await, Ok(paid.clone()));
    assert_eq!(watch.commits(), 2, "nothing is written the second time");
    watch.close(ledger);
    assert_eq!(books.only(), paid);
}

#[tokio::test]
async fn a_refused_input_writes_nothing() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let channel = open(1, 2_000);
    ledger.create(channel.clone()).await.unwrap();
    let refused = ledger.apply(outpoint(&channel), now(), charge(&channel, 2_000_001)).await;
    assert!(matches!(refused, Err(LedgerError::Refused(Refusal::Underpaid { .. }))));
    assert_eq!(ledger.channel(outpoint(&channel)), Some(channel.clone()));
    assert_eq!(watch.commits(), 1);
    watch.close(ledger);
    assert_eq!(books.only(), channel);
}

#[tokio::test]
async fn an_input_without_effect_writes_nothing() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let channel = open(1, 2_000);
    ledger.create(channel.clone()).await.unwrap();
    let confirmed = Input::Confirmed { height: 201, confirmations: 9 };
    for input in [confirmed, charge(&channel, 0), Input::Deepened { height: 900 }] {
        let answered = ledger.apply(outpoint(&channel), now(), input).await;
        assert_eq!(answered.as_ref(), Ok(&channel));
    }
    assert_eq!(watch.commits(), 1);
    watch.close(ledger);
}

#[tokio::test]
async fn a_channel_that_is_not_on_record_is_unknown() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let channel = open(1, 2_000);
    let answered = ledger.apply(outpoint(&channel), now(), charge(&channel, 1)).await;
    assert_eq!(answered, Err(LedgerError::Unknown));
    assert_eq!(ledger.channel(outpoint(&channel)), None);
    watch.close(ledger);
    assert_eq!(books.on_disk(), Loaded::default());
}

#[tokio::test]
async fn channels_are_found_by_their_clients_key_before_and_after_reopening() {
    let books = Books::new();
    let own = [open(1, 2_000), open(2, 2_000)];
    let stranger_key = SecretKey::from_slice(&[5; 32]).unwrap().public_key(SECP256K1);
    let terms =
        farebox_channel::Terms { client_key: stranger_key, ..contract(Kind::Cltv, 3).terms };
    let foreign = pending_of(Contract { terms, ..contract(Kind::Cltv, 3) });
    let (mut ledger, mut watch) = books.open();
    for channel in own.iter().chain([&foreign]) {
        ledger.create(channel.clone()).await.unwrap();
    }
    for _ in 0..2 {
        let mut found = ledger.channels_of(&client_key().public_key(SECP256K1));
        found.sort_by_key(outpoint);
        assert_eq!(found, own);
        assert_eq!(ledger.channels_of(&stranger_key), std::slice::from_ref(&foreign));
        let nobody = SecretKey::from_slice(&[6; 32]).unwrap().public_key(SECP256K1);
        assert_eq!(ledger.channels_of(&nobody), []);
        assert_eq!(ledger.channel(outpoint(&foreign)).as_ref(), Some(&foreign));
        let pending = ledger.select(|channel| matches!(channel, Channel::Pending(_)));
        assert_eq!(pending, std::slice::from_ref(&foreign));
        watch.close(ledger);
        (ledger, watch) = books.open();
    }
    watch.close(ledger);
}

/// A pending channel of a client whose signature is not at hand.
fn pending_of(contract: Contract) -> Channel {
    let Channel::Pending(mut shown) = pending(self::contract(Kind::Cltv, 3)) else {
        panic!("shown")
    };
    shown.account.contract = contract.into();
    Channel::Pending(shown)
}

#[tokio::test]
async fn a_changed_channel_is_found_once_by_its_clients_key() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let channel = open(1, 2_000);
    ledger.create(channel.clone()).await.unwrap();
    for _ in 0..3 {
        ledger.apply(outpoint(&channel), now(), charge(&channel, 1)).await.unwrap();
    }
    let found = ledger.channels_of(&client_key().public_key(SECP256K1));
    assert_eq!(found.iter().map(spent).collect::<Vec<_>>(), [3]);
    watch.close(ledger);
    assert_eq!(sat(2_000), books.only().account().payment.paid());
}
