//! What a request would cost.

use farebox_chain::{Chain, Wallet};
use serde_json::Value;

use super::{balance, last_json, open, pay};
use crate::program::{client, run, text};
use crate::support::World;

#[tokio::test]
async fn a_dry_run_tells_the_price_and_the_terms_and_moves_nothing() {
    let world = World::start().await;
    // The file is made before, so that it can be compared.
    run(client(&world, &["wallet", "channels"])).await;
    let file = std::fs::read(world.file("channels.sqlite")).unwrap();
    let before = balance(&world).await;
    let url = world.gateway.url("/paid/x");

    let words = run(client(&world, &["pay", &url, "--dry-run"])).await;
    let json = run(client(&world, &["pay", &url, "--dry-run", "--json"])).await;

    assert!(words.status.success() && json.status.success(), "{words:?} {json:?}");
    for line in [
        "price: 1500 msat\n",
        "would lock: 50000 sat in a new channel\n",
        "at most for: 2d 0h, until ",
        "first payment: 400 sat\n",
        "confirmations: 1\n",
        "kinds offered: refund, cltv\n",
        "capacities offered: 50000 to ",
    ] {
        assert!(text(&words.stdout).contains(line), "{line}: {words:?}");
    }
    let told = last_json(&json.stdout);
    assert_eq!((&told["price_msat"], &told["would_lock_sat"]), (&1_500.into(), &50_000.into()));
    assert_eq!((&told["status"], &told["exit_code"]), (&402.into(), &0.into()));
    assert!(text(&json.stderr).is_empty(), "{json:?}");
    assert_eq!(balance(&world).await, before);
    assert!(world.node.node(None).mempool().await.unwrap().is_empty());
    assert_eq!(std::fs::read(world.file("channels.sqlite")).unwrap(), file, "nothing is saved");
    assert!(!world.file("channels.sqlite.recovery").exists());
    assert_eq!(world.api.hits(), 0, "the service was not asked");
}

#[tokio::test]
async fn a_dry_run_tells_what_would_keep_it_from_paying() {
    let world = World::start().await;
    let cases: [(&str, &[&str], i32, &str); 5] = [
        ("/dear/x", &[], 3, "the request costs 5000000 msat, and at most 1000000 msat"),
        ("/paid/x", &["--capacity", "10"], 3, "takes capacities from 50000 sat"),
        ("/paid/x", &["--lifetime", "10"], 3, "takes lifetimes from 172800 s"),
        ("/paid/x", &["--budget", "399"], 3, "400000 msat would be paid in all by then"),
        ("/paid/x", &["--bitcoind-url", "http://127.0.0.1:1"], 11, "bitcoind does not answer"),
    ];
    for (path, arguments, code, reason) in cases {
        let told = run(pay(&world, path, &[&["--dry-run"], arguments].concat())).await;
        assert_eq!(told.status.code(), Some(code), "{arguments:?}: {told:?}");
        assert!(text(&told.stdout).contains("price: "), "{told:?}");
        assert!(text(&told.stderr).contains("would not be paid: "), "{told:?}");
        assert!(text(&told.stdout).contains(reason), "{told:?}");
        let json = [&["--dry-run", "--json"], arguments].concat();
        let json = run(pay(&world, path, &json)).await;
        let told = last_json(&json.stdout);
        assert_eq!(told["exit_code"], code);
        assert_eq!(told["refusals"][0]["exit_code"], code);
        assert!(told["refusals"][0]["reason"].as_str().unwrap().contains(reason), "{told}");
        assert!(text(&json.stderr).is_empty(), "{json:?}");
    }
}

#[tokio::test]
async fn a_dry_run_has_nothing_done_that_changes_something() {
    let world = World::start().await;

    let priced = run(pay(&world, "/paid/x", &["--dry-run", "-d", "a=1"])).await;
    let free = run(pay(&world, "/free/x", &["--dry-run", "-d", "a=1"])).await;
    let hidden = run(pay(&world, "/%66ree/x", &["--dry-run", "-X", "DELETE"])).await;

    assert!(priced.status.success(), "{priced:?}");
    assert!(text(&priced.stdout).contains("price: 1500 msat"), "{priced:?}");
    for refused in [free, hidden] {
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        let words = text(&refused.stderr);
        assert!(words.contains("is not sent without a payment, because it may be free"), "{words}");
    }
    assert_eq!(world.api.hits(), 0);
    let got = run(pay(&world, "/free/x", &["--dry-run"])).await;
    assert_eq!(text(&got.stdout), "price: nothing is asked for\n");
    let failed = run(pay(&world, "/free/missing", &["--dry-run"])).await;
    assert_eq!(failed.status.code(), Some(9), "{failed:?}");
}

#[tokio::test]
async fn a_dry_run_names_the_channel_that_would_pay() {
    let world = World::start().await;
    open(&world).await;

    let told = run(pay(&world, "/paid/x", &["--dry-run", "--json"])).await;

    let told = last_json(&told.stdout);
    let listed = run(client(&world, &["wallet", "channels"])).await;
    let channel = told["channel"].as_str().unwrap();
    assert!(text(&listed.stdout).lines().any(|line| line.starts_with(channel)), "{told}");
    assert_eq!(told["channel_left_msat"], 50_000_000 - 1_500);
    assert!(told["would_lock_sat"].is_null(), "{told}");
}

#[tokio::test]
async fn a_dry_run_knows_how_many_channels_were_opened_and_what_was_begun() {
    let world = World::start().await;
    let back = world.wallet().fresh_address().await.unwrap().to_string();
    let dry_run = async |arguments: &[&str]| {
        let arguments = [&["--dry-run", "--json"], arguments].concat();
        last_json(&run(pay(&world, "/paid/x", &arguments)).await.stdout)
    };
    let unpaid = run(pay(&world, "/paid/x", &["--outside", &back, "--max-wait", "0s"])).await;
    assert_eq!(unpaid.status.code(), Some(8), "{unpaid:?}");
    let told = dry_run(&["--outside", &back, "--budget", "400"]).await;
    assert_eq!((&told["exit"], &told["would_lock_sat"]), (&"done".into(), &Value::Null), "{told}");
    assert!(text(&unpaid.stderr).contains(told["asked"].as_str().unwrap()), "{told}");

    let begun = run(pay(&world, "/paid/x", &["--max-wait", "0s"])).await;
    assert_eq!(begun.status.code(), Some(8), "{begun:?}");
    let told = dry_run(&["--budget", "800", "--max-channels", "1"]).await;
    assert_eq!((&told["exit"], &told["would_lock_sat"]), (&"done".into(), &Value::Null), "{told}");
    let channel = told["begun"].as_str().unwrap();
    assert!(text(&begun.stderr).contains(channel), "{told}");

    open(&world).await;
    let closed = run(client(&world, &["wallet", "close", channel])).await;
    assert!(closed.status.success(), "{closed:?}");
    let another = ["--max-channels", "1"];
    let told = dry_run(&another).await;
    assert_eq!(told["refusals"][0]["exit"], "limit", "{told}");
    let ended = run(pay(&world, "/paid/x", &another)).await;
    let reason = told["refusals"][0]["reason"].as_str().unwrap();
    assert!(text(&ended.stderr).contains(reason), "{ended:?}");
}
