//! Strangers who ask, forge and repeat; and a disk that is full.

use std::fs::{self, File};
use std::path::Path;

use bitcoin::{OutPoint, Txid};
use farebox::regtest::Regtest;
use farebox_channel::message::{
    CloseRequest, OpenRequest, PayRequest, RefundRequest, StateName, StateReply, TermsReply,
    WatchReply, WatchRequest,
};
use farebox_channel::wire::Field;
use farebox_channel::{Kind, Pass, Payment, Place, Proof, Sat, Subject};
use secp256k1::{SECP256K1, SecretKey};

use crate::chain::payment;
use crate::proxy::speak;
use crate::support::{
    Api, Buyer, FIRST_SAT, Gateway, PRICE_MSAT, World, gateway_configuration, header, until, wall,
};

fn stranger() -> SecretKey {
    SecretKey::from_slice(&[9; 32]).unwrap()
}

/// A world whose node writes down each call, and where it does.
async fn listening_world() -> World {
    let node = Regtest::start_with("mempooltruc=enforce\ndebug=rpc").await.unwrap();
    node.create_wallets().await.unwrap();
    let api = Api::start().await;
    let folder = tempfile::TempDir::with_prefix("farebox-test-").unwrap();
    let config = gateway_configuration(&node, &api);
    let gateway = Gateway::start(&folder, &config);
    let world = World { gateway, api, node: node.into(), folder };
    world.until_the_node_is_followed().await;
    world
}

/// The calls that look a contract up, broadcast it, or use an address.
fn calls(world: &World) -> usize {
    let log = world.node.cookie_file().with_file_name("debug.log");
    let log = fs::read_to_string(log).unwrap();
    let costly = ["method=gettxout ", "method=sendrawtransaction ", "method=getnewaddress "];
    log.lines().filter(|line| costly.iter().any(|it| format!("{line} ").contains(it))).count()
}

/// All that the gateway's store holds.
fn on_disk(world: &World) -> Vec<Vec<u8>> {
    let read = |name: &str| fs::read(Path::new(&world.file(name))).unwrap_or_default();
    ["farebox.sqlite", "farebox.sqlite-wal", "farebox.sqlite-payments"].map(read).into()
}

#[tokio::test]
async fn steps_that_show_no_contract_leave_no_row_and_ask_the_node_nothing() {
    let world = listening_world().await;
    let buyer = world.buyer();
    let held = buyer.held(&world, Kind::Cltv).await;
    let good = held.show(&buyer.key).unwrap();
    let (_, wish) = buyer.wish(Kind::Refund).await;
    let (before, calls_before) = (on_disk(&world), calls(&world));

    for number in 0..300_u32 {
        let mut secret = [3; 32];
        secret[..4].copy_from_slice(&number.to_be_bytes());
        let key = SecretKey::from_slice(&secret).unwrap();
        let client_key = key.public_key(SECP256K1);
        let reply: TermsReply = buyer.ask(&OpenRequest { client_key, ..wish }).await;
        let txid: Txid = format!("{number:064x}").parse().unwrap();
        let outpoint = OutPoint { txid, vout: number };
        let refund =
            RefundRequest { outpoint, capacity: wish.capacity, client_key, expiry: reply.expiry };
        assert_eq!(buyer.step(&refund).await.status, 200);
        // A contract that is not the signer's, and a payment for a channel that there is not.
        let mut forged = good.clone();
        let contract = held.refund.contract();
        forged.payment = Payment::sign(contract, Sat::new(FIRST_SAT).unwrap(), &key).unwrap();
        let refused = buyer.step(&forged).await.refusal();
        assert_eq!(refused, (402, "signature-invalid".to_owned()));
        let pass = Pass::new([7; 16]);
        let unknown =
            PayRequest { channel: outpoint, pass, payment: forged.payment, price_max: None };
        let refused = buyer.send("/paid/x", &[header(&unknown)]).await.refusal();
        assert_eq!(refused, (402, "wrong-pass".to_owned()));
    }

    assert!(on_disk(&world) == before, "the store has changed");
    assert_eq!(calls(&world), calls_before);
    assert_eq!(world.api.hits(), 0);
    // The counting would have noticed an honest one.
    let _state: StateReply = buyer.ask(&good).await;
    assert!(calls(&world) > calls_before && on_disk(&world) != before);
}

