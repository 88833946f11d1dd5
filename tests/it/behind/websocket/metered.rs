//! WebSockets that cost what passes.

use std::time::{Duration, Instant};

use farebox_channel::message::{PayRequest, Receipt};
use farebox_channel::wire::Field;
use farebox_channel::{Kind, Msat};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use super::super::service::{Act, Service};
use super::super::{behind, hear, payment, spent};
use super::sockets::{Socket, Sockets, ask, close_of, echo, next};
use super::{AGREED, ASKED};
use crate::support::{Buyer, World, header, terminate, until};

/// A gateway with a metered route before a service that sends back what it is sent, and a client with
/// a channel.
struct Stand {
    world: World,
    service: Sockets,
    buyer: Buyer,
    payment: Option<PayRequest>,
}

impl Stand {
    /// Starts all of it, with these rates and keys of the service.
    async fn start(rates: &str, keys: &str) -> Self {
        let service = Sockets::start().await;
        let world = world(service.url() + keys, rates, "").await;
        let buyer = world.buyer_with_channel(Kind::Cltv).await;
        Self { world, service, buyer, payment: None }
    }

    /// Pays so much more, and returns the field.
    fn payment(&mut self, msat: u64) -> String {
        let price = Msat::new(msat).unwrap();
        let (purse, payment) = self.buyer.purse().pay(price, &self.buyer.key).unwrap();
        self.buyer.purse = Some(purse);
        self.payment = Some(payment);
        let (name, value) = header(&payment);
        format!("{name}: {value}")
    }

    /// Opens a WebSocket with a payment that adds so much.
    async fn open(&mut self, msat: u64) -> Socket {
        let field = self.payment(msat);
        let (socket, fields) = ask(&self.world.gateway.host, "/meter", &field).await.unwrap();
        assert!(
            fields[Receipt::NAME].to_str().unwrap().ends_with("price=1000, running"),
            "{fields:?}"
        );
        socket
    }

    /// Pays so much more, on another request of the channel.
    async fn pay(&mut self, msat: u64) {
        self.payment(msat);
        self.account().await;
    }

    async fn account(&self) -> Receipt {
        self.buyer.ask(self.payment.as_ref().unwrap()).await
    }

    /// Waits until so much is spent, and logged.
    async fn until_spent(&self, msat: u64) {
        let mut spent = 0;
        until(&format!("{msat} msat are spent"), async || {
            spent = self.account().await.spent.get();
            spent == msat
        })
        .await;
        let line = format!(" price_msat={msat} ");
        until(&format!("{line} is logged"), async || {
            let log = std::fs::read_to_string(self.world.file("log")).unwrap();
            log.lines().any(|it| it.contains("\" 101 ") && it.contains(&line))
        })
        .await;
    }
}

/// Starts a gateway with a metered route before a service with these keys, and with these limits.
async fn world(keys: String, rates: &str, limits: &str) -> World {
    let change = behind(keys);
    let route = format!(
        "\n[[route]]\npath = \"/meter\"\nprice_msat = 1_000\n\n[route.rates]\n{rates}\n\
         \n[log]\naccess = \"text\"\n"
    );
    let limits = format!("[limits]\n{limits}");
    World::start_logged(|config| change(config.replace("[limits]\n", &limits)) + &route).await
}

/// Asserts that nothing comes for a while.
async fn hears_nothing(socket: &mut Socket) {
    let heard = tokio::time::timeout(Duration::from_millis(300), socket.next()).await;
    assert!(heard.is_err(), "{heard:?}");
}

/// What a WebSocket says that is not paid in time.
fn underpaid() -> Option<(u16, String)> {
    let reason = "underpaid: nothing more could be charged, and the time to wait is over";
    Some((1008, reason.to_owned()))
}

#[tokio::test]
async fn payload_and_messages_cost_both_ways_and_control_frames_nothing() {
    let rates = "answer_msat = 7\nbytes = { msat = 2, per = 10 }\nmessages = { msat = 100 }\n\
                 request_bytes = { msat = 3, per = 10 }\nrequest_messages = { msat = 1_000 }";
    let mut stand = Stand::start(rates, "").await;
    let mut socket = stand.open(700_000).await;

    echo(&mut socket, "hello").await;
    echo(&mut socket, &"x".repeat(1_000)).await;
    echo(&mut socket, &"x".repeat(100_000)).await;
    echo(&mut socket, "").await;
    socket.send(Message::Ping("for nothing".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("for nothing".into()));
    socket.close(None).await.unwrap();
    assert_eq!(close_of(&mut socket).await, None);

    stand.until_spent(7 + 20_201 + 4 * 100 + 30_302 + 4 * 1_000).await;
}

#[tokio::test]
async fn a_message_that_is_sent_in_parts_is_one() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let mut stand = Stand::start("request_messages = { msat = 1_000 }", "").await;
    let mut socket = stand.open(700_000).await;
    for (words, opcode, is_final) in
        [("in ", Data::Text, false), ("two ", Data::Continue, false), ("", Data::Continue, true)]
    {
        let frame = Frame::message(words, OpCode::Data(opcode), is_final);
        socket.send(Message::Frame(frame)).await.unwrap();
    }
    assert_eq!(next(&mut socket).await, Message::text("in two "));

    drop(socket);

    stand.until_spent(1_000).await;
}

