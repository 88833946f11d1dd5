//! The paying client after it was cut off, and before a gateway that lies.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use farebox_channel::client::Distrust;
use farebox_channel::message::{Offer, PayRequest, Receipt};
use farebox_channel::wire::{Field, WELL_KNOWN};
use farebox_channel::{Kind, Msat};
use farebox_client::{ChannelFile, Limit, PayError, Stage};
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::Value;
use tokio::net::TcpListener;

use super::Stand;
use super::feed::{CHUNKED, EVENTS};
use super::payer::{Payer, hear, msat, read};
use crate::pay_command::last_json;
use crate::program::client;
use crate::support::{PRICE_MSAT, terminate};

#[tokio::test]
async fn a_client_that_was_cut_off_takes_back_what_its_answer_did_not_use() {
    let stand = Stand::start("events = { msat = 50_000 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let (mut answer, mut side) = payer.open(&stand, EVENTS).await;
    side.chunk("data: 1\n\n").await;
    hear(&mut answer, "data: 1\n\n").await;
    let before = payer.purse();
    assert!(before.known.is_some(), "it is on record that an answer runs");

    drop(answer);
    side.left().await;
    payer.until_spent(&stand, PRICE_MSAT + 50_000).await;
    let payer = payer.again(&stand.world);
    payer.flat(&stand).await;

    payer.agrees(&stand, 2 * PRICE_MSAT + 50_000).await;
    assert_eq!(payer.purse().payment, before.payment, "the rest has paid for it");
}

#[tokio::test]
async fn a_program_that_is_killed_in_the_middle_loses_nothing_and_pays_nothing_twice() {
    let stand = Stand::start("bytes = { msat = 1 }").await;
    let _mining = stand.world.keep_mining();
    let url = stand.world.gateway.url("/stream");
    let file = stand.world.file("channels.sqlite");
    let pay = |url: &str, arguments: &[&str]| {
        let mut program = client(&stand.world, &[&["pay", url, "--yes"], arguments].concat());
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    };
    let mut killed = pay(&url, &[]).spawn().unwrap();
    let mut side = stand.feed.asked().await;
    side.say(CHUNKED).await;
    // More than is there at first, so that it has topped up by then.
    for _ in 0..16 {
        side.chunk(&"x".repeat(50_000)).await;
    }
    let mut stdout = killed.stdout.take().unwrap();
    let got = tokio::task::spawn_blocking(move || {
        let mut body = vec![0; 800_000];
        std::io::Read::read_exact(&mut stdout, &mut body).unwrap();
        (stdout, body.len())
    });
    let (_stdout, got) = got.await.unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    side.left().await;

    // The same program again takes what is left for another answer, and ends with its cost.
    let again = pay(&url, &["--max-answer", "2000"]).spawn().unwrap();
    let mut side = stand.feed.asked().await;
    side.say(CHUNKED).await;
    side.chunk(&"x".repeat(500_000)).await;
    side.end().await;
    let ended = tokio::task::spawn_blocking(|| again.wait_with_output().unwrap()).await.unwrap();

    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && ended.stdout.len() == 500_000, "{told}");
    assert!(told.contains("paid 500000 msat"), "{told}");
    let [record] = ChannelFile::open(&file).unwrap().channels().unwrap().try_into().unwrap();
    let Stage::Open(purse) = &record.stage else { panic!("it is open") };
    let account = stand.buyer.told(record.outpoint(), &record.key).await;
    assert_eq!((purse.spent, purse.known), (account.spent, None), "both sides agree");
    assert_eq!(purse.payment, account.payment);
    let most = u64::try_from(got).unwrap() + 500_000;
    assert!((most..most + 100_000).contains(&account.spent.get()), "{}", account.spent);
}

