//! What `farebox pay` says of a gateway that lies, or of whoever stands before it.

use std::process::Stdio;
use std::time::Duration;

use farebox_chain::Chain;
use farebox_channel::Msat;
use farebox_channel::message::{Receipt, StateName, StateReply};
use farebox_channel::wire::Field;
use http::StatusCode;
use serde_json::Value;

use super::liar::{Answer, Fate, Lie, Message, said, twisted};
use super::scene::Scene;
use crate::pay_command::last_json;
use crate::pay_command::terminal::Terminal;
use crate::program::{client, run, text};
use crate::support::until;

/// Somebody who is not the gateway, and says no.
fn stranger(status: StatusCode, kind: &str, body: &str) -> Answer {
    let mut answer = Answer { status, body: body.to_owned().into(), ..Answer::default() };
    answer.put("content-type", kind);
    answer
}

fn busy_page() -> Answer {
    stranger(StatusCode::SERVICE_UNAVAILABLE, "text/html", "<h1>busy</h1>")
}

fn broken_problem() -> Answer {
    stranger(StatusCode::SERVICE_UNAVAILABLE, "application/problem+json", "{")
}

fn other_problem() -> Answer {
    let detail = r#"{"type": "about:blank", "detail": "\u001b[2Jno\nfarebox: paid"}"#;
    stranger(StatusCode::FORBIDDEN, "application/problem+json", detail)
}

fn busy_gateway() -> Answer {
    Answer::problem(StatusCode::TOO_MANY_REQUESTS, "too-many-requests")
}

#[tokio::test]
async fn a_program_says_that_nobody_knows_the_cost_unless_the_gateway_has_told_it() {
    let scene = Scene::set().await;
    let url = scene.liar.url("/paid/x");
    let pay = async |arguments: &[&str]| {
        run(client(&scene.world, &[&["pay", &url, "--yes"], arguments].concat())).await
    };
    assert!(pay(&[]).await.status.success());
    let no_receipt = |answer: &mut Answer| drop(answer.headers.remove(Receipt::NAME));
    let dear = |answer: &mut Answer| {
        answer.change(|it: &mut Receipt| it.price = Msat::new(1_000_000_000).unwrap());
    };
    // What is said, the code, and whether the price may have been charged.
    let cases: [(Lie, i32, bool); 6] = [
        (Box::new(said("paid", busy_page)), 9, true),
        (Box::new(said("paid", broken_problem)), 7, true),
        (Box::new(said("paid", other_problem)), 7, true),
        (Box::new(said("paid", busy_gateway)), 8, false),
        (Box::new(twisted("paid", no_receipt)), 0, true),
        (Box::new(twisted("paid", dear)), 6, true),
    ];
    for (index, (lie, code, may_be_charged)) in cases.into_iter().enumerate() {
        scene.liar.lie(lie);
        let json = pay(&["--json"]).await;
        let words = pay(&[]).await;

        assert_eq!((json.status.code(), words.status.code()), (Some(code), Some(code)), "{index}");
        let cost = if may_be_charged { Value::Null } else { 0.into() };
        assert_eq!(last_json(&json.stderr)["cost_msat"], cost, "{index}");
        let words = text(&words.stderr);
        let told = words.contains("the request may have been charged: 1500 msat were agreed to · ");
        assert_eq!(told, may_be_charged, "{index}: {words}");
        assert!(!words.contains("farebox: paid ") || index == 2, "{index}: {words}");
        assert!(!words.contains('\u{1b}') && !words.contains("\nfarebox: paid"), "{words}");
    }
}

#[tokio::test]
async fn nothing_is_drawn_over_a_question() {
    let scene = Scene::set().await;
    let url = scene.liar.url("/paid/x");
    let lie = |ends: bool| {
        let mut looks = 0;
        Box::new(move |step: &str, message: Message<'_>| {
            if let Message::Answered(answer) = message
                && step == "contract"
            {
                looks += 1;
                if ends && looks > 2 {
                    *answer = Answer::problem(StatusCode::CONFLICT, "channel-late");
                }
                answer.change(|it: &mut StateReply| it.state = StateName::Pending);
            }
            Fate::Pass
        })
    };
    scene.liar.lie(lie(false));
    let mut program = client(&scene.world, &["pay", &url, "--yes"]);
    let mut program = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let held = scene.world.file("channels.sqlite.recovery");
    until("the contract is shown", async || {
        held.exists() && !scene.world.node.node(None).mempool().await.unwrap().is_empty()
    })
    .await;
    program.kill().unwrap();
    program.wait().unwrap();
    scene.liar.lie(lie(true));

    let mut asked = Terminal::start(client(&scene.world, &["pay", &url]));
    asked.until_it_shows("[y/N]").await;
    // The line of what is waited for was drawn four times a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    asked.type_line("n");
    let (_, shown) = asked.ended().await;

    let (before, after) = shown.split_once("[y/N]").unwrap();
    assert!(before.contains("waiting for the contract's confirmations"), "{shown}");
    assert!(!after.contains("waiting"), "{shown}");
}