#[tokio::test]
async fn a_stranger_cannot_close_a_channel() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Refund).await;
    let channel = buyer.channel();
    let honest = buyer.purse().close(buyer.place(), wall(), &buyer.key).unwrap();
    let proof = |subject: Subject, host: &str, key: &SecretKey| {
        Proof::sign(&subject, Place { host, ..buyer.place() }, wall(), key)
    };
    let close = Subject::Close(channel);
    let other = OutPoint { vout: channel.vout + 1, ..channel };
    let proofs = [
        proof(close, &buyer.host, &stranger()),
        proof(close, "elsewhere.example", &buyer.key),
        // What the client has proved to be told the status closes nothing.
        proof(Subject::StatusOfChannel(channel), &buyer.host, &buyer.key),
        proof(Subject::Close(other), &buyer.host, &buyer.key),
    ];
    let foreign = buyer.step(&CloseRequest { proof: proofs[0], ..honest }).await;
    let unknown = buyer.step(&CloseRequest { channel: other, proof: proofs[0], ..honest }).await;
    for proof in proofs {
        let refused = buyer.step(&CloseRequest { proof, ..honest }).await.refusal();
        assert_eq!(refused, (402, "wrong-proof".to_owned()));
    }
    assert_eq!(foreign.body, unknown.body, "nobody learns whether there is such a channel");
    assert_eq!(buyer.pay("/paid/x").await.status, 200, "it is still open");
    assert_eq!(buyer.step(&honest).await.status, 200);
}

#[tokio::test]
async fn a_contract_that_is_shown_again_keeps_its_account_and_its_pass() {
    let world = World::start().await;
    for kind in Kind::ALL {
        let mut buyer = world.buyer_with_channel(kind).await;
        let first = buyer.shown.clone().unwrap();
        for _ in 0..300 {
            buyer.pay("/paid/x").await;
        }
        let newest = buyer.purse().payment;

        let again: StateReply = buyer.ask(&first).await;
        let newer = farebox_channel::message::ContractRequest { payment: newest, ..first };
        let with_newest: StateReply = buyer.ask(&newer).await;

        for told in [again, with_newest] {
            assert_eq!((told.state, told.paid), (StateName::Open, newest.paid));
            assert_eq!(told.pass, buyer.purse().pass);
        }
        let told = buyer.told(buyer.channel(), &buyer.key).await;
        assert_eq!((told.spent.get(), told.payment), (300 * PRICE_MSAT, newest));
    }
}

#[tokio::test]
async fn a_wrong_pass_comes_before_a_wrong_signature() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let good = payment(&buyer);
    let contract = buyer.purse().contract();
    let forged = Payment::sign(contract, Sat::new(500).unwrap(), &stranger()).unwrap();
    let absurd = Payment { paid: Sat::MAX, ..forged };
    let wrong = Pass::new([7; 16]);
    for (payment, kind) in [(forged, "signature-invalid"), (absurd, "beyond-capacity")] {
        let known = PayRequest { payment, ..good };
        let refused = buyer.send("/paid/x", &[header(&known)]).await.refusal();
        assert_eq!(refused, (402, kind.to_owned()));
        let refused = PayRequest { pass: wrong, ..known };
        let refused = buyer.send("/paid/x", &[header(&refused)]).await.refusal();
        assert_eq!(refused, (402, "wrong-pass".to_owned()));
    }
}

