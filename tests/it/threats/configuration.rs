//! Bounds of the configuration, what the offer makes of them, and fees that a channel cannot pay.

use farebox_channel::Kind;
use farebox_channel::message::StateName;

use crate::config::{GOOD, parse};
use crate::support::{CAPACITY_SAT, FIRST_SAT, World};

/// The usual configuration with these lines about the offer.
fn offering(lines: &str) -> Result<farebox::config::Config, String> {
    parse(&GOOD.replace("[upstream]", &format!("[offer]\n{lines}\n[upstream]")))
}

#[test]
fn the_smallest_channel_holds_the_first_payment_and_dust() {
    let with = |first: u64, least: u64| {
        offering(&format!("first_payment_sat = {first}\ncapacity_min_sat = {least}"))
    };
    for least in [1_000, 50_000] {
        // 546 sat are the greatest dust of all payout scripts.
        let first = with(least - 546, least).unwrap().offer.first_payment;
        assert_eq!(first.map(farebox_channel::Sat::get), Some(least - 546));
        assert!(with(least - 545, least).unwrap_err().contains("`offer.first_payment_sat`"));
    }
    for least in [1, 999] {
        assert!(with(1, least).unwrap_err().contains("`offer.capacity_min_sat`"));
    }
}

#[test]
fn bounds_that_cross_are_refused_and_bounds_that_meet_are_taken() {
    let lifetime = |least: u32, most: u32| {
        offering(&format!("lifetime_min_secs = {least}\nlifetime_max_secs = {most}"))
    };
    assert!(lifetime(172_801, 172_800).unwrap_err().contains("`offer.lifetime_min_secs`"));
    let offer = lifetime(172_800, 172_800).unwrap().offer;
    assert_eq!(offer.lifetime.start(), offer.lifetime.end());
    let capacity = |least: u32, most: u32| {
        offering(&format!("capacity_min_sat = {least}\ncapacity_max_sat = {most}"))
    };
    assert!(capacity(60_001, 60_000).unwrap_err().contains("`offer.capacity_min_sat`"));
    let offer = capacity(60_000, 60_000).unwrap().offer;
    assert_eq!(offer.capacity.start(), offer.capacity.end());
}

#[tokio::test]
async fn the_offer_says_what_the_configuration_sets() {
    let world = World::start_with(|config| {
        let set = "[offer]\nkinds = [\"cltv\"]\ncapacity_min_sat = 70_000\n\
                   capacity_max_sat = 80_000\nlifetime_min_secs = 200_000\n\
                   lifetime_max_secs = 300_000\nconfirmations = 3";
        config.replace("[offer]", set)
    })
    .await;

    let offer = world.buyer().offer().await;

    assert_eq!(offer.kinds, [Kind::Cltv]);
    assert_eq!((offer.capacity.start().get(), offer.capacity.end().get()), (70_000, 80_000));
    assert_eq!((offer.lifetime.start().get(), offer.lifetime.end().get()), (200_000, 300_000));
    assert_eq!((offer.first_payment.get(), offer.confirmations), (FIRST_SAT, 3));
}

#[tokio::test]
async fn the_default_first_payment_settles_its_channel() {
    for (fees, first_sat) in [("", 400), ("[fees]\nfallback_sat_per_vb = 20\n\n", 4_000)] {
        let world = World::start_with(|config| {
            let set = format!("first_payment_sat = {FIRST_SAT}\n");
            assert!(config.contains(&set));
            config.replace(&set, "").replace("[upstream]", &format!("{fees}[upstream]"))
        })
        .await;
        let buyer = world.buyer_with_channel(Kind::Refund).await;

        let closing = buyer.close().await;

        assert_eq!(buyer.offer().await.first_payment.get(), first_sat);
        assert_eq!(closing.paid.get(), first_sat);
        let settlement = world.mine_until_mined(closing.settlement.unwrap()).await;
        assert_eq!(settlement.output[0].value.to_sat(), CAPACITY_SAT - first_sat);
    }
}

#[tokio::test]
async fn a_channel_that_cannot_pay_its_settlement_waits_until_fees_fall() {
    let mut world = World::start_with(|config| {
        config.replace("[upstream]", "[fees]\nfallback_sat_per_vb = 10\n\n[upstream]")
    })
    .await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let shown = buyer.shown.clone().unwrap();

    // 400 sat do not pay for 170 vB at 10 sat/vB.
    let closing = buyer.close().await;
    assert_eq!((closing.state, closing.settlement), (StateName::Closing, None));
    world.mine(7).await;
    let waiting = buyer.close().await;
    assert_eq!((waiting.state, waiting.settlement), (StateName::Closing, None));

    let config = world.file("farebox.toml");
    let cheaper = std::fs::read_to_string(&config).unwrap().replace("_per_vb = 10", "_per_vb = 2");
    std::fs::write(&config, cheaper).unwrap();
    world.gateway.kill();
    world.gateway.restart();
    let settlement = buyer.until_settlement().await;
    let settlement = world.mine_until_mined(settlement).await;
    assert_eq!(settlement.output[0].value.to_sat(), CAPACITY_SAT - FIRST_SAT);
    world.mine(5).await;
    buyer.until_state(&shown, StateName::Settled).await;
}
