//! Blocks that are taken back.

use farebox_chain::Chain;
use farebox_channel::Kind;
use farebox_channel::message::StateName;

use crate::support::{Crowd, World, until};

async fn a_reorg_of_the_settlement(depth: u32) {
    let mut world = World::start().await;
    let crowd = Crowd::open(&world, &[Kind::Cltv, Kind::Refund]).await;
    for (index, paid) in [5_000, 6_000].into_iter().enumerate() {
        assert_eq!(crowd.pay(index, paid).await.status, 200);
        crowd.close(index, paid).await;
    }
    crowd.until_broadcast(&world).await;
    world.mine(depth).await;
    if depth == 6 {
        crowd.until_state(0, StateName::Settled).await;
    }

    world.unmine(depth).await;
    crowd.until_state(0, StateName::Closing).await;
    let refused = crowd.pay(0, 5_002).await;
    assert_eq!(refused.refusal(), (409, "channel-closing".to_owned()));
    crowd.until_broadcast(&world).await;

    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    crowd.until_state(1, StateName::Settled).await;
    let audit = world.audit().await;
    assert_eq!((audit.settled, audit.paid_sat), (2, 11_000));
}

#[tokio::test]
async fn a_reorg_of_one_block_takes_a_settlement_back() {
    a_reorg_of_the_settlement(1).await;
}

#[tokio::test]
async fn a_reorg_of_six_blocks_takes_a_settlement_back_that_counted_as_final() {
    a_reorg_of_the_settlement(6).await;
}

async fn a_reorg_of_contract_and_settlement(depth: u32) {
    let mut world = World::start().await;
    let crowd = Crowd::open(&world, &[Kind::Refund]).await;
    assert_eq!(crowd.pay(0, 5_000).await.status, 200);
    crowd.close(0, 5_000).await;
    crowd.until_broadcast(&world).await;
    world.mine(depth - 1).await;

    // The contract goes back to the mempool too. It may not be spent there.
    world.unmine(depth).await;
    crowd.until_state(0, StateName::Closing).await;
    world.mine(1).await;

    let node = world.node.node(None);
    until("the settlement is mined", async || {
        world.node.mine_what_waits().await.unwrap();
        node.confirmed(crowd.outpoints()[0]).await.unwrap().is_none()
    })
    .await;
    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    let audit = world.audit().await;
    assert_eq!((audit.settled, audit.paid_sat), (1, 5_000));
}

#[tokio::test]
async fn a_settlement_waits_for_its_contract_after_a_reorg_of_one_block() {
    a_reorg_of_contract_and_settlement(1).await;
}

#[tokio::test]
async fn a_settlement_waits_for_its_contract_after_a_reorg_of_six_blocks() {
    a_reorg_of_contract_and_settlement(6).await;
}
