//! Closing channels that wait for each other and go out together.

use std::collections::BTreeSet;

use farebox_chain::Chain;
use farebox_channel::message::StateName;
use farebox_channel::{Kind, SETTLEMENT_VSIZE_MAX};
use serde_json::{Value, json};

use super::{SETTLE_SECS, waiting};
use crate::support::{Audit, CAPACITY_SAT, Crowd, FIRST_SAT, World, spenders, until};

#[tokio::test]
async fn seventy_mixed_channels_are_settled_in_one_transaction() {
    let mut world = World::start_with(|config| waiting(&config, 3_600, 70)).await;
    let kinds: Vec<Kind> = (0..70).map(|index| Kind::ALL[index % 2]).collect();
    let crowd = Crowd::open(&world, &kinds).await;
    let mut paid_sat = 0;
    for index in 0..70 {
        assert_eq!(spenders(&world, crowd.outpoints()).await.len(), 0, "it waits for others");
        let exhausted = index % 7 == 0;
        let paid = if exhausted { CAPACITY_SAT } else { FIRST_SAT + u64::try_from(index).unwrap() };
        assert_eq!(crowd.pay(index, paid).await.status, 200);
        assert_eq!(crowd.close(index, paid).await.state, StateName::Closing);
        paid_sat += paid;
    }

    let spent_by: BTreeSet<_> = crowd.until_broadcast(&world).await.into_values().collect();

    assert_eq!(spent_by.len(), 1, "one transaction settles them all");
    let settlement = world.mine_until_mined(*spent_by.first().unwrap()).await;
    assert_eq!((settlement.input.len(), settlement.output.len()), (70, 61));
    let vsize = u64::try_from(settlement.vsize()).unwrap();
    assert!(vsize <= SETTLEMENT_VSIZE_MAX, "{vsize}");
    world.mine(5).await;
    crowd.until_state(69, StateName::Settled).await;
    let audit = world.audit().await;
    assert_eq!((audit.settled, audit.paid_sat), (70, paid_sat));
    // Of 70 signatures some may be a byte shorter than they were taken to be.
    assert!((2 * vsize..=2 * vsize + 8).contains(&audit.fee_sat), "2 sat for each vB");
}

#[tokio::test]
async fn closing_channels_wait_for_their_time_and_no_longer() {
    let mut world = World::start_with(|config| waiting(&config, 3, 50)).await;
    let crowd = Crowd::open(&world, &[Kind::Cltv, Kind::Refund]).await;
    let began = tokio::time::Instant::now();
    crowd.close(0, FIRST_SAT).await;
    assert_eq!(crowd.close(1, FIRST_SAT).await.settlement, None);

    let spent_by = crowd.until_broadcast(&world).await;

    // The clock has whole seconds.
    assert!(began.elapsed().as_secs_f32() > 1.9, "{:?}", began.elapsed());
    let settlement = *spent_by.values().next().unwrap();
    assert_eq!(crowd.state(0).await.settlement, Some(settlement));
    assert_eq!(crowd.state(1).await.settlement, Some(settlement));
    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    assert_eq!(world.audit().await.settled, 2);
}

#[tokio::test]
async fn five_hundred_channels_are_settled_before_their_expiry_and_none_is_forgotten() {
    const WAIT_SECS: u32 = 600;
    let mut world = World::start_with(|config| waiting(&config, WAIT_SECS, 1_000)).await;
    let kinds: Vec<Kind> = (0..500).map(|index| Kind::ALL[index % 2]).collect();
    let crowd = Crowd::open(&world, &kinds).await;
    let mut paid_sat = 0;
    for index in 0..500 {
        let paid = FIRST_SAT + u64::try_from(index).unwrap() * 17;
        assert_eq!(crowd.pay(index, paid).await.status, 200);
        paid_sat += paid;
    }
    let latest = crowd.members.iter().map(|member| member.contract.terms.expiry.get()).max();
    let earliest = crowd.members.iter().map(|member| member.contract.terms.expiry.get()).min();
    assert!(latest.unwrap() - earliest.unwrap() < WAIT_SECS, "they close within one wait");

    let closes = u64::from(latest.unwrap()) - SETTLE_SECS - 2 * u64::from(WAIT_SECS);
    world.set_median_time_past(closes).await;
    crowd.until_state(499, StateName::Closing).await;
    world.set_median_time_past(closes + u64::from(WAIT_SECS)).await;
    crowd.until_broadcast(&world).await;
    world.mine(6).await;
    for index in [0, 250, 499] {
        crowd.until_state(index, StateName::Settled).await;
    }

    let Audit { settled, lost, paid_sat: audited, transactions, .. } = world.audit().await;
    assert_eq!((settled, lost, audited), (500, 0, paid_sat));
    assert!((7..=9).contains(&transactions), "{transactions} transactions");
}

