//! Every model of prices, and all the ways in which an answer ends badly: what is charged then, to the
//! millisatoshi.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::feed::Side;
use super::listener::Listener;
use super::{DRAW_MSAT, Stand};
use crate::support::{Operator, until};

/// What each answer is paid at most.
const PAID_MSAT: u64 = 50_000;

/// The field of a stream of events.
const EVENTS: &str = "Content-Type: text/event-stream\r\n";

/// A model of prices, and an answer of the service.
struct Model {
    /// The path of its route.
    path: &'static str,
    /// What stands below the route's price.
    billing: &'static str,
    /// Fields of the answer's head.
    fields: &'static str,
    /// What the service gives before and after something happens.
    first: String,
    second: String,
    /// The answer's trailers.
    trailers: &'static str,
    /// What is charged when the client leaves between the two, and when the service does, and what the
    /// whole answer costs.
    left: u64,
    died: u64,
    whole: u64,
    /// What each millisecond costs besides.
    milli: u64,
}

impl Model {
    /// The head of the answer.
    fn head(&self) -> String {
        format!("HTTP/1.1 200 OK\r\n{}Transfer-Encoding: chunked\r\n\r\n", self.fields)
    }

    fn flat() -> Self {
        Self {
            path: "/flat",
            billing: "",
            fields: "",
            first: "first.".to_owned(),
            second: "second.".to_owned(),
            trailers: "",
            left: DRAW_MSAT,
            died: 0,
            whole: DRAW_MSAT,
            milli: 0,
        }
    }
}

/// Returns messages of gRPC with this text.
fn messages(texts: &[&str]) -> String {
    texts.iter().fold(String::new(), |mut all, text| {
        let length = char::from(u8::try_from(text.len()).unwrap());
        write!(all, "\0\0\0\0{length}{text}").unwrap();
        all
    })
}

/// All models.
fn models() -> Vec<Model> {
    [vec![Model::flat()], reported(), running()].into_iter().flatten().collect()
}

/// The models of what a service reports.
fn reported() -> Vec<Model> {
    vec![
        Model {
            path: "/header",
            billing: "usage = { header = \"x-units\", unit_msat = 20 }",
            fields: "X-Units: 12\r\n",
            left: 240,
            whole: 240,
            ..Model::flat()
        },
        Model {
            path: "/trailer",
            billing: "usage = { trailer = \"x-units\", unit_msat = 20 }",
            fields: "Trailer: x-units\r\n",
            trailers: "x-units: 7\r\n",
            whole: 140,
            ..Model::flat()
        },
        Model {
            path: "/json",
            billing: "usage = { json = \"units\", unit_msat = 20 }",
            first: "{\"text\":\"first.\",".to_owned(),
            second: "\"units\":31}".to_owned(),
            whole: 620,
            ..Model::flat()
        },
        Model {
            path: "/told",
            billing: "usage = { event = \"units\", unit_msat = 20 }",
            fields: EVENTS,
            first: "data: {\"units\":12}\n\n: first.\n\n".to_owned(),
            second: "data: {\"units\":20}\n\n".to_owned(),
            left: 240,
            died: 240,
            whole: 400,
            ..Model::flat()
        },
    ]
}

/// The models of what passes.
fn running() -> Vec<Model> {
    vec![
        Model {
            path: "/bytes",
            billing: "rates = { answer_msat = 7, bytes = { msat = 3, per = 2 } }",
            first: "x".repeat(4_995) + "first.",
            second: "x".repeat(3_000),
            left: 7 + 7_502,
            died: 7 + 7_502,
            whole: 7 + 12_002,
            ..Model::flat()
        },
        Model {
            path: "/events",
            billing: "rates = { events = { msat = 300 } }",
            fields: EVENTS,
            first: "data: 1\n\ndata: 2\n\n: first.\n\n".to_owned(),
            second: "data: 3\n\ndata: 4\n\n".to_owned(),
            left: 600,
            died: 600,
            whole: 1_200,
            ..Model::flat()
        },
        Model {
            path: "/messages",
            billing: "rates = { messages = { msat = 300 } }",
            fields: "Content-Type: application/grpc\r\n",
            first: messages(&["", "first."]),
            second: messages(&["second.", "third.", "last"]),
            trailers: "grpc-status: 0\r\n",
            left: 600,
            died: 600,
            whole: 1_500,
            ..Model::flat()
        },
        Model {
            path: "/time",
            billing: "rates = { answer_msat = 7, secs = { msat = 1_000 } }",
            left: 7,
            died: 7,
            whole: 7,
            milli: 1,
            ..Model::flat()
        },
    ]
}