#[tokio::test]
async fn a_payment_field_means_the_same_in_any_case_and_is_never_folded() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let host = &world.gateway.host;
    let (_, value) = header(&payment(&buyer));
    let send = async |fields: String| {
        let head = format!("GET /paid/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        let answer = speak(host, &format!("{head}{fields}\r\n")).await;
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    for name in ["Payment-Channel-Pay", "PAYMENT-CHANNEL-PAY", "payment-channel-pay"] {
        assert_eq!(send(format!("{name}: {value}\r\n")).await, "200", "{name}");
        assert_eq!(send(format!("{name}:\t {value} \t\r\n")).await, "200", "{name}");
    }
    let folded = value.replacen(", ", ",\r\n ", 1);
    let second = PayRequest::NAME.to_uppercase();
    for refused in [
        format!("{}: {folded}\r\n", PayRequest::NAME),
        format!("{} : {value}\r\n", PayRequest::NAME),
        format!("{}: {value}\r\n{second}: {value}\r\n", PayRequest::NAME),
        format!("{}: {value}\r\nPayment-Channel-Open: kind=cltv\r\n", PayRequest::NAME),
    ] {
        assert_eq!(send(refused.clone()).await, "400", "{refused}");
    }
    assert_eq!(world.api.hits(), 6);
}

#[tokio::test]
async fn a_full_disk_is_answered_503_and_nothing_is_served_on_it() {
    let node = Regtest::start().await.unwrap();
    node.create_wallets().await.unwrap();
    let api = Api::start().await;
    let folder = tempfile::TempDir::with_prefix("farebox-test-").unwrap();
    let config = gateway_configuration(&node, &api);
    let told = folder.path().join("told");
    let mut program = Gateway::limitable();
    program.stderr(File::create(&told).unwrap());
    let gateway = Gateway::start_below(&folder, &config, program);
    let mut world = World { gateway, api, node: node.into(), folder };
    world.until_the_node_is_followed().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    assert_eq!(buyer.pay("/paid/x").await.status, 200);

    // The log of payments has room for some more, and for a part of the one behind them. What is told
    // is a file too, and shorter.
    world.gateway.limit_files("5000");
    let (more, refused) = pay_until_refused(&mut buyer).await;
    let mut served = 1 + more;
    assert_eq!(refused, (503, "store-unavailable".to_owned()));
    assert_eq!(world.api.hits(), served, "what is not saved is not served");
    assert_eq!(buyer.send("/free/x", &[]).await.status, 200);
    let tells = |words: &str| fs::read_to_string(&told).unwrap().matches(words).count();
    until("it is told", async || tells("the store cannot be tidied") > 0).await;

    world.gateway.limit_files("unlimited");
    until("there is room", async || tells("the store is tidy again") > 0).await;
    assert_eq!(tells("the store cannot be tidied"), 1, "once for all tries");
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
    world.gateway.limit_files("5000");
    let (more, refused) = pay_until_refused(&mut buyer).await;
    served += 1 + more;
    assert_eq!(refused.0, 503);

    // With room again, what was answered is on record, and no more.
    world.gateway.kill();
    world.gateway.restart();
    let told = buyer.told(buyer.channel(), &buyer.key).await;
    assert_eq!(told.spent.get(), u64::try_from(served).unwrap() * PRICE_MSAT);
}

/// Pays for requests until one is refused, and returns how many were served.
async fn pay_until_refused(buyer: &mut Buyer) -> (usize, (u16, String)) {
    for served in 0..100 {
        let answer = buyer.pay("/paid/x").await;
        if answer.status != 200 {
            return (served, answer.refusal());
        }
    }
    panic!("the disk is never full");
}

#[tokio::test]
async fn a_stranger_who_asked_for_an_address_once_does_not_keep_the_node_busy_for_ever() {
    let world = listening_world().await;
    let buyer = world.buyer();
    let terms = buyer.draft(&world, Kind::Cltv).await.terms;
    let scans = || {
        let log = world.node.cookie_file().with_file_name("debug.log");
        let log = fs::read_to_string(log).unwrap();
        log.lines().filter(|line| line.contains("method=getrawmempool")).count()
    };
    let watch = WatchRequest { client_key: terms.client_key, expiry: terms.expiry };
    let _seen: WatchReply = buyer.ask(&watch).await;
    until("the mempool is looked at", async || scans() > 0).await;

    world.set_median_time_past(wall().get() + 3 * 60 * 60).await;

    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let before = scans();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(scans(), before, "nobody has asked for hours");
}
