//! What is told in the end.

use std::fs::File;

use super::{last_json, pay};
use crate::program::{client, run, text};
use crate::support::{FIRST_SAT, World, until};

#[tokio::test]
async fn pay_ends_with_a_receipt() {
    let world = World::start().await;
    let _mining = world.keep_mining();

    let paid = run(pay(&world, "/paid/x", &[])).await;

    let listed = run(client(&world, &["wallet", "channels"])).await;
    let channel = text(&listed.stdout).lines().nth(1).unwrap().split(' ').next().unwrap();
    let last = text(&paid.stderr).lines().last().unwrap();
    let receipt = format!(
        "farebox: paid 1500 msat · credit 398500 msat · 400 sat in all of 50000 sat in channel {channel}"
    );
    assert_eq!(last, receipt, "{paid:?}");
}

#[tokio::test]
async fn pay_tells_programs_in_json_what_was_paid_and_how_it_ended() {
    let world = World::start().await;
    let mining = world.keep_mining();

    let paid = run(pay(&world, "/paid/x", &["--json"])).await;
    let failed = run(pay(&world, "/paid/missing", &["--json"])).await;
    let closed = run(pay(&world, "/free/x", &["--json"])).await;
    drop(mining);
    let dear = run(pay(&world, "/dear/x", &["--json"])).await;

    let told = |stderr: &[u8]| {
        assert_eq!(text(stderr).lines().count(), 1, "{}", text(stderr));
        last_json(stderr)
    };
    assert_eq!(text(&paid.stdout), "hello\n");
    let outcome = told(&paid.stderr);
    let number = |name: &str| outcome[name].as_u64().unwrap();
    assert_eq!(outcome["url"], world.gateway.url("/paid/x"));
    assert_eq!((&outcome["method"], &outcome["exit"]), (&"GET".into(), &"done".into()));
    assert_eq!((number("exit_code"), number("status")), (0, 200));
    assert_eq!((number("cost_msat"), number("spent_msat")), (1_500, 1_500));
    assert_eq!((number("paid_sat"), number("capacity_sat")), (FIRST_SAT, 50_000));
    assert_eq!(number("credit_msat"), FIRST_SAT * 1_000 - 1_500);
    assert_eq!(outcome["channel"], outcome["opened"]);
    assert!(outcome["error"].is_null() && outcome["settlement_txid"].is_null(), "{outcome}");

    let failed = told(&failed.stderr);
    assert_eq!((&failed["exit_code"], &failed["status"]), (&9.into(), &404.into()));
    assert_eq!(failed["error"], "the service answered 404 Not Found");
    assert_eq!((&failed["channel"], failed["opened"].is_null()), (&outcome["channel"], true));
    let free = told(&closed.stderr);
    assert_eq!((&free["cost_msat"], free["channel"].is_null()), (&0.into(), true), "{free}");
    let dear = told(&dear.stderr);
    assert_eq!((&dear["exit_code"], &dear["exit"]), (&3.into(), &"limit".into()));
}

#[tokio::test]
async fn pay_tells_how_many_confirmations_there_are() {
    let confirmations = "[offer]\nconfirmations = 2\n";
    let world = World::start_with(|config| config.replace("[offer]\n", confirmations)).await;
    let told = world.file("told");
    let mut program = pay(&world, "/paid/x", &[]);
    program.stderr(File::create(&told).unwrap());
    let words = || std::fs::read_to_string(&told).unwrap();
    let shows = async |what: &str| until(what, async || words().contains(what)).await;

    let mut program = program.spawn().unwrap();
    shows("confirmations: 0 of 2\n").await;
    world.mine(1).await;
    shows("confirmations: 1 of 2\n").await;
    world.mine(1).await;
    let ended = tokio::task::spawn_blocking(move || program.wait().unwrap()).await.unwrap();

    assert!(ended.success(), "{}", words());
    assert!(words().contains("the channel is open\n"), "{}", words());
}
