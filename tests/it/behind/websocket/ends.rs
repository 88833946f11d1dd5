//! How WebSockets end.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::super::Front;
use super::super::service::pass;
use super::sockets::{Sockets, close_of, echo, next, open};
use crate::support::{terminate, until};

/// How many do not read at once.
const SLOW: usize = 20;
/// The most that the gateway may grow by for all of them, in KiB.
const GROWTH_MAX_KIB: u64 = 4 * 1024;

#[tokio::test]
async fn each_side_closes_with_a_code_and_a_reason_and_the_other_one_hears_them() {
    let service = Sockets::start().await;
    let front = Front::start(&service.url(), "").await;

    let mut socket = open(front.host(), "/x").await;
    let bye = CloseFrame { code: 4002.into(), reason: "that is all".into() };
    socket.close(Some(bye.clone())).await.unwrap();
    // The close frame comes back.
    assert_eq!(close_of(&mut socket).await, Some((4002, "that is all".to_owned())));
    until("the service has heard", async || service.ends() == [Some(bye.clone())]).await;

    let mut socket = open(front.host(), "/x").await;
    socket.send(Message::text("leave")).await.unwrap();
    assert_eq!(close_of(&mut socket).await, Some((4001, "enough".to_owned())));
    until("nothing is left", async || service.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noted_and_leaves_nothing_behind() {
    let service = Sockets::start().await;
    let front = Front::start(&service.url(), "[log]\naccess = \"text\"\n").await;
    let mut socket = open(front.host(), "/x").await;
    echo(&mut socket, "here").await;

    drop(socket);

    until("the service is left", async || service.open() == 0).await;
    front.logged("client_left=true").await;
    assert_eq!(front.metric("farebox_requests_in_flight").await, 0);
    assert_eq!(service.ends(), [None]);
}

#[tokio::test]
async fn a_service_that_hangs_up_or_dies_ends_the_websocket() {
    let service = Sockets::start().await;
    let front = Front::start(&service.url(), "").await;
    let mut socket = open(front.host(), "/x").await;
    socket.send(Message::text("drop")).await.unwrap();
    assert_eq!(close_of(&mut socket).await, None);

    let mut socket = open(front.host(), "/x").await;
    echo(&mut socket, "here").await;
    drop(service);
    assert_eq!(close_of(&mut socket).await, None);
    until("nothing is left", async || front.metric("farebox_requests_in_flight").await == 0).await;
}

#[tokio::test]
async fn a_gateway_that_stops_says_so_to_both_sides() {
    let service = Sockets::start().await;
    let mut front = Front::start(&service.url(), "[limits]\ndrain_secs = 30\n").await;
    let mut socket = open(front.host(), "/x").await;
    echo(&mut socket, "here").await;
    let mut busy = open(front.host(), "/x").await;
    busy.send(Message::text("flood")).await.unwrap();
    next(&mut busy).await;

    let began = Instant::now();
    terminate(front.gateway.pid());

    let going = Some((1001, "the gateway stops".to_owned()));
    let (told, busy) = tokio::join!(close_of(&mut socket), close_of(&mut busy));
    assert_eq!((told, busy), (going.clone(), going), "also between two messages of a flood");
    assert!(front.gateway.wait(), "the gateway ends well");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    until("the service has heard it", async || {
        let ends = service.ends();
        let mut ends = ends.iter().flatten();
        ends.any(|end| u16::from(end.code) == 1001 && end.reason.as_str() == "the gateway stops")
    })
    .await;
    assert!(!std::fs::read_to_string(front.file("log")).unwrap().contains("were cut off"));
}

#[tokio::test]
async fn a_reload_cuts_no_websocket() {
    let (service, other) = (Sockets::start().await, Sockets::start().await);
    let front = Front::start(&service.url(), "").await;
    let mut socket = open(front.host(), "/x").await;
    echo(&mut socket, "before").await;

    let (before, after) = (service.address.to_string(), other.address.to_string());
    front.reload(|config| config.replace(&before, &after), true).await;

    echo(&mut socket, "after").await;
    echo(&mut open(front.host(), "/x").await, "new").await;
    assert_eq!((service.open(), other.seen().len()), (1, 1));
}

#[tokio::test]
async fn a_silence_both_ways_ends_a_websocket_and_pings_are_none() {
    let service = Sockets::start().await;
    let limits = "[limits]\nheader_secs = 1\nidle_secs = 1\n";
    let front = Front::start(&(service.url() + "pause_secs = 2"), limits).await;
    let mut socket = open(front.host(), "/x").await;
    for _ in 0..5 {
        pass(1).await;
        socket.send(Message::Ping("".into())).await.unwrap();
        next(&mut socket).await;
    }

    let began = Instant::now();
    let told = close_of(&mut socket).await;

    assert_eq!(told, Some((1001, "nothing was sent either way for 2 s".to_owned())));
    assert!((1..4).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    until("the service has heard", async || service.ends().iter().flatten().count() == 1).await;
}

#[tokio::test]
async fn who_does_not_read_holds_up_the_other_side_and_no_memory() {
    let service = Sockets::start().await;
    let limits = "[limits]\nwrite_secs = 4\n";
    let front = Front::start(&(service.url() + "pause_secs = 4"), limits).await;
    let all = || join_all((0..SLOW).map(|_| open(front.host(), "/x")));
    for socket in &mut all().await {
        echo(socket, "warm").await;
    }
    until("they are over", async || service.open() == 0).await;
    let before = front.gateway.resident_kib();
    let grown = || front.gateway.resident_kib().saturating_sub(before);

    let mut clients = all().await;
    join_all(clients.iter_mut().map(|client| client.send(Message::text("flood")))).await;
    let are_stuck = async || {
        let sent = service.flooded();
        pass(1).await;
        sent > 0 && service.flooded() == sent
    };
    until("the service is held up", are_stuck).await;
    let sent_kib = service.flooded() * 64;
    assert!(grown() <= GROWTH_MAX_KIB, "{} KiB of {sent_kib}", grown());
    until("the clients are cut off", async || service.open() == 0).await;

    let mut clients = all().await;
    join_all(clients.iter_mut().map(|client| client.send(Message::text("deaf")))).await;
    let message = Message::binary(vec![7; 64 << 10]);
    let sending =
        clients.iter_mut().map(async |client| while client.send(message.clone()).await.is_ok() {});
    let stuck = tokio::time::timeout(Duration::from_secs(3), join_all(sending)).await;
    assert!(stuck.is_err(), "the clients are held up");
    assert!(grown() <= GROWTH_MAX_KIB, "{} KiB", grown());
    until("it is over", async || front.metric("farebox_requests_in_flight").await == 0).await;
}
