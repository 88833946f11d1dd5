//! Channels that are not worth their settlement.

use farebox_chain::Chain;
use farebox_channel::Kind;
use farebox_channel::message::StateName;

use super::{SETTLE_SECS, costing};
use crate::support::{Crowd, FIRST_SAT, World, spenders};

#[tokio::test]
async fn an_uneconomic_channel_waits_and_is_written_off_at_its_mark() {
    let mut world = World::start_with(|config| costing(&config, 50)).await;
    let crowd = Crowd::open(&world, &[Kind::Cltv, Kind::Refund]).await;
    assert_eq!(crowd.pay(1, 50_000).await.status, 200);
    assert_eq!(crowd.pay(0, FIRST_SAT).await.status, 200);
    crowd.close(0, FIRST_SAT).await;
    crowd.close(1, 50_000).await;
    let other = crowd.outpoints()[1];
    let spent_by = spenders(&world, crowd.outpoints()).await;
    assert_eq!(spent_by.keys().collect::<Vec<_>>(), [&other], "it joins no batch at this price");
    world.mine_until_mined(spent_by[&other]).await;

    let mark = crowd.expiry() - SETTLE_SECS;
    world.set_median_time_past(mark - 1).await;
    assert_eq!(crowd.state(0).await.state, StateName::Closing);
    world.set_median_time_past(mark).await;
    crowd.until_state(0, StateName::WrittenOff).await;

    // It is left to the refund of its client.
    world.set_median_time_past(crowd.expiry() + 1).await;
    world.node.node(None).broadcast(crowd.refund(0, 2)).await.unwrap();
    world.mine(6).await;
    crowd.until_state(0, StateName::Lost).await;
    let audit = world.audit().await;
    assert_eq!((audit.settled, audit.lost, audit.lost_sat), (1, 1, FIRST_SAT));
}

#[tokio::test]
async fn an_uneconomic_channel_is_settled_once_fees_fall() {
    let mut world = World::start_with(|config| costing(&config, 50)).await;
    let mut crowd = Crowd::open(&world, &[Kind::Cltv]).await;
    crowd.close(0, FIRST_SAT).await;
    assert_eq!(spenders(&world, crowd.outpoints()).await.len(), 0);

    world.reconfigure(|config| costing(&config, 1));
    crowd.buyer.host = world.gateway.host.clone();

    crowd.until_broadcast(&world).await;
    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    assert_eq!(world.audit().await.paid_sat, FIRST_SAT);
}
