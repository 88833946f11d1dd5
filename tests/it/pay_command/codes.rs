//! How the program ends, for scripts.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use farebox_channel::Kind;
use http::StatusCode;
use tokio::net::TcpListener;

use super::{open, pay};
use crate::program::{client, run, text};
use crate::support::{World, terminate, until};

/// Starts a server that asks for payment with an offer, and answers steps in its own way.
async fn other_gateway(offer: Option<String>, step: fn() -> Response) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let answer = move |request: Request| async move {
        if request.uri().path() != "/x" {
            return step();
        }
        let mut response = StatusCode::PAYMENT_REQUIRED.into_response();
        if let Some(offer) = offer {
            response.headers_mut().insert("payment-channel-offer", offer.parse().unwrap());
        }
        response
    };
    let router = Router::new().fallback(any(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn busy() -> Response {
    let problem =
        r#"{"type": "urn:farebox:problem:node-unavailable", "detail": "the node is away"}"#;
    let kind = [("content-type", "application/problem+json")];
    (StatusCode::SERVICE_UNAVAILABLE, kind, problem).into_response()
}

fn lies() -> Response {
    StatusCode::OK.into_response()
}

fn says_no() -> Response {
    let problem = r#"{"type": "about:blank", "detail": "not you"}"#;
    let kind = [("content-type", "application/problem+json")];
    (StatusCode::FORBIDDEN, kind, problem).into_response()
}

#[tokio::test]
async fn each_way_to_fail_has_a_code_of_its_own() {
    let world = World::start().await;
    let offer = world.buyer().send("/paid/x", &[]).await.headers["payment-channel-offer"].clone();
    let offer = offer.to_str().unwrap().to_owned();
    let paid = world.gateway.url("/paid/x");
    let dear = world.gateway.url("/dear/x");
    let missing = world.gateway.url("/free/missing");
    let other = other_gateway(None, says_no).await;
    let (no, lying) = (
        other_gateway(Some(offer.clone()), says_no).await,
        other_gateway(Some(offer.clone()), lies),
    );
    let (lying, busy) = (lying.await, other_gateway(Some(offer), busy).await);
    let folder = world.folder.path().to_str().unwrap();
    let cases: [(&[&str], i32, &str); 17] = [
        (&[&paid, "--channels", folder], 1, folder),
        (&[&paid, "-H", "nonsense"], 2, "a field is \"Name: value\""),
        (&["api.example.com/x"], 2, "it begins with https://"),
        (&["ftp://example.com/x"], 2, "`ftp` is not paid over; it begins with https://"),
        (&["http://example.com/"], 2, "neither https nor on this machine"),
        (&[&paid, "-d", "@/nowhere"], 2, "/nowhere: No such file"),
        (&[&dear], 3, "costs 5000000 msat, and at most 1000000 msat are allowed"),
        (&[&paid, "--capacity", "10"], 3, "takes capacities from 50000 sat"),
        (&[&paid, "--wallet", "gateway"], 5, "the wallet has 0 sat"),
        (&[&paid, "--wallet", "nobody"], 5, "no such wallet loaded"),
        (&[&lying], 6, "the gateway's answer has no payment-channel-terms"),
        (&[&other], 7, "402 without a Payment-Channel-Offer"),
        (&[&no], 7, "the gateway refuses: not you"),
        (&[&busy], 8, "the gateway cannot do it now: the node is away"),
        (&[&missing], 9, "the service answered 404"),
        (&["http://127.0.0.1:1/"], 10, "Connection refused"),
        (&[&paid, "--bitcoind-url", "http://127.0.0.1:1"], 11, "bitcoind does not answer"),
    ];
    for (arguments, code, words) in cases {
        let ended = run(client(&world, &[&["pay", "--yes"], arguments].concat())).await;
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {ended:?}");
        assert!(text(&ended.stderr).contains(words), "{arguments:?}: {ended:?}");
    }
    assert_eq!(world.api.hits(), 1, "only what is free was passed on");
    let help = run(client(&world, &["pay", "--help"])).await;
    for code in ["0 ", "4 ", "11 ", "130 "] {
        assert!(text(&help.stdout).contains(&format!("\n  {code} ")), "{help:?}");
    }
}

#[tokio::test]
async fn a_program_that_is_stopped_says_what_is_on_record_and_goes_on_the_next_time() {
    let world = World::start().await;
    let mut program = pay(&world, "/paid/x", &[]);
    let program = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the contract is shown", async || {
        use farebox_chain::Chain;
        !world.node.node(None).mempool().await.unwrap().is_empty()
    })
    .await;

    terminate(program.id());
    let stopped =
        tokio::task::spawn_blocking(|| program.wait_with_output().unwrap()).await.unwrap();

    assert_eq!(stopped.status.code(), Some(130), "{stopped:?}");
    let last = text(&stopped.stderr).lines().last().unwrap();
    assert!(last.contains("the contract is on record, and the same command goes on"), "{last}");
    let listed = run(client(&world, &["wallet", "channels"])).await;
    let channel = text(&listed.stdout).lines().nth(1).unwrap().split(' ').next().unwrap();
    let closed = run(client(&world, &["wallet", "close", channel])).await;
    let never = format!("the channel {channel} has never opened, so there is nothing to close: ");
    assert!(text(&closed.stderr).contains(&never) && !closed.status.success(), "{closed:?}");
    open(&world).await;
    let listed = run(client(&world, &["wallet", "channels"])).await;
    assert_eq!(text(&listed.stdout).lines().count(), 2, "one channel: {listed:?}");
    assert!(text(&listed.stdout).contains(Kind::Cltv.as_str()));
}

#[tokio::test]
async fn what_is_free_leaves_no_channel_to_be_closed() {
    let world = World::start().await;

    let ended = run(pay(&world, "/free/x", &["--close"])).await;

    assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(0), "hello\n"), "{ended:?}");
}

#[tokio::test]
async fn what_nobody_reads_keeps_no_program_from_its_end() {
    let world = World::start().await;
    open(&world).await;
    let program = |arguments: &[&str]| {
        let mut program = client(&world, arguments);
        program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let end = async |program: Child| {
        tokio::task::spawn_blocking(|| program.wait_with_output().unwrap()).await.unwrap()
    };
    let url = world.gateway.url("/paid/x");
    for arguments in [&["pay", &url][..], &["pay", &url, "--json"]] {
        let mut unheard = program(arguments);
        drop(unheard.stderr.take());
        let ended = end(unheard).await;
        assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(0), "hello\n"), "{ended:?}");
    }
    let mut unread = program(&["wallet", "channels"]);
    drop(unread.stdout.take());
    let ended = end(unread).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(text(&ended.stderr).contains("Broken pipe"), "{ended:?}");

    let (body, echo) = (world.file("body"), world.gateway.url("/paid/echo"));
    std::fs::write(&body, vec![b'x'; 1 << 20]).unwrap();
    let mut full = program(&["pay", &echo, "--data-binary", &format!("@{}", body.display())]);
    let stdout = full.stdout.take().unwrap();
    let last = Cell::new((0, 0));
    until("nothing more can be written", async || {
        let written = rustix::io::ioctl_fionread(&stdout).unwrap();
        let (before, looks) = last.get();
        last.set((written, if written == before { looks + 1 } else { 0 }));
        written > 0 && looks >= 10
    })
    .await;
    terminate(full.id());
    until("the program has ended", async || full.try_wait().unwrap().is_some()).await;
    assert_eq!(end(full).await.status.code(), Some(130));
}
