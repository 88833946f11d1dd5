//! What streams cost the gateway while they wait for credit.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::feed::EVENTS;
use super::{DRAW_MSAT, Stand, hear};

/// The streams that wait at the same time.
const STREAMS: u64 = 1_000;
/// The most that one of them may cost with both its connections, in KiB. A build with debug information
/// needs the most, about 70.
const EACH_MAX_KIB: u64 = 128;
/// How long all of them may take to go on.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_wait_for_little_memory_and_go_on_when_they_are_paid() {
    rlimit::increase_nofile_limit(20_000).unwrap();
    let mut stand = Stand::start("events = { msat = 1_000 }\nwait_secs = 600").await;
    let host = stand.world.gateway.host.clone();
    // It has been used before, as any gateway has.
    let (listener, mut side) = stand.open(DRAW_MSAT, &[], EVENTS).await;
    side.end().await;
    assert!(listener.end().await.0.success());
    drop(side);
    stand.until_spent(0).await;
    let payment = stand.payment((STREAMS - 1) * DRAW_MSAT);
    assert_eq!(stand.account().await.credit.get(), STREAMS * DRAW_MSAT);
    let before = stand.world.gateway.resident_kib();

    let request = format!("GET /stream HTTP/1.1\r\nHost: {host}\r\n{payment}\r\n\r\n");
    // Whatever the gateway has read of an answer, the next request comes on a connection of its own.
    let head = EVENTS.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let mut waiting = Vec::new();
    let mut sides = Vec::new();
    for number in 0..STREAMS {
        let mut socket = TcpStream::connect(&host).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut side = stand.feed.asked().await;
        side.say(&head).await;
        side.chunk(&format!("data: a{number}\n\n")).await;
        hear(&mut socket, &format!("data: a{number}\n\n")).await;
        waiting.push(socket);
        sides.push(side);
    }
    assert_eq!(stand.account().await.credit.get(), 0);
    for (number, side) in sides.iter_mut().enumerate() {
        side.chunk(&format!("data: b{number}\n\n")).await;
        side.end().await;
    }
    for socket in &mut waiting {
        hear(socket, "\"state\":\"paused\"").await;
    }

    let cost = stand.world.gateway.resident_kib().saturating_sub(before);
    assert!(cost <= STREAMS * EACH_MAX_KIB, "{STREAMS} cost {cost} KiB");

    let mut going = JoinSet::new();
    for (number, mut socket) in waiting.into_iter().enumerate() {
        going.spawn(async move { hear(&mut socket, &format!("data: b{number}\n\n")).await });
    }
    stand.pay(STREAMS * DRAW_MSAT).await;
    let ended = timeout(PATIENCE, going.join_all()).await;
    assert_eq!(ended.expect("all go on").len(), 1_000);
    stand.until_spent(2 * STREAMS * DRAW_MSAT).await;
    drop(sides);
}