#[tokio::test]
async fn time_costs_until_a_websocket_ends_although_nothing_passes() {
    let mut stand = Stand::start("secs = { msat = 10_000 }", "").await;
    let asked = Instant::now();
    let mut socket = stand.open(5_000_000).await;
    let began = Instant::now();
    // So much that more had to be drawn meanwhile.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let ran = began.elapsed();
    socket.close(None).await.unwrap();
    assert_eq!(close_of(&mut socket).await, None);
    until("it is over", async || stand.service.open() == 0).await;
    let took = asked.elapsed() + Duration::from_secs(5);

    let mut spent = 1_000_000;
    until("the rest comes back", async || {
        let before = std::mem::replace(&mut spent, stand.account().await.spent.get());
        before == spent
    })
    .await;
    let bounds = ran.as_millis() * 10..=took.as_millis() * 10;
    assert!(bounds.contains(&u128::from(spent)), "{spent} is not in {bounds:?}");
}

#[tokio::test]
async fn both_ways_pause_at_zero_and_go_on_when_it_is_paid_on_another_request() {
    let rates = "bytes = { msat = 1_000 }\nrequest_bytes = { msat = 500 }";
    let mut stand = Stand::start(rates, "").await;
    let mut socket = stand.open(1_000_000).await;
    echo(&mut socket, &"x".repeat(600)).await;

    // A hundred bytes are left: enough for the way there, and not for the way back.
    socket.send(Message::text("y".repeat(100))).await.unwrap();
    hears_nothing(&mut socket).await;
    stand.pay(100_000).await;
    assert_eq!(next(&mut socket).await, Message::text("y".repeat(100)));
    assert_eq!(stand.account().await.spent.get(), 1_050_000);

    // And nothing at all is for the next one.
    socket.send(Message::text("z".repeat(200))).await.unwrap();
    hears_nothing(&mut socket).await;
    stand.pay(1_000_000).await;
    assert_eq!(next(&mut socket).await, Message::text("z".repeat(200)));
    drop(socket);

    stand.until_spent(1_350_000).await;
}

#[tokio::test]
async fn a_websocket_that_is_not_paid_in_time_says_so_to_both_sides() {
    let rates = "answer_msat = 7\nrequest_bytes = { msat = 1_000 }\nwait_secs = 0";
    let mut stand = Stand::start(rates, "").await;
    let mut socket = stand.open(600_000).await;
    echo(&mut socket, &"x".repeat(500)).await;

    socket.send(Message::text("y".repeat(100))).await.unwrap();

    assert_eq!(close_of(&mut socket).await, underpaid(), "nothing of it comes back");
    until("the service has heard", async || {
        let ends = stand.service.ends();
        let heard = ends.first().and_then(|end| end.as_ref());
        heard.map(|end| (end.code.into(), end.reason.to_string())) == underpaid()
    })
    .await;
    stand.until_spent(500_007).await;
}

#[tokio::test]
async fn of_a_long_frame_no_more_passes_than_is_paid() {
    let mut stand = Stand::start("bytes = { msat = 10 }\nwait_secs = 0", "").await;
    let mut socket = stand.open(700_000).await;

    socket.send(Message::text("x".repeat(100_000))).await.unwrap();

    assert_eq!(close_of(&mut socket).await, None, "there is no place for a close frame in it");
    until("the service has heard", async || {
        let ends = stand.service.ends();
        ends.first().and_then(|end| end.as_ref()).is_some_and(|end| u16::from(end.code) == 1008)
    })
    .await;
    let spent = stand.account().await.spent.get();
    assert!((400_000..=700_000).contains(&spent), "{spent}");
}

#[tokio::test]
async fn a_client_that_leaves_and_a_service_that_dies_leave_what_has_passed_charged() {
    let mut stand = Stand::start("bytes = { msat = 2 }\nrequest_bytes = { msat = 1 }", "").await;
    let mut socket = stand.open(700_000).await;
    echo(&mut socket, &"x".repeat(5_000)).await;
    drop(socket);
    stand.until_spent(15_000).await;

    let mut socket = stand.open(700_000).await;
    socket.send(Message::text("drop")).await.unwrap();
    assert_eq!(close_of(&mut socket).await, None);
    until("it is charged", async || stand.account().await.spent.get() == 15_004).await;
}

#[tokio::test]
async fn a_gateway_that_stops_gives_back_what_websockets_have_not_used() {
    let mut stand = Stand::start("bytes = { msat = 2 }", "").await;
    let mut socket = stand.open(700_000).await;
    echo(&mut socket, &"x".repeat(100)).await;

    terminate(stand.world.gateway.pid());
    let (code, _) = close_of(&mut socket).await.unwrap();
    assert_eq!(code, 1001);
    assert!(stand.world.gateway.wait(), "the gateway ends well");
    stand.world.gateway.restart();

    assert_eq!(stand.account().await.spent.get(), 200);
}

