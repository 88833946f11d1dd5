//! For how long rates hold that a client was told.

use farebox_channel::Kind;

use super::feed::CHUNKED;
use super::{DRAW_MSAT, Stand, stream_route};
use crate::support::until;

/// Buys an answer of ten bytes, and returns what its last receipt says that it has cost.
async fn cost(stand: &mut Stand) -> u64 {
    let fields = ["--http1.1", "--header", "TE: trailers"];
    let (listener, mut side) = stand.open(DRAW_MSAT, &fields, CHUNKED).await;
    side.chunk("0123456789").await;
    side.end().await;
    let (status, answer) = listener.end().await;
    assert!(status.success(), "{answer}");
    let (_, told) = answer.rsplit_once("price=").unwrap();
    told.trim().parse().unwrap()
}

#[tokio::test]
async fn rates_that_were_told_are_charged_for_their_time_and_then_the_new_ones() {
    let rates = "rates = { answer_msat = 50, bytes = { msat = 10 } }";
    let (world, feed) =
        Stand::world(&stream_route(rates), |config| format!("quote_secs = 2\n{config}")).await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let mut stand = Stand { world, feed, buyer, payment: None };

    // The answer costs more, and its bytes less.
    let changed = "rates = { answer_msat = 90, bytes = { msat = 7 } }";
    stand.reload(|config| config.replace(rates, changed)).await;

    assert_eq!(cost(&mut stand).await, 50 + 70);
    until("the new rates are charged", async || cost(&mut stand).await == 90 + 70).await;
}
