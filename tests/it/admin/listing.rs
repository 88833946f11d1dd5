//! What the operator is told of the channels.

use farebox_channel::Kind;
use serde_json::{Value, json};

use super::names;
use crate::support::{Buyer, CAPACITY_SAT, FIRST_SAT, Operator, PRICE_MSAT, World};

/// Half an hour less than the shortest lifetime.
const LEFT_SECS: u32 = (2 * 24 * 60 - 30) * 60;

/// Moves the chain's time, by which the gateway goes then, to a while before a channel's expiry.
async fn wait_until_it_expires_in(world: &World, buyer: &Buyer, secs: u32) {
    let expiry = buyer.purse().contract().terms.expiry;
    world.set_median_time_past(u64::from(expiry.get() - secs)).await;
}

#[tokio::test]
async fn the_channels_are_listed_with_their_marks_and_what_is_at_stake() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    assert_eq!(operator.ok(&["channels"]).await, "there are no channels\n");
    let mut open = world.buyer_with_channel(Kind::Cltv).await;
    assert_eq!(open.pay("/paid/x").await.status, 200);
    wait_until_it_expires_in(&world, &open, LEFT_SECS).await;
    let mut pending = world.buyer();
    pending.show(&world, Kind::Refund).await;

    let told = operator.json(&["channels", "--json"]).await;
    let table = operator.ok(&["channels"]).await;

    assert_eq!(names(&told), [open.channel(), pending.channel()].map(|it| it.to_string()));
    let (first, second) = (&told["channels"][0], &told["channels"][1]);
    assert_eq!((&first["state"], &first["kind"]), (&json!("open"), &json!("cltv")));
    assert_eq!(first["capacity_sat"], CAPACITY_SAT);
    assert_eq!((&first["paid_sat"], &first["spent_msat"]), (&json!(FIRST_SAT), &json!(PRICE_MSAT)));
    assert_eq!(first["credit_msat"], FIRST_SAT * 1_000 - PRICE_MSAT);
    assert_eq!(first["at_stake_sat"], FIRST_SAT);
    assert_eq!(first["settlement_txid"], Value::Null);
    assert_eq!((&second["state"], &second["at_stake_sat"]), (&json!("pending"), &json!(0)));
    let expiry = open.purse().contract().terms.expiry;
    assert_eq!(first["expires_at"], expiry.get());
    assert_eq!(first["expires_in_secs"], LEFT_SECS);
    assert_eq!(first["stops_in_secs"], LEFT_SECS - 12 * 60 * 60);
    assert_eq!(first["settles_in_secs"], LEFT_SECS - 10 * 60 * 60);
    assert_eq!(first["bumps_in_secs"], LEFT_SECS - 4 * 60 * 60);
    assert_eq!(told["now"], expiry.get() - LEFT_SECS);
    let total = json!({
        "channels": 2, "locked_sat": 2 * CAPACITY_SAT, "paid_sat": 2 * FIRST_SAT,
        "at_stake_sat": 400, "lost_sat": 0
    });
    assert_eq!(told["total"], total);

    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    for heading in
        ["at stake sat", "expires in", "stops in", "settles in", "bumps in", "settlement"]
    {
        assert!(lines[0].contains(heading), "{table}");
    }
    let cells: Vec<&str> = lines[1].split_whitespace().collect();
    let name = open.channel().to_string();
    assert_eq!(cells[..7], [&name, "open", "cltv", "100000", "400", "1500", "400"]);
    assert_eq!(cells[7..], ["1d", "23h", "1d", "11h", "1d", "13h", "1d", "19h", "-"]);
    assert_eq!(
        lines[3],
        "2 channels: 200000 sat locked, 800 sat paid, 400 sat at stake, 0 sat lost"
    );
}

#[tokio::test]
async fn the_list_can_be_filtered() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    let open = world.buyer_with_channel(Kind::Cltv).await;
    wait_until_it_expires_in(&world, &open, LEFT_SECS).await;
    let mut pending = world.buyer();
    pending.show(&world, Kind::Cltv).await;
    let key = open.purse().contract().terms.client_key.to_string();
    let (open, pending) = (open.channel().to_string(), pending.channel().to_string());

    let cases: [(&[&str], &[&str]); 8] = [
        (&["--state", "open"], &[&open]),
        (&["--state", "open,pending"], &[&open, &pending]),
        (&["--state", "closing,settled"], &[]),
        (&["--within", "2d"], &[&open, &pending]),
        (&["--within", "1d 23h 30m"], &[&open]),
        (&["--within", "1d 23h"], &[]),
        (&["--client", &key], &[&open]),
        (&["--client", &key, "--state", "pending"], &[]),
    ];
    for (filter, expected) in cases {
        let arguments = [&["channels", "--json"], filter].concat();
        assert_eq!(names(&operator.json(&arguments).await), expected, "{filter:?}");
    }
    let none = operator.ok(&["channels", "--state", "lost"]).await;
    assert_eq!(none, "there are no such channels\n");
}

#[tokio::test]
async fn one_channel_is_shown_with_all_that_is_known_of_it() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    let buyer = world.buyer_with_channel(Kind::Refund).await;
    wait_until_it_expires_in(&world, &buyer, 11 * 60 * 60).await;
    let (contract, name) = (buyer.purse().contract().clone(), buyer.channel().to_string());

    let block = operator.ok(&["channels", &name]).await;

    let address = contract.payout.address(bitcoin::Network::Regtest).unwrap();
    for line in [
        format!("channel: {name}"),
        "state: open".to_owned(),
        format!("paid: {FIRST_SAT} sat"),
        format!("at stake: {FIRST_SAT} sat"),
        "expires in: 11h 0m".to_owned(),
        "stops in: past, 1h 0m ago".to_owned(),
        "settles in: 1h 0m".to_owned(),
        format!("client key: {}", contract.terms.client_key),
        format!("payout address: {address}"),
        "cause: -".to_owned(),
        "settlement txid: -".to_owned(),
        "mined height: -".to_owned(),
    ] {
        assert!(block.lines().any(|it| it == line), "{line}: {block}");
    }
}

#[tokio::test]
async fn a_channel_that_is_not_there_is_named() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    let nobody = format!("{}:7", "ab".repeat(32));

    for arguments in [vec!["channels", &nobody], vec!["close", &nobody, "--yes"]] {
        let words = operator.refusal(&arguments).await;
        assert_eq!(words, format!("there is no channel {nobody} on record"));
    }
    let ended = operator.run(&["close", "nonsense"]).await;
    assert!(!ended.status.success());
    let words = String::from_utf8(ended.stderr).unwrap();
    assert!(words.contains("'nonsense'") && words.contains("<txid>:<vout>"), "{words}");
}
