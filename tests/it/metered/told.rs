//! What a client is told before and while an answer is charged by what passes.

use farebox_channel::message::Offer;

use super::Stand;
use super::feed::EVENTS;

#[tokio::test]
async fn an_offer_tells_the_rates_and_that_of_a_flat_route_none() {
    let rates = "answer_msat = 7\nbytes = { msat = 3, per = 1_024 }\nsecs = { msat = 10 }";
    let stand = Stand::start(&format!("{rates}\nwait_secs = 12")).await;

    let metered: Offer = stand.buyer.send("/stream", &[]).await.message();
    let rates = metered.rates.unwrap();
    let rate = |rate: Option<farebox_channel::message::OfferedRate>| {
        rate.map(|rate| (rate.price().get(), rate.units()))
    };

    assert_eq!(metered.price.get(), super::DRAW_MSAT);
    assert_eq!((rates.answer.get(), rates.wait.get()), (7, 12));
    assert_eq!((rate(rates.bytes), rate(rates.millis)), (Some((3, 1_024)), Some((10, 1_000))));
    assert_eq!((rates.events, rates.messages), (None, None));
    assert_eq!(stand.buyer.offer().await.rates, None);
}

#[tokio::test]
async fn receipts_tell_that_an_answer_goes_on_charging_until_it_has_ended() {
    let mut stand = Stand::start("events = { msat = 400 }").await;
    let (mut listener, mut side) = stand.open(50_000, &["--http1.1"], EVENTS).await;
    side.chunk("data: 1\n\n").await;
    let head = listener.hear("data: 1\n\n").await.to_ascii_lowercase();
    assert!(head.contains(&format!("price={}, running\r\n", super::DRAW_MSAT)), "{head}");
    assert!(stand.account().await.is_running);

    side.end().await;
    assert!(listener.end().await.0.success());

    crate::support::until("nothing runs", async || !stand.account().await.is_running).await;
    assert_eq!(stand.account().await.spent.get(), 400);
}