#[tokio::test]
async fn a_batch_that_a_members_refund_evicts_is_rebuilt_without_it() {
    let mut world = World::start_with(|config| waiting(&config, 1, 50)).await;
    // The first expires a day before the others.
    let lasting = [(Kind::Cltv, 0), (Kind::Cltv, 86_400), (Kind::Refund, 86_400)];
    let crowd = Crowd::open_for(&world, &lasting).await;
    for (index, paid) in [FIRST_SAT, 20_000, 30_000].into_iter().enumerate() {
        assert_eq!(crowd.pay(index, paid).await.status, 200);
        crowd.close(index, paid).await;
    }
    let batch = crowd.until_broadcast(&world).await;
    assert_eq!(batch.values().collect::<BTreeSet<_>>().len(), 1);
    let expired = crowd.expiry() + 1;
    world.mine_empty(6, expired).await;

    // It pays more than the whole batch.
    let refund = crowd.refund(0, 200);
    world.node.node(None).broadcast(refund.clone()).await.unwrap();

    let others = crowd.outpoints()[1..].to_vec();
    let old = batch[&others[0]];
    until("the others are settled without it", async || {
        let spent_by = spenders(&world, others.clone()).await;
        spent_by.len() == 2 && spent_by.values().all(|txid| *txid != old)
    })
    .await;
    world.mine(6).await;
    crowd.until_state(0, StateName::Lost).await;
    crowd.until_state(1, StateName::Settled).await;
    assert!(world.node.mined(refund.compute_txid()).await.is_ok());
    let audit = world.audit().await;
    assert_eq!((audit.settled, audit.paid_sat), (2, 50_000));
    assert_eq!((audit.lost, audit.lost_sat), (1, FIRST_SAT));
}

#[tokio::test]
async fn what_is_overdue_at_the_start_goes_out_alone_and_the_rest_waits() {
    let mut world = World::start_with(|config| waiting(&config, 1_800, 50)).await;
    let lasting = [(Kind::Refund, 0), (Kind::Cltv, 86_400), (Kind::Cltv, 86_400)];
    let crowd = Crowd::open_for(&world, &lasting).await;
    let overdue = crowd.expiry() - SETTLE_SECS;
    world.gateway.kill();
    crate::support::set_median_time_past(&world.node, overdue).await;

    world.gateway.restart();
    world.until_the_node_is_followed().await;
    crowd.close(1, FIRST_SAT).await;
    crowd.close(2, FIRST_SAT).await;

    let first = crowd.outpoints()[0];
    until("the overdue one is out", async || {
        spenders(&world, crowd.outpoints()).await.contains_key(&first)
    })
    .await;
    let spent_by = spenders(&world, crowd.outpoints()).await;
    assert_eq!(spent_by.len(), 1, "the others wait for more");
    let settlement = world.mine_until_mined(spent_by[&first]).await;
    assert_eq!(settlement.input.len(), 1);
    world.mine(5).await;
    crowd.until_state(0, StateName::Settled).await;
    assert_eq!(world.audit().await.settled, 1);
}

#[tokio::test]
async fn a_member_that_is_fought_for_keeps_the_settlement_of_its_own() {
    let mut world = World::start_with(|config| waiting(&config, 1, 50)).await;
    // The first expires a day before the other.
    let crowd = Crowd::open_for(&world, &[(Kind::Cltv, 0), (Kind::Cltv, 86_400)]).await;
    for (index, paid) in [60_000, 30_000].into_iter().enumerate() {
        assert_eq!(crowd.pay(index, paid).await.status, 200);
        crowd.close(index, paid).await;
    }
    crowd.until_broadcast(&world).await;
    world.gateway.kill();
    let node = world.node.node(None);
    let _none: Value = node.call("setmocktime", json!([crowd.expiry() + 1])).await.unwrap();
    for _ in 0..6 {
        let _hash: Value = node.call("generateblock", json!(["raw(51)", []])).await.unwrap();
    }
    // It evicts the batch, and is worth less than half of what its channel brings.
    let refund = crowd.refund(0, 150);
    node.broadcast(refund.clone()).await.unwrap();

    world.gateway.restart();
    world.until_the_node_is_followed().await;

    let spent_by = crowd.until_broadcast(&world).await;
    let [first, other] = [crowd.outpoints()[0], crowd.outpoints()[1]];
    assert_ne!(spent_by[&first], refund.compute_txid());
    assert_ne!(spent_by[&first], spent_by[&other]);
    assert_eq!(crowd.state(0).await.settlement, Some(spent_by[&first]));
    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    crowd.until_state(1, StateName::Settled).await;
    assert_eq!(world.audit().await.paid_sat, 90_000);
}