#[tokio::test]
async fn a_pause_for_want_of_credit_is_no_silence() {
    let mut stand = Stand::start("request_bytes = { msat = 1_000 }", "pause_secs = 1\n").await;
    let mut socket = stand.open(600_000).await;
    echo(&mut socket, &"x".repeat(500)).await;
    socket.send(Message::text("y".repeat(200))).await.unwrap();

    tokio::time::sleep(Duration::from_millis(2_500)).await; // More than twice the silence that ends it.
    stand.pay(500_000).await;

    assert_eq!(next(&mut socket).await, Message::text("y".repeat(200)));
    drop(socket);
    stand.until_spent(700_000).await;
}

#[tokio::test]
async fn a_websocket_of_a_channel_that_closes_ends_with_the_reason() {
    let mut stand = Stand::start("request_messages = { msat = 700 }", "").await;
    let mut socket = stand.open(600_000).await;
    echo(&mut socket, "one").await;

    stand.buyer.close().await;
    socket.send(Message::text("two")).await.unwrap();

    let (code, reason) = close_of(&mut socket).await.unwrap();
    assert!(code == 1008 && reason.starts_with("channel-closing: "), "{code} {reason}");
    // What is settled is signed, so nothing of the draw comes back.
    until("it is logged", async || {
        let log = std::fs::read_to_string(stand.world.file("log")).unwrap();
        log.lines().any(|it| it.contains("\" 101 ") && it.contains(" price_msat=1000 "))
    })
    .await;
}

/// A client that has heard 10,000 bytes of a text of 24,576, at 10 msat each.
struct Half {
    world: World,
    _service: Service,
    buyer: Buyer,
    paid: PayRequest,
    socket: TcpStream,
}

async fn half(limits: &str) -> Half {
    let words = format!("{AGREED}\x01\x7e\x60\x00{}", "x".repeat(10_000));
    let service = Service::start(move |_| Act::Hang(words.clone())).await;
    let world = world(service.url(), "bytes = { msat = 10 }", limits).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);
    let asked = ASKED.replace("/x", "/meter").replace("TE: trailers", &field);
    let mut socket = TcpStream::connect(&world.gateway.host).await.unwrap();
    socket.write_all(asked.as_bytes()).await.unwrap();
    hear(&mut socket, &"x".repeat(10_000)).await;
    Half { world, _service: service, buyer, paid, socket }
}

#[tokio::test]
async fn of_a_frame_that_never_ends_what_has_come_is_charged() {
    let Half { world: _world, _service, buyer, paid, socket } = half("").await;

    drop(socket);

    until("it is charged", async || spent(&buyer, &paid).await == 100_000).await;
}

#[tokio::test]
async fn of_a_frame_that_a_stop_cuts_off_what_has_come_is_charged() {
    let mut half = half("drain_secs = 0\n").await;

    assert!(half.world.gateway.terminate(), "the gateway ends well");

    half.world.gateway.restart();
    assert_eq!(spent(&half.buyer, &half.paid).await, 100_000);
}

#[tokio::test]
async fn a_client_that_reads_no_more_pays_for_what_it_can_still_read() {
    // One message in many frames: more than all systems between keep for a connection.
    let frame = |first| format!("{first}\x7e\x60\x00{}", "x".repeat(24_576));
    let words = format!("{AGREED}{}{}", frame('\x01'), frame('\x00').repeat(600));
    let service = Service::start(move |_| Act::Hang(words.clone())).await;
    let rates = "bytes = { msat = 1, per = 10 }\nmessages = { msat = 1_000 }";
    let world = world(service.url(), rates, "write_secs = 1\n").await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (purse, paid) = buyer.purse().pay(Msat::new(5_000_000).unwrap(), &buyer.key).unwrap();
    buyer.purse = Some(purse);
    let (name, value) = header(&paid);
    let asked = ASKED.replace("/x", "/meter").replace("TE: trailers", &format!("{name}: {value}"));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut socket = socket.connect(world.gateway.host.parse().unwrap()).await.unwrap();
    socket.write_all(asked.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }

    until("the gateway has ended it", async || {
        let log = std::fs::read_to_string(world.file("log")).unwrap();
        log.lines().any(|line| line.contains("\" 101 "))
    })
    .await;
    let mut got = Vec::new();
    socket.read_to_end(&mut got).await.unwrap();

    let (whole, rest) = (got.len() / 24_580, got.len() % 24_580);
    let payload = u64::try_from(whole * 24_576 + rest.saturating_sub(4)).unwrap();
    let cost = payload.div_ceil(10) + 1_000;
    until(&format!("{cost} msat are spent"), async || spent(&buyer, &paid).await == cost).await;
}
