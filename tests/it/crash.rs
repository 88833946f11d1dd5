//! A gateway that is killed, and started again by the same command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use farebox_channel::message::{ChannelStatus, PayRequest, StateName, StateReply};
use farebox_channel::{Kind, Msat};

use crate::support::{Buyer, FIRST_SAT, PRICE_MSAT, World, header, until};

/// Asks what is on record of a buyer's channel.
async fn on_record(buyer: &Buyer) -> ChannelStatus {
    buyer.told(buyer.channel(), &buyer.key).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_payment_is_there_after_a_kill() {
    let mut world = World::start().await;
    let buyer = Arc::new(world.buyer_with_channel(Kind::Cltv).await);
    let price = Msat::new(PRICE_MSAT).unwrap();
    for _ in 0..3 {
        let before = on_record(&buyer).await;
        let acknowledged_paid = Arc::new(AtomicU64::new(before.payment.paid.get()));
        let acknowledged_spent = Arc::new(AtomicU64::new(before.spent.get()));
        let stopped = Arc::new(AtomicBool::new(false));
        // Many requests are under way at the same time, each with a greater amount.
        let mut purse = buyer.purse().clone();
        purse.spent = before.payment.paid.to_msat();
        let mut requests = Vec::new();
        for _ in 0..4_000 {
            let (next, request) = purse.pay(price, &buyer.key).unwrap();
            purse = next;
            requests.push(request);
        }
        let requests = Arc::new(std::sync::Mutex::new(requests.into_iter()));
        let payers: Vec<_> = (0..8)
            .map(|_| {
                let (buyer, requests) = (Arc::clone(&buyer), Arc::clone(&requests));
                let (paid, spent) =
                    (Arc::clone(&acknowledged_paid), Arc::clone(&acknowledged_spent));
                let stopped = Arc::clone(&stopped);
                tokio::spawn(async move {
                    while !stopped.load(Ordering::SeqCst) {
                        let Some(request) = requests.lock().unwrap().next() else {
                            return;
                        };
                        let Some(receipt) = acknowledged(&buyer, &request).await else {
                            return;
                        };
                        paid.fetch_max(receipt.paid.get(), Ordering::SeqCst);
                        spent.fetch_max(receipt.spent.get(), Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let progress = before.spent.get() + 50 * PRICE_MSAT;
        until("payments are on their way", async || {
            acknowledged_spent.load(Ordering::SeqCst) > progress
        })
        .await;

        world.gateway.kill();
        stopped.store(true, Ordering::SeqCst);
        for payer in payers {
            payer.await.unwrap();
        }
        world.gateway.restart();

        let after = on_record(&buyer).await;
        let paid = acknowledged_paid.load(Ordering::SeqCst);
        let spent = acknowledged_spent.load(Ordering::SeqCst);
        assert!(after.payment.paid.get() >= paid, "{after:?} has less than {paid} sat paid");
        assert!(after.spent.get() >= spent, "{after:?} has less than {spent} msat spent");
        assert!(after.spent <= after.payment.paid.to_msat());
        // The signature on record is the client's own over the amount on record.
        after.payment.verify(buyer.purse().contract()).unwrap();
        assert_eq!(after.state, StateName::Open);
    }
}

/// Pays for a request, and returns the receipt if it came.
async fn acknowledged(
    buyer: &Buyer,
    request: &PayRequest,
) -> Option<farebox_channel::message::Receipt> {
    let (name, value) = header(request);
    let url = format!("http://{}/paid/x", buyer.host);
    let answer = buyer.http.get(url).header(name, value).send().await.ok()?;
    let value = answer.headers().get("payment-channel-receipt")?;
    farebox_channel::wire::Field::decode(value.as_bytes()).ok()
}

#[tokio::test]
async fn a_contract_that_was_shown_before_a_kill_opens_after_it() {
    let mut world = World::start().await;
    let mut buyer = world.buyer();
    buyer.show(&world, Kind::Refund).await;

    world.gateway.kill();
    world.node.mine(1).await.unwrap();
    world.gateway.restart();

    until("the channel opens by itself", async || on_record(&buyer).await.state == StateName::Open)
        .await;
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
}

#[tokio::test]
async fn a_close_that_was_accepted_before_a_kill_is_settled_after_it() {
    let mut world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let shown = buyer.shown.clone().unwrap();
    // With the node away, the close is saved and the settlement is not built.
    let node = Arc::get_mut(&mut world.node).unwrap();
    node.stop().await.unwrap();
    let closing = buyer.close().await;
    assert_eq!((closing.state, closing.settlement), (StateName::Closing, None));

    world.gateway.kill();
    world.gateway.restart();
    Arc::get_mut(&mut world.node).unwrap().restart().await.unwrap();
    world.until_the_node_is_followed().await;

    let settlement = buyer.until_settlement().await;
    world.mine_until_mined(settlement).await;
    world.mine(5).await;
    buyer.until_state(&shown, StateName::Settled).await;
    assert_eq!(buyer.ask::<_, StateReply>(&shown).await.paid.get(), FIRST_SAT);
}

#[tokio::test]
async fn blocks_that_were_mined_while_the_gateway_was_down_are_followed_afterwards() {
    let mut world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Refund).await;
    let shown = buyer.shown.clone().unwrap();
    let closing = buyer.close().await;
    assert!(closing.settlement.is_some());

    world.gateway.kill();
    world.node.mine(6).await.unwrap();
    world.gateway.restart();

    buyer.until_state(&shown, StateName::Settled).await;
}

#[tokio::test]
async fn a_gateway_that_is_asked_to_stop_lets_running_requests_end() {
    let mut world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let price = Msat::new(PRICE_MSAT).unwrap();
    let (purse, request) = buyer.purse().pay(price, &buyer.key).unwrap();
    buyer.purse = Some(purse);
    let buyer = Arc::new(buyer);
    let running = {
        let buyer = Arc::clone(&buyer);
        tokio::spawn(async move { buyer.send("/paid/slow", &[header(&request)]).await })
    };
    until("the request is under way", async || world.api.hits() == 1).await;

    let stopping = tokio::task::spawn_blocking(move || (world.gateway.terminate(), world));
    let answer = tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    let (ended_well, _world) = stopping.await.unwrap();

    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "at last\n");
    assert!(ended_well);
}