/// Starts a gateway with a route for each model, and a client.
async fn stand() -> Stand {
    stand_with("").await
}

/// The same with one more key for each route.
async fn stand_with(key: &str) -> Stand {
    let route = |model: &Model| {
        let Model { path, billing, .. } = model;
        format!("[[route]]\npath = \"{path}\"\nprice_msat = {DRAW_MSAT}\n{key}\n{billing}\n\n")
    };
    Stand::start_routes(&models().iter().map(route).collect::<String>()).await
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

/// An answer of which the client has the first part.
struct Begun {
    /// What was spent before, when it was asked for, and when its first part was there.
    before: u64,
    asked: Instant,
    heard: Instant,
}

impl Begun {
    async fn of(model: &Model, stand: &mut Stand) -> (Self, Listener, Side) {
        let before = match stand.payment {
            Some(_) => stand.account().await.spent.get(),
            None => 0,
        };
        let head = model.head();
        let asked = Instant::now();
        let (mut listener, mut side) = stand.open_at(model.path, PAID_MSAT, &[], &head).await;
        side.chunk(&model.first).await;
        listener.hear("first.").await;
        let heard = Instant::now();
        (Self { before, asked, heard }, listener, side)
    }

    /// Asserts that a sum was charged, and what the time has cost since the first part came, until
    /// something began to end the answer.
    async fn assert_charged(&self, (model, sum): (&Model, u64), ended: Instant, stand: &mut Stand) {
        let charged = stand.settled().await - self.before;
        let least = sum + model.milli * millis(ended - self.heard);
        let most = sum + model.milli * millis(self.asked.elapsed());
        assert!((least..=most).contains(&charged), "{}: {charged} of {least}", model.path);
    }
}

#[tokio::test]
async fn of_every_model_a_client_that_leaves_pays_what_it_was_given_and_a_price_in_full() {
    let mut stand = stand().await;
    for model in &models() {
        let (begun, listener, side) = Begun::of(model, &mut stand).await;
        let left = Instant::now();

        drop(listener);

        side.left().await;
        begun.assert_charged((model, model.left), left, &mut stand).await;
    }
}

#[tokio::test]
async fn of_every_model_a_service_that_dies_is_paid_for_what_it_has_given_and_told() {
    let mut stand = stand().await;
    for model in &models() {
        let (begun, listener, side) = Begun::of(model, &mut stand).await;
        let died = Instant::now();

        drop(side);

        assert!(!listener.end().await.0.success(), "{}: it is not whole", model.path);
        begun.assert_charged((model, model.died), died, &mut stand).await;
    }
}

#[tokio::test]
async fn of_every_model_an_answer_that_a_stop_cuts_off_costs_what_was_given_and_a_price_in_full() {
    let mut stand = stand().await;
    stand.world.reconfigure(|config| config.replace("[limits]\n", "[limits]\ndrain_secs = 0\n"));
    for model in &models() {
        let (begun, listener, side) = Begun::of(model, &mut stand).await;
        let stopped = Instant::now();

        assert!(stand.world.gateway.terminate(), "{}: the gateway ends well", model.path);

        let (status, rest) = listener.end().await;
        let says_why = ["/events", "/messages"].contains(&model.path);
        assert_eq!(status.success(), says_why, "{}: {rest}", model.path);
        stand.world.gateway.restart();
        begun.assert_charged((model, model.left), stopped, &mut stand).await;
        drop(side);
    }
}

#[tokio::test]
async fn of_every_model_what_is_on_record_after_a_crash_is_what_was_drawn() {
    let mut stand = stand().await;
    for model in &models() {
        let (begun, listener, side) = Begun::of(model, &mut stand).await;
        let given = |time: Duration| model.left + model.milli * millis(time);
        let least = given(begun.heard.elapsed());
        let drawn = stand.account().await.spent.get();

        stand.world.gateway.kill();
        stand.world.gateway.restart();

        assert!(!listener.end().await.0.success(), "{}: it is not whole", model.path);
        let account = stand.account().await;
        let (spent, paid) = (account.spent.get(), account.paid.to_msat().get());
        assert!(spent <= paid && account.credit.get() == paid - spent, "{account:?}");
        assert!(spent == drawn || model.milli > 0, "{}: {spent}, not {drawn}", model.path);
        // A draw is no more than all before it and the price.
        let charged = spent - begun.before;
        let bounds = least..=2 * given(begun.asked.elapsed()) + DRAW_MSAT;
        assert!(bounds.contains(&charged), "{}: {charged} is not in {bounds:?}", model.path);
        drop(side);
    }
}

#[tokio::test]
async fn of_every_model_an_answer_that_a_reload_finds_is_whole_and_costs_what_it_did_before() {
    let mut stand = stand().await;
    for model in &models() {
        let (begun, listener, mut side) = Begun::of(model, &mut stand).await;

        stand.reload(|config| config.replace("msat = ", "msat = 9")).await;

        side.chunk(&model.second).await;
        let ended = Instant::now();
        side.say(&format!("0\r\n{}\r\n", model.trailers)).await;
        let (status, rest) = listener.end().await;
        assert!(status.success() && rest.ends_with(&model.second), "{}: {rest}", model.path);
        stand.reload(|config| config.replace("msat = 9", "msat = ")).await;
        begun.assert_charged((model, model.whole), ended, &mut stand).await;
    }
}

#[tokio::test]
async fn a_crash_while_a_stream_waits_for_credit_leaves_all_of_it_spent_and_no_more() {
    let mut stand = stand().await;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut listener, mut side) = stand.open_at("/bytes", 600_000, &[], head).await;
    side.chunk(&"x".repeat(500_000)).await;
    listener.hear("\r\n\r\n").await;
    listener.hear_bytes(2 * (600_000 - 7) / 3).await;

    stand.world.gateway.kill();
    stand.world.gateway.restart();

    let account = stand.account().await;
    assert_eq!((account.spent.get(), account.credit.get()), (600_000, 0));
}

