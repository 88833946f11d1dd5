//! A configuration that is read again while requests are under way.

use std::process::Command;

use farebox_channel::Kind;

use super::curl::{ask, curl};
use super::gate::{Gate, free_address};
use super::slow_api::{PIECES, Reading, SlowApi};
use crate::support::PRICE_MSAT;

/// How often the configuration is read again under load.
const RELOADS: usize = 100;
/// A request that takes as long, in seconds, has stood still.
const STALL_SECS: f64 = 5.0;
/// How many requests one curl makes.
const BURST: usize = 40;

fn serving(config: &str, before: &str, after: &str) -> String {
    assert!(config.contains(before), "{before} in {config}");
    config.replace(before, after)
}

#[tokio::test]
async fn an_answer_that_has_begun_goes_on_and_the_next_request_gets_the_new_site() {
    let slow = SlowApi::start();
    let mut api = String::new();
    let gate = Gate::start(|config| {
        let (_, rest) = config.split_once("[upstream]\nurl = \"http://").unwrap();
        rest.split('"').next().unwrap().clone_into(&mut api);
        serving(&config, &api, &slow.address)
    })
    .await;
    let begun = Reading::begin(&gate.world.gateway.url("/free/x"), &[]).await;

    gate.reload(|config| {
        serving(&serving(&config, &slow.address, &api), "path = \"/free\"", "path = \"/gratis\"")
    })
    .await;

    assert_eq!(gate.ask("/free/x", &[]).await.status, 404);
    assert_eq!(gate.ask("/gratis/x", &[]).await.body, "hello\n");
    slow.end();
    let (text, ended) = begun.end().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(text, PIECES.concat());
}

