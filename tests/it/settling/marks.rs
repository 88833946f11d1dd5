//! The marks before an expiry, each at its second, and idleness.

use farebox_channel::Kind;
use farebox_channel::message::StateName;

use super::{SETTLE_SECS, STOP_SECS, waiting};
use crate::support::{Crowd, FIRST_SAT, World, spenders, until};

const WAIT_SECS: u64 = 600;

#[tokio::test]
async fn each_mark_comes_at_its_second() {
    let mut world = World::start_with(|config| waiting(&config, 600, 50)).await;
    let crowd = Crowd::open(&world, &[Kind::Refund, Kind::Cltv]).await;
    let expiry = crowd.expiry();

    world.set_median_time_past(expiry - STOP_SECS - 1).await;
    assert_eq!(crowd.pay(0, FIRST_SAT).await.status, 200);
    world.set_median_time_past(expiry - STOP_SECS).await;
    let stopped = crowd.pay(0, FIRST_SAT + 2).await.refusal();
    assert_eq!(stopped, (409, "channel-expiring".to_owned()));

    // It closes early enough to wait for others.
    let closes = expiry - SETTLE_SECS - 2 * WAIT_SECS;
    world.set_median_time_past(closes - 1).await;
    assert_eq!(crowd.state(0).await.state, StateName::Open);
    world.set_median_time_past(closes).await;
    crowd.until_state(0, StateName::Closing).await;
    world.set_median_time_past(closes + WAIT_SECS - 1).await;
    assert_eq!(spenders(&world, crowd.outpoints()).await.len(), 0);
    world.set_median_time_past(closes + WAIT_SECS + 2).await;
    let settlement = crowd.until_broadcast(&world).await;

    world.mine_until_mined(settlement[&crowd.outpoints()[0]]).await;
    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    crowd.until_state(1, StateName::Settled).await;
    assert_eq!(world.audit().await.settled, 2);
}

#[tokio::test]
async fn an_idle_channel_is_closed_after_its_time() {
    let mut world =
        World::start_with(|config| config.replace("[batch]\n", "[batch]\nidle_secs = 7_200\n"))
            .await;
    let crowd = Crowd::open(&world, &[Kind::Cltv]).await;
    let now = crate::support::wall().get();
    world.set_median_time_past(now + 3_600).await;
    assert_eq!(crowd.pay(0, 1_000).await.status, 200);

    world.set_median_time_past(now + 3_600 + 7_199).await;
    assert_eq!(crowd.state(0).await.state, StateName::Open, "it was used meanwhile");
    world.set_median_time_past(now + 3_600 + 7_200).await;

    crowd.until_broadcast(&world).await;
    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    assert_eq!(world.audit().await.paid_sat, 1_000);
}

#[tokio::test]
async fn a_request_without_end_keeps_no_channel_open_past_its_mark() {
    let mut world =
        World::start_with(|config| config.replace("[batch]\n", "[batch]\nidle_secs = 7_200\n"))
            .await;
    let crowd = Crowd::open(&world, &[Kind::Cltv, Kind::Refund]).await;
    // What the client sends comes back, and it sends for as long as it likes.
    let endless = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let (name, value) = crowd.payment(0, 50_000);
    let request = crowd.buyer.http.post(world.gateway.url("/paid/echo")).header(name, value);
    let answer = request.body(reqwest::Body::wrap_stream(endless)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let idle = crate::support::wall().get() + 2 * 7_200;
    world.set_median_time_past(idle).await;
    crowd.until_state(1, StateName::Closing).await;
    assert_eq!(crowd.state(0).await.state, StateName::Open, "its charge could be released");

    world.set_median_time_past(crowd.expiry() - SETTLE_SECS).await;

    let endless = vec![crowd.outpoints()[0]];
    until("it is settled", async || spenders(&world, endless.clone()).await.len() == 1).await;
    drop(answer);
    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    assert_eq!(world.audit().await.paid_sat, 50_000 + FIRST_SAT);
}
