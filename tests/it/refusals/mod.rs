//! Every refusal of the paid path, over HTTP, each with its own type.

mod opening;
mod paying;

use farebox_channel::message::PayRequest;
use farebox_channel::{Kind, Msat, Sat};
use secp256k1::SecretKey;

use crate::support::{Buyer, PRICE_MSAT, World, header};

fn refusal(status: u16, kind: &str) -> (u16, String) {
    (status, kind.to_owned())
}

fn sat(amount: u64) -> Sat {
    Sat::new(amount).unwrap()
}

fn stranger() -> SecretKey {
    SecretKey::from_slice(&[9; 32]).unwrap()
}

/// Returns a payment of the next request.
fn next(buyer: &Buyer) -> PayRequest {
    let price = Msat::new(PRICE_MSAT).unwrap();
    buyer.purse().pay(price, &buyer.key).unwrap().1
}

#[tokio::test]
async fn a_malformed_field_is_named_with_its_key() {
    let world = World::start().await;
    let buyer = world.buyer();
    for (name, value) in [
        ("payment-channel-pay", "complete nonsense ((("),
        ("payment-channel-pay", "channel=1"),
        ("payment-channel-open", "kind=cltv, key=:AAAA:, capacity=1, lifetime=1"),
        ("payment-channel-open", "kind=other, key=:AAAA:, capacity=1, lifetime=1"),
        ("payment-channel-refund", "outpoint=\"x\", capacity=-1"),
        ("payment-channel-watch", "key=?1"),
        ("payment-channel-contract", ""),
        ("payment-channel-status", "time=now"),
        ("payment-channel-close", "channel=\"00:0\""),
    ] {
        for path in ["/paid/x", "/.well-known/payment-channel"] {
            let answer = buyer.send(path, &[(name, value.to_owned())]).await;
            assert_eq!(answer.refusal(), refusal(400, "malformed"), "{name}: {value}");
            assert!(answer.body.contains(name), "{}", answer.body);
        }
    }
    let huge = ("payment-channel-pay", format!("x=\"{}\"", "a".repeat(7_000)));
    assert_eq!(buyer.send("/paid/x", &[huge]).await.refusal(), refusal(400, "malformed"));
    assert_eq!(world.api.hits(), 0);
}

#[tokio::test]
async fn two_steps_in_one_request_are_refused() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let payment = header(&next(&buyer));

    let answer = buyer.send("/paid/x", &[payment.clone(), payment]).await;

    assert_eq!(answer.refusal(), refusal(400, "malformed"));
}
