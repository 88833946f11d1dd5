//! The configurations in the documents, as they stand there.

use std::path::Path;
use std::time::Instant;

use farebox::config::Config;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::feed::{EVENTS, Feed};
use super::{Stand, hear};

/// What the documents ask for besides: each piece with what names it.
const SECTIONS: [(&str, &str); 6] = [
    ("listen = ", "listen = \"127.0.0.1:8402\"\n"),
    ("network = ", "network = \"regtest\"\n"),
    (
        "[bitcoind]",
        "[bitcoind]\nurl = \"http://127.0.0.1:1\"\ncookie_file = \"c\"\nwallet = \"w\"\n",
    ),
    ("[offer]", "[offer]\nfirst_payment_sat = 400\n"),
    ("[upstream]", "[upstream]\nurl = \"http://127.0.0.1:1\"\n"),
    ("[[route]]", "[[route]]\npath = \"/paid\"\nprice_msat = 1\n"),
];

/// Returns the pieces of configuration of a page.
fn pieces(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let pieces = text.split("\n```toml\n").skip(1);
    pieces.map(|piece| piece.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

/// Returns a piece with all that it leaves out.
fn whole(piece: &str) -> String {
    let (keys, tables) = if piece.starts_with('[') { ("", piece) } else { (piece, "") };
    let missing = SECTIONS.iter().filter(|(name, _)| !piece.contains(name));
    let (own, others): (Vec<_>, Vec<_>) = missing.partition(|(name, _)| !name.starts_with('['));
    let text = |all: Vec<&(&str, &str)>| all.iter().map(|(_, text)| *text).collect::<String>();
    format!("{keys}{}{}{tables}", text(own), text(others))
}

#[test]
fn every_piece_of_a_configuration_in_the_documents_is_taken() {
    for page in ["pricing.md", "operating.md"] {
        let pieces = pieces(page);
        assert!(pieces.len() >= 3, "{page} has {} of them", pieces.len());
        for piece in pieces {
            let taken = Config::parse(&whole(&piece), Path::new("farebox.toml"));
            assert!(taken.is_ok(), "{page}: {piece}{:?}", taken.err());
        }
    }
}

/// Returns an answer of announced length.
fn answer(body: &str) -> String {
    let kind = "Content-Type: application/json";
    format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap()
}

/// Opens a WebSocket by hand, and sends a word each way (RFC 6455 §5.7).
async fn carry_a_message_each_way(stand: &mut Stand) {
    let (payment, host) = (stand.payment(100_000), stand.world.gateway.host.clone());
    let mut socket = TcpStream::connect(&host).await.unwrap();
    let head = format!(
        "GET /v1/live HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{payment}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut side = stand.feed.asked().await;
    side.say(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )
    .await;
    socket.write_all(b"\x81\x85\0\0\0\0hello").await.unwrap();
    assert!(side.read(11).await.ends_with(b"hello"));
    side.send(b"\x81\x02hi").await;
    hear(&mut socket, "\u{2}hi").await;
    socket.write_all(b"\x88\x80\0\0\0\0").await.unwrap();
    side.read(6).await;
    side.send(b"\x88\0").await;
}

#[tokio::test]
async fn each_model_of_the_page_about_pricing_costs_what_the_page_says() {
    let prices = Feed::start().await;
    let pieces = pieces("pricing.md");
    assert_eq!(pieces.len(), 6, "a model without a request here");
    let (service, elsewhere) = ("127.0.0.1:9000", prices.address.to_string());
    assert!(pieces[5].contains(service));
    let mut stand = Stand::start_routes(&pieces.join("\n").replace(service, &elsewhere)).await;
    let mut spent = 0;

    for (path, body, cost) in [
        ("/forecast", "rain", 1_500),
        ("/v1/chat", "{\"text\":\"hi\",\"usage\":{\"total_tokens\":120}}", 2_400),
        ("/v1/chat", "{\"usage\":{\"total_tokens\":9999}}", 60_000),
        ("/v1/chat", "{}", 60_000),
    ] {
        let (listener, _side) = stand.open_at(path, 100_000, &[], &answer(body)).await;
        assert!(listener.end().await.0.success(), "{path}");
        spent += cost;
        assert_eq!(stand.settled().await, spent, "{path}: {body}");
    }

    let (listener, mut side) = stand.open_at("/v1/chat", 100_000, &[], EVENTS).await;
    side.chunk("data: {\"text\":\"hi\"}\n\ndata: {\"usage\":{\"total_tokens\":7}}\n\n").await;
    side.end().await;
    assert!(listener.end().await.0.success());
    assert_eq!(stand.settled().await, spent + 140);

    let asked = Instant::now();
    let (listener, mut side) = stand.open_at("/v1/stream", 100_000, &[], EVENTS).await;
    side.chunk(&format!("data: 1\n\ndata: {}\n\n", "x".repeat(2_000))).await;
    side.end().await;
    assert!(listener.end().await.0.success());
    let took = millis(asked);
    // An answer, two events, 2,017 bytes, and the time that it took.
    let counted = spent + 140 + 100 + 2 * 50 + 6;
    spent = stand.settled().await;
    assert!((counted..=counted + took / 100 + 1).contains(&spent), "{spent} is not {counted}");

    let (listener, mut side, _) = stand.upload_at("/v1/files/a", 100_000, &[], 3_000).await;
    side.read(3_000).await;
    side.say(&answer("ok")).await;
    assert!(listener.end().await.0.success());
    spent += 500 + 6 + 1;
    assert_eq!(stand.settled().await, spent, "3,000 bytes up, and two down");

    let asked = Instant::now();
    carry_a_message_each_way(&mut stand).await;
    // A WebSocket, a message and some bytes each way, and the time that it took.
    let (took, counted) = (millis(asked), spent + 100 + 20 + 50 + 1 + 1);
    spent = stand.settled().await;
    assert!((counted..=counted + took / 100 + 1).contains(&spent), "{spent} is not {counted}");

    let asking = tokio::spawn(async move {
        let mut question = prices.asked().await;
        assert!(question.head().starts_with("POST /price HTTP/1.1\r\n"), "{}", question.head());
        question.say(&answer("{\"price_msat\": 750}")).await;
        // It is asked no more questions than this one.
        (prices, question)
    });
    let (listener, side) = stand.open_at("/v1/convert?from=usd", 100_000, &[], &answer("1")).await;
    assert!(listener.end().await.0.success());
    drop(side);
    assert_eq!(stand.account().await.spent.get(), spent + 750);
    drop(asking.await.unwrap());
    let (listener, _side) = stand.open_at("/v1/convert?to=usd", 100_000, &[], &answer("1")).await;
    assert!(listener.end().await.0.success());
    assert_eq!(stand.account().await.spent.get(), spent + 750 + 500, "nobody says another price");
}
