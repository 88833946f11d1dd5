//! Channels that the operator closes.

use std::sync::Arc;

use bitcoin::Txid;
use farebox_channel::Kind;
use farebox_channel::message::StateName;
use serde_json::json;

use super::{paid_to, pay_dear, view};
use crate::support::{CAPACITY_SAT, Operator, World};

#[tokio::test]
async fn a_close_by_the_operator_settles_what_is_paid_and_can_be_repeated() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    pay_dear(&mut buyer, 2).await;
    let (channel, paid_sat) = (buyer.channel(), buyer.purse().payment.paid.get());
    let name = channel.to_string();

    let closed = operator.ok(&["close", &name, "--yes"]).await;

    let begin = format!("channel {name} is closing for {paid_sat} sat with ");
    let txid: Txid = closed.trim().strip_prefix(&begin).unwrap().parse().unwrap();
    let refused = buyer.pay("/paid/x").await;
    assert_eq!(refused.problem(), "channel-closing");
    let again = operator.ok(&["close", &name, "--yes"]).await;
    assert_eq!(
        again,
        format!("channel {name} is closing already for {paid_sat} sat with {txid}\n")
    );
    let told = view(&operator, channel).await;
    assert_eq!((&told["cause"], &told["at_stake_sat"]), (&json!("operator"), &json!(paid_sat)));

    let settlement = world.mine_until_mined(txid).await;
    let change = paid_to(&settlement, buyer.purse().contract().payout.script());
    assert_eq!(change, CAPACITY_SAT - paid_sat);
    world.mine(5).await;
    buyer.until_state(&buyer.shown.clone().unwrap(), StateName::Settled).await;
    let told = view(&operator, channel).await;
    assert_eq!((&told["state"], &told["at_stake_sat"]), (&json!("settled"), &json!(0)));
    assert_eq!((&told["spent_by"], &told["cause"]), (&json!("settlement"), &json!("operator")));
    assert!(told["mined_height"].is_u64() && told["settles_in_secs"].is_null(), "{told}");
    let ended = operator.ok(&["close", &name, "--yes"]).await;
    assert_eq!(ended, format!("channel {name} is settled already, with {txid}\n"));
    let total = operator.json(&["channels", "--json"]).await["total"].clone();
    assert_eq!((&total["locked_sat"], &total["at_stake_sat"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_channel_that_was_never_served_is_not_closed() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    let mut buyer = world.buyer();
    let shown = buyer.show(&world, Kind::Cltv).await;
    let name = buyer.channel().to_string();

    let words = operator.refusal(&["close", &name, "--yes"]).await;

    assert!(words.starts_with(&format!("channel {name} is pending: ")), "{words}");
    assert!(words.contains("not confirmed"), "{words}");
    world.mine(1).await;
    buyer.until_state(&shown, StateName::Open).await;
}

#[tokio::test]
async fn nothing_is_closed_where_nobody_can_be_asked() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    let buyer = world.buyer_with_channel(Kind::Cltv).await;

    for arguments in [vec!["close", &buyer.channel().to_string()], vec!["settle", "--all"]] {
        let words = operator.refusal(&arguments).await;
        assert_eq!(words, "there is no terminal to ask at: give --yes");
    }
    assert_eq!(view(&operator, buyer.channel()).await["state"], "open");
    let ended = operator.run(&["settle", "--yes"]).await;
    assert!(String::from_utf8(ended.stderr).unwrap().contains("--all"));
}

#[tokio::test]
async fn settle_all_closes_every_open_channel_and_no_other() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    let nothing = operator.ok(&["settle", "--all"]).await;
    assert_eq!(nothing, "there are no open channels\n");
    let mut buyers = Vec::new();
    for kind in [Kind::Cltv, Kind::Refund, Kind::Cltv] {
        buyers.push(world.buyer_with_channel(kind).await);
    }
    pay_dear(&mut buyers[2], 1).await;
    let paid: Vec<u64> = buyers.iter().map(|buyer| buyer.purse().payment.paid.get()).collect();
    let mut pending = world.buyer();
    pending.show(&world, Kind::Cltv).await;

    let told = operator.ok(&["settle", "--all", "--yes"]).await;

    let first = format!("closed 3 channels for {} sat", paid.iter().sum::<u64>());
    assert_eq!(told.lines().next(), Some(first.as_str()), "{told}");
    for (buyer, paid_sat) in buyers.iter().zip(paid) {
        let begin = format!("{}  {paid_sat} sat  ", buyer.channel());
        assert!(told.lines().any(|line| line.starts_with(&begin)), "{told}");
        assert_eq!(view(&operator, buyer.channel()).await["state"], "closing");
        let settlement = world.mine_until_mined(buyer.until_settlement().await).await;
        let change = paid_to(&settlement, buyer.purse().contract().payout.script());
        assert_eq!(change, CAPACITY_SAT - paid_sat);
    }
    let kept = view(&operator, pending.channel()).await;
    assert_ne!(kept["state"], "closing", "{kept}");
}

#[tokio::test]
async fn a_close_while_the_node_is_away_is_settled_once_it_is_back() {
    let mut world = World::start().await;
    let operator = Operator::of(&world);
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    Arc::get_mut(&mut world.node).unwrap().stop().await.unwrap();

    let told = operator.ok(&["close", &buyer.channel().to_string(), "--yes"]).await;
    let export = operator.refusal(&["export-settlements"]).await;

    assert!(told.contains("its settlement is built once that is possible"), "{told}");
    assert!(export.starts_with("bitcoind is needed for this: "), "{export}");
    Arc::get_mut(&mut world.node).unwrap().restart().await.unwrap();
    world.until_the_node_is_followed().await;
    let settlement = buyer.until_settlement().await;
    world.mine_until_mined(settlement).await;
}