#[tokio::test]
async fn of_every_model_an_answer_in_shadow_is_free_and_it_is_told_what_it_would_cost() {
    let stand = stand_with("shadow = true").await;
    let operator = Operator::of(&stand.world);
    for model in &models() {
        let asked = Instant::now();
        let listener = Listener::start(&[&stand.world.gateway.url(model.path)]);
        let mut side = stand.feed.asked().await;
        side.say(&model.head()).await;
        side.chunk(&model.first).await;
        side.chunk(&model.second).await;
        side.say(&format!("0\r\n{}\r\n", model.trailers)).await;
        let (status, answer) = listener.end().await;
        assert!(status.success() && answer.ends_with(&model.second), "{}: {answer}", model.path);
        assert!(!answer.to_ascii_lowercase().contains("payment-channel"), "{answer}");

        let name = format!("farebox_shadow_msat_total{{route=\"{}\"}} ", model.path);
        let mut told = 0;
        until("it is told what it would cost", async || {
            let metrics = operator.metrics().await;
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            told = line.unwrap().parse().unwrap();
            told > 0
        })
        .await;
        let bounds = model.whole..=model.whole + model.milli * millis(asked.elapsed());
        assert!(bounds.contains(&told), "{}: {told} is not in {bounds:?}", model.path);
        drop(side);
    }
}