#[tokio::test]
async fn a_program_that_is_cut_off_says_the_least_that_its_answer_has_cost_and_what_was_paid() {
    let stand = Stand::start("bytes = { msat = 1 }").await;
    let _mining = stand.world.keep_mining();
    let url = stand.world.gateway.url("/stream");
    let begin = async |arguments: &[&str]| {
        let mut program = client(&stand.world, &[&["pay", &url, "--yes"], arguments].concat());
        let mut program = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut side = stand.feed.asked().await;
        side.say(CHUNKED).await;
        for _ in 0..16 {
            side.chunk(&"x".repeat(50_000)).await;
        }
        let mut stdout = program.stdout.take().unwrap();
        let read = move || {
            std::io::Read::read_exact(&mut stdout, &mut vec![0; 800_000]).unwrap();
            stdout
        };
        (program, side, tokio::task::spawn_blocking(read).await.unwrap())
    };
    let end = async |program: Child| {
        tokio::task::spawn_blocking(|| program.wait_with_output().unwrap()).await.unwrap()
    };

    let (program, side, stdout) = begin(&["--json"]).await;
    terminate(program.id());
    let stopped = end(program).await;
    drop((side, stdout));

    let told = last_json(&stopped.stderr);
    let file = ChannelFile::open(&stand.world.file("channels.sqlite")).unwrap();
    let [record] = file.channels().unwrap().try_into().unwrap();
    let Stage::Open(purse) = &record.stage else { panic!("it is open") };
    assert_eq!((stopped.status.code(), &told["cost_msat"]), (Some(130), &Value::Null), "{told}");
    assert_eq!(told["paid_sat"], purse.payment.paid.get(), "{told}");
    assert!(purse.payment.paid.get() >= 800, "it has topped up");
    assert_eq!(told["channel"], record.outpoint().to_string(), "{told}");
    drop(file);

    let (program, mut side, stdout) = begin(&[]).await;
    drop(stdout);
    side.chunk(&"x".repeat(50_000)).await;
    let unread = end(program).await;
    let words = String::from_utf8(unread.stderr).unwrap();
    assert_eq!(unread.status.code(), Some(1), "{words}");
    assert!(words.contains("farebox: 1000 msat at first, and it is not known what"), "{words}");
    assert!(words.contains(&format!(" sat in channel {}\n", record.outpoint())), "{words}");
}

/// What a gateway claims.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// More than is signed, while an answer runs.
    Account,
    /// That an answer has cost more than is signed.
    End,
    /// Nothing that is wrong: the running answer was quicker than the request at a price.
    None,
}

