//! Streams on channels whose contract no block has yet.

use farebox_channel::Kind;
use farebox_channel::message::StateName;

use super::feed::EVENTS;
use super::{Stand, stream_route};

/// Starts a gateway that serves such channels for 1,200 sat each, and a client with one.
async fn trusted(rates: &str) -> Stand {
    let (world, feed) = Stand::world(&stream_route(&format!("[route.rates]\n{rates}")), |config| {
        let trust =
            "confirmations = 0\nunconfirmed_max_sat = 1_200\nunconfirmed_total_sat = 1_200\n";
        config.replace("[offer]\n", &format!("[offer]\n{trust}"))
    })
    .await;
    let mut buyer = world.buyer();
    buyer.show_as(&world, Kind::Cltv, StateName::Open).await;
    Stand { world, feed, buyer, payment: None }
}

#[tokio::test]
async fn a_stream_on_an_unconfirmed_channel_takes_its_allowance_pauses_and_goes_on_after_a_block() {
    let mut stand = trusted("events = { msat = 500_000 }").await;
    let (mut listener, mut side) = stand.open(5_000_000, &[], EVENTS).await;
    side.chunk("data: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\ndata: 5\n\n").await;

    let told = listener.hear("\"state\":\"paused\"}\n\n").await;
    assert!(told.contains("data: 1\n\ndata: 2\n\n"), "{told}");
    assert!(told.contains("{\"cost_msat\":1000000,"), "{told}");
    assert_eq!(stand.account().await.spent.get(), 1_200_000, "all that is served before a block");
    stand.world.mine(1).await;

    let rest = listener.hear("data: 5\n\n").await;
    assert!(rest.starts_with("data: 3\n\n"), "{rest}");
    side.end().await;
    assert!(listener.end().await.0.success());
    stand.until_spent(2_500_000).await;
}

#[tokio::test]
async fn a_stream_whose_channel_is_not_confirmed_in_time_ends_with_the_reason() {
    let mut stand = trusted("events = { msat = 500_000 }\nwait_secs = 0").await;
    let (mut listener, mut side) = stand.open(5_000_000, &[], EVENTS).await;
    side.chunk("data: 1\n\ndata: 2\n\ndata: 3\n\n").await;

    listener.hear("\"reason\":\"channel-pending\",\"state\":\"ended\"}\n\n").await;

    assert!(listener.end().await.0.success());
    side.left().await;
    stand.until_spent(1_000_000).await;
}
