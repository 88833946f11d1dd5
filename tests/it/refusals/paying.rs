//! What is refused once there is a channel.

use bitcoin::OutPoint;
use farebox_channel::message::{PayRequest, StateName, StatusReply, StatusRequest, StatusSubject};
use farebox_channel::{Kind, Payment, Proof, Subject, Timestamp};
use secp256k1::SecretKey;

use super::{next, refusal, sat, stranger};
use crate::support::{CAPACITY_SAT, FIRST_SAT, World, header, wall};

#[tokio::test]
async fn a_wrong_pass_looks_the_same_for_a_foreign_and_an_unknown_channel() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let good = next(&buyer);
    let foreign = PayRequest { pass: farebox_channel::Pass::new([7; 16]), ..good };
    let unknown = PayRequest { channel: OutPoint { vout: 5, ..good.channel }, ..foreign };

    let foreign = buyer.send("/paid/x", &[header(&foreign)]).await;
    let unknown = buyer.send("/paid/x", &[header(&unknown)]).await;

    assert_eq!(foreign.refusal(), refusal(402, "wrong-pass"));
    assert_eq!((foreign.status, foreign.body), (unknown.status, unknown.body));
}

#[tokio::test]
async fn a_channel_that_is_not_on_record_is_gone() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    // Only the gateway's seed makes the pass of a channel that it has lost.
    let keyring = world.keyring();
    let channel = OutPoint { vout: 5, ..buyer.channel() };
    let lost = PayRequest { channel, pass: keyring.pass(channel), ..next(&buyer) };

    let answer = buyer.send("/paid/x", &[header(&lost)]).await;

    assert_eq!(answer.refusal(), refusal(410, "channel-unknown"));
}

#[tokio::test]
async fn a_payment_that_does_not_count_is_refused_and_changes_nothing() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Refund).await;
    let contract = buyer.purse().contract().clone();
    let good = next(&buyer);
    let sign = |paid: u64| Payment::sign(&contract, sat(paid), &buyer.key).unwrap();
    let claim = |paid: u64, signed: u64| PayRequest {
        payment: Payment { paid: sat(paid), ..sign(signed) },
        ..good
    };
    let forged = Payment::sign(&contract, sat(500), &stranger()).unwrap();
    let cases = [
        (claim(CAPACITY_SAT + 1, 500), "beyond-capacity"),
        // 293 sat of change are below the dust of P2WPKH.
        (claim(CAPACITY_SAT - 293, 500), "change-below-dust"),
        (claim(CAPACITY_SAT - 1, 500), "change-below-dust"),
        (claim(501, 500), "signature-invalid"),
        (claim(CAPACITY_SAT, CAPACITY_SAT - 294), "signature-invalid"),
        (PayRequest { payment: forged, ..good }, "signature-invalid"),
    ];
    for (request, kind) in cases {
        let answer = buyer.send("/paid/x", &[header(&request)]).await;
        assert_eq!(answer.refusal(), refusal(402, kind));
        assert!(answer.headers.contains_key("payment-channel-offer"));
    }
    let cheap = PayRequest { payment: sign(500), price_max: None, ..good };
    let answer = buyer.send("/dear/x", &[header(&cheap)]).await;
    assert_eq!(answer.refusal(), refusal(402, "underpaid"));

    // The refused amounts are not on record, and the least change is taken.
    let receipt = buyer.send("/paid/x", &[header(&good)]).await.receipt();
    assert_eq!(receipt.paid.get(), FIRST_SAT);
    let most = PayRequest { payment: sign(CAPACITY_SAT - 294), ..good };
    assert_eq!(buyer.send("/paid/x", &[header(&most)]).await.status, 200);
    assert_eq!(world.api.hits(), 2);
}

#[tokio::test]
async fn a_pending_channel_is_not_served() {
    let world = World::start().await;
    let mut buyer = world.buyer();
    buyer.show(&world, Kind::Cltv).await;

    let answer = buyer.send("/paid/x", &[header(&next(&buyer))]).await;

    assert_eq!(answer.refusal(), refusal(503, "channel-pending"));
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_closing_channel_takes_no_payment_and_an_ended_one_is_gone() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let payment = header(&next(&buyer));
    let closing = buyer.close().await;

    let answer = buyer.send("/paid/x", std::slice::from_ref(&payment)).await;
    assert_eq!(answer.refusal(), refusal(409, "channel-closing"));
    // Closing again is harmless.
    assert_eq!(buyer.close().await, closing);
    world.mine(6).await;
    buyer.until_state(buyer.shown.as_ref().unwrap(), StateName::Settled).await;
    let answer = buyer.send("/paid/x", &[payment]).await;
    assert_eq!(answer.refusal(), refusal(410, "channel-ended"));
    assert_eq!(world.api.hits(), 0);
}

#[tokio::test]
async fn a_proof_of_another_key_host_or_time_shows_nothing() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Refund).await;
    let channel = buyer.channel();
    let subject = StatusSubject::Channel(channel);
    let ask = |subject: StatusSubject, host: &str, time: Timestamp, key: &SecretKey| {
        let place = farebox_channel::Place { host, ..buyer.place() };
        let proof = Proof::sign(&subject.proven(), place, time, key);
        StatusRequest { subject, proof }
    };
    let host = buyer.host.as_str();
    let late = Timestamp::new(wall().get() - 90);
    let close = Subject::Close(channel);
    let unknown = StatusSubject::Channel(OutPoint { vout: 5, ..channel });
    for request in [
        ask(subject, host, wall(), &stranger()),
        ask(subject, "elsewhere.example", wall(), &buyer.key),
        ask(subject, host, late, &buyer.key),
        ask(unknown, host, wall(), &buyer.key),
        StatusRequest { subject, proof: Proof::sign(&close, buyer.place(), wall(), &buyer.key) },
    ] {
        assert_eq!(buyer.step(&request).await.refusal(), refusal(402, "wrong-proof"));
    }
    let foreign = buyer.step(&ask(subject, host, wall(), &stranger())).await.body;
    let nobodys = buyer.step(&ask(unknown, host, wall(), &buyer.key)).await.body;
    assert_eq!(foreign, nobodys, "a foreign channel looks like one that does not exist");

    let key = StatusSubject::Key(buyer.purse().contract().terms.client_key);
    for subject in [subject, key] {
        let told: StatusReply = buyer.ask(&ask(subject, host, wall(), &buyer.key)).await;
        assert_eq!(told.channels.len(), 1);
        assert_eq!(told.channels[0].channel, channel);
        assert_eq!(told.channels[0].payment.paid.get(), FIRST_SAT);
        assert_eq!(told.channels[0].pass, buyer.purse().pass);
    }
}

#[tokio::test]
async fn a_close_for_less_than_is_spent_is_refused() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    for _ in 0..300 {
        buyer.pay("/paid/x").await;
    }
    let contract = buyer.purse().contract().clone();
    let good = buyer.purse().close(buyer.place(), wall(), &buyer.key).unwrap();
    for paid in [0, 449] {
        let payment = Payment::sign(&contract, sat(paid), &buyer.key).unwrap();
        let close = farebox_channel::message::CloseRequest { payment, ..good };
        assert_eq!(buyer.step(&close).await.refusal(), refusal(402, "final-out-of-bounds"));
    }
    let forged = Payment::sign(&contract, sat(450), &stranger()).unwrap();
    let close = farebox_channel::message::CloseRequest { payment: forged, ..good };
    assert_eq!(buyer.step(&close).await.refusal(), refusal(402, "signature-invalid"));
    assert_eq!(buyer.pay("/paid/x").await.status, 200, "the channel is still open");
}