#[tokio::test]
async fn a_hundred_reloads_under_load_lose_no_request() {
    let gate = Gate::start(|config| config).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    let url = gate.world.gateway.url(&format!("/free/[1-{BURST}]"));
    let (stop, stopped) = tokio::sync::watch::channel(());
    let loads: Vec<_> = (0..2)
        .map(|_| {
            let (url, stopped) = (url.clone(), stopped.clone());
            tokio::task::spawn_blocking(move || {
                let mut answered = 0;
                while stopped.has_changed().is_ok() {
                    answered += burst(&url);
                }
                answered
            })
        })
        .collect();
    let paths = ["/dear", "/dearer"];
    for round in 0..RELOADS {
        let retries = format!("retries = {}\nurl = ", round % 2);
        let (from, to) = (paths[round % 2], paths[(round + 1) % 2]);
        gate.reload(|config| {
            let config = config.replace("retries = 0\n", "").replace("retries = 1\n", "");
            serving(
                &serving(&config, "[upstream]\nurl = ", &format!("[upstream]\n{retries}")),
                from,
                to,
            )
        })
        .await;
        let answer = gate.pay(&mut buyer, PRICE_MSAT, "/paid/x", &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // Whoever is gone has told the loads to stop, also where this test fails.
    drop(stop);
    let mut answered = 0;
    for load in loads {
        answered += load.await.unwrap();
    }

    assert!(answered > 2 * BURST, "{answered} requests are no load");
    assert!(!gate.log().contains("the configuration stays as it was"));
    assert_eq!(gate.world.api.hits(), answered + RELOADS);
    let metrics = gate.admin("/metrics").await.body;
    for line in [
        format!("farebox_reloads_total{{result=\"taken\"}} {RELOADS}"),
        format!("farebox_charges_total{{route=\"/paid\"}} {RELOADS}"),
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} in {metrics}");
    }
}

/// Makes many requests over one connection, all of which are answered 200, and none late.
fn burst(url: &str) -> usize {
    let mut program: Command = curl();
    let shown = ["--output", "/dev/null", "--write-out", "%{http_code} %{time_total}\n"];
    // `--globoff` is for the paths of other tests.
    program.arg("--no-globoff").args(shown).arg(url);
    let ended = program.output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let answers = String::from_utf8(ended.stdout).unwrap();
    for answer in answers.lines() {
        let (code, secs) = answer.split_once(' ').unwrap();
        assert_eq!(code, "200", "{answers}");
        assert!(secs.parse::<f64>().unwrap() < STALL_SECS, "{answers}");
    }
    answers.lines().count()
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_whole_and_the_old_one_stays() {
    let gate = Gate::start(|config| config).await;

    gate.reload(|config| {
        config.replace("price_msat = 1500", "price_msat = 9").replace("free = true", "fee = true")
    })
    .await;

    let line = gate.logged(&["ERROR", "the configuration stays as it was"]).await;
    assert!(line.contains("farebox.toml"), "{line}");
    assert!(gate.log().contains("unknown field `fee`"), "{}", gate.log());
    assert_eq!(gate.ask("/paid", &[]).await.price(), PRICE_MSAT);
    assert_eq!(gate.ask("/free", &[]).await.status, 200);
    let metrics = gate.admin("/metrics").await.body;
    for line in ["farebox_reloads_total{result=\"taken\"} 0", "{result=\"refused\"} 1"] {
        assert!(metrics.lines().any(|it| it.ends_with(line)), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn what_waits_for_the_next_start_is_named() {
    let gate = Gate::start(|config| config).await;
    let elsewhere = free_address();

    gate.reload(|config| {
        let (_, after) = config.split_once('\n').unwrap();
        let config = format!("listen = \"{elsewhere}\"\n{after}");
        let config = config.replace("first_payment_sat = 400", "first_payment_sat = 500");
        let config = config.replace("price_msat = 1500", "price_msat = 1600");
        format!("{config}\n[log]\naccess = \"json\"\n")
    })
    .await;

    let line = gate.logged(&["WARN", "wait for the next start"]).await;
    for key in ["listen", "[offer] and [batch]", "[log], [monitor] and [trace]"] {
        assert!(line.contains(key), "{line}");
    }
    assert!(!line.contains("host") && !line.contains("[bitcoind]"), "{line}");
    let offer = gate.ask("/paid", &[]).await;
    assert_eq!(
        (offer.price(), offer.number("payment-channel-offer", "first-payment")),
        (1_600, Some(400))
    );
}

/// Makes a certificate for this machine, and its key.
fn certify(gate: &Gate, name: &str) -> String {
    let file = |end: &str| gate.world.file(&format!("{name}.{end}"));
    let mut program = Command::new("openssl");
    program.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    program.args(["-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    program.args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"]);
    program.arg(file("key")).arg("-out").arg(file("pem"));
    let ended = program.output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    file("pem").display().to_string()
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_the_next_connection() {
    let gate = Gate::start(|config| config).await;
    let (first, second) = (certify(&gate, "first"), certify(&gate, "second"));
    let url = format!("https://{}/free/x", gate.world.gateway.host);
    let tls = "[tls]\ncertificate = \"first.pem\"\nkey = \"first.key\"\n";
    gate.reload(|config| format!("{config}\n{tls}")).await;
    assert_eq!(ask(&url, &["--http1.1", "--cacert", &first]).await.body, "hello\n");

    gate.reload(|config| config.replace("first.", "second.")).await;

    assert_eq!(ask(&url, &["--http1.1", "--cacert", &second]).await.body, "hello\n");
    let mut distrusting = curl();
    let ended = distrusting.args(["--cacert", &first, &url]).output().unwrap();
    assert_eq!(ended.status.code(), Some(60), "{ended:?}");
    std::fs::remove_file(gate.world.file("second.key")).unwrap();
    gate.reload(|config| config).await;
    let line = gate.logged(&["the configuration stays as it was"]).await;
    assert!(line.contains("second.key"), "{line}");
    assert_eq!(ask(&url, &["--http1.1", "--cacert", &second]).await.status, 200);
}
