//! A gateway that was restored from a backup, or has lost its store.

use std::fs;

use farebox_channel::Kind;
use farebox_channel::message::{PayRequest, Receipt, StateName};

use crate::support::{Buyer, FIRST_SAT, World, header, until};

/// Takes a backup of the gateway's store, while it is stopped.
pub(crate) fn back_up(world: &mut World) {
    assert!(world.gateway.terminate());
    fs::copy(world.file("farebox.sqlite"), world.file("backup.sqlite")).unwrap();
    world.gateway.restart();
}

/// Puts the backup in the place of the store, and starts the gateway as restored.
pub(crate) async fn restore(world: &mut World) {
    restore_unseen(world).await;
    world.mine(6).await;
}

/// Does the same, and leaves the contracts to be looked up yet.
pub(crate) async fn restore_unseen(world: &mut World) {
    lose_store(world);
    fs::copy(world.file("backup.sqlite"), world.file("farebox.sqlite")).unwrap();
    start_unseen(world).await;
}

pub(crate) fn lose_store(world: &mut World) {
    world.gateway.kill();
    for companion in ["", "-wal", "-shm", "-payments"] {
        let _gone = fs::remove_file(world.file(&format!("farebox.sqlite{companion}")));
    }
}

/// Starts the gateway as restored, and mines until the restore is deep.
pub(crate) async fn start_restored(world: &mut World) {
    start_unseen(world).await;
    world.mine(6).await;
}

async fn start_unseen(world: &mut World) {
    world.gateway.restart_with(&["--restored"]);
    world.until_the_node_is_followed().await;
}

/// Asks until the channel has been looked up again.
async fn until_open(buyer: &Buyer) {
    buyer.until_state(buyer.shown.as_ref().unwrap(), StateName::Open).await;
}

/// Sends the newest payment of a buyer to the well-known path.
async fn top_up(buyer: &Buyer) -> Receipt {
    buyer.ask(&buyer.purse().top_up()).await
}

#[tokio::test]
async fn a_restored_gateway_takes_the_newer_payment_and_grants_nothing_twice() {
    let mut world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
    back_up(&mut world);
    // All of the first payment is spent after the backup, and 2 sat more.
    for _ in 0..267 {
        assert_eq!(buyer.pay("/paid/x").await.status, 200);
    }
    let (paid, hits) = (buyer.purse().payment.paid.get(), world.api.hits());
    assert_eq!((paid, hits), (FIRST_SAT + 2, 268));

    restore(&mut world).await;
    let old = buyer.shown.clone().unwrap().payment;
    let old = PayRequest { payment: old, ..buyer.purse().top_up() };
    until("the contract is looked up again", async || {
        buyer.send("/paid/x", &[header(&old)]).await.refusal() != (503, "channel-pending".into())
    })
    .await;
    let refused = buyer.send("/paid/x", &[header(&old)]).await;
    assert_eq!(refused.refusal(), (402, "channel-restored".to_owned()));
    let caught_up = top_up(&buyer).await;

    assert_eq!((caught_up.paid.get(), caught_up.spent.get()), (402, 402_000));
    assert_eq!(caught_up.credit.get(), 0);
    let again = buyer.send("/paid/x", &[header(&old)]).await;
    assert_eq!(again.refusal(), (402, "underpaid".to_owned()));
    assert_eq!(world.api.hits(), hits, "nothing was granted twice");
    buyer.purse = Some(buyer.purse().catch_up(&caught_up).unwrap());
    assert_eq!(buyer.pay("/paid/x").await.receipt().paid.get(), FIRST_SAT + 4);

    let closing = buyer.close().await;
    let settlement = world.mine_until_mined(buyer.until_settlement().await).await;
    assert_eq!(closing.paid.get(), FIRST_SAT + 4);
    assert_eq!(settlement.output[0].value.to_sat(), 100_000 - FIRST_SAT - 4);
}

#[tokio::test]
async fn a_client_that_shows_its_contract_again_goes_on_with_a_gateway_that_lost_its_store() {
    let mut world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Refund).await;
    for _ in 0..300 {
        assert_eq!(buyer.pay("/paid/x").await.status, 200);
    }

    lose_store(&mut world);
    start_restored(&mut world).await;
    let unknown = buyer.pay("/paid/x").await;
    assert_eq!(unknown.refusal(), (410, "channel-unknown".to_owned()));
    let mut shown = buyer.shown.clone().unwrap();
    (shown.payment, shown.transaction) = (buyer.purse().payment, None);
    buyer.shown = Some(shown);
    until_open(&buyer).await;
    let caught_up = top_up(&buyer).await;
    buyer.purse = Some(buyer.purse().catch_up(&caught_up).unwrap());

    assert_eq!(caught_up.spent, caught_up.paid.to_msat());
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
    // A channel that is opened from now on keeps its first payment as credit.
    let other = world.buyer_with_channel(Kind::Cltv).await;
    let receipt = top_up(&other).await;
    assert_eq!(receipt.credit.get(), FIRST_SAT * 1_000);
    assert_eq!(receipt.spent.get(), 0);
}

#[tokio::test]
async fn what_was_settled_after_the_backup_is_found_on_the_chain() {
    let mut world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    back_up(&mut world);
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
    buyer.close().await;
    world.mine_until_mined(buyer.until_settlement().await).await;
    world.mine(5).await;

    restore(&mut world).await;

    buyer.until_state(buyer.shown.as_ref().unwrap(), StateName::Settled).await;
    let gone = buyer.send("/paid/x", &[header(&buyer.purse().top_up())]).await;
    assert_eq!(gone.refusal(), (410, "channel-ended".to_owned()));
}