/// A gateway that takes every payment and has charged 1,000 msat for a running answer, but lies. Returns
/// how often a request at a price was paid for.
async fn lie(address: SocketAddr, offer: Offer, lie: Lie) -> Arc<AtomicU32> {
    let listener = TcpListener::bind(address).await.unwrap();
    let underpaid = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&underpaid);
    let answer = move |request: Request| async move {
        let Some(pay) = request.headers().get(PayRequest::NAME) else {
            let is_running = request.uri().path() == "/stream";
            let offer = Offer { rates: offer.rates.filter(|_| is_running), ..offer };
            let answer = Response::builder().status(402).header(Offer::NAME, offer.encode());
            return answer.body(Body::empty()).unwrap();
        };
        let paid = PayRequest::decode(pay.as_bytes()).unwrap().payment.paid;
        let all = paid.to_msat().get();
        let receipt = |spent: u64, price: u64, is_running| {
            let (spent, price, credit) = (msat(spent), msat(price), Msat::ZERO);
            Receipt { paid, spent, credit, price, is_running }.encode()
        };
        let answer = Response::builder();
        if request.uri().path() == WELL_KNOWN {
            let spent = if matches!(lie, Lie::Account) { all + 1 } else { PRICE_MSAT + 1_000 };
            let answer = answer.header(Receipt::NAME, receipt(spent, 0, true));
            return answer.body(Body::empty()).unwrap();
        }
        if request.uri().path() != "/stream" {
            if counted.fetch_add(1, Ordering::Relaxed) < 2 {
                let problem = r#"{"type": "urn:farebox:problem:underpaid"}"#;
                let answer = answer.status(402).header(CONTENT_TYPE, "application/problem+json");
                return answer.header(Offer::NAME, offer.encode()).body(problem.into()).unwrap();
            }
            let answer = answer.header(Receipt::NAME, receipt(PRICE_MSAT + 2_000, 1_000, false));
            return answer.body("flat".into()).unwrap();
        }
        let answer = answer
            .header(Receipt::NAME, receipt(PRICE_MSAT + 1_000, 1_000, true))
            .header("trailer", Receipt::NAME);
        let data = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from("hello")))]);
        let body = match lie {
            Lie::Account | Lie::None => Body::new(StreamBody::new(data.chain(stream::pending()))),
            Lie::End => {
                let mut trailers = HeaderMap::new();
                trailers.insert(Receipt::NAME, receipt(all, all + 1, false).parse().unwrap());
                let end = stream::iter([Ok(Frame::trailers(trailers))]);
                Body::new(StreamBody::new(data.chain(end)))
            }
        };
        answer.body(body).unwrap()
    };
    let router = Router::new().fallback(any(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    underpaid
}

#[tokio::test]
async fn a_gateway_that_claims_more_than_was_signed_is_not_trusted() {
    for claim in [Lie::Account, Lie::End] {
        let mut stand = Stand::start("bytes = { msat = 1 }").await;
        let payer = Payer::new(&stand, |_| {}).await;
        let offer: Offer = stand.buyer.send("/stream", &[]).await.message();
        let address = stand.world.gateway.host.parse().unwrap();
        stand.world.gateway.kill();
        lie(address, offer, claim).await;
        let payer = payer.again(&stand.world);

        let mut answer = payer.client.get(stand.world.gateway.url("/stream")).await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(20), read(&mut answer)).await;
        let (body, end) = read.unwrap();

        assert_eq!(body, b"hello");
        let error = end.unwrap_err();
        let reason = PayError::of(&error);
        let is_distrust = matches!(reason, Some(PayError::Distrust(Distrust::Overcharged { .. })));
        assert!(is_distrust, "{claim:?}: {reason:?}");
        let purse = payer.purse();
        assert_eq!(purse.spent, purse.payment.paid.to_msat(), "what may be drawn stays counted");
    }
}

#[tokio::test]
async fn a_request_whose_credit_a_running_answer_has_used_is_signed_for_anew() {
    let mut stand = Stand::start("bytes = { msat = 1 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let offer: Offer = stand.buyer.send("/stream", &[]).await.message();
    let address = stand.world.gateway.host.parse().unwrap();
    stand.world.gateway.kill();
    let asked = lie(address, offer, Lie::None).await;
    let payer = payer.again(&stand.world);
    let mut answer = payer.client.get(stand.world.gateway.url("/stream")).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "hello");
    let before = payer.purse();

    let url = stand.world.gateway.url("/paid/x");
    let flat = payer.client.get(&url).await.unwrap().text().await.unwrap();

    assert_eq!((flat.as_str(), asked.load(Ordering::Relaxed)), ("flat", 3));
    let after = payer.purse();
    let known = |purse: &farebox_channel::client::Purse| purse.known.unwrap().get();
    assert_eq!(known(&after), known(&before) + 1_000, "it is owed once");
    assert_eq!(after.payment.paid.get(), before.payment.paid.get() + 3, "the rest may be drawn");
}

#[tokio::test]
async fn rates_that_are_too_dear_are_not_agreed_to() {
    let stand = Stand::start("events = { msat = 1_000_001 }").await;
    let payer = Payer::new(&stand, |_| {}).await;

    let refused = payer.client.get(stand.world.gateway.url("/stream")).await.unwrap_err();

    let most = msat(1_000_000);
    assert!(
        matches!(refused, PayError::Limit(Limit::Price { asked, most: allowed })
            if asked == msat(1_000_001) && allowed == most),
        "{refused}"
    );
    assert_eq!(payer.purse().contract().terms.kind, Kind::Cltv);
}
